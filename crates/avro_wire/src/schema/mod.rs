//! Avro schemas: enough to split a block into its datums and to name a schema by its fingerprint.
//!
//! [`Schema::skip`] walks one datum; [`Schema::canonical_form`] is the specification's "Parsing
//! Canonical Form", [`Schema::fingerprint`] the CRC-64-AVRO of it.
//!
//! Invariant: node references point into `nodes`; a schema that refers to itself is a cycle there.
//! Walking is bounded: parts of fixed size are stepped over at once, every other part takes at
//! least a byte, and nesting is limited.

mod canonical;
mod parse;
#[cfg(test)]
mod tests;

use thiserror::Error;

use crate::varint::{bytes_at, long_at};

/// Nesting of values at most.
const MAX_DEPTH: usize = 200;

/// Why a schema was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SchemaError {
    /// The text is no JSON.
    #[error("the Avro schema is not JSON: {message}")]
    NotJson {
        /// What the JSON parser says.
        message: String,
    },
    /// A part of the schema is not as the specification says.
    #[error("the Avro schema is not valid: {message}")]
    Invalid {
        /// What is wrong.
        message: String,
    },
}

/// Why bytes are no datum of a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DatumError {
    /// The bytes end too early, or a length, index or count makes no sense.
    #[error("the datum does not fit its schema at byte {at}")]
    BadData {
        /// Position in the bytes.
        at: usize,
    },
    /// Values are nested too deeply.
    #[error("the datum is nested more than {MAX_DEPTH} deep")]
    TooDeep,
}

/// A parsed schema.
#[derive(Debug, Clone)]
pub struct Schema {
    nodes: Vec<Node>,
    root: usize,
}

#[derive(Debug, Clone)]
struct Node {
    kind: Kind,
    /// Bytes of every datum, when they are always as many.
    fixed_bytes: Option<usize>,
}

#[derive(Debug, Clone)]
enum Kind {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    Fixed {
        name: String,
        size: usize,
    },
    Enum {
        name: String,
        symbols: Vec<String>,
    },
    Record {
        name: String,
        fields: Vec<(String, usize)>,
    },
    Array(usize),
    Map(usize),
    Union(Vec<usize>),
}

impl Schema {
    /// Parses a schema from JSON.
    ///
    /// # Errors
    /// When the text is no schema.
    pub fn parse(json: &str) -> Result<Self, SchemaError> {
        let mut schema = parse::parse(json)?;
        schema.measure();
        Ok(schema)
    }

    /// The Parsing Canonical Form: equal for schemas that read the same bytes in the same way.
    pub fn canonical_form(&self) -> String {
        canonical::form(self)
    }

    /// The CRC-64-AVRO of the canonical form. Flume writes its bytes in little-endian order.
    pub fn fingerprint(&self) -> u64 {
        canonical::crc64(self.canonical_form().as_bytes())
    }

    /// Where the datum that begins at `at` ends.
    ///
    /// # Errors
    /// When the bytes there are no datum of this schema.
    pub fn skip(&self, bytes: &[u8], at: usize) -> Result<usize, DatumError> {
        self.skip_node(self.root, bytes, at, 0)
    }

    fn skip_node(
        &self,
        node: usize,
        bytes: &[u8],
        at: usize,
        depth: usize,
    ) -> Result<usize, DatumError> {
        let bad = DatumError::BadData { at };
        if depth > MAX_DEPTH {
            return Err(DatumError::TooDeep);
        }
        let node = &self.nodes[node];
        if let Some(size) = node.fixed_bytes {
            let end = at.checked_add(size).filter(|end| *end <= bytes.len());
            return end.ok_or(bad);
        }
        match &node.kind {
            Kind::Int | Kind::Long => Ok(long_at(bytes, at).ok_or(bad)?.1),
            Kind::Bytes | Kind::String => Ok(bytes_at(bytes, at).ok_or(bad)?.1),
            Kind::Enum { symbols, .. } => {
                let (index, next) = long_at(bytes, at).ok_or(bad)?;
                let known = usize::try_from(index).is_ok_and(|index| index < symbols.len());
                known.then_some(next).ok_or(bad)
            }
            Kind::Record { fields, .. } => fields.iter().try_fold(at, |at, (_, field)| {
                self.skip_node(*field, bytes, at, depth + 1)
            }),
            Kind::Union(branches) => {
                let (index, next) = long_at(bytes, at).ok_or(bad)?;
                let branch = usize::try_from(index).ok().and_then(|at| branches.get(at));
                self.skip_node(*branch.ok_or(bad)?, bytes, next, depth + 1)
            }
            Kind::Array(items) => self.skip_blocks(None, *items, bytes, at, depth),
            Kind::Map(values) => self.skip_blocks(Some(()), *values, bytes, at, depth),
            Kind::Null | Kind::Boolean | Kind::Float | Kind::Double | Kind::Fixed { .. } => {
                Err(bad)
            }
        }
    }

    /// Steps over the blocks of an array, or of a map when there are `keys`.
    fn skip_blocks(
        &self,
        keys: Option<()>,
        items: usize,
        bytes: &[u8],
        mut at: usize,
        depth: usize,
    ) -> Result<usize, DatumError> {
        loop {
            let bad = DatumError::BadData { at };
            let (count, next) = long_at(bytes, at).ok_or(bad)?;
            at = next;
            if count == 0 {
                return Ok(at);
            }
            if count < 0 {
                at = bytes_at(bytes, at).ok_or(bad)?.1;
                continue;
            }
            for _ in 0..count {
                let before = at;
                if keys.is_some() {
                    at = bytes_at(bytes, at).ok_or(DatumError::BadData { at })?.1;
                }
                at = self.skip_node(items, bytes, at, depth + 1)?;
                if at == before {
                    break; // Items without bytes, however many.
                }
            }
        }
    }

    /// Finds out which nodes always take the same number of bytes.
    fn measure(&mut self) {
        let mut states = vec![Measure::New; self.nodes.len()];
        for node in 0..self.nodes.len() {
            self.nodes[node].fixed_bytes = self.fixed_bytes(node, &mut states, 0);
        }
    }

    fn fixed_bytes(&self, node: usize, states: &mut [Measure], depth: usize) -> Option<usize> {
        match states[node] {
            Measure::Done(size) => return size,
            Measure::Open => return None,
            Measure::New => {}
        }
        if depth > MAX_DEPTH {
            return None;
        }
        states[node] = Measure::Open;
        let size = match &self.nodes[node].kind {
            Kind::Null => Some(0),
            Kind::Boolean => Some(1),
            Kind::Float => Some(4),
            Kind::Double => Some(8),
            Kind::Fixed { size, .. } => Some(*size),
            Kind::Record { fields, .. } => fields.iter().try_fold(0usize, |sum, (_, field)| {
                let size = self.fixed_bytes(*field, states, depth + 1)?;
                Some(sum.saturating_add(size))
            }),
            _ => None,
        };
        states[node] = Measure::Done(size);
        size
    }
}

#[derive(Clone, Copy)]
enum Measure {
    New,
    Open,
    Done(Option<usize>),
}
