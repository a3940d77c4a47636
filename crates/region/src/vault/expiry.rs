//! Events about secrets that expire, to the webhooks of a vault's event subscriptions, in Event Grid's
//! own format. An event is delivered once to each subscription; one that is not taken is sent again a
//! minute later. Before the first, the webhook must answer Event Grid's validation with its code.
//!
//! <https://learn.microsoft.com/azure/event-grid/event-schema-key-vault>,
//! <https://learn.microsoft.com/azure/event-grid/end-point-validation-event-grid-events-schema>

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use lazuli_azure::{Client, ResourceId};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{KIND, Kind, Vaults, Version};
use crate::store::{Batch, Resource};

/// How often it is looked.
pub const INTERVAL: Duration = Duration::from_secs(60);
/// A secret is near its expiry from 30 days before it.
const NEAR: i64 = 30 * 86_400;
/// How long a webhook may take.
const ANSWER: Duration = Duration::from_secs(30);
/// The longest answer to a validation that is read.
const LIMIT: usize = 64 * 1024;
const SUBSCRIPTIONS: &str = "Microsoft.EventGrid/eventSubscriptions";
/// What was delivered: `{subscription}|{event}` → nothing.
const DELIVERED: &str = "vault.event";

/// What an event says of an object; its type is `Microsoft.KeyVault.Secret{this}`, or `Key` or `Certificate`.
const NEAR_EXPIRY: &str = "NearExpiry";
const EXPIRED: &str = "Expired";
const VALIDATION: &str = "Microsoft.EventGrid.SubscriptionValidationEvent";

/// What there is to say about a version at `now`, seconds since 1970.
fn due(version: &Version, now: i64) -> Option<&'static str> {
    if version.attributes.enabled == Some(false) {
        return None;
    }
    match version.attributes.exp? {
        exp if exp <= now => Some(EXPIRED),
        exp if exp - NEAR <= now => Some(NEAR_EXPIRY),
        _ => None,
    }
}

fn event(vault: &ResourceId, kind: &str, subject: &str, data: &Value) -> Value {
    json!([{
        "id": Uuid::new_v4(),
        "topic": vault,
        "subject": subject,
        "eventType": kind,
        "eventTime": Timestamp::now(),
        "data": data,
        "dataVersion": "1",
        "metadataVersion": "1",
    }])
}

fn about(vault: &str, kind: Kind, version: &Version) -> Value {
    let name = &version.name;
    json!({
        "Id": format!("https://{}.vault.azure.net/{}/{name}/{}", vault.to_ascii_lowercase(), kind.segment(), version.version),
        "VaultName": vault,
        "ObjectType": kind.title(),
        "ObjectName": name,
        "Version": version.version,
        "NBF": version.attributes.nbf,
        "EXP": version.attributes.exp,
    })
}

/// Whether a subscription wants events of this type.
fn wants(subscription: &Resource, kind: &str) -> bool {
    let types = subscription.body.pointer("/properties/filter/includedEventTypes");
    types.and_then(Value::as_array).is_none_or(|types| {
        types.iter().filter_map(Value::as_str).any(|one| one == kind || one == "All")
    })
}

impl Vaults {
    /// Delivers what is due, through `client`.
    pub async fn deliver_events(self: &Arc<Self>, client: &Client) {
        let now = Timestamp::now().as_second();
        for vault in self.store.list(KIND, &ResourceId::root()) {
            let subscriptions = self.store.list(SUBSCRIPTIONS, &vault.id);
            if subscriptions.is_empty() {
                continue;
            }
            let mut versions = Vec::new();
            for kind in Kind::ALL {
                let listed = self.list(kind, vault.id.name(), false).unwrap_or_default();
                // Of a certificate's key and secret the certificate tells.
                let own = listed.into_iter().filter(|version| !version.managed);
                versions.extend(own.map(|version| (kind, version)));
            }
            for subscription in subscriptions {
                let url = "/properties/destination/properties/endpointUrl";
                let Some(url) = subscription.text(url) else { continue };
                if !self.validated(client, &vault, &subscription, url).await {
                    continue;
                }
                for (kind, version) in &versions {
                    let Some(what) = due(version, now) else { continue };
                    let event_type = format!("Microsoft.KeyVault.{}{what}", kind.title());
                    if !wants(&subscription, &event_type) {
                        continue;
                    }
                    let name = format!("{}/{}/{event_type}", version.name, version.version);
                    let key = format!("{}|{name}", subscription.id.key());
                    if self.store.get_state(DELIVERED, &key).is_some() {
                        continue;
                    }
                    let data = about(vault.id.name(), *kind, version);
                    let body = event(&vault.id, &event_type, &version.name, &data);
                    if post(client, url, "Notification", &body).await.is_some() {
                        self.remember(&key).await;
                    }
                }
            }
        }
    }

