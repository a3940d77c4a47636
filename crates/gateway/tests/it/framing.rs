//! Where a request ends must be the same for the gateway and for the instance, whatever a client
//! writes.

use std::sync::{Arc, Mutex};

use http::Response;
use http_body_util::BodyExt;
use proptest::{prelude::*, test_runner::TestRunner};

use crate::support::*;

/// A site that keeps what requests reached it.
async fn recorded(front: &Front) -> Arc<Mutex<Vec<String>>> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let instance = application("app", {
        let seen = seen.clone();
        move |request| {
            let seen = seen.clone();
            async move {
                let line = format!("{} {}", request.method(), request.uri());
                let te = request.headers().contains_key("transfer-encoding");
                let cl = request.headers().get_all("content-length").iter().count();
                assert!(cl <= 1 && !(te && cl == 1), "ambiguous framing reached the instance");
                let body =
                    request.into_body().collect().await.map(http_body_util::Collected::to_bytes);
                let body = body.map_or_else(
                    |_| "broken".to_owned(),
                    |b| String::from_utf8_lossy(&b).into_owned(),
                );
                seen.lock().expect("not poisoned").push(format!("{line} {body}"));
                Response::new(lazuli_gateway::full("ok"))
            }
        }
    })
    .await;
    front.publish(notes([instance]));
    seen
}

const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: notes.localhost\r\n\r\n";

#[tokio::test]
async fn ambiguous_framing_smuggles_nothing() {
    let front = Front::start().await;
    let seen = recorded(&front).await;
    let post = |fields: &str, body: &str| {
        format!("POST / HTTP/1.1\r\nHost: notes.localhost\r\n{fields}\r\n{body}")
    };
    let chunked = format!("0\r\n\r\n{SMUGGLED}");
    for (what, request) in [
        (
            "CL.TE",
            post(
                &format!("Content-Length: {}\r\nTransfer-Encoding: chunked\r\n", chunked.len()),
                &chunked,
            ),
        ),
        ("TE.CL", post("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", &chunked)),
        ("two lengths", post("Content-Length: 0\r\nContent-Length: 51\r\n", SMUGGLED)),
        ("a list of lengths", post("Content-Length: 0, 51\r\n", SMUGGLED)),
        ("a signed length", post("Content-Length: +0\r\n", SMUGGLED)),
        ("a hexadecimal length", post("Content-Length: 0x0\r\n", SMUGGLED)),
        ("chunked is not last", post("Transfer-Encoding: chunked, identity\r\n", &chunked)),
        ("an unknown coding", post("Transfer-Encoding: xchunked\r\n", &chunked)),
        (
            "chunked twice",
            post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", &chunked),
        ),
        ("a space before the colon", post("Transfer-Encoding : chunked\r\n", &chunked)),
        ("a folded field", post("X: y\r\n Transfer-Encoding: chunked\r\n", &chunked)),
        (
            "HTTP/1.0 chunked",
            post("Transfer-Encoding: chunked\r\n", &chunked).replace("HTTP/1.1", "HTTP/1.0"),
        ),
        (
            "a bad chunk size",
            post("Transfer-Encoding: chunked\r\n", &format!("0x0\r\n\r\n{SMUGGLED}")),
        ),
        (
            "an endless chunk size",
            post("Transfer-Encoding: chunked\r\n", &format!("{}0\r\n\r\n", "F".repeat(17))),
        ),
    ] {
        seen.lock().expect("not poisoned").clear();
        let answer = front.raw(&request).await;
        let seen = seen.lock().expect("not poisoned").clone();
        assert!(
            !seen.iter().any(|line| line.contains("GET /smuggled")),
            "{what}: {seen:?}\n{answer}"
        );
        assert!(answer.matches("HTTP/1.1 ").count() <= 1, "{what}: {answer}");
    }
}

