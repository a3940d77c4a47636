//! Keys and self-signed certificates: made, shown and listed. Cryptography with them, import, deletion
//! and issuers other than `Self` are not built; a vault refuses them by name.
//!
//! <https://learn.microsoft.com/rest/api/keyvault/keys/operation-groups>,
//! <https://learn.microsoft.com/rest/api/keyvault/certificates/operation-groups>

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Method;
use jiff::Timestamp;
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk};
use jsonwebtoken::{Algorithm, EncodingKey};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_ECDSA_P256_SHA256,
    PKCS_ECDSA_P384_SHA384, PKCS_RSA_SHA256, RsaKeySize, SanType,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{Attributes, VaultError, Vaults, check_name, from_json, secret_key, to_json};
use crate::identity::token::base64;
use crate::store::Batch;

/// `{vault}/{name}` → [`Record`].
const KEYS: &str = "vault.key";
/// The same for certificates.
const CERTIFICATES: &str = "vault.certificate";
/// The most versions that an object keeps.
const VERSIONS: usize = 500;
const MONTH: i64 = 30 * 86_400;

/// A key or certificate, all its versions, oldest first.
#[derive(Default, Serialize, Deserialize)]
struct Record {
    name: String,
    versions: Vec<Entry>,
}

/// A version.
#[derive(Clone, Serialize, Deserialize)]
struct Entry {
    version: String,
    /// The public key.
    jwk: Value,
    /// The private key, PKCS #8, sealed.
    private: String,
    attributes: Attributes,
    created: i64,
    tags: Option<Map<String, Value>>,
    /// A key's `key_ops`.
    ops: Vec<String>,
    /// A certificate, and what was asked for.
    certificate: Option<Certificate>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Certificate {
    /// DER, base64.
    cer: String,
    csr: String,
    policy: Value,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    CreateKey,
    CreateCertificate,
    Get,
    List,
    Versions,
    Pending,
    Policy,
}

/// An operation on keys or certificates.
#[derive(Debug)]
pub(super) struct Operation<'a> {
    pub(super) what: What,
    /// `keys` or `certificates`.
    pub(super) kind: &'static str,
    /// As the audit log calls it.
    pub(super) name: &'static str,
    /// The data action that a role must grant.
    pub(super) permission: &'static str,
    pub(super) object: Option<&'a str>,
    pub(super) version: Option<&'a str>,
}

impl<'a> Operation<'a> {
    pub(super) fn of(method: &Method, segments: &[&'a str]) -> Option<Self> {
        let key = "Microsoft.KeyVault/vaults/keys/read";
        let certificate = "Microsoft.KeyVault/vaults/certificates/read";
        let (what, kind, name, permission, object, version) = match (method.as_str(), segments) {
            ("POST", ["keys", name, "create"]) => {
                let permission = "Microsoft.KeyVault/vaults/keys/create/action";
                (What::CreateKey, "keys", "KeyCreate", permission, Some(*name), None)
            }
            ("GET", ["keys"]) => (What::List, "keys", "KeyList", key, None, None),
            ("GET", ["keys", name]) => (What::Get, "keys", "KeyGet", key, Some(*name), None),
            ("GET", ["keys", name, "versions"]) => {
                (What::Versions, "keys", "KeyListVersions", key, Some(*name), None)
            }
            ("GET", ["keys", name, version]) => {
                (What::Get, "keys", "KeyGet", key, Some(*name), Some(*version))
            }
            ("POST", ["certificates", name, "create"]) => {
                let permission = "Microsoft.KeyVault/vaults/certificates/create/action";
                let what = What::CreateCertificate;
                (what, "certificates", "CertificateCreate", permission, Some(*name), None)
            }
            ("GET", ["certificates"]) => {
                (What::List, "certificates", "CertificateList", certificate, None, None)
            }
            ("GET", ["certificates", name]) => {
                (What::Get, "certificates", "CertificateGet", certificate, Some(*name), None)
            }
            ("GET", ["certificates", name, "pending"]) => {
                let title = "CertificatePendingGet";
                (What::Pending, "certificates", title, certificate, Some(*name), None)
            }
            ("GET", ["certificates", name, "policy"]) => {
                let title = "CertificatePolicyGet";
                (What::Policy, "certificates", title, certificate, Some(*name), None)
            }
            ("GET", ["certificates", name, "versions"]) => {
                let title = "CertificateListVersions";
                (What::Versions, "certificates", title, certificate, Some(*name), None)
            }
            ("GET", ["certificates", name, version]) => {
                let title = "CertificateGet";
                (What::Get, "certificates", title, certificate, Some(*name), Some(*version))
            }
            _ => return None,
        };
        Some(Self { what, kind, name, permission, object, version })
    }

    fn place(&self) -> &'static str {
        if self.kind == "keys" { KEYS } else { CERTIFICATES }
    }
}

