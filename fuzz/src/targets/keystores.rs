//! Java keystores.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA1_OUTPUT_LEN, digest};
use flafka_keystore::SecretStore;

/// Passwords of the stores in the corpus.
const PASSWORDS: [&str; 2] = ["changeit", "storeSecret"];

/// Reads the keystore as it is; a Java store once more with its digest made to fit, else damage never gets past it.
pub(super) fn keystores(input: &[u8]) {
    let mut sealed = input.to_vec();
    for password in PASSWORDS {
        read(input, password);
        if let Some((data, digest_bytes)) = sealed.split_last_chunk_mut::<SHA1_OUTPUT_LEN>() {
            let mut hashed: Vec<u8> = password.encode_utf16().flat_map(u16::to_be_bytes).collect();
            hashed.extend_from_slice(b"Mighty Aphrodite");
            hashed.extend_from_slice(data);
            digest_bytes.copy_from_slice(digest(&SHA1_FOR_LEGACY_USE_ONLY, &hashed).as_ref());
        }
        if input.starts_with(&[0xfe, 0xed]) || input.starts_with(&[0xce, 0xce]) {
            read(&sealed, password);
        }
    }
}

fn read(input: &[u8], password: &str) {
    flafka_keystore::read(input, password).ok();
    if let Ok(store) = SecretStore::open(input, password) {
        for alias in store.aliases() {
            store.key(alias, password).ok();
        }
    }
}

/// Real stores stand in the corpus; these are only the beginnings by which the kinds are told apart.
pub(super) fn keystore_seeds() -> Vec<Vec<u8>> {
    let jks = [
        &[0xfe, 0xed, 0xfe, 0xed, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1][..],
        &[0; 40],
    ]
    .concat();
    let pkcs12 = vec![
        0x30, 0x82, 0, 16, 2, 1, 3, 0x30, 11, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 1,
    ];
    let pem = b"-----BEGIN PRIVATE KEY-----\nMC4CAQ==\n-----END PRIVATE KEY-----\n".to_vec();
    let object = [
        &[
            0xce, 0xce, 0xce, 0xce, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 3, 0, 1, b'a',
        ][..],
        &[0; 8],
        &[0xac, 0xed, 0, 5, 0x73, 0x72, 0, 1, b'K'],
        &[0; 8],
        &[
            2, 0, 1, b'[', 0, 3, b'k', b'e', b'y', 0x74, 0, 2, b'[', b'B', 0x78, 0x70,
        ],
        &[0x75, 0x72, 0, 2, b'[', b'B'],
        &[0; 8],
        &[2, 0, 0, 0x78, 0x70, 0, 0, 0, 2, 1, 2],
        &[0; 20],
    ]
    .concat();
    vec![jks, object, pkcs12, pem]
}
