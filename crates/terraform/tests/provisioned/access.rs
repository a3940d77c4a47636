//! Who may do what, what the vault holds and where it comes from, and who reads it: the same as
//! provisioned and as rendered, each whole.

use std::collections::{BTreeMap, BTreeSet};

use lazuli_hcl::terraform::{Configuration, Resource};
use lazuli_hcl::{Kind, Piece, Ref, Sources, Span, Value};
use lazuli_release::provision::{Action, Plan, Principal, SettingValue};
use lazuli_standard::data::secrets::{ADMINISTRATOR, METRICS_PUBLISHER, OPENAI_USER, SECRETS_USER};
use lazuli_standard::{Blueprint, Environment};

/// A role assignment. Identities are named by their site, `notes` or `notes/slots/staging`, others by
/// what they are and their object ID.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Role {
    principal: String,
    role: String,
    /// `vaults/notes-kv`.
    scope: String,
}

/// A secret, all of it but its value.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Secret {
    vault: String,
    content_type: String,
    tags: BTreeMap<String, String>,
    not_before: Option<String>,
    expires: Option<String>,
    /// How its value comes about: a template of `{password}`, `{random}` and `{key of …}`.
    origin: String,
}

/// Secret → the settings that refer to it, `notes/slots/staging JWT_SECRET`.
type Readers = BTreeMap<String, BTreeSet<String>>;

/// A value that nobody may guess has this much randomness.
const ENOUGH_BITS: usize = 256;

// ---- as provisioned ----

fn provisioned_roles(plan: &Plan) -> Vec<Role> {
    let mut roles = Vec::new();
    for step in &plan.steps {
        let Action::Role { principal, role_definition } = &step.action else { continue };
        let (scope, _) =
            step.id.as_str().split_once("/providers/Microsoft.Authorization/").unwrap();
        let id = role_definition.rsplit('/').next().unwrap();
        let known = [*SECRETS_USER, *OPENAI_USER, *METRICS_PUBLISHER, *ADMINISTRATOR];
        let role = known.iter().find(|r| r.id == id).unwrap_or_else(|| panic!("{id}"));
        roles.push(Role {
            principal: match principal {
                Principal::Identity(id) => id.as_str().split_once("/sites/").unwrap().1.to_owned(),
                Principal::Object { id, kind } => format!("{kind} {id}"),
            },
            role: role.name.to_owned(),
            scope: last(scope, 2),
        });
    }
    roles
}

fn provisioned_secrets(plan: &Plan) -> BTreeMap<String, Secret> {
    let mut secrets = BTreeMap::new();
    let mut add = |id: &str, body: &serde_json::Value, origin: String| {
        let [vault, _, name] = <[&str; 3]>::try_from(
            id.rsplitn(4, '/').take(3).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>(),
        )
        .unwrap();
        let properties = &body["properties"];
        let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
        let time = |name: &str| properties["attributes"].get(name).map(ToString::to_string);
        assert_eq!(properties["attributes"]["enabled"], true, "{name}");
        let secret = Secret {
            vault: vault.to_owned(),
            content_type: text(&properties["contentType"]).unwrap_or_default(),
            tags: body["tags"]
                .as_object()
                .unwrap_or_else(|| panic!("{name} has no tags"))
                .iter()
                .map(|(name, value)| (name.clone(), text(value).unwrap()))
                .collect(),
            not_before: time("nbf"),
            expires: time("exp"),
            origin,
        };
        assert!(secrets.insert(name.to_owned(), secret).is_none(), "{name} twice");
    };
    for step in &plan.steps {
        match &step.action {
            Action::DatabaseSecrets(list) => {
                for one in list {
                    add(one.id.as_str(), &one.body, one.template.clone());
                }
            }
            Action::GeneratedSecret { body, bytes } => {
                assert!(bytes * 8 >= ENOUGH_BITS, "{}", step.id);
                add(step.id.as_str(), body, "{random}".to_owned());
            }
            Action::CacheSecret { body, keys_of, template, .. } => {
                let cache = keys_of.as_str().split_once("/providers/Microsoft.Cache/").unwrap().1;
                let origin = template.replace("{key}", &format!("{{key of {cache}}}"));
                add(step.id.as_str(), body, origin);
            }
            _ => {}
        }
    }
    secrets
}

