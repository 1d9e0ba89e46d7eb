//! PBEWithMD5AndTripleDES, the cipher of the JDK's own around the keys of a JCEKS keystore. Decryption only.
//!
//! The salt of eight bytes is split; each half is hashed with the password as often as the parameters say, with MD5.
//! The two digests are the key of triple DES (24 bytes) and the vector of its CBC mode (8 bytes). Of a salt
//! with equal halves the first one is turned round before.

use aws_lc_rs::cipher::{Algorithm, DecryptionContext, PaddedBlockDecryptingKey, UnboundCipherKey};
use md5::{Digest, Md5};
use zeroize::Zeroizing;

use crate::error::KeystoreError;

/// Old keystores are under it; nothing is encrypted with it here.
#[expect(
    deprecated,
    reason = "deprecated for encryption; Java's older keystores can be read in no other way"
)]
pub(crate) const TRIPLE_DES: Algorithm = aws_lc_rs::cipher::DES_EDE3_FOR_LEGACY_USE_ONLY;
/// Most rounds of a key derivation; `keytool` writes 200000 for JCEKS, 10000 for PKCS12, the strictest advice is
/// 1.3 million, and the JDK refuses more than this.
const MOST_ITERATIONS: u32 = 5_000_000;
const SALT: usize = 8;

/// Decrypts; `None` when the password does not fit.
pub(crate) fn open(
    password: &str,
    salt: &[u8],
    iterations: u32,
    data: &[u8],
) -> Result<Option<Zeroizing<Vec<u8>>>, KeystoreError> {
    let iterations = bounded(iterations)?;
    let Ok(salt) = <[u8; SALT]>::try_from(salt) else {
        return Err(KeystoreError::Damaged {
            what: "salt of a key",
        });
    };
    // The JDK refuses other letters when it makes such a key.
    if !password.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
        return Ok(None);
    }
    let material = derive(password.as_bytes(), salt, iterations);
    let (key, vector) = material.split_at(24);
    Ok(decrypt(&TRIPLE_DES, key, vector, data))
}

/// A number of rounds that will end.
pub(crate) fn bounded(iterations: u32) -> Result<u32, KeystoreError> {
    match iterations {
        1..=MOST_ITERATIONS => Ok(iterations),
        _ => Err(KeystoreError::Damaged {
            what: "iteration count",
        }),
    }
}

/// A block cipher in CBC mode with PKCS7 padding; `None` when key, vector or padding are not as they must be.
pub(crate) fn decrypt(
    algorithm: &'static Algorithm,
    key: &[u8],
    vector: &[u8],
    data: &[u8],
) -> Option<Zeroizing<Vec<u8>>> {
    let context = match vector.len() {
        8 => DecryptionContext::Iv64(vector.try_into().ok()?),
        _ => DecryptionContext::Iv128(vector.try_into().ok()?),
    };
    let key = UnboundCipherKey::new(algorithm, key).ok()?;
    let key = PaddedBlockDecryptingKey::cbc_pkcs7(key).ok()?;
    let mut data = Zeroizing::new(data.to_vec());
    let length = key.decrypt(&mut data, context).ok()?.len();
    data.truncate(length);
    Some(data)
}

fn derive(password: &[u8], mut salt: [u8; SALT], iterations: u32) -> Zeroizing<[u8; 32]> {
    if salt[..4] == salt[4..] {
        salt[..4].reverse();
    }
    let mut material = Zeroizing::new([0; 32]);
    for (half, out) in salt.chunks_exact(4).zip(material.chunks_exact_mut(16)) {
        let mut hash = Md5::new_with_prefix(half).chain_update(password).finalize();
        for _ in 1..iterations {
            hash = Md5::new_with_prefix(hash).chain_update(password).finalize();
        }
        out.copy_from_slice(&hash);
    }
    material
}
