//! Keystores of the kinds that Flume's users have: JKS, PKCS12, and PEM beside them.
//!
//! The kind is recognised by the file's first bytes, as modern Java does it too (a file made by
//! `keytool` since Java 9 is PKCS12 whatever its name says). Read without any keystore crate:
//! the ones there are bring about fifty crates for some four hundred lines.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;

use super::{der, jks, pkcs12};

/// The first bytes of a JCEKS keystore.
const JCEKS_MAGIC: [u8; 4] = [0xce, 0xce, 0xce, 0xce];

/// Why a keystore cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum KeystoreError {
    /// The password does not open it.
    #[error("the password is wrong, or the keystore is damaged")]
    WrongPassword,
    /// It is cut or not what it seems.
    #[error("the keystore is damaged: bad {what}")]
    Damaged {
        /// The part that cannot be read.
        what: &'static str,
    },
    /// It uses something that is not known here.
    #[error(
        "the keystore uses a {what} that is not supported ({id}); convert it with `keytool -importkeystore -deststoretype PKCS12`"
    )]
    Unsupported {
        /// What kind of thing.
        what: &'static str,
        /// Its object identifier, or its name.
        id: String,
    },
    /// No known kind.
    #[error("the file is neither a JKS nor a PKCS12 keystore nor PEM")]
    UnknownKind,
    /// PEM that cannot be read.
    #[error("bad PEM: {message}")]
    Pem {
        /// The reader's message.
        message: String,
    },
    /// There is no key in it.
    #[error("the keystore holds no private key with a certificate")]
    NoKey,
    /// There is no key of that alias in it.
    #[error("the keystore holds no key `{alias}`; it holds {found}")]
    NoAlias {
        /// The alias asked for.
        alias: String,
        /// The aliases there are.
        found: String,
    },
}

impl KeystoreError {
    pub(super) fn unsupported(what: &'static str, id: &[u8]) -> Self {
        Self::Unsupported {
            what,
            id: der::dotted(id),
        }
    }
}

/// A private key and its certificates, its own first.
#[derive(Debug)]
pub struct KeyEntry {
    /// Name in the keystore; empty in PEM.
    pub alias: String,
    /// The key.
    pub key: PrivateKeyDer<'static>,
    /// The certificates.
    pub chain: Vec<CertificateDer<'static>>,
}

/// The keys of a keystore.
///
/// # Errors
/// When it cannot be read or opened.
pub fn read(file: &[u8], password: &str) -> Result<Vec<KeyEntry>, KeystoreError> {
    if file.starts_with(&jks::MAGIC) {
        return jks::read(file, password);
    }
    if file.starts_with(&JCEKS_MAGIC) {
        return Err(KeystoreError::Unsupported {
            what: "format",
            id: "JCEKS".to_owned(),
        });
    }
    if memchr::memmem::find(file, b"-----BEGIN ").is_some() {
        return read_pem(file);
    }
    match file.first() {
        Some(&der::SEQUENCE) => pkcs12::read(file, password),
        _ => Err(KeystoreError::UnknownKind),
    }
}

/// The key to serve with: that of `alias`, else the first.
///
/// # Errors
/// When there is none.
pub fn choose(entries: Vec<KeyEntry>, alias: Option<&str>) -> Result<KeyEntry, KeystoreError> {
    let mut entries: Vec<_> = entries
        .into_iter()
        .filter(|entry| !entry.chain.is_empty())
        .collect();
    let Some(alias) = alias else {
        return entries.into_iter().next().ok_or(KeystoreError::NoKey);
    };
    match entries
        .iter()
        .position(|entry| entry.alias.eq_ignore_ascii_case(alias))
    {
        Some(index) => Ok(entries.swap_remove(index)),
        None => {
            let found: Vec<_> = entries
                .iter()
                .map(|entry| format!("`{}`", entry.alias))
                .collect();
            Err(KeystoreError::NoAlias {
                alias: alias.to_owned(),
                found: found.join(", "),
            })
        }
    }
}

fn read_pem(file: &[u8]) -> Result<Vec<KeyEntry>, KeystoreError> {
    let bad = |error: rustls::pki_types::pem::Error| KeystoreError::Pem {
        message: error.to_string(),
    };
    let key = PrivateKeyDer::from_pem_slice(file).map_err(|error| match error {
        rustls::pki_types::pem::Error::NoItemsFound => KeystoreError::NoKey,
        other => bad(other),
    })?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(file).collect();
    Ok(vec![KeyEntry {
        alias: String::new(),
        key,
        chain: chain.map_err(bad)?,
    }])
}

/// A password as Java hashes it: UTF-16BE.
pub(super) fn utf16(password: &str) -> Vec<u8> {
    password.encode_utf16().flat_map(u16::to_be_bytes).collect()
}
