//! `Microsoft.DBforPostgreSQL/flexibleServers`
//! (<https://learn.microsoft.com/rest/api/postgresql/servers>). The server itself is
//! [`crate::postgres`]'s; here is what Azure calls it, checks and shows.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::future::BoxFuture;
use http::StatusCode;
use lazuli_azure::ResourceId;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Call, LongRunning, Method, Registry, Reply, ResourceType, Style, Write};
use crate::{
    control::{
        Context,
        error::ArmError,
        names,
        schema::{self, Schema},
    },
    names::Subnet,
    postgres::{Password, Postgres, PostgresError, Server, State},
    store::{Batch, Resource},
};

/// Flexible servers.
pub(super) struct FlexibleServers;

pub(super) const KIND: &str = "Microsoft.DBforPostgreSQL/flexibleServers";
pub(super) const CONFIGURATIONS: &str = "Microsoft.DBforPostgreSQL/flexibleServers/configurations";
pub(super) const API_VERSIONS: &[&str] =
    &["2025-08-01", "2024-08-01", "2023-12-01-preview", "2023-06-01-preview", "2022-12-01"];

/// Major versions that can be asked for.
pub(super) const VERSIONS: &[&str] = &["13", "14", "15", "16", "17", "18"];

/// Sealed passwords, by resource.
const PASSWORDS: &str = "postgres.password";
/// [`Power`], by resource.
const POWER: &str = "postgres.power";

const SCHEMA: Schema = Schema(&[
    schema::text("/sku/name").required(),
    schema::choice("/sku/tier", &["Burstable", "GeneralPurpose", "MemoryOptimized"]).required(),
    schema::choice("version", VERSIONS).or_text("17").immutable(),
    schema::text("administratorLogin").immutable(),
    schema::integer("storage/storageSizeGB", 32..=32_767).or_int(32),
    schema::choice("storage/autoGrow", &["Enabled", "Disabled"]).or_text("Disabled"),
    schema::integer("backup/backupRetentionDays", 7..=35).or_int(7),
    schema::choice("backup/geoRedundantBackup", &["Enabled", "Disabled"])
        .or_text("Disabled")
        .immutable(),
    schema::any("backup/earliestRestoreDate").read_only(),
    schema::choice("highAvailability/mode", &["Disabled", "ZoneRedundant", "SameZone"])
        .or_text("Disabled"),
    schema::any("highAvailability/state").read_only(),
    schema::text("network/delegatedSubnetResourceId").immutable(),
    schema::text("network/privateDnsZoneArmResourceId"),
    schema::choice("network/publicNetworkAccess", &["Enabled", "Disabled"]),
    schema::choice("authConfig/activeDirectoryAuth", &["Enabled", "Disabled"]).or_text("Disabled"),
    schema::choice("authConfig/passwordAuth", &["Enabled", "Disabled"]).or_text("Enabled"),
    schema::choice("dataEncryption/type", &["SystemManaged", "AzureKeyVault"])
        .or_text("SystemManaged"),
    schema::choice("maintenanceWindow/customWindow", &["Enabled", "Disabled"]).or_text("Disabled"),
    schema::integer("maintenanceWindow/dayOfWeek", 0..=6).or_int(0),
    schema::integer("maintenanceWindow/startHour", 0..=23).or_int(0),
    schema::integer("maintenanceWindow/startMinute", 0..=59).or_int(0),
    schema::text("availabilityZone").or_text("1"),
    schema::any("fullyQualifiedDomainName").read_only(),
    schema::any("state").read_only(),
    schema::any("minorVersion").read_only(),
    schema::any("replicationRole").read_only(),
]);

/// Storage sizes that Azure offers
/// (<https://learn.microsoft.com/azure/postgresql/flexible-server/concepts-storage>).
const SIZES: [i64; 12] = [32, 64, 128, 256, 512, 1024, 2048, 4095, 4096, 8192, 16_384, 32_767];

/// What was done to a server besides writing it.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Power {
    stopped: bool,
    restarts: u64,
}

/// A compute size.
struct Sku {
    tier: &'static str,
    cores: u32,
    memory_gib: u32,
    max_connections: u32,
}

