//! Rules that every channel in the list keeps.

use flafka_flow::settings::{Report, Section};

use crate::CHANNELS;

#[test]
fn names_are_unique_and_every_key_is_documented() {
    let mut names: Vec<_> = CHANNELS
        .iter()
        .flat_map(|entry| entry.description.names.all())
        .map(str::to_ascii_lowercase)
        .collect();
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count, "{names:?}");
    for entry in CHANNELS {
        let name = entry.description.names.main();
        assert!(!entry.description.docs.is_empty(), "{name}");
        for field in (entry.description.fields)() {
            assert!(!field.docs.is_empty(), "{name}.{}", field.key);
        }
    }
}

#[test]
fn unknown_keys_are_refused() {
    for entry in CHANNELS {
        let mut report = Report::new();
        let section = Section::of("a1.channels.c1", [("noSuchKey", "1")]);
        (entry.check)(&section, &mut report);
        let found = report
            .problems()
            .iter()
            .any(|problem| problem.key.ends_with("noSuchKey"));
        assert!(found, "{}", entry.description.names.main());
    }
}
