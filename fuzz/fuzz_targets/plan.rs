//! JSON: plans, settings exports, a front end's configuration, WebJobs.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = lazuli_fuzz::judge(&[
        ("plan.json", bytes),
        ("staticwebapp.config.json", bytes),
        ("jobs/settings.job", bytes),
    ]);
});
