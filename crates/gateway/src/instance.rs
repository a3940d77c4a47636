//! One running instance of a site, as the front end sees it.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
};

/// Upper bounds of the latency histogram, in milliseconds; a last bucket counts what is slower.
pub const LATENCY_BOUNDS_MS: [u64; 12] = [1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 5000, 30_000];

/// One running instance: where it listens, whether it is in rotation, what it has served. The same
/// `Arc<Instance>` is put into every table that routes to it, so that its counters and its
/// connections outlive a table.
#[derive(Debug)]
pub struct Instance {
    id: String,
    addr: SocketAddr,
    healthy: AtomicBool,
}

/// What an instance has served, read without stopping it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Requests answered (by the instance or, where it failed, for it).
    pub requests: u64,
    /// Answers by class: `status[0]` is 1xx (upgrades), `status[4]` is 5xx.
    pub status: [u64; 5],
    /// Time to the response's head; see [`LATENCY_BOUNDS_MS`].
    pub latency: [u64; LATENCY_BOUNDS_MS.len() + 1],
    /// Requests and upgraded connections open now.
    pub in_flight: u64,
    /// Bytes of response bodies.
    pub bytes_sent: u64,
}

impl Instance {
    /// An instance that listens on `addr`. It starts healthy. `id` is `WEBSITE_INSTANCE_ID`, which
    /// the affinity cookie carries.
    pub fn new(id: impl Into<String>, addr: SocketAddr) -> Self {
        Self { id: id.into(), addr, healthy: AtomicBool::new(true) }
    }

    /// `WEBSITE_INSTANCE_ID`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Whether it is in rotation.
    pub fn healthy(&self) -> bool {
        self.healthy.load(Ordering::Relaxed)
    }

    /// Takes it out of rotation or puts it back.
    pub fn set_healthy(&self, healthy: bool) {
        self.healthy.store(healthy, Ordering::Relaxed);
    }

    /// What it has served.
    pub fn counters(&self) -> Counters {
        todo!()
    }

    /// Resolves when no request and no upgraded connection is open. Use
    /// [`Gateway::drained`](crate::Gateway::drained) after a table without this instance was
    /// published: that also waits for requests that were just being routed.
    #[expect(clippy::unused_async)]
    pub async fn drained(&self) {
        todo!()
    }
}
