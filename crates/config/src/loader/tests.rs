//! Tests of loading and merging files.

use super::*;

fn input(name: &str, bytes: &[u8]) -> Input {
    Input {
        name: name.to_owned(),
        bytes: bytes.to_vec(),
    }
}

fn messages(loaded: &Loaded) -> Vec<String> {
    let line = |problem: &Problem| problem.span.map_or(0, |span| span.line);
    loaded
        .problems
        .iter()
        .map(|problem| format!("{} {}: {}", line(problem), problem.key, problem.message))
        .collect()
}

fn shown(loaded: &Loaded, key: &str) -> String {
    let span = loaded.keys[key].value_span.expect("stands in a file");
    loaded.files[usize::from(span.file)].text[span.range()].to_owned()
}

#[test]
fn later_files_override_and_lookups_see_all() {
    let inputs = vec![
        input("a.conf", b"x.a = 1\nx.b = ${x.c}\nx.e =\n"),
        input("b.conf", b"x.a = 2\nx.c = ${env:C}\n"),
    ];
    let mut options = LoadOptions::empty();
    options.environment.insert("C".to_owned(), "see".to_owned());
    let loaded = load_inputs(inputs, &options);
    assert_eq!(loaded.keys["x.a"].value, "2");
    assert_eq!(loaded.keys["x.b"].value, "see");
    assert!(!loaded.keys.contains_key("x.e"));
    assert_eq!(shown(&loaded, "x.b"), "${x.c}");
    assert_eq!(
        messages(&loaded),
        ["3 x.e: empty value: ignored as in Flume, the default applies"]
    );
}

#[test]
fn repeated_keys_and_foreign_bytes_are_reported() {
    let loaded = load_inputs(
        vec![input("a.conf", "x.a = 1\nx.a = caf\u{e9}\n".as_bytes())],
        &LoadOptions::empty(),
    );
    assert_eq!(loaded.keys["x.a"].value, "caf\u{c3}\u{a9}");
    assert_eq!(
        messages(&loaded),
        [
            "2 x.a: not ASCII: the bytes are read as ISO-8859-1, as Flume does",
            "2 x.a: set twice, in lines 1 and 2; the later one counts",
        ]
    );
    assert_eq!(
        loaded.problems[0].help.as_deref(),
        Some("write `\\u00e9` for `\u{e9}`")
    );
}

#[test]
fn places_fit_text_that_is_not_utf_8() {
    let loaded = load_inputs(
        vec![input("a.conf", b"# \xe9\xe8\nx.a = \xe9t\xe9\nx.b = end\n")],
        &LoadOptions::empty(),
    );
    assert_eq!(shown(&loaded, "x.a"), "\u{e9}t\u{e9}");
    assert_eq!(shown(&loaded, "x.b"), "end");
}

#[test]
fn a_byte_order_mark_is_no_part_of_the_first_key() {
    let loaded = load_inputs(
        vec![input("a", b"\xef\xbb\xbfx.a = 1\n")],
        &LoadOptions::empty(),
    );
    assert_eq!(shown(&loaded, "x.a"), "1");
}

#[test]
fn formats_by_extension() {
    let inputs = vec![
        input("a.yml", b"x:\n  a: [p, q]\n"),
        input("dir.d/b.JSON", b"{}"),
        input("c.xml", b"<a/>"),
        input("d.properties.local", b"x.b=1"),
    ];
    let loaded = load_inputs(inputs, &LoadOptions::empty());
    assert_eq!(loaded.keys["x.a"].value, "p q");
    assert_eq!(loaded.lists["x.a"], ["p", "q"]);
    assert_eq!(loaded.keys["x.b"].value, "1");
    assert_eq!(
        messages(&loaded),
        [
            "0 dir.d/b.JSON: JSON is not a format of configuration files",
            "0 c.xml: XML is not a format of configuration files",
        ]
    );
}

#[test]
fn files_are_read_and_uris_resolved() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("a b.conf");
    std::fs::write(&path, "x.a = 1\n").expect("written");
    let uri = format!("file://{}", path.display()).replace(' ', "%20");
    let mut options = LoadOptions::empty();
    options.uris = vec![uri, "http://host/x.conf".to_owned(), "zk:x".to_owned()];
    options.files = vec![PathBuf::from("ignored.conf")];
    let loaded = load(&options);
    assert_eq!(loaded.keys["x.a"].value, "1");
    let found = messages(&loaded);
    assert!(found[0].contains("ignored.conf: ignored"), "{found:?}");
    assert!(found[1].contains("over HTTP is not available"), "{found:?}");
    assert!(found[2].contains("`zk:` is not known"), "{found:?}");
    options.uris.clear();
    options.files = vec![dir.path().join("none"), dir.path().to_path_buf()];
    let found = messages(&load(&options));
    assert!(
        found.len() == 2 && found.iter().all(|line| line.contains("cannot be read")),
        "{found:?}"
    );
}

#[test]
fn the_environment_resolver_of_old_flume() {
    let mut options = LoadOptions::empty();
    options.environment.insert("V".to_owned(), "v".to_owned());
    options.definitions.insert(
        PROPERTIES_IMPLEMENTATION.to_owned(),
        ENVIRONMENT_RESOLVER.to_owned(),
    );
    let loaded = load_inputs(vec![input("a", b"x.a=${V}")], &options);
    assert_eq!(loaded.keys["x.a"].value, "v");
    options.definitions.insert(
        PROPERTIES_IMPLEMENTATION.to_owned(),
        "com.example.Own".to_owned(),
    );
    assert!(messages(&load_inputs(Vec::new(), &options))[0].contains("Java class"));
}