/// What a vault answers: one object, or a list of them in order.
pub(super) enum Answer {
    One(Value),
    /// A certificate's operation, which is answered with 202.
    Accepted(Value),
    Many(Vec<Value>),
}

impl Vaults {
    pub(super) async fn object(
        &self,
        vault: &str,
        operation: &Operation<'_>,
        body: &[u8],
    ) -> Result<Answer, VaultError> {
        let name = operation.object.unwrap_or_default();
        let url = format!("https://{vault}.vault.azure.net/{}", operation.kind);
        match operation.what {
            What::CreateKey => {
                check_name(name)?;
                let asked = asked(body)?;
                let key = generate(&asked).await?;
                let entry = self.entry(vault, name, &key, &asked)?;
                self.add(KEYS, vault, name, entry.clone()).await?;
                Ok(Answer::One(show_key(&url, name, &entry)))
            }
            What::CreateCertificate => {
                check_name(name)?;
                let asked = asked(body)?;
                let key = generate(&asked["policy"]["key_props"]).await?;
                let mut entry = self.entry(vault, name, &key, &asked)?;
                entry.certificate = Some(certify(&key, &asked["policy"], &mut entry.attributes)?);
                self.add(CERTIFICATES, vault, name, entry.clone()).await?;
                // The key of a certificate is a key of the vault, too.
                let ops = ["sign", "verify", "wrapKey", "unwrapKey", "encrypt", "decrypt"];
                let key = Entry { ops: ops.map(str::to_owned).to_vec(), ..entry.clone() };
                self.add(KEYS, vault, name, key).await?;
                // It is made by now; clients expect to be told so by the operation alone.
                Ok(Answer::Accepted(pending(&url, name, &entry, "inProgress")))
            }
            What::List | What::Versions => {
                let records = match operation.what {
                    What::List => self.objects(operation.place(), vault)?,
                    _ => vec![self.record(operation.place(), vault, name)?],
                };
                let with_version = operation.what == What::Versions;
                let mut shown = Vec::new();
                for record in &records {
                    let entries = if with_version {
                        record.versions.as_slice()
                    } else {
                        record.versions.last().map_or(&[][..], std::slice::from_ref)
                    };
                    shown.extend(entries.iter().map(|e| item(&url, &record.name, e, with_version)));
                }
                Ok(Answer::Many(shown))
            }
            What::Get | What::Pending | What::Policy => {
                let record = self.record(operation.place(), vault, name)?;
                let entry = match operation.version {
                    None => record.versions.last(),
                    Some(version) => record.versions.iter().find(|e| e.version == version),
                };
                let entry = entry.ok_or_else(|| VaultError::NotFound(name.to_owned()))?;
                Ok(Answer::One(match (operation.what, operation.kind) {
                    (What::Pending, _) => pending(&url, &record.name, entry, "completed"),
                    (What::Policy, _) => show_policy(&url, &record.name, entry),
                    (_, "keys") => show_key(&url, &record.name, entry),
                    _ => show_certificate(&url, vault, &record.name, entry),
                }))
            }
        }
    }

