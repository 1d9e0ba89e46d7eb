//! Tests of the settings and the acceptor. The keystores in `testdata` were made once with `keytool`
//! of JDK 17; all hold the same key, password `changeit`. The kinds of keystores are tested in `flafka-keystore`.

use std::path::Path;

use flafka_flow::settings::{Report, Section};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("src/tls/testdata")
        .join(name)
}

fn settings(name: &str) -> ServerTls {
    ServerTls {
        ssl: true,
        keystore: Some(file(name)),
        keystore_password: Some(Secret::new("changeit")),
        ..ServerTls::default()
    }
}

fn names(words: &str) -> Option<Names> {
    Some(Names(words.split(' ').map(str::to_owned).collect()))
}

#[test]
fn protocols_and_suites_are_chosen_by_javas_names() {
    let mut tls = settings("ec.p12");
    assert_eq!(tls.protocols().len(), 2);
    tls.exclude_protocols = names("SSLv3 TLSv1.3");
    assert_eq!(tls.protocols(), [&rustls::version::TLS12]);
    tls.include_protocols = names("TLSv1.3");
    assert!(tls.protocols().is_empty());
    tls.include_cipher_suites = names("TLS_AES_256_GCM_SHA384 .*CHACHA20.*");
    tls.exclude_cipher_suites = names("TLS_ECDHE_RSA_.*");
    let suites = tls.cipher_suites().expect("good patterns");
    let mut found: Vec<_> = suites.into_iter().map(java_name).collect();
    found.sort();
    let expected = [
        "TLS_AES_256_GCM_SHA384",
        "TLS_CHACHA20_POLY1305_SHA256",
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    ];
    assert_eq!(found, expected);
}

#[test]
fn settings_that_leave_nothing_are_refused() {
    let section = Section::of("a1.sources.r1", [("ssl", "true")]);
    let mut report = Report::new();
    let mut reader = Reader::new(&section, &mut report);
    let tls = ServerTls {
        ssl: true,
        exclude_protocols: names("TLSv1.2 TLSv1.3"),
        include_cipher_suites: names("SSL_RSA_WITH_RC4_128_MD5"),
        ..ServerTls::default()
    };
    tls.check(&mut reader);
    let keys: Vec<_> = report
        .problems()
        .iter()
        .map(|problem| problem.key.as_str())
        .collect();
    let expected = [
        "keystore",
        "keystore-password",
        "include-protocols",
        "include-cipher-suites",
    ];
    assert_eq!(keys, expected.map(|key| format!("a1.sources.r1.{key}")));
}

/// A client that trusts the certificate in `ec.pem` for `localhost`.
pub(crate) fn client() -> tokio_rustls::TlsConnector {
    use rustls::pki_types::pem::PemObject;
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_file(file("ec.pem")).expect("PEM");
    roots.add(certificate).expect("a certificate");
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    tokio_rustls::TlsConnector::from(Arc::new(config))
}

#[tokio::test]
async fn a_client_talks_to_each_kind_of_keystore() {
    for name in ["ec.p12", "ec.pem"] {
        let acceptor = settings(name)
            .acceptor()
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let (near, far) = tokio::io::duplex(1 << 16);
        let server = tokio::spawn(async move {
            let mut stream = acceptor.accept(far).await.expect("handshake");
            stream.write_all(b"hello").await.expect("write");
            stream.shutdown().await.expect("close");
        });
        let host = ServerName::try_from("localhost").expect("a name");
        let mut stream = client().connect(host, near).await.expect("handshake");
        let mut text = String::new();
        stream.read_to_string(&mut text).await.expect("read");
        assert_eq!(text, "hello", "{name}");
        server.await.expect("no panic");
    }
}

#[test]
fn a_missing_keystore_is_named() {
    let error = settings("none.p12").acceptor().err().expect("missing");
    assert!(error.to_string().contains("none.p12"), "{error}");
}
