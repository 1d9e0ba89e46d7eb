//! The list of targets: one for each parser of bytes that are not ours.
//!
//! A target must return on every input: it may refuse, but not panic, abort, hang or allocate by what a length field
//! claims. Where a checksum would keep damaged bytes from the parser behind it, the target runs twice, the second time
//! with the checksum made to fit.

mod avro;
mod config;
mod flume_channel;
mod keystores;
mod log;
mod records;
mod requests;
mod sources;

/// A parser under test.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// The name on the command line and of the corpus folder.
    pub name: &'static str,
    /// What it reads, in a few words.
    pub about: &'static str,
    /// Parses one input.
    pub run: fn(&[u8]),
    /// Inputs to start from, if the corpus folder has none.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All targets, by crate.
pub const TARGETS: &[Target] = &[
    Target {
        name: "record_batches",
        about: "record batches v2 with every codec (kafka_wire)",
        run: records::run,
        seeds: records::seeds,
    },
    Target {
        name: "kafka_requests",
        about: "request frames, headers, guard and bodies of every API and version (kafka_wire)",
        run: requests::run,
        seeds: requests::seeds,
    },
    Target {
        name: "journal_records",
        about: "frames of the commit journal (log_store)",
        run: log::journal_records,
        seeds: log::journal_record_seeds,
    },
    Target {
        name: "checkpoints",
        about: "checkpoints of the log (log_store)",
        run: log::checkpoints,
        seeds: log::checkpoint_seeds,
    },
    Target {
        name: "flume_log_files",
        about: "log files of Flume's file channel, version 3 (flume_channel)",
        run: flume_channel::log_files,
        seeds: flume_channel::log_file_seeds,
    },
    Target {
        name: "flume_small_files",
        about: "metadata, checkpoint and in-flight files of Flume's file channel (flume_channel)",
        run: flume_channel::small_files,
        seeds: flume_channel::small_file_seeds,
    },
    Target {
        name: "properties",
        about: "Java properties files (config)",
        run: config::properties,
        seeds: config::property_seeds,
    },
    Target {
        name: "server_properties",
        about: "server.properties of the embedded log, and its overrides (broker)",
        run: config::server_properties,
        seeds: config::server_property_seeds,
    },
    Target {
        name: "yaml",
        about: "YAML configurations (config)",
        run: config::yaml,
        seeds: config::yaml_seeds,
    },
    Target {
        name: "avro_flume_event",
        about: "AvroFlumeEvent datums (avro_wire)",
        run: avro::flume_event,
        seeds: avro::flume_event_seeds,
    },
    Target {
        name: "avro_container",
        about: "Avro container files with every codec (avro_wire)",
        run: avro::container,
        seeds: avro::container_seeds,
    },
    Target {
        name: "avro_schema",
        about: "Avro schemas as JSON, and datums skipped by them (avro_wire)",
        run: avro::schema,
        seeds: avro::schema_seeds,
    },
    Target {
        name: "http_json",
        about: "requests to the HTTP source's JSON handler, in UTF-8, UTF-16 and UTF-32 (sources)",
        run: sources::http_json,
        seeds: sources::http_json_seeds,
    },
    Target {
        name: "keystores",
        about: "JKS, JCEKS, PKCS#12 and PEM keystores, private and secret keys (keystore)",
        run: keystores::keystores,
        seeds: keystores::keystore_seeds,
    },
    Target {
        name: "taildir_positions",
        about: "position files of Flume's taildir source (sources)",
        run: sources::taildir_positions,
        seeds: sources::taildir_position_seeds,
    },
    Target {
        name: "taildir_journal",
        about: "the taildir source's own journal (sources)",
        run: sources::taildir_journal,
        seeds: sources::taildir_journal_seeds,
    },
    Target {
        name: "spooldir_tracker",
        about: "the spooldir source's tracker file (sources)",
        run: sources::spooldir_tracker,
        seeds: sources::spooldir_tracker_seeds,
    },
];

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;
    use crate::{corpus, mutate};

    #[test]
    fn names_are_unique_and_plain() {
        for (index, target) in TARGETS.iter().enumerate() {
            assert!(
                target
                    .name
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
            );
            assert!(
                TARGETS[..index]
                    .iter()
                    .all(|other| other.name != target.name)
            );
            assert!(
                !target.about.is_empty() && !(target.seeds)().is_empty(),
                "{}",
                target.name
            );
        }
    }

    #[test]
    fn every_target_survives_its_corpus_and_some_damage() {
        for target in TARGETS {
            let seeds = corpus::load(&corpus::default_dir(), target).unwrap();
            for seed in &seeds {
                (target.run)(seed);
            }
            let mut random = SmallRng::seed_from_u64(1);
            let mut input = Vec::new();
            for _ in 0..300 {
                mutate::next_input(&mut random, &seeds, &mut input);
                (target.run)(&input);
            }
        }
    }
}
