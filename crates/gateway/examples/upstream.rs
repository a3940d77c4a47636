//! The upstream of `bench/frontend`: answers every request of one of a few sizes from memory, does
//! nothing else, and so costs as little as an HTTP server can.
//!
//! `upstream PORT`: `GET /1k`, `GET /100k`.

use std::{convert::Infallible, env, net::Ipv4Addr};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

fn answer(path: &str) -> Response<Full<Bytes>> {
    static BYTES: [u8; 100 * 1024] = [b'x'; 100 * 1024];
    let length = match path {
        "/1k" => 1024,
        "/100k" => 100 * 1024,
        _ => {
            let mut response = Response::new(Full::default());
            *response.status_mut() = StatusCode::NOT_FOUND;
            return response;
        }
    };
    Response::new(Full::new(Bytes::from_static(&BYTES[..length])))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let port = env::args().nth(1).and_then(|port| port.parse().ok()).unwrap_or(9000);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    loop {
        let (tcp, _) = listener.accept().await?;
        tcp.set_nodelay(true)?;
        tokio::spawn(async move {
            let service = service_fn(|request: Request<Incoming>| async move {
                Ok::<_, Infallible>(answer(request.uri().path()))
            });
            // How a connection ends is the client's business.
            let _ = http1::Builder::new()
                .pipeline_flush(true)
                .serve_connection(TokioIo::new(tcp), service)
                .await;
        });
    }
}
