//! From JSON to nodes.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::{Kind, Node, Schema, SchemaError};

/// Nodes of one schema at most.
const MAX_NODES: usize = 100_000;

pub(super) fn parse(json: &str) -> Result<Schema, SchemaError> {
    let value: Value = serde_json::from_str(json).map_err(|error| SchemaError::NotJson {
        message: error.to_string(),
    })?;
    let mut parser = Parser::default();
    let root = parser.node(&value, "")?;
    Ok(Schema {
        nodes: parser.nodes,
        root,
    })
}

#[derive(Default)]
struct Parser {
    nodes: Vec<Node>,
    named: HashMap<String, usize>,
}

fn invalid(message: impl Into<String>) -> SchemaError {
    SchemaError::Invalid {
        message: message.into(),
    }
}

impl Parser {
    fn add(&mut self, kind: Kind) -> Result<usize, SchemaError> {
        if self.nodes.len() >= MAX_NODES {
            return Err(invalid(format!("more than {MAX_NODES} parts")));
        }
        self.nodes.push(Node {
            kind,
            fixed_bytes: None,
        });
        Ok(self.nodes.len() - 1)
    }

    /// The node of a schema within `namespace`.
    fn node(&mut self, value: &Value, namespace: &str) -> Result<usize, SchemaError> {
        match value {
            Value::String(name) => self.by_name(name, namespace),
            Value::Array(branches) => {
                let branches: Result<Vec<_>, _> = branches
                    .iter()
                    .map(|branch| self.node(branch, namespace))
                    .collect();
                self.add(Kind::Union(branches?))
            }
            Value::Object(object) => self.object(object, namespace),
            _ => Err(invalid(format!("{value} is no type"))),
        }
    }

    fn by_name(&mut self, name: &str, namespace: &str) -> Result<usize, SchemaError> {
        if let Some(kind) = primitive(name) {
            return self.add(kind);
        }
        let found = self.named.get(&full_name(name, namespace));
        let found = found.or_else(|| self.named.get(name)).copied();
        found.ok_or_else(|| invalid(format!("there is no type `{name}`")))
    }

    fn object(
        &mut self,
        object: &Map<String, Value>,
        namespace: &str,
    ) -> Result<usize, SchemaError> {
        let part = |key: &str| {
            let missing = || invalid(format!("a type without `{key}`"));
            object.get(key).ok_or_else(missing)
        };
        let kind = match part("type")? {
            Value::String(kind) => kind.as_str(),
            other => return self.node(other, namespace),
        };
        match kind {
            "array" => {
                let items = self.node(part("items")?, namespace)?;
                self.add(Kind::Array(items))
            }
            "map" => {
                let values = self.node(part("values")?, namespace)?;
                self.add(Kind::Map(values))
            }
            "record" | "error" => {
                let (name, inner) = name_of(object, namespace)?;
                let node = self.define(name.clone(), Kind::Null)?;
                let fields = self.fields(part("fields")?, &inner)?;
                self.nodes[node].kind = Kind::Record { name, fields };
                Ok(node)
            }
            "enum" => {
                let (name, _) = name_of(object, namespace)?;
                let symbols = symbols(part("symbols")?)?;
                self.define(name.clone(), Kind::Enum { name, symbols })
            }
            "fixed" => {
                let (name, _) = name_of(object, namespace)?;
                let size = part("size")?.as_u64();
                let size = size.and_then(|size| usize::try_from(size).ok());
                let size = size.ok_or_else(|| invalid("the size of a fixed is no number"))?;
                self.define(name.clone(), Kind::Fixed { name, size })
            }
            name => self.by_name(name, namespace),
        }
    }

    /// Adds a named node; it can be referred to from now on.
    fn define(&mut self, name: String, kind: Kind) -> Result<usize, SchemaError> {
        let node = self.add(kind)?;
        if self.named.insert(name.clone(), node).is_some() {
            return Err(invalid(format!("`{name}` is defined twice")));
        }
        Ok(node)
    }

    fn fields(
        &mut self,
        value: &Value,
        namespace: &str,
    ) -> Result<Vec<(String, usize)>, SchemaError> {
        let list = value
            .as_array()
            .ok_or_else(|| invalid("fields are no list"))?;
        list.iter()
            .map(|field| {
                let name = field.get("name").and_then(Value::as_str);
                let name = name.ok_or_else(|| invalid("a field without a name"))?;
                let kind = field.get("type");
                let kind = kind.ok_or_else(|| invalid(format!("field `{name}` has no type")))?;
                Ok((name.to_owned(), self.node(kind, namespace)?))
            })
            .collect()
    }
}

fn primitive(name: &str) -> Option<Kind> {
    Some(match name {
        "null" => Kind::Null,
        "boolean" => Kind::Boolean,
        "int" => Kind::Int,
        "long" => Kind::Long,
        "float" => Kind::Float,
        "double" => Kind::Double,
        "bytes" => Kind::Bytes,
        "string" => Kind::String,
        _ => return None,
    })
}

fn symbols(value: &Value) -> Result<Vec<String>, SchemaError> {
    let bad = || invalid("the symbols of an enum are no list of text");
    let list = value.as_array().ok_or_else(bad)?;
    list.iter()
        .map(|symbol| symbol.as_str().map(str::to_owned).ok_or_else(bad))
        .collect()
}

/// The full name of a named type, and the namespace inside it.
fn name_of(object: &Map<String, Value>, namespace: &str) -> Result<(String, String), SchemaError> {
    let name = object.get("name").and_then(Value::as_str);
    let name = name.ok_or_else(|| invalid("a named type without a name"))?;
    let own = object.get("namespace").and_then(Value::as_str);
    let full = full_name(name, own.unwrap_or(namespace));
    let inner = full.rsplit_once('.').map_or("", |(inner, _)| inner);
    let inner = inner.to_owned();
    Ok((full, inner))
}

fn full_name(name: &str, namespace: &str) -> String {
    if name.contains('.') || namespace.is_empty() {
        name.to_owned()
    } else {
        format!("{namespace}.{name}")
    }
}
