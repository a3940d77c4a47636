//! One running instance of a site, as the front end sees it.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use http::StatusCode;
use tokio::sync::Notify;

/// Upper bounds of the latency histogram, in milliseconds; a last bucket counts what is slower.
pub const LATENCY_BOUNDS_MS: [u64; 12] = [1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 5000, 30_000];

/// One running instance: where it listens, whether it is in rotation, what it has served. The same
/// `Arc<Instance>` is put into every table that routes to it, so that its counters and its
/// connections outlive a table.
#[derive(Debug)]
pub struct Instance {
    /// Distinguishes instances in the connection pools; never reused, unlike an address.
    key: u64,
    id: String,
    addr: SocketAddr,
    healthy: AtomicBool,
    in_flight: AtomicU64,
    idle: Notify,
    requests: AtomicU64,
    status: [AtomicU64; 5],
    latency: [AtomicU64; LATENCY_BOUNDS_MS.len() + 1],
    micros: AtomicU64,
    bytes_sent: AtomicU64,
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
    /// Time to the responses' heads in all, in microseconds.
    pub micros: u64,
    /// Requests and upgraded connections open now.
    pub in_flight: u64,
    /// Bytes of response bodies.
    pub bytes_sent: u64,
}

impl Instance {
    /// An instance that listens on `addr`. It starts healthy. `id` is `WEBSITE_INSTANCE_ID`, which
    /// the affinity cookie carries.
    pub fn new(id: impl Into<String>, addr: SocketAddr) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self {
            key: NEXT.fetch_add(1, Ordering::Relaxed),
            id: id.into(),
            addr,
            healthy: AtomicBool::new(true),
            in_flight: AtomicU64::new(0),
            idle: Notify::new(),
            requests: AtomicU64::new(0),
            status: Default::default(),
            latency: Default::default(),
            micros: AtomicU64::new(0),
            bytes_sent: AtomicU64::new(0),
        }
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

    /// What it has served. The parts are read one after the other, so under load they may differ by
    /// the requests of that moment.
    pub fn counters(&self) -> Counters {
        Counters {
            requests: self.requests.load(Ordering::Relaxed),
            status: std::array::from_fn(|i| self.status[i].load(Ordering::Relaxed)),
            latency: std::array::from_fn(|i| self.latency[i].load(Ordering::Relaxed)),
            micros: self.micros.load(Ordering::Relaxed),
            in_flight: self.in_flight(),
            bytes_sent: self.bytes_sent.load(Ordering::Relaxed),
        }
    }

    /// Resolves when no request and no upgraded connection is open. Use
    /// [`Gateway::drained`](crate::Gateway::drained) after a table without this instance was
    /// published: that also waits for requests that were just being routed.
    pub async fn drained(&self) {
        loop {
            let idle = self.idle.notified();
            tokio::pin!(idle);
            // Registered before looking, so that the last request cannot end unseen in between.
            idle.as_mut().enable();
            if self.in_flight() == 0 {
                return;
            }
            idle.await;
        }
    }

    pub(crate) fn key(&self) -> u64 {
        self.key
    }

    pub(crate) fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Acquire)
    }

    /// Counts an answer and the time to its head.
    pub fn count(&self, status: StatusCode, took: Duration) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let class = usize::from(status.as_u16() / 100).clamp(1, 5) - 1;
        self.status[class].fetch_add(1, Ordering::Relaxed);
        let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let bucket = LATENCY_BOUNDS_MS.partition_point(|&bound| bound < millis);
        self.latency[bucket].fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }

    pub(crate) fn count_bytes(&self, bytes: u64) {
        self.bytes_sent.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// A request or upgraded connection that is open on an instance.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<Instance>);

impl InFlight {
    pub(crate) fn begin(instance: &Arc<Instance>) -> Self {
        instance.in_flight.fetch_add(1, Ordering::AcqRel);
        Self(instance.clone())
    }

    pub(crate) fn instance(&self) -> &Arc<Instance> {
        &self.0
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if self.0.in_flight.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.idle.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn drained_waits_for_the_last_request() {
        let instance = Arc::new(Instance::new("a", ([127, 0, 0, 1], 1).into()));
        instance.drained().await;
        let (first, second) = (InFlight::begin(&instance), InFlight::begin(&instance));
        let waiting = tokio::spawn({
            let instance = instance.clone();
            async move { instance.drained().await }
        });
        drop(first);
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(!waiting.is_finished(), "one request is still open");
        drop(second);
        waiting.await.expect("drained");
    }

    #[test]
    fn latency_falls_into_the_bucket_whose_bound_it_does_not_exceed() {
        let instance = Instance::new("a", ([127, 0, 0, 1], 1).into());
        instance.count(StatusCode::OK, Duration::from_micros(400));
        instance.count(StatusCode::BAD_GATEWAY, Duration::from_millis(10));
        instance.count(StatusCode::OK, Duration::from_secs(60));
        let counters = instance.counters();
        assert_eq!(counters.requests, 3);
        assert_eq!(counters.status, [0, 2, 0, 0, 1]);
        assert_eq!((counters.latency[0], counters.latency[3], counters.latency[12]), (1, 1, 1));
    }
}
