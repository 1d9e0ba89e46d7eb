//! What lies in the directories of a channel.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crc_fast::CrcAlgorithm;
use zeroize::Zeroizing;

use crate::checkpoint::{Start, read_small};
use crate::cipher::{COUNTER_BYTES, Cipher, PROVIDER};
use crate::error::{Finding, FlumeError, KeyError};
use crate::in_use::hold;
use crate::log_file::Window;
use crate::meta::{self, Encryption, LogMeta};

/// One log file.
#[derive(Debug, Clone)]
pub(crate) struct LogFile {
    pub(crate) number: u32,
    pub(crate) path: PathBuf,
    pub(crate) length: u64,
    meta: LogMeta,
    cipher: Option<Arc<Cipher>>,
}

impl LogFile {
    /// For reading it.
    pub(crate) fn window(&self) -> Window {
        Window::new(&self.path, self.length, self.cipher.clone())
    }
}

/// Finds the AES key of an alias; asked once for each.
pub type FindKey<'a> = dyn FnMut(&str) -> Result<Zeroizing<Vec<u8>>, KeyError> + 'a;

/// The keys that were found so far.
struct Keys<'a, 'b> {
    find: Option<&'a mut FindKey<'b>>,
    found: BTreeMap<String, Zeroizing<Vec<u8>>>,
}

impl Keys<'_, '_> {
    /// What decrypts a log file with this meta.
    fn cipher(&mut self, log: &Path, encryption: &Encryption) -> Result<Arc<Cipher>, FlumeError> {
        let Encryption {
            cipher,
            key,
            parameters,
        } = encryption;
        let path = log.to_path_buf();
        let Some(find) = &mut self.find else {
            let (cipher, key) = (cipher.clone(), key.clone());
            return Err(FlumeError::Encrypted { path, cipher, key });
        };
        if !cipher.eq_ignore_ascii_case(PROVIDER) {
            let cipher = cipher.clone();
            return Err(FlumeError::UnknownCipher { path, cipher });
        }
        let no_key = |source| FlumeError::Key {
            path: path.clone(),
            key: key.clone(),
            source,
        };
        let Ok(counter) = <[u8; COUNTER_BYTES]>::try_from(&parameters[..]) else {
            return Err(no_key(
                "the parameters of the cipher in its .meta file are not 16 bytes long".into(),
            ));
        };
        if !self.found.contains_key(key) {
            self.found.insert(key.clone(), find(key).map_err(no_key)?);
        }
        let cipher = Cipher::new(&self.found[key], counter);
        let cipher =
            cipher.ok_or_else(|| no_key("it is no AES key of 128, 192 or 256 bits".into()))?;
        Ok(Arc::new(cipher))
    }
}

/// The directories of a channel, found and locked.
#[derive(Debug)]
pub struct Source {
    checkpoint_dir: Option<PathBuf>,
    data_dirs: Vec<PathBuf>,
    pub(crate) logs: BTreeMap<u32, LogFile>,
    pub(crate) start: Start,
    findings: Vec<Finding>,
    prints: Vec<u64>,
    _locks: Vec<File>,
}

