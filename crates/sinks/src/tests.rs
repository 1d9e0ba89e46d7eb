//! Rules that every sink and serializer in the lists keeps.

use std::collections::HashSet;

use flafka_flow::registry::Description;
use flafka_flow::settings::{Report, Section};

use crate::{SERIALIZERS, SINKS};

fn sound(descriptions: impl Iterator<Item = Description>) {
    let mut names = HashSet::new();
    for description in descriptions {
        let main = description.names.main();
        for name in description.names.all() {
            assert!(names.insert(name.to_ascii_lowercase()), "{name} twice");
        }
        assert!(!description.docs.is_empty(), "{main}");
        for field in (description.fields)() {
            assert!(!field.docs.is_empty(), "{main}.{}", field.key);
        }
    }
}

#[test]
fn the_lists_are_sound() {
    sound(SINKS.iter().map(|entry| entry.description));
    sound(SERIALIZERS.iter().copied());
}

#[test]
fn unknown_keys_are_refused() {
    for entry in SINKS {
        let mut report = Report::new();
        let section = Section::of("a1.sinks.k1", [("noSuchKey", "1")]);
        (entry.check)(&section, &mut report);
        let found = report
            .problems()
            .iter()
            .any(|problem| problem.key.ends_with("noSuchKey"));
        assert!(found, "{}", entry.description.names.main());
    }
}
