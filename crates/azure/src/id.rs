//! Resource IDs, as Resource Manager forms them.
//!
//! An ID is compared without regard to case and printed in the casing that Azure documents for
//! providers and types; names keep the casing they were given
//! (<https://learn.microsoft.com/azure/azure-resource-manager/management/resource-name-rules>).
//!
//! ```text
//! /subscriptions/{id}                                                              subscription
//! /subscriptions/{id}/resourceGroups/{name}                                        resource group
//! {scope}/providers/{namespace}/{type}/{name}[/{type}/{name}…]                     resource
//! ```
//! A scope is the tenant (`/`), a subscription, a resource group, or another resource (the resource
//! is then an *extension*, such as a role assignment on a vault).

use std::{
    collections::HashMap,
    fmt,
    hash::{Hash, Hasher},
    str::FromStr,
    sync::{Arc, LazyLock},
};

/// The longest ID that is accepted, in bytes.
pub const MAX_LENGTH: usize = 2048;
/// The longest segment that is accepted, in bytes (Azure's longest resource name has 260 characters).
pub const MAX_SEGMENT: usize = 260;
/// The most segments that are accepted.
const MAX_SEGMENTS: usize = 40;

/// Why a text is not a resource ID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// An ID begins with a slash.
    #[error("a resource ID begins with '/'")]
    NotAbsolute,
    /// Longer than [`MAX_LENGTH`], or too many segments.
    #[error("the resource ID is too long")]
    TooLong,
    /// A segment is empty, too long, or holds a character that no name may hold.
    #[error("the segment '{0}' of the resource ID is invalid")]
    Segment(String),
    /// The segments do not form a scope followed by `providers/…` pairs.
    #[error("the resource ID is incomplete or malformed at '{0}'")]
    Shape(String),
}

/// The ID of a tenant (`/`), subscription, resource group or resource. Cheap to clone.
#[derive(Clone)]
pub struct ResourceId(Arc<Inner>);

struct Inner {
    /// Canonical casing.
    text: String,
    /// The same in ASCII lower case: same offsets, compared and hashed.
    key: String,
    /// Canonical type, `Microsoft.Web/sites/slots`.
    kind: String,
    /// Where each level ends in `text`, from the outermost (subscription) to this one.
    ends: Vec<u16>,
    /// Where the last `providers/{namespace}` begins, if the last level is a provider's resource.
    provider: Option<u16>,
}

