//! A swap is a new table. Nobody notices.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::{Request, Response};
use http_body_util::{BodyExt, StreamBody};
use lazuli_gateway::Instance;

use crate::support::*;

async fn slow_named(id: &'static str) -> Arc<Instance> {
    application(id, move |request| async move {
        let _ = request.into_body().collect().await;
        tokio::time::sleep(Duration::from_millis(2)).await;
        Response::new(lazuli_gateway::full(id))
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_load_no_request_fails_and_no_client_goes_back() {
    let front = Arc::new(Front::start().await);
    let generations = [
        slow_named("0").await,
        slow_named("1").await,
        slow_named("2").await,
        slow_named("3").await,
    ];
    front.publish(notes([generations[0].clone()]));
    let done = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..12)
        .map(|c| {
            let (front, done) = (front.clone(), done.clone());
            tokio::spawn(async move {
                let mut client = front.client(NOTES).await;
                let (mut last, mut count) = (0, 0_u32);
                while !done.load(Ordering::SeqCst) {
                    if c % 3 == 0 {
                        client = front.client(NOTES).await;
                    }
                    let request = if c % 2 == 0 { Request::post("/") } else { Request::get("/") };
                    let answer =
                        within(client.try_send(request, "x")).await.expect("no failed request");
                    assert_eq!(answer.status, 200, "{answer:?}");
                    let now: u32 = answer.body.parse().expect("a generation");
                    assert!(now >= last, "from {last} back to {now}");
                    (last, count) = (now, count + 1);
                }
                count
            })
        })
        .collect();
    for next in 1..generations.len() {
        tokio::time::sleep(Duration::from_millis(150)).await;
        front.publish(notes([generations[next].clone()]));
        // Whoever asks from now on is answered by the new one.
        assert_eq!(front.get(NOTES, "/").await.body, next.to_string());
        let old = &generations[next - 1];
        within(front.gateway.drained(old)).await;
        assert_eq!(old.counters().in_flight, 0);
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    done.store(true, Ordering::SeqCst);
    let mut total = 0;
    for client in clients {
        total += client.await.expect("no failed request");
    }
    let served: u64 = generations.iter().map(|instance| instance.counters().requests).sum();
    assert!(total > 300, "too little load to mean anything: {total}");
    assert_eq!(served, u64::from(total) + 3);
}

#[tokio::test]
async fn a_response_under_way_is_finished_by_who_began_it() {
    let front = Front::start().await;
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let old = application("old", {
        let gate = gate.clone();
        move |_| {
            let gate = gate.clone();
            async move {
                let stream = futures_util::stream::unfold((gate, 0), |(gate, n)| async move {
                    (n < 3).then_some(())?;
                    gate.acquire().await.expect("open").forget();
                    Some((Ok(http_body::Frame::data(bytes::Bytes::from("old "))), (gate, n + 1)))
                });
                Response::new(StreamBody::new(stream).boxed_unsync())
            }
        }
    })
    .await;
    front.publish(notes([old.clone()]));
    let mut client = front.client(NOTES).await;
    gate.add_permits(1);
    let request = Request::get("/")
        .header("host", NOTES)
        .body(http_body_util::Full::default())
        .expect("a request");
    let mut response = within(client.sender.send_request(request)).await.expect("a head");
    within(response.body_mut().frame()).await.expect("a frame").expect("data");

    front.publish(notes([named("new").await]));
    assert_eq!(front.get(NOTES, "/").await.body, "new");
    let drained =
        tokio::time::timeout(Duration::from_millis(100), front.gateway.drained(&old)).await;
    assert!(drained.is_err(), "the response is still under way");
    gate.add_permits(2);
    let rest = within(response.into_body().collect()).await.expect("the rest").to_bytes();
    assert_eq!(rest, "old old ");
    within(front.gateway.drained(&old)).await;
    assert_eq!(old.counters().bytes_sent, 12);
}
