//! The evaluator: lazy, memoised, and bounded. Whatever cannot be known becomes unknown with the
//! reason; nothing is guessed.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use crate::ast::{Block, Body, Expr, ExprKind, For, Name, Operator, Part};
use crate::functions;
use crate::span::Span;
use crate::terraform::{
    Configuration, Directory, Existence, Program, Resource, VariableFile, local_source,
};
use crate::value::{Entry, Kind, Map, Piece, Ref, Value};

/// How many expression nodes one evaluation may visit. A hundred thousand resources take four
/// million; what takes more is a configuration built to hang a checker.
const FUEL: u64 = 60_000_000;
/// How deep references may lead into one another.
const MAX_DEPTH: usize = 220;
/// How many instances `count` or `for_each` may make of one resource before they stand as one.
const MAX_INSTANCES: usize = 20_000;
/// How many nodes a value may have once every shared part is counted each time it appears.
const MAX_WEIGHT: usize = 200_000;
/// How deep modules may call one another.
const MAX_MODULES: usize = 24;
/// How long a text may get.
pub(crate) const MAX_TEXT: usize = 1 << 20;

/// What `each` and `count` are for one instance.
#[derive(Clone, Debug, Default)]
struct Each {
    key: Option<Value>,
    value: Option<Value>,
    index: Option<Value>,
}

enum Slot {
    Busy,
    Done(Value),
}

#[derive(Clone)]
enum Keys {
    One,
    Count(usize),
    Each(Rc<[(Arc<str>, Value)]>),
    Unknown(Arc<str>),
}

struct Module<'p> {
    path: Arc<str>,
    place: PathBuf,
    directory: &'p Directory,
    level: usize,
    caller: Option<(Rc<Module<'p>>, &'p Block, Each)>,
    given: HashMap<Name, &'p Expr>,
    variables: RefCell<HashMap<Name, Slot>>,
    locals: RefCell<HashMap<Name, Slot>>,
    keys: RefCell<HashMap<Span, Option<Keys>>>,
    attributes: RefCell<HashMap<(Arc<str>, Name), Slot>>,
    children: RefCell<HashMap<(Name, Arc<str>), Option<Rc<Module<'p>>>>>,
}

#[derive(Clone)]
struct Handle<'p> {
    module: Rc<Module<'p>>,
    block: Option<&'p Block>,
    each: Each,
    address: Arc<str>,
}

struct Scope<'s, 'p> {
    module: &'s Rc<Module<'p>>,
    each: &'s Each,
    bindings: Option<&'s Binding<'s>>,
}

struct Binding<'s> {
    name: &'s str,
    value: Value,
    next: Option<&'s Binding<'s>>,
}

impl Scope<'_, '_> {
    fn binding(&self, name: &str) -> Option<Value> {
        let mut b = self.bindings;
        while let Some(x) = b {
            if x.name == name {
                return Some(x.value.clone());
            }
            b = x.next;
        }
        None
    }
}

pub(crate) struct Evaluator<'p> {
    program: &'p Program,
    workspace: Option<Arc<str>>,
    fuel: Cell<u64>,
    depth: Cell<usize>,
    handles: RefCell<HashMap<Arc<str>, Handle<'p>>>,
}

const META: [&str; 6] = ["count", "for_each", "provider", "lifecycle", "provisioner", "connection"];

impl<'p> Evaluator<'p> {
    pub(crate) fn new(program: &'p Program, workspace: Option<&str>) -> Self {
        Self {
            program,
            workspace: workspace.map(Arc::from),
            fuel: Cell::new(FUEL),
            depth: Cell::new(0),
            handles: RefCell::default(),
        }
    }

