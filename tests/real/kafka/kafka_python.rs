//! kafka-python 3.0.12, a client that shares no code with the others: admin, produce, group.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use flafka_tests::kafka_client::{create_topic, unique_name};
use flafka_tests::log_server::LogServer;
use flafka_tests::real::python;
use flafka_tests::runner::Case;
use serde_json::Value;

pub(crate) fn cases() -> Vec<Case<LogServer>> {
    vec![
        Case::new(
            "kafka_python::admin_creates_lists_and_deletes",
            |log: &LogServer| {
                let printed = python(
                    "admin.py",
                    &[log.bootstrap(), &unique_name("python-admin"), "2"],
                    b"",
                )?;
                ensure!(printed == "created and deleted\n", "{printed}");
                Ok(())
            },
        ),
        Case::new(
            "kafka_python::plain_producer_and_group",
            |log: &LogServer| produce_and_consume(log, "plain"),
        ),
        Case::new(
            "kafka_python::idempotent_producer_and_group",
            |log: &LogServer| produce_and_consume(log, "idempotent"),
        ),
    ]
}

fn produce_and_consume(log: &LogServer, mode: &str) -> Result<()> {
    let topic = unique_name("python");
    create_topic(log.bootstrap(), &topic, 2)?;
    let written = json_lines(&python(
        "produce.py",
        &[log.bootstrap(), &topic, "300", mode],
        b"",
    )?)?;
    let places: BTreeSet<_> = written.iter().map(place).collect::<Result<_>>()?;
    ensure!(
        places.len() == 300,
        "300 records got {} different places",
        places.len()
    );
    // In two steps: the second member must go on where the first has committed.
    let mut numbers = BTreeSet::new();
    for count in ["100", "200"] {
        for record in json_lines(&python(
            "consume_group.py",
            &[log.bootstrap(), &topic, &topic, count],
            b"",
        )?)? {
            ensure!(
                places.contains(&place(&record)?),
                "{record} was never written"
            );
            let number = record["headers"][0][1]
                .as_str()
                .with_context(|| format!("{record} has no header"))?;
            let matches = record["key"] == format!("key-{number}")
                && record["value"] == format!("value-{number}");
            ensure!(matches, "{record}");
            ensure!(numbers.insert(number.to_owned()), "{record} came twice");
        }
    }
    ensure!(
        numbers.len() == 300,
        "{} of 300 records came",
        numbers.len()
    );
    Ok(())
}

fn json_lines(text: &str) -> Result<Vec<Value>> {
    text.lines()
        .map(|line| serde_json::from_str(line).with_context(|| format!("no JSON: {line}")))
        .collect()
}

fn place(record: &Value) -> Result<(i64, i64)> {
    let number = |name: &str| {
        record[name]
            .as_i64()
            .with_context(|| format!("{record} has no {name}"))
    };
    Ok((number("partition")?, number("offset")?))
}
