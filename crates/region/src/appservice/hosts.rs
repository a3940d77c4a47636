//! Host names of a site's own: which there are, with which certificate, and what of it is in the front
//! end's table (<https://learn.microsoft.com/azure/app-service/app-service-web-tutorial-custom-domain>).
//!
//! A binding is a resource below its site or slot, so it stays with the slot in a swap. A certificate's
//! private part is sealed private state beside its resource.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, PoisonError};

use lazuli_azure::ResourceId;
use lazuli_gateway::{Certificate, Target};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::records::{RecordError, Records, resource_id};
use super::site::SlotKey;
use super::{AppService, RouteChange};
use crate::certificate::{Bundle, Facts, PrivateKey};
use crate::identity::token::{base64, unbase64};
use crate::store::{Batch, Resource, Store};

/// The type of a site's host name.
pub const SITE_BINDING: &str = "Microsoft.Web/sites/hostNameBindings";
/// The type of a slot's host name.
pub const SLOT_BINDING: &str = "Microsoft.Web/sites/slots/hostNameBindings";
/// The type of a certificate.
pub const CERTIFICATE: &str = "Microsoft.Web/certificates";
/// A certificate's key → its private part, sealed.
const PRIVATE: &str = "web.certificates";

/// What the front end's table has of host names of sites' own, and certificates that are ready.
#[derive(Default)]
pub(super) struct Hosts {
    published: HashMap<SlotKey, BTreeSet<String>>,
    /// Bindings that are being deleted: still in the store, no longer to be routed.
    released: HashSet<String>,
    /// By thumbprint, which names the content.
    ready: HashMap<String, Certificate>,
}

#[derive(Serialize, Deserialize)]
struct Private {
    /// DER, base64.
    chain: Vec<String>,
    /// PKCS #8, base64.
    key: String,
}

/// Every binding in the store.
pub fn bindings(store: &Store) -> Vec<Arc<Resource>> {
    let mut all = store.list(SITE_BINDING, &ResourceId::root());
    all.extend(store.list(SLOT_BINDING, &ResourceId::root()));
    all
}

/// The bindings of one site (its production slot) or slot.
pub fn bindings_of(store: &Store, slot: &ResourceId) -> Vec<Arc<Resource>> {
    let kind = if slot.is(super::records::SLOT_KIND) { SLOT_BINDING } else { SITE_BINDING };
    let mut all = store.list(kind, slot);
    all.retain(|one| one.id.parent().as_ref() == Some(slot));
    all
}

/// The thumbprint that a binding serves, when it serves one.
pub fn served(binding: &Resource) -> Option<&str> {
    let state = binding.text("/properties/sslState")?;
    (state != "Disabled").then(|| binding.text("/properties/thumbprint")).flatten()
}

/// Puts a certificate's private part into a batch.
pub fn put_private(
    records: &Records,
    batch: &mut Batch,
    id: &ResourceId,
    bundle: &Bundle,
) -> Result<(), RecordError> {
    let private = Private {
        chain: bundle.chain.iter().map(|one| base64(one)).collect(),
        key: base64(bundle.key.pkcs8()),
    };
    let plain = Zeroizing::new(serde_json::to_vec(&private).unwrap_or_default());
    records.put_sealed(batch, PRIVATE, id.key(), &plain)
}

/// Puts the removal of a certificate's private part into a batch.
pub fn delete_private(batch: &mut Batch, id: &ResourceId) {
    batch.delete_state(PRIVATE, id.key());
}

/// A certificate of App Service's with its key.
fn private(records: &Records, id: &ResourceId) -> Option<Bundle> {
    let plain = records.sealed(PRIVATE, id.key())?;
    let private: Private = serde_json::from_slice(&plain).ok()?;
    let key = Zeroizing::new(unbase64(&private.key)?);
    Some(Bundle {
        key: PrivateKey::from_pkcs8(&key).ok()?,
        chain: private.chain.iter().map(|one| unbase64(one)).collect::<Option<_>>()?,
    })
}

impl AppService {
    fn hosts(&self) -> std::sync::MutexGuard<'_, Hosts> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What must change in the table for a slot's own host names: those that it has go to `target`, those
    /// that it has no longer go to nobody.
    pub(super) fn host_changes(&self, key: &SlotKey, target: Option<&Target>) -> Vec<RouteChange> {
        let store = self.records.store();
        let bindings = match (target, resource_id(key)) {
            (Some(_), Ok(id)) => bindings_of(store, &id),
            _ => Vec::new(),
        };
        let mut hosts = self.hosts();
        let mut changes = Vec::new();
        let mut now = BTreeSet::new();
        for binding in bindings {
            let host = binding.id.name().to_ascii_lowercase();
            if hosts.released.contains(&host) {
                continue;
            }
            let certificate =
                served(&binding).and_then(|thumbprint| self.ready(&mut hosts, thumbprint));
            changes.push(RouteChange { host: host.clone(), target: target.cloned(), certificate });
            now.insert(host);
        }
        let before = if now.is_empty() {
            hosts.published.remove(key)
        } else {
            hosts.published.insert(key.clone(), now.clone())
        };
        for host in before.unwrap_or_default().difference(&now) {
            changes.push(RouteChange { host: host.clone(), target: None, certificate: None });
        }
        changes
    }

    /// A host name is bound (again): it is routed from now on.
    pub fn bound(&self, key: &SlotKey, host: &str) {
        self.hosts().released.remove(&host.to_ascii_lowercase());
        self.publish(&key.site);
    }

    /// A binding is being deleted: its host name is nobody's from now on.
    pub fn unbound(&self, key: &SlotKey, host: &str) {
        self.hosts().released.insert(host.to_ascii_lowercase());
        self.publish(&key.site);
    }

    /// A certificate has changed: every site is routed anew.
    pub fn certificates_changed(&self) {
        self.hosts().ready.clear();
        let sites: BTreeSet<_> = self.records.all().into_iter().map(|key| key.site).collect();
        for site in sites {
            self.publish(&site);
        }
    }

    fn ready(&self, hosts: &mut Hosts, thumbprint: &str) -> Option<Certificate> {
        if let Some(ready) = hosts.ready.get(thumbprint) {
            return Some(ready.clone());
        }
        let resource = self
            .records
            .store()
            .list(CERTIFICATE, &ResourceId::root())
            .into_iter()
            .find(|one| one.text("/properties/thumbprint") == Some(thumbprint))?;
        let made = private(&self.records, &resource.id)
            .ok_or_else(|| "its private part cannot be read".to_owned())
            .and_then(|bundle| {
                let facts = Facts::of(bundle.leaf()).map_err(|error| error.to_string())?;
                let (issuer, subject) = (facts.issuer_name, facts.subject_name);
                Certificate::new(bundle.chain, bundle.key.pkcs8(), &issuer, &subject)
            });
        match made {
            Ok(certificate) => {
                hosts.ready.insert(thumbprint.to_owned(), certificate.clone());
                Some(certificate)
            }
            Err(error) => {
                tracing::error!(id = %resource.id, error, "a certificate cannot be served");
                None
            }
        }
    }
}
