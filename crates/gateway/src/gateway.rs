//! The gateway: listeners, reactors, and the table they route by.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    thread,
    time::Duration,
};

use arc_swap::ArcSwap;
use futures_util::future::{BoxFuture, join_all};
use http::{Request, Response, request::Parts};
use hyper::body::Incoming;
use tokio::{
    net::TcpStream,
    runtime::Handle,
    sync::{Semaphore, mpsc, oneshot},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Authority, Body, Instance, Pass, Table,
    reactor::{self, Command},
    serve,
    tls::Tls,
};

/// Something of the region that answers HTTP itself.
pub trait Service: Send + Sync + 'static {
    /// Answers one request. Runs on the runtime that [`Gateway::new`] was called on, not on the
    /// gateway's own threads.
    fn call(
        self: Arc<Self>,
        request: Request<Incoming>,
        peer: Peer,
    ) -> BoxFuture<'static, Response<Body>>;

    /// Where a request goes instead of to [`Service::call`]: to a site, by the site's own front end.
    /// Asked for every request, on the gateway's own thread: it must not wait.
    fn pass(&self, _head: &Parts, _peer: Peer) -> Option<Pass> {
        None
    }

    /// Whether it answers plain HTTP below `.localhost` too, as sites do: a browser cannot be made to
    /// trust the region there.
    fn answers_plain_http_locally(&self) -> bool {
        false
    }
}

/// Who is asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The client's address.
    pub addr: SocketAddr,
    /// Which side of the region it is on.
    pub origin: Origin,
    /// Whether the request came over TLS.
    pub tls: bool,
}

/// Which side of the region a client is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The machine, through the loopback listener.
    Machine,
    /// The region's own network.
    Inside,
}

/// Connects to hosts that are not the region's.
pub trait Dialer: Send + Sync + 'static {
    /// A connection to `host`:`port`.
    fn dial(&self, host: &str, port: u16) -> BoxFuture<'static, io::Result<TcpStream>>;
}

/// What a client may ask of the gateway at most.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of a request's head.
    pub head_bytes: usize,
    /// Header fields of a request.
    pub headers: usize,
    /// How long a client may take to send a request's head, or a TLS handshake.
    pub head_timeout: Duration,
    /// How long a connection may be idle between requests.
    pub keep_alive: Duration,
    /// Connections open at a time, per listener.
    pub connections: usize,
    /// How long connecting to an instance may take.
    pub connect_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_bytes: 64 * 1024,
            headers: serve::HYPERS_HEADERS,
            head_timeout: Duration::from_secs(20),
            keep_alive: Duration::from_secs(120),
            connections: 16_384,
            connect_timeout: Duration::from_secs(5),
        }
    }
}

/// How a gateway is set up.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Threads that serve connections; 0 is one per core.
    pub reactors: usize,
    /// What a client may ask for at most.
    pub limits: Limits,
}

/// The region's front.
///
/// Connections are served by threads of its own, each with a single-threaded runtime: a connection, its
/// requests and the connections to instances that these use never leave their thread, so nothing on the
/// way of a request is shared but atomics. All threads accept on the same listeners.
#[derive(Debug)]
pub struct Gateway {
    shared: Arc<Shared>,
    reactors: Vec<mpsc::UnboundedSender<Command>>,
}

/// What all reactors see.
pub(crate) struct Shared {
    table: Arc<ArcSwap<Table>>,
    pub(crate) tls: Tls,
    pub(crate) issuer: String,
    pub(crate) dialer: Arc<dyn Dialer>,
    pub(crate) limits: Limits,
    /// Runs services and the dialer.
    pub(crate) runtime: Handle,
    pub(crate) closing: CancellationToken,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("table", &self.table.load()).finish_non_exhaustive()
    }
}

impl Shared {
    /// The table in force. To be looked at, not kept.
    pub(crate) fn table(&self) -> arc_swap::Guard<Arc<Table>> {
        self.table.load()
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }
}

/// What a listener is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Listening {
    Machine,
    InsideTls,
    InsideProxy,
}

