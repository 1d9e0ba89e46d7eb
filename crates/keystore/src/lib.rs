//! Keystores of the kinds that Flume's users have: JKS, JCEKS, PKCS12, and PEM beside them.
//!
//! [`read`] gives the private keys with their certificates, for TLS; [`SecretStore`] the secret keys, for the file
//! channel's encryption. The kind is recognised by the file's first bytes, as modern Java does it too (a file made by
//! `keytool` since Java 9 is PKCS12 whatever its name says). Read without any keystore crate: the ones there are bring
//! about fifty crates for some eight hundred lines.
//!
//! Invariants: every length is checked against the bytes that are there; key derivations have a bounded number of
//! rounds; keys are wiped from memory when they are dropped and never printed.

mod der;
mod entry;
mod error;
mod java_object;
mod java_store;
mod pbe;
mod pkcs12;
mod rc2;
mod secret;

pub use entry::{KeyEntry, choose, read};
pub use error::KeystoreError;
pub use secret::{SecretKey, SecretStore};

#[cfg(test)]
mod tests;
