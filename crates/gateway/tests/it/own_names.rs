//! Host names of a site's own: with a certificate that it brings, without one, and on which ports.

use std::sync::Arc;

use lazuli_gateway::{Certificate, Target};
use rcgen::{CertificateParams, KeyPair};
use rustls::{ClientConfig, RootCertStore, pki_types::CertificateDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::*;

const WWW: &str = "www.example.org";

/// A certificate for a name, signed by itself, and a client that trusts it.
fn certificate(name: &str) -> (Certificate, CertificateDer<'static>) {
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
    let signed = params.self_signed(&key).expect("signed");
    let chain = vec![signed.der().to_vec()];
    let made = Certificate::new(chain, &key.serialize_der(), name, name).expect("usable");
    (made, signed.der().clone())
}

fn trusting(der: &CertificateDer<'static>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(der.clone()).expect("a root");
    ClientConfig::builder_with_provider(rustls::crypto::aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth()
}

async fn front() -> Front {
    let front = Front::start().await;
    let site = Target::Site(Arc::new(notes([named("app").await])));
    front.gateway.update(|table| {
        table.insert(NOTES, site.clone());
        table.insert(WWW, site.clone());
    });
    front
}

#[tokio::test]
async fn a_name_shows_the_certificate_that_was_brought_for_it_from_one_handshake_to_the_next() {
    let front = front().await;
    // Without one: Azure's own, which is for another name.
    let refused = front.tls_with(WWW, front.trusting()).await.expect_err("another name");
    assert!(refused.to_string().contains("not valid for name"), "{refused}");
    let (first, der) = certificate(WWW);
    front.gateway.update(|table| table.certify(WWW, Some(first.clone())));
    let tls = front.tls_with(WWW, trusting(&der)).await.expect("the certificate brought");
    drop(tls);
    // Azure's name has what it had.
    assert_eq!(front.get(NOTES, "/").await.body, "app");
    let (second, renewed) = certificate(WWW);
    front.gateway.update(|table| table.certify(WWW, Some(second.clone())));
    front.tls_with(WWW, trusting(&renewed)).await.expect("the new one");
    front.tls_with(WWW, trusting(&der)).await.expect_err("the old one is gone");
}

#[tokio::test]
async fn a_name_that_is_nobodys_is_not_answered_for() {
    let front = front().await;
    let (brought, der) = certificate(WWW);
    front.gateway.update(|table| table.certify(WWW, Some(brought.clone())));
    front
        .tls_with("other.example.org", trusting(&der))
        .await
        .expect_err("not a name of the region");
    front.gateway.update(|table| {
        table.remove(WWW);
    });
    front.tls_with(WWW, trusting(&der)).await.expect_err("not any more");
}

#[tokio::test]
async fn app_service_listens_on_two_ports_and_the_others_are_somebody_elses() {
    let front = front().await;
    let ask = async |line: &str| front.raw(format!("{line}\r\nHost: {WWW}\r\n\r\n")).await;
    let answer = ask(&format!("GET http://{WWW}/ HTTP/1.0")).await;
    assert!(answer.starts_with("HTTP/1.0 200") || answer.starts_with("HTTP/1.1 200"), "{answer}");
    for port in [443, 80, 8443] {
        let mut tcp = front.tcp().await;
        let to = format!("{WWW}:{port}");
        tcp.write_all(format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n").as_bytes())
            .await
            .expect("written");
        let mut status = [0; 12];
        within(tcp.read_exact(&mut status)).await.expect("an answer");
        let dialled = front.outside.dialled.lock().expect("not poisoned").clone();
        assert_eq!(dialled.is_empty(), port != 8443, "{port}: {dialled:?}");
    }
}
