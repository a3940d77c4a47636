//! A small tree: files separated by `== path` lines, as a seed holds them. Judged twice, the second time
//! in the other order: findings never depend on it.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut files: Vec<(&str, &[u8])> = Vec::new();
    let mut from = 0;
    let mut name = "main.tf";
    let mut at = 0;
    for line in bytes.split_inclusive(|b| *b == b'\n') {
        if let Some(path) = line.strip_prefix(b"== ")
            && let Ok(path) = std::str::from_utf8(path)
            && !path.trim().is_empty()
        {
            files.push((name, &bytes[from..at]));
            name = path.trim();
            from = at + line.len();
        }
        at += line.len();
    }
    files.push((name, &bytes[from..]));
    // The same path twice is one file to a disk.
    files.sort_by_key(|f| f.0);
    files.dedup_by_key(|f| f.0);
    let said = |files: &[(&str, &[u8])]| {
        let report = lazuli_fuzz::judge(files);
        report
            .findings
            .iter()
            .map(|f| (f.rule.id, report.project.sources.path(f.span.file).to_owned(), f.span.start, f.message.clone()))
            .collect::<Vec<_>>()
    };
    let forward = said(&files);
    files.reverse();
    assert_eq!(forward, said(&files));
});
