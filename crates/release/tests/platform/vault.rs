//! What a rotation sees of Azure: a vault that is closed, and an App Service that remembers for a day
//! what it read from it.

use std::collections::BTreeMap;

use http::{Method, Response};
use lazuli_gateway::Body;
use serde_json::{Value, json};

use super::json as answer;

/// The address that the vault sees.
const CLIENT: &str = "203.0.113.7";

/// A vault and the places that read it.
#[derive(Default)]
pub(crate) struct Kept {
    /// Versions of each secret, the oldest first, and whether they are enabled.
    pub(crate) secrets: BTreeMap<String, Vec<(String, bool)>>,
    /// What each place (its path) has of each secret.
    pub(crate) has: BTreeMap<String, BTreeMap<String, String>>,
    /// How often each place was restarted.
    pub(crate) restarts: BTreeMap<String, usize>,
    /// How often its references were read anew.
    pub(crate) refreshes: BTreeMap<String, usize>,
    /// App Service reads a reference anew when it is told to, not when it restarts a site.
    pub(crate) remembers: bool,
    /// The vault's properties.
    pub(crate) network: Value,
    /// The role assignments that are there, and what kind of principal each was for.
    pub(crate) roles: BTreeMap<String, Value>,
    /// The kinds of principal that roles were given to.
    pub(crate) kinds: Vec<Value>,
    /// The tags of each secret's current version.
    pub(crate) tags: BTreeMap<String, Value>,
    /// The cache's keys that were made anew, in this order.
    pub(crate) keys: Vec<String>,
}

impl Kept {
    pub(crate) fn of(secrets: &[&str]) -> Self {
        let versions = |name: &&str| ((*name).to_owned(), vec![("v1".to_owned(), true)]);
        let network = json!({ "publicNetworkAccess": "Disabled", "networkAcls": null });
        Self { secrets: secrets.iter().map(versions).collect(), network, ..Self::default() }
    }

    /// A token of somebody who signed in: `{"oid":"ada","idtyp":"user"}`.
    pub(crate) fn token() -> String {
        "e30.eyJvaWQiOiJhZGEiLCJpZHR5cCI6InVzZXIifQ.x".to_owned()
    }

    fn current(&self, secret: &str) -> String {
        self.secrets[secret].last().expect("a version").0.clone()
    }

    /// What Resource Manager answers of all this; `None` for whatever else.
    pub(crate) fn management(
        &mut self,
        method: &Method,
        path: &str,
        body: &[u8],
    ) -> Option<Response<Body>> {
        let given: Value = serde_json::from_slice(body).unwrap_or_default();
        if let Some((_, role)) = path.split_once("/roleAssignments/") {
            if *method == Method::PUT {
                self.kinds.push(given["properties"]["principalType"].clone());
                self.roles.insert(role.to_owned(), given);
            } else {
                self.roles.remove(role);
            }
            return Some(answer(200, &json!({})));
        }
        if let Some((_, secret)) = path.split_once("/vaults/notes-kv/secrets/") {
            if *method == Method::PUT {
                let versions = self.secrets.get_mut(secret).expect("a known secret");
                versions.push((format!("v{}", versions.len() + 1), true));
                self.tags.insert(secret.to_owned(), given["tags"].clone());
            }
            let uri = format!(
                "https://notes-kv.vault.azure.net/secrets/{secret}/{}",
                self.current(secret)
            );
            let tags = self.tags.get(secret);
            let shown = json!({ "properties": { "secretUriWithVersion": uri }, "tags": tags });
            return Some(answer(200, &shown));
        }
        if path.ends_with("/regenerateKey") {
            self.keys.push(given["keyType"].as_str().unwrap_or_default().to_owned());
            return Some(answer(200, &json!({})));
        }
        if path.ends_with("/listKeys") {
            return Some(answer(200, &json!({ "primaryKey": "one", "secondaryKey": "other" })));
        }
        if path.ends_with("/vaults/notes-kv") {
            if *method == Method::PATCH {
                self.network = given["properties"].clone();
            }
            return Some(answer(200, &json!({ "properties": self.network })));
        }
        if let Some(place) = path.strip_suffix("/restart") {
            *self.restarts.entry(place.to_owned()).or_default() += 1;
            if !self.remembers {
                self.read(place);
            }
            return Some(answer(200, &json!({})));
        }
        if let Some(place) = path.strip_suffix("/instances") {
            let name = format!("i{}", self.restarts.get(place).copied().unwrap_or_default());
            let instance = json!({ "name": name, "properties": { "state": "READY" } });
            return Some(answer(200, &json!({ "value": [instance] })));
        }
        if let Some(place) = path.strip_suffix("/config/configreferences/appsettings/refresh") {
            *self.refreshes.entry(place.to_owned()).or_default() += 1;
            self.read(place);
            return Some(answer(200, &json!({ "value": [] })));
        }
        if let Some(place) = path.strip_suffix("/config/configreferences/appsettings") {
            let secrets: Vec<String> = self.secrets.keys().cloned().collect();
            let value: Vec<Value> = secrets
                .into_iter()
                .map(|secret| {
                    let has = self.has.get(place).and_then(|has| has.get(&secret));
                    let version = has.cloned().unwrap_or_else(|| "v1".to_owned());
                    json!({ "name": secret, "properties": {
                        "status": "Resolved", "secretName": secret, "activeVersion": version,
                    } })
                })
                .collect();
            return Some(answer(200, &json!({ "value": value })));
        }
        None
    }

