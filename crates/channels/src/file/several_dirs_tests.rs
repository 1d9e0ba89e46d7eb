//! A channel with several data directories: spread, order, a full and a failing disk, directories that come and go.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use flafka_flow::channel::{Channel, TakeLimit};
use flafka_flow::conformance::{numbers, to_numbers};
use flafka_flow::counters::Metric;
use flafka_log_store::{File, Fs, Lock, LockError, OpenMode, RealFs};

use super::FileChannel;
use super::tests::{bare, conforms_in};

fn dirs(root: &Path, names: &[&str]) -> PathBuf {
    let dirs: Vec<_> = names
        .iter()
        .map(|name| root.join(name).display().to_string())
        .collect();
    PathBuf::from(dirs.join(","))
}

fn three(dir: &Path) -> Vec<PathBuf> {
    ["a", "b", "c"].map(|name| dir.join(name)).to_vec()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_directories_conform_in_put_order() {
    conforms_in(&[], true, three).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_directories_conform_with_events_on_the_disk_only() {
    // Puts of one millisecond are not told apart when they are read back from several directories.
    conforms_in(&[("flafka.cacheBytes", "0")], false, three).await;
}

async fn drain(channel: &FileChannel) -> Vec<usize> {
    let mut all = Vec::new();
    loop {
        let lease = channel.take(TakeLimit::events(64)).await.expect("take");
        if lease.is_empty() {
            return all;
        }
        all.extend(to_numbers(lease.batch()));
        lease.commit().await.expect("commit");
    }
}

fn sorted(mut numbers: Vec<usize>) -> Vec<usize> {
    numbers.sort_unstable();
    numbers
}

/// Bytes of the data files below a directory.
fn data_bytes(dir: &Path) -> u64 {
    let mut bytes = 0;
    let mut waiting = vec![dir.to_path_buf()];
    while let Some(dir) = waiting.pop() {
        for entry in std::fs::read_dir(dir).expect("folder") {
            let path = entry.expect("entry").path();
            if path.is_dir() {
                waiting.push(path);
            } else if path.extension().is_some_and(|end| end == "log") {
                bytes += std::fs::metadata(path).expect("file").len();
            }
        }
    }
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn puts_are_spread_and_come_back_once_whatever_the_order_of_the_list() {
    let root = tempfile::tempdir().expect("temporary folder");
    let channel = bare(&dirs(root.path(), &["a", "b", "c"]), &[]);
    channel.start().await.expect("start");
    for first in (0..300).step_by(10) {
        channel.put(numbers(first..first + 10)).await.expect("put");
    }
    let lease = channel.take(TakeLimit::events(35)).await.expect("take");
    assert_eq!(to_numbers(lease.batch()), (0..35).collect::<Vec<_>>());
    let partitions: Vec<_> = lease.origin().iter().map(|run| run.partition).collect();
    assert_eq!(partitions, [0, 1, 2, 0]);
    lease.commit().await.expect("commit");
    let rolled_back = channel.take(TakeLimit::events(35)).await.expect("take");
    assert_eq!(channel.counters().get(Metric::ChannelSize), 265);
    drop(rolled_back);
    channel.stop().await.expect("stop");
    let bytes = ["a", "b", "c"].map(|name| data_bytes(&root.path().join(name)));
    assert!(
        bytes.iter().max() < bytes.iter().min().map(|least| least * 2).as_ref(),
        "{bytes:?}"
    );

    let channel = bare(&dirs(root.path(), &["c", "a", "b"]), &[]);
    channel.start().await.expect("start");
    assert_eq!(channel.counters().get(Metric::ChannelSize), 265);
    assert_eq!(sorted(drain(&channel).await), (35..300).collect::<Vec<_>>());
    channel.stop().await.expect("stop");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_off_the_list_is_drained_and_gets_nothing_new() {
    let root = tempfile::tempdir().expect("temporary folder");
    let both = bare(&dirs(root.path(), &["a", "b"]), &[]);
    both.start().await.expect("start");
    for first in [0, 10, 20, 30] {
        both.put(numbers(first..first + 10)).await.expect("put");
    }
    both.stop().await.expect("stop");
    let before = data_bytes(&root.path().join("b"));

    let one = bare(&dirs(root.path(), &["a"]), &[]);
    one.start().await.expect("start");
    for first in [40, 50, 60] {
        one.put(numbers(first..first + 10)).await.expect("put");
    }
    assert_eq!(data_bytes(&root.path().join("b")), before);
    assert_eq!(sorted(drain(&one).await), (0..70).collect::<Vec<_>>());
    one.stop().await.expect("stop");

    // Empty now, so it is let go: another channel may have it.
    one.start().await.expect("start again");
    let other = bare(&dirs(root.path(), &["b", "c"]), &[]);
    other.start().await.expect("the directory is free");
    assert_eq!(drain(&other).await, Vec::<usize>::new());
    other.stop().await.expect("stop");
    one.stop().await.expect("stop");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_of_another_channel_keeps_the_whole_channel_from_starting() {
    let root = tempfile::tempdir().expect("temporary folder");
    let first = bare(&dirs(root.path(), &["a"]), &[]);
    first.start().await.expect("start");
    let second = bare(&dirs(root.path(), &["b", "a"]), &[]);
    let refused = second.start().await.expect_err("a is in use").chain();
    assert!(
        refused.contains(&std::process::id().to_string()),
        "{refused}"
    );
    first.stop().await.expect("stop");
    second.start().await.expect("both are free");
    second.stop().await.expect("stop");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_that_cannot_be_opened_is_left_out_until_it_can() {
    let root = tempfile::tempdir().expect("temporary folder");
    std::fs::write(root.path().join("b"), "a file").expect("write");
    let channel = bare(&dirs(root.path(), &["a", "b"]), &[]);
    channel.start().await.expect("one of two is enough");
    assert!(channel.fault().is_some_and(|fault| fault.contains("/b")));
    for first in [0, 10, 20] {
        channel.put(numbers(first..first + 10)).await.expect("put");
    }
    channel.reopen().await.expect_err("still a file");
    std::fs::remove_file(root.path().join("b")).expect("remove");
    let lease = channel.take(TakeLimit::events(5)).await.expect("take");
    channel.reopen().await.expect("a folder can be made");
    assert_eq!(channel.fault(), None);
    lease
        .commit()
        .await
        .expect("the other directory was not touched");
    channel.put(numbers(30..40)).await.expect("put");
    channel.put(numbers(40..50)).await.expect("put");
    assert!(data_bytes(&root.path().join("b")) > 0);
    assert_eq!(sorted(drain(&channel).await), (5..50).collect::<Vec<_>>());
    channel.stop().await.expect("stop");

    let broken = bare(&dirs(root.path(), &["a/x", "a/y"]), &[]);
    for name in ["a/x", "a/y"] {
        std::fs::write(root.path().join(name), "a file").expect("write");
    }
    broken.start().await.expect_err("no directory works");
}

/// What is wrong with a disk.
#[derive(Debug, Default)]
struct Trouble {
    full: AtomicBool,
    failing: AtomicBool,
}

impl Trouble {
    fn check(&self) -> io::Result<()> {
        match self.failing.load(Ordering::SeqCst) {
            true => Err(io::Error::other("planned")),
            false => Ok(()),
        }
    }
}

/// The machine's file system; what lies below `bad` may be in trouble.
#[derive(Debug)]
struct OneBadDisk {
    bad: PathBuf,
    trouble: Arc<Trouble>,
}

#[derive(Debug)]
struct BadFile(Arc<dyn File>, Arc<Trouble>);

impl OneBadDisk {
    fn check(&self, path: &Path) -> io::Result<()> {
        match path.starts_with(&self.bad) {
            true => self.trouble.check(),
            false => Ok(()),
        }
    }
}

impl Fs for OneBadDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        self.check(path)?;
        let file = RealFs.open(path, mode)?;
        Ok(match path.starts_with(&self.bad) {
            true => Arc::new(BadFile(file, Arc::clone(&self.trouble))),
            false => file,
        })
    }
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.check(path)?;
        RealFs.create_dir_all(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.check(to)?;
        RealFs.rename(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.check(path)?;
        RealFs.remove_file(path)
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        RealFs.remove_dir(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<std::ffi::OsString>> {
        self.check(dir)?;
        RealFs.list(dir)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.check(dir)?;
        RealFs.sync_dir(dir)
    }
    fn lock(&self, path: &Path, holder: &str) -> Result<Box<dyn Lock>, LockError> {
        RealFs.lock(path, holder)
    }
    fn space_left(&self, path: &Path) -> io::Result<u64> {
        let is_full = path.starts_with(&self.bad) && self.trouble.full.load(Ordering::SeqCst);
        match is_full {
            true => Ok(0),
            false => RealFs.space_left(path),
        }
    }
    fn entropy(&self) -> u64 {
        RealFs.entropy()
    }
}

impl File for BadFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.1.check()?;
        self.0.read_at(buffer, position)
    }
    fn write_vectored_at(&self, buffers: &[io::IoSlice<'_>], position: u64) -> io::Result<usize> {
        self.1.check()?;
        self.0.write_vectored_at(buffers, position)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.1.check()?;
        self.0.sync_data()
    }
    fn set_len(&self, length: u64) -> io::Result<()> {
        self.1.check()?;
        self.0.set_len(length)
    }
    fn length(&self) -> io::Result<u64> {
        self.0.length()
    }
    fn allocate(&self, length: u64) -> io::Result<()> {
        self.1.check()?;
        self.0.allocate(length)
    }
}

fn with_trouble(root: &Path, more: &[(&str, &str)]) -> (FileChannel, Arc<Trouble>) {
    let trouble = Arc::new(Trouble::default());
    let disk = OneBadDisk {
        bad: root.join("b"),
        trouble: Arc::clone(&trouble),
    };
    let channel = bare(&dirs(root, &["a", "b", "c"]), more).on(Arc::new(disk));
    (channel, trouble)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_still_drains_and_the_others_take_its_puts() {
    let root = tempfile::tempdir().expect("temporary folder");
    let (channel, trouble) = with_trouble(root.path(), &[]);
    channel.start().await.expect("start");
    for first in (0..60).step_by(10) {
        channel.put(numbers(first..first + 10)).await.expect("put");
    }
    trouble.full.store(true, Ordering::SeqCst);
    for first in (60..300).step_by(10) {
        channel
            .put(numbers(first..first + 10))
            .await
            .expect("the others have room");
    }
    assert_eq!(channel.counters().get(Metric::ChannelSize), 300);
    assert_eq!(channel.fault(), None);
    assert_eq!(drain(&channel).await, (0..300).collect::<Vec<_>>());
    channel.stop().await.expect("stop");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_disk_stops_nobody_and_gives_its_events_when_it_is_back() {
    let root = tempfile::tempdir().expect("temporary folder");
    let more = [
        ("capacity", "2000"),
        ("transactionCapacity", "100"),
        ("flafka.cacheBytes", "0"),
    ];
    let (channel, trouble) = with_trouble(root.path(), &more);
    channel.start().await.expect("start");
    let mut acknowledged = Vec::new();
    let mut refused = Vec::new();
    let mut put =
        async |range: std::ops::Range<usize>| match channel.put(numbers(range.clone())).await {
            Ok(()) => acknowledged.extend(range),
            Err(error) => {
                assert!(error.is_retriable(), "{}", error.chain());
                refused.extend(range);
            }
        };
    for first in (0..90).step_by(10) {
        put(first..first + 10).await;
    }
    trouble.failing.store(true, Ordering::SeqCst);
    for first in (90..300).step_by(10) {
        put(first..first + 10).await;
    }
    assert!(refused.len() <= 10, "{refused:?}");
    let mut delivered = Vec::new();
    // The first take that reads there fails, and the directory is left alone from then on.
    while channel.fault().is_none() {
        if let Ok(lease) = channel.take(TakeLimit::events(64)).await {
            delivered.extend(to_numbers(lease.batch()));
            lease.commit().await.expect("commit");
        }
    }
    assert!(channel.fault().is_some_and(|fault| fault.contains("/b")));
    delivered.extend(drain(&channel).await);
    assert!(
        delivered.len() >= acknowledged.len() - 30,
        "{}",
        delivered.len()
    );
    channel.reopen().await.expect_err("it still fails");
    trouble.failing.store(false, Ordering::SeqCst);
    channel.reopen().await.expect("it is back");
    delivered.extend(drain(&channel).await);
    assert_eq!(channel.counters().get(Metric::ChannelSize), 0);
    // A refused put may be there all the same; nothing else is lost or comes twice.
    delivered.retain(|number| !refused.contains(number));
    assert_eq!(sorted(delivered), acknowledged);
    // All the room is there again.
    for first in (0..2000).step_by(100) {
        channel
            .put(numbers(first..first + 100))
            .await
            .expect("room for 2000");
    }
    channel.put(numbers(0..1)).await.expect_err("full");
    channel.stop().await.expect("stop");
}
