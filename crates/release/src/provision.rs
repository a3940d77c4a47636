//! Blueprint → Azure: what `lazuli provision` does.
//!
//! [`plan`] is pure: every resource as a request, and what each waits for. [`provision`] carries a
//! plan out: reads what is there, writes only what differs, independent resources side by side.
//! Run twice, the second run writes nothing and says so. Secrets are made once: a rerun never
//! changes one by accident.

mod difference;
mod drift;
mod execute;
mod plan;
pub(crate) mod secrets;

pub use drift::drift;
pub use execute::{Options, ProvisionError, Summary, provision};
pub(crate) use plan::secret_body;
pub use plan::{Action, Plan, PlanError, Planned, Principal, SettingValue, Tenancy, plan};

#[cfg(test)]
mod tests;
