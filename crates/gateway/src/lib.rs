//! The region's front: the one loopback listener, its certificate authority, routing by host name,
//! and the front end that App Service puts before a site.
//!
//! It routes by an immutable [`Table`] that somebody else publishes; it knows nothing of Resource
//! Manager, of processes or of what a site runs.

#![forbid(unsafe_code)]

mod authority;
mod body;
mod gateway;
mod instance;
mod site;
mod table;

pub use authority::{Authority, AuthorityError, IssuedPem, Secret};
pub use body::{Body, BoxError, empty, full};
pub use gateway::{Dialer, Gateway, Limits, Options, Origin, Peer, Service};
pub use instance::{Counters, Instance, LATENCY_BOUNDS_MS};
pub use site::{Pool, RampUp, Site, SiteState, TlsVersion};
pub use table::{Table, Target};
