//! What can be wrong with a keystore. Never holds a password or a key.

use thiserror::Error;

use crate::der;

/// Why a keystore cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum KeystoreError {
    /// The password does not open it.
    #[error("the password is wrong, or the keystore is damaged")]
    WrongPassword,
    /// The password does not open one key of it.
    #[error("the password of the key `{alias}` is wrong, or the keystore is damaged there")]
    WrongKeyPassword {
        /// The key's alias.
        alias: String,
    },
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
    #[error("the file is no keystore: neither JKS, JCEKS, PKCS12 nor PEM")]
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
    #[error("the keystore holds no such key as `{alias}`; it holds {found}")]
    NoAlias {
        /// The alias asked for.
        alias: String,
        /// The aliases there are.
        found: String,
    },
}

impl KeystoreError {
    pub(crate) fn unsupported(what: &'static str, id: &[u8]) -> Self {
        Self::Unsupported {
            what,
            id: der::dotted(id),
        }
    }
    pub(crate) fn no_alias<'a>(alias: &str, found: impl Iterator<Item = &'a str>) -> Self {
        let found: Vec<_> = found.map(|found| format!("`{found}`")).collect();
        Self::NoAlias {
            alias: alias.to_owned(),
            found: match found.is_empty() {
                true => "none of this kind".to_owned(),
                false => found.join(", "),
            },
        }
    }
}
