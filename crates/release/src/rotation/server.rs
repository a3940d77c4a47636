//! The credentials' other side: the database server and the cache.

use lazuli_azure::{Error, Secret, scram};
use lazuli_standard::manifest::Cache;
use serde_json::{Value, json};

use super::family::Connection;
use super::{Rotation, trouble};
use crate::cloud::{Place, Trouble};
use crate::event;
use crate::provision::secrets::{in_url, password};

const POSTGRES_API: &str = "2024-08-01";
const REDIS_API: &str = "2024-11-01";
const REDIS_ENTERPRISE_API: &str = "2025-04-01";
/// The WebJob.
const JOB: &str = "rotate";

/// One of the cache's two keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CacheKey {
    Primary,
    Secondary,
}

impl CacheKey {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Primary => "Primary",
            Self::Secondary => "Secondary",
        }
    }

    pub(super) fn of(name: Option<&str>) -> Self {
        // What `provision` writes is the primary key, without saying so.
        match name {
            Some(name) if name.eq_ignore_ascii_case("secondary") => Self::Secondary,
            _ => Self::Primary,
        }
    }

    pub(super) fn other(self) -> Self {
        match self {
            Self::Primary => Self::Secondary,
            Self::Secondary => Self::Primary,
        }
    }
}

impl Rotation<'_> {
    fn group(&self) -> String {
        format!(
            "/subscriptions/{}/resourceGroups/{}",
            self.subscription, self.blueprint.resource_group
        )
    }

    /// A login of this name with a new password, and the URL to connect with.
    pub(super) async fn new_login(
        &self,
        connection: &Connection,
        login: &str,
        step: &event::Step,
    ) -> Result<Secret, Trouble> {
        let password = password().map_err(|error| trouble(error.to_string()))?;
        let verifier = scram::verifier(password.expose()).map_err(trouble)?;
        let verifier = base64::Engine::encode(
            &base64::engine::general_purpose::URL_SAFE_NO_PAD,
            verifier.as_bytes(),
        );
        let arguments = format!("login {login} {} {verifier}", connection.database);
        self.job(&arguments, &format!("login {login}"), step).await?;
        Ok(Secret::new(self.database_url(connection, login, &password)))
    }

    pub(super) fn database_url(
        &self,
        connection: &Connection,
        login: &str,
        password: &Secret,
    ) -> String {
        format!(
            "postgresql+asyncpg://{}:{}@{}:{}/{}?ssl=require",
            in_url(login),
            in_url(password.expose()),
            self.blueprint.postgres.host(),
            connection.port,
            connection.database
        )
    }

    /// Runs the WebJob on production, whose network reaches the server.
    pub(super) async fn job(
        &self,
        arguments: &str,
        what: &str,
        step: &event::Step,
    ) -> Result<(), Trouble> {
        step.message(format!("{what}: a job on {}", self.cloud.host(Place::Production)));
        self.cloud
            .run_job(Place::Production, JOB, arguments, step, |_| {})
            .await
            .map(|_| ())
            .map_err(|mut error| {
                if error.what.contains("404") {
                    error.what = format!(
                        "the version in production brings no WebJob `{JOB}` with it, which makes the \
                         database's logins: {}",
                        error.what
                    );
                }
                // The argument that is a verifier is nobody's to read.
                error.what = error.what.replace(arguments, what);
                error
            })
    }

    /// Sets the administrator's password.
    pub(super) async fn set_administrator(&self, password: &Secret) -> Result<(), Error> {
        let server = format!(
            "{}/providers/Microsoft.DBforPostgreSQL/flexibleServers/{}",
            self.group(),
            self.blueprint.postgres.name
        );
        let change = json!({"properties": {"administratorLoginPassword": password.expose()}});
        self.cloud.client().patch(server, POSTGRES_API, &change).await?;
        Ok(())
    }

    fn cache(&self) -> (String, &'static str) {
        let (group, name) = (self.group(), &self.blueprint.cache.name);
        if self.blueprint.cache.kind == Cache::Managed {
            let id = format!(
                "{group}/providers/Microsoft.Cache/redisEnterprise/{name}/databases/default"
            );
            (id, REDIS_ENTERPRISE_API)
        } else {
            (format!("{group}/providers/Microsoft.Cache/redis/{name}"), REDIS_API)
        }
    }

    /// Makes one of the cache's keys anew: the old one stops working at once.
    pub(super) async fn regenerate(&self, key: CacheKey) -> Result<(), Error> {
        let (id, api) = self.cache();
        let body = json!({"keyType": key.name()});
        self.cloud.client().post(format!("{id}/regenerateKey"), api, Some(&body)).await?;
        Ok(())
    }

    /// The URL to connect with one of the keys.
    pub(super) async fn cache_url(&self, key: CacheKey) -> Result<Secret, Trouble> {
        let (id, api) = self.cache();
        let keys = self.cloud.client().post(format!("{id}/listKeys"), api, None).await?;
        let name = format!("{}Key", key.name().to_ascii_lowercase());
        let value = keys.get(&name).and_then(Value::as_str);
        let value = value.ok_or_else(|| trouble(format!("the cache's listKeys has no {name}")))?;
        let cache = &self.blueprint.cache;
        let host = cache.host(&self.blueprint.location);
        Ok(Secret::new(format!("rediss://:{}@{host}:{}/0", in_url(value), cache.port)))
    }

    pub(super) fn vault_id(&self) -> String {
        format!(
            "{}/providers/Microsoft.KeyVault/vaults/{}",
            self.group(),
            self.blueprint.vault.name
        )
    }
}

#[cfg(test)]
mod tests {
    use super::CacheKey;

    #[test]
    fn the_keys_take_turns_beginning_with_the_one_that_provision_wrote() {
        assert_eq!(CacheKey::of(None).other(), CacheKey::Secondary);
        assert_eq!(CacheKey::of(Some("Secondary")).other(), CacheKey::Primary);
        assert_eq!(CacheKey::of(Some("Primary")).other(), CacheKey::Secondary);
    }
}
