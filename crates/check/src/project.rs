//! What was read: every file understood as what it is, and the facts rules ask for.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lazuli_hcl::ast::Body;
use lazuli_hcl::terraform::{Configuration, Existence, Program, Resource, VariableFile};
use lazuli_hcl::{FileId, Kind, Map, Source, Sources, Span, Value, parser};
use lazuli_standard::Environment;

use crate::python::{self, Call, PyProject, Requirement, Token};
use crate::{json, plan, yaml};

/// Files above this size are not read. Plans of large states stay far below it.
pub const MAX_FILE: u64 = 48 << 20;

/// A file as it came from the disk.
#[derive(Clone, Debug)]
pub struct Input {
    /// Relative to where the check began.
    pub path: PathBuf,
    /// Its bytes, or why there are none.
    pub bytes: Result<Vec<u8>, String>,
}

/// How to read.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The environment, where it cannot be told otherwise.
    pub assume: Option<Environment>,
    /// The files are fragments (of a document): nothing follows from what they do not say.
    pub fragments: bool,
}

/// Terraform with one set of variables, or a plan.
#[derive(Debug)]
pub struct Stack {
    /// `infrastructure/terraform (prod.tfvars)`
    pub name: String,
    /// The root directory.
    pub root: PathBuf,
    /// Which environment it is, if that can be told.
    pub environment: Option<Environment>,
    /// What it comes to.
    pub configuration: Configuration,
    /// Whether nothing may be concluded from absence.
    pub partial: bool,
    /// Whether not even from what a block that is there does not say.
    pub fragment: bool,
    /// Python requirements of the same project.
    pub requirements: Arc<BTreeSet<String>>,
    by_kind: HashMap<Arc<str>, Vec<usize>>,
    by_address: HashMap<Arc<str>, usize>,
    back: HashMap<Arc<str>, Vec<usize>>,
    /// By type: what has an `…_id` that may be anything's.
    vague: HashMap<Arc<str>, Vec<usize>>,
    /// Security rules by the name of their group, where that is a plain text.
    named_rules: HashMap<Arc<str>, Vec<usize>>,
    /// Those whose group's name is anything else.
    other_rules: Vec<usize>,
    places: BTreeMap<(FileId, u32), usize>,
    sources: Arc<Sources>,
}

/// A rule of a network security group that stands by itself.
const SECURITY_RULE: &str = "azurerm_network_security_rule";

impl Stack {
    /// A stack with its indexes.
    pub(crate) fn new(
        name: String,
        root: PathBuf,
        environment: Option<Environment>,
        configuration: Configuration,
        fragment: bool,
        requirements: Arc<BTreeSet<String>>,
        sources: Arc<Sources>,
    ) -> Self {
        let fragment = fragment || configuration.unreadable;
        let partial = fragment || !configuration.incomplete.is_empty();
        let mut by_kind: HashMap<Arc<str>, Vec<usize>> = HashMap::new();
        let mut by_address = HashMap::new();
        let mut back: HashMap<Arc<str>, Vec<usize>> = HashMap::new();
        let mut vague: HashMap<Arc<str>, Vec<usize>> = HashMap::new();
        let mut named_rules: HashMap<Arc<str>, Vec<usize>> = HashMap::new();
        let mut other_rules = Vec::new();
        let mut places = BTreeMap::new();
        for (i, r) in configuration.resources.iter().enumerate() {
            places.entry((r.span.file, r.span.start)).or_insert(i);
            by_kind.entry(r.kind.clone()).or_default().push(i);
            by_address.entry(r.address.clone()).or_insert(i);
            if &*r.kind == "variable" {
                continue;
            }
            if &*r.kind == SECURITY_RULE {
                match r.get("network_security_group_name").map(|v| &v.kind) {
                    Some(Kind::Text(name)) => {
                        named_rules.entry(Arc::from(&**name)).or_default().push(i);
                    }
                    _ => other_rules.push(i),
                }
            }
            for e in &r.body {
                let refs = e.value.refs();
                if e.key.ends_with("_id")
                    && (refs.iter().any(|x| x.address.ends_with("[*]"))
                        || refs.is_empty() && !matches!(e.value.kind, Kind::Text(_) | Kind::Null))
                {
                    let list = vague.entry(r.kind.clone()).or_default();
                    if list.last() != Some(&i) {
                        list.push(i);
                    }
                }
                for x in refs {
                    let list = back.entry(x.address.clone()).or_default();
                    if list.last() != Some(&i) {
                        list.push(i);
                    }
                }
            }
        }
        Self {
            name,
            root,
            environment,
            configuration,
            partial,
            fragment,
            requirements,
            by_kind,
            by_address,
            back,
            vague,
            named_rules,
            other_rules,
            places,
            sources,
        }
    }

    /// Everything of some kinds.
    pub fn all<'a>(&'a self, kinds: &'a [&str]) -> impl Iterator<Item = &'a Resource> {
        kinds
            .iter()
            .filter_map(|k| self.by_kind.get(*k))
            .flatten()
            .map(|i| &self.configuration.resources[*i])
    }