fn provisioned_readers(plan: &Plan) -> Readers {
    let mut readers = Readers::new();
    for step in &plan.steps {
        let Action::Settings(values) = &step.action else { continue };
        let who = step.id.as_str().split_once("/sites/").unwrap().1;
        let who = who.strip_suffix("/config/appsettings").unwrap();
        for (setting, value) in values {
            if let SettingValue::Text(text) = value {
                refer(&mut readers, who, setting, text);
            }
        }
    }
    readers
}

// ---- as rendered ----

struct Rendered<'a> {
    found: &'a Configuration,
    sources: &'a Sources,
}

impl Rendered<'_> {
    fn of(&self, kind: &str) -> impl Iterator<Item = &Resource> {
        self.found.resources.iter().filter(move |r| &*r.kind == kind)
    }

    fn resource(&self, address: &str) -> &Resource {
        let found = self.found.resources.iter().find(|r| &*r.address == address);
        found.unwrap_or_else(|| panic!("there is no {address}"))
    }

    /// The resource that an attribute refers to by its `id`, as Azure names it: `vaults/notes-kv`.
    fn target(&self, r: &Resource, attribute: &str) -> String {
        let Some(Ref { address, attribute: id, .. }) = r.get(attribute).and_then(Value::as_ref)
        else {
            panic!("{}: {attribute} refers to nothing", r.address)
        };
        assert_eq!(&**id, "id", "{}: {attribute}", r.address);
        self.azures(self.resource(address))
    }

    fn azures(&self, r: &Resource) -> String {
        let (_, kind, _) = super::SAME.iter().find(|(kind, ..)| *kind == &*r.kind).unwrap();
        format!("{kind}/{}", r.get("name").unwrap().known_text())
    }

    /// `notes`, or `notes/slots/staging`.
    fn site(&self, r: &Resource) -> String {
        let name = r.get("name").unwrap().known_text();
        match &*r.kind {
            "azurerm_linux_web_app" => name,
            "azurerm_linux_web_app_slot" => {
                let site = self.target(r, "app_service_id");
                format!("{}/slots/{name}", site.strip_prefix("sites/").unwrap())
            }
            other => panic!("{other} is no site"),
        }
    }

    fn sites(&self) -> Vec<&Resource> {
        self.of("azurerm_linux_web_app").chain(self.of("azurerm_linux_web_app_slot")).collect()
    }

    /// The roles of sites and slots; those of whoever applies are [`deployer`]'s.
    fn roles(&self) -> Vec<Role> {
        let mut roles = Vec::new();
        for r in self.of("azurerm_role_assignment").filter(|r| &*r.name != "deployer_secrets") {
            let role = |principal| Role {
                principal,
                role: r.get("role_definition_name").unwrap().known_text(),
                scope: self.target(r, "scope"),
            };
            let kind = r.get("principal_type").map(Value::known_text);
            let whose = r.get("principal_id").unwrap_or_else(|| panic!("{}: whose?", r.address));
            let Some(principal) = whose.as_ref() else {
                let kind = kind.unwrap_or_else(|| panic!("{}: what is it?", r.address));
                roles.push(role(format!("{kind} {}", whose.known_text())));
                continue;
            };
            assert!(
                principal.attribute.starts_with("identity")
                    && principal.attribute.ends_with(".principal_id"),
                "{}: {principal:?}",
                r.address
            );
            // An identity that has not reached every replica yet is refused without it.
            assert_eq!(kind.as_deref(), Some("ServicePrincipal"), "{}", r.address);
            roles.push(role(self.site(self.resource(&principal.address))));
        }
        roles
    }

    /// Terraform writes secrets through the vault's data plane, where being the subscription's owner
    /// is worth nothing: whoever applies, the pipeline's service principal, gives itself the right.
    /// Provisioning writes them through Resource Manager, and needs none. That is the one difference.
    fn deployer(&self, vault: &str) {
        let mut own = self.of("azurerm_role_assignment").filter(|r| &*r.name == "deployer_secrets");
        let r = own.next().unwrap();
        assert!(own.next().is_none());
        let principal = r.get("principal_id").and_then(Value::as_ref).unwrap();
        assert_eq!(&*principal.address, "data.azurerm_client_config.current");
        assert_eq!(&*principal.attribute, "object_id");
        assert_eq!(
            r.get("role_definition_name").unwrap().known_text(),
            "Key Vault Secrets Officer"
        );
        assert_eq!(self.target(r, "scope"), format!("vaults/{vault}"));
        for secret in self.of("azurerm_key_vault_secret") {
            let waits = secret.depends_on.iter().any(|on| **on == *r.address);
            assert!(
                waits,
                "{} is written before the right to: {:?}",
                secret.address, secret.depends_on
            );
        }
    }

    fn secrets(&self) -> BTreeMap<String, Secret> {
        let server = self.of("azurerm_postgresql_flexible_server").next().unwrap();
        let password = server.get("administrator_password_wo").unwrap().span;
        let mut secrets = BTreeMap::new();
        for r in self.of("azurerm_key_vault_secret") {
            let name = r.get("name").unwrap().known_text();
            let text = |attribute: &str| r.get(attribute).map(Value::known_text);
            let secret = Secret {
                vault: self.target(r, "key_vault_id").strip_prefix("vaults/").unwrap().to_owned(),
                content_type: text("content_type").unwrap_or_default(),
                tags: r
                    .get("tags")
                    .and_then(Value::as_map)
                    .unwrap()
                    .iter()
                    .map(|e| (e.key.to_string(), e.value.known_text()))
                    .collect(),
                not_before: text("not_before_date"),
                expires: text("expiration_date"),
                origin: self.origin(r.get("value_wo").unwrap(), password),
            };
            // A value in the state would be a second place to guard.
            assert!(r.get("value").is_none(), "{name} is in the state");
            assert!(secrets.insert(name.clone(), secret).is_none(), "{name} twice");
        }
        secrets
    }

    /// How a value comes about. What Azure only knows later stands here as its documentation has it.
    fn origin(&self, value: &Value, password: Span) -> String {
        match &value.kind {
            Kind::Text(text) => text.to_string(),
            Kind::Partial(pieces) => pieces
                .iter()
                .map(|piece| match piece {
                    Piece::Text(text) => text.to_string(),
                    Piece::Hole(value) => self.origin(value, password),
                })
                .collect(),
            Kind::Number(number) => number.to_string(),
            Kind::Ref(r) => {
                let resource = self.resource(&r.address);
                let name = resource.get("name").unwrap().known_text();
                let place = || self.of("azurerm_resource_group").next().unwrap().get("location");
                match (&*r.kind, &*r.attribute) {
                    ("azurerm_postgresql_flexible_server", "fqdn") => {
                        format!("{name}.postgres.database.azure.com")
                    }
                    ("azurerm_redis_cache", "hostname") => {
                        format!("{name}.redis.cache.windows.net")
                    }
                    ("azurerm_redis_cache", "ssl_port") => "6380".to_owned(),
                    ("azurerm_managed_redis", "hostname") => {
                        format!("{name}.{}.redis.azure.net", place().unwrap().known_text())
                    }
                    ("azurerm_managed_redis", port)
                        if port.replace("[0]", "") == "default_database.port" =>
                    {
                        "10000".to_owned()
                    }
                    other => panic!("a secret from {other:?}"),
                }
            }
            Kind::Unknown(_) if value.span == password => "{password}".to_owned(),
            Kind::Unknown(why) => self.made(self.sources.text(value.span), why),
            other => panic!("a secret from {other:?}"),
        }
    }

    /// What an expression makes: a key, escaped, or randomness.
    fn made(&self, expression: &str, why: &str) -> String {
        let key = expression.strip_prefix("urlencode(").and_then(|e| e.strip_suffix(")"));
        if let Some(key) = key.and_then(|k| k.strip_suffix(".primary_access_key")) {
            return match key.strip_suffix(".default_database[0]") {
                Some(cache) => {
                    format!("{{key of {}/databases/default}}", self.azures(self.resource(cache)))
                }
                None => format!("{{key of {}}}", self.azures(self.resource(key))),
            };
        }
        // A UUID of version 4 has 122 random bits; the digest keeps up to 512 of them.
        let bits = expression.matches("uuid()").count() * 122;
        assert!(
            expression.starts_with("base64sha512(") && bits >= ENOUGH_BITS,
            "a secret from `{expression}`: {why}"
        );
        "{random}".to_owned()
    }

    fn readers(&self) -> Readers {
        let mut readers = Readers::new();
        for site in self.sites() {
            let who = self.site(site);
            for entry in site.get("app_settings").and_then(Value::as_map).unwrap() {
                refer(&mut readers, &who, &entry.key, &entry.value.known_text());
            }
        }
        readers
    }
}

