//! `lazuli check`: the standard as a linter. Terraform, pipelines, settings and Python projects
//! become findings with places, reasons and fixes. Pure but for [`walk`], which reads files; it
//! knows nothing of the region and contacts nobody.

mod engine;
mod json;
pub mod output;
mod plan;
pub mod project;
mod python;
pub mod rule;
pub mod rules;
mod snippet;
pub mod walk;
mod yaml;

pub use engine::{Config, ConfigError, Report, Section, explain, fingerprints, near, run};
pub use project::{Input, Options, Project, read};
pub use rule::{Edit, Finding, Rule, Severity};

use std::collections::HashSet;

/// Reads and judges in one go. Runs on a thread of its own with room for the deepest nesting that
/// the parsers accept.
pub fn check(
    inputs: Vec<Input>,
    options: &Options,
    config: &Config,
    baseline: &HashSet<String>,
) -> Report {
    let work = || run(read(inputs, options), config, baseline);
    std::thread::scope(|s| {
        let thread = std::thread::Builder::new()
            .name("check".into())
            .stack_size(256 << 20)
            .spawn_scoped(s, work);
        match thread.map(std::thread::ScopedJoinHandle::join) {
            Ok(Ok(report)) => report,
            Ok(Err(panic)) => std::panic::resume_unwind(panic),
            Err(_) => unreachable!("a thread can be started"),
        }
    })
}
