//! Upgraded connections.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use http::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use lazuli_gateway::Instance;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::*;

/// An application that accepts every upgrade and sends back what it gets, its name first.
async fn echo(id: &'static str) -> Arc<Instance> {
    application(id, move |mut request| async move {
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut io = TokioIo::new(upgrade.await.expect("an upgrade"));
            io.write_all(id.as_bytes()).await.expect("written");
            let (mut read, mut write) = tokio::io::split(io);
            let _ = tokio::io::copy(&mut read, &mut write).await;
            let _ = write.shutdown().await;
        });
        let mut response = Response::new(lazuli_gateway::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        response.headers_mut().insert("connection", "Upgrade".parse().expect("a value"));
        response.headers_mut().insert("upgrade", "websocket".parse().expect("a value"));
        response
    })
    .await
}

async fn open(front: &Front) -> TokioIo<hyper::upgrade::Upgraded> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(front.tls(NOTES).await))
            .await
            .expect("HTTP");
    tokio::spawn(connection.with_upgrades());
    let request = Request::get("/ws")
        .header("host", NOTES)
        .header("connection", "keep-alive, Upgrade")
        .header("upgrade", "WebSocket")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("sec-websocket-version", "13")
        .body(lazuli_gateway::empty())
        .expect("a request");
    let mut response = within(sender.send_request(request)).await.expect("an answer");
    assert_eq!(response.status(), 101, "{response:?}");
    TokioIo::new(hyper::upgrade::on(&mut response).await.expect("upgraded"))
}

async fn expect(io: &mut TokioIo<hyper::upgrade::Upgraded>, text: &str) {
    let mut buffer = vec![0; text.len()];
    within(io.read_exact(&mut buffer)).await.expect("bytes");
    assert_eq!(String::from_utf8_lossy(&buffer), text);
}

#[tokio::test]
async fn a_websocket_carries_bytes_both_ways_and_counts_while_it_is_open() {
    let front = Front::start().await;
    let instance = echo("a").await;
    front.publish(notes([instance.clone()]));
    let mut io = open(&front).await;
    expect(&mut io, "a").await;
    for text in ["one", "two", "three"] {
        io.write_all(text.as_bytes()).await.expect("written");
        expect(&mut io, text).await;
    }
    assert_eq!(instance.counters().in_flight, 1);
    assert_eq!(instance.counters().status, [1, 0, 0, 0, 0]);
    io.shutdown().await.expect("closed");
    within(front.gateway.drained(&instance)).await;
}

#[tokio::test]
async fn a_websocket_survives_a_swap_and_holds_up_the_drain() {
    let front = Front::start().await;
    let old = echo("old").await;
    front.publish(notes([old.clone()]));
    let mut io = open(&front).await;
    expect(&mut io, "old").await;
    front.publish(notes([echo("new").await]));
    expect(&mut open(&front).await, "new").await;
    assert!(
        tokio::time::timeout(Duration::from_millis(80), front.gateway.drained(&old)).await.is_err()
    );
    io.write_all(b"still here").await.expect("written");
    expect(&mut io, "still here").await;
    drop(io);
    within(front.gateway.drained(&old)).await;
}

#[tokio::test]
async fn an_idle_websocket_is_cut_and_one_that_pings_is_not() {
    let front = Front::start().await;
    let instance = echo("a").await;
    let mut site = notes([instance.clone()]);
    site.client_idle = Duration::from_millis(300);
    front.publish(site);
    let mut io = open(&front).await;
    expect(&mut io, "a").await;
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(900) {
        tokio::time::sleep(Duration::from_millis(100)).await;
        io.write_all(b".").await.expect("written");
        expect(&mut io, ".").await;
    }
    let silent = Instant::now();
    let ended = within(io.read(&mut [0])).await;
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    let took = silent.elapsed();
    assert!((250..1500).contains(&took.as_millis()), "{took:?}");
    within(front.gateway.drained(&instance)).await;
}

#[tokio::test]
async fn an_application_may_decline_and_a_site_may_forbid() {
    let front = Front::start().await;
    let mut site = notes([named("no upgrade here").await]);
    front.publish(site.clone());
    let upgrade =
        || Request::get("/ws").header("connection", "upgrade").header("upgrade", "websocket");
    let mut client = front.client(NOTES).await;
    let answer = client.send(upgrade(), "").await;
    assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, "no upgrade here"));
    site.websockets = false;
    front.publish(site);
    assert_eq!(front.client(NOTES).await.send(upgrade(), "").await.status, 403);
}

#[tokio::test]
async fn other_upgrades_are_not_passed_on() {
    let front = Front::start().await;
    front.publish(notes([mirror().await]));
    let request = Request::get("/")
        .header("connection", "Upgrade, HTTP2-Settings")
        .header("upgrade", "h2c")
        .header("http2-settings", "AAMAAABk");
    let answer = front.client(NOTES).await.send(request, "").await;
    assert_eq!(answer.status, 200);
    for name in ["upgrade:", "connection:", "http2-settings:"] {
        assert!(!answer.body.contains(name), "{}", answer.body);
    }
}
