//! One connection of a client: what it speaks, and whom its requests are for.

use std::{
    cell::{Cell, RefCell},
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    pin::{Pin, pin},
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, header::HOST};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
    upgrade::OnUpgrade,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::{ProtocolVersion, server::Acceptor};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::OwnedSemaphorePermit,
    time::{Instant, timeout},
};
use tokio_rustls::LazyConfigAcceptor;

use crate::{
    BoxError, Origin, Peer, Target, TlsVersion,
    asked::{self, Asked},
    front,
    gateway::{Listening, Shared},
    headers::{self, ClientHeaders},
    io::{self, Io, Prefixed},
    names, pages,
    response_body::ResponseBody,
    tls, tunnel,
};

/// The first byte of a TLS connection: a handshake record (RFC 8446, 5.1). No method begins so.
const TLS_HANDSHAKE: u8 = 0x16;
/// A peer that takes nothing for this long is gone.
const STALLED: Duration = Duration::from_secs(230);
/// As many header fields hyper parses on the stack; another limit costs it an allocation a request.
pub(crate) const HYPERS_HEADERS: usize = 100;
/// What a client may still have under way when its idle connection is closed.
const LINGER: Duration = Duration::from_secs(1);

/// A client's connection.
pub(crate) struct Connection {
    pub(crate) gateway: Arc<Shared>,
    pub(crate) peer: Peer,
    pub(crate) client: ClientHeaders,
    /// The name the client asked for in the TLS handshake, canonical.
    server_name: Option<String>,
    /// Whether it may ask for `CONNECT` and `GET http://…`.
    proxy: bool,
    requests: Cell<usize>,
    open: Cell<usize>,
    /// When it was last seen doing something.
    since: Cell<Instant>,
    /// Counts the connection, also when it is a WebSocket or a tunnel by now.
    permit: Rc<OwnedSemaphorePermit>,
    /// What it last asked for: most connections ask for one host all their life.
    last_asked: RefCell<Option<Rc<Asked>>>,
}

impl Connection {
    fn asked(&self, authority: HeaderValue) -> Result<Rc<Asked>, &'static str> {
        let mut last = self.last_asked.borrow_mut();
        match &*last {
            Some(asked) if asked.authority == authority => Ok(asked.clone()),
            _ => Ok(last.insert(Rc::new(Asked::read(authority)?)).clone()),
        }
    }
}

/// Serves a connection that was just accepted.
pub(crate) async fn accepted(
    shared: Arc<Shared>,
    tcp: TcpStream,
    addr: SocketAddr,
    listening: Listening,
    permit: OwnedSemaphorePermit,
) {
    io::tune(&tcp, STALLED);
    let origin = match listening {
        Listening::Machine => Origin::Machine,
        Listening::InsideTls | Listening::InsideProxy => Origin::Inside,
    };
    let peer = Peer { addr, origin, tls: false };
    let mut first = [0];
    match timeout(shared.limits.head_timeout, tcp.peek(&mut first)).await {
        Ok(Ok(1)) => {}
        _ => return,
    }
    let permit = Rc::new(permit);
    if first[0] == TLS_HANDSHAKE {
        terminate(shared, tcp, peer, permit).await;
    } else if listening != Listening::InsideTls {
        plain(shared, tcp, peer, true, permit).await;
    } else {
        let mut tcp = tcp;
        let _ = tcp
            .write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 26\r\n\r\nthis port speaks TLS only\n")
            .await;
    }
}

/// Serves what comes out of a tunnel to a host of the region.
async fn tunnelled(
    shared: Arc<Shared>,
    upgrade: OnUpgrade,
    peer: Peer,
    permit: Rc<OwnedSemaphorePermit>,
) {
    let Ok(upgraded) = upgrade.await else { return };
    let mut io = TokioIo::new(upgraded);
    let mut first = [0];
    match timeout(shared.limits.head_timeout, io.read(&mut first)).await {
        Ok(Ok(1)) => {}
        _ => return,
    }
    let io = Prefixed { prefix: Bytes::copy_from_slice(&first), io };
    if first[0] == TLS_HANDSHAKE {
        terminate(shared, io, peer, permit).await;
    } else {
        plain(shared, io, peer, false, permit).await;
    }
}

async fn plain(
    shared: Arc<Shared>,
    io: impl Io,
    peer: Peer,
    proxy: bool,
    permit: Rc<OwnedSemaphorePermit>,
) {
    let connection = Connection {
        client: ClientHeaders::new(peer.addr, None),
        gateway: shared,
        peer,
        server_name: None,
        proxy,
        requests: Cell::new(0),
        open: Cell::new(0),
        since: Cell::new(Instant::now()),
        permit,
        last_asked: RefCell::default(),
    };
    serve(io, Rc::new(connection), false).await;
}

