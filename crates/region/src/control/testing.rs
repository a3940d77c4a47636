//! A whole region without a machine: everything of it that answers HTTP, in one temporary directory.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use lazuli_azure::ResourceId;
use serde_json::{Value, json};

use super::{Context, Control, Parts};
use crate::{
    directory::Directory,
    identity::{Identity, entra},
    names::{Addresses, Names},
    reseal,
    store::Store,
    tenancy::Tenancy,
    vault::{Vaults, audit::Audit},
};

/// A region, and the deployer's token for it.
pub(crate) struct World {
    pub(crate) control: Arc<Control>,
    pub(crate) token: String,
    pub(crate) directory: Directory,
    dir: tempfile::TempDir,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Answer {
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{:#}", self.body);
        self.body
    }

    #[track_caller]
    pub(crate) fn refused(self, status: u16, code: &str) -> Value {
        assert_eq!(
            (self.status.as_u16(), self.body["error"]["code"].as_str()),
            (status, Some(code)),
            "{:#}",
            self.body
        );
        self.body
    }

    pub(crate) fn header(&self, name: &str) -> Option<String> {
        self.headers.get(name).and_then(|value| value.to_str().ok()).map(ToOwned::to_owned)
    }
}

async fn open(directory: &Directory) -> Arc<Control> {
    directory.create().expect("created");
    let store = Store::open(&directory.store()).expect("a store");
    let sealer = reseal::open(&directory.vault_key(), &store, &directory.storage()).await;
    let sealer = Arc::new(sealer.expect("a key"));
    let tenancy = Tenancy::open(&store).await.expect("a tenancy");
    let identity = Identity::open(&store, &sealer, &tenancy, directory).await.expect("an identity");
    let audit = Audit::open(&directory.root().join("audit.log")).expect("a log");
    let vaults = Vaults::new(&store, sealer.clone(), audit);
    let context = Context::new(Parts {
        store,
        tenancy,
        sealer,
        identity,
        vaults,
        names: Names::default(),
        addresses: Addresses::in_memory(),
        host: None,
        gateway: None,
    });
    let control = Control::new(Arc::new(context));
    control.start().await.expect("started");
    control
}

impl World {
    pub(crate) async fn new() -> Self {
        let dir = tempfile::tempdir().expect("temp dir");
        let directory = Directory::at(dir.path());
        let control = open(&directory).await;
        let token = Self::log_in(&control, "https://management.azure.com/.default");
        Self { control, token, directory, dir }
    }

    /// The same region, opened anew.
    pub(crate) async fn restart(self) -> Self {
        let Self { control, token, directory, dir } = self;
        // Operations that still run hold the store, as they would until a crash ends them.
        while Arc::strong_count(control.context()) > 1 {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        drop(control);
        let control = open(&directory).await;
        Self { control, token, directory, dir }
    }

    pub(crate) fn context(&self) -> &Arc<Context> {
        self.control.context()
    }

    fn log_in(control: &Control, scope: &str) -> String {
        let context = control.context();
        let deployer = context.identity.deployer();
        let body = form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", "client_credentials")
            .append_pair("client_id", &deployer.client_id)
            .append_pair("client_secret", &deployer.client_secret)
            .append_pair("scope", scope)
            .finish();
        let path = format!("/{}/oauth2/v2.0/token", context.tenancy.tenant_id);
        let (status, answer) =
            entra::answer(&context.identity, &Method::POST, &path, "", body.as_bytes());
        assert_eq!(status, StatusCode::OK, "{answer}");
        answer["access_token"].as_str().expect("a token").to_owned()
    }

    /// The deployer's token for something else.
    pub(crate) fn token_for(&self, scope: &str) -> String {
        Self::log_in(&self.control, scope)
    }

    /// `/subscriptions/{id}` and what follows.
    pub(crate) fn path(&self, rest: &str) -> String {
        format!("/subscriptions/{}{rest}", self.context().tenancy.subscription_id)
    }

    /// A resource in the group `rg`.
    pub(crate) fn id(&self, rest: &str) -> ResourceId {
        ResourceId::parse(&self.path(&format!("/resourceGroups/rg{rest}"))).expect("an ID")
    }

    pub(crate) async fn send(&self, request: Request<Bytes>) -> Answer {
        let response = self.control.handle(request).await;
        let (parts, body) = response.into_parts();
        let body = if body.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&body).expect("JSON")
        };
        Answer { status: parts.status, headers: parts.headers, body }
    }

    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        version: &str,
        body: Option<Value>,
    ) -> Answer {
        let glue = if path.contains('?') { '&' } else { '?' };
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{path}{glue}api-version={version}"))
            .header("authorization", format!("Bearer {}", self.token));
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let bytes = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        self.send(request.body(bytes).expect("a request")).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, "2024-01-01", None).await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> Answer {
        self.call(Method::PUT, path, "2024-01-01", Some(body)).await
    }

    pub(crate) async fn patch(&self, path: &str, body: Value) -> Answer {
        self.call(Method::PATCH, path, "2024-01-01", Some(body)).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.call(Method::POST, path, "2024-01-01", Some(body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.call(Method::DELETE, path, "2024-01-01", None).await
    }

    /// The resource group `rg` in `westeurope`.
    pub(crate) async fn group(&self) {
        self.put(&self.path("/resourceGroups/rg"), json!({ "location": "West Europe" }))
            .await
            .expect(201);
    }

    /// Polls what the answer points to until it ends; the last answer.
    pub(crate) async fn finish(&self, answer: &Answer) -> Answer {
        let address = answer
            .header("azure-asyncoperation")
            .or_else(|| answer.header("location"))
            .expect("an operation's address");
        let path = address.strip_prefix("https://management.azure.com").expect("our host");
        loop {
            let request = Request::builder()
                .uri(path)
                .header("authorization", format!("Bearer {}", self.token))
                .body(Bytes::new())
                .expect("a request");
            let poll = self.send(request).await;
            if poll.status != StatusCode::ACCEPTED && poll.body["status"] != "InProgress" {
                return poll;
            }
        }
    }
}
