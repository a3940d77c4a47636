//! Judges a directory and prints how long it took, without the rest of the product: what `bench/check`
//! measures. `judge PATH [--list]`, `judge --resources N`.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use lazuli_check::{Config, Input, Options, check, walk};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let began = Instant::now();
    let inputs = if args.first().is_some_and(|a| a == "--resources") {
        generated(args[1].parse().unwrap())
    } else {
        walk::collect(&[PathBuf::from(".")], Path::new(&args[0])).unwrap()
    };
    let read = began.elapsed();
    let files = inputs.len();
    let report = check(inputs, &Options::default(), &Config::default(), &HashSet::new());
    let took = began.elapsed();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for f in report.active() {
        *counts.entry(f.rule.id).or_default() += 1;
    }
    let resources: usize =
        report.project.stacks.iter().map(|s| s.configuration.resources.len()).sum();
    if args.iter().any(|a| a == "--list") {
        for f in report.active() {
            let s = report.project.sources.get(f.span.file);
            let (line, column) = s.line_column(f.span.start);
            println!("{} {}:{line}:{column} {}", f.rule.id, s.path.display(), f.message);
        }
    }
    let total: usize = counts.values().sum();
    println!(
        "{files} files, {resources} resources, {total} findings; read {:.1} ms, all {:.1} ms",
        read.as_secs_f64() * 1e3,
        took.as_secs_f64() * 1e3
    );
    if args.iter().any(|a| a == "--counts") {
        println!("{counts:?}");
    }
}

/// A tree of N resources in files of a hundred.
fn generated(n: usize) -> Vec<Input> {
    let mut out = Vec::new();
    for file in 0..n.div_ceil(100) {
        let mut t = String::new();
        for i in file * 100..((file + 1) * 100).min(n) {
            match i % 5 {
                0 => writeln!(t, "resource \"azurerm_service_plan\" \"p{i}\" {{\n  name     = \"plan-{i}\"\n  os_type  = \"Linux\"\n  sku_name = \"P1v3\"\n}}"),
                1 => writeln!(t, "resource \"azurerm_linux_web_app\" \"w{i}\" {{\n  name            = \"app-{i}\"\n  service_plan_id = azurerm_service_plan.p{}.id\n  https_only      = true\n  identity {{\n    type = \"SystemAssigned\"\n  }}\n  site_config {{\n    health_check_path = \"/health\"\n    application_stack {{\n      python_version = \"3.14\"\n    }}\n  }}\n  app_settings = {{\n    LOG_LEVEL = \"info\"\n  }}\n}}", i - 1),
                2 => writeln!(t, "resource \"azurerm_key_vault\" \"k{i}\" {{\n  name                          = \"kv-{i}\"\n  rbac_authorization_enabled    = true\n  public_network_access_enabled = false\n}}"),
                3 => writeln!(t, "resource \"azurerm_private_dns_zone\" \"z{i}\" {{\n  name = \"zone{i}.privatelink.vaultcore.azure.net\"\n}}"),
                _ => writeln!(t, "resource \"azurerm_postgresql_flexible_server\" \"d{i}\" {{\n  name                  = \"db-{i}\"\n  version               = \"16\"\n  sku_name              = \"GP_Standard_D4ds_v5\"\n  backup_retention_days = 35\n}}"),
            }
            .unwrap();
        }
        out.push(Input { path: format!("prod/f{file:05}.tf").into(), bytes: Ok(t.into_bytes()) });
    }
    out
}
