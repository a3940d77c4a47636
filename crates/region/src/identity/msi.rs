//! The managed-identity endpoint of App Service: `IDENTITY_ENDPOINT` with `X-IDENTITY-HEADER`.
//!
//! <https://learn.microsoft.com/azure/app-service/overview-managed-identity#rest-endpoint-reference>

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest;
use http::{HeaderMap, StatusCode, Uri};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::token::{self, Audience, Subject, Token};
use super::{Identity, IdentityError};

/// Where the endpoint listens inside the region.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 131, 2);
/// Its port.
pub const PORT: u16 = 8081;
/// `IDENTITY_ENDPOINT`.
pub const ENDPOINT: &str = "http://169.254.131.2:8081/msi/token";
/// The one API version the endpoint speaks.
const API_VERSION: &str = "2019-08-01";
/// A cached token is given out until so many seconds before its end.
const RENEW_BEFORE: i64 = 6 * 3600;

/// An instance's `IDENTITY_HEADER`. Its `Debug` shows nothing, and it has no `==`: whoever compares it
/// must do so in constant time, see [`Registrations`].
#[derive(Clone)]
pub struct IdentityHeader(String);

impl IdentityHeader {
    /// A new one, unguessable.
    pub fn random() -> Result<Self, IdentityError> {
        token::random_secret().map(Self)
    }

    /// The value, for the environment of the instance alone.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for IdentityHeader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("IdentityHeader(…)")
    }
}

struct Registration {
    header: Digest,
    principal_id: String,
}

/// The SHA-256 of a header: of one length whatever was sent, and what begins like the right header has
/// a digest that does not.
struct Digest(digest::Digest);

impl Digest {
    fn of(header: &str) -> Self {
        Self(digest::digest(&digest::SHA256, header.as_bytes()))
    }

    /// In constant time, by the function that aws-lc has for it. The only comparison there is.
    fn is(&self, other: &Self) -> bool {
        verify_slices_are_equal(self.0.as_ref(), other.0.as_ref()).is_ok()
    }
}

/// Which instance may ask for which identity's tokens. Kept in memory: an instance that outlives
/// core does not exist.
#[derive(Default)]
pub struct Registrations {
    /// By the instance's address, which the asker cannot choose: nothing is looked up by what was sent.
    by_address: Mutex<HashMap<IpAddr, Vec<Registration>>>,
    /// By principal and audience.
    cache: Mutex<HashMap<(String, String), Token>>,
}

impl Registrations {
    /// Lets the instance at `address`, which was given `header`, ask for the tokens of the identity
    /// `principal_id`.
    pub fn register(&self, header: &IdentityHeader, address: Ipv4Addr, principal_id: &str) {
        let header = Digest::of(&header.0);
        let registration = Registration { header, principal_id: principal_id.to_owned() };
        lock(&self.by_address).entry(address.into()).or_default().push(registration);
    }

    /// Forgets an instance.
    pub fn unregister(&self, header: &IdentityHeader) {
        let header = Digest::of(&header.0);
        lock(&self.by_address).retain(|_, all| {
            all.retain(|one| !one.header.is(&header));
            !all.is_empty()
        });
    }

