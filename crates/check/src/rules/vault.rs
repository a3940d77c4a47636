//! Key Vault and secrets.

use lazuli_hcl::{Entry, Kind, Span, Value};
use lazuli_standard::{Environment, data::secrets};

use super::{
    Attribute, Got, SITES, SLOT, VAULT, attribute, get, is_vault_reference, settings, shown,
};
use crate::project::{Project, TextKind};
use crate::rule::{
    Check, Rule,
    Severity::{Error, Note, Warning},
};
use crate::snippet::entropy;

const STANDARD: &str = "Standard: Key Vault with RBAC Authorization";
const ACCESS: &str = "Access Control";
const ROLE: &[&str] = &["azurerm_role_assignment"];

/// Whether a setting's name says that it holds a secret.
pub(crate) fn secret_name(name: &str) -> bool {
    let n = name.to_ascii_uppercase();
    let parts: Vec<&str> = n.split(|c: char| !c.is_ascii_alphanumeric()).collect();
    let has = |w: &str| parts.contains(&w);
    // Names that only sound like one.
    if n.ends_with("_URI")
        || n.ends_with("_NAME")
        || n.ends_with("_FILE")
        || n.ends_with("_PATH")
        || n.ends_with("_EXPIRY")
        || n.contains("EXPIRE")
        || n.contains("TTL")
        || n.contains("PUBLIC")
        || n.contains("VAULT")
        || has("MINUTES")
        || has("SECONDS")
        || has("DAYS")
        || has("ALGORITHM")
    {
        return false;
    }
    has("PASSWORD")
        || has("PASSWD")
        || has("PWD")
        || has("SECRET")
        || has("SECRETKEY")
        || has("APIKEY")
        || has("SALT")
        || has("CREDENTIALS")
        || (has("API") && has("KEY"))
        || (has("ACCESS") && has("KEY"))
        || (has("SECRET") && has("KEY"))
        || (has("PRIVATE") && has("KEY"))
        || (has("ACCOUNT") && has("KEY"))
        || (has("JWT") && has("KEY"))
        || n.ends_with("_TOKEN")
}

/// Whether a text looks like a secret by itself: a random key, or a password in a URL.
pub(crate) fn secret_text(text: &str) -> bool {
    if text.contains('{')
        || text.contains("…")
        || text.contains("${")
        || text.contains("$(")
        || text.contains('<')
    {
        return false;
    }
    if text.contains("AccountKey=")
        || text.contains("SharedAccessKey=")
        || text.contains("-----BEGIN ") && text.contains("PRIVATE KEY")
    {
        return true;
    }
    if let Some((_, rest)) = text.split_once("://") {
        let authority = rest.split(['/', '?']).next().unwrap_or("");
        if let Some((user, _)) = authority.rsplit_once('@') {
            return user.split_once(':').is_some_and(|(_, p)| !placeholder(p));
        }
        return false;
    }
    let plain = text.len() >= 20
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/=_-".contains(&b));
    let uuid = text.len() == 36 && text.matches('-').count() == 4;
    let digits =
        text.bytes().any(|b| b.is_ascii_digit()) && text.bytes().any(|b| b.is_ascii_alphabetic());
    let cases = text.bytes().any(|b| b.is_ascii_uppercase())
        && text.bytes().any(|b| b.is_ascii_lowercase());
    plain
        && !uuid
        && digits
        && (cases || text.bytes().all(|b| b.is_ascii_hexdigit()) && text.len() >= 32)
        && entropy(text) > 3.7
        && !text.contains("--")
}

/// What stands where a secret will be: not one.
fn placeholder(text: &str) -> bool {
    let t = text.to_ascii_lowercase();
    t.is_empty()
        || t.contains("changeme")
        || t.contains("change-me")
        || t.contains("placeholder")
        || t.contains("example")
        || t.contains("your")
        || t.starts_with('<')
        || t.contains("xxx")
        || t.contains("***")
        || t.contains('$')
        || t.contains('{')
        || t.contains('%')
        || t.contains("dummy")
        || t.contains("not-a-real")
        // `00000000`, `xxxx`: a stand-in for what is put there later.
        || t.chars().all(|c| t.starts_with(c))
        || matches!(
            t.as_str(),
            "password"
                | "pass"
                | "secret"
                | "test"
                | "x"
                | "todo"
                | "dummy"
                | "none"
                | "null"
                | "postgres"
                | "user"
                | "true"
                | "false"
                | "0"
                | "1"
        )
}

