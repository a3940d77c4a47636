//! The Instance Metadata Service of the machine in the VNet that people and agents work on, which is
//! where `lazuli run --inside` is: tokens of user-assigned identities.
//!
//! <https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token>
//!
//! The region has no virtual machines to assign identities to. That one machine has every user-assigned
//! identity of the region; whoever is on it holds the deployer's secret anyway. Instances of App Service
//! have their own endpoint ([`super::msi`]) and get nothing here.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use http::{HeaderMap, StatusCode, Uri};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::Identity;
use super::token::Audience;

/// Where the service listens inside the region, on every machine of Azure's.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
/// Its port.
pub const PORT: u16 = 80;
/// The type of the identities that the machine has.
const KIND: &str = "Microsoft.ManagedIdentity/userAssignedIdentities";

/// Serves it on `listener`, until the task is dropped.
pub async fn serve(identity: Arc<Identity>, listener: TcpListener) {
    super::endpoint::serve("the metadata service", listener, move |uri, headers, peer| {
        answer(&identity, uri, headers, peer)
    })
    .await;
}

/// Answers a request from `peer`.
pub fn answer(
    identity: &Identity,
    uri: &Uri,
    headers: &HeaderMap,
    peer: IpAddr,
) -> (StatusCode, Value) {
    let refuse = |status, error: &str, description: &str| {
        (status, json!({ "error": error, "error_description": description }))
    };
    let invalid =
        |description: &str| refuse(StatusCode::BAD_REQUEST, "invalid_request", description);
    // The machine reaches its own address from that address; a sandbox has one of its own.
    if peer != IpAddr::V4(ADDRESS) {
        return refuse(
            StatusCode::FORBIDDEN,
            "forbidden",
            "An App Service instance has no metadata service: its tokens are at IDENTITY_ENDPOINT.",
        );
    }
    if headers.get("metadata").is_none_or(|value| !value.as_bytes().eq_ignore_ascii_case(b"true")) {
        return invalid("Required metadata header not specified");
    }
    // What came through a proxy may be somebody else's request.
    if headers.contains_key("x-forwarded-for") {
        return invalid("X-Forwarded-For is not allowed");
    }
    if uri.path().trim_end_matches('/') != "/metadata/identity/oauth2/token" {
        return refuse(StatusCode::NOT_FOUND, "Not found", "This machine gives out tokens alone.");
    }
    let query = super::entra::pairs(uri.query().unwrap_or_default());
    let field = |name: &str| query.get(name).map(String::as_str).filter(|value| !value.is_empty());
    let version = field("api-version").unwrap_or_default();
    if version.parse::<jiff::civil::Date>().is_err() || version < "2018-02-01" {
        return invalid("Missing or unsupported api-version; 2018-02-01 is supported");
    }
    let Some(resource) = field("resource") else {
        return invalid("The required resource parameter is missing");
    };
    if Audience::of(resource).is_none() {
        return refuse(
            StatusCode::BAD_REQUEST,
            "invalid_resource",
            &format!(
                "AADSTS500011: The resource principal named {resource} was not found in the tenant."
            ),
        );
    }
    let names: Vec<&str> = ["client_id", "object_id", "principal_id", "msi_res_id", "mi_res_id"]
        .into_iter()
        .filter_map(field)
        .collect();
    let assigned = identity.user_assigned();
    let mut fitting =
        assigned.iter().filter(|id| names.iter().all(|name| identity.is_called(id, name)));
    let (principal, more) = (fitting.next(), fitting.next());
    let Some(principal) = principal else { return invalid("Identity not found") };
    if more.is_some() {
        return invalid(
            "Multiple user assigned identities exist, please specify the clientId / resourceId of the identity in the token request",
        );
    }
    match identity.managed_token(principal, resource) {
        Ok(Some((token, client_id))) => {
            let now = jiff::Timestamp::now().as_second();
            (
                StatusCode::OK,
                json!({
                    "access_token": token.text,
                    "client_id": client_id,
                    "expires_in": (token.expires_on - now).to_string(),
                    "expires_on": token.expires_on.to_string(),
                    "ext_expires_in": (token.expires_on - now).to_string(),
                    "not_before": (token.expires_on - token.expires_in).to_string(),
                    "resource": resource,
                    "token_type": "Bearer",
                }),
            )
        }
        Ok(None) => invalid("Identity not found"),
        Err(error) => {
            tracing::error!(%error, "cannot issue a managed identity's token");
            refuse(
                StatusCode::INTERNAL_SERVER_ERROR,
                "unknown_error",
                "The token could not be issued.",
            )
        }
    }
}

