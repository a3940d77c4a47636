//! The standard's three environments.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An environment of the standard's *Environment Parity* table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Environment {
    /// Development: the same architecture on cheaper SKUs.
    Dev,
    /// Staging: pre-production validation. Not to be confused with production's `staging` slot.
    Staging,
    /// Production.
    Prod,
}

impl Environment {
    /// All of them, in the order of the standard's table.
    pub const ALL: [Self; 3] = [Self::Dev, Self::Staging, Self::Prod];

    /// The short name: on the command line, in resource group names and in `*.tfvars`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dev => "dev",
            Self::Staging => "staging",
            Self::Prod => "prod",
        }
    }

    /// What `APP_ENV` holds.
    pub const fn app_env(self) -> &'static str {
        match self {
            Self::Dev => "development",
            Self::Staging => "staging",
            Self::Prod => "production",
        }
    }

    /// What the app's name gets appended in this environment, where Azure wants names unique in the
    /// world. Staging is `-stg`, because `{app}-staging` is the host of production's staging slot.
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Dev => "-dev",
            Self::Staging => "-stg",
            Self::Prod => "",
        }
    }
}

impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Not the name of an environment.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not an environment: expected `dev`, `staging` or `prod`")]
pub struct UnknownEnvironment(String);

impl FromStr for Environment {
    type Err = UnknownEnvironment;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|e| e.as_str() == s || e.app_env() == s)
            .ok_or_else(|| UnknownEnvironment(s.to_owned()))
    }
}
