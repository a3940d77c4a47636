//! The local region: Azure's resources as desired state in one durable store, and the controllers
//! that drive real processes towards it. It knows nothing of the manifest or of the release process:
//! clients meet it on the wire. Start-up is recovery; there is no other kind.

pub mod appservice;
pub mod certificate;
pub mod control;
pub mod core;
pub mod directory;
pub mod http;
pub mod identity;
pub mod monitor;
pub mod names;
pub mod postgres;
mod quiet;
pub mod redis;
pub mod reseal;
pub mod seal;
mod service;
pub mod staticweb;
pub mod storage;
pub mod store;
pub mod tenancy;
pub mod vault;
