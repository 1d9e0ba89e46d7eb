//! Produce and fetch against the embedded log, with one librdkafka client each: idempotent, `acks=all`, `linger.ms=5`,
//! one partition. Records begin with their number, so that what comes out is checked to be every record once, in order.
//!
//! The clients' own start (half a second in which librdkafka waits before it asks again for a producer id or an offset)
//! is not counted: time begins when the first record was acknowledged, or has come.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use rdkafka::{Offset, TopicPartitionList};

use crate::arguments::Arguments;
use crate::process::Process;
use crate::sample::{Cost, Durability, Sample};
use crate::workplace::{Workplace, check, deadline, free_port, wait};

const TOPIC: &str = "bench";
/// Records sent or fetched between two looks at the deadline.
const LOOK_EVERY: u64 = 100_000;
/// How long the last acknowledgements may take.
const FLUSH: Duration = Duration::from_secs(120);

/// Measures one run of produce and one of fetch, on a log of its own.
pub(crate) fn run(
    workplace: &Workplace,
    arguments: &Arguments,
    durability: Durability,
    record_bytes: usize,
) -> Result<Vec<Sample>> {
    let records = arguments.input_bytes() / record_bytes as u64;
    let bytes = records * record_bytes as u64;
    let folder = workplace.fresh()?;
    let bootstrap = format!("127.0.0.1:{}", free_port()?);
    let properties = format!(
        "listeners=PLAINTEXT://{bootstrap}\nlog.dirs={}\nflafka.durability={}\n",
        folder.path().join("log").display(),
        durability.word()
    );
    let file = folder.path().join("server.properties");
    std::fs::write(&file, properties).context("write server.properties")?;
    let start = ["broker".to_owned(), format!("--config={}", file.display())];
    let log = folder.path().join("broker.out");
    let mut broker = Process::start(&workplace.binary, &start, &log)?;
    wait(deadline(0), "the log answers", || {
        broker.check()?;
        Ok(std::net::TcpStream::connect(&bootstrap).ok().map(drop))
    })?;
    let limit = deadline(bytes);
    let sample = |what: &str, wall, cost| Sample {
        name: format!("{what}, {record_bytes} B records"),
        durability: Some(durability),
        events: records,
        bytes,
        wall,
        cost: Some(cost),
        waits: None,
    };
    let (wall, cost) = measured(&broker, || {
        let producer = producer(&bootstrap)?;
        produce(&producer, 0..1, record_bytes, limit)?;
        let started = Instant::now();
        produce(&producer, 1..records, record_bytes, limit)?;
        Ok(started.elapsed())
    })?;
    let produced = sample("produce", wall, cost);
    let (wall, cost) = measured(&broker, || {
        let consumer = consumer(&bootstrap)?;
        fetch(&consumer, 0..1, limit)?;
        let started = Instant::now();
        fetch(&consumer, 1..records, limit)?;
        Ok(started.elapsed())
    })?;
    let fetched = sample("fetch", wall, cost);
    broker.stop()?;
    Ok(vec![produced, fetched])
}

/// What `work` took and what it cost the broker.
fn measured(broker: &Process, work: impl FnOnce() -> Result<Duration>) -> Result<(Duration, Cost)> {
    let before = broker.cost()?;
    let outcome = work().with_context(|| format!("the log said:\n{}", broker.last_lines()));
    let wall = outcome?;
    let after = broker.cost()?;
    let cost = Cost {
        cpu_seconds: after.cpu_seconds - before.cpu_seconds,
        ..after
    };
    Ok((wall, cost))
}

/// Counts what was acknowledged.
#[derive(Default, Clone)]
struct Acknowledged {
    records: Arc<AtomicU64>,
}

impl ClientContext for Acknowledged {}

impl ProducerContext for Acknowledged {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if result.is_ok() {
            self.records.fetch_add(1, Ordering::Relaxed);
        }
    }
}

type Sender = ThreadedProducer<Acknowledged>;

fn producer(bootstrap: &str) -> Result<Sender> {
    ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("linger.ms", "5")
        .set("queue.buffering.max.messages", "1000000")
        .set("queue.buffering.max.kbytes", "262144")
        .create_with_context(Acknowledged::default())
        .context("make a producer")
}

fn produce(
    producer: &Sender,
    numbers: Range<u64>,
    record_bytes: usize,
    limit: Instant,
) -> Result<()> {
    let last = numbers.end;
    let mut value = vec![b'x'; record_bytes];
    for number in numbers {
        if number % LOOK_EVERY == 0 {
            check(limit, "producing")?;
        }
        value[..8].copy_from_slice(&number.to_be_bytes());
        let mut record = BaseRecord::<(), [u8]>::to(TOPIC)
            .payload(&value)
            .partition(0);
        while let Err((error, back)) = producer.send(record) {
            let full = KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull);
            ensure!(error == full, "produce: {error}");
            check(limit, "producing")?;
            std::thread::sleep(Duration::from_millis(1));
            record = back;
        }
    }
    producer.flush(FLUSH).context("wait for acknowledgements")?;
    let acknowledged = producer.context().records.load(Ordering::Relaxed);
    ensure!(
        acknowledged == last,
        "{acknowledged} of {last} records were acknowledged"
    );
    Ok(())
}

fn consumer(bootstrap: &str) -> Result<BaseConsumer> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "bench")
        .set("enable.auto.commit", "false")
        // By default the client stops for a second whenever it is 100 000 records ahead of its reader.
        .set("fetch.queue.backoff.ms", "2")
        .create()
        .context("make a consumer")?;
    let mut partitions = TopicPartitionList::new();
    partitions.add_partition_offset(TOPIC, 0, Offset::Beginning)?;
    consumer.assign(&partitions).context("begin to fetch")?;
    Ok(consumer)
}

fn fetch(consumer: &BaseConsumer, numbers: Range<u64>, limit: Instant) -> Result<()> {
    let records = numbers.end;
    for expected in numbers {
        if expected % LOOK_EVERY == 0 {
            check(limit, "fetching")?;
        }
        let record = consumer
            .poll(Duration::from_secs(10))
            .ok_or_else(|| anyhow!("record {expected} of {records} does not come"))?
            .context("fetch")?;
        let head = record.payload().and_then(|value| value.first_chunk());
        let found = head.map(|number| u64::from_be_bytes(*number));
        if found != Some(expected) {
            bail!("record {expected} was to come, not {found:?}");
        }
    }
    Ok(())
}
