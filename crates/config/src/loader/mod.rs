//! From files on disk to one map of keys (reference 1.8).
//!
//! All files are read in the order given; a later one overrides an earlier one; look-ups run
//! over the merged map. Nothing else is touched: no network, no other file.
//!
//! Invariant: every span lies within the text of its [`SourceFile`], on character boundaries.

mod file;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use flafka_flow::settings::{Entry, Problem, Severity, Span};
use jiff::Zoned;

use self::file::{Places, Written, from_properties, from_yaml};
use crate::{properties, substitute};

/// Bytes of one file that are read at most.
pub const MAX_FILE_BYTES: u64 = 16 << 20;

/// The definition by which Flume ≤ 1.9 gets at the environment.
const PROPERTIES_IMPLEMENTATION: &str = "propertiesImplementation";
const ENVIRONMENT_RESOLVER: &str = "org.apache.flume.node.EnvVarResolverProperties";

/// What to load and how to look at it.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// Files, in the order of `-f`.
    pub files: Vec<PathBuf>,
    /// URIs, in the order of `-u`; when there are any, the files do not count (as in Flume).
    pub uris: Vec<String>,
    /// `-Dname=value`.
    pub definitions: BTreeMap<String, String>,
    /// The environment.
    pub environment: BTreeMap<String, String>,
    /// Drop what is bad and go on, as Flume does.
    pub lenient: bool,
    /// The time for `${date:…}`.
    pub now: Zoned,
}

impl LoadOptions {
    /// Nothing to load, no environment.
    pub fn empty() -> Self {
        Self {
            files: Vec::new(),
            uris: Vec::new(),
            definitions: BTreeMap::new(),
            environment: BTreeMap::new(),
            lenient: false,
            now: Zoned::now(),
        }
    }

    /// These files, with the environment of this process (variables that are not UTF-8 are left
    /// out).
    pub fn of_process(files: Vec<PathBuf>) -> Self {
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Self {
            files,
            environment,
            ..Self::empty()
        }
    }
}

/// A file as it is shown in reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// The path as the user wrote it.
    pub name: String,
    /// The text: UTF-8 where the bytes are, else ISO-8859-1. Values are read by the rules of the
    /// format all the same.
    pub text: String,
}

/// A file to load, already read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// The path as the user wrote it; its extension says the format.
    pub name: String,
    /// The content.
    pub bytes: Vec<u8>,
}

/// All keys of all files.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The files; a span's `file` counts in them.
    pub files: Vec<SourceFile>,
    /// The keys after merging, look-ups and trimming; empty values are left out.
    pub keys: BTreeMap<String, Entry>,
    /// The elements of values that are lists in YAML.
    pub lists: BTreeMap<String, Vec<String>>,
    /// Every value that was written, also those that another overrides.
    pub written: Vec<(String, Span)>,
    /// Keys whose value came from a config filter and is not to be shown.
    pub secret_keys: BTreeSet<String>,
    /// What was found on the way.
    pub problems: Vec<Problem>,
    /// Whether a file could not be read at all, so that what seems to be missing may stand in it.
    pub unread: bool,
}

/// Reads and loads the files of the options.
pub fn load(options: &LoadOptions) -> Loaded {
    let mut problems = Vec::new();
    let mut inputs = Vec::new();
    for (name, path) in paths(options, &mut problems) {
        match read(&path) {
            Ok(bytes) => inputs.push(Input { name, bytes }),
            Err(problem) => problems.push(Problem::new(Severity::Error, name, problem)),
        }
    }
    let unread = problems
        .iter()
        .any(|problem| problem.severity == Severity::Error);
    let mut loaded = load_inputs(inputs, options);
    loaded.unread |= unread;
    problems.append(&mut loaded.problems);
    loaded.problems = problems;
    loaded
}

/// Loads files that were read already.
pub fn load_inputs(inputs: Vec<Input>, options: &LoadOptions) -> Loaded {
    let mut loaded = Loaded::default();
    for input in inputs {
        let Ok(file) = u16::try_from(loaded.files.len()) else {
            let message = "more files than can be counted";
            loaded
                .problems
                .push(Problem::new(Severity::Error, input.name, message));
            break;
        };
        add_file(&mut loaded, file, input);
    }
    let sources = substitute::Sources {
        environment: &options.environment,
        definitions: &options.definitions,
        now: &options.now,
        plain_environment: plain_environment(options, &mut loaded.problems),
    };
    let mut problems = substitute::resolve(&mut loaded.keys, &sources);
    loaded.problems.append(&mut problems);
    drop_empty(&mut loaded);
    loaded
}

/// Turns `-f` and `-u` into paths, refusing what cannot be read from a disk.
fn paths(options: &LoadOptions, problems: &mut Vec<Problem>) -> Vec<(String, PathBuf)> {
    if options.uris.is_empty() {
        let named = |path: &PathBuf| (path.display().to_string(), path.clone());
        return options.files.iter().map(named).collect();
    }
    for path in &options.files {
        let message = "ignored: Flume reads no -f file when -u is given, and so do we";
        problems.push(
            Problem::new(Severity::Warning, path.display().to_string(), message)
                .help("give it with -u too"),
        );
    }
    let mut paths = Vec::new();
    for uri in &options.uris {
        match path_of(uri) {
            Ok(path) => paths.push((uri.clone(), path)),
            Err(reason) => problems.push(
                Problem::new(Severity::Error, uri.clone(), reason)
                    .help("copy the file to this machine and give it with -f"),
            ),
        }
    }
    paths
}

