//! A full disk under the embedded log (F9): a neighbour fills the file system of `log.dirs` and frees it again.
//!
//! While it is full, a producer that does not try again is told Kafka's retriable KAFKA_STORAGE_ERROR, and what was
//! refused is not in the topic; a consumer reads everything acknowledged and commits its offset. A producer that tries
//! again, as all do by default, waits and is served when space comes back, without anybody's help. The file system has
//! 448 MiB: the log reserves up to three journal files of 64 MiB and stops appends while less than 64 MiB are free.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};
use flafka_tests::disks::Kind;
use flafka_tests::faults::Account;
use flafka_tests::kafka_client::{self, NewRecord};
use flafka_tests::ports;
use flafka_tests::process::Process;
use flafka_tests::running_agent::LIMIT;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::{Offset, TopicPartitionList};

use crate::conf::TOPIC;
use crate::cycles::start_log_in;
use crate::full_disk::{Neighbour, SmallDisk, on_both};

const DISK_BYTES: u64 = 448 << 20;
/// Bytes of a record.
const RECORD: usize = 32 << 10;
/// How a client names the error that it may try again.
const RETRIABLE: &str = "KafkaStorageError";

/// Settings of a producer that does not try again.
const ONCE: [(&str, &str); 3] = [
    ("enable.idempotence", "false"),
    ("retries", "0"),
    ("message.timeout.ms", "60000"),
];

/// Fills and frees.
pub(crate) fn run(quick: u64, seed: u64) -> Result<()> {
    let case = "crash::a_full_disk_under_the_log_pushes_back_and_goes_on";
    on_both(case, quick, seed, |kind, rounds, account| {
        fill_and_free(kind, rounds, seed, account)
    })
}

/// The same with a second data directory on another disk, whose partitions go on all the while.
pub(crate) fn run_beside(quick: u64, seed: u64) -> Result<()> {
    let case = "crash::a_full_disk_stops_no_other_directory";
    on_both(case, quick, seed, |kind, rounds, account| {
        beside(kind, rounds, seed, account)
    })
}

fn beside(kind: Option<Kind>, rounds: u64, seed: u64, account: &mut Account) -> Result<()> {
    let small = SmallDisk::new(kind, DISK_BYTES)?;
    let kafka = ports::free_port()?;
    let dirs = [small.beside().join("log"), small.point().join("log")];
    let dirs = dirs.map(|dir| dir.display().to_string()).join(",");
    let mut log = start_log_in(small.beside(), dirs.as_ref(), kafka, "fsync", &[])?;
    let bootstrap = format!("127.0.0.1:{kafka}");
    log.until("the embedded log answers", LIMIT, || {
        Ok(kafka_client::is_ready(&bootstrap)?.then_some(()))
    })?;
    // Partition 0 goes to the first directory, partition 1 to the one on the small disk.
    kafka_client::create_topic(&bootstrap, TOPIC, 2)?;
    let mut acknowledged = BTreeSet::new();
    let mut number = 0;
    let mut try_once = |partition: i32| -> Result<bool> {
        number += 1;
        let value = format!("{seed}-{number}-{}", "x".repeat(RECORD));
        let record = NewRecord::value(value.clone()).to_partition(partition);
        match kafka_client::produce_with(&ONCE, &bootstrap, TOPIC, &[record]) {
            Ok(_) => Ok(acknowledged.insert(value)),
            Err(error) if format!("{error:#}").contains(RETRIABLE) => Ok(false),
            Err(error) => Err(error.context("the producer hears of something else")),
        }
    };
    let mut done = 0;
    while done < rounds && account.goes_on() {
        done += 1;
        account.cycle();
        ensure!(
            try_once(0)? && try_once(1)?,
            "a record is refused with space left"
        );
        let mut neighbour = Neighbour::new(small.point())?;
        let deadline = Instant::now() + 2 * LIMIT;
        let mut refused = 0;
        while refused < 3 {
            ensure!(
                Instant::now() < deadline,
                "the disk is full and no record is refused"
            );
            neighbour.take(0)?;
            refused += u32::from(!try_once(1)?);
            ensure!(try_once(0)?, "the full disk stops the other directory");
        }
        let fresh = format!("fresh-{done}");
        kafka_client::create_topic(&bootstrap, &fresh, 2)?;
        for partition in 0..2 {
            let record = NewRecord::value("new").to_partition(partition);
            kafka_client::produce_with(&ONCE, &bootstrap, &fresh, &[record])
                .context("new partitions go where there is room")?;
        }
        drop(neighbour);
        let freed = Instant::now();
        while !try_once(1)? {
            ensure!(
                freed.elapsed() < LIMIT,
                "the disk has room and records are refused"
            );
        }
        account.restart(freed.elapsed());
    }
    let least = acknowledged.len();
    let found = kafka_client::read_topic(&bootstrap, TOPIC, least, LIMIT)?;
    let found: BTreeSet<String> = found.iter().map(|record| record.text()).collect();
    let lost = acknowledged.difference(&found).count();
    account.add("acknowledged", least as u64);
    account.add("lost", lost as u64);
    ensure!(lost == 0, "{lost} acknowledged records are lost");
    let status = log.terminate(LIMIT)?;
    ensure!(status.success(), "the log ended with {status}");
    small.unmount()
}

/// The log and what clients know of it.
struct Stage {
    log: Process,
    bootstrap: String,
    disk: PathBuf,
    seed: u64,
    next: u64,
    acknowledged: BTreeSet<String>,
    refused: BTreeSet<String>,
}

