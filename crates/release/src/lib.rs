//! The release process: package, migrate, staging slot, smoke test, swap, verify, rollback, with a
//! write-ahead journal of idempotent steps. It speaks Azure's public API only and knows nothing of
//! the region.

pub mod cloud;
pub mod event;
pub mod gates;
mod hold;
pub mod journal;
pub mod lease;
pub mod lock;
pub mod metrics;
pub mod notify;
pub mod package;
pub mod provision;
pub mod release;
pub mod rotation;
mod sbom;
pub mod story;
pub mod watch;
