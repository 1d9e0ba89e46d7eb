//! Several data directories: partitions are spread, found again in any order, and one directory that fails or is missing
//! stops no other.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use flafka_broker::{Broker, BrokerConfig};
use flafka_log_store::{File, Fs, Lock, LockError, OpenMode, RealFs, SystemClock};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    DeleteTopicsRequest, DescribeLogDirsRequest, DescribeTopicPartitionsRequest, MetadataRequest,
    ProduceRequest, metadata_request,
};
use tempfile::TempDir;

use crate::admin::create;
use crate::support::{Client, PATIENCE, batch, fetch_request, fetched, name};

const STORAGE_ERROR: i16 = 56;
const LEADER_NOT_AVAILABLE: i16 = 5;

/// A folder with data directories, and what a broker over some of them is made of.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Place {
        Place {
            folder: TempDir::new().unwrap(),
        }
    }

    fn dir(&self, dir: &str) -> PathBuf {
        self.folder.path().join(dir)
    }

    fn config(&self, dirs: &[&str]) -> BrokerConfig {
        let dirs: Vec<String> = dirs
            .iter()
            .map(|dir| self.dir(dir).display().to_string())
            .collect();
        let text = format!(
            "listeners=PLAINTEXT://127.0.0.1:0\nlog.dirs={}\n",
            dirs.join(",")
        );
        BrokerConfig::from_properties(&text).unwrap().0
    }

    async fn start(&self, dirs: &[&str]) -> Running {
        let broker = Broker::start(self.config(dirs)).await.unwrap();
        Running::over(broker).await
    }

    /// Why a broker over these directories does not start.
    async fn refused(&self, dirs: &[&str]) -> String {
        let started = Broker::start(self.config(dirs)).await;
        started.err().unwrap().to_string()
    }

    /// Makes a directory that cannot be opened, whoever tries: a file is in its place.
    fn spoil(&self, dir: &str) {
        fs::rename(self.dir(dir), self.dir("away")).unwrap();
        fs::write(self.dir(dir), "").unwrap();
    }

    fn put_back(&self, dir: &str) {
        fs::remove_file(self.dir(dir)).unwrap();
        fs::rename(self.dir("away"), self.dir(dir)).unwrap();
    }
}

struct Running {
    broker: Broker,
    client: Client,
}

impl Running {
    async fn over(broker: Broker) -> Running {
        let client = Client::connect(broker.local_addr()).await;
        Running { broker, client }
    }

    async fn stop(self) {
        self.broker.shutdown(PATIENCE).await.unwrap();
    }

    async fn create(&mut self, topic: &str, partitions: i32) {
        let response = self.client.call(7, &create(topic, partitions, &[])).await;
        assert_eq!(response.topics[0].error_code, 0, "{:?}", response.topics[0]);
    }

    async fn delete(&mut self, topic: &str) -> i16 {
        let state = DeleteTopicState::default().with_name(Some(name(topic)));
        let request = DeleteTopicsRequest::default().with_topics(vec![state]);
        self.client.call(6, &request).await.responses[0].error_code
    }

    /// Directory names with error code and partitions, in the order of the answer.
    async fn dirs(&mut self) -> Vec<(String, i16, Vec<String>)> {
        let request = DescribeLogDirsRequest::default().with_topics(None);
        let response = self.client.call(4, &request).await;
        let results = response.results.into_iter().map(|result| {
            let mut partitions = Vec::new();
            for topic in &result.topics {
                for partition in &topic.partitions {
                    let index = partition.partition_index;
                    partitions.push(format!("{}-{index}", topic.name.as_str()));
                }
            }
            let dir = Path::new(result.log_dir.as_str()).file_name().unwrap();
            if result.error_code == 0 {
                assert!(result.total_bytes > 0 && result.usable_bytes > 0);
            }
            (
                dir.to_str().unwrap().to_owned(),
                result.error_code,
                partitions,
            )
        });
        results.collect()
    }

