//! Channels written record by record here, and directories that a real Flume 1.11 has left.

use std::fs;
use std::path::{Path, PathBuf};

use crate::md5::md5;
use crate::*;

/// Writes records as Flume does.
#[derive(Default)]
struct LogWriter {
    bytes: Vec<u8>,
}

fn delimited(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut length = message.len();
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(message);
    out
}

fn field32(number: u8, value: i32) -> Vec<u8> {
    [&[number << 3 | 5][..], &value.to_le_bytes()].concat()
}

fn field64(number: u8, value: i64) -> Vec<u8> {
    [&[number << 3 | 1][..], &value.to_le_bytes()].concat()
}

fn field_bytes(number: u8, value: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2][..], &delimited(value)].concat()
}

impl LogWriter {
    fn record(&mut self, kind: i32, transaction: i64, order: i64, body: &[u8]) -> u32 {
        let header = [field32(1, kind), field64(2, transaction), field64(3, order)].concat();
        let payload = [delimited(&header), delimited(body), vec![0]].concat();
        let at = self.bytes.len() as u32;
        self.bytes.push(0x7f);
        self.bytes
            .extend_from_slice(&(payload.len() as i32).to_be_bytes());
        self.bytes.extend_from_slice(&payload);
        at
    }

    fn put(&mut self, transaction: i64, order: i64, body: &str) -> u32 {
        let header = [field_bytes(1, b"h"), field_bytes(2, body.as_bytes())].concat();
        let event = [field_bytes(1, &header), field_bytes(2, body.as_bytes())].concat();
        let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32IsoHdlc, body.as_bytes());
        let put = [field_bytes(1, &event), field64(2, crc as i64)].concat();
        self.record(1, transaction, order, &put)
    }

    fn take(&mut self, transaction: i64, order: i64, file: i32, offset: u32) {
        let body = [field32(1, file), field32(2, offset as i32)].concat();
        self.record(2, transaction, order, &body);
    }

    fn rollback(&mut self, transaction: i64, order: i64) {
        self.record(3, transaction, order, &[]);
    }

    fn commit(&mut self, transaction: i64, order: i64, work: i32) {
        self.record(4, transaction, order, &field32(1, work));
    }

    /// Two files: the log and its meta.
    fn write(&self, dir: &Path, number: i32, checkpoint: (i64, i64)) {
        fs::create_dir_all(dir).expect("create");
        let bytes = [&self.bytes[..], &[0x80; 500]].concat();
        fs::write(dir.join(format!("log-{number}")), bytes).expect("write");
        let meta = [
            field32(1, 3),
            field32(2, number),
            field64(3, checkpoint.0),
            field64(4, checkpoint.1),
            field64(6, 0),
            field64(7, 0),
        ];
        let path = dir.join(format!("log-{number}.meta"));
        fs::write(path, delimited(&meta.concat())).expect("write");
    }
}

/// A checkpoint with this queue (ring of 8 slots, first event in slot 6) and these transactions under way.
fn write_checkpoint(
    dir: &Path,
    order: i64,
    queue: &[i64],
    puts: &[(i64, &[i64])],
    takes: &[(i64, &[i64])],
) {
    fs::create_dir_all(dir).expect("create");
    let mut longs = vec![0i64; 1029 + 8];
    (longs[0], longs[1]) = (3, order);
    for (index, pointer) in queue.iter().enumerate() {
        longs[1029 + (6 + index) % 8] = *pointer;
    }
    let bytes: Vec<u8> = longs.iter().flat_map(|long| long.to_be_bytes()).collect();
    fs::write(dir.join("checkpoint"), bytes).expect("write");
    let meta = [
        field32(1, 3),
        field64(2, order),
        field32(3, queue.len() as i32),
        field32(4, 6),
    ];
    fs::write(dir.join("checkpoint.meta"), delimited(&meta.concat())).expect("write");
    for (name, transactions) in [("inflightputs", puts), ("inflighttakes", takes)] {
        let mut longs = Vec::new();
        for (transaction, pointers) in transactions {
            longs.extend([*transaction, pointers.len() as i64]);
            longs.extend(*pointers);
        }
        longs.extend([0, 0]);
        let rest: Vec<u8> = longs.iter().flat_map(|long| long.to_be_bytes()).collect();
        fs::write(dir.join(name), [&md5(&rest)[..], &rest].concat()).expect("write");
    }
}