    /// The header alone is not enough: it must come from the instance it was given to.
    fn find(&self, header: &str, peer: IpAddr) -> Option<String> {
        let header = Digest::of(header);
        let by_address = lock(&self.by_address);
        let all = by_address.get(&peer)?;
        all.iter().find(|one| one.header.is(&header)).map(|one| one.principal_id.clone())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Serves the endpoint on `listener`, until the task is dropped.
pub async fn serve(identity: Arc<Identity>, listener: TcpListener) {
    super::endpoint::serve("the managed-identity endpoint", listener, move |uri, headers, peer| {
        answer(&identity, uri, headers, peer)
    })
    .await;
}

/// Answers a request to the endpoint from the instance at `peer`.
pub fn answer(
    identity: &Arc<Identity>,
    uri: &Uri,
    headers: &HeaderMap,
    peer: IpAddr,
) -> (StatusCode, Value) {
    let refuse = |status: StatusCode, message: &str| {
        (status, json!({ "statusCode": status.as_u16(), "message": message }))
    };
    if uri.path() != "/msi/token" && uri.path() != "/msi/token/" {
        return refuse(StatusCode::NOT_FOUND, "Not found. The endpoint is /msi/token.");
    }
    let Some(header) = headers.get("x-identity-header").and_then(|value| value.to_str().ok())
    else {
        return refuse(StatusCode::UNAUTHORIZED, "The X-IDENTITY-HEADER header is missing.");
    };
    let Some(principal) = identity.endpoint.find(header, peer) else {
        return refuse(StatusCode::UNAUTHORIZED, "The X-IDENTITY-HEADER header is not valid.");
    };
    let query = super::entra::pairs(uri.query().unwrap_or_default());
    if query.get("api-version").map(String::as_str) != Some(API_VERSION) {
        return refuse(
            StatusCode::BAD_REQUEST,
            "The api-version is missing or not supported; this endpoint speaks 2019-08-01.",
        );
    }
    let Some(resource) = query.get("resource").filter(|resource| !resource.is_empty()) else {
        return refuse(StatusCode::BAD_REQUEST, "The resource parameter is missing.");
    };
    if ["client_id", "clientid", "principal_id", "object_id", "mi_res_id"]
        .iter()
        .any(|name| query.get(*name).is_some_and(|value| !identity.is_called(&principal, value)))
    {
        return refuse(
            StatusCode::BAD_REQUEST,
            "No User Assigned or Delegated Managed Identity found for specified ClientId/ResourceId/PrincipalId.",
        );
    }
    if Audience::of(resource).is_none() {
        return refuse(
            StatusCode::BAD_REQUEST,
            &format!(
                "AADSTS500011: The resource principal named {resource} was not found in the tenant."
            ),
        );
    }
    match identity.managed_token(&principal, resource) {
        Ok(Some((token, client_id))) => (
            StatusCode::OK,
            json!({
                "access_token": token.text,
                "expires_on": token.expires_on.to_string(),
                "resource": resource,
                "token_type": "Bearer",
                "client_id": client_id,
            }),
        ),
        Ok(None) => refuse(StatusCode::BAD_REQUEST, "No managed identity is found for this app."),
        Err(error) => {
            tracing::error!(%error, "cannot issue a managed identity's token");
            refuse(StatusCode::INTERNAL_SERVER_ERROR, "The token could not be issued.")
        }
    }
}

impl Identity {
    pub(super) fn is_called(&self, principal: &str, name: &str) -> bool {
        principal.eq_ignore_ascii_case(name)
            || self.record(principal).is_some_and(|record| {
                record.client_id.eq_ignore_ascii_case(name)
                    || record.resource.is_some_and(|id| id.eq_ignore_ascii_case(name))
            })
    }

    /// A token of a managed identity and its client ID; from the cache while it lives long enough,
    /// as in Azure.
    pub(super) fn managed_token(
        &self,
        principal: &str,
        resource: &str,
    ) -> Result<Option<(Token, String)>, IdentityError> {
        let Some(record) = self.record(principal) else { return Ok(None) };
        let key = (principal.to_owned(), resource.to_owned());
        let now = jiff::Timestamp::now().as_second();
        if let Some(token) = lock(&self.endpoint.cache).get(&key)
            && token.expires_on - now > RENEW_BEFORE
        {
            return Ok(Some((token.clone(), record.client_id)));
        }
        let subject = Subject {
            tenant: self.tenant_id(),
            object_id: principal,
            client_id: &record.client_id,
            resource: record.resource.as_deref(),
            user: None,
        };
        let token = self.tokens.issue(&subject, resource, token::MANAGED_LIFETIME)?;
        lock(&self.endpoint.cache).insert(key, token.clone());
        Ok(Some((token, record.client_id)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{identity, site};
    use super::*;

    const INSTANCE: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 7);
    const GOOD: &str = "/msi/token?api-version=2019-08-01&resource=https://vault.azure.net";

    async fn ask(header: Option<&str>, uri: &str, peer: Ipv4Addr) -> (StatusCode, Value) {
        let identity = identity().await;
        let assigned = identity.create_identity(&site()).await.expect("an identity");
        let known = IdentityHeader::random().expect("random");
        identity.endpoint().register(&known, INSTANCE, &assigned.principal_id);
        let mut headers = HeaderMap::new();
        if let Some(header) = header {
            let header = header.replace("KNOWN", known.expose());
            headers.insert("x-identity-header", header.parse().expect("a header"));
        }
        let uri = uri.replace("CLIENT", &assigned.client_id);
        answer(&identity, &uri.parse().expect("a URI"), &headers, IpAddr::V4(peer))
    }

    #[tokio::test]
    async fn an_instance_gets_its_own_identitys_token() {
        let (status, answer) = ask(Some("KNOWN"), GOOD, INSTANCE).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        assert_eq!(answer["resource"], "https://vault.azure.net");
        let uri = format!("{GOOD}&client_id=CLIENT");
        assert_eq!(ask(Some("KNOWN"), &uri, INSTANCE).await.0, StatusCode::OK);
    }

    #[tokio::test]
    async fn nobody_else_gets_it() {
        let elsewhere = Ipv4Addr::new(10, 0, 1, 8);
        for (header, peer) in
            [(None, INSTANCE), (Some("guess"), INSTANCE), (Some("KNOWN"), elsewhere)]
        {
            let (status, answer) = ask(header, GOOD, peer).await;
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{header:?} {answer}");
            assert!(answer.get("access_token").is_none());
        }
    }

    /// `true` for a type without `==`: the inherent constant is there only where the type has it.
    struct Compared<T>(std::marker::PhantomData<T>);
    trait Otherwise {
        const BY_EQUALS: bool = false;
    }
    impl<T> Otherwise for Compared<T> {}
    #[expect(dead_code, reason = "that it is not found is what the test is about")]
    impl<T: PartialEq> Compared<T> {
        const BY_EQUALS: bool = true;
    }

    #[test]
    fn a_header_is_compared_in_constant_time_and_in_no_other_way() {
        // `==` would end at the first byte that differs. Neither the header nor its digest has it, and
        // `Digest`'s content is private to this module, whose one comparison is `Digest::is`.
        const { assert!(!Compared::<IdentityHeader>::BY_EQUALS) };
        const { assert!(!Compared::<Digest>::BY_EQUALS) };
        let source = include_str!("msi.rs");
        let code = source.split("#[cfg(test)]").next().expect("code");
        assert_eq!(code.matches("verify_slices_are_equal(").count(), 1);
        let digest = Digest::of("the header");
        assert!(digest.is(&Digest::of("the header")));
        for wrong in ["", "the heade", "the headeR", "The header", "the header "] {
            assert!(!digest.is(&Digest::of(wrong)), "{wrong}");
        }
    }

    #[tokio::test]
    async fn an_instance_that_ended_is_forgotten_and_its_address_given_to_another() {
        let registrations = Registrations::default();
        let [one, two] = [(); 2].map(|()| IdentityHeader::random().expect("random"));
        registrations.register(&one, INSTANCE, "first");
        registrations.unregister(&one);
        assert_eq!(registrations.find(one.expose(), INSTANCE.into()), None);
        registrations.register(&two, INSTANCE, "second");
        assert_eq!(registrations.find(two.expose(), INSTANCE.into()).as_deref(), Some("second"));
        assert_eq!(registrations.find(one.expose(), INSTANCE.into()), None);
    }

    #[tokio::test]
    async fn a_bad_request_is_told_so() {
        for uri in [
            "/msi/token?resource=https://vault.azure.net",
            "/msi/token?api-version=2019-08-01",
            "/msi/token?api-version=2019-08-01&resource=https://example.org",
            "/msi/token?api-version=2019-08-01&resource=https://vault.azure.net&client_id=other",
        ] {
            assert_eq!(ask(Some("KNOWN"), uri, INSTANCE).await.0, StatusCode::BAD_REQUEST, "{uri}");
        }
    }
}