    fn entry(
        &self,
        vault: &str,
        name: &str,
        key: &KeyPair,
        asked: &Value,
    ) -> Result<Entry, VaultError> {
        let version = Uuid::new_v4().simple().to_string();
        let wrong = |what: &str| VaultError::BadParameter(what.to_owned());
        let attributes = match &asked["attributes"] {
            Value::Null => Attributes::default(),
            given => serde_json::from_value(given.clone())
                .map_err(|_| wrong("The parameter 'attributes' is invalid."))?,
        };
        let tags = match &asked["tags"] {
            Value::Null => None,
            Value::Object(tags) if tags.len() <= 15 && tags.values().all(Value::is_string) => {
                Some(tags.clone())
            }
            _ => return Err(wrong("The parameter 'tags' is invalid.")),
        };
        let ops = match &asked["key_ops"] {
            Value::Null => ["encrypt", "decrypt", "sign", "verify", "wrapKey", "unwrapKey"]
                .iter()
                // An elliptic curve signs; it does not encrypt.
                .filter(|op| asked["kty"] != "EC" || matches!(**op, "sign" | "verify"))
                .map(|op| (*op).to_owned())
                .collect(),
            ops => serde_json::from_value(ops.clone())
                .map_err(|_| wrong("The parameter 'key_ops' is invalid."))?,
        };
        let place = format!("{KEYS}/{}/{version}", secret_key(vault, name));
        Ok(Entry {
            jwk: public(key)?,
            private: base64(&self.sealer.seal(&place, &key.serialize_der())),
            version,
            attributes,
            created: Timestamp::now().as_second(),
            tags,
            ops,
            certificate: None,
        })
    }

    async fn add(&self, kind: &str, vault: &str, name: &str, e: Entry) -> Result<(), VaultError> {
        let _turn = self.writing.lock().await;
        let key = secret_key(vault, name);
        let mut record = match self.store.get_state(kind, &key) {
            Some(bytes) => from_json(&key, &bytes)?,
            None => Record { name: name.to_owned(), versions: Vec::new() },
        };
        if record.versions.len() >= VERSIONS {
            let what = format!("{name} has {VERSIONS} versions, which is the most there can be.");
            return Err(VaultError::BadParameter(what));
        }
        record.versions.push(e);
        let mut batch = Batch::new();
        batch.put_state(kind, &key, to_json(&record));
        self.store.commit(batch).await?;
        Ok(())
    }

    fn record(&self, kind: &str, vault: &str, name: &str) -> Result<Record, VaultError> {
        let key = secret_key(vault, name);
        let bytes = self.store.get_state(kind, &key);
        from_json(&key, &bytes.ok_or_else(|| VaultError::NotFound(name.to_owned()))?)
    }

    fn objects(&self, kind: &str, vault: &str) -> Result<Vec<Record>, VaultError> {
        let prefix = format!("{}/", vault.to_ascii_lowercase());
        let found = self.store.list_state(kind, &prefix);
        found.into_iter().map(|(key, bytes)| from_json(&key, &bytes)).collect()
    }
}

/// Forgets the keys and certificates of a vault that is purged.
pub(super) fn forget(store: &crate::store::Store, batch: &mut Batch, prefix: &str) {
    for kind in [KEYS, CERTIFICATES] {
        for (key, _) in store.list_state(kind, prefix) {
            batch.delete_state(kind, &key);
        }
    }
}

fn asked(body: &[u8]) -> Result<Value, VaultError> {
    serde_json::from_slice(body).ok().filter(Value::is_object).ok_or_else(|| {
        VaultError::BadParameter("The request body is not a JSON object.".to_owned())
    })
}

