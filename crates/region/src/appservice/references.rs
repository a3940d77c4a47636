//! Key Vault references in settings: reading them, resolving them, and their status.
//!
//! <https://learn.microsoft.com/azure/app-service/app-service-key-vault-references>

use std::{collections::BTreeMap, fmt};

use futures_util::future::BoxFuture;
use serde_json::{Value, json};

/// `@Microsoft.KeyVault(…)`, read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    /// The vault's name, `notes-kv`.
    pub vault: String,
    /// The secret's name.
    pub secret: String,
    /// A version, or the latest.
    pub version: Option<String>,
}

/// What a setting's value is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// Not a reference.
    Literal,
    /// A reference.
    Reference(Reference),
    /// Looks like a reference and is not one.
    Malformed,
}

/// Reads a setting's value.
pub fn parse(value: &str) -> Parsed {
    const OPEN: &str = "@Microsoft.KeyVault(";
    let value = value.trim();
    if !value.get(..OPEN.len()).is_some_and(|start| start.eq_ignore_ascii_case(OPEN)) {
        return Parsed::Literal;
    }
    let Some(inside) = value[OPEN.len()..].strip_suffix(')') else {
        return Parsed::Malformed;
    };
    read_arguments(inside).map_or(Parsed::Malformed, Parsed::Reference)
}

fn read_arguments(inside: &str) -> Option<Reference> {
    let mut arguments = BTreeMap::new();
    for argument in inside.split(';').filter(|argument| !argument.trim().is_empty()) {
        let (name, value) = argument.split_once('=')?;
        arguments.insert(name.trim().to_ascii_lowercase(), value.trim());
    }
    if let Some(uri) = arguments.remove("secreturi") {
        return arguments.is_empty().then(|| read_uri(uri)).flatten();
    }
    let vault = arguments.remove("vaultname")?;
    let secret = arguments.remove("secretname")?;
    let version = arguments.remove("secretversion").filter(|version| !version.is_empty());
    if !arguments.is_empty() || !plain(vault) || !plain(secret) || !version.is_none_or(plain) {
        return None;
    }
    Some(Reference {
        vault: vault.to_ascii_lowercase(),
        secret: secret.to_owned(),
        version: version.map(str::to_owned),
    })
}

/// `https://{vault}.vault.azure.net/secrets/{name}[/{version}]`.
fn read_uri(uri: &str) -> Option<Reference> {
    let (host, path) = uri.strip_prefix("https://")?.split_once('/')?;
    let vault = host.split(':').next()?.strip_suffix(".vault.azure.net")?;
    let mut segments = path.trim_end_matches('/').split('/');
    if !segments.next()?.eq_ignore_ascii_case("secrets") {
        return None;
    }
    let secret = segments.next()?;
    let version = segments.next();
    if segments.next().is_some() || !plain(vault) || !plain(secret) || !version.is_none_or(plain) {
        return None;
    }
    Some(Reference {
        vault: vault.to_ascii_lowercase(),
        secret: secret.to_owned(),
        version: version.map(str::to_owned),
    })
}

/// Names of vaults, secrets and versions: letters, digits, hyphens.
fn plain(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 127
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// Why a reference did not resolve: the statuses of Azure's `ApiKVReference`
/// (<https://learn.microsoft.com/rest/api/appservice/web-apps/get-app-setting-key-vault-reference>).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Resolved.
    Resolved,
    /// Not of the form a reference has.
    InvalidSyntax,
    /// The slot has no managed identity.
    MsiNotEnabled,
    /// No such vault.
    VaultNotFound,
    /// No such secret.
    SecretNotFound,
    /// No such version of the secret.
    SecretVersionNotFound,
    /// The slot's identity may not read it.
    AccessToKeyVaultDenied,
    /// Anything else.
    OtherReasons,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Resolved => "Resolved",
            Self::InvalidSyntax => "InvalidSyntax",
            Self::MsiNotEnabled => "MSINotEnabled",
            Self::VaultNotFound => "VaultNotFound",
            Self::SecretNotFound => "SecretNotFound",
            Self::SecretVersionNotFound => "SecretVersionNotFound",
            Self::AccessToKeyVaultDenied => "AccessToKeyVaultDenied",
            Self::OtherReasons => "OtherReasons",
        })
    }
}

/// A secret's value, or why there is none.
pub type Answer = Result<Secret, (Status, String)>;

/// A secret value whose `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    value: String,
    version: Option<String>,
}

impl Secret {
    /// Wraps a value.
    pub fn new(value: impl Into<String>) -> Self {
        Self { value: value.into(), version: None }
    }
    /// The version of the secret whose value it is.
    #[must_use]
    pub fn of_version(mut self, version: impl Into<String>) -> Self {
        self.version = Some(version.into());
        self
    }
    /// The value, for the environment of the process it is meant for.
    pub fn expose(&self) -> &str {
        &self.value
    }
}
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// Reads secrets as some identity. Implemented by the region's vault; faked in tests.
pub trait Secrets: Send + Sync + 'static {
    /// The secret's value as `principal` may read it; `None` is a slot without identity.
    fn read<'a>(
        &'a self,
        reference: &'a Reference,
        principal: Option<&'a str>,
    ) -> BoxFuture<'a, Answer>;
}

