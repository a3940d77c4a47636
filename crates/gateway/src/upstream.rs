//! Connections to instances: HTTP/1.1, kept alive, one pool per reactor thread.
//!
//! A connection is driven by the task that uses it, not by one of its own: reading a response costs
//! no wake-up of another task and no channel. While it is idle nobody polls it; [`checkout`] looks at
//! the socket itself before a connection is used again.
//!
//! # When a request may be sent again
//!
//! An application server closes an idle connection whenever it likes (Uvicorn after a few seconds, a
//! Gunicorn worker when it is replaced), so a request can meet a connection that is being closed. No
//! client may see that, not even one that sent a `POST`. [`Failure`] says what is known:
//!
//! - [`Failure::Unsent`]: no byte of the request was written. Always sent again.
//! - [`Failure::Unread`]: the request was written, in one piece, no byte came back, and the peer's
//!   kernel answered with a reset. A kernel resets what arrives at a closed socket, or what lay unread
//!   in a socket's buffer when it was closed; an application that had read the request would have
//!   closed with FIN. So nobody has seen the request, and it is sent again, whatever its method.
//! - [`Failure::Unanswered`]: the request was written, no byte came back, and the connection was closed
//!   in order. The application may have acted on it. Only idempotent requests are sent again.
//! - [`Failure::Broken`]: anything else. Never sent again.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    future::Future,
    io,
    mem::MaybeUninit,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker, ready},
    time::{Duration, Instant},
};

use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::Sleep,
};

use crate::request_body::RequestBody;

/// Idle connections kept per instance and thread.
const IDLE_PER_INSTANCE: usize = 256;
/// An idle connection is closed after this long.
const IDLE_FOR: Duration = Duration::from_secs(60);
/// More than this is not certainly read in one piece by an application server.
const ONE_PIECE: u64 = 64 * 1024;
/// Bytes of a response's head.
const RESPONSE_HEAD: usize = 64 * 1024;
/// How long a reset may take to follow the FIN it belongs to. On loopback and on veth pairs it is
/// there before `write` returns; this allows for a busy machine.
const RESET_WITHIN: [Duration; 3] =
    [Duration::from_millis(1), Duration::from_millis(4), Duration::from_millis(15)];

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("nothing was sent: {0}")]
    Unsent(String),
    #[error("the instance closed the connection without reading the request")]
    Unread,
    #[error("the instance closed the connection without answering")]
    Unanswered,
    #[error("the connection failed in the middle: {0}")]
    Broken(String),
    #[error("no answer for {0:?}")]
    Silent(Duration),
}

/// What passed on a connection since the current request began.
#[derive(Default, Debug)]
struct Trace {
    written: AtomicU64,
    writes: AtomicU64,
    read: AtomicBool,
    reset: AtomicBool,
}

impl Trace {
    fn restart(&self) {
        self.written.store(0, Ordering::Relaxed);
        self.writes.store(0, Ordering::Relaxed);
        self.read.store(false, Ordering::Relaxed);
    }

    fn failure(&self, error: impl std::fmt::Display) -> Failure {
        let written = self.written.load(Ordering::Relaxed);
        let in_one_piece = self.writes.load(Ordering::Relaxed) == 1 && written <= ONE_PIECE;
        if self.read.load(Ordering::Relaxed) {
            Failure::Broken(error.to_string())
        } else if written == 0 {
            Failure::Unsent(error.to_string())
        } else if self.reset.load(Ordering::Relaxed) && in_one_piece {
            Failure::Unread
        } else {
            Failure::Unanswered
        }
    }
}

/// The socket of a connection to an instance.
struct Socket {
    tcp: TcpStream,
    trace: Arc<Trace>,
    /// At the end of the stream, while it is not known whether a reset follows.
    ending: Option<(usize, Pin<Box<Sleep>>)>,
}