/// Known types in the casing that Azure documents. Everything unlisted keeps the casing it came in.
const KNOWN: &[&str] = &[
    "Microsoft.Authorization/locks",
    "Microsoft.Authorization/permissions",
    "Microsoft.Authorization/providerOperations",
    "Microsoft.Authorization/roleAssignments",
    "Microsoft.Authorization/roleDefinitions",
    "Microsoft.Cache/locations",
    "Microsoft.Cache/redis/accessPolicies",
    "Microsoft.Cache/redis/accessPolicyAssignments",
    "Microsoft.Cache/redis/firewallRules",
    "Microsoft.Cache/redis/linkedServers",
    "Microsoft.Cache/redis/patchSchedules",
    "Microsoft.Cache/redis/privateEndpointConnections",
    "Microsoft.Cache/redisEnterprise/databases/accessPolicyAssignments",
    "Microsoft.CognitiveServices/accounts/deployments",
    "Microsoft.Consumption/budgets",
    "Microsoft.DBforPostgreSQL/flexibleServers/administrators",
    "Microsoft.DBforPostgreSQL/flexibleServers/backups",
    "Microsoft.DBforPostgreSQL/flexibleServers/configurations",
    "Microsoft.DBforPostgreSQL/flexibleServers/databases",
    "Microsoft.DBforPostgreSQL/flexibleServers/firewallRules",
    "Microsoft.DBforPostgreSQL/flexibleServers/virtualEndpoints",
    "Microsoft.DBforPostgreSQL/locations/azureAsyncOperation",
    "Microsoft.DBforPostgreSQL/locations/capabilities",
    "Microsoft.DBforPostgreSQL/locations/operationResults",
    "Microsoft.DBforPostgreSQL/locations/operationStatuses",
    "Microsoft.Insights/actionGroups",
    "Microsoft.Insights/activityLogAlerts",
    "Microsoft.Insights/autoscaleSettings",
    "Microsoft.Insights/components/currentBillingFeatures",
    "Microsoft.Insights/diagnosticSettings",
    "Microsoft.Insights/diagnosticSettingsCategories",
    "Microsoft.Insights/metricAlerts",
    "Microsoft.Insights/metricDefinitions",
    "Microsoft.Insights/metrics",
    "Microsoft.Insights/scheduledQueryRules",
    "Microsoft.Insights/webTests",
    "Microsoft.KeyVault/deletedVaults",
    "Microsoft.KeyVault/locations/deletedVaults",
    "Microsoft.KeyVault/locations/operationResults",
    "Microsoft.KeyVault/vaults/accessPolicies",
    "Microsoft.KeyVault/vaults/keys",
    "Microsoft.KeyVault/vaults/privateEndpointConnections",
    "Microsoft.KeyVault/vaults/privateLinkResources",
    "Microsoft.KeyVault/vaults/secrets",
    "Microsoft.ManagedIdentity/identities",
    "Microsoft.ManagedIdentity/userAssignedIdentities/federatedIdentityCredentials",
    "Microsoft.Network/locations/operationResults",
    "Microsoft.Network/locations/operations",
    "Microsoft.Network/networkInterfaces",
    "Microsoft.Network/networkSecurityGroups/defaultSecurityRules",
    "Microsoft.Network/networkSecurityGroups/securityRules",
    "Microsoft.Network/privateDnsOperationStatuses",
    "Microsoft.Network/privateDnsZones/A",
    "Microsoft.Network/privateDnsZones/AAAA",
    "Microsoft.Network/privateDnsZones/ALL",
    "Microsoft.Network/privateDnsZones/CNAME",
    "Microsoft.Network/privateDnsZones/MX",
    "Microsoft.Network/privateDnsZones/PTR",
    "Microsoft.Network/privateDnsZones/SOA",
    "Microsoft.Network/privateDnsZones/SRV",
    "Microsoft.Network/privateDnsZones/TXT",
    "Microsoft.Network/privateDnsZones/virtualNetworkLinks",
    "Microsoft.Network/privateEndpoints/privateDnsZoneGroups",
    "Microsoft.Network/publicIPAddresses",
    "Microsoft.Network/virtualNetworks/subnets",
    "Microsoft.Network/virtualNetworks/virtualNetworkPeerings",
    "Microsoft.OperationalInsights/deletedWorkspaces",
    "Microsoft.OperationalInsights/workspaces/tables",
    "Microsoft.Resources/deployments/operations",
    "Microsoft.Storage/storageAccounts/blobServices/containers",
    "Microsoft.Storage/storageAccounts/fileServices/shares",
    "Microsoft.Storage/storageAccounts/managementPolicies",
    "Microsoft.Storage/storageAccounts/queueServices",
    "Microsoft.Storage/storageAccounts/tableServices",
    "Microsoft.Web/certificates",
    "Microsoft.Web/locations",
    "Microsoft.Web/serverfarms",
    "Microsoft.Web/sites/basicPublishingCredentialsPolicies",
    "Microsoft.Web/sites/config",
    "Microsoft.Web/sites/continuousWebJobs",
    "Microsoft.Web/sites/deploymentStatus",
    "Microsoft.Web/sites/deployments",
    "Microsoft.Web/sites/hostNameBindings",
    "Microsoft.Web/sites/instances/processes",
    "Microsoft.Web/sites/networkConfig",
    "Microsoft.Web/sites/operationresults",
    "Microsoft.Web/sites/privateAccess",
    "Microsoft.Web/sites/publicCertificates",
    "Microsoft.Web/sites/slots/basicPublishingCredentialsPolicies",
    "Microsoft.Web/sites/slots/config",
    "Microsoft.Web/sites/slots/continuousWebJobs",
    "Microsoft.Web/sites/slots/deploymentStatus",
    "Microsoft.Web/sites/slots/deployments",
    "Microsoft.Web/sites/slots/hostNameBindings",
    "Microsoft.Web/sites/slots/instances/processes",
    "Microsoft.Web/sites/slots/networkConfig",
    "Microsoft.Web/sites/slots/triggeredWebJobs/history",
    "Microsoft.Web/sites/slots/virtualNetworkConnections",
    "Microsoft.Web/sites/slots/webJobs",
    "Microsoft.Web/sites/sourcecontrols",
    "Microsoft.Web/sites/triggeredWebJobs/history",
    "Microsoft.Web/sites/virtualNetworkConnections",
    "Microsoft.Web/sites/webJobs",
    "Microsoft.Web/staticSites/basicAuth",
    "Microsoft.Web/staticSites/builds",
    "Microsoft.Web/staticSites/config",
    "Microsoft.Web/staticSites/customDomains",
    "Microsoft.Web/staticSites/linkedBackends",
    "Microsoft.Web/webAppStacks",
];

