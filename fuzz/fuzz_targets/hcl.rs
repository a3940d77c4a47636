//! HCL: parsed as a file and as an expression, then evaluated as a root module with itself as variables.
#![no_main]

use std::path::{Path, PathBuf};

use lazuli_hcl::terraform::{Program, VariableFile};
use lazuli_hcl::{Sources, parser};

libfuzzer_sys::fuzz_target!(|text: &str| {
    let mut sources = Sources::default();
    let file = sources.add(PathBuf::from("main.tf"), text);
    let (body, errors) = parser::parse(file, text);
    let _ = parser::parse_expression(file, text);
    for e in &errors {
        assert!(e.span.end as usize <= text.len() && e.span.start <= e.span.end, "{:?}", e.span);
    }
    let variables = VariableFile { name: "x".into(), path: "x.tfvars".into(), body: body.clone() };
    let program = Program::new(vec![("main.tf".into(), file, body, !errors.is_empty())]);
    for root in program.roots() {
        let _ = program.evaluate(root, &[], None);
        let _ = program.evaluate(Path::new(""), &[&variables], Some("prod"));
    }
});
