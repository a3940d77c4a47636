//! `lazuli secrets list`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use jiff::Timestamp;
use lazuli_release::cloud::{Place, WEB_API};
use lazuli_standard::data::secrets::ROTATION_DAYS;
use serde::Serialize;
use serde_json::Value;

use crate::cli::Context;
use crate::diagnostics::{Failure, release};
use crate::printer::{BAD, BOLD, CAUTION, DIM, NAME, paint};
use crate::project::Project;
use crate::target::Session;
use crate::waiting::{self, Waiting};

const VAULT_API: &str = "2023-07-01";
const ROLE_API: &str = "2022-04-01";
const DAY: i64 = 86_400;

/// Show each secret's age, expiry, readers and references
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  lazuli secrets list --output json")]
pub(crate) struct Args {}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Secret {
    name: String,
    enabled: bool,
    version: String,
    created: Option<Timestamp>,
    age_days: i64,
    expires: Option<Timestamp>,
    /// Older than the standard's 90 days.
    overdue: bool,
    /// When the version before it is disabled, while a rotation waits for that.
    old_version_until: Option<Timestamp>,
    /// Settings that refer to it.
    references: Vec<Reference>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Reference {
    host: String,
    setting: String,
    status: String,
    /// The version that runs there, where the platform says.
    active_version: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Reader {
    who: String,
    role: String,
    /// The vault, or one secret.
    scope: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Listing {
    vault: String,
    secrets: Vec<Secret>,
    /// Who may read values.
    readers: Vec<Reader>,
    /// Rotations that have not ended.
    rotations: Vec<Waiting>,
}

pub(crate) async fn run(_: Args, cx: &Context) -> Result<(), Failure> {
    let project = Project::open(cx)?;
    let session = Session::open(cx)?;
    let flags = cx.flags();
    let rotations = waiting::rotations(&project, cx);
    let listing = read(&project, &session, rotations).await.map_err(|error| {
        if error.is_not_found() {
            return Failure::new(crate::exit::Exit::Target, "there is no vault yet")
                .cause(error.to_string())
                .advise(format!("create everything: lazuli up{flags}"));
        }
        release::platform(&error, &flags)
    })?;
    cx.printer.result(&listing, |listing| table(listing, &flags));
    Ok(())
}

async fn read(
    project: &Project,
    session: &Session,
    rotations: Vec<Waiting>,
) -> Result<Listing, lazuli_azure::Error> {
    let (client, cloud) = (&session.client, session.cloud(project));
    let group = format!(
        "/subscriptions/{}/resourceGroups/{}",
        session.subscription, project.blueprint.resource_group
    );
    let vault =
        format!("{group}/providers/Microsoft.KeyVault/vaults/{}", project.blueprint.vault.name);
    let mut references: BTreeMap<String, Vec<Reference>> = BTreeMap::new();
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    for place in [Place::Production, Place::Staging, Place::Worker, Place::Scheduler] {
        if !cloud.has(place) {
            continue;
        }
        let site = client.get(cloud.id(place), WEB_API).await?;
        if let Some(principal) = site.pointer("/identity/principalId").and_then(Value::as_str) {
            names.insert(principal.to_ascii_lowercase(), cloud.host(place));
        }
        let path = format!("{}/config/configreferences/appsettings", cloud.id(place));
        for one in client.list(path, WEB_API).await? {
            let properties = &one["properties"];
            let text = |name: &str| properties[name].as_str().unwrap_or_default().to_owned();
            references.entry(text("secretName").to_ascii_lowercase()).or_default().push(
                Reference {
                    host: cloud.host(place),
                    setting: one["name"].as_str().unwrap_or_default().to_owned(),
                    status: text("status"),
                    active_version: properties["activeVersion"].as_str().map(str::to_owned),
                },
            );
        }
    }
    let mut until = BTreeMap::new();
    for open in rotations.iter().map(|waiting| &waiting.open) {
        if let Some(due) = open.due {
            until.extend(open.secrets.iter().map(|name| (name.to_ascii_lowercase(), due)));
        }
    }
    let now = Timestamp::now();
    let mut secrets = Vec::new();
    for secret in client.list(format!("{vault}/secrets"), VAULT_API).await? {
        let name =
            secret["name"].as_str().unwrap_or_default().rsplit('/').next().unwrap_or_default();
        let properties = &secret["properties"];
        let time = |name: &str| {
            properties["attributes"][name].as_i64().and_then(|s| Timestamp::from_second(s).ok())
        };
        let created = time("created");
        let age_days = created.map_or(0, |at| (now.as_second() - at.as_second()) / DAY);
        let uri = properties["secretUriWithVersion"].as_str().unwrap_or_default();
        secrets.push(Secret {
            enabled: properties["attributes"]["enabled"].as_bool().unwrap_or(true),
            version: uri.rsplit('/').next().unwrap_or_default().to_owned(),
            created,
            age_days,
            expires: time("exp"),
            overdue: age_days >= i64::from(*ROTATION_DAYS),
            old_version_until: until.get(&name.to_ascii_lowercase()).copied(),
            references: references.remove(&name.to_ascii_lowercase()).unwrap_or_default(),
            name: name.to_owned(),
        });
    }
    let readers = readers(session, &vault, &names).await?;
    Ok(Listing { vault: project.blueprint.vault.name.clone(), secrets, readers, rotations })
}

/// Whoever holds a role, on the vault or above or below it, that reads values.
async fn readers(
    session: &Session,
    vault: &str,
    names: &BTreeMap<String, String>,
) -> Result<Vec<Reader>, lazuli_azure::Error> {
    let client = &session.client;
    let path = format!("{vault}/providers/Microsoft.Authorization/roleAssignments");
    let mut roles: BTreeMap<String, (String, bool)> = BTreeMap::new();
    let mut readers = Vec::new();
    for one in client.list(path, ROLE_API).await? {
        let text = |name: &str| one["properties"][name].as_str().unwrap_or_default();
        let definition = text("roleDefinitionId").to_owned();
        if !roles.contains_key(&definition) {
            let role = client.get(&definition, ROLE_API).await?;
            let name = role.pointer("/properties/roleName").and_then(Value::as_str).unwrap_or("?");
            let reads = role
                .pointer("/properties/permissions/0/dataActions")
                .and_then(Value::as_array)
                .is_some_and(|actions| actions.iter().filter_map(Value::as_str).any(reads_values));
            roles.insert(definition.clone(), (name.to_owned(), reads));
        }
        let Some((role, true)) = roles.get(&definition) else { continue };
        let principal = text("principalId");
        let scope = text("scope");
        let tail = |scope: &str| scope.rsplit('/').next().unwrap_or_default().to_owned();
        readers.push(Reader {
            who: names
                .get(&principal.to_ascii_lowercase())
                .cloned()
                .unwrap_or_else(|| principal.to_owned()),
            role: role.clone(),
            scope: if scope.eq_ignore_ascii_case(vault) {
                "the vault".to_owned()
            } else {
                tail(scope)
            },
        });
    }
    readers.sort_by(|a, b| (&a.role, &a.who).cmp(&(&b.role, &b.who)));
    Ok(readers)
}

/// Whether a data action's pattern covers reading a secret's value.
fn reads_values(pattern: &str) -> bool {
    let action = "microsoft.keyvault/vaults/secrets/getsecret/action";
    let pattern = pattern.to_ascii_lowercase();
    match pattern.split_once('*') {
        None => pattern == action,
        Some((before, after)) => action.starts_with(before) && action.ends_with(after),
    }
}

fn table(listing: &Listing, flags: &str) -> String {
    let mut out = format!("{}\n", paint(BOLD, format_args!("Secrets in {}", listing.vault)));
    for secret in &listing.secrets {
        let age = match secret.age_days {
            0 => "today".to_owned(),
            1 => "1 day old".to_owned(),
            days => format!("{days} days old"),
        };
        let age = if secret.overdue {
            paint(BAD, format_args!("{age}, past {} days", *ROTATION_DAYS))
        } else {
            age
        };
        let expires = secret.expires.map_or_else(
            || "no expiry".to_owned(),
            |at| format!("expires {}", at.strftime("%Y-%m-%d")),
        );
        let off = if secret.enabled { "" } else { ", disabled" };
        let _ = writeln!(out, "\n{}  {age}, {expires}{off}", paint(NAME, &secret.name));
        if let Some(until) = secret.old_version_until {
            let _ = writeln!(
                out,
                "  {}",
                paint(CAUTION, format_args!("the old version works {}", so_long(until)))
            );
        }
        if secret.references.is_empty() {
            let _ = writeln!(out, "  {}", paint(DIM, "no setting refers to it"));
        }
        for reference in &secret.references {
            let stale = reference.active_version.as_ref().is_some_and(|v| *v != secret.version);
            let status = match reference.status.as_str() {
                "Resolved" if stale => paint(CAUTION, "an older version: restart it"),
                "Resolved" => paint(DIM, "resolved"),
                other => paint(BAD, other),
            };
            let _ = writeln!(out, "  {:<38} {:<32} {status}", reference.host, reference.setting);
        }
    }
    let _ = writeln!(out, "\n{}", paint(BOLD, "Who may read them"));
    for reader in &listing.readers {
        let _ = writeln!(
            out,
            "  {:<38} {:<32} {}",
            reader.who,
            reader.role,
            paint(DIM, format_args!("on {}", reader.scope))
        );
    }
    for waiting in listing.rotations.iter().filter(|waiting| waiting.needs_somebody()) {
        let _ = writeln!(out, "\n{}", waiting.text(flags));
    }
    out
}

/// Until when, or until somebody does what is due.
fn so_long(until: Timestamp) -> String {
    if until > Timestamp::now() {
        format!("until {until:.0}")
    } else {
        format!("still, though only until {until:.0}")
    }
}

#[cfg(test)]
mod tests {
    use super::reads_values;

    #[test]
    fn roles_that_read_values_are_told_from_the_others() {
        assert!(reads_values("Microsoft.KeyVault/vaults/*"));
        assert!(reads_values("Microsoft.KeyVault/vaults/secrets/getSecret/action"));
        assert!(!reads_values("Microsoft.KeyVault/vaults/secrets/readMetadata/action"));
        assert!(!reads_values("Microsoft.KeyVault/vaults/*/read"));
    }
}
