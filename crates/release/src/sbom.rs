//! What the package will install: its locked requirements as a CycloneDX bill of materials
//! (<https://cyclonedx.org/docs/1.6/json/>), kept in the release's record.

use std::path::Path;

use serde_json::{Value, json};

/// The largest lock file that is read.
const LIMIT: u64 = 16 << 20;

/// The bill of materials of a project: of `requirements.txt`, else of `uv.lock` or `poetry.lock`.
/// `None` when there is none of them.
pub(crate) fn of(project: &Path) -> Option<Value> {
    let read = |name: &str| {
        let path = project.join(name);
        let small = std::fs::metadata(&path).is_ok_and(|metadata| metadata.len() <= LIMIT);
        small.then(|| std::fs::read_to_string(path).ok()).flatten()
    };
    let (source, components) = if let Some(text) = read("requirements.txt") {
        ("requirements.txt", requirements(&text))
    } else {
        let (name, text) =
            ["uv.lock", "poetry.lock"].into_iter().find_map(|name| Some((name, read(name)?)))?;
        (name, lock(&text))
    };
    let components: Vec<Value> = components
        .into_iter()
        .map(|component| {
            let Component { name, version, hashes } = component;
            let hashes: Vec<Value> = hashes
                .into_iter()
                .map(|hash| json!({ "alg": "SHA-256", "content": hash }))
                .collect();
            let mut value = json!({ "type": "library", "name": name });
            if let Some(version) = version {
                value["purl"] = json!(format!("pkg:pypi/{}@{version}", name.to_ascii_lowercase()));
                value["version"] = json!(version);
            }
            if !hashes.is_empty() {
                value["hashes"] = Value::Array(hashes);
            }
            value
        })
        .collect();
    Some(json!({
        "bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1,
        "metadata": { "properties": [{ "name": "lazuli:source", "value": source }] },
        "components": components,
    }))
}

/// A requirement; without a version it is not locked.
#[derive(Debug, PartialEq, Eq)]
struct Component {
    name: String,
    version: Option<String>,
    hashes: Vec<String>,
}

fn requirements(text: &str) -> Vec<Component> {
    let joined = text.replace("\\\r\n", " ").replace("\\\n", " ");
    let mut found = Vec::new();
    for line in joined.lines() {
        let line = line.split(" #").next().unwrap_or_default().trim();
        // Options (`-r`, `--index-url`) and comments are no requirements.
        if line.is_empty() || line.starts_with(['#', '-']) {
            continue;
        }
        let mut words = line.split_whitespace();
        let requirement = words.next().unwrap_or_default().split(';').next().unwrap_or_default();
        let hashes = words
            .filter_map(|word| word.strip_prefix("--hash=sha256:").map(str::to_owned))
            .collect();
        let (name, version) = match requirement.split_once("==") {
            Some((name, version)) => (name, Some(version.trim_start_matches('=').to_owned())),
            None => {
                (requirement.split(['<', '>', '=', '~', '!', '@']).next().unwrap_or_default(), None)
            }
        };
        // Extras are part of how, not of what.
        let name = name.split('[').next().unwrap_or_default().trim().to_owned();
        if !name.is_empty() {
            found.push(Component { name, version, hashes });
        }
    }
    found
}

/// `[[package]]` tables of a lock file in TOML, as uv and Poetry write them: one member a line.
fn lock(text: &str) -> Vec<Component> {
    let member = |block: &str, name: &str| {
        block.lines().take_while(|line| !line.trim_start().starts_with('[')).find_map(|line| {
            let value = line.strip_prefix(name)?.trim_start().strip_prefix('=')?.trim();
            Some(value.trim_matches('"').to_owned())
        })
    };
    text.split("[[package]]\n")
        .skip(1)
        .filter_map(|block| {
            let (name, version) = (member(block, "name")?, member(block, "version"));
            Some(Component { name, version, hashes: Vec::new() })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_locked_is_listed_and_what_is_not_has_no_version() {
        let text = "# by hand\n-r more.txt\nfastapi==0.120.0 \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\nuvicorn[standard]==0.38.0 ; python_version >= '3.10'\nredis>=5 # soon\n";
        let found = requirements(text);
        let names: Vec<_> =
            found.iter().map(|one| (one.name.as_str(), one.version.as_deref())).collect();
        assert_eq!(
            names,
            [("fastapi", Some("0.120.0")), ("uvicorn", Some("0.38.0")), ("redis", None)]
        );
        assert_eq!(found[0].hashes, ["aa", "bb"]);
    }

    #[test]
    fn a_lock_file_is_read() {
        let text = "version = 1\n\n[[package]]\nname = \"anyio\"\nversion = \"4.1\"\ndependencies = [\n  { name = \"idna\" },\n]\n\n[[package]]\nname = \"idna\"\n\n[package.metadata]\nversion = \"9\"\n";
        let found = lock(text);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].version.as_deref(), Some("4.1"));
        assert_eq!(found[1].version, None);
    }
}
