//! From YAML events to a tree with places. Aliases share the node they name, so that a small
//! file cannot become a large tree; depth is bounded, so that nothing recurses far.

use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span, Tag};

use super::{MAX_DEPTH, Mistake};

/// A value with its place.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) range: Range<usize>,
    pub(super) line: u32,
    pub(super) value: Value,
}

/// What a node is.
#[derive(Debug)]
pub(super) enum Value {
    /// A text; empty for null.
    Text(String),
    List(Vec<Rc<Node>>),
    Mapping(Vec<(Rc<Node>, Rc<Node>)>),
}

/// Reads the only document of `text`; none when it is empty.
pub(super) fn read(text: &str) -> Result<Option<Rc<Node>>, Mistake> {
    let mut builder = Builder::new(text);
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(|error| builder.scan_error(&error))?;
        if let Event::StreamEnd = event {
            break;
        }
        builder.event(event, span)?;
    }
    Ok(builder.root)
}

/// A collection that is not closed yet.
struct Open {
    node: Node,
    anchor: usize,
    /// The key that waits for its value, in a mapping.
    key: Option<Rc<Node>>,
}

struct Builder {
    /// Byte of each character, and the length behind the last.
    offsets: Vec<usize>,
    open: Vec<Open>,
    anchors: HashMap<usize, Rc<Node>>,
    root: Option<Rc<Node>>,
}

impl Builder {
    fn new(text: &str) -> Self {
        let ends = std::iter::once(text.len());
        Self {
            offsets: text.char_indices().map(|(at, _)| at).chain(ends).collect(),
            open: Vec::new(),
            anchors: HashMap::new(),
            root: None,
        }
    }

    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), Mistake> {
        match event {
            Event::DocumentStart(_) if self.root.is_some() => Err(self
                .mistake("a second document in one file", span)
                .help("remove the line `---`, or make two files")),
            Event::Scalar(text, style, anchor, tag) => {
                self.check_tag(tag.as_deref(), span)?;
                let null = style == ScalarStyle::Plain && matches!(&*text, "~" | "null" | "");
                let text = if null {
                    String::new()
                } else {
                    text.into_owned()
                };
                let node = self.node(Value::Text(text), span);
                self.close(node, anchor);
                Ok(())
            }
            Event::SequenceStart(anchor, tag) => {
                self.check_tag(tag.as_deref(), span)?;
                self.start(Value::List(Vec::new()), anchor, span)
            }
            Event::MappingStart(anchor, tag) => {
                self.check_tag(tag.as_deref(), span)?;
                self.start(Value::Mapping(Vec::new()), anchor, span)
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(mut open) = self.open.pop() {
                    open.node.range.end = self.offset(span.start).max(open.node.range.start);
                    self.close(open.node, open.anchor);
                }
                Ok(())
            }
            Event::Alias(anchor) => match self.anchors.get(&anchor) {
                Some(node) => {
                    let node = Rc::clone(node);
                    self.place(node);
                    Ok(())
                }
                None => Err(self.mistake("an alias inside of what it names", span)),
            },
            _ => Ok(()),
        }
    }

    fn start(&mut self, value: Value, anchor: usize, span: Span) -> Result<(), Mistake> {
        if self.open.len() >= MAX_DEPTH {
            return Err(self.mistake(&format!("nested more than {MAX_DEPTH} levels"), span));
        }
        self.open.push(Open {
            node: self.node(value, span),
            anchor,
            key: None,
        });
        Ok(())
    }

    /// Gives a finished node its anchor and its place.
    fn close(&mut self, node: Node, anchor: usize) {
        let node = Rc::new(node);
        if anchor > 0 {
            self.anchors.insert(anchor, Rc::clone(&node));
        }
        self.place(node);
    }

    fn place(&mut self, node: Rc<Node>) {
        let Some(parent) = self.open.last_mut() else {
            self.root = Some(node);
            return;
        };
        match (&mut parent.node.value, parent.key.take()) {
            (Value::List(list), _) => list.push(node),
            (Value::Mapping(entries), Some(key)) => entries.push((key, node)),
            (Value::Mapping(_), None) => parent.key = Some(node),
            (Value::Text(_), _) => {}
        }
    }

    fn check_tag(&self, tag: Option<&Tag>, span: Span) -> Result<(), Mistake> {
        match tag {
            Some(tag) if !tag.is_yaml_core_schema() => Err(self
                .mistake(&format!("the tag `{tag}` means nothing here"), span)
                .help("remove it")),
            _ => Ok(()),
        }
    }

    fn node(&self, value: Value, span: Span) -> Node {
        let start = self.offset(span.start);
        Node {
            range: start..self.offset(span.end).max(start),
            line: line(span.start),
            value,
        }
    }

    fn mistake(&self, message: &str, span: Span) -> Mistake {
        let start = self.offset(span.start);
        Mistake {
            message: message.to_owned(),
            help: None,
            range: start..self.offset(span.end).max(start),
            line: line(span.start),
        }
    }

    fn scan_error(&self, error: &ScanError) -> Mistake {
        let mark = *error.marker();
        let mut mistake = self.mistake("", Span::empty(mark));
        mistake.message = format!("not YAML: {}", error.info());
        mistake
    }

    fn offset(&self, marker: Marker) -> usize {
        let last = self.offsets.len() - 1;
        self.offsets[marker.index().min(last)]
    }
}

impl Mistake {
    fn help(mut self, help: &str) -> Self {
        self.help = Some(help.to_owned());
        self
    }
}

fn line(marker: Marker) -> u32 {
    u32::try_from(marker.line().max(1)).unwrap_or(u32::MAX)
}