/// Lower-case path (`microsoft.web/sites`) to the canonical casing of its last segment.
static CASING: LazyLock<HashMap<String, &'static str>> = LazyLock::new(|| {
    let mut map = HashMap::new();
    for kind in KNOWN {
        let mut end = 0;
        for segment in kind.split('/') {
            end += segment.len() + usize::from(end > 0);
            map.entry(kind[..end].to_ascii_lowercase()).or_insert(segment);
        }
    }
    map
});

/// The canonical casing of a resource type such as `microsoft.web/Sites/slots`. Unknown segments are
/// given back as they came.
pub fn canonical_type(kind: &str) -> String {
    let mut out = String::with_capacity(kind.len());
    let mut path = String::with_capacity(kind.len());
    for segment in kind.split('/') {
        push_type_segment(&mut out, &mut path, segment);
    }
    out
}

/// Appends `segment` in canonical casing to `kind`, whose lower-case form is `path`.
fn push_type_segment(kind: &mut String, path: &mut String, segment: &str) {
    if !path.is_empty() {
        path.push('/');
        kind.push('/');
    }
    path.extend(segment.chars().map(|c| c.to_ascii_lowercase()));
    kind.push_str(CASING.get(path.as_str()).copied().unwrap_or(segment));
}

fn check_segment(segment: &str) -> Result<(), IdError> {
    let bad = segment.is_empty()
        || segment.len() > MAX_SEGMENT
        || segment == "."
        || segment == ".."
        || segment.chars().any(|c| {
            c.is_control() || matches!(c, '<' | '>' | '%' | '&' | '\\' | '?' | '#' | '/' | '"')
        })
        || segment.starts_with(' ')
        || segment.ends_with(' ');
    if bad { Err(IdError::Segment(segment.chars().take(80).collect())) } else { Ok(()) }
}

impl ResourceId {
    /// The tenant's scope, `/`.
    pub fn root() -> Self {
        Self(Arc::new(Inner {
            text: "/".into(),
            key: "/".into(),
            kind: "Microsoft.Resources/tenants".into(),
            ends: Vec::new(),
            provider: None,
        }))
    }

    /// The ID of a subscription.
    pub fn of_subscription(subscription: &str) -> Result<Self, IdError> {
        Self::parse(&format!("/subscriptions/{subscription}"))
    }

    /// The ID of a resource group.
    pub fn of_resource_group(subscription: &str, group: &str) -> Result<Self, IdError> {
        Self::parse(&format!("/subscriptions/{subscription}/resourceGroups/{group}"))
    }