    /// Whether there is, or may be, anything of these kinds.
    pub fn any(&self, kinds: &[&str]) -> bool {
        self.all(kinds).next().is_some()
    }

    /// A resource by its address.
    pub fn find(&self, address: &str) -> Option<&Resource> {
        self.by_address.get(address).map(|i| &self.configuration.resources[*i])
    }

    /// The resource a value refers to.
    pub fn target(&self, value: Option<&Value>) -> Option<&Resource> {
        value?.refs().into_iter().find_map(|r| self.find(&r.address))
    }

    /// The security rules that may be of a group with this name: all whose own word for it is this text
    /// or no plain text. Looked up, as a search for each of N groups among N rules is quadratic.
    pub fn security_rules<'a>(&'a self, name: Option<&Value>) -> Vec<&'a Resource> {
        let mut found: Vec<usize> = match name.map(|v| &v.kind) {
            Some(Kind::Text(name)) => {
                let named = self.named_rules.get(&**name).into_iter().flatten();
                named.chain(&self.other_rules).copied().collect()
            }
            _ => self.by_kind.get(SECURITY_RULE).cloned().unwrap_or_default(),
        };
        found.sort_unstable();
        found.into_iter().map(|i| &self.configuration.resources[i]).collect()
    }

    /// Everything that refers to a resource.
    pub fn referring<'a>(&'a self, r: &Resource) -> impl Iterator<Item = &'a Resource> {
        self.back.get(&r.address).into_iter().flatten().map(|i| &self.configuration.resources[*i])
    }

    /// Everything of some kinds that refers to a resource, or whose reference cannot be told.
    pub fn attached<'a>(
        &'a self,
        r: &'a Resource,
        kinds: &'a [&str],
        by: &'a str,
    ) -> impl Iterator<Item = (&'a Resource, bool)> {
        // Looked up, not searched: a search for each of N resources among N others is quadratic.
        debug_assert!(by.ends_with("_id"), "what is vague is kept for such attributes alone");
        let mut candidates: Vec<usize> = self
            .back
            .get(&r.address)
            .into_iter()
            .flatten()
            .chain(kinds.iter().filter_map(|k| self.vague.get(*k)).flatten())
            .copied()
            .collect();
        candidates.sort_unstable();
        candidates.dedup();
        candidates.into_iter().map(|i| &self.configuration.resources[i]).filter_map(move |x| {
            if !kinds.contains(&&*x.kind) {
                return None;
            }
            let v = x.get(by)?;
            let refs = v.refs();
            if refs.iter().any(|f| f.address == r.address || f.address.ends_with("[*]")) {
                return Some((x, true));
            }
            // An unknown value may be this one.
            (refs.is_empty() && !matches!(v.kind, Kind::Text(_))).then_some((x, false))
        })
    }

    /// Whether it is known to be this environment.
    pub fn is(&self, environment: Environment) -> bool {
        self.environment == Some(environment)
    }

    /// Whether it is known to be staging or production.
    pub fn is_serious(&self) -> bool {
        matches!(self.environment, Some(Environment::Prod | Environment::Staging))
    }

    /// The resource whose block a place lies in.
    pub fn enclosing(&self, span: Span) -> Option<&Resource> {
        let (_, i) = self.places.range(..=(span.file, span.start)).next_back()?;
        let r = &self.configuration.resources[*i];
        r.span.contains(span).then_some(r)
    }

    /// The text of a place.
    pub fn text(&self, span: Span) -> &str {
        self.sources.text(span)
    }

    /// The file a place lies in.
    pub fn source(&self, span: Span) -> &Source {
        self.sources.get(span.file)
    }
}

/// A JSON or YAML file.
#[derive(Clone, Debug)]
pub struct Document {
    /// The file.
    pub file: FileId,
    /// Its content.
    pub value: Value,
}

/// An Azure Pipelines file, its local templates put in place.
#[derive(Debug)]
pub struct Pipeline {
    /// The file.
    pub file: FileId,
    /// The whole document.
    pub document: Value,
    /// Every job, in order.
    pub jobs: Vec<Job>,
    /// Whether the file is a template, or a fragment: nothing follows from what it lacks.
    pub partial: bool,
    /// Sources, for the text of scripts.
    pub(crate) sources: Arc<Sources>,
}

/// A job.
#[derive(Clone, Debug)]
pub struct Job {
    /// The stage's name.
    pub stage: String,
    /// Its place in the order of stages.
    pub stage_index: usize,
    /// Where it is named.
    pub span: Span,
    /// Whether it is a `deployment`.
    pub deployment: bool,
    /// `environment:`
    pub environment: Option<Value>,
    /// `pool:` of the job, the stage or the pipeline.
    pub pool: Option<Value>,
    /// Its steps.
    pub steps: Vec<Step>,
    /// Whether a step comes from a template that is not at hand.
    pub partial: bool,
}

