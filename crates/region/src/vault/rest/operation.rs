//! The data plane's operations: found by verb and path, with what a role must grant for each.
//!
//! Data actions: <https://learn.microsoft.com/azure/role-based-access-control/permissions/security#microsoftkeyvault>;
//! names in the audit log: <https://learn.microsoft.com/azure/key-vault/general/logging#interpret-your-key-vault-logs>

use http::Method;

use crate::vault::Kind;
use crate::vault::cryptography::Deed;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Set,
    Create,
    Import,
    Rotate,
    Get,
    Update,
    Delete,
    List,
    Versions,
    ListDeleted,
    GetDeleted,
    Purge,
    Recover,
    Backup,
    Restore,
    Perform(Deed),
    Policy,
    UpdatePolicy,
    Pending,
    /// The vault's contacts or issuers for certificates: there are none.
    Contacts,
    Issuers,
}

/// One of the operations, found in a request.
#[derive(Debug)]
pub(super) struct Operation<'a> {
    pub(super) what: What,
    pub(super) kind: Kind,
    /// As the audit log calls it.
    pub(super) name: String,
    /// The data action that a role must grant.
    pub(super) permission: String,
    pub(super) object: Option<&'a str>,
    pub(super) version: Option<&'a str>,
}

/// A secret's data action for a verb; keys and certificates are named more plainly.
fn action(kind: Kind, verb: &str) -> String {
    let verb = match (kind, verb) {
        (Kind::Secret, "list") => "readMetadata/action",
        (Kind::Secret, "get") => "getSecret/action",
        (Kind::Secret, "set") => "setSecret/action",
        (_, "list" | "get") => "read",
        (_, "delete") => "delete",
        (_, other) => return format!("{}/{other}/action", place(kind)),
    };
    format!("{}/{verb}", place(kind))
}

fn place(kind: Kind) -> String {
    format!("Microsoft.KeyVault/vaults/{}", kind.segment())
}

impl<'a> Operation<'a> {
    pub(super) fn of(method: &Method, segments: &[&'a str]) -> Option<Self> {
        let (first, rest) = segments.split_first()?;
        let first = first.to_ascii_lowercase();
        let kind = Kind::ALL.into_iter().find(|kind| {
            first == kind.segment() || first == format!("deleted{}", kind.segment())
        })?;
        if first.starts_with("deleted") {
            return Self::of_deleted(method, kind, rest);
        }
        Self::of_living(method, kind, rest)
    }

    fn new(
        what: What,
        kind: Kind,
        (name, verb): (&str, &str),
        object: Option<&'a str>,
        version: Option<&'a str>,
    ) -> Self {
        Self {
            what,
            kind,
            name: format!("{}{name}", kind.title()),
            permission: action(kind, verb),
            object,
            version,
        }
    }

    fn of_deleted(method: &Method, kind: Kind, path: &[&'a str]) -> Option<Self> {
        let (what, name, object) = match (method.as_str(), path) {
            ("GET", []) => (What::ListDeleted, ("ListDeleted", "list"), None),
            ("GET", [name]) => (What::GetDeleted, ("GetDeleted", "list"), Some(*name)),
            ("DELETE", [name]) => (What::Purge, ("Purge", "purge"), Some(*name)),
            ("POST", [name, "recover"]) => (What::Recover, ("Recover", "recover"), Some(*name)),
            _ => return None,
        };
        Some(Self::new(what, kind, name, object, None))
    }

    fn of_living(method: &Method, kind: Kind, path: &[&'a str]) -> Option<Self> {
        let (what, name, object, version) = match (method.as_str(), path) {
            ("GET", []) => (What::List, ("List", "list"), None, None),
            ("POST", ["restore"]) => (What::Restore, ("Restore", "restore"), None, None),
            ("POST", [name, "backup"]) => (What::Backup, ("Backup", "backup"), Some(*name), None),
            ("GET", [name, "versions"]) => {
                (What::Versions, ("ListVersions", "list"), Some(*name), None)
            }
            ("DELETE", [name]) => (What::Delete, ("Delete", "delete"), Some(*name), None),
            _ => return Self::of_kind(method, kind, path),
        };
        Some(Self::new(what, kind, name, object, version))
    }

    /// What is not the same for every kind; then reading and updating, whose paths fit nearly all.
    fn of_kind(method: &Method, kind: Kind, path: &[&'a str]) -> Option<Self> {
        let certificate = kind == Kind::Certificate;
        let (what, name, object, version) = match (method.as_str(), path) {
            ("PUT", [name]) if kind == Kind::Secret => {
                (What::Set, ("Set", "set"), Some(*name), None)
            }
            ("PUT", [name]) if kind == Kind::Key => {
                (What::Import, ("Import", "import"), Some(*name), None)
            }
            ("POST", [name, "create"]) if kind != Kind::Secret => {
                (What::Create, ("Create", "create"), Some(*name), None)
            }
            ("POST", [name, "import"]) if certificate => {
                (What::Import, ("Import", "import"), Some(*name), None)
            }
            ("POST", [name, "rotate"]) if kind == Kind::Key => {
                (What::Rotate, ("Rotate", "rotate"), Some(*name), None)
            }
            ("GET", ["contacts"]) if certificate => {
                (What::Contacts, ("ContactsGet", "get"), None, None)
            }
            ("GET", ["issuers"]) if certificate => {
                (What::Issuers, ("IssuersList", "get"), None, None)
            }
            ("GET", [name, "pending"]) if certificate => {
                (What::Pending, ("PendingGet", "get"), Some(*name), None)
            }
            ("GET", [name, "policy"]) if certificate => {
                (What::Policy, ("PolicyGet", "get"), Some(*name), None)
            }
            ("PATCH", [name, "policy"]) if certificate => {
                (What::UpdatePolicy, ("PolicySet", "update"), Some(*name), None)
            }
            ("POST", [name, deed]) if kind == Kind::Key => {
                return Self::of_deed(name, None, deed);
            }
            ("POST", [name, version, deed]) if kind == Kind::Key => {
                return Self::of_deed(name, Some(version), deed);
            }
            ("GET", [name]) => (What::Get, ("Get", "get"), Some(*name), None),
            ("GET", [name, version]) => (What::Get, ("Get", "get"), Some(*name), Some(*version)),
            ("PATCH", [name]) => (What::Update, ("Update", "update"), Some(*name), None),
            ("PATCH", [name, version]) => {
                (What::Update, ("Update", "update"), Some(*name), Some(*version))
            }
            _ => return None,
        };
        Some(Self::new(what, kind, name, object, version))
    }

    fn of_deed(name: &'a str, version: Option<&'a str>, deed: &str) -> Option<Self> {
        let (deed, name_and_verb) = match deed.to_ascii_lowercase().as_str() {
            "sign" => (Deed::Sign, ("Sign", "sign")),
            "verify" => (Deed::Verify, ("Verify", "verify")),
            "encrypt" => (Deed::Encrypt, ("Encrypt", "encrypt")),
            "decrypt" => (Deed::Decrypt, ("Decrypt", "decrypt")),
            "wrapkey" => (Deed::Wrap, ("Wrap", "wrap")),
            "unwrapkey" => (Deed::Unwrap, ("Unwrap", "unwrap")),
            _ => return None,
        };
        Some(Self::new(What::Perform(deed), Kind::Key, name_and_verb, Some(name), version))
    }
}
