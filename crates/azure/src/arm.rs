//! Resource Manager: get, put, patch, post, delete, list.
//!
//! Paths are resource IDs or anything below one (`/subscriptions/…/sites/notes/slotsswap`). The
//! writing methods wait until a long-running operation has ended and return the resource.

use std::fmt::Display;

use http::Method;
use serde_json::Value;

use crate::client::{Answer, Client, Condition, MANAGEMENT_SCOPE, Request};
use crate::{Error, operation};

/// Pages of one list; a guard against a `nextLink` that leads in a circle.
const PAGES: usize = 10_000;

impl Client {
    /// Reads a resource.
    pub async fn get(&self, path: impl Display, api_version: &str) -> Result<Value, Error> {
        self.send(&self.arm(Method::GET, path, api_version)).await?.json()
    }

    /// Reads a resource that may not be there.
    pub async fn find(
        &self,
        path: impl Display,
        api_version: &str,
    ) -> Result<Option<Value>, Error> {
        match self.get(path, api_version).await {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Creates or replaces a resource and returns it as it is when that has ended.
    pub async fn put(
        &self,
        path: impl Display,
        api_version: &str,
        body: &Value,
    ) -> Result<Value, Error> {
        operation::run(self, self.arm(Method::PUT, path, api_version).json(body)).await
    }

    /// Creates or replaces a resource if a condition holds; otherwise the answer is
    /// [412](Error::is_precondition_failed) and nothing has changed.
    pub async fn put_if(
        &self,
        path: impl Display,
        api_version: &str,
        body: &Value,
        condition: &Condition,
    ) -> Result<Value, Error> {
        let mut request = self.arm(Method::PUT, path, api_version).json(body);
        request.condition = Some(condition.header());
        tagged(&self.send(&request).await?)
    }

    /// Reads a resource that may not be there, with its `etag`, which some services give in the body and
    /// some in a header.
    pub async fn find_tagged(
        &self,
        path: impl Display,
        api_version: &str,
    ) -> Result<Option<Value>, Error> {
        match self.send(&self.arm(Method::GET, path, api_version)).await {
            Ok(answer) => tagged(&answer).map(Some),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Deletes a resource if a condition holds. One that is not there is fine.
    pub async fn delete_if(
        &self,
        path: impl Display,
        api_version: &str,
        condition: &Condition,
    ) -> Result<(), Error> {
        let mut request = self.arm(Method::DELETE, path, api_version);
        request.condition = Some(condition.header());
        match self.send(&request).await {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }

    /// Changes parts of a resource and returns it as it is when that has ended.
    pub async fn patch(
        &self,
        path: impl Display,
        api_version: &str,
        body: &Value,
    ) -> Result<Value, Error> {
        operation::run(self, self.arm(Method::PATCH, path, api_version).json(body)).await
    }

    /// Calls an action and returns what it answers when it has ended; `Null` when nothing.
    pub async fn post(
        &self,
        path: impl Display,
        api_version: &str,
        body: Option<&Value>,
    ) -> Result<Value, Error> {
        let mut request = self.arm(Method::POST, path, api_version);
        if let Some(body) = body {
            request = request.json(body);
        }
        operation::run(self, request).await
    }

    /// Starts an action and returns the address of its operation, or `None` when it ended at once.
    /// For callers that must survive their own death: [`Self::wait_operation`] takes the address.
    pub async fn begin_post(
        &self,
        path: impl Display,
        api_version: &str,
        body: Option<&Value>,
    ) -> Result<Option<String>, Error> {
        let mut request = self.arm(Method::POST, path, api_version);
        if let Some(body) = body {
            request = request.json(body);
        }
        operation::begin(self, &request).await
    }

    /// Waits until the operation at an address has ended. An operation that is long over is
    /// [not found](Error::is_not_found).
    pub async fn wait_operation(&self, address: &str) -> Result<(), Error> {
        operation::wait(self, address).await
    }

    /// Deletes a resource. One that is not there is fine.
    pub async fn delete(&self, path: impl Display, api_version: &str) -> Result<(), Error> {
        match operation::run(self, self.arm(Method::DELETE, path, api_version)).await {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }

    /// All members of a collection, over all pages.
    pub async fn list(&self, path: impl Display, api_version: &str) -> Result<Vec<Value>, Error> {
        let mut request = self.arm(Method::GET, path, api_version);
        let mut members = Vec::new();
        for _ in 0..PAGES {
            let mut page = self.send(&request).await?.json()?;
            if let Some(Value::Array(value)) = page.get_mut("value").map(Value::take) {
                members.extend(value);
            }
            match page.get("nextLink").and_then(Value::as_str).filter(|l| !l.is_empty()) {
                Some(next) => {
                    let next = self.own(next)?;
                    request = Request::new(Method::GET, next, MANAGEMENT_SCOPE);
                }
                None => return Ok(members),
            }
        }
        Err(Error::Unexpected { url: request.place(), what: format!("more than {PAGES} pages") })
    }

    fn arm(&self, method: Method, path: impl Display, api_version: &str) -> Request {
        let path = path.to_string();
        let separator = if path.contains('?') { '&' } else { '?' };
        let slash = if path.starts_with('/') { "" } else { "/" };
        let url = format!("{}{slash}{path}{separator}api-version={api_version}", self.management());
        Request::new(method, url, MANAGEMENT_SCOPE)
    }

    /// An address that an answer named, if it is Resource Manager's: a token goes nowhere else.
    pub(crate) fn own(&self, address: &str) -> Result<String, Error> {
        let management = self.management();
        if let Some(rest) = address.strip_prefix(management)
            && (rest.is_empty() || rest.starts_with(['/', '?']))
        {
            return Ok(address.to_owned());
        }
        if address.starts_with('/') && !address.starts_with("//") {
            return Ok(format!("{management}{address}"));
        }
        // Azure writes its own host in any case, and with the default port at times.
        let spelled = address.to_ascii_lowercase().replacen(":443/", "/", 1);
        if spelled.starts_with(&format!("{management}/")) {
            let path = address.splitn(4, '/').nth(3).unwrap_or_default();
            return Ok(format!("{management}/{path}"));
        }
        Err(Error::Unexpected {
            url: management.to_owned(),
            what: format!("it points to another host: {}", address.split('?').next().unwrap_or("")),
        })
    }
}

/// A resource with its `etag`.
fn tagged(answer: &Answer) -> Result<Value, Error> {
    let mut value = answer.json()?;
    if value.get("etag").and_then(Value::as_str).is_none()
        && let (Some(etag), Some(resource)) = (answer.header("etag"), value.as_object_mut())
    {
        resource.insert("etag".to_owned(), etag.into());
    }
    Ok(value)
}
