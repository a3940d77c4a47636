//! The rules, one file a family; and the few helpers they share.

use lazuli_hcl::terraform::Resource;
use lazuli_hcl::{Entry, Kind, Map, Span, Value};

use crate::project::Stack;
use crate::rule::{Rule, Sink};

pub(crate) mod app;
pub(crate) mod cache;
pub(crate) mod command;
pub(crate) mod cost;
pub(crate) mod database;
pub(crate) mod frontend;
pub(crate) mod identity;
pub(crate) mod input;
pub(crate) mod monitoring;
pub(crate) mod network;
pub(crate) mod parity;
pub(crate) mod pipelines;
pub(crate) mod platform;
pub(crate) mod python;
pub(crate) mod scaling;
pub(crate) mod vault;

/// Every rule, in the order of the reference.
pub fn all() -> impl Iterator<Item = &'static Rule> {
    [
        app::RULES,
        command::RULES,
        database::RULES,
        cache::RULES,
        vault::RULES,
        identity::RULES,
        network::RULES,
        frontend::RULES,
        monitoring::RULES,
        pipelines::RULES,
        scaling::RULES,
        cost::RULES,
        parity::RULES,
        platform::RULES,
        python::RULES,
    ]
    .into_iter()
    .flatten()
    .chain([&input::UNREADABLE, &input::NO_REASON, &input::UNUSED])
}

/// The rule of an ID, in any case.
pub fn find(id: &str) -> Option<&'static Rule> {
    all().find(|r| r.id.eq_ignore_ascii_case(id))
}

/// A site and its slots.
pub(crate) const SITES: &[&str] = &["azurerm_linux_web_app", "azurerm_linux_web_app_slot"];
/// A site.
pub(crate) const SITE: &[&str] = &["azurerm_linux_web_app"];
/// A slot.
pub(crate) const SLOT: &[&str] = &["azurerm_linux_web_app_slot"];
/// A plan.
pub(crate) const PLAN: &[&str] = &["azurerm_service_plan"];
/// A database server.
pub(crate) const SERVER: &[&str] = &["azurerm_postgresql_flexible_server"];
/// A cache.
pub(crate) const REDIS: &[&str] = &["azurerm_redis_cache"];
/// A vault.
pub(crate) const VAULT: &[&str] = &["azurerm_key_vault"];
/// What differs by environment.
pub(crate) const PLATFORM: &[&str] = &[
    "azurerm_service_plan",
    "azurerm_postgresql_flexible_server",
    "azurerm_key_vault",
    "azurerm_redis_cache",
];

/// What stands at a path of attributes and blocks.
pub(crate) enum Got<'a> {
    /// It is written.
    Written(&'a Entry),
    /// It is not; the innermost block that is there.
    Missing(Span),
    /// Nobody can tell.
    Unknown(String),
}

/// Looks up `site_config.minimum_tls_version`.
pub(crate) fn get<'a>(r: &'a Resource, path: &str) -> Got<'a> {
    let mut map: &Map = &r.body;
    let mut at = r.header;
    let mut parts = path.split('.').peekable();
    while let Some(p) = parts.next() {
        let Some(e) = map.entry(p).filter(|e| !e.value.is_null()) else {
            return match &map.open {
                Some(w) => Got::Unknown(w.to_string()),
                None => Got::Missing(at),
            };
        };
        if parts.peek().is_none() {
            return match e.value.why_unknown() {
                Some(w) if e.value.as_ref().is_none() => Got::Unknown(w),
                _ => Got::Written(e),
            };
        }
        match map.block(p) {
            Some((v, m)) => {
                map = m;
                at = v.span;
            }
            None => {
                return Got::Unknown(
                    e.value.why_unknown().unwrap_or_else(|| format!("`{p}` is not a block")),
                );
            }
        }
    }
    Got::Missing(at)
}

/// What a rule about one attribute says.
pub(crate) struct Attribute<'a> {
    /// Where it is.
    pub(crate) path: &'a str,
    /// Whether leaving it out is fine; `None` when that decides nothing.
    pub(crate) absent: Option<bool>,
    /// What is wrong, after the value.
    pub(crate) message: &'a str,
    /// What is wrong when it is not written.
    pub(crate) missing: &'a str,
    /// What to write, as HCL, where that is mechanical.
    pub(crate) write: Option<&'a str>,
}

