//! Who may ask a site: access restrictions, authentication, what a service passes on, other origins.

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, request::Parts};
use hyper::body::Incoming;
use lazuli_gateway::{
    Access, Auth, Body, Cors, Network, Pass, Peer, Rule, Service, Source, Target, Unauthenticated,
    full,
};

use crate::support::*;

const STATIC: &str = "calm.5.azurestaticapps.net";

/// Passes `/api` on to `notes` and answers the rest itself.
struct Linked {
    within: Duration,
}

impl Service for Linked {
    fn call(self: Arc<Self>, _: Request<Incoming>, _: Peer) -> BoxFuture<'static, Response<Body>> {
        Box::pin(async { Response::new(full("a page")) })
    }

    fn pass(&self, head: &Parts, _: Peer) -> Option<Pass> {
        head.uri.path().starts_with("/api").then(|| {
            let mut headers = HeaderMap::new();
            headers.insert("x-ms-original-url", HeaderValue::from_static("https://calm/api"));
            headers.insert("x-secret", HeaderValue::from_static(""));
            Pass {
                host: NOTES.into(),
                from: STATIC.into(),
                headers,
                within: self.within,
                failure: (StatusCode::INTERNAL_SERVER_ERROR, "Backend call failure"),
            }
        })
    }

    fn answers_plain_http_locally(&self) -> bool {
        true
    }
}

async fn linked(within: Duration) -> Front {
    let front = Front::start().await;
    front.gateway.update(|table| {
        table.insert(STATIC, Target::Service(Arc::new(Linked { within })));
    });
    front
}

fn closed() -> Arc<Auth> {
    Arc::new(Auth {
        linked: Some(STATIC.to_owned()),
        otherwise: Unauthenticated::Refuse401,
        excluded: vec!["/health".to_owned(), "/public/*".to_owned()],
    })
}

#[tokio::test]
async fn a_linked_site_serves_what_comes_through_its_static_site_alone() {
    let front = linked(Duration::from_secs(20)).await;
    let mut site = notes([mirror().await]);
    site.auth = Some(closed());
    site.https_only = true;
    front.publish(site.clone());
    let direct = front.get(NOTES, "/api/x").await;
    assert_eq!(direct.status, 401);
    assert_eq!(direct.headers["www-authenticate"], "Bearer realm=\"notes.azurewebsites.net\"");
    for (path, status) in
        [("/health", 200), ("/health/ready", 200), ("/healthy", 401), ("/public/a", 200)]
    {
        assert_eq!(front.get(NOTES, path).await.status, status, "{path}");
    }

    let mut client = front.client(STATIC).await;
    let request = Request::post("/api/x?y=z")
        .header("x-secret", "1")
        .header("x-ms-client-principal", "e30=")
        .header("x_ms_client_principal_name", "root");
    let through = client.send(request, "hello").await;
    assert_eq!(through.status, 200);
    let has = |line: &str| assert!(through.body.contains(line), "{line} in\n{}", through.body);
    has("POST /api/x?y=z\n");
    has("host: notes.azurewebsites.net\n");
    has("x-ms-original-url: https://calm/api\n");
    has("\n\nhello");
    assert!(!through.body.contains("x-secret") && !through.body.contains("principal"));
    assert_eq!(client.get("/").await.body, "a page");

    // A browser on this machine asks without TLS; the site's redirect to HTTPS is not for it.
    let port = front.addr.port();
    let local = format!(
        "GET /api/x HTTP/1.1\r\nHost: calm.5.localhost:{port}\r\nConnection: close\r\n\r\n"
    );
    assert!(front.raw(&local).await.starts_with("HTTP/1.1 200 "));

    // Another static site is nobody.
    site.auth = Some(Arc::new(Auth {
        linked: Some("other.5.azurestaticapps.net".into()),
        ..(*closed()).clone()
    }));
    front.publish(site.clone());
    assert_eq!(client.get("/api/x").await.status, 401);
    site.auth = Some(Arc::new(Auth { otherwise: Unauthenticated::Allow, ..(*closed()).clone() }));
    front.publish(site);
    assert_eq!(front.get(NOTES, "/api/x").await.status, 200);
}

#[tokio::test]
async fn a_websocket_is_not_passed_on() {
    let front = linked(Duration::from_secs(20)).await;
    front.publish(notes([mirror().await]));
    let mut client = front.client(STATIC).await;
    let request =
        Request::get("/api/ws").header("upgrade", "websocket").header("connection", "Upgrade");
    let answer = client.send(request, "").await;
    assert_eq!(answer.status, 200);
    assert!(!answer.body.contains("upgrade:"), "{}", answer.body);
}

