//! Stopping, limits and time-outs.

use std::time::{Duration, Instant};

use http::{Request, Response};
use lazuli_gateway::Limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::*;

#[tokio::test]
async fn a_shutdown_finishes_what_is_under_way_and_takes_nothing_new() {
    let front = Front::start().await;
    let instance = application("slow", |_| async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        Response::new(lazuli_gateway::full("done"))
    })
    .await;
    front.publish(notes([instance]));
    let mut client = front.client(NOTES).await;
    let under_way = tokio::spawn(async move { client.get("/").await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let began = Instant::now();
    within(front.gateway.shutdown(Duration::from_secs(10))).await;
    assert!(began.elapsed() < Duration::from_secs(3), "it waited for nobody");
    assert_eq!(within(under_way).await.expect("no panic").body, "done");
    let mut late = tokio::net::TcpStream::connect(front.addr).await;
    if let Ok(tcp) = &mut late {
        // The listener of the test still exists in nobody's hands; nobody answers.
        let _ = tcp.write_all(b"GET / HTTP/1.1\r\nHost: notes.localhost\r\n\r\n").await;
        let answered = tokio::time::timeout(Duration::from_millis(200), tcp.read(&mut [0])).await;
        assert!(!matches!(answered, Ok(Ok(1))), "a request was answered after the shutdown");
    }
}

#[tokio::test]
async fn a_client_that_never_finishes_its_head_is_dropped() {
    let limits = Limits { head_timeout: Duration::from_millis(300), ..Limits::default() };
    let front = Front::with(limits).await;
    front.publish(notes([named("app").await]));
    for beginning in [&b""[..], b"GET / HTTP/1.1\r\nHost: no", b"\x16\x03\x01"] {
        let began = Instant::now();
        assert_eq!(front.raw(beginning).await, "", "{beginning:?}");
        let took = began.elapsed();
        assert!((200..2500).contains(&took.as_millis()), "{beginning:?}: {took:?}");
    }
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_a_busy_one_is_not() {
    let limits = Limits {
        keep_alive: Duration::from_millis(300),
        head_timeout: Duration::from_millis(300),
        ..Limits::default()
    };
    let front = Front::with(limits).await;
    let instance = application("slow", |_| async {
        tokio::time::sleep(Duration::from_millis(900)).await;
        Response::new(lazuli_gateway::full("late"))
    })
    .await;
    front.publish(notes([instance]));
    let mut client = front.client(NOTES).await;
    assert_eq!(client.get("/").await.body, "late");
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(client.get("/").await.body, "late");
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert!(client.try_send(Request::get("/"), "").await.is_err());
}

#[tokio::test]
async fn heads_have_limits() {
    let limits = Limits { head_bytes: 16 * 1024, headers: 20, ..Limits::default() };
    let front = Front::with(limits).await;
    front.publish(notes([named("app").await]));
    let head = |extra: &str| {
        format!("GET / HTTP/1.1\r\nHost: notes.localhost\r\nConnection: close\r\n{extra}\r\n")
    };
    assert!(front.raw(head("")).await.starts_with("HTTP/1.1 200 "));
    let many: String = (0..30).map(|n| format!("x-{n}: 1\r\n")).collect();
    let answer = front.raw(head(&many)).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    let long = format!("x: {}\r\n", "a".repeat(20_000));
    let answer = front.raw(head(&long)).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_their_turn() {
    let front = Front::with(Limits { connections: 2, ..Limits::default() }).await;
    front.publish(notes([named("app").await]));
    let first = front.client(NOTES).await;
    let _second = front.client(NOTES).await;
    let mut third = front.tcp().await;
    third
        .write_all(b"GET / HTTP/1.1\r\nHost: notes.localhost\r\nConnection: close\r\n\r\n")
        .await
        .expect("written");
    let mut byte = [0];
    let early = tokio::time::timeout(Duration::from_millis(200), third.read(&mut byte)).await;
    assert!(early.is_err(), "there was no room yet");
    drop(first);
    assert_eq!(within(third.read(&mut byte)).await.expect("read"), 1);
}