/// One setting's reference and what became of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolution {
    /// Present unless the syntax was wrong.
    pub reference: Option<Reference>,
    /// How it went.
    pub status: Status,
    /// In words.
    pub details: String,
    /// The value, when resolved.
    pub value: Option<Secret>,
}

impl Resolution {
    /// As `configreferences/appsettings` reports it.
    pub fn to_arm(&self, raw: &str) -> Value {
        let mut properties = json!({
            "reference": raw,
            "status": self.status.to_string(),
            "details": self.details,
            "source": "KeyVault",
            "identityType": { "type": "SystemAssigned" },
        });
        if let Some(reference) = &self.reference {
            properties["vaultName"] = json!(reference.vault);
            properties["secretName"] = json!(reference.secret);
            properties["secretVersion"] = json!(reference.version);
        }
        if let Some(version) = self.value.as_ref().and_then(|value| value.version.as_ref()) {
            properties["activeVersion"] = json!(version);
        }
        properties
    }
}

/// Resolves every reference among `values` as `principal`. Literals are left out.
pub async fn resolve(
    secrets: &dyn Secrets,
    principal: Option<&str>,
    values: Vec<(String, String)>,
) -> BTreeMap<String, Resolution> {
    let mut resolved = BTreeMap::new();
    for (name, value) in values {
        let resolution = match parse(&value) {
            Parsed::Literal => continue,
            Parsed::Malformed => Resolution {
                reference: None,
                status: Status::InvalidSyntax,
                details: "The reference is not of the form @Microsoft.KeyVault(SecretUri=…) or \
                          @Microsoft.KeyVault(VaultName=…;SecretName=…[;SecretVersion=…])."
                    .to_owned(),
                value: None,
            },
            Parsed::Reference(reference) if principal.is_none() => Resolution {
                reference: Some(reference),
                status: Status::MsiNotEnabled,
                details: "The slot has no managed identity; each slot needs its own.".to_owned(),
                value: None,
            },
            Parsed::Reference(reference) => match secrets.read(&reference, principal).await {
                Ok(value) => Resolution {
                    reference: Some(reference),
                    status: Status::Resolved,
                    details: "Reference has been successfully resolved.".to_owned(),
                    value: Some(value),
                },
                Err((status, details)) => {
                    Resolution { reference: Some(reference), status, details, value: None }
                }
            },
        };
        resolved.insert(name, resolution);
    }
    resolved
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(vault: &str, secret: &str, version: Option<&str>) -> Parsed {
        Parsed::Reference(Reference {
            vault: vault.into(),
            secret: secret.into(),
            version: version.map(Into::into),
        })
    }

    #[test]
    fn both_documented_forms_are_read() {
        assert_eq!(
            parse("@Microsoft.KeyVault(VaultName=notes-kv;SecretName=notes-jwt-secret)"),
            reference("notes-kv", "notes-jwt-secret", None)
        );
        assert_eq!(
            parse("@Microsoft.KeyVault(VaultName=notes-kv;SecretName=a;SecretVersion=0123)"),
            reference("notes-kv", "a", Some("0123"))
        );
        assert_eq!(
            parse("@Microsoft.KeyVault(SecretUri=https://notes-kv.vault.azure.net/secrets/a/)"),
            reference("notes-kv", "a", None)
        );
        assert_eq!(
            parse("@Microsoft.KeyVault(SecretUri=https://notes-kv.vault.azure.net/secrets/a/ff)"),
            reference("notes-kv", "a", Some("ff"))
        );
    }

    #[test]
    fn statuses_are_spelt_as_azure_spells_them() {
        // Of `ResolveStatus` in the description of Microsoft.Web: those that can come about here.
        for (status, spelt) in [
            (Status::Resolved, "Resolved"),
            (Status::InvalidSyntax, "InvalidSyntax"),
            (Status::MsiNotEnabled, "MSINotEnabled"),
            (Status::VaultNotFound, "VaultNotFound"),
            (Status::SecretNotFound, "SecretNotFound"),
            (Status::SecretVersionNotFound, "SecretVersionNotFound"),
            (Status::AccessToKeyVaultDenied, "AccessToKeyVaultDenied"),
            (Status::OtherReasons, "OtherReasons"),
        ] {
            assert_eq!(status.to_string(), spelt);
        }
    }

    #[test]
    fn what_only_looks_like_a_reference_is_malformed_and_the_rest_is_literal() {
        for bad in [
            "@Microsoft.KeyVault()",
            "@Microsoft.KeyVault(VaultName=v)",
            "@Microsoft.KeyVault(VaultName=v;SecretName=s",
            "@Microsoft.KeyVault(SecretUri=http://v.vault.azure.net/secrets/s)",
            "@Microsoft.KeyVault(SecretUri=https://example.com/secrets/s)",
            "@Microsoft.KeyVault(SecretUri=https://v.vault.azure.net/keys/s)",
            "@Microsoft.KeyVault(VaultName=v;SecretName=../s)",
            "@Microsoft.KeyVault(VaultName=v;SecretName=s;Other=1)",
        ] {
            assert_eq!(parse(bad), Parsed::Malformed, "{bad}");
        }
        for literal in ["", "production", "@Microsoft", "é@Microsoft.KeyVault(", "postgresql://x"]
        {
            assert_eq!(parse(literal), Parsed::Literal, "{literal}");
        }
    }
}