impl Source {
    /// Looks at the directories of one channel (Flume's `checkpointDir` and `dataDirs`). Without a checkpoint directory all
    /// logs are read from their start. `find_key` gives the keys of encrypted log files.
    ///
    /// # Errors
    /// A running Flume holds them, there are no log files, they are encrypted under a key that is not there, they are of
    /// another version, or a call failed.
    pub fn open(
        checkpoint_dir: Option<&Path>,
        data_dirs: &[PathBuf],
        find_key: Option<&mut FindKey<'_>>,
    ) -> Result<Source, FlumeError> {
        let mut keys = Keys {
            find: find_key,
            found: BTreeMap::new(),
        };
        let mut locks = Vec::new();
        for dir in checkpoint_dir
            .into_iter()
            .chain(data_dirs.iter().map(PathBuf::as_path))
        {
            // A missing directory is named here, before its files are looked for.
            fs::metadata(dir).map_err(FlumeError::io("look at", dir))?;
            locks.extend(hold(dir)?);
        }
        let mut found = Source {
            checkpoint_dir: checkpoint_dir.map(Path::to_path_buf),
            data_dirs: data_dirs.to_vec(),
            logs: BTreeMap::new(),
            start: Start::load(checkpoint_dir)?,
            findings: Vec::new(),
            prints: Vec::new(),
            _locks: locks,
        };
        for dir in data_dirs {
            for (number, path) in log_files(dir)? {
                found.add(number, path, &mut keys)?;
            }
        }
        if found.logs.is_empty() {
            return Err(FlumeError::NoLogFiles {
                dirs: found.data_dirs,
            });
        }
        found.prints = prints(&found.data_dirs)?;
        Ok(found)
    }

    fn add(
        &mut self,
        number: u32,
        path: PathBuf,
        keys: &mut Keys<'_, '_>,
    ) -> Result<(), FlumeError> {
        let length = fs::metadata(&path)
            .map_err(FlumeError::io("measure", &path))?
            .len();
        if length == 0 {
            return Ok(());
        }
        if let Some(other) = self.logs.get(&number) {
            let first = other.path.clone();
            return Err(FlumeError::TwoChannels {
                first,
                second: path,
            });
        }
        let meta = self.meta_of(number, &path)?;
        let encryption = meta.encryption.as_ref();
        let cipher = encryption.map(|encryption| keys.cipher(&path, encryption));
        let file = LogFile {
            number,
            path,
            length,
            cipher: cipher.transpose()?,
            meta,
        };
        if let Some(encryption) = &file.meta.encryption
            && !file.window().key_fits()?
        {
            return Err(FlumeError::WrongKey {
                path: file.path,
                key: encryption.key.clone(),
            });
        }
        self.logs.insert(number, file);
        Ok(())
    }

