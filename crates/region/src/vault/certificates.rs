//! Certificates' own: made by a policy, imported, renewed
//! (<https://learn.microsoft.com/rest/api/keyvault/certificates/operation-groups>). With each version of a
//! certificate goes a version of its key and one of the secret that holds both, all of one name
//! (<https://learn.microsoft.com/azure/key-vault/certificates/about-certificates>).

use serde_json::{Map, Value, json};

use super::policy::{self, PEM};
use super::{
    Attributes, Kind, MAX_VALUE, NewSecret, ObjectRecord, VaultError, Vaults, Version, check_name,
    keys, shown,
};
use crate::certificate::{Bundle, BundleError, pem_chain};
use crate::identity::token::{base64, unbase64};
use crate::store::Batch;

/// A version to be written.
struct New {
    bundle: Bundle,
    policy: Value,
    csr: Option<Vec<u8>>,
    attributes: Attributes,
    tags: Option<Map<String, Value>>,
}

impl Vaults {
    /// Makes a certificate by the policy in a request. It is done when this returns.
    pub(super) async fn create_certificate(
        &self,
        vault: &str,
        name: &str,
        asked: &Value,
    ) -> Result<Version, VaultError> {
        check_name(name)?;
        let before = self.current(Kind::Certificate, vault, name).ok();
        let policy = match (&asked["policy"], &before) {
            // A new version by the policy that there is.
            (Value::Null, Some(before)) => policy::complete(&before.policy)?,
            (asked, _) => policy::complete(asked)?,
        };
        let reused = match before.filter(|_| policy["key_props"]["reuse_key"] == true) {
            Some(before) => Some(self.private_key(vault, name, &before.version)?),
            None => None,
        };
        let key = match reused {
            Some(key) => key,
            None => keys::generate(&policy["key_props"]).await?,
        };
        let mut attributes = Self::attributes_of(asked)?;
        let (certificate, csr) = policy::certify(&key, &policy, &mut attributes)?;
        let bundle = Bundle { key, chain: vec![certificate] };
        let tags = keys::tags(asked)?;
        let new = New { bundle, policy, csr: Some(csr), attributes, tags };
        self.add_certificate(vault, name, new, "create").await
    }

    /// Makes a version of a certificate and key that a client brings, as PFX (base64) or PEM.
    pub(super) async fn import_certificate(
        &self,
        vault: &str,
        name: &str,
        asked: &Value,
    ) -> Result<Version, VaultError> {
        check_name(name)?;
        let value = asked["value"].as_str().ok_or_else(|| {
            VaultError::BadParameter("The parameter 'value' is required.".to_owned())
        })?;
        // PEM comes as it is or, by `az` and the SDKs, in base64 as PFX does.
        let bytes = zeroize::Zeroizing::new(if is_pem(value.as_bytes()) {
            value.as_bytes().to_vec()
        } else {
            unbase64(value).ok_or_else(|| refused(BundleError::NotPfx))?
        });
        let declared = asked["policy"]["secret_props"]["contentType"].as_str();
        let content_type = if is_pem(&bytes) || declared == Some(PEM) { PEM } else { policy::PFX };
        let password =
            zeroize::Zeroizing::new(asked["pwd"].as_str().unwrap_or_default().to_owned());
        let read = tokio::task::spawn_blocking(move || match content_type {
            PEM => Bundle::from_pem(std::str::from_utf8(&bytes).unwrap_or_default()),
            _ => Bundle::from_pfx(&bytes, &password),
        });
        let read = read.await.map_err(|error| VaultError::Damaged(error.to_string()))?;
        let bundle = read.map_err(refused)?;
        let facts = bundle.facts().map_err(refused)?;
        let mut attributes = Self::attributes_of(asked)?;
        attributes.nbf = Some(facts.not_before);
        attributes.exp = Some(facts.not_after);
        let policy = policy::imported(&asked["policy"], content_type, &facts, &bundle.key)?;
        let tags = keys::tags(asked)?;
        let new = New { bundle, policy, csr: None, attributes, tags };
        self.add_certificate(vault, name, new, "import").await
    }

    /// Changes the policy by which the next version is made.
    pub(super) async fn update_policy(
        &self,
        vault: &str,
        name: &str,
        asked: &Value,
    ) -> Result<Version, VaultError> {
        let _turn = self.writing.lock().await;
        let mut object = self.alive(Kind::Certificate, vault, name)?;
        object.policy = policy::changed(&object.policy, asked)?;
        let mut batch = Batch::new();
        let key = super::object_key(vault, name);
        batch.put_state(Kind::Certificate.objects(), &key, super::to_json(&object));
        self.store.commit(batch).await?;
        self.current(Kind::Certificate, vault, name)
    }

