//! Everything below a site or slot that is no resource of its own: configuration documents, actions,
//! instances, deployments, credentials (<https://learn.microsoft.com/rest/api/appservice/web-apps>).

use std::{collections::BTreeMap, sync::Arc};

use http::{Method, StatusCode};
use serde_json::{Map, Value, json};

use super::{
    Call, LongRunning, Reply,
    web::{self, app, record_error, text_of},
    web_sites,
};
use crate::{
    appservice::{
        AppService, access,
        references::Resolution,
        render, settings,
        site::{ConnectionString, SiteRecord, SlotKey, SlotName, SlotRecord, StickyNames},
        swap,
        webjobs::JobKind,
    },
    control::{Context, error::ArmError},
    store::{Batch, Expect, StoreError},
};

/// How a swap is answered: 202 with `Location`.
const SWAP: LongRunning =
    LongRunning { statuses: "operations", results: "operationresults", ..LongRunning::LOCATION };

struct Asked<'a> {
    context: &'a Arc<Context>,
    app: &'a Arc<AppService>,
    call: &'a Call<'a>,
    key: SlotKey,
    record: SlotRecord,
}

/// Answers a request below a site or slot.
pub(super) async fn act(context: &Arc<Context>, call: &Call<'_>) -> Result<Reply, ArmError> {
    let app = app(context)?;
    let key = crate::appservice::records::slot_key(&call.id)
        .ok_or_else(|| ArmError::not_found(&call.id))?;
    let record = app.records.slot(&key).ok_or_else(|| ArmError::not_found(&call.id))?;
    let asked = Asked { context, app, call, key, record };
    let path: Vec<&str> = call.action.split('/').collect();
    let verb = &call.method;
    match path.as_slice() {
        ["config"] if verb == Method::GET => Ok(list(vec![asked.web()])),
        ["config", rest @ ..] => asked.config(rest).await,
        [action] if verb == Method::POST => asked.action(action).await,
        ["instances"] if verb == Method::GET => Ok(list(asked.instances())),
        ["instances", id] if verb == Method::GET => {
            let found = asked
                .instances()
                .into_iter()
                .find(|one| one["name"].as_str().is_some_and(|n| n == *id));
            found.map(Reply::ok).ok_or_else(|| ArmError::not_found(&call.id))
        }
        ["deployments"] if verb == Method::GET => Ok(list(asked.deployments())),
        ["deployments", id] if verb == Method::GET => asked.deployment(id),
        ["deployments", id, "log"] if verb == Method::GET => {
            let entries = app.deployment_log(&asked.key, id, None);
            entries
                .map(|entries| Reply::ok(json!({ "value": entries })))
                .ok_or_else(|| asked.missing("deployments", id))
        }
        ["deploymentstatus"] if verb == Method::GET => {
            let count = app.count_of(&asked.key);
            let all = app.deployments(&asked.key);
            Ok(list(
                all.iter()
                    .map(|one| asked.child("deploymentStatus", &one.id, one.to_arm_status(count)))
                    .collect(),
            ))
        }
        ["deploymentstatus", id] if verb == Method::GET => {
            let one = app
                .deployment(&asked.key, id)
                .ok_or_else(|| asked.missing("deploymentStatus", id))?;
            Ok(Reply::ok(asked.child(
                "deploymentStatus",
                &one.id,
                one.to_arm_status(app.count_of(&asked.key)),
            )))
        }
        ["basicpublishingcredentialspolicies", rest @ ..] => asked.policies(rest).await,
        ["networkconfig", "virtualnetwork"] => asked.network().await,
        ["virtualnetworkconnections"] if verb == Method::GET => {
            Ok(Reply::ok(Value::Array(asked.vnet_connections())))
        }
        // Azure lists none where none was made, and none can be made here.
        ["backups" | "snapshots" | "usages"] if verb == Method::GET => Ok(list(Vec::new())),
        ["triggeredwebjobs"] if verb == Method::GET => Ok(list(asked.jobs(JobKind::Triggered))),
        ["continuouswebjobs"] if verb == Method::GET => Ok(list(asked.jobs(JobKind::Continuous))),
        ["webjobs"] if verb == Method::GET => {
            let mut jobs = asked.jobs(JobKind::Continuous);
            jobs.extend(asked.jobs(JobKind::Triggered));
            Ok(list(jobs))
        }
        ["triggeredwebjobs", name, "run"] if verb == Method::POST => {
            let arguments = call.query.get("arguments").unwrap_or_default();
            let who = format!("External - {}", call.caller.app_id);
            app.trigger(&asked.key, name, arguments, &who)
                .await
                .map_err(|error| ArmError::conflict("Conflict", error.to_string()))?;
            Ok(Reply::new(StatusCode::OK, None))
        }
        ["continuouswebjobs", name, "start" | "stop"] if verb == Method::POST => {
            app.set_continuous(&asked.key, name, path[2] == "start").await.map_err(|error| {
                ArmError::new(StatusCode::NOT_FOUND, "NotFound", error.to_string())
            })?;
            Ok(Reply::new(StatusCode::OK, None))
        }
        _ if verb == Method::GET || verb == Method::HEAD => Err(ArmError::new(
            StatusCode::NOT_FOUND,
            "NotFound",
            format!("'{}' does not exist below '{}' in this region.", call.action, call.id),
        )),
        _ => Err(ArmError::method_not_allowed(verb)),
    }
}

