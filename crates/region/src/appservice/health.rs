//! Pings: is the port answered, does the health check path say yes.
//!
//! <https://learn.microsoft.com/azure/app-service/monitor-instances-health-check>

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, Uri, header};
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// What App Service asks for when it waits for a container's port: any answer will do.
pub const START_PATH: &str = "/robots933456.txt";

/// Why a ping had no answer.
#[derive(Debug, thiserror::Error)]
pub enum PingError {
    /// Nobody listens (yet).
    #[error("no connection: {0}")]
    Connect(std::io::Error),
    /// Somebody listens, and does not speak HTTP.
    #[error("no HTTP answer: {0}")]
    Http(#[from] hyper::Error),
    /// Nothing in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The configured path is none.
    #[error("{0:?} is not a path")]
    Path(String),
}

/// Asks an instance for `path` as the front end would for a client of `host`; answers the status.
pub async fn ping(
    address: SocketAddr,
    host: &str,
    path: &str,
    agent: &'static str,
    limit: Duration,
) -> Result<u16, PingError> {
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let uri: Uri = path.parse().map_err(|_| PingError::Path(path.clone()))?;
    let host = HeaderValue::from_str(host).map_err(|_| PingError::Path(host.to_owned()))?;
    let asked = async {
        let stream = TcpStream::connect(address).await.map_err(PingError::Connect)?;
        let _ = stream.set_nodelay(true);
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let request = Request::get(uri)
            .header(header::HOST, host)
            .header(header::USER_AGENT, agent)
            .header(header::CONNECTION, "close")
            // The front end ends TLS: an application that redirects to https must not do it here.
            .header("x-forwarded-proto", "https")
            .body(Empty::<Bytes>::new())
            .map_err(|_| PingError::Path(path.clone()))?;
        let answer = sender.send_request(request);
        tokio::pin!(answer);
        tokio::pin!(connection);
        // The connection is driven here and dropped with the answer's head: the body is not needed.
        let response = tokio::select! {
            biased;
            response = &mut answer => response?,
            ended = &mut connection => {
                ended?;
                answer.await?
            }
        };
        Ok(response.status().as_u16())
    };
    tokio::time::timeout(limit, asked).await.unwrap_or(Err(PingError::Timeout(limit)))
}

/// What a ping means for an instance's place in the rotation: counts failures in a row.
#[derive(Debug, Default)]
pub struct Record {
    failures: u32,
    failing_since: Option<tokio::time::Instant>,
}

/// What is to be done after a ping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// In rotation.
    Healthy,
    /// It failed, but not often enough.
    Suspect,
    /// Out of rotation.
    Unhealthy,
    /// It has been unhealthy for too long.
    Replace,
}

impl Record {
    /// Counts a ping that answered 2xx, or did not.
    pub fn count(&mut self, ok: bool, most_failures: u32, replace_after: Duration) -> Verdict {
        if ok {
            *self = Self::default();
            return Verdict::Healthy;
        }
        self.failures += 1;
        let since = *self.failing_since.get_or_insert_with(tokio::time::Instant::now);
        if self.failures < most_failures {
            Verdict::Suspect
        } else if since.elapsed() >= replace_after {
            Verdict::Replace
        } else {
            Verdict::Unhealthy
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    async fn server(answer: &'static [u8]) -> (SocketAddr, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("address");
        let task = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("accept");
            let mut request = vec![0; 4096];
            let read = stream.read(&mut request).await.expect("read");
            stream.write_all(answer).await.expect("write");
            String::from_utf8_lossy(&request[..read]).into_owned()
        });
        (address, task)
    }

    #[tokio::test]
    async fn a_ping_asks_as_the_front_end_would() {
        let (address, task) = server(b"HTTP/1.1 503 Busy\r\ncontent-length: 3\r\n\r\nno\n").await;
        let status = ping(
            address,
            "notes.azurewebsites.net",
            "health",
            "HealthCheck/1.0",
            Duration::from_secs(5),
        )
        .await
        .expect("an answer");
        assert_eq!(status, 503);
        let request = task.await.expect("request").to_ascii_lowercase();
        assert!(request.starts_with("get /health http/1.1\r\n"), "{request}");
        assert!(request.contains("host: notes.azurewebsites.net"), "{request}");
        assert!(request.contains("x-forwarded-proto: https"), "{request}");
    }

    #[tokio::test]
    async fn silence_and_noise_are_no_answers() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("address");
        let limit = Duration::from_millis(50);
        assert!(matches!(ping(address, "h", "/", "t", limit).await, Err(PingError::Timeout(_))));
        drop(listener);
        assert!(matches!(ping(address, "h", "/", "t", limit).await, Err(PingError::Connect(_))));
        let (address, _task) = server(b"SSH-2.0-x\r\n").await;
        let limit = Duration::from_secs(5);
        assert!(matches!(ping(address, "h", "/", "t", limit).await, Err(PingError::Http(_))));
    }

    #[tokio::test]
    async fn failures_in_a_row_take_it_out_one_success_brings_it_back_time_ends_it() {
        let hour = Duration::from_secs(3600);
        let mut record = Record::default();
        assert_eq!(record.count(false, 2, hour), Verdict::Suspect);
        assert_eq!(record.count(true, 2, hour), Verdict::Healthy);
        assert_eq!(record.count(false, 2, hour), Verdict::Suspect);
        assert_eq!(record.count(false, 2, hour), Verdict::Unhealthy);
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(record.count(false, 2, Duration::from_millis(10)), Verdict::Replace);
    }
}
