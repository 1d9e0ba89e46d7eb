//! The agent under test, as a flume.conf.

use std::path::Path;

/// Events of one batch of the sink: what a kill of the agent may repeat at the most on that side.
pub(crate) const SINK_BATCH: usize = 200;
/// Lines of one put of taildir.
pub(crate) const TAIL_BATCH: usize = 100;
/// The topic.
pub(crate) const TOPIC: &str = "survivors";

/// http and taildir → one file channel → kafka sink, unless `sink` is false; everything below `folder`, and Flume's
/// defaults.
pub(crate) fn text(folder: &Path, http: u16, bootstrap: &str, sink: bool) -> String {
    text_with(folder, http, bootstrap, sink, "fsync", 524_288_000)
}

/// [`text`] where a put is acknowledged as `durability` says (`fsync`, `interval:<ms>`, `os`) and `minimum` bytes stay
/// free on the volume.
pub(crate) fn text_with(
    folder: &Path,
    http: u16,
    bootstrap: &str,
    sink: bool,
    durability: &str,
    minimum: u64,
) -> String {
    let folder = folder.display();
    let sinks = if sink { "k1" } else { "" };
    let mut text = format!(
        "a1.sources = web tail\n\
         a1.channels = c1\n\
         a1.sinks = {sinks}\n\
         a1.sources.web.type = http\n\
         a1.sources.web.bind = 127.0.0.1\n\
         a1.sources.web.port = {http}\n\
         a1.sources.web.channels = c1\n\
         a1.sources.tail.type = taildir\n\
         a1.sources.tail.filegroups = all\n\
         a1.sources.tail.filegroups.all = {folder}/logs/.*\n\
         a1.sources.tail.positionFile = {folder}/positions.json\n\
         a1.sources.tail.batchSize = {TAIL_BATCH}\n\
         a1.sources.tail.channels = c1\n\
         a1.channels.c1.type = file\n\
         a1.channels.c1.dataDirs = {folder}/channel\n\
         a1.channels.c1.capacity = 4000000\n\
         a1.channels.c1.transactionCapacity = 1000\n\
         a1.channels.c1.flafka.durability = {durability}\n\
         a1.channels.c1.minimumRequiredSpace = {minimum}\n"
    );
    if sink {
        text.push_str(&format!(
            "a1.sinks.k1.type = org.apache.flume.sink.kafka.KafkaSink\n\
             a1.sinks.k1.channel = c1\n\
             a1.sinks.k1.kafka.bootstrap.servers = {bootstrap}\n\
             a1.sinks.k1.kafka.topic = {TOPIC}\n\
             a1.sinks.k1.flumeBatchSize = {SINK_BATCH}\n"
        ));
    }
    text
}
