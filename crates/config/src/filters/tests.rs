//! Tests of config filters.

use super::*;
use crate::loader::{Input, LoadOptions, load_inputs};

fn run(text: &str) -> Loaded {
    let input = Input {
        name: "a.conf".to_owned(),
        bytes: text.as_bytes().to_vec(),
    };
    let mut loaded = load_inputs(vec![input], &LoadOptions::empty());
    let environment = [("PASS".to_owned(), "hunter2".to_owned())].into();
    apply(&mut loaded, &environment);
    loaded
}

fn messages(loaded: &Loaded) -> Vec<&str> {
    loaded
        .problems
        .iter()
        .map(|problem| problem.message.as_str())
        .collect()
}

#[test]
fn all_spellings_and_both_kinds() {
    let loaded = run("a.configfilters = e x\na.configfilters.e.type = ENV\n\
        a.configfilters.x.type = external\na.configfilters.x.command = echo got\n\
        a.sinks.k.one = ${e['PASS']}-${e[\"PASS\"]}-${e[PASS]}\na.sinks.k.two = ${x['k-1']}\n\
        b.sinks.k.one = plain\n");
    assert_eq!(messages(&loaded), [""; 0]);
    assert_eq!(
        loaded.keys["a.sinks.k.one"].value,
        "hunter2-hunter2-hunter2"
    );
    assert_eq!(loaded.keys["a.sinks.k.two"].value, "got k-1");
    assert!(loaded.secret_keys.contains("a.sinks.k.one"));
}

#[test]
fn what_gives_no_value_is_an_error_and_stays_as_written() {
    let loaded = run("a.configfilters = e x\na.configfilters.e.type = env\n\
        a.configfilters.x.type = external\na.configfilters.x.command = false\n\
        a.sinks.k.one = ${e['NO']}\na.sinks.k.two = ${x['k']}\na.sinks.k.three = ${ee['k']}\n");
    assert_eq!(loaded.keys["a.sinks.k.one"].value, "${e['NO']}");
    assert_eq!(
        messages(&loaded),
        [
            "the config filter `e` gives no value for `NO`: the environment variable is not set",
            "the config filter `x` gives no value for `k`: `false` ended with exit status: 1",
            "there is no config filter `ee`; the text stays as written",
        ]
    );
}

#[test]
fn types_that_cannot_be() {
    let loaded = run(
        "a.configfilters = h j u x\na.configfilters.h.type = hadoop\n\
        a.configfilters.j.type = com.example.Filter\na.configfilters.u.type = externl\n\
        a.configfilters.x.type = external\na.configfilters.x.comand = pass\n",
    );
    let found = messages(&loaded);
    assert!(
        found[0].contains("need Java") && found[1].contains("a Java class"),
        "{found:?}"
    );
    assert_eq!(
        found[2..],
        [
            "no such config filter",
            "required key is missing",
            "unknown key"
        ]
    );
}