fn long(file: i64, offset: u32) -> i64 {
    file << 32 | i64::from(offset)
}

fn bodies(
    source: &Source,
    from: u64,
    on_damage: OnDamage,
) -> Result<(Vec<String>, Vec<Finding>), FlumeError> {
    let plan = source.plan(&mut |_| {})?;
    let mut events = plan.events(from, on_damage)?;
    let mut found = Vec::new();
    while let Some(event) = events.next_event()? {
        found.push(String::from_utf8_lossy(&event.body).into_owned());
    }
    Ok((found, events.drain_findings()))
}

/// A channel with every kind of transaction; returns what must come out of it.
fn mixed(root: &Path) -> Vec<&'static str> {
    let (mut one, mut two) = (LogWriter::default(), LogWriter::default());
    // Before the checkpoint at 100.
    let a = one.put(1, 10, "a");
    let b = one.put(1, 11, "b");
    let c = one.put(1, 12, "c");
    one.commit(1, 13, 1);
    let d = two.put(2, 14, "d");
    let e = two.put(2, 15, "e");
    two.take(7, 20, 1, a);
    two.take(8, 21, 1, b);
    let ends = (one.bytes.len() as i64, two.bytes.len() as i64);
    // Behind it.
    two.put(2, 101, "f");
    one.put(3, 102, "g");
    one.commit(3, 103, 1);
    two.commit(2, 104, 1);
    one.put(4, 105, "rolled back");
    one.rollback(4, 106);
    two.put(5, 107, "never committed");
    two.commit(7, 108, 2);
    one.take(9, 109, 1, c);
    one.take(11, 110, 2, d);
    one.commit(11, 111, 2);
    one.write(&root.join("d1"), 1, (ends.0, 100));
    two.write(&root.join("d2"), 2, (ends.1, 100));
    let queue = [long(1, c)];
    // In the order of a hash table.
    let puts: [(i64, &[i64]); 1] = [(2, &[long(2, e), long(2, d)])];
    let takes: [(i64, &[i64]); 2] = [(7, &[long(1, a)]), (8, &[long(1, b)])];
    write_checkpoint(&root.join("cp"), 100, &queue, &puts, &takes);
    vec!["b", "c", "g", "e", "f"]
}

/// Encrypts a log file as Flume writes it: each payload from the same counter block, which stands in the meta file.
fn encrypt(dir: &Path, number: i32, alias: &str, key: &[u8]) {
    let path = dir.join(format!("log-{number}"));
    let mut bytes = fs::read(&path).expect("read");
    let counter = [number as u8; 16];
    let cipher = crate::cipher::Cipher::new(key, counter).expect("an AES key");
    let mut at = 0;
    while bytes[at] == 0x7f {
        let length = bytes[at + 1..at + 5].try_into().expect("four bytes");
        let end = at + 5 + i32::from_be_bytes(length) as usize;
        let mut payload = bytes[at + 5..end].to_vec();
        cipher.decrypt(&mut payload);
        bytes[at + 5..end].copy_from_slice(&payload);
        at = end;
    }
    fs::write(&path, bytes).expect("write");
    let path = dir.join(format!("log-{number}.meta"));
    let meta = fs::read(&path).expect("read");
    let encryption = [
        field_bytes(1, b"AESCTRNOPADDING"),
        field_bytes(2, alias.as_bytes()),
        field_bytes(3, &counter),
    ];
    let meta = [&meta[1..], &field_bytes(5, &encryption.concat())].concat();
    fs::write(path, delimited(&meta)).expect("write");
}

