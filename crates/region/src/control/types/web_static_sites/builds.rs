//! A static site's environments, which Azure calls builds: what is deployed to each, its settings, its back
//! end (<https://learn.microsoft.com/rest/api/appservice/static-sites/get-static-site-build>).

use std::sync::Arc;

use http::{Method, StatusCode};
use jiff::Timestamp;
use lazuli_azure::ResourceId;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    super::{
        Call, LongRunning, Reply, ResourceType, Write,
        web_static_linked_backends::{self, LinkedBackends},
    },
    KIND, Private, StaticSites, last, settings, web,
};
use crate::{
    control::{Context, error::ArmError, operation, router},
    staticweb::{Build, DeployError, LINKED, PRODUCTION, StaticWeb, Status, content::Quota, fetch},
    store::{Batch, Expect, Resource},
};

/// The sealed addresses of packages whose deployment is under way, by `{site}/zips/{deployment}`: an address
/// may hold a signature.
const ZIPS: &str = "web.staticSites.zips";
/// How a deployment and the end of an environment are answered: 202 with `Location`.
const STYLE: LongRunning =
    LongRunning { statuses: "operations", results: "operationresults", ..LongRunning::LOCATION };
/// The longest name of an environment, as part of a host name.
const LONGEST: usize = 32;

fn zip_key(site: &ResourceId, deployment: &str) -> String {
    format!("{}/zips/{deployment}", site.key())
}

/// Puts the end of every package's address into a batch.
pub(super) fn forget_packages(context: &Context, site: &ResourceId, batch: &mut Batch) {
    for (key, _) in context.store.list_state(ZIPS, &zip_key(site, "")) {
        batch.delete_state(ZIPS, &key);
    }
}

fn no_build(name: &str) -> ArmError {
    ArmError::new(
        StatusCode::NOT_FOUND,
        "NotFound",
        format!("Cannot find StaticSiteBuild with name {name}."),
    )
}

/// An environment as it is shown.
fn shown(
    sites: &StaticSites,
    context: &Context,
    site: &Resource,
    name: &str,
    build: &Build,
) -> Value {
    let whole = sites.view(context, site);
    let properties = &whole["properties"];
    let production = name == PRODUCTION;
    json!({
        "id": format!("{}/builds/{name}", site.id), "name": name, "type": format!("{KIND}/builds"),
        "properties": {
            "buildId": name,
            "sourceBranch": if production { properties["branch"].clone() } else { json!(name) },
            "pullRequestTitle": build.title,
            "hostname": StaticWeb::host(site, name),
            "status": build.status,
            "createdTimeUtc": build.created, "lastUpdatedOn": build.changed,
            "linkedBackends": if production { properties["linkedBackends"].clone() } else { json!([]) },
            "userProvidedFunctionApps": [], "databaseConnections": [],
        },
    })
}

/// Answers what is asked below `builds`.
pub(super) async fn act(
    sites: &StaticSites,
    context: &Arc<Context>,
    call: &Call<'_>,
) -> Result<Reply, ArmError> {
    let id = &call.id;
    let site = context.store.get(id).ok_or_else(|| ArmError::not_found(id))?;
    let builds = StaticWeb::builds(&context.store, &site);
    let Some(below) = call.action.strip_prefix("builds/") else {
        let all: Vec<Value> =
            builds.iter().map(|(name, build)| shown(sites, context, &site, name, build)).collect();
        return Ok(Reply::ok(json!({ "value": all })));
    };
    let (name, below) = below.split_once('/').unwrap_or((below, ""));
    if call.method == Method::POST && below == "zipdeploy" {
        return zip_deploy(context, call, name).await;
    }
    let Some(build) = builds.get(name) else {
        return if call.method == Method::DELETE && below.is_empty() {
            Ok(Reply::no_content())
        } else {
            Err(no_build(name))
        };
    };
    match (&call.method, below.split_once('/').unwrap_or((below, ""))) {
        (&Method::GET, ("", _)) => Ok(Reply::ok(shown(sites, context, &site, name, build))),
        (&Method::DELETE, ("", _)) => {
            Ok(Reply::long_running(STYLE, "deletebuild", json!({ "environment": name })))
        }
        (&Method::POST, ("listappsettings", _)) | (&Method::PUT, ("config", "appsettings")) => {
            settings(context, call, name).await
        }
        (&Method::GET, ("functions" | "userprovidedfunctionapps", "")) => {
            Ok(Reply::ok(json!({ "value": [] })))
        }
        (method, ("linkedbackends", _)) if name != PRODUCTION => match *method {
            Method::GET => Ok(Reply::ok(json!({ "value": [] }))),
            _ => Err(ArmError::not_implemented(
                "Back ends are linked to the production environment in this region.",
            )),
        },
        (&Method::GET, ("linkedbackends", "")) => {
            let linked = context.store.list(LINKED, id);
            let all: Vec<Value> = linked.iter().map(|one| router::show(context, one)).collect();
            Ok(Reply::ok(json!({ "value": all })))
        }
        (_, ("linkedbackends", rest)) => linked_backend(context, call, rest).await,
        _ => Err(ArmError::not_implemented(format!(
            "'{below}' of a static site's environment is not available in this region."
        ))),
    }
}

