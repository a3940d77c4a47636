//! The deployer's way into the vault's data plane, for as long as a step needs it.
//!
//! A vault of the standard is closed: no public network, and nobody holds *Key Vault Secrets Officer*.
//! Old versions cannot be disabled from outside the data plane, so a rotation lets this one address and
//! this one principal in, on one secret, writes down that it did, and closes both doors behind it; a
//! resumption closes them first. Both show in the platform's own activity log.
//!
//! <https://learn.microsoft.com/azure/key-vault/general/network-security>

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use lazuli_azure::{Error, SecretVersion, Vault};
use serde_json::{Value, json};

use super::entry::{Entry, Step, noted};
use super::{Rotation, trouble};
use crate::cloud::Trouble;
use crate::journal::{Journal, JournalError};

const VAULT_API: &str = "2023-07-01";
const ROLE_API: &str = "2022-04-01";
const MANAGEMENT: &str = "https://management.azure.com/.default";
/// *Key Vault Secrets Officer*, on one secret, for the length of a step.
const OFFICER: &str = "b86a8fe4-44ce-4948-aee5-eccb2c155cd7";
/// How long rules and roles may take to reach every front end of the vault.
const PROPAGATION: Duration = Duration::from_mins(10);
/// What the journal calls the vault's network settings as they were.
const NETWORK: &str = "exception/network";
/// What the journal calls a role assignment.
const ROLE: &str = "exception/role/";
/// What a closed door is noted as.
const CLOSED: &str = "closed";

/// Why a door could not be opened or closed.
pub(super) enum Fault {
    Trouble(Trouble),
    Journal(JournalError),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Trouble(error.into())
    }
}

impl From<Trouble> for Fault {
    fn from(error: Trouble) -> Self {
        Self::Trouble(error)
    }
}

impl From<JournalError> for Fault {
    fn from(error: JournalError) -> Self {
        Self::Journal(error)
    }
}

fn note(journal: &mut Journal<Entry>, name: &str, value: &str) -> Result<(), JournalError> {
    let (name, value) = (name.to_owned(), value.to_owned());
    journal.write(Entry::Noted { step: Step::Disable, name, value })
}

/// The data plane, open for one secret; and its versions.
pub(super) async fn open(
    rotation: &Rotation<'_>,
    journal: &mut Journal<Entry>,
    secret: &str,
) -> Result<(Vault, Vec<SecretVersion>), Fault> {
    let client = rotation.cloud.client();
    let vault = client.vault(&rotation.blueprint.vault.name);
    let began = Instant::now();
    let (mut opened, mut through, mut assigned) = (false, false, false);
    loop {
        let refused = match vault.versions(secret).await {
            Ok(versions) => return Ok((vault, versions)),
            Err(error) => error,
        };
        let Some(refusal) = refused.refusal().filter(|refusal| refusal.status == 403) else {
            return Err(refused.into());
        };
        let message = &refusal.message;
        let closed = message.contains("Public network access is disabled");
        let address = address(message);
        if (closed && !opened) || (address.is_some() && !through) {
            // First to the rules, where the vault says who we are to it; then the one rule.
            let id = rotation.vault_id();
            let now = client.get(&id, VAULT_API).await?;
            let before = json!({
                "publicNetworkAccess": now["properties"]["publicNetworkAccess"],
                "networkAcls": now["properties"]["networkAcls"],
            });
            if !opened {
                note(journal, NETWORK, &before.to_string())?;
            }
            let mut rules: Vec<Value> = now
                .pointer("/properties/networkAcls/ipRules")
                .and_then(Value::as_array)
                .cloned()
                .unwrap_or_default();
            rules.extend(address.iter().map(|address| json!({ "value": address })));
            let change = json!({"properties": {
                "publicNetworkAccess": "Enabled",
                "networkAcls": {"defaultAction": "Deny", "bypass": "AzureServices", "ipRules": rules},
            }});
            client.patch(&id, VAULT_API, &change).await?;
            opened = true;
            if let Some(address) = address {
                rotation.reporter.note(format!(
                    "{} lets {address} in for this step, and nobody else",
                    rotation.blueprint.vault.name
                ));
                through = true;
            }
        } else if !closed && address.is_none() && !assigned {
            let (principal, kind) = principal(rotation).await?;
            let id = assignment(rotation, secret, journal.number());
            note(journal, &format!("{ROLE}{secret}"), &id)?;
            let definition = format!(
                "/subscriptions/{}/providers/Microsoft.Authorization/roleDefinitions/{OFFICER}",
                rotation.subscription
            );
            let mut body = json!({"properties": {
                "principalId": principal,
                "roleDefinitionId": definition,
                "description": "lazuli secrets rotate: for one step",
            }});
            if let Some(kind) = kind {
                body["properties"]["principalType"] = kind.into();
            }
            match client.put(&id, ROLE_API, &body).await {
                Ok(_) => {}
                Err(error) if error.code() == Some("RoleAssignmentExists") => {}
                Err(error) => return Err(error.into()),
            }
            assigned = true;
        } else if began.elapsed() > PROPAGATION {
            return Err(refused.into());
        }
        tokio::time::sleep(Duration::from_millis(if began.elapsed().as_secs() < 5 {
            100
        } else {
            3000
        }))
        .await;
    }
}

