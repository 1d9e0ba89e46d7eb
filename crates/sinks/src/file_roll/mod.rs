//! The file_roll sink: events into files of a local directory, a new file at each interval
//! (Flume reference 2.5).
//!
//! `config` reads the keys, `names` makes the file names, `output` is one file with what is
//! committed in it, `sink` takes, serializes, writes and commits.
//!
//! What a reader may rely on: a file holds whole events only, except that the last file of a
//! process that was killed may end in events that were not committed, the very last of them
//! possibly cut; those come again in the next file.

mod config;
mod names;
mod output;
mod sink;

use std::sync::Arc;

pub use config::{FileRollSinkConfig, PathManager};
use flafka_flow::channel::Channel;
use flafka_flow::registry::{BuildContext, BuildError, SinkFactory, TypeNames};
use flafka_flow::sink::Sink;

/// Makes file_roll sinks.
pub struct FileRollSinkFactory;

impl SinkFactory for FileRollSinkFactory {
    type Config = FileRollSinkConfig;
    const NAMES: TypeNames = TypeNames {
        alias: Some("file_roll"),
        also: &[],
        classes: &["org.apache.flume.sink.RollingFileSink"],
    };

    fn build(
        config: FileRollSinkConfig,
        channel: Arc<dyn Channel>,
        context: &BuildContext,
    ) -> Result<Box<dyn Sink>, BuildError> {
        let open = Box::new(output::create_file);
        Ok(Box::new(sink::FileRollSink::new(
            config, channel, context, open,
        )))
    }

    fn batch_size(config: &FileRollSinkConfig) -> Option<usize> {
        Some(config.batch_size.0)
    }
}

#[cfg(test)]
mod tests;