impl Identity {
    /// The object IDs of all user-assigned identities.
    fn user_assigned(&self) -> Vec<String> {
        let is = |id: &str| lazuli_azure::ResourceId::parse(id).is_ok_and(|id| id.is(KIND));
        self.principals()
            .into_iter()
            .filter(|one| one.resource.as_deref().is_some_and(is))
            .map(|one| one.id)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use lazuli_azure::ResourceId;

    use super::super::tests::{identity, site};
    use super::*;

    const MACHINE: IpAddr = IpAddr::V4(ADDRESS);
    const GOOD: &str =
        "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https://vault.azure.net";

    fn assigned(name: &str) -> ResourceId {
        ResourceId::parse(&format!("/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg/providers/{KIND}/{name}")).expect("an ID")
    }

    fn ask(identity: &Identity, uri: &str, peer: IpAddr) -> (StatusCode, Value) {
        let mut headers = HeaderMap::new();
        headers.insert("Metadata", "true".parse().expect("a value"));
        answer(identity, &uri.parse().expect("a URI"), &headers, peer)
    }

    #[tokio::test]
    async fn the_one_identity_needs_no_name_and_one_of_two_does() {
        let identity = identity().await;
        identity.create_identity(&site()).await.expect("a site's own");
        assert_eq!(ask(&identity, GOOD, MACHINE).1["error_description"], "Identity not found");
        let runner = identity.create_identity(&assigned("runner")).await.expect("created");
        let (status, got) = ask(&identity, GOOD, MACHINE);
        assert_eq!(status, StatusCode::OK, "{got}");
        assert_eq!(got["client_id"], runner.client_id);
        identity.create_identity(&assigned("other")).await.expect("created");
        let (status, got) = ask(&identity, GOOD, MACHINE);
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(got["error_description"].as_str().expect("text").starts_with("Multiple"), "{got}");
        for name in [
            format!("client_id={}", runner.client_id),
            format!("object_id={}", runner.principal_id),
            format!("msi_res_id={}", assigned("RUNNER")),
        ] {
            let (status, got) = ask(&identity, &format!("{GOOD}&{name}"), MACHINE);
            assert_eq!((status, &got["client_id"]), (StatusCode::OK, &json!(runner.client_id)));
        }
        let (_, got) = ask(&identity, &format!("{GOOD}&client_id=nobody"), MACHINE);
        assert_eq!(got["error_description"], "Identity not found");
    }

    #[tokio::test]
    async fn nobody_gets_a_token_who_is_elsewhere_or_asks_wrongly() {
        let identity = identity().await;
        identity.create_identity(&assigned("runner")).await.expect("created");
        let instance = "10.0.1.7".parse().expect("an address");
        assert_eq!(ask(&identity, GOOD, instance).0, StatusCode::FORBIDDEN);
        let uri = GOOD.parse().expect("a URI");
        assert_eq!(answer(&identity, &uri, &HeaderMap::new(), MACHINE).0, StatusCode::BAD_REQUEST);
        for wrong in [
            GOOD.replace("api-version=2018-02-01&", ""),
            GOOD.replace("2018-02-01", "yesterday"),
            GOOD.replace("https://vault.azure.net", "https://example.org"),
            GOOD.replace("&resource=https://vault.azure.net", ""),
        ] {
            assert_eq!(ask(&identity, &wrong, MACHINE).0, StatusCode::BAD_REQUEST, "{wrong}");
        }
    }
}
