//! Java's own keystore formats: JKS (versions 1 and 2) and JCEKS, which adds secret keys.
//!
//! ```text
//! magic FEEDFEED (JKS) or CECECECE (JCEKS) | version u32 | count u32 | entries
//!   | SHA-1 of (password, "Mighty Aphrodite", all before)
//! entry: tag u32 | alias text | date u64 | 1 = key: length u32, EncryptedPrivateKeyInfo, count u32, certificates
//!                                        | 2 = trusted: certificate
//!                                        | 3 = secret key (JCEKS): a serialized Java object, see `java_object`
//! certificate: (version 2: type text) | length u32 | DER          text: length u16, modified UTF-8
//! protected key of JKS: salt 20 | key xor stream | SHA-1 of (password, key); stream block n = SHA-1(password, block n-1)
//! protected key of JCEKS: PBEWithMD5AndTripleDES, see `pbe`
//! ```
//! All numbers are big-endian; for SHA-1 the password is UTF-16BE.

use aws_lc_rs::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA1_OUTPUT_LEN};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

use crate::der::{Der, OCTET_STRING, SEQUENCE};
use crate::entry::KeyEntry;
use crate::error::KeystoreError;
use crate::java_object::{JavaObject, read_object};
use crate::pbe;

const JKS: [u8; 4] = [0xfe, 0xed, 0xfe, 0xed];
const JCEKS: [u8; 4] = [0xce, 0xce, 0xce, 0xce];
/// 1.3.6.1.4.1.42.2.17.1.1, the key protection of JKS.
const JKS_PROTECTOR: &[u8] = &[0x2b, 6, 1, 4, 1, 42, 2, 17, 1, 1];
/// 1.3.6.1.4.1.42.2.19.1, the key protection of JCEKS.
const JCEKS_PROTECTOR: &[u8] = &[0x2b, 6, 1, 4, 1, 42, 2, 19, 1];

const DAMAGED: KeystoreError = KeystoreError::Damaged {
    what: "Java keystore",
};

/// One entry; a trusted certificate is left out.
pub(crate) enum Entry<'f> {
    /// A private key, still protected.
    Private {
        alias: String,
        protected: &'f [u8],
        chain: Vec<CertificateDer<'static>>,
    },
    /// A secret key, still sealed.
    Secret {
        alias: String,
        object: JavaObject<'f>,
    },
}

/// Whether the file is of one of these formats.
pub(crate) fn is_one(file: &[u8]) -> bool {
    file.starts_with(&JKS) || file.starts_with(&JCEKS)
}

/// The entries of a keystore whose digest fits the password.
pub(crate) fn entries<'f>(file: &'f [u8], password: &str) -> Result<Vec<Entry<'f>>, KeystoreError> {
    let Some((data, digest)) = file.split_last_chunk::<SHA1_OUTPUT_LEN>() else {
        return Err(DAMAGED);
    };
    if sha1(&[&utf16(password), b"Mighty Aphrodite", data]) != *digest {
        return Err(KeystoreError::WrongPassword);
    }
    let mut input = Input(data);
    let has_secrets = input.take(JCEKS.len())? == JCEKS;
    let version = input.u32()?;
    let mut entries = Vec::new();
    for _ in 0..input.u32()? {
        let tag = input.u32()?;
        let alias = input.text()?.into_owned();
        input.take(8)?;
        match tag {
            1 => {
                let protected = input.block()?;
                let mut chain = Vec::new();
                for _ in 0..input.u32()? {
                    chain.push(input.certificate(version)?);
                }
                entries.push(Entry::Private {
                    alias,
                    protected,
                    chain,
                });
            }
            2 => drop(input.certificate(version)?),
            3 if has_secrets => {
                let object = read_object(&mut input)?;
                entries.push(Entry::Secret { alias, object });
            }
            _ => return Err(DAMAGED),
        }
    }
    Ok(entries)
}

/// The private keys of a keystore, which have its password.
pub(crate) fn private_keys(file: &[u8], password: &str) -> Result<Vec<KeyEntry>, KeystoreError> {
    let mut keys = Vec::new();
    for entry in entries(file, password)? {
        if let Entry::Private {
            alias,
            protected,
            chain,
        } = entry
        {
            let key = unprotect(protected, password)?.ok_or(KeystoreError::WrongPassword)?;
            let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key));
            keys.push(KeyEntry { alias, key, chain });
        }
    }
    Ok(keys)
}

/// `None` when the password does not fit.
fn unprotect(protected: &[u8], password: &str) -> Result<Option<Vec<u8>>, KeystoreError> {
    let mut info = Der(protected).inside(SEQUENCE)?;
    let mut algorithm = info.inside(SEQUENCE)?;
    let id = algorithm.any()?.contents;
    let sealed = info.of(OCTET_STRING)?;
    match id {
        JKS_PROTECTOR => unmask(sealed, password),
        JCEKS_PROTECTOR => {
            let mut parameters = algorithm.inside(SEQUENCE)?;
            let salt = parameters.of(OCTET_STRING)?;
            let key = pbe::open(password, salt, parameters.number()?, sealed)?;
            Ok(key.map(|key| key.to_vec()))
        }
        _ => Err(KeystoreError::unsupported("key protection", id)),
    }
}

fn unmask(sealed: &[u8], password: &str) -> Result<Option<Vec<u8>>, KeystoreError> {
    let password = utf16(password);
    let damaged = KeystoreError::Damaged {
        what: "protected key",
    };
    let Some((salt, sealed)) = sealed.split_first_chunk::<SHA1_OUTPUT_LEN>() else {
        return Err(damaged);
    };
    let Some((sealed, check)) = sealed.split_last_chunk::<SHA1_OUTPUT_LEN>() else {
        return Err(damaged);
    };
    let mut key = sealed.to_vec();
    let mut mask = *salt;
    for block in key.chunks_mut(SHA1_OUTPUT_LEN) {
        mask = sha1(&[&password, &mask]);
        block
            .iter_mut()
            .zip(mask)
            .for_each(|(byte, mask)| *byte ^= mask);
    }
    Ok((sha1(&[&password, &key]) == *check).then_some(key))
}

fn sha1(parts: &[&[u8]]) -> [u8; SHA1_OUTPUT_LEN] {
    let mut context = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    parts.iter().for_each(|part| context.update(part));
    let mut digest = [0; SHA1_OUTPUT_LEN];
    digest.copy_from_slice(context.finish().as_ref());
    digest
}

/// A password as Java hashes it: UTF-16BE.
pub(crate) fn utf16(password: &str) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(password.encode_utf16().flat_map(u16::to_be_bytes).collect())
}

/// The rest of a file; numbers are big-endian.
pub(crate) struct Input<'f>(pub(crate) &'f [u8]);

impl<'f> Input<'f> {
    pub(crate) fn take(&mut self, length: usize) -> Result<&'f [u8], KeystoreError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(DAMAGED)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, KeystoreError> {
        Ok(self.take(1)?[0])
    }

    pub(crate) fn u16(&mut self) -> Result<u16, KeystoreError> {
        let bytes = self.take(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, KeystoreError> {
        let bytes = self.take(4)?;
        Ok(bytes
            .iter()
            .fold(0, |value, byte| value << 8 | u32::from(*byte)))
    }

    pub(crate) fn text(&mut self) -> Result<std::borrow::Cow<'f, str>, KeystoreError> {
        let length = usize::from(self.u16()?);
        Ok(String::from_utf8_lossy(self.take(length)?))
    }

    pub(crate) fn block(&mut self) -> Result<&'f [u8], KeystoreError> {
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
