//! Keystores made by the real `keytool` and by OpenSSL; how, is in `testdata/README.md`.

use std::path::Path;

use super::*;

fn file(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    std::fs::read(path.join(name)).expect("fixture")
}

fn read_named(name: &str, password: &str) -> Result<Vec<KeyEntry>, KeystoreError> {
    read(&file(name), password)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn keystores_of_java_and_openssl_old_and_new_hold_the_same_key() {
    let expected = read_named("ec.pem", "").expect("PEM");
    for name in ["ec.p12", "java8.p12", "openssl1.p12", "openssl3.p12"] {
        let entries =
            read_named(name, "changeit").unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(entries.len(), 1, "{name}");
        assert_eq!(entries[0].alias, "server", "{name}");
        assert_eq!(
            entries[0].key.secret_der(),
            expected[0].key.secret_der(),
            "{name}"
        );
        assert_eq!(entries[0].chain, expected[0].chain, "{name}");
    }
}

#[test]
fn a_jks_keystore_holds_its_keys_by_alias() {
    let entries = read_named("ec.jks", "changeit").expect("JKS");
    let chosen = choose(entries, Some("SECOND")).expect("there");
    assert_eq!((chosen.alias.as_str(), chosen.chain.len()), ("second", 1));
    let none = choose(
        read_named("ec.jks", "changeit").expect("JKS"),
        Some("third"),
    );
    let text = none.expect_err("not there").to_string();
    assert!(
        text.contains("`third`") && text.contains("`server`"),
        "{text}"
    );
}

#[test]
fn a_chain_is_put_in_order_and_the_password_may_have_any_letters() {
    let entries = read_named("chain.p12", "pässword").expect("PKCS12");
    assert_eq!(entries[0].chain.len(), 2);
}

#[test]
fn secret_keys_are_what_java_gives() {
    let jceks = SecretStore::open(&file("secret.jceks"), "storeSecret").expect("JCEKS");
    let pkcs12 = SecretStore::open(&file("secret.p12"), "storeSecret").expect("PKCS12");
    for (store, alias, password, algorithm, expected) in [
        (
            &jceks,
            "key-0",
            "keySecret0",
            "AES",
            "e701f3015eeddf78e3e310f1e18030df",
        ),
        (
            &jceks,
            "key-1",
            "storeSecret",
            "AES",
            "d7872a4a14edb653ffd0120263b13282ace7d2c23e9ae5d6",
        ),
        (
            &jceks,
            "Key-2",
            "keySecret2",
            "AES",
            "aea703008eac7743b65fd8c6998dcaba78f0d29a87648bde93edd053781a10d9",
        ),
        (
            &jceks,
            "des",
            "storeSecret",
            "DESede",
            "4f6ba154259d5252f4293825731cbc38fbc7bcbc54f4674a",
        ),
        (
            &pkcs12,
            "key-1",
            "storeSecret",
            "AES",
            "d7872a4a14edb653ffd0120263b13282ace7d2c23e9ae5d6",
        ),
        (
            &pkcs12,
            "key-2",
            "storeSecret",
            "AES",
            "85b0d1997247249ab05aba0d11236dcd84243d595317612d1cf09dc3ee119085",
        ),
    ] {
        let key = store
            .key(alias, password)
            .unwrap_or_else(|error| panic!("{alias}: {error}"));
        assert_eq!(
            (hex(&key.bytes).as_str(), key.algorithm.as_str()),
            (expected, algorithm),
            "{alias}"
        );
        assert!(!format!("{key:?} {store:?}").contains(&expected[..8]));
        let wrong = store.key(alias, "other").expect_err("wrong password");
        assert_eq!(
            wrong,
            KeystoreError::WrongKeyPassword {
                alias: alias.to_owned()
            }
        );
    }
    let missing = jceks
        .key("key-9", "x")
        .expect_err("no such key")
        .to_string();
    assert!(
        missing.contains("`key-9`") && missing.contains("`key-0`"),
        "{missing}"
    );
    assert_eq!(pkcs12.aliases().count(), 2);
}

#[test]
fn private_keys_stand_beside_secret_ones() {
    for (name, start) in [
        ("secret.jceks", "3041020100301306072a8648ce3d0201"),
        ("secret.p12", "3041020100301306072a8648ce3d0201"),
    ] {
        let entries =
            read_named(name, "storeSecret").unwrap_or_else(|error| panic!("{name}: {error}"));
        let server = choose(entries, Some("server")).expect("a key pair");
        assert!(hex(server.key.secret_der()).starts_with(start), "{name}");
    }
}

#[test]
fn a_wrong_password_is_told_from_damage() {
    for name in [
        "ec.p12",
        "java8.p12",
        "openssl1.p12",
        "ec.jks",
        "chain.p12",
        "secret.jceks",
        "secret.p12",
    ] {
        let error = read_named(name, "wrong").expect_err(name);
        assert_eq!(error, KeystoreError::WrongPassword, "{name}");
    }
    let error = SecretStore::open(&file("secret.jceks"), "wrong").expect_err("wrong");
    assert_eq!(error, KeystoreError::WrongPassword);
    for bytes in [&b"hello"[..], b""] {
        assert_eq!(
            read(bytes, "").expect_err("no keystore"),
            KeystoreError::UnknownKind
        );
        assert_eq!(
            SecretStore::open(bytes, "").expect_err("no keystore"),
            KeystoreError::UnknownKind
        );
    }
}

#[test]
fn cut_and_changed_keystores_are_errors_never_panics() {
    for name in ["openssl3.p12", "ec.jks", "secret.jceks", "secret.p12"] {
        let good = file(name);
        let password = if name.starts_with("secret") {
            "storeSecret"
        } else {
            "changeit"
        };
        for length in (0..good.len()).step_by(good.len() / 25) {
            assert!(
                read(&good[..length], password).is_err(),
                "{name} cut at {length}"
            );
        }
        for at in (0..good.len()).step_by(good.len() / 40) {
            let mut bad = good.clone();
            bad[at] ^= 0x55;
            let _may_still_be_read = read(&bad, password);
        }
    }
}

#[test]
fn a_salt_of_equal_halves_is_handled_as_the_jdk_does_it() {
    let sealed = [0x11, 0x94, 0xd7, 0x0f, 0xaa, 0x1b, 0x43, 0x96];
    let plain = pbe::open("changeit", &[1, 2, 3, 4, 1, 2, 3, 4], 3, &sealed).expect("bounded");
    assert_eq!(plain.expect("opens")[..], b"hello"[..]);
}
