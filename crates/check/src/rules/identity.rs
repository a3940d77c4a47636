//! Managed identities.

use lazuli_hcl::{Kind, Value};

use super::{Attribute, Got, SITES, attribute, get, is_vault_reference, settings};
use crate::python::Token;
use crate::rule::{
    Check, Rule,
    Severity::{Error, Warning},
};

const PRINCIPLE: &str = "Principle: No Credentials for Azure-to-Azure";
const SYSTEM: &str = "System-Assigned Managed Identity";

pub(crate) static RULES: &[Rule] = &[
    Rule {
        id: "LZ-IDN-001",
        section: SYSTEM,
        erratum: None,
        severity: Error,
        title: "Every site and slot has a system-assigned identity",
        why: "It is what authenticates to Key Vault, Azure OpenAI and Application Insights; without it somebody stores a key.",
        fix: "Add `identity { type = \"SystemAssigned\" }`.",
        bad: &[(
            "main.tf",
            "resource \"azurerm_linux_web_app\" \"app\" {\n  https_only = true\n}\n",
        )],
        good: &[(
            "main.tf",
            "resource \"azurerm_linux_web_app\" \"app\" {\n  identity {\n    type = \"SystemAssigned\"\n  }\n}\n",
        )],
        check: Check::Stack(|s, o| {
            for r in s.all(SITES) {
                // A user-assigned identity serves the same end.
                attribute(
                    o,
                    s,
                    r,
                    &Attribute {
                        path: "identity.type",
                        absent: Some(false),
                        message: "there is no identity",
                        missing: "no `identity`: the app needs stored credentials for every Azure service",
                        write: None,
                    },
                    |v| v.as_str().map(|t| t.contains("Assigned")),
                );
            }
        }),
    },
    Rule {
        id: "LZ-IDN-002",
        section: PRINCIPLE,
        erratum: None,
        severity: Error,
        title: "No key where an identity would do",
        why: "Azure OpenAI, Storage, Service Bus and Cosmos DB accept the app's identity: a key is one more thing to leak and rotate.",
        fix: "Use `DefaultAzureCredential` and assign the role; remove the setting.",
        bad: &[(
            "main.tf",
            "resource \"azurerm_linux_web_app\" \"app\" {\n  app_settings = {\n    AZURE_OPENAI_API_KEY = \"@Microsoft.KeyVault(VaultName=notes-kv;SecretName=notes-openai-key)\"\n  }\n}\n",
        )],
        good: &[(
            "main.tf",
            "resource \"azurerm_linux_web_app\" \"app\" {\n  app_settings = {\n    AZURE_OPENAI_ENDPOINT = \"https://notes.openai.azure.com\"\n  }\n}\n",
        )],
        check: Check::Stack(|s, o| {
            for r in s.all(SITES) {
                for e in settings(r).into_iter().flatten() {
                    let n = e.key.to_ascii_uppercase();
                    let named = (n.contains("AZURE_OPENAI")
                        || n.contains("COGNITIVE")
                        || n.contains("AZURE_STORAGE")
                        || n.contains("SERVICEBUS")
                        || n.contains("COSMOS"))
                        && (n.ends_with("_KEY") || n.ends_with("CONNECTION_STRING"));
                    let key = e.value.refs().iter().any(|x| {
                        matches!(
                            &*x.kind,
                            "azurerm_cognitive_account"
                                | "azurerm_storage_account"
                                | "azurerm_cosmosdb_account"
                                | "azurerm_servicebus_namespace"
                                | "azurerm_ai_services"
                        ) && (x.attribute.contains("key")
                            || x.attribute.contains("connection_string"))
                    });
                    let client = n == "AZURE_CLIENT_SECRET";
                    if named || key || client {
                        o.entry(e, format!("`{}` is a credential for an Azure service that accepts the app's identity", e.key));
                    } else {
                        o.judged();
                    }
                }
            }
        }),
    },
    Rule {
        id: "LZ-IDN-003",
        section: PRINCIPLE,
        erratum: None,
        severity: Warning,
        title: "Azure OpenAI accepts identities alone",
        why: "While keys work, one that leaks works as well.",
        fix: "Set `local_auth_enabled = false`.",
        bad: &[(
            "main.tf",
            "resource \"azurerm_cognitive_account\" \"openai\" {\n  kind               = \"OpenAI\"\n  local_auth_enabled = true\n}\n",
        )],
        good: &[(
            "main.tf",
            "resource \"azurerm_cognitive_account\" \"openai\" {\n  kind               = \"OpenAI\"\n  local_auth_enabled = false\n}\n",
        )],
        check: Check::Stack(|s, o| {
            for r in s.all(&["azurerm_cognitive_account"]) {
                attribute(
                    o,
                    s,
                    r,
                    &Attribute {
                        path: "local_auth_enabled",
                        absent: Some(false),
                        message: "keys work beside identities",
                        missing: "`local_auth_enabled` is not set: keys work beside identities",
                        // Whoever still uses a key would be cut off.
                        write: None,
                    },
                    |v| v.as_bool().map(|b| !b),
                );
            }
        }),
    },
    Rule {
        id: "LZ-IDN-004",
        section: SYSTEM,
        erratum: None,
        severity: Error,
        title: "An app's identity has roles for what it does",
        why: "Owner or Contributor turns a broken app into a broken subscription.",
        fix: "Assign the roles of the standard's table: Key Vault Secrets User, Cognitive Services OpenAI User, Monitoring Metrics Publisher.",
        bad: &[(
            "main.tf",
            "resource \"azurerm_linux_web_app\" \"app\" {\n  name = \"x\"\n}\nresource \"azurerm_role_assignment\" \"app\" {\n  role_definition_name = \"Contributor\"\n  principal_id         = azurerm_linux_web_app.app.identity[0].principal_id\n}\n",
        )],
        good: &[(
            "main.tf",
            "resource \"azurerm_linux_web_app\" \"app\" {\n  name = \"x\"\n}\nresource \"azurerm_role_assignment\" \"app\" {\n  role_definition_name = \"Monitoring Metrics Publisher\"\n  principal_id         = azurerm_linux_web_app.app.identity[0].principal_id\n}\n",
        )],
        check: Check::Stack(|s, o| {
            for r in s.all(&["azurerm_role_assignment"]) {
                let Some(e) = r.body.entry("role_definition_name") else { continue };
                let app = r
                    .get("principal_id")
                    .is_some_and(|v| v.refs().iter().any(|x| SITES.contains(&&*x.kind)));
                match e.value.as_str() {
                    Some("Owner" | "Contributor" | "User Access Administrator") if app => {
                        o.entry(e, format!("an app's identity is {}", e.value.known_text()));
                    }
                    _ if app => o.judged(),
                    _ => {}
                }
            }
        }),
    },
    Rule {
        id: "LZ-IDN-005",
        section: "Code Pattern",
        erratum: None,
        severity: Warning,
        title: "Code authenticates with DefaultAzureCredential",
        why: "A client secret or key in code or environment is what managed identities replace; DefaultAzureCredential works in Azure and on a laptop alike.",
        fix: "Use `DefaultAzureCredential()` and `get_bearer_token_provider`.",
        bad: &[(
            "app/llm.py",
            "import openai\nclient = openai.AzureOpenAI(azure_endpoint=e, api_key=key, api_version=\"2024-12-01-preview\")\n",
        )],
        good: &[(
            "app/llm.py",
            "import openai\nclient = openai.AzureOpenAI(azure_endpoint=e, azure_ad_token_provider=p, api_version=\"2024-12-01-preview\")\n",
        )],
        check: Check::Project(|p, o| {
            for f in p.python.iter().filter(|f| !f.path.to_string_lossy().contains("test")) {
                for c in &f.calls {
                    let name = c.name.rsplit('.').next().unwrap_or("");
                    match name {
                        "AzureOpenAI" | "AsyncAzureOpenAI" => match c.keyword("api_key") {
                            Some((t, at)) if !matches!(t, Token::Name(n) if n == "None") => {
                                o.at(*at, "a key, where the app's identity would do");
                            }
                            _ => o.judged(),
                        },
                        "ClientSecretCredential"
                        | "UsernamePasswordCredential"
                        | "AzureKeyCredential" => {
                            o.at(c.span, format!("`{name}` needs a stored credential"));
                        }
                        "DefaultAzureCredential" | "ManagedIdentityCredential" => o.judged(),
                        "from_connection_string"
                            if c.name.contains("BlobServiceClient")
                                || c.name.contains("ServiceBusClient")
                                || c.name.contains("QueueServiceClient") =>
                        {
                            o.at(c.span, "a connection string, where the app's identity would do");
                        }
                        _ => {}
                    }
                }
            }
        }),
    },
    Rule {
        id: "LZ-IDN-006",
        section: PRINCIPLE,
        erratum: None,
        severity: Warning,
        title: "Telemetry's connection string aside, a site stores no connection strings",
        why: "`connection_string` blocks hold credentials in the site's configuration.",
        fix: "Use an app setting with a Key Vault reference.",
        bad: &[(
            "main.tf",
            "resource \"azurerm_linux_web_app\" \"app\" {\n  connection_string {\n    name  = \"db\"\n    type  = \"PostgreSQL\"\n    value = \"Server=x;Password=abc\"\n  }\n}\n",
        )],
        good: &[(
            "main.tf",
            "resource \"azurerm_linux_web_app\" \"app\" {\n  connection_string {\n    name  = \"db\"\n    type  = \"PostgreSQL\"\n    value = \"@Microsoft.KeyVault(VaultName=notes-kv;SecretName=notes-db-connection-string)\"\n  }\n}\n",
        )],
        check: Check::Stack(|s, o| {
            for r in s.all(SITES) {
                for (_, m) in r.body.blocks("connection_string") {
                    let Some(e) = m.entry("value") else { continue };
                    match &e.value.kind {
                        _ if is_vault_reference(&e.value) => o.judged(),
                        Kind::Text(_) | Kind::Partial(_) => {
                            o.entry(e, "a connection string in plain");
                        }
                        _ => o.unknown(format!("{}: a connection string is not known", r.address)),
                    }
                }
            }
        }),
    },
    Rule {
        id: "LZ-IDN-007",
        section: SYSTEM,
        erratum: None,
        severity: Warning,
        title: "Terraform authenticates without a stored secret",
        why: "A provider with a client secret needs one on every agent; workload identity federation needs none.",
        fix: "Use the service connection with `use_oidc = true`, or the environment.",
        bad: &[(
            "main.tf",
            "provider \"azurerm\" {\n  features {}\n  client_id     = \"00000000-0000-0000-0000-000000000000\"\n  client_secret = var.client_secret\n}\nvariable \"client_secret\" {}\n",
        )],
        good: &[("main.tf", "provider \"azurerm\" {\n  features {}\n  use_oidc = true\n}\n")],
        check: Check::Stack(|s, o| {
            for r in s.all(&["provider.azurerm"]) {
                match get_secret(r) {
                    Some(e) => {
                        o.entry(e, "the provider authenticates with a stored secret");
                    }
                    None => o.judged(),
                }
            }
        }),
    },
];

fn get_secret(r: &lazuli_hcl::terraform::Resource) -> Option<&lazuli_hcl::Entry> {
    match get(r, "client_secret") {
        Got::Written(e) => Some(e),
        _ => r
            .body
            .entry("client_secret")
            .filter(|e: &&lazuli_hcl::Entry| !matches!(e.value, Value { kind: Kind::Null, .. })),
    }
}