    /// One Produce request over these partitions; the codes by partition.
    async fn produce_to(&mut self, topic: &str, partitions: &[i32]) -> BTreeMap<i32, i16> {
        let data = partitions.iter().map(|index| {
            PartitionProduceData::default()
                .with_index(*index)
                .with_records(Some(batch(&[&format!("{topic}-{index}")])))
        });
        let request = ProduceRequest::default()
            .with_acks(-1)
            .with_timeout_ms(30_000)
            .with_topic_data(vec![
                TopicProduceData::default()
                    .with_name(name(topic))
                    .with_partition_data(data.collect()),
            ]);
        let response = self.client.call(9, &request).await;
        let answers = response.responses[0].partition_responses.iter();
        let asked: Vec<i32> = answers.clone().map(|answer| answer.index).collect();
        assert_eq!(asked, partitions, "answers stand where the request's do");
        answers
            .map(|answer| (answer.index, answer.error_code))
            .collect()
    }

    /// The values of a partition, or the error code.
    async fn read(&mut self, topic: &str, partition: i32) -> Result<Vec<String>, i16> {
        let response = self
            .client
            .fetch(12, &fetch_request(topic, partition, 0))
            .await;
        match response.responses[0].partitions[0].error_code {
            0 => Ok(fetched(&response)
                .into_iter()
                .map(|(_, value)| value)
                .collect()),
            code => Err(code),
        }
    }

    /// Error code, leader and offline replicas of each partition, and the same from DescribeTopicPartitions.
    async fn leaders(&mut self, topic: &str) -> Vec<(i16, i32, usize)> {
        let wanted = metadata_request::MetadataRequestTopic::default().with_name(Some(name(topic)));
        let request = MetadataRequest::default().with_topics(Some(vec![wanted]));
        let response = self.client.call(12, &request).await;
        let told = response.topics[0].partitions.iter().map(|partition| {
            let offline = partition.offline_replicas.len();
            (partition.error_code, partition.leader_id.0, offline)
        });
        let told: Vec<_> = told.collect();
        let described = self
            .client
            .call(
                0,
                &DescribeTopicPartitionsRequest::default().with_response_partition_limit(100),
            )
            .await;
        let topics = described.topics.iter();
        let mut ours = topics.filter(|found| found.name == Some(name(topic)));
        let partitions = ours.next().unwrap().partitions.iter();
        let described = partitions.map(|partition| {
            let offline = partition.offline_replicas.len();
            (partition.error_code, partition.leader_id.0, offline)
        });
        assert_eq!(described.collect::<Vec<_>>(), told);
        told
    }

    fn warnings(&self) -> String {
        self.broker.log_dirs().warnings().join("\n")
    }
}

fn names(list: &[&str]) -> Vec<String> {
    list.iter().map(|name| (*name).to_owned()).collect()
}

#[tokio::test]
async fn partitions_are_spread_and_found_again_in_any_order() {
    let place = Place::new();
    let mut running = place.start(&["a", "b", "c"]).await;
    running.create("t", 5).await;
    running.create("u", 1).await;
    let spread = [
        ("a".to_owned(), 0, names(&["t-0", "t-3"])),
        ("b".to_owned(), 0, names(&["t-1", "t-4"])),
        ("c".to_owned(), 0, names(&["t-2", "u-0"])),
    ];
    assert_eq!(running.dirs().await, spread);
    let codes = running.produce_to("t", &[4, 0, 3, 1, 2]).await;
    assert!(codes.values().all(|code| *code == 0), "{codes:?}");
    let cluster = running.broker.log().cluster_id().to_owned();
    running.stop().await;

    let mut running = place.start(&["c", "a", "b"]).await;
    let [a, b, c] = spread;
    assert_eq!(running.dirs().await, [c, a, b]);
    assert_eq!(running.broker.log().cluster_id(), cluster);
    assert_eq!(running.warnings(), "");
    for partition in 0..5 {
        assert_eq!(
            running.read("t", partition).await,
            Ok(vec![format!("t-{partition}")])
        );
    }
    assert_eq!(running.delete("t").await, 0);
    running.create("v", 3).await;
    let dirs = running.dirs().await;
    let counts: Vec<usize> = dirs.iter().map(|(_, _, found)| found.len()).collect();
    assert_eq!(counts, [2, 1, 1], "u-0 counts: {dirs:?}");
    running.stop().await;
}

