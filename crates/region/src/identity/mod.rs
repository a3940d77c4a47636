//! Entra ID of one tenant: applications and managed identities, the tokens they get, and who a
//! token belongs to.
//!
//! [`Identity`] is the directory; [`entra`] answers `login.microsoftonline.com`, [`graph`]
//! `graph.microsoft.com`; [`msi`] is the
//! managed-identity endpoint that App Service gives its instances, [`imds`] the one of a machine in the
//! VNet; [`token`] signs and verifies.

mod applications;
mod endpoint;
pub mod entra;
pub mod federation;
pub mod graph;
pub mod imds;
mod issuers;
pub mod msi;
mod pages;
mod sign_in;
pub mod token;
pub mod users;

use std::sync::Arc;

use lazuli_azure::ResourceId;
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::directory::Directory;
use crate::seal::{SealError, Sealer};
use crate::store::{Batch, Store, StoreError};
use crate::tenancy::Tenancy;

pub use token::{AuthError, Claims};

const NAMESPACE: &str = "identity";
const DEPLOYER: &str = "deployer";
/// The application that App Service's resource provider is in every tenant, and the name of its service
/// principal: it reads the certificates that sites import from Key Vault
/// (<https://learn.microsoft.com/azure/app-service/configure-ssl-certificate#authorize-app-service-to-read-from-the-vault>).
pub const APP_SERVICE: &str = "abfa0a7c-a6b6-4736-8310-5855508787cd";
const APP_SERVICE_NAME: &str = "Microsoft Azure App Service";

/// What went wrong in the directory.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A secret could not be sealed or opened.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The signing key is not usable.
    #[error("the key that signs tokens is not usable: {0}")]
    Key(String),
    /// A record of the directory is damaged.
    #[error("the directory's record `{0}` is damaged")]
    Damaged(String),
}

/// Who a caller is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// `oid`: what role assignments name.
    pub object_id: String,
    /// What messages call it: `appid`, or a user's `upn`.
    pub app_id: String,
    /// `tid`.
    pub tenant_id: String,
    /// The resource whose identity it is, for a managed identity.
    pub resource: Option<ResourceId>,
    /// Whether it is a person.
    pub user: bool,
}

/// A system-assigned identity as resources show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SystemIdentity {
    /// The service principal's object ID.
    pub principal_id: String,
    /// Its application ID.
    pub client_id: String,
    /// The tenant.
    pub tenant_id: String,
}

/// The application that the region is created with: Owner of the subscription.
#[derive(Clone)]
pub struct Deployer {
    /// The service principal's object ID.
    pub object_id: String,
    /// Its application ID.
    pub client_id: String,
    /// Its client secret.
    pub client_secret: Zeroizing<String>,
}

impl std::fmt::Debug for Deployer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Deployer").field("client_id", &self.client_id).finish_non_exhaustive()
    }
}

/// The deployer's own record.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct DeployerRecord {
    object_id: String,
    client_id: String,
    /// Sealed; base64.
    secret: String,
}

/// A service principal's record, by object ID. A second record `app/{client id}` leads to it.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PrincipalRecord {
    client_id: String,
    display_name: String,
    /// The resource whose system-assigned identity it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    resource: Option<String>,
    /// Whether it is a person: then there is no client ID, and [`users`] knows more.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    user: bool,
}

/// The directory of the region's one tenant.
pub struct Identity {
    store: Store,
    tenant_id: String,
    deployer: Deployer,
    developer: users::Developer,
    tokens: token::Signer,
    endpoint: msi::Registrations,
    issuers: issuers::Issuers,
    sign_ins: sign_in::SignIns,
    sign_in_page: std::sync::OnceLock<String>,
}

impl Identity {
    /// Opens the directory, which is created with the deployer when it does not exist.
    pub async fn open(
        store: &Store,
        sealer: &Sealer,
        tenancy: &Tenancy,
        directory: &Directory,
    ) -> Result<Arc<Self>, IdentityError> {
        let tokens = token::Signer::open(&directory.signing_key())?;
        let deployer = match store.get_state(NAMESPACE, DEPLOYER) {
            Some(bytes) => Self::read_deployer(sealer, &bytes)?,
            None => Self::create_deployer(store, sealer).await?,
        };
        let developer = users::Developer::open(store, sealer).await?;
        if store.get_state(NAMESPACE, &app_key(APP_SERVICE)).is_none() {
            let record = PrincipalRecord {
                client_id: APP_SERVICE.to_owned(),
                display_name: APP_SERVICE_NAME.to_owned(),
                resource: None,
                user: false,
            };
            let mut batch = Batch::new();
            put_principal(&mut batch, &Uuid::new_v4().to_string(), &record);
            store.commit(batch).await?;
        }
        Ok(Arc::new(Self {
            store: store.clone(),
            tenant_id: tenancy.tenant_id.clone(),
            deployer,
            developer,
            tokens,
            endpoint: msi::Registrations::default(),
            issuers: issuers::Issuers::default(),
            sign_ins: sign_in::SignIns::default(),
            sign_in_page: std::sync::OnceLock::new(),
        }))
    }

