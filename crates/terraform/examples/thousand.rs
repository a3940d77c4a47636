//! Reads and renders 1,000 different manifests on one thread, Terraform, pipelines and front end, and prints
//! what that took. `bench/render` runs it in the `dist` build.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::time::Instant;

use lazuli_standard::{Environment, Manifest};

fn manifest(n: usize) -> String {
    let cache = ["premium", "managed"][n % 2];
    let worker = ["", "worker: { run: w }\nscheduler: { run: s, webjob: true }\n"][n / 2 % 2];
    let frontend = ["", "frontend: { connect: ['https://t.example.com'] }\n"][n / 4 % 2];
    let domain = ["", "domain: notes.example.com\nalerts: { oncall: [pagerduty] }\n"][n / 8 % 2];
    format!(
        "app: a{n}\nlocation: westeurope\nbackend: {{ app: modules.backend.main:app }}\n\
         {worker}database: {{ migrate: alembic upgrade head }}\ncache: {cache}\n{frontend}{domain}"
    )
}

fn main() {
    let sources: Vec<String> = (0..1_000).map(manifest).collect();
    let began = Instant::now();
    let (mut files, mut bytes) = (0, 0);
    for source in &sources {
        let manifest = Manifest::parse(source, "lazuli.yaml").unwrap();
        for rendered in [
            lazuli_terraform::render(&manifest, &Environment::ALL),
            lazuli_pipelines::render(&manifest, &Environment::ALL, "infrastructure"),
            lazuli_pipelines::static_web_app::render(&manifest, &Environment::ALL),
        ] {
            files += rendered.len();
            bytes += rendered.values().map(String::len).sum::<usize>();
        }
    }
    let took = began.elapsed();
    println!("1,000 manifests: {files} files, {bytes} bytes in {:.3} s", took.as_secs_f64());
}
