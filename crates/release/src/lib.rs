//! The release process: package, migrate, staging slot, smoke test, swap, verify, rollback, with a
//! write-ahead journal of idempotent steps. It speaks Azure's public API only and knows nothing of
//! the region.

pub mod cloud;
pub mod event;
pub mod journal;
pub mod lock;
pub mod package;
pub mod provision;
pub mod release;
pub mod rotation;
