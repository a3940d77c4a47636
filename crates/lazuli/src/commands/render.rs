//! `lazuli render`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::ValueEnum;
use lazuli_standard::{Environment, Manifest};
use serde::Serialize;

use crate::cli::Context;
use crate::diagnostics::Failure;
use crate::exit::Exit;
use crate::project::Project;

/// What a rendered directory remembers: which files are ours, and what we wrote into them.
const RECORD: &str = ".lazuli-render";

/// How much of a difference is shown for each file.
const SHOWN: usize = 40;

/// Write Terraform, pipelines and the front end's configuration from the manifest
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  lazuli render                            everything, into infrastructure/
  lazuli render terraform --env prod       production's Terraform alone
  lazuli render --check                    in CI: is what is committed what the manifest says?

A file that render did not write, or that somebody changed since, is never touched. To differ from
what is rendered, write a file *_override.tf beside it: docs/guide/laptop-to-azure.md.

Exit codes: 0 done, 1 with --check: the directory is not what the manifest says, 3 a file is in the
way.")]
pub(crate) struct Args {
    /// What to write
    #[arg(value_enum, default_value_t = What::All)]
    what: What,
    /// Where to write it (default: infrastructure/ in the project)
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Write nothing; show how the directory differs, and exit with 1 when it does
    #[arg(long)]
    check: bool,
}

/// What is rendered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// Terraform for hashicorp/azurerm
    Terraform,
    /// Azure Pipelines
    Pipelines,
    /// staticwebapp.config.json
    Swa,
    /// All of it
    All,
}

impl What {
    /// Whether a file is of this kind, by where it lies.
    fn has(self, path: &str) -> bool {
        match self {
            Self::Terraform => path.starts_with("terraform/"),
            Self::Pipelines => path.starts_with("azure-pipelines/"),
            Self::Swa => path.starts_with("static-web-app/"),
            Self::All => true,
        }
    }
}

/// What came of it.
#[derive(Debug, Default, Serialize)]
struct Outcome {
    event: &'static str,
    out: String,
    check: bool,
    created: Vec<String>,
    updated: Vec<String>,
    removed: Vec<String>,
    unchanged: usize,
}

pub(crate) fn run(args: &Args, cx: &Context) -> Result<ExitCode, Failure> {
    let project = Project::open(cx)?;
    let out = match &args.out {
        Some(out) => std::path::absolute(out).unwrap_or_else(|_| out.clone()),
        None => project.root.join("infrastructure"),
    };
    let environments = match cx.global.named_env {
        Some(environment) => vec![environment.environment()],
        None => Environment::ALL.to_vec(),
    };
    let place = place(&project.root, &out);
    let files = files(&project.manifest, &environments, &place);
    let files: BTreeMap<String, String> =
        files.into_iter().filter(|(path, _)| args.what.has(path)).collect();
    // With one environment named, the others' files are not ours to take away.
    let complete = cx.global.named_env.is_none();
    let record = Record::read(&out)?;
    let plan = plan(&out, &files, &record, |path| complete && args.what.has(path))?;

    let mut outcome = Outcome {
        event: "result",
        out: out.display().to_string(),
        check: args.check,
        unchanged: plan.unchanged,
        ..Outcome::default()
    };
    let mut differences = String::new();
    for (path, change) in &plan.changes {
        let (list, old, new) = match change {
            Change::Create(new) => (&mut outcome.created, "", *new),
            Change::Update { old, new } => (&mut outcome.updated, old.as_str(), *new),
            Change::Remove(old) => (&mut outcome.removed, old.as_str(), ""),
        };
        list.push(path.clone());
        if args.check {
            difference(&mut differences, path, old, new);
        }
    }
    if args.check {
        if !cx.printer.is_json() {
            cx.printer.raw(differences.as_bytes());
        }
        cx.printer.result(&outcome, text);
        let same = plan.changes.is_empty();
        return Ok(if same { ExitCode::SUCCESS } else { ExitCode::from(1) });
    }
    let mut record = record;
    for (path, change) in &plan.changes {
        match change {
            Change::Create(new) | Change::Update { new, .. } => {
                write(&out.join(path), new)?;
                record.files.insert(path.clone(), digest(new));
            }
            Change::Remove(_) => {
                let file = out.join(path);
                std::fs::remove_file(&file).map_err(|e| io("remove", &file, &e))?;
                record.files.remove(path);
            }
        }
    }
    for (path, content) in &files {
        record.files.insert(path.clone(), digest(content));
    }
    record.write(&out)?;
    cx.printer.result(&outcome, text);
    Ok(ExitCode::SUCCESS)
}

/// Everything a manifest renders to.
fn files(
    manifest: &Manifest,
    environments: &[Environment],
    place: &str,
) -> BTreeMap<String, String> {
    let mut files = lazuli_terraform::render(manifest, environments);
    files.extend(lazuli_pipelines::render(manifest, environments, place));
    files.extend(lazuli_pipelines::static_web_app::render(manifest, environments));
    files
}

