//! Secret keys (AES and the like) of JCEKS and PKCS12 keystores, as `keytool -genseckey` makes them.
//!
//! A store is opened once with its password; each key is unsealed when it is asked for, with a password of its own.

use std::fmt;

use zeroize::Zeroizing;

use crate::der::{self, Der, OCTET_STRING, SEQUENCE};
use crate::error::KeystoreError;
use crate::java_object::read_object;
use crate::java_store::{self, Entry, Input};
use crate::{pbe, pkcs12};

/// What seals a key in a JCEKS keystore.
const JCEKS_SEAL: &str = "PBEWithMD5AndTripleDES";

/// A secret key. Wiped when it is dropped, never printed.
#[derive(Clone)]
pub struct SecretKey {
    /// The algorithm that it was made for, `AES` for instance.
    pub algorithm: String,
    /// The key itself.
    pub bytes: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "SecretKey({}, {} bits)",
            self.algorithm,
            self.bytes.len() * 8
        )
    }
}

/// An open keystore with its secret keys, which are still sealed.
#[derive(Debug)]
pub struct SecretStore {
    keys: Vec<(String, Sealed)>,
}

#[derive(Debug)]
enum Sealed {
    Jceks {
        algorithm: String,
        parameters: Vec<u8>,
        content: Vec<u8>,
    },
    /// An EncryptedPrivateKeyInfo.
    Pkcs12(Vec<u8>),
}

impl SecretStore {
    /// Opens a JCEKS or PKCS12 keystore.
    ///
    /// # Errors
    /// When it is neither, is damaged, or has another password.
    pub fn open(file: &[u8], password: &str) -> Result<Self, KeystoreError> {
        let keys = if java_store::is_one(file) {
            let mut keys = Vec::new();
            for entry in java_store::entries(file, password)? {
                if let Entry::Secret { alias, object } = entry {
                    let sealed = Sealed::Jceks {
                        algorithm: object.text("sealAlg")?.to_owned(),
                        parameters: object.bytes("encodedParams")?.to_vec(),
                        content: object.bytes("encryptedContent")?.to_vec(),
                    };
                    keys.push((alias, sealed));
                }
            }
            keys
        } else if file.first() == Some(&der::SEQUENCE) {
            let secrets = pkcs12::sealed_secrets(file, password)?;
            let sealed = |(alias, info)| (alias, Sealed::Pkcs12(info));
            secrets.into_iter().map(sealed).collect()
        } else {
            return Err(KeystoreError::UnknownKind);
        };
        Ok(Self { keys })
    }

    /// The aliases of the secret keys.
    pub fn aliases(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(|(alias, _)| &**alias)
    }

    /// The key `alias` (compared without case, as Java does it), unsealed with its own password.
    ///
    /// # Errors
    /// When there is none of that name, or the password does not fit.
    pub fn key(&self, alias: &str, password: &str) -> Result<SecretKey, KeystoreError> {
        let mut found = self.keys.iter();
        let Some((_, sealed)) = found.find(|(other, _)| other.eq_ignore_ascii_case(alias)) else {
            return Err(KeystoreError::no_alias(alias, self.aliases()));
        };
        let wrong = || KeystoreError::WrongKeyPassword {
            alias: alias.to_owned(),
        };
        match sealed {
            Sealed::Jceks {
                algorithm,
                parameters,
                content,
            } => {
                if algorithm != JCEKS_SEAL {
                    return Err(KeystoreError::Unsupported {
                        what: "seal of a key",
                        id: algorithm.clone(),
                    });
                }
                let mut parameters = Der(parameters).inside(SEQUENCE)?;
                let salt = parameters.of(OCTET_STRING)?;
                let plain = pbe::open(password, salt, parameters.number()?, content)?;
                // Bad padding is seen by the cipher; one wrong password in 256 is not, and gives noise.
                java_key(&plain.ok_or_else(wrong)?).map_err(|error| match error {
                    KeystoreError::Damaged {
                        what: "Java object",
                    } => wrong(),
                    other => other,
                })
            }
            Sealed::Pkcs12(info) => pkcs12::unseal_secret(info, password)?.ok_or_else(wrong),
        }
    }
}

fn java_key(plain: &[u8]) -> Result<SecretKey, KeystoreError> {
    let object = read_object(&mut Input(plain))?;
    let field = match object.class.as_str() {
        "javax.crypto.spec.SecretKeySpec" => "key",
        "java.security.KeyRep" => "encoded",
        _ => {
            return Err(KeystoreError::Unsupported {
                what: "Java key",
                id: object.class,
            });
        }
    };
    Ok(SecretKey {
        algorithm: object.text("algorithm")?.to_owned(),
        bytes: Zeroizing::new(object.bytes(field)?.to_vec()),
    })
}
