//! PKCS12 keystores (RFC 7292), as `keytool` and OpenSSL write them: Java's default since 9.
//!
//! Read are keys and certificates under PBES2 (PBKDF2 with AES) and under the old PKCS12 ciphers
//! (triple DES, RC2 with 40 bits) of Java 8; the MAC over the contents tells a wrong password
//! from a damaged file. Iteration counts are bounded, so a file cannot keep the start busy.

use std::num::NonZeroU32;

use aws_lc_rs::cipher::{AES_128, AES_192, AES_256, Algorithm};
use aws_lc_rs::{digest, hmac, pbkdf2};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

use crate::der::{
    BMP_STRING, CONTEXT_0, CONTEXT_0_PRIMITIVE, Der, INTEGER, OBJECT_ID, OCTET_STRING, SEQUENCE,
    SET, dotted,
};
use crate::entry::KeyEntry;
use crate::error::KeystoreError;
use crate::java_store::utf16;
use crate::pbe::{self, TRIPLE_DES, bounded};
use crate::rc2;
use crate::secret::SecretKey;

// 1.2.840.113549.…: contents, bags, attributes, ciphers, digests.
const DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 1];
const ENCRYPTED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 6];
const BAGS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 12, 10, 1];
const X509: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 22, 1];
const FRIENDLY_NAME: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 20];
const LOCAL_KEY_ID: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 21];
const OLD_CIPHERS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 12, 1];
const PBES2: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 5, 13];
const PBKDF2: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 5, 12];
const HMACS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 2];
const AES: &[u8] = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 1];
const SHA1: &[u8] = &[0x2b, 0x0e, 3, 2, 26];
const SHA2: &[u8] = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2];

/// A password in both forms that the ciphers want.
struct Password<'p> {
    text: &'p str,
    /// UTF-16BE with a closing zero.
    wide: Zeroizing<Vec<u8>>,
}

/// What a bag says about itself.
#[derive(Default)]
struct Attributes {
    name: Option<String>,
    key_id: Option<Vec<u8>>,
}

impl<'p> Password<'p> {
    fn new(text: &'p str) -> Self {
        let mut wide = utf16(text);
        wide.extend([0, 0]);
        Self { text, wide }
    }
}

#[derive(Default)]
struct Contents {
    /// Kept only when private keys are wanted.
    keys: Option<Vec<(Attributes, Vec<u8>)>>,
    certificates: Vec<(Attributes, Vec<u8>)>,
    /// Sealed, as EncryptedPrivateKeyInfo.
    secrets: Vec<(Attributes, Vec<u8>)>,
}

/// The keys of a keystore, each with its chain.
pub(crate) fn read(file: &[u8], password: &str) -> Result<Vec<KeyEntry>, KeystoreError> {
    let mut contents = Contents {
        keys: Some(Vec::new()),
        ..Contents::default()
    };
    read_contents(file, password, &mut contents)?;
    Ok(entries(contents))
}

/// The secret keys of a keystore by alias, as EncryptedPrivateKeyInfo.
pub(crate) fn sealed_secrets(
    file: &[u8],
    password: &str,
) -> Result<Vec<(String, Vec<u8>)>, KeystoreError> {
    let mut contents = Contents::default();
    read_contents(file, password, &mut contents)?;
    let named = |(attributes, info): (Attributes, _)| (attributes.name.unwrap_or_default(), info);
    Ok(contents.secrets.into_iter().map(named).collect())
}

/// The key in an EncryptedPrivateKeyInfo; `None` when the password does not fit.
pub(crate) fn unseal_secret(
    info: &[u8],
    password: &str,
) -> Result<Option<SecretKey>, KeystoreError> {
    let mut sealed = Der(info).inside(SEQUENCE)?;
    let cipher = sealed.inside(SEQUENCE)?;
    let plain = match decrypt(cipher, sealed.of(OCTET_STRING)?, &Password::new(password)) {
        Err(KeystoreError::WrongPassword) => return Ok(None),
        other => Zeroizing::new(other?),
    };
    let mut key = Der(&plain).inside(SEQUENCE)?;
    key.of(INTEGER)?;
    let id = key.inside(SEQUENCE)?.of(OBJECT_ID)?;
    Ok(Some(SecretKey {
        algorithm: match id.starts_with(AES) {
            true => "AES".to_owned(),
            false => dotted(id),
        },
        bytes: Zeroizing::new(key.of(OCTET_STRING)?.to_vec()),
    }))
}

