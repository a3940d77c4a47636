//! Requests meet instances that close connections. No client may notice where it can be helped, and
//! no request may be served twice.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use http::Request;
use lazuli_gateway::Instance;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::support::*;

/// Reads one request with a small body and returns all of it; `None` when the connection ends first.
async fn read_request(tcp: &mut TcpStream) -> Option<String> {
    let mut text = Vec::new();
    let mut buffer = vec![0; 65536];
    loop {
        let n = tcp.read(&mut buffer).await.ok()?;
        if n == 0 {
            return None;
        }
        text.extend_from_slice(&buffer[..n]);
        let whole = String::from_utf8_lossy(&text).into_owned();
        if let Some((head, body)) = whole.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .map_or(0, |n| n.parse().expect("a length"));
            if body.len() >= length {
                return Some(whole);
            }
        }
    }
}

async fn reply(tcp: &mut TcpStream, body: &str) {
    let text = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    tcp.write_all(text.as_bytes()).await.expect("written");
}

/// An instance whose `n`th connection is handled by `handler`.
async fn scripted<F, R>(handler: F) -> Arc<Instance>
where
    F: Fn(u64, TcpStream) -> R + Send + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let addr = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        let mut n = 0;
        while let Ok((tcp, _)) = listener.accept().await {
            n += 1;
            tokio::spawn(handler(n, tcp));
        }
    });
    Arc::new(Instance::new("scripted", addr))
}

/// A gateway with one reactor's worth of certainty: the same client connection uses the same pool.
async fn front(instance: Arc<Instance>) -> (Front, Client) {
    let front = Front::start().await;
    front.publish(notes([instance]));
    let client = front.client(NOTES).await;
    (front, client)
}

#[tokio::test]
async fn a_connection_that_was_closed_while_idle_is_not_used() {
    let instance = scripted(|_, mut tcp| async move {
        read_request(&mut tcp).await;
        reply(&mut tcp, "once").await;
    })
    .await;
    let (_front, mut client) = front(instance).await;
    for _ in 0..20 {
        assert_eq!(client.send(Request::post("/"), "body").await.body, "once");
    }
}

#[tokio::test]
async fn a_post_that_nobody_read_is_sent_again() {
    let instance = scripted(|n, mut tcp| async move {
        if n > 1 {
            let request = read_request(&mut tcp).await.expect("a request");
            return reply(&mut tcp, request.split_once("\r\n\r\n").expect("a body").1).await;
        }
        read_request(&mut tcp).await;
        reply(&mut tcp, "first").await;
        // The second request arrives, and lies in the buffer when the connection is closed.
        let mut byte = [0];
        tcp.peek(&mut byte).await.expect("a second request");
    })
    .await;
    let (_front, mut client) = front(instance).await;
    assert_eq!(client.send(Request::post("/"), "one").await.body, "first");
    assert_eq!(client.send(Request::post("/"), "two").await.body, "two");
}

