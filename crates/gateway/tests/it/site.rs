//! What App Service does before a site.

use std::time::Duration;

use http::{Request, Response};
use http_body_util::{BodyExt, StreamBody};
use lazuli_gateway::{Pool, RampUp, Site, SiteState};

use crate::support::*;

#[tokio::test]
async fn an_instance_gets_the_fields_that_app_service_sends() {
    let front = Front::start().await;
    front.publish(notes([mirror().await]));
    let mut client = front.client(NOTES).await;
    let request = Request::post("/a%20b?c=d")
        .header("client-ip", "6.6.6.6")
        .header("x-forwarded-proto", "gopher");
    let answer = client.send(request, "hello").await;
    let has = |line: &str| assert!(answer.body.contains(line), "{line} in\n{}", answer.body);
    has("POST /a%20b?c=d\n");
    has("host: notes.azurewebsites.net\n");
    has("client-ip: 127.0.0.1:");
    has("x-forwarded-for: 127.0.0.1:");
    has("x-forwarded-proto: https\n");
    has("x-arr-ssl: 256|");
    has("|CN=notes.azurewebsites.net\n");
    has("x-arr-log-id: ");
    has("disguised-host: notes.azurewebsites.net\n");
    has("was-default-hostname: notes.azurewebsites.net\n");
    has("x-site-deployment-id: notes\n");
    has("x-original-url: /a%20b?c=d\n");
    has("max-forwards: 10\n");
    has("content-length: 5\n");
    has("\n\nhello");
    assert!(!answer.body.contains("6.6.6.6") && !answer.body.contains("gopher"));
}

#[tokio::test]
async fn https_only_redirects_and_only_then() {
    let front = Front::start().await;
    let instance = named("app").await;
    let mut site = notes([instance]);
    site.https_only = true;
    front.publish(site.clone());
    let port = front.addr.port();
    let request =
        format!("GET /a?b=c HTTP/1.1\r\nHost: notes.localhost:{port}\r\nConnection: close\r\n\r\n");
    // Under the name that is for browsers on this machine, plain HTTP is served as it comes.
    let answer = front.raw(&request).await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("app"), "{answer}");
    // Through the proxy, under its real name.
    let answer = front.raw("GET http://NOTES.azurewebsites.net/x HTTP/1.1\r\nHost: whatever\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 301 "), "{answer}");
    assert!(answer.contains("location: https://NOTES.azurewebsites.net/x\r\n"), "{answer}");
    site.https_only = false;
    front.publish(site);
    assert!(front.raw(&request).await.ends_with("app"));
}

#[tokio::test]
async fn a_stopped_site_says_so() {
    let front = Front::start().await;
    let mut site = notes([named("app").await]);
    site.state = SiteState::Stopped;
    front.publish(site);
    let answer = front.get(NOTES, "/").await;
    assert_eq!(answer.status, 403);
    assert!(answer.body.contains("This web app is stopped"), "{}", answer.body);
}

#[tokio::test]
async fn a_site_without_healthy_instances_is_unavailable() {
    let front = Front::start().await;
    let instance = named("app").await;
    front.publish(notes([instance.clone()]));
    assert_eq!(front.get(NOTES, "/").await.status, 200);
    instance.set_healthy(false);
    assert_eq!(front.get(NOTES, "/").await.status, 503);
    instance.set_healthy(true);
    assert_eq!(front.get(NOTES, "/").await.body, "app");
}