#[tokio::test]
async fn a_list_grows_and_a_directory_moves() {
    let place = Place::new();
    let mut running = place.start(&["old"]).await;
    running.create("t", 2).await;
    running.produce_to("t", &[0, 1]).await;
    running.stop().await;
    let mut running = place.start(&["new", "old"]).await;
    running.create("u", 2).await;
    running.produce_to("u", &[0, 1]).await;
    let all = [
        ("new".to_owned(), 0, names(&["u-0", "u-1"])),
        ("old".to_owned(), 0, names(&["t-0", "t-1"])),
    ];
    assert_eq!(running.dirs().await, all);
    running.stop().await;
    fs::rename(place.dir("new"), place.dir("elsewhere")).unwrap();
    let mut running = place.start(&["old", "elsewhere"]).await;
    assert_eq!(running.warnings(), "");
    assert_eq!(running.read("u", 1).await, Ok(names(&["u-1"])));
    assert_eq!(running.read("t", 1).await, Ok(names(&["t-1"])));
    running.stop().await;
}

#[tokio::test]
async fn a_directory_that_does_not_open_stops_no_other() {
    let place = Place::new();
    let mut running = place.start(&["a", "b"]).await;
    running.create("t", 2).await;
    running.produce_to("t", &[0, 1]).await;
    running.stop().await;
    place.spoil("b");
    let mut running = place.start(&["a", "b"]).await;
    assert!(
        running.warnings().contains("/b is offline: "),
        "{}",
        running.warnings()
    );
    assert_eq!(running.broker.log_dirs().offline(), 1);
    let codes = running.produce_to("t", &[1, 0]).await;
    assert_eq!(codes, BTreeMap::from([(0, 0), (1, STORAGE_ERROR)]));
    assert_eq!(running.read("t", 1).await, Err(STORAGE_ERROR));
    assert_eq!(running.read("t", 0).await, Ok(names(&["t-0", "t-0"])));
    assert_eq!(
        running.leaders("t").await,
        [(0, 1, 0), (LEADER_NOT_AVAILABLE, -1, 1)]
    );
    assert_eq!(
        running.dirs().await[1],
        ("b".to_owned(), STORAGE_ERROR, Vec::new())
    );
    // New partitions go where they can be.
    running.create("u", 2).await;
    assert_eq!(running.dirs().await[0].2, names(&["t-0", "u-0", "u-1"]));
    running.stop().await;

    place.put_back("b");
    let mut running = place.start(&["a", "b"]).await;
    assert_eq!(running.warnings(), "");
    assert_eq!(running.read("t", 1).await, Ok(names(&["t-1"])));
    running.stop().await;

    // A topic may go while a directory is away; its rest goes when that is back.
    place.spoil("b");
    let mut running = place.start(&["a", "b"]).await;
    assert_eq!(running.delete("t").await, 0);
    running.stop().await;
    place.put_back("b");
    let mut running = place.start(&["a", "b"]).await;
    assert_eq!(running.dirs().await[1], ("b".to_owned(), 0, Vec::new()));
    running.create("t", 2).await;
    for partition in 0..2 {
        assert_eq!(running.read("t", partition).await, Ok(Vec::new()));
    }
    running.stop().await;
}

#[tokio::test]
async fn a_directory_that_is_left_out_or_emptied_is_missed() {
    let place = Place::new();
    let mut running = place.start(&["a", "b"]).await;
    running.create("t", 2).await;
    running.produce_to("t", &[0, 1]).await;
    running.stop().await;

    let mut running = place.start(&["a"]).await;
    let warnings = running.warnings();
    assert!(
        warnings.contains("/b is offline: log.dirs no longer names it"),
        "{warnings}"
    );
    assert_eq!(running.read("t", 1).await, Err(STORAGE_ERROR));
    assert_eq!(running.read("t", 0).await, Ok(names(&["t-0"])));
    running.stop().await;

    // As the mount point of a disk that is not mounted.
    fs::rename(place.dir("b"), place.dir("disk")).unwrap();
    fs::create_dir(place.dir("b")).unwrap();
    let mut running = place.start(&["a", "b"]).await;
    let warnings = running.warnings();
    assert!(
        warnings.contains("/b is offline: it is empty"),
        "{warnings}"
    );
    assert_eq!(running.read("t", 1).await, Err(STORAGE_ERROR));
    running.stop().await;
    assert_eq!(
        fs::read_dir(place.dir("b")).unwrap().count(),
        0,
        "nothing is made there"
    );
    fs::remove_dir(place.dir("b")).unwrap();
    fs::rename(place.dir("disk"), place.dir("b")).unwrap();
    let mut running = place.start(&["b", "a"]).await;
    assert_eq!(running.read("t", 1).await, Ok(names(&["t-1"])));
    assert_eq!(running.delete("t").await, 0);
    running.stop().await;

    // With nothing in it, it may go.
    let running = place.start(&["a"]).await;
    assert_eq!(running.warnings(), "");
    running.stop().await;
}

