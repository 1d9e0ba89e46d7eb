//! Old records go: `kafka-delete-records.sh`, and compaction as Java, librdkafka and `DumpLogSegments` see it.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};
use flafka_tests::kafka_client::{
    NewRecord, create_topic, create_topic_with, produce, read_with_gaps, unique_name,
};
use flafka_tests::log_server::LogServer;
use flafka_tests::poll;
use flafka_tests::real::{JavaTool, kcat};
use flafka_tests::runner::Case;
use rdkafka::admin::{NewTopic, TopicReplication};

/// Longer than the cleaner's pause between two looks takes.
const LIMIT: Duration = Duration::from_secs(120);
const KEYS: usize = 20;

pub(crate) fn cases() -> Vec<Case<LogServer>> {
    vec![
        Case::new(
            "old_records::kafka_delete_records_moves_the_start",
            delete_records,
        ),
        Case::new(
            "old_records::compaction_keeps_the_newest_of_each_key",
            compaction,
        ),
    ]
}

fn delete_records(log: &LogServer) -> Result<()> {
    let topic = unique_name("java-delete");
    create_topic(log.bootstrap(), &topic, 2)?;
    for partition in 0..2 {
        let records: Vec<_> = (0..10)
            .map(|n| NewRecord::value(n.to_string()).to_partition(partition))
            .collect();
        produce(log.bootstrap(), &topic, &records)?;
    }
    let file = log.directory().join(format!("{topic}.json"));
    let delete = |offsets: [i64; 2]| -> Result<String> {
        let partitions: Vec<String> = offsets
            .iter()
            .enumerate()
            .map(|(partition, offset)| {
                format!("{{\"topic\":\"{topic}\",\"partition\":{partition},\"offset\":{offset}}}")
            })
            .collect();
        let text = format!(
            "{{\"partitions\":[{}],\"version\":1}}",
            partitions.join(",")
        );
        fs::write(&file, text)?;
        let path = file.display().to_string();
        let arguments = [
            "--bootstrap-server",
            log.bootstrap(),
            "--offset-json-file",
            &path,
        ];
        JavaTool::DELETE_RECORDS.run(&arguments, b"")
    };
    let starts = || -> Result<String> {
        let arguments = [
            "--bootstrap-server",
            log.bootstrap(),
            "--topic",
            &topic,
            "--time",
            "-2",
        ];
        JavaTool::GET_OFFSETS.run(&arguments, b"")
    };
    let printed = delete([4, -1])?;
    for (partition, low) in [(0, 4), (1, 10)] {
        let expected = format!("partition: {topic}-{partition}\tlow_watermark: {low}");
        ensure!(printed.contains(&expected), "{printed}");
    }
    let printed = starts()?;
    ensure!(
        printed.contains(&format!("{topic}:0:4")) && printed.contains(&format!("{topic}:1:10")),
        "{printed}"
    );
    // Below the start nothing changes; beyond the end it is refused.
    let printed = delete([2, 99])?;
    ensure!(
        printed.contains(&format!("{topic}-0\tlow_watermark: 4")),
        "{printed}"
    );
    ensure!(printed.contains("OffsetOutOfRange"), "{printed}");
    Ok(())
}

fn compaction(log: &LogServer) -> Result<()> {
    let topic = unique_name("compacted");
    let new = NewTopic::new(&topic, 1, TopicReplication::Fixed(1))
        .set("cleanup.policy", "compact")
        .set("segment.ms", "1")
        .set("min.cleanable.dirty.ratio", "0.01");
    create_topic_with(log.bootstrap(), new)?;
    let keyless = produce(
        log.bootstrap(),
        &topic,
        &[NewRecord::value("without a key")],
    );
    ensure!(keyless.is_err(), "a record without a key is taken");
    let mut newest = BTreeMap::new();
    let mut written = 0;
    for round in 0..10 {
        let mut records = Vec::new();
        for key in 0..KEYS {
            let (key, value) = (format!("key {key}"), format!("round {round}"));
            newest.insert(key.clone(), (written, value.clone()));
            written += 1;
            records.push(
                NewRecord::value(value)
                    .with_key(key)
                    .at(1_700_000_000_000 + written),
            );
        }
        produce(log.bootstrap(), &topic, &records)?;
    }
    let records = poll::until("the topic is compacted", LIMIT, || {
        let records = read_with_gaps(log.bootstrap(), &topic, LIMIT)?;
        // All but the segment that grows.
        Ok((records.len() <= 3 * KEYS).then_some(records))
    })?;
    let mut found = BTreeMap::new();
    for record in &records {
        let key = String::from_utf8(record.key.clone().unwrap_or_default())?;
        found.insert(key, (record.offset, record.text()));
    }
    ensure!(found == newest, "{found:?}\n{newest:?}");
    let first = records.first().map_or(0, |record| record.offset);
    ensure!(first > 0, "the first record is still there");
    // A group of the Java client, a time in the gap, the old librdkafka.
    let count = records.len().to_string();
    let printed = JavaTool::CONSOLE_CONSUMER.run(
        &[
            "--bootstrap-server",
            log.bootstrap(),
            "--topic",
            &topic,
            "--from-beginning",
            "--max-messages",
            &count,
            "--timeout-ms",
            "60000",
        ],
        b"",
    )?;
    ensure!(printed.lines().count() == records.len(), "{printed}");
    let arguments = [
        "--bootstrap-server",
        log.bootstrap(),
        "--topic",
        &topic,
        "--time",
        "1700000000001",
    ];
    let printed = JavaTool::GET_OFFSETS.run(&arguments, b"")?;
    ensure!(printed.contains(&format!("{topic}:0:{first}")), "{printed}");
    let old = [
        "-b",
        log.bootstrap(),
        "-C",
        "-t",
        &topic,
        "-e",
        "-q",
        "-f",
        "%o\n",
    ];
    let offsets: Vec<i64> = kcat(&old, b"")?
        .lines()
        .map(str::parse)
        .collect::<Result<_, _>>()?;
    let expected: Vec<i64> = records.iter().map(|record| record.offset).collect();
    ensure!(
        offsets == expected,
        "kcat read {offsets:?}\nexpected {expected:?}"
    );
    let mut dumped = 0;
    for segment in log.segments(&topic, 0)? {
        let path = segment.display().to_string();
        let arguments = ["--files", &path, "--print-data-log", "--deep-iteration"];
        let printed = JavaTool::DUMP_LOG.run(&arguments, b"")?;
        ensure!(
            !printed.contains("isvalid: false") && !printed.contains("invalid"),
            "{printed}"
        );
        dumped += printed.matches("| offset: ").count();
    }
    ensure!(
        dumped >= records.len(),
        "{dumped} records are in the segments"
    );
    Ok(())
}
