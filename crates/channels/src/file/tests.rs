//! The file channel on real files in a temporary folder.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use flafka_flow::channel::{Channel, ChannelError, TakeLimit};
use flafka_flow::conformance::channel::{Promises, suite};
use flafka_flow::conformance::doubles::build_context;
use flafka_flow::conformance::{numbers, to_numbers};
use flafka_flow::counters::Metric;
use flafka_flow::settings::{Report, Section, Settings};
use flafka_flow::{Batch, Event};
use flafka_log_store::{File, Fs, Lock, LockError, OpenMode, RealFs};

use super::{FileChannel, FileChannelConfig};

fn channel(dir: &Path, more: &[(&str, &str)]) -> Arc<dyn Channel> {
    Arc::new(bare(dir, more))
}

pub(super) fn bare(dir: &Path, more: &[(&str, &str)]) -> FileChannel {
    let path = dir.display().to_string();
    let own = [
        ("dataDirs", path.as_str()),
        ("minimumRequiredSpace", "1048576"),
    ];
    let section = Section::of(
        "a1.channels.c1",
        own.into_iter().chain(more.iter().copied()),
    );
    let mut report = Report::new();
    let config = FileChannelConfig::from_section(&section, &mut report)
        .unwrap_or_else(|| panic!("{report:?}"));
    let keep_alive = Duration::from_millis(100);
    FileChannel::with_keep_alive(config, &build_context("c1"), keep_alive)
}

pub(super) async fn conforms(more: &[(&str, &str)]) {
    conforms_in(more, true, |dir| vec![dir.to_owned()]).await;
}

