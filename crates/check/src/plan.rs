//! `terraform show -json`: the planned resources, with references recovered from the configuration
//! part, because a plan's values leave out everything that Azure has yet to say.

use std::collections::HashMap;
use std::sync::Arc;

use lazuli_hcl::terraform::{Configuration, Existence, Resource};
use lazuli_hcl::{Entry, Kind, Map, Ref, Span, Value};

/// Reads a plan.
pub(crate) fn read(plan: &Value) -> Configuration {
    let mut out = Configuration::default();
    let Some(plan) = plan.as_map() else { return out };
    let mut expressions: HashMap<String, &Map> = HashMap::new();
    if let Some(m) = path(plan, &["configuration", "root_module"]) {
        configured(m, "", &mut expressions, 0);
    }
    let mut unknown: HashMap<&str, &Value> = HashMap::new();
    for c in plan.get("resource_changes").and_then(Value::as_list).into_iter().flatten() {
        let Some(c) = c.as_map() else { continue };
        let after = c.get("change").and_then(Value::as_map).and_then(|m| m.get("after_unknown"));
        if let (Some(a), Some(u)) = (c.get("address").and_then(Value::as_str), after) {
            unknown.insert(a, u);
        }
    }
    if let Some(m) = path(plan, &["planned_values", "root_module"]) {
        let mut instances = Instances::new();
        named(m, &mut instances, 0);
        planned(m, &Known { expressions, unknown, instances }, &mut out, 0);
    }
    out
}

/// The addresses of every resource's instances, by its address without instance keys.
type Instances = HashMap<String, Vec<String>>;

/// What the other parts of a plan say about the planned values.
struct Known<'a> {
    expressions: HashMap<String, &'a Map>,
    unknown: HashMap<&'a str, &'a Value>,
    instances: Instances,
}

fn named(m: &Map, out: &mut Instances, depth: usize) {
    for a in children(m, "resources").filter_map(|r| r.get("address")?.as_str()) {
        out.entry(without_keys(a)).or_default().push(a.to_owned());
    }
    if depth <= 20 {
        children(m, "child_modules").for_each(|c| named(c, out, depth + 1));
    }
}

fn children<'a>(m: &'a Map, name: &str) -> impl Iterator<Item = &'a Map> {
    m.get(name).and_then(Value::as_list).into_iter().flatten().filter_map(Value::as_map)
}

fn path<'a>(m: &'a Map, keys: &[&str]) -> Option<&'a Map> {
    keys.iter().try_fold(m, |m, k| m.get(k)?.as_map())
}

/// The expressions of every resource, by its address without instance keys.
fn configured<'a>(m: &'a Map, module: &str, out: &mut HashMap<String, &'a Map>, depth: usize) {
    for r in
        m.get("resources").and_then(Value::as_list).into_iter().flatten().filter_map(Value::as_map)
    {
        if let (Some(a), Some(e)) =
            (r.get("address").and_then(Value::as_str), r.get("expressions").and_then(Value::as_map))
        {
            out.insert(format!("{module}{a}"), e);
        }
    }
    if depth > 20 {
        return;
    }
    for call in m.get("module_calls").and_then(Value::as_map).into_iter().flatten() {
        if let Some(inner) =
            call.value.as_map().and_then(|c| c.get("module")).and_then(Value::as_map)
        {
            configured(inner, &format!("{module}module.{}.", call.key), out, depth + 1);
        }
    }
}

fn planned(m: &Map, known: &Known<'_>, out: &mut Configuration, depth: usize) {
    for v in m.get("resources").and_then(Value::as_list).into_iter().flatten() {
        let Some(r) = v.as_map() else { continue };
        let text = |k: &str| r.get(k).and_then(Value::as_str).unwrap_or_default();
        let address = text("address");
        let data = text("mode") == "data";
        let module = text_module(address);
        let bare = without_keys(address);
        let mut body = r.get("values").and_then(Value::as_map).cloned().unwrap_or_default();
        if let Some(u) = known.unknown.get(address).and_then(|u| u.as_map()) {
            let expressions = known.expressions.get(&bare).copied();
            let scope = Scope { module: &module, instances: &known.instances };
            overlay(&mut body, u, expressions, scope, v.span, 0);
        }
        let head = r.entry("address").map_or(v.span, |e| e.at);
        out.resources.push(Resource {
            address: Arc::from(address),
            kind: if data {
                Arc::from(format!("data.{}", text("type")))
            } else {
                Arc::from(text("type"))
            },
            name: Arc::from(text("name")),
            module: Arc::from(module),
            body,
            header: head,
            span: v.span,
            existence: Existence::Certain,
            depends_on: Vec::new(),
            ignores: Vec::new(),
        });
    }
    if depth > 20 {
        return;
    }
    for c in children(m, "child_modules") {
        planned(c, known, out, depth + 1);
    }
}

