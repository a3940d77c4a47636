//! The manifest: read, and, where it is one, rendered. What is rendered is HCL that can be read again.
#![no_main]

use std::path::PathBuf;

use lazuli_hcl::{Sources, parser};
use lazuli_standard::{Environment, Manifest};

const ALL: [Environment; 3] = [Environment::Dev, Environment::Staging, Environment::Prod];

libfuzzer_sys::fuzz_target!(|text: &str| {
    let manifest = match Manifest::parse(text, "lazuli.yaml") {
        Ok(m) => m,
        Err(e) => {
            let _ = e.to_string();
            return;
        }
    };
    let mut sources = Sources::default();
    for (path, text) in lazuli_terraform::render(&manifest, &ALL) {
        let file = sources.add(PathBuf::from(&path), text.as_str());
        let (_, errors) = parser::parse(file, &text);
        assert!(errors.is_empty(), "{path}: {errors:?}\n{text}");
    }
    let _ = lazuli_pipelines::render(&manifest, &ALL, ".");
});
