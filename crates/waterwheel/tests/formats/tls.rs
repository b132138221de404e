//! A registry behind TLS: whom it is believed, and who it believes.

use std::path::{Path, PathBuf};
use std::pin::Pin;

use hyper_openssl::SslStream;
use hyper_util::rt::TokioIo;
use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::ssl::{Ssl, SslAcceptor, SslMethod, SslVerifyMode};
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509, X509NameBuilder};
use waterwheel::Retry;
use waterwheel::registry::{Registry, RegistryBuilder, RegistryErrorKind};

use crate::registry::{TestRegistry, spawn};

/// An authority, and what it has signed, as PEM files in a folder.
struct Authority {
    folder: tempfile::TempDir,
    certificate: X509,
    key: PKey<Private>,
}

impl Authority {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
        let certificate = certificate("authority", &key, None, &[]);
        std::fs::write(folder.path().join("ca.pem"), certificate.to_pem().unwrap()).unwrap();
        Self { folder, certificate, key }
    }

    /// Files of a certificate and its key.
    fn sign(&self, name: &str, addresses: &[&str]) -> (PathBuf, PathBuf) {
        let key = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
        let signed = certificate(name, &key, Some(self), addresses);
        let files = (self.file(&format!("{name}.pem")), self.file(&format!("{name}.key")));
        std::fs::write(&files.0, signed.to_pem().unwrap()).unwrap();
        std::fs::write(&files.1, key.private_key_to_pem_pkcs8().unwrap()).unwrap();
        files
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

fn certificate(name: &str, key: &PKey<Private>, signer: Option<&Authority>, addresses: &[&str]) -> X509 {
    let mut subject = X509NameBuilder::new().unwrap();
    subject.append_entry_by_nid(Nid::COMMONNAME, name).unwrap();
    let subject = subject.build();
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    let serial = BigNum::from_u32(if signer.is_some() { 2 } else { 1 }).unwrap().to_asn1_integer().unwrap();
    builder.set_serial_number(&serial).unwrap();
    builder.set_subject_name(&subject).unwrap();
    builder.set_issuer_name(signer.map_or(&subject, |signer| signer.certificate.subject_name())).unwrap();
    builder.set_pubkey(key).unwrap();
    builder.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
    builder.set_not_after(&Asn1Time::days_from_now(2).unwrap()).unwrap();
    if signer.is_none() {
        builder.append_extension(BasicConstraints::new().critical().ca().build().unwrap()).unwrap();
    }
    if !addresses.is_empty() {
        let mut names = SubjectAlternativeName::new();
        for address in addresses {
            names.ip(address);
        }
        let context = builder.x509v3_context(None, None);
        let names = names.build(&context).unwrap();
        builder.append_extension(names).unwrap();
    }
    builder.sign(signer.map_or(key, |signer| &signer.key), MessageDigest::sha256()).unwrap();
    builder.build()
}

/// A registry behind TLS. `clients`: who signs the certificates that it demands.
async fn serve(certificate: &(PathBuf, PathBuf), clients: Option<&Path>) -> String {
    let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).unwrap();
    acceptor.set_certificate_chain_file(&certificate.0).unwrap();
    acceptor.set_private_key_file(&certificate.1, openssl::ssl::SslFiletype::PEM).unwrap();
    if let Some(clients) = clients {
        acceptor.set_ca_file(clients).unwrap();
        acceptor.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
    }
    let acceptor = acceptor.build();
    let registry = TestRegistry::default();
    let (listener, address) = TestRegistry::bind().await;
    spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let ssl = Ssl::new(acceptor.context()).unwrap();
            let mut stream = SslStream::new(ssl, TokioIo::new(stream)).unwrap();
            if Pin::new(&mut stream).accept().await.is_ok() {
                spawn(registry.clone().converse(stream));
            }
        }
    });
    format!("https://{address}")
}

fn client(address: &str) -> RegistryBuilder {
    Registry::builder(address).retry(Retry::none())
}

async fn fails(builder: RegistryBuilder) -> String {
    let error = builder.build().unwrap().subjects().await.unwrap_err();
    assert_eq!(error.kind(), RegistryErrorKind::Unreachable, "{error}");
    error.to_string()
}

#[tokio::test]
async fn a_registry_is_believed_by_its_authority_and_its_name() {
    let authority = Authority::new();
    let ca = authority.file("ca.pem");
    let right = serve(&authority.sign("right", &["127.0.0.1"]), None).await;
    let other = serve(&authority.sign("other", &["127.0.0.2"]), None).await;
    // Credentials may go over TLS.
    let registry = client(&right).ca_file(&ca).basic_auth("user", "secret").build().unwrap();
    assert_eq!(registry.subjects().await.unwrap(), [""; 0]);
    let unknown = fails(client(&right)).await;
    assert!(unknown.contains("certificate"), "{unknown}");
    fails(client(&other).ca_file(&ca)).await;
}

#[tokio::test]
async fn a_client_shows_its_certificate_where_one_is_demanded() {
    let authority = Authority::new();
    let ca = authority.file("ca.pem");
    let server = serve(&authority.sign("server", &["127.0.0.1"]), Some(&ca)).await;
    let (certificate, key) = authority.sign("client", &[]);
    let registry = client(&server).ca_file(&ca).client_cert(&certificate, &key).build().unwrap();
    registry.subjects().await.unwrap();
    fails(client(&server).ca_file(&ca)).await;
    let (_, others_key) = authority.sign("stranger", &[]);
    let mismatch = client(&server).ca_file(&ca).client_cert(&certificate, &others_key).build();
    assert!(mismatch.unwrap_err().to_string().contains("client_key"));
}