fn list(value: Vec<Value>) -> Reply {
    Reply::ok(json!({ "value": value, "nextLink": null, "id": null }))
}

impl Asked<'_> {
    /// A child that is no record of the store.
    fn child(&self, kind: &str, name: &str, properties: impl Into<Value>) -> Value {
        json!({
            "id": format!("{}/{kind}/{name}", self.call.id),
            "name": name,
            "type": format!("{}/{kind}", self.call.id.kind()),
            "location": self.record.location,
            "properties": properties.into(),
        })
    }

    fn document(&self, name: &str, properties: impl Into<Value>) -> Value {
        self.child("config", name, properties)
    }

    fn missing(&self, kind: &str, name: &str) -> ArmError {
        ArmError::new(
            StatusCode::NOT_FOUND,
            "NotFound",
            format!("'{kind}/{name}' of '{}' was not found.", self.call.id),
        )
    }

    fn web(&self) -> Value {
        let mut web = render::config(&self.record);
        web.insert("publishingUsername".into(), json!(settings::publishing_user(&self.key)));
        self.document("web", web)
    }

    /// Changes the record and has the slot follow it.
    async fn update(&self, mut change: impl FnMut(&mut SlotRecord)) -> Result<(), ArmError> {
        self.app
            .records
            .update(&self.key, |record| {
                change(record);
                Ok(())
            })
            .await
            .map_err(|error| record_error(&error))?;
        self.app.changed(&self.key);
        Ok(())
    }

    /// `properties` of the body.
    fn properties(&self) -> Result<&Map<String, Value>, ArmError> {
        self.call.body.get("properties").and_then(Value::as_object).ok_or_else(|| {
            ArmError::invalid_content("Required property 'properties' not found in JSON")
        })
    }

    async fn config(&self, path: &[&str]) -> Result<Reply, ArmError> {
        let verb = &self.call.method;
        let (get, put, post) = (verb == Method::GET, verb == Method::PUT, verb == Method::POST);
        let write = put || verb == Method::PATCH;
        match path {
            ["web"] if get => Ok(Reply::ok(self.web())),
            ["web"] if write => {
                let config = self.properties()?;
                let mut wrong = None;
                self.update(|record| {
                    let mut changed = record.clone();
                    match web_sites::read_config(config, &mut changed) {
                        Ok(()) => *record = changed,
                        Err(error) => wrong = Some(error),
                    }
                })
                .await?;
                match wrong {
                    Some(error) => Err(error),
                    None => self.again().map(|asked| Reply::ok(asked.web())),
                }
            }
            ["appsettings", "list"] if post => Ok(self.settings()),
            ["appsettings"] if put => {
                let given = self.properties()?;
                let settings = given
                    .iter()
                    .map(|(name, value)| Ok((name.clone(), text_of(value, name)?)))
                    .collect::<Result<BTreeMap<_, _>, ArmError>>()?;
                self.update(|record| record.app_settings.clone_from(&settings)).await?;
                self.again().map(|asked| asked.settings())
            }
            ["connectionstrings", "list"] if post => Ok(self.strings()),
            ["connectionstrings"] if put => {
                let given = self.properties()?;
                let strings = given
                    .iter()
                    .map(|(name, string)| {
                        let value = text_of(&string["value"], name)?;
                        let kind = string["type"].as_str().unwrap_or("Custom").to_owned();
                        Ok((name.clone(), ConnectionString { value, kind }))
                    })
                    .collect::<Result<BTreeMap<_, _>, ArmError>>()?;
                self.update(|record| record.connection_strings.clone_from(&strings)).await?;
                self.again().map(|asked| asked.strings())
            }
            ["slotconfignames"] if get => Ok(self.sticky(&self.app.records.site(&self.key.site).sticky)),
            ["slotconfignames"] if put => self.put_sticky().await,
            ["configreferences", what @ ("appsettings" | "connectionstrings"), rest @ ..] => {
                self.references(what, rest).await
            }
            ["publishingcredentials", "list"] if post => Ok(Reply::ok(self.document("publishingcredentials", json!({
                "name": null,
                "publishingUserName": settings::publishing_user(&self.key),
                "publishingPassword": self.record.publishing_password,
                "scmUri": format!(
                    "https://{}:{}@{}",
                    settings::publishing_user(&self.key), self.record.publishing_password, self.key.scm_host_name()
                ),
            })))),
            // Terraform's provider follows the list by a read. No password is in it.
            ["publishingcredentials"] if get => {
                Ok(Reply::ok(self.document("publishingcredentials", json!({
                    "name": null,
                    "publishingUserName": settings::publishing_user(&self.key),
                    "scmUri": format!("https://{}", self.key.scm_host_name()),
                }))))
            }
            ["azurestorageaccounts", "list"] | ["azurestorageaccounts"] if post || get => {
                Ok(Reply::ok(self.document("azurestorageaccounts", json!({}))))
            }
            ["azurestorageaccounts"] if put && self.properties().is_ok_and(Map::is_empty) => {
                Ok(Reply::ok(self.document("azurestorageaccounts", json!({}))))
            }
            ["azurestorageaccounts"] if put => {
                Err(ArmError::not_implemented("Azure Storage mounts are not available in this region."))
            }
            ["backup" | "backups", ..] => Err(self.missing("config", "backup")),
            [name @ ("metadata" | "authsettings" | "pushsettings" | "authsettingsv2"), "list"] if post || get => {
                Ok(Reply::ok(self.document(name, self.kept(name))))
            }
            [name @ ("logs" | "authsettingsv2")] if get => Ok(Reply::ok(self.document(name, self.kept(name)))),
            [name @ ("logs" | "metadata" | "authsettings" | "authsettingsv2" | "pushsettings")] if put => {
                let document = Value::Object(self.properties()?.clone());
                if *name == "authsettings" && document["enabled"] == json!(true) {
                    return Err(ArmError::not_implemented(
                        "App Service authentication of the first version is not available in this region: leave it disabled.",
                    ));
                }
                if *name == access::AUTH {
                    access::check_auth(&document).map_err(ArmError::not_implemented)?;
                }
                self.update(|record| {
                    record.documents.insert((*name).to_owned(), document.clone());
                })
                .await?;
                self.again().map(|asked| Reply::ok(asked.document(name, asked.kept(name))))
            }
            _ if get => Err(self.missing("config", &path.join("/"))),
            _ => Err(ArmError::method_not_allowed(verb)),
        }
    }

    /// The same request with the record as it is now.
    fn again(&self) -> Result<Asked<'_>, ArmError> {
        let record =
            self.app.records.slot(&self.key).ok_or_else(|| ArmError::not_found(&self.call.id))?;
        Ok(Asked {
            context: self.context,
            app: self.app,
            call: self.call,
            key: self.key.clone(),
            record,
        })
    }

    fn settings(&self) -> Reply {
        Reply::ok(self.document("appsettings", json!(self.record.app_settings)))
    }

    fn strings(&self) -> Reply {
        Reply::ok(self.document("connectionstrings", json!(self.record.connection_strings)))
    }

    /// A document that is kept as it was written.
    fn kept(&self, name: &str) -> Value {
        let default = || match name {
            "logs" => json!({
                "applicationLogs": {
                    "fileSystem": { "level": "Off" },
                    "azureTableStorage": { "level": "Off", "sasUrl": null },
                    "azureBlobStorage": { "level": "Off", "sasUrl": null, "retentionInDays": null },
                },
                "httpLogs": {
                    "fileSystem": { "retentionInMb": 35, "retentionInDays": null, "enabled": false },
                    "azureBlobStorage": { "sasUrl": null, "retentionInDays": 3, "enabled": false },
                },
                "failedRequestsTracing": { "enabled": false },
                "detailedErrorMessages": { "enabled": false },
            }),
            "authsettings" => json!({
                "enabled": false, "unauthenticatedClientAction": null, "tokenStoreEnabled": null,
                "allowedExternalRedirectUrls": null, "defaultProvider": null, "clientId": null, "issuer": null,
                "configVersion": "v1",
            }),
            "authsettingsv2" => json!({
                "platform": { "enabled": false, "runtimeVersion": "~1" },
                "globalValidation": { "unauthenticatedClientAction": "RedirectToLoginPage", "requireAuthentication": false },
                "identityProviders": {}, "login": { "tokenStore": { "enabled": false } }, "httpSettings": { "requireHttps": true },
            }),
            "pushsettings" => json!({ "isPushEnabled": false }),
            _ => json!({}),
        };
        self.record.documents.get(name).cloned().unwrap_or_else(default)
    }

    fn sticky(&self, names: &StickyNames) -> Reply {
        let production = self.call.id.as_str().split("/slots/").next().unwrap_or_default();
        Reply::ok(json!({
            "id": format!("{production}/config/slotConfigNames"),
            "name": "slotConfigNames",
            "type": "Microsoft.Web/sites/config",
            "location": self.record.location,
            "properties": names,
        }))
    }

    async fn put_sticky(&self) -> Result<Reply, ArmError> {
        if self.key.slot != SlotName::Production {
            return Err(ArmError::bad_request(
                "BadRequest",
                "Slot setting names belong to the site: write them there, not on a slot.",
            ));
        }
        let mut given = Value::Object(self.properties()?.clone());
        if let Some(given) = given.as_object_mut() {
            // null means none.
            given.retain(|_, value| !value.is_null());
        }
        let sticky: StickyNames = serde_json::from_value(given)
            .map_err(|error| ArmError::invalid_content(error.to_string()))?;
        loop {
            let versioned = self
                .app
                .records
                .versioned(&self.key)
                .ok_or_else(|| ArmError::not_found(&self.call.id))?;
            let mut batch = Batch::new();
            batch.expect(&self.call.id, Expect::Etag(versioned.etag.clone()));
            self.app.records.put_site(
                &mut batch,
                &self.key.site,
                &SiteRecord { sticky: sticky.clone() },
            );
            match self.app.records.store().commit(batch).await {
                Err(StoreError::Conflict(_)) => {}
                other => {
                    other?;
                    break;
                }
            }
        }
        self.app.changed(&self.key);
        Ok(self.sticky(&sticky))
    }

    async fn references(&self, what: &str, path: &[&str]) -> Result<Reply, ArmError> {
        if let ["refresh"] = path
            && self.call.method == Method::POST
        {
            self.app.refresh_references(&self.key).await;
        } else if self.call.method != Method::GET {
            return Err(ArmError::method_not_allowed(&self.call.method));
        }
        let (settings, strings) = self.app.references(&self.key).await;
        let found: BTreeMap<String, Resolution> =
            if what == "appsettings" { settings } else { strings };
        let raw = |name: &str| match what {
            "appsettings" => self.record.app_settings.get(name).cloned(),
            _ => self.record.connection_strings.get(name).map(|string| string.value.clone()),
        };
        let show = |name: &str, resolution: &Resolution| {
            let properties = resolution.to_arm(&raw(name).unwrap_or_default());
            json!({
                "id": format!("{}/config/configreferences/{what}/{name}", self.call.id),
                "name": name,
                "type": format!("{}/config/configreferences", self.call.id.kind()),
                "location": self.record.location,
                "properties": properties,
            })
        };
        match path {
            [] | ["refresh"] => {
                let all: Vec<Value> =
                    found.iter().map(|(name, resolution)| show(name, resolution)).collect();
                let by_name: Map<String, Value> = found
                    .iter()
                    .map(|(name, resolution)| {
                        (name.clone(), resolution.to_arm(&raw(name).unwrap_or_default()))
                    })
                    .collect();
                Ok(Reply::ok(json!({
                    "id": format!("{}/config/configreferences/{what}", self.call.id),
                    "name": what,
                    "type": format!("{}/config/configreferences", self.call.id.kind()),
                    "location": self.record.location,
                    "properties": { "keyToReferenceStatuses": by_name },
                    "value": all,
                    "nextLink": null,
                })))
            }
            [name] => found
                .iter()
                .find(|(known, _)| known.eq_ignore_ascii_case(name))
                .map(|(name, resolution)| Reply::ok(show(name, resolution)))
                .ok_or_else(|| self.missing("config/configreferences", name)),
            _ => Err(self.missing("config/configreferences", &path.join("/"))),
        }
    }

    async fn action(&self, action: &str) -> Result<Reply, ArmError> {
        match action {
            "start" => {
                self.app
                    .set_running(&self.key, true)
                    .await
                    .map_err(|error| record_error(&error))?;
                Ok(Reply::new(StatusCode::OK, None))
            }
            "stop" => {
                self.app
                    .set_running(&self.key, false)
                    .await
                    .map_err(|error| record_error(&error))?;
                Ok(Reply::new(StatusCode::OK, None))
            }
            "restart" => {
                self.app.restart(&self.key).await.map_err(|error| record_error(&error))?;
                Ok(Reply::new(StatusCode::OK, None))
            }
            "slotsswap" => self.swap(),
            "applyslotconfig" => {
                let target = self.target_slot()?;
                self.app
                    .apply_slot_config(&self.key, &target)
                    .await
                    .map_err(|error| web_sites::swap_error(&error))?;
                Ok(Reply::new(StatusCode::OK, None))
            }
            "resetslotconfig" => {
                self.app
                    .reset_slot_config(&self.key)
                    .await
                    .map_err(|error| web_sites::swap_error(&error))?;
                Ok(Reply::new(StatusCode::OK, None))
            }
            "slotsdiffs" => self.differences(),
            "newpassword" => self.new_password().await,
            "publishxml" => Ok(Reply::plain("application/xml", self.publishing_profiles())),
            "sync" | "syncfunctiontriggers" => Ok(Reply::no_content()),
            _ => Err(ArmError::method_not_allowed(&self.call.method)),
        }
    }

    fn target_slot(&self) -> Result<SlotName, ArmError> {
        let name = self.call.body["targetSlot"].as_str().filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| {
            ArmError::invalid_content("Required property 'targetSlot' not found in JSON")
        })?;
        let slot = SlotName::new(name);
        if self.app.records.slot(&self.key.site.slot(slot.clone())).is_none() {
            return Err(ArmError::new(
                StatusCode::NOT_FOUND,
                "NotFound",
                format!("The site '{}' has no slot '{name}'.", self.key.site),
            ));
        }
        Ok(slot)
    }

    fn swap(&self) -> Result<Reply, ArmError> {
        let other = self.target_slot()?;
        if other == self.key.slot {
            return Err(ArmError::bad_request(
                "BadRequest",
                "A slot cannot be swapped with itself.",
            ));
        }
        // What a swap leaves is the same either way round; production is always the side that is
        // switched to warm instances.
        let (source, target) = match (&self.key.slot, &other) {
            (SlotName::Production, other) => (other, &SlotName::Production),
            (this, other) => (this, other),
        };
        let token = uuid::Uuid::new_v4().to_string();
        let input = json!({ "source": source, "target": target, "token": token });
        Ok(Reply::long_running(SWAP, "slotsswap", input))
    }

    fn differences(&self) -> Result<Reply, ArmError> {
        let target = self.target_slot()?;
        let other = self
            .app
            .records
            .slot(&self.key.site.slot(target))
            .ok_or_else(|| ArmError::not_found(&self.call.id))?;
        let sticky = self.app.records.site(&self.key.site).sticky;
        let rows = swap::differences(&self.record, &other, &sticky)
            .into_iter()
            .map(|difference| {
                let state = |there: bool| if there { "set" } else { "" };
                self.child("slotsdiffs", &difference.name, json!({
                    "level": "Information",
                    "settingType": difference.kind,
                    "diffRule": if difference.sticky { "SlotSettingsMissing" } else { "SettingsWillBeModifiedInDestination" },
                    "settingName": difference.name,
                    "valueInCurrentSlot": state(difference.in_source),
                    "valueInTargetSlot": state(difference.in_target),
                    "description": if difference.sticky { "stays with its slot" } else { "is exchanged by a swap" },
                }))
            })
            .collect();
        Ok(list(rows))
    }

    /// `publishxml`: how tools publish to this slot. No FTP here, so no FTP profile.
    fn publishing_profiles(&self) -> String {
        let profile = |name: &str, method: &str| {
            // Names and passwords are letters, digits, '-', '_' and '$': nothing to escape.
            format!(
                "<publishProfile profileName=\"{site} - {name}\" publishMethod=\"{method}\" publishUrl=\"{scm}:443\" \
                 msdeploySite=\"{site}\" userName=\"{user}\" userPWD=\"{password}\" destinationAppUrl=\"https://{host}\" \
                 SQLServerDBConnectionString=\"\" mySQLDBConnectionString=\"\" hostingProviderForumLink=\"\" \
                 controlPanelLink=\"https://portal.azure.com\" webSystem=\"WebSites\"><databases /></publishProfile>",
                site = self.key.label(),
                scm = self.key.scm_host_name(),
                user = settings::publishing_user(&self.key),
                password = self.record.publishing_password,
                host = self.key.host_name(),
            )
        };
        format!(
            "<publishData>{}{}</publishData>",
            profile("Web Deploy", "MSDeploy"),
            profile("Zip Deploy", "ZipDeploy")
        )
    }

    async fn new_password(&self) -> Result<Reply, ArmError> {
        let password = web::password();
        self.update(|record| record.publishing_password.clone_from(&password)).await?;
        Ok(Reply::no_content())
    }

    fn instances(&self) -> Vec<Value> {
        self.app
            .instances(&self.key)
            .into_iter()
            .filter(|member| !member.id.is_empty())
            .map(|member| {
                let counters = member.instance.as_ref().map(|instance| instance.counters());
                self.child(
                    "instances",
                    &member.id,
                    json!({
                        "state": member.phase.to_string(),
                        "statusUrl": format!("https://{}/", self.key.host_name()),
                        "healthCheckUrl": self.record.config_str("healthCheckPath"),
                        "detectorUrl": null,
                        "consoleUrl": null,
                        "containers": {},
                        "machineName": crate::appservice::logs::short(&member.id),
                        "startSeconds": member.took.map(|took| took.as_secs_f64()),
                        "inFlight": counters.as_ref().map(|counters| counters.in_flight),
                        "requests": counters.as_ref().map(|counters| counters.requests),
                        "errors5xx": counters.as_ref().map(|counters| counters.status[4]),
                        "lastError": member.failure.map(|failure| failure.to_string()),
                    }),
                )
            })
            .collect()
    }

    fn deployments(&self) -> Vec<Value> {
        let active = self.record.deployment.as_ref().map(|deployment| deployment.id.clone());
        self.app
            .deployments(&self.key)
            .iter()
            .map(|one| {
                self.child(
                    "deployments",
                    &one.id,
                    one.to_kudu(&self.key, active.as_ref() == Some(&one.id)),
                )
            })
            .collect()
    }

    fn deployment(&self, id: &str) -> Result<Reply, ArmError> {
        let one =
            self.app.deployment(&self.key, id).ok_or_else(|| self.missing("deployments", id))?;
        let active = self.record.deployment.as_ref().is_some_and(|active| active.id == one.id);
        Ok(Reply::ok(self.child("deployments", &one.id, one.to_kudu(&self.key, active))))
    }

    /// Whether basic authentication is allowed: on unless switched off, as in Azure, whose portal switches it
    /// off for what is made there (<https://learn.microsoft.com/azure/app-service/configure-basic-auth-disable>).
    async fn policies(&self, path: &[&str]) -> Result<Reply, ArmError> {
        let show = |record: &SlotRecord, name: &str| {
            let allow = record.basic_auth.get(name).copied().unwrap_or(true);
            self.child("basicPublishingCredentialsPolicies", name, json!({ "allow": allow }))
        };
        match path {
            [] if self.call.method == Method::GET => {
                Ok(list(["ftp", "scm"].iter().map(|name| show(&self.record, name)).collect()))
            }
            [name @ ("ftp" | "scm")] if self.call.method == Method::GET => {
                Ok(Reply::ok(show(&self.record, name)))
            }
            [name @ ("ftp" | "scm")] if self.call.method == Method::PUT => {
                let allow = self.properties()?.get("allow").and_then(Value::as_bool);
                let allow = allow.ok_or_else(|| {
                    ArmError::invalid_content("'properties.allow' must be true or false")
                })?;
                self.update(|record| {
                    record.basic_auth.insert((*name).to_owned(), allow);
                })
                .await?;
                self.again().map(|asked| Reply::ok(show(&asked.record, name)))
            }
            _ => Err(ArmError::method_not_allowed(&self.call.method)),
        }
    }

    /// The subnet that the slot's outbound traffic goes through, as a list of at most one.
    fn vnet_connections(&self) -> Vec<Value> {
        let subnet = self.record.properties.get("virtualNetworkSubnetId").and_then(Value::as_str);
        let connection = |subnet: &str| {
            let name = subnet.rsplit('/').next().unwrap_or_default();
            self.child(
                "virtualNetworkConnections",
                name,
                json!({
                    "vnetResourceId": subnet, "certThumbprint": null, "certBlob": null, "routes": null,
                    "resyncRequired": false, "dnsServers": null, "isSwift": true,
                }),
            )
        };
        subnet.filter(|subnet| !subnet.is_empty()).map(connection).into_iter().collect()
    }

    async fn network(&self) -> Result<Reply, ArmError> {
        let show = |record: &SlotRecord| {
            let subnet =
                record.properties.get("virtualNetworkSubnetId").cloned().unwrap_or_default();
            Reply::ok(self.child(
                "networkConfig",
                "virtualNetwork",
                json!({ "subnetResourceId": subnet, "swiftSupported": true }),
            ))
        };
        let set = |subnet: Value| {
            self.update(move |record| {
                record.properties.insert("virtualNetworkSubnetId".to_owned(), subnet.clone());
            })
        };
        match self.call.method {
            Method::GET => Ok(show(&self.record)),
            Method::PUT | Method::PATCH => {
                let subnet =
                    self.properties()?.get("subnetResourceId").cloned().unwrap_or_default();
                set(subnet).await?;
                self.again().map(|asked| show(&asked.record))
            }
            Method::DELETE => {
                set(Value::Null).await?;
                Ok(Reply::new(StatusCode::OK, None))
            }
            _ => Err(ArmError::method_not_allowed(&self.call.method)),
        }
    }

    fn jobs(&self, kind: JobKind) -> Vec<Value> {
        let below = match kind {
            JobKind::Continuous => "continuouswebjobs",
            JobKind::Triggered => "triggeredwebjobs",
        };
        self.app
            .jobs(&self.key, kind)
            .iter()
            .map(|job| {
                let mut properties = json!({
                    "web_job_type": if kind == JobKind::Continuous { "Continuous" } else { "Triggered" },
                    "run_command": job.script,
                    "settings": job.settings,
                });
                match kind {
                    JobKind::Continuous => {
                        properties["status"] = json!(self.app.continuous_status(&self.key, &job.name));
                    }
                    JobKind::Triggered => {
                        let latest = self.app.runs(&self.key, &job.name).into_iter().next();
                        properties["latest_run"] = json!(latest);
                    }
                }
                self.child(below, &job.name, properties)
            })
            .collect()
    }
}
