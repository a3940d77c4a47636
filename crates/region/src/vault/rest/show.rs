//! How a vault shows what it holds
//! (<https://learn.microsoft.com/rest/api/keyvault/>).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::identity::token::unbase64;
use crate::vault::{Kind, Version};

/// A vault, as far as it matters to what is shown.
pub(super) struct Shape<'a> {
    pub(super) vault: &'a str,
    pub(super) kind: Kind,
    pub(super) retention: i64,
    pub(super) protected: bool,
}

impl Shape<'_> {
    fn url(&self, kind: &str, name: &str) -> String {
        format!("https://{}.vault.azure.net/{kind}/{name}", self.vault)
    }

    /// The address of an object or of one version of it.
    fn id(&self, kind: Kind, version: &Version, with_version: bool) -> String {
        let id = self.url(kind.segment(), &version.name);
        if with_version { format!("{id}/{}", version.version) } else { id }
    }

    fn attributes(&self, version: &Version) -> Value {
        let mut attributes = json!({
            "enabled": version.attributes.enabled.unwrap_or(true),
            "created": version.created,
            "updated": version.updated,
            "recoveryLevel": if self.protected { "Recoverable" } else { "Recoverable+Purgeable" },
            "recoverableDays": self.retention,
        });
        if let Some(nbf) = version.attributes.nbf {
            attributes["nbf"] = json!(nbf);
        }
        if let Some(exp) = version.attributes.exp {
            attributes["exp"] = json!(exp);
        }
        attributes
    }

    /// As lists have it.
    pub(super) fn item(&self, version: &Version, with_version: bool) -> Value {
        let id = self.id(self.kind, version, with_version);
        let mut item = match self.kind {
            Kind::Key => json!({ "kid": id }),
            _ => json!({ "id": id }),
        };
        item["attributes"] = self.attributes(version);
        if let Some(kind) = &version.content_type {
            item["contentType"] = json!(kind);
        }
        if let Some(tags) = &version.tags {
            item["tags"] = json!(tags);
        }
        if version.managed {
            item["managed"] = json!(true);
        }
        if let Some(x5t) = thumbprint(version) {
            item["x5t"] = json!(x5t);
        }
        item
    }

    /// As an answer about one has it.
    pub(super) fn bundle(&self, version: &Version, value: Option<&str>) -> Value {
        let mut bundle = self.item(version, true);
        match self.kind {
            Kind::Secret => {
                if let Some(value) = value {
                    bundle["value"] = json!(value);
                }
                if version.managed {
                    bundle["kid"] = json!(self.id(Kind::Key, version, true));
                }
            }
            Kind::Key => {
                let mut key = version.detail["jwk"].clone();
                key["kid"] = bundle["kid"].take();
                key["key_ops"] = version.detail["key_ops"].clone();
                if let Some(bundle) = bundle.as_object_mut() {
                    bundle.shift_remove("kid");
                    bundle.insert("key".to_owned(), key);
                }
            }
            Kind::Certificate => {
                bundle["cer"] = version.detail["cer"].clone();
                bundle["kid"] = json!(self.id(Kind::Key, version, true));
                bundle["sid"] = json!(self.id(Kind::Secret, version, true));
                bundle["contentType"] = version.policy["secret_props"]["contentType"].clone();
                bundle["policy"] = self.policy(version);
                if version.detail["csr"].is_string() {
                    let id = format!("{}/pending", self.id(Kind::Certificate, version, false));
                    bundle["pending"] = json!({ "id": id });
                }
            }
        }
        bundle
    }

    /// A certificate's policy.
    pub(super) fn policy(&self, version: &Version) -> Value {
        let mut policy = version.policy.clone();
        policy["id"] = format!("{}/policy", self.id(Kind::Certificate, version, false)).into();
        policy
    }

    /// The operation that made a certificate. It is done by the time that anybody hears of it.
    pub(super) fn pending(&self, version: &Version, status: &str) -> Value {
        let id = self.id(Kind::Certificate, version, false);
        json!({
            "id": format!("{id}/pending"),
            "issuer": version.policy["issuer"],
            "csr": version.detail["csr"],
            "cancellation_requested": false,
            "status": status,
            "target": id,
            "request_id": version.version,
        })
    }

    fn add_deleted(&self, item: &mut Value, version: &Version) {
        let kind = format!("deleted{}", self.kind.segment());
        item["recoveryId"] = json!(self.url(&kind, &version.name));
        if let Some(deleted) = version.deleted {
            item["deletedDate"] = json!(deleted.deleted_date);
            item["scheduledPurgeDate"] = json!(deleted.scheduled_purge_date);
        }
    }

    /// A deleted object.
    pub(super) fn deleted(&self, version: &Version) -> Value {
        let mut bundle = self.bundle(version, None);
        self.add_deleted(&mut bundle, version);
        bundle
    }

    /// A deleted object in a list.
    pub(super) fn deleted_item(&self, version: &Version) -> Value {
        let mut item = self.item(version, false);
        self.add_deleted(&mut item, version);
        item
    }
}

/// A certificate's SHA-1, base64url.
fn thumbprint(version: &Version) -> Option<String> {
    let der = unbase64(version.detail["cer"].as_str()?)?;
    let sha1 = &aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY;
    Some(URL_SAFE_NO_PAD.encode(aws_lc_rs::digest::digest(sha1, &der)))
}