#[tokio::test]
async fn a_post_that_was_read_and_not_answered_is_not_sent_again() {
    let served = Arc::new(AtomicU64::new(0));
    let instance = scripted({
        let served = served.clone();
        move |_, mut tcp| {
            let served = served.clone();
            async move {
                read_request(&mut tcp).await;
                reply(&mut tcp, "first").await;
                if read_request(&mut tcp).await.is_some() {
                    served.fetch_add(1, Ordering::SeqCst);
                }
            }
        }
    })
    .await;
    let (_front, mut client) = front(instance).await;
    assert_eq!(client.send(Request::post("/"), "one").await.body, "first");
    assert_eq!(client.send(Request::post("/"), "two").await.status, 502);
    assert_eq!(served.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_get_that_was_read_and_not_answered_is_sent_again_once() {
    let connections = Arc::new(AtomicU64::new(0));
    let instance = scripted({
        let connections = connections.clone();
        move |n, mut tcp| {
            connections.store(n, Ordering::SeqCst);
            async move {
                read_request(&mut tcp).await;
                if n == 2 {
                    reply(&mut tcp, "second").await;
                }
            }
        }
    })
    .await;
    let (_front, mut client) = front(instance).await;
    assert_eq!(client.get("/").await.body, "second");
    // From the third connection on nothing is answered: two attempts, not more.
    assert_eq!(client.get("/").await.status, 502);
    assert_eq!(connections.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn half_an_answer_is_not_made_whole_by_another() {
    let instance = scripted(|n, mut tcp| async move {
        read_request(&mut tcp).await;
        assert_eq!(n, 1, "a request that was half answered came again");
        tcp.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
            .await
            .expect("written");
    })
    .await;
    let (_front, mut client) = front(instance).await;
    let answer = within(client.try_send(Request::get("/"), "")).await;
    assert!(answer.is_err(), "{answer:?}");
}

#[tokio::test]
async fn an_instance_that_refuses_connections_is_passed_over() {
    let gone = {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        Arc::new(Instance::new("gone", listener.local_addr().expect("an address")))
    };
    let front = Front::start().await;
    front.publish(notes([gone, named("there").await]));
    let mut client = front.client(NOTES).await;
    for _ in 0..20 {
        assert_eq!(client.send(Request::post("/"), "body").await.body, "there");
    }
}

#[tokio::test]
async fn a_connection_that_was_never_accepted_costs_no_request() {
    let front = Front::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let closing = Arc::new(Instance::new("closing", listener.local_addr().expect("an address")));
    front.publish(notes([closing]));
    let mut client = front.client(NOTES).await;
    let sent = tokio::spawn(async move { client.send(Request::post("/"), "body").await });
    // The kernel takes connection and request; then the worker that should have accepted is stopped.
    tokio::time::sleep(Duration::from_millis(100)).await;
    front.publish(notes([named("successor").await]));
    drop(listener);
    assert_eq!(within(sent).await.expect("no panic").body, "successor");
}

/// An application server that closes its idle connections after a millisecond or so, while they are
/// used all the time: the race that Uvicorn's keep-alive timeout makes in production, a few thousand
/// times as often.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_load_no_post_is_lost_and_none_is_served_twice() {
    const CLIENTS: usize = 8;
    const EACH: usize = 300;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let instance = scripted({
        let seen = seen.clone();
        move |n, mut tcp| {
            let seen = seen.clone();
            async move {
                let idle = Duration::from_micros(300 + n * 37 % 1700);
                loop {
                    let mut byte = [0];
                    match tokio::time::timeout(idle, tcp.peek(&mut byte)).await {
                        Ok(Ok(1)) => {}
                        _ => return,
                    }
                    let Some(request) = read_request(&mut tcp).await else { return };
                    let id = request.split_once("\r\n\r\n").expect("a body").1.to_owned();
                    reply(&mut tcp, &id).await;
                    seen.lock().expect("not poisoned").push(id);
                }
            }
        }
    })
    .await;
    let front = Arc::new(Front::start().await);
    front.publish(notes([instance]));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|c| {
            let front = front.clone();
            tokio::spawn(async move {
                let mut client = front.client(NOTES).await;
                for n in 0..EACH {
                    let id = format!("{c}-{n}");
                    let answer = client.send(Request::post("/"), id.clone()).await;
                    assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, id.as_str()));
                    tokio::time::sleep(Duration::from_micros(
                        (c as u64 * 131 + n as u64 * 97) % 2500,
                    ))
                    .await;
                }
            })
        })
        .collect();
    for client in clients {
        tokio::time::timeout(Duration::from_secs(60), client)
            .await
            .expect("in time")
            .expect("no failed request");
    }
    let seen = seen.lock().expect("not poisoned");
    let distinct: HashSet<_> = seen.iter().collect();
    assert_eq!((seen.len(), distinct.len()), (CLIENTS * EACH, CLIENTS * EACH));
}