/// A key pair of the kind that was asked for: `kty` with `key_size` or `crv`.
async fn generate(asked: &Value) -> Result<KeyPair, VaultError> {
    let wrong = |what: String| VaultError::BadParameter(what);
    let kty = asked["kty"].as_str().unwrap_or("RSA").to_owned();
    let size = asked["key_size"].as_u64();
    let curve = asked["crv"].as_str().unwrap_or("P-256").to_owned();
    let made = tokio::task::spawn_blocking(move || match (kty.as_str(), size, curve.as_str()) {
        ("RSA", size, _) => {
            let size = match size {
                None | Some(2048) => RsaKeySize::_2048,
                Some(3072) => RsaKeySize::_3072,
                Some(4096) => RsaKeySize::_4096,
                Some(size) => return Err(format!("A key of {size} bits is not supported.")),
            };
            KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, size).map_err(|e| e.to_string())
        }
        ("EC", _, "P-256") => {
            KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|e| e.to_string())
        }
        ("EC", _, "P-384") => {
            KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).map_err(|e| e.to_string())
        }
        ("EC", _, curve) => Err(format!("The curve {curve} is not supported.")),
        (kty, ..) => Err(format!(
            "The key type {kty} is not supported: a standard vault has RSA and EC keys, and no HSM."
        )),
    });
    made.await.map_err(|error| wrong(error.to_string()))?.map_err(wrong)
}

/// The public key, as RFC 7517 writes it.
fn public(key: &KeyPair) -> Result<Value, VaultError> {
    let damaged = |_| VaultError::Damaged("a key that was made just now".to_owned());
    let point = key.public_key_raw();
    let coordinates = |curve: &str| {
        let half = (point.len() - 1) / 2;
        let [x, y] = [&point[1..=half], &point[1 + half..]].map(|c| URL_SAFE_NO_PAD.encode(c));
        json!({ "kty": "EC", "crv": curve, "x": x, "y": y })
    };
    match point.len() {
        65 => return Ok(coordinates("P-256")),
        97 => return Ok(coordinates("P-384")),
        _ => {}
    }
    let pem = zeroize::Zeroizing::new(key.serialize_pem());
    let encoding = EncodingKey::from_rsa_pem(pem.as_bytes()).map_err(damaged)?;
    let jwk = Jwk::from_encoding_key(&encoding, Algorithm::RS256).map_err(damaged)?;
    match jwk.algorithm {
        AlgorithmParameters::RSA(rsa) => Ok(json!({ "kty": "RSA", "n": rsa.n, "e": rsa.e })),
        _ => Err(VaultError::Damaged("a key that was made just now".to_owned())),
    }
}

/// A self-signed certificate as a policy asks for it.
fn certify(
    key: &KeyPair,
    policy: &Value,
    attributes: &mut Attributes,
) -> Result<Certificate, VaultError> {
    let wrong = |what: String| VaultError::BadParameter(what);
    let issuer = policy["issuer"]["name"].as_str().unwrap_or("Self");
    if !issuer.eq_ignore_ascii_case("self") {
        return Err(wrong(format!("The issuer {issuer} is not supported; there is Self.")));
    }
    let x509 = &policy["x509_props"];
    let mut params = CertificateParams::default();
    params.distinguished_name = subject(x509["subject"].as_str().unwrap_or_default())?;
    for (list, make) in [("dns_names", true), ("emails", false)] {
        for name in x509["sans"][list].as_array().into_iter().flatten().filter_map(Value::as_str) {
            let name = name.try_into().map_err(|_| wrong(format!("{name} is no name.")))?;
            let name = if make { SanType::DnsName(name) } else { SanType::Rfc822Name(name) };
            params.subject_alt_names.push(name);
        }
    }
    let months = match &x509["validity_months"] {
        Value::Null => 12,
        months => months
            .as_i64()
            .filter(|months| (1..=1200).contains(months))
            .ok_or_else(|| wrong("The parameter 'validity_months' is invalid.".to_owned()))?,
    };
    let now = Timestamp::now().as_second();
    let time = |seconds: i64| time::OffsetDateTime::from_unix_timestamp(seconds);
    // As Azure does: clocks may be behind.
    let (from, to) = (now - 600, now + months * MONTH);
    params.not_before = time(from).map_err(|e| wrong(e.to_string()))?;
    params.not_after = time(to).map_err(|e| wrong(e.to_string()))?;
    attributes.nbf = Some(from);
    attributes.exp = Some(to);
    let failed = |error: rcgen::Error| wrong(format!("The certificate cannot be made: {error}."));
    let csr = params.serialize_request(key).map_err(failed)?;
    let certificate = params.self_signed(key).map_err(failed)?;
    let mut policy = policy.clone();
    policy["x509_props"]["validity_months"] = months.into();
    Ok(Certificate { cer: base64(certificate.der()), csr: base64(csr.der()), policy })
}

