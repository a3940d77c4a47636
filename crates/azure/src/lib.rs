//! Azure on the wire: resource IDs, wire types, credentials, and the client for Resource Manager,
//! Key Vault and SCM (Kudu). Used by the release process and by tests, against Azure and the region
//! alike. It knows nothing of the manifest and nothing of how a region is built.

mod arm;
pub mod browser;
mod client;
mod connection;
mod credential;
pub mod entra;
mod error;
pub mod id;
mod logs;
mod operation;
mod retry;
pub mod scm;
pub mod scram;
mod secret;
#[cfg(feature = "testing")]
pub mod testing;
mod vault;

pub use client::{Client, Condition, Endpoints};
pub use connection::Connection;
pub use credential::{Credential, Token, TokenSource};
pub use error::{Error, Refusal};
pub use id::{IdError, ResourceId};
pub use retry::{RetryPolicy, look_again};
pub use scm::Scm;
pub use secret::Secret;
pub use vault::{SecretVersion, Vault, VaultSecret};