    /// Reads `log-N.meta`, or what Flume takes in its place after a crash.
    fn meta_of(&mut self, number: u32, log: &Path) -> Result<LogMeta, FlumeError> {
        let name = format!("log-{number}.meta");
        for suffix in ["", ".tmp", ".old"] {
            let path = log.with_file_name(format!("{name}{suffix}"));
            let Some(bytes) = read_small(&path)? else {
                continue;
            };
            let meta = match meta::log_meta(&bytes) {
                Ok(meta) => meta,
                Err(error) => {
                    self.findings
                        .push(Finding::damage(&path, 0, error.to_string()));
                    return Ok(LogMeta::default());
                }
            };
            if meta.version != 3 {
                return Err(FlumeError::Version {
                    path: log.to_path_buf(),
                    version: meta.version.unsigned_abs(),
                });
            }
            if i64::from(meta.file) != i64::from(number) {
                let what = format!("it belongs to log-{}", meta.file);
                self.findings.push(Finding::damage(&path, 0, what));
                return Ok(LogMeta::default());
            }
            return Ok(meta);
        }
        // Version 2 has no such file: its version stands at the start of the log.
        let mut version = [0; 4];
        let read =
            File::open(log).and_then(|mut file| io::Read::read_exact(&mut file, &mut version));
        match read {
            Ok(()) if i32::from_be_bytes(version) == 2 => Err(FlumeError::Version {
                path: log.to_path_buf(),
                version: 2,
            }),
            Ok(()) => {
                let what = format!("{name} is missing");
                self.findings.push(Finding::damage(log, 0, what));
                Ok(LogMeta::default())
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(LogMeta::default()),
            Err(error) => Err(FlumeError::io("read", log)(error)),
        }
    }

    /// What is wrong with the small files.
    pub(crate) fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// Bytes of all log files.
    pub fn log_bytes(&self) -> u64 {
        self.logs.values().map(|log| log.length).sum()
    }

    /// Number of log files.
    pub fn log_count(&self) -> usize {
        self.logs.len()
    }

    /// Where reading starts, for people: the checkpoint, or why all logs are read from their start.
    pub fn start(&self) -> String {
        match &self.start {
            Start::Checkpoint(checkpoint) => format!(
                "checkpoint at write order id {} with {} waiting events",
                checkpoint.order, checkpoint.size
            ),
            Start::Everything(reason) => format!("the start of all logs ({reason})"),
        }
    }

    /// The log files with the position at which a replay begins.
    pub(crate) fn positions(&self) -> impl Iterator<Item = (&LogFile, u64)> {
        self.logs
            .values()
            .map(|log| (log, self.position(&log.meta)))
    }

    /// As Flume: the position of the last checkpoint that the log knows and that is not newer than ours.
    fn position(&self, meta: &LogMeta) -> u64 {
        let Start::Checkpoint(checkpoint) = &self.start else {
            return 0;
        };
        let position = if meta.checkpoint_position <= 0 {
            0
        } else if meta.checkpoint_order <= checkpoint.order {
            meta.checkpoint_position
        } else if meta.backup_order <= checkpoint.order {
            meta.backup_position
        } else {
            0
        };
        u64::try_from(position).unwrap_or(0)
    }

    /// A number for each data directory that changes with its files, see [`directory_print`].
    pub fn prints(&self) -> &[u64] {
        &self.prints
    }

    /// A number that changes when a Flume has run on these directories; the same for a copy.
    ///
    /// # Errors
    /// A file call failed.
    pub fn fingerprint(&self) -> Result<u64, FlumeError> {
        let mut text = Vec::new();
        let mut all = self.prints.clone();
        all.sort_unstable();
        for print in all {
            text.extend_from_slice(&print.to_be_bytes());
        }
        if let Some(dir) = &self.checkpoint_dir {
            for name in ["checkpoint.meta", "inflightputs", "inflighttakes"] {
                text.extend(read_small(&dir.join(name))?.unwrap_or_default());
            }
        }
        Ok(crc_fast::checksum(CrcAlgorithm::Crc64Nvme, &text))
    }

    /// Whether the files are still those that were found at first.
    ///
    /// # Errors
    /// A file call failed.
    pub fn is_unchanged(&self) -> Result<bool, FlumeError> {
        Ok(prints(&self.data_dirs)? == self.prints)
    }
}

fn prints(dirs: &[PathBuf]) -> Result<Vec<u64>, FlumeError> {
    dirs.iter().map(|dir| directory_print(dir)).collect()
}

/// A number that changes with the log files of a data directory: over their names, lengths and `.meta` files. Every
/// start of a Flume begins new files, so it changes with every run.
///
/// # Errors
/// A file call failed.
pub fn directory_print(dir: &Path) -> Result<u64, FlumeError> {
    let mut text = Vec::new();
    for (number, path) in log_files(dir)? {
        let length = fs::metadata(&path)
            .map_err(FlumeError::io("measure", &path))?
            .len();
        text.extend_from_slice(&number.to_be_bytes());
        text.extend_from_slice(&length.to_be_bytes());
        let meta = dir.join(format!("log-{number}.meta"));
        text.extend(read_small(&meta)?.unwrap_or_default());
    }
    Ok(crc_fast::checksum(CrcAlgorithm::Crc64Nvme, &text))
}

/// The log files of a data directory by number; none when there is no such directory.
///
/// # Errors
/// The directory cannot be read.
pub fn log_files(dir: &Path) -> Result<Vec<(u32, PathBuf)>, FlumeError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(FlumeError::io("list", dir)(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(FlumeError::io("list", dir))?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix("log-"));
        let digits = number.filter(|number| number.bytes().all(|byte| byte.is_ascii_digit()));
        if let Some(number) = digits.and_then(|digits| digits.parse().ok()) {
            found.push((number, entry.path()));
        }
    }
    found.sort_unstable();
    Ok(found)
}
