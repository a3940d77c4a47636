//! Plain HTTP inside the region for what gives out managed identities' tokens: small requests without a
//! body, answered with JSON.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Request, StatusCode, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::Value;
use tokio::net::TcpListener;

/// Answers every request to `listener` with what `answer` makes of its address, its header fields and
/// who asks, until the task is dropped. `what` is what the log calls it.
pub(super) async fn serve(
    what: &'static str,
    listener: TcpListener,
    answer: impl Fn(&Uri, &HeaderMap, IpAddr) -> (StatusCode, Value) + Send + Sync + 'static,
) {
    let answer = Arc::new(answer);
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, or a client gone: neither ends the endpoint.
                tracing::warn!(%error, "{what} cannot accept");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let answer = answer.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let answer = answer.clone();
                async move {
                    // RSA takes milliseconds: not on a thread that serves others.
                    let answered = tokio::task::spawn_blocking(move || {
                        answer(request.uri(), request.headers(), peer.ip())
                    });
                    Ok::<_, Infallible>(match answered.await {
                        Ok((status, body)) => crate::http::json(status, &body).map(Full::new),
                        Err(_) => {
                            crate::http::status(StatusCode::INTERNAL_SERVER_ERROR).map(Full::new)
                        }
                    })
                }
            });
            // A client that breaks off is no concern of ours.
            let _ = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(Duration::from_secs(10))
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}