fn read_contents(
    file: &[u8],
    password: &str,
    contents: &mut Contents,
) -> Result<(), KeystoreError> {
    let password = Password::new(password);
    let mut pfx = Der(file).inside(SEQUENCE)?;
    pfx.of(INTEGER)?;
    let mut safe = pfx.inside(SEQUENCE)?;
    let kind = safe.of(OBJECT_ID)?;
    if kind != DATA {
        return Err(KeystoreError::unsupported("keystore contents", kind));
    }
    let safe = safe.inside(CONTEXT_0)?.of(OCTET_STRING)?;
    if !pfx.is_empty() {
        check_mac(pfx.inside(SEQUENCE)?, safe, &password)?;
    }
    let mut parts = Der(safe).inside(SEQUENCE)?;
    while !parts.is_empty() {
        read_part(parts.inside(SEQUENCE)?, &password, contents)?;
    }
    Ok(())
}

fn check_mac(mut mac: Der<'_>, safe: &[u8], password: &Password<'_>) -> Result<(), KeystoreError> {
    let mut info = mac.inside(SEQUENCE)?;
    let kind = info.inside(SEQUENCE)?.of(OBJECT_ID)?;
    let expected = info.of(OCTET_STRING)?;
    let salt = mac.of(OCTET_STRING)?;
    let iterations = if mac.is_empty() { 1 } else { mac.number()? };
    let (algorithm, hmac) = match kind {
        SHA1 => (
            &digest::SHA1_FOR_LEGACY_USE_ONLY,
            hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
        ),
        _ if kind == [SHA2, &[1]].concat() => (&digest::SHA256, hmac::HMAC_SHA256),
        _ if kind == [SHA2, &[2]].concat() => (&digest::SHA384, hmac::HMAC_SHA384),
        _ if kind == [SHA2, &[3]].concat() => (&digest::SHA512, hmac::HMAC_SHA512),
        _ => return Err(KeystoreError::unsupported("keystore MAC", kind)),
    };
    let key = derive(
        algorithm,
        3,
        password,
        salt,
        iterations,
        algorithm.output_len(),
    )?;
    let key = hmac::Key::new(hmac, &key);
    hmac::verify(&key, safe, expected).map_err(|_| KeystoreError::WrongPassword)
}

fn read_part(
    mut part: Der<'_>,
    password: &Password<'_>,
    contents: &mut Contents,
) -> Result<(), KeystoreError> {
    let kind = part.of(OBJECT_ID)?;
    let mut body = part.inside(CONTEXT_0)?;
    if kind == DATA {
        return read_bags(body.of(OCTET_STRING)?, password, contents);
    }
    if kind != ENCRYPTED_DATA {
        return Err(KeystoreError::unsupported("keystore part", kind));
    }
    let mut body = body.inside(SEQUENCE)?;
    body.of(INTEGER)?;
    let mut encrypted = body.inside(SEQUENCE)?;
    encrypted.of(OBJECT_ID)?;
    let cipher = encrypted.inside(SEQUENCE)?;
    let data = encrypted.of(CONTEXT_0_PRIMITIVE)?;
    read_bags(&decrypt(cipher, data, password)?, password, contents)
}

