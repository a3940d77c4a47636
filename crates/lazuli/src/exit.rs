//! Exit codes. They are part of the interface: `docs/reference/exit-codes.md` lists them, and a
//! number once given keeps its meaning.

use std::process::ExitCode;

use serde::Serialize;

/// Why the command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub(crate) enum Exit {
    /// Something nobody foresaw; a bug or a broken machine.
    Unexpected = 1,
    /// The command line makes no sense. (clap exits with 2 by itself.)
    Usage = 2,
    /// The project or its manifest is wrong. Nothing was touched.
    Project = 3,
    /// The region (or Azure) is not running, not reachable or not willing to talk to us.
    Target = 4,
    /// Provisioning stopped part-way; run it again after the remedy.
    Provision = 5,
    /// The release stopped before production was touched.
    ReleaseFailed = 6,
    /// The release reached production and could not be completed; see the message for its state.
    ProductionAffected = 7,
    /// Another release is running, or an interrupted one waits for `--resume` or `rollback`.
    Locked = 8,
    /// There is nothing to roll back to, or what there was is gone.
    NoRollback = 9,
    /// `lazuli check` found what breaks the standard.
    Findings = 10,
    /// A rotation stopped; the app works, and the message says with which value.
    RotationFailed = 12,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
