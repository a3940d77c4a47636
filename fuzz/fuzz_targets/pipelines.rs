//! Azure Pipelines and their templates, which include themselves and one another.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let half = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    let (pipeline, template) = bytes.split_at(half);
    let template = template.strip_prefix(&[0]).unwrap_or(template);
    let _ = lazuli_fuzz::judge(&[("azure-pipelines.yml", pipeline), ("template.yml", template)]);
});