/// A step.
#[derive(Clone, Debug)]
pub struct Step {
    /// `script`, `bash`, `pwsh`, `powershell`, `task`, `checkout`, `download`, `publish`, …
    pub kind: String,
    /// What stands after it.
    pub value: Value,
    /// Where the step begins.
    pub span: Span,
    /// The whole step.
    pub body: Arc<Map>,
}

impl Step {
    /// An input of a task.
    pub fn input(&self, name: &str) -> Option<&Value> {
        let inputs = self.body.get("inputs")?.as_map()?;
        inputs.iter().find(|e| e.key.eq_ignore_ascii_case(name)).map(|e| &e.value)
    }

    /// The task without its version: `AzureCLI`.
    pub fn task(&self) -> Option<&str> {
        (self.kind == "task")
            .then(|| self.value.as_str())?
            .map(|t| t.split('@').next().unwrap_or(t))
    }

    /// The script it runs, and whether it is a Bash.
    pub fn script(&self) -> Option<(&Value, bool)> {
        match self.kind.as_str() {
            "script" | "bash" => Some((&self.value, true)),
            "pwsh" | "powershell" => Some((&self.value, false)),
            "task" => match self.task()? {
                "AzureCLI" => {
                    let bash = self
                        .input("scriptType")
                        .and_then(Value::as_str)
                        .is_none_or(|t| t == "bash");
                    self.input("inlineScript").map(|v| (v, bash))
                }
                "Bash" | "CmdLine" => self.input("script").map(|v| (v, true)),
                "PowerShell" | "AzurePowerShell" => {
                    self.input("script").or(self.input("inline")).map(|v| (v, false))
                }
                _ => None,
            },
            _ => None,
        }
    }
}

/// A Python file.
#[derive(Debug)]
pub struct PythonFile {
    /// The file.
    pub file: FileId,
    /// Where it lies.
    pub path: PathBuf,
    pub(crate) tokens: Vec<(Token, Span)>,
    pub(crate) calls: Vec<Call>,
    pub(crate) imports: Vec<(String, Span)>,
}

/// Everything that was read.
#[derive(Debug)]
pub struct Project {
    /// The files.
    pub sources: Arc<Sources>,
    /// Terraform.
    pub stacks: Vec<Stack>,
    /// Azure Pipelines.
    pub pipelines: Vec<Pipeline>,
    /// `staticwebapp.config.json`
    pub static_web: Vec<Document>,
    /// `az webapp config appsettings list`
    pub settings: Vec<Document>,
    /// WebJobs' `settings.job`
    pub webjobs: Vec<Document>,
    /// `lazuli.yaml`
    pub manifests: Vec<Document>,
    /// Python files.
    pub python: Vec<PythonFile>,
    /// All requirements.
    pub(crate) requirements: Vec<(FileId, Vec<Requirement>)>,
    /// `requires-python`
    pub requires_python: Vec<(String, Span)>,
    /// Shell scripts.
    pub shells: Vec<FileId>,
    /// Text of other kinds (dotenv).
    pub dotenv: Vec<FileId>,
    /// What could not be read: the message and the place.
    pub trouble: Vec<(String, Span)>,
    /// Whether files are fragments.
    pub fragments: bool,
}

impl Project {
    /// Whether a package is required anywhere.
    pub fn requires(&self, name: &str) -> bool {
        self.requirements.iter().any(|(_, r)| r.iter().any(|r| r.name == name))
    }

    /// Every text value of every document and every string of Python, with its place: what URLs and
    /// secrets are looked for in.
    pub(crate) fn texts(&self) -> Vec<(String, Span, TextKind)> {
        let mut out = Vec::new();
        for d in self.settings.iter().chain(&self.static_web) {
            texts_of(&d.value, TextKind::Setting, &mut out);
        }
        for p in &self.pipelines {
            texts_of(&p.document, TextKind::Pipeline, &mut out);
        }
        for f in &self.python {
            for (t, s) in &f.tokens {
                if let Token::Text(t) = t {
                    out.push((t.clone(), *s, TextKind::Python));
                }
            }
        }
        for f in self.shells.iter().chain(&self.dotenv) {
            let source = self.sources.get(*f);
            for n in 1..=source.line_count() {
                let line = source.line(n);
                let start = source.line_start(n);
                if !line.trim_start().starts_with('#') && !line.trim().is_empty() {
                    out.push((
                        line.to_owned(),
                        Span::new(*f, start, start + line.len()),
                        TextKind::Shell,
                    ));
                }
            }
        }
        out
    }
}

/// Where a text comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TextKind {
    Setting,
    Pipeline,
    Python,
    Shell,
}

fn texts_of(v: &Value, kind: TextKind, out: &mut Vec<(String, Span, TextKind)>) {
    match &v.kind {
        Kind::Text(t) => out.push((t.to_string(), v.span, kind)),
        Kind::List(l) => l.iter().for_each(|v| texts_of(v, kind, out)),
        Kind::Map(m) => m.iter().for_each(|e| texts_of(&e.value, kind, out)),
        _ => {}
    }
}

/// What a file is, by its name and, for YAML and JSON, its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    Terraform,
    Variables,
    Yaml,
    Json,
    Python,
    Requirements,
    PyProject,
    Shell,
    Dotenv,
}