#[tokio::test]
async fn directories_without_the_tables_are_refused() {
    let place = Place::new();
    let mut running = place.start(&["a", "b"]).await;
    running.create("t", 2).await;
    running.stop().await;
    let reason = place.refused(&["b"]).await;
    assert!(
        reason.contains("keeps its topics and committed offsets in") && reason.contains("/a"),
        "{reason}"
    );
    let reason = place.refused(&["b", "new"]).await;
    assert!(reason.contains("/a"), "{reason}");
    assert!(!place.dir("new").try_exists().unwrap(), "nothing is made");
    place.spoil("a");
    let reason = place.refused(&["a", "b"]).await;
    assert!(reason.contains("/a"), "{reason}");
    let reason = place.refused(&["new", "a"]).await;
    assert!(
        reason.contains("/a") && reason.contains("does not start without"),
        "{reason}"
    );
    place.put_back("a");

    let mut other = place.start(&["x", "y"]).await;
    other.create("o", 2).await;
    other.stop().await;
    let reason = place.refused(&["a", "x"]).await;
    assert!(
        reason.contains("each hold the topics of a broker of its own"),
        "{reason}"
    );
    let reason = place.refused(&["a", "b", "y"]).await;
    assert!(
        reason.contains("/y belongs to the broker whose topics are in"),
        "{reason}"
    );
    let running = place.start(&["a", "b"]).await;
    assert_eq!(running.warnings(), "");
    running.stop().await;
}

#[test]
fn a_directory_is_named_once_and_lies_in_no_other() {
    let refused = |dirs: &str| {
        let text = format!("log.dirs={dirs}\n");
        BrokerConfig::from_properties(&text)
            .unwrap_err()
            .to_string()
    };
    assert!(refused("/x/a, /x/b, /x/a/").contains("are one directory"));
    assert!(refused("/x/a,/x/a/b").contains("/x/a/b lies in /x/a"));
    assert!(refused(" , ").contains("expected a directory"));
    let place = Place::new();
    let (real, link) = (place.dir("real"), place.dir("link"));
    fs::create_dir(&real).unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    let both = format!("{},{}", real.display(), link.display());
    assert!(refused(&both).contains("are one directory"));
    let (config, _) = BrokerConfig::from_properties("log.dirs=/x/a,/x/ab\n").unwrap();
    assert_eq!(config.log_dirs.len(), 2);
}

/// A file system on which one directory fails from some moment on.
#[derive(Debug)]
struct Failing {
    below: PathBuf,
    failed: Arc<AtomicU8>,
}

#[derive(Debug)]
struct FailingFile {
    file: Arc<dyn File>,
    failed: Arc<AtomicU8>,
}

/// What fails: nothing, every call, or every sync.
const NOTHING: u8 = 0;
const ALL: u8 = 1;
const SYNCS: u8 = 2;

fn check(failed: &AtomicU8, call: u8) -> io::Result<()> {
    let failing = failed.load(Ordering::SeqCst);
    if failing == ALL || failing == call {
        return Err(io::Error::from_raw_os_error(5));
    }
    Ok(())
}

impl Failing {
    fn check(&self, path: &Path, call: u8) -> io::Result<()> {
        match path.starts_with(&self.below) {
            true => check(&self.failed, call),
            false => Ok(()),
        }
    }
}