    /// Reads an ID. Providers and types are put into Azure's casing; names stay as they are.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        if text.len() > MAX_LENGTH {
            return Err(IdError::TooLong);
        }
        let rest = text.strip_prefix('/').ok_or(IdError::NotAbsolute)?;
        if rest.is_empty() {
            return Ok(Self::root());
        }
        let segments: Vec<&str> = rest.split('/').collect();
        if segments.len() > MAX_SEGMENTS {
            return Err(IdError::TooLong);
        }
        for segment in &segments {
            check_segment(segment)?;
        }
        let shape = |at: usize| {
            IdError::Shape((*segments.get(at).or(segments.last()).unwrap_or(&"")).to_owned())
        };

        let mut out = String::with_capacity(text.len());
        let mut ends = Vec::with_capacity(4);
        let mut kind = String::new();
        let mut provider = None;
        let mut at = 0;
        // `MAX_LENGTH` fits u16, so no offset is cut.
        let end = |out: &String| u16::try_from(out.len()).unwrap_or(u16::MAX);
        if segments[0].eq_ignore_ascii_case("subscriptions") {
            let name = segments.get(1).ok_or_else(|| shape(1))?;
            out.push_str("/subscriptions/");
            out.push_str(name);
            ends.push(end(&out));
            kind.push_str("Microsoft.Resources/subscriptions");
            at = 2;
            if segments.get(2).is_some_and(|s| s.eq_ignore_ascii_case("resourceGroups")) {
                let name = segments.get(3).ok_or_else(|| shape(3))?;
                out.push_str("/resourceGroups/");
                out.push_str(name);
                ends.push(end(&out));
                kind.clear();
                kind.push_str("Microsoft.Resources/resourceGroups");
                at = 4;
            }
        }
        while at < segments.len() {
            if !segments[at].eq_ignore_ascii_case("providers") {
                return Err(shape(at));
            }
            let namespace = segments.get(at + 1).ok_or_else(|| shape(at))?;
            provider = Some(end(&out));
            let mut path = String::new();
            kind.clear();
            push_type_segment(&mut kind, &mut path, namespace);
            out.push_str("/providers/");
            out.push_str(&kind);
            at += 2;
            if at >= segments.len() {
                return Err(shape(at));
            }
            while at < segments.len() && !segments[at].eq_ignore_ascii_case("providers") {
                let name = segments.get(at + 1).ok_or_else(|| shape(at))?;
                let before = kind.len() + 1;
                push_type_segment(&mut kind, &mut path, segments[at]);
                out.push('/');
                out.push_str(&kind[before..]);
                out.push('/');
                out.push_str(name);
                ends.push(end(&out));
                at += 2;
            }
        }
        let key = out.to_ascii_lowercase();
        Ok(Self(Arc::new(Inner { text: out, key, kind, ends, provider })))
    }

    /// The ID in Azure's casing.
    pub fn as_str(&self) -> &str {
        &self.0.text
    }

    /// The ID in lower case: what equality, order and hash look at.
    pub fn key(&self) -> &str {
        &self.0.key
    }

    /// The type in Azure's casing, `Microsoft.Web/sites/slots`. A resource group is
    /// `Microsoft.Resources/resourceGroups`, a subscription `Microsoft.Resources/subscriptions`.
    pub fn kind(&self) -> &str {
        &self.0.kind
    }

    /// Whether this is of the type `kind`, in any casing.
    pub fn is(&self, kind: &str) -> bool {
        self.0.kind.eq_ignore_ascii_case(kind)
    }

    /// The provider namespace, `Microsoft.Web`, of a provider's resource.
    pub fn namespace(&self) -> Option<&str> {
        self.0.provider?;
        self.0.kind.split('/').next()
    }

    /// The last name; empty for the tenant.
    pub fn name(&self) -> &str {
        self.0.text.rsplit('/').next().unwrap_or_default()
    }

    /// The names below the provider, outermost first: `["notes", "staging"]` for a slot.
    pub fn names(&self) -> Vec<&str> {
        match self.0.provider {
            Some(at) => self.0.text[usize::from(at)..].split('/').skip(4).step_by(2).collect(),
            None => vec![self.name()],
        }
    }

    /// The full name that Azure shows for a child: `notes/staging`.
    pub fn full_name(&self) -> String {
        self.names().join("/")
    }

    /// The subscription's ID, if this lies in one.
    pub fn subscription(&self) -> Option<&str> {
        self.0.key.strip_prefix("/subscriptions/")?;
        self.0.text.split('/').nth(2)
    }

    /// The resource group's name, if this lies in one.
    pub fn resource_group(&self) -> Option<&str> {
        let mut segments = self.0.key.split('/').skip(3);
        (segments.next() == Some("resourcegroups")).then(|| self.0.text.split('/').nth(4)).flatten()
    }

    /// The ID of the resource group that this lies in, or is.
    pub fn resource_group_id(&self) -> Option<Self> {
        self.resource_group()?;
        Some(self.level(1))
    }

    /// The ID of the subscription that this lies in, or is.
    pub fn subscription_id(&self) -> Option<Self> {
        self.subscription()?;
        Some(self.level(0))
    }

    fn level(&self, index: usize) -> Self {
        if index + 1 == self.0.ends.len() {
            return self.clone();
        }
        // A prefix that ends at a level is an ID again.
        Self::parse(&self.0.text[..usize::from(self.0.ends[index])])
            .unwrap_or_else(|_| Self::root())
    }

    /// The next outer level: a site for a slot, the resource group for a site, the subscription for a
    /// resource group, the resource it hangs on for an extension. None for the tenant.
    pub fn parent(&self) -> Option<Self> {
        match self.0.ends.len() {
            0 => None,
            1 => Some(Self::root()),
            n => Some(self.level(n - 2)),
        }
    }

    /// Every outer level, nearest first, ending with the tenant.
    pub fn ancestors(&self) -> impl Iterator<Item = Self> + '_ {
        std::iter::successors(self.parent(), Self::parent)
    }

    /// What the last `providers` hangs on: the resource group of a site or slot, the vault of a role
    /// assignment on a vault. For groups and subscriptions, the next outer level.
    #[must_use]
    pub fn scope(&self) -> Self {
        match self.0.provider {
            Some(0) => Self::root(),
            Some(at) => {
                Self::parse(&self.0.text[..usize::from(at)]).unwrap_or_else(|_| Self::root())
            }
            None => self.parent().unwrap_or_else(Self::root),
        }
    }

    /// Whether this is a child such as a slot or subnet: its parent is of the same provider.
    pub fn is_child(&self) -> bool {
        self.0.kind.bytes().filter(|b| *b == b'/').count() > 1
    }

    /// `{self}/{kind}/{name}`: a child of a provider's resource (or a group of a subscription).
    pub fn child(&self, kind: &str, name: &str) -> Result<Self, IdError> {
        check_segment(name)?;
        Self::parse(&format!("{}/{kind}/{name}", self.prefix()))
    }

    /// `{self}/providers/{kind}/{name}`, where `kind` is `Microsoft.Web/sites`.
    pub fn resource(&self, kind: &str, name: &str) -> Result<Self, IdError> {
        check_segment(name)?;
        Self::parse(&format!("{}/providers/{kind}/{name}", self.prefix()))
    }

    /// The text without the tenant's slash, to append to.
    fn prefix(&self) -> &str {
        if self.0.ends.is_empty() { "" } else { &self.0.text }
    }

    /// Whether this is `scope` or lies below it.
    pub fn is_within(&self, scope: &Self) -> bool {
        scope.0.ends.is_empty()
            || self
                .0
                .key
                .strip_prefix(scope.0.key.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl FromStr for ResourceId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        Self::parse(text)
    }
}