/// What an SKU's name stands for. `max_connections` are Azure's defaults
/// (<https://learn.microsoft.com/azure/postgresql/flexible-server/concepts-limits>).
fn sku(name: &str) -> Option<Sku> {
    let burstable = |cores, memory_gib, max_connections| {
        Some(Sku { tier: "Burstable", cores, memory_gib, max_connections })
    };
    let name = name.strip_prefix("Standard_")?;
    match name.to_ascii_uppercase().as_str() {
        "B1MS" => return burstable(1, 2, 50),
        "B2S" => return burstable(2, 4, 429),
        "B2MS" => return burstable(2, 8, 859),
        "B4MS" => return burstable(4, 16, 1718),
        "B8MS" => return burstable(8, 32, 3437),
        "B12MS" => return burstable(12, 48, 5000),
        "B16MS" => return burstable(16, 64, 5000),
        "B20MS" => return burstable(20, 80, 5000),
        _ => {}
    }
    let family = name.chars().next()?.to_ascii_uppercase();
    let cores: u32 =
        name[1..].chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok()?;
    let rest = name[1..].trim_start_matches(|c: char| c.is_ascii_digit()).to_ascii_lowercase();
    let known = ["s_v3", "ds_v4", "ds_v5", "ads_v5", "s_v6", "ds_v6", "ads_v6", "as_v6"];
    let sizes = [2, 4, 8, 16, 20, 32, 48, 64, 96, 128, 192];
    if !known.contains(&rest.as_str()) || !sizes.contains(&cores) {
        return None;
    }
    let (tier, memory_gib) = match family {
        'D' => ("GeneralPurpose", cores * 4),
        'E' => ("MemoryOptimized", cores * 8),
        _ => return None,
    };
    let max_connections = match memory_gib {
        0..=8 => 859,
        9..=16 => 1718,
        17..=32 => 3437,
        _ => 5000,
    };
    Some(Sku { tier, cores, memory_gib, max_connections })
}

/// The cores and memory in GiB of an SKU.
pub(super) fn cores_and_memory(name: &str) -> Option<(u32, u32)> {
    sku(name).map(|sku| (sku.cores, sku.memory_gib))
}

/// The tier that an SKU belongs to.
#[cfg(test)]
pub(super) fn tier_of(name: &str) -> Option<&'static str> {
    sku(name).map(|sku| sku.tier)
}

/// Whether a server's SKU has the built-in PgBouncer
/// (<https://learn.microsoft.com/azure/postgresql/flexible-server/concepts-pgbouncer>).
pub(super) fn pooler_offered(server: &Resource) -> bool {
    server.text("/sku/tier") != Some("Burstable")
}

/// The servers of the region, if it runs any (tests of the API alone do not).
pub(super) fn servers(context: &Context) -> Option<&Arc<Postgres>> {
    context.handle::<Arc<Postgres>>()
}

/// An error of the server's in Azure's words.
pub(super) fn failed(error: &PostgresError) -> ArmError {
    match error {
        PostgresError::Stopped(name) => ArmError::conflict(
            "ServerIsNotReady",
            format!("The server '{name}' is stopped; start it first."),
        ),
        PostgresError::Refused { .. } => {
            ArmError::bad_request("InvalidParameterValue", error.to_string())
        }
        PostgresError::Unknown(_) | PostgresError::Failed { .. } => ArmError::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "ServerProvisioningFailed",
            error.to_string(),
        ),
    }
}