impl Fs for Failing {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        self.check(path, ALL)?;
        let file = RealFs.open(path, mode)?;
        if !path.starts_with(&self.below) {
            return Ok(file);
        }
        let failed = Arc::clone(&self.failed);
        Ok(Arc::new(FailingFile { file, failed }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.check(path, ALL)?;
        RealFs.create_dir_all(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.check(from, ALL)?;
        RealFs.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.check(path, ALL)?;
        RealFs.remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.check(path, ALL)?;
        RealFs.remove_dir(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<std::ffi::OsString>> {
        self.check(dir, ALL)?;
        RealFs.list(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.check(dir, SYNCS)?;
        RealFs.sync_dir(dir)
    }

    fn lock(&self, path: &Path, holder: &str) -> Result<Box<dyn Lock>, LockError> {
        RealFs.lock(path, holder)
    }

    fn space_left(&self, path: &Path) -> io::Result<u64> {
        RealFs.space_left(path)
    }

    fn entropy(&self) -> u64 {
        RealFs.entropy()
    }
}

impl File for FailingFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        check(&self.failed, ALL)?;
        self.file.read_at(buffer, position)
    }

    fn write_vectored_at(&self, buffers: &[IoSlice<'_>], position: u64) -> io::Result<usize> {
        check(&self.failed, ALL)?;
        self.file.write_vectored_at(buffers, position)
    }

    fn sync_data(&self) -> io::Result<()> {
        check(&self.failed, SYNCS)?;
        self.file.sync_data()
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        check(&self.failed, ALL)?;
        self.file.set_len(length)
    }

    fn length(&self) -> io::Result<u64> {
        check(&self.failed, ALL)?;
        self.file.length()
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        check(&self.failed, ALL)?;
        self.file.allocate(length)
    }
}

#[tokio::test]
async fn a_disk_that_fails_under_way_takes_only_its_partitions_down() {
    let place = Place::new();
    let failed = Arc::new(AtomicU8::new(NOTHING));
    let fs = Failing {
        below: place.dir("b"),
        failed: Arc::clone(&failed),
    };
    let clock = Arc::new(SystemClock::new());
    let started = Broker::start_with(place.config(&["a", "b"]), Arc::new(fs), clock).await;
    let mut running = Running::over(started.unwrap()).await;
    running.create("t", 2).await;
    let codes = running.produce_to("t", &[0, 1]).await;
    assert_eq!(codes, BTreeMap::from([(0, 0), (1, 0)]));
    // Every call fails for a while; the log goes on when the disk does.
    failed.store(ALL, Ordering::SeqCst);
    for _ in 0..2 {
        let codes = running.produce_to("t", &[0, 1]).await;
        assert_eq!(codes, BTreeMap::from([(0, 0), (1, STORAGE_ERROR)]));
    }
    let warnings = running.warnings();
    assert!(warnings.contains("/b refuses writes"), "{warnings}");
    running.create("u", 2).await;
    let codes = running.produce_to("u", &[0, 1]).await;
    assert_eq!(codes, BTreeMap::from([(0, 0), (1, 0)]));
    failed.store(NOTHING, Ordering::SeqCst);
    let codes = running.produce_to("t", &[0, 1]).await;
    assert_eq!(codes, BTreeMap::from([(0, 0), (1, 0)]));
    assert!(
        !running.warnings().contains("refuses"),
        "{}",
        running.warnings()
    );

    // What was synced is not known any more: the log stops until it is opened again.
    failed.store(SYNCS, Ordering::SeqCst);
    for _ in 0..2 {
        let codes = running.produce_to("t", &[0, 1]).await;
        assert_eq!(codes, BTreeMap::from([(0, 0), (1, STORAGE_ERROR)]));
    }
    let warnings = running.warnings();
    assert!(
        warnings.contains("/b is offline: its log stopped accepting"),
        "{warnings}"
    );
    assert_eq!(running.leaders("t").await[1], (LEADER_NOT_AVAILABLE, -1, 1));
    assert_eq!(running.read("t", 1).await, Err(STORAGE_ERROR));
    running.create("v", 2).await;
    let codes = running.produce_to("v", &[0, 1]).await;
    assert_eq!(codes, BTreeMap::from([(0, 0), (1, 0)]));
    running.stop().await;

    // What was acknowledged is there when the disk works again; what was not may be.
    let mut running = place.start(&["a", "b"]).await;
    let read = running.read("t", 1).await.unwrap();
    assert!(read.starts_with(&names(&["t-1", "t-1"])), "{read:?}");
    assert_eq!(running.read("t", 0).await.unwrap().len(), 6);
    running.stop().await;
}
