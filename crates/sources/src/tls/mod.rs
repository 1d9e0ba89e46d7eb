//! TLS of listening sources: Flume's keys (reference 1.11) to a rustls acceptor.
//!
//! rustls offers TLS 1.2 and 1.3 with sound cipher suites only, so most of what Flume's users
//! exclude is not there to begin with. Invariant: a setting that leaves no protocol or no cipher
//! suite is an error of the configuration, not of the first connection.

pub mod defaults;
#[cfg(test)]
pub(crate) mod tests;

use std::path::PathBuf;
use std::sync::Arc;

use flafka_flow::settings::{Names, Reader, Secret};
use flafka_keystore::{self as keystore, KeystoreError};
use regex::Regex;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{ServerConfig, SupportedCipherSuite, SupportedProtocolVersion};
use thiserror::Error;
use tokio_rustls::TlsAcceptor;

flafka_flow::choice! {
    /// Kind of a keystore. The content decides; this only has to fit it.
    pub enum KeystoreType {
        /// Java's own (JKS, JCEKS), or PKCS12: Java takes both for it.
        Jks = "JKS" | "JCEKS",
        /// PKCS12.
        Pkcs12 = "PKCS12" | "P12",
        /// A PEM file with a private key and its certificates. Not in Flume.
        Pem = "PEM",
    }
}

/// Why TLS cannot be served.
#[derive(Debug, Error)]
pub enum TlsError {
    /// The keystore's file cannot be read.
    #[error("read keystore {path}")]
    Read {
        /// Its path.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The keystore cannot be used.
    #[error("open keystore {path}")]
    Keystore {
        /// Its path.
        path: PathBuf,
        /// The cause.
        #[source]
        source: KeystoreError,
    },
    /// The content is not of the kind that the settings name.
    #[error("keystore {path} is not of the type {named}")]
    OtherType {
        /// Its path.
        path: PathBuf,
        /// The kind in the settings.
        named: &'static str,
    },
    /// Nothing to work with.
    #[error("ssl is on, and {what}")]
    Missing {
        /// What is missing.
        what: &'static str,
    },
    /// A cipher suite pattern is no regular expression.
    #[error("cipher suite pattern `{pattern}`")]
    BadPattern {
        /// The pattern.
        pattern: String,
        /// The cause.
        #[source]
        source: Box<regex::Error>,
    },
    /// rustls refuses the key or its certificates.
    #[error("use the key of keystore {path}")]
    Refused {
        /// The keystore's path.
        path: PathBuf,
        /// The cause.
        #[source]
        source: rustls::Error,
    },
}

/// The TLS keys of a listening source, as they stand in its settings.
#[derive(Debug, Clone, Default)]
pub struct ServerTls {
    /// `ssl`.
    pub ssl: bool,
    /// `keystore`.
    pub keystore: Option<PathBuf>,
    /// `keystore-password`.
    pub keystore_password: Option<Secret>,
    /// `keystore-type`.
    pub keystore_type: Option<KeystoreType>,
    /// `exclude-protocols`.
    pub exclude_protocols: Option<Names>,
    /// `include-protocols`.
    pub include_protocols: Option<Names>,
    /// `exclude-cipher-suites`.
    pub exclude_cipher_suites: Option<Names>,
    /// `include-cipher-suites`.
    pub include_cipher_suites: Option<Names>,
    /// Alias of the key to use; the first when there is none.
    pub alias: Option<String>,
}

impl ServerTls {
    /// These keys, and the global ones where a key is not set.
    #[must_use]
    pub fn with_global_defaults(mut self) -> Self {
        use defaults::global;
        let list = |property: &str, variable: &str| {
            let words = global(property, variable)?;
            let words = words
                .split(',')
                .map(str::trim)
                .filter(|word| !word.is_empty());
            Some(Names(words.map(str::to_owned).collect()))
        };
        self.keystore = self.keystore.or_else(|| {
            global("javax.net.ssl.keyStore", "FLUME_SSL_KEYSTORE_PATH").map(PathBuf::from)
        });
        self.keystore_password = self.keystore_password.or_else(|| {
            global(
                "javax.net.ssl.keyStorePassword",
                "FLUME_SSL_KEYSTORE_PASSWORD",
            )
            .map(Secret::new)
        });
        self.keystore_type = self.keystore_type.or_else(|| {
            let word = global("javax.net.ssl.keyStoreType", "FLUME_SSL_KEYSTORE_TYPE")?;
            flafka_flow::settings::parse_choice(&word).ok()
        });
        self.exclude_protocols = self
            .exclude_protocols
            .or_else(|| list("flume.ssl.exclude.protocols", "FLUME_SSL_EXCLUDE_PROTOCOLS"));
        self.include_protocols = self
            .include_protocols
            .or_else(|| list("flume.ssl.include.protocols", "FLUME_SSL_INCLUDE_PROTOCOLS"));
        self.exclude_cipher_suites = self.exclude_cipher_suites.or_else(|| {
            list(
                "flume.ssl.exclude.cipherSuites",
                "FLUME_SSL_EXCLUDE_CIPHERSUITES",
            )
        });
        self.include_cipher_suites = self.include_cipher_suites.or_else(|| {
            list(
                "flume.ssl.include.cipherSuites",
                "FLUME_SSL_INCLUDE_CIPHERSUITES",
            )
        });
        self
    }

