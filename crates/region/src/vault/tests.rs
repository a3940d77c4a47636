//! What is kept of secrets, and the rules about it.

use super::*;
use crate::directory::Directory;

pub(crate) fn vaults_in(directory: &Directory) -> Arc<Vaults> {
    directory.create().expect("created");
    let store = Store::open(&directory.store()).expect("a store");
    let sealer = Arc::new(Sealer::open(&directory.vault_key()).expect("a key"));
    let audit = audit::Audit::open(&directory.logs().join("vault-audit.jsonl"));
    Vaults::new(&store, sealer, audit.expect("an audit log"))
}

pub(crate) fn vaults() -> Arc<Vaults> {
    vaults_in(&Directory::at(tempfile::tempdir().expect("temp dir").keep()))
}

#[tokio::test]
async fn versions_are_kept_and_the_newest_is_current() {
    let vaults = vaults();
    let one = vaults.set("kv", "Db-Password", "one", NewSecret::default()).await.expect("set");
    let two = vaults.set("KV", "db-password", "two", NewSecret::default()).await.expect("set");
    assert_ne!(one.version, two.version);
    assert_eq!(*vaults.read("kv", "DB-PASSWORD", None).expect("read").value, "two");
    let first = vaults.read("kv", "db-password", Some(&one.version)).expect("read");
    assert_eq!(*first.value, "one");
    let versions = vaults.versions(Kind::Secret, "kv", "db-password").expect("list");
    let ids: Vec<_> = versions.into_iter().map(|found| found.version).collect();
    assert_eq!(ids, [one.version, two.version]);
}

#[tokio::test]
async fn a_deleted_secret_can_be_recovered_until_it_is_purged() {
    let vaults = vaults();
    vaults.set("kv", "a", "v", NewSecret::default()).await.expect("set");
    vaults.delete(Kind::Secret, "kv", "a", Some(7)).await.expect("deleted");
    assert!(matches!(vaults.read("kv", "a", None), Err(VaultError::NotFound(..))));
    assert!(matches!(
        vaults.set("kv", "a", "w", NewSecret::default()).await,
        Err(VaultError::DeletedButRecoverable(..))
    ));
    vaults.recover(Kind::Secret, "kv", "a").await.expect("recovered");
    assert_eq!(*vaults.read("kv", "a", None).expect("back").value, "v");
    vaults.delete(Kind::Secret, "kv", "a", Some(7)).await.expect("deleted");
    assert!(matches!(
        vaults.purge(Kind::Secret, "kv", "a", true).await,
        Err(VaultError::PurgeProtected)
    ));
    vaults.purge(Kind::Secret, "kv", "a", false).await.expect("purged");
    assert!(matches!(
        vaults.recover(Kind::Secret, "kv", "a").await,
        Err(VaultError::DeletedNotFound(..))
    ));
    vaults.set("kv", "a", "new", NewSecret::default()).await.expect("the name is free");
    assert_eq!(vaults.versions(Kind::Secret, "kv", "a").expect("list").len(), 1);
}

#[tokio::test]
async fn what_is_over_its_retention_is_forgotten() {
    let vaults = vaults();
    vaults.set("kv", "a", "v", NewSecret::default()).await.expect("set");
    vaults.set("kv", "b", "v", NewSecret::default()).await.expect("set");
    vaults.delete(Kind::Secret, "kv", "a", Some(-1)).await.expect("deleted");
    vaults.delete(Kind::Secret, "kv", "b", Some(7)).await.expect("deleted");
    vaults.purge_expired().await.expect("purged");
    assert!(vaults.deleted(Kind::Secret, "kv", "a").is_err());
    assert!(vaults.deleted(Kind::Secret, "kv", "b").is_ok());
}

#[tokio::test]
async fn a_disabled_or_future_version_is_not_read() {
    let vaults = vaults();
    let disabled = Attributes { enabled: Some(false), ..Attributes::default() };
    vaults.set("kv", "a", "v", NewSecret::default()).await.expect("set");
    let change = NewSecret { attributes: disabled, ..NewSecret::default() };
    vaults.update(Kind::Secret, "kv", "a", None, change).await.expect("disabled");
    assert!(matches!(vaults.read("kv", "a", None), Err(VaultError::Disabled(..))));
    let future = Attributes { nbf: Some(i64::MAX), ..Attributes::default() };
    let new = NewSecret { attributes: future, ..NewSecret::default() };
    vaults.set("kv", "b", "v", new).await.expect("set");
    assert!(matches!(vaults.read("kv", "b", None), Err(VaultError::NotYetValid(_))));
}