/// The path of a `file:` URI or of a URI without a scheme.
fn path_of(uri: &str) -> Result<PathBuf, String> {
    let (scheme, rest) = uri.split_once(':').unwrap_or(("file", uri));
    match scheme.to_ascii_lowercase().as_str() {
        "file" => {
            let path = rest
                .strip_prefix("//localhost/")
                .map(|path| format!("/{path}"));
            let path = path.unwrap_or_else(|| rest.strip_prefix("//").unwrap_or(rest).to_owned());
            percent_decoded(&path)
                .map(PathBuf::from)
                .ok_or_else(|| "the URI has a broken % escape".to_owned())
        }
        "http" | "https" => {
            Err("configuration over HTTP is not available in this version".to_owned())
        }
        "classpath" => Err("there is no Java classpath here".to_owned()),
        other => Err(format!(
            "the scheme `{other}:` is not known; only `file:` is available"
        )),
    }
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).ok()
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let failed = |error: std::io::Error| format!("cannot be read: {error}");
    let file = File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(format!(
            "larger than {MAX_FILE_BYTES} bytes, which no configuration is"
        ));
    }
    Ok(bytes)
}

/// The format by extension; anything that is not named is properties, as in Flume.
enum Format {
    Properties,
    Yaml,
    Refused(&'static str),
}

fn format_of(name: &str) -> Format {
    let extension = Path::new(name).extension().unwrap_or_default();
    match extension.to_ascii_lowercase().to_str() {
        Some("yaml" | "yml") => Format::Yaml,
        Some("json") => Format::Refused("JSON"),
        Some("xml") => Format::Refused("XML"),
        _ => Format::Properties,
    }
}

fn add_file(loaded: &mut Loaded, file: u16, input: Input) {
    let places = Places::new(file, &input.bytes);
    let mut problems = Vec::new();
    let written = match format_of(&input.name) {
        Format::Properties => from_properties(&input, &places, loaded, &mut problems),
        Format::Yaml => from_yaml(&input, &places, &mut problems),
        Format::Refused(format) => {
            loaded.unread = true;
            let message = format!("{format} is not a format of configuration files");
            let help = "write properties (any other extension) or YAML (.yaml)";
            problems.push(Problem::new(Severity::Error, input.name.clone(), message).help(help));
            Vec::new()
        }
    };
    let mut lines: BTreeMap<String, Span> = BTreeMap::new();
    for Written { pair, list } in written {
        let key_span = places.span(&pair.key_range, pair.line);
        let value_span = places.span(&pair.value_range, pair.value_line);
        loaded.written.push((pair.key.clone(), value_span));
        if let Some(before) = lines.insert(pair.key.clone(), key_span) {
            let message = format!(
                "set twice, in lines {} and {}; the later one counts",
                before.line, key_span.line
            );
            problems.push(
                Problem::new(Severity::Warning, pair.key.clone(), message)
                    .at(Some(key_span))
                    .help("remove one of them"),
            );
        }
        match list {
            Some(list) => loaded.lists.insert(pair.key.clone(), list),
            None => loaded.lists.remove(&pair.key),
        };
        let entry = Entry {
            value: pair.value,
            key_span: Some(key_span),
            value_span: Some(value_span),
        };
        loaded.keys.insert(pair.key, entry);
    }
    loaded.problems.append(&mut problems);
    loaded.files.push(SourceFile {
        name: input.name,
        text: places.text,
    });
}

/// Whether plain `${VAR}` reads the environment.
fn plain_environment(options: &LoadOptions, problems: &mut Vec<Problem>) -> bool {
    match options.definitions.get(PROPERTIES_IMPLEMENTATION) {
        None => false,
        Some(class) if class == ENVIRONMENT_RESOLVER => true,
        Some(class) => {
            let message = format!("`{class}` is a Java class, which cannot be loaded");
            problems.push(
                Problem::new(
                    Severity::Error,
                    format!("-D{PROPERTIES_IMPLEMENTATION}"),
                    message,
                )
                .allowed(ENVIRONMENT_RESOLVER),
            );
            false
        }
    }
}

/// Leaves out empty values, as Flume does (`PROPERTY_VALUE_NULL`), and says so.
fn drop_empty(loaded: &mut Loaded) {
    let problems = &mut loaded.problems;
    loaded.keys.retain(|key, entry| {
        let trimmed = properties::trim(&entry.value);
        if trimmed.len() < entry.value.len() {
            entry.value = trimmed.to_owned();
        }
        if !entry.value.is_empty() {
            return true;
        }
        let message = "empty value: ignored as in Flume, the default applies";
        problems.push(
            Problem::new(Severity::Warning, key.clone(), message)
                .at(entry.key_span)
                .help("remove the line, or give a value"),
        );
        false
    });
}

#[cfg(test)]
mod tests;
