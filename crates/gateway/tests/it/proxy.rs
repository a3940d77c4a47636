//! The proxy: `CONNECT`, `GET http://…`, and whom it lets through.

use rustls::pki_types::ServerName;
use std::sync::Arc;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsConnector;

use crate::support::*;

async fn head(tcp: &mut TcpStream) -> String {
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\n") {
        text.push(within(tcp.read_u8()).await.expect("a head"));
    }
    String::from_utf8_lossy(&text).into_owned()
}

async fn connect(front: &Front, to: &str) -> (TcpStream, String) {
    let mut tcp = front.tcp().await;
    tcp.write_all(format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n").as_bytes())
        .await
        .expect("written");
    let head = head(&mut tcp).await;
    (tcp, head)
}

/// A server outside that says what it was sent and then sends it back.
async fn outside(front: &Front) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    *front.outside.to.lock().expect("not poisoned") =
        Some(listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = tcp.split();
                tokio::io::copy(&mut read, &mut write).await
            });
        }
    });
}

#[tokio::test]
async fn the_regions_own_hosts_are_answered_here() {
    let front = Front::start().await;
    front.publish(notes([named("app").await]));
    for host in ["notes.azurewebsites.net", "NOTES.azurewebsites.NET.", "notes.localhost"] {
        let (tcp, head) = connect(&front, &format!("{host}:443")).await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        let name = ServerName::try_from(host.trim_end_matches('.').to_owned()).expect("a name");
        let tls = within(TlsConnector::from(Arc::new(front.trusting())).connect(name, tcp))
            .await
            .expect("a handshake");
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(tls))
                .await
                .expect("HTTP");
        tokio::spawn(connection);
        let request = http::Request::get("/")
            .header("host", host)
            .body(lazuli_gateway::empty())
            .expect("a request");
        assert_eq!(within(sender.send_request(request)).await.expect("an answer").status(), 200);
    }
    assert!(front.outside.dialled.lock().expect("not poisoned").is_empty());
}

#[tokio::test]
async fn an_owned_tunnel_also_carries_plain_http() {
    let front = Front::start().await;
    front.publish(notes([named("app").await]));
    let (mut tcp, head) = connect(&front, "notes.azurewebsites.net:80").await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    tcp.write_all(b"GET / HTTP/1.1\r\nHost: notes.azurewebsites.net\r\nConnection: close\r\n\r\n")
        .await
        .expect("written");
    let mut answer = String::new();
    within(tcp.read_to_string(&mut answer)).await.expect("an answer");
    assert!(answer.ends_with("app"), "{answer}");
}

#[tokio::test]
async fn azure_is_never_reached() {
    let front = Front::start().await;
    outside(&front).await;
    for host in [
        "management.azure.com",
        "x.vault.azure.net",
        "A.Blob.Core.Windows.Net.",
        "login.microsoftonline.com",
    ] {
        let (mut tcp, head) = connect(&front, &format!("{host}:443")).await;
        assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
        let line = head.lines().next().expect("a line").to_lowercase();
        assert!(line.contains("is not in this lazuli region"), "{line}");
        let length: usize = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .and_then(|n| n.parse().ok())
            .expect("a length");
        let mut text = vec![0; length];
        within(tcp.read_exact(&mut text)).await.expect("the explanation");
        assert!(
            String::from_utf8_lossy(&text)
                .contains("never passes a connection on to the real Azure")
        );
        let answer = front
            .raw(format!("GET http://{host}/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))
            .await;
        assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    }
    assert!(front.outside.dialled.lock().expect("not poisoned").is_empty());
}

#[tokio::test]
async fn everybody_else_is_reached_untouched() {
    let front = Front::start().await;
    outside(&front).await;
    let (mut tcp, head) = connect(&front, "pypi.org:443").await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let bytes: Vec<u8> =
        (0..200_000_u32).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
    let (mut read, mut write) = tcp.split();
    let sending = async {
        write.write_all(&bytes).await.expect("written");
        write.shutdown().await.expect("closed");
    };
    let mut back = Vec::new();
    let ((), received) = within(async { tokio::join!(sending, read.read_to_end(&mut back)) }).await;
    received.expect("all of it");
    assert!(back == bytes, "not what was sent");
    assert_eq!(*front.outside.dialled.lock().expect("not poisoned"), ["pypi.org:443"]);
}

#[tokio::test]
async fn plain_http_is_forwarded_with_its_own_host() {
    let front = Front::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    *front.outside.to.lock().expect("not poisoned") =
        Some(listener.local_addr().expect("an address"));
    let served = tokio::spawn(async move {
        let (mut tcp, _) = listener.accept().await.expect("a connection");
        let request = head(&mut tcp).await;
        tcp.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi")
            .await
            .expect("written");
        request
    });
    let answer = front
        .raw("GET http://deb.example:8080/a?b HTTP/1.1\r\nHost: evil.example\r\nProxy-Authorization: Basic eDp5\r\nConnection: close\r\n\r\n")
        .await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("hi"), "{answer}");
    let request = served.await.expect("served");
    assert!(request.starts_with("GET /a?b HTTP/1.1\r\n"), "{request}");
    assert!(
        request.contains("host: deb.example:8080\r\n") && !request.contains("evil"),
        "{request}"
    );
    assert!(!request.contains("proxy-authorization"), "{request}");
    assert_eq!(*front.outside.dialled.lock().expect("not poisoned"), ["deb.example:8080"]);
}

#[tokio::test]
async fn nobody_there_is_said() {
    let front = Front::start().await;
    let (_tcp, head) = connect(&front, "nowhere.example:443").await;
    assert!(head.starts_with("HTTP/1.1 502 cannot connect to nowhere.example\r\n"), "{head}");
}

#[tokio::test]
async fn a_host_field_alone_opens_no_way_out() {
    let front = Front::start().await;
    outside(&front).await;
    let answer = front.raw("GET / HTTP/1.1\r\nHost: pypi.org\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    assert!(front.outside.dialled.lock().expect("not poisoned").is_empty());
}

#[tokio::test]
async fn an_unknown_site_is_not_found() {
    let front = Front::start().await;
    let answer =
        front.raw("GET / HTTP/1.1\r\nHost: nosuch.localhost\r\nConnection: close\r\n\r\n").await;
    assert!(
        answer.starts_with("HTTP/1.1 404 ") && answer.contains("404 Web Site not found"),
        "{answer}"
    );
    let answer = front.get("nosuch.localhost", "/").await;
    assert_eq!(answer.status, 404);
}

#[tokio::test]
async fn from_inside_the_machine_itself_is_out_of_reach() {
    let front = Front::start().await;
    outside(&front).await;
    let inside = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = inside.local_addr().expect("an address");
    front.gateway.serve_inside_proxy(inside).expect("served");
    let machine = front.addr;
    let front = Front { addr, ..front };
    for host in [
        "localhost",
        "127.0.0.1",
        "[::1]",
        "0.0.0.0",
        "10.0.2.5",
        "192.168.1.1",
        "2130706433",
        "169.254.169.254",
    ] {
        let (_tcp, head) = connect(&front, &format!("{host}:22")).await;
        assert!(head.starts_with("HTTP/1.1 403 "), "{host}: {head}");
    }
    let (_tcp, head) = connect(&front, "pypi.org:443").await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    // The machine may: it could do so without us.
    let front = Front { addr: machine, ..front };
    let (_tcp, head) = connect(&front, "localhost:5000").await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
}