/// What a path is read as; `None` when it is of no interest.
pub fn wanted(path: &Path) -> bool {
    sort(path).is_some()
}

fn sort(path: &Path) -> Option<Sort> {
    let name = path.file_name()?.to_str()?;
    let lower = name.to_ascii_lowercase();
    let extension = lower.rsplit_once('.').map_or("", |(_, e)| e);
    Some(match extension {
        "tf" => Sort::Terraform,
        "tfvars" => Sort::Variables,
        "yml" | "yaml" => Sort::Yaml,
        "json" if !lower.starts_with("package") && !lower.starts_with("tsconfig") => Sort::Json,
        "job" => Sort::Json,
        "py" => Sort::Python,
        "txt"
            if lower.starts_with("requirements")
                || path.parent().is_some_and(|p| p.ends_with("requirements")) =>
        {
            Sort::Requirements
        }
        "toml" if lower == "pyproject.toml" => Sort::PyProject,
        "sh" | "bash" => Sort::Shell,
        _ if lower == ".env"
            || lower.starts_with(".env.")
                && !lower.ends_with(".example")
                && !lower.ends_with(".sample") =>
        {
            Sort::Dotenv
        }
        _ => return None,
    })
}

/// Which environment a word says.
pub fn environment_of(word: &str) -> Option<Environment> {
    let lower = word.to_ascii_lowercase();
    let parts: Vec<&str> =
        lower.split(|c: char| !c.is_ascii_alphanumeric()).filter(|p| !p.is_empty()).collect();
    let has = |names: &[&str]| parts.iter().any(|p| names.contains(p));
    // "preprod" and "non-prod" are no production.
    if has(&["staging", "stage", "stg", "uat", "preprod", "acceptance"])
        || (has(&["pre"]) && has(&["prod"]))
    {
        return Some(Environment::Staging);
    }
    if has(&["dev", "development", "test", "tst", "sandbox", "qa", "int", "nonprod"])
        || (has(&["non"]) && has(&["prod"]))
    {
        return Some(Environment::Dev);
    }
    has(&["prod", "production", "prd"]).then_some(Environment::Prod)
}

/// Reads everything.
pub fn read(mut inputs: Vec<Input>, options: &Options) -> Project {
    inputs.sort_by(|a, b| a.path.cmp(&b.path));
    inputs.dedup_by(|a, b| a.path == b.path);
    let mut sources = Sources::default();
    let mut trouble: Vec<(String, Span)> = Vec::new();
    let mut files: Vec<(PathBuf, FileId, Sort)> = Vec::new();
    let mut broken_dirs: BTreeSet<PathBuf> = BTreeSet::new();
    for input in inputs {
        let Some(sort) = sort(&input.path) else { continue };
        let (text, problem) = match input.bytes {
            Ok(bytes) => decode(bytes),
            Err(e) => (String::new(), Some(e)),
        };
        let file = sources.add(input.path.clone(), text);
        let text = &sources.get(file).text;
        let problem = problem.map(|p| (p, Span::new(file, 0, 0))).or_else(|| conflict(file, text));
        if let Some(p) = problem {
            trouble.push(p);
            if matches!(sort, Sort::Terraform) {
                broken_dirs.insert(input.path.parent().unwrap_or(Path::new("")).to_owned());
            }
            continue;
        }
        files.push((input.path, file, sort));
    }

    let sources = Arc::new(sources);
    let mut b = Builder::new(&sources, options);
    b.trouble = trouble;
    for (path, file, sort) in &files {
        b.read_one(path, *file, *sort);
    }
    b.finish(&broken_dirs)
}

/// UTF-8, or a reason. UTF-16 with a byte-order mark is Windows's doing; it is read.
fn decode(bytes: Vec<u8>) -> (String, Option<String>) {
    let utf16 = |big: bool| {
        let units = bytes[2..].chunks_exact(2).map(|c| {
            if big { u16::from_be_bytes([c[0], c[1]]) } else { u16::from_le_bytes([c[0], c[1]]) }
        });
        char::decode_utf16(units).collect::<Result<String, _>>()
    };
    match bytes.get(..2) {
        Some([0xff, 0xfe]) => {
            return utf16(false).map_or_else(
                |_| (String::new(), Some("this file is neither UTF-8 nor UTF-16".into())),
                |s| (s, None),
            );
        }
        Some([0xfe, 0xff]) => {
            return utf16(true).map_or_else(
                |_| (String::new(), Some("this file is neither UTF-8 nor UTF-16".into())),
                |s| (s, None),
            );
        }
        _ => {}
    }
    if bytes.iter().take(8192).any(|b| *b == 0) {
        return (String::new(), Some("this file is binary".into()));
    }
    match String::from_utf8(bytes) {
        Ok(s) => (s, None),
        Err(_) => (String::new(), Some("this file is not UTF-8".into())),
    }
}

