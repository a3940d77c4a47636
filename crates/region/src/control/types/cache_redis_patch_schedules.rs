//! `Microsoft.Cache/redis/patchSchedules`: when a cache may be patched
//! (<https://learn.microsoft.com/rest/api/redis/patch-schedules>). Kept; nothing here is patched.

use super::{
    Placement, Style,
    stored::{Stored, nothing},
};
use crate::control::schema::{self, Schema};

/// Patch schedules.
pub(super) const PATCH_SCHEDULES: Stored = Stored {
    kind: "Microsoft.Cache/redis/patchSchedules",
    api_versions: &["2024-11-01", "2024-03-01", "2023-08-01"],
    not_acted_upon: &["(all): nothing is patched"],
    placement: Placement::None,
    schema: Schema(&[schema::array("scheduleEntries").required()]),
    provisioning_state: false,
    style: Style::Sync,
    settle: nothing,
};
