//! The interceptors: timestamp, host, static, uuid (Flume reference 2.7).
//!
//! They run on the source's task, batch in and batch out. Those that set the same header on all
//! events touch the distinct header sets of a batch only, not its events.

use flafka_flow::Batch;
use flafka_flow::registry::InterceptorEntry;

pub mod host;
pub mod static_header;
pub mod timestamp;
pub mod uuid;

/// Every interceptor of this crate.
pub const INTERCEPTORS: &[InterceptorEntry] = &[
    InterceptorEntry::of::<timestamp::TimestampInterceptorFactory>(),
    InterceptorEntry::of::<host::HostInterceptorFactory>(),
    InterceptorEntry::of::<static_header::StaticInterceptorFactory>(),
    InterceptorEntry::of::<uuid::UuidInterceptorFactory>(),
];

/// Sets one header to the same value on all events; those that have it keep theirs when
/// `preserve_existing`.
fn set_header(batch: Batch, name: &str, value: &str, preserve_existing: bool) -> Batch {
    batch.map_header_sets(|headers| {
        if preserve_existing && headers.get(name).is_some() {
            headers.clone()
        } else {
            headers.with(name, value)
        }
    })
}

#[cfg(test)]
mod tests;
