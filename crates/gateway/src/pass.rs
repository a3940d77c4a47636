//! What a service passes on to a site: a static site's `/api`, which is its linked back end's.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body::{Body as _, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use crate::{BoxError, response_body::ResponseBody};

/// Where a service has a request go instead of answering it, and how.
#[derive(Clone, Debug)]
pub struct Pass {
    /// The site's host name in the table.
    pub host: Arc<str>,
    /// The host name of who passes it on: a site that is linked to it lets the request in.
    pub from: Arc<str>,
    /// Fields that replace the client's of the same name. An empty value takes the client's out.
    pub headers: HeaderMap,
    /// How long the whole exchange may take.
    pub within: Duration,
    /// What the client is told when there is no such site, or when it took too long.
    pub failure: (StatusCode, &'static str),
}

/// A body that must have been sent by a certain time.
pub(crate) struct Timed {
    body: ResponseBody,
    until: Pin<Box<Sleep>>,
}

impl Timed {
    pub(crate) fn new(body: ResponseBody, until: Instant) -> Self {
        Self { body, until: Box::pin(tokio::time::sleep_until(until)) }
    }

    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            return Poll::Ready(frame);
        }
        match self.until.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Some(Err("the exchange took too long".into()))),
            Poll::Pending => Poll::Pending,
        }
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