#[tokio::test]
async fn a_backup_restores_every_version_and_opens_nowhere_else() {
    let vaults = vaults();
    let one = vaults.set("kv", "a", "one", NewSecret::default()).await.expect("set");
    vaults.set("kv", "a", "two", NewSecret::default()).await.expect("set");
    let blob = vaults.backup(Kind::Secret, "kv", "a").expect("backed up");
    assert!(!blob.windows(3).any(|window| window == b"two"));
    assert!(matches!(vaults.restore(Kind::Secret, "kv", &blob).await, Err(VaultError::Exists(..))));
    vaults.restore(Kind::Secret, "other", &blob).await.expect("restored");
    assert_eq!(*vaults.read("other", "a", None).expect("read").value, "two");
    let first = vaults.read("other", "a", Some(&one.version)).expect("read");
    assert_eq!(*first.value, "one");
    let stranger = self::vaults();
    assert!(matches!(
        stranger.restore(Kind::Secret, "kv", &blob).await,
        Err(VaultError::BadParameter(_))
    ));
}

#[tokio::test]
async fn bad_names_and_values_are_refused() {
    let vaults = vaults();
    let long = "n".repeat(128);
    for name in ["", "a/b", "..", "a b", "ü", "a\u{0}", &long] {
        assert!(
            matches!(
                vaults.set("kv", name, "v", NewSecret::default()).await,
                Err(VaultError::BadParameter(_))
            ),
            "{name:?}"
        );
    }
    let value = "v".repeat(MAX_VALUE + 1);
    assert!(vaults.set("kv", "a", &value, NewSecret::default()).await.is_err());
    assert!(vaults.set("kv", "a", &value[1..], NewSecret::default()).await.is_ok());
    let text = "Ünïcode 🔑\n\u{7f}";
    vaults.set("kv", "u", text, NewSecret::default()).await.expect("set");
    assert_eq!(*vaults.read("kv", "u", None).expect("read").value, text);
}

#[tokio::test]
async fn no_value_is_on_the_disk_in_clear() {
    let temp = tempfile::tempdir().expect("temp dir");
    let directory = Directory::at(temp.path());
    let vaults = vaults_in(&directory);
    let value = "a-value-that-nobody-else-writes";
    vaults.set("kv", "a", value, NewSecret::default()).await.expect("set");
    vaults.read("kv", "a", None).expect("read");
    drop(vaults);
    for entry in std::fs::read_dir(temp.path()).expect("listed").flatten() {
        if entry.path().is_file() {
            let bytes = std::fs::read(entry.path()).expect("read");
            let found = bytes.windows(value.len()).any(|window| window == value.as_bytes());
            assert!(!found, "{}", entry.path().display());
        }
    }
}

fn policy(extra: &Value) -> Value {
    let mut policy = serde_json::json!({
        "key_props": { "kty": "EC", "crv": "P-256" },
        "x509_props": { "subject": "CN=www.example.org" },
    });
    if let (Some(policy), Some(extra)) = (policy.as_object_mut(), extra.as_object()) {
        policy.extend(extra.clone());
    }
    serde_json::json!({ "policy": policy })
}

#[tokio::test]
async fn a_certificate_its_key_and_its_secret_live_and_die_together() {
    let vaults = vaults();
    let made = vaults.create_certificate("kv", "www", &policy(&Value::Null)).await.expect("made");
    let secret = vaults.read("kv", "www", None).expect("its secret");
    assert_eq!(secret.version.version, made.version);
    assert_eq!(secret.version.content_type.as_deref(), Some("application/x-pkcs12"));
    let bundle = certificates::of_secret(&secret.value).expect("a certificate with its key");
    assert_eq!(crate::identity::token::base64(bundle.leaf()), made.detail["cer"]);
    assert!(vaults.current(Kind::Key, "kv", "www").expect("its key").managed);

    // On their own they do not change.
    let managed =
        |result: Result<Version, VaultError>| matches!(result, Err(VaultError::Managed(..)));
    assert!(managed(vaults.set("kv", "www", "v", NewSecret::default()).await));
    assert!(managed(vaults.update(Kind::Secret, "kv", "www", None, NewSecret::default()).await));
    assert!(managed(vaults.delete(Kind::Secret, "kv", "www", None).await));
    assert!(managed(vaults.delete(Kind::Key, "kv", "www", None).await));
    assert!(managed(vaults.create_key("kv", "www", &serde_json::json!({ "kty": "EC" })).await));

    let off = Attributes { enabled: Some(false), ..Attributes::default() };
    let change = NewSecret { attributes: off, ..NewSecret::default() };
    vaults.update(Kind::Certificate, "kv", "www", None, change).await.expect("disabled");
    assert!(matches!(vaults.read("kv", "www", None), Err(VaultError::Disabled(..))));

    vaults.delete(Kind::Certificate, "kv", "www", Some(7)).await.expect("deleted");
    assert!(vaults.read("kv", "www", None).is_err());
    assert!(vaults.current(Kind::Key, "kv", "www").is_err());
    assert!(managed(vaults.recover(Kind::Secret, "kv", "www").await));
    let purged = vaults.purge(Kind::Certificate, "kv", "www", true).await;
    assert!(matches!(purged, Err(VaultError::PurgeProtected)));
    vaults.recover(Kind::Certificate, "kv", "www").await.expect("recovered");
    assert!(vaults.current(Kind::Secret, "kv", "www").is_ok());
    vaults.delete(Kind::Certificate, "kv", "www", Some(7)).await.expect("deleted");
    vaults.purge(Kind::Certificate, "kv", "www", false).await.expect("purged");
    for kind in Kind::ALL {
        assert!(vaults.list(kind, "kv", true).expect("listed").is_empty(), "{kind:?}");
    }
    vaults.set("kv", "www", "v", NewSecret::default()).await.expect("the name is free");
    let taken = vaults.create_certificate("kv", "www", &policy(&Value::Null)).await;
    assert!(matches!(taken, Err(VaultError::NameTaken(Kind::Secret, _))));
}