#[test]
fn encrypted_log_files_give_the_same_events_with_their_keys_only() {
    let root = tempfile::tempdir().expect("temporary folder");
    let expected = mixed(root.path());
    encrypt(&root.path().join("d1"), 1, "old", &[7; 16]);
    encrypt(&root.path().join("d2"), 2, "new", &[9; 32]);
    let dirs = [root.path().join("d1"), root.path().join("d2")];
    let checkpoint = root.path().join("cp");
    let open = |find: Option<&mut FindKey<'_>>| Source::open(Some(&checkpoint), &dirs, find);
    let mut asked = Vec::new();
    let mut keys = |alias: &str| {
        asked.push(alias.to_owned());
        Ok(match alias {
            "old" => vec![7; 16],
            _ => vec![9; 32],
        }
        .into())
    };
    let source = open(Some(&mut keys)).expect("open");
    for from in [0, 3] {
        let (found, findings) = bodies(&source, from, OnDamage::Stop).expect("readable");
        assert_eq!(
            (found, findings.len()),
            (
                expected[from as usize..]
                    .iter()
                    .map(|body| (*body).to_owned())
                    .collect(),
                0
            )
        );
    }
    drop(source);
    assert_eq!(asked, ["old", "new"], "each key is asked for once");
    let refused = |found: Result<Source, FlumeError>| found.expect_err("refused").to_string();
    let no_keys = refused(open(None));
    assert!(
        no_keys.contains("key \"old\"") && no_keys.contains("--channel"),
        "{no_keys}"
    );
    let wrong = refused(open(Some(&mut |_: &str| Ok(vec![8; 16].into()))));
    assert!(
        wrong.contains("log-1") && wrong.contains("not the key"),
        "{wrong}"
    );
    let missing = open(Some(&mut |alias: &str| Err(format!("no {alias}").into())));
    assert!(matches!(missing, Err(FlumeError::Key { key, .. }) if key == "old"));
    let short = refused(open(Some(&mut |_: &str| Ok(vec![8; 15].into()))));
    assert!(short.contains("cannot be had"), "{short}");
}

#[test]
fn damage_in_an_encrypted_file_is_named_as_in_a_plain_one() {
    let root = tempfile::tempdir().expect("temporary folder");
    let mut log = LogWriter::default();
    log.put(1, 1, "first");
    let at = log.put(1, 2, "second");
    log.put(1, 3, "third");
    log.commit(1, 4, 1);
    log.write(root.path(), 1, (0, 0));
    encrypt(root.path(), 1, "k", &[1; 24]);
    let path = root.path().join("log-1");
    let mut bytes = fs::read(&path).expect("read");
    bytes[at as usize + 5] ^= 1;
    fs::write(&path, bytes).expect("write");
    let dirs = [root.path().to_path_buf()];
    let mut key = |_: &str| Ok(vec![1; 24].into());
    let source = Source::open(None, &dirs, Some(&mut key)).expect("open");
    let plan = source.plan(&mut |_| {}).expect("plan");
    assert_eq!((plan.counts().waiting, plan.counts().damaged), (2, 1));
    assert_eq!(plan.findings()[0].position, u64::from(at));
}

fn open(root: &Path, checkpoint: bool) -> Result<Source, FlumeError> {
    let dir = root.join("cp");
    Source::open(
        checkpoint.then_some(&*dir),
        &[root.join("d1"), root.join("d2")],
        None,
    )
}

#[test]
fn a_replay_from_the_checkpoint_and_from_any_number_on() {
    let root = tempfile::tempdir().expect("temporary folder");
    let expected = mixed(root.path());
    let source = open(root.path(), true).expect("open");
    let plan = source.plan(&mut |_| {}).expect("plan");
    let counts = plan.counts();
    assert_eq!((counts.found, counts.taken, counts.waiting), (7, 2, 5));
    assert_eq!(
        (counts.returned, counts.uncommitted, counts.damaged),
        (2, 1, 0)
    );
    for from in 0..=5 {
        let (found, findings) = bodies(&source, from, OnDamage::Stop).expect("readable");
        assert_eq!(
            (found, findings),
            (
                expected[from as usize..]
                    .iter()
                    .map(|body| (*body).to_owned())
                    .collect(),
                vec![]
            )
        );
    }
}