#[tokio::test]
async fn a_back_end_that_is_gone_or_too_slow_is_a_failure_in_the_static_sites_words() {
    let front = linked(Duration::from_millis(300)).await;
    let mut client = front.client(STATIC).await;
    let absent = client.get("/api/x").await;
    assert_eq!((absent.status.as_u16(), absent.body.trim()), (500, "Backend call failure"));
    let slow = application("slow", |_| async {
        tokio::time::sleep(Duration::from_secs(600)).await;
        Response::new(full("late"))
    })
    .await;
    front.publish(notes([slow]));
    let late = client.get("/api/x").await;
    assert_eq!((late.status.as_u16(), late.body.trim()), (500, "Backend call failure"));
    // No instance is App Service's affair, and its answer.
    front.publish(notes([]));
    assert_eq!(client.get("/api/x").await.status, 503);
    // A site that only some networks may reach is closed to it.
    let mut site = notes([named("app").await]);
    site.access = Access { private: true, ..Access::default() };
    front.publish(site);
    assert_eq!(client.get("/api/x").await.status, 500);
}

#[tokio::test]
async fn access_restrictions_keep_clients_out() {
    let front = Front::start().await;
    let mut site = notes([named("app").await]);
    let rule = |network: &str, allows| Rule {
        from: Source::Network(network.parse::<Network>().expect("a network")),
        headers: Vec::new(),
        allows,
    };
    site.access =
        Access { rules: vec![rule("10.0.0.0/8", true)], otherwise_denied: true, private: false };
    front.publish(site.clone());
    let refused = front.get(NOTES, "/").await;
    assert_eq!(refused.status, 403);
    assert_eq!(refused.headers["x-ms-forbidden-ip"], "127.0.0.1");
    let raw =
        "GET http://notes.azurewebsites.net/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    assert!(front.raw(raw).await.starts_with("HTTP/1.1 403 Ip Forbidden\r\n"));
    site.access.rules.push(rule("127.0.0.1/32", true));
    front.publish(site.clone());
    assert_eq!(front.get(NOTES, "/").await.status, 200);
    site.access = Access { private: true, ..Access::default() };
    front.publish(site);
    assert_eq!(front.get(NOTES, "/").await.status, 403);
}

#[tokio::test]
async fn the_platform_says_what_other_origins_may() {
    let front = Front::start().await;
    let app = application("app", |_| async {
        let mut response = Response::new(full("app"));
        response.headers_mut().insert(
            "access-control-allow-origin",
            HeaderValue::from_static("https://of-the-app.org"),
        );
        response
    })
    .await;
    let mut site = notes([app]);
    site.cors = Some(Arc::new(Cors {
        origins: vec!["https://shop.example.org".into()],
        credentials: true,
    }));
    front.publish(site.clone());
    let mut client = front.client(NOTES).await;
    let preflight = |origin: &str| {
        Request::options("/api/x")
            .header("origin", origin)
            .header("access-control-request-method", "PUT")
            .header("access-control-request-headers", "x-token")
    };
    let allowed = client.send(preflight("https://shop.example.org"), "").await;
    assert_eq!((allowed.status.as_u16(), allowed.body.as_str()), (204, ""));
    assert_eq!(allowed.headers["access-control-allow-origin"], "https://shop.example.org");
    assert_eq!(allowed.headers["access-control-allow-methods"], "PUT");
    assert_eq!(allowed.headers["access-control-allow-headers"], "x-token");
    assert_eq!(allowed.headers["access-control-allow-credentials"], "true");
    let refused = client.send(preflight("https://evil.org"), "").await;
    assert!(!refused.headers.contains_key("access-control-allow-origin"));
    let asks = |origin: &str| Request::get("/").header("origin", origin);
    let answer = client.send(asks("https://shop.example.org"), "").await;
    assert_eq!(answer.headers["access-control-allow-origin"], "https://shop.example.org");
    assert_eq!(answer.headers["vary"], "origin");
    let answer = client.send(asks("https://of-the-app.org"), "").await;
    assert!(
        !answer.headers.contains_key("access-control-allow-origin"),
        "the platform's word counts"
    );
    // Not a preflight: the application's own.
    assert_eq!(client.send(Request::options("/"), "").await.body, "app");
    site.cors = Some(Arc::new(Cors { origins: vec!["*".into()], credentials: false }));
    front.publish(site);
    let answer = client.send(asks("https://anybody.org"), "").await;
    assert_eq!(answer.headers["access-control-allow-origin"], "*");
}
