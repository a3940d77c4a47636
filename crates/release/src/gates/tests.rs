//! The gate *tests*: the app's own tests ran green for this tree.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use jiff::Timestamp;
use quick_xml::Reader;
use quick_xml::events::Event;
use serde_json::json;

use super::{Answer, Subject, Verdict};

/// How long the tests may run.
const LIMIT: Duration = Duration::from_mins(30);
/// The largest JUnit file that is read.
const JUNIT_LIMIT: u64 = 64 << 20;

pub(super) async fn ask(subject: &Subject<'_>) -> Answer {
    let rules = &subject.manifest.release;
    if let Some(junit) = &rules.junit {
        return by_junit(subject, junit);
    }
    if let Some(command) = &rules.tests {
        return by_command(subject, command).await;
    }
    Answer::not_checked("the manifest names neither release.tests nor release.junit")
}

/// What a JUnit file says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Junit {
    tests: u64,
    failures: u64,
    errors: u64,
    skipped: u64,
}

/// Counts the test cases of a JUnit file, and not what its attributes claim.
fn junit(text: &str) -> Result<Junit, String> {
    let mut reader = Reader::from_str(text);
    let mut found = Junit::default();
    let mut depth = 0_usize;
    loop {
        match reader.read_event().map_err(|error| error.to_string())? {
            Event::Start(element) | Event::Empty(element) => {
                depth += 1;
                match element.local_name().as_ref() {
                    "testcase" => found.tests += 1,
                    "failure" => found.failures += 1,
                    "error" => found.errors += 1,
                    "skipped" => found.skipped += 1,
                    _ => {}
                }
            }
            Event::Eof if depth == 0 => return Err("it is empty".to_owned()),
            Event::Eof => return Ok(found),
            _ => {}
        }
    }
}

fn by_junit(subject: &Subject<'_>, name: &str) -> Answer {
    let path = subject.project.join(name);
    let failed = |what: String| Answer::new(Verdict::Failed, what, json!({ "junit": name }));
    let metadata = match std::fs::metadata(&path) {
        Ok(metadata) if metadata.len() <= JUNIT_LIMIT => metadata,
        Ok(metadata) => return failed(format!("{name} has {} bytes", metadata.len())),
        Err(error) => return failed(format!("{name} cannot be read: {error}")),
    };
    let read = std::fs::read_to_string(&path).map_err(|error| error.to_string());
    let found = match read.and_then(|text| junit(&text)) {
        Ok(found) => found,
        Err(error) => return failed(format!("{name} cannot be read: {error}")),
    };
    let evidence = json!({
        "junit": name, "tests": found.tests, "failures": found.failures, "errors": found.errors,
        "skipped": found.skipped,
    });
    let answer = |verdict, what: String| Answer::new(verdict, what, evidence.clone());
    // The file does not say of which commit it is: it must at least be younger than what it tests.
    let written = metadata.modified().ok();
    let newest = newest(subject.project, subject.path);
    if let (Some(written), Some((newest, file))) = (written, newest)
        && written < newest
    {
        return answer(
            Verdict::Failed,
            format!("{name} is older than {file}: the tests ran before"),
        );
    }
    if found.tests == 0 {
        return answer(Verdict::Failed, format!("{name} holds no test"));
    }
    let bad = found.failures + found.errors;
    if bad > 0 {
        return answer(Verdict::Failed, format!("{bad} of {} tests failed", found.tests));
    }
    answer(Verdict::Passed, format!("{} tests passed, {} skipped", found.tests, found.skipped))
}

/// The newest of the package's files in the project.
fn newest(project: &Path, package: &Path) -> Option<(std::time::SystemTime, String)> {
    let zip = zip::ZipArchive::new(std::fs::File::open(package).ok()?).ok()?;
    super::migrations::names_of(&zip)
        .into_iter()
        .filter_map(|name| {
            let modified = std::fs::metadata(project.join(&name)).ok()?.modified().ok()?;
            Some((modified, name))
        })
        .max()
}

async fn by_command(subject: &Subject<'_>, command: &str) -> Answer {
    // What passed for this very package needs not run again.
    let kept = subject.project.join(".lazuli/tests");
    let stamp = kept.join(&subject.package.digest);
    if let Ok(when) = std::fs::read_to_string(&stamp) {
        return Answer::new(
            Verdict::Passed,
            format!("`{command}` passed for this package on {when}"),
            json!({ "command": command, "package": subject.package.digest, "at": when }),
        );
    }
    let mut run = tokio::process::Command::new("bash");
    run.args(["-c", command])
        .current_dir(subject.project)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let output = match tokio::time::timeout(LIMIT, run.output()).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => {
            return Answer::new(Verdict::Failed, format!("`{command}`: {error}"), json!(null));
        }
        Err(_) => {
            let what = format!("`{command}` had not ended after {} min", LIMIT.as_secs() / 60);
            return Answer::new(Verdict::Failed, what, json!(null));
        }
    };
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    let lines = crate::cloud::tail(&text);
    let last = lines.last().cloned().unwrap_or_default();
    let evidence = json!({ "command": command, "status": output.status.code(), "output": lines });
    if !output.status.success() {
        return Answer::new(Verdict::Failed, format!("`{command}` failed: {last}"), evidence);
    }
    let now = Timestamp::now().to_string();
    if std::fs::create_dir_all(&kept).and_then(|()| std::fs::write(&stamp, &now)).is_err() {
        tracing::debug!("the tests' result is not kept");
    }
    Answer::new(Verdict::Passed, format!("`{command}`: {last}"), evidence)
}

#[cfg(test)]
mod checks {
    use super::*;

    #[test]
    fn cases_are_counted_and_claims_are_not_believed() {
        let text = r#"<?xml version="1.0"?><testsuites><testsuite tests="99" failures="0">
            <testcase name="a"/><testcase name="b"><failure message="no">x &lt; y</failure></testcase>
            <testcase name="c"><skipped/></testcase></testsuite></testsuites>"#;
        assert_eq!(junit(text), Ok(Junit { tests: 3, failures: 1, errors: 0, skipped: 1 }));
        assert!(junit("").is_err());
        assert!(junit("<a><b></a>").is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".*") {
            let _ = junit(&text);
        }
    }
}
