//! Keys and certificates as regions kept them before there was one way for all objects: all versions in
//! one record, a certificate without its secret. They are taken over when the region starts, in one step.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::policy::PFX;
use super::{
    Attributes, Kind, NewSecret, ObjectRecord, VaultError, Vaults, from_json, policy, version_key,
};
use crate::certificate::{Bundle, PrivateKey};
use crate::identity::token::{base64, unbase64};
use crate::store::Batch;

const KEYS: &str = "vault.key";
const CERTIFICATES: &str = "vault.certificate";

/// All versions, oldest first.
#[derive(Deserialize)]
struct Old {
    name: String,
    versions: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    version: String,
    jwk: Value,
    /// PKCS #8, sealed for `vault.key/{vault}/{name}/{version}`.
    private: String,
    attributes: Attributes,
    created: i64,
    tags: Option<Map<String, Value>>,
    ops: Vec<String>,
    certificate: Option<Certificate>,
}

#[derive(Deserialize)]
struct Certificate {
    cer: String,
    csr: String,
    policy: Value,
}

impl Vaults {
    /// Takes over what an older region has kept. Nothing to do from the second time on.
    pub async fn adopt(&self) -> Result<(), VaultError> {
        let _turn = self.writing.lock().await;
        let mut batch = Batch::new();
        for namespace in [CERTIFICATES, KEYS] {
            for (key, bytes) in self.store.list_state(namespace, "") {
                let old: Old = from_json(&key, &bytes)?;
                let vault = key.split_once('/').map_or(key.as_str(), |(vault, _)| vault);
                for entry in &old.versions {
                    self.adopt_one(&mut batch, namespace, vault, &old, entry)?;
                }
                batch.delete_state(namespace, &key);
            }
        }
        if !batch.is_empty() {
            self.store.commit(batch).await?;
        }
        Ok(())
    }

    fn adopt_one(
        &self,
        batch: &mut Batch,
        namespace: &str,
        vault: &str,
        old: &Old,
        entry: &Entry,
    ) -> Result<(), VaultError> {
        let (name, version) = (&old.name, &entry.version);
        let damaged = || VaultError::Damaged(format!("{namespace}/{vault}/{name}/{version}"));
        let sealed = unbase64(&entry.private).ok_or_else(damaged)?;
        let place = format!("{KEYS}/{}", version_key(vault, name, version));
        let private = self.sealer.open_sealed(&place, &sealed)?;
        let said = |detail: Value| {
            let mut record = super::life::new_record(NewSecret {
                tags: entry.tags.clone(),
                attributes: entry.attributes.clone(),
                ..NewSecret::default()
            });
            record.created = i128::from(entry.created) * 1_000_000_000;
            record.updated = record.created;
            record.detail = detail;
            record
        };
        let object = |managed: bool, policy: Value| ObjectRecord {
            name: name.clone(),
            current: version.clone(),
            managed,
            policy,
            deleted: None,
        };
        if namespace == KEYS {
            let mut record = said(json!({ "jwk": entry.jwk, "key_ops": entry.ops }));
            record.value = self.seal(Kind::Key, vault, name, version, &private);
            let managed = entry.certificate.is_some();
            let object = object(managed, Value::Null);
            Self::put(batch, Kind::Key, vault, &object, version, &record);
            return Ok(());
        }
        let certificate = entry.certificate.as_ref().ok_or_else(damaged)?;
        let policy = policy::complete(&certificate.policy)?;
        let record = said(json!({ "cer": certificate.cer, "csr": certificate.csr }));
        let object_record = object(false, policy);
        Self::put(batch, Kind::Certificate, vault, &object_record, version, &record);
        // A secret of the name that is somebody's own stays theirs.
        let theirs = self.object(Kind::Secret, vault, name)?.is_some_and(|one| !one.managed);
        if !theirs {
            let key = PrivateKey::from_pkcs8(&private).map_err(|_| damaged())?;
            let chain = vec![unbase64(&certificate.cer).ok_or_else(damaged)?];
            let pfx = Bundle { key, chain }.to_pfx("").map_err(|_| damaged())?;
            let mut record = said(Value::Null);
            record.content_type = Some(PFX.to_owned());
            let value = zeroize::Zeroizing::new(base64(&pfx));
            record.value = self.seal(Kind::Secret, vault, name, version, value.as_bytes());
            let object = object(true, Value::Null);
            Self::put(batch, Kind::Secret, vault, &object, version, &record);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::to_json;
    use super::*;

    #[tokio::test]
    async fn what_an_older_region_kept_is_there_with_its_secret() {
        let vaults = super::super::tests::vaults();
        let bundle = crate::certificate::tests::made("www.example.org", -1, 30);
        let sealed = |name: &str| {
            let place = format!("vault.key/kv/{name}/01");
            base64(&vaults.sealer.seal(&place, bundle.key.pkcs8()))
        };
        let entry = |name: &str, certificate: Value| {
            json!({
                "version": "01", "jwk": bundle.key.jwk().expect("a key"), "private": sealed(name),
                "attributes": {}, "created": 1_700_000_000, "tags": { "a": "b" },
                "ops": ["sign", "verify"], "certificate": certificate,
            })
        };
        let certificate = json!({
            "cer": base64(bundle.leaf()), "csr": "AA==",
            "policy": { "x509_props": { "subject": "CN=www.example.org" } },
        });
        let record =
            |name: &str, entry: Value| to_json(&json!({ "name": name, "versions": [entry] }));
        let mut batch = Batch::new();
        batch
            .put_state(KEYS, "kv/signing", record("signing", entry("signing", Value::Null)))
            .put_state(KEYS, "kv/www", record("www", entry("www", certificate.clone())))
            .put_state(CERTIFICATES, "kv/www", record("www", entry("www", certificate)));
        vaults.store.commit(batch).await.expect("written");
        vaults.adopt().await.expect("adopted");
        vaults.adopt().await.expect("nothing to do");
        let key = vaults.current(Kind::Key, "kv", "signing").expect("its key");
        assert!(!key.managed && key.created == 1_700_000_000);
        vaults.usable_key("kv", "signing", None, "sign").expect("usable");
        let www = vaults.current(Kind::Certificate, "kv", "www").expect("the certificate");
        assert_eq!(www.policy["secret_props"]["contentType"], PFX);
        let secret = vaults.read("kv", "www", Some("01")).expect("its secret");
        assert!(secret.version.managed);
        let held = super::super::certificates::of_secret(&secret.value).expect("a certificate");
        assert_eq!(held.key.pkcs8(), bundle.key.pkcs8());
        assert!(vaults.store.list_state(KEYS, "").is_empty());
    }
}
