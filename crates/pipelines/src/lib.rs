//! Manifest → Azure Pipelines (`ci.yml`, `cd.yml`, `infrastructure.yml`, templates and the scripts
//! they run) and `staticwebapp.config.json`. Pure: text out, no I/O.
//!
//! What a step does is a script beside the pipeline, so that a person can run it, and a test does.

mod cd;
mod ci;
mod infrastructure;
mod scripts;
pub mod static_web_app;

use std::collections::BTreeMap;

pub(crate) use lazuli_standard::template::fill;
use lazuli_standard::{Blueprint, Environment, Manifest};

/// The first line of every rendered file that can carry a comment.
pub const HEADER: &str = "# Rendered by lazuli from lazuli.yaml; `lazuli render` writes it again.";

/// Files by path, relative to the directory they are written to.
pub type Files = BTreeMap<String, String>;

/// All that the files are made from.
pub(crate) struct Source<'a> {
    manifest: &'a Manifest,
    prod: Blueprint,
    environments: &'a [Environment],
    /// Where the files will lie, from the root of the repository: `infrastructure`.
    place: &'a str,
}

impl Source<'_> {
    /// A file of ours, from the root of the repository.
    fn file(&self, path: &str) -> String {
        if self.place.is_empty() { path.to_owned() } else { format!("{}/{path}", self.place) }
    }
}

/// The pipelines of an app. `place` is where they will lie, from the root of the repository.
pub fn render(manifest: &Manifest, environments: &[Environment], place: &str) -> Files {
    let prod = Blueprint::new(manifest, Environment::Prod);
    let source = Source { manifest, prod, environments, place };
    let mut files = Files::new();
    let mut add = |path: &str, content: String| {
        files.insert(format!("azure-pipelines/{path}"), content);
    };
    add("ci.yml", yaml(&ci::render(&source)));
    add("cd.yml", yaml(&cd::render(&source)));
    add("infrastructure.yml", yaml(&infrastructure::render(&source)));
    add("templates/python.yml", yaml(&ci::python_template(&source)));
    add("templates/terraform.yml", yaml(&infrastructure::template(&source)));
    for (name, content) in scripts::render(&source) {
        add(name, content);
    }
    for job in lazuli_standard::webjob::files(manifest) {
        add(&format!("package/{}", job.path), job.content);
    }
    files
}

fn yaml(body: &str) -> String {
    let mut out = format!("{HEADER}\n");
    let mut blank = false;
    for line in body.trim_start_matches('\n').lines() {
        let line = line.trim_end();
        if line.is_empty() {
            blank = true;
            continue;
        }
        if blank {
            out.push('\n');
            blank = false;
        }
        out.push_str(line);
        out.push('\n');
    }
    out
}

/// A text in single quotes: nothing in it means anything to YAML.
pub(crate) fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
