//! From the tree to dotted keys.

use std::collections::BTreeSet;
use std::rc::Rc;

use super::tree::{Node, Value};
use super::{MAX_KEYS, Mistake, Parsed, YamlPair};
use crate::properties::{Pair, trim};

/// Words whose mapping declares names: directly below an agent.
const KINDS: [&str; 5] = [
    "sources",
    "channels",
    "sinks",
    "sinkgroups",
    "configfilters",
];

/// Words whose mapping declares names: inside of a component.
const INNER: [&str; 3] = ["interceptors", "serializers", "filegroups"];

/// Flattens a document.
pub(super) fn flatten(root: &Rc<Node>) -> Parsed {
    let mut flattener = Flattener::default();
    match &root.value {
        Value::Mapping(_) => flattener.mapping("", root),
        Value::Text(text) if text.is_empty() => {}
        _ => flattener.mistake(
            root,
            "the document is not a mapping",
            Some("begin with the agent's name: `a1:`"),
        ),
    }
    flattener.finish()
}

#[derive(Default)]
struct Flattener {
    parsed: Parsed,
    declared: Vec<YamlPair>,
    visited: usize,
}

impl Flattener {
    fn finish(mut self) -> Parsed {
        let written: BTreeSet<&str> = self
            .parsed
            .pairs
            .iter()
            .map(|yaml| yaml.pair.key.as_str())
            .collect();
        self.declared
            .retain(|yaml| !written.contains(yaml.pair.key.as_str()));
        self.parsed.pairs.append(&mut self.declared);
        self.parsed
    }

    fn mapping(&mut self, path: &str, node: &Node) {
        let Value::Mapping(entries) = &node.value else {
            return;
        };
        for (key, value) in effective(entries) {
            self.visited += 1;
            if self.visited > MAX_KEYS {
                let message = format!("more than {MAX_KEYS} keys, aliases expanded");
                self.mistake(node, &message, None);
                return;
            }
            match &key.value {
                Value::Text(text) if !text.is_empty() => self.entry(path, text, &key, &value),
                _ => self.mistake(&key, "a key has to be a text", None),
            }
        }
    }

    fn entry(&mut self, path: &str, text: &str, key: &Node, value: &Node) {
        let full = match path {
            "" => trim(text).to_owned(),
            _ => format!("{path}.{}", trim(text)),
        };
        match &value.value {
            Value::Text(text) => {
                let pair = self.pair(full, text.clone(), key, value);
                self.parsed.pairs.push(YamlPair { pair, list: None });
            }
            Value::List(elements) => {
                let Some(list) = self.texts(elements) else {
                    return;
                };
                let pair = self.pair(full, list.join(" "), key, value);
                self.parsed.pairs.push(YamlPair {
                    pair,
                    list: Some(list),
                });
            }
            Value::Mapping(entries) => {
                if declares_names(&full) {
                    let list = names(entries);
                    let pair = self.pair(full.clone(), list.join(" "), key, key);
                    self.declared.push(YamlPair {
                        pair,
                        list: Some(list),
                    });
                }
                self.mapping(&full, value);
            }
        }
    }

    fn texts(&mut self, elements: &[Rc<Node>]) -> Option<Vec<String>> {
        let mut list = Vec::with_capacity(elements.len());
        for element in elements {
            match &element.value {
                Value::Text(text) => list.push(trim(text).to_owned()),
                _ => {
                    let help = "write the parts as a mapping of name to settings";
                    self.mistake(element, "a list may hold texts only", Some(help));
                    return None;
                }
            }
        }
        Some(list)
    }

    fn pair(&self, key: String, value: String, key_node: &Node, value_node: &Node) -> Pair {
        Pair {
            key,
            value: trim(&value).to_owned(),
            key_range: key_node.range.clone(),
            value_range: value_node.range.clone(),
            line: key_node.line,
            value_line: value_node.line,
        }
    }

    fn mistake(&mut self, node: &Node, message: &str, help: Option<&str>) {
        let mistake = Mistake {
            message: message.to_owned(),
            help: help.map(str::to_owned),
            range: node.range.clone(),
            line: node.line,
        };
        if !self.parsed.mistakes.contains(&mistake) {
            self.parsed.mistakes.push(mistake);
        }
    }
}

/// The entries of a mapping with those of its `<<` merged in; what stands in it itself counts.
fn effective(entries: &[(Rc<Node>, Rc<Node>)]) -> Vec<(Rc<Node>, Rc<Node>)> {
    let is_merge = |key: &Node| matches!(&key.value, Value::Text(text) if text == "<<");
    let mut all: Vec<(Rc<Node>, Rc<Node>)> = Vec::new();
    for (key, value) in entries.iter().filter(|(key, _)| !is_merge(key)) {
        all.push((Rc::clone(key), Rc::clone(value)));
    }
    let mut merged: Vec<&Rc<Node>> = Vec::new();
    for (_, value) in entries.iter().filter(|(key, _)| is_merge(key)) {
        match &value.value {
            Value::List(list) => merged.extend(list),
            _ => merged.push(value),
        }
    }
    for base in merged {
        let Value::Mapping(base) = &base.value else {
            continue;
        };
        for (key, value) in base.iter().take(MAX_KEYS) {
            let text = |node: &Node| match &node.value {
                Value::Text(text) => Some(text.clone()),
                _ => None,
            };
            if !all.iter().any(|(own, _)| text(own) == text(key)) {
                all.push((Rc::clone(key), Rc::clone(value)));
            }
        }
    }
    all
}

fn declares_names(full: &str) -> bool {
    let parts: Vec<&str> = full.split('.').collect();
    let last = parts.last().copied().unwrap_or_default();
    (parts.len() == 2 && KINDS.contains(&last)) || (parts.len() > 3 && INNER.contains(&last))
}

/// The first parts of the keys of a mapping, each once.
fn names(entries: &[(Rc<Node>, Rc<Node>)]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for (key, _) in effective(entries) {
        let Value::Text(text) = &key.value else {
            continue;
        };
        let name = trim(text).split('.').next().unwrap_or_default();
        if !name.is_empty() && !names.iter().any(|other| other == name) {
            names.push(name.to_owned());
        }
    }
    names
}