/// Terminates TLS. The site that the client names decides the least version and whether HTTP/2 is
/// offered.
async fn terminate(shared: Arc<Shared>, io: impl Io, peer: Peer, permit: Rc<OwnedSemaphorePermit>) {
    let handshake = async {
        let start = LazyConfigAcceptor::new(Acceptor::default(), io).await?;
        let name = tls::server_name(&start.client_hello(), &shared.table());
        let (minimum, h2) = match &name {
            None => (TlsVersion::V1_2, false),
            Some(name) => match shared.table().get(&names::table_name(name)) {
                Some(Target::Site(site)) => (site.min_tls, site.http2),
                Some(Target::Service(_)) => (TlsVersion::V1_2, true),
                None => (TlsVersion::V1_2, false),
            },
        };
        let stream = start.into_stream(shared.tls.config(minimum, h2)).await?;
        std::io::Result::Ok((stream, name))
    };
    let (stream, server_name) = match timeout(shared.limits.head_timeout, handshake).await {
        Ok(Ok(done)) => done,
        Ok(Err(error)) => {
            tracing::debug!(peer = %peer.addr, %error, "a TLS handshake failed");
            return;
        }
        Err(_) => return,
    };
    let session = stream.get_ref().1;
    let h2 = session.alpn_protocol() == Some(b"h2");
    let version = match session.protocol_version() {
        Some(ProtocolVersion::TLSv1_2) => "1.2",
        _ => "1.3",
    };
    let cipher = session
        .negotiated_cipher_suite()
        .and_then(|suite| suite.suite().as_str())
        .map_or(256, |name| if name.contains("AES_128") { 128 } else { 256 });
    // Bits of the key and of the cipher, issuer, subject.
    let name = server_name.as_deref().unwrap_or_default();
    let arr = match shared.table().certificate(name) {
        Some(brought) => format!("256|{cipher}|{}", brought.names),
        None => format!("256|{cipher}|{}|CN={name}", shared.issuer),
    };
    let connection = Connection {
        client: ClientHeaders::new(peer.addr, Some((version, &arr))),
        gateway: shared,
        peer: Peer { tls: true, ..peer },
        server_name,
        proxy: false,
        requests: Cell::new(0),
        open: Cell::new(0),
        since: Cell::new(Instant::now()),
        permit,
        last_asked: RefCell::default(),
    };
    serve(stream, Rc::new(connection), h2).await;
}

/// Serves the requests of a connection until it ends.
async fn serve(io: impl Io, connection: Rc<Connection>, h2: bool) {
    let limits = connection.gateway.limits.clone();
    let service = service_fn({
        let connection = connection.clone();
        move |request| {
            let open = Open::begin(&connection);
            async move {
                let response = answer(&open.0, request).await;
                Ok::<_, Infallible>(response.map(|body| OpenBody { body, _open: open }))
            }
        }
    });
    let io = TokioIo::new(io);
    if h2 {
        let mut builder = http2::Builder::new(LocalExecutor);
        builder
            .timer(TokioTimer::new())
            .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX))
            .max_concurrent_streams(256)
            // Room for 100 ms at 80 Mbit/s, so that one upload is not held up by its window.
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size(4 << 20)
            .keep_alive_interval(Duration::from_secs(30));
        let served = builder.serve_connection(io, service);
        watch(served, http2::Connection::graceful_shutdown, &connection).await;
    } else {
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            // `watch` does this, with one timer a connection instead of one a request.
            .header_read_timeout(None)
            .max_buf_size(limits.head_bytes.max(8192))
            .max_header_size(limits.head_bytes)
            // Not `pipeline_flush`: it keeps back the answer to a malformed head.
            .auto_date_header(true);
        if limits.headers != HYPERS_HEADERS {
            builder.max_headers(limits.headers);
        }
        let served = builder.serve_connection(io, service).with_upgrades();
        watch(served, http1::UpgradeableConnection::graceful_shutdown, &connection).await;
    }
}