#[tokio::test]
async fn affinity_keeps_a_client_on_its_instance() {
    let front = Front::start().await;
    let (a, b) = (named("aaaa").await, named("bbbb").await);
    let mut site = notes([a.clone(), b]);
    site.affinity = true;
    front.publish(site.clone());
    let mut client = front.client(NOTES).await;
    let first = client.get("/").await;
    assert_eq!(
        first.cookies(),
        [
            format!("ARRAffinity={};Path=/;HttpOnly;Secure;Domain={NOTES}", first.body),
            format!(
                "ARRAffinitySameSite={};Path=/;HttpOnly;SameSite=None;Secure;Domain={NOTES}",
                first.body
            ),
        ]
    );
    for _ in 0..6 {
        let cookie = format!("x=y; ARRAffinity={}", first.body);
        let answer = client.send(Request::get("/").header("cookie", cookie), "").await;
        assert_eq!(answer.body, first.body);
        assert!(answer.cookies().is_empty(), "a client that has the cookie is not given it again");
    }
    // Its instance goes: another one, and the cookie of that one.
    a.set_healthy(false);
    let answer = client.send(Request::get("/").header("cookie", "ARRAffinity=aaaa"), "").await;
    assert_eq!(answer.body, "bbbb");
    assert!(answer.cookies()[0].starts_with("ARRAffinity=bbbb;"));
    site.affinity = false;
    front.publish(site);
    assert!(client.get("/").await.cookies().is_empty());
}

async fn ramped(front: &Front, percent: f64) -> Site {
    let mut site = notes([named("production").await]);
    let pool = Pool::new([named("staging").await]);
    site.ramp_up = vec![RampUp { slot: "staging".to_owned(), percent, pool }];
    front.publish(site.clone());
    site
}

#[tokio::test]
async fn traffic_is_split_by_the_rule_and_a_client_stays_where_it_was_sent() {
    let front = Front::start().await;
    ramped(&front, 25.0).await;
    let mut client = front.client(NOTES).await;
    let mut staging = 0;
    for _ in 0..800 {
        let answer = client.get("/").await;
        let name = if answer.body == "staging" { "staging" } else { "self" };
        staging += usize::from(name == "staging");
        let cookie = answer.cookies()[1].split(';').next().expect("a pair");
        assert_eq!(cookie, format!("x-ms-routing-name={name}"));
    }
    // Six standard deviations to each side.
    assert!((127..=273).contains(&staging), "{staging} of 800 for 25 %");
    for (name, expected) in [("staging", "staging"), ("self", "production")] {
        for _ in 0..20 {
            let cookie = format!("x-ms-routing-name={name}");
            let answer = client.send(Request::get("/").header("cookie", cookie), "").await;
            assert_eq!(answer.body, expected);
        }
    }
}

#[tokio::test]
async fn at_no_percent_a_slot_is_reached_by_asking_alone() {
    let front = Front::start().await;
    ramped(&front, 0.0).await;
    let mut client = front.client(NOTES).await;
    for _ in 0..50 {
        assert_eq!(client.get("/").await.body, "production");
    }
    let answer = client.get("/?a=b&x-ms-routing-name=staging").await;
    assert_eq!(answer.body, "staging");
    assert!(
        answer.cookies()[0].starts_with("x-ms-routing-name=staging; "),
        "{:?}",
        answer.cookies()
    );
    assert_eq!(client.get("/?x-ms-routing-name=nosuch").await.body, "production");
}

#[tokio::test]
async fn a_response_is_passed_on_while_it_is_made() {
    let front = Front::start().await;
    let (send, mut parts) = tokio::sync::mpsc::unbounded_channel::<&'static str>();
    let parts = std::sync::Arc::new(tokio::sync::Mutex::new(std::mem::replace(
        &mut parts,
        tokio::sync::mpsc::unbounded_channel().1,
    )));
    let instance = application("stream", move |_| {
        let parts = parts.clone();
        async move {
            let stream = futures_util::stream::unfold(parts, |parts| async move {
                let part = parts.lock().await.recv().await?;
                Some((Ok(http_body::Frame::data(bytes::Bytes::from(part))), parts))
            });
            Response::new(StreamBody::new(stream).boxed_unsync())
        }
    })
    .await;
    front.publish(notes([instance]));
    let mut client = front.client(NOTES).await;
    send.send("first").expect("sent");
    let request = Request::get("/")
        .header("host", NOTES)
        .body(http_body_util::Full::default())
        .expect("a request");
    let mut response = within(client.sender.send_request(request)).await.expect("a head");
    // The second part does not exist before the first has arrived.
    for part in ["first", "second", "third"] {
        let frame = within(response.body_mut().frame()).await.expect("a frame").expect("data");
        assert_eq!(frame.into_data().expect("data"), part);
        match part {
            "first" => send.send("second").expect("sent"),
            "second" => send.send("third").expect("sent"),
            _ => {}
        }
    }
}