/// A link, by the address that it has below production.
async fn linked_backend(
    context: &Arc<Context>,
    call: &Call<'_>,
    rest: &str,
) -> Result<Reply, ArmError> {
    let id = &call.id;
    let (validates, name) = match rest.strip_suffix("/validate") {
        Some(_) => (true, call.segments.iter().nth_back(1).map_or("", String::as_str)),
        None => (false, last(call)),
    };
    let linked = id.child("linkedBackends", name).map_err(|_| ArmError::not_found(id))?;
    let existing = context.store.get(&linked);
    match &call.method {
        &Method::GET => existing
            .map(|linked| Reply::ok(router::show(context, &linked)))
            .ok_or_else(|| ArmError::not_found(&linked)),
        &Method::DELETE => {
            let Some(existing) = existing else { return Ok(Reply::no_content()) };
            if web_static_linked_backends::cleans_auth(&call.query) {
                web_static_linked_backends::clean_auth(context, &existing, call.caller).await?;
            }
            operation::remove(context, &linked).await?;
            Ok(Reply::new(StatusCode::OK, None))
        }
        method @ (&Method::PUT | &Method::POST) if validates == (method == Method::POST) => {
            let _turn = context.lock_writes(&linked).await;
            let write = Write {
                id: &linked,
                existing: existing.as_deref(),
                method: super::super::Method::Put,
                body: call.body.clone(),
                api_version: call.api_version,
                caller: call.caller,
            };
            let mut batch = Batch::new();
            let mut body = LinkedBackends.desired(context, &write, &mut batch)?;
            if validates {
                return Ok(Reply::no_content());
            }
            body["properties"]["provisioningState"] = json!("Succeeded");
            batch.expect(id, Expect::Present).put(&linked, body);
            context.store.commit(batch).await?;
            LinkedBackends.provision(context, &linked).await?;
            let linked = context.store.get(&linked).ok_or_else(|| ArmError::not_found(&linked))?;
            Ok(Reply::ok(router::show(context, &linked)))
        }
        method => Err(ArmError::method_not_allowed(method)),
    }
}

/// `zipdeploy`: content from the package at an address
/// (<https://learn.microsoft.com/rest/api/appservice/static-sites/create-zip-deployment-for-static-site>).
pub(super) async fn zip_deploy(
    context: &Arc<Context>,
    call: &Call<'_>,
    environment: &str,
) -> Result<Reply, ArmError> {
    let id = &call.id;
    let properties = &call.body["properties"];
    let url = properties["appZipUrl"].as_str().filter(|url| !url.is_empty()).ok_or_else(|| {
        ArmError::bad_request("BadRequest", "The property 'appZipUrl' is required.")
            .at("properties.appZipUrl")
    })?;
    fetch::check(url).map_err(|why| {
        ArmError::bad_request("BadRequest", format!("The 'appZipUrl' cannot be used: {why}."))
            .at("properties.appZipUrl")
    })?;
    if properties["apiZipUrl"].as_str().is_some_and(|url| !url.is_empty()) {
        return Err(ArmError::not_implemented(
            "Managed functions are not available in this region: leave 'apiZipUrl' out, and link an App Service as the back end.",
        ));
    }
    let title =
        properties["deploymentTitle"].as_str().map(|title| title.chars().take(256).collect());
    // Two deployments at once see one another's environment.
    let _turn = context.lock_writes(id).await;
    let site = context.store.get(id).ok_or_else(|| ArmError::not_found(id))?;
    let builds = StaticWeb::builds(&context.store, &site);
    let now = Timestamp::now();
    let mut build = if let Some(build) = builds.get(environment) {
        build.clone()
    } else {
        may_stage(&site, environment, builds.len() - 1)?;
        Build::new(now)
    };
    build.status = Status::Uploading;
    build.error = None;
    build.changed = now;
    build.title = title;
    let deployment = Uuid::new_v4().to_string();
    let key = zip_key(id, &deployment);
    let mut batch = Batch::new();
    StaticWeb::put(&mut batch, id, environment, &build);
    batch.put_state(ZIPS, &key, context.sealer.seal(&key, url.as_bytes()));
    context.store.commit(batch).await?;
    if let Some(web) = web(context) {
        web.publish(id, None);
    }
    let input = json!({ "environment": environment, "deployment": deployment });
    Ok(Reply::long_running(STYLE, "zipdeploy", input))
}

