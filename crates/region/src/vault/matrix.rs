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

use super::cryptography::Deed;
use super::rest::DataPlane;
use super::{KIND, Kind, NewSecret, Vaults, audit::Audit};
use crate::control::roles;
use crate::directory::Directory;
use crate::http::Whole as _;
use crate::identity::Identity;
use crate::seal::Sealer;
use crate::store::{Batch, Store};
use crate::tenancy::Tenancy;

const AUDIENCE: &str = "https://vault.azure.net";

/// Operations, and what each needs of whom: of secrets `read` a value, `see` that it exists, `write`; of
/// keys and certificates `see` and `write`; of keys besides `use`.
const OPERATIONS: [(&str, &str, &str); 48] = [
    ("GET /secrets", "", "secrets.see"),
    ("GET /secrets/there", "", "secrets.read"),
    ("GET /secrets/there/VERSION", "", "secrets.read"),
    ("GET /secrets/there/versions", "", "secrets.see"),
    ("GET /deletedsecrets", "", "secrets.see"),
    ("GET /deletedsecrets/gone", "", "secrets.see"),
    ("PUT /secrets/there", r#"{"value":"new"}"#, "secrets.write"),
    ("PATCH /secrets/there", r#"{"tags":{"a":"b"}}"#, "secrets.write"),
    ("PATCH /secrets/there/VERSION", r#"{"contentType":"t"}"#, "secrets.write"),
    ("POST /secrets/there/backup", "", "secrets.write"),
    ("POST /secrets/restore", r#"{"value":"BLOB"}"#, "secrets.write"),
    ("DELETE /secrets/fleeting", "", "secrets.write"),
    ("POST /deletedsecrets/gone/recover", "", "secrets.write"),
    ("DELETE /deletedsecrets/lost", "", "secrets.write"),
    // A certificate's secret is a secret: whoever reads secrets has the private key.
    ("GET /secrets/cert", "", "secrets.read"),
    ("GET /keys", "", "keys.see"),
    ("GET /keys/key", "", "keys.see"),
    ("GET /keys/key/versions", "", "keys.see"),
    ("GET /deletedkeys", "", "keys.see"),
    ("GET /deletedkeys/gonekey", "", "keys.see"),
    ("GET /keys/cert", "", "keys.see"),
    ("POST /keys/key/create", r#"{"kty":"EC"}"#, "keys.write"),
    ("POST /keys/key/rotate", "", "keys.write"),
    ("PATCH /keys/key", r#"{"tags":{"a":"b"}}"#, "keys.use"),
    ("POST /keys/key/backup", "", "keys.use"),
    ("POST /keys/restore", r#"{"value":"KEYBLOB"}"#, "keys.write"),
    ("DELETE /keys/fleetingkey", "", "keys.write"),
    ("POST /deletedkeys/gonekey/recover", "", "keys.write"),
    ("DELETE /deletedkeys/lostkey", "", "keys.write"),
    ("POST /keys/key/sign", r#"{"alg":"ES256","value":"DIGEST"}"#, "keys.use"),
    ("POST /keys/key/verify", r#"{"alg":"ES256","digest":"DIGEST","value":"AA"}"#, "keys.use"),
    ("POST /keys/rsa/encrypt", r#"{"alg":"RSA-OAEP","value":"AA"}"#, "keys.use"),
    ("POST /keys/rsa/wrapkey", r#"{"alg":"RSA-OAEP","value":"AA"}"#, "keys.wrap"),
    ("POST /keys/rsa/unwrapkey", r#"{"alg":"RSA-OAEP","value":"SEALED"}"#, "keys.wrap"),
    ("POST /keys/rsa/decrypt", r#"{"alg":"RSA-OAEP","value":"SEALED"}"#, "keys.use"),
    ("GET /certificates", "", "certificates.see"),
    ("GET /certificates/cert", "", "certificates.see"),
    ("GET /certificates/cert/versions", "", "certificates.see"),
    ("GET /certificates/cert/policy", "", "certificates.see"),
    ("GET /deletedcertificates", "", "certificates.see"),
    ("GET /deletedcertificates/gonecert", "", "certificates.see"),
    ("PATCH /certificates/cert", r#"{"tags":{"a":"b"}}"#, "certificates.write"),
    ("PATCH /certificates/cert/policy", "{}", "certificates.write"),
    ("POST /certificates/cert/create", "{}", "certificates.write"),
    ("POST /certificates/cert/backup", "", "certificates.write"),
    ("DELETE /certificates/fleetingcert", "", "certificates.write"),
    ("POST /deletedcertificates/gonecert/recover", "", "certificates.write"),
    ("DELETE /deletedcertificates/lostcert", "", "certificates.write"),
];

/// What a role is for.
fn granted(role: &str) -> &'static [&'static str] {
    match role {
        "Key Vault Administrator" => &[
            "secrets.read",
            "secrets.see",
            "secrets.write",
            "keys.see",
            "keys.write",
            "keys.use",
            "keys.wrap",
            "certificates.see",
            "certificates.write",
        ],
        "Key Vault Secrets Officer" => &["secrets.read", "secrets.see", "secrets.write"],
        "Key Vault Secrets User" => &["secrets.read", "secrets.see"],
        "Key Vault Crypto Officer" => &["keys.see", "keys.write", "keys.use", "keys.wrap"],
        "Key Vault Crypto User" => &["keys.see", "keys.use", "keys.wrap"],
        "Key Vault Crypto Service Encryption User" => &["keys.see", "keys.wrap"],
        "Key Vault Certificates Officer" => &["certificates.see", "certificates.write"],
        "Key Vault Certificate User" => {
            &["secrets.read", "secrets.see", "keys.see", "certificates.see"]
        }
        "Key Vault Reader" => &["secrets.see", "keys.see", "certificates.see"],
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
    /// What stands for `BLOB` and the like in an operation's body.
    words: Vec<(&'static str, String)>,
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
    let blob = vaults.backup(Kind::Secret, "kv", "copied").expect("a blob");
    vaults.delete(Kind::Secret, "kv", "copied", None).await.expect("deleted");
    vaults.purge(Kind::Secret, "kv", "copied", false).await.expect("purged");
    let text = |bytes: &[u8]| {
        base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, bytes)
    };
    let curve = json!({ "kty": "EC", "crv": "P-256" });
    for name in ["key", "copiedkey"] {
        vaults.create_key("kv", name, &curve).await.expect("made");
    }
    let key_blob = vaults.backup(Kind::Key, "kv", "copiedkey").expect("a blob");
    vaults.create_key("kv", "rsa", &json!({ "kty": "RSA" })).await.expect("made");
    let asked = json!({ "alg": "RSA-OAEP", "value": "AA" });
    let sealed = vaults.perform("kv", "rsa", None, Deed::Encrypt, &asked).expect("encrypted");
    let sealed = sealed["value"].as_str().expect("a value").to_owned();
    let words = vec![
        ("KEYBLOB", text(&key_blob)),
        ("BLOB", text(&blob)),
        ("DIGEST", text(&[7; 32])),
        ("SEALED", sealed),
    ];
    let plane = DataPlane::new(vaults.clone(), identity.clone());
    Region { plane, vaults, identity, store, vault, words }
}

impl Region {
    /// `there` exists, `gone` and `lost` are deleted, `fleeting` may be; the version of `there`.
    async fn arrange(&self) -> String {
        for name in ["there", "gone", "lost", "fleeting", "copied"] {
            if self.vaults.deleted(Kind::Secret, "kv", name).is_ok() {
                self.vaults.recover(Kind::Secret, "kv", name).await.expect("recovered");
            }
            if name == "copied" {
                if self.vaults.current(Kind::Secret, "kv", name).is_ok() {
                    self.vaults.delete(Kind::Secret, "kv", name, None).await.expect("deleted");
                    self.vaults.purge(Kind::Secret, "kv", name, false).await.expect("purged");
                }
                continue;
            }
            if self.vaults.current(Kind::Secret, "kv", name).is_err() {
                self.vaults.set("kv", name, "v", NewSecret::default()).await.expect("set");
            }
        }
        for name in ["gone", "lost"] {
            self.vaults.delete(Kind::Secret, "kv", name, None).await.expect("deleted");
        }
        self.arrange_others(Kind::Key, &["key", "gonekey", "lostkey", "fleetingkey"]).await;
        let certificates = ["cert", "gonecert", "lostcert", "fleetingcert"];
        self.arrange_others(Kind::Certificate, &certificates).await;
        if self.vaults.current(Kind::Key, "kv", "copiedkey").is_ok() {
            self.vaults.delete(Kind::Key, "kv", "copiedkey", None).await.expect("deleted");
            self.vaults.purge(Kind::Key, "kv", "copiedkey", false).await.expect("purged");
        }
        self.vaults.current(Kind::Secret, "kv", "there").expect("there").version
    }

    /// The first and the last exist, those between are deleted.
    async fn arrange_others(&self, kind: Kind, names: &[&str; 4]) {
        let asked = json!({
            "kty": "EC", "crv": "P-256",
            "policy": {
                "key_props": { "kty": "EC", "crv": "P-256" },
                "x509_props": { "subject": "CN=www.example.org" },
            },
        });
        for (at, name) in names.iter().enumerate() {
            let gone = at == 1 || at == 2;
            let (there, deleted) = (
                self.vaults.current(kind, "kv", name).is_ok(),
                self.vaults.deleted(kind, "kv", name).is_ok(),
            );
            match (there, deleted) {
                (false, true) if gone => continue,
                (false, true) => {
                    self.vaults.recover(kind, "kv", name).await.expect("recovered");
                }
                (false, false) if kind == Kind::Key => {
                    self.vaults.create_key("kv", name, &asked).await.expect("made");
                }
                (false, false) => {
                    self.vaults.create_certificate("kv", name, &asked).await.expect("made");
                }
                (true, _) => {}
            }
            if gone {
                self.vaults.delete(kind, "kv", name, None).await.expect("deleted");
            }
        }
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
        let text = text.replace("VERSION", version);
        self.words.iter().fold(text, |text, (word, with)| text.replace(word, with))
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
    // Nothing was left out: one role does all, the others what they are for.
    let (secrets, keys, certificates) = (15, 20, 13);
    let officers = secrets + keys + certificates;
    let (user, reader, certificate_user) = (7, 4 + 6 + 6, 7 + 6 + 6);
    let (crypto_user, wraps) = (6 + 6 + 2, 6 + 2);
    let expected = (secrets + keys + certificates)
        + officers
        + user
        + reader
        + certificate_user
        + crypto_user
        + wraps;
    assert_eq!(allowed, expected);
    assert_eq!(refused, (roles::BUILT_IN.len() + 1) * OPERATIONS.len() * 8 - allowed);
}

#[tokio::test]
async fn a_custom_role_opens_what_its_data_actions_say() {
    let region = region().await;
    let secrets = "Microsoft.KeyVault/vaults/secrets";
    let roles: [(Value, &[&str]); 7] = [
        (json!({ "dataActions": [format!("{secrets}/getSecret/action")] }), &["secrets.read"]),
        (json!({ "dataActions": [format!("{secrets}/readMetadata/action")] }), &["secrets.see"]),
        (
            json!({ "dataActions": [format!("{secrets}/*")] }),
            &["secrets.read", "secrets.see", "secrets.write"],
        ),
        (
            json!({
                "dataActions": ["Microsoft.KeyVault/vaults/*"],
                "notDataActions": [format!("{secrets}/GETSECRET/action")],
            }),
            &[
                "secrets.see",
                "secrets.write",
                "keys.see",
                "keys.write",
                "keys.use",
                "keys.wrap",
                "certificates.see",
                "certificates.write",
            ],
        ),
        (
            json!({ "dataActions": ["Microsoft.KeyVault/vaults/keys/*"] }),
            &["keys.see", "keys.write", "keys.use", "keys.wrap"],
        ),
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
