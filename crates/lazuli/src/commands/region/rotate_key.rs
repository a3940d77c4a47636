//! `lazuli region rotate-key`: a new key for what the region keeps encrypted.

use lazuli_host::edge;
use lazuli_region::seal::{self, SealError};
use serde::Serialize;

use super::{directory, start, stop};
use crate::cli::Context;
use crate::diagnostics::Failure;
use crate::environment::flag;
use crate::exit::Exit;
use crate::printer::{GOOD, NAME, paint};

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Rotated {
    region: String,
    /// Whether everything is sealed by the new key, and the old one forgotten.
    complete: bool,
}

/// The region seals everything anew when it starts, and only then forgets the old key: whatever
/// happens in between, the next start goes on.
pub(super) fn run(cx: &Context) -> Result<(), Failure> {
    let region = &cx.global.region;
    let dir = directory(cx)?;
    let key = dir.vault_key();
    seal::add_key(&key).map_err(|error| failure(&error, region))?;
    let complete = edge::running(dir.root()).is_some();
    if complete {
        let reporter = crate::reporter::for_printer(&cx.printer);
        stop(cx)?;
        start(cx, None, &reporter)?;
        let keys = seal::count_keys(&key).map_err(|error| failure(&error, region))?;
        if keys != 1 {
            return Err(Failure::new(
                Exit::Target,
                format!("the region `{region}` uses a new key, and still needs the old one"),
            )
            .advise(format!("its log says what for: lazuli region logs{}", flag(region))));
        }
    }
    cx.printer.result(&Rotated { region: region.clone(), complete }, |rotated| {
        if rotated.complete {
            format!(
                "{} everything in the region {region} is sealed by a new key; the old one is forgotten",
                paint(GOOD, "Done:")
            )
        } else {
            format!(
                "{} the region {region} has a new key; its next start seals everything by it and \
                 forgets the old one: {}",
                paint(GOOD, "Done:"),
                paint(NAME, format_args!("lazuli region start{}", flag(region)))
            )
        }
    });
    Ok(())
}

fn failure(error: &SealError, region: &str) -> Failure {
    match error {
        SealError::None(_) => {
            Failure::new(Exit::Usage, format!("the region `{region}` has no key yet"))
                .advise(format!("its first start makes one: lazuli region start{}", flag(region)))
        }
        _ => Failure::new(Exit::Target, "the region's key cannot be changed").because(error),
    }
}
