//! The region's front: the one loopback listener, its certificate authority, routing by host name,
//! and the front end that App Service puts before a site.
//!
//! It routes by an immutable [`Table`] that somebody else publishes; it knows nothing of Resource
//! Manager, of processes or of what a site runs. No lock is taken on the way of a request, and no body
//! is buffered.
//!
//! ```text
//! gateway     the public face: listeners, the table, draining
//! reactor     the threads; accepting
//! serve       one connection: what it speaks, TLS, HTTP, whom a request is for
//! front       one request to a site: who may ask, redirect, slot, instance, attempts
//! access      where requests to a site may come from
//! cors        what a site allows other origins
//! pass        what a service passes on to a site
//! upstream    connections to instances; when a request may be sent again
//! tunnel      CONNECT and WebSockets once they are open
//! ```

#![forbid(unsafe_code)]

mod access;
mod asked;
mod authority;
mod body;
mod certificate;
mod cors;
mod front;
mod gateway;
mod headers;
mod instance;
mod io;
mod names;
mod pages;
mod pass;
mod reactor;
mod request_body;
mod response_body;
mod serve;
mod site;
mod table;
mod tls;
mod tunnel;
mod upstream;

pub use access::{Access, Network, Rule, Source};
pub use authority::{Authority, AuthorityError, IssuedPem, Secret};
pub use body::{Body, BoxError, empty, full};
pub use certificate::Certificate;
pub use cors::Cors;
pub use gateway::{Dialer, Gateway, Limits, Options, Origin, Peer, Service};
pub use instance::{Counters, Instance, LATENCY_BOUNDS_MS};
pub use names::is_azure;
pub use pass::Pass;
pub use site::{Auth, Pool, RampUp, Site, SiteState, TlsVersion, Unauthenticated};
pub use table::{Table, Target};
