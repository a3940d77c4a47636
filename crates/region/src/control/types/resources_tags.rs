//! `Microsoft.Resources/tags`: the tags of any resource, group or subscription without the rest of it
//! (<https://learn.microsoft.com/rest/api/resources/tags>), and the subscription's predefined tag names.
//!
//! A resource's tags are those of its body; the subscription's, which has no body, and the predefined
//! names are private state.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::{Method as Verb, StatusCode};
use lazuli_azure::ResourceId;
use serde_json::{Map, Value, json};

use super::{Call, Registry, Reply, locks};
use crate::{
    control::{Context, error::ArmError, router},
    store::{Batch, Expect, StoreError},
};

/// Private state: the subscription's tags, and the predefined names.
const NAMESPACE: &str = "control.tags";
const SUBSCRIPTION: &str = "subscription";
const NAMES: &str = "names";
/// The most predefined names of a subscription, and values of a name.
const MAX_NAMES: usize = 80_000;
/// How often a write is tried again because another was faster.
const ATTEMPTS: usize = 32;

type Tags = Map<String, Value>;
/// Name → values.
type Names = BTreeMap<String, Vec<String>>;

/// Adds this file's routes.
pub(super) fn register(types: &mut Registry) {
    let at = "**/providers/microsoft.resources/tags/default";
    types.route(Verb::GET, at, Some("Microsoft.Resources/tags/read"), get);
    types.route(Verb::PUT, at, Some("Microsoft.Resources/tags/write"), write);
    types.route(Verb::PATCH, at, Some("Microsoft.Resources/tags/write"), write);
    types.route(Verb::DELETE, at, Some("Microsoft.Resources/tags/delete"), write);
    let read = Some("Microsoft.Resources/subscriptions/tagNames/read");
    types.route(Verb::GET, "/subscriptions/{}/tagnames", read, names);
    for (path, write, delete) in [
        (
            "/subscriptions/{}/tagnames/{}",
            "Microsoft.Resources/subscriptions/tagNames/write",
            "Microsoft.Resources/subscriptions/tagNames/delete",
        ),
        (
            "/subscriptions/{}/tagnames/{}/tagvalues/{}",
            "Microsoft.Resources/subscriptions/tagNames/tagValues/write",
            "Microsoft.Resources/subscriptions/tagNames/tagValues/delete",
        ),
    ] {
        types.route(Verb::PUT, path, Some(write), predefine);
        types.route(Verb::DELETE, path, Some(delete), predefine);
    }
}

/// What is tagged: the path without the extension.
fn scope(call: &Call<'_>) -> Result<ResourceId, ArmError> {
    let end = call.segments.len().saturating_sub(4);
    Ok(ResourceId::parse(&format!("/{}", call.segments[..end].join("/")))?)
}

/// The tags of a scope. None where it does not exist.
fn tags_of(context: &Context, scope: &ResourceId) -> Option<Tags> {
    if is_subscription(scope) {
        let kept = context.store.get_state(NAMESPACE, SUBSCRIPTION);
        return Some(kept.and_then(|b| serde_json::from_slice(&b).ok()).unwrap_or_default());
    }
    let kind = context.registry.get(scope.kind())?;
    let found = kind.find(context, scope)?;
    Some(found.body["tags"].as_object().cloned().unwrap_or_default())
}

fn is_subscription(scope: &ResourceId) -> bool {
    scope.is("Microsoft.Resources/subscriptions")
}

fn shown(scope: &ResourceId, tags: &Tags) -> Reply {
    Reply::ok(json!({
        "id": format!("{scope}/providers/Microsoft.Resources/tags/default"),
        "name": "default",
        "type": "Microsoft.Resources/tags",
        "properties": { "tags": tags },
    }))
}

fn get<'a>(
    context: &'a Arc<Context>,
    call: &'a Call<'a>,
) -> BoxFuture<'a, Result<Reply, ArmError>> {
    Box::pin(async move {
        let scope = scope(call)?;
        let tags = tags_of(context, &scope).ok_or_else(|| ArmError::not_found(&scope))?;
        Ok(shown(&scope, &tags))
    })
}