/// The place of an unresolved merge.
fn conflict(file: FileId, text: &str) -> Option<(String, Span)> {
    // The last end is looked for once: a search from every beginning is quadratic.
    let end_of_conflict = text.rfind("\n>>>>>>> ")?;
    let mut offset = 0;
    for line in text.split_inclusive('\n') {
        if offset > end_of_conflict {
            return None;
        }
        if line.starts_with("<<<<<<< ") {
            let end = offset + line.trim_end().len();
            return Some((
                "this file has an unresolved merge conflict".into(),
                Span::new(file, offset, end),
            ));
        }
        offset += line.len();
    }
    None
}

struct Builder<'a> {
    sources: Arc<Sources>,
    options: &'a Options,
    trouble: Vec<(String, Span)>,
    terraform: Vec<(PathBuf, FileId, Body, bool)>,
    variables: Vec<VariableFile>,
    plans: Vec<(PathBuf, Document)>,
    pipelines: BTreeMap<PathBuf, Document>,
    static_web: Vec<Document>,
    settings: Vec<Document>,
    webjobs: Vec<Document>,
    manifests: Vec<Document>,
    python: Vec<PythonFile>,
    requirements: Vec<(FileId, Vec<Requirement>)>,
    requires_python: Vec<(String, Span)>,
    shells: Vec<FileId>,
    dotenv: Vec<FileId>,
}

impl<'a> Builder<'a> {
    fn new(sources: &Arc<Sources>, options: &'a Options) -> Self {
        Self {
            sources: sources.clone(),
            options,
            trouble: Vec::new(),
            terraform: Vec::new(),
            variables: Vec::new(),
            plans: Vec::new(),
            pipelines: BTreeMap::new(),
            static_web: Vec::new(),
            settings: Vec::new(),
            webjobs: Vec::new(),
            manifests: Vec::new(),
            python: Vec::new(),
            requirements: Vec::new(),
            requires_python: Vec::new(),
            shells: Vec::new(),
            dotenv: Vec::new(),
        }
    }

    fn read_one(&mut self, path: &Path, file: FileId, sort: Sort) {
        let text = self.sources.get(file).text.clone();
        match sort {
            Sort::Terraform | Sort::Variables => {
                let (body, errors) = parser::parse(file, &text);
                let broken = !errors.is_empty();
                self.trouble.extend(errors.into_iter().map(|e| (e.message, e.span)));
                if sort == Sort::Terraform {
                    self.terraform.push((path.to_owned(), file, body, broken));
                } else {
                    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or("");
                    let name =
                        name.trim_end_matches(".tfvars").trim_end_matches(".auto").to_owned();
                    self.variables.push(VariableFile { name, path: path.to_owned(), body });
                }
            }
            Sort::Yaml => self.yaml(path, file, &text),
            Sort::Json => self.json(path, file, &text),
            Sort::Python => {
                let tokens = python::tokens(file, &text);
                let calls = python::calls(&tokens);
                let imports = python::imports(&tokens);
                self.python.push(PythonFile {
                    file,
                    path: path.to_owned(),
                    tokens,
                    calls,
                    imports,
                });
            }
            Sort::Requirements => self.requirements.push((file, python::requirements(file, &text))),
            Sort::PyProject => match python::pyproject(file, &text) {
                Ok(PyProject { requirements, python }) => {
                    self.requirements.push((file, requirements));
                    self.requires_python.extend(python);
                }
                Err(e) => self.trouble.push(e),
            },
            Sort::Shell => self.shells.push(file),
            Sort::Dotenv => self.dotenv.push(file),
        }
    }

    fn yaml(&mut self, path: &Path, file: FileId, text: &str) {
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or("");
        let manifest = name == "lazuli.yaml" || name == "lazuli.yml";
        let maybe = manifest
            || ["steps:", "jobs:", "stages:", "- script:", "- task:", "- bash:"]
                .iter()
                .any(|w| text.contains(w));
        if !maybe {
            return;
        }
        match yaml::parse(file, text) {
            Ok(mut documents) if !documents.is_empty() => {
                let value = documents.swap_remove(0);
                if manifest {
                    self.manifests.push(Document { file, value });
                } else if is_pipeline(&value) {
                    self.pipelines.insert(path.to_owned(), Document { file, value });
                }
            }
            Ok(_) => {}
            // Only ours to complain about when it looks like one of ours: templates of other tools
            // (Helm, Jinja) are YAML by name only.
            Err(e) => {
                let ours = manifest
                    || text.contains("vmImage")
                    || text.contains("- task:")
                    || text.contains("azureSubscription");
                if ours && !text.contains("{{-") {
                    self.trouble.push(e);
                }
            }
        }
    }

    fn json(&mut self, path: &Path, file: FileId, text: &str) {
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or("");
        let static_web = name == "staticwebapp.config.json"
            || self.options.fragments && text.contains("navigationFallback");
        let webjob = name == "settings.job";
        let plan = text.contains("\"planned_values\"") && text.contains("\"terraform_version\"");
        let settings = !plan && text.contains("\"slotSetting\"");
        if !(static_web || webjob || plan || settings) {
            return;
        }
        match json::parse(file, text) {
            Ok(value) => {
                let d = Document { file, value };
                if static_web {
                    self.static_web.push(d);
                } else if webjob {
                    self.webjobs.push(d);
                } else if plan {
                    self.plans.push((path.to_owned(), d));
                } else {
                    self.settings.push(d);
                }
            }
            Err(e) => self.trouble.push(e),
        }
    }

