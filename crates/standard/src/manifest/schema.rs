//! The manifest's JSON schema, for editors. The parser says more than a schema can.

use serde_json::{Map, Value, json};

use super::fields::{self, Field};
use super::rules;

/// The manifest's JSON schema.
pub fn schema() -> Value {
    let path = json!({"type": "string", "pattern": "^/", "maxLength": 1024});
    let command = json!({"type": "string", "minLength": 1, "maxLength": 4096});
    let scalar = json!({"type": ["string", "number", "boolean"]});
    let process = || {
        object(fields::PROCESS, |name| match name {
            "run" => command.clone(),
            _ => json!({"type": "boolean", "default": false}),
        })
    };
    let directory = || json!({"type": "string", "pattern": rules::DIRECTORY, "maxLength": 200});
    let label = || json!({"type": "string", "minLength": 1, "maxLength": 64});
    let list = |item: Value| json!({"type": "array", "uniqueItems": true, "items": item});
    let mut root = object(fields::ROOT, |name| match name {
        "app" => json!({
            "type": "string",
            "pattern": "^[a-z][a-z0-9]*(-[a-z0-9]+)*$",
            "minLength": 2,
            "maxLength": rules::MAX_APP,
        }),
        "location" => json!({"type": "string", "pattern": "^[a-z0-9]{3,30}$"}),
        "python" => json!({"enum": ["3.10", "3.11", "3.12", "3.13", "3.14"], "default": "3.14"}),
        "backend" => object(fields::BACKEND, |name| match name {
            "app" => json!({"type": "string", "pattern": "^[A-Za-z_][\\w.]*:[A-Za-z_][\\w.]*$"}),
            "workers" => json!({"type": "integer", "minimum": 1, "maximum": 16, "default": 2}),
            "worker-class" => json!({"type": "string", "pattern": "^\\w+(\\.\\w+)+$"}),
            "health" | "readiness" => path.clone(),
            "websockets" => json!({"type": "boolean", "default": false}),
            _ => json!({
                "type": "object",
                "propertyNames": {"pattern": "^[A-Za-z_][A-Za-z0-9_]*$"},
                "additionalProperties": scalar,
            }),
        }),
        "worker" | "scheduler" => process(),
        "database" => object(fields::DATABASE, |_| command.clone()),
        "cache" => json!({"enum": ["premium", "managed"], "default": "managed"}),
        "secrets" => json!({
            "type": "array",
            "uniqueItems": true,
            "items": {"type": "string", "pattern": "^[a-z][a-z0-9]*(-[a-z0-9]+)*$"},
        }),
        "smoke" => json!({
            "type": "array",
            "items": object(fields::SMOKE, |name| match name {
                "path" => path.clone(),
                "status" => {
                    json!({"type": "integer", "minimum": 100, "maximum": 599, "default": 200})
                }
                "method" => json!({"enum": rules::METHODS, "default": "GET"}),
                "within-ms" => json!({"type": "integer", "minimum": 1, "maximum": 230_000}),
                "websocket" => json!({"type": "boolean", "default": false}),
                _ => json!({"type": "object"}),
            }),
        }),
        "domain" => {
            json!({"type": "string", "pattern": "^([a-z0-9]([a-z0-9-]*[a-z0-9])?\\.)+[a-z]{2,63}$", "maxLength": 253})
        }
        "frontend" => object(fields::FRONTEND, |name| match name {
            "hosting" => {
                json!({"enum": ["static-web-app", "app-service"], "default": "static-web-app"})
            }
            "connect" => list(json!({"type": "string", "pattern": "^(https|wss)://[^/]+$"})),
            _ => directory(),
        }),
        "openai" => object(fields::OPENAI, |name| match name {
            "capacity" => {
                json!({"type": "integer", "minimum": 1, "maximum": 10_000, "default": 10})
            }
            _ => json!({"type": "string", "pattern": "^[A-Za-z0-9._-]{2,64}$"}),
        }),
        "alerts" => object(fields::ALERTS, |_| {
            list(json!({"type": "string", "minLength": 1, "maxLength": 254}))
        }),
        "budget" => object(
            fields::BUDGET,
            |_| json!({"type": "integer", "minimum": 1, "maximum": 1_000_000}),
        ),
        "pipelines" => object(fields::PIPELINES, |_| label()),
        "access" => object(
            fields::ACCESS,
            |_| json!({"type": "string", "pattern": "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"}),
        ),
        "release" => object(fields::RELEASE, |_| command.clone()),
        _ => object(fields::PACKAGE, |_| json!({"type": "array", "items": {"type": "string"}})),
    });
    let mut schema = Map::new();
    schema.insert("$schema".to_owned(), "https://json-schema.org/draft/2020-12/schema".into());
    schema.insert("title".to_owned(), "Lazuli manifest (lazuli.yaml)".into());
    if let Some(root) = root.as_object_mut() {
        schema.append(root);
    }
    Value::Object(schema)
}

fn object(fields: &[Field], of: impl Fn(&'static str) -> Value) -> Value {
    let mut properties = Map::new();
    for field in fields {
        let mut property = of(field.name);
        if let Some(property) = property.as_object_mut() {
            property.insert("description".to_owned(), field.description.into());
        }
        properties.insert(field.name.to_owned(), property);
    }
    let required: Vec<_> = fields.iter().filter(|f| f.required).map(|f| f.name).collect();
    let mut object = json!({
        "type": "object",
        "additionalProperties": false,
        "properties": properties,
    });
    if !required.is_empty() {
        object["required"] = json!(required);
    }
    object
}
