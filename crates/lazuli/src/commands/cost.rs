//! `lazuli cost`.

use std::fmt::Write as _;
use std::path::PathBuf;

use lazuli_standard::cost::{Estimate, PriceList, estimate};
use lazuli_standard::{Blueprint, Environment};
use serde::Serialize;

use crate::cli::Context;
use crate::diagnostics::Failure;
use crate::exit::Exit;
use crate::project::Project;

/// Estimate what each environment costs a month
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  lazuli cost                      by the standard's figures
  lazuli cost --prices prices.csv  by your own: lines of item,sku,usd
  lazuli cost --prices azure.json  by Azure's retail prices, as their API answers for one region:
      curl 'https://prices.azure.com/api/retail/prices?$filter=armRegionName%20eq%20%27westeurope%27'
      (and each NextPageLink after it, into the same file)")]
pub(crate) struct Args {
    /// A price list, over the standard's figures: lines of item,sku,usd, or Azure's retail prices
    #[arg(long, value_name = "FILE")]
    prices: Option<PathBuf>,
}

#[derive(Serialize)]
struct Costs {
    event: &'static str,
    currency: &'static str,
    prices: String,
    environments: Vec<(&'static str, Estimate)>,
}

pub(crate) fn run(args: &Args, cx: &Context) -> Result<(), Failure> {
    let project = Project::open(cx)?;
    let prices = match &args.prices {
        None => PriceList::default(),
        Some(path) => {
            let unusable = format!("cannot use the price list {}", path.display());
            let text = std::fs::read_to_string(path)
                .map_err(|error| Failure::new(Exit::Usage, unusable.clone()).because(&error))?;
            PriceList::parse(&text, &path.display().to_string())
                .map_err(|error| Failure::new(Exit::Usage, unusable).because(&error))?
        }
    };
    let environments = Environment::ALL
        .iter()
        .map(|e| (e.as_str(), estimate(&Blueprint::new(&project.manifest, *e), &prices)))
        .collect();
    let costs = Costs { event: "result", currency: "USD", prices: prices.source, environments };
    cx.printer.result(&costs, text);
    Ok(())
}

fn text(costs: &Costs) -> String {
    let mut text = format!("US dollars a month, by {}", costs.prices);
    for (environment, estimate) in &costs.environments {
        let _ = write!(text, "\n\n{environment}");
        for line in &estimate.lines {
            let usd = match line.usd {
                None => "?".to_owned(),
                Some((from, to)) => range(from, to),
            };
            let units = if line.units.0 == line.units.1 {
                line.units.0.to_string()
            } else {
                format!("{}–{}", line.units.0, line.units.1)
            };
            let _ = write!(text, "\n  {:24} {:20} {units:>4} {usd:>12}", line.resource, line.sku);
        }
        let total = range(estimate.minimum, estimate.maximum);
        let _ = write!(text, "\n  {:50} {total:>12}", "total");
        if !estimate.unpriced.is_empty() {
            let _ = write!(text, "\n  without a price: {}", estimate.unpriced.join(", "));
        }
    }
    text
}

fn range(from: f64, to: f64) -> String {
    if (from - to).abs() < 0.005 { format!("{from:.0}") } else { format!("{from:.0}–{to:.0}") }
}