#[test]
fn without_a_good_checkpoint_all_logs_are_read() {
    let root = tempfile::tempdir().expect("temporary folder");
    mixed(root.path());
    let ordered = |found: Vec<String>| found.join("");
    let (found, findings) =
        bodies(&open(root.path(), false).expect("open"), 0, OnDamage::Stop).expect("readable");
    assert_eq!((ordered(found), findings), ("bcgef".to_owned(), vec![]));
    for (file, position) in [
        ("checkpoint", 39),
        ("inflighttakes", 20),
        ("checkpoint.meta", 1),
    ] {
        let path = root.path().join("cp").join(file);
        let good = fs::read(&path).expect("read");
        let mut bad = good.clone();
        bad[position] ^= 1;
        fs::write(&path, bad).expect("write");
        let source = open(root.path(), true).expect("open");
        assert!(
            source.start().contains("start of all logs"),
            "{}",
            source.start()
        );
        let (found, _) = bodies(&source, 0, OnDamage::Stop).expect("readable");
        assert_eq!(ordered(found), "bcgef", "{file}");
        fs::write(&path, good).expect("write");
    }
}

#[test]
fn a_torn_end_is_no_damage_and_a_flipped_bit_is() {
    let mut log = LogWriter::default();
    log.put(1, 1, "a");
    let b = log.put(1, 2, "b");
    log.commit(1, 3, 1);
    let whole = log.bytes.len();
    let c = log.put(2, 4, "c") as usize;
    let commit = log.bytes.len();
    log.commit(2, 5, 1);
    let end = log.bytes.len();
    // Every way to be torn in the last record: filling or nothing where it should go on.
    for cut in commit + 1..end {
        for filling in [0, 300] {
            let root = tempfile::tempdir().expect("temporary folder");
            log.write(root.path(), 1, (0, 0));
            let torn = [&log.bytes[..cut], &vec![0x80; filling]].concat();
            fs::write(root.path().join("log-1"), torn).expect("write");
            let source = Source::open(None, &[root.path().to_path_buf()], None).expect("open");
            let plan = source.plan(&mut |_| {}).expect("plan");
            assert_eq!(
                (plan.counts().waiting, plan.counts().damaged),
                (2, 0),
                "{cut} {:?}",
                plan.findings()
            );
        }
    }
    // A flipped bit is found, and where it hits a head or a length the rest is found again.
    for at in 0..end {
        let root = tempfile::tempdir().expect("temporary folder");
        log.write(root.path(), 1, (0, 0));
        let path = root.path().join("log-1");
        let mut bytes = fs::read(&path).expect("read");
        bytes[at] ^= 0x10;
        fs::write(&path, bytes).expect("write");
        let source = Source::open(None, &[root.path().to_path_buf()], None).expect("open");
        let plan = source.plan(&mut |_| {}).expect("plan");
        drop(bodies(&source, 0, OnDamage::Stop));
        drop(bodies(&source, 0, OnDamage::LeaveOut));
        if at == whole || at == c + 1 {
            assert_eq!(plan.counts().damaged, 1, "{at}");
            assert_eq!(plan.findings()[0].position, c as u64);
        }
    }
    // The body of an event that waits.
    let root = tempfile::tempdir().expect("temporary folder");
    log.bytes[whole - 36 - 11] = b'X';
    log.write(root.path(), 1, (0, 0));
    let source = Source::open(None, &[root.path().to_path_buf()], None).expect("open");
    let stopped = bodies(&source, 0, OnDamage::Stop);
    let (found, findings) = bodies(&source, 0, OnDamage::LeaveOut).expect("readable");
    assert!(
        stopped.is_err() && found.len() == 2 && findings.len() == 1,
        "{found:?} {findings:?}"
    );
    assert_eq!(findings[0].position, u64::from(b));
}

#[test]
fn a_take_of_nothing_is_noticed() {
    let root = tempfile::tempdir().expect("temporary folder");
    let mut log = LogWriter::default();
    let a = log.put(1, 1, "a");
    log.put(1, 2, "b");
    log.commit(1, 3, 1);
    log.take(2, 4, 1, a + 7);
    log.commit(2, 5, 2);
    log.write(root.path(), 1, (0, 0));
    let source = Source::open(None, &[root.path().to_path_buf()], None).expect("open");
    let (_, findings) = bodies(&source, 0, OnDamage::Stop).expect("readable");
    assert_eq!(findings.len(), 1, "{findings:?}");
}

