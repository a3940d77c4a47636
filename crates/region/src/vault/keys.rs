//! Keys' own: made, imported, rotated
//! (<https://learn.microsoft.com/rest/api/keyvault/keys/operation-groups>). What is done with them is in
//! `cryptography`.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{Kind, NewSecret, VaultError, Vaults, Version, check_name, shown};
use crate::certificate::{Curve, KeyError, PrivateKey};
use crate::store::Batch;

/// What a key may be used for, unless it says.
const ALL_OPERATIONS: [&str; 6] = ["encrypt", "decrypt", "sign", "verify", "wrapKey", "unwrapKey"];

impl From<KeyError> for VaultError {
    fn from(error: KeyError) -> Self {
        Self::BadParameter(error.0)
    }
}

impl Vaults {
    /// Makes a new version of a key, as a request asks for it.
    pub(super) async fn create_key(
        &self,
        vault: &str,
        name: &str,
        asked: &Value,
    ) -> Result<Version, VaultError> {
        check_name(name)?;
        let key = generate(asked).await?;
        self.add_key(vault, name, &key, asked, &asked["key_ops"], "create").await
    }

    /// Makes a new version of a key, the key being given.
    pub(super) async fn import_key(
        &self,
        vault: &str,
        name: &str,
        asked: &Value,
    ) -> Result<Version, VaultError> {
        check_name(name)?;
        if asked["Hsm"] == true || asked["hsm"] == true {
            return Err(VaultError::NotSupported(
                "A standard vault has no HSM: import the key as a software key.".to_owned(),
            ));
        }
        let key = PrivateKey::from_jwk(&asked["key"])?;
        self.add_key(vault, name, &key, asked, &asked["key"]["key_ops"], "import").await
    }

    /// Makes a new version of a key like the current one
    /// (<https://learn.microsoft.com/rest/api/keyvault/keys/rotate-key>).
    pub(super) async fn rotate_key(&self, vault: &str, name: &str) -> Result<Version, VaultError> {
        let current = self.current(Kind::Key, vault, name)?;
        let old = self.private_key(vault, name, &current.version)?;
        let jwk = old.jwk()?;
        let asked = json!({
            "kty": jwk["kty"], "crv": jwk["crv"], "key_size": old.bits(),
            "tags": current.tags, "key_ops": current.detail["key_ops"],
        });
        self.create_key(vault, name, &asked).await
    }

    async fn add_key(
        &self,
        vault: &str,
        name: &str,
        key: &PrivateKey,
        asked: &Value,
        ops: &Value,
        operation: &'static str,
    ) -> Result<Version, VaultError> {
        let new = NewSecret {
            content_type: None,
            tags: tags(asked)?,
            attributes: Self::attributes_of(asked)?,
            detail: json!({ "jwk": key.jwk()?, "key_ops": operations(key, ops)? }),
        };
        let _turn = self.writing.lock().await;
        let version = super::life::new_version();
        let object = self.next(Kind::Key, vault, name, &version, operation)?;
        let detail = new.detail.clone();
        let mut record = super::life::new_record(new);
        record.detail = detail;
        record.value = self.seal(Kind::Key, vault, name, &version, key.pkcs8());
        let mut batch = Batch::new();
        Self::put(&mut batch, Kind::Key, vault, &object, &version, &record);
        self.store.commit(batch).await?;
        Ok(shown(&object, &version, record))
    }

    /// The private part of a version.
    pub(super) fn private_key(
        &self,
        vault: &str,
        name: &str,
        version: &str,
    ) -> Result<PrivateKey, VaultError> {
        let record = self.version(Kind::Key, vault, name, version)?;
        let plain = self.unseal(Kind::Key, vault, name, version, &record)?;
        PrivateKey::from_pkcs8(&plain)
            .map_err(|_| VaultError::Damaged(format!("{vault}/{name}/{version}")))
    }

