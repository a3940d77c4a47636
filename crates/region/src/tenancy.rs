//! Who the region is: its tenant, its one subscription, its location. Made once, kept in the store.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::store::{Batch, Store, StoreError};

/// The region's tenant and subscription.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tenancy {
    /// The Entra tenant's ID.
    pub tenant_id: String,
    /// The subscription's ID.
    pub subscription_id: String,
    /// What the subscription is called.
    pub subscription_name: String,
}

/// The locations that resources may name: (name, display name). The first is the default.
pub const LOCATIONS: &[(&str, &str)] = &[
    ("westeurope", "West Europe"),
    ("northeurope", "North Europe"),
    ("germanywestcentral", "Germany West Central"),
    ("francecentral", "France Central"),
    ("swedencentral", "Sweden Central"),
    ("switzerlandnorth", "Switzerland North"),
    ("uksouth", "UK South"),
    ("eastus", "East US"),
    ("eastus2", "East US 2"),
    ("westus2", "West US 2"),
    ("westus3", "West US 3"),
    ("centralus", "Central US"),
    ("southeastasia", "Southeast Asia"),
    ("australiaeast", "Australia East"),
    ("japaneast", "Japan East"),
];

/// `West Europe` and `WestEurope` as Azure gives them back: `westeurope`. None for an unknown one.
pub fn location(text: &str) -> Option<&'static str> {
    let wanted: String =
        text.chars().filter(|c| *c != ' ').map(|c| c.to_ascii_lowercase()).collect();
    LOCATIONS.iter().map(|(name, _)| *name).find(|name| *name == wanted)
}

impl Tenancy {
    /// The region's, made when there is none yet.
    pub async fn open(store: &Store) -> Result<Self, StoreError> {
        if let Some(found) = store.get_state("region", "tenancy") {
            return serde_json::from_slice(&found)
                .map_err(|error| StoreError::Database(format!("a damaged tenancy: {error}")));
        }
        let tenancy = Self {
            tenant_id: Uuid::new_v4().to_string(),
            subscription_id: Uuid::new_v4().to_string(),
            subscription_name: "Lazuli".into(),
        };
        let mut batch = Batch::new();
        batch.put_state("region", "tenancy", serde_json::to_vec(&tenancy).unwrap_or_default());
        store.commit(batch).await?;
        Ok(tenancy)
    }
}
