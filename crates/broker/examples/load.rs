//! One librdkafka producer at full speed: idempotent, `acks=all`, `linger.ms=5`, 200-byte records, one partition.
//! `cargo run --release -p flafka-broker --example load -- 127.0.0.1:9092 load 5000000 [broker-pid] [key=value …]`
//!
//! Prints records and bytes a second, and, given the broker's process id, what it cost the broker (CPU seconds a
//! gigabyte, resident memory).
#![expect(clippy::print_stdout, reason = "a tool for the terminal")]

use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};

const RECORD_BYTES: usize = 200;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let argument = |index: usize, default: &str| {
        arguments
            .get(index)
            .cloned()
            .unwrap_or_else(|| default.to_owned())
    };
    let topic = argument(1, "load");
    let count: u64 = argument(2, "5000000").parse()?;
    let broker = argument(3, "");
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", argument(0, "127.0.0.1:9092"))
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("linger.ms", "5")
        .set("queue.buffering.max.messages", "1000000")
        .set("queue.buffering.max.kbytes", "262144");
    for pair in arguments.iter().skip(4) {
        let (key, value) = pair.split_once('=').ok_or("settings are key=value")?;
        config.set(key, value);
    }
    let producer: ThreadedProducer<DefaultProducerContext> = config.create()?;
    let payload = vec![b'x'; RECORD_BYTES];
    let cpu_before = cpu_seconds(&broker);
    let started = Instant::now();
    for _ in 0..count {
        let mut record = BaseRecord::<(), [u8]>::to(&topic)
            .payload(&payload)
            .partition(0);
        while let Err((error, back)) = producer.send(record) {
            if !matches!(
                error,
                KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)
            ) {
                return Err(error.into());
            }
            std::thread::sleep(Duration::from_millis(1));
            record = back;
        }
    }
    producer.flush(Duration::from_secs(120))?;
    let seconds = started.elapsed().as_secs_f64();
    let gigabytes = (count * RECORD_BYTES as u64) as f64 / 1e9;
    println!(
        "{:.0} records/s  {:.1} MB/s  {seconds:.2} s",
        count as f64 / seconds,
        gigabytes * 1e3 / seconds
    );
    if let (Some(before), Some(after)) = (cpu_before, cpu_seconds(&broker)) {
        let status = std::fs::read_to_string(format!("/proc/{broker}/status"))?;
        let memory = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name));
            line.map_or("?", |line| line[name.len()..].trim())
        };
        println!(
            "broker: {:.2} CPU-s  {:.2} CPU-s/GB  VmRSS {}  VmHWM {}",
            after - before,
            (after - before) / gigabytes,
            memory("VmRSS:"),
            memory("VmHWM:"),
        );
    }
    Ok(())
}

/// User and system time of a process so far; `None` without a process id.
fn cpu_seconds(pid: &str) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold blanks.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: f64 = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
    Some(ticks / 100.0)
}