/// PUT replaces, PATCH merges, replaces or deletes, DELETE takes all away.
fn write<'a>(
    context: &'a Arc<Context>,
    call: &'a Call<'a>,
) -> BoxFuture<'a, Result<Reply, ArmError>> {
    Box::pin(async move {
        let scope = scope(call)?;
        locks::admit(&context.store, &scope, locks::Change::Write)?;
        let _turn = context.lock_writes(&scope).await;
        for _ in 0..ATTEMPTS {
            let before = tags_of(context, &scope).ok_or_else(|| ArmError::not_found(&scope))?;
            let tags = changed(call, before)?;
            let mut batch = Batch::new();
            if is_subscription(&scope) {
                let bytes = serde_json::to_vec(&tags).unwrap_or_default();
                batch.put_state(NAMESPACE, SUBSCRIPTION, bytes);
            } else {
                let Some(found) = context.store.get(&scope) else {
                    return Err(ArmError::bad_request(
                        "TagsNotSupported",
                        format!("The resource '{scope}' does not support tags."),
                    ));
                };
                let mut body = found.body.clone();
                body["tags"] = json!(tags);
                batch.expect(&scope, Expect::Etag(found.etag.clone())).put(&scope, body);
            }
            match context.store.commit(batch).await {
                Ok(()) if call.method == Verb::DELETE => {
                    return Ok(Reply::new(StatusCode::OK, None));
                }
                Ok(()) => return Ok(shown(&scope, &tags)),
                Err(StoreError::Conflict(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(ArmError::conflict(
            "AnotherOperationInProgress",
            format!("Another operation on '{scope}' is in progress. Please retry."),
        ))
    })
}

/// The tags after a request. Names differ in more than their case, as Azure's do.
fn changed(call: &Call<'_>, mut tags: Tags) -> Result<Tags, ArmError> {
    if call.method == Verb::DELETE {
        return Ok(Tags::new());
    }
    let given = match &call.body["properties"]["tags"] {
        Value::Object(given) => given.clone(),
        Value::Null => Tags::new(),
        _ => {
            return Err(ArmError::invalid_content(
                "'properties.tags' must be an object of strings",
            ));
        }
    };
    let same =
        |tags: &Tags, name: &str| tags.keys().find(|have| have.eq_ignore_ascii_case(name)).cloned();
    let operation = match (&call.method, call.body["operation"].as_str()) {
        (&Verb::PUT, _) => "Replace",
        (_, Some(name)) => ["Replace", "Merge", "Delete"]
            .into_iter()
            .find(|known| known.eq_ignore_ascii_case(name))
            .ok_or_else(|| {
                ArmError::invalid_content(format!(
                    "'operation' is '{name}': it is 'Replace', 'Merge' or 'Delete'"
                ))
            })?,
        (_, None) => return Err(ArmError::invalid_content("'operation' is required")),
    };
    match operation {
        "Replace" => tags = given,
        "Merge" => {
            for (name, value) in given {
                let name = same(&tags, &name).unwrap_or(name);
                tags.insert(name, value);
            }
        }
        // A name goes with the value that is given, or with any where none is.
        _ => {
            for (name, value) in given {
                let any = value.as_str().is_none_or(str::is_empty);
                if let Some(name) = same(&tags, &name)
                    && (any || tags[&name] == value)
                {
                    tags.shift_remove(&name);
                }
            }
        }
    }
    router::check_tags(&json!({ "tags": tags }))?;
    Ok(tags)
}

fn predefined(context: &Context) -> Names {
    let kept = context.store.get_state(NAMESPACE, NAMES);
    kept.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

/// How often each name and value is used, by what is tagged.
fn used(context: &Context) -> BTreeMap<String, BTreeMap<String, u64>> {
    let mut used: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
    let mut count = |tags: &Tags| {
        for (name, value) in tags {
            let value = value.as_str().unwrap_or_default().to_owned();
            *used.entry(name.clone()).or_default().entry(value).or_default() += 1;
        }
    };
    for resource in context.store.list_below(&ResourceId::root()) {
        if let Some(tags) = resource.body["tags"].as_object() {
            count(tags);
        }
    }
    let subscription = context.store.get_state(NAMESPACE, SUBSCRIPTION);
    if let Some(tags) = subscription.and_then(|bytes| serde_json::from_slice(&bytes).ok()) {
        count(&tags);
    }
    used
}

fn names<'a>(
    context: &'a Arc<Context>,
    call: &'a Call<'a>,
) -> BoxFuture<'a, Result<Reply, ArmError>> {
    Box::pin(async move {
        let used = used(context);
        let mut all = predefined(context);
        for (name, values) in &used {
            let known = all.entry(name.clone()).or_default();
            for value in values.keys() {
                if !known.contains(value) {
                    known.push(value.clone());
                }
            }
        }
        let entries = all
            .iter()
            .map(|(name, values)| show_name(context, name, values, used.get(name)))
            .collect();
        router::page(&call.segments, &call.query, call.api_version, entries)
    })
}

fn show_name(
    context: &Context,
    name: &str,
    values: &[String],
    used: Option<&BTreeMap<String, u64>>,
) -> Value {
    let id = format!("/subscriptions/{}/tagNames/{name}", context.tenancy.subscription_id);
    let count = |value: &str| used.and_then(|used| used.get(value)).copied().unwrap_or(0);
    let total: u64 = used.map_or(0, |used| used.values().sum());
    let values: Vec<Value> =
        values.iter().map(|value| show_value(&id, value, count(value))).collect();
    json!({
        "id": id, "tagName": name, "values": values,
        "count": { "type": "Total", "value": total },
    })
}

fn show_value(name: &str, value: &str, count: u64) -> Value {
    json!({
        "id": format!("{name}/tagValues/{value}"), "tagValue": value,
        "count": { "type": "Total", "value": count },
    })
}

/// PUT and DELETE of a name, or of a value of one.
fn predefine<'a>(
    context: &'a Arc<Context>,
    call: &'a Call<'a>,
) -> BoxFuture<'a, Result<Reply, ArmError>> {
    Box::pin(async move {
        let asked = &call.segments[3];
        let value = call.segments.get(5);
        router::check_tags(&json!({ "tags": { asked.as_str(): value } }))?;
        let _turn = context.lock_name("control.tagnames").await;
        let mut all = predefined(context);
        let known = all.keys().find(|have| have.eq_ignore_ascii_case(asked)).cloned();
        let name = known.clone().unwrap_or_else(|| asked.clone());
        let used = used(context);
        let uses = |value: Option<&String>| match (used.get(&name), value) {
            (None, _) => 0,
            (Some(used), Some(value)) => used.get(value).copied().unwrap_or(0),
            (Some(used), None) => used.values().sum(),
        };
        let created = match (&call.method, value) {
            (&Verb::DELETE, value) => {
                if uses(value) > 0 {
                    return Err(ArmError::conflict(
                        "TagInUse",
                        format!(
                            "The tag '{name}' is in use: it can be deleted once no resource, resource group or subscription has it."
                        ),
                    ));
                }
                match value {
                    Some(value) => {
                        if let Some(values) = all.get_mut(&name) {
                            values.retain(|have| have != value);
                        }
                    }
                    None => drop(all.remove(&name)),
                }
                None
            }
            (_, Some(_)) if known.is_none() && !used.contains_key(&name) => {
                return Err(ArmError::new(
                    StatusCode::NOT_FOUND,
                    "TagNotFound",
                    format!("The tag '{name}' could not be found."),
                ));
            }
            (_, value) => {
                if all.len() >= MAX_NAMES {
                    return Err(ArmError::bad_request(
                        "TagQuotaExceeded",
                        format!("A subscription can have at most {MAX_NAMES} tag names."),
                    ));
                }
                let values = all.entry(name.clone()).or_default();
                let new = match value {
                    Some(value) if values.contains(value) => false,
                    Some(value) => {
                        values.push(value.clone());
                        true
                    }
                    None => known.is_none(),
                };
                Some(new)
            }
        };
        let mut batch = Batch::new();
        batch.put_state(NAMESPACE, NAMES, serde_json::to_vec(&all).unwrap_or_default());
        context.store.commit(batch).await?;
        let Some(created) = created else { return Ok(Reply::new(StatusCode::OK, None)) };
        let status = if created { StatusCode::CREATED } else { StatusCode::OK };
        let shown = match value {
            Some(value) => {
                let id =
                    format!("/subscriptions/{}/tagNames/{name}", context.tenancy.subscription_id);
                show_value(&id, value, uses(Some(value)))
            }
            None => show_name(context, &name, &all[&name], used.get(&name)),
        };
        Ok(Reply::new(status, Some(shown)))
    })
}