    fn read(&mut self, place: &str) {
        let current: BTreeMap<String, String> =
            self.secrets.keys().map(|secret| (secret.clone(), self.current(secret))).collect();
        self.has.insert(place.to_owned(), current);
    }

    /// The vault's data plane, which is closed to whoever has no rule and no role.
    pub(crate) fn data(
        &mut self,
        method: &Method,
        path: &str,
        query: &str,
        body: &[u8],
    ) -> Response<Body> {
        let refused = |message: String| {
            answer(403, &json!({ "error": { "code": "Forbidden", "message": message } }))
        };
        if self.network["publicNetworkAccess"] != "Enabled" {
            let message = "Public network access is disabled and request is not from a trusted service nor \
                           via an approved private link.";
            return refused(message.to_owned());
        }
        let rules = self.network["networkAcls"]["ipRules"].to_string();
        if !rules.contains(CLIENT) {
            return refused(format!(
                "Client address is not authorized and caller is not a trusted service.\r\nClient address: \
                 {CLIENT}\r\nCaller: oid=ada"
            ));
        }
        if self.roles.is_empty() {
            return refused("Caller is not authorized to perform action on resource.".to_owned());
        }
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        match (method, parts.as_slice()) {
            (&Method::GET, ["secrets", secret, "versions"]) => {
                // One a page; Azure writes its port into the link.
                let at: usize =
                    query.rsplit("skip=").next().and_then(|at| at.parse().ok()).unwrap_or(0);
                let versions = &self.secrets[*secret];
                let (version, enabled) = &versions[at];
                let item = json!({
                    "id": format!("https://notes-kv.vault.azure.net/secrets/{secret}/{version}"),
                    "attributes": { "enabled": enabled },
                });
                let next = (at + 1 < versions.len()).then(|| {
                    format!(
                        "https://notes-kv.vault.azure.net:443{path}?api-version=7.4&skip={}",
                        at + 1
                    )
                });
                answer(200, &json!({ "value": [item], "nextLink": next }))
            }
            (&Method::PATCH, ["secrets", secret, version]) => {
                let given: Value = serde_json::from_slice(body).unwrap_or_default();
                let versions = self.secrets.get_mut(*secret).expect("a known secret");
                for (known, enabled) in versions.iter_mut().filter(|(known, _)| known == version) {
                    *enabled = given["attributes"]["enabled"].as_bool().unwrap_or(*enabled);
                    let _ = known;
                }
                answer(200, &json!({}))
            }
            _ => answer(404, &json!({})),
        }
    }
}
