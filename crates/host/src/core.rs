//! What core finds when it starts.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;

use nix::sys::resource::{Resource, setrlimit};

use crate::init::{self, Readiness};
use crate::{Error, Host, sys};

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
pub struct ReadyPipe(OwnedFd);

impl ReadyPipe {
    /// Core serves.
    pub fn ready(self) {
        tell(self.0, &Readiness::Ready);
    }

    /// Core cannot start, for this reason: the starter reports it and edge does not try again.
    pub fn failed(self, reason: &str) {
        tell(self.0, &Readiness::Failed(reason.to_owned()));
    }
}

/// Edge may be gone already; then nobody wants to know.
pub(crate) fn tell(pipe: OwnedFd, readiness: &Readiness) {
    if let Ok(line) = serde_json::to_vec(readiness) {
        let _ = File::from(pipe).write_all(&line);
    }
}

/// Takes what edge and init handed over and sets the region's network up. Called once, before the
/// async runtime starts.
///
/// On an error the starter has been told.
pub fn inherit() -> Result<Inherited, Error> {
    // Core holds secrets in memory, and so does what it starts: neither leaves them in a core dump.
    setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(|e| Error::io("forbid core dumps", e))?;
    let listeners = std::env::var(init::LISTENERS_VARIABLE).ok().and_then(|n| n.parse().ok());
    let listeners: usize = listeners.ok_or(Error::NotCore)?;
    let link = sys::inherited(init::LINK).map_err(|_| Error::NotCore)?;
    let ready = ReadyPipe(sys::inherited(init::READY).map_err(|_| Error::NotCore)?);
    let take = || -> Result<(Vec<std::net::TcpListener>, Host), Error> {
        let mut taken = Vec::with_capacity(listeners);
        for number in (0..listeners).filter_map(init::listener_number) {
            let listener = sys::inherited(number)
                .map(std::net::TcpListener::from)
                .map_err(|e| Error::io("take the inherited listeners", e))?;
            listener
                .set_nonblocking(true)
                .map_err(|e| Error::io("take the inherited listeners", e))?;
            taken.push(listener);
        }
        Ok((taken, Host::start(link)?))
    };
    match take() {
        Ok((listeners, host)) => Ok(Inherited { listeners, host, ready }),
        Err(error) => {
            ready.failed(&error.to_string());
            Err(error)
        }
    }
}
