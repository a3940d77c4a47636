//! How a report is shown: for people, and for each kind of machine that shows it to people.

pub mod annotations;
pub mod human;
pub mod json;
pub mod junit;
pub mod reference;
pub mod sarif;

use crate::rule::Finding;

/// A finding's message with its environments.
fn message(f: &Finding) -> String {
    if f.environments.is_empty() {
        f.message.clone()
    } else {
        format!("{} (in {})", f.message, f.environments.join(", "))
    }
}