/// Whether a setting holds a secret in plain, and why that is thought.
pub(crate) fn plain(name: &str, v: &Value) -> Option<&'static str> {
    if is_vault_reference(v) {
        return None;
    }
    match &v.kind {
        Kind::Text(t) => {
            let numeric = t.parse::<f64>().is_ok() || matches!(&**t, "true" | "false");
            if secret_name(name) && !t.is_empty() && !numeric && !t.starts_with("https://") {
                Some("by its name")
            } else if name != "APPLICATIONINSIGHTS_CONNECTION_STRING"
                && !name.starts_with("WEBSITE_")
                && secret_text(t)
            {
                Some("by what it looks like")
            } else {
                None
            }
        }
        // A resource's own key or password, put into a setting as it is.
        Kind::Ref(r)
            if key_attribute(&r.attribute) && name != "APPLICATIONINSIGHTS_CONNECTION_STRING" =>
        {
            Some("it is a resource's own key")
        }
        Kind::Partial(_)
            if v.refs().iter().any(|r| key_attribute(&r.attribute))
                && !name.starts_with("APPLICATIONINSIGHTS")
                && !name.starts_with("APPINSIGHTS") =>
        {
            Some("it holds a resource's own key")
        }
        _ => None,
    }
}

fn key_attribute(a: &str) -> bool {
    let last = a.rsplit('.').next().unwrap_or(a);
    matches!(
        last,
        "primary_access_key"
            | "secondary_access_key"
            | "primary_key"
            | "secondary_key"
            | "primary_connection_string"
            | "secondary_connection_string"
            | "administrator_password"
            | "password"
            | "result"
            | "client_secret"
            | "primary_blob_connection_string"
    )
}

/// The names of secrets in a vault reference: vault and secret.
pub(crate) fn reference(text: &str) -> Option<(Option<String>, String, bool)> {
    let inner = text.strip_prefix("@Microsoft.KeyVault(")?.strip_suffix(')')?;
    let mut vault = None;
    let mut secret = None;
    let mut pinned = false;
    for part in inner.split(';') {
        let (k, v) = part.split_once('=')?;
        match k.trim() {
            "VaultName" => vault = Some(v.trim().to_owned()),
            "SecretName" => secret = Some(v.trim().to_owned()),
            "SecretVersion" => pinned = !v.trim().is_empty(),
            "SecretUri" => {
                let (host, path) = v.trim().trim_start_matches("https://").split_once('/')?;
                vault = host.split('.').next().map(str::to_owned);
                let mut p = path.trim_start_matches("secrets/").split('/');
                secret = p.next().map(str::to_owned);
                pinned = p.next().is_some_and(|x| !x.is_empty());
            }
            _ => return None,
        }
    }
    Some((vault, secret?, pinned))
}

/// Every setting anywhere, with where it stands: name, value, place.
fn everywhere(p: &Project) -> Vec<(String, Value, Span)> {
    let mut out = Vec::new();
    for s in &p.stacks {
        for r in s.all(SITES) {
            for e in settings(r).into_iter().flatten() {
                out.push((e.key.to_string(), e.value.clone(), e.at));
            }
        }
    }
    for d in &p.settings {
        for m in d.value.as_list().unwrap_or_default().iter().filter_map(Value::as_map) {
            if let (Some(n), Some(v)) = (m.get("name").and_then(Value::as_str), m.get("value")) {
                out.push((n.to_owned(), v.clone(), v.span));
            }
        }
    }
    for f in &p.dotenv {
        let source = p.sources.get(*f);
        for n in 1..=source.line_count() {
            let line = source.line(n);
            let Some((k, v)) = line.split_once('=') else { continue };
            if line.trim_start().starts_with('#') {
                continue;
            }
            let from = source.line_start(n) + k.len() + 1;
            let span = Span::new(*f, from, from + v.len());
            out.push((
                k.trim().trim_start_matches("export ").to_owned(),
                Value::text(v.trim().trim_matches(['"', '\'']), span),
                span,
            ));
        }
    }
    out
}

