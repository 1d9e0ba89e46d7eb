//! The Parsing Canonical Form and its fingerprint.

use std::collections::HashSet;
use std::fmt::Write;

use super::{Kind, Schema};

/// The fingerprint of nothing, which is also the polynomial.
const EMPTY: u64 = 0xc15d_213a_a4d7_a795;

pub(super) fn form(schema: &Schema) -> String {
    let mut out = String::new();
    let mut defined = HashSet::new();
    write(schema, schema.root, &mut defined, &mut out);
    out
}

fn write(schema: &Schema, node: usize, defined: &mut HashSet<usize>, out: &mut String) {
    let named = match &schema.nodes[node].kind {
        Kind::Fixed { name, .. } | Kind::Enum { name, .. } | Kind::Record { name, .. } => {
            Some(name)
        }
        _ => None,
    };
    if let Some(name) = named
        && !defined.insert(node)
    {
        text(name, out);
        return;
    }
    match &schema.nodes[node].kind {
        Kind::Null => text("null", out),
        Kind::Boolean => text("boolean", out),
        Kind::Int => text("int", out),
        Kind::Long => text("long", out),
        Kind::Float => text("float", out),
        Kind::Double => text("double", out),
        Kind::Bytes => text("bytes", out),
        Kind::String => text("string", out),
        Kind::Fixed { name, size } => {
            head(name, "fixed", out);
            write!(out, ",\"size\":{size}}}").expect("writing to a string cannot fail");
        }
        Kind::Enum { name, symbols } => {
            head(name, "enum", out);
            out.push_str(",\"symbols\":[");
            list(symbols, out, |symbol, out| text(symbol, out));
            out.push_str("]}");
        }
        Kind::Record { name, fields } => {
            head(name, "record", out);
            out.push_str(",\"fields\":[");
            list(fields, out, |(name, kind), out| {
                out.push_str("{\"name\":");
                text(name, out);
                out.push_str(",\"type\":");
                write(schema, *kind, defined, out);
                out.push('}');
            });
            out.push_str("]}");
        }
        Kind::Array(items) => {
            out.push_str("{\"type\":\"array\",\"items\":");
            write(schema, *items, defined, out);
            out.push('}');
        }
        Kind::Map(values) => {
            out.push_str("{\"type\":\"map\",\"values\":");
            write(schema, *values, defined, out);
            out.push('}');
        }
        Kind::Union(branches) => {
            out.push('[');
            list(branches, out, |branch, out| {
                write(schema, *branch, defined, out);
            });
            out.push(']');
        }
    }
}

fn head(name: &str, kind: &str, out: &mut String) {
    out.push_str("{\"name\":");
    text(name, out);
    out.push_str(",\"type\":");
    text(kind, out);
}

fn text(value: &str, out: &mut String) {
    out.push('"');
    out.push_str(value);
    out.push('"');
}

fn list<T>(items: &[T], out: &mut String, mut write: impl FnMut(&T, &mut String)) {
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        write(item, out);
    }
}

/// CRC-64-AVRO, bit by bit: schemas are short and looked at once.
pub(super) fn crc64(bytes: &[u8]) -> u64 {
    bytes.iter().fold(EMPTY, |sum, byte| {
        let mut row = (sum ^ u64::from(*byte)) & 0xff;
        for _ in 0..8 {
            row = (row >> 1) ^ (EMPTY & (row & 1).wrapping_neg());
        }
        (sum >> 8) ^ row
    })
}