impl fmt::Display for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text)
    }
}

impl fmt::Debug for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text)
    }
}

impl PartialEq for ResourceId {
    fn eq(&self, other: &Self) -> bool {
        self.0.key == other.0.key
    }
}

impl Eq for ResourceId {}

impl PartialOrd for ResourceId {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ResourceId {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.key.cmp(&other.0.key)
    }
}

impl Hash for ResourceId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.key.hash(state);
    }
}

impl serde::Serialize for ResourceId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.text)
    }
}

impl<'de> serde::Deserialize<'de> for ResourceId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(text: &str) -> ResourceId {
        ResourceId::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    #[test]
    fn given_any_casing_then_one_resource_in_azures_casing() {
        let odd = id(
            "/SUBSCRIPTIONS/s/RESOURCEgroups/RG-notes/PROVIDERS/microsoft.web/SITES/Notes/Slots/staging",
        );
        let usual = id(
            "/subscriptions/s/resourceGroups/rg-Notes/providers/Microsoft.Web/sites/notes/slots/staging",
        );
        assert_eq!(odd, usual);
        assert_eq!(
            odd.as_str(),
            "/subscriptions/s/resourceGroups/RG-notes/providers/Microsoft.Web/sites/Notes/slots/staging"
        );
        assert_eq!(odd.kind(), "Microsoft.Web/sites/slots");
        assert_eq!(odd.names(), ["Notes", "staging"]);
        assert_eq!(odd.full_name(), "Notes/staging");
        assert_eq!(odd.resource_group(), Some("RG-notes"));
        assert_eq!(odd.namespace(), Some("Microsoft.Web"));
    }

    #[test]
    fn given_a_slot_then_its_parents_lead_to_the_tenant() {
        let slot = id("/subscriptions/s/resourceGroups/g/providers/Microsoft.Web/sites/a/slots/b");
        let all: Vec<String> = slot.ancestors().map(|a| a.to_string()).collect();
        assert_eq!(
            all,
            [
                "/subscriptions/s/resourceGroups/g/providers/Microsoft.Web/sites/a",
                "/subscriptions/s/resourceGroups/g",
                "/subscriptions/s",
                "/"
            ]
        );
        assert_eq!(slot.scope().as_str(), "/subscriptions/s/resourceGroups/g");
        assert!(slot.is_child());
        assert!(slot.is_within(&id("/subscriptions/S")));
        assert!(!slot.is_within(&id("/subscriptions/s/resourceGroups/gg")));
    }

