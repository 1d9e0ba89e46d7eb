//! Writes the reference of all components from their config structs, as Markdown.
//!
//! Pure: from the registry to pages. `xtask docs` writes them to `docs/reference/`, or checks
//! that what is there is what the code says.

use flafka_flow::registry::{Description, Registry};
use flafka_flow::settings::{Absent, Field, join_docs};

use crate::{filters, topology};

/// The line by which a generated page is known.
const MARK: &str = "<!-- generated from the code by `./dev docs`; do not edit -->";

/// A page before it is written.
struct Page<'a> {
    file: String,
    title: String,
    intro: &'a str,
    common: Vec<Field>,
    components: Vec<Description>,
}

/// All pages: file name and text, in the order of the index.
pub fn pages(registry: &Registry) -> Vec<(String, String)> {
    let mut pages = component_pages(registry);
    for (word, descriptions) in registry.parts {
        pages.push(Page {
            file: format!("{}s.md", word.replace(' ', "-")),
            title: format!("{}s", capitalised(word)),
            intro: "Chosen by a key of the component they belong to; their own keys stand below that key.",
            common: Vec::new(),
            components: descriptions.to_vec(),
        });
    }
    let mut written = vec![("README.md".to_owned(), index(&pages))];
    written.extend(
        pages
            .iter()
            .map(|page| (page.file.clone(), write_page(page))),
    );
    written
}

fn component_pages(registry: &Registry) -> Vec<Page<'static>> {
    let page = |file: &str, title: &str, intro, common, components| Page {
        file: file.to_owned(),
        title: title.to_owned(),
        intro,
        common,
        components,
    };
    macro_rules! of {
        ($list:ident) => {
            registry
                .$list
                .iter()
                .map(|entry| entry.description)
                .collect()
        };
    }
    vec![
        page(
            "sources.md",
            "Sources",
            SOURCES,
            topology::source_keys(),
            of!(sources),
        ),
        page(
            "channels.md",
            "Channels",
            CHANNELS,
            Vec::new(),
            of!(channels),
        ),
        page("sinks.md", "Sinks", SINKS, Vec::new(), of!(sinks)),
        page(
            "interceptors.md",
            "Interceptors",
            INTERCEPTORS,
            Vec::new(),
            of!(interceptors),
        ),
        page(
            "selectors.md",
            "Channel selectors",
            SELECTORS,
            Vec::new(),
            of!(selectors),
        ),
        page(
            "sink-processors.md",
            "Sink processors",
            PROCESSORS,
            Vec::new(),
            of!(sink_processors),
        ),
        page(
            "config-filters.md",
            "Config filters",
            FILTERS,
            Vec::new(),
            filters::DESCRIPTIONS.to_vec(),
        ),
    ]
}

const SOURCES: &str = "A source puts events into one or more channels. Its keys stand below \
`<agent>.sources.<name>.`: `type` and `channels` (names separated by blanks) are required, \
`selector.type` and `selector.…` choose the [channel selector](selectors.md) (default \
`replicating`), `interceptors` names the [interceptors](interceptors.md) in the order in which \
they run.";
const CHANNELS: &str = "A channel holds events between sources and sinks. Its keys stand below \
`<agent>.channels.<name>.`; `type` is required.";
const SINKS: &str = "A sink takes events from exactly one channel. Its keys stand below \
`<agent>.sinks.<name>.`: `type` and `channel` are required.";
const INTERCEPTORS: &str = "An interceptor changes or drops events between a source and its \
channels. Its keys stand below `<agent>.sources.<source>.interceptors.<name>.`; `type` is required.";
const SELECTORS: &str = "A channel selector decides which channels of its source get an event. Its \
keys stand below `<agent>.sources.<source>.selector.`; without `type` it is `replicating`.";
const PROCESSORS: &str = "A sink group runs its sinks one at a time; its processor decides which. \
`<agent>.sinkgroups.<name>.sinks` names the sinks, the keys of the processor stand below \
`<agent>.sinkgroups.<name>.processor.`; without `type` it is `default`.";
const FILTERS: &str = "A config filter fetches values from outside of the file, above all secrets: \
`<agent>.configfilters = f1`, then `${f1['key']}` in the values of sources, channels, sinks and \
sink groups. Its keys stand below `<agent>.configfilters.<name>.`.";

fn index(pages: &[Page<'_>]) -> String {
    let mut text = format!("{MARK}\n\n# Reference\n\nEvery component with every key.\n\n");
    for page in pages {
        let names: Vec<_> = page
            .components
            .iter()
            .map(|component| format!("`{}`", component.names.main()))
            .collect();
        push(
            &mut text,
            format_args!("- [{}]({}): {}\n", page.title, page.file, names.join(", ")),
        );
    }
    text.push_str("\n[What differs from Flume](flume-differences.md), and why.\n");
    text
}

fn write_page(page: &Page<'_>) -> String {
    let mut text = format!("{MARK}\n\n# {}\n\n{}\n", page.title, page.intro);
    if !page.common.is_empty() {
        push(
            &mut text,
            format_args!("\n## Keys of all {}\n\n", page.title.to_lowercase()),
        );
        table(&mut text, &page.common);
    }
    for component in &page.components {
        write_component(&mut text, component);
    }
    text
}

fn write_component(text: &mut String, component: &Description) {
    let names = component.names;
    push(text, format_args!("\n## {}\n\n", short(names.main())));
    let all: Vec<_> = names.all().map(|name| format!("`{name}`")).collect();
    push(text, format_args!("Type: {}\n\n", all.join(", ")));
    push(text, format_args!("{}\n", join_docs(component.docs)));
    let fields = (component.fields)();
    if fields.is_empty() {
        text.push_str("\nNo keys of its own.\n");
        return;
    }
    text.push('\n');
    table(text, &fields);
}

/// The name of a component in a heading: its alias, or the last part of its class.
fn short(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

fn table(text: &mut String, fields: &[Field]) {
    text.push_str("| Key | Default | Kind | Meaning |\n|---|---|---|---|\n");
    for field in fields {
        let default = match &field.default {
            Absent::Required => "**required**".to_owned(),
            Absent::None => "–".to_owned(),
            Absent::Value(value) if value.is_empty() => "empty".to_owned(),
            Absent::Value(value) => format!("`{}`", cell(value)),
        };
        let mut meaning = cell(&field.docs);
        if !field.aliases.is_empty() {
            let aliases: Vec<_> = field
                .aliases
                .iter()
                .map(|alias| format!("`{alias}`"))
                .collect();
            push(
                &mut meaning,
                format_args!(" Old name: {}.", aliases.join(", ")),
            );
        }
        if let Some(note) = field.note.filter(|note| *note != field.docs) {
            push(&mut meaning, format_args!(" *{}.*", cell(note)));
        }
        push(
            text,
            format_args!(
                "| `{}` | {default} | {} | {meaning} |\n",
                field.key,
                cell(&field.kind)
            ),
        );
    }
}

/// A text fit for a cell of a table.
fn cell(text: &str) -> String {
    let words: Vec<_> = text.split_whitespace().collect();
    words.join(" ").replace('|', "\\|")
}

fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string());
    first.unwrap_or_default() + letters.as_str()
}

fn push(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.push_str(&arguments.to_string());
}
