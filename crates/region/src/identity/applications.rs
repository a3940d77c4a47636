//! Applications and their secrets: who besides the deployer can sign in with client credentials.
//!
//! An application is registered, gets secrets, and becomes able to sign in and to be given roles when it
//! has a service principal (<https://learn.microsoft.com/entra/identity-platform/app-objects-and-service-principals>).
//! A secret is random and long, so its SHA-256 digest is all that is kept of it.

use aws_lc_rs::{constant_time, digest};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::federation::Trust;
use super::{
    Identity, IdentityError, NAMESPACE, PrincipalRecord, app_key, principal_key, to_json, token,
};
use crate::store::Batch;

/// How long a secret is valid unless it says otherwise: two years, as on Azure.
const SECRET_LIFETIME: SignedDuration = SignedDuration::from_hours(2 * 365 * 24);
/// The most secrets of an application, and the most applications.
const MAX_SECRETS: usize = 50;
const MAX_APPLICATIONS: usize = 5_000;

/// An application.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Application {
    /// Its object ID, which is not its service principal's.
    pub id: String,
    /// Its client ID.
    pub app_id: String,
    pub display_name: String,
    pub created: Timestamp,
    pub secrets: Vec<Secret>,
    /// Whose tokens stand for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub federated: Vec<Federated>,
}

/// A federated identity credential
/// (<https://learn.microsoft.com/graph/api/resources/federatedidentitycredential>).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Federated {
    pub id: String,
    pub name: String,
    #[serde(default)]
    pub description: Option<String>,
    #[serde(flatten)]
    pub trust: Trust,
}

impl Application {
    /// What it trusts.
    pub(super) fn trusts(&self) -> Vec<Trust> {
        self.federated.iter().map(|one| one.trust.clone()).collect()
    }
}

/// A client secret, without its text.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Secret {
    pub key_id: String,
    pub display_name: Option<String>,
    /// The first three characters.
    pub hint: String,
    pub start: Timestamp,
    pub end: Timestamp,
    /// SHA-256, base64.
    digest: String,
}

/// Whether a secret is one of an application's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presented {
    Right,
    Wrong,
    Expired,
}

/// A service principal, as the directory shows it.
#[derive(Clone, Debug)]
pub(super) struct ServicePrincipal {
    pub id: String,
    pub app_id: String,
    pub display_name: String,
    /// The resource whose managed identity it is.
    pub resource: Option<String>,
}

impl Identity {
    /// Every application, ordered by object ID.
    pub(super) fn applications(&self) -> Vec<Application> {
        let all = self.store.list_state(NAMESPACE, "application/");
        all.iter().filter_map(|(_, bytes)| serde_json::from_slice(bytes).ok()).collect()
    }

    /// The application of that object ID or client ID.
    pub(super) fn registered(&self, id: &str) -> Option<Application> {
        self.applications()
            .into_iter()
            .find(|one| one.id.eq_ignore_ascii_case(id) || one.app_id.eq_ignore_ascii_case(id))
    }

    /// Every service principal.
    pub(super) fn principals(&self) -> Vec<ServicePrincipal> {
        let all = self.store.list_state(NAMESPACE, "principal/");
        all.iter()
            .filter_map(|(key, bytes)| {
                let record: PrincipalRecord = serde_json::from_slice(bytes).ok()?;
                if record.user {
                    return None;
                }
                Some(ServicePrincipal {
                    id: key.strip_prefix("principal/")?.to_owned(),
                    app_id: record.client_id,
                    display_name: record.display_name,
                    resource: record.resource,
                })
            })
            .collect()
    }

    /// Registers an application. None when there are too many.
    pub(super) async fn register(
        &self,
        display_name: &str,
    ) -> Result<Option<Application>, IdentityError> {
        if self.applications().len() >= MAX_APPLICATIONS {
            return Ok(None);
        }
        let application = Application {
            id: Uuid::new_v4().to_string(),
            app_id: Uuid::new_v4().to_string(),
            display_name: display_name.to_owned(),
            created: Timestamp::now(),
            secrets: Vec::new(),
            federated: Vec::new(),
        };
        self.keep(&application).await?;
        Ok(Some(application))
    }

    pub(super) async fn keep(&self, application: &Application) -> Result<(), IdentityError> {
        let mut batch = Batch::new();
        batch.put_state(NAMESPACE, &application_key(&application.id), to_json(application));
        self.store.commit(batch).await?;
        Ok(())
    }

    /// Gives an application a secret, whose text is returned and not kept. None when it has too many.
    pub(super) async fn add_secret(
        &self,
        mut application: Application,
        display_name: Option<String>,
        end: Option<Timestamp>,
    ) -> Result<Option<(Secret, String)>, IdentityError> {
        if application.secrets.len() >= MAX_SECRETS {
            return Ok(None);
        }
        let text = token::random_secret()?;
        let start = Timestamp::now();
        let secret = Secret {
            key_id: Uuid::new_v4().to_string(),
            display_name,
            hint: text.chars().take(3).collect(),
            start,
            end: end
                .unwrap_or_else(|| start.saturating_add(SECRET_LIFETIME).unwrap_or(Timestamp::MAX)),
            digest: digest_of(&text),
        };
        application.secrets.push(secret.clone());
        self.keep(&application).await?;
        Ok(Some((secret, text)))
    }