    fn read_deployer(sealer: &Sealer, bytes: &[u8]) -> Result<Deployer, IdentityError> {
        let damaged = || IdentityError::Damaged(DEPLOYER.to_owned());
        let record: DeployerRecord = serde_json::from_slice(bytes).map_err(|_| damaged())?;
        let secret = token::unbase64(&record.secret).ok_or_else(damaged)?;
        let secret = sealer.open_sealed(DEPLOYER, &secret)?;
        Ok(Deployer {
            object_id: record.object_id,
            client_id: record.client_id,
            client_secret: Zeroizing::new(
                std::str::from_utf8(&secret).map_err(|_| damaged())?.to_owned(),
            ),
        })
    }

    async fn create_deployer(store: &Store, sealer: &Sealer) -> Result<Deployer, IdentityError> {
        let deployer = Deployer {
            object_id: Uuid::new_v4().to_string(),
            client_id: Uuid::new_v4().to_string(),
            client_secret: Zeroizing::new(token::random_secret()?),
        };
        let record = DeployerRecord {
            object_id: deployer.object_id.clone(),
            client_id: deployer.client_id.clone(),
            secret: token::base64(&sealer.seal(DEPLOYER, deployer.client_secret.as_bytes())),
        };
        let mut batch = Batch::new();
        batch.put_state(NAMESPACE, DEPLOYER, to_json(&record));
        put_principal(
            &mut batch,
            &deployer.object_id,
            &PrincipalRecord {
                client_id: deployer.client_id.clone(),
                display_name: "lazuli-deployer".to_owned(),
                resource: None,
                user: false,
            },
        );
        store.commit(batch).await?;
        Ok(deployer)
    }

    /// The object ID of App Service's service principal in this tenant.
    pub fn app_service(&self) -> Option<String> {
        let id = self.store.get_state(NAMESPACE, &app_key(APP_SERVICE))?;
        String::from_utf8(id.to_vec()).ok()
    }

    /// The deployer the region was created with.
    pub fn deployer(&self) -> &Deployer {
        &self.deployer
    }

    /// Says at which port of this machine the region's pages are, once it is known.
    pub fn set_port(&self, port: u16) {
        let _ = self.sign_in_page.set(format!("http://login.localhost:{port}/device"));
    }

    /// Says how other issuers of tokens are reached.
    pub fn reach_issuers_by(&self, client: lazuli_azure::Client) {
        self.issuers.reach_by(client);
    }

    /// Where a person types the code that a program without a browser shows. Entra's own address would
    /// lead a browser, which knows no proxy, to the real Entra.
    fn sign_in_page(&self) -> &str {
        self.sign_in_page.get().map_or("https://login.microsoftonline.com/device", String::as_str)
    }

    /// The person whose machine this is.
    pub fn developer(&self) -> &users::Developer {
        &self.developer
    }

    /// The tenant.
    pub fn tenant_id(&self) -> &str {
        &self.tenant_id
    }

    /// The system-assigned identity of `owner`, created when it has none. The same until it is
    /// deleted.
    pub async fn create_identity(
        &self,
        owner: &ResourceId,
    ) -> Result<SystemIdentity, IdentityError> {
        if let Some(identity) = self.system_identity(owner) {
            return Ok(identity);
        }
        let object_id = Uuid::new_v4().to_string();
        let record = PrincipalRecord {
            client_id: Uuid::new_v4().to_string(),
            display_name: owner.full_name(),
            resource: Some(owner.as_str().to_owned()),
            user: false,
        };
        let mut batch = Batch::new();
        put_principal(&mut batch, &object_id, &record);
        batch.put_state(NAMESPACE, &resource_key(owner), object_id.clone().into_bytes());
        self.store.commit(batch).await?;
        Ok(self.shown(object_id, record.client_id))
    }

    /// The system-assigned identity of `owner`, if it has one.
    pub fn system_identity(&self, owner: &ResourceId) -> Option<SystemIdentity> {
        let object_id = self.store.get_state(NAMESPACE, &resource_key(owner))?;
        let object_id = String::from_utf8(object_id.to_vec()).ok()?;
        let record = self.record(&object_id)?;
        Some(self.shown(object_id, record.client_id))
    }

    /// Deletes the system-assigned identity of `owner`, if it has one. Its tokens stop working.
    pub async fn delete_identity(&self, owner: &ResourceId) -> Result<(), IdentityError> {
        let Some(identity) = self.system_identity(owner) else { return Ok(()) };
        let mut batch = Batch::new();
        batch
            .delete_state(NAMESPACE, &resource_key(owner))
            .delete_state(NAMESPACE, &principal_key(&identity.principal_id))
            .delete_state(NAMESPACE, &app_key(&identity.client_id));
        self.store.commit(batch).await?;
        Ok(())
    }

