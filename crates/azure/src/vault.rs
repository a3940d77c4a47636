//! Key Vault's data plane: secrets.
//! <https://learn.microsoft.com/rest/api/keyvault/secrets/operation-groups>

use http::Method;
use serde::Deserialize;
use serde_json::json;

use crate::client::{Client, Request, VAULT_SCOPE, encode};
use crate::{Error, Secret};

const API: &str = "7.4";

/// A vault.
#[derive(Clone, Debug)]
pub struct Vault {
    client: Client,
    url: String,
}

/// A secret as the vault returns it.
#[derive(Clone, Debug)]
pub struct VaultSecret {
    /// Its identifier, with the version.
    pub id: String,
    /// Its value.
    pub value: Secret,
}

#[derive(Deserialize)]
struct Bundle {
    id: String,
    value: String,
}

impl Vault {
    pub(crate) fn new(client: Client, url: String) -> Self {
        Self { client, url }
    }

    /// The current version of a secret.
    pub async fn get_secret(&self, name: &str) -> Result<VaultSecret, Error> {
        self.bundle(&self.request(Method::GET, name)).await
    }

    /// A new version of a secret.
    pub async fn set_secret(&self, name: &str, value: &Secret) -> Result<VaultSecret, Error> {
        self.bundle(&self.request(Method::PUT, name).json(&json!({"value": value.expose()}))).await
    }

    fn request(&self, method: Method, name: &str) -> Request {
        let url = format!("{}/secrets/{}?api-version={API}", self.url, encode(name));
        Request::new(method, url, VAULT_SCOPE)
    }

    async fn bundle(&self, request: &Request) -> Result<VaultSecret, Error> {
        let bundle: Bundle = self.client.send(request).await?.parse()?;
        Ok(VaultSecret { id: bundle.id, value: Secret::new(bundle.value) })
    }
}