    async fn remember(&self, key: &str) {
        let mut batch = Batch::new();
        batch.put_state(DELIVERED, key, Vec::new());
        if let Err(error) = self.store.commit(batch).await {
            tracing::error!(%error, "it cannot be noted that an event was delivered");
        }
    }

    /// Whether the webhook has shown that it wants events: it answers the validation with its code.
    async fn validated(
        &self,
        client: &Client,
        vault: &Resource,
        subscription: &Resource,
        url: &str,
    ) -> bool {
        let key = format!("{}|{url}", subscription.id.key());
        if self.store.get_state(DELIVERED, &key).is_some() {
            return true;
        }
        let code = Uuid::new_v4().to_string();
        let body = event(&vault.id, VALIDATION, "", &json!({ "validationCode": code }));
        let Some(answer) = post(client, url, "SubscriptionValidation", &body).await else {
            return false;
        };
        let answer: Value = serde_json::from_slice(&answer).unwrap_or_default();
        if answer["validationResponse"].as_str() != Some(code.as_str()) {
            tracing::warn!(subscription = %subscription.id, "the webhook did not answer the validation");
            return false;
        }
        self.remember(&key).await;
        true
    }
}

/// Posts events; the answer's body when they were taken. The address may carry a secret in its query:
/// it is not logged.
async fn post(client: &Client, url: &str, kind: &str, events: &Value) -> Option<Vec<u8>> {
    let request = client
        .http()
        .post(url)
        .header("content-type", "application/json; charset=utf-8")
        .header("aeg-event-type", kind)
        .body(events.to_string())
        .timeout(ANSWER);
    let place = url.split('?').next().unwrap_or_default();
    match request.send().await {
        Ok(mut answer) if answer.status().is_success() => {
            let mut body = Vec::new();
            while let Some(part) = answer.chunk().await.ok()? {
                if body.len() + part.len() > LIMIT {
                    // It was taken; what it says at such length is no validation.
                    return Some(Vec::new());
                }
                body.extend_from_slice(&part);
            }
            Some(body)
        }
        Ok(answer) => {
            tracing::warn!(place, status = answer.status().as_u16(), "a webhook refused an event");
            None
        }
        Err(error) => {
            tracing::warn!(place, error = %error.without_url(), "a webhook cannot be reached");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, Ordering};

    use bytes::Bytes;
    use http_body_util::{BodyExt as _, Full};
    use hyper::body::Incoming;
    use hyper_util::rt::TokioIo;
    use lazuli_azure::{Connection, Credential, Secret};
    use tokio::net::TcpListener;

    use super::*;
    use crate::vault::{Attributes, NewSecret};

    fn version(exp: Option<i64>, enabled: Option<bool>) -> Version {
        Version {
            name: "notes-jwt-secret".to_owned(),
            version: "0123".to_owned(),
            attributes: Attributes { enabled, nbf: None, exp },
            created: 0,
            updated: 0,
            content_type: None,
            tags: None,
            deleted: None,
            managed: false,
            detail: serde_json::Value::Null,
            policy: serde_json::Value::Null,
        }
    }

    #[test]
    fn a_secret_is_near_its_expiry_for_thirty_days_and_then_expired() {
        let now = 2_000_000_000;
        assert_eq!(due(&version(None, None), now), None);
        assert_eq!(due(&version(Some(now + NEAR + 1), None), now), None);
        assert_eq!(due(&version(Some(now + NEAR), None), now), Some(NEAR_EXPIRY));
        assert_eq!(due(&version(Some(now + 1), None), now), Some(NEAR_EXPIRY));
        assert_eq!(due(&version(Some(now), None), now), Some(EXPIRED));
        assert_eq!(due(&version(Some(now), Some(false)), now), None);
    }

    /// A webhook, and the proxy that leads to it: what it was sent, and how it answers.
    #[derive(Default)]
    struct Webhook {
        seen: Mutex<Vec<(String, Value)>>,
        validates: AtomicBool,
        fails: AtomicBool,
    }

    impl Webhook {
        async fn start() -> (Arc<Self>, String) {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
            let proxy = format!("http://{}", listener.local_addr().expect("bound"));
            let webhook = Arc::new(Self::default());
            tokio::spawn({
                let webhook = webhook.clone();
                async move {
                    while let Ok((stream, _)) = listener.accept().await {
                        tokio::spawn(webhook.clone().serve(stream));
                    }
                }
            });
            (webhook, proxy)
        }

        async fn serve(self: Arc<Self>, stream: tokio::net::TcpStream) {
            let service = hyper::service::service_fn(|request: http::Request<Incoming>| {
                let webhook = self.clone();
                async move {
                    let kind = request.headers()["aeg-event-type"].to_str().expect("text");
                    let kind = kind.to_owned();
                    let body = request.into_body().collect().await.expect("a body").to_bytes();
                    let events: Value = serde_json::from_slice(&body).expect("JSON");
                    let code = events[0]["data"]["validationCode"].clone();
                    webhook.seen.lock().expect("seen").push((kind, events));
                    let mut answer = http::Response::new(Full::new(Bytes::new()));
                    if webhook.fails.load(Ordering::Relaxed) {
                        *answer.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
                    } else if webhook.validates.load(Ordering::Relaxed) {
                        let body = json!({ "validationResponse": code }).to_string();
                        *answer.body_mut() = Full::new(body.into());
                    }
                    Ok::<_, std::convert::Infallible>(answer)
                }
            });
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        }

        /// What came since the last time: the header's kind and the events' types and objects.
        fn take(&self) -> Vec<(String, String, String)> {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let events = std::mem::take(&mut *self.seen.lock().expect("seen"));
            events
                .into_iter()
                .map(|(kind, events)| {
                    let one = &events[0];
                    (kind, text(&one["eventType"]), text(&one["data"]["ObjectName"]))
                })
                .collect()
        }
    }

    #[tokio::test]
    async fn a_webhook_is_validated_and_told_of_each_secret_once() {
        let vaults = crate::vault::tests::vaults();
        let (webhook, proxy) = Webhook::start().await;
        let url = "http://hooks.example.com/events?code=s3cret";
        let id = ResourceId::parse(
            "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg/providers/\
             Microsoft.KeyVault/vaults/kv",
        )
        .expect("an ID");
        let subscription =
            ResourceId::parse(&format!("{id}/providers/{SUBSCRIPTIONS}/hook")).expect("an ID");
        let mut batch = Batch::new();
        batch.put(&id, json!({ "properties": {} })).put(
            &subscription,
            json!({ "properties": {
                "destination": { "endpointType": "WebHook", "properties": { "endpointUrl": url } },
                "filter": { "includedEventTypes": ["Microsoft.KeyVault.SecretNearExpiry"] },
            } }),
        );
        vaults.store.commit(batch).await.expect("written");
        let now = Timestamp::now().as_second();
        for (name, exp) in [("near", 86_400), ("later", 31 * 86_400), ("over", -60)] {
            let attributes = Attributes { exp: Some(now + exp), ..Attributes::default() };
            let new = NewSecret { attributes, ..NewSecret::default() };
            vaults.set("kv", name, "value", new).await.expect("set");
        }
        let nobody = Credential::client_secret(String::new(), String::new(), Secret::new(""));
        let connection = Connection { proxy: Some(proxy), roots: None };
        let client = Client::new(&connection, nobody).expect("a client");
        let validation =
            ("SubscriptionValidation".to_owned(), VALIDATION.to_owned(), String::new());
        let near = (
            "Notification".to_owned(),
            "Microsoft.KeyVault.SecretNearExpiry".to_owned(),
            "near".to_owned(),
        );

        // Whoever does not answer with the code never asked for events, and gets none.
        vaults.deliver_events(&client).await;
        assert_eq!(webhook.take(), std::slice::from_ref(&validation));
        webhook.validates.store(true, Ordering::Relaxed);
        vaults.deliver_events(&client).await;
        // The one that is near its expiry: not the one a month away, nor what it does not want.
        assert_eq!(webhook.take(), [validation, near.clone()]);
        vaults.deliver_events(&client).await;
        assert_eq!(webhook.take(), [], "once");

        // A new version is told of anew; one that is not taken, until it is.
        webhook.fails.store(true, Ordering::Relaxed);
        let attributes = Attributes { exp: Some(now + 3600), ..Attributes::default() };
        let new = NewSecret { attributes, ..NewSecret::default() };
        vaults.set("kv", "near", "value", new).await.expect("set");
        vaults.deliver_events(&client).await;
        assert_eq!(webhook.take(), std::slice::from_ref(&near));
        webhook.fails.store(false, Ordering::Relaxed);
        vaults.deliver_events(&client).await;
        vaults.deliver_events(&client).await;
        assert_eq!(webhook.take(), [near]);
    }

    #[test]
    fn events_are_in_event_grids_format() {
        let vault = ResourceId::parse(
            "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg/providers/\
             Microsoft.KeyVault/vaults/notes-kv",
        )
        .expect("an ID");
        let version = version(Some(1_559_081_980), None);
        let events = event(
            &vault,
            "Microsoft.KeyVault.SecretNearExpiry",
            "notes-jwt-secret",
            &about("notes-kv", Kind::Secret, &version),
        );
        let one = &events[0];
        for name in
            ["id", "topic", "subject", "eventType", "eventTime", "dataVersion", "metadataVersion"]
        {
            assert!(one[name].is_string(), "{name}");
        }
        assert_eq!(
            one["data"],
            json!({
                "Id": "https://notes-kv.vault.azure.net/secrets/notes-jwt-secret/0123",
                "VaultName": "notes-kv", "ObjectType": "Secret", "ObjectName": "notes-jwt-secret",
                "Version": "0123", "NBF": null, "EXP": 1_559_081_980,
            })
        );
    }
}