/// Judges one attribute of one resource.
pub(crate) fn attribute(
    o: &mut Sink<'_>,
    s: &Stack,
    r: &Resource,
    a: &Attribute<'_>,
    ok: impl Fn(&Value) -> Option<bool>,
) {
    match get(r, a.path) {
        Got::Written(e) => match ok(&e.value) {
            Some(true) => o.judged(),
            Some(false) => {
                let shown = shown(&e.value);
                let f = o.entry(e, format!("{} is {shown}: {}", last(a.path), a.message));
                if let (Some(w), true) = (a.write, e.at == e.value.span) {
                    f.edit(e.at, w);
                }
            }
            None => o.unknown(format!(
                "{}.{}: {}",
                r.address,
                a.path,
                e.value.why_unknown().unwrap_or_else(|| "not known".into())
            )),
        },
        Got::Missing(at) => match a.absent {
            Some(true) => o.judged(),
            Some(false) => {
                let insertion = a.write.and_then(|w| insertion(s, r, a.path, at, w));
                let f = o.at(at, a.missing.to_owned()).unset();
                if let Some((span, text)) = insertion {
                    f.edit(span, text);
                }
            }
            None => {}
        },
        Got::Unknown(w) => o.unknown(format!("{}.{}: {w}", r.address, a.path)),
    }
}

/// Where a missing attribute goes: first in its block, on a line of its own.
fn insertion(s: &Stack, r: &Resource, path: &str, at: Span, write: &str) -> Option<(Span, String)> {
    // Only when the innermost block is there; a missing block is no mechanical change.
    let (parents, name) = path.rsplit_once('.').map_or((None, path), |(p, n)| (Some(p), n));
    match parents {
        None if at != r.header => return None,
        Some(_) if at == r.header => return None,
        _ => {}
    }
    let source = s.source(at);
    let after = source.text.get(at.end as usize..)?;
    let brace = after.find('{')?;
    let rest = after.get(brace + 1..)?;
    if !rest.split('\n').next()?.trim().is_empty() || !after[..brace].trim().is_empty() {
        return None;
    }
    let line = source.line(source.line_column(at.start).0);
    let indent = &line[..line.len() - line.trim_start().len()];
    let offset = at.end as usize + brace + 1;
    Some((Span::new(at.file, offset, offset), format!("\n{indent}  {name} = {write}")))
}

fn last(path: &str) -> String {
    format!("`{}`", path.rsplit('.').next().unwrap_or(path))
}

/// A value as it is shown to a person.
pub(crate) fn shown(v: &Value) -> String {
    match &v.kind {
        Kind::Text(t) if t.chars().count() > 60 => {
            format!("\"{}…\"", t.chars().take(57).collect::<String>())
        }
        Kind::Text(t) => format!("\"{t}\""),
        Kind::List(_) | Kind::Map(_) => "as written".into(),
        _ => v.known_text(),
    }
}

/// Every setting of a site: `app_settings`.
pub(crate) fn settings(r: &Resource) -> Option<&Map> {
    r.get("app_settings")?.as_map()
}

/// The plan a site runs on.
pub(crate) fn plan_of<'a>(s: &'a Stack, r: &Resource) -> Option<&'a Resource> {
    let direct = s.target(r.get("service_plan_id")).filter(|p| &*p.kind == "azurerm_service_plan");
    direct.or_else(|| {
        s.target(r.get("app_service_id")).and_then(|site| s.target(site.get("service_plan_id")))
    })
}

/// Whether a private endpoint leads to a resource for certain.
pub(crate) fn has_endpoint(s: &Stack, r: &Resource) -> bool {
    s.referring(r).filter(|e| &*e.kind == "azurerm_private_endpoint").any(|e| {
        matches!(
            get(e, "private_service_connection.private_connection_resource_id"),
            Got::Written(x) if x.value.refs().iter().any(|f| f.address == r.address)
        )
    })
}

/// Whether a site is the backend, and not a worker or a scheduler.
pub(crate) fn is_backend(r: &Resource) -> bool {
    let name = r.name.to_ascii_lowercase();
    let command = match get(r, "site_config.app_command_line") {
        Got::Written(e) => e.value.known_text(),
        _ => String::new(),
    };
    let worker = |t: &str| {
        ["worker", "scheduler", "beat", "jobs", "taskiq", "celery"].iter().any(|w| t.contains(w))
    };
    let own = r.get("name").map(Value::known_text).unwrap_or_default().to_ascii_lowercase();
    let starts_worker = command.starts_with("taskiq") || command.starts_with("celery");
    !(worker(&name) || worker(&own) || starts_worker)
}

/// Whether a site runs Python, as far as it says.
pub(crate) fn is_python(r: &Resource) -> bool {
    matches!(get(r, "site_config.application_stack.python_version"), Got::Written(_))
}

/// Whether a value is an unresolved or proper Key Vault reference.
pub(crate) fn is_vault_reference(v: &Value) -> bool {
    v.known_text().starts_with("@Microsoft.KeyVault(")
}
