//! Certificates and TLS versions.

use std::{fs, os::unix::fs::PermissionsExt, process::Command, sync::Arc};

use futures_util::future::BoxFuture;
use http::{Request, Response};
use hyper::body::Incoming;
use lazuli_gateway::{Authority, AuthorityError, Body, Peer, Service, Target, TlsVersion};
use rcgen::{CertificateParams, Issuer, KeyPair};
use rustls::{
    RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};

use crate::support::*;

struct Vault;

impl Service for Vault {
    fn call(
        self: Arc<Self>,
        request: Request<Incoming>,
        peer: Peer,
    ) -> BoxFuture<'static, Response<Body>> {
        let text =
            format!("{} over {:?}, tls {}", request.uri().path(), request.version(), peer.tls);
        Box::pin(async move { Response::new(lazuli_gateway::full(text)) })
    }
}

#[tokio::test]
async fn a_least_tls_version_acts_in_the_handshake_and_for_that_name_only() {
    let front = Front::start().await;
    let mut site = notes([named("app").await]);
    site.min_tls = TlsVersion::V1_3;
    front.publish(site.clone());
    site.min_tls = TlsVersion::V1_0;
    site.host = "old.azurewebsites.net".to_owned();
    front.publish(site);
    let only_12 = || {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(front.authority.ca_pem().as_bytes()).expect("PEM"))
            .expect("a root");
        rustls::ClientConfig::builder_with_provider(
            rustls::crypto::aws_lc_rs::default_provider().into(),
        )
        .with_protocol_versions(&[&rustls::version::TLS12])
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth()
    };
    let refused = front.tls_with(NOTES, only_12()).await.expect_err("TLS 1.2 is below the least");
    assert!(refused.to_string().contains("ProtocolVersion"), "{refused}");
    front.tls_with("old.azurewebsites.net", only_12()).await.expect("TLS 1.2 is enough there");
    assert_eq!(front.get(NOTES, "/").await.body, "app");
}

#[tokio::test]
async fn a_connection_for_one_name_does_not_serve_another() {
    let front = Front::start().await;
    front.publish(notes([named("app").await]));
    front.gateway.update(|table| {
        table.insert("notes-kv.vault.azure.net", Target::Service(Arc::new(Vault)));
    });
    let mut client = front.client(NOTES).await;
    client.host = "notes-kv.vault.azure.net".to_owned();
    assert_eq!(client.get("/").await.status, 421);
    client.host = "NOTES.AzureWebsites.net.:443".to_owned();
    assert_eq!(client.get("/").await.body, "app");
}

#[tokio::test]
async fn a_service_is_served_over_tls_alone_and_inside_by_server_name() {
    let front = Front::start().await;
    front.gateway.update(|table| {
        table.insert("Notes-KV.vault.azure.net", Target::Service(Arc::new(Vault)));
    });
    assert_eq!(
        front.get("notes-kv.vault.azure.net", "/secrets").await.body,
        "/secrets over HTTP/1.1, tls true"
    );
    let answer = front.raw("GET http://notes-kv.vault.azure.net/a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 301 "), "{answer}");
    let inside = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = inside.local_addr().expect("an address");
    front.gateway.serve_inside_tls(inside).expect("served");
    let inner = Front { addr, ..front };
    assert_eq!(
        inner.get("notes-kv.vault.azure.net", "/b").await.body,
        "/b over HTTP/1.1, tls true"
    );
    let answer = inner.raw("GET / HTTP/1.1\r\nHost: notes-kv.vault.azure.net\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.ends_with("TLS only\n"), "{answer}");
}

