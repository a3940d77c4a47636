//! App Service in a real region: its traits, answered by the gateway, Entra ID, RBAC and the seal.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use lazuli_gateway::{Gateway, Instance};

use super::records::{Seal, resource_id};
use super::sandbox::Surroundings;
use super::site::SlotKey;
use super::{Authorize, Denied, RouteChange, Routes};
use crate::control::authorization::{Permission, allowed};
use crate::identity::Identity;
use crate::identity::imds;
use crate::identity::msi::{self, IdentityHeader};
use crate::identity::token::Audience;
use crate::names::Names;
use crate::seal::Sealer;
use crate::store::Store;

/// Where sandboxes find the region's proxy: the address that `HTTPS_PROXY` names.
pub const PROXY: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 0, 1, 1), 3128);

/// What leads a program inside the VNet to the rest of the world: the region's proxy, but for the private
/// `names`, which are reached directly, over the network that it is in.
pub fn proxied(names: impl IntoIterator<Item = String>) -> Vec<(&'static str, String)> {
    let proxy = format!("http://{}:{}", PROXY.0, PROXY.1);
    let mut direct = vec!["localhost".to_owned(), "127.0.0.1".into()];
    direct.extend([msi::ADDRESS.to_string(), imds::ADDRESS.to_string()]);
    direct.extend(names);
    direct.dedup();
    let direct = direct.join(",");
    vec![
        ("HTTPS_PROXY", proxy.clone()),
        ("https_proxy", proxy.clone()),
        ("HTTP_PROXY", proxy.clone()),
        ("http_proxy", proxy),
        ("NO_PROXY", direct.clone()),
        ("no_proxy", direct),
    ]
}

/// The gateway's table.
pub struct Front(pub Arc<Gateway>);

impl Routes for Front {
    fn update(&self, changes: Vec<RouteChange>) {
        self.0.update(|table| {
            for RouteChange { host, target, certificate } in &changes {
                match target {
                    Some(target) => {
                        table.insert(host, target.clone());
                        table.certify(host, certificate.clone());
                    }
                    None => {
                        table.remove(host);
                    }
                }
            }
        });
    }

    fn drained(&self, instance: Arc<Instance>) -> BoxFuture<'static, ()> {
        let gateway = self.0.clone();
        Box::pin(async move { gateway.drained(&instance).await })
    }
}

/// SCM is for whoever may publish to the slot, by RBAC.
pub struct Rbac {
    /// Verifies tokens.
    pub identity: Arc<Identity>,
    /// Role assignments.
    pub store: Store,
}

impl Authorize for Rbac {
    fn bearer(&self, token: &str, slot: &SlotKey) -> Result<String, Denied> {
        let principal = [Audience::AppService, Audience::ResourceManager]
            .into_iter()
            .find_map(|audience| self.identity.verify(token, audience).ok())
            .ok_or(Denied::Unauthenticated)?;
        let scope = resource_id(slot).map_err(|_| Denied::Forbidden)?;
        // What Kudu asks for: learn.microsoft.com/azure/app-service/resources-kudu#rbac-permissions-required-to-access-kudu
        let permission = Permission::Action("Microsoft.Web/sites/publish/action");
        if allowed(&self.store, &principal.object_id, permission, &scope) {
            Ok(principal.app_id)
        } else {
            Err(Denied::Forbidden)
        }
    }
}

impl Seal for Sealer {
    fn seal(&self, place: &str, plain: &[u8]) -> Result<Vec<u8>, String> {
        Ok(Sealer::seal(self, place, plain))
    }

    fn open(&self, place: &str, sealed: &[u8]) -> Result<Vec<u8>, String> {
        self.open_sealed(place, sealed)
            .map(|plain| plain.to_vec())
            .map_err(|error| error.to_string())
    }
}

/// What sandboxes find around them.
pub struct Region {
    /// Private names.
    pub names: Names,
    /// Identities of instances.
    pub identity: Arc<Identity>,
    /// System roots and the region's CA.
    pub ca_bundle: PathBuf,
}

impl Surroundings for Region {
    fn hosts(&self) -> Vec<(Ipv4Addr, String)> {
        self.names.hosts()
    }

    fn ca_bundle(&self) -> Option<PathBuf> {
        Some(self.ca_bundle.clone())
    }

    fn environment(&self) -> Vec<(&'static str, String)> {
        // The bundle is mounted where the distribution has its own, so these name that path.
        const BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";
        let mut variables = proxied(self.names.hosts().into_iter().map(|(_, name)| name));
        variables.extend([
            ("SSL_CERT_FILE", BUNDLE.to_owned()),
            ("REQUESTS_CA_BUNDLE", BUNDLE.to_owned()),
            ("CURL_CA_BUNDLE", BUNDLE.to_owned()),
            ("NODE_EXTRA_CA_CERTS", BUNDLE.to_owned()),
        ]);
        variables
    }

    fn identity(&self, principal: &str, address: Ipv4Addr) -> Option<(String, IdentityHeader)> {
        match IdentityHeader::random() {
            Ok(header) => {
                self.identity.endpoint().register(&header, address, principal);
                Some((msi::ENDPOINT.to_owned(), header))
            }
            Err(error) => {
                tracing::error!(%error, "an instance gets no managed identity");
                None
            }
        }
    }

    fn forget_identity(&self, header: &IdentityHeader) {
        self.identity.endpoint().unregister(header);
    }
}
