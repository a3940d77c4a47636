//! Azure on the wire: resource IDs, wire types, credentials, and the client for Resource Manager,
//! Key Vault and SCM (Kudu). Used by the release process and by tests, against Azure and the region
//! alike. It knows nothing of the manifest and nothing of how a region is built.

pub mod id;

pub use id::{IdError, ResourceId};
