//! Long-running operations.
//!
//! <https://learn.microsoft.com/azure/azure-resource-manager/management/async-operations>:
//! `Azure-AsyncOperation` names a status to poll, `Location` an answer that is 202 until it is
//! there, and a resource may say in `provisioningState` that it is not ready.

use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use serde_json::Value;

use crate::client::{Answer, Client, MANAGEMENT_SCOPE, Request};
use crate::retry::{look_again, retry_after};
use crate::{Error, Refusal};

/// How long an operation may take in all. The longest the standard needs is a server with a
/// standby in another zone.
const LIMIT: Duration = Duration::from_secs(3600);
/// The first poll comes soon, whatever `Retry-After` says: much is done at once.
const FIRST: Duration = Duration::from_millis(100);
/// The longest pause of our own choosing, when the server asks for none.
const LONGEST: Duration = Duration::from_secs(10);

enum Outcome {
    Running,
    Done,
    Failed,
}

fn outcome(state: &str) -> Outcome {
    match state.to_ascii_lowercase().as_str() {
        "succeeded" | "success" | "ready" => Outcome::Done,
        "failed" | "canceled" | "cancelled" => Outcome::Failed,
        _ => Outcome::Running,
    }
}

/// Sends a writing request and waits until what it started has ended.
pub(crate) async fn run(client: &Client, request: Request) -> Result<Value, Error> {
    let answer = client.send(&request).await?;
    let mut pace = Pace::new(&request);
    let location = answer.header("location").map(str::to_owned);

    if let Some(address) = answer.header("azure-asyncoperation") {
        let poll = Request::new(Method::GET, client.own(address)?, MANAGEMENT_SCOPE);
        loop {
            pace.wait().await?;
            let answer = client.send(&poll).await?;
            pace.heard(&answer);
            let status = answer.json()?;
            let state = status.get("status").and_then(Value::as_str).unwrap_or_default();
            match outcome(state) {
                Outcome::Running => {}
                Outcome::Failed => return Err(failed(&request, &answer, state, &status)),
                Outcome::Done => break,
            }
        }
        return match request.method {
            Method::PUT | Method::PATCH => read(client, &request).await,
            Method::POST => match location {
                Some(location) => {
                    let url = client.own(&location)?;
                    client.send(&Request::new(Method::GET, url, MANAGEMENT_SCOPE)).await?.json()
                }
                None => Ok(Value::Null),
            },
            _ => Ok(Value::Null),
        };
    }

    if answer.status == StatusCode::ACCEPTED
        && let Some(location) = location
    {
        let mut poll = Request::new(Method::GET, client.own(&location)?, MANAGEMENT_SCOPE);
        loop {
            pace.wait().await?;
            let answer = client.send(&poll).await?;
            pace.heard(&answer);
            if answer.status != StatusCode::ACCEPTED {
                return match request.method {
                    Method::PUT | Method::PATCH => read(client, &request).await,
                    _ => answer.json(),
                };
            }
            // Some services move the address from poll to poll.
            if let Some(next) = answer.header("location") {
                poll.url = client.own(next)?;
            }
        }
    }

    let mut value = answer.json()?;
    if !matches!(request.method, Method::PUT | Method::PATCH) {
        return Ok(value);
    }
    loop {
        let state = value.pointer("/properties/provisioningState").and_then(Value::as_str);
        match state.map(|s| (s, outcome(s))) {
            None | Some((_, Outcome::Done)) => return Ok(value),
            Some((state, Outcome::Failed)) => {
                let state = state.to_owned();
                return Err(failed(&request, &answer, &state, &value));
            }
            Some((_, Outcome::Running)) => {
                pace.wait().await?;
                value = read(client, &request).await?;
            }
        }
    }
}

/// Sends a request that starts something and returns the operation's address, or `None` when there
/// is nothing to wait for. Whoever has the address can wait for it, also after a crash.
pub(crate) async fn begin(client: &Client, request: &Request) -> Result<Option<String>, Error> {
    let answer = client.send(request).await?;
    let address = answer.header("azure-asyncoperation").or_else(|| {
        (answer.status == StatusCode::ACCEPTED).then(|| answer.header("location")).flatten()
    });
    address.map(|address| client.own(address)).transpose()
}

/// Waits for the operation at `address`, of either kind.
pub(crate) async fn wait(client: &Client, address: &str) -> Result<(), Error> {
    let mut poll = Request::new(Method::GET, client.own(address)?, MANAGEMENT_SCOPE);
    let mut pace = Pace::new(&poll);
    loop {
        let answer = client.send(&poll).await?;
        pace.heard(&answer);
        if answer.status == StatusCode::ACCEPTED {
            if let Some(next) = answer.header("location") {
                poll.url = client.own(next)?;
            }
        } else {
            // `Location` answers with the result, which need not be JSON and has no `status`.
            let status = answer.json().unwrap_or_default();
            let state = status.get("status").and_then(Value::as_str);
            match state.map(|state| (state, outcome(state))) {
                None | Some((_, Outcome::Done)) => return Ok(()),
                Some((state, Outcome::Failed)) => {
                    return Err(failed(&poll, &answer, state, &status));
                }
                Some((_, Outcome::Running)) => {}
            }
        }
        pace.wait().await?;
    }
}

async fn read(client: &Client, request: &Request) -> Result<Value, Error> {
    client.send(&Request::new(Method::GET, request.url.clone(), MANAGEMENT_SCOPE)).await?.json()
}

fn failed(request: &Request, answer: &Answer, state: &str, status: &Value) -> Error {
    let mut refusal = Refusal {
        method: request.method.clone(),
        url: request.place(),
        status: StatusCode::OK,
        code: String::new(),
        message: String::new(),
        details: Vec::new(),
        request_id: answer.header("x-ms-request-id").map(str::to_owned),
    };
    refusal.read(status);
    if refusal.code.is_empty() && refusal.message.is_empty() {
        state.clone_into(&mut refusal.code);
        "the operation ended without a reason".clone_into(&mut refusal.message);
    }
    Error::Refused(Box::new(refusal))
}

/// How often to poll.
struct Pace {
    what: String,
    began: Instant,
    asked: Option<Duration>,
}

impl Pace {
    fn new(request: &Request) -> Self {
        let what = format!("{} {}", request.method, request.place());
        Self { what, began: Instant::now(), asked: None }
    }

    fn heard(&mut self, answer: &Answer) {
        self.asked = retry_after(&answer.headers);
    }

    async fn wait(&mut self) -> Result<(), Error> {
        if self.began.elapsed() > LIMIT {
            return Err(Error::Timeout { what: self.what.clone(), limit: LIMIT });
        }
        let ours = look_again(self.began.elapsed(), LONGEST);
        tokio::time::sleep(self.asked.map_or(ours, |a| a.min(LONGEST * 6).max(FIRST))).await;
        Ok(())
    }
}