    fn finish(mut self, broken_dirs: &BTreeSet<PathBuf>) -> Project {
        let names: BTreeSet<String> =
            self.requirements.iter().flat_map(|(_, r)| r.iter().map(|r| r.name.clone())).collect();
        let names = Arc::new(names);
        let mut stacks = Vec::new();
        let mut program = Program::new(std::mem::take(&mut self.terraform));
        for d in broken_dirs {
            program.mark_broken(d);
        }
        for root in program.roots() {
            self.stacks_of(&program, root, &names, &mut stacks);
        }
        for (path, d) in std::mem::take(&mut self.plans) {
            let configuration = plan::read(&d.value);
            let environment = self
                .options
                .assume
                .or_else(|| environment_of(&path.to_string_lossy()))
                .or_else(|| environment_in(&configuration));
            stacks.push(Stack::new(
                path.to_string_lossy().into_owned(),
                path.clone(),
                environment,
                configuration,
                false,
                names.clone(),
                self.sources.clone(),
            ));
        }
        let pipelines = self.pipelines();
        Project {
            sources: self.sources,
            stacks,
            pipelines,
            static_web: self.static_web,
            settings: self.settings,
            webjobs: self.webjobs,
            manifests: self.manifests,
            python: self.python,
            requirements: self.requirements,
            requires_python: self.requires_python,
            shells: self.shells,
            dotenv: self.dotenv,
            trouble: self.trouble,
            fragments: self.options.fragments,
        }
    }

    /// One stack for each environment a root has variables for.
    fn stacks_of(
        &self,
        program: &Program,
        root: &Path,
        names: &Arc<BTreeSet<String>>,
        out: &mut Vec<Stack>,
    ) {
        let Some(directory) = program.directory(root) else { return };
        let declared: BTreeSet<&str> = directory.variable_names().collect();
        let mut always: Vec<&VariableFile> = Vec::new();
        let mut each: Vec<&VariableFile> = Vec::new();
        for f in &self.variables {
            let Some(place) = f.path.parent() else { continue };
            let name = f.path.file_name().and_then(|n| n.to_str()).unwrap_or("");
            if place == root && (name == "terraform.tfvars" || name.ends_with(".auto.tfvars")) {
                always.push(f);
            } else if place.starts_with(root)
                && !f.body.attributes.is_empty()
                && program.directory(place).is_none_or(|_| place == root)
                && f.body.attributes.iter().any(|a| declared.contains(&*a.name))
            {
                each.push(f);
            }
        }
        let sets: Vec<Option<&VariableFile>> =
            if each.is_empty() { vec![None] } else { each.into_iter().map(Some).collect() };
        for set in sets {
            let mut files = always.clone();
            files.extend(set);
            let named = set.and_then(|f| {
                environment_of(&f.name).or_else(|| {
                    f.path
                        .parent()
                        .and_then(Path::file_name)
                        .and_then(|n| n.to_str())
                        .and_then(environment_of)
                })
            });
            let configuration = program.evaluate(root, &files, named.map(Environment::as_str));
            let environment = named
                .or_else(|| {
                    root.iter().rev().take(2).filter_map(|p| p.to_str()).find_map(environment_of)
                })
                .or_else(|| environment_in(&configuration))
                .or(self.options.assume);
            let name = match set {
                Some(f) => format!("{} ({})", root.display(), f.name),
                None => root.display().to_string(),
            };
            out.push(Stack::new(
                name,
                root.to_owned(),
                environment,
                configuration,
                self.options.fragments,
                names.clone(),
                self.sources.clone(),
            ));
        }
    }

    fn pipelines(&self) -> Vec<Pipeline> {
        let mut called = BTreeSet::new();
        for (path, d) in &self.pipelines {
            templates(&d.value, path, &mut called, 0);
        }
        let mut out = Vec::new();
        for (path, d) in &self.pipelines {
            let template = called.contains(path);
            let mut unfold =
                Unfold { builder: self, jobs: Vec::new(), missing: false, fuel: 20_000 };
            let pool = d.value.as_map().and_then(|m| m.get("pool")).cloned();
            unfold.walk(&d.value, path, pool.as_ref(), 0);
            let fragment = self.options.fragments
                && d.value.as_map().is_none_or(|m| m.get("trigger").is_none());
            out.push(Pipeline {
                file: d.file,
                document: d.value.clone(),
                partial: template || fragment || unfold.missing,
                jobs: unfold.jobs,
                sources: self.sources.clone(),
            });
        }
        out
    }
}