// ---- both ----

/// The last parts of an ID.
fn last(id: &str, parts: usize) -> String {
    let all: Vec<&str> = id.split('/').collect();
    all[all.len() - parts..].join("/")
}

fn refer(readers: &mut Readers, who: &str, setting: &str, value: &str) {
    let Some(reference) = value.strip_prefix("@Microsoft.KeyVault(") else { return };
    let secret = reference.strip_suffix(')').unwrap_or_else(|| panic!("{who} {setting}: {value}"));
    readers.entry(secret.to_owned()).or_default().insert(format!("{who} {setting}"));
}

fn sorted(mut roles: Vec<Role>) -> Vec<Role> {
    roles.sort();
    roles
}

#[test]
fn the_same_roles_secrets_and_references() {
    let mut compared = 0;
    for manifest in super::manifests() {
        for environment in Environment::ALL {
            let blueprint = Blueprint::new(&manifest, environment);
            let plan = super::planned(&blueprint);
            let (found, sources) = super::evaluated(&manifest, environment);
            let rendered = Rendered { found: &found, sources: &sources };
            let vault = rendered.of("azurerm_key_vault").next().unwrap();
            let vault = vault.get("name").unwrap().known_text();

            let roles = sorted(rendered.roles());
            assert_eq!(roles, sorted(provisioned_roles(&plan)), "{environment}");
            rendered.deployer(&vault);
            each_identity_reads_the_vault_itself(&rendered, &roles, &vault);
            the_standards_table_of_access(&manifest, &roles, &vault);

            let secrets = rendered.secrets();
            assert_eq!(secrets, provisioned_secrets(&plan), "{environment}");
            let readers = rendered.readers();
            assert_eq!(readers, provisioned_readers(&plan), "{environment}");

            // A reference leads to a secret that is there; a secret is there because somebody reads
            // it, but for the administrator's password: it is what the others are made of.
            let mut read: BTreeSet<String> = BTreeSet::new();
            for (reference, who) in &readers {
                let name = reference.strip_prefix(&format!("VaultName={vault};SecretName="));
                let name = name.unwrap_or_else(|| panic!("{who:?} read {reference}"));
                assert!(secrets.contains_key(name), "{who:?} read {name}, which is not there");
                read.insert(name.to_owned());
            }
            let unread: Vec<&String> = secrets.keys().filter(|s| !read.contains(*s)).collect();
            assert_eq!(unread, ["notes-db-password"], "{environment}");
            compared += roles.len() * 3 + secrets.len() * 6 + readers.values().flatten().count();
        }
    }
    assert!(compared > 400, "only {compared} properties were compared");
}

