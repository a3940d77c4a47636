//! A response's body on its way to a client.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use crate::{Body, BoxError, instance::InFlight, pass::Timed, upstream::Link};

/// What the gateway answers with.
pub(crate) enum ResponseBody {
    Whole(Option<Bytes>),
    Service(Body),
    Instance(Box<InstanceBody>),
    /// Of a connection that a task of its own drives.
    Spawned {
        body: Incoming,
        _in_flight: InFlight,
    },
    /// Of a host that is not the region's.
    Forwarded(Incoming),
    /// Of an exchange that must be over by a certain time.
    Timed(Box<Timed>),
}

impl ResponseBody {
    pub(crate) fn empty() -> Self {
        Self::Whole(None)
    }

    pub(crate) fn text(text: impl Into<Bytes>) -> Self {
        Self::Whole(Some(text.into()))
    }
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut *self {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Service(body) => Pin::new(body).poll_frame(cx),
            Self::Instance(body) => body.poll(cx),
            Self::Timed(body) => body.poll(cx),
            Self::Spawned { body, .. } | Self::Forwarded(body) => {
                Pin::new(body).poll_frame(cx).map_err(Into::into)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Self::Service(body) => body.is_end_stream(),
            Self::Instance(body) => body.incoming.is_end_stream(),
            Self::Timed(body) => body.is_end_stream(),
            Self::Spawned { body, .. } | Self::Forwarded(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Self::Service(body) => body.size_hint(),
            Self::Instance(body) => body.incoming.size_hint(),
            Self::Timed(body) => body.size_hint(),
            Self::Spawned { body, .. } | Self::Forwarded(body) => body.size_hint(),
        }
    }
}

/// A body that an instance sends. Dropped at its end it returns the connection to the pool; dropped
/// before, it closes the connection, as the rest of the body would otherwise precede the next response.
pub(crate) struct InstanceBody {
    incoming: Incoming,
    link: Option<Link>,
    in_flight: InFlight,
    silence: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    /// The timer runs: the instance has sent nothing since it was set.
    waiting: bool,
    /// All of it was read.
    ended: bool,
    bytes: u64,
}

impl InstanceBody {
    pub(crate) fn new(
        incoming: Incoming,
        link: Link,
        in_flight: InFlight,
        silence: Duration,
    ) -> Self {
        Self {
            incoming,
            link: Some(link),
            in_flight,
            silence,
            timer: None,
            waiting: false,
            ended: false,
            bytes: 0,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        // Asking for a frame first is what makes the connection read one.
        let mut frame = Pin::new(&mut self.incoming).poll_frame(cx);
        if frame.is_pending()
            && let Some(link) = &mut self.link
        {
            let driven = link.poll_drive(cx);
            frame = Pin::new(&mut self.incoming).poll_frame(cx);
            if driven.is_ready() {
                self.link = None;
                if frame.is_pending() {
                    return Poll::Ready(Some(Err("the instance closed the connection".into())));
                }
            }
        }
        match frame {
            Poll::Ready(Some(Ok(frame))) => {
                self.waiting = false;
                if let Some(data) = frame.data_ref() {
                    self.bytes += data.len() as u64;
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error.into()))),
            Poll::Ready(None) => {
                self.ended = true;
                Poll::Ready(None)
            }
            Poll::Pending => {
                let until = Instant::now() + self.silence;
                let timer = match &mut self.timer {
                    None => self.timer.insert(Box::pin(tokio::time::sleep_until(until))),
                    Some(timer) => {
                        if !self.waiting {
                            timer.as_mut().reset(until);
                        }
                        timer
                    }
                };
                self.waiting = true;
                match timer.as_mut().poll(cx) {
                    Poll::Pending => Poll::Pending,
                    Poll::Ready(()) => {
                        Poll::Ready(Some(Err("the instance sent nothing for too long".into())))
                    }
                }
            }
        }
    }
}

impl Drop for InstanceBody {
    fn drop(&mut self) {
        self.in_flight.instance().count_bytes(self.bytes);
        if (self.ended || self.incoming.is_end_stream())
            && let Some(link) = self.link.take()
        {
            link.release();
        }
    }
}
