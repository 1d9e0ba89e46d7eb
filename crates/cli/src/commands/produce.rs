//! `flafka produce`: lines to records, acknowledged before the command ends.

use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal, Read};
use std::time::{Duration, Instant};

use anyhow::Context;
use flafka_kafka_client::{BatchProducer, OutRecord, Role};

use super::kafka;
use crate::arguments::ProduceOptions;
use crate::exit::{Ending, Outcome, complain, counted};

/// Lines sent and acknowledged together.
const BATCH_LINES: usize = 5_000;
/// Bytes of a batch after which no more lines are added.
const BATCH_BYTES: usize = 8 << 20;

pub(crate) fn run(options: ProduceOptions) -> Outcome {
    let input: Box<dyn Read> = match &options.file {
        None => Box::new(std::io::stdin()),
        Some(path) => {
            Box::new(File::open(path).with_context(|| format!("open {}", path.display()))?)
        }
    };
    let defaults = [
        ("acks", "all"),
        ("enable.idempotence", "true"),
        ("linger.ms", "5"),
    ];
    let config = kafka::config(Role::Producer, &options.client, &defaults)?;
    let runtime = kafka::runtime()?;
    let producer = BatchProducer::new(&config)?;
    let mut progress = Progress::new();
    let mut lines = BufReader::with_capacity(1 << 20, input);
    loop {
        let batch = read_batch(&mut lines).context("read lines")?;
        if batch.is_empty() {
            break;
        }
        let records = batch.iter().map(|line| record(&options, line));
        let acknowledged = progress.records;
        runtime
            .block_on(producer.send_all(records))
            .with_context(|| {
                format!(
                    "{} acknowledged before",
                    counted(acknowledged as u64, "record")
                )
            })?;
        progress.add(batch.len());
    }
    runtime.block_on(producer.close(Duration::from_secs(10)));
    progress.finish();
    Ok(Ending::Done)
}

fn read_batch(lines: &mut impl BufRead) -> std::io::Result<Vec<Vec<u8>>> {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    while batch.len() < BATCH_LINES && bytes < BATCH_BYTES {
        let mut line = Vec::new();
        if lines.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        bytes += line.len();
        batch.push(line);
    }
    Ok(batch)
}

fn record<'a>(options: &'a ProduceOptions, line: &'a [u8]) -> OutRecord<'a> {
    let separator = options
        .key_separator
        .as_deref()
        .map(str::as_bytes)
        .filter(|text| !text.is_empty());
    let split = separator.and_then(|text| {
        line.windows(text.len())
            .position(|window| window == text)
            .map(|at| (at, text.len()))
    });
    let (key, value) = match split {
        Some((at, length)) => (Some(&line[..at]), &line[at + length..]),
        None => (None, line),
    };
    OutRecord {
        topic: &options.topic,
        partition: options.partition,
        key,
        value,
        ..OutRecord::default()
    }
}

/// Says on a terminal how far it is, and at the end how much it was.
struct Progress {
    started: Instant,
    shown: Instant,
    records: usize,
    terminal: bool,
}

impl Progress {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            started: now,
            shown: now,
            records: 0,
            terminal: std::io::stderr().is_terminal(),
        }
    }

    fn add(&mut self, records: usize) {
        self.records += records;
        if self.terminal && self.shown.elapsed() > Duration::from_secs(1) {
            self.shown = Instant::now();
            complain(&format!(
                "{} acknowledged",
                counted(self.records as u64, "record")
            ));
        }
    }

    fn finish(&self) {
        let seconds = self.started.elapsed().as_secs_f64();
        complain(&format!(
            "{} acknowledged in {seconds:.1} s",
            counted(self.records as u64, "record")
        ));
    }
}