impl Socket {
    fn note_error(&self, error: &io::Error) {
        if matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) {
            self.trace.reset.store(true, Ordering::Relaxed);
        }
    }

    fn was_reset(&self) -> bool {
        // After FIN a reset shows as the socket's pending error, not in `read`.
        if matches!(SockRef::from(&self.tcp).take_error(), Ok(Some(_))) {
            self.trace.reset.store(true, Ordering::Relaxed);
        }
        self.trace.reset.load(Ordering::Relaxed)
    }

    /// Whether the end of the stream may be reported: once it is known to be a reset, or certainly not.
    fn poll_ended(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let unanswered = self.trace.written.load(Ordering::Relaxed) > 0
            && !self.trace.read.load(Ordering::Relaxed);
        if !unanswered || self.was_reset() {
            return Poll::Ready(());
        }
        loop {
            let (step, sleep) = self
                .ending
                .get_or_insert_with(|| (0, Box::pin(tokio::time::sleep(RESET_WITHIN[0]))));
            ready!(sleep.as_mut().poll(cx));
            let next = *step + 1;
            if self.was_reset() || next == RESET_WITHIN.len() {
                return Poll::Ready(());
            }
            self.ending = Some((next, Box::pin(tokio::time::sleep(RESET_WITHIN[next]))));
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.ending.is_some() {
            ready!(self.poll_ended(cx));
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        match ready!(Pin::new(&mut self.tcp).poll_read(cx, buf)) {
            Ok(()) if buf.filled().len() > before => {
                self.trace.read.store(true, Ordering::Relaxed);
            }
            Ok(()) => ready!(self.poll_ended(cx)),
            Err(error) => {
                self.note_error(&error);
                return Poll::Ready(Err(error));
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl Socket {
    fn note_write(&self, result: &io::Result<usize>) {
        match result {
            Ok(n) => {
                self.trace.written.fetch_add(*n as u64, Ordering::Relaxed);
                self.trace.writes.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => self.note_error(error),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = ready!(Pin::new(&mut self.tcp).poll_write(cx, buf));
        self.note_write(&result);
        Poll::Ready(result)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = ready!(Pin::new(&mut self.tcp).poll_write_vectored(cx, bufs));
        self.note_write(&result);
        Poll::Ready(result)
    }
    fn is_write_vectored(&self) -> bool {
        true
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

type Connection = http1::Connection<TokioIo<Socket>, RequestBody>;

/// A connection to an instance.
pub(crate) struct Link {
    /// The instance's key.
    instance: u64,
    sender: SendRequest<RequestBody>,
    connection: Box<Connection>,
    trace: Arc<Trace>,
    /// A second handle of the socket, to look at it while hyper owns the first.
    probe: std::net::TcpStream,
    idle_since: Instant,
    /// Wakes whoever waits for an answer. It is armed once and looked at when it fires: setting it for
    /// every request would cost more than the rest of the waiting.
    alarm: Option<Pin<Box<Sleep>>>,
}

/// Connects to an instance.
pub(crate) async fn connect(
    instance: u64,
    addr: SocketAddr,
    within: Duration,
) -> Result<Link, Failure> {
    let unsent =
        |e: &dyn std::fmt::Display| Failure::Unsent(format!("cannot connect to {addr}: {e}"));
    let tcp = match tokio::time::timeout(within, TcpStream::connect(addr)).await {
        Ok(connected) => connected.map_err(|e| unsent(&e))?,
        Err(_) => return Err(unsent(&format_args!("no answer within {within:?}"))),
    };
    tcp.set_nodelay(true).map_err(|e| unsent(&e))?;
    let probe = SockRef::from(&tcp).try_clone().map_err(|e| unsent(&e))?.into();
    let trace = Arc::new(Trace::default());
    let socket = Socket { tcp, trace: trace.clone(), ending: None };
    let (sender, connection) = http1::Builder::new()
        .max_header_size(RESPONSE_HEAD)
        .handshake(TokioIo::new(socket))
        .await
        .map_err(|e| unsent(&e))?;
    Ok(Link {
        instance,
        sender,
        connection: Box::new(connection),
        trace,
        probe,
        idle_since: Instant::now(),
        alarm: None,
    })
}

/// Sends an upgrade request on a connection of its own, driven by a task until it ends or is upgraded.
pub(crate) async fn upgrade(
    addr: SocketAddr,
    within: Duration,
    silence: Duration,
    head: http::request::Parts,
) -> Result<Response<Incoming>, Failure> {
    let mut link = connect(u64::MAX, addr, within).await?;
    tokio::task::spawn_local(async move {
        if let Err(error) = link.connection.with_upgrades().await {
            tracing::debug!(%error, "a connection for an upgrade failed");
        }
    });
    let request = Request::from_parts(head, RequestBody::none());
    match tokio::time::timeout(silence, link.sender.send_request(request)).await {
        Ok(response) => response.map_err(|error| link.trace.failure(error)),
        Err(_) => Err(Failure::Silent(silence)),
    }
}

impl Link {
    /// Sends `request` and waits for the response's head. `silence` bounds how long neither side may
    /// send anything; `last` is when the client last sent a part of the request's body.
    pub(crate) async fn send(
        &mut self,
        request: Request<RequestBody>,
        silence: Duration,
        last: &Cell<Instant>,
    ) -> Result<Response<Incoming>, Failure> {
        self.trace.restart();
        let response = self.sender.try_send_request(request);
        tokio::pin!(response);
        let mut ended = None;
        let alarm = &mut self.alarm;
        let due = tokio::time::Instant::from(last.get() + silence);
        if let Some(alarm) = alarm
            && alarm.deadline() > due
        {
            alarm.as_mut().reset(due);
        }
        std::future::poll_fn(|cx| {
            if ended.is_none()
                && let Poll::Ready(result) = Pin::new(&mut *self.connection).poll(cx)
            {
                ended = Some(result);
            }
            if let Poll::Ready(result) = response.as_mut().poll(cx) {
                return Poll::Ready(result.map_err(|e| self.trace.failure(e.error())));
            }
            if let Some(result) = ended.take() {
                let error =
                    result.err().map_or_else(|| "it was closed".to_owned(), |e| e.to_string());
                return Poll::Ready(Err(self.trace.failure(error)));
            }
            loop {
                let timer = alarm.get_or_insert_with(|| {
                    Box::pin(tokio::time::sleep_until((last.get() + silence).into()))
                });
                ready!(timer.as_mut().poll(cx));
                let until = last.get() + silence;
                if until <= Instant::now() {
                    return Poll::Ready(Err(Failure::Silent(silence)));
                }
                timer.as_mut().reset(until.into());
            }
        })
        .await
    }

    /// Moves bytes. A body that was read from this connection ends only while this is called.
    pub(crate) fn poll_drive(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        Pin::new(&mut *self.connection).poll(cx)
    }

    /// Puts the connection back, if it can serve another request.
    pub(crate) fn release(mut self) {
        // Lets hyper notice that both messages are over. Nobody needs to be woken: an idle connection
        // is looked at by `checkout` alone.
        let mut cx = Context::from_waker(Waker::noop());
        if self.poll_drive(&mut cx).is_ready() || !self.sender.is_ready() {
            return;
        }
        self.idle_since = Instant::now();
        IDLE.with_borrow_mut(|idle| {
            let links = idle.entry(self.instance).or_default();
            if links.len() < IDLE_PER_INSTANCE {
                links.push(self);
            }
        });
    }

    /// Whether the peer has neither closed the connection nor sent anything unasked. Asks the kernel,
    /// as the reactor may not have heard yet.
    fn is_alive(&self) -> bool {
        let mut byte = [MaybeUninit::uninit()];
        matches!(
            SockRef::from(&self.probe).peek(&mut byte),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock
        )
    }
}

thread_local! {
    /// The idle connections of this reactor, by instance. Thread-local, so that taking one is neither
    /// a lock nor an atomic operation; the most recently used is taken first, so that a pool that has
    /// become too large shrinks.
    static IDLE: RefCell<HashMap<u64, Vec<Link>>> = RefCell::default();
}

/// An idle connection to the instance, if there is one that still lives.
pub(crate) fn checkout(instance: u64) -> Option<Link> {
    IDLE.with_borrow_mut(|idle| {
        let links = idle.get_mut(&instance)?;
        while let Some(link) = links.pop() {
            if link.is_alive() {
                return Some(link);
            }
        }
        None
    })
}

/// Closes what has been idle for too long or was closed by the peer. Called now and then by each
/// reactor.
pub(crate) fn sweep() {
    IDLE.with_borrow_mut(|idle| {
        idle.retain(|_, links| {
            links.retain(|link| link.idle_since.elapsed() < IDLE_FOR && link.is_alive());
            !links.is_empty()
        });
    });
}
