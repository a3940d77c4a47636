//! A gateway, instances and clients.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::Incoming,
    client::conn::http1::{SendRequest, handshake},
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use lazuli_gateway::{
    Authority, Body, Dialer, Gateway, Instance, Limits, Options, Pool, Site, Target,
};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// Nothing in these tests takes longer unless it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it takes too long")
}

/// Dials for real, and remembers for whom.
#[derive(Default)]
pub(crate) struct Outside {
    pub(crate) dialled: Mutex<Vec<String>>,
    /// Where every name leads.
    pub(crate) to: Mutex<Option<SocketAddr>>,
}

impl Dialer for Outside {
    fn dial(&self, host: &str, port: u16) -> BoxFuture<'static, io::Result<TcpStream>> {
        self.dialled.lock().expect("not poisoned").push(format!("{host}:{port}"));
        let to = *self.to.lock().expect("not poisoned");
        Box::pin(async move {
            match to {
                Some(to) => TcpStream::connect(to).await,
                None => Err(io::Error::other("nobody there")),
            }
        })
    }
}

pub(crate) struct Front {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) addr: SocketAddr,
    pub(crate) outside: Arc<Outside>,
    pub(crate) authority: Arc<Authority>,
    pub(crate) directory: TempDir,
}

impl Front {
    pub(crate) async fn start() -> Self {
        Self::with(Limits::default()).await
    }

    #[expect(clippy::unused_async, reason = "a gateway is made within a runtime")]
    pub(crate) async fn with(limits: Limits) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let authority = Authority::load_or_create(directory.path()).expect("an authority");
        let outside = Arc::new(Outside::default());
        let options = Options { reactors: 2, limits };
        let gateway = Gateway::new(authority.clone(), outside.clone(), options).expect("a gateway");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("an address");
        gateway.serve_machine(listener).expect("served");
        Self { gateway, addr, outside, authority, directory }
    }

    /// Publishes `site` under its own name.
    #[expect(clippy::needless_pass_by_value, reason = "it is passed on where that is possible")]
    pub(crate) fn publish(&self, site: Site) {
        self.gateway.update(|table| {
            table.insert(&site.host, Target::Site(Arc::new(site.clone())));
        });
    }

    pub(crate) async fn tcp(&self) -> TcpStream {
        TcpStream::connect(self.addr).await.expect("connected")
    }

    pub(crate) fn trusting(&self) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_slice(self.authority.ca_pem().as_bytes()).expect("PEM");
        roots.add(ca).expect("a root");
        ClientConfig::builder_with_provider(rustls::crypto::aws_lc_rs::default_provider().into())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth()
    }

    pub(crate) async fn tls_with(
        &self,
        host: &str,
        config: ClientConfig,
    ) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(host.to_owned()).expect("a name");
        within(TlsConnector::from(Arc::new(config)).connect(name, self.tcp().await)).await
    }

    /// A verified TLS connection to `host`, straight to the listener.
    pub(crate) async fn tls(&self, host: &str) -> TlsStream<TcpStream> {
        self.tls_with(host, self.trusting()).await.expect("a handshake")
    }

    /// An HTTPS/1.1 connection to `host`.
    pub(crate) async fn client(&self, host: &str) -> Client {
        let (sender, connection) =
            handshake(TokioIo::new(self.tls(host).await)).await.expect("HTTP");
        tokio::spawn(connection);
        Client { sender, host: host.to_owned() }
    }

    /// One `GET` on a connection of its own.
    pub(crate) async fn get(&self, host: &str, path: &str) -> Answer {
        self.client(host).await.get(path).await
    }

    /// Writes `bytes` over plain TCP and reads until the gateway closes.
    pub(crate) async fn raw(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut tcp = self.tcp().await;
        tcp.write_all(bytes.as_ref()).await.expect("written");
        let mut answer = Vec::new();
        let _ = within(tcp.read_to_end(&mut answer)).await;
        String::from_utf8_lossy(&answer).into_owned()
    }
}

pub(crate) struct Client {
    pub(crate) sender: SendRequest<Full<Bytes>>,
    pub(crate) host: String,
}

impl Client {
    pub(crate) async fn try_send(
        &mut self,
        request: http::request::Builder,
        body: impl Into<Bytes>,
    ) -> Result<Answer, String> {
        let request = request
            .header("host", &self.host)
            .body(Full::new(body.into()))
            .map_err(|e| e.to_string())?;
        self.sender.ready().await.map_err(|e| format!("not ready: {e}"))?;
        let response =
            self.sender.send_request(request).await.map_err(|e| format!("no answer: {e}"))?;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.map_err(|e| format!("half an answer: {e}"))?.to_bytes();
        Ok(Answer {
            status: parts.status,
            headers: parts.headers,
            body: String::from_utf8_lossy(&body).into_owned(),
        })
    }

    pub(crate) async fn send(
        &mut self,
        request: http::request::Builder,
        body: impl Into<Bytes>,
    ) -> Answer {
        within(self.try_send(request, body)).await.expect("an answer")
    }

    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        self.send(Request::get(path), "").await
    }
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn cookies(&self) -> Vec<&str> {
        self.headers.get_all("set-cookie").iter().map(|c| c.to_str().expect("text")).collect()
    }
}

/// Starts an application that answers by `handler`, and the instance that stands for it.
pub(crate) async fn application<F, R>(id: &str, handler: F) -> Arc<Instance>
where
    F: Fn(Request<Incoming>) -> R + Clone + Send + 'static,
    R: Future<Output = Response<Body>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let addr = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let handler = handler.clone();
            tokio::spawn(async move {
                let service = service_fn(move |request| {
                    let answer = handler(request);
                    async move { Ok::<_, std::convert::Infallible>(answer.await) }
                });
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(tcp), service)
                    .with_upgrades()
                    .await;
            });
        }
    });
    Arc::new(Instance::new(id, addr))
}

/// An application that answers every request with its own id.
pub(crate) async fn named(id: &'static str) -> Arc<Instance> {
    application(id, move |_| async move { Response::new(lazuli_gateway::full(id)) }).await
}

/// An application that answers with the request's head, a field a line.
pub(crate) async fn mirror() -> Arc<Instance> {
    application("mirror", |request| async move {
        let mut text = format!("{} {}\n", request.method(), request.uri());
        for (name, value) in request.headers() {
            text += &format!("{name}: {}\n", value.to_str().unwrap_or("?"));
        }
        let body = request.into_body().collect().await.map(http_body_util::Collected::to_bytes);
        text += &format!("\n{}", String::from_utf8_lossy(&body.unwrap_or_default()));
        Response::new(lazuli_gateway::full(text))
    })
    .await
}

/// A production site `notes` on these instances, without affinity cookies.
pub(crate) fn notes(instances: impl IntoIterator<Item = Arc<Instance>>) -> Site {
    let mut site = Site::new("notes", None);
    site.pool = Pool::new(instances);
    site.affinity = false;
    site
}

pub(crate) const NOTES: &str = "notes.azurewebsites.net";
