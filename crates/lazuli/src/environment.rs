//! How the command line finds a local region: the `environment.json` that a running region keeps in
//! its directory. It is the only thing the two share besides Azure's API.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::diagnostics::Failure;
use crate::exit::Exit;

/// The name of the file in the region's directory. Mode 0600: it holds the deployer's secret.
pub(crate) const FILE: &str = "environment.json";

/// The region a person gets without naming one.
pub(crate) const DEFAULT_REGION: &str = "local";

/// What a client needs to talk to a running region.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Environment {
    /// The gateway: `http://127.0.0.1:PORT`.
    pub(crate) proxy: String,
    /// System roots plus the region's CA, PEM.
    pub(crate) ca_bundle: PathBuf,
    /// The region's CA alone, PEM.
    pub(crate) ca_certificate: PathBuf,
    pub(crate) tenant_id: String,
    /// The deployer's application id.
    pub(crate) client_id: String,
    pub(crate) client_secret: Secret,
    /// The name that the person of this machine signs in with.
    pub(crate) developer: String,
    pub(crate) developer_password: Secret,
    pub(crate) subscription_id: String,
    /// The region's directory.
    pub(crate) dir: PathBuf,
    /// The region's own `AZURE_CONFIG_DIR`, so that the user's real `az` login is never touched.
    pub(crate) azure_config_dir: PathBuf,
}

/// A string that does not show in logs.
#[derive(Clone, Deserialize, Serialize)]
#[serde(transparent)]
pub(crate) struct Secret(String);

impl Secret {
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(value: String) -> Self {
        Self(value)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// The directory of a region: `$XDG_STATE_HOME/lazuli/NAME`, or the path itself when it contains a
/// `/`.
pub(crate) fn region_dir(region: &str) -> Result<PathBuf, Failure> {
    if region.contains('/') {
        return std::path::absolute(region).map_err(|error| {
            Failure::new(Exit::Usage, format!("--region {region} is not a usable path"))
                .because(&error)
        });
    }
    let valid = !region.is_empty()
        && region.len() <= 40
        && region.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if !valid {
        return Err(Failure::new(Exit::Usage, format!("`{region}` is not a region name")).advise(
            "use lower-case letters, digits and dashes, at most 40; or a path with a `/`",
        ));
    }
    let state = std::env::var_os("XDG_STATE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| std::env::home_dir().map(|home| home.join(".local/state")));
    state.map(|state| state.join("lazuli").join(region)).ok_or_else(|| {
        Failure::new(Exit::Unexpected, "neither XDG_STATE_HOME nor HOME is set")
            .advise("set HOME, or give --region a path")
    })
}

impl Environment {
    /// The environment of the named region, or advice on how to start it.
    pub(crate) fn load(region: &str) -> Result<Self, Failure> {
        let dir = region_dir(region)?;
        Self::read(&dir)?.ok_or_else(|| {
            Failure::new(Exit::Target, format!("the region `{region}` is not running"))
                .advise(format!("start it: lazuli region start{}", flag(region)))
                .advise("or do everything at once: lazuli up PATH")
        })
    }

    /// The environment in a region's directory; `None` when there is none.
    pub(crate) fn read(dir: &Path) -> Result<Option<Self>, Failure> {
        let path = dir.join(FILE);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(Failure::new(Exit::Target, format!("cannot read {}", path.display()))
                    .because(&error));
            }
        };
        serde_json::from_slice(&text).map(Some).map_err(|error| {
            Failure::new(Exit::Target, format!("{} is not what a region writes", path.display()))
                .because(&error)
                .advise("restart the region: lazuli region stop && lazuli region start")
        })
    }
}

/// ` --region NAME` when it is not the default, for commands shown to a person.
pub(crate) fn flag(region: &str) -> String {
    if region == DEFAULT_REGION { String::new() } else { format!(" --region {region}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_show() {
        assert_eq!(format!("{:?}", Secret::from("hunter2".to_owned())), "[redacted]");
    }

    #[test]
    fn a_region_is_a_name_or_a_path() {
        assert!(region_dir("Local").is_err());
        assert!(region_dir("").is_err());
        assert!(region_dir("a b").is_err());
        assert_eq!(region_dir("/x/y").expect("a path"), PathBuf::from("/x/y"));
        assert!(region_dir("ci-7").expect("a name").ends_with("lazuli/ci-7"));
    }
}
