//! Flume's cipher provider AESCTRNOPADDING: the payload of each record is AES in counter mode, and every record of a log
//! file starts from the same counter block (reference 3.8). That is weak, so it is only read here, never written.

use std::fmt;

use aws_lc_rs::cipher::{
    AES_128, AES_192, AES_256, DecryptingKey, DecryptionContext, UnboundCipherKey,
};
use aws_lc_rs::iv::FixedLength;

/// The one provider that Flume has.
pub(crate) const PROVIDER: &str = "AESCTRNOPADDING";
/// Bytes of the counter block.
pub(crate) const COUNTER_BYTES: usize = 16;

/// Decrypts the records of one log file.
pub(crate) struct Cipher {
    key: DecryptingKey,
    counter: [u8; COUNTER_BYTES],
}

impl fmt::Debug for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cipher")
    }
}

impl Cipher {
    /// With the key and the counter block of a log file; `None` when the key is not one for AES.
    pub(crate) fn new(key: &[u8], counter: [u8; COUNTER_BYTES]) -> Option<Cipher> {
        let algorithm = match key.len() {
            16 => &AES_128,
            24 => &AES_192,
            32 => &AES_256,
            _ => return None,
        };
        let key = UnboundCipherKey::new(algorithm, key).ok()?;
        let key = DecryptingKey::ctr(key).ok()?;
        Some(Cipher { key, counter })
    }

    /// Decrypts a payload or the first bytes of one. Whether the key fits shows in what comes out.
    pub(crate) fn decrypt(&self, bytes: &mut Vec<u8>) {
        let context = DecryptionContext::Iv128(FixedLength::from(&self.counter));
        if self.key.decrypt(bytes, context).is_err() {
            // Never seen; nothing is then certainly no record.
            bytes.clear();
        }
    }
}