fn environment_in(c: &Configuration) -> Option<Environment> {
    let mut found = BTreeSet::new();
    for r in c.resources.iter().filter(|r| r.module.is_empty()) {
        match &*r.kind {
            "variable"
                if matches!(
                    &*r.name,
                    "environment" | "env" | "stage" | "environment_name" | "app_env"
                ) =>
            {
                found.extend(r.get("value").and_then(Value::as_str).and_then(environment_of));
            }
            "azurerm_resource_group" => {
                found.extend(r.get("name").and_then(Value::as_str).and_then(environment_of));
                let tags = r.get("tags").and_then(Value::as_map);
                found.extend(
                    tags.and_then(|t| t.iter().find(|e| e.key.eq_ignore_ascii_case("environment")))
                        .and_then(|e| e.value.as_str())
                        .and_then(environment_of),
                );
            }
            _ => {}
        }
    }
    // Two answers are none.
    (found.len() == 1).then(|| found.pop_first()).flatten()
}

fn is_pipeline(v: &Value) -> bool {
    let step = |v: &Value| {
        v.as_map().is_some_and(|m| {
            [
                "script",
                "bash",
                "pwsh",
                "powershell",
                "task",
                "checkout",
                "download",
                "publish",
                "template",
                "job",
                "deployment",
                "stage",
            ]
            .iter()
            .any(|k| m.entry(k).is_some())
                || m.iter().any(|e| e.key.starts_with("${{"))
        })
    };
    match &v.kind {
        Kind::Map(m) => {
            // GitHub's workflows have `on:` and jobs as a map; GitLab's stages are words.
            m.entry("on").is_none()
                && ["steps", "jobs", "stages"]
                    .iter()
                    .any(|k| m.get(k).and_then(Value::as_list).is_some_and(|l| l.iter().any(step)))
        }
        Kind::List(l) => {
            l.iter().any(|v| {
                v.as_map().is_some_and(|m| {
                    ["script", "task", "bash"].iter().any(|k| m.entry(k).is_some())
                })
            }) && l.iter().all(|v| {
                v.as_map().is_some_and(|m| {
                    m.entry("hosts").is_none()
                        && m.entry("name").is_none_or(|_| {
                            m.entry("task").is_some() || m.entry("script").is_some()
                        })
                })
            })
        }
        _ => false,
    }
}

fn templates(v: &Value, from: &Path, out: &mut BTreeSet<PathBuf>, depth: usize) {
    if depth > 40 {
        return;
    }
    match &v.kind {
        Kind::List(l) => l.iter().for_each(|v| templates(v, from, out, depth + 1)),
        Kind::Map(m) => {
            for e in &**m {
                match (&*e.key, e.value.as_str()) {
                    ("template", Some(t)) => out.extend(template_path(from, t)),
                    _ => templates(&e.value, from, out, depth + 1),
                }
            }
        }
        _ => {}
    }
}

fn template_path(from: &Path, name: &str) -> Option<PathBuf> {
    if name.contains('@') && !name.ends_with("@self") {
        return None;
    }
    let name = name.trim_end_matches("@self");
    let base = if name.starts_with('/') { PathBuf::new() } else { from.parent()?.to_owned() };
    let mut out = PathBuf::new();
    for c in base.join(name.trim_start_matches('/')).components() {
        match c {
            std::path::Component::ParentDir => {
                out.pop();
            }
            std::path::Component::CurDir => {}
            c => out.push(c),
        }
    }
    Some(out)
}

struct Unfold<'a> {
    builder: &'a Builder<'a>,
    jobs: Vec<Job>,
    missing: bool,
    fuel: usize,
}

