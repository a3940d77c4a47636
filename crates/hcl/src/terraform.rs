//! Terraform on top of HCL: directories of files, modules on disk, and what they come to.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use crate::ast::{Attribute, Block, Body, ExprKind, Name};
use crate::eval::Evaluator;
use crate::span::{FileId, Span};
use crate::value::{Map, Value};

/// A directory of `.tf` files: a root module or a child.
#[derive(Debug, Default)]
pub struct Directory {
    /// Its files, sorted by name, so that nothing depends on the order of reading.
    files: Vec<(FileId, Body)>,
    /// Whether a file of it could not be read whole: then nothing may be concluded from absence.
    pub broken: bool,
    resources: HashMap<(Name, Name), (usize, usize)>,
    data: HashMap<(Name, Name), (usize, usize)>,
    variables: HashMap<Name, (usize, usize)>,
    outputs: HashMap<Name, (usize, usize)>,
    modules: HashMap<Name, (usize, usize)>,
    locals: HashMap<Name, (usize, usize, usize)>,
}

/// Values from a `.tfvars` file or a command line.
#[derive(Debug)]
pub struct VariableFile {
    /// Its name without the extension: `prod` for `environments/prod.tfvars`.
    pub name: String,
    /// Where it lies.
    pub path: PathBuf,
    /// What it sets.
    pub body: Body,
}

/// All Terraform below one place.
#[derive(Debug, Default)]
pub struct Program {
    directories: BTreeMap<PathBuf, Directory>,
}

/// Whether something exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Existence {
    /// It does.
    Certain,
    /// It depends on something unknown: the reason.
    Possible(Arc<str>),
}

/// One instance of a resource, data source, provider, variable or backend.
#[derive(Clone, Debug)]
pub struct Resource {
    /// `module.app.azurerm_linux_web_app.backend["eu"]`
    pub address: Arc<str>,
    /// `azurerm_linux_web_app`; `data.azurerm_…`; `provider.azurerm`; `variable`; `backend.azurerm`
    pub kind: Arc<str>,
    /// The second label.
    pub name: Arc<str>,
    /// `module.app`, or empty in the root.
    pub module: Arc<str>,
    /// Attributes and blocks.
    pub body: Map,
    /// `resource "…" "…"`: underlined when something is missing.
    pub header: Span,
    /// The whole block, for what stands in it.
    pub span: Span,
    /// Whether it exists.
    pub existence: Existence,
    /// Addresses it depends on explicitly or by reference are found through [`Value::refs`].
    pub depends_on: Vec<Arc<str>>,
    /// `lifecycle.ignore_changes`: what Terraform sets once and then leaves alone; `all` for
    /// everything.
    pub ignores: Vec<Arc<str>>,
}

/// What a root module comes to with one set of variables.
#[derive(Debug, Default)]
pub struct Configuration {
    /// Every instance, in the order of files and blocks, modules after the root.
    pub resources: Vec<Resource>,
    /// Why there may be more resources than these (remote modules, broken files).
    pub incomplete: Vec<(String, Option<Span>)>,
    /// Whether what was read may itself be short of lines: a file was broken, or evaluation stopped.
    pub unreadable: bool,
    /// Files that took part.
    pub files: Vec<FileId>,
}

impl Directory {
    /// The block at an index of the maps above.
    fn block(&self, (file, block): (usize, usize)) -> &Block {
        &self.files[file].1.blocks[block]
    }

    pub(crate) fn resource(&self, kind: &Name, name: &Name) -> Option<&Block> {
        self.resources.get(&(kind.clone(), name.clone())).map(|&at| self.block(at))
    }

    pub(crate) fn data_source(&self, kind: &Name, name: &Name) -> Option<&Block> {
        self.data.get(&(kind.clone(), name.clone())).map(|&at| self.block(at))
    }

    pub(crate) fn variable(&self, name: &str) -> Option<&Block> {
        self.variables.get(name).map(|&at| self.block(at))
    }

    pub(crate) fn output(&self, name: &str) -> Option<&Block> {
        self.outputs.get(name).map(|&at| self.block(at))
    }

    pub(crate) fn module(&self, name: &str) -> Option<&Block> {
        self.modules.get(name).map(|&at| self.block(at))
    }

    pub(crate) fn local(&self, name: &str) -> Option<&Attribute> {
        self.locals.get(name).map(|&(f, b, a)| &self.files[f].1.blocks[b].body.attributes[a])
    }

