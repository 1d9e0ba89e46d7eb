//! The handlers: from a request to a batch (Flume reference 2.2, http).

use bytes::Bytes;
use flafka_flow::registry::{Description, TypeNames};
use flafka_flow::settings::{CommaList, Count};
use flafka_flow::{Batch, Event, HeadersBuilder};
use hyper::StatusCode;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE};
use hyper::http::request::Parts;

use super::HttpSourceConfig;
use super::json;
use super::parameters::{add_parameters, missing};
use crate::charset::Charset;

flafka_flow::choice! {
    /// What makes events of a request.
    pub enum HandlerName {
        /// An array of events in JSON.
        Json = "org.apache.flume.source.http.JSONHandler" | "json",
        /// The request body is one event; parameters of the query are its headers.
        Blob = "org.apache.flume.source.http.BLOBHandler" | "blob",
        /// As `Blob`, with a longest body and the header `Content-Type`.
        MorphlineBlob = "org.apache.flume.sink.solr.morphline.BlobHandler" | "morphline_blob",
    }
}

flafka_flow::settings! {
    /// Takes an array of `{"headers":{"name":"value"},"body":"text"}` as leniently as Flume does.
    /// The charset of the content type (utf-8, utf-16, utf-32) is that of the bodies too.
    pub struct JsonHandlerConfig {}
}

flafka_flow::settings! {
    /// The request body is one event; the parameters of the query are its headers.
    pub struct BlobHandlerConfig {
        /// Parameters that every request must have; none by default (in Flume the default is a
        /// parameter without a name, so that every request fails).
        "mandatoryParameters" => mandatory_parameters: CommaList = CommaList::default(),
    }
}

flafka_flow::settings! {
    /// The request body is one event; its headers are `Content-Type` and the parameters of the
    /// query. Of a form the fields are headers and the body is empty.
    pub struct MorphlineBlobHandlerConfig {
        /// Longest body in bytes; a longer one is cut, with a warning.
        "maxBlobLength" => max_blob_length: Count = Count(100_000_000),
    }
}

const fn names(also: &'static [&'static str], classes: &'static [&'static str]) -> TypeNames {
    TypeNames {
        alias: None,
        also,
        classes,
    }
}

/// Every handler. Their keys stand below `handler.` in the settings of the source, which reads
/// them.
pub const HANDLERS: &[Description] = &[
    Description::of::<JsonHandlerConfig>(names(
        &["json"],
        &["org.apache.flume.source.http.JSONHandler"],
    )),
    Description::of::<BlobHandlerConfig>(names(
        &["blob"],
        &["org.apache.flume.source.http.BLOBHandler"],
    )),
    Description::of::<MorphlineBlobHandlerConfig>(names(
        &["morphline_blob"],
        &["org.apache.flume.sink.solr.morphline.BlobHandler"],
    )),
];

/// Why a request was not accepted: the status, and the reason for the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) reason: String,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, reason: impl Into<String>) -> Self {
        Self {
            status,
            reason: reason.into(),
        }
    }
}

/// A handler with its settings.
#[derive(Debug, Clone)]
pub(super) enum Handler {
    Json,
    Blob { mandatory: Vec<String> },
    MorphlineBlob { longest: usize },
}

impl Handler {
    pub(super) fn of(config: &HttpSourceConfig) -> Self {
        match config.handler {
            HandlerName::Json => Self::Json,
            HandlerName::Blob => Self::Blob {
                mandatory: config.mandatory_parameters.0.clone(),
            },
            HandlerName::MorphlineBlob => Self::MorphlineBlob {
                longest: config.max_blob_length.0,
            },
        }
    }

    /// How many bytes of a body are kept; the rest is read and dropped. `None` = all.
    pub(super) fn kept_bytes(&self) -> Option<usize> {
        match self {
            Self::MorphlineBlob { longest } => Some(*longest),
            Self::Json | Self::Blob { .. } => None,
        }
    }

    /// The events of a request.
    pub(super) fn events(&self, request: &Parts, body: &Bytes) -> Result<Batch, Refusal> {
        match self {
            Self::Json => json_events(request, body),
            Self::Blob { mandatory } => {
                let mut headers = HeadersBuilder::default();
                add_parameters(request.uri.query().unwrap_or(""), &mut headers);
                let headers = headers.finish();
                if let Some(name) = missing(mandatory, &headers) {
                    let reason = format!(
                        "parameter `{name}` is missing in the query (handler.mandatoryParameters)"
                    );
                    return Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, reason));
                }
                Ok(one_event(headers, body.clone()))
            }
            Self::MorphlineBlob { .. } => Ok(morphline_event(request, body)),
        }
    }
}

fn json_events(request: &Parts, body: &Bytes) -> Result<Batch, Refusal> {
    let charset = match charset_parameter(request) {
        None => Charset::UTF_8,
        Some(name) => match Charset::named(&name) {
            Some(charset)
                if [Charset::UTF_8, Charset::UTF_16, Charset::UTF_32].contains(&charset) =>
            {
                charset
            }
            _ => {
                let reason =
                    format!("charset `{name}` is not supported; send utf-8, utf-16 or utf-32");
                return Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, reason));
            }
        },
    };
    json::parse(body, charset).map_err(|error| {
        let status = match error.is_syntax() {
            true => StatusCode::BAD_REQUEST,
            false => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let mut reason = error.to_string();
        if let Some(encoding) = request.headers.get(CONTENT_ENCODING) {
            let encoding = String::from_utf8_lossy(encoding.as_bytes());
            reason.push_str(&format!(
                " (Content-Encoding `{encoding}` is not decoded; send plain JSON)"
            ));
        }
        Refusal::new(status, reason)
    })
}

/// Form parameters of the body count as well, and then it is not the event's body: so does the
/// servlet API when parameters are asked for before the stream.
fn morphline_event(request: &Parts, body: &Bytes) -> Batch {
    let mut headers = HeadersBuilder::default();
    let content_type = content_type(request);
    if let Some(content_type) = &content_type {
        headers.set("Content-Type", content_type);
    }
    let mut parameters = HeadersBuilder::default();
    add_parameters(request.uri.query().unwrap_or(""), &mut parameters);
    let is_form = content_type.is_some_and(|content_type| {
        let media = content_type.split(';').next().unwrap_or("").trim();
        media.eq_ignore_ascii_case("application/x-www-form-urlencoded")
    });
    if is_form {
        add_parameters(&String::from_utf8_lossy(body), &mut parameters);
    }
    for (name, value) in &parameters.finish() {
        headers.set(name, value);
    }
    one_event(
        headers.finish(),
        if is_form { Bytes::new() } else { body.clone() },
    )
}

fn one_event(headers: flafka_flow::Headers, body: Bytes) -> Batch {
    Batch::from_events([Event { headers, body }])
}

fn content_type(request: &Parts) -> Option<String> {
    let value = request.headers.get(CONTENT_TYPE)?;
    Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
}

/// The `charset` parameter of the content type, without quotes.
fn charset_parameter(request: &Parts) -> Option<String> {
    let content_type = content_type(request)?;
    let parameter = content_type.split(';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("charset").then_some(value)
    })?;
    Some(parameter.trim().trim_matches(['"', '\'']).to_owned())
}
