//! `lazuli parity`.

use std::fmt::Write as _;

use lazuli_standard::parity::{Row, table};
use serde::Serialize;

use crate::cli::Context;
use crate::diagnostics::Failure;
use crate::exit::Exit;
use crate::project::Project;

/// Show how the environments differ, and why they may
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

#[derive(Serialize)]
struct Parity {
    event: &'static str,
    rows: Vec<Row>,
}

pub(crate) fn run(_args: &Args, cx: &Context) -> Result<(), Failure> {
    let project = Project::open(cx)?;
    let parity = Parity { event: "result", rows: table(&project.manifest) };
    cx.printer.result(&parity, text);
    let broken: Vec<&str> =
        parity.rows.iter().filter(|r| r.breaks_parity()).map(|r| r.setting).collect();
    if broken.is_empty() {
        return Ok(());
    }
    Err(Failure::new(Exit::Project, format!("the environments differ in {}", broken.join(", ")))
        .advise("no feature may work in one environment and fail in another: Environment Parity"))
}

fn text(parity: &Parity) -> String {
    let (differs, same): (Vec<&Row>, Vec<&Row>) = parity.rows.iter().partition(|r| r.differs());
    let mut text = format!("{:22} {:18} {:18} {:18} because", "", "dev", "staging", "prod");
    for row in differs {
        let [dev, staging, prod] = &row.values;
        let why = row.allowed.unwrap_or("NOT ALLOWED");
        let _ = write!(text, "\n{:22} {dev:18} {staging:18} {prod:18} {why}", row.setting);
    }
    text.push_str("\n\nthe same everywhere:");
    for row in same {
        let _ = write!(text, "\n  {}: {}", row.setting, row.values[0]);
    }
    text
}
