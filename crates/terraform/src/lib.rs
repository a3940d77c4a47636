//! Manifest → Terraform for hashicorp/azurerm 5.x, in the standard's module structure. Pure: text
//! out, no I/O. One configuration for all environments; what differs stands in
//! `environments/*.tfvars`. It knows nothing of Azure's API, which is the provider's.

mod app_service;
mod bootstrap;
mod data;
mod edge;
mod environments;
mod hcl;
mod main_tf;
mod monitoring;
mod network;

use std::collections::BTreeMap;

use lazuli_standard::{Blueprint, Environment, Manifest};

pub use hcl::format;

/// The first line of every rendered file that can carry a comment.
pub const HEADER: &str = "# Rendered by lazuli from lazuli.yaml; `lazuli render` writes it again.";

/// Files by path, relative to the directory they are written to.
pub type Files = BTreeMap<String, String>;

/// All that the files are made from.
pub(crate) struct Source<'a> {
    manifest: &'a Manifest,
    /// Production's: it has everything any environment has.
    prod: Blueprint,
}

impl Source<'_> {
    /// A name of production's as an expression that is right in every environment.
    fn name(&self, name: &str) -> String {
        match name.strip_prefix(self.manifest.app.as_str()) {
            Some("") => "local.stem".to_owned(),
            Some(rest) if rest.starts_with('-') => format!("\"${{local.stem}}{rest}\""),
            _ => hcl::quote(name),
        }
    }
}

/// The Terraform configuration of an app, for the environments given.
pub fn render(manifest: &Manifest, environments: &[Environment]) -> Files {
    let source = Source { manifest, prod: Blueprint::new(manifest, Environment::Prod) };
    let mut files = Files::new();
    let mut add = |path: &str, body: String| {
        files.insert(format!("terraform/{path}"), hcl::file(&body));
    };
    add("main.tf", main_tf::main(&source));
    add("variables.tf", main_tf::variables(&source));
    add("outputs.tf", main_tf::outputs(&source));
    add("app_service.tf", app_service::render(&source));
    add("postgresql.tf", data::postgresql(&source));
    add("redis.tf", data::redis(&source));
    add("keyvault.tf", data::keyvault(&source));
    add("networking.tf", network::networking(&source));
    add("dns.tf", network::dns(&source));
    add("monitoring.tf", monitoring::render(&source));
    add("identity.tf", app_service::identity(&source));
    if manifest.openai.is_some() {
        add("openai.tf", edge::openai(&source));
    }
    if source.prod.frontend.is_some() || manifest.domain.is_some() {
        add("frontend.tf", edge::frontend(&source));
    }
    add("bootstrap/main.tf", bootstrap::render(&source));
    for environment in environments {
        let blueprint = Blueprint::new(manifest, *environment);
        add(&format!("environments/{environment}.tfvars"), environments::tfvars(&blueprint));
        add(&format!("environments/{environment}.tfbackend"), environments::backend(&blueprint));
    }
    files
}
