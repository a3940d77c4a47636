//! The client against a scripted server: what it sends, when it tries again, how it waits.

#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use lazuli_azure::scm::DeploymentState;
use lazuli_azure::testing::{Received, Reply, Server};
use lazuli_azure::{Error, Secret};
use serde_json::json;

const ID: &str = "/subscriptions/s/resourceGroups/rg/providers/Microsoft.Web/sites/notes";
const API: &str = "2023-12-01";

/// A server that answers from a list, the last entry for ever.
async fn scripted(replies: Vec<Reply>) -> Server {
    let next = AtomicUsize::new(0);
    Server::start(move |_| {
        let at = next.fetch_add(1, Ordering::Relaxed).min(replies.len() - 1);
        replies[at].clone()
    })
    .await
    .unwrap()
}

fn refusal(error: &Error) -> (u16, &str, &str) {
    let refusal = error.refusal().unwrap();
    (refusal.status.as_u16(), &refusal.code, &refusal.message)
}

#[tokio::test]
async fn a_token_is_asked_for_once_and_goes_with_every_request() {
    let server = scripted(vec![Reply::json(&json!({"name": "notes"}))]).await;
    let client = server.client().unwrap();
    let (a, b) = tokio::join!(client.get(ID, API), client.get(ID, API));
    assert_eq!(a.unwrap()["name"], "notes");
    b.unwrap();
    let received = server.received();
    let (tokens, gets): (Vec<_>, Vec<_>) =
        received.iter().partition(|r| r.path.ends_with("/token"));
    assert_eq!((tokens.len(), gets.len()), (1, 2));
    let form = String::from_utf8(tokens[0].body.clone()).unwrap();
    assert!(form.contains("grant_type=client_credentials"), "{form}");
    assert!(form.contains("scope=https%3A%2F%2Fmanagement.azure.com%2F.default"), "{form}");
    for get in gets {
        assert_eq!(get.headers["authorization"], "Bearer tok");
        assert_eq!(get.query, "api-version=2023-12-01");
        assert!(get.headers.contains_key("x-ms-client-request-id"));
    }
}

#[tokio::test]
async fn a_refused_token_is_renewed_once() {
    let server =
        scripted(vec![Reply::status(401), Reply::json(&json!({})), Reply::status(401)]).await;
    let client = server.client().unwrap();
    client.get(ID, API).await.unwrap();
    assert_eq!(refusal(&client.get(ID, API).await.unwrap_err()).0, 401);
    let tokens = server.received().iter().filter(|r| r.path.ends_with("/token")).count();
    assert_eq!(tokens, 3, "one at first, one renewal for each of the two requests");
}

#[tokio::test]
async fn throttling_and_broken_connections_are_waited_out() {
    let server = scripted(vec![
        Reply::status(429).header("retry-after", "0"),
        Reply::hang_up(),
        Reply::status(503),
        Reply::json(&json!({"ok": true})),
    ])
    .await;
    assert_eq!(server.client().unwrap().get(ID, API).await.unwrap()["ok"], true);
    let ids: std::collections::HashSet<_> = server
        .received()
        .iter()
        .filter_map(|r| r.headers.get("x-ms-client-request-id").cloned())
        .collect();
    assert_eq!(ids.len(), 1, "all tries of a request carry one ID");
}

