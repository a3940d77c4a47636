//! Key Vault's data plane: secrets.
//! <https://learn.microsoft.com/rest/api/keyvault/secrets/operation-groups>

use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::client::{Client, Request, VAULT_SCOPE, encode};
use crate::{Error, Secret};

const API: &str = "7.4";
/// Pages of one list; a guard against a `nextLink` that leads in a circle.
const PAGES: usize = 1000;

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

/// A version of a secret, without its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretVersion {
    /// The version's name, 32 hexadecimal digits.
    pub version: String,
    /// Whether it may be read.
    pub enabled: bool,
}

#[derive(Deserialize)]
struct Bundle {
    id: String,
    value: String,
}

#[derive(Deserialize)]
struct Item {
    id: String,
    attributes: Attributes,
}

#[derive(Deserialize)]
struct Attributes {
    enabled: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    value: Vec<Item>,
    next_link: Option<String>,
}

impl Vault {
    pub(crate) fn new(client: Client, url: String) -> Self {
        Self { client, url }
    }

    /// The current version of a secret.
    pub async fn get_secret(&self, name: &str) -> Result<VaultSecret, Error> {
        self.bundle(&self.request(Method::GET, &encode(name))).await
    }

    /// One version of a secret.
    pub async fn get_version(&self, name: &str, version: &str) -> Result<VaultSecret, Error> {
        let path = format!("{}/{}", encode(name), encode(version));
        self.bundle(&self.request(Method::GET, &path)).await
    }

    /// A new version of a secret.
    pub async fn set_secret(&self, name: &str, value: &Secret) -> Result<VaultSecret, Error> {
        let request = self.request(Method::PUT, &encode(name));
        self.bundle(&request.json(&json!({"value": value.expose()}))).await
    }

    /// Every version of a secret, over all pages.
    pub async fn versions(&self, name: &str) -> Result<Vec<SecretVersion>, Error> {
        let mut request = self.request(Method::GET, &format!("{}/versions", encode(name)));
        let mut found = Vec::new();
        for _ in 0..PAGES {
            let page: Page = self.client.send(&request).await?.parse()?;
            found.extend(page.value.into_iter().map(|item| SecretVersion {
                version: item.id.rsplit('/').next().unwrap_or_default().to_owned(),
                enabled: item.attributes.enabled,
            }));
            let Some(next) = page.next_link.filter(|next| !next.is_empty()) else {
                return Ok(found);
            };
            // The token goes to the vault alone; hosts are spelt in any case.
            // Azure writes the default port into it.
            let next = next.replacen(":443/", "/", 1);
            let prefix = format!("{}/", self.url);
            if !next.get(..prefix.len()).is_some_and(|p| p.eq_ignore_ascii_case(&prefix)) {
                let what = "its nextLink points to another host".to_owned();
                return Err(Error::Unexpected { url: request.place(), what });
            }
            request = Request::new(Method::GET, next, VAULT_SCOPE);
        }
        Err(Error::Unexpected { url: request.place(), what: format!("more than {PAGES} pages") })
    }

    /// Enables or disables a version.
    pub async fn enable_version(
        &self,
        name: &str,
        version: &str,
        enabled: bool,
    ) -> Result<(), Error> {
        let path = format!("{}/{}", encode(name), encode(version));
        let change = json!({ "attributes": { "enabled": enabled } });
        let _: Value =
            self.client.send(&self.request(Method::PATCH, &path).json(&change)).await?.parse()?;
        Ok(())
    }

    fn request(&self, method: Method, path: &str) -> Request {
        let url = format!("{}/secrets/{path}?api-version={API}", self.url);
        Request::new(method, url, VAULT_SCOPE)
    }

    async fn bundle(&self, request: &Request) -> Result<VaultSecret, Error> {
        let bundle: Bundle = self.client.send(request).await?.parse()?;
        Ok(VaultSecret { id: bundle.id, value: Secret::new(bundle.value) })
    }
}