impl Unfold<'_> {
    fn walk(&mut self, v: &Value, path: &Path, pool: Option<&Value>, depth: usize) {
        match &v.kind {
            Kind::List(_) => {
                self.job("", v, v.span, None, pool, path, depth);
            }
            Kind::Map(m) => {
                if let Some(x) = m
                    .get("extends")
                    .and_then(Value::as_map)
                    .and_then(|m| m.get("template"))
                    .and_then(Value::as_str)
                {
                    self.include(x, path, pool, depth);
                }
                if let Some(s) = m.get("stages") {
                    self.stages(s, path, pool, depth);
                }
                if let Some(j) = m.get("jobs") {
                    self.jobs_of("", j, path, pool, depth);
                }
                if let Some(s) = m.get("steps") {
                    self.job("", s, s.span, None, pool, path, depth);
                }
            }
            _ => {}
        }
    }

    fn include(&mut self, name: &str, from: &Path, pool: Option<&Value>, depth: usize) {
        match template_path(from, name).and_then(|p| self.builder.pipelines.get_key_value(&p)) {
            Some((p, d)) if depth < 20 => {
                let (p, d) = (p.clone(), d.value.clone());
                self.walk(&d, &p, pool, depth + 1);
            }
            _ => self.missing = true,
        }
    }

    /// A list's elements, the branches of `${{ if }}` and `${{ each }}` among them.
    fn flat(&mut self, v: &Value, depth: usize) -> Vec<Value> {
        let Some(list) = v.as_list() else { return Vec::new() };
        let mut out = Vec::new();
        for item in list {
            if self.fuel == 0 || depth > 30 {
                self.missing = true;
                break;
            }
            self.fuel -= 1;
            match item.as_map().and_then(|m| m.iter().next().map(|e| (m, e))) {
                Some((m, first)) if first.key.starts_with("${{") => {
                    for e in m {
                        out.extend(self.flat(&e.value, depth + 1));
                    }
                }
                _ => out.push(item.clone()),
            }
        }
        out
    }

    fn stages(&mut self, v: &Value, path: &Path, pool: Option<&Value>, depth: usize) {
        for s in self.flat(v, 0) {
            let Some(m) = s.as_map() else { continue };
            if let Some(t) = m.get("template").and_then(Value::as_str) {
                self.include(t, path, pool, depth);
                continue;
            }
            let name = m.get("stage").map(Value::known_text).unwrap_or_default();
            let pool = m.get("pool").or(pool).cloned();
            if let Some(j) = m.get("jobs") {
                self.jobs_of(&name, j, path, pool.as_ref(), depth);
            } else if let Some(s) = m.get("steps") {
                self.job(&name, s, s.span, None, pool.as_ref(), path, depth);
            }
        }
    }

    fn jobs_of(&mut self, stage: &str, v: &Value, path: &Path, pool: Option<&Value>, depth: usize) {
        for j in self.flat(v, 0) {
            let Some(m) = j.as_map() else { continue };
            if let Some(t) = m.get("template").and_then(Value::as_str) {
                self.include(t, path, pool, depth);
                continue;
            }
            let pool = m.get("pool").or(pool).cloned();
            if let Some(d) = m.entry("deployment") {
                let span = Span { end: d.at.end, ..d.key_span };
                // runOnce.deploy, rolling.deploy, canary.deploy, and the hooks around them.
                let strategies = m.get("strategy").and_then(Value::as_map);
                for s in strategies.into_iter().flatten() {
                    for hook in s.value.as_map().into_iter().flatten() {
                        if let Some(steps) = hook.value.as_map().and_then(|h| h.get("steps")) {
                            self.job(stage, steps, span, Some(m), pool.as_ref(), path, depth);
                        }
                    }
                }
            } else if let Some(steps) = m.get("steps") {
                let span = m.entry("job").map_or(j.span, |e| Span { end: e.at.end, ..e.key_span });
                self.job(stage, steps, span, None, pool.as_ref(), path, depth);
                if let (Some(e), Some(last)) = (m.get("environment"), self.jobs.last_mut()) {
                    last.environment = Some(e.clone());
                }
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "what a job is made of")]
    fn job(
        &mut self,
        stage: &str,
        steps: &Value,
        span: Span,
        deployment: Option<&Map>,
        pool: Option<&Value>,
        path: &Path,
        depth: usize,
    ) {
        let stage_index = match self.jobs.last() {
            Some(j) if j.stage == stage => j.stage_index,
            Some(j) => j.stage_index + 1,
            None => 0,
        };
        let mut job = Job {
            stage: stage.to_owned(),
            stage_index,
            span,
            deployment: deployment.is_some(),
            environment: deployment.and_then(|m| m.get("environment")).cloned(),
            pool: pool.cloned(),
            steps: Vec::new(),
            partial: false,
        };
        self.steps(steps, path, &mut job, depth);
        self.jobs.push(job);
    }

    fn steps(&mut self, v: &Value, path: &Path, job: &mut Job, depth: usize) {
        const KINDS: [&str; 10] = [
            "script",
            "bash",
            "pwsh",
            "powershell",
            "task",
            "checkout",
            "download",
            "publish",
            "getPackage",
            "downloadBuild",
        ];
        for s in self.flat(v, 0) {
            let Kind::Map(m) = &s.kind else { continue };
            if let Some(t) = m.get("template").and_then(Value::as_str) {
                let found =
                    template_path(path, t).and_then(|p| self.builder.pipelines.get_key_value(&p));
                match found {
                    Some((p, d)) if depth < 20 => {
                        let steps = d.value.as_map().and_then(|m| m.get("steps")).cloned();
                        if let Some(inner) = steps {
                            let p = p.clone();
                            self.steps(&inner, &p, job, depth + 1);
                        }
                    }
                    _ => {
                        job.partial = true;
                        self.missing = true;
                    }
                }
                continue;
            }
            if let Some(e) = m.iter().find(|e| KINDS.contains(&&*e.key)) {
                job.steps.push(Step {
                    kind: e.key.to_string(),
                    value: e.value.clone(),
                    span: Span { end: e.key_span.end.max(e.key_span.start), ..e.key_span },
                    body: m.clone(),
                });
            }
        }
    }
}

impl Pipeline {
    /// The lines of a script, each with its place.
    pub(crate) fn lines(&self, v: &Value) -> Vec<crate::snippet::Line<'_>> {
        crate::snippet::lines(&self.sources.get(v.span.file).text, v.span)
    }
}

/// Whether a resource is certain to exist.
pub(crate) fn certain(r: &Resource) -> bool {
    r.existence == Existence::Certain
}