/// Whether a site may have one more environment, of this name.
fn may_stage(site: &Resource, name: &str, others: usize) -> Result<(), ArmError> {
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-')
        && (1..=LONGEST).contains(&name.len());
    if !plain {
        return Err(ArmError::bad_request(
            "BadRequest",
            format!(
                "The environment name '{name}' is not valid: it is part of a host name, and has 1 to {LONGEST} letters, digits or '-', neither first nor last."
            ),
        ));
    }
    if site.text("/properties/stagingEnvironmentPolicy") == Some("Disabled") {
        return Err(ArmError::bad_request(
            "BadRequest",
            "Staging environments are disabled for this Static Web App (stagingEnvironmentPolicy).",
        ));
    }
    let most = Quota::of(site.text("/sku/name") == Some("Standard")).staging;
    if others >= most {
        return Err(ArmError::bad_request(
            "BadRequest",
            format!(
                "This Static Web App already has the maximum number of staging environments ({most}). Please remove one and try again."
            ),
        ));
    }
    Ok(())
}

/// The work behind an answer of 202.
pub(super) async fn perform(
    context: &Arc<Context>,
    id: &ResourceId,
    action: &str,
    input: &Value,
) -> Result<Value, ArmError> {
    let web = web(context).ok_or_else(|| ArmError::internal(&"no content is served here"))?;
    let environment = input["environment"].as_str().unwrap_or(PRODUCTION);
    // One deployment to an environment after another, and none while it ends.
    let name = format!("{}/builds/{environment}", id.key());
    let name = Uuid::new_v5(&Uuid::NAMESPACE_URL, name.as_bytes()).to_string();
    let _turn = context.lock_name(&name).await;
    if action == "deletebuild" {
        return end(context, web, id, environment).await.map(|()| Value::Null);
    }
    let key = zip_key(id, input["deployment"].as_str().unwrap_or_default());
    let Some(sealed) = context.store.get_state(ZIPS, &key) else {
        // Done before the region was interrupted, or the site is gone.
        return Ok(Value::Null);
    };
    let url = context.sealer.open_sealed(&key, &sealed).map_err(|e| ArmError::internal(&e))?;
    let outcome = web.deploy(id, environment, &String::from_utf8_lossy(&url)).await;
    let mut batch = Batch::new();
    batch.delete_state(ZIPS, &key);
    context.store.commit(batch).await?;
    outcome.map(|()| Value::Null).map_err(|error| match error {
        DeployError::Store(error) => error.into(),
        DeployError::Gone => ArmError::not_found(id),
        error => ArmError::bad_request("BadRequest", error.to_string()),
    })
}

/// Ends an environment: production is empty then, another is gone.
async fn end(
    context: &Arc<Context>,
    web: &Arc<StaticWeb>,
    id: &ResourceId,
    environment: &str,
) -> Result<(), ArmError> {
    let Some(site) = context.store.get(id) else { return Ok(()) };
    let content = StaticWeb::builds(&context.store, &site)
        .remove(environment)
        .and_then(|build| build.content);
    let _turn = context.lock_writes(id).await;
    let mut batch = Batch::new();
    batch.expect(id, Expect::Present);
    StaticWeb::forget(&mut batch, id, environment);
    if environment != PRODUCTION {
        let mut private = Private::load(context, id);
        if private.environments.remove(environment).is_some() {
            private.put(context, id, &mut batch);
        }
    }
    context.store.commit(batch).await?;
    web.publish(id, None);
    web.retire(content);
    Ok(())
}