    /// Reports what cannot work, without touching the keystore.
    pub fn check(&self, reader: &mut Reader<'_>) {
        if !self.ssl {
            return;
        }
        if self.keystore.is_none() {
            reader.error(
                "keystore",
                "is needed with ssl = true (or set FLUME_SSL_KEYSTORE_PATH)",
                None,
            );
        }
        if self.keystore_password.is_none() && self.keystore_type != Some(KeystoreType::Pem) {
            reader.error(
                "keystore-password",
                "is needed with ssl = true (or set FLUME_SSL_KEYSTORE_PASSWORD)",
                None,
            );
        }
        if self.protocols().is_empty() {
            reader.error(
                "include-protocols",
                "leaves no protocol",
                Some("TLSv1.2, TLSv1.3".to_owned()),
            );
        }
        match self.cipher_suites() {
            Err(error) => reader.error(
                "include-cipher-suites",
                flafka_flow::channel::error_chain(&error),
                None,
            ),
            Ok(suites) if suites.is_empty() => {
                let offered: Vec<_> = all_suites().iter().map(|suite| java_name(*suite)).collect();
                reader.error(
                    "include-cipher-suites",
                    "leaves no cipher suite",
                    Some(offered.join(", ")),
                );
            }
            Ok(_) => {}
        }
        for old in self.include_protocols.iter().flat_map(|names| &names.0) {
            if version(old).is_none() {
                reader.warning(
                    "include-protocols",
                    format!("`{old}` is not offered: it is not secure, or not known"),
                );
            }
        }
    }

    /// Opens the keystore and makes the acceptor.
    ///
    /// # Errors
    /// When the keystore cannot be read, opened or used.
    pub fn acceptor(&self) -> Result<TlsAcceptor, TlsError> {
        let path = self.keystore.clone().ok_or(TlsError::Missing {
            what: "no keystore is set",
        })?;
        let password = self.keystore_password.as_ref().map_or("", Secret::reveal);
        let file = std::fs::read(&path).map_err(|source| TlsError::Read {
            path: path.clone(),
            source,
        })?;
        self.check_type(&path, &file)?;
        let entry = keystore::read(&file, password)
            .and_then(|entries| keystore::choose(entries, self.alias.as_deref()))
            .map_err(|source| TlsError::Keystore {
                path: path.clone(),
                source,
            })?;
        let provider = CryptoProvider {
            cipher_suites: self.cipher_suites()?,
            ..aws_lc_rs::default_provider()
        };
        let refused = |source| TlsError::Refused {
            path: path.clone(),
            source,
        };
        let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&self.protocols())
            .map_err(refused)?
            .with_no_client_auth()
            .with_single_cert(entry.chain, entry.key)
            .map_err(refused)?;
        config.alpn_protocols = Vec::new();
        Ok(TlsAcceptor::from(Arc::new(config)))
    }

    fn check_type(&self, path: &std::path::Path, file: &[u8]) -> Result<(), TlsError> {
        let is_pem = memchr::memmem::find(file, b"-----BEGIN ").is_some();
        match self.keystore_type {
            Some(KeystoreType::Pem) if !is_pem => Err(TlsError::OtherType {
                path: path.to_owned(),
                named: "PEM",
            }),
            _ => Ok(()),
        }
    }

    fn protocols(&self) -> Vec<&'static SupportedProtocolVersion> {
        let names = |list: &Option<Names>, name: &str| {
            list.as_ref()
                .map(|list| list.0.iter().any(|word| word.eq_ignore_ascii_case(name)))
        };
        [
            ("TLSv1.3", &rustls::version::TLS13),
            ("TLSv1.2", &rustls::version::TLS12),
        ]
        .into_iter()
        .filter(|(name, _)| {
            names(&self.include_protocols, name).unwrap_or(true)
                && !names(&self.exclude_protocols, name).unwrap_or(false)
        })
        .map(|(_, version)| version)
        .collect()
    }

    fn cipher_suites(&self) -> Result<Vec<SupportedCipherSuite>, TlsError> {
        let include = patterns(self.include_cipher_suites.as_ref())?;
        let exclude = patterns(self.exclude_cipher_suites.as_ref())?;
        let matches =
            |patterns: &[Regex], name: &str| patterns.iter().any(|pattern| pattern.is_match(name));
        Ok(all_suites()
            .into_iter()
            .filter(|suite| {
                let name = java_name(*suite);
                include
                    .as_ref()
                    .is_none_or(|include| matches(include, &name))
                    && !exclude
                        .as_ref()
                        .is_some_and(|exclude| matches(exclude, &name))
            })
            .collect())
    }
}

fn version(name: &str) -> Option<()> {
    let known = ["TLSv1.2", "TLSv1.3"];
    known
        .iter()
        .any(|known| known.eq_ignore_ascii_case(name))
        .then_some(())
}

fn all_suites() -> Vec<SupportedCipherSuite> {
    aws_lc_rs::default_provider().cipher_suites
}

/// A suite's name in Java: rustls marks those of TLS 1.3 with `TLS13_`.
fn java_name(suite: SupportedCipherSuite) -> String {
    let name = format!("{:?}", suite.suite());
    match name.strip_prefix("TLS13_") {
        Some(rest) => format!("TLS_{rest}"),
        None => name,
    }
}

fn patterns(names: Option<&Names>) -> Result<Option<Vec<Regex>>, TlsError> {
    let Some(names) = names else {
        return Ok(None);
    };
    let compiled: Result<Vec<_>, _> = names
        .0
        .iter()
        .map(|pattern| {
            Regex::new(&format!("^(?:{pattern})$")).map_err(|source| TlsError::BadPattern {
                pattern: pattern.clone(),
                source: Box::new(source),
            })
        })
        .collect();
    compiled.map(Some)
}
