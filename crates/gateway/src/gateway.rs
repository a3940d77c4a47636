//! The gateway: listeners, reactors, and the table they route by.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use hyper::body::Incoming;
use tokio::net::TcpStream;

use crate::{Authority, Body, Instance, Table};

/// Something of the region that answers HTTP itself.
pub trait Service: Send + Sync + 'static {
    /// Answers one request. Runs on the runtime that [`Gateway::new`] was called on, not on the
    /// gateway's own threads.
    fn call(
        self: Arc<Self>,
        request: Request<Incoming>,
        peer: Peer,
    ) -> BoxFuture<'static, Response<Body>>;
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
            headers: 128,
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
pub struct Gateway {
    table: ArcSwap<Table>,
}

impl Gateway {
    /// A gateway with an empty table. Must be called within a tokio runtime: that one runs the
    /// [`Service`]s and the [`Dialer`].
    pub fn new(
        authority: Arc<Authority>,
        dialer: Arc<dyn Dialer>,
        options: Options,
    ) -> io::Result<Arc<Self>> {
        let _ = (authority, dialer, options);
        Ok(Arc::new(Self { table: ArcSwap::default() }))
    }

    /// The table in force.
    pub fn table(&self) -> Arc<Table> {
        self.table.load_full()
    }

    /// Puts `table` in force: requests that begin after this returns are routed by it, those in
    /// flight finish where they are.
    pub fn publish(&self, table: Table) {
        self.table.store(Arc::new(table));
    }

    /// Publishes what `change` makes of the table in force; called again when another writer was
    /// faster.
    pub fn update(&self, mut change: impl FnMut(&mut Table)) {
        self.table.rcu(|table| {
            let mut next = Table::clone(table);
            change(&mut next);
            next
        });
    }

    /// Resolves when nothing is open on `instance` any more. Call it once no table in force routes
    /// to the instance; requests that were being routed at that moment are counted.
    pub async fn drained(&self, instance: &Instance) {
        instance.drained().await;
    }

    /// Serves the machine's listener: `CONNECT`, `GET http://…`, TLS by SNI, and
    /// `http://<site>.localhost`, all on one port. Returns at once.
    pub fn serve_machine(self: &Arc<Self>, listener: TcpListener) -> io::Result<()> {
        todo!("{listener:?}")
    }

    /// Serves TLS by SNI on an address inside the region (a vault's private endpoint, …). Returns
    /// at once.
    pub fn serve_inside_tls(self: &Arc<Self>, listener: TcpListener) -> io::Result<()> {
        todo!("{listener:?}")
    }

    /// Serves the `CONNECT` proxy that sandboxes' `HTTPS_PROXY` points to. Returns at once.
    pub fn serve_inside_proxy(self: &Arc<Self>, listener: TcpListener) -> io::Result<()> {
        todo!("{listener:?}")
    }

    /// Stops accepting, lets requests finish for at most `grace`, then closes what is left.
    pub async fn shutdown(&self, grace: Duration) {
        tokio::time::sleep(grace).await;
    }
}