    /// Whether a principal of this object ID exists: role assignments may name no other.
    pub fn exists(&self, object_id: &str) -> bool {
        self.record(object_id).is_some()
    }

    /// What a principal is, as role assignments call it; None where there is none.
    pub fn principal_type(&self, object_id: &str) -> Option<&'static str> {
        self.record(object_id).map(|one| if one.user { "User" } else { "ServicePrincipal" })
    }

    /// The resource whose system-assigned identity this principal is.
    pub fn owner(&self, object_id: &str) -> Option<ResourceId> {
        ResourceId::parse(&self.record(object_id)?.resource?).ok()
    }

    /// Who an `Authorization` header's bearer token belongs to, if it is valid for `audience`.
    pub fn verify(&self, bearer: &str, audience: token::Audience) -> Result<Principal, AuthError> {
        let claims = self.tokens.verify(bearer, audience, self.tenant_id())?;
        let record = self.record(&claims.oid).ok_or(AuthError::UnknownPrincipal)?;
        Ok(Principal {
            object_id: claims.oid,
            app_id: claims.upn.unwrap_or(claims.appid),
            tenant_id: claims.tid,
            resource: record.resource.and_then(|id| ResourceId::parse(&id).ok()),
            user: record.user,
        })
    }

    /// The registrations of App Service instances at the managed-identity endpoint.
    pub fn endpoint(&self) -> &msi::Registrations {
        &self.endpoint
    }

    fn shown(&self, principal_id: String, client_id: String) -> SystemIdentity {
        SystemIdentity { principal_id, client_id, tenant_id: self.tenant_id().to_owned() }
    }

    fn record(&self, object_id: &str) -> Option<PrincipalRecord> {
        let bytes = self.store.get_state(NAMESPACE, &principal_key(object_id))?;
        serde_json::from_slice(&bytes).ok()
    }

    /// The service principal of an application: object ID and record.
    fn application(&self, client_id: &str) -> Option<(String, PrincipalRecord)> {
        let object_id = self.store.get_state(NAMESPACE, &app_key(client_id))?;
        let object_id = String::from_utf8(object_id.to_vec()).ok()?;
        let record = self.record(&object_id)?;
        Some((object_id, record))
    }
}

fn put_principal(batch: &mut Batch, object_id: &str, record: &PrincipalRecord) {
    batch.put_state(NAMESPACE, &principal_key(object_id), to_json(record)).put_state(
        NAMESPACE,
        &app_key(&record.client_id),
        object_id.as_bytes().to_vec(),
    );
}

fn principal_key(object_id: &str) -> String {
    format!("principal/{}", object_id.to_ascii_lowercase())
}

fn app_key(client_id: &str) -> String {
    format!("app/{}", client_id.to_ascii_lowercase())
}

fn resource_key(owner: &ResourceId) -> String {
    format!("resource{}", owner.key())
}

fn to_json(value: &impl Serialize) -> Vec<u8> {
    // Records are plain structs of strings: they always serialise.
    serde_json::to_vec(value).unwrap_or_default()
}

#[cfg(test)]
impl Identity {
    /// A token of any principal, for tests of what takes tokens.
    pub(crate) fn token_for_tests(&self, object_id: &str, audience: &str) -> String {
        let record = self.record(object_id).expect("the principal exists");
        let subject = token::Subject {
            tenant: &self.tenant_id,
            object_id,
            client_id: &record.client_id,
            resource: record.resource.as_deref(),
            user: None,
        };
        self.tokens.issue(&subject, audience, 3600).expect("a token").text
    }