/// `CN=example.com, O=Example`.
fn subject(text: &str) -> Result<DistinguishedName, VaultError> {
    let mut name = DistinguishedName::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let wrong = || VaultError::BadParameter(format!("The subject `{part}` is not valid."));
        let (kind, value) = part.split_once('=').ok_or_else(wrong)?;
        let kind = match kind.trim().to_ascii_uppercase().as_str() {
            "CN" => DnType::CommonName,
            "O" => DnType::OrganizationName,
            "OU" => DnType::OrganizationalUnitName,
            "C" => DnType::CountryName,
            "L" => DnType::LocalityName,
            "ST" | "S" => DnType::StateOrProvinceName,
            _ => return Err(wrong()),
        };
        name.push(kind, value.trim());
    }
    Ok(name)
}

fn attributes(entry: &Entry) -> Value {
    let mut shown = json!({
        "enabled": entry.attributes.enabled.unwrap_or(true),
        "created": entry.created, "updated": entry.created,
        "recoveryLevel": "Recoverable+Purgeable", "recoverableDays": 90,
    });
    for (name, value) in [("nbf", entry.attributes.nbf), ("exp", entry.attributes.exp)] {
        if let Some(value) = value {
            shown[name] = value.into();
        }
    }
    shown
}

fn thumbprint(certificate: &Certificate) -> String {
    let der = crate::identity::token::unbase64(&certificate.cer).unwrap_or_default();
    let sha1 = &aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY;
    URL_SAFE_NO_PAD.encode(aws_lc_rs::digest::digest(sha1, &der))
}

fn item(url: &str, name: &str, entry: &Entry, with_version: bool) -> Value {
    let mut id = format!("{url}/{name}");
    if with_version {
        id = format!("{id}/{}", entry.version);
    }
    let mut shown = json!({ "attributes": attributes(entry) });
    if let Some(certificate) = entry.certificate.as_ref().filter(|_| url.ends_with("certificates"))
    {
        shown["id"] = id.into();
        shown["x5t"] = thumbprint(certificate).into();
    } else {
        shown["kid"] = id.into();
    }
    if let Some(tags) = &entry.tags {
        shown["tags"] = json!(tags);
    }
    shown
}

fn show_key(url: &str, name: &str, entry: &Entry) -> Value {
    let mut key = entry.jwk.clone();
    key["kid"] = format!("{url}/{name}/{}", entry.version).into();
    key["key_ops"] = json!(entry.ops);
    let mut shown = json!({ "key": key, "attributes": attributes(entry) });
    if entry.certificate.is_some() {
        shown["managed"] = true.into();
    }
    if let Some(tags) = &entry.tags {
        shown["tags"] = json!(tags);
    }
    shown
}

fn show_policy(url: &str, name: &str, entry: &Entry) -> Value {
    let mut policy = entry.certificate.as_ref().map_or(Value::Null, |c| c.policy.clone());
    policy["id"] = format!("{url}/{name}/policy").into();
    policy
}

fn show_certificate(url: &str, vault: &str, name: &str, entry: &Entry) -> Value {
    let mut shown = item(url, name, entry, true);
    if let Some(certificate) = &entry.certificate {
        shown["cer"] = certificate.cer.as_str().into();
    }
    shown["kid"] = format!("https://{vault}.vault.azure.net/keys/{name}/{}", entry.version).into();
    shown["policy"] = show_policy(url, name, entry);
    shown["pending"] = json!({ "id": format!("{url}/{name}/pending") });
    shown
}

fn pending(url: &str, name: &str, entry: &Entry, status: &str) -> Value {
    json!({
        "id": format!("{url}/{name}/pending"),
        "issuer": { "name": "Self" },
        "csr": entry.certificate.as_ref().map(|certificate| certificate.csr.as_str()),
        "cancellation_requested": false,
        "status": status,
        "target": format!("{url}/{name}"),
        "request_id": entry.version,
    })
}