    /// Writes a version of the three, in one step.
    async fn add_certificate(
        &self,
        vault: &str,
        name: &str,
        new: New,
        operation: &'static str,
    ) -> Result<Version, VaultError> {
        let New { bundle, policy, csr, attributes, tags } = new;
        let content_type = policy["secret_props"]["contentType"].as_str().unwrap_or_default();
        let exportable = policy["key_props"]["exportable"] != false;
        let value = secret_of(&bundle, content_type, exportable)?;
        if value.len() > MAX_VALUE {
            return Err(VaultError::BadParameter(format!(
                "The certificate with its chain must not exceed {MAX_VALUE} bytes; it has {}.",
                value.len()
            )));
        }
        let _turn = self.writing.lock().await;
        let version = super::life::new_version();
        let mut certificate = self.next(Kind::Certificate, vault, name, &version, operation)?;
        certificate.policy = policy.clone();
        let key = self.member(Kind::Key, vault, &certificate)?;
        let secret = self.member(Kind::Secret, vault, &certificate)?;
        let said = |detail: Value, content_type: Option<&str>| {
            let mut record = super::life::new_record(NewSecret {
                content_type: content_type.map(str::to_owned),
                tags: tags.clone(),
                attributes: attributes.clone(),
                detail: Value::Null,
            });
            record.detail = detail;
            record
        };
        let mut detail = json!({ "cer": base64(bundle.leaf()) });
        if let Some(csr) = csr {
            detail["csr"] = base64(&csr).into();
        }
        let certified = said(detail, None);
        let ops = keys::operations(&bundle.key, &Value::Null)?;
        let mut keyed = said(json!({ "jwk": bundle.key.jwk()?, "key_ops": ops }), None);
        keyed.value = self.seal(Kind::Key, vault, name, &version, bundle.key.pkcs8());
        let mut secreted = said(Value::Null, Some(content_type));
        secreted.value = self.seal(Kind::Secret, vault, name, &version, value.as_bytes());
        let mut batch = Batch::new();
        Self::put(&mut batch, Kind::Key, vault, &key, &version, &keyed);
        Self::put(&mut batch, Kind::Secret, vault, &secret, &version, &secreted);
        Self::put(&mut batch, Kind::Certificate, vault, &certificate, &version, &certified);
        self.store.commit(batch).await?;
        Ok(shown(&certificate, &version, certified))
    }

    /// The record of a certificate's key or secret with the same current version.
    fn member(
        &self,
        kind: Kind,
        vault: &str,
        certificate: &ObjectRecord,
    ) -> Result<ObjectRecord, VaultError> {
        match self.object(kind, vault, &certificate.name)? {
            Some(object) if !object.managed && object.deleted.is_some() => {
                Err(VaultError::DeletedButRecoverable(kind, object.name))
            }
            Some(object) if !object.managed => Err(VaultError::NameTaken(kind, object.name)),
            _ => Ok(ObjectRecord {
                name: certificate.name.clone(),
                current: certificate.current.clone(),
                managed: true,
                policy: Value::Null,
                deleted: None,
            }),
        }
    }
}

fn is_pem(bytes: &[u8]) -> bool {
    bytes.trim_ascii_start().starts_with(b"-----BEGIN ")
}

/// What the secret of a certificate holds: PFX without a password in base64, or PEM. Of a key that may not
/// leave the vault the certificate alone.
fn secret_of(
    bundle: &Bundle,
    content_type: &str,
    exportable: bool,
) -> Result<zeroize::Zeroizing<String>, VaultError> {
    Ok(match (content_type, exportable) {
        (PEM, true) => bundle.to_pem(),
        (_, false) => zeroize::Zeroizing::new(pem_chain(&bundle.chain)),
        _ => zeroize::Zeroizing::new(base64(&bundle.to_pfx("").map_err(refused)?)),
    })
}

/// In Azure's words: <https://github.com/Azure/azure-sdk-for-net/issues/26492>,
/// <https://github.com/Azure/azure-cli/issues/19017>.
fn refused(error: BundleError) -> VaultError {
    VaultError::BadParameter(match error {
        BundleError::NotPem => {
            "The specified PEM X.509 certificate content is in an unexpected format. Please check \
             if certificate is in valid PEM format."
                .to_owned()
        }
        BundleError::NoKey | BundleError::NoCertificate => {
            "No certificate with private key found in the specified X.509 certificate content. \
             Please specify X.509 certificate content with only one certificate containing private \
             key."
                .to_owned()
        }
        BundleError::NotPfx | BundleError::Password => {
            "The specified PKCS#12 X.509 certificate content can not be read. Please check if \
             certificate is in valid PKCS#12 format."
                .to_owned()
        }
        BundleError::BadCertificate => {
            "The specified X.509 certificate content is invalid. Error: One or more X.509 \
             properties are invalid."
                .to_owned()
        }
        other => format!("The specified X.509 certificate content is invalid. Error: {other}."),
    })
}

/// The certificate with its key that a secret's value holds: for whoever serves it.
pub(crate) fn of_secret(value: &str) -> Result<Bundle, BundleError> {
    if is_pem(value.as_bytes()) {
        return Bundle::from_pem(value);
    }
    Bundle::from_pfx(&unbase64(value.trim()).ok_or(BundleError::NotPfx)?, "")
}
