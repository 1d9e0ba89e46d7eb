//! Debian's kcat, an old librdkafka: list, produce, consume, group, offsets by time.

use anyhow::{Result, ensure};
use flafka_tests::kafka_client::{create_topic, unique_name};
use flafka_tests::log_server::LogServer;
use flafka_tests::real::kcat;
use flafka_tests::runner::Case;

pub(crate) fn cases() -> Vec<Case<LogServer>> {
    vec![
        Case::new("kcat::lists_brokers_and_topics", |log: &LogServer| {
            let topic = unique_name("kcat");
            create_topic(log.bootstrap(), &topic, 3)?;
            let listed = kcat(&["-b", log.bootstrap(), "-L"], b"")?;
            ensure!(
                listed.contains(&format!("topic \"{topic}\" with 3 partitions")),
                "{listed}"
            );
            ensure!(
                listed.contains(&format!("at {}", log.bootstrap())),
                "{listed}"
            );
            Ok(())
        }),
        Case::new("kcat::what_is_produced_is_consumed", |log: &LogServer| {
            let topic = unique_name("kcat");
            create_topic(log.bootstrap(), &topic, 1)?;
            let lines: String = (0..1_000).map(|n| format!("key-{n}:value {n}\n")).collect();
            kcat(
                &[
                    "-b",
                    log.bootstrap(),
                    "-P",
                    "-t",
                    &topic,
                    "-K:",
                    "-H",
                    "origin=kcat",
                ],
                lines.as_bytes(),
            )?;
            let format = "%k:%s\n";
            let read = kcat(
                &[
                    "-b",
                    log.bootstrap(),
                    "-C",
                    "-t",
                    &topic,
                    "-e",
                    "-q",
                    "-f",
                    format,
                ],
                b"",
            )?;
            ensure!(
                read == lines,
                "{} bytes came back for {}",
                read.len(),
                lines.len()
            );
            let one = kcat(
                &[
                    "-b",
                    log.bootstrap(),
                    "-C",
                    "-t",
                    &topic,
                    "-o",
                    "7",
                    "-c",
                    "1",
                    "-q",
                    "-f",
                    "%o %h",
                ],
                b"",
            )?;
            ensure!(one == "7 origin=kcat", "{one}");
            let last = kcat(
                &[
                    "-b",
                    log.bootstrap(),
                    "-C",
                    "-t",
                    &topic,
                    "-o",
                    "-1",
                    "-e",
                    "-q",
                    "-f",
                    "%o",
                ],
                b"",
            )?;
            ensure!(last == "999", "{last}");
            Ok(())
        }),
        Case::new("kcat::every_codec_of_its_own", |log: &LogServer| {
            for codec in ["gzip", "snappy", "lz4", "zstd"] {
                let topic = unique_name(codec);
                create_topic(log.bootstrap(), &topic, 1)?;
                let lines: String = (0..500).map(|n| format!("line {n}\n")).collect();
                kcat(
                    &["-b", log.bootstrap(), "-P", "-t", &topic, "-z", codec],
                    lines.as_bytes(),
                )?;
                let read = kcat(
                    &["-b", log.bootstrap(), "-C", "-t", &topic, "-e", "-q"],
                    b"",
                )?;
                ensure!(
                    read == lines,
                    "{codec}: {} bytes came back for {}",
                    read.len(),
                    lines.len()
                );
            }
            Ok(())
        }),
        Case::new(
            "kcat::a_group_goes_on_where_it_stopped",
            |log: &LogServer| {
                let topic = unique_name("kcat-group");
                create_topic(log.bootstrap(), &topic, 2)?;
                let earliest = "auto.offset.reset=earliest";
                let read = |expected: usize| -> Result<Vec<String>> {
                    let count = expected.to_string();
                    let arguments = [
                        "-b",
                        log.bootstrap(),
                        "-G",
                        &topic,
                        "-X",
                        earliest,
                        "-c",
                        &count,
                        "-q",
                        "-f",
                        "%s\n",
                        &topic,
                    ];
                    let mut lines: Vec<String> =
                        kcat(&arguments, b"")?.lines().map(str::to_owned).collect();
                    lines.sort();
                    Ok(lines)
                };
                let write = |range: std::ops::Range<u32>| -> Result<Vec<String>> {
                    let lines: Vec<String> = range.map(|n| format!("line {n:04}")).collect();
                    for (partition, first) in [("0", 0), ("1", 1)] {
                        let text: String = lines
                            .iter()
                            .skip(first)
                            .step_by(2)
                            .map(|line| format!("{line}\n"))
                            .collect();
                        kcat(
                            &["-b", log.bootstrap(), "-P", "-t", &topic, "-p", partition],
                            text.as_bytes(),
                        )?;
                    }
                    Ok(lines)
                };
                let first = write(0..100)?;
                ensure!(read(100)? == first, "the first hundred differ");
                let second = write(100..150)?;
                ensure!(
                    read(50)? == second,
                    "the group did not go on where it stopped"
                );
                Ok(())
            },
        ),
        Case::new("kcat::asks_for_offsets_by_time", |log: &LogServer| {
            let topic = unique_name("kcat-time");
            create_topic(log.bootstrap(), &topic, 1)?;
            kcat(&["-b", log.bootstrap(), "-P", "-t", &topic], b"a\nb\nc\n")?;
            for (time, expected) in [("0", "offset 0"), ("-1", "offset 3"), ("-2", "offset 0")] {
                let answer = kcat(
                    &[
                        "-b",
                        log.bootstrap(),
                        "-Q",
                        "-t",
                        &format!("{topic}:0:{time}"),
                    ],
                    b"",
                )?;
                ensure!(answer.contains(expected), "time {time}: {answer}");
            }
            Ok(())
        }),
    ]
}