fn read_bags(
    bags: &[u8],
    password: &Password<'_>,
    contents: &mut Contents,
) -> Result<(), KeystoreError> {
    let mut bags = Der(bags).inside(SEQUENCE)?;
    while !bags.is_empty() {
        let mut bag = bags.inside(SEQUENCE)?;
        let kind = bag.of(OBJECT_ID)?;
        let mut value = bag.inside(CONTEXT_0)?;
        match kind.strip_prefix(BAGS) {
            Some([1]) => {
                if let Some(keys) = &mut contents.keys {
                    keys.push((attributes(bag)?, value.any()?.whole.to_vec()));
                }
            }
            Some([2]) => {
                if let Some(keys) = &mut contents.keys {
                    let mut sealed = value.inside(SEQUENCE)?;
                    let cipher = sealed.inside(SEQUENCE)?;
                    let key = decrypt(cipher, sealed.of(OCTET_STRING)?, password)?;
                    keys.push((attributes(bag)?, key));
                }
            }
            Some([5]) => {
                let mut secret = value.inside(SEQUENCE)?;
                // Java puts a shrouded key there.
                if secret.of(OBJECT_ID)?.strip_prefix(BAGS) == Some(&[2]) {
                    let info = secret.inside(CONTEXT_0)?.of(OCTET_STRING)?.to_vec();
                    contents.secrets.push((attributes(bag)?, info));
                }
            }
            Some([3]) => {
                let mut certificate = value.inside(SEQUENCE)?;
                if certificate.of(OBJECT_ID)? == X509 {
                    let der = certificate.inside(CONTEXT_0)?.of(OCTET_STRING)?.to_vec();
                    contents.certificates.push((attributes(bag)?, der));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn attributes(mut bag: Der<'_>) -> Result<Attributes, KeystoreError> {
    let mut found = Attributes::default();
    if !bag.is_next(SET) {
        return Ok(found);
    }
    let mut set = bag.inside(SET)?;
    while !set.is_empty() {
        let mut attribute = set.inside(SEQUENCE)?;
        let kind = attribute.of(OBJECT_ID)?;
        let mut value = attribute.inside(SET)?;
        if kind == FRIENDLY_NAME && value.is_next(BMP_STRING) {
            let units = value.of(BMP_STRING)?.chunks_exact(2);
            let units: Vec<u16> = units
                .map(|unit| u16::from_be_bytes([unit[0], unit[1]]))
                .collect();
            found.name = Some(String::from_utf16_lossy(&units));
        } else if kind == LOCAL_KEY_ID && value.is_next(OCTET_STRING) {
            found.key_id = Some(value.of(OCTET_STRING)?.to_vec());
        }
    }
    Ok(found)
}

/// Joins each key with its certificate and the issuers of that.
fn entries(contents: Contents) -> Vec<KeyEntry> {
    let Contents {
        keys, certificates, ..
    } = contents;
    let keys = keys.unwrap_or_default();
    let is_only = keys.len() == 1;
    let chain_of = |attributes: &Attributes| {
        let own = certificates
            .iter()
            .find(|(other, _)| other.key_id.is_some() && other.key_id == attributes.key_id)
            .or_else(|| certificates.first().filter(|_| is_only));
        let mut chain: Vec<&Vec<u8>> = own.iter().map(|(_, der)| der).collect();
        while let Some(issuer) = chain
            .last()
            .and_then(|last| names(last).ok())
            .map(|(issuer, _)| issuer)
        {
            let next = certificates.iter().map(|(_, der)| der).find(|der| {
                names(der).is_ok_and(|(_, subject)| subject == issuer) && !chain.contains(der)
            });
            let Some(next) = next else { break };
            chain.push(next);
        }
        chain
            .into_iter()
            .map(|der| CertificateDer::from(der.clone()))
            .collect()
    };
    keys.into_iter()
        .map(|(attributes, key)| KeyEntry {
            chain: chain_of(&attributes),
            alias: attributes.name.unwrap_or_default(),
            key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key)),
        })
        .collect()
}

/// Issuer and subject of a certificate, as DER.
fn names(certificate: &[u8]) -> Result<(&[u8], &[u8]), KeystoreError> {
    let mut fields = Der(certificate).inside(SEQUENCE)?.inside(SEQUENCE)?;
    if fields.is_next(CONTEXT_0) {
        fields.any()?;
    }
    fields.of(INTEGER)?;
    fields.of(SEQUENCE)?;
    let issuer = fields.of(SEQUENCE)?;
    fields.of(SEQUENCE)?;
    Ok((issuer, fields.of(SEQUENCE)?))
}

fn decrypt(
    mut cipher: Der<'_>,
    data: &[u8],
    password: &Password<'_>,
) -> Result<Vec<u8>, KeystoreError> {
    let kind = cipher.of(OBJECT_ID)?;
    if kind == PBES2 {
        return decrypt_pbes2(cipher.inside(SEQUENCE)?, data, password);
    }
    let mut parameters = cipher.inside(SEQUENCE)?;
    let salt = parameters.of(OCTET_STRING)?;
    let iterations = parameters.number()?;
    let sha1 = &digest::SHA1_FOR_LEGACY_USE_ONLY;
    let part = |purpose, length| derive(sha1, purpose, password, salt, iterations, length);
    match kind.strip_prefix(OLD_CIPHERS) {
        Some([3]) => {
            let (key, iv) = (part(1, 24)?, part(2, 8)?);
            decrypt_block_cipher(&TRIPLE_DES, &key, &iv, data)
        }
        Some([6]) => {
            let (key, iv) = (part(1, rc2::KEY)?, part(2, rc2::BLOCK)?);
            let fixed = key.first_chunk().zip(iv.first_chunk());
            let (key, iv) = fixed.expect("derived with these lengths");
            rc2::decrypt_cbc(*key, *iv, data).ok_or(KeystoreError::WrongPassword)
        }
        _ => Err(KeystoreError::unsupported("cipher", kind)),
    }
}

fn decrypt_pbes2(
    mut parameters: Der<'_>,
    data: &[u8],
    password: &Password<'_>,
) -> Result<Vec<u8>, KeystoreError> {
    let mut derivation = parameters.inside(SEQUENCE)?;
    let kind = derivation.of(OBJECT_ID)?;
    if kind != PBKDF2 {
        return Err(KeystoreError::unsupported("key derivation", kind));
    }
    let mut derivation = derivation.inside(SEQUENCE)?;
    let salt = derivation.of(OCTET_STRING)?;
    let iterations =
        NonZeroU32::new(bounded(derivation.number()?)?).expect("a bounded count is at least one");
    if derivation.is_next(INTEGER) {
        derivation.of(INTEGER)?;
    }
    let mut hash = pbkdf2::PBKDF2_HMAC_SHA1;
    if !derivation.is_empty() {
        let kind = derivation.inside(SEQUENCE)?.of(OBJECT_ID)?;
        hash = match kind.strip_prefix(HMACS) {
            Some([7]) => pbkdf2::PBKDF2_HMAC_SHA1,
            Some([9]) => pbkdf2::PBKDF2_HMAC_SHA256,
            Some([10]) => pbkdf2::PBKDF2_HMAC_SHA384,
            Some([11]) => pbkdf2::PBKDF2_HMAC_SHA512,
            _ => return Err(KeystoreError::unsupported("key derivation hash", kind)),
        };
    }
    let mut cipher = parameters.inside(SEQUENCE)?;
    let kind = cipher.of(OBJECT_ID)?;
    let (algorithm, length): (&'static Algorithm, _) = match kind.strip_prefix(AES) {
        Some([2]) => (&AES_128, 16),
        Some([22]) => (&AES_192, 24),
        Some([42]) => (&AES_256, 32),
        _ => return Err(KeystoreError::unsupported("cipher", kind)),
    };
    let mut key = vec![0; length];
    pbkdf2::derive(hash, iterations, salt, password.text.as_bytes(), &mut key);
    decrypt_block_cipher(algorithm, &key, cipher.of(OCTET_STRING)?, data)
}

fn decrypt_block_cipher(
    algorithm: &'static Algorithm,
    key: &[u8],
    iv: &[u8],
    data: &[u8],
) -> Result<Vec<u8>, KeystoreError> {
    let plain = pbe::decrypt(algorithm, key, iv, data).ok_or(KeystoreError::WrongPassword)?;
    Ok(plain.to_vec())
}

/// Key material as of RFC 7292, appendix B.2: `purpose` 1 = key, 2 = vector, 3 = MAC.
fn derive(
    algorithm: &'static digest::Algorithm,
    purpose: u8,
    password: &Password<'_>,
    salt: &[u8],
    iterations: u32,
    length: usize,
) -> Result<Vec<u8>, KeystoreError> {
    let iterations = bounded(iterations)?;
    let block = algorithm.block_len();
    let fill = |part: &[u8]| {
        let whole = part.len().div_ceil(block) * block;
        part.iter()
            .copied()
            .cycle()
            .take(whole)
            .collect::<Vec<u8>>()
    };
    let mut input = fill(salt);
    input.extend(fill(&password.wide));
    let mut out = Vec::new();
    loop {
        let mut hash = digest::digest(algorithm, &[&vec![purpose; block], &input[..]].concat());
        for _ in 1..iterations {
            hash = digest::digest(algorithm, hash.as_ref());
        }
        out.extend_from_slice(hash.as_ref());
        if out.len() >= length {
            out.truncate(length);
            return Ok(out);
        }
        let add: Vec<u8> = hash.as_ref().iter().copied().cycle().take(block).collect();
        for part in input.chunks_exact_mut(block) {
            let mut carry = 1u16;
            for (byte, add) in part.iter_mut().zip(&add).rev() {
                carry += u16::from(*byte) + u16::from(*add);
                *byte = carry as u8;
                carry >>= 8;
            }
        }
    }
}
