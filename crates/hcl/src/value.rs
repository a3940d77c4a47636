//! A value as far as it can be known, with the place where it was written.
//! The same type holds what HCL evaluates to and what JSON and YAML files hold, so that a rule
//! need not care where a fact came from.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use crate::span::Span;

/// A value and where it was *written*: for `sku = var.sku` that is the line in the `.tfvars`.
/// Where it is *used* is [`Entry::at`].
#[derive(Clone, Debug)]
pub struct Value {
    /// What it is.
    pub kind: Kind,
    /// Where it was written.
    pub span: Span,
}

/// What a value is.
#[derive(Clone, Debug)]
pub enum Kind {
    /// `null`: as good as not written.
    Null,
    /// A truth value.
    Bool(bool),
    /// A number. HCL's are decimal; 53 bits suffice for what is judged here.
    Number(f64),
    /// Text, wholly known.
    Text(Arc<str>),
    /// Text with holes: `"${azurerm_key_vault.main.vault_uri}secrets/db"`.
    Partial(Arc<[Piece]>),
    /// A list, a set, a tuple, or the blocks of one name.
    List(Arc<[Value]>),
    /// A map, an object, or the body of a block.
    Map(Arc<Map>),
    /// An attribute of a resource that only Azure knows (`id`, `principal_id`, …).
    Ref(Arc<Ref>),
    /// Not known before `apply`, and why.
    Unknown(Arc<str>),
}

/// A part of a [`Kind::Partial`].
#[derive(Clone, Debug)]
pub enum Piece {
    /// Known.
    Text(Arc<str>),
    /// Not known: a reference, or unknown.
    Hole(Value),
}

/// A reference to something only Azure knows about a resource.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ref {
    /// The full address: `module.app.azurerm_subnet.pe["a"]`, `data.azurerm_client_config.current`.
    pub address: Arc<str>,
    /// The resource's type.
    pub kind: Arc<str>,
    /// The attribute: `id`, `identity.principal_id`.
    pub attribute: Arc<str>,
}

/// One entry of a [`Map`].
#[derive(Clone, Debug)]
pub struct Entry {
    /// The key.
    pub key: Arc<str>,
    /// Where the key stands.
    pub key_span: Span,
    /// The expression that gave the value, in the resource itself.
    pub at: Span,
    /// The value.
    pub value: Value,
}

/// An ordered map. `open` says that there may be more entries than are known here.
#[derive(Clone, Debug, Default)]
pub struct Map {
    entries: Vec<Entry>,
    index: Option<HashMap<Arc<str>, usize>>,
    /// Why there may be more entries (`merge(var.unknown, …)`), if so.
    pub open: Option<Arc<str>>,
}

/// From how many entries on a map keeps an index; below, a scan is faster.
const INDEX_FROM: usize = 24;

impl Map {
    /// An empty map that may hold more than is known, for a reason.
    pub fn opened(open: Option<Arc<str>>) -> Self {
        Self { open, ..Self::default() }
    }

    /// Adds or replaces.
    pub fn insert(&mut self, entry: Entry) {
        if let Some(i) = self.position(&entry.key) {
            self.entries[i] = entry;
            return;
        }
        if let Some(index) = &mut self.index {
            index.insert(entry.key.clone(), self.entries.len());
        } else if self.entries.len() >= INDEX_FROM {
            let mut index: HashMap<_, _> =
                self.entries.iter().enumerate().map(|(i, e)| (e.key.clone(), i)).collect();
            index.insert(entry.key.clone(), self.entries.len());
            self.index = Some(index);
        }
        self.entries.push(entry);
    }

    fn position(&self, key: &str) -> Option<usize> {
        match &self.index {
            Some(index) => index.get(key).copied(),
            None => self.entries.iter().position(|e| &*e.key == key),
        }
    }

    /// The entry of a key.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.position(key).map(|i| &self.entries[i])
    }

    /// The value of a key; `null` counts as absent, as it does to Terraform.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.entry(key).map(|e| &e.value).filter(|v| !v.is_null())
    }

    /// All entries, in the order written.
    pub fn iter(&self) -> std::slice::Iter<'_, Entry> {
        self.entries.iter()
    }

    /// How many entries are known.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The blocks (or list of objects, or one object) of a name.
    pub fn blocks(&self, name: &str) -> Vec<(&Value, &Map)> {
        match self.get(name) {
            Some(v) => match &v.kind {
                Kind::Map(m) => vec![(v, &**m)],
                Kind::List(l) => l.iter().filter_map(|v| v.as_map().map(|m| (v, m))).collect(),
                _ => Vec::new(),
            },
            None => Vec::new(),
        }
    }

    /// The first block of a name.
    pub fn block(&self, name: &str) -> Option<(&Value, &Map)> {
        match &self.get(name)?.kind {
            Kind::Map(m) => Some((self.get(name)?, m)),
            Kind::List(l) => l.iter().find_map(|v| v.as_map().map(|m| (v, m))),
            _ => None,
        }
    }
}

impl<'a> IntoIterator for &'a Map {
    type Item = &'a Entry;
    type IntoIter = std::slice::Iter<'a, Entry>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl Value {
    /// A value at a place.
    pub fn new(kind: Kind, span: Span) -> Self {
        Self { kind, span }
    }

    /// Known text.
    pub fn text(text: impl Into<Arc<str>>, span: Span) -> Self {
        Self::new(Kind::Text(text.into()), span)
    }

    /// Unknown, for a reason.
    pub fn unknown(why: impl Into<Arc<str>>, span: Span) -> Self {
        Self::new(Kind::Unknown(why.into()), span)
    }

