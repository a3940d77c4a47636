//! A request's body on its way to an instance: streamed, and its beginning kept so that it can be
//! sent again when an instance turns out not to have read it.

use std::{
    cell::{Cell, RefCell},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Instant,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::BoxError;

/// How much of a body is kept for sending again. The same as what counts as sent in one piece.
const KEPT: usize = 64 * 1024;

/// A client's request body, from which [`RequestBody`]s are made, one an attempt.
pub(crate) struct Source(Option<Rc<Shared>>);

struct Shared {
    incoming: RefCell<Incoming>,
    size: SizeHint,
    state: RefCell<State>,
    /// When the client last sent something.
    last: Rc<Cell<Instant>>,
}

#[derive(Default)]
struct State {
    kept: Vec<Bytes>,
    kept_bytes: usize,
    /// Something is gone that was not kept.
    lost: bool,
    ended: bool,
    /// Which attempt may read; an earlier one must not take frames from a later one.
    attempt: usize,
}

impl Source {
    pub(crate) fn new(incoming: Incoming, last: Rc<Cell<Instant>>) -> Self {
        if incoming.is_end_stream() {
            return Self(None);
        }
        let size = incoming.size_hint();
        let state = RefCell::default();
        Self(Some(Rc::new(Shared { incoming: RefCell::new(incoming), size, state, last })))
    }

    /// The body for one more attempt; `None` when its beginning is no longer there.
    pub(crate) fn attempt(&self) -> Option<RequestBody> {
        let Some(shared) = &self.0 else { return Some(RequestBody(None)) };
        let mut state = shared.state.borrow_mut();
        if state.lost {
            return None;
        }
        state.attempt += 1;
        Some(RequestBody(Some(Attempt {
            shared: shared.clone(),
            number: state.attempt,
            position: 0,
        })))
    }
}

/// The body of one attempt.
pub(crate) struct RequestBody(Option<Attempt>);

struct Attempt {
    shared: Rc<Shared>,
    number: usize,
    position: usize,
}

impl RequestBody {
    pub(crate) fn none() -> Self {
        Self(None)
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Some(this) = &mut self.0 else { return Poll::Ready(None) };
        let mut state = this.shared.state.borrow_mut();
        if state.attempt != this.number {
            return Poll::Ready(Some(Err("a later attempt reads this body".into())));
        }
        if let Some(bytes) = state.kept.get(this.position) {
            this.position += 1;
            return Poll::Ready(Some(Ok(Frame::data(bytes.clone()))));
        }
        if state.ended {
            return Poll::Ready(None);
        }
        let frame = ready!(Pin::new(&mut *this.shared.incoming.borrow_mut()).poll_frame(cx));
        this.shared.last.set(Instant::now());
        match frame {
            None => {
                state.ended = true;
                Poll::Ready(None)
            }
            Some(Err(error)) => {
                state.lost = true;
                Poll::Ready(Some(Err(error.into())))
            }
            Some(Ok(frame)) => {
                match frame.data_ref() {
                    Some(bytes) if !state.lost && state.kept_bytes + bytes.len() <= KEPT => {
                        state.kept_bytes += bytes.len();
                        state.kept.push(bytes.clone());
                        this.position += 1;
                    }
                    _ => {
                        state.lost = true;
                        state.kept = Vec::new();
                        this.position = 0;
                    }
                }
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let Some(this) = &self.0 else { return true };
        let state = this.shared.state.borrow();
        this.position >= state.kept.len()
            && (state.ended || this.shared.incoming.borrow().is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            None => SizeHint::with_exact(0),
            // Of the whole body: hyper asks before it reads, on every attempt.
            Some(this) if this.position == 0 => this.shared.size,
            Some(_) => SizeHint::default(),
        }
    }
}
