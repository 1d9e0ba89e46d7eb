//! Encryption at rest, seen from outside, with keystores that `keytool` made (`testdata/README.md`).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use flafka_flow::channel::{Channel, ChannelError, TakeLimit};
use flafka_flow::conformance::{numbers, to_numbers};
use flafka_flow::settings::{Report, Section, Settings};
use flafka_flow::{Batch, Event, Headers};

use crate::file::FileChannelConfig;
use crate::file::tests::{bare, conforms};

const PROVIDER: &str = "encryption.keyProvider";
const KEYSTORE: &str = "encryption.keyProvider.keyStoreFile";
const PASSWORD: &str = "encryption.keyProvider.keyStorePasswordFile";
const KEYS: &str = "encryption.keyProvider.keys";
const KEY_0_PASSWORD: &str = "encryption.keyProvider.keys.key-0.passwordFile";
const CIPHER: &str = "encryption.cipherProvider";
const ACTIVE: &str = "encryption.activeKey";

fn testdata(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/file/encryption/testdata");
    path.join(name).display().to_string()
}

/// Password files, and the settings that name them.
struct Keys {
    dir: tempfile::TempDir,
}

impl Keys {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("temporary folder");
        std::fs::write(dir.path().join("store"), " storeSecret\n").expect("write");
        std::fs::write(dir.path().join("key-0"), "keySecret\r\n").expect("write");
        Self { dir }
    }

    fn settings(&self, keystore: &str, active: Option<&str>) -> Vec<(String, String)> {
        let path = |name: &str| self.dir.path().join(name).display().to_string();
        let mut all = vec![
            (PROVIDER, "jceksfile".to_owned()),
            (KEYSTORE, testdata(keystore)),
            (PASSWORD, path("store")),
            (KEYS, "key-0 key-1 key-2 des".to_owned()),
            (KEY_0_PASSWORD, path("key-0")),
            (CIPHER, "AESCTRNOPADDING".to_owned()),
        ];
        all.extend(active.map(|alias| (ACTIVE, alias.to_owned())));
        let owned = all.into_iter().map(|(key, value)| (key.to_owned(), value));
        owned.collect()
    }
}

type Own = [(String, String)];

fn borrowed(settings: &Own) -> Vec<(&str, &str)> {
    settings
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect()
}

async fn opened(dir: &Path, settings: &Own, more: &[(&str, &str)]) -> Arc<dyn Channel> {
    try_open(dir, settings, more)
        .await
        .unwrap_or_else(|error| panic!("{}", error.chain()))
}

async fn try_open(
    dir: &Path,
    settings: &Own,
    more: &[(&str, &str)],
) -> Result<Arc<dyn Channel>, ChannelError> {
    let all = [&borrowed(settings), more].concat();
    let channel = bare(dir, &all);
    channel.start().await?;
    Ok(Arc::new(channel))
}

async fn refused(dir: &Path, settings: &Own) -> String {
    match try_open(dir, settings, &[]).await {
        Err(error) => error.chain(),
        Ok(_) => panic!("opened"),
    }
}