    pub(crate) fn run(
        &self,
        place: &Path,
        directory: &'p Directory,
        files: &[&'p VariableFile],
    ) -> Configuration {
        let mut given = HashMap::new();
        for f in files {
            for a in &f.body.attributes {
                given.insert(a.name.clone(), &a.value);
            }
        }
        let root = Rc::new(Module {
            path: Arc::from(""),
            place: place.to_owned(),
            directory,
            level: 0,
            caller: None,
            given,
            variables: RefCell::default(),
            locals: RefCell::default(),
            keys: RefCell::default(),
            attributes: RefCell::default(),
            children: RefCell::default(),
        });
        let mut out = Configuration::default();
        self.collect(&root, None, &mut out);
        if self.fuel.get() == 0 {
            out.unreadable = true;
            out.incomplete.push(("the configuration takes too long to evaluate".into(), None));
        }
        out.files.sort_unstable();
        out.files.dedup();
        out
    }

    /// Adds everything a module declares, then its children.
    fn collect(
        &self,
        module: &Rc<Module<'p>>,
        possible: Option<&Arc<str>>,
        out: &mut Configuration,
    ) {
        if module.directory.broken {
            out.unreadable = true;
            out.incomplete.push((
                format!("`{}` has files that could not be read whole", module.place.display()),
                None,
            ));
        }
        out.files.extend(module.directory.files());
        let none = Each::default();
        for block in module.directory.blocks() {
            match (&*block.kind, &*block.labels) {
                ("resource" | "data", [kind, name]) => {
                    self.collect_resource(module, block, kind, name, possible, out);
                }
                ("provider", [name]) => {
                    let scope = Scope { module, each: &none, bindings: None };
                    let body = self.body(&block.body, &scope, 0);
                    out.resources.push(pseudo(
                        format!("provider.{name}"),
                        name,
                        module,
                        block,
                        body,
                    ));
                }
                ("terraform", []) => {
                    let scope = Scope { module, each: &none, bindings: None };
                    for inner in
                        block.body.blocks_of("backend").chain(block.body.blocks_of("cloud"))
                    {
                        let name =
                            inner.labels.first().cloned().unwrap_or_else(|| Arc::from("cloud"));
                        let body = self.body(&inner.body, &scope, 0);
                        out.resources.push(pseudo(
                            format!("backend.{name}"),
                            &name,
                            module,
                            inner,
                            body,
                        ));
                    }
                    out.resources.push(pseudo(
                        "terraform".into(),
                        &Arc::from("terraform"),
                        module,
                        block,
                        Map::default(),
                    ));
                }
                ("variable", [name]) => {
                    let mut body = Map::default();
                    let value = self.variable(module, name, block.header);
                    body.insert(Entry {
                        key: Arc::from("value"),
                        key_span: block.header,
                        at: value.span,
                        value,
                    });
                    if let Some(a) = block.body.attribute("sensitive") {
                        let scope = Scope { module, each: &none, bindings: None };
                        let value = self.eval(&a.value, &scope);
                        body.insert(Entry {
                            key: a.name.clone(),
                            key_span: a.name_span,
                            at: a.value.span,
                            value,
                        });
                    }
                    out.resources.push(pseudo("variable".into(), name, module, block, body));
                }
                _ => {}
            }
        }
        for block in module.directory.blocks() {
            let ("module", [name]) = (&*block.kind, &*block.labels) else { continue };
            if local_source(&module.place, block)
                .is_none_or(|p| self.program.directory(&p).is_none())
            {
                let source = block.body.attribute("source").map(|a| a.value.span);
                out.incomplete.push((
                    format!("module `{name}` is not on this disk"),
                    source.or(Some(block.header)),
                ));
                continue;
            }
            let keys = self.keys(module, block);
            let (list, why) = expand(&keys);
            for (key, each) in list {
                if let Some(child) = self.child(module, name, block, &key, &each) {
                    self.collect(&child, why.as_ref().or(possible), out);
                } else {
                    out.incomplete
                        .push((format!("module `{name}` calls itself"), Some(block.header)));
                }
            }
        }
    }

    fn collect_resource(
        &self,
        module: &Rc<Module<'p>>,
        block: &'p Block,
        kind: &Name,
        name: &Name,
        possible: Option<&Arc<str>>,
        out: &mut Configuration,
    ) {
        let data = &*block.kind == "data";
        let keys = self.keys(module, block);
        let (list, why) = expand(&keys);
        let mut depends_on = Vec::new();
        if let Some(Expr { kind: ExprKind::List(items), .. }) =
            block.body.attribute("depends_on").map(|a| &a.value)
        {
            for e in items {
                if let Some(path) = path_of(e) {
                    depends_on.push(Arc::from(join(&module.path, &path)));
                }
            }
        }
        let ignores = ignored(&block.body);
        for (key, each) in list {
            // What memory holds is bounded as time is: some nine hundred thousand resources.
            self.spend(64);
            if self.fuel.get() == 0 {
                break;
            }
            let address = Arc::from(resource_address(&module.path, data, kind, name, &key));
            let scope = Scope { module, each: &each, bindings: None };
            let body = self.body(&block.body, &scope, 0);
            let existence = match why.as_ref().or(possible) {
                Some(w) => Existence::Possible(w.clone()),
                None => Existence::Certain,
            };
            out.resources.push(Resource {
                address,
                kind: if data { Arc::from(format!("data.{kind}")) } else { kind.clone() },
                name: name.clone(),
                module: module.path.clone(),
                body,
                header: block.header,
                span: block.span,
                existence,
                depends_on: depends_on.clone(),
                ignores: ignores.clone(),
            });
        }
    }

    /// A body's attributes and blocks, `dynamic` ones unfolded.
    fn body(&self, body: &'p Body, scope: &Scope<'_, 'p>, depth: usize) -> Map {
        let mut map = Map::default();
        for a in &body.attributes {
            if depth == 0 && (META.contains(&&*a.name) || &*a.name == "depends_on") {
                continue;
            }
            let value = light(self.eval(&a.value, scope));
            map.insert(Entry {
                key: a.name.clone(),
                key_span: a.name_span,
                at: a.value.span,
                value,
            });
        }
        let mut groups: Vec<(Name, Span, Span, Vec<Value>)> = Vec::new();
        for b in &body.blocks {
            if depth == 0 && META.contains(&&*b.kind) {
                continue;
            }
            let (name, values) = if &*b.kind == "dynamic" {
                let Some(name) = b.labels.first() else { continue };
                (name.clone(), self.dynamic(b, name, scope, depth))
            } else {
                let inner = self.body(&b.body, scope, depth + 1);
                (b.kind.clone(), vec![Value::map(inner, b.header)])
            };
            match groups.iter_mut().find(|g| g.0 == name) {
                Some(g) => g.3.extend(values),
                None => groups.push((name, b.kind_span, b.header, values)),
            }
        }
        for (name, key_span, header, values) in groups {
            // A `dynamic` that makes none is as if it were not there.
            if !values.is_empty() {
                map.insert(Entry {
                    key: name,
                    key_span,
                    at: header,
                    value: Value::list(values, header),
                });
            }
        }
        map
    }

    fn dynamic(
        &self,
        block: &'p Block,
        name: &Name,
        scope: &Scope<'_, 'p>,
        depth: usize,
    ) -> Vec<Value> {
        let iterator = match block.body.attribute("iterator").map(|a| &a.value.kind) {
            Some(ExprKind::Root(n)) => n.clone(),
            _ => name.clone(),
        };
        let Some(content) = block.body.blocks_of("content").next() else { return Vec::new() };
        let Some(over) = block.body.attribute("for_each") else { return Vec::new() };
        let collection = self.eval(&over.value, scope);
        let items = match elements(&collection) {
            Ok(items) => items,
            Err(why) => return vec![Value::unknown(why, block.header)],
        };
        items
            .into_iter()
            .take(MAX_INSTANCES)
            .map(|(key, value)| {
                let mut it = Map::default();
                let span = value.span;
                for (k, v) in [("key", key), ("value", value)] {
                    it.insert(Entry { key: Arc::from(k), key_span: span, at: span, value: v });
                }
                let binding =
                    Binding { name: &iterator, value: Value::map(it, span), next: scope.bindings };
                let inner =
                    Scope { module: scope.module, each: scope.each, bindings: Some(&binding) };
                Value::map(self.body(&content.body, &inner, depth + 1), content.header)
            })
            .collect()
    }

    fn keys(&self, module: &Rc<Module<'p>>, block: &'p Block) -> Keys {
        match module.keys.borrow().get(&block.header) {
            Some(Some(k)) => return k.clone(),
            Some(None) => return Keys::Unknown(Arc::from("its number depends on itself")),
            None => {}
        }
        let (count, each) = (block.body.attribute("count"), block.body.attribute("for_each"));
        if count.is_none() && each.is_none() {
            return Keys::One;
        }
        module.keys.borrow_mut().insert(block.header, None);
        let none = Each::default();
        let scope = Scope { module, each: &none, bindings: None };
        let keys = if let Some(a) = count {
            let v = self.eval(&a.value, &scope);
            match v.as_number() {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "bounded just before"
                )]
                Some(n) if (0.0..=MAX_INSTANCES as f64).contains(&n) => Keys::Count(n as usize),
                Some(_) => Keys::Unknown(Arc::from("its `count` is out of bounds")),
                None => Keys::Unknown(why(&v, "its `count`")),
            }
        } else if let Some(a) = each {
            let v = self.eval(&a.value, &scope);
            match elements(&v) {
                Ok(items) if items.len() <= MAX_INSTANCES => {
                    let list = matches!(v.kind, Kind::List(_));
                    let mut out: Vec<(Arc<str>, Value)> = Vec::with_capacity(items.len());
                    let mut bad = None;
                    for (k, v) in items {
                        let k = if list { v.clone() } else { k };
                        match &k.kind {
                            Kind::Text(t) => out.push((t.clone(), v)),
                            Kind::Number(_) | Kind::Bool(_) => {
                                out.push((Arc::from(k.known_text()), v));
                            }
                            _ => bad = Some(why(&k, "a key of its `for_each`")),
                        }
                    }
                    out.sort_by(|a, b| a.0.cmp(&b.0));
                    out.dedup_by(|a, b| a.0 == b.0);
                    match bad {
                        Some(b) => Keys::Unknown(b),
                        None => Keys::Each(out.into()),
                    }
                }
                Ok(_) => Keys::Unknown(Arc::from("its `for_each` is too large")),
                Err(w) => Keys::Unknown(w),
            }
        } else {
            Keys::One
        };
        module.keys.borrow_mut().insert(block.header, Some(keys.clone()));
        keys
    }

    fn child(
        &self,
        module: &Rc<Module<'p>>,
        name: &Name,
        block: &'p Block,
        key: &Arc<str>,
        each: &Each,
    ) -> Option<Rc<Module<'p>>> {
        let id = (name.clone(), key.clone());
        if let Some(c) = module.children.borrow().get(&id) {
            return c.clone();
        }
        let place = local_source(&module.place, block)?;
        let directory = self.program.directory(&place)?;
        if module.level >= MAX_MODULES {
            return None;
        }
        let child = Rc::new(Module {
            path: Arc::from(join(&module.path, &format!("module.{name}{key}"))),
            place,
            directory,
            level: module.level + 1,
            caller: Some((module.clone(), block, each.clone())),
            given: HashMap::new(),
            variables: RefCell::default(),
            locals: RefCell::default(),
            keys: RefCell::default(),
            attributes: RefCell::default(),
            children: RefCell::default(),
        });
        module.children.borrow_mut().insert(id, Some(child.clone()));
        Some(child)
    }

    // ---- expressions -------------------------------------------------------------------------

    fn eval(&self, e: &'p Expr, scope: &Scope<'_, 'p>) -> Value {
        let fuel = self.fuel.get();
        if fuel == 0 {
            return Value::unknown("the configuration takes too long to evaluate", e.span);
        }
        self.fuel.set(fuel - 1);
        let depth = self.depth.get();
        if depth >= MAX_DEPTH {
            return Value::unknown("references lead too deep", e.span);
        }
        self.depth.set(depth + 1);
        let v = self.eval_inner(e, scope);
        self.depth.set(depth);
        v
    }

    fn eval_inner(&self, e: &'p Expr, scope: &Scope<'_, 'p>) -> Value {
        let span = e.span;
        match &e.kind {
            ExprKind::Null => Value::new(Kind::Null, span),
            ExprKind::Bool(b) => Value::new(Kind::Bool(*b), span),
            ExprKind::Number(n) => Value::new(Kind::Number(*n), span),
            ExprKind::Text(t) => Value::new(Kind::Text(t.clone()), span),
            ExprKind::Template(parts) => self.template(parts, span, scope),
            ExprKind::Item => {
                scope.binding("").unwrap_or_else(|| Value::unknown("`*` outside a splat", span))
            }
            ExprKind::Root(_) | ExprKind::Get(..) | ExprKind::Index(..) => self.traverse(e, scope),
            ExprKind::Splat(base, rest) => self.splat(base, rest, span, scope),
            ExprKind::List(items) => {
                Value::list(items.iter().map(|i| self.eval(i, scope)).collect(), span)
            }
            ExprKind::Object(items) => {
                let mut map = Map::default();
                for (k, v) in items {
                    let key = self.eval(k, scope);
                    let value = self.eval(v, scope);
                    match key_text(&key) {
                        Some(t) => {
                            map.insert(Entry { key: t, key_span: k.span, at: v.span, value });
                        }
                        None => map.open = Some(why(&key, "a key")),
                    }
                }
                Value::map(map, span)
            }
            ExprKind::Call(name, arguments, spread) => {
                self.call(name, arguments, *spread, span, scope)
            }
            ExprKind::Unary(op, a) => {
                let a = self.eval(a, scope);
                let kind = match op {
                    Operator::Not => a.as_bool().map(|b| Kind::Bool(!b)),
                    _ => a.as_number().map(|n| Kind::Number(-n)),
                };
                kind.map_or_else(
                    || Value::unknown(why(&a, "an operand"), span),
                    |k| Value::new(k, span),
                )
            }
            ExprKind::Binary(op, a, b) => self.binary(*op, a, b, span, scope),
            ExprKind::Conditional(c) => {
                let (condition, yes, no) = &**c;
                let v = self.eval(condition, scope);
                match v.as_bool() {
                    Some(true) => self.eval(yes, scope),
                    Some(false) => self.eval(no, scope),
                    None => {
                        let (a, b) = (self.eval(yes, scope), self.eval(no, scope));
                        if a.equals(&b) == Some(true) {
                            a
                        } else {
                            Value::unknown(why(&v, "its condition"), span)
                        }
                    }
                }
            }
            ExprKind::For(f) => self.for_expr(f, span, scope),
        }
    }

    fn template(&self, parts: &'p [Part], span: Span, scope: &Scope<'_, 'p>) -> Value {
        let mut pieces = Vec::new();
        self.template_parts(parts, scope, &mut pieces);
        concat(pieces, span)
    }

    fn template_parts(&self, parts: &'p [Part], scope: &Scope<'_, 'p>, out: &mut Vec<Piece>) {
        for p in parts {
            match p {
                Part::Text(t) => out.push(Piece::Text(t.clone())),
                Part::Hole(e) => {
                    let v = self.eval(e, scope);
                    match &v.kind {
                        Kind::Text(t) => out.push(Piece::Text(t.clone())),
                        Kind::Bool(_) | Kind::Number(_) => {
                            out.push(Piece::Text(Arc::from(v.known_text())));
                        }
                        Kind::Partial(inner) => out.extend(inner.iter().cloned()),
                        Kind::Null => {}
                        _ => out.push(Piece::Hole(v)),
                    }
                }
                Part::If(c, yes, no) => {
                    let v = self.eval(c, scope);
                    match v.as_bool() {
                        Some(true) => self.template_parts(yes, scope, out),
                        Some(false) => self.template_parts(no, scope, out),
                        None => {
                            out.push(Piece::Hole(Value::unknown(why(&v, "its condition"), c.span)));
                        }
                    }
                }
                Part::For(k, v, c, inner) => {
                    let collection = self.eval(c, scope);
                    match elements(&collection) {
                        Ok(items) => {
                            for (key, value) in items {
                                if self.fuel.get() == 0 || out.len() > MAX_WEIGHT {
                                    return;
                                }
                                let b = Binding { name: v, value, next: scope.bindings };
                                let kb = Binding {
                                    name: k.as_deref().unwrap_or("\0"),
                                    value: key,
                                    next: Some(&b),
                                };
                                let s = Scope {
                                    module: scope.module,
                                    each: scope.each,
                                    bindings: Some(&kb),
                                };
                                self.template_parts(inner, &s, out);
                            }
                        }
                        Err(w) => out.push(Piece::Hole(Value::unknown(w, c.span))),
                    }
                }
            }
        }
    }

    fn binary(
        &self,
        op: Operator,
        a: &'p Expr,
        b: &'p Expr,
        span: Span,
        scope: &Scope<'_, 'p>,
    ) -> Value {
        use Operator as O;
        let (a, b) = (self.eval(a, scope), self.eval(b, scope));
        let kind = match op {
            O::Or => match (a.as_bool(), b.as_bool()) {
                (Some(true), _) | (_, Some(true)) => Some(Kind::Bool(true)),
                (Some(false), Some(false)) => Some(Kind::Bool(false)),
                _ => None,
            },
            O::And => match (a.as_bool(), b.as_bool()) {
                (Some(false), _) | (_, Some(false)) => Some(Kind::Bool(false)),
                (Some(true), Some(true)) => Some(Kind::Bool(true)),
                _ => None,
            },
            O::Equal => a.equals(&b).map(Kind::Bool),
            O::NotEqual => a.equals(&b).map(|e| Kind::Bool(!e)),
            _ => match (a.as_number(), b.as_number()) {
                (Some(x), Some(y)) => match op {
                    O::Less => Some(Kind::Bool(x < y)),
                    O::LessEqual => Some(Kind::Bool(x <= y)),
                    O::Greater => Some(Kind::Bool(x > y)),
                    O::GreaterEqual => Some(Kind::Bool(x >= y)),
                    O::Add => Some(Kind::Number(x + y)),
                    O::Subtract => Some(Kind::Number(x - y)),
                    O::Multiply => Some(Kind::Number(x * y)),
                    O::Divide if y != 0.0 => Some(Kind::Number(x / y)),
                    O::Remainder if y != 0.0 => Some(Kind::Number(x % y)),
                    _ => None,
                },
                _ => None,
            },
        };
        if let Some(k) = kind {
            Value::new(k, span)
        } else {
            let unknown = if a.is_whole() { &b } else { &a };
            Value::unknown(why(unknown, "an operand"), span)
        }
    }

    fn splat(&self, base: &'p Expr, rest: &'p Expr, span: Span, scope: &Scope<'_, 'p>) -> Value {
        let base = self.eval(base, scope);
        let items: Vec<Value> = match &base.kind {
            Kind::List(l) => l.to_vec(),
            Kind::Null => Vec::new(),
            Kind::Unknown(_) | Kind::Partial(_) => {
                return Value::unknown(why(&base, "what `*` walks over"), span);
            }
            _ => vec![base],
        };
        let each = |item: Value| {
            let b = Binding { name: "", value: item, next: scope.bindings };
            let s = Scope { module: scope.module, each: scope.each, bindings: Some(&b) };
            self.eval(rest, &s)
        };
        Value::list(items.into_iter().map(each).collect(), span)
    }

    fn for_expr(&self, f: &'p For, span: Span, scope: &Scope<'_, 'p>) -> Value {
        let collection = self.eval(&f.collection, scope);
        let items = match elements(&collection) {
            Ok(i) => i,
            Err(w) => return Value::unknown(w, span),
        };
        let mut open = match &collection.kind {
            Kind::Map(m) => m.open.clone(),
            _ => None,
        };
        let mut list = Vec::new();
        let mut map = Map::default();
        let mut groups: BTreeMap<Arc<str>, Vec<Value>> = BTreeMap::new();
        for (key, value) in items {
            if self.fuel.get() == 0 {
                break;
            }
            let b = Binding { name: &f.value_name, value, next: scope.bindings };
            let kb =
                Binding { name: f.key_name.as_deref().unwrap_or("\0"), value: key, next: Some(&b) };
            let s = Scope { module: scope.module, each: scope.each, bindings: Some(&kb) };
            if let Some(c) = &f.condition {
                let c = self.eval(c, &s);
                match c.as_bool() {
                    Some(true) => {}
                    Some(false) => continue,
                    None => {
                        open = Some(why(&c, "its condition"));
                        continue;
                    }
                }
            }
            let value = self.eval(&f.value, &s);
            match &f.key {
                None => list.push(value),
                Some(k) => {
                    let key_value = self.eval(k, &s);
                    match key_text(&key_value) {
                        Some(t) if f.group => groups.entry(t).or_default().push(value),
                        Some(t) => {
                            map.insert(Entry { key: t, key_span: k.span, at: f.value.span, value });
                        }
                        None => open = Some(why(&key_value, "a key")),
                    }
                }
            }
        }
        if f.key.is_none() {
            if let Some(w) = open {
                list.push(Value::unknown(w, span));
            }
            return Value::list(list, span);
        }
        for (k, values) in groups {
            map.insert(Entry {
                key: k,
                key_span: span,
                at: f.value.span,
                value: Value::list(values, span),
            });
        }
        map.open = open;
        Value::map(map, span)
    }

    fn call(
        &self,
        name: &Name,
        arguments: &'p [Expr],
        spread: bool,
        span: Span,
        scope: &Scope<'_, 'p>,
    ) -> Value {
        // These two must not look at all of their arguments alike.
        if &**name == "try" {
            for a in arguments {
                let v = self.eval(a, scope);
                if !failed(&v) {
                    return v;
                }
            }
            return Value::unknown("no argument of `try` succeeds", span);
        }
        if &**name == "can" {
            let v = arguments.first().map(|a| self.eval(a, scope));
            return match v {
                Some(v) if failed(&v) => Value::new(Kind::Bool(false), span),
                Some(v) if v.is_unknown() => Value::unknown(why(&v, "its argument"), span),
                _ => Value::new(Kind::Bool(true), span),
            };
        }
        let mut values: Vec<Value> = arguments.iter().map(|a| self.eval(a, scope)).collect();
        if spread {
            match values.pop() {
                Some(Value { kind: Kind::List(l), .. }) => values.extend(l.iter().cloned()),
                Some(v) => return Value::unknown(why(&v, "its arguments"), span),
                None => {}
            }
        }
        let cost = values.len() as u64
            + values.iter().filter_map(|v| v.as_list().map(|l| l.len() as u64)).sum::<u64>();
        self.fuel.set(self.fuel.get().saturating_sub(cost));
        light(functions::call(name, &values, span))
    }

    // ---- references --------------------------------------------------------------------------

    fn traverse(&self, e: &'p Expr, scope: &Scope<'_, 'p>) -> Value {
        // From the outside in, then walked from the root.
        let mut steps: Vec<Step<'p>> = Vec::new();
        let mut at = e;
        let root = loop {
            match &at.kind {
                ExprKind::Get(base, name) => {
                    steps.push(Step::Name(name));
                    at = base;
                }
                ExprKind::Index(base, index) => {
                    steps.push(Step::Index(index));
                    at = base;
                }
                ExprKind::Root(name) => break Some(name),
                _ => break None,
            }
        };
        steps.reverse();
        let (value, used) = match root {
            Some(name) => self.root(name, &steps, e.span, scope),
            None => (self.eval(at, scope), 0),
        };
        self.steps(value, &steps[used..], e.span, scope)
    }

    fn steps(
        &self,
        mut value: Value,
        steps: &[Step<'p>],
        span: Span,
        scope: &Scope<'_, 'p>,
    ) -> Value {
        let mut steps = steps.iter();
        while let Some(step) = steps.next() {
            value = match (&value.kind, step) {
                (Kind::Ref(r), Step::Name(name)) if r.attribute.is_empty() => {
                    let handle = self.handles.borrow().get(&r.address).cloned();
                    let r = r.clone();
                    let Some(handle) = handle else {
                        return Value::new(Kind::Ref(deeper(&r, name)), span);
                    };
                    if handle.block.is_none() {
                        // A module: the step names an output.
                        self.output(&handle.module, name, span)
                    } else {
                        let rest: Vec<&Step<'p>> = steps.clone().collect();
                        return self.resource_steps(&handle, &r, name, &rest, span, scope);
                    }
                }
                (Kind::Ref(r), Step::Name(name)) => Value::new(Kind::Ref(deeper(r, name)), span),
                // `identity[0].principal_id` is `identity.principal_id` to us.
                (Kind::Ref(_), Step::Index(_)) => value,
                (Kind::Unknown(_), _) => return value,
                (Kind::Map(m), step) => {
                    let key = match step {
                        Step::Name(n) => Some((*n).clone()),
                        Step::Index(i) => key_text(&self.eval(i, scope)),
                    };
                    let Some(key) = key else { return Value::unknown("its key is unknown", span) };
                    match (m.entry(&key), &m.open) {
                        (Some(entry), _) => entry.value.clone(),
                        (None, Some(w)) => return Value::unknown(w.clone(), span),
                        (None, None) => return missing(format!("there is no `{key}` in it"), span),
                    }
                }
                (Kind::List(l), step) => {
                    let n = match step {
                        Step::Index(i) => self.eval(i, scope).as_number(),
                        // A name on the single block of that name, as older configurations write it.
                        Step::Name(_) => None,
                    };
                    #[expect(
                        clippy::cast_possible_truncation,
                        clippy::cast_sign_loss,
                        reason = "checked by get"
                    )]
                    match n {
                        Some(n) if n >= 0.0 => match l.get(n as usize) {
                            Some(v) => v.clone(),
                            None => return missing("the index is out of bounds".into(), span),
                        },
                        _ => return Value::unknown("its index is unknown", span),
                    }
                }
                (Kind::Null, _) => return missing("an attribute of null".into(), span),
                _ => return missing("it has no attributes".into(), span),
            };
        }
        // Keep where it was written; a whole `var.x` keeps the place in the variable file.
        value
    }

    fn resource_steps(
        &self,
        handle: &Handle<'p>,
        r: &Arc<Ref>,
        name: &Name,
        rest: &[&Step<'p>],
        span: Span,
        scope: &Scope<'_, 'p>,
    ) -> Value {
        let computed = || {
            let mut attribute = name.to_string();
            for s in rest {
                if let Step::Name(n) = s {
                    attribute.push('.');
                    attribute.push_str(n);
                }
            }
            let r = Ref {
                address: r.address.clone(),
                kind: r.kind.clone(),
                attribute: Arc::from(attribute),
            };
            Value::new(Kind::Ref(Arc::new(r)), span)
        };
        let Some(value) = self.resource_attribute(handle, name) else { return computed() };
        let owned: Vec<Step<'p>> = rest.iter().map(|s| **s).collect();
        let v = self.steps(value, &owned, span, scope);
        if failed(&v) { computed() } else { v }
    }

    fn resource_attribute(&self, handle: &Handle<'p>, name: &Name) -> Option<Value> {
        let block = handle.block?;
        let id = (handle.address.clone(), name.clone());
        match handle.module.attributes.borrow().get(&id) {
            Some(Slot::Done(v)) => return Some(v.clone()),
            Some(Slot::Busy) => return Some(Value::unknown("it depends on itself", block.header)),
            None => {}
        }
        let has_block =
            block.body.blocks.iter().any(|b| {
                b.kind == *name || (&*b.kind == "dynamic" && b.labels.first() == Some(name))
            });
        let attribute = block.body.attribute(name);
        if (attribute.is_none() && !has_block) || META.contains(&&**name) {
            return None;
        }
        handle.module.attributes.borrow_mut().insert(id.clone(), Slot::Busy);
        let scope = Scope { module: &handle.module, each: &handle.each, bindings: None };
        let value = match attribute {
            Some(a) => light(self.eval(&a.value, &scope)),
            None => self
                .body(&block.body, &scope, 0)
                .get(name)
                .cloned()
                .unwrap_or(Value::new(Kind::Null, block.header)),
        };
        handle.module.attributes.borrow_mut().insert(id, Slot::Done(value.clone()));
        Some(value)
    }

    /// The value of a root name, and how many steps were used up to get it.
    fn root(
        &self,
        name: &Name,
        steps: &[Step<'p>],
        span: Span,
        scope: &Scope<'_, 'p>,
    ) -> (Value, usize) {
        if let Some(v) = scope.binding(name) {
            return (v, 0);
        }
        let first = match steps.first() {
            Some(Step::Name(n)) => Some(*n),
            _ => None,
        };
        match (&**name, first) {
            ("var", Some(n)) => (self.variable(scope.module, n, span), 1),
            ("local", Some(n)) => (self.local(scope.module, n, span), 1),
            ("each", Some(n)) => {
                let v = if &**n == "key" { &scope.each.key } else { &scope.each.value };
                (v.clone().unwrap_or_else(|| Value::unknown("`each` outside `for_each`", span)), 1)
            }
            ("count", Some(_)) => (
                scope
                    .each
                    .index
                    .clone()
                    .unwrap_or_else(|| Value::unknown("`count.index` outside `count`", span)),
                1,
            ),
            ("path", Some(n)) => {
                let p = match &**n {
                    "module" => scope.module.place.to_string_lossy().into_owned(),
                    _ => ".".to_owned(),
                };
                (Value::text(p, span), 1)
            }
            ("terraform", Some(_)) => match &self.workspace {
                Some(w) => (Value::text(w.clone(), span), 1),
                None => (Value::unknown("the workspace is not known", span), 1),
            },
            ("self", _) => (Value::unknown("`self` is known after apply", span), steps.len()),
            ("module", Some(n)) => {
                let (v, used) = self.module_reference(scope, n, &steps[1..], span);
                (v, used + 1)
            }
            ("data", Some(kind)) => match steps.get(1) {
                Some(Step::Name(n)) => {
                    let (v, used) =
                        self.resource_reference(scope, true, kind, n, &steps[2..], span);
                    (v, used + 2)
                }
                _ => (Value::unknown("not a reference", span), steps.len()),
            },
            (_, Some(n)) if name.contains('_') => {
                let (v, used) = self.resource_reference(scope, false, name, n, &steps[1..], span);
                (v, used + 1)
            }
            (_, Some(n)) if scope.module.directory.resource(name, n).is_some() => {
                let (v, used) = self.resource_reference(scope, false, name, n, &steps[1..], span);
                (v, used + 1)
            }
            _ => (Value::unknown(format!("`{name}` is not declared"), span), steps.len()),
        }
    }

    fn resource_reference(
        &self,
        scope: &Scope<'_, 'p>,
        data: bool,
        kind: &Name,
        name: &Name,
        steps: &[Step<'p>],
        span: Span,
    ) -> (Value, usize) {
        let module = scope.module;
        let block = if data {
            module.directory.data_source(kind, name)
        } else {
            module.directory.resource(kind, name)
        };
        let Some(block) = block else {
            let what = if data { "data source" } else { "resource" };
            return (
                Value::unknown(format!("there is no {what} `{kind}.{name}`"), span),
                steps.len(),
            );
        };
        let object = |key: &str, each: Each| {
            let address: Arc<str> =
                Arc::from(resource_address(&module.path, data, kind, name, key));
            let full: Arc<str> =
                if data { Arc::from(format!("data.{kind}")) } else { kind.clone() };
            self.handles.borrow_mut().entry(address.clone()).or_insert_with(|| Handle {
                module: module.clone(),
                block: Some(block),
                each,
                address: address.clone(),
            });
            Value::new(
                Kind::Ref(Arc::new(Ref { address, kind: full, attribute: Arc::from("") })),
                span,
            )
        };
        let index = match steps.first() {
            Some(Step::Index(i)) => Some(self.eval(i, scope)),
            _ => None,
        };
        let keys = self.keys(module, block);
        match (&keys, index) {
            (Keys::One, None) => (object("", Each::default()), 0),
            // `x[0]` of a single resource is an error to Terraform; it is the resource to us.
            (Keys::One, Some(_)) => (object("", Each::default()), 1),
            (Keys::Unknown(_), index) => {
                let each = unknown_each(&keys, span);
                (object("[*]", each), usize::from(index.is_some()))
            }
            (_, Some(i)) => {
                self.spend(keys.search());
                match instance(&keys, &i) {
                    Some((k, each)) => (object(&k, each), 1),
                    None if i.is_unknown() => (object("[*]", Each::default()), 1),
                    None => (missing("there is no such instance".into(), span), steps.len()),
                }
            }
            (Keys::Count(_), None) => {
                let Some(list) = self.whole(&keys) else { return (too_much(span), steps.len()) };
                (Value::list(list.into_iter().map(|(k, e)| object(&k, e)).collect(), span), 0)
            }
            (Keys::Each(items), None) => {
                let Some(list) = self.whole(&keys) else { return (too_much(span), steps.len()) };
                let mut map = Map::default();
                for ((k, e), (raw, _)) in list.into_iter().zip(items.iter()) {
                    map.insert(Entry {
                        key: raw.clone(),
                        key_span: span,
                        at: span,
                        value: object(&k, e),
                    });
                }
                (Value::map(map, span), 0)
            }
        }
    }

    /// All instances, paid for: each of N that refers to all of them makes N × N.
    fn whole(&self, keys: &Keys) -> Option<Vec<(Arc<str>, Each)>> {
        const COST: u64 = 16;
        let list = expand(keys).0;
        self.spend(COST * list.len() as u64);
        (self.fuel.get() > 0).then_some(list)
    }

    fn spend(&self, cost: u64) {
        self.fuel.set(self.fuel.get().saturating_sub(cost));
    }

    fn module_reference(
        &self,
        scope: &Scope<'_, 'p>,
        name: &Name,
        steps: &[Step<'p>],
        span: Span,
    ) -> (Value, usize) {
        let module = scope.module;
        let Some(block) = module.directory.module(name) else {
            return (Value::unknown(format!("there is no module `{name}`"), span), steps.len());
        };
        if local_source(&module.place, block).is_none_or(|p| self.program.directory(&p).is_none()) {
            return (
                Value::unknown(format!("module `{name}` is not on this disk"), span),
                steps.len(),
            );
        }
        let keys = self.keys(module, block);
        let object = |key: Arc<str>, each: Each| -> Value {
            let Some(child) = self.child(module, name, block, &key, &each) else {
                return Value::unknown(format!("module `{name}` calls itself"), span);
            };
            let address = child.path.clone();
            self.handles.borrow_mut().entry(address.clone()).or_insert_with(|| Handle {
                module: child,
                block: None,
                each,
                address: address.clone(),
            });
            let r = Ref { address, kind: Arc::from("module"), attribute: Arc::from("") };
            Value::new(Kind::Ref(Arc::new(r)), span)
        };
        let index = match steps.first() {
            Some(Step::Index(i)) => Some(self.eval(i, scope)),
            _ => None,
        };
        match (&keys, index) {
            (Keys::One, i) => (object(Arc::from(""), Each::default()), usize::from(i.is_some())),
            (Keys::Unknown(_), i) => {
                (object(Arc::from("[*]"), unknown_each(&keys, span)), usize::from(i.is_some()))
            }
            (_, Some(i)) => {
                self.spend(keys.search());
                match instance(&keys, &i) {
                    Some((k, each)) => (object(k, each), 1),
                    None => (Value::unknown("its module's key is unknown", span), steps.len()),
                }
            }
            (Keys::Count(_), None) => {
                let Some(list) = self.whole(&keys) else { return (too_much(span), steps.len()) };
                (Value::list(list.into_iter().map(|(k, e)| object(k, e)).collect(), span), 0)
            }
            (Keys::Each(items), None) => {
                let Some(list) = self.whole(&keys) else { return (too_much(span), steps.len()) };
                let mut map = Map::default();
                for ((k, e), (raw, _)) in list.into_iter().zip(items.iter()) {
                    map.insert(Entry {
                        key: raw.clone(),
                        key_span: span,
                        at: span,
                        value: object(k, e),
                    });
                }
                (Value::map(map, span), 0)
            }
        }
    }

    fn output(&self, module: &Rc<Module<'p>>, name: &Name, span: Span) -> Value {
        let id: Name = Arc::from(format!("output.{name}"));
        match module.locals.borrow().get(&id) {
            Some(Slot::Done(v)) => return v.clone(),
            Some(Slot::Busy) => return Value::unknown("it depends on itself", span),
            None => {}
        }
        let Some(a) = module.directory.output(name).and_then(|b| b.body.attribute("value")) else {
            return Value::unknown(format!("the module has no output `{name}`"), span);
        };
        module.locals.borrow_mut().insert(id.clone(), Slot::Busy);
        let none = Each::default();
        let v = light(self.eval(&a.value, &Scope { module, each: &none, bindings: None }));
        module.locals.borrow_mut().insert(id, Slot::Done(v.clone()));
        v
    }

    fn local(&self, module: &Rc<Module<'p>>, name: &Name, span: Span) -> Value {
        match module.locals.borrow().get(name) {
            Some(Slot::Done(v)) => return v.clone(),
            Some(Slot::Busy) => {
                return Value::unknown(format!("`local.{name}` depends on itself"), span);
            }
            None => {}
        }
        let Some(a) = module.directory.local(name) else {
            return Value::unknown(format!("there is no `local.{name}`"), span);
        };
        module.locals.borrow_mut().insert(name.clone(), Slot::Busy);
        let none = Each::default();
        let v = light(self.eval(&a.value, &Scope { module, each: &none, bindings: None }));
        module.locals.borrow_mut().insert(name.clone(), Slot::Done(v.clone()));
        v
    }

    fn variable(&self, module: &Rc<Module<'p>>, name: &Name, span: Span) -> Value {
        match module.variables.borrow().get(name) {
            Some(Slot::Done(v)) => return v.clone(),
            Some(Slot::Busy) => {
                return Value::unknown(format!("`var.{name}` depends on itself"), span);
            }
            None => {}
        }
        module.variables.borrow_mut().insert(name.clone(), Slot::Busy);
        let none = Each::default();
        let declared = module.directory.variable(name);
        let given = match &module.caller {
            Some((caller, block, each)) => block
                .body
                .attribute(name)
                .map(|a| self.eval(&a.value, &Scope { module: caller, each, bindings: None })),
            None => module
                .given
                .get(name)
                .map(|e| self.eval(e, &Scope { module, each: &none, bindings: None })),
        };
        // `nullable` aside, a module argument of null means the default.
        let given = given.filter(|v| !v.is_null() || module.caller.is_none());
        let scope = Scope { module, each: &none, bindings: None };
        let mut v = match given {
            Some(v) => v,
            None => match declared.and_then(|b| b.body.attribute("default")) {
                Some(a) => self.eval(&a.value, &scope),
                None => Value::unknown(format!("variable `{name}` has no value here"), span),
            },
        };
        if let Some(t) = declared.and_then(|b| b.body.attribute("type")) {
            v = self.with_type(&t.value, v, &scope, 0);
        }
        let v = light(v);
        module.variables.borrow_mut().insert(name.clone(), Slot::Done(v.clone()));
        v
    }

    /// Fills in what `optional(…)` in a type gives by default.
    fn with_type(&self, t: &'p Expr, v: Value, scope: &Scope<'_, 'p>, depth: usize) -> Value {
        let ExprKind::Call(name, arguments, _) = &t.kind else { return v };
        if depth > 16 || arguments.is_empty() {
            return v;
        }
        match (&**name, &v.kind) {
            ("map", Kind::Map(m)) => {
                let mut out = Map::opened(m.open.clone());
                for e in &**m {
                    let value = self.with_type(&arguments[0], e.value.clone(), scope, depth + 1);
                    out.insert(Entry { value, ..e.clone() });
                }
                Value::map(out, v.span)
            }
            ("list" | "set", Kind::List(l)) => {
                let items = l
                    .iter()
                    .map(|i| self.with_type(&arguments[0], i.clone(), scope, depth + 1))
                    .collect();
                Value::list(items, v.span)
            }
            ("object", Kind::Map(m)) => {
                let ExprKind::Object(fields) = &arguments[0].kind else { return v };
                let mut out = (**m).clone();
                for (key, field) in fields {
                    let ExprKind::Text(key_name) = &key.kind else { continue };
                    let (inner, default) = match &field.kind {
                        ExprKind::Call(n, a, _) if &**n == "optional" => (a.first(), a.get(1)),
                        _ => (Some(field), None),
                    };
                    let had = out.entry(key_name).filter(|e| !e.value.is_null()).cloned();
                    let value = match (&had, default) {
                        (Some(e), _) => e.value.clone(),
                        (None, Some(d)) => self.eval(d, scope),
                        (None, None) => {
                            if out.open.is_some() || out.entry(key_name).is_some() {
                                continue;
                            }
                            Value::new(Kind::Null, v.span)
                        }
                    };
                    let value = match inner {
                        Some(t) => self.with_type(t, value, scope, depth + 1),
                        None => value,
                    };
                    let entry = had.unwrap_or(Entry {
                        key: key_name.clone(),
                        key_span: key.span,
                        at: field.span,
                        value: value.clone(),
                    });
                    out.insert(Entry { value, ..entry });
                }
                Value::map(out, v.span)
            }
            _ => v,
        }
    }
}

#[derive(Clone, Copy)]
enum Step<'p> {
    Name(&'p Name),
    Index(&'p Expr),
}

/// The attributes that `lifecycle.ignore_changes` names, by their first segment.
fn ignored(body: &Body) -> Vec<Arc<str>> {
    let Some(value) = body
        .blocks
        .iter()
        .filter(|b| &*b.kind == "lifecycle")
        .find_map(|b| b.body.attribute("ignore_changes"))
    else {
        return Vec::new();
    };
    let first = |e: &Expr| path_of(e).map(|p| Arc::from(p.split('.').next().unwrap_or(&p)));
    match &value.value.kind {
        ExprKind::List(items) => items.iter().filter_map(first).collect(),
        _ => first(&value.value).into_iter().collect(),
    }
}

fn pseudo(kind: String, name: &Name, module: &Module<'_>, block: &Block, body: Map) -> Resource {
    Resource {
        address: Arc::from(join(
            &module.path,
            &if kind == "variable" { format!("var.{name}") } else { kind.clone() },
        )),
        kind: Arc::from(kind),
        name: name.clone(),
        module: module.path.clone(),
        body,
        header: block.header,
        span: block.span,
        existence: Existence::Certain,
        depends_on: Vec::new(),
        ignores: Vec::new(),
    }
}

fn join(module: &str, rest: &str) -> String {
    if module.is_empty() { rest.to_owned() } else { format!("{module}.{rest}") }
}

fn resource_address(module: &str, data: bool, kind: &str, name: &str, key: &str) -> String {
    let data = if data { "data." } else { "" };
    if module.is_empty() {
        format!("{data}{kind}.{name}{key}")
    } else {
        format!("{module}.{data}{kind}.{name}{key}")
    }
}

fn path_of(e: &Expr) -> Option<String> {
    match &e.kind {
        ExprKind::Root(n) => Some(n.to_string()),
        ExprKind::Get(b, n) => Some(format!("{}.{n}", path_of(b)?)),
        ExprKind::Index(b, _) => path_of(b),
        _ => None,
    }
}

/// The instances of a set of keys, each with its suffix in the address; and why they may not exist.
fn expand(keys: &Keys) -> (Vec<(Arc<str>, Each)>, Option<Arc<str>>) {
    let none = Span::default();
    match keys {
        Keys::One => (vec![(Arc::from(""), Each::default())], None),
        Keys::Count(n) => {
            let one = |i: usize| {
                #[expect(clippy::cast_precision_loss, reason = "at most MAX_INSTANCES")]
                let index = Value::new(Kind::Number(i as f64), none);
                (Arc::from(format!("[{i}]")), Each { index: Some(index), ..Each::default() })
            };
            ((0..*n).map(one).collect(), None)
        }
        Keys::Each(items) => (items.iter().map(|(k, v)| named(k, v)).collect(), None),
        Keys::Unknown(w) => (vec![(Arc::from("[*]"), unknown_each(keys, none))], Some(w.clone())),
    }
}

fn unknown_each(keys: &Keys, span: Span) -> Each {
    let w = match keys {
        Keys::Unknown(w) => w.clone(),
        _ => Arc::from("its key is unknown"),
    };
    let v = Value::new(Kind::Unknown(w), span);
    Each { key: Some(v.clone()), value: Some(v.clone()), index: Some(v) }
}

/// One instance, without making the others.
fn instance(keys: &Keys, index: &Value) -> Option<(Arc<str>, Each)> {
    let none = Span::default();
    match (keys, &index.kind) {
        (Keys::Count(n), Kind::Number(i)) => {
            #[expect(clippy::cast_precision_loss, reason = "at most MAX_INSTANCES")]
            let there = i.fract() == 0.0 && (0.0..*n as f64).contains(i);
            let index = Value::new(Kind::Number(*i), none);
            there.then(|| {
                (Arc::from(format!("[{i}]")), Each { index: Some(index), ..Each::default() })
            })
        }
        (Keys::Each(items), Kind::Text(t)) => {
            items.iter().find(|(k, _)| k == t).map(|(k, v)| named(k, v))
        }
        _ => None,
    }
}

fn named(key: &Arc<str>, value: &Value) -> (Arc<str>, Each) {
    let each = Each {
        key: Some(Value::text(key.clone(), value.span)),
        value: Some(value.clone()),
        index: None,
    };
    (Arc::from(format!("[\"{key}\"]")), each)
}

fn too_much(span: Span) -> Value {
    Value::unknown("the configuration takes too long to evaluate", span)
}

impl Keys {
    /// What looking for one instance costs.
    fn search(&self) -> u64 {
        match self {
            Self::Each(items) => items.len() as u64 / 16,
            _ => 0,
        }
    }
}

fn deeper(r: &Ref, name: &str) -> Arc<Ref> {
    let attribute = if r.attribute.is_empty() {
        Arc::from(name)
    } else {
        Arc::from(format!("{}.{name}", r.attribute))
    };
    Arc::new(Ref { address: r.address.clone(), kind: r.kind.clone(), attribute })
}

const FAILED: &str = "error: ";

/// Something that Terraform would refuse: what `try` and `can` look for.
fn missing(what: String, span: Span) -> Value {
    Value::unknown(format!("{FAILED}{what}"), span)
}

fn failed(v: &Value) -> bool {
    matches!(&v.kind, Kind::Unknown(w) if w.starts_with(FAILED))
}

/// Why a value that should have been known is not.
pub(crate) fn why(v: &Value, what: &str) -> Arc<str> {
    match &v.kind {
        Kind::Unknown(w) => w.clone(),
        Kind::Ref(r) => Arc::from(format!("`{}.{}` is known after apply", r.address, r.attribute)),
        _ => Arc::from(format!("{what} is not fully known")),
    }
}

fn key_text(v: &Value) -> Option<Arc<str>> {
    match &v.kind {
        Kind::Text(t) => Some(t.clone()),
        Kind::Number(_) | Kind::Bool(_) => Some(Arc::from(v.known_text())),
        _ => None,
    }
}

/// What a collection holds, or why that is unknown. Maps are walked in the order of their keys.
pub(crate) fn elements(v: &Value) -> Result<Vec<(Value, Value)>, Arc<str>> {
    match &v.kind {
        Kind::List(l) => {
            if let Some(u) = l.iter().find(|i| matches!(i.kind, Kind::Unknown(_))) {
                return Err(why(u, "an element"));
            }
            #[expect(clippy::cast_precision_loss, reason = "an index")]
            let pair =
                |(i, v): (usize, &Value)| (Value::new(Kind::Number(i as f64), v.span), v.clone());
            Ok(l.iter().enumerate().map(pair).collect())
        }
        Kind::Map(m) => {
            if let Some(w) = &m.open {
                return Err(w.clone());
            }
            let mut out: Vec<(Value, Value)> = m
                .iter()
                .map(|e| (Value::text(e.key.clone(), e.key_span), e.value.clone()))
                .collect();
            out.sort_by(|a, b| a.0.as_str().cmp(&b.0.as_str()));
            Ok(out)
        }
        Kind::Null => Ok(Vec::new()),
        _ => Err(why(v, "what is walked over")),
    }
}

/// Joins pieces into text, wholly known if every piece is.
pub(crate) fn concat(pieces: Vec<Piece>, span: Span) -> Value {
    let length: usize =
        pieces.iter().map(|p| if let Piece::Text(t) = p { t.len() } else { 0 }).sum();
    if length > MAX_TEXT {
        return Value::unknown("the text is too long", span);
    }
    if pieces.iter().all(|p| matches!(p, Piece::Text(_))) {
        let mut s = String::with_capacity(length);
        for p in &pieces {
            if let Piece::Text(t) = p {
                s.push_str(t);
            }
        }
        return Value::text(s, span);
    }
    if pieces.len() > 4096 {
        return Value::unknown("the text is too long", span);
    }
    Value::new(Kind::Partial(pieces.into()), span)
}

/// A value that is not too heavy to walk over; shared parts count each time.
fn light(v: Value) -> Value {
    fn weigh(v: &Value, left: &mut usize, depth: usize) {
        if *left == 0 || depth > 200 {
            *left = 0;
            return;
        }
        *left -= 1;
        match &v.kind {
            Kind::List(l) => l.iter().for_each(|i| weigh(i, left, depth + 1)),
            Kind::Map(m) => m.iter().for_each(|e| weigh(&e.value, left, depth + 1)),
            Kind::Partial(p) => p.iter().for_each(|p| {
                if let Piece::Hole(v) = p {
                    weigh(v, left, depth + 1);
                }
            }),
            _ => {}
        }
    }
    let mut left = MAX_WEIGHT;
    weigh(&v, &mut left, 0);
    if left == 0 { Value::unknown("the value is too large", v.span) } else { v }
}