    #[test]
    fn given_an_extension_then_its_scope_is_the_resource() {
        let vault = id("/subscriptions/s/resourceGroups/g/providers/Microsoft.KeyVault/vaults/kv");
        let role = vault.resource("microsoft.authorization/roleassignments", "x").expect("valid");
        assert_eq!(role.scope(), vault);
        assert_eq!(role.parent(), Some(vault.clone()));
        assert_eq!(role.kind(), "Microsoft.Authorization/roleAssignments");
        assert!(!role.is_child());
        let tenant = id("/providers/Microsoft.Authorization/roleDefinitions/x");
        assert_eq!(tenant.scope(), ResourceId::root());
        assert_eq!(tenant.parent(), Some(ResourceId::root()));
        assert_eq!(tenant.subscription(), None);
    }

    #[test]
    fn given_malformed_text_then_an_error() {
        for text in [
            "",
            "subscriptions/s",
            "/subscriptions",
            "/subscriptions//",
            "/subscriptions/s/",
            "/subscriptions/s/resourceGroups",
            "/subscriptions/s/resourceGroups/g/providers",
            "/subscriptions/s/resourceGroups/g/providers/Microsoft.Web",
            "/subscriptions/s/resourceGroups/g/providers/Microsoft.Web/sites",
            "/subscriptions/s/resourceGroups/../providers/Microsoft.Web/sites/a",
            "/subscriptions/s/resourceGroups/g/providers/Microsoft.Web/sites/a%2fb",
            "/subscriptions/s/sites/a",
            "/subscriptions/s/resourceGroups/g\u{0}",
        ] {
            assert!(ResourceId::parse(text).is_err(), "{text:?} was taken");
        }
        assert_eq!(
            ResourceId::parse(&format!("/subscriptions/{}", "x".repeat(3000))),
            Err(IdError::TooLong)
        );
        assert!(id("/subscriptions/s").child("resourceGroups", "a/b").is_err());
    }

    fn name() -> impl Strategy<Value = String> {
        "[A-Za-z0-9@*][A-Za-z0-9._()-]{0,12}".prop_filter("not a path step", |s| s != "providers")
    }

    fn any_id() -> impl Strategy<Value = String> {
        let pairs = proptest::collection::vec((name(), name()), 1..4);
        let part = (prop_oneof![Just("Microsoft.Web".to_owned()), name()], pairs);
        (any::<bool>(), any::<bool>(), name(), name(), proptest::collection::vec(part, 0..3))
            .prop_map(|(sub, group, s, g, parts)| {
                use std::fmt::Write as _;
                let mut out = String::new();
                if sub {
                    let _ = write!(out, "/subscriptions/{s}");
                    if group {
                        let _ = write!(out, "/resourceGroups/{g}");
                    }
                }
                for (namespace, pairs) in parts {
                    let _ = write!(out, "/providers/{namespace}");
                    for (kind, name) in pairs {
                        let _ = write!(out, "/{kind}/{name}");
                    }
                }
                if out.is_empty() { "/".into() } else { out }
            })
    }

    proptest! {
        #[test]
        fn anything_is_either_refused_or_stable(text in "\\PC{0,80}") {
            if let Ok(id) = ResourceId::parse(&text) {
                let again = ResourceId::parse(id.as_str()).expect("its own text");
                prop_assert_eq!(again.as_str(), id.as_str());
            }
        }

        #[test]
        fn casing_never_matters_and_parents_contain(text in any_id()) {
            let a = ResourceId::parse(&text).expect("generated");
            let b = ResourceId::parse(&text.to_ascii_uppercase()).expect("generated");
            prop_assert_eq!(&a, &b);
            prop_assert_eq!(a.key(), b.key());
            prop_assert!(a.as_str().eq_ignore_ascii_case(&text));
            for ancestor in a.ancestors() {
                prop_assert!(a.is_within(&ancestor));
                prop_assert!(!ancestor.is_within(&a));
            }
            if let Some(parent) = a.parent() {
                prop_assert!(parent.key().len() < a.key().len());
            }
        }

        #[test]
        fn children_and_extensions_lead_back(text in any_id(), kind in name(), leaf in name()) {
            let a = ResourceId::parse(&text).expect("generated");
            let b = a.resource(&format!("Microsoft.Web/{kind}"), &leaf).expect("valid");
            prop_assert_eq!(b.scope(), a.clone());
            prop_assert_eq!(b.parent(), Some(a));
            let c = b.child(&kind, &leaf).expect("valid");
            prop_assert_eq!(c.parent(), Some(b));
            prop_assert_eq!(c.name(), leaf);
        }
    }
}