#[tokio::test]
async fn a_certificate_is_imported_backed_up_and_restored() {
    let vaults = vaults();
    let bundle = crate::certificate::tests::made("www.example.org", -1, 30);
    let pfx = bundle.to_pfx("right").expect("a PFX");
    let asked = |password: &str| serde_json::json!({ "value": crate::identity::token::base64(&pfx), "pwd": password });
    let wrong = vaults.import_certificate("kv", "www", &asked("wrong")).await;
    assert!(matches!(wrong, Err(VaultError::BadParameter(what)) if what.contains("PKCS#12")));
    assert!(vaults.list(Kind::Secret, "kv", false).expect("listed").is_empty());
    let one = vaults.import_certificate("kv", "www", &asked("right")).await.expect("imported");
    assert_eq!(one.policy["issuer"]["name"], "Unknown");
    let pem = serde_json::json!({ "value": *bundle.to_pem() });
    let two = vaults.import_certificate("kv", "www", &pem).await.expect("imported");
    assert_ne!(one.version, two.version);
    let encoded = crate::identity::token::base64(bundle.to_pem().as_bytes());
    let encoded = serde_json::json!({ "value": encoded });
    vaults.import_certificate("kv", "also", &encoded).await.expect("imported");
    let secret = vaults.read("kv", "www", None).expect("its secret");
    assert!(secret.value.contains("BEGIN PRIVATE KEY"));
    assert_eq!(secret.version.content_type.as_deref(), Some("application/x-pem-file"));

    let blob = vaults.backup(Kind::Certificate, "kv", "www").expect("backed up");
    assert!(matches!(
        vaults.restore(Kind::Secret, "other", &blob).await,
        Err(VaultError::BadParameter(_))
    ));
    vaults.restore(Kind::Certificate, "other", &blob).await.expect("restored");
    assert_eq!(vaults.versions(Kind::Certificate, "other", "www").expect("listed").len(), 2);
    let back = vaults.read("other", "www", Some(&one.version)).expect("its secret");
    let back = certificates::of_secret(&back.value).expect("a certificate with its key");
    assert_eq!(back.key.pkcs8(), bundle.key.pkcs8());
    vaults.usable_key("other", "www", None, "sign").expect("its key");
}

#[tokio::test]
async fn a_key_that_may_not_leave_the_vault_does_not() {
    let vaults = vaults();
    let inside = serde_json::json!({ "key_props": { "kty": "EC", "exportable": false } });
    vaults.create_certificate("kv", "www", &policy(&inside)).await.expect("made");
    let secret = vaults.read("kv", "www", None).expect("its secret");
    assert!(!secret.value.contains("PRIVATE KEY") && secret.value.contains("CERTIFICATE"));
}

#[tokio::test]
async fn a_reused_key_is_the_same_key() {
    let vaults = vaults();
    let reuse = serde_json::json!({ "key_props": { "kty": "EC", "reuse_key": true } });
    vaults.create_certificate("kv", "www", &policy(&reuse)).await.expect("made");
    let first = vaults.current(Kind::Key, "kv", "www").expect("its key");
    vaults.create_certificate("kv", "www", &policy(&reuse)).await.expect("made");
    let second = vaults.current(Kind::Key, "kv", "www").expect("its key");
    assert_ne!(first.version, second.version);
    assert_eq!(first.detail["jwk"], second.detail["jwk"]);
    vaults.create_certificate("kv", "www", &serde_json::json!({})).await.expect("by its policy");
}
