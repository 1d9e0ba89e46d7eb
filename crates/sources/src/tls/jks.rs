//! Java's own keystore format, versions 1 and 2.
//!
//! ```text
//! magic FEEDFEED | version u32 | count u32 | entries | SHA-1 of (password, "Mighty Aphrodite", all before)
//! entry: tag u32 | alias text | date u64 | 1 = key: length u32, EncryptedPrivateKeyInfo, count u32, certificates
//!                                        | 2 = trusted: certificate
//! certificate: (version 2: type text) | length u32 | DER          text: length u16, modified UTF-8
//! protected key: salt 20 | key xor stream | SHA-1 of (password, key); stream block n = SHA-1(password, block n-1)
//! ```
//! All numbers are big-endian; the password is hashed as UTF-16BE.

use aws_lc_rs::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA1_OUTPUT_LEN};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use super::der::{Der, OCTET_STRING, SEQUENCE};
use super::keystore::{KeyEntry, KeystoreError, utf16};

/// The first four bytes.
pub(super) const MAGIC: [u8; 4] = [0xfe, 0xed, 0xfe, 0xed];
/// 1.3.6.1.4.1.42.2.17.1.1, the key protection.
const KEY_PROTECTOR: &[u8] = &[0x2b, 6, 1, 4, 1, 42, 2, 17, 1, 1];

/// The keys of a keystore.
pub(super) fn read(file: &[u8], password: &str) -> Result<Vec<KeyEntry>, KeystoreError> {
    let password = utf16(password);
    let damaged = KeystoreError::Damaged {
        what: "JKS keystore",
    };
    let Some((data, digest)) = file.split_last_chunk::<SHA1_OUTPUT_LEN>() else {
        return Err(damaged);
    };
    if sha1(&[&password, b"Mighty Aphrodite", data]) != *digest {
        return Err(KeystoreError::WrongPassword);
    }
    let mut input = Input(data);
    input.take(MAGIC.len())?;
    let version = input.u32()?;
    let mut keys = Vec::new();
    for _ in 0..input.u32()? {
        let tag = input.u32()?;
        let alias = input.text()?;
        input.take(8)?;
        match tag {
            1 => {
                let protected = input.block()?;
                let mut chain = Vec::new();
                for _ in 0..input.u32()? {
                    chain.push(input.certificate(version)?);
                }
                let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(unprotect(
                    protected, &password,
                )?));
                keys.push(KeyEntry { alias, key, chain });
            }
            2 => drop(input.certificate(version)?),
            _ => return Err(damaged),
        }
    }
    Ok(keys)
}

fn unprotect(protected: &[u8], password: &[u8]) -> Result<Vec<u8>, KeystoreError> {
    let mut info = Der(protected).inside(SEQUENCE)?;
    let mut algorithm = info.inside(SEQUENCE)?;
    let id = algorithm.any()?.contents;
    if id != KEY_PROTECTOR {
        return Err(KeystoreError::unsupported("key protection", id));
    }
    let damaged = KeystoreError::Damaged {
        what: "protected key",
    };
    let sealed = info.of(OCTET_STRING)?;
    let Some((salt, sealed)) = sealed.split_first_chunk::<SHA1_OUTPUT_LEN>() else {
        return Err(damaged);
    };
    let Some((sealed, check)) = sealed.split_last_chunk::<SHA1_OUTPUT_LEN>() else {
        return Err(damaged);
    };
    let mut key = sealed.to_vec();
    let mut mask = *salt;
    for block in key.chunks_mut(SHA1_OUTPUT_LEN) {
        mask = sha1(&[password, &mask]);
        block
            .iter_mut()
            .zip(mask)
            .for_each(|(byte, mask)| *byte ^= mask);
    }
    match sha1(&[password, &key]) == *check {
        true => Ok(key),
        false => Err(KeystoreError::WrongPassword),
    }
}

fn sha1(parts: &[&[u8]]) -> [u8; SHA1_OUTPUT_LEN] {
    let mut context = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    parts.iter().for_each(|part| context.update(part));
    let mut digest = [0; SHA1_OUTPUT_LEN];
    digest.copy_from_slice(context.finish().as_ref());
    digest
}

/// The rest of the file.
struct Input<'f>(&'f [u8]);

impl<'f> Input<'f> {
    fn take(&mut self, length: usize) -> Result<&'f [u8], KeystoreError> {
        let (taken, rest) = self
            .0
            .split_at_checked(length)
            .ok_or(KeystoreError::Damaged {
                what: "JKS keystore",
            })?;
        self.0 = rest;
        Ok(taken)
    }

    fn u32(&mut self) -> Result<u32, KeystoreError> {
        let bytes = self.take(4)?;
        Ok(bytes
            .iter()
            .fold(0, |value, byte| value << 8 | u32::from(*byte)))
    }

    fn text(&mut self) -> Result<String, KeystoreError> {
        let length = self.take(2)?;
        let length = usize::from(length[0]) << 8 | usize::from(length[1]);
        Ok(String::from_utf8_lossy(self.take(length)?).into_owned())
    }

    fn block(&mut self) -> Result<&'f [u8], KeystoreError> {
        let length = self.u32()? as usize;
        self.take(length)
    }

    fn certificate(&mut self, version: u32) -> Result<CertificateDer<'static>, KeystoreError> {
        if version > 1 {
            self.text()?;
        }
        self.block().map(|der| CertificateDer::from(der.to_vec()))
    }
}
