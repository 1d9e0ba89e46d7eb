//! Master keys from a keystore file: Flume's key provider `JCEKSFILE` (reference 2.3 `file`).
//!
//! The content of password files is trimmed. A key is unsealed when it is first asked for: keys that nothing waits
//! under any more may be gone, and so may their password files.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use aws_lc_rs::aead::{AES_128_GCM, AES_192_GCM, AES_256_GCM, Algorithm, LessSafeKey, UnboundKey};
use flafka_keystore::SecretStore;
use zeroize::Zeroizing;

use super::EncryptionError;

/// Where the keys are, and which one is active.
#[derive(Debug, Clone)]
pub(in crate::file) struct KeySource {
    /// `encryption.keyProvider.keyStoreFile`.
    pub(in crate::file) keystore: PathBuf,
    /// `encryption.keyProvider.keyStorePasswordFile`.
    pub(in crate::file) password_file: PathBuf,
    /// `encryption.keyProvider.keys.<alias>.passwordFile` by alias.
    pub(in crate::file) key_password_files: BTreeMap<String, PathBuf>,
    /// `encryption.activeKey`; none: new events stay in the clear.
    pub(in crate::file) active: Option<String>,
}

/// The master keys of one channel.
pub(in crate::file) struct MasterKeys {
    source: KeySource,
    store: SecretStore,
    unsealed: BTreeMap<String, LessSafeKey>,
}

impl fmt::Debug for MasterKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MasterKeys")
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

impl MasterKeys {
    /// Opens the keystore and, if there is one, the active key. Blocking: a key takes some 0.1 s of hashing.
    pub(in crate::file) fn open(source: KeySource) -> Result<Self, EncryptionError> {
        let file = std::fs::read(&source.keystore).map_err(|error| EncryptionError::Read {
            what: "keystore",
            path: source.keystore.clone(),
            source: error,
        })?;
        let password = password(&source.password_file)?;
        let store =
            SecretStore::open(&file, &password).map_err(|error| EncryptionError::Keystore {
                path: source.keystore.clone(),
                password_file: source.password_file.clone(),
                source: error,
            })?;
        let mut keys = Self {
            source,
            store,
            unsealed: BTreeMap::new(),
        };
        if let Some(active) = keys.source.active.clone() {
            keys.get(&active)?;
        }
        Ok(keys)
    }

    /// The active key's alias.
    pub(super) fn active(&self) -> Option<&str> {
        self.source.active.as_deref()
    }

    /// A key by its alias. Blocking when it is asked for the first time.
    pub(super) fn get(&mut self, alias: &str) -> Result<&LessSafeKey, EncryptionError> {
        if !self.unsealed.contains_key(alias) {
            let key = self.unseal(alias)?;
            self.unsealed.insert(alias.to_owned(), key);
        }
        Ok(&self.unsealed[alias])
    }

    /// The bytes of a key, which is certainly one for AES: what Flume's log files are decrypted with.
    pub(in crate::file) fn raw(&self, alias: &str) -> Result<Zeroizing<Vec<u8>>, EncryptionError> {
        Ok(self.aes_key(alias)?.1)
    }

    fn unseal(&self, alias: &str) -> Result<LessSafeKey, EncryptionError> {
        let (algorithm, bytes) = self.aes_key(alias)?;
        let key = UnboundKey::new(algorithm, &bytes);
        Ok(LessSafeKey::new(
            key.map_err(|_| EncryptionError::CipherRefused)?,
        ))
    }

    fn aes_key(
        &self,
        alias: &str,
    ) -> Result<(&'static Algorithm, Zeroizing<Vec<u8>>), EncryptionError> {
        let own = self.source.key_password_files.get(alias);
        let password_file = own.unwrap_or(&self.source.password_file);
        let password = password(password_file)?;
        let key = self
            .store
            .key(alias, &password)
            .map_err(|error| EncryptionError::Keystore {
                path: self.source.keystore.clone(),
                password_file: password_file.clone(),
                source: error,
            })?;
        let not_aes = || EncryptionError::NotAes {
            alias: alias.to_owned(),
            path: self.source.keystore.clone(),
            algorithm: key.algorithm.clone(),
            bits: key.bytes.len() * 8,
        };
        let algorithm = match key.bytes.len() {
            _ if !key.algorithm.eq_ignore_ascii_case("AES") => return Err(not_aes()),
            16 => &AES_128_GCM,
            24 => &AES_192_GCM,
            32 => &AES_256_GCM,
            _ => return Err(not_aes()),
        };
        Ok((algorithm, key.bytes.clone()))
    }
}

fn password(path: &Path) -> Result<Zeroizing<String>, EncryptionError> {
    let text = std::fs::read_to_string(path).map_err(|source| EncryptionError::Read {
        what: "password file",
        path: path.to_owned(),
        source,
    })?;
    let text = Zeroizing::new(text);
    Ok(Zeroizing::new(text.trim().to_owned()))
}