    /// Every kind of token that must not be accepted for `audience`, by what is wrong with it.
    pub(crate) fn bad_tokens_for_tests(
        &self,
        object_id: &str,
        audience: &str,
    ) -> Vec<(&'static str, String)> {
        let record = self.record(object_id).expect("the principal exists");
        let issue = |tenant: &str, audience: &str, lifetime| {
            let client_id = &record.client_id;
            let subject =
                token::Subject { tenant, object_id, client_id, resource: None, user: None };
            self.tokens.issue(&subject, audience, lifetime).expect("a token").text
        };
        let good = issue(&self.tenant_id, audience, 3600);
        let parts: Vec<&str> = good.split('.').collect();
        let none = token::tests::url_base64(br#"{"alg":"none","typ":"JWT"}"#);
        let forged = if parts[2].starts_with("AAAA") { "BBBB" } else { "AAAA" };
        let elsewhere = "https://graph.microsoft.com";
        vec![
            ("expired", issue(&self.tenant_id, audience, -301)),
            ("wrong audience", issue(&self.tenant_id, elsewhere, 3600)),
            ("wrong tenant", issue(&Uuid::new_v4().to_string(), audience, 3600)),
            ("forged signature", format!("{}.{}.{forged}{}", parts[0], parts[1], &parts[2][4..])),
            ("alg:none", format!("{none}.{}.", parts[1])),
            ("alg:none with a signature", format!("{none}.{}.{}", parts[1], parts[2])),
            ("no token", "x".to_owned()),
        ]
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::token::Audience;
    use super::*;

    pub(super) fn site() -> ResourceId {
        ResourceId::parse(
            "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg/providers/\
             Microsoft.Web/sites/notes",
        )
        .expect("an ID")
    }

    /// A directory in a temporary place, which is leaked: a test's process is short.
    pub(crate) async fn identity() -> Arc<Identity> {
        open(&Directory::at(tempfile::tempdir().expect("temp dir").keep())).await
    }

    async fn open(directory: &Directory) -> Arc<Identity> {
        directory.create().expect("created");
        let store = Store::open(&directory.store()).expect("a store");
        let sealer = Sealer::open(&directory.vault_key()).expect("a key");
        let tenancy = Tenancy::open(&store).await.expect("a tenant");
        Identity::open(&store, &sealer, &tenancy, directory).await.expect("an identity")
    }

    fn token(identity: &Identity, audience: &str) -> String {
        let deployer = identity.deployer();
        let subject = token::Subject {
            tenant: identity.tenant_id(),
            object_id: &deployer.object_id,
            client_id: &deployer.client_id,
            resource: None,
            user: None,
        };
        identity.tokens.issue(&subject, audience, 3600).expect("a token").text
    }

    #[tokio::test]
    async fn the_directory_is_the_same_after_a_restart() {
        let temp = tempfile::tempdir().expect("temp dir");
        let directory = Directory::at(temp.path());
        let first = open(&directory).await;
        let issued = token(&first, "https://management.azure.com");
        let assigned = first.create_identity(&site()).await.expect("created");
        let secret = first.deployer().client_secret.clone();
        drop(first);
        let again = open(&directory).await;
        assert_eq!(again.deployer().client_secret, secret);
        assert_eq!(again.system_identity(&site()), Some(assigned));
        let who = again.verify(&issued, Audience::ResourceManager).expect("still valid");
        assert_eq!(who.object_id, again.deployer().object_id);
    }

    #[tokio::test]
    async fn an_identity_lives_and_dies_with_its_resource() {
        let identity = identity().await;
        let one = identity.create_identity(&site()).await.expect("created");
        assert_eq!(identity.create_identity(&site()).await.expect("again"), one);
        assert!(identity.exists(&one.principal_id));
        identity.delete_identity(&site()).await.expect("deleted");
        assert!(!identity.exists(&one.principal_id));
        let other = identity.create_identity(&site()).await.expect("created anew");
        assert_ne!(other.principal_id, one.principal_id);
    }

    #[tokio::test]
    async fn a_token_opens_only_what_it_is_for() {
        let identity = identity().await;
        let good = token(&identity, "https://vault.azure.net");
        assert!(identity.verify(&good, Audience::KeyVault).is_ok());
        assert_eq!(identity.verify(&good, Audience::ResourceManager), Err(AuthError::Audience));
        let stranger = self::identity().await;
        assert_eq!(stranger.verify(&good, Audience::KeyVault), Err(AuthError::Invalid));
    }

    #[tokio::test]
    async fn a_forged_token_is_worth_nothing() {
        let identity = identity().await;
        let good = token(&identity, "https://vault.azure.net");
        let parts: Vec<&str> = good.split('.').collect();
        let none = token::tests::url_base64(br#"{"alg":"none","typ":"JWT"}"#);
        let forged = [
            format!("{none}.{}.", parts[1]),
            format!("{none}.{}.{}", parts[1], parts[2]),
            format!("{}.{}.{}", parts[0], parts[1], &parts[2][4..]),
            format!("{}.{}.{}", parts[0], token::tests::url_base64(b"{}"), parts[2]),
            String::new(),
            ".".repeat(20_000),
        ];
        for token in forged {
            assert_eq!(identity.verify(&token, Audience::KeyVault), Err(AuthError::Invalid));
        }
    }

    #[tokio::test]
    async fn a_token_ends() {
        let identity = identity().await;
        let deployer = identity.deployer();
        let subject = token::Subject {
            tenant: identity.tenant_id(),
            object_id: &deployer.object_id,
            client_id: &deployer.client_id,
            resource: None,
            user: None,
        };
        let late =
            identity.tokens.issue(&subject, "https://vault.azure.net", -301).expect("a token");
        assert_eq!(identity.verify(&late.text, Audience::KeyVault), Err(AuthError::Expired));
    }
}