#[tokio::test]
async fn an_upload_is_passed_on_while_it_is_sent_and_whole() {
    let front = Front::start().await;
    let instance = application("count", |request| async move {
        let body = request.into_body().collect().await.expect("a body").to_bytes();
        let sum: u64 = body.iter().map(|b| u64::from(*b)).sum();
        Response::new(lazuli_gateway::full(format!("{} {sum}", body.len())))
    })
    .await;
    front.publish(notes([instance]));
    let mut client = front.client(NOTES).await;
    for length in [1, 1000, 65_536, 65_537, 5_000_000] {
        let body = vec![7_u8; length];
        let answer = client.send(Request::post("/"), body).await;
        assert_eq!(answer.body, format!("{length} {}", 7 * length));
    }
}

#[tokio::test]
async fn silence_is_cut_at_the_limit_and_only_silence() {
    let front = Front::start().await;
    let instance = application("slow", |request| async move {
        if request.uri().path() == "/never" {
            std::future::pending::<()>().await;
        }
        // Longer than the limit in all, never silent for so long.
        let stream = futures_util::stream::unfold(0, |n| async move {
            (n < 8).then_some(())?;
            tokio::time::sleep(Duration::from_millis(100)).await;
            Some((Ok(http_body::Frame::data(bytes::Bytes::from("."))), n + 1))
        });
        Response::new(StreamBody::new(stream).boxed_unsync())
    })
    .await;
    let mut site = notes([instance.clone()]);
    site.client_idle = Duration::from_millis(400);
    front.publish(site);
    let began = std::time::Instant::now();
    assert_eq!(front.get(NOTES, "/never").await.status, 504);
    let took = began.elapsed();
    assert!((400..2000).contains(&took.as_millis()), "{took:?}");
    assert_eq!(front.get(NOTES, "/drip").await.body, "........");
    assert_eq!(instance.counters().status, [0, 1, 0, 0, 1]);
}

#[tokio::test]
async fn head_no_content_and_not_modified_keep_their_framing() {
    let front = Front::start().await;
    let instance = application("app", |request| async move {
        let mut response = Response::new(lazuli_gateway::empty());
        match request.uri().path() {
            "/204" => *response.status_mut() = http::StatusCode::NO_CONTENT,
            "/304" => *response.status_mut() = http::StatusCode::NOT_MODIFIED,
            _ => response = Response::new(lazuli_gateway::full("twelve bytes")),
        }
        response
    })
    .await;
    front.publish(notes([instance]));
    let mut client = front.client(NOTES).await;
    // All on one connection: a wrong length would show in the next answer.
    for _ in 0..3 {
        let head = client.send(Request::head("/"), "").await;
        assert_eq!(
            (head.headers["content-length"].to_str().expect("text"), head.body.as_str()),
            ("12", "")
        );
        assert_eq!(client.get("/204").await.status, 204);
        assert_eq!(client.get("/304").await.status, 304);
        assert_eq!(client.get("/").await.body, "twelve bytes");
    }
}

#[tokio::test]
async fn counters_tell_what_was_served() {
    let front = Front::start().await;
    let instance = application("app", |request| async move {
        let mut response = Response::new(lazuli_gateway::full("ten bytes."));
        *response.status_mut() = request.uri().path()[1..].parse().expect("a status");
        response
    })
    .await;
    front.publish(notes([instance.clone()]));
    let mut client = front.client(NOTES).await;
    for path in ["/200", "/201", "/302", "/404", "/500", "/503"] {
        client.get(path).await;
    }
    let counters = instance.counters();
    assert_eq!(counters.requests, 6);
    assert_eq!(counters.status, [0, 2, 1, 1, 2]);
    assert_eq!(counters.latency.iter().sum::<u64>(), 6);
    assert_eq!(counters.bytes_sent, 60);
    assert_eq!(counters.in_flight, 0);
}