    /// A list.
    pub fn list(items: Vec<Value>, span: Span) -> Self {
        Self::new(Kind::List(items.into()), span)
    }

    /// A map.
    pub fn map(map: Map, span: Span) -> Self {
        Self::new(Kind::Map(Arc::new(map)), span)
    }

    /// Whether it is `null`.
    pub fn is_null(&self) -> bool {
        matches!(self.kind, Kind::Null)
    }

    /// Whether it is known in no part: unknown, or a reference.
    pub fn is_unknown(&self) -> bool {
        matches!(self.kind, Kind::Unknown(_) | Kind::Ref(_))
    }

    /// Whether all of it is known.
    pub fn is_whole(&self) -> bool {
        match &self.kind {
            Kind::Unknown(_) | Kind::Ref(_) | Kind::Partial(_) => false,
            Kind::List(l) => l.iter().all(Self::is_whole),
            Kind::Map(m) => m.open.is_none() && m.iter().all(|e| e.value.is_whole()),
            _ => true,
        }
    }

    /// Text, if it is known text.
    pub fn as_str(&self) -> Option<&str> {
        match &self.kind {
            Kind::Text(s) => Some(s),
            _ => None,
        }
    }

    /// A truth value; Terraform converts `"true"` and `"false"`.
    pub fn as_bool(&self) -> Option<bool> {
        match &self.kind {
            Kind::Bool(b) => Some(*b),
            Kind::Text(s) => match &**s {
                "true" => Some(true),
                "false" => Some(false),
                _ => None,
            },
            _ => None,
        }
    }

    /// A number; Terraform converts text that is one.
    pub fn as_number(&self) -> Option<f64> {
        match &self.kind {
            Kind::Number(n) => Some(*n),
            Kind::Text(s) => s.trim().parse().ok(),
            _ => None,
        }
    }

    /// A map.
    pub fn as_map(&self) -> Option<&Map> {
        match &self.kind {
            Kind::Map(m) => Some(m),
            _ => None,
        }
    }

    /// A list.
    pub fn as_list(&self) -> Option<&[Value]> {
        match &self.kind {
            Kind::List(l) => Some(l),
            _ => None,
        }
    }

    /// A reference.
    pub fn as_ref(&self) -> Option<&Ref> {
        match &self.kind {
            Kind::Ref(r) => Some(r),
            _ => None,
        }
    }

    /// The value as text with `…` for what is unknown; for looking for something *in* it, and for
    /// showing it. Numbers and truth values as Terraform converts them.
    pub fn known_text(&self) -> String {
        let mut out = String::new();
        self.write_text(&mut out);
        out
    }

    fn write_text(&self, out: &mut String) {
        match &self.kind {
            Kind::Null => {}
            Kind::Bool(b) => {
                let _ = write!(out, "{b}");
            }
            Kind::Number(n) => {
                let _ = write!(out, "{n}");
            }
            Kind::Text(s) => out.push_str(s),
            Kind::Partial(pieces) => {
                for p in &**pieces {
                    match p {
                        Piece::Text(s) => out.push_str(s),
                        Piece::Hole(v) => v.write_text(out),
                    }
                }
            }
            _ => out.push('…'),
        }
    }

    /// Every reference in it, however deep.
    pub fn refs(&self) -> Vec<&Ref> {
        let mut out = Vec::new();
        self.collect_refs(&mut out);
        out
    }

    fn collect_refs<'a>(&'a self, out: &mut Vec<&'a Ref>) {
        match &self.kind {
            Kind::Ref(r) => out.push(r),
            Kind::Partial(pieces) => {
                for p in &**pieces {
                    if let Piece::Hole(v) = p {
                        v.collect_refs(out);
                    }
                }
            }
            Kind::List(l) => l.iter().for_each(|v| v.collect_refs(out)),
            Kind::Map(m) => m.iter().for_each(|e| e.value.collect_refs(out)),
            _ => {}
        }
    }

    /// Why it is unknown, if it is.
    pub fn why_unknown(&self) -> Option<String> {
        match &self.kind {
            Kind::Unknown(w) => Some(w.to_string()),
            Kind::Ref(r) => Some(format!("`{}.{}` is known after apply", r.address, r.attribute)),
            _ => None,
        }
    }

    /// Whether two values are known to be equal (`Some(true)`), known to differ, or neither.
    pub fn equals(&self, other: &Self) -> Option<bool> {
        match (&self.kind, &other.kind) {
            (Kind::Ref(a), Kind::Ref(b)) if a == b => Some(true),
            (Kind::Unknown(_) | Kind::Ref(_) | Kind::Partial(_), _)
            | (_, Kind::Unknown(_) | Kind::Ref(_) | Kind::Partial(_)) => None,
            (Kind::Null, Kind::Null) => Some(true),
            (Kind::Bool(a), Kind::Bool(b)) => Some(a == b),
            (Kind::Number(a), Kind::Number(b)) => Some((a - b).abs() < f64::EPSILON),
            (Kind::Text(a), Kind::Text(b)) => Some(a == b),
            (Kind::List(a), Kind::List(b)) => {
                if a.len() != b.len() {
                    return Some(false);
                }
                a.iter().zip(b.iter()).try_fold(true, |all, (x, y)| Some(all && x.equals(y)?))
            }
            (Kind::Map(a), Kind::Map(b)) => {
                if a.open.is_some() || b.open.is_some() {
                    return None;
                }
                if a.len() != b.len() {
                    return Some(false);
                }
                a.iter().try_fold(true, |all, e| match b.entry(&e.key) {
                    Some(o) => Some(all && e.value.equals(&o.value)?),
                    None => Some(false),
                })
            }
            _ => Some(false),
        }
    }
}
