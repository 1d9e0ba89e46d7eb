//! The sources: what feeds events into an agent's channels (Flume reference 2.2).
//!
//! [`SOURCES`] is the one list of them. A source advances its own state only after its put has
//! returned; what each promises beyond that stands in its module.

pub mod charset;
mod complaints;
pub mod deserializers;
mod durable_file;
pub mod exec;
pub mod http;
pub mod kafka;
mod listen;
mod name_pattern;
pub mod netcat;
mod plain_file;
mod read_buffer;
mod retry;
pub mod seq;
pub mod spool_dir;
pub mod tail_dir;
pub mod tls;

use flafka_flow::registry::{Description, SourceEntry};

/// Every source of this crate.
pub const SOURCES: &[SourceEntry] = &[
    SourceEntry::of::<exec::ExecSourceFactory>(),
    SourceEntry::of::<http::HttpSourceFactory>(),
    SourceEntry::of::<kafka::KafkaSourceFactory>(),
    SourceEntry::of::<netcat::NetcatSourceFactory>(),
    SourceEntry::of::<seq::SeqSourceFactory>(),
    SourceEntry::of::<spool_dir::SpooldirSourceFactory>(),
    SourceEntry::of::<tail_dir::TaildirSourceFactory>(),
];

/// Every event deserializer of the spooldir source.
pub const DESERIALIZERS: &[Description] = deserializers::DESERIALIZERS;

/// Every request handler of the http source.
pub const HANDLERS: &[Description] = http::HANDLERS;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use flafka_flow::settings::{Absent, Report, Section};

    use super::*;

    #[test]
    fn every_source_is_documented_and_refuses_unknown_keys() {
        let mut names = BTreeSet::new();
        for source in SOURCES {
            let description = source.description;
            for name in description.names.all() {
                assert!(names.insert(name.to_ascii_lowercase()), "{name} twice");
            }
            let main = description.names.main();
            assert!(!description.docs.is_empty(), "{main} has no docs");
            for field in (description.fields)() {
                assert!(!field.docs.is_empty(), "{main}.{} has no docs", field.key);
                let Absent::Value(default) = &field.default else {
                    continue;
                };
                let mut report = Report::new();
                let section = Section::of("a1.sources.r1", [(field.key, default.as_str())]);
                let _batch_size = (source.check)(&section, &mut report);
                let key = format!("a1.sources.r1.{}", field.key);
                let refused = report.problems().iter().find(|problem| problem.key == key);
                assert!(refused.is_none(), "{main}: default of {key}: {refused:?}");
            }
            let mut report = Report::new();
            let _batch_size = (source.check)(
                &Section::of("a1.sources.r1", [("zzUnknown", "1")]),
                &mut report,
            );
            let unknown = report
                .problems()
                .iter()
                .any(|problem| problem.message.contains("unknown key"));
            assert!(unknown, "{main} accepts unknown keys");
        }
    }
}
