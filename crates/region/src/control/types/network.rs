//! What the types of `Microsoft.Network` have in common: address ranges, references between
//! resources.

use std::{net::Ipv4Addr, str::FromStr, sync::Arc};

use lazuli_azure::ResourceId;
use serde_json::{Value, json};

use crate::{
    control::{Context, error::ArmError},
    store::Resource,
};

pub(super) const API_VERSIONS: &[&str] = &[
    "2025-01-01",
    "2024-10-01",
    "2024-07-01",
    "2024-05-01",
    "2024-01-01",
    "2023-11-01",
    "2023-09-01",
];

/// An IPv4 range, `10.0.1.0/24`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cidr {
    pub(super) base: u32,
    pub(super) bits: u8,
}

impl FromStr for Cidr {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let (base, bits) = text.split_once('/').ok_or(())?;
        let base = u32::from(Ipv4Addr::from_str(base).map_err(|_| ())?);
        if bits.is_empty() || bits.len() > 2 || !bits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(());
        }
        let bits: u8 = bits.parse().map_err(|_| ())?;
        let range = Self { base, bits };
        // Host bits must be zero, as Azure demands.
        (bits <= 32 && base & !range.mask() == 0).then_some(range).ok_or(())
    }
}

impl Cidr {
    fn mask(self) -> u32 {
        u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0)
    }

    pub(super) fn holds(self, other: Self) -> bool {
        self.bits <= other.bits && other.base & self.mask() == self.base
    }

    pub(super) fn overlaps(self, other: Self) -> bool {
        self.holds(other) || other.holds(self)
    }
}

/// A range in a request.
pub(super) fn cidr(text: &str, of: &str) -> Result<Cidr, ArmError> {
    text.parse().map_err(|()| {
        ArmError::bad_request(
            "InvalidCIDRNotation",
            format!("The address prefix {text} in resource {of} has an invalid CIDR notation. For the given prefix length, the address prefix should be a network address."),
        )
    })
}

/// The ID below `pointer/id` in a body: well-formed, of the right type, and there.
pub(super) fn reference(
    context: &Context,
    of: &ResourceId,
    value: &Value,
    kind: &str,
) -> Result<Option<ResourceId>, ArmError> {
    let text = match &value["id"] {
        Value::Null => return Ok(None),
        Value::String(text) => text,
        _ => return Err(ArmError::invalid_content("An 'id' must be a string")),
    };
    let id = ResourceId::parse(text).map_err(|_| {
        ArmError::bad_request(
            "LinkedInvalidPropertyId",
            format!("Property id '{text}' at path is invalid. Expect fully qualified resource Id that start with '/subscriptions/{{subscriptionId}}' or '/providers/{{resourceProviderNamespace}}/'."),
        )
    })?;
    if !id.is(kind) || context.store.get(&id).is_none() {
        return Err(ArmError::bad_request(
            "InvalidResourceReference",
            format!(
                "Resource {id} referenced by resource {of} was not found. Please make sure that the referenced resource exists, and that both resources are in the same region."
            ),
        ));
    }
    Ok(Some(id))
}

/// Resources of `kind` whose body holds `target`'s ID at `pointer`.
pub(super) fn referring(
    context: &Context,
    kind: &str,
    pointer: &str,
    target: &ResourceId,
) -> Vec<Arc<Resource>> {
    context
        .store
        .list(kind, &ResourceId::root())
        .into_iter()
        .filter(|one| {
            one.text(pointer).and_then(|id| ResourceId::parse(id).ok()).as_ref() == Some(target)
        })
        .collect()
}

/// The `etag` that bodies of `Microsoft.Network` carry.
pub(super) fn etag(resource: &Resource) -> Value {
    json!(format!("W/\"{}\"", resource.etag))
}

/// The stored body with its etag in front of the properties.
pub(super) fn with_etag(resource: &Resource) -> Value {
    let mut body = resource.body.clone();
    body["etag"] = etag(resource);
    body
}

/// Gives every entry of a list of nested records (`delegations`, connections) the `id`, `etag` and
/// `provisioningState` that Azure shows.
pub(super) fn nested(body: &mut Value, resource: &Resource, property: &str, segment: &str) {
    let Some(list) = body["properties"][property].as_array_mut() else { return };
    for entry in list {
        let name = entry["name"].as_str().unwrap_or_default().to_owned();
        entry["id"] = json!(format!("{}/{segment}/{name}", resource.id));
        entry["etag"] = etag(resource);
        entry["properties"]["provisioningState"] = json!("Succeeded");
    }
}

/// Checks the names in a list of nested records.
pub(super) fn named(list: &Value, what: &str) -> Result<(), ArmError> {
    let mut seen = Vec::new();
    for entry in list.as_array().into_iter().flatten() {
        let name = entry["name"].as_str().filter(|name| !name.is_empty()).ok_or_else(|| {
            ArmError::bad_request(
                "MissingJsonReferenceId",
                format!("Every entry of {what} must have a name."),
            )
        })?;
        if seen.iter().any(|other: &String| other.eq_ignore_ascii_case(name)) {
            return Err(ArmError::bad_request(
                "DuplicateResourceName",
                format!("Resource has two child resources with the same name ({name}) in {what}."),
            ));
        }
        seen.push(name.to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_hold_and_overlap() {
        let range = |text: &str| text.parse::<Cidr>();
        let net = range("10.0.0.0/16").expect("valid");
        assert!(net.holds(range("10.0.3.0/24").expect("valid")));
        assert!(!net.holds(range("10.1.0.0/24").expect("valid")));
        assert!(range("10.0.3.0/24").expect("valid").overlaps(net));
        assert!(range("0.0.0.0/0").expect("valid").holds(net));
        for bad in ["10.0.0.1/16", "10.0.0.0", "10.0.0.0/33", "10.0.0/8", "10.0.0.0/+8", "::/0", ""]
        {
            assert!(range(bad).is_err(), "{bad}");
        }
    }
}