async fn drain(channel: &dyn Channel) -> Vec<usize> {
    let mut all = Vec::new();
    loop {
        let lease = channel.take(TakeLimit::events(1000)).await.expect("take");
        if lease.is_empty() {
            return all;
        }
        all.extend(to_numbers(lease.batch()));
        lease.commit().await.expect("commit");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms_encrypted() {
    let keys = Keys::new();
    conforms(&borrowed(&keys.settings("keys.jceks", Some("key-0")))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms_encrypted_with_events_on_the_disk_only() {
    let keys = Keys::new();
    let settings = keys.settings("keys.p12", Some("key-1"));
    let mut settings = borrowed(&settings);
    settings.push(("flafka.cacheBytes", "0"));
    conforms(&settings).await;
}

fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("folder") {
        let path = entry.expect("entry").path();
        match path.is_dir() {
            true => files(&path, found),
            false => found.push(path),
        }
    }
}

/// The files below `dir` that hold one of the texts.
fn leaks(dir: &Path, texts: &[&str]) -> Vec<(PathBuf, String)> {
    let mut all = Vec::new();
    files(dir, &mut all);
    assert!(all.len() >= 4, "{all:?}");
    let mut leaks = Vec::new();
    for path in all {
        // A file that goes meanwhile is an old checkpoint.
        let Ok(bytes) = std::fs::read(&path) else {
            continue;
        };
        for text in texts {
            if bytes
                .windows(text.len())
                .any(|part| part == text.as_bytes())
            {
                leaks.push((path.clone(), (*text).to_owned()));
            }
        }
    }
    leaks
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_file_holds_anything_of_an_event() {
    let texts = ["MarkedBody", "MarkedHeader", "MarkedValue"];
    let event = |size: usize| Event {
        headers: Headers::single(texts[1], texts[2]),
        body: texts[0].repeat(size).into(),
    };
    let keys = Keys::new();
    for (active, is_sealed) in [(Some("key-1"), true), (None, false)] {
        let root = tempfile::tempdir().expect("temporary folder");
        let settings = keys.settings("keys.jceks", active);
        let channel = opened(root.path(), &settings, &[("checkpointInterval", "1000")]).await;
        // Small ones go through the journal, one of 2 MB into its segment, one of 9 MB in two batches.
        for _ in 0..50 {
            channel
                .put(Batch::from_events([event(3), event(1)]))
                .await
                .expect("put");
        }
        channel
            .put(Batch::from_events([event(200_000)]))
            .await
            .expect("put");
        let large = (0..3).map(|_| event(300_000));
        channel.put(Batch::from_events(large)).await.expect("put");
        let lease = channel.take(TakeLimit::events(30)).await.expect("take");
        lease.commit().await.expect("commit");
        assert_eq!(leaks(root.path(), &texts).is_empty(), is_sealed);
        channel.stop().await.expect("stop");
        let leaks = leaks(root.path(), &texts);
        assert_eq!(leaks.is_empty(), is_sealed, "{leaks:?}");

        let channel = opened(root.path(), &settings, &[]).await;
        let mut sizes = Vec::new();
        while sizes.len() < 74 {
            let lease = channel.take(TakeLimit::events(1000)).await.expect("take");
            for event in lease.batch().iter() {
                assert_eq!(event.headers.get(texts[1]), Some(texts[2]));
                sizes.push(event.body.len() / texts[0].len());
            }
            lease.commit().await.expect("commit");
        }
        assert_eq!(sizes[68..], [3, 1, 200_000, 300_000, 300_000, 300_000]);
        channel.stop().await.expect("stop");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_rotate_and_encryption_goes_on_and_off_while_events_wait() {
    let root = tempfile::tempdir().expect("temporary folder");
    let keys = Keys::new();
    let put = async |settings: &Own, from: usize| {
        let channel = opened(root.path(), settings, &[]).await;
        channel.put(numbers(from..from + 10)).await.expect("put");
        channel.stop().await.expect("stop");
    };
    put(&[], 0).await;
    put(&keys.settings("keys.jceks", Some("key-0")), 10).await;
    put(&keys.settings("keys.jceks", Some("key-2")), 20).await;
    put(&keys.settings("keys.jceks", None), 30).await;
    // Neither without keys nor with others.
    let none = refused(root.path(), &[]).await;
    assert!(
        none.contains("`key-0`, `key-2`") && none.contains("encryption.keyProvider"),
        "{none}"
    );
    let without = refused(root.path(), &keys.settings("without-key-0.jceks", None)).await;
    assert!(
        without.contains("`key-0`") && without.contains("`key-9`"),
        "{without}"
    );
    let other = refused(root.path(), &keys.settings("other.jceks", Some("key-0"))).await;
    assert!(
        other.contains("`key-0`") && other.contains("new alias"),
        "{other}"
    );

    let channel = opened(
        root.path(),
        &keys.settings("keys.jceks", Some("key-1")),
        &[],
    )
    .await;
    channel.put(numbers(40..50)).await.expect("put");
    assert_eq!(drain(&*channel).await, (0..50).collect::<Vec<_>>());
    channel.stop().await.expect("stop");
    // Nothing waits any more, so the old keys are not needed.
    let channel = opened(root.path(), &[], &[]).await;
    channel.put(numbers(0..5)).await.expect("put");
    assert_eq!(drain(&*channel).await, (0..5).collect::<Vec<_>>());
    channel.stop().await.expect("stop");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_keys_roll_with_the_size_and_go_with_their_events() {
    let root = tempfile::tempdir().expect("temporary folder");
    let keys = Keys::new();
    let settings = keys.settings("keys.jceks", Some("key-1"));
    let all = [&borrowed(&settings)[..], &[("maxFileSize", "1048576")]].concat();
    let channel = bare(root.path(), &all);
    channel.start().await.expect("start");
    let body = vec![b'x'; 400_000];
    let put = async |count: usize| {
        for _ in 0..count {
            let events = Batch::from_events([Event::new(body.clone())]);
            channel.put(events).await.expect("put");
        }
    };
    put(30).await;
    let waiting = channel.data_keys();
    assert!((9..=11).contains(&waiting), "{waiting}");
    for _ in 0..30 {
        let lease = channel.take(TakeLimit::events(1)).await.expect("take");
        assert_eq!(lease.batch().len(), 1);
        lease.commit().await.expect("commit");
    }
    put(9).await;
    let waiting = channel.data_keys();
    assert!((3..=5).contains(&waiting), "{waiting}");
    channel.stop().await.expect("stop");
    channel.start().await.expect("start again");
    let lease = channel.take(TakeLimit::events(9)).await.expect("take");
    assert!(!lease.is_empty() && lease.batch().iter().all(|event| event.body == body));
    drop(lease);
    channel.stop().await.expect("stop");
}

#[tokio::test]
async fn what_is_wrong_with_the_keys_is_said() {
    let root = tempfile::tempdir().expect("temporary folder");
    let keys = Keys::new();
    let with = |keystore: &str, active: &str| keys.settings(keystore, Some(active));
    let des = refused(root.path(), &with("keys.jceks", "des")).await;
    assert!(
        des.contains("`des`") && des.contains("DESede") && des.contains("192"),
        "{des}"
    );
    let missing = refused(root.path(), &with("without-key-0.jceks", "key-1")).await;
    assert!(
        missing.contains("`key-1`") && missing.contains("without-key-0.jceks"),
        "{missing}"
    );
    let no_store = refused(root.path(), &with("no.jceks", "key-1")).await;
    assert!(no_store.contains("no.jceks"), "{no_store}");
    let no_keystore = refused(root.path(), &with("README.md", "key-1")).await;
    assert!(no_keystore.contains("no keystore"), "{no_keystore}");
    std::fs::write(keys.dir.path().join("key-0"), "topSecret").expect("write");
    let wrong = refused(root.path(), &with("keys.jceks", "key-0")).await;
    assert!(
        wrong.contains("`key-0` is wrong") && wrong.contains("keytool"),
        "{wrong}"
    );
    assert!(!wrong.contains("topSecret"), "{wrong}");
    std::fs::write(keys.dir.path().join("store"), "").expect("write");
    let wrong = refused(root.path(), &with("keys.jceks", "key-1")).await;
    assert!(wrong.contains("password is wrong"), "{wrong}");
}

#[test]
fn settings_that_do_not_belong_together_are_named() {
    let problems = |keys: &[(&str, &str)]| {
        let section = Section::of("c", keys.iter().copied());
        let mut report = Report::new();
        let read = FileChannelConfig::from_section(&section, &mut report);
        let keys = report.problems().iter().map(|problem| problem.key.clone());
        (read.is_some(), keys.collect::<Vec<_>>())
    };
    let alone = problems(&[(ACTIVE, "key-0"), (CIPHER, "AESCTRNOPADDING")]);
    assert_eq!(
        alone,
        (false, vec![format!("c.{ACTIVE}"), format!("c.{CIPHER}")])
    );
    let bare = problems(&[(PROVIDER, "JCEKSFILE"), (ACTIVE, "key-0")]);
    let needed = [KEYSTORE, PASSWORD, KEYS, CIPHER];
    for key in needed {
        assert!(bare.1.contains(&format!("c.{key}")), "{key}: {bare:?}");
    }
    let custom = problems(&[(PROVIDER, "com.example.Keys")]);
    assert_eq!(custom, (false, vec![format!("c.{PROVIDER}")]));
    let full = [
        (PROVIDER, "JCEKSFILE"),
        (KEYSTORE, "/k"),
        (PASSWORD, "/p"),
        (KEYS, "key-0 key-1"),
        (CIPHER, "AESCTRNOPADDING"),
        (ACTIVE, "key-0"),
    ];
    assert_eq!(problems(&full), (true, vec![format!("c.{CIPHER}")]));
    let unknown = "encryption.keyProvider.keys.key-2.passwordFile";
    let more = [&full[..], &[(unknown, "/p")]].concat();
    assert_eq!(
        problems(&more),
        (false, vec![format!("c.{CIPHER}"), format!("c.{unknown}")])
    );
}
