//! YAML beside properties: the same keys, nested, flattened to the same dotted names.
//!
//! ```yaml
//! a1:
//!   sources:
//!     r1: { type: netcat, bind: 0.0.0.0, port: 44444, channels: [c1] }
//!   channels:
//!     c1: { type: memory }
//!   sinks:
//!     k1: { type: logger, channel: c1 }
//! ```
//!
//! - A key may itself hold dots (`encryption.keyProvider.keyStoreFile: …`).
//! - A list of texts becomes the text with blanks between (or commas, where a key takes those).
//! - A mapping below `sources`, `channels`, `sinks`, `sinkgroups`, `configfilters`,
//!   `interceptors`, `serializers` or `filegroups` also declares its names, in file order.
//! - Texts are taken as written: `yes`, `010` and `1e3` are not converted.
//!
//! Invariant: work is bounded whatever aliases say ([`MAX_KEYS`], [`MAX_DEPTH`]).

mod flatten;
mod tree;

use std::ops::Range;

use crate::properties::Pair;

/// Keys that one file may flatten to, aliases expanded.
pub const MAX_KEYS: usize = 100_000;

/// Levels of nesting that are read.
pub const MAX_DEPTH: usize = 32;

/// What is wrong in a YAML file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// What is wrong, a lower-case sentence without full stop.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
    /// Where it stands in the text.
    pub range: Range<usize>,
    /// Line, from 1.
    pub line: u32,
}

/// A flattened key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct YamlPair {
    /// Key and value with their places.
    pub pair: Pair,
    /// The elements when the value is a list.
    pub list: Option<Vec<String>>,
}

/// What a file holds, in its order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parsed {
    /// The flattened keys, also repeated ones.
    pub pairs: Vec<YamlPair>,
    /// What could not be read.
    pub mistakes: Vec<Mistake>,
}

/// Reads a YAML file.
pub fn parse(text: &str) -> Parsed {
    match tree::read(text) {
        Ok(Some(root)) => flatten::flatten(&root),
        Ok(None) => Parsed::default(),
        Err(mistake) => Parsed {
            pairs: Vec::new(),
            mistakes: vec![mistake],
        },
    }
}

#[cfg(test)]
mod tests;