impl ResourceType for FlexibleServers {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn api_versions(&self) -> &'static [&'static str] {
        API_VERSIONS
    }

    fn not_acted_upon(&self) -> &'static [&'static str] {
        &[
            "storage",
            "backup",
            "highAvailability",
            "maintenanceWindow",
            "availabilityZone",
            "network.privateDnsZoneArmResourceId",
            "network.publicNetworkAccess",
        ]
    }

    fn check_name(&self, name: &str) -> Result<(), ArmError> {
        names::check(
            name,
            3..=63,
            |c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-',
            |name| !name.starts_with('-') && !name.ends_with('-'),
        )
        .map_err(|()| {
            let rule = "3 to 63 lower-case letters, digits and hyphens, neither beginning nor ending with a hyphen";
            names::invalid(KIND, name, rule)
        })
    }

    fn unique_name(&self, id: &ResourceId) -> Option<String> {
        Some(format!("{}.postgres.database.azure.com", id.name()))
    }

    fn desired(
        &self,
        context: &Context,
        write: &Write<'_>,
        batch: &mut Batch,
    ) -> Result<Value, ArmError> {
        let mut body = write.body.clone();
        let mut take = |name: &str| {
            body["properties"].as_object_mut().and_then(|properties| properties.shift_remove(name))
        };
        let password = take("administratorLoginPassword");
        let mode = take("createMode");
        let mode = mode.as_ref().and_then(Value::as_str).unwrap_or("Default");
        if !["default", "create", "update"].contains(&mode.to_ascii_lowercase().as_str()) {
            return Err(ArmError::not_implemented(format!(
                "This region keeps no backups and no replicas: createMode '{mode}' has nothing to start from."
            )));
        }
        let write = Write { body, ..copy(write) };
        let body = SCHEMA.apply(&write)?;
        check_body(write.existing, &body)?;
        if write.creates() {
            let taken = context.store.list(KIND, &ResourceId::root());
            if taken.iter().any(|other| other.id.name() == write.id.name()) {
                return Err(ArmError::conflict(
                    "ServerNameAlreadyExists",
                    format!("Specified server name '{}' is already used.", write.id.name()),
                ));
            }
        }
        match password.as_ref().map(Value::as_str) {
            Some(Some(password)) => {
                let login = body["properties"]["administratorLogin"].as_str().unwrap_or_default();
                check_password(password, login)?;
                let sealed = context.sealer.seal(write.id.key(), password.as_bytes());
                batch.put_state(PASSWORDS, write.id.key(), sealed);
            }
            Some(None) => {
                return Err(ArmError::invalid_content(
                    "The value of 'properties.administratorLoginPassword' must be a string",
                ));
            }
            None if write.creates() => {
                return Err(ArmError::bad_request(
                    "InvalidParameterValue",
                    "'administratorLoginPassword' is required to create a server with password authentication.",
                )
                .at("properties.administratorLoginPassword"));
            }
            None => {}
        }
        Ok(body)
    }

    fn write_style(&self, _: &Write<'_>) -> Style {
        Style::LongRunning(LongRunning::ACCEPTED)
    }

    fn provision<'a>(
        &'a self,
        context: &'a Arc<Context>,
        id: &'a ResourceId,
    ) -> BoxFuture<'a, Result<(), ArmError>> {
        Box::pin(apply(context, id))
    }

    fn view(&self, context: &Context, resource: &Resource) -> Value {
        let mut body = resource.body.clone();
        let name = resource.id.name();
        let status = servers(context).and_then(|postgres| postgres.status(name));
        let stopped = power(context, &resource.id).stopped;
        let state = match status.as_ref().map(|status| &status.state) {
            Some(State::Ready) | None if !stopped => "Ready",
            Some(State::Stopped) | None => "Stopped",
            Some(State::Ready | State::Updating) if stopped => "Stopping",
            Some(State::Ready | State::Updating) => "Updating",
            Some(State::Failed(_)) => "Inaccessible",
        };
        let properties = &mut body["properties"];
        // A server's state is all that Azure shows of its making.
        properties.as_object_mut().map(|map| map.shift_remove("provisioningState"));
        properties["state"] = json!(state);
        properties["fullyQualifiedDomainName"] =
            json!(format!("{name}.postgres.database.azure.com"));
        properties["replicationRole"] = json!("Primary");
        // What really runs, which need not be the version that was asked for.
        properties["minorVersion"] = json!(status.and_then(|status| status.version));
        let high = properties["highAvailability"]["mode"] != "Disabled";
        properties["highAvailability"]["state"] =
            json!(if high { "Healthy" } else { "NotEnabled" });
        if properties["network"]["publicNetworkAccess"].is_null() {
            let private = properties["network"]["delegatedSubnetResourceId"].is_string();
            properties["network"]["publicNetworkAccess"] =
                json!(if private { "Disabled" } else { "Enabled" });
        }
        body
    }

    fn deletable(
        &self,
        _: &Context,
        resource: &Resource,
        batch: &mut Batch,
    ) -> Result<(), ArmError> {
        batch.delete_state(PASSWORDS, resource.id.key());
        batch.delete_state(POWER, resource.id.key());
        Ok(())
    }

    fn delete_style(&self) -> Style {
        Style::LongRunning(LongRunning::ACCEPTED)
    }

    fn deprovision<'a>(
        &'a self,
        context: &'a Arc<Context>,
        resource: &'a Resource,
    ) -> BoxFuture<'a, Result<(), ArmError>> {
        Box::pin(async move {
            if let Some(postgres) = servers(context) {
                postgres.remove(resource.id.name()).await;
            }
            context
                .addresses
                .release(resource.id.key(), Subnet::Database)
                .map_err(|error| ArmError::internal(&error))
        })
    }

    fn act<'a>(
        &'a self,
        context: &'a Arc<Context>,
        call: &'a Call<'a>,
    ) -> BoxFuture<'a, Result<Reply, ArmError>> {
        Box::pin(async move {
            if call.method == http::Method::GET && call.action == "capabilities" {
                return Ok(super::postgres_capabilities::all());
            }
            if call.method != http::Method::POST {
                return Err(ArmError::method_not_allowed(&call.method));
            }
            let mut now = power(context, &call.id);
            match call.action.as_str() {
                "start" => now.stopped = false,
                "stop" => now.stopped = true,
                "restart" if now.stopped => {
                    return Err(failed(&PostgresError::Stopped(call.id.name().to_owned())));
                }
                "restart" => now.restarts += 1,
                _ => return Err(ArmError::method_not_allowed(&call.method)),
            }
            let mut batch = Batch::new();
            let bytes = serde_json::to_vec(&now).map_err(|error| ArmError::internal(&error))?;
            batch.put_state(POWER, call.id.key(), bytes);
            context.store.commit(batch).await?;
            Ok(Reply::long_running(LongRunning::ACCEPTED, &call.action, Value::Null))
        })
    }

    fn perform<'a>(
        &'a self,
        context: &'a Arc<Context>,
        id: &'a ResourceId,
        _: &'a str,
        _: &'a Value,
    ) -> BoxFuture<'a, Result<Value, ArmError>> {
        // The record is already what it should be: whatever was asked for, it is made so.
        Box::pin(async move { apply(context, id).await.map(|()| Value::Null) })
    }
}

