//! A Python project: requirements, `pyproject.toml`, sources, migrations, dotenv and shell scripts.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let files = [
        "requirements.txt",
        "pyproject.toml",
        "app/main.py",
        "alembic/versions/1_a.py",
        ".env",
        "startup.sh",
    ];
    // One file of a kind that the first byte chooses, or all of them.
    match bytes.split_first() {
        Some((n, rest)) if usize::from(*n) < files.len() => {
            let _ = lazuli_fuzz::judge(&[(files[usize::from(*n)], rest)]);
        }
        _ => {
            let _ = lazuli_fuzz::judge(&files.map(|f| (f, bytes)));
        }
    }
});