    /// The same for something that is done with the key, if it may be: enabled, valid now, and one of its
    /// operations.
    pub(super) fn usable_key(
        &self,
        vault: &str,
        name: &str,
        version: Option<&str>,
        operation: &'static str,
    ) -> Result<(Version, PrivateKey), VaultError> {
        let shown = self.one(Kind::Key, vault, name, version)?;
        let now = Timestamp::now().as_second();
        if shown.attributes.enabled == Some(false) {
            return Err(VaultError::Disabled(Kind::Key, operation));
        }
        // What was made with a key can be read and checked when its time is over.
        let makes = matches!(operation, "encrypt" | "sign" | "wrapKey");
        if makes && shown.attributes.nbf.is_some_and(|nbf| nbf > now) {
            return Err(VaultError::NotYetValid(Kind::Key));
        }
        if makes && shown.attributes.exp.is_some_and(|exp| exp <= now) {
            return Err(VaultError::NotPermitted(operation));
        }
        let ops = shown.detail["key_ops"].as_array();
        if !ops.is_some_and(|ops| ops.iter().any(|op| op == operation)) {
            return Err(VaultError::NotPermitted(operation));
        }
        let key = self.private_key(vault, name, &shown.version)?;
        Ok((shown, key))
    }
}

/// A key of the kind that was asked for: `kty` with `key_size` or `crv`.
pub(super) async fn generate(asked: &Value) -> Result<PrivateKey, VaultError> {
    let kty = asked["kty"].as_str().unwrap_or("RSA").to_owned();
    let bits = asked["key_size"].as_u64();
    let curve = asked["crv"].as_str().unwrap_or("P-256").to_owned();
    let made = tokio::task::spawn_blocking(move || match kty.as_str() {
        "RSA" => PrivateKey::generate_rsa(bits.unwrap_or(2048)),
        "EC" => match Curve::named(&curve) {
            Some(curve) => PrivateKey::generate_ec(curve),
            None => Err(KeyError(format!("The curve {curve} is not supported."))),
        },
        kty => Err(KeyError(format!(
            "The key type {kty} is not supported: a standard vault has RSA and EC keys, and no HSM."
        ))),
    });
    Ok(made.await.map_err(|error| VaultError::BadParameter(error.to_string()))??)
}

/// `key_ops` as asked for, or all that the key can do.
pub(super) fn operations(key: &PrivateKey, asked: &Value) -> Result<Vec<String>, VaultError> {
    let can = |op: &str| match key.kind() {
        crate::certificate::Kind::Rsa(_) => true,
        // A curve signs; it does not encrypt.
        crate::certificate::Kind::Ec(..) => matches!(op, "sign" | "verify"),
    };
    let asked: Option<Vec<String>> = match asked {
        Value::Null => None,
        ops => Some(serde_json::from_value(ops.clone()).map_err(|_| wrong("key_ops"))?),
    };
    match asked.filter(|ops| !ops.is_empty()) {
        None => Ok(ALL_OPERATIONS.into_iter().filter(|op| can(op)).map(str::to_owned).collect()),
        Some(ops) if ops.iter().all(|op| ALL_OPERATIONS.contains(&op.as_str()) && can(op)) => {
            Ok(ops)
        }
        Some(_) => Err(wrong("key_ops")),
    }
}

/// `tags` of a request.
pub(super) fn tags(asked: &Value) -> Result<Option<Map<String, Value>>, VaultError> {
    let fits = |(name, value): (&String, &Value)| {
        name.len() <= 256 && value.as_str().is_some_and(|value| value.len() <= 256)
    };
    match &asked["tags"] {
        Value::Null => Ok(None),
        Value::Object(tags) if tags.len() <= 15 && tags.iter().all(fits) => Ok(Some(tags.clone())),
        _ => Err(wrong("tags")),
    }
}

fn wrong(parameter: &str) -> VaultError {
    VaultError::BadParameter(format!("The parameter '{parameter}' is invalid."))
}