/// Each channel of the suite has the data directories that `dirs` makes of its own folder.
pub(super) async fn conforms_in(
    more: &[(&str, &str)],
    ordered: bool,
    dirs: impl Fn(&Path) -> Vec<std::path::PathBuf>,
) {
    let root = tempfile::tempdir().expect("temporary folder");
    let mut number = 0;
    let promises = Promises {
        capacity: Some(100),
        ordered,
        durable: true,
        concurrent_leases: true,
    };
    suite(promises, async || {
        number += 1;
        let all: Vec<_> = [("capacity", "100"), ("transactionCapacity", "100")]
            .into_iter()
            .chain(more.iter().copied())
            .collect();
        let dirs = dirs(&root.path().join(number.to_string()));
        let dirs: Vec<_> = dirs.iter().map(|dir| dir.display().to_string()).collect();
        channel(Path::new(&dirs.join(",")), &all)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms_with_events_in_memory() {
    conforms(&[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms_with_events_on_the_disk_only() {
    conforms(&[("flafka.cacheBytes", "0")]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms_without_fsync() {
    conforms(&[("flafka.durability", "os")]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lowered_capacity_needs_no_replay_and_holds_back_puts() {
    let root = tempfile::tempdir().expect("temporary folder");
    let large = channel(
        root.path(),
        &[("capacity", "100"), ("transactionCapacity", "60")],
    );
    large.start().await.expect("start");
    large.put(numbers(0..60)).await.expect("put");
    large.stop().await.expect("stop");
    let small = channel(
        root.path(),
        &[("capacity", "50"), ("transactionCapacity", "20")],
    );
    small.start().await.expect("start");
    assert!(matches!(
        small.put(numbers(60..61)).await,
        Err(ChannelError::Full { .. })
    ));
    let too_many = small.put(numbers(60..81)).await;
    assert!(matches!(
        too_many,
        Err(ChannelError::TooManyEvents { allowed: 20, .. })
    ));
    for _ in 0..2 {
        let lease = small.take(TakeLimit::events(7)).await.expect("take");
        assert_eq!(lease.batch().len(), 7);
        lease.commit().await.expect("commit");
    }
    small.put(numbers(60..64)).await.expect("46 + 4 fit");
    assert!(matches!(
        small.put(numbers(64..65)).await,
        Err(ChannelError::Full { .. })
    ));
    let lease = small.take(TakeLimit::events(20)).await.expect("take");
    assert_eq!(to_numbers(lease.batch()), (14..34).collect::<Vec<_>>());
    assert_eq!(
        (
            lease.origin()[0].first_offset,
            lease.origin()[0].last_offset
        ),
        (14, 33)
    );
    drop(lease);
    small.stop().await.expect("stop");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_owner_and_flumes_files_are_refused() {
    let root = tempfile::tempdir().expect("temporary folder");
    let first = channel(root.path(), &[]);
    first.start().await.expect("start");
    let second = channel(root.path(), &[]).start().await.expect_err("in use");
    assert!(
        second.chain().contains(&std::process::id().to_string()),
        "{}",
        second.chain()
    );
    first.stop().await.expect("stop");

    let flumes = tempfile::tempdir().expect("temporary folder");
    std::fs::write(flumes.path().join("log-3"), b"x").expect("write");
    let refused = channel(flumes.path(), &[])
        .start()
        .await
        .expect_err("Flume's");
    assert!(
        refused.chain().contains("log-3") && refused.chain().contains("flafka log import"),
        "{}",
        refused.chain()
    );
}

/// The machine's file system, whose syncs fail while they are told to.
#[derive(Debug)]
pub(crate) struct Flaky(pub(crate) RealFs, pub(crate) Arc<AtomicBool>);

#[derive(Debug)]
struct FlakyFile(Arc<dyn File>, Arc<AtomicBool>);

impl Fs for Flaky {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let file = self.0.open(path, mode)?;
        Ok(Arc::new(FlakyFile(file, Arc::clone(&self.1))))
    }
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.0.create_dir_all(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.0.remove_file(path)
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.0.remove_dir(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<std::ffi::OsString>> {
        self.0.list(dir)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.0.sync_dir(dir)
    }
    fn lock(&self, path: &Path, holder: &str) -> Result<Box<dyn Lock>, LockError> {
        self.0.lock(path, holder)
    }
    fn space_left(&self, path: &Path) -> io::Result<u64> {
        self.0.space_left(path)
    }
    fn entropy(&self) -> u64 {
        self.0.entropy()
    }
}

impl File for FlakyFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.0.read_at(buffer, position)
    }
    fn write_vectored_at(&self, buffers: &[io::IoSlice<'_>], position: u64) -> io::Result<usize> {
        self.0.write_vectored_at(buffers, position)
    }
    fn sync_data(&self) -> io::Result<()> {
        match self.1.load(Ordering::SeqCst) {
            true => Err(io::Error::other("planned")),
            false => self.0.sync_data(),
        }
    }
    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }
    fn length(&self) -> io::Result<u64> {
        self.0.length()
    }
    fn allocate(&self, length: u64) -> io::Result<()> {
        self.0.allocate(length)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_failed_sync_it_opens_again_and_old_leases_change_nothing() {
    let root = tempfile::tempdir().expect("temporary folder");
    let broken = Arc::new(AtomicBool::new(false));
    let more = [("capacity", "30"), ("transactionCapacity", "10")];
    let fs = Flaky(RealFs, Arc::clone(&broken));
    let channel = bare(root.path(), &more).on(Arc::new(fs));
    channel.start().await.expect("start");
    for first in [0, 10] {
        channel.put(numbers(first..first + 10)).await.expect("put");
    }
    let limit = TakeLimit::events(5);
    let committed_late = channel.take(limit).await.expect("take");
    let rolled_back_late = channel.take(limit).await.expect("take");
    broken.store(true, Ordering::SeqCst);
    let refused = channel.put(numbers(100..101)).await;
    assert!(refused.is_err_and(|error| error.is_retriable()));
    assert_eq!(channel.counters().get(Metric::Unhealthy), 1);
    broken.store(false, Ordering::SeqCst);

    channel.stop().await.expect_err("the log had failed");
    channel.start().await.expect("start again");
    assert_eq!(channel.counters().get(Metric::Unhealthy), 0);
    committed_late
        .commit()
        .await
        .expect_err("of the log before");
    rolled_back_late.rollback();
    let size = channel.counters().get(Metric::ChannelSize);
    let mut left = Vec::new();
    loop {
        let lease = channel.take(TakeLimit::events(10)).await.expect("take");
        if lease.is_empty() {
            break;
        }
        left.extend(to_numbers(lease.batch()));
        lease.commit().await.expect("commit");
    }
    assert_eq!(left.len() as i64, size);
    // What was refused may be there all the same; nothing is twice, nothing acknowledged is gone.
    assert_eq!(left[..20], (0..20).collect::<Vec<_>>());
    assert!(left[20..].is_empty() || left[20..] == [100]);
    for first in [0, 10, 20] {
        channel
            .put(numbers(first..first + 10))
            .await
            .expect("room for 30");
    }
    let full = channel.put(numbers(0..1)).await;
    assert!(matches!(full, Err(ChannelError::Full { .. })));
    channel.stop().await.expect("stop");
}

/// Damage to stored events costs those events: the ones behind them are delivered, now and after a restart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_events_do_not_hold_up_the_rest() {
    let root = tempfile::tempdir().expect("temporary folder");
    let options = [("flafka.cacheBytes", "0")];
    let first = channel(root.path(), &options);
    first.start().await.expect("start");
    for number in 0..4 {
        let events = numbers(number * 10..number * 10 + 10);
        first.put(events).await.expect("put");
    }
    first.stop().await.expect("stop");
    let segment = find(root.path(), ".log");
    let mut bytes = std::fs::read(&segment).expect("segment");
    // The numbers of the first batch have one digit, those of the others two.
    let rest = (bytes.len() - 10) / 4;
    for batch in [1, 2] {
        bytes[batch * rest + rest / 2] ^= 1;
    }
    std::fs::write(&segment, bytes).expect("write");

    let second = channel(root.path(), &options);
    second.start().await.expect("start");
    let mut found = Vec::new();
    while second.counters().get(Metric::ChannelSize) > 0 {
        let lease = second.take(TakeLimit::events(7)).await.expect("take");
        found.extend(to_numbers(lease.batch()));
        lease.commit().await.expect("commit");
    }
    assert_eq!(found, (0..10).chain(30..40).collect::<Vec<_>>());
    second.put(numbers(40..50)).await.expect("put");
    second.stop().await.expect("stop");
    let third = channel(root.path(), &options);
    third.start().await.expect("start");
    let lease = third.take(TakeLimit::events(100)).await.expect("take");
    assert_eq!(to_numbers(lease.batch()), (40..50).collect::<Vec<_>>());
    drop(lease);
    third.stop().await.expect("stop");
}

/// A segment that became shorter costs the events that are gone: those in what is left of it and those behind it are
/// delivered, and the damage is named.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_segment_that_became_shorter_does_not_hold_up_the_rest() {
    let root = tempfile::tempdir().expect("temporary folder");
    // Three batches fill a segment.
    let options = [("flafka.cacheBytes", "0"), ("maxFileSize", "2097152")];
    let first = channel(root.path(), &options);
    first.start().await.expect("start");
    for number in 0..12u8 {
        let body = vec![b'a' + number; 600_000];
        let event = Batch::from_events([Event::new(body)]);
        first.put(event).await.expect("put");
    }
    first.stop().await.expect("stop");
    let segment = find(root.path(), "/00000000000000000000.log");
    std::fs::OpenOptions::new()
        .write(true)
        .open(&segment)
        .expect("segment")
        .set_len(1_000_000)
        .expect("cut");

    let second = channel(root.path(), &options);
    second.start().await.expect("start");
    let mut found = Vec::new();
    while second.counters().get(Metric::ChannelSize) > 0 {
        let lease = second.take(TakeLimit::events(7)).await.expect("take");
        found.extend(lease.batch().iter().map(|event| event.body[0] - b'a'));
        lease.commit().await.expect("commit");
    }
    assert_eq!(found, [0, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
    let warnings = second.warnings().join("\n");
    let path = segment.display().to_string();
    assert!(warnings.contains(&path), "{warnings}");
    assert!(warnings.contains("ends at byte 1000000"), "{warnings}");
    second.stop().await.expect("stop");
}

/// The only file below `dir` whose name ends so.
fn find(dir: &Path, end: &str) -> std::path::PathBuf {
    let mut waiting = vec![dir.to_path_buf()];
    while let Some(dir) = waiting.pop() {
        for entry in std::fs::read_dir(dir).expect("list") {
            let path = entry.expect("entry").path();
            if path.is_dir() {
                waiting.push(path);
            } else if path.to_string_lossy().ends_with(end) {
                return path;
            }
        }
    }
    panic!("no file ends with {end}");
}

/// A forced stop drops puts that the log already has; without the answer nobody would see their events.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_put_whose_caller_is_gone_is_taken_all_the_same_and_its_room_comes_back() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let channel = channel(
        dir.path(),
        &[("capacity", "8"), ("transactionCapacity", "8")],
    );
    channel.start().await.expect("opens");
    for round in 0..20 {
        let first = round * 8;
        let mut putting = channel.put(numbers(first..first + 8));
        // Polled once: there is room, so the log has it.
        let answered = std::future::poll_fn(|task| {
            std::task::Poll::Ready(putting.as_mut().poll(task).is_ready())
        });
        answered.await;
        drop(putting);
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        let lease = loop {
            assert!(
                tokio::time::Instant::now() < deadline,
                "the events are not seen"
            );
            let lease = channel.take(TakeLimit::events(8)).await.expect("take");
            if !lease.batch().is_empty() {
                break lease;
            }
        };
        let expected: Vec<_> = (first..first + 8).collect();
        assert_eq!(to_numbers(lease.batch()), expected);
        lease.commit().await.expect("commit");
    }
    assert_eq!(channel.counters().get(Metric::ChannelSize), 0);
    channel.stop().await.expect("closes");
}

/// A limit in bytes holds puts back, frees itself as events are delivered, and holds after a restart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_byte_capacity_bounds_the_data_files() {
    const LIMIT: usize = 32 << 20;
    let root = tempfile::tempdir().expect("temporary folder");
    let dirs = format!("{0}/a,{0}/b", root.path().display());
    let limit = LIMIT.to_string();
    let options = [("flafka.byteCapacity", limit.as_str())];
    let channel = channel(Path::new(&dirs), &options);
    channel.start().await.expect("start");
    let batch = || Batch::from_events([Event::new(vec![b'x'; 1 << 20])]);
    let mut stored = 0;
    let full = loop {
        match channel.put(batch()).await {
            Ok(()) => stored += 1,
            Err(error) => break error,
        }
        assert!(stored <= LIMIT >> 20, "more than the limit");
    };
    assert!(stored >= 30, "{stored}");
    assert!(full.is_retriable() && full.chain().contains("flafka.byteCapacity"));
    let too_large = Batch::from_events([Event::new(vec![b'x'; LIMIT + 1])]);
    let too_large = channel.put(too_large).await.expect_err("never fits");
    assert!(!too_large.is_retriable(), "{}", too_large.chain());
    channel.stop().await.expect("stop");
    channel.start().await.expect("start again");
    assert!(channel.put(batch()).await.is_err());
    // Ten times the limit goes through when it is taken out.
    let mut taken = 0;
    for _ in 0..10 * (LIMIT >> 20) {
        let lease = channel.take(TakeLimit::events(1)).await.expect("take");
        taken += lease.batch().len();
        lease.commit().await.expect("commit");
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        while taken > 8 && channel.put(batch()).await.is_err() {
            assert!(tokio::time::Instant::now() < deadline, "no room comes free");
            let lease = channel.take(TakeLimit::events(1)).await.expect("take");
            taken += lease.batch().len();
            lease.commit().await.expect("commit");
        }
    }
    channel.stop().await.expect("stop");
}

/// Somebody removes the directory of a running channel: what is put goes into files without names, and that is said.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_directory_is_named_as_soon_as_a_checkpoint_is_due() {
    let root = tempfile::tempdir().expect("temporary folder");
    let data = root.path().join("data");
    let channel = bare(&data, &[("checkpointInterval", "1000")]);
    channel.start().await.expect("start");
    channel.put(numbers(0..10)).await.expect("put");
    assert_eq!(channel.warnings(), Vec::<String>::new());
    // The channel writes while its files go, so some may be new.
    while data.try_exists().expect("look") {
        drop(std::fs::remove_dir_all(&data));
    }
    drop(channel.put(numbers(10..20)).await);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    let named = loop {
        if let Some(warning) = channel.warnings().pop() {
            break warning;
        }
        assert!(tokio::time::Instant::now() < deadline, "nothing is said");
        tokio::task::yield_now().await;
    };
    assert!(
        named.contains("no checkpoint can be written") && named.contains("were removed"),
        "{named}"
    );
    channel.refresh();
    assert!(channel.counters().get(Metric::CheckpointWriteErrorCount) > 0);
    drop(channel.stop().await);
}

/// What a setting gives: `None` when it is refused, and what was said.
fn read(pairs: &[(&str, &str)]) -> (Option<FileChannelConfig>, String) {
    let section = Section::of("a1.channels.c1", pairs.iter().copied());
    let mut report = Report::new();
    let config = FileChannelConfig::from_section(&section, &mut report);
    (config, format!("{:?}", report.problems()))
}

#[test]
fn values_that_do_not_count_as_written_are_noted() {
    let seconds = Duration::from_secs;
    for (key, value, says, interval) in [
        ("maxFileSize", "100", "1048576 counts", seconds(30)),
        ("checkpointInterval", "0", "the default", seconds(30)),
        ("checkpointInterval", "10", "1000 ms apart", seconds(1)),
    ] {
        let (config, said) = read(&[(key, value)]);
        let config = config.unwrap_or_else(|| panic!("{said}"));
        assert_eq!(config.checkpoint_interval(), interval, "{key} = {value}");
        assert!(said.contains(says) && said.contains("Note"), "{said}");
    }
    assert_eq!(read(&[("checkpointInterval", "1000")]).1, "[]");
}

#[test]
fn a_capacity_below_the_default_transaction_says_what_to_set() {
    let (refused, said) = read(&[("capacity", "100")]);
    assert!(refused.is_none());
    for part in [
        "c1.capacity",
        "by default 10000",
        "set transactionCapacity to at most 100",
    ] {
        assert!(said.contains(part), "no {part:?} in {said}");
    }
    let (refused, said) = read(&[("capacity", "100"), ("transactionCapacity", "101")]);
    assert!(refused.is_none() && said.contains("c1.transactionCapacity"));
}

#[test]
fn directories_are_named_once_and_at_all() {
    for (dirs, says) in [
        ("/a,/b,/a", "names /a twice"),
        (",", "names no directory"),
        (" , ", "names no directory"),
    ] {
        let (refused, said) = read(&[("dataDirs", dirs)]);
        assert!(refused.is_none() && said.contains(says), "{dirs}: {said}");
    }
    let (taken, said) = read(&[("dataDirs", "/a, /b,")]);
    assert_eq!(taken.expect(&said).data_dirs.0, ["/a", "/b"]);
}

#[test]
fn the_promise_tells_a_full_disk_from_a_full_channel_and_what_is_encrypted() {
    let (config, said) = read(&[("minimumRequiredSpace", "2000000")]);
    let promise = config.expect(&said).promise(Path::new("/home/x"));
    for part in ["waits 3 s for room, then fails", "2000000", "fails at once"] {
        assert!(promise.when_full.contains(part), "{}", promise.when_full);
    }
    assert_eq!(promise.encrypted, None);
    let (config, said) = read(&[
        ("encryption.keyProvider", "JCEKSFILE"),
        ("encryption.keyProvider.keyStoreFile", "/k"),
        ("encryption.keyProvider.keyStorePasswordFile", "/p"),
        ("encryption.keyProvider.keys", "one"),
        ("encryption.cipherProvider", "AESCTRNOPADDING"),
        ("encryption.activeKey", "one"),
    ]);
    let promise = config.expect(&said).promise(Path::new("/home/x"));
    let encrypted = promise.encrypted.expect("it is");
    assert!(
        encrypted.contains("AES-256-GCM") && encrypted.ends_with("one"),
        "{encrypted}"
    );
}
