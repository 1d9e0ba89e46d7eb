//! Kafka's own command-line tools 4.3.1, and with them the Java client: topics, configs, console producer and consumer,
//! consumer groups, offsets, performance, and the segment files through `DumpLogSegments`.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flafka_tests::flafka;
use flafka_tests::kafka_client::{NewRecord, create_topic, produce, produce_with, unique_name};
use flafka_tests::log_server::LogServer;
use flafka_tests::process::run;
use flafka_tests::real::JavaTool;
use flafka_tests::runner::Case;
use serde_json::Value;

pub(crate) fn cases() -> Vec<Case<LogServer>> {
    vec![
        Case::new("java_tools::broker_api_versions", |log: &LogServer| {
            let printed =
                JavaTool::BROKER_API_VERSIONS.run(&["--bootstrap-server", log.bootstrap()], b"")?;
            ensure!(
                printed.contains("Produce(0)") && printed.contains("Fetch(1)"),
                "{printed}"
            );
            Ok(())
        }),
        Case::new(
            "java_tools::topics_create_list_describe_delete",
            |log: &LogServer| {
                let topic = unique_name("java");
                let tool = |arguments: &[&str]| {
                    let all = [&["--bootstrap-server", log.bootstrap()], arguments].concat();
                    JavaTool::TOPICS.run(&all, b"")
                };
                tool(&[
                    "--create",
                    "--topic",
                    &topic,
                    "--partitions",
                    "3",
                    "--config",
                    "retention.ms=3600000",
                ])?;
                ensure!(
                    tool(&["--list"])?.lines().any(|line| line == topic),
                    "the topic is not listed"
                );
                let described = tool(&["--describe", "--topic", &topic])?;
                ensure!(described.contains("PartitionCount: 3"), "{described}");
                ensure!(described.contains("retention.ms=3600000"), "{described}");
                ensure!(described.matches("Leader: ").count() == 3, "{described}");
                tool(&["--delete", "--topic", &topic])?;
                Ok(())
            },
        ),
        Case::new("java_tools::configs_describe", |log: &LogServer| {
            let topic = unique_name("java-configs");
            create_topic(log.bootstrap(), &topic, 1)?;
            let topics = [
                "--bootstrap-server",
                log.bootstrap(),
                "--entity-type",
                "topics",
                "--entity-name",
                &topic,
            ];
            let described =
                JavaTool::CONFIGS.run(&[&topics[..], &["--describe", "--all"]].concat(), b"")?;
            ensure!(described.contains("cleanup.policy=delete"), "{described}");
            Ok(())
        }),
        Case::new(
            "java_tools::console_producer_and_consumer_with_a_group",
            |log: &LogServer| {
                let topic = unique_name("java-console");
                create_topic(log.bootstrap(), &topic, 2)?;
                let lines: String = (0..200).map(|n| format!("key-{n}:value {n}\n")).collect();
                let keyed = [
                    "--reader-property",
                    "parse.key=true",
                    "--reader-property",
                    "key.separator=:",
                ];
                let target = ["--bootstrap-server", log.bootstrap(), "--topic", &topic];
                JavaTool::CONSOLE_PRODUCER
                    .run(&[&target[..], &keyed[..]].concat(), lines.as_bytes())?;
                let read = console_consumer(log, &topic, 200)?;
                let mut expected: Vec<&str> = lines.lines().collect();
                expected.sort_unstable();
                ensure!(
                    read == expected,
                    "{} of 200 lines came back as they were",
                    read.len()
                );
                Ok(())
            },
        ),
        Case::new(
            "java_tools::consumer_groups_list_describe_reset_delete",
            |log: &LogServer| {
                let topic = unique_name("java-groups");
                create_topic(log.bootstrap(), &topic, 1)?;
                let records: Vec<_> = (0..30)
                    .map(|n| NewRecord::value(n.to_string()).with_key("k"))
                    .collect();
                produce(log.bootstrap(), &topic, &records)?;
                console_consumer(log, &topic, 30)?;
                let tool = |arguments: &[&str]| {
                    let all = [&["--bootstrap-server", log.bootstrap()], arguments].concat();
                    JavaTool::CONSUMER_GROUPS.run(&all, b"")
                };
                ensure!(
                    tool(&["--list"])?.lines().any(|line| line == topic),
                    "the group is not listed"
                );
                ensure!(
                    row(&tool(&["--describe", "--group", &topic])?, &topic)? == ["30", "30", "0"],
                    "after reading"
                );
                let state = tool(&["--describe", "--group", &topic, "--state"])?;
                ensure!(state.contains("Empty"), "{state}");
                tool(&[
                    "--reset-offsets",
                    "--group",
                    &topic,
                    "--topic",
                    &topic,
                    "--to-offset",
                    "12",
                    "--execute",
                ])?;
                ensure!(
                    row(&tool(&["--describe", "--group", &topic])?, &topic)? == ["12", "30", "18"],
                    "after the reset"
                );
                ensure!(
                    console_consumer(log, &topic, 18)?.len() == 18,
                    "not 18 records after the reset"
                );
                tool(&["--delete", "--group", &topic])?;
                ensure!(
                    !tool(&["--list"])?.lines().any(|line| line == topic),
                    "the deleted group is listed"
                );
                Ok(())
            },
        ),
        Case::new("java_tools::offsets_by_time", |log: &LogServer| {
            let topic = unique_name("java-offsets");
            create_topic(log.bootstrap(), &topic, 2)?;
            let records: Vec<_> = (0..10)
                .map(|n| {
                    NewRecord::value("v")
                        .to_partition(0)
                        .at(1_700_000_000_000 + n)
                })
                .collect();
            produce(log.bootstrap(), &topic, &records)?;
            let times = [
                ("-2", "0", "0"),
                ("-1", "10", "0"),
                ("1700000000004", "4", "0"),
                ("-3", "9", "-1"),
            ];
            for (time, first, second) in times {
                let arguments = [
                    "--bootstrap-server",
                    log.bootstrap(),
                    "--topic",
                    &topic,
                    "--time",
                    time,
                ];
                let printed = JavaTool::GET_OFFSETS.run(&arguments, b"")?;
                ensure!(
                    printed.contains(&format!("{topic}:0:{first}\n")),
                    "time {time}: {printed}"
                );
                // A partition without an answer is shown as -1, with an empty offset, or not at all.
                let known = second == "0" && !time.starts_with("17");
                ensure!(
                    !known || printed.contains(&format!("{topic}:1:{second}\n")),
                    "time {time}: {printed}"
                );
            }
            Ok(())
        }),
        Case::new("java_tools::producer_performance", |log: &LogServer| {
            let topic = unique_name("java-performance");
            create_topic(log.bootstrap(), &topic, 1)?;
            let target = ["--bootstrap-server", log.bootstrap(), "--topic", &topic];
            let load = [
                "--num-records",
                "50000",
                "--record-size",
                "100",
                "--throughput",
                "-1",
            ];
            let printed =
                JavaTool::PRODUCER_PERFORMANCE.run(&[&target[..], &load[..]].concat(), b"")?;
            ensure!(printed.contains("50000 records sent"), "{printed}");
            Ok(())
        }),
        Case::new(
            "java_tools::dump_log_segments_reads_the_segment_files",
            dump_log_segments,
        ),
    ]
}