    /// All blocks, in order.
    pub fn blocks(&self) -> impl Iterator<Item = &Block> {
        self.files.iter().flat_map(|(_, b)| &b.blocks)
    }

    /// The files that make it up.
    pub fn files(&self) -> impl Iterator<Item = FileId> + '_ {
        self.files.iter().map(|(f, _)| *f)
    }

    /// The names of all declared variables.
    pub fn variable_names(&self) -> impl Iterator<Item = &str> {
        self.variables.keys().map(|n| &**n)
    }

    fn index(&mut self) {
        for (f, (_, body)) in self.files.iter().enumerate() {
            for (b, block) in body.blocks.iter().enumerate() {
                let at = (f, b);
                match (&*block.kind, &*block.labels) {
                    ("resource", [k, n]) => {
                        self.resources.entry((k.clone(), n.clone())).or_insert(at);
                    }
                    ("data", [k, n]) => {
                        self.data.entry((k.clone(), n.clone())).or_insert(at);
                    }
                    ("variable", [n]) => {
                        self.variables.entry(n.clone()).or_insert(at);
                    }
                    ("output", [n]) => {
                        self.outputs.entry(n.clone()).or_insert(at);
                    }
                    ("module", [n]) => {
                        self.modules.entry(n.clone()).or_insert(at);
                    }
                    ("locals", []) => {
                        for (a, attribute) in block.body.attributes.iter().enumerate() {
                            self.locals.entry(attribute.name.clone()).or_insert((f, b, a));
                        }
                    }
                    _ => {}
                }
            }
        }
    }
}

impl Program {
    /// Builds a program from parsed files. `broken` says that a file has syntax errors.
    pub fn new(files: Vec<(PathBuf, FileId, Body, bool)>) -> Self {
        let mut directories: BTreeMap<PathBuf, Directory> = BTreeMap::new();
        let mut files = files;
        files.sort_by(|a, b| a.0.cmp(&b.0));
        for (path, file, body, broken) in files {
            let d = directories.entry(normal(path.parent().unwrap_or(Path::new("")))).or_default();
            d.broken |= broken;
            d.files.push((file, body));
        }
        directories.values_mut().for_each(Directory::index);
        Self { directories }
    }

    /// A directory.
    pub fn directory(&self, path: &Path) -> Option<&Directory> {
        self.directories.get(&normal(path))
    }

    /// Says that a directory has a file that could not be read.
    pub fn mark_broken(&mut self, directory: &Path) {
        if let Some(d) = self.directories.get_mut(&normal(directory)) {
            d.broken = true;
        }
    }

    /// The directories that no other one calls as a module: those that a person applies.
    pub fn roots(&self) -> Vec<&Path> {
        let mut called = HashSet::new();
        for (path, d) in &self.directories {
            for block in d.blocks().filter(|b| &*b.kind == "module") {
                if let Some(target) = local_source(path, block) {
                    called.insert(target);
                }
            }
        }
        self.directories.keys().filter(|p| !called.contains(*p)).map(PathBuf::as_path).collect()
    }

    /// Evaluates a root module. Later variable files win over earlier ones, as with `-var-file`.
    pub fn evaluate(
        &self,
        root: &Path,
        variables: &[&VariableFile],
        workspace: Option<&str>,
    ) -> Configuration {
        let Some(directory) = self.directory(root) else { return Configuration::default() };
        Evaluator::new(self, workspace).run(root, directory, variables)
    }
}

/// Where a module call's `source` points, if it is a directory beside this one.
pub(crate) fn local_source(directory: &Path, call: &Block) -> Option<PathBuf> {
    let attribute = call.body.attribute("source")?;
    let ExprKind::Text(source) = &attribute.value.kind else { return None };
    let local = source.starts_with("./")
        || source.starts_with("../")
        || &**source == "."
        || &**source == "..";
    local.then(|| normal(&directory.join(&**source)))
}

/// A path without `.` and with `..` folded, without asking the disk.
fn normal(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for c in path.components() {
        match c {
            Component::CurDir => {}
            Component::ParentDir => {
                if !matches!(out.components().next_back(), Some(Component::Normal(_))) || !out.pop()
                {
                    out.push("..");
                }
            }
            c => out.push(c),
        }
    }
    out
}

impl Resource {
    /// An attribute's value, if it is set.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.body.get(name)
    }
}