fn fill_and_free(kind: Option<Kind>, rounds: u64, seed: u64, account: &mut Account) -> Result<()> {
    let small = SmallDisk::new(kind, DISK_BYTES)?;
    let kafka = ports::free_port()?;
    let data = small.point().join("log");
    let start = || start_log_in(small.beside(), &data, kafka, "fsync", &[]);
    let mut stage = Stage {
        log: start()?,
        bootstrap: format!("127.0.0.1:{kafka}"),
        disk: small.point().to_owned(),
        seed,
        next: 0,
        acknowledged: BTreeSet::new(),
        refused: BTreeSet::new(),
    };
    stage.until_ready()?;
    kafka_client::create_topic(&stage.bootstrap, TOPIC, 1)?;
    let mut done = 0;
    while done < rounds && account.goes_on() {
        done += 1;
        account.cycle();
        stage
            .round(account)
            .with_context(|| format!("round {done}"))
            .with_context(|| stage.log.evidence())?;
    }
    // What was acknowledged is also there after a kill.
    stage.log.kill()?;
    stage.log = start()?;
    stage.until_ready()?;
    account.add("acknowledged", stage.acknowledged.len() as u64);
    account.add("refused_records", stage.refused.len() as u64);
    let (lost, again) = stage.compare()?;
    account.add("lost", lost);
    account.add("duplicates", again);
    account.add("duplicates_bound", 0);
    ensure!(lost == 0, "{lost} acknowledged records are lost");
    ensure!(again == 0, "{again} records are there again");
    let status = stage.log.terminate(LIMIT)?;
    ensure!(status.success(), "the log ended with {status}");
    small.unmount()
}

/// Produces one of `values` as a client does by default, which tries again by itself; the next one only if the client
/// gives up on a machine that is too busy. Returns the one that was acknowledged.
fn insist(bootstrap: &str, values: Vec<String>) -> Result<String> {
    let mut last = anyhow!("nothing to produce");
    for value in values {
        match kafka_client::produce(bootstrap, TOPIC, &[NewRecord::value(value.clone())]) {
            Ok(_) => return Ok(value),
            Err(error) => last = error,
        }
    }
    Err(last)
}

impl Stage {
    fn until_ready(&mut self) -> Result<()> {
        let bootstrap = self.bootstrap.clone();
        self.log.until("the embedded log answers", LIMIT, || {
            Ok(kafka_client::is_ready(&bootstrap)?.then_some(()))
        })
    }

    fn value(&mut self) -> String {
        self.next += 1;
        format!("{}-{}-{}", self.seed, self.next, "x".repeat(RECORD))
    }

    /// Produces a record; `false` if it is refused with the retriable error.
    fn try_once(&mut self) -> Result<bool> {
        let value = self.value();
        let record = NewRecord::value(value.clone());
        match kafka_client::produce_with(&ONCE, &self.bootstrap, TOPIC, &[record]) {
            Ok(_) => {
                self.acknowledged.insert(value);
                Ok(true)
            }
            Err(error) if format!("{error:#}").contains(RETRIABLE) => {
                self.refused.insert(value);
                Ok(false)
            }
            Err(error) => Err(error.context("the producer hears of something else")),
        }
    }

    fn round(&mut self, account: &mut Account) -> Result<()> {
        for _ in 0..10 {
            ensure!(self.try_once()?, "a record is refused with space left");
        }
        let mut neighbour = Neighbour::new(&self.disk)?;
        let deadline = Instant::now() + 2 * LIMIT;
        let mut refused = 0;
        while refused < 3 {
            ensure!(
                Instant::now() < deadline,
                "the disk is full and no record is refused"
            );
            neighbour.take(0)?;
            refused += u32::from(!self.try_once()?);
        }
        ensure!(self.log.ended()?.is_none(), "the log ended on a full disk");
        let values: Vec<_> = (0..5).map(|_| self.value()).collect();
        let bootstrap = self.bootstrap.clone();
        let patient = thread::spawn(move || insist(&bootstrap, values));
        let (lost, _) = self.compare().context("read on a full disk")?;
        ensure!(lost == 0, "{lost} acknowledged records cannot be read");
        self.commit_an_offset()?;
        drop(neighbour);
        let freed = Instant::now();
        let waited = patient.join().map_err(|_| anyhow!("a producer panicked"))?;
        let value = waited.context("a producer that tries again")?;
        account.restart(freed.elapsed());
        self.acknowledged.insert(value);
        Ok(())
    }

    /// Groups go on too: an offset is committed while the disk is full, and it is there.
    fn commit_an_offset(&self) -> Result<()> {
        let mut config = kafka_client::config(&self.bootstrap);
        config.set("group.id", "reader-of-a-full-disk");
        let consumer: BaseConsumer = config.create().context("create a consumer")?;
        let at = Offset::Offset(self.acknowledged.len() as i64);
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(TOPIC, 0, at)?;
        consumer
            .commit(&list, CommitMode::Sync)
            .context("commit an offset on a full disk")?;
        let mut asked = TopicPartitionList::new();
        asked.add_partition(TOPIC, 0);
        let found = consumer.committed_offsets(asked, LIMIT)?;
        let found = found.find_partition(TOPIC, 0).map(|one| one.offset());
        ensure!(
            found == Some(at),
            "{found:?} is committed instead of {at:?}"
        );
        Ok(())
    }

    /// Reads the topic: how many acknowledged records are missing, and how many are there again.
    fn compare(&self) -> Result<(u64, u64)> {
        let least = self.acknowledged.len();
        let found = kafka_client::read_topic(&self.bootstrap, TOPIC, least, LIMIT)?;
        let mut seen = BTreeSet::new();
        let mut again = 0;
        for record in &found {
            let text = record.text();
            ensure!(
                !self.refused.contains(&text),
                "a refused record is in the topic, at offset {}",
                record.offset
            );
            again += u64::from(!seen.insert(text));
        }
        let lost = self.acknowledged.difference(&seen).count();
        Ok((lost as u64, again))
    }
}