fn dump_log_segments(log: &LogServer) -> Result<()> {
    let topic = unique_name("java-dump");
    create_topic(log.bootstrap(), &topic, 1)?;
    produce(
        log.bootstrap(),
        &topic,
        &[NewRecord::value("first")
            .with_key("k")
            .with_header("h", "x")
            .at(5)],
    )?;
    for codec in ["gzip", "snappy", "lz4", "zstd"] {
        let records: Vec<_> = (0..50)
            .map(|n| NewRecord::value(format!("{codec} line {n}")))
            .collect();
        produce_with(
            &[("compression.type", codec)],
            log.bootstrap(),
            &topic,
            &records,
        )?;
    }
    let segments = log.segments(&topic, 0)?;
    let mut records = 0;
    let mut all = String::new();
    for segment in segments {
        let path = segment.display().to_string();
        let printed = JavaTool::DUMP_LOG.run(
            &["--files", &path, "--print-data-log", "--deep-iteration"],
            b"",
        )?;
        ensure!(
            !printed.contains("isvalid: false") && !printed.contains("invalid"),
            "{printed}"
        );
        records += printed.matches("| offset: ").count();
        agrees_with_log_dump(&path, &printed)?;
        all.push_str(&printed);
    }
    ensure!(
        records == 201,
        "{records} records of 201 are in the segments\n{all}"
    );
    for expected in [
        "keySize: 1",
        "headerKeys: [h]",
        "payload: first",
        "compresscodec: zstd",
        "payload: lz4 line 49",
    ] {
        ensure!(all.contains(expected), "{expected} is missing\n{all}");
    }
    Ok(())
}