#[tokio::test]
async fn http2_is_offered_where_the_site_has_it_on() {
    let front = Front::start().await;
    let mut site = notes([mirror().await]);
    let mut config = front.trusting();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    front.publish(site.clone());
    let tls = front.tls_with(NOTES, config.clone()).await.expect("a handshake");
    assert_eq!(tls.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    site.http2 = true;
    front.publish(site);
    let tls = front.tls_with(NOTES, config).await.expect("a handshake");
    assert_eq!(tls.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (mut sender, connection) = hyper::client::conn::http2::handshake(
        hyper_util::rt::TokioExecutor::new(),
        hyper_util::rt::TokioIo::new(tls),
    )
    .await
    .expect("HTTP/2");
    tokio::spawn(connection);
    let requests = (0..20).map(|n| {
        let request = Request::post(format!("https://{NOTES}/{n}"))
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .body(lazuli_gateway::full(n.to_string()))
            .expect("a request");
        sender.send_request(request)
    });
    for (n, response) in
        within(futures_util::future::join_all(requests)).await.into_iter().enumerate()
    {
        use http_body_util::BodyExt;
        let body =
            response.expect("an answer").into_body().collect().await.expect("a body").to_bytes();
        let text = String::from_utf8_lossy(&body);
        assert!(
            text.starts_with(&format!("POST /{n}\n")) && text.ends_with(&format!("\n\n{n}")),
            "{text}"
        );
        assert!(
            text.contains("cookie: a=1; b=2\n") && text.contains(&format!("host: {NOTES}\n")),
            "{text}"
        );
    }
}

#[test]
fn an_authority_is_kept_and_its_key_is_nobody_elses() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("ca");
    let first = Authority::load_or_create(&path).expect("created");
    let second = Authority::load_or_create(&path).expect("loaded");
    assert_eq!(first.ca_pem(), second.ca_pem());
    assert_eq!(fs::read_to_string(path.join("ca.pem")).expect("the certificate"), first.ca_pem());
    let mode =
        |path: &std::path::Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    assert_eq!(mode(&path.join("authority.pem")), 0o600);
    let issued = second.issue_pem(&["notes-pg.postgres.database.azure.com"]).expect("issued");
    assert!(issued.key.expose().starts_with("-----BEGIN PRIVATE KEY-----"));
    assert!(!format!("{issued:?}{first:?}").contains("PRIVATE"));
    // What a kill while writing leaves behind is neither read nor in the way.
    fs::write(path.join("authority.1-0.tmp"), "-----BEGIN PRIV").expect("written");
    assert_eq!(Authority::load_or_create(&path).expect("loaded").ca_pem(), first.ca_pem());
    fs::write(path.join("authority.pem"), "-----BEGIN PRIV").expect("written");
    assert!(matches!(Authority::load_or_create(&path), Err(AuthorityError::Damaged { .. })));
}

#[test]
fn creators_at_the_same_moment_agree() {
    let directory = tempfile::tempdir().expect("a directory");
    let certificates: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    Authority::load_or_create(directory.path()).expect("one").ca_pem().to_owned()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    assert!(certificates.windows(2).all(|pair| pair[0] == pair[1]));
    let left: Vec<_> = fs::read_dir(directory.path())
        .expect("there")
        .map(|e| e.expect("an entry").file_name())
        .collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

/// Issues a certificate with the authority's own key for any name at all, as a thief of the key would.
fn forged(directory: &std::path::Path, name: &str) -> String {
    let store = fs::read_to_string(directory.join("authority.pem")).expect("the authority");
    let key = KeyPair::from_pem(&store).expect("the key");
    let ca = CertificateDer::from_pem_slice(store.as_bytes()).expect("the certificate");
    let issuer = Issuer::from_ca_cert_der(&ca, key).expect("an issuer");
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new([name.to_owned()]).expect("parameters");
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.not_after = time::OffsetDateTime::now_utc() + time::Duration::days(30);
    params.signed_by(&key, &issuer).expect("signed").pem()
}

#[test]
fn names_outside_of_the_constraints_are_refused_by_rustls_and_openssl() {
    let directory = tempfile::tempdir().expect("a directory");
    let authority = Authority::load_or_create(directory.path()).expect("an authority");
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(authority.ca_pem().as_bytes()).expect("PEM"))
        .expect("a root");
    let verifier = WebPkiServerVerifier::builder_with_provider(
        Arc::new(roots),
        rustls::crypto::aws_lc_rs::default_provider().into(),
    )
    .build()
    .expect("a verifier");
    let by_rustls = |pem: &str, name: &str| {
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).expect("PEM");
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        verifier.verify_server_cert(&der, &[], &name, &[], UnixTime::now()).is_ok()
    };
    let leaf = directory.path().join("leaf.pem");
    let by_openssl = |pem: &str| {
        fs::write(&leaf, pem).expect("written");
        let output = Command::new("openssl")
            .args(["verify", "-purpose", "sslserver", "-x509_strict", "-CAfile"])
            .arg(directory.path().join("ca.pem"))
            .arg(&leaf)
            .output()
            .expect("openssl is installed");
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for name in [
        "management.azure.com",
        "notes-pg.postgres.database.azure.com",
        "notes-redis.redis.cache.windows.net",
        "notes-kv.vault.azure.net",
        "notes-staging.scm.azurewebsites.net",
        "notes.localhost",
        "127.0.0.1",
    ] {
        let issued = authority.issue_pem(&[name]).expect("issued");
        assert!(by_rustls(&issued.chain, name), "rustls refuses {name}");
        let (accepted, why) = by_openssl(&issued.chain);
        assert!(accepted, "OpenSSL refuses {name}: {why}");
    }
    for name in [
        "bank.example",
        "azure.com.evil.example",
        "notazure.com",
        "www.microsoft.com",
        "10.0.2.4",
        "8.8.8.8",
    ] {
        let forged = forged(directory.path(), name);
        assert!(!by_rustls(&forged, name), "rustls accepts {name}");
        let (accepted, why) = by_openssl(&forged);
        assert!(
            !accepted && why.contains("permitted subtree violation"),
            "OpenSSL on {name}: {why}"
        );
    }
}

#[test]
fn leaves_live_short_enough_for_every_client() {
    let directory = tempfile::tempdir().expect("a directory");
    let authority = Authority::load_or_create(directory.path()).expect("an authority");
    fs::write(
        directory.path().join("leaf.pem"),
        authority.issue_pem(&[NOTES]).expect("issued").chain,
    )
    .expect("written");
    let checked = |seconds: u64| {
        Command::new("openssl")
            .args(["x509", "-noout", "-checkend", &seconds.to_string(), "-in"])
            .arg(directory.path().join("leaf.pem"))
            .output()
            .expect("openssl is installed")
            .status
            .success()
    };
    assert!(checked(60 * 86400), "it must outlive its place in the cache");
    assert!(!checked(397 * 86400));
}

/// The bundle is what clients that are no part of this project trust by.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_and_python_verify_through_the_proxy_with_the_bundle() {
    let front = Front::start().await;
    front.publish(notes([named("app").await]));
    let bundle = front.directory.path().join("bundle.pem");
    front.authority.write_bundle(&bundle).expect("a bundle");
    let blocks =
        fs::read_to_string(&bundle).expect("the bundle").matches("BEGIN CERTIFICATE").count();
    assert!(blocks > 50, "the system's roots are missing: {blocks}");
    let proxy = format!("http://{}", front.addr);
    let curl = tokio::process::Command::new("curl")
        .args(["-fsS", "-x", &proxy, "--cacert"])
        .arg(&bundle)
        .arg("https://notes.azurewebsites.net/")
        .env_remove("NO_PROXY")
        .env_remove("no_proxy")
        .output();
    let output = within(curl).await.expect("curl is installed");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "app",
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let program = "import sys,ssl,urllib.request as u\n\
        c=ssl.create_default_context(cafile=sys.argv[2])\n\
        o=u.build_opener(u.ProxyHandler({'https':sys.argv[1]}),u.HTTPSHandler(context=c))\n\
        print(o.open('https://notes.azurewebsites.net/').read().decode())\n\
        try: o.open('https://other.vault.azure.net/')\n\
        except OSError as e: print(e)\n";
    let python =
        tokio::process::Command::new("python3").args(["-c", program, &proxy]).arg(&bundle).output();
    let output = within(python).await.expect("python3 is installed");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.starts_with("app\n"), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("other.vault.azure.net is not in this Lazuli region"), "{text}");
}