#[tokio::test]
async fn an_action_is_not_repeated_when_it_may_have_been_carried_out() {
    let server = scripted(vec![Reply::status(503)]).await;
    let client = server.client().unwrap();
    client.post(format!("{ID}/restart"), API, None).await.unwrap_err();
    assert_eq!(server.requests().len(), 1);
    let server = scripted(vec![Reply::hang_up()]).await;
    let error = server.client().unwrap().post(ID, API, None).await.unwrap_err();
    assert!(error.is_transport());
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn an_error_has_azures_code_message_and_request_id() {
    let body = json!({"error": {"code": "SkuNotAvailable", "message": "not here",
        "details": [{"code": "Zone", "message": "zone 3"}]}});
    let server = scripted(vec![
        Reply::json(&body).with_status(409).header("x-ms-request-id", "r-1"),
        Reply::json(&json!({"error": {"code": "ResourceNotFound", "message": "gone"}}))
            .with_status(404),
        Reply::status(400).body("<html>bad</html>"),
    ])
    .await;
    let client = server.client().unwrap();
    let error = client.put(ID, API, &json!({})).await.unwrap_err();
    assert_eq!(refusal(&error), (409, "SkuNotAvailable", "not here"));
    assert!(error.is_conflict());
    let text = error.to_string();
    assert!(text.ends_with("409 SkuNotAvailable: not here; Zone: zone 3 (request r-1)"), "{text}");
    assert_eq!(client.find(ID, API).await.unwrap(), None);
    assert_eq!(refusal(&client.get(ID, API).await.unwrap_err()), (400, "", "<html>bad</html>"));
}

#[tokio::test]
async fn an_operation_is_polled_until_it_has_ended() {
    let polls = AtomicUsize::new(0);
    let server = Server::start(move |r: &Received| match (&*r.method, &*r.path) {
        ("PUT", _) => Reply::status(202)
            .header("azure-asyncoperation", "/operations/1?api-version=x")
            .header("location", "/elsewhere")
            .header("retry-after", "60"),
        ("GET", "/operations/1") => match polls.fetch_add(1, Ordering::Relaxed) {
            0 => Reply::json(&json!({"status": "InProgress"})).header("retry-after", "0"),
            _ => Reply::json(&json!({"status": "Succeeded"})),
        },
        ("GET", ID) => Reply::json(&json!({"name": "notes"})),
        other => panic!("{other:?}"),
    })
    .await
    .unwrap();
    let began = Instant::now();
    let value = server.client().unwrap().put(ID, API, &json!({})).await.unwrap();
    assert_eq!(value["name"], "notes");
    assert!(began.elapsed() < Duration::from_secs(5), "the first poll does not wait a minute");
}

#[tokio::test]
async fn an_operation_that_fails_says_why() {
    let server = Server::start(|r: &Received| match &*r.method {
        "POST" => Reply::status(202).header("azure-asyncoperation", "/operations/1"),
        _ => Reply::json(&json!({"status": "Failed",
            "error": {"code": "CannotSwap", "message": "warm-up failed"}})),
    })
    .await
    .unwrap();
    let error = server.client().unwrap().post(ID, API, None).await.unwrap_err();
    assert_eq!(refusal(&error), (200, "CannotSwap", "warm-up failed"));
}

#[tokio::test]
async fn a_location_is_followed_until_it_is_no_longer_202() {
    let polls = AtomicUsize::new(0);
    let server = Server::start(move |r: &Received| match &*r.method {
        "POST" => Reply::status(202).header("location", "/results/1"),
        _ if polls.fetch_add(1, Ordering::Relaxed) == 0 => {
            Reply::status(202).header("location", "/results/2")
        }
        _ => Reply::json(&json!({"at": r.path})),
    })
    .await
    .unwrap();
    let value = server.client().unwrap().post(ID, API, None).await.unwrap();
    assert_eq!(value["at"], "/results/2");
}

#[tokio::test]
async fn a_resource_that_is_not_ready_is_waited_for() {
    let polls = AtomicUsize::new(0);
    let server = Server::start(move |r: &Received| {
        let state = match (&*r.method, polls.fetch_add(1, Ordering::Relaxed)) {
            ("PUT", _) => "Creating",
            (_, 1) => "Updating",
            _ => "Succeeded",
        };
        Reply::json(&json!({"properties": {"provisioningState": state}})).with_status(201)
    })
    .await
    .unwrap();
    let value = server.client().unwrap().put(ID, API, &json!({})).await.unwrap();
    assert_eq!(value["properties"]["provisioningState"], "Succeeded");
    assert_eq!(server.requests().len(), 3);
}

#[tokio::test]
async fn a_token_never_leaves_for_another_host() {
    for elsewhere in [
        "https://evil.example/x",
        "//evil.example/x",
        "http://127.0.0.1.evil.example/x",
        "http://127.0.0.1:1@evil.example/",
    ] {
        let server =
            scripted(vec![Reply::status(202).header("azure-asyncoperation", elsewhere)]).await;
        let error = server.client().unwrap().put(ID, API, &json!({})).await.unwrap_err();
        assert!(matches!(error, Error::Unexpected { .. }), "{elsewhere}: {error}");
        assert_eq!(server.requests().len(), 1);
    }
}

#[tokio::test]
async fn a_list_is_read_over_all_pages() {
    let server = Server::start(|r: &Received| {
        if r.query.contains("page=2") {
            Reply::json(&json!({"value": [3]}))
        } else {
            let next = format!("http://{}{}?page=2", r.headers["host"], r.path);
            Reply::json(&json!({"value": [1, 2], "nextLink": next}))
        }
    })
    .await
    .unwrap();
    let list = server.client().unwrap().list(ID, API).await.unwrap();
    assert_eq!(list, [json!(1), json!(2), json!(3)]);
}

#[tokio::test]
async fn deleting_what_is_not_there_is_fine() {
    let server = scripted(vec![Reply::status(404), Reply::status(204)]).await;
    let client = server.client().unwrap();
    client.delete(ID, API).await.unwrap();
    client.delete(ID, API).await.unwrap();
}

#[tokio::test]
async fn a_secret_is_written_and_read_and_never_shown() {
    let server = Server::start(|r: &Received| {
        let value = if r.method == "PUT" { r.json()["value"].clone() } else { json!("hunter2") };
        Reply::json(&json!({"id": "https://kv/secrets/a/1", "value": value}))
    })
    .await
    .unwrap();
    let vault = server.client().unwrap().vault_at(&server.url);
    let written = vault.set_secret("a", &Secret::new("x")).await.unwrap();
    assert_eq!(written.value.expose(), "x");
    let read = vault.get_secret("a").await.unwrap();
    assert_eq!(read.value.expose(), "hunter2");
    assert!(!format!("{read:?}").contains("hunter2"));
    let tokens = server.received().into_iter().filter(|r| r.path.ends_with("/token"));
    for token in tokens {
        let form = String::from_utf8(token.body).unwrap();
        assert!(form.contains("vault.azure.net"), "{form}");
    }
}

#[tokio::test]
async fn a_package_is_streamed_and_its_deployment_followed() {
    let polls = AtomicUsize::new(0);
    let server = Server::start(move |r: &Received| match (&*r.method, &*r.path) {
        ("POST", "/api/publish") => {
            assert_eq!(r.body, vec![7; 300_000]);
            assert!(r.query.contains("type=zip"), "{}", r.query);
            Reply::status(202).header("location", "https://x/api/deployments/d1?x=y")
        }
        ("GET", "/api/deployments/d1") => match polls.fetch_add(1, Ordering::Relaxed) {
            0 => Reply::status(404),
            1 => Reply::json(&json!({"id": "d1", "status": 1, "progress": "building"})),
            _ => Reply::json(&json!({"id": "d1", "status": 3, "complete": true})),
        },
        ("GET", "/api/deployments/d1/log") => Reply::json(&json!([
            {"message": "Building.", "details_url": format!("http://{}/api/deployments/d1/log/2", r.headers["host"])},
            {"message": "Failed."},
        ])),
        ("GET", "/api/deployments/d1/log/2") => Reply::json(&json!([{"message": "no such package"}])),
        other => panic!("{other:?}"),
    })
    .await
    .unwrap();
    let dir = tempfile::tempdir().unwrap();
    let package = dir.path().join("app.zip");
    std::fs::write(&package, vec![7; 300_000]).unwrap();
    let scm = server.client().unwrap().scm_at(&server.url);
    let id = scm.publish(&package).await.unwrap();
    assert_eq!(id, "d1");
    let mut seen = Vec::new();
    let ended = scm.wait_deployment(&id, Duration::from_secs(30), |d| seen.push(d.status)).await;
    assert_eq!(ended.unwrap().status, DeploymentState::Failed);
    assert_eq!(seen, [DeploymentState::Building, DeploymentState::Failed]);
    assert_eq!(scm.deployment_text(&id).await.unwrap(), "Building.\nno such package\nFailed.\n");
}

#[tokio::test]
async fn a_job_is_run_and_its_output_read() {
    let polls = AtomicUsize::new(0);
    let server = Server::start(move |r: &Received| match (&*r.method, &*r.path) {
        ("POST", "/api/triggeredwebjobs/migrate/run") => {
            assert_eq!(r.query, "arguments=staging%20--now");
            Reply::status(202).header("location", "/api/triggeredwebjobs/migrate/history/42")
        }
        ("GET", "/api/triggeredwebjobs/migrate/history/42") => {
            let ended = polls.fetch_add(1, Ordering::Relaxed) > 0;
            let url = format!("http://{}/vfs/output_log.txt", r.headers["host"]);
            Reply::json(&json!({"id": "42", "status": if ended { "Failed" } else { "Running" }, "output_url": url}))
        }
        ("GET", "/vfs/output_log.txt") => Reply::status(200).body("boom\n"),
        other => panic!("{other:?}"),
    })
    .await
    .unwrap();
    let scm = server.client().unwrap().scm_at(&server.url);
    let run = scm.run_job("migrate", "staging --now").await.unwrap();
    let run = scm.wait_job("migrate", &run, Duration::from_secs(30)).await.unwrap();
    assert!(run.ended() && !run.succeeded());
    assert_eq!(scm.job_output(&run).await.unwrap(), "boom\n");
}

#[tokio::test]
async fn a_log_is_read_as_a_stream() {
    let server = scripted(vec![Reply::status(200).body("one\ntwo\n")]).await;
    let scm = server.client().unwrap().scm_at(&server.url);
    let mut stream = scm.log_stream().await.unwrap();
    let mut text = Vec::new();
    while let Some(chunk) = stream.next().await {
        text.extend_from_slice(&chunk.unwrap());
    }
    assert_eq!(text, b"one\ntwo\n");
}