/// `flafka log dump` sees the same batches in a segment as Kafka's tool.
fn agrees_with_log_dump(segment: &str, printed: &str) -> Result<()> {
    let field = |line: &str, name: &str| -> Result<String> {
        let marker = format!("{name}: ");
        let (_, rest) = line
            .split_once(&marker)
            .with_context(|| format!("no {name} in {line}"))?;
        Ok(rest.split(' ').next().unwrap_or_default().to_owned())
    };
    let mut command = flafka::command(&["log", "dump", "--json", "--records"])?;
    command.arg(segment);
    let ours = run("flafka log dump", command, b"", Duration::from_secs(60))?;
    let ours = ours.success("flafka log dump")?.stdout;
    let mut ours = ours.lines();
    for line in printed
        .lines()
        .filter(|line| line.starts_with("baseOffset: "))
    {
        let batch = ours
            .next()
            .with_context(|| format!("{line} is missing in our dump"))?;
        let batch: Value = serde_json::from_str(batch).context("our dump is no JSON")?;
        for (theirs, name) in [
            ("baseOffset", "base_offset"),
            ("lastOffset", "last_offset"),
            ("count", "records_count"),
            ("position", "position"),
            ("size", "bytes"),
            ("crc", "crc"),
            ("partitionLeaderEpoch", "leader_epoch"),
            ("producerId", "producer_id"),
            ("baseSequence", "base_sequence"),
            ("isControl", "control"),
            ("compresscodec", "codec"),
        ] {
            let (theirs, ours) = (field(line, theirs)?, batch[name].to_string());
            ensure!(
                theirs == ours.trim_matches('"'),
                "{name} is {ours}, Kafka says {theirs}: {line}"
            );
        }
        let records = batch["records"].as_array().map_or(0, Vec::len).to_string();
        ensure!(
            records == field(line, "count")?,
            "{records} records in {batch}"
        );
    }
    ensure!(ours.next().is_none(), "our dump has more batches");
    Ok(())
}

/// Lines `key:value`, sorted, that the console consumer reads as a member of the group called like its topic.
fn console_consumer(log: &LogServer, topic: &str, count: usize) -> Result<Vec<String>> {
    let count = count.to_string();
    let mut arguments = vec![
        "--bootstrap-server",
        log.bootstrap(),
        "--topic",
        topic,
        "--group",
        topic,
    ];
    arguments.extend([
        "--from-beginning",
        "--max-messages",
        &count,
        "--timeout-ms",
        "60000",
    ]);
    arguments.extend([
        "--formatter-property",
        "print.key=true",
        "--formatter-property",
        "key.separator=:",
    ]);
    let printed = JavaTool::CONSOLE_CONSUMER.run(&arguments, b"")?;
    let mut lines: Vec<String> = printed.lines().map(str::to_owned).collect();
    lines.sort_unstable();
    Ok(lines)
}

/// Current offset, log end offset and lag of the one partition in a described group.
fn row<'a>(described: &'a str, topic: &str) -> Result<Vec<&'a str>> {
    let line = described
        .lines()
        .find(|line| line.split_whitespace().nth(1) == Some(topic));
    let columns = line
        .with_context(|| format!("no row for {topic}\n{described}"))?
        .split_whitespace();
    Ok(columns.skip(3).take(3).collect())
}
