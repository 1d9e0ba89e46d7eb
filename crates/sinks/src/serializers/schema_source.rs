//! Where the schema of a file of already encoded datums comes from.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use flafka_avro_wire::schema::Schema;
use flafka_flow::Headers;

use super::SerializeError;

/// Header with the address of the schema.
const URL_HEADER: &str = "flume.avro.schema.url";
/// Header with the schema itself.
const LITERAL_HEADER: &str = "flume.avro.schema.literal";
/// Bytes of a schema at most.
const LARGEST_SCHEMA: u64 = 1 << 20;

/// What an event says about its schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum SchemaSource {
    /// It lies there.
    Url(String),
    /// It is this.
    Literal(String),
}

impl SchemaSource {
    /// What the headers of an event say; the address counts before the schema itself.
    pub(super) fn of(headers: &Headers) -> Option<Self> {
        let url = headers.get(URL_HEADER).map(|url| Self::Url(url.to_owned()));
        url.or_else(|| {
            let literal = headers.get(LITERAL_HEADER)?;
            Some(Self::Literal(literal.to_owned()))
        })
    }
}

/// The file that an address means.
pub(super) fn path_of(url: &str) -> Result<PathBuf, SerializeError> {
    let rest = match url.split_once(':') {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("file") => rest,
        _ => url,
    };
    let path = match rest.strip_prefix("//") {
        Some(with_host) => with_host.strip_prefix("localhost").unwrap_or(with_host),
        None => rest,
    };
    if path.starts_with('/') {
        return Ok(PathBuf::from(path));
    }
    Err(SerializeError::SchemaAddress {
        url: url.to_owned(),
    })
}

/// The schema of one file.
#[derive(Debug)]
pub(super) struct FileSchema {
    source: SchemaSource,
    json: String,
    schema: Schema,
}

impl FileSchema {
    /// Reads and parses the schema.
    pub(super) fn load(source: SchemaSource) -> Result<Self, SerializeError> {
        let json = match &source {
            SchemaSource::Url(url) => read(&path_of(url)?)?,
            SchemaSource::Literal(json) if json.len() as u64 > LARGEST_SCHEMA => {
                return Err(SerializeError::SchemaTooLarge);
            }
            SchemaSource::Literal(json) => json.clone(),
        };
        let schema = Schema::parse(&json)?;
        Ok(Self {
            source,
            json,
            schema,
        })
    }

    pub(super) fn source(&self) -> &SchemaSource {
        &self.source
    }

    pub(super) fn json(&self) -> &str {
        &self.json
    }

    /// Whether `body` is one datum of the schema, and nothing else.
    pub(super) fn check(&self, body: &[u8]) -> Result<(), SerializeError> {
        let end = self.schema.skip(body, 0)?;
        if end < body.len() {
            return Err(SerializeError::MoreThanADatum {
                datum: end,
                body: body.len(),
            });
        }
        Ok(())
    }
}

fn read(path: &Path) -> Result<String, SerializeError> {
    let failed = |source| SerializeError::ReadSchema {
        path: path.to_owned(),
        source,
    };
    let mut json = String::new();
    let file = File::open(path).map_err(failed)?;
    file.take(LARGEST_SCHEMA + 1)
        .read_to_string(&mut json)
        .map_err(failed)?;
    if json.len() as u64 > LARGEST_SCHEMA {
        return Err(SerializeError::SchemaTooLarge);
    }
    Ok(json)
}