/// Drives a connection, closes it when nothing is asked for too long, and lets it finish what it has
/// begun when the gateway shuts down.
async fn watch<C>(served: C, shut_down: fn(Pin<&mut C>), connection: &Connection)
where
    C: Future<Output = hyper::Result<()>>,
{
    let limits = &connection.gateway.limits;
    let mut served = pin!(served);
    let mut closing = pin!(connection.gateway.closing.cancelled());
    let mut timer = pin!(tokio::time::sleep(limits.head_timeout));
    let mut ending = false;
    std::future::poll_fn(|cx| {
        loop {
            if let Poll::Ready(result) = served.as_mut().poll(cx) {
                if let Err(error) = result {
                    tracing::debug!(peer = %connection.peer.addr, %error, "a connection ended badly");
                }
                return Poll::Ready(());
            }
            if !ending && closing.as_mut().poll(cx).is_ready() {
                ending = true;
                shut_down(served.as_mut());
                continue;
            }
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            let allowed = if connection.requests.get() == 0 {
                limits.head_timeout
            } else {
                limits.keep_alive
            };
            let due = connection.since.get() + allowed;
            if connection.open.get() > 0 {
                timer.as_mut().reset(Instant::now() + allowed);
            } else if due > Instant::now() {
                timer.as_mut().reset(due);
            } else if ending {
                return Poll::Ready(());
            } else {
                ending = true;
                shut_down(served.as_mut());
                connection.since.set(Instant::now());
                timer.as_mut().reset(Instant::now() + LINGER.min(allowed));
            }
        }
    })
    .await;
}

#[derive(Clone, Copy)]
struct LocalExecutor;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}

/// A request that is open, until its response has been sent.
struct Open(Rc<Connection>);

impl Open {
    fn begin(connection: &Rc<Connection>) -> Self {
        connection.requests.set(connection.requests.get() + 1);
        connection.open.set(connection.open.get() + 1);
        Self(connection.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
        self.0.since.set(Instant::now());
    }
}

struct OpenBody {
    body: ResponseBody,
    _open: Open,
}

impl HttpBody for OpenBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }
    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Answers a request: finds out whom it is for, and asks them.
async fn answer(connection: &Rc<Connection>, request: Request<Incoming>) -> Response<ResponseBody> {
    if request.method() == Method::CONNECT {
        return connect(connection, request).await;
    }
    let asked = match asked::authority(&request).and_then(|value| connection.asked(value)) {
        Ok(asked) => asked,
        Err(why) => return pages::plain(StatusCode::BAD_REQUEST, why),
    };
    let host = asked.host.as_str();
    // A certificate was shown, and a least TLS version enforced, for one name; requests for another do
    // not belong on this connection (RFC 9110, 7.4).
    if let Some(server_name) = &connection.server_name
        && *server_name != host
        && !(server_name == "localhost" && names::is_loopback(host))
    {
        return pages::plain(
            StatusCode::MISDIRECTED_REQUEST,
            format!("this connection was opened for {server_name}, not for {host}"),
        );
    }
    let ours = connection.peer.tls || listens(host, asked.port.unwrap_or(80));
    let target = connection.gateway.table().get(&asked.name).filter(|_| ours).cloned();
    match target {
        Some(Target::Site(site)) => front::serve(connection, &asked, site, request).await,
        Some(Target::Service(service))
            if !(connection.peer.tls
                || names::is_local(host) && service.answers_plain_http_locally()) =>
        {
            let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
            pages::moved(&format!("https://{}{path}", asked.text()))
        }
        Some(Target::Service(service)) => {
            let (head, body) = request.into_parts();
            let pass = service.pass(&head, connection.peer);
            let request = Request::from_parts(head, body);
            if let Some(pass) = pass {
                return front::pass(connection, pass, request).await;
            }
            // On the region's runtime: the gateway's threads are for moving bytes. It goes on when the
            // client leaves, as an operation that has begun is not to be left half done.
            let answering = service.call(request, connection.peer);
            match connection.gateway.runtime.spawn(answering).await {
                Ok(response) => response.map(ResponseBody::Service),
                Err(error) => {
                    tracing::error!(%host, %error, "a service failed");
                    pages::plain(
                        StatusCode::INTERNAL_SERVER_ERROR,
                        "the region failed; see its log",
                    )
                }
            }
        }
        None if names::is_local(host) && host != "localhost" => pages::no_site(host),
        None if connection.proxy && request.uri().authority().is_some() => {
            if let Some(refusal) = refusal(connection, host) {
                return refusal;
            }
            forward(connection, request, host, asked.port.unwrap_or(80)).await
        }
        None if names::is_azure(host) => pages::no_site(host),
        None => pages::plain(
            StatusCode::NOT_FOUND,
            "This is the gateway of a Lazuli region. Sites are at <site>.localhost on this port; \
             `lazuli env` sets it as the proxy for Azure's own names.",
        ),
    }
}

/// Whether App Service, and with it the region, answers at that port of a host name of its own. Azure's
/// names are the region's whatever the port is.
fn listens(host: &str, port: u16) -> bool {
    matches!(port, 80 | 443) || names::is_azure(host) || names::is_local(host)
}