/// Closes whatever is open.
pub(super) async fn close(
    rotation: &Rotation<'_>,
    journal: &mut Journal<Entry>,
    secrets: &[String],
) -> Result<(), Fault> {
    let client = rotation.cloud.client();
    for secret in secrets {
        let name = format!("{ROLE}{secret}");
        let open = noted(journal.records(), Step::Disable, &name).map(str::to_owned);
        if let Some(id) = open.filter(|id| id != CLOSED) {
            client.delete(&id, ROLE_API).await?;
            note(journal, &name, CLOSED)?;
        }
    }
    let open = noted(journal.records(), Step::Disable, NETWORK).map(str::to_owned);
    if let Some(before) = open.filter(|before| before != CLOSED) {
        let before: Value = serde_json::from_str(&before)
            .map_err(|error| trouble(format!("the journal's network settings: {error}")))?;
        let mut properties = json!({ "publicNetworkAccess": before["publicNetworkAccess"] });
        properties["networkAcls"] = acls_as_before(&before);
        let change = json!({ "properties": properties });
        client.patch(rotation.vault_id(), VAULT_API, &change).await?;
        note(journal, NETWORK, CLOSED)?;
    }
    Ok(())
}

/// The rules to go back to. All of them are said: what a PATCH leaves out stays as it is.
fn acls_as_before(before: &Value) -> Value {
    let mut acls = json!({ "bypass": "AzureServices", "defaultAction": "Deny", "ipRules": [] });
    if before["publicNetworkAccess"] == "Enabled" {
        acls["defaultAction"] = "Allow".into();
    }
    for (name, value) in before["networkAcls"].as_object().into_iter().flatten() {
        acls[name] = value.clone();
    }
    acls
}

/// `Client address: 203.0.113.7` in the vault's refusal.
fn address(message: &str) -> Option<String> {
    let rest = message.split_once("Client address:")?.1.trim_start();
    let text: String =
        rest.chars().take_while(|c| c.is_ascii_hexdigit() || matches!(c, '.' | ':')).collect();
    text.trim_end_matches('.').parse::<std::net::IpAddr>().ok().map(|ip| ip.to_string())
}

/// The same name whenever the same rotation asks: a resumption makes no second one.
fn assignment(rotation: &Rotation<'_>, secret: &str, number: u32) -> String {
    let scope = format!("{}/secrets/{secret}", rotation.vault_id());
    let seed = format!("lazuli rotate {number} {scope}");
    let name = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_URL, seed.as_bytes());
    format!("{scope}/providers/Microsoft.Authorization/roleAssignments/{name}")
}

/// Who we are, and what kind of principal, by our own token.
async fn principal(rotation: &Rotation<'_>) -> Result<(String, Option<&'static str>), Fault> {
    let token = rotation.cloud.client().token(MANAGEMENT).await?;
    let claims =
        token.expose().split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
    let claims: Option<Value> = claims.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    claims
        .as_ref()
        .and_then(who)
        .ok_or_else(|| trouble("our own token does not say who we are").into())
}

/// The `oid` of a token, and what Azure calls its kind: somebody who signed in is a `User`, and a type
/// that does not fit is refused (`UnmatchedPrincipalType`). A token without `idtyp` leaves it open.
/// <https://learn.microsoft.com/entra/identity-platform/optional-claims-reference>
fn who(claims: &Value) -> Option<(String, Option<&'static str>)> {
    let kind = match claims["idtyp"].as_str() {
        Some("app") => Some("ServicePrincipal"),
        Some("user") => Some("User"),
        _ => None,
    };
    claims["oid"].as_str().map(|oid| (oid.to_owned(), kind))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{acls_as_before, address, who};

    #[test]
    fn whoever_signed_in_is_no_service_principal() {
        let of = |claims| who(&claims).map(|(_, kind)| kind);
        assert_eq!(of(json!({"oid": "a", "idtyp": "app"})), Some(Some("ServicePrincipal")));
        assert_eq!(of(json!({"oid": "a", "idtyp": "user"})), Some(Some("User")));
        assert_eq!(of(json!({"oid": "a"})), Some(None));
        assert_eq!(of(json!({"idtyp": "app"})), None);
    }

    #[test]
    fn the_rule_that_let_us_in_does_not_stay() {
        // Seen: rules that were not there before were left out of the PATCH, which so kept ours.
        let closed =
            json!({"publicNetworkAccess": "Disabled", "networkAcls": {"defaultAction": "Deny"}});
        assert_eq!(acls_as_before(&closed)["ipRules"], json!([]));
        let open = json!({"publicNetworkAccess": "Enabled", "networkAcls": null});
        assert_eq!(acls_as_before(&open)["defaultAction"], "Allow");
        let rules = json!([{"value": "203.0.113.0/24"}]);
        let own = json!({"publicNetworkAccess": "Enabled", "networkAcls": {"ipRules": rules}});
        assert_eq!(acls_as_before(&own)["ipRules"], rules);
    }

    #[test]
    fn the_address_is_read_from_the_vaults_refusal() {
        let said =
            "Client address is not authorized.\r\nClient address: 203.0.113.7\r\nCaller: appid=x";
        assert_eq!(address(said).as_deref(), Some("203.0.113.7"));
        assert_eq!(address("Client address: 2001:db8::1\r\n").as_deref(), Some("2001:db8::1"));
        assert_eq!(address("Client address: <script>"), None);
        assert_eq!(address("Caller is not authorized"), None);
    }
}
