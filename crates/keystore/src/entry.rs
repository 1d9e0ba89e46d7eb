//! Private keys with their certificates, whatever the kind of the file.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::error::KeystoreError;
use crate::{der, java_store, pkcs12};

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
    if java_store::is_one(file) {
        return java_store::private_keys(file, password);
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
            let found = entries.iter().map(|entry| &*entry.alias);
            Err(KeystoreError::no_alias(alias, found))
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