/// Why a client may not be connected to `host`, which is not of the region.
fn refusal(connection: &Connection, host: &str) -> Option<Response<ResponseBody>> {
    if names::is_azure(host) {
        // A name that Azure does not know does not resolve; this is the nearest that a proxy can say.
        return Some(pages::refused(
            StatusCode::BAD_GATEWAY,
            &format!("{host} is not in this Lazuli region"),
            format!(
                "{host} is a name of Azure's that this Lazuli region does not have.\n\
                 The region never passes a connection on to the real Azure. If it should have this \
                 resource, create it first; if this command is meant for Azure, run it outside of \
                 `lazuli run` and `lazuli env`. Databases and caches are reachable from inside the \
                 virtual network alone: `lazuli run --inside`."
            ),
        ));
    }
    if connection.peer.origin == Origin::Inside && names::is_loopback(host) {
        return Some(pages::refused(
            StatusCode::FORBIDDEN,
            &format!("{host} is the machine's own"),
            format!(
                "{host} is an address of the machine or of a private network, which applications in the region do not reach."
            ),
        ));
    }
    None
}

/// `CONNECT`: to ourselves for the region's own names, through the dialer for everybody else's.
async fn connect(
    connection: &Rc<Connection>,
    mut request: Request<Incoming>,
) -> Response<ResponseBody> {
    if !connection.proxy {
        return pages::plain(StatusCode::METHOD_NOT_ALLOWED, "this is not a proxy");
    }
    let authority = request.uri().authority().map(ToString::to_string).unwrap_or_default();
    let Some((host, Some(port))) = names::split_authority(&authority) else {
        return pages::plain(StatusCode::BAD_REQUEST, "CONNECT takes a host and a port");
    };
    let host = names::canonical(host);
    let upgrade = hyper::upgrade::on(&mut request);
    let shared = connection.gateway.clone();
    let ours = listens(&host, port) && shared.table().get(&names::table_name(&host)).is_some();
    let permit = connection.permit.clone();
    if ours {
        let peer = connection.peer;
        let tunnel: Pin<Box<dyn Future<Output = ()>>> =
            Box::pin(tunnelled(shared, upgrade, peer, permit));
        tokio::task::spawn_local(tunnel);
        return Response::new(ResponseBody::empty());
    }
    if let Some(refusal) = refusal(connection, &host) {
        return refusal;
    }
    let outside = match dial(&shared, &host, port).await {
        Ok(outside) => outside,
        Err(error) => return unreachable_host(&host, port, &error),
    };
    tokio::task::spawn_local(async move {
        let _permit = permit;
        if let Ok(client) = upgrade.await {
            tunnel::join(TokioIo::new(client), outside, None).await;
        }
    });
    Response::new(ResponseBody::empty())
}

fn unreachable_host(host: &str, port: u16, error: &std::io::Error) -> Response<ResponseBody> {
    pages::refused(
        StatusCode::BAD_GATEWAY,
        &format!("cannot connect to {host}"),
        format!("cannot connect to {host}:{port}: {error}"),
    )
}

/// A connection to the outside, made on the region's runtime and moved to this thread's.
async fn dial(shared: &Shared, host: &str, port: u16) -> std::io::Result<TcpStream> {
    let dialing = shared.dialer.dial(host.trim_matches(['[', ']']), port);
    let tcp = shared.runtime.spawn(dialing).await.map_err(std::io::Error::other)??;
    let tcp = TcpStream::from_std(tcp.into_std()?)?;
    tcp.set_nodelay(true)?;
    Ok(tcp)
}

/// `GET http://…` for a host that is not the region's.
async fn forward(
    connection: &Connection,
    request: Request<Incoming>,
    host: &str,
    port: u16,
) -> Response<ResponseBody> {
    let tcp = match dial(&connection.gateway, host, port).await {
        Ok(tcp) => tcp,
        Err(error) => return unreachable_host(host, port, &error),
    };
    let sent = async {
        let (mut sender, driver) =
            hyper::client::conn::http1::handshake::<_, Incoming>(TokioIo::new(tcp)).await?;
        tokio::task::spawn_local(async move {
            if let Err(error) = driver.await {
                tracing::debug!(%error, "a forwarded connection failed");
            }
        });
        let (mut parts, body) = request.into_parts();
        headers::strip_hop_by_hop(&mut parts.headers);
        if let Some(authority) = parts.uri.authority()
            && let Ok(host) = authority.as_str().parse()
        {
            parts.headers.insert(HOST, host);
        }
        parts.uri = parts.uri.path_and_query().cloned().map_or_else(Uri::default, Uri::from);
        sender.send_request(Request::from_parts(parts, body)).await
    };
    match sent.await {
        Ok(response) => {
            let (mut parts, body) = response.into_parts();
            headers::strip_hop_by_hop(&mut parts.headers);
            parts.extensions.clear();
            Response::from_parts(parts, ResponseBody::Forwarded(body))
        }
        Err(error) => {
            pages::plain(StatusCode::BAD_GATEWAY, format!("{host}:{port} did not answer: {error}"))
        }
    }
}