impl Gateway {
    /// A gateway with an empty table. Must be called within a tokio runtime: that one runs the
    /// [`Service`]s and the [`Dialer`].
    pub fn new(
        authority: Arc<Authority>,
        dialer: Arc<dyn Dialer>,
        options: Options,
    ) -> io::Result<Arc<Self>> {
        let count = match options.reactors {
            0 => thread::available_parallelism().map_or(1, usize::from),
            count => count,
        };
        let table = Arc::<ArcSwap<Table>>::default();
        let shared = Arc::new(Shared {
            table: table.clone(),
            issuer: authority.subject().to_owned(),
            tls: Tls::new(authority, table).map_err(io::Error::other)?,
            dialer,
            limits: options.limits,
            runtime: Handle::current(),
            closing: CancellationToken::new(),
        });
        let reactors = (0..count)
            .map(|number| reactor::start(number, shared.clone()))
            .collect::<io::Result<_>>()?;
        Ok(Arc::new(Self { shared, reactors }))
    }

    /// The table in force.
    pub fn table(&self) -> Arc<Table> {
        self.shared.table.load_full()
    }

    /// Puts `table` in force: requests that begin after this returns are routed by it, those in
    /// flight finish where they are.
    pub fn publish(&self, table: Table) {
        self.shared.table.store(Arc::new(table));
    }

    /// Publishes what `change` makes of the table in force; called again when another writer was
    /// faster.
    pub fn update(&self, mut change: impl FnMut(&mut Table)) {
        self.shared.table.rcu(|table| {
            let mut next = Table::clone(table);
            change(&mut next);
            next
        });
    }

    /// Resolves when nothing is open on `instance` any more. Call it once no table in force routes
    /// to the instance; requests that were being routed at that moment are counted.
    pub async fn drained(&self, instance: &Instance) {
        // A reactor reads the table and counts the request without a pause in between, so once it
        // answers, whatever it routed by an older table is counted.
        join_all(self.reactors.iter().map(|reactor| {
            let (reply, answer) = oneshot::channel();
            let sent = reactor.send(Command::Quiesce(reply));
            async move {
                if sent.is_ok() {
                    let _ = answer.await;
                }
            }
        }))
        .await;
        instance.drained().await;
    }

    /// Serves the machine's listener: `CONNECT`, `GET http://…`, TLS by SNI, and
    /// `http://<site>.localhost`, all on one port. Returns at once.
    #[expect(clippy::needless_pass_by_value, reason = "nobody else is to accept on it")]
    pub fn serve_machine(self: &Arc<Self>, listener: TcpListener) -> io::Result<()> {
        self.serve(&listener, Listening::Machine)
    }

    /// Serves TLS by SNI on an address inside the region (a vault's private endpoint, …). Returns
    /// at once.
    #[expect(clippy::needless_pass_by_value, reason = "nobody else is to accept on it")]
    pub fn serve_inside_tls(self: &Arc<Self>, listener: TcpListener) -> io::Result<()> {
        self.serve(&listener, Listening::InsideTls)
    }

    /// Serves the `CONNECT` proxy that sandboxes' `HTTPS_PROXY` points to. Returns at once.
    #[expect(clippy::needless_pass_by_value, reason = "nobody else is to accept on it")]
    pub fn serve_inside_proxy(self: &Arc<Self>, listener: TcpListener) -> io::Result<()> {
        self.serve(&listener, Listening::InsideProxy)
    }

    fn serve(&self, listener: &TcpListener, listening: Listening) -> io::Result<()> {
        listener.set_nonblocking(true)?;
        let room = Arc::new(Semaphore::new(self.shared.limits.connections));
        for reactor in &self.reactors {
            let listener = listener.try_clone()?;
            let command = Command::Serve { listener, listening, room: room.clone() };
            reactor.send(command).map_err(|_| io::Error::other("the gateway was shut down"))?;
        }
        Ok(())
    }

    /// Stops accepting, lets requests finish for at most `grace`, then closes what is left.
    pub async fn shutdown(&self, grace: Duration) {
        self.shared.closing.cancel();
        join_all(self.reactors.iter().map(|reactor| {
            let (reply, answer) = oneshot::channel();
            let sent = reactor.send(Command::Stop { grace, reply });
            async move {
                if sent.is_ok() {
                    let _ = answer.await;
                }
            }
        }))
        .await;
    }
}