/// Where the files will lie, from the root of the repository: `infrastructure`.
fn place(root: &Path, out: &Path) -> String {
    let repository = root.ancestors().find(|d| d.join(".git").exists()).unwrap_or(root);
    let out = out.strip_prefix(repository).unwrap_or_else(|_| Path::new("infrastructure"));
    out.components().map(|c| c.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/")
}

fn text(outcome: &Outcome) -> String {
    let Outcome { created, updated, removed, unchanged, out, check, .. } = outcome;
    let changed = created.len() + updated.len() + removed.len();
    let mut text = String::new();
    if *check {
        if changed == 0 {
            return format!("{out} is what the manifest says ({unchanged} files)");
        }
        let plural = if changed == 1 { "" } else { "s" };
        return format!(
            "{out} is not what the manifest says: {changed} file{plural} differ; run `lazuli render`"
        );
    }
    for (sign, list) in [("+", created), ("~", updated), ("-", removed)] {
        for path in list {
            let _ = writeln!(text, "{sign} {path}");
        }
    }
    let _ = write!(text, "{changed} files written to {out}, {unchanged} as they were");
    text
}

/// A file that is not as it should be.
#[derive(Debug)]
enum Change<'a> {
    Create(&'a str),
    Update { old: String, new: &'a str },
    Remove(String),
}

#[derive(Debug, Default)]
struct Plan<'a> {
    changes: Vec<(String, Change<'a>)>,
    unchanged: usize,
}

/// What has to be done; an error when something is in the way, and then nothing is done.
fn plan<'a>(
    out: &Path,
    files: &'a BTreeMap<String, String>,
    record: &Record,
    stale: impl Fn(&str) -> bool,
) -> Result<Plan<'a>, Failure> {
    let mut plan = Plan::default();
    let mut foreign = Vec::new();
    let mut edited = Vec::new();
    let existing = |path: &str| {
        let file = out.join(path);
        match std::fs::read(&file) {
            Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(io("read", &file, &e)),
        }
    };
    for (path, new) in files {
        match existing(path)? {
            None => plan.changes.push((path.clone(), Change::Create(new))),
            Some(old) if old == *new => plan.unchanged += 1,
            Some(old) => match record.files.get(path) {
                Some(written) if *written == digest(&old) => {
                    plan.changes.push((path.clone(), Change::Update { old, new }));
                }
                Some(_) => edited.push(path.clone()),
                None => foreign.push(path.clone()),
            },
        }
    }
    for (path, written) in &record.files {
        if files.contains_key(path) || !stale(path) {
            continue;
        }
        match existing(path)? {
            Some(old) if digest(&old) == *written => {
                plan.changes.push((path.clone(), Change::Remove(old)));
            }
            Some(_) => edited.push(path.clone()),
            None => {}
        }
    }
    if foreign.is_empty() && edited.is_empty() {
        return Ok(plan);
    }
    let mut failure = Failure::new(
        Exit::Project,
        format!("{} holds files that are not render's to write", out.display()),
    );
    for path in &edited {
        failure = failure.cause(format!("{path} was changed by hand since it was rendered"));
    }
    for path in &foreign {
        failure = failure.cause(format!("{path} was not written by render"));
    }
    failure.state.push("Nothing was written.".to_owned());
    Err(failure
        .advise("move the change into a file *_override.tf beside it, and delete the file")
        .advise("or render somewhere else with --out"))
}

/// The record of what was written.
#[derive(Debug, Default)]
struct Record {
    files: BTreeMap<String, String>,
}

impl Record {
    fn read(out: &Path) -> Result<Self, Failure> {
        let path = out.join(RECORD);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(e) => return Err(io("read", &path, &e)),
        };
        // A path that leads out of the directory is nobody's.
        let inside = |path: &str| {
            Path::new(path).components().all(|c| matches!(c, std::path::Component::Normal(_)))
        };
        let files = text
            .lines()
            .filter(|l| !l.starts_with('#'))
            .filter_map(|l| l.split_once("  "))
            .filter(|(_, path)| inside(path))
            .map(|(digest, path)| (path.to_owned(), digest.to_owned()))
            .collect();
        Ok(Self { files })
    }

    fn write(&self, out: &Path) -> Result<(), Failure> {
        let mut text = String::from(
            "# Which files here `lazuli render` wrote, and their SHA-256. Commit it with them.\n",
        );
        for (path, digest) in &self.files {
            let _ = writeln!(text, "{digest}  {path}");
        }
        write(&out.join(RECORD), &text)
    }
}

fn digest(text: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    digest.as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

/// Writes a file as a whole or not at all.
fn write(path: &Path, content: &str) -> Result<(), Failure> {
    let directory = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(directory).map_err(|e| io("create", directory, &e))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = directory.join(format!(".{name}.new"));
    std::fs::write(&new, content).map_err(|e| io("write", &new, &e))?;
    if name.ends_with(".sh") {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&new, mode).map_err(|e| io("write", &new, &e))?;
    }
    std::fs::rename(&new, path).map_err(|e| io("write", path, &e))
}

fn io(what: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Exit::Project, format!("cannot {what} {}", path.display())).because(error)
}

/// The lines that differ, without those that begin and end both alike.
fn difference(out: &mut String, path: &str, old: &str, new: &str) {
    let (a, b): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let head = a.iter().zip(&b).take_while(|(x, y)| x == y).count();
    let tail =
        a[head..].iter().rev().zip(b[head..].iter().rev()).take_while(|(x, y)| x == y).count();
    let _ = writeln!(out, "--- {path} (there)\n+++ {path} (rendered)\n@@ line {} @@", head + 1);
    for (sign, lines) in [('-', &a[head..a.len() - tail]), ('+', &b[head..b.len() - tail])] {
        for line in lines.iter().take(SHOWN) {
            let plain: String = line.chars().filter(|c| !c.is_control() || *c == '\t').collect();
            let _ = writeln!(out, "{sign}{plain}");
        }
        if lines.len() > SHOWN {
            let _ = writeln!(out, "{sign}… {} more lines", lines.len() - SHOWN);
        }
    }
}