/// *Access Control*: besides the app's identities the CI/CD service principal reads secrets and the
/// security team does everything, where the manifest names them; nobody else has anything.
fn the_standards_table_of_access(
    manifest: &lazuli_standard::Manifest,
    roles: &[Role],
    vault: &str,
) {
    let others: Vec<(&str, &str, &str)> = roles
        .iter()
        .filter(|r| r.principal.contains(' '))
        .map(|r| (r.principal.as_str(), r.role.as_str(), r.scope.as_str()))
        .collect();
    let scope = format!("vaults/{vault}");
    let (ci_cd, security) = (
        "ServicePrincipal 11111111-2222-4333-8444-555555555555",
        "Group aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee",
    );
    let expected = [
        (security, "Key Vault Administrator", scope.as_str()),
        (ci_cd, "Key Vault Secrets User", scope.as_str()),
    ];
    let expected = if manifest.access.ci_cd.is_some() { &expected[..] } else { &[] };
    assert_eq!(others, expected);
}

/// Erratum 15: every site and every slot has an identity of its own, with its own right to read the
/// vault, and no right to write it; its telemetry is its own component's.
fn each_identity_reads_the_vault_itself(rendered: &Rendered<'_>, roles: &[Role], vault: &str) {
    for site in rendered.sites() {
        let who = rendered.site(site);
        assert_eq!(super::at(&site.body, "identity.type").unwrap().known_text(), "SystemAssigned");
        let on_vault: Vec<&Role> = roles
            .iter()
            .filter(|r| r.principal == who && r.scope == format!("vaults/{vault}"))
            .collect();
        let [one] = on_vault[..] else { panic!("{who} has {on_vault:?} on the vault") };
        assert_eq!(one.role, "Key Vault Secrets User", "{who}");
        let telemetry =
            roles.iter().find(|r| r.principal == who && r.role == "Monitoring Metrics Publisher");
        let telemetry = &telemetry.unwrap_or_else(|| panic!("{who} sends no telemetry")).scope;
        let staging = who.contains("/slots/");
        assert_eq!(telemetry.contains("staging"), staging, "{who} sends to {telemetry}");
    }
}