#[test]
fn what_cannot_be_read_is_refused_by_name() {
    let root = tempfile::tempdir().expect("temporary folder");
    let dir = root.path().to_path_buf();
    let refused = |dir: &PathBuf| {
        Source::open(None, std::slice::from_ref(dir), None)
            .expect_err("refused")
            .to_string()
    };
    assert!(refused(&dir).contains("no log files"));
    assert!(refused(&dir.join("gone")).contains("gone"));
    fs::write(
        dir.join("log-1"),
        [&2i32.to_be_bytes()[..], &[0; 100]].concat(),
    )
    .expect("write");
    assert!(refused(&dir).contains("version 2"), "{}", refused(&dir));
    LogWriter::default().write(&dir, 1, (0, 0));
    let encryption = [field_bytes(1, b"AESCTRNOPADDING"), field_bytes(2, b"key-0")].concat();
    let meta = [field32(1, 3), field32(2, 1), field_bytes(5, &encryption)].concat();
    fs::write(dir.join("log-1.meta"), delimited(&meta)).expect("write");
    assert!(refused(&dir).contains("encrypted") && refused(&dir).contains("key-0"));
}

/// A fixture with its filling, as Flume left it.
fn fixture(name: &str, to: &Path) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/fixtures/flume_channel")
        .join(name);
    for (folder, copy) in [("checkpoint", "cp"), ("data1", "d1"), ("data2", "d2")] {
        fs::create_dir_all(to.join(copy)).expect("create");
        for entry in fs::read_dir(from.join(folder)).expect("list") {
            let path = entry.expect("list").path();
            let mut bytes = fs::read(&path).expect("read");
            let file = path.file_name().expect("a name");
            if path.extension().is_none() && file.to_string_lossy().starts_with("log-") {
                bytes.resize(1 << 20, 0x80);
            }
            fs::write(to.join(copy).join(file), bytes).expect("write");
        }
    }
}

#[test]
fn what_a_real_flume_left_is_what_a_real_flume_would_deliver() {
    for (name, returned) in [("stopped", 0), ("killed", 1)] {
        let root = tempfile::tempdir().expect("temporary folder");
        fixture(name, root.path());
        let source = open(root.path(), true).expect("open");
        assert!(
            source.start().starts_with("checkpoint"),
            "{}",
            source.start()
        );
        let plan = source.plan(&mut |_| {}).expect("plan");
        assert_eq!(
            (plan.counts().returned, plan.findings().len()),
            (returned, 0)
        );
        let mut events = plan.events(0, OnDamage::Stop).expect("events");
        let mut found = String::new();
        while let Some(event) = events.next_event().expect("readable") {
            let mut headers = event.headers;
            headers.sort();
            let headers: Vec<String> = headers
                .iter()
                .map(|(key, value)| format!("{key}={value}"))
                .collect();
            found.push_str(&format!(
                "{{{}}} {}\n",
                headers.join(", "),
                String::from_utf8_lossy(&event.body)
            ));
        }
        let expected =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/flume_channel");
        let expected = fs::read_to_string(expected.join(name).join("expected.txt")).expect("read");
        assert_eq!(found, expected, "{name}");
        assert_eq!(events.drain_findings(), []);
        assert!(source.is_unchanged().expect("readable"));
    }
}

#[test]
fn no_bytes_make_a_parser_panic() {
    let root = tempfile::tempdir().expect("temporary folder");
    fixture("killed", root.path());
    for file in [
        "cp/checkpoint.meta",
        "cp/inflighttakes",
        "d1/log-5.meta",
        "d1/log-5",
    ] {
        let bytes = fs::read(root.path().join(file)).expect("read");
        let bytes = &bytes[..bytes.len().min(900)];
        for at in 0..bytes.len() {
            for bit in [1, 0x10, 0x80] {
                let mut bad = bytes.to_vec();
                bad[at] ^= bit;
                drop(meta::log_meta(&bad));
                drop(meta::checkpoint_meta(&bad));
                drop(meta::in_flight(&bad));
                drop(std::hint::black_box(
                    record::head(&bad[5.min(at)..]).map_err(|error| error.0.to_owned()),
                ));
                drop(record::put(&bad[5.min(at)..]));
            }
        }
    }
}