pub(crate) static RULES: &[Rule] = &[
    Rule {
        id: "LZ-KV-001",
        section: STANDARD,
        erratum: None,
        severity: Error,
        title: "The vault's access model is Azure RBAC",
        why: "Access policies grant by list, outside of role assignments, reviews and inheritance; whoever may write the vault may grant themselves its secrets.",
        fix: "Set `rbac_authorization_enabled = true` and assign roles.",
        bad: &[(
            "main.tf",
            "resource \"azurerm_key_vault\" \"kv\" {\n  rbac_authorization_enabled = false\n}\n",
        )],
        good: &[(
            "main.tf",
            "resource \"azurerm_key_vault\" \"kv\" {\n  rbac_authorization_enabled = true\n}\n",
        )],
        check: Check::Stack(|s, o| {
            for r in s.all(VAULT) {
                let path = if r.body.entry("enable_rbac_authorization").is_some() {
                    "enable_rbac_authorization"
                } else {
                    "rbac_authorization_enabled"
                };
                attribute(
                    o,
                    s,
                    r,
                    &Attribute {
                        path,
                        absent: Some(false),
                        message: "access policies decide",
                        missing: "`rbac_authorization_enabled` is not set: access policies decide",
                        // Without role assignments the change would lock everybody out.
                        write: s
                            .all(ROLE)
                            .any(|a| {
                                a.get("role_definition_name")
                                    .is_some_and(|v| v.known_text().starts_with("Key Vault"))
                            })
                            .then_some("true"),
                    },
                    Value::as_bool,
                );
            }
        }),
    },
    Rule {
        id: "LZ-KV-002",
        section: STANDARD,
        erratum: None,
        severity: Error,
        title: "Nobody is let in by an access policy",
        why: "With RBAC they are ignored; without, they are the model the standard excludes.",
        fix: "Replace it by an `azurerm_role_assignment` of `Key Vault Secrets User`.",
        bad: &[(
            "main.tf",
            "resource \"azurerm_key_vault_access_policy\" \"app\" {\n  secret_permissions = [\"Get\"]\n}\n",
        )],
        good: &[(
            "main.tf",
            "resource \"azurerm_role_assignment\" \"app\" {\n  role_definition_name = \"Key Vault Secrets User\"\n}\n",
        )],
        check: Check::Stack(|s, o| {
            // One finding a vault, not one a policy: the cause is one.
            let mut vaults: Vec<(String, Vec<Span>)> = Vec::new();
            for r in s.all(&["azurerm_key_vault_access_policy"]) {
                let vault = match s.target(r.get("key_vault_id")) {
                    Some(v) => v.address.to_string(),
                    None => r.get("key_vault_id").map(Value::known_text).unwrap_or_default(),
                };
                match vaults.iter_mut().find(|(v, _)| *v == vault) {
                    Some((_, places)) => places.push(r.header),
                    None => vaults.push((vault, vec![r.header])),
                }
            }
            for (_, mut places) in vaults {
                places.sort_unstable();
                places.dedup();
                let message = match places.len() {
                    1 => "an access policy, where the standard assigns roles".to_owned(),
                    n => format!("{n} access policies, where the standard assigns roles"),
                };
                let f = o.at(places[0], message);
                for other in places.iter().skip(1).take(5) {
                    f.label(*other, "another one");
                }
            }
            for r in s.all(VAULT) {
                o.judged();
                // The provider reads an empty list as "none", which is what RBAC wants.
                if let Some(e) = r
                    .body
                    .entry("access_policy")
                    .filter(|e| e.value.as_list().is_some_and(|l| !l.is_empty()))
                {
                    o.at(e.at, "an access policy, where the standard assigns roles");
                }
            }
        }),
    },
    Rule {
        id: "LZ-KV-003",
        section: STANDARD,
        erratum: None,
        severity: Error,
        title: "Production's vault cannot be purged",
        why: "Without purge protection whoever deletes a vault can also make it unrecoverable, with every secret in it.",
        fix: "Set `purge_protection_enabled = true`.",
        bad: &[(
            "prod/main.tf",
            "resource \"azurerm_key_vault\" \"kv\" {\n  rbac_authorization_enabled = true\n}\n",
        )],
        good: &[(
            "prod/main.tf",
            "resource \"azurerm_key_vault\" \"kv\" {\n  purge_protection_enabled = true\n}\n",
        )],
        check: Check::Stack(|s, o| {
            for r in s.all(VAULT).filter(|_| s.is(Environment::Prod)) {
                attribute(
                    o,
                    s,
                    r,
                    &Attribute {
                        path: "purge_protection_enabled",
                        absent: Some(false),
                        message: "a deleted vault can be made unrecoverable",
                        missing: "`purge_protection_enabled` is not set: a deleted vault can be made unrecoverable",
                        write: Some("true"),
                    },
                    Value::as_bool,
                );
            }
        }),
    },
    Rule {
        id: "LZ-KV-004",
        section: STANDARD,
        erratum: None,
        severity: Warning,
        title: "What is deleted from the vault can be recovered for 90 days",
        why: "The retention is fixed when the vault is created.",
        fix: "Set `soft_delete_retention_days = 90`, or leave it out: that is the default.",
        bad: &[(
            "main.tf",
            "resource \"azurerm_key_vault\" \"kv\" {\n  soft_delete_retention_days = 7\n}\n",
        )],
        good: &[(
            "main.tf",
            "resource \"azurerm_key_vault\" \"kv\" {\n  soft_delete_retention_days = 90\n}\n",
        )],
        check: Check::Stack(|s, o| {
            for r in s.all(VAULT).filter(|_| !s.is(Environment::Dev)) {
                attribute(
                    o,
                    s,
                    r,
                    &Attribute {
                        path: "soft_delete_retention_days",
                        absent: Some(true),
                        message: "the standard keeps 90 days",
                        missing: "",
                        write: Some("90"),
                    },
                    |v| v.as_number().map(|n| n >= f64::from(*secrets::SOFT_DELETE_DAYS)),
                );
            }
        }),
    },
    Rule {
        id: "LZ-KV-005",
        section: STANDARD,
        erratum: None,
        severity: Error,
        title: "The vault is reached through its private endpoint alone",
        why: "A vault on the internet is protected by tokens alone, and tokens leak.",
        fix: "Set `public_network_access_enabled = false` and add a private endpoint.",
        bad: &[(
            "prod/main.tf",
            "resource \"azurerm_key_vault\" \"kv\" {\n  public_network_access_enabled = true\n}\n",
        )],
        good: &[(
            "prod/main.tf",
            "resource \"azurerm_key_vault\" \"kv\" {\n  public_network_access_enabled = false\n}\n",
        )],
        check: Check::Stack(|s, o| {
            for r in s.all(VAULT).filter(|_| !s.is(Environment::Dev)) {
                let denied = matches!(get(r, "network_acls.default_action"), Got::Written(e) if e.value.as_str() == Some("Deny"));
                let known = s.is_serious();
                attribute(
                    o,
                    s,
                    r,
                    &Attribute {
                        path: "public_network_access_enabled",
                        absent: if denied {
                            Some(true)
                        } else if known {
                            Some(false)
                        } else {
                            None
                        },
                        message: "the vault is on the internet",
                        missing: "`public_network_access_enabled` is not set: the vault is on the internet",
                        // Without a private endpoint nobody would reach it.
                        write: super::has_endpoint(s, r).then_some("false"),
                    },
                    |v| v.as_bool().map(|b| !b || denied),
                );
            }
        }),
    },
    Rule {
        id: "LZ-KV-006",
        section: "Secret Naming Convention",
        erratum: Some(16),
        severity: Note,
        title: "Secrets are named {app-name}-{component}-{purpose}",
        why: "One vault may serve several apps, and the next reader must see whose secret it is. (The standard's own examples say `db-password`; the convention wins.)",
        fix: "Name it for example `notes-db-connection-string`.",
        bad: &[(
            "main.tf",
            "resource \"azurerm_key_vault_secret\" \"db\" {\n  name = \"password\"\n}\n",
        )],
        good: &[(
            "main.tf",
            "resource \"azurerm_key_vault_secret\" \"db\" {\n  name = \"notes-db-connection-string\"\n}\n",
        )],
        check: Check::Project(|p, o| {
            for s in &p.stacks {
                for r in s.all(&["azurerm_key_vault_secret"]) {
                    let Some(e) = r.body.entry("name") else { continue };
                    let app = s
                        .target(r.get("key_vault_id"))
                        .and_then(|v| v.get("name"))
                        .and_then(Value::as_str)
                        .and_then(app_of)
                        .map(str::to_owned);
                    match e.value.as_str() {
                        Some(t) if !conventional(t, app.as_deref()) => {
                            o.entry(
                                e,
                                format!(
                                    "{} does not follow {{app-name}}-{{component}}-{{purpose}}",
                                    shown(&e.value)
                                ),
                            );
                        }
                        Some(_) => o.judged(),
                        None => o.unknown(r.address.to_string()),
                    }
                }
            }
            for (_, v, at) in everywhere(p) {
                let Some((vault, secret, _)) = reference(&v.known_text()) else { continue };
                if secret.contains('…') {
                    continue;
                }
                let app = vault.as_deref().and_then(app_of);
                if conventional(&secret, app) {
                    o.judged();
                } else {
                    o.at(
                        at,
                        format!(
                            "\"{secret}\" does not follow {{app-name}}-{{component}}-{{purpose}}"
                        ),
                    );
                }
            }
        }),
    },
    Rule {
        id: "LZ-KV-007",
        section: ACCESS,
        erratum: None,
        severity: Error,
        title: "An app reads secrets and does nothing else to them",
        why: "Secrets Officer may also delete and purge; Administrator may do everything. An app that is broken into must not be able to.",
        fix: "Assign `Key Vault Secrets User`.",
        bad: &[(
            "main.tf",
            "resource \"azurerm_linux_web_app\" \"app\" {\n  name = \"x\"\n}\nresource \"azurerm_role_assignment\" \"app\" {\n  role_definition_name = \"Key Vault Secrets Officer\"\n  principal_id         = azurerm_linux_web_app.app.identity[0].principal_id\n}\n",
        )],
        good: &[(
            "main.tf",
            "resource \"azurerm_linux_web_app\" \"app\" {\n  name = \"x\"\n}\nresource \"azurerm_role_assignment\" \"app\" {\n  role_definition_name = \"Key Vault Secrets User\"\n  principal_id         = azurerm_linux_web_app.app.identity[0].principal_id\n}\n",
        )],
        check: Check::Stack(|s, o| {
            for r in s.all(ROLE) {
                let Some(e) = r.body.entry("role_definition_name") else { continue };
                let app = r.get("principal_id").is_some_and(|v| {
                    v.refs().iter().any(|x| {
                        SITES.contains(&&*x.kind) || &*x.kind == "azurerm_user_assigned_identity"
                    })
                });
                if !app {
                    continue;
                }
                match e.value.as_str() {
                    Some(n)
                        if n.starts_with("Key Vault")
                            && (n.contains("Officer")
                                || n.contains("Administrator")
                                || n.contains("Contributor")) =>
                    {
                        o.entry(e, format!("an app is {n}: it may delete secrets"));
                    }
                    _ => o.judged(),
                }
            }
        }),
    },
    Rule {
        id: "LZ-KV-008",
        section: "App Service Integration",
        erratum: Some(15),
        severity: Error,
        title: "Every identity that resolves references may read the vault, each slot's own among them",
        why: "A slot has its own system-assigned identity. Without a role of its own its references do not resolve, and the swap brings up an app without secrets.",
        fix: "Assign `Key Vault Secrets User` to the site's and to the slot's `identity[0].principal_id`.",
        bad: &[(
            "main.tf",
            "resource \"azurerm_linux_web_app\" \"app\" {\n  identity {\n    type = \"SystemAssigned\"\n  }\n}\nresource \"azurerm_linux_web_app_slot\" \"staging\" {\n  app_service_id = azurerm_linux_web_app.app.id\n  app_settings = {\n    JWT_SECRET = \"@Microsoft.KeyVault(VaultName=notes-kv;SecretName=notes-jwt-secret)\"\n  }\n  identity {\n    type = \"SystemAssigned\"\n  }\n}\nresource \"azurerm_role_assignment\" \"app\" {\n  role_definition_name = \"Key Vault Secrets User\"\n  principal_id         = azurerm_linux_web_app.app.identity[0].principal_id\n}\n",
        )],
        good: &[(
            "main.tf",
            "resource \"azurerm_linux_web_app_slot\" \"staging\" {\n  app_settings = {\n    JWT_SECRET = \"@Microsoft.KeyVault(VaultName=notes-kv;SecretName=notes-jwt-secret)\"\n  }\n  identity {\n    type = \"SystemAssigned\"\n  }\n}\nresource \"azurerm_role_assignment\" \"slot\" {\n  role_definition_name = \"Key Vault Secrets User\"\n  principal_id         = azurerm_linux_web_app_slot.staging.identity[0].principal_id\n}\n",
        )],
        check: Check::Stack(|s, o| {
            for r in s.all(SITES) {
                let uses =
                    settings(r).is_some_and(|m| m.iter().any(|e| is_vault_reference(&e.value)));
                let system = matches!(get(r, "identity.type"), Got::Written(e) if e.value.as_str().is_some_and(|t| t.contains("SystemAssigned")));
                let user = matches!(
                    get(r, "key_vault_reference_identity_id"),
                    Got::Written(_) | Got::Unknown(_)
                );
                if !uses || !system || user {
                    continue;
                }
                let mut maybe = false;
                let has = s.all(ROLE).any(|a| {
                    let vault_role = match a.get("role_definition_name") {
                        Some(v) => v.as_str().is_none_or(|n| n.starts_with("Key Vault")),
                        None => true,
                    };
                    let Some(v) = a.get("principal_id") else { return false };
                    let refs = v.refs();
                    if refs.is_empty() && !matches!(v.kind, Kind::Text(_)) {
                        maybe = true;
                    }
                    vault_role
                        && refs.iter().any(|x| x.address == r.address || x.address.ends_with("[*]"))
                });
                // Access policies are another breach; here only whether the identity gets in.
                let policy = s.all(&["azurerm_key_vault_access_policy"]).any(|a| {
                    a.get("object_id")
                        .is_some_and(|v| v.refs().iter().any(|x| x.address == r.address))
                });
                if has || policy {
                    o.judged();
                } else if maybe {
                    o.unknown(format!("{}: a role assignment's principal is not known", r.address));
                } else {
                    let what = if SLOT.contains(&&*r.kind) {
                        "this slot's own identity has no role on the vault"
                    } else {
                        "this site's identity has no role on the vault"
                    };
                    o.at(r.header, format!("{what}: its Key Vault references will not resolve"))
                        .absent();
                }
            }
        }),
    },
    Rule {
        id: "LZ-KV-009",
        section: "App Service Integration",
        erratum: None,
        severity: Error,
        title: "What refers to the vault has an identity",
        why: "References are resolved with the site's identity; without one the app gets the reference's text instead of the secret.",
        fix: "Add `identity { type = \"SystemAssigned\" }`.",
        bad: &[(
            "main.tf",
            "resource \"azurerm_linux_web_app\" \"app\" {\n  app_settings = {\n    JWT_SECRET = \"@Microsoft.KeyVault(VaultName=notes-kv;SecretName=notes-jwt-secret)\"\n  }\n}\n",
        )],
        good: &[(
            "main.tf",
            "resource \"azurerm_linux_web_app\" \"app\" {\n  app_settings = {\n    JWT_SECRET = \"@Microsoft.KeyVault(VaultName=notes-kv;SecretName=notes-jwt-secret)\"\n  }\n  identity {\n    type = \"SystemAssigned\"\n  }\n}\n",
        )],
        check: Check::Stack(|s, o| {
            for r in s.all(SITES) {
                let Some(e) =
                    settings(r).and_then(|m| m.iter().find(|e| is_vault_reference(&e.value)))
                else {
                    continue;
                };
                match get(r, "identity.type") {
                    Got::Missing(_) => {
                        o.entry(e, "this reference needs an identity, and the site has none")
                            .absent();
                    }
                    _ => o.judged(),
                }
            }
        }),
    },
    Rule {
        id: "LZ-KV-010",
        section: "Application Settings",
        erratum: None,
        severity: Error,
        title: "Secrets are referred to, not written",
        why: "A plain setting is in the state, in the portal, in every export and in the process list of Kudu.",
        fix: "Store it in Key Vault and write `@Microsoft.KeyVault(VaultName=…;SecretName=…)`.",
        bad: &[(
            "main.tf",
            "resource \"azurerm_linux_web_app\" \"app\" {\n  app_settings = {\n    JWT_SECRET = \"hunter2hunter2\"\n  }\n}\n",
        )],
        good: &[(
            "main.tf",
            "resource \"azurerm_linux_web_app\" \"app\" {\n  identity {\n    type = \"SystemAssigned\"\n  }\n  app_settings = {\n    JWT_SECRET = \"@Microsoft.KeyVault(VaultName=notes-kv;SecretName=notes-jwt-secret)\"\n    LOG_LEVEL  = \"info\"\n  }\n}\n",
        )],
        check: Check::Project(|p, o| {
            let dotenv: Vec<_> = p.dotenv.clone();
            for (name, v, at) in everywhere(p) {
                // A developer's own .env holds development's secrets: only git may judge it.
                if dotenv.contains(&at.file) {
                    continue;
                }
                match plain(&name, &v) {
                    Some(why) => {
                        o.value(at, &v, format!("`{name}` holds a secret in plain ({why})"));
                    }
                    None => o.judged(),
                }
            }
        }),
    },
    Rule {
        id: "LZ-KV-011",
        section: "Application Settings",
        erratum: None,
        severity: Error,
        title: "No secret is written into Terraform",
        why: "It stays in the repository's history and in the state for ever.",
        fix: "Generate it (`random_password`), or take it as a sensitive variable without default from the pipeline; then rotate the one that was written.",
        bad: &[("main.tf", "variable \"db_password\" {\n  default = \"S3cretPassw0rd!\"\n}\n")],
        good: &[(
            "main.tf",
            "variable \"db_password\" {\n  type      = string\n  sensitive = true\n}\n",
        )],
        check: Check::Stack(|s, o| {
            for r in s.all(&["variable"]) {
                let Some(e) = r.body.entry("value") else { continue };
                let name = &r.name;
                if secret_name(name) && !name.ends_with("_length") {
                    match &e.value.kind {
                        Kind::Text(t) if !placeholder(t) && t.len() > 3 => {
                            o.at(e.value.span, format!("the secret `{name}` is written here"));
                        }
                        _ => o.judged(),
                    }
                }
            }
            let literal = |e: &Entry| {
                matches!(&e.value.kind, Kind::Text(t) if !t.is_empty() && !placeholder(t))
                    && e.at == e.value.span
            };
            for (kinds, key) in [
                (&["azurerm_key_vault_secret"][..], "value"),
                (&["azurerm_postgresql_flexible_server"][..], "administrator_password"),
                (&["provider.azurerm"][..], "client_secret"),
                (&["backend.azurerm"][..], "access_key"),
            ] {
                for r in s.all(kinds) {
                    // Set once as a stand-in for what somebody else writes: no secret.
                    let stand_in = r.ignores.iter().any(|i| matches!(&**i, "value" | "all"));
                    match r.body.entry(key) {
                        Some(e) if literal(e) && !stand_in && !names_no_secret(r) => {
                            o.entry(e, format!("`{key}` is written here in plain"));
                        }
                        Some(_) => o.judged(),
                        None => {}
                    }
                }
            }
        }),
    },
    Rule {
        id: "LZ-KV-012",
        section: "Secret Rotation",
        erratum: None,
        severity: Warning,
        title: "References follow rotation",
        why: "A reference with a version keeps the old secret after a rotation, until it is disabled and the app stops.",
        fix: "Leave the version out of the reference (`versionless_id`).",
        bad: &[(
            "main.tf",
            "resource \"azurerm_linux_web_app\" \"app\" {\n  app_settings = {\n    JWT_SECRET = \"@Microsoft.KeyVault(SecretUri=https://notes-kv.vault.azure.net/secrets/notes-jwt-secret/0123456789abcdef0123456789abcdef)\"\n  }\n}\n",
        )],
        good: &[(
            "main.tf",
            "resource \"azurerm_linux_web_app\" \"app\" {\n  app_settings = {\n    JWT_SECRET = \"@Microsoft.KeyVault(SecretUri=https://notes-kv.vault.azure.net/secrets/notes-jwt-secret)\"\n  }\n}\n",
        )],
        check: Check::Project(|p, o| {
            for (_, v, at) in everywhere(p) {
                if !is_vault_reference(&v) {
                    continue;
                }
                let by_reference = v
                    .refs()
                    .iter()
                    .any(|r| &*r.kind == "azurerm_key_vault_secret" && &*r.attribute == "id");
                match reference(&v.known_text()) {
                    Some((_, _, true)) => {
                        o.at(
                            at,
                            "this reference is pinned to a version: a rotation does not reach it",
                        );
                    }
                    _ if by_reference => {
                        o.at(at, "`id` holds the version: a rotation does not reach it (`versionless_id` does)");
                    }
                    _ => o.judged(),
                }
            }
        }),
    },
    Rule {
        id: "LZ-KV-013",
        section: "App Service Integration",
        erratum: None,
        severity: Error,
        title: "References are written so that Azure resolves them",
        why: "One that Azure does not understand reaches the app as its text.",
        fix: "Write `@Microsoft.KeyVault(VaultName=…;SecretName=…)` or `@Microsoft.KeyVault(SecretUri=https://…)`.",
        bad: &[(
            "main.tf",
            "resource \"azurerm_linux_web_app\" \"app\" {\n  app_settings = {\n    JWT_SECRET = \"@Microsoft.KeyVault(Vault=notes-kv;Secret=notes-jwt-secret)\"\n  }\n}\n",
        )],
        good: &[(
            "main.tf",
            "resource \"azurerm_linux_web_app\" \"app\" {\n  app_settings = {\n    JWT_SECRET = \"@Microsoft.KeyVault(VaultName=notes-kv;SecretName=notes-jwt-secret)\"\n  }\n}\n",
        )],
        check: Check::Project(|p, o| {
            for (_, v, at) in everywhere(p) {
                let t = v.known_text();
                if !t.to_ascii_lowercase().starts_with("@microsoft.keyvault") {
                    continue;
                }
                if t.starts_with("@Microsoft.KeyVault(")
                    && (reference(&t).is_some() || t.contains('…'))
                {
                    o.judged();
                } else {
                    o.at(at, "Azure does not understand this reference: the app gets its text");
                }
            }
        }),
    },
    Rule {
        id: "LZ-KV-014",
        section: "Application Settings",
        erratum: None,
        severity: Error,
        title: "No pipeline carries a secret in plain",
        why: "The file is in the repository; everybody who reads it has the secret.",
        fix: "Take it from a variable group linked to Key Vault, or mark the variable secret in the pipeline's settings.",
        bad: &[(
            "azure-pipelines/cd.yml",
            "variables:\n  DB_PASSWORD: 'Xk29sLq0PzW8'\nsteps:\n  - script: echo hello\n",
        )],
        good: &[(
            "azure-pipelines/cd.yml",
            "variables:\n  - group: notes-secrets\nsteps:\n  - script: echo hello\n    env:\n      DB_PASSWORD: $(DB_PASSWORD)\n",
        )],
        check: Check::Pipeline(|p, o| {
            fn walk(v: &Value, o: &mut crate::rule::Sink<'_>, depth: usize) {
                if depth > 40 {
                    return;
                }
                match &v.kind {
                    Kind::List(l) => l.iter().for_each(|v| {
                        if let Some(m) = v.as_map()
                            && let (Some(n), Some(e)) =
                                (m.get("name").and_then(Value::as_str), m.entry("value"))
                        {
                            judge(n, e, o);
                        }
                        walk(v, o, depth + 1);
                    }),
                    Kind::Map(m) => m.iter().for_each(|e| {
                        if matches!(&*e.key, "variables" | "env") {
                            for x in e.value.as_map().into_iter().flatten() {
                                judge(&x.key, x, o);
                            }
                        }
                        walk(&e.value, o, depth + 1);
                    }),
                    _ => {}
                }
            }
            fn judge(name: &str, e: &Entry, o: &mut crate::rule::Sink<'_>) {
                let Kind::Text(t) = &e.value.kind else { return };
                let taken =
                    t.contains("$(") || t.contains("${{") || t.contains("$[") || t.starts_with('@');
                if !taken
                    && !placeholder(t)
                    && (secret_name(name) && t.len() > 3 && t.parse::<f64>().is_err()
                        || secret_text(t))
                {
                    o.entry(e, format!("`{name}` holds a secret in plain"));
                } else {
                    o.judged();
                }
            }
            walk(&p.document, o, 0);
        }),
    },
    Rule {
        id: "LZ-KV-015",
        section: "Identity: Managed Identities",
        erratum: None,
        severity: Error,
        title: "No source file holds a secret",
        why: "It stays in the repository's history for ever.",
        fix: "Read it from the environment, and rotate the one that was written.",
        bad: &[(
            "app/client.py",
            "DATABASE_URL = \"postgresql+asyncpg://app:Sup3rS3cret9@notes-pg.postgres.database.azure.com:6432/notes?ssl=require\"\n",
        )],
        good: &[("app/client.py", "import os\nDATABASE_URL = os.environ[\"DATABASE_URL\"]\n")],
        check: Check::Project(|p, o| {
            for (t, at, kind) in p.texts() {
                if !matches!(kind, TextKind::Python | TextKind::Shell)
                    || p.dotenv.contains(&at.file)
                {
                    continue;
                }
                let path = p.sources.path(at.file).to_string_lossy().to_ascii_lowercase();
                if path.contains("test") {
                    continue;
                }
                let azure = t.contains(".azure.com")
                    || t.contains(".windows.net")
                    || t.contains("AccountKey=");
                if azure && secret_text(&t) {
                    o.at(at, "this text holds a password or key");
                } else {
                    o.judged();
                }
            }
        }),
    },
];