#[tokio::test]
async fn a_host_that_could_be_read_in_two_ways_is_refused() {
    let front = Front::start().await;
    recorded(&front).await;
    for head in [
        "GET / HTTP/1.1\r\n",
        "GET / HTTP/1.1\r\nHost: notes.localhost\r\nHost: other.localhost\r\n",
        "GET / HTTP/1.1\r\nHost: notes.localhost, other.localhost\r\n",
        "GET / HTTP/1.1\r\nHost: user@notes.localhost\r\n",
        "GET / HTTP/1.1\r\nHost: notes.localhost:80:80\r\n",
        "GET / HTTP/1.1\r\nHost:\r\n",
        "GET http://user:pw@notes.localhost/ HTTP/1.1\r\nHost: notes.localhost\r\n",
        "GET http://notes.localhost/ HTTP/1.1\r\n",
        "GET https://notes.localhost/ HTTP/1.1\r\nHost: notes.localhost\r\n",
    ] {
        let answer = front.raw(format!("{head}Connection: close\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{head}: {answer}");
    }
}

#[tokio::test]
async fn an_expectation_is_met_before_the_body_is_sent() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let front = Front::start().await;
    let seen = recorded(&front).await;
    let mut tcp = front.tcp().await;
    tcp.write_all(b"POST / HTTP/1.1\r\nHost: notes.localhost\r\nExpect: 100-continue\r\nContent-Length: 4\r\nConnection: close\r\n\r\n")
        .await
        .expect("written");
    let mut interim = [0; 25];
    within(tcp.read_exact(&mut interim)).await.expect("an interim response");
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    tcp.write_all(b"body").await.expect("written");
    let mut answer = String::new();
    within(tcp.read_to_string(&mut answer)).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert_eq!(*seen.lock().expect("not poisoned"), ["POST / body"]);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let front = Front::start().await;
    let seen = recorded(&front).await;
    let requests: String = (0..5)
        .map(|n| {
            let close = if n == 4 { "Connection: close\r\n" } else { "" };
            format!("POST /{n} HTTP/1.1\r\nHost: notes.localhost\r\nTransfer-Encoding: chunked\r\n{close}\r\n3\r\nab{n}\r\n0\r\n\r\n")
        })
        .collect();
    let answer = front.raw(requests).await;
    assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 5, "{answer}");
    assert_eq!(
        *seen.lock().expect("not poisoned"),
        (0..5).map(|n| format!("POST /{n} ab{n}")).collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn trailers_arrive_after_the_body() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let addr = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        let (mut tcp, _) = listener.accept().await.expect("a connection");
        let _ = tcp.read(&mut [0; 4096]).await;
        tcp.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n2\r\nab\r\n0\r\nx-sum: 42\r\n\r\n")
            .await
            .expect("written");
        let _ = tcp.read(&mut [0]).await;
    });
    let front = Front::start().await;
    let mut site = notes([Arc::new(lazuli_gateway::Instance::new("app", addr))]);
    site.http2 = true;
    front.publish(site);
    let mut config = front.trusting();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let tls = front.tls_with(NOTES, config).await.expect("a handshake");
    let (mut sender, connection) = hyper::client::conn::http2::handshake(
        hyper_util::rt::TokioExecutor::new(),
        hyper_util::rt::TokioIo::new(tls),
    )
    .await
    .expect("HTTP/2");
    tokio::spawn(connection);
    let request = http::Request::get(format!("https://{NOTES}/"))
        .body(lazuli_gateway::empty())
        .expect("a request");
    let response = within(sender.send_request(request)).await.expect("an answer");
    let collected = within(response.into_body().collect()).await.expect("a body");
    assert_eq!(collected.trailers().expect("trailers")["x-sum"], "42");
    assert_eq!(collected.to_bytes(), "ab");
}

/// However a body is cut into chunks and writes, the instance gets that body, and the next request of
/// the connection is the next request.
#[test]
fn any_chunking_of_any_body_arrives_whole() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let (front, seen) = runtime.block_on(async {
        let front = Front::start().await;
        let seen = recorded(&front).await;
        (front, seen)
    });
    let chunks = prop::collection::vec("[a-z\\r\\n0-9]{1,40}", 0..8);
    let mut runner = TestRunner::new(ProptestConfig {
        cases: 64,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    runner
        .run(&(chunks, 1_usize..30), |(chunks, cut)| {
            seen.lock().expect("not poisoned").clear();
            let mut text =
                "POST /p HTTP/1.1\r\nHost: notes.localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
                    .to_owned();
            for chunk in &chunks {
                text += &format!("{:X};ext=1\r\n{chunk}\r\n", chunk.len());
            }
            text +=
                "0\r\n\r\nGET /next HTTP/1.1\r\nHost: notes.localhost\r\nConnection: close\r\n\r\n";
            runtime.block_on(async {
                use tokio::io::{AsyncReadExt, AsyncWriteExt};
                let mut tcp = front.tcp().await;
                for part in text.as_bytes().chunks(cut) {
                    tcp.write_all(part).await.expect("written");
                    tokio::task::yield_now().await;
                }
                let mut answer = String::new();
                within(tcp.read_to_string(&mut answer)).await.expect("answers");
                assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 2, "{answer}");
            });
            let expected = [format!("POST /p {}", chunks.concat()), "GET /next ".to_owned()];
            prop_assert_eq!(&*seen.lock().expect("not poisoned"), &expected);
            Ok(())
        })
        .expect("whole");
}
