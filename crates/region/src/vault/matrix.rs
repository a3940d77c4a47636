//! The access matrix of the data plane, whole: every role × every operation × every kind of token.
//!
//! What Azure allows is written out here, from the roles' published permissions
//! (<https://learn.microsoft.com/azure/role-based-access-control/built-in-roles/security>), not read from
//! the code that decides.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, StatusCode};
use lazuli_azure::ResourceId;
use lazuli_gateway::{Origin, Peer};
use serde_json::{Value, json};
use uuid::Uuid;

use super::rest::DataPlane;
use super::{KIND, NewSecret, Vaults, audit::Audit};
use crate::control::roles;
use crate::directory::Directory;
use crate::http::Whole as _;
use crate::identity::Identity;
use crate::seal::Sealer;
use crate::store::{Batch, Store};
use crate::tenancy::Tenancy;

const AUDIENCE: &str = "https://vault.azure.net";

/// Operations, and what each needs: `read` a value, `see` that it exists, `write`.
const OPERATIONS: [(&str, &str, &str); 14] = [
    ("GET /secrets", "", "see"),
    ("GET /secrets/there", "", "read"),
    ("GET /secrets/there/VERSION", "", "read"),
    ("GET /secrets/there/versions", "", "see"),
    ("GET /deletedsecrets", "", "see"),
    ("GET /deletedsecrets/gone", "", "see"),
    ("PUT /secrets/there", r#"{"value":"new"}"#, "write"),
    ("PATCH /secrets/there", r#"{"tags":{"a":"b"}}"#, "write"),
    ("PATCH /secrets/there/VERSION", r#"{"contentType":"t"}"#, "write"),
    ("POST /secrets/there/backup", "", "write"),
    ("POST /secrets/restore", r#"{"value":"BLOB"}"#, "write"),
    ("DELETE /secrets/fleeting", "", "write"),
    ("POST /deletedsecrets/gone/recover", "", "write"),
    ("DELETE /deletedsecrets/lost", "", "write"),
];

/// What a role is for, of the three.
fn granted(role: &str) -> &'static [&'static str] {
    match role {
        "Key Vault Administrator" | "Key Vault Secrets Officer" => &["read", "see", "write"],
        "Key Vault Secrets User" => &["read", "see"],
        "Key Vault Reader" => &["see"],
        // Owner and Contributor among them: what rules the resource does not rule the data.
        _ => &[],
    }
}

struct Region {
    plane: Arc<DataPlane>,
    vaults: Arc<Vaults>,
    identity: Arc<Identity>,
    store: Store,
    vault: ResourceId,
    blob: String,
}

async fn region() -> Region {
    let directory = Directory::at(tempfile::tempdir().expect("temp dir").keep());
    directory.create().expect("created");
    let store = Store::open(&directory.store()).expect("a store");
    let sealer = Arc::new(Sealer::open(&directory.vault_key()).expect("a key"));
    let tenancy = Tenancy::open(&store).await.expect("a tenant");
    let identity = Identity::open(&store, &sealer, &tenancy, &directory).await.expect("ids");
    let group = ResourceId::of_resource_group(&tenancy.subscription_id, "rg").expect("id");
    let vault = group.resource(KIND, "kv").expect("id");
    let mut batch = Batch::new();
    batch.put(&vault, json!({ "location": "westeurope", "properties": {} }));
    store.commit(batch).await.expect("stored");
    let audit = Audit::open(&directory.logs().join("audit")).expect("a log");
    let vaults = Vaults::new(&store, sealer, audit);
    vaults.set("kv", "copied", "v", NewSecret::default()).await.expect("set");
    let blob = vaults.backup("kv", "copied").expect("a blob");
    vaults.delete("kv", "copied", None).await.expect("deleted");
    vaults.purge("kv", "copied", false).await.expect("purged");
    let blob = base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, blob);
    let plane = DataPlane::new(vaults.clone(), identity.clone());
    Region { plane, vaults, identity, store, vault, blob }
}

impl Region {
    /// `there` exists, `gone` and `lost` are deleted, `fleeting` may be; the version of `there`.
    async fn arrange(&self) -> String {
        for name in ["there", "gone", "lost", "fleeting", "copied"] {
            if self.vaults.deleted("kv", name).is_ok() {
                self.vaults.recover("kv", name).await.expect("recovered");
            }
            if name == "copied" {
                if self.vaults.current("kv", name).is_ok() {
                    self.vaults.delete("kv", name, None).await.expect("deleted");
                    self.vaults.purge("kv", name, false).await.expect("purged");
                }
                continue;
            }
            if self.vaults.current("kv", name).is_err() {
                self.vaults.set("kv", name, "v", NewSecret::default()).await.expect("set");
            }
        }
        for name in ["gone", "lost"] {
            self.vaults.delete("kv", name, None).await.expect("deleted");
        }
        self.vaults.current("kv", "there").expect("there").version
    }

    async fn ask(&self, token: &str, line: &str, body: &str) -> (StatusCode, Value) {
        let (method, path) = line.split_once(' ').expect("METHOD PATH");
        let request = Request::builder()
            .method(method)
            .uri(format!("{path}?api-version=7.4"))
            .header("host", "kv.vault.azure.net")
            .header("authorization", format!("Bearer {token}"))
            .body(Bytes::from(body.to_owned()))
            .expect("a request");
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let peer = Peer { addr, origin: Origin::Inside, tls: true };
        let response = self.plane.clone().answer(request, peer).await;
        let status = response.status();
        (status, serde_json::from_slice(response.body()).unwrap_or_default())
    }

    async fn principal(&self, role: Option<&str>, scope: &ResourceId) -> String {
        let role = role.map(|role| roles::by_name(role).expect("built in").id.to_string());
        self.holder_of(role.as_deref(), scope).await
    }

    /// A custom role of the subscription; its name.
    async fn custom(&self, permissions: &Value) -> String {
        let name = Uuid::new_v4().to_string();
        let subscription = self.vault.as_str().split('/').take(3).collect::<Vec<_>>().join("/");
        let id = ResourceId::parse(&format!(
            "{subscription}/providers/Microsoft.Authorization/roleDefinitions/{name}"
        ));
        let mut batch = Batch::new();
        let properties = json!({ "type": "CustomRole", "permissions": [permissions] });
        batch.put(&id.expect("an ID"), json!({ "properties": properties }));
        self.store.commit(batch).await.expect("stored");
        name
    }

    async fn holder_of(&self, role: Option<&str>, scope: &ResourceId) -> String {
        let name = format!("p-{}", Uuid::new_v4().simple());
        let owner = self.vault.parent().unwrap_or_else(|| self.vault.clone());
        let owner = owner.resource("Microsoft.Web/sites", &name).expect("id");
        let made = self.identity.create_identity(&owner).await.expect("made");
        if let Some(role) = role {
            let kind = "Microsoft.Authorization/roleAssignments";
            let id = scope.resource(kind, &Uuid::new_v4().to_string()).expect("id");
            let role = format!("/providers/Microsoft.Authorization/roleDefinitions/{role}");
            let mut batch = Batch::new();
            batch.put(
                &id,
                json!({ "properties": { "principalId": made.principal_id, "roleDefinitionId": role } }),
            );
            self.store.commit(batch).await.expect("assigned");
        }
        made.principal_id
    }

    fn fill(&self, text: &str, version: &str) -> String {
        text.replace("VERSION", version).replace("BLOB", &self.blob)
    }
}

#[tokio::test]
async fn every_role_every_operation_every_token() {
    let region = region().await;
    let roles = roles::BUILT_IN.iter().map(|role| Some(role.name)).chain([None]);
    let (mut allowed, mut refused) = (0, 0);
    for role in roles {
        let principal = region.principal(role, &region.vault).await;
        let good = region.identity.token_for_tests(&principal, AUDIENCE);
        let bad = region.identity.bad_tokens_for_tests(&principal, AUDIENCE);
        let rights = role.map_or(&[][..], granted);
        for (line, body, needs) in OPERATIONS {
            let version = region.arrange().await;
            let (line, body) = (region.fill(line, &version), region.fill(body, &version));
            for (what, token) in &bad {
                let (status, said) = region.ask(token, &line, &body).await;
                assert_eq!(status, StatusCode::UNAUTHORIZED, "{role:?} {line} {what}: {said}");
                assert_eq!(said["error"]["code"], "Unauthorized");
                refused += 1;
            }
            let (status, said) = region.ask(&good, &line, &body).await;
            if rights.contains(&needs) {
                assert!(status.is_success(), "{role:?} {line}: {status} {said}");
                allowed += 1;
            } else {
                assert_eq!(status, StatusCode::FORBIDDEN, "{role:?} {line}: {said}");
                assert_eq!(said["error"]["innererror"]["code"], "ForbiddenByRbac");
                assert!(said.get("value").is_none());
                refused += 1;
            }
        }
    }
    // Nothing was left out: two roles do all, one reads, one sees.
    assert_eq!(allowed, 14 + 14 + 6 + 4);
    assert_eq!(refused, (roles::BUILT_IN.len() + 1) * 14 * 8 - allowed);
}

#[tokio::test]
async fn a_custom_role_opens_what_its_data_actions_say() {
    let region = region().await;
    let secrets = "Microsoft.KeyVault/vaults/secrets";
    let roles: [(Value, &[&str]); 7] = [
        (json!({ "dataActions": [format!("{secrets}/getSecret/action")] }), &["read"]),
        (json!({ "dataActions": [format!("{secrets}/readMetadata/action")] }), &["see"]),
        (json!({ "dataActions": [format!("{secrets}/*")] }), &["read", "see", "write"]),
        (
            json!({
                "dataActions": ["Microsoft.KeyVault/vaults/*"],
                "notDataActions": [format!("{secrets}/GETSECRET/action")],
            }),
            &["see", "write"],
        ),
        (json!({ "dataActions": ["Microsoft.KeyVault/vaults/keys/*"] }), &[]),
        // What rules the resource, everything of it, does not rule the data; nor the other way round.
        (json!({ "actions": ["*"] }), &[]),
        (json!({ "actions": [format!("{secrets}/getSecret/action")] }), &[]),
    ];
    for (permissions, rights) in roles {
        let role = region.custom(&permissions).await;
        let principal = region.holder_of(Some(&role), &region.vault).await;
        let good = region.identity.token_for_tests(&principal, AUDIENCE);
        let bad = region.identity.bad_tokens_for_tests(&principal, AUDIENCE);
        for (line, body, needs) in OPERATIONS {
            let version = region.arrange().await;
            let (line, body) = (region.fill(line, &version), region.fill(body, &version));
            for (what, token) in &bad {
                let (status, said) = region.ask(token, &line, &body).await;
                assert_eq!(status, StatusCode::UNAUTHORIZED, "{permissions} {what}: {said}");
            }
            let (status, said) = region.ask(&good, &line, &body).await;
            if rights.contains(&needs) {
                assert!(status.is_success(), "{permissions} {line}: {status} {said}");
            } else {
                assert_eq!(status, StatusCode::FORBIDDEN, "{permissions} {line}: {said}");
            }
        }
    }
}

#[tokio::test]
async fn a_role_on_one_secret_opens_that_one() {
    let region = region().await;
    region.arrange().await;
    let scope = region.vault.child("secrets", "there").expect("id");
    let principal = region.principal(Some("Key Vault Secrets Officer"), &scope).await;
    let token = region.identity.token_for_tests(&principal, AUDIENCE);
    assert_eq!(region.ask(&token, "GET /secrets/there", "").await.0, StatusCode::OK);
    assert_eq!(region.ask(&token, "GET /secrets/THERE", "").await.0, StatusCode::OK);
    assert_eq!(region.ask(&token, "GET /secrets/fleeting", "").await.0, StatusCode::FORBIDDEN);
    assert_eq!(region.ask(&token, "GET /secrets", "").await.0, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn the_token_of_a_deleted_identity_is_worth_nothing() {
    let region = region().await;
    region.arrange().await;
    let group = region.vault.parent().unwrap_or_else(|| region.vault.clone());
    let owner = group.resource("Microsoft.Web/sites", "brief").expect("id");
    let made = region.identity.create_identity(&owner).await.expect("made");
    let token = region.identity.token_for_tests(&made.principal_id, AUDIENCE);
    assert_eq!(region.ask(&token, "GET /secrets/there", "").await.0, StatusCode::FORBIDDEN);
    region.identity.delete_identity(&owner).await.expect("deleted");
    assert_eq!(region.ask(&token, "GET /secrets/there", "").await.0, StatusCode::UNAUTHORIZED);
}
