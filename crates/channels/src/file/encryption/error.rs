//! What keeps a channel from encrypting or decrypting. Names keys and files, never a password or key.

use std::path::PathBuf;

use flafka_keystore::KeystoreError;
use flafka_log_store::CommitError;
use thiserror::Error;

/// Why the channel's encryption does not work.
#[derive(Debug, Error)]
pub(in crate::file) enum EncryptionError {
    /// A file of the key provider cannot be read.
    #[error("read {what} {path}")]
    Read {
        /// What the file is.
        what: &'static str,
        /// Its path.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The keystore does not open, or not that key.
    #[error(
        "open keystore {path} with the password in {password_file} (`keytool -list -keystore <keystore> -storetype jceks` shows what is in it)"
    )]
    Keystore {
        /// Its path.
        path: PathBuf,
        /// Where the password came from.
        password_file: PathBuf,
        /// The cause.
        #[source]
        source: KeystoreError,
    },
    /// The key is not one for AES.
    #[error(
        "key `{alias}` in keystore {path} is a {algorithm} key of {bits} bits; an AES key of 128, 192 or 256 bits is needed (`keytool -genseckey -keyalg AES -keysize 256 -storetype jceks`)"
    )]
    NotAes {
        /// The key's alias.
        alias: String,
        /// The keystore.
        path: PathBuf,
        /// What the key is for.
        algorithm: String,
        /// Its size.
        bits: usize,
    },
    /// Encrypted events wait and there is no keystore.
    #[error(
        "events that are encrypted under key {aliases} wait in the channel, and no key provider is set: set encryption.keyProvider and its keys (without encryption.activeKey new events stay in the clear) until they are delivered"
    )]
    NoKeyProvider {
        /// The master keys that are needed.
        aliases: String,
    },
    /// Encrypted events wait and their master key cannot be had.
    #[error(
        "events that are encrypted under key `{alias}` wait in the channel: the key has to stay in the keystore until they are delivered"
    )]
    MissingMasterKey {
        /// The master key.
        alias: String,
        /// The cause.
        #[source]
        source: Box<EncryptionError>,
    },
    /// The key of that name is not the one it was.
    #[error(
        "key `{alias}` is not the one that the waiting events were encrypted under, or data key {number} is damaged: a key that is replaced gets a new alias"
    )]
    OtherMasterKey {
        /// The master key.
        alias: String,
        /// The data key.
        number: u32,
    },
    /// An entry of the table of data keys cannot be read.
    #[error("data key entry {number} of the log is damaged")]
    DamagedEntry {
        /// The data key, 0 when even that cannot be read.
        number: u32,
    },
    /// The system gave no random bytes.
    #[error("make a data key: the system gives no random numbers")]
    NoRandomness,
    /// The cipher refused. Only happens beyond its limits (64 GiB in one batch).
    #[error("encrypt events: the cipher refused")]
    CipherRefused,
    /// The log did not take a data key.
    #[error("store a data key in the log")]
    Store(#[source] CommitError),
    /// A batch is under a key that is not there.
    #[error(
        "the batch at offset {offset} is encrypted under data key {number}, which the log does not hold"
    )]
    NoDataKey {
        /// The batch's first offset.
        offset: i64,
        /// The data key.
        number: u32,
    },
    /// A batch does not open.
    #[error("the encrypted batch at offset {offset} has been changed or is damaged ({what})")]
    Changed {
        /// The batch's first offset.
        offset: i64,
        /// What did not fit.
        what: &'static str,
    },
}

impl EncryptionError {
    /// Whether trying again can help.
    pub(in crate::file) fn is_retriable(&self) -> bool {
        match self {
            Self::Store(_) | Self::NoRandomness => true,
            // A key provider that is mounted late, a keystore that is being replaced.
            Self::Read { .. } | Self::Keystore { .. } | Self::MissingMasterKey { .. } => true,
            Self::NotAes { .. }
            | Self::NoKeyProvider { .. }
            | Self::OtherMasterKey { .. }
            | Self::DamagedEntry { .. }
            | Self::CipherRefused
            | Self::NoDataKey { .. }
            | Self::Changed { .. } => false,
        }
    }
}
