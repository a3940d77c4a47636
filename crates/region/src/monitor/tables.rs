//! What records look like as rows: the columns of Azure's tables that what is recorded here fills.
//!
//! <https://learn.microsoft.com/azure/azure-monitor/reference/tables/azurediagnostics>,
//! <https://learn.microsoft.com/azure/azure-monitor/reference/tables/azkvauditlogs>,
//! <https://learn.microsoft.com/azure/key-vault/general/logging#interpret-your-key-vault-logs>

use http::StatusCode;
use jiff::Timestamp;
use lazuli_azure::ResourceId;
use serde_json::{Map, Value, json};

/// A table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Table {
    /// `AzureDiagnostics`: every service's records in one table.
    Diagnostics,
    /// `AZKVAuditLogs`: a vault's own, where a setting says `Dedicated`.
    VaultAudit,
}

/// A column's type, as the query API names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Text,
    Time,
    Int,
    Long,
    Real,
    Dynamic,
}

impl Type {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Text => "string",
            Self::Time => "datetime",
            Self::Int => "int",
            Self::Long => "long",
            Self::Real => "real",
            Self::Dynamic => "dynamic",
        }
    }
}

const DIAGNOSTICS: [(&str, Type); 20] = [
    ("TenantId", Type::Text),
    ("TimeGenerated", Type::Time),
    ("ResourceId", Type::Text),
    ("Category", Type::Text),
    ("ResourceGroup", Type::Text),
    ("SubscriptionId", Type::Text),
    ("ResourceProvider", Type::Text),
    ("Resource", Type::Text),
    ("ResourceType", Type::Text),
    ("OperationName", Type::Text),
    ("ResultType", Type::Text),
    ("ResultDescription", Type::Text),
    ("CallerIPAddress", Type::Text),
    ("ResultSignature", Type::Text),
    ("id_s", Type::Text),
    ("httpStatusCode_d", Type::Real),
    ("identity_claim_appid_g", Type::Text),
    ("identity_claim_oid_g", Type::Text),
    ("Type", Type::Text),
    ("_ResourceId", Type::Text),
];

const VAULT_AUDIT: [(&str, Type); 14] = [
    ("TenantId", Type::Text),
    ("TimeGenerated", Type::Time),
    ("OperationName", Type::Text),
    ("ResultType", Type::Text),
    ("ResultDescription", Type::Text),
    ("ResultSignature", Type::Text),
    ("CallerIpAddress", Type::Text),
    ("HttpStatusCode", Type::Int),
    ("Id", Type::Text),
    ("Identity", Type::Dynamic),
    ("SourceSystem", Type::Text),
    ("Type", Type::Text),
    ("_ResourceId", Type::Text),
    ("_SubscriptionId", Type::Text),
];

/// What a row is made of.
pub(super) struct Columns(pub(super) Vec<(String, Type)>);

impl Table {
    /// The table of this name, which is told apart by its case as in Azure.
    pub(super) fn find(name: &str) -> Option<Self> {
        [Self::Diagnostics, Self::VaultAudit].into_iter().find(|table| table.name() == name)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Diagnostics => "AzureDiagnostics",
            Self::VaultAudit => "AZKVAuditLogs",
        }
    }

    pub(super) fn columns(self) -> Columns {
        let columns: &[(&str, Type)] = match self {
            Self::Diagnostics => &DIAGNOSTICS,
            Self::VaultAudit => &VAULT_AUDIT,
        };
        Columns(columns.iter().map(|(name, kind)| ((*name).to_owned(), *kind)).collect())
    }

    /// A vault's audit record (`vault::audit`) as a row of this table. What the record does not say is
    /// an empty text, as there.
    pub(super) fn row(self, record: &Value, customer: &str) -> Vec<Value> {
        let text = |value: &Value| json!(value.as_str().unwrap_or_default());
        let resource = record["resourceId"].as_str().unwrap_or_default();
        let status = &record["properties"]["httpStatusCode"];
        let claim = &record["identity"]["claim"];
        let mut row = Map::from_iter([
            ("TenantId".to_owned(), json!(customer)),
            ("TimeGenerated".to_owned(), json!(ticks(&record["time"]))),
            ("Category".to_owned(), text(&record["category"])),
            ("OperationName".to_owned(), text(&record["operationName"])),
            ("ResultType".to_owned(), text(&record["resultType"])),
            ("ResultSignature".to_owned(), signature(status)),
            ("ResourceId".to_owned(), json!(resource.to_ascii_uppercase())),
            ("_ResourceId".to_owned(), json!(resource.to_ascii_lowercase())),
            ("Type".to_owned(), json!(self.name())),
        ]);
        if let Ok(id) = ResourceId::parse(resource) {
            row.insert("SubscriptionId".to_owned(), json!(id.subscription()));
            row.insert("_SubscriptionId".to_owned(), json!(id.subscription()));
            let group = id.resource_group().unwrap_or_default().to_ascii_uppercase();
            row.insert("ResourceGroup".to_owned(), json!(group));
            row.insert("Resource".to_owned(), json!(id.name().to_ascii_uppercase()));
            let kind = id.kind().to_ascii_uppercase();
            let (provider, kind) = kind.split_once('/').unwrap_or_default();
            row.insert("ResourceProvider".to_owned(), json!(provider));
            row.insert("ResourceType".to_owned(), json!(kind));
        }
        let caller = text(&record["callerIpAddress"]);
        let object = text(&record["properties"]["id"]);
        match self {
            Self::Diagnostics => row.extend([
                ("CallerIPAddress".to_owned(), caller),
                ("id_s".to_owned(), object),
                ("httpStatusCode_d".to_owned(), status.clone()),
                ("identity_claim_appid_g".to_owned(), text(&claim["appid"])),
                ("identity_claim_oid_g".to_owned(), text(&claim["oid"])),
            ]),
            Self::VaultAudit => row.extend([
                ("CallerIpAddress".to_owned(), caller),
                ("Id".to_owned(), object),
                ("HttpStatusCode".to_owned(), status.clone()),
                // The query API gives dynamic values as texts.
                ("Identity".to_owned(), json!(record["identity"].to_string())),
                ("SourceSystem".to_owned(), json!("Azure")),
            ]),
        }
        let columns = self.columns().0.into_iter();
        columns.map(|(name, _)| row.remove(&name).unwrap_or_else(|| json!(""))).collect()
    }
}

/// A time with Azure's seven digits of a second.
fn ticks(time: &Value) -> String {
    let time = time.as_str().and_then(|time| time.parse::<Timestamp>().ok()).unwrap_or_default();
    time.strftime("%Y-%m-%dT%H:%M:%S.%7fZ").to_string()
}

/// `OK`, `Forbidden`: the status in words.
fn signature(status: &Value) -> Value {
    let code = status.as_u64().and_then(|code| u16::try_from(code).ok());
    let code = code.and_then(|code| StatusCode::from_u16(code).ok());
    json!(code.and_then(|code| code.canonical_reason()).unwrap_or_default())
}
