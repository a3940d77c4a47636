//! The data plane as clients see it.

use super::*;
use crate::vault::cryptography::Deed;

#[test]
fn every_operation_is_found_by_its_verb_and_path() {
    let find = |method: Method, path: &str| {
        let segments: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        Operation::of(&method, &segments).map(|operation| operation.what)
    };
    assert_eq!(find(Method::GET, "/secrets"), Some(What::List));
    assert_eq!(find(Method::GET, "/secrets/a/"), Some(What::Get));
    assert_eq!(find(Method::GET, "/secrets/a/versions"), Some(What::Versions));
    assert_eq!(find(Method::GET, "/secrets/a/0123"), Some(What::Get));
    assert_eq!(find(Method::POST, "/secrets/restore"), Some(What::Restore));
    assert_eq!(find(Method::DELETE, "/deletedsecrets/a"), Some(What::Purge));
    assert_eq!(find(Method::POST, "/secrets/a"), None);
    assert_eq!(find(Method::GET, "/keys/a"), Some(What::Get));
    assert_eq!(find(Method::POST, "/certificates/a/import"), Some(What::Import));
    assert_eq!(find(Method::POST, "/keys/a/0123/sign"), Some(What::Perform(Deed::Sign)));
    assert_eq!(find(Method::POST, "/secrets/a/0123/sign"), None);
    assert_eq!(find(Method::GET, "/storage"), None);
}

#[test]
fn what_a_client_says_of_a_secret_is_checked() {
    let bad = [
        &b"no"[..],
        b"[]",
        br#"{"value":1}"#,
        br#"{"value":"v","tags":[]}"#,
        br#"{"value":"v","tags":{"a":1}}"#,
        br#"{"value":"v","attributes":{"exp":"tomorrow"}}"#,
        br#"{"value":"v","attributes":{"exp":1,"nbf":2}}"#,
        br#"{"value":"v","contentType":7}"#,
    ];
    for body in bad {
        assert!(read_secret(body, true).is_err(), "{}", String::from_utf8_lossy(body));
    }
    let body = br#"{"value":"v","attributes":{"enabled":false},"tags":{"a":"b"}}"#;
    let (value, new) = read_secret(body, true).ok().expect("good");
    assert_eq!(value.as_deref().map(String::as_str), Some("v"));
    assert_eq!(new.attributes.enabled, Some(false));
    assert!(read_secret(body, false).is_err(), "an update has no value");
}

mod served {
    use std::net::{Ipv4Addr, SocketAddr};

    use lazuli_azure::ResourceId;

    use super::*;
    use crate::directory::Directory;
    use crate::seal::Sealer;
    use crate::store::{Batch, Store};
    use crate::tenancy::Tenancy;
    use crate::vault::audit::Audit;

    const GET: &str = "Key Vault Secrets User";

    struct Region {
        plane: Arc<DataPlane>,
        directory: Directory,
        reader: String,
        stranger: String,
    }

    /// A vault `kv`, a deployer who is Key Vault Administrator, a reader, and somebody without
    /// any role.
    async fn region(public: bool) -> Region {
        let directory = Directory::at(tempfile::tempdir().expect("temp dir").keep());
        directory.create().expect("created");
        let store = Store::open(&directory.store()).expect("a store");
        let sealer = Arc::new(Sealer::open(&directory.vault_key()).expect("a key"));
        let tenancy = Tenancy::open(&store).await.expect("a tenant");
        let identity = Identity::open(&store, &sealer, &tenancy, &directory).await.expect("ids");
        let group = ResourceId::of_resource_group(&tenancy.subscription_id, "rg").expect("id");
        let vault = group.resource(crate::vault::KIND, "kv").expect("id");
        let mut batch = Batch::new();
        let access = if public { "Enabled" } else { "Disabled" };
        batch.put(
            &vault,
            json!({ "location": "westeurope", "properties": { "publicNetworkAccess": access } }),
        );
        let mut tokens = Vec::new();
        let mut assign = |who: &str, role: &str| {
            let kind = "Microsoft.Authorization/roleAssignments";
            let id = vault.resource(kind, &Uuid::new_v4().to_string()).expect("id");
            let role = crate::control::roles::by_name(role).expect("a built-in role").id;
            let role = format!("/providers/Microsoft.Authorization/roleDefinitions/{role}");
            batch.put(
                &id,
                json!({ "properties": { "principalId": who, "roleDefinitionId": role } }),
            );
        };
        assign(&identity.deployer().object_id, "Key Vault Administrator");
        for (name, role) in [("reader", Some(GET)), ("stranger", None)] {
            let owner = group.resource("Microsoft.Web/sites", name).expect("id");
            let made = identity.create_identity(&owner).await.expect("made");
            if let Some(role) = role {
                assign(&made.principal_id, role);
            }
            tokens.push(identity.token_for_tests(&made.principal_id, "https://vault.azure.net"));
        }
        store.commit(batch).await.expect("stored");
        let audit = Audit::open(&directory.logs().join("audit")).expect("a log");
        let vaults = Vaults::new(&store, sealer, audit);
        let (reader, stranger) = (tokens.remove(0), tokens.remove(0));
        Region { plane: DataPlane::new(vaults, identity), directory, reader, stranger }
    }

