//! The project a command works on: the nearest `lazuli.yaml`, read and checked.

use std::path::{Path, PathBuf};

use lazuli_standard::{Blueprint, Environment, Manifest};

use crate::cli::Context;
use crate::diagnostics::Failure;
use crate::exit::Exit;

/// The manifest's file name.
pub(crate) const MANIFEST: &str = "lazuli.yaml";

/// The largest manifest that is read.
const LIMIT: u64 = 1 << 20;

/// A project, in the environment the command line names.
#[derive(Debug)]
pub(crate) struct Project {
    /// Where the manifest is.
    pub(crate) root: PathBuf,
    pub(crate) manifest: Manifest,
    pub(crate) environment: Environment,
    pub(crate) blueprint: Blueprint,
}

impl Project {
    /// The project `--directory` names, or the nearest one from here upwards.
    pub(crate) fn open(cx: &Context) -> Result<Self, Failure> {
        if let Some(directory) = &cx.global.directory {
            Self::at(directory, cx)
        } else {
            let here = std::env::current_dir().map_err(|error| {
                Failure::new(Exit::Project, "cannot tell the current directory").because(&error)
            })?;
            match here.ancestors().find(|dir| dir.join(MANIFEST).is_file()) {
                Some(root) => Self::at(root, cx),
                None => Err(Failure::new(
                    Exit::Project,
                    format!("there is no {MANIFEST} in {} or above it", here.display()),
                )
                .advise("go to the project, or name it with --directory")
                .advise("examples/notes/lazuli.yaml shows what a manifest looks like")),
            }
        }
    }

    /// The project in this directory.
    pub(crate) fn at(directory: &Path, cx: &Context) -> Result<Self, Failure> {
        let unreadable = |error: &std::io::Error| {
            Failure::new(Exit::Project, format!("cannot read the project {}", directory.display()))
                .because(error)
        };
        let root = directory.canonicalize().map_err(|error| unreadable(&error))?;
        let path = root.join(MANIFEST);
        let size = match std::fs::metadata(&path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Failure::new(
                    Exit::Project,
                    format!("there is no {MANIFEST} in {}", root.display()),
                )
                .advise("give the directory that holds the manifest")
                .advise("examples/notes/lazuli.yaml shows what a manifest looks like"));
            }
            Err(error) => return Err(unreadable(&error)),
        };
        if size > LIMIT {
            return Err(Failure::new(
                Exit::Project,
                format!("{} is {size} bytes long: that is no manifest", path.display()),
            ));
        }
        let source = std::fs::read_to_string(&path).map_err(|error| unreadable(&error))?;
        // Shown as the user would type it.
        let shown = directory.join(MANIFEST).display().to_string();
        let shown = shown.strip_prefix("./").unwrap_or(&shown);
        let manifest = Manifest::parse(&source, shown).map_err(|errors| {
            let plural = if errors.count() == 1 { "" } else { "s" };
            Failure {
                excerpt: Some(errors.render(cx.printer.stderr_has_color())),
                state: vec!["Nothing was created or changed.".to_owned()],
                ..Failure::new(
                    Exit::Project,
                    format!("{} error{plural} in {shown}", errors.count()),
                )
            }
        })?;
        let environment = cx.global.env().environment();
        let blueprint = Blueprint::new(&manifest, environment);
        Ok(Self { root, manifest, environment, blueprint })
    }
}
