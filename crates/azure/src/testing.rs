//! A small HTTP server in the same process, for tests: every request goes to one function, and is
//! remembered. Only with the feature `testing`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::{Client, Connection, Credential, Endpoints, Error, RetryPolicy, Secret};

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Received {
    /// Its method.
    pub method: String,
    /// Its path.
    pub path: String,
    /// Its query, still encoded.
    pub query: String,
    /// Its headers, names in lower case.
    pub headers: HashMap<String, String>,
    /// Its body.
    pub body: Vec<u8>,
}

impl Received {
    /// The body as JSON; `Null` when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    hang_up: bool,
}

impl Reply {
    /// With this status and no body.
    pub fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new(), hang_up: false }
    }

    /// 200 with JSON.
    pub fn json(value: &Value) -> Self {
        Self { body: value.to_string().into_bytes(), ..Self::status(200) }
    }

    /// The connection breaks instead.
    pub fn hang_up() -> Self {
        Self { hang_up: true, ..Self::status(0) }
    }

    /// With another status.
    #[must_use]
    pub fn with_status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// With a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// With this body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }
}

/// The server. Token requests are answered by itself.
#[derive(Clone, Debug)]
pub struct Server {
    /// `http://127.0.0.1:PORT`.
    pub url: String,
    log: Arc<Mutex<Vec<Received>>>,
}

impl Server {
    /// Starts it; it ends with the runtime.
    pub async fn start(
        answer: impl Fn(&Received) -> Reply + Send + Sync + 'static,
    ) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let log = Arc::new(Mutex::new(Vec::new()));
        let server = Self { url, log };
        let (answer, log) = (Arc::new(answer), Arc::clone(&server.log));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answer, log) = (Arc::clone(&answer), Arc::clone(&log));
                tokio::spawn(async move {
                    let _ = serve(stream, &*answer, &log).await;
                });
            }
        });
        Ok(server)
    }

    /// A client of it, that does not wait long between its tries.
    pub fn client(&self) -> Result<Client, Error> {
        let retry = RetryPolicy {
            attempts: 4,
            base: std::time::Duration::from_millis(2),
            cap: std::time::Duration::from_millis(20),
        };
        let credential = Credential::client_secret("tenant", "client", Secret::new("s3cret"));
        let endpoints = Endpoints { management: self.url.clone(), login: self.url.clone() };
        Client::with(&Connection::default(), credential, endpoints, retry)
    }

    /// What came, token requests included.
    pub fn received(&self) -> Vec<Received> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// `METHOD /path` of what came, without token requests.
    pub fn requests(&self) -> Vec<String> {
        self.received()
            .iter()
            .filter(|r| !r.path.ends_with("/oauth2/v2.0/token"))
            .map(|r| format!("{} {}", r.method, r.path))
            .collect()
    }
}

async fn serve(
    stream: TcpStream,
    answer: &(dyn Fn(&Received) -> Reply + Send + Sync),
    log: &Mutex<Vec<Received>>,
) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let mut parts = line.split_whitespace();
        let (method, target) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut received = Received {
            method: method.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            headers: HashMap::new(),
            body: Vec::new(),
        };
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).await?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            received.headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        if let Some(length) = received.headers.get("content-length") {
            received.body = vec![0; length.parse().unwrap_or(0)];
            stream.read_exact(&mut received.body).await?;
        }
        let reply = if received.path.ends_with("/oauth2/v2.0/token") {
            Reply::json(&serde_json::json!({"access_token": "tok", "expires_in": 3599}))
        } else {
            answer(&received)
        };
        log.lock().unwrap_or_else(PoisonError::into_inner).push(received);
        if reply.hang_up {
            return Ok(());
        }
        let mut head = format!("HTTP/1.1 {} X\r\n", reply.status);
        for (name, value) in &reply.headers {
            head.push_str(name);
            head.push_str(": ");
            head.push_str(value);
            head.push_str("\r\n");
        }
        if reply.status != 204 {
            head.push_str("content-length: ");
            head.push_str(&reply.body.len().to_string());
            head.push_str("\r\n");
        }
        head.push_str("\r\n");
        stream.write_all(head.as_bytes()).await?;
        if reply.status != 204 {
            stream.write_all(&reply.body).await?;
        }
    }
}