    impl Region {
        fn admin(&self) -> String {
            let identity = &self.plane.identity;
            identity.token_for_tests(&identity.deployer().object_id, "https://vault.azure.net")
        }

        async fn ask(
            &self,
            token: &str,
            line: &str,
            body: &str,
            origin: Origin,
        ) -> (StatusCode, HeaderMap, Value) {
            let (method, path) = line.split_once(' ').expect("METHOD PATH");
            let join = if path.contains('?') { '&' } else { '?' };
            let request = Request::builder()
                .method(method)
                .uri(format!("{path}{join}api-version=7.4"))
                .header("host", "KV.vault.azure.net")
                .header("authorization", format!("Bearer {token}"))
                .body(Bytes::from(body.to_owned()))
                .expect("a request");
            let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
            let peer = Peer { addr, origin, tls: true };
            let response = self.plane.clone().answer(request, peer).await;
            let (parts, body) = response.into_parts();
            let body = serde_json::from_slice(&body).unwrap_or_default();
            (parts.status, parts.headers, body)
        }

        async fn admin_asks(&self, line: &str, body: &str) -> (StatusCode, Value) {
            let (status, _, body) = self.ask(&self.admin(), line, body, Origin::Inside).await;
            (status, body)
        }
    }

    #[tokio::test]
    async fn a_secret_lives_as_in_azure() {
        let region = region(true).await;
        let (status, set) = region.admin_asks("PUT /secrets/a", r#"{"value":"one"}"#).await;
        assert_eq!(status, StatusCode::OK);
        let id = set["id"].as_str().expect("an ID").to_owned();
        assert!(id.starts_with("https://KV.vault.azure.net/secrets/a/"), "{id}");
        assert_eq!(set["value"], "one");
        assert_eq!(set["attributes"]["enabled"], true);
        let version = id.rsplit('/').next().expect("a version");
        let (_, got) = region.admin_asks(&format!("GET /secrets/a/{version}"), "").await;
        assert_eq!(got["value"], "one");
        let (status, gone) = region.admin_asks("DELETE /secrets/a", "").await;
        assert_eq!(status, StatusCode::OK);
        assert!(gone["scheduledPurgeDate"].is_i64() && gone.get("value").is_none());
        let (status, error) = region.admin_asks("GET /secrets/a", "").await;
        assert_eq!(status, StatusCode::NOT_FOUND);
        assert_eq!(error["error"]["code"], "SecretNotFound");
        let (status, error) = region.admin_asks("PUT /secrets/a", r#"{"value":"x"}"#).await;
        assert_eq!(status, StatusCode::CONFLICT);
        assert_eq!(error["error"]["innererror"]["code"], "ObjectIsDeletedButRecoverable");
        let (status, _) = region.admin_asks("POST /deletedsecrets/a/recover", "").await;
        assert_eq!(status, StatusCode::OK);
        region.admin_asks("DELETE /secrets/a", "").await;
        let (status, _) = region.admin_asks("DELETE /deletedsecrets/a", "").await;
        assert_eq!(status, StatusCode::NO_CONTENT);
    }

    #[tokio::test]
    async fn a_role_opens_exactly_its_doors() {
        let region = region(true).await;
        region.admin_asks("PUT /secrets/a", r#"{"value":"one"}"#).await;
        let ask = async |token: &str, line: &str| {
            region.ask(token, line, r#"{"value":"x"}"#, Origin::Inside).await.0
        };
        for (line, reader) in [
            ("GET /secrets/a", StatusCode::OK),
            ("GET /secrets", StatusCode::OK),
            ("GET /secrets/a/versions", StatusCode::OK),
            ("PUT /secrets/a", StatusCode::FORBIDDEN),
            ("PATCH /secrets/a", StatusCode::FORBIDDEN),
            ("DELETE /secrets/a", StatusCode::FORBIDDEN),
            ("POST /secrets/a/backup", StatusCode::FORBIDDEN),
            ("POST /secrets/restore", StatusCode::FORBIDDEN),
            ("DELETE /deletedsecrets/a", StatusCode::FORBIDDEN),
        ] {
            assert_eq!(ask(&region.reader, line).await, reader, "{line}");
            assert_eq!(ask(&region.stranger, line).await, StatusCode::FORBIDDEN, "{line}");
            assert_eq!(ask("forged", line).await, StatusCode::UNAUTHORIZED, "{line}");
        }
    }

    #[tokio::test]
    async fn without_a_token_the_challenge_says_where_to_get_one() {
        let region = region(true).await;
        let (status, headers, _) = region.ask("", "GET /secrets/a", "", Origin::Inside).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED);
        let challenge = headers["www-authenticate"].to_str().expect("text");
        assert!(challenge.contains("authorization=\"https://login.microsoftonline.com/"));
        assert!(challenge.contains("resource=\"https://vault.azure.net\""));
    }

    #[tokio::test]
    async fn a_private_vault_answers_only_inside() {
        let region = region(false).await;
        let (status, _, error) =
            region.ask(&region.reader, "GET /secrets/a", "", Origin::Machine).await;
        assert_eq!(status, StatusCode::FORBIDDEN);
        assert_eq!(error["error"]["innererror"]["code"], "ForbiddenByConnection");
        let (status, ..) = region.ask(&region.reader, "GET /secrets/a", "", Origin::Inside).await;
        assert_eq!(status, StatusCode::NOT_FOUND);
    }

    #[tokio::test]
    async fn lists_come_in_pages() {
        let region = region(true).await;
        for at in 0..57 {
            let line = format!("PUT /secrets/s{at:02}");
            region.admin_asks(&line, r#"{"value":"v"}"#).await;
        }
        let mut names = Vec::new();
        let mut next = Some("/secrets".to_owned());
        while let Some(path) = next {
            let (status, page) = region.admin_asks(&format!("GET {path}"), "").await;
            assert_eq!(status, StatusCode::OK);
            let items = page["value"].as_array().expect("a list");
            assert!(items.len() <= PAGE);
            names.extend(items.iter().map(|item| item["id"].as_str().unwrap().to_owned()));
            next = page["nextLink"]
                .as_str()
                .map(|link| link.strip_prefix("https://KV.vault.azure.net").unwrap().to_owned());
        }
        assert_eq!(names.len(), 57);
        names.dedup();
        assert_eq!(names.len(), 57);
    }

    #[tokio::test]
    async fn reads_and_writes_are_recorded_without_values() {
        let region = region(true).await;
        region.admin_asks("PUT /secrets/a", r#"{"value":"hunter2"}"#).await;
        region.ask(&region.stranger, "GET /secrets/a", "", Origin::Inside).await;
        let log = std::fs::read_to_string(region.directory.logs().join("audit")).expect("log");
        let events: Vec<Value> =
            log.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!(events[0]["operationName"], "SecretSet");
        assert_eq!(events[0]["resultType"], "Success");
        assert_eq!(events[1]["operationName"], "SecretGet");
        assert_eq!(events[1]["properties"]["httpStatusCode"], 403);
        assert!(!log.contains("hunter2"));
    }
}