/// Whether a vault's entry is kept there for convenience and is no secret by its own name: a user's
/// name, a host.
fn names_no_secret(r: &lazuli_hcl::terraform::Resource) -> bool {
    let name = r.get("name").map(Value::known_text).unwrap_or_default().to_ascii_lowercase();
    let own = r.name.to_ascii_lowercase();
    let harmless = |n: &str| {
        n.split(|c: char| !c.is_ascii_alphanumeric()).any(|w| {
            matches!(
                w,
                "username" | "user" | "login" | "host" | "hostname" | "server" | "fqdn" | "email"
            )
        }) && !n.contains("password")
            && !n.contains("pwd")
            && !n.contains("secret")
            && !n.contains("key")
    };
    &*r.kind == "azurerm_key_vault_secret" && (harmless(&name) || harmless(&own))
}

/// `notes` of `notes-kv`.
fn app_of(vault: &str) -> Option<&str> {
    let app = vault.strip_suffix("-kv")?;
    (!app.is_empty()).then_some(app)
}

fn conventional(secret: &str, app: Option<&str>) -> bool {
    // `$(env)`, `#{env}#`: put in place by the pipeline, so nobody can tell.
    if secret.contains("$(") || secret.contains("#{") {
        return true;
    }
    match app {
        // The vault's own name may carry more than the app: `notes-dev-kv`, `org-p-notes-kv`.
        Some(a) => {
            let first = secret.split('-').next().unwrap_or(secret);
            secret.starts_with(&format!("{a}-"))
                || (!a.starts_with('{')
                    && a.split('-').any(|part| part == first)
                    && secret.matches('-').count() >= 2)
        }
        None => secret.matches('-').count() >= 2,
    }
}