fn copy<'a>(write: &Write<'a>) -> Write<'a> {
    Write {
        id: write.id,
        existing: write.existing,
        method: if write.method == Method::Put { Method::Put } else { Method::Patch },
        body: Value::Null,
        api_version: write.api_version,
        caller: write.caller,
    }
}

fn power(context: &Context, id: &ResourceId) -> Power {
    let bytes = context.store.get_state(POWER, id.key());
    bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

fn check_body(existing: Option<&Resource>, body: &Value) -> Result<(), ArmError> {
    let invalid = |property: &str, message: String| Err(ArmError::invalid_value(property, message));
    let properties = &body["properties"];
    let (name, tier) = (
        body["sku"]["name"].as_str().unwrap_or_default(),
        body["sku"]["tier"].as_str().unwrap_or_default(),
    );
    match sku(name) {
        Some(sku) if sku.tier == tier => {}
        Some(sku) => {
            let message = format!("The SKU '{name}' is of the tier '{}', not '{tier}'.", sku.tier);
            return invalid("sku.tier", message);
        }
        None => return invalid("sku.name", format!("The SKU '{name}' is not offered.")),
    }
    if tier == "Burstable" && properties["highAvailability"]["mode"] != "Disabled" {
        return invalid(
            "properties.highAvailability.mode",
            "High availability is not supported for the Burstable tier.".to_owned(),
        );
    }
    let size = properties["storage"]["storageSizeGB"].as_i64().unwrap_or_default();
    if !SIZES.contains(&size) {
        let sizes = SIZES.map(|size| size.to_string()).join(", ");
        let message = format!("The storage size {size} GB is not offered: it is one of {sizes}.");
        return invalid("properties.storage.storageSizeGB", message);
    }
    let before =
        existing.and_then(|old| old.body["properties"]["storage"]["storageSizeGB"].as_i64());
    if before.is_some_and(|before| size < before) {
        return invalid(
            "properties.storage.storageSizeGB",
            "The storage of a server can only grow.".to_owned(),
        );
    }
    if properties["authConfig"]["activeDirectoryAuth"] == "Enabled" {
        return Err(ArmError::not_implemented(
            "The servers of this region know no Microsoft Entra authentication yet: leave authConfig.activeDirectoryAuth 'Disabled'.",
        ));
    }
    if properties["authConfig"]["passwordAuth"] == "Disabled" {
        return invalid(
            "properties.authConfig.passwordAuth",
            "Without Microsoft Entra authentication, password authentication cannot be disabled."
                .to_owned(),
        );
    }
    if properties["dataEncryption"]["type"] != "SystemManaged" {
        return Err(ArmError::not_implemented(
            "The servers of this region are not encrypted with keys from a vault.",
        ));
    }
    check_login(properties["administratorLogin"].as_str().unwrap_or_default())
}

/// <https://learn.microsoft.com/azure/postgresql/flexible-server/how-to-create-users>
fn check_login(login: &str) -> Result<(), ArmError> {
    let reserved = [
        "azure_superuser",
        "azuresu",
        "azure_pg_admin",
        "admin",
        "administrator",
        "root",
        "guest",
        "public",
    ];
    let fits = (1..=63).contains(&login.len())
        && login.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !login.starts_with(|c: char| c.is_ascii_digit())
        && !login.to_ascii_lowercase().starts_with("pg_")
        && !reserved.contains(&login.to_ascii_lowercase().as_str());
    if fits {
        return Ok(());
    }
    Err(ArmError::invalid_value(
        "properties.administratorLogin",
        format!(
            "'{login}' cannot be the administrator's login: 1 to 63 letters, digits and underscores, not beginning with a digit or 'pg_', and none of {}.",
            reserved.join(", ")
        ),
    ))
}

fn check_password(password: &str, login: &str) -> Result<(), ArmError> {
    let has = |kind: fn(&char) -> bool| u8::from(password.chars().any(|c| kind(&c)));
    let kinds = has(char::is_ascii_uppercase)
        + has(char::is_ascii_lowercase)
        + has(char::is_ascii_digit)
        + has(char::is_ascii_punctuation);
    let fits = (8..=128).contains(&password.len())
        && password.chars().all(|c| c.is_ascii_graphic())
        && kinds >= 3
        && (login.is_empty() || !password.contains(login));
    if fits {
        return Ok(());
    }
    Err(ArmError::bad_request(
        "PasswordNotComplex",
        "Password doesn't meet the complexity criteria: it must contain between 8 and 128 characters, of three of the categories upper case letters, lower case letters, digits and non-alphanumeric characters, and not the login name.",
    )
    .at("properties.administratorLoginPassword"))
}

/// What the stored resources say that a server should be.
fn described(context: &Context, resource: &Resource) -> Result<Server, ArmError> {
    let id = &resource.id;
    let sealed = context.store.get_state(PASSWORDS, id.key()).ok_or_else(|| {
        ArmError::internal(&format!("the administrator's password of {id} is lost"))
    })?;
    let password = context
        .sealer
        .open_sealed(id.key(), &sealed)
        .map_err(|error| ArmError::internal(&error))?;
    let parameters: BTreeMap<String, String> = context
        .store
        .list(CONFIGURATIONS, id)
        .iter()
        .filter_map(|parameter| {
            let value = parameter.text("/properties/value")?;
            Some((parameter.id.name().to_ascii_lowercase(), value.to_owned()))
        })
        .collect();
    let size = resource.text("/sku/name").and_then(sku);
    let default = size.map_or(859, |size| size.max_connections.min(size.memory_gib * 1000));
    let power = power(context, id);
    Ok(Server {
        name: id.name().to_owned(),
        major: resource.text("/properties/version").and_then(|v| v.parse().ok()).unwrap_or(17),
        address: context
            .addresses
            .of(id.key(), Subnet::Database)
            .map_err(|error| ArmError::internal(&error))?,
        administrator: resource
            .text("/properties/administratorLogin")
            .unwrap_or_default()
            .to_owned(),
        password: Password::new(String::from_utf8_lossy(&password).into_owned()),
        max_connections: default,
        pooler_offered: pooler_offered(resource),
        parameters,
        started: !power.stopped,
        restarts: power.restarts,
    })
}

/// Makes a server what the stored resources say, and waits until it is.
pub(super) async fn apply(context: &Context, id: &ResourceId) -> Result<(), ArmError> {
    let Some(resource) = context.store.get(id) else { return Ok(()) };
    let Some(postgres) = servers(context) else { return Ok(()) };
    postgres.set(described(context, &resource)?);
    postgres.settled(id.name()).await.map(drop).map_err(|error| failed(&error))
}

/// Sets every stored server going without waiting for any: how a region starts.
pub(crate) fn resume(context: &Context) {
    let Some(postgres) = servers(context) else { return };
    for resource in context.store.list(KIND, &ResourceId::root()) {
        match described(context, &resource) {
            Ok(server) => postgres.set(server),
            Err(error) => tracing::error!(id = %resource.id, %error, "a server stays down"),
        }
    }
}

/// Routes that are no resources.
pub(super) fn register(types: &mut Registry) {
    for path in [
        "/subscriptions/{}/providers/microsoft.dbforpostgresql/checknameavailability",
        "/subscriptions/{}/providers/microsoft.dbforpostgresql/locations/{}/checknameavailability",
    ] {
        types.route(http::Method::POST, path, None, |context, call| {
            Box::pin(async move {
                let name = call.body["name"].as_str().unwrap_or_default();
                if let Err(error) = FlexibleServers.check_name(name) {
                    return Ok(Reply::ok(json!({
                        "nameAvailable": false, "reason": "Invalid", "name": name,
                        "message": error.message,
                    })));
                }
                let taken = context
                    .store
                    .list(KIND, &ResourceId::root())
                    .iter()
                    .any(|server| server.id.name() == name);
                Ok(Reply::ok(if taken {
                    json!({
                        "nameAvailable": false, "reason": "AlreadyExists", "name": name,
                        "message": format!("Specified server name '{name}' is already used."),
                    })
                } else {
                    json!({ "nameAvailable": true, "name": name, "message": "" })
                }))
            })
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_follow_the_memory_as_azures_table_says() {
        for (name, tier, connections) in [
            ("Standard_B2ms", "Burstable", 859),
            ("Standard_D2ds_v5", "GeneralPurpose", 859),
            ("Standard_D4ds_v5", "GeneralPurpose", 1718),
            ("Standard_D8s_v3", "GeneralPurpose", 3437),
            ("Standard_E4ds_v4", "MemoryOptimized", 3437),
            ("Standard_E8ads_v5", "MemoryOptimized", 5000),
        ] {
            let sku = sku(name).unwrap_or_else(|| panic!("{name} is offered"));
            assert_eq!((sku.tier, sku.max_connections), (tier, connections), "{name}");
        }
        for name in ["D4ds_v5", "Standard_D3ds_v5", "Standard_Z4ds_v5", "Standard_", "Standard_D"] {
            assert!(sku(name).is_none(), "{name} is not offered");
        }
    }

    #[test]
    fn passwords_and_logins_follow_azures_rules() {
        assert!(check_password("Abcdefg1", "notes").is_ok());
        for bad in ["Abc1!", "abcdefgh", "abcdefg1", "Has-notes-1", "Päss-word-1", "with space A1"]
        {
            assert!(check_password(bad, "notes").is_err(), "{bad}");
        }
        assert!(check_login("lazuliadmin").is_ok());
        for bad in ["", "azure_superuser", "Admin", "pg_x", "1x", "a-b", "a\"b"] {
            assert!(check_login(bad).is_err(), "{bad}");
        }
    }
}