/// Where a reference is written.
#[derive(Clone, Copy)]
struct Scope<'a> {
    module: &'a str,
    instances: &'a Instances,
}

/// Puts references (or unknown) where the plan says that the value is known after apply.
fn overlay(
    body: &mut Map,
    unknown: &Map,
    expressions: Option<&Map>,
    scope: Scope<'_>,
    span: Span,
    depth: usize,
) {
    if depth > 20 {
        return;
    }
    for e in unknown {
        let expression = expressions.and_then(|x| x.get(&e.key));
        match &e.value.kind {
            Kind::Bool(true) => {
                // An attribute nobody configured is Azure's to fill in: as good as not written.
                let Some(x) = expression else { continue };
                let value = reference(x, scope, span);
                body.insert(Entry { key: e.key.clone(), key_span: span, at: span, value });
            }
            Kind::List(l) => {
                let items = body
                    .get(&e.key)
                    .and_then(Value::as_list)
                    .map(<[Value]>::to_vec)
                    .unwrap_or_default();
                let mut out = Vec::new();
                for (i, v) in items.into_iter().enumerate() {
                    let inner = match expression.map(|x| &x.kind) {
                        Some(Kind::List(xs)) => xs.get(i).and_then(Value::as_map),
                        Some(Kind::Map(x)) => Some(&**x),
                        _ => None,
                    };
                    match (&v.kind, l.get(i).and_then(Value::as_map)) {
                        (Kind::Map(m), Some(u)) => {
                            let mut m = (**m).clone();
                            overlay(&mut m, u, inner, scope, v.span, depth + 1);
                            out.push(Value::map(m, v.span));
                        }
                        _ => out.push(v),
                    }
                }
                if let Some(old) = body.entry(&e.key).cloned() {
                    let at = old.value.span;
                    body.insert(Entry { value: Value::list(out, at), ..old });
                }
            }
            Kind::Map(u) => {
                if let Some(old) = body.entry(&e.key).cloned()
                    && let Kind::Map(m) = &old.value.kind
                {
                    let mut m = (**m).clone();
                    for x in &**u {
                        if x.value.as_bool() == Some(true) {
                            let value = expression.map_or_else(
                                || Value::unknown("known after apply", old.at),
                                |ex| reference(ex, scope, old.at),
                            );
                            m.insert(Entry {
                                key: x.key.clone(),
                                key_span: old.at,
                                at: old.at,
                                value,
                            });
                        }
                    }
                    let at = old.value.span;
                    body.insert(Entry { value: Value::map(m, at), ..old });
                }
            }
            _ => {}
        }
    }
}

/// `{"references": ["azurerm_subnet.pe.id", "azurerm_subnet.pe"]}`
fn reference(expression: &Value, scope: Scope<'_>, span: Span) -> Value {
    let module = scope.module;
    let list = expression.as_map().and_then(|m| m.get("references")).and_then(Value::as_list);
    for r in list.into_iter().flatten().filter_map(Value::as_str) {
        let plain = without_keys(r);
        let parts: Vec<&str> = plain.split('.').collect();
        let take = if parts.first() == Some(&"data") { 3 } else { 2 };
        if parts.len() > take && !matches!(parts[0], "var" | "local" | "module" | "each" | "count")
        {
            let address = if module.is_empty() {
                parts[..take].join(".")
            } else {
                format!("{module}.{}", parts[..take].join("."))
            };
            let kind = parts[take - 2];
            let r = Ref {
                address: Arc::from(instance(&address, r, parts[take - 1], scope.instances)),
                kind: Arc::from(kind),
                attribute: Arc::from(parts[take..].join(".")),
            };
            return Value::new(Kind::Ref(Arc::new(r)), span);
        }
    }
    Value::unknown("known after apply", span)
}

/// The instance that is meant: the only one, the one whose key is written, or any of them.
fn instance(address: &str, written: &str, name: &str, instances: &Instances) -> String {
    match instances.get(address).map(Vec::as_slice) {
        None => address.to_owned(),
        Some([one]) => one.clone(),
        Some(several) => {
            let key = written.split_once(&format!(".{name}[")).and_then(|(_, k)| k.split_once(']'));
            key.and_then(|(k, _)| several.iter().find(|a| a.ends_with(&format!(".{name}[{k}]"))))
                .cloned()
                .unwrap_or_else(|| format!("{address}[*]"))
        }
    }
}

fn text_module(address: &str) -> String {
    let mut out = Vec::new();
    let mut parts = address.split('.').peekable();
    while parts.peek() == Some(&"module") {
        out.extend(parts.next());
        out.extend(parts.next());
    }
    out.join(".")
}

fn without_keys(address: &str) -> String {
    let mut depth = 0;
    address
        .chars()
        .filter(|c| {
            match c {
                '[' => depth += 1,
                ']' => {
                    depth -= 1;
                    return false;
                }
                _ => {}
            }
            depth == 0
        })
        .collect()
}
