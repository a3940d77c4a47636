//! What core finds when it starts.

use crate::{Error, Host};

/// What edge and init hand to core.
#[derive(Debug)]
pub struct Inherited {
    /// The loopback listeners of the machine's network, in the order of
    /// [`crate::edge::Config::listeners`]; non-blocking.
    pub listeners: Vec<std::net::TcpListener>,
    /// The machine.
    pub host: Host,
    /// To be used once core serves.
    pub ready: ReadyPipe,
}

/// Tells edge, and through it whoever started the region, that core serves or why it cannot.
#[derive(Debug)]
pub struct ReadyPipe {}

impl ReadyPipe {
    /// Core serves.
    pub fn ready(self) {
        todo!()
    }

    /// Core cannot start, for this reason: the starter reports it and edge does not try again.
    pub fn failed(self, _reason: &str) {
        todo!()
    }
}

/// Takes what edge and init handed over. Called once, before the async runtime starts.
pub fn inherit() -> Result<Inherited, Error> {
    todo!()
}