    /// Takes a secret away. Whether there was one.
    pub(super) async fn remove_secret(
        &self,
        mut application: Application,
        key_id: &str,
    ) -> Result<bool, IdentityError> {
        let before = application.secrets.len();
        application.secrets.retain(|secret| !secret.key_id.eq_ignore_ascii_case(key_id));
        if application.secrets.len() == before {
            return Ok(false);
        }
        self.keep(&application).await?;
        Ok(true)
    }

    /// Gives an application its service principal; it has at most one.
    pub(super) async fn instantiate(
        &self,
        application: &Application,
    ) -> Result<ServicePrincipal, IdentityError> {
        let id = Uuid::new_v4().to_string();
        let record = PrincipalRecord {
            client_id: application.app_id.clone(),
            display_name: application.display_name.clone(),
            resource: None,
            user: false,
        };
        let mut batch = Batch::new();
        super::put_principal(&mut batch, &id, &record);
        self.store.commit(batch).await?;
        Ok(ServicePrincipal {
            id,
            app_id: record.client_id,
            display_name: record.display_name,
            resource: None,
        })
    }

    /// Forgets a service principal: its tokens stop working at once.
    pub(super) async fn forget_principal(
        &self,
        principal: &ServicePrincipal,
    ) -> Result<(), IdentityError> {
        let mut batch = Batch::new();
        batch
            .delete_state(NAMESPACE, &principal_key(&principal.id))
            .delete_state(NAMESPACE, &app_key(&principal.app_id));
        self.store.commit(batch).await?;
        Ok(())
    }

    /// Forgets an application, and with it its service principal.
    pub(super) async fn unregister(&self, application: &Application) -> Result<(), IdentityError> {
        let mut batch = Batch::new();
        batch.delete_state(NAMESPACE, &application_key(&application.id));
        if let Some((object_id, _)) = self.application(&application.app_id) {
            batch
                .delete_state(NAMESPACE, &principal_key(&object_id))
                .delete_state(NAMESPACE, &app_key(&application.app_id));
        }
        self.store.commit(batch).await?;
        Ok(())
    }

    /// Whether `text` is a secret of the application `client_id`.
    pub(super) fn presented(&self, client_id: &str, text: &str) -> Presented {
        let deployer = self.deployer();
        if client_id.eq_ignore_ascii_case(&deployer.client_id)
            && constant_time::verify_slices_are_equal(
                text.as_bytes(),
                deployer.client_secret.as_bytes(),
            )
            .is_ok()
        {
            return Presented::Right;
        }
        let given = digest_of(text);
        let secrets = self.registered(client_id).map(|one| one.secrets).unwrap_or_default();
        let found = secrets.iter().find(|secret| {
            constant_time::verify_slices_are_equal(secret.digest.as_bytes(), given.as_bytes())
                .is_ok()
        });
        match found {
            Some(secret) if secret.end > Timestamp::now() => Presented::Right,
            Some(_) => Presented::Expired,
            None => Presented::Wrong,
        }
    }
}

fn application_key(id: &str) -> String {
    format!("application/{}", id.to_ascii_lowercase())
}

fn digest_of(text: &str) -> String {
    token::base64(digest::digest(&digest::SHA256, text.as_bytes()).as_ref())
}

#[cfg(test)]
mod tests {
    use super::super::tests::identity;
    use super::*;

    #[tokio::test]
    async fn a_secret_signs_in_until_it_is_removed_or_over() {
        let identity = identity().await;
        let application = identity.register("ci").await.expect("stored").expect("made");
        let id = application.app_id.clone();
        let (secret, text) = identity
            .add_secret(application, None, None)
            .await
            .expect("stored")
            .expect("not too many");
        assert_eq!(identity.presented(&id, &text), Presented::Right);
        assert_eq!(identity.presented(&id, "wrong"), Presented::Wrong);
        assert_eq!(identity.presented("another", &text), Presented::Wrong);
        let application = identity.registered(&id).expect("registered");
        let over = Timestamp::now() - SignedDuration::from_secs(1);
        let (_, old) = identity
            .add_secret(application, None, Some(over))
            .await
            .expect("stored")
            .expect("not too many");
        assert_eq!(identity.presented(&id, &old), Presented::Expired);
        let application = identity.registered(&id).expect("registered");
        assert!(identity.remove_secret(application, &secret.key_id).await.expect("stored"));
        assert_eq!(identity.presented(&id, &text), Presented::Wrong);
    }

    #[tokio::test]
    async fn an_application_takes_its_principal_along() {
        let identity = identity().await;
        let application = identity.register("ci").await.expect("stored").expect("made");
        assert!(identity.application(&application.app_id).is_none(), "no principal yet");
        let principal = identity.instantiate(&application).await.expect("stored");
        assert!(identity.exists(&principal.id));
        identity.unregister(&application).await.expect("stored");
        assert!(!identity.exists(&principal.id));
        assert!(identity.registered(&application.app_id).is_none());
    }
}
