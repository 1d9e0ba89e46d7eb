//! Encryption at rest: the log sees only ciphertext, so segments, journal and checkpoints hold nothing else.
//!
//! Three layers. A *master key* (AES, 128, 192 or 256 bits) lies in a keystore outside of the log and is known by its
//! alias. A *data key* (AES-256) is random, made at every start and whenever the last one has sealed as much as one
//! data file holds; it is stored in the log, wrapped by the master key that was active then, before its first use.
//! A *sealed batch* is one put transaction (or 8 MiB of it) under a data key.
//!
//! Invariants: no nonce is used twice under a key (data keys are sealed with by one run only, their nonces count up);
//! a data key is forgotten only when everything under it has been delivered; each batch says itself whether and how it
//! is sealed, so encryption can be turned on, off and over while events wait.
//!
//! What it gives: who reads the disk learns sizes and times, not contents; who changes it is noticed, also when a batch
//! is carried to another channel. Not noticed is one of the channel's own batches put in another's place.

mod data_keys;
mod error;
mod master_keys;
mod sealed;

pub(super) use data_keys::DataKeys;
pub(super) use error::EncryptionError;
pub(super) use master_keys::{KeySource, MasterKeys};
pub(super) use sealed::is_sealed;

use std::sync::Arc;

use bytes::Bytes;

use data_keys::SealingKey;

/// More bytes are sealed on a thread that may block; fewer take well under half a millisecond.
const SEALED_HERE_BYTES: usize = 512 << 10;

/// Seals the batches of one put.
pub(super) async fn seal(
    key: Arc<SealingKey>,
    batches: Vec<Bytes>,
) -> Result<Vec<Bytes>, EncryptionError> {
    if batches.iter().map(Bytes::len).sum::<usize>() <= SEALED_HERE_BYTES {
        return key.seal_all(batches);
    }
    tokio::task::spawn_blocking(move || key.seal_all(batches))
        .await
        .unwrap_or(Err(EncryptionError::CipherRefused))
}

#[cfg(test)]
mod tests;
