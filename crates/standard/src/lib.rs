//! The deployment standard as typed data, the manifest (`lazuli.yaml`), and the pure function
//! manifest → blueprint: a typed graph of Azure resources per environment.
//! It does no I/O and knows nothing of the region or of the release process.

pub mod blueprint;
pub mod cost;
pub mod data;
pub mod environment;
pub mod manifest;
pub mod parity;
pub mod reachability;
pub mod template;
pub mod webjob;

pub use blueprint::Blueprint;
pub use environment::Environment;
pub use manifest::{Manifest, ManifestErrors};
