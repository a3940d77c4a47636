//! Tree → manifest. Goes on after every problem, so that a person sees them all at once.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use serde_json::Value;

use super::fields::{self, Field};
use super::report::Problem;
use super::tree::{self, Entry, Kind, Node, Scalar, resolve};
use super::{
    Access, Alerts, Backend, Budget, Cache, Database, Frontend, Hosting, Manifest, OpenAi, Package,
    Pipelines, Process, Receiver, ReleaseRules, Secret, SmokeCheck, rules,
};
use crate::data::{compute, cost};
use crate::environment::Environment;

/// Most smoke checks, secrets, exclusions, settings.
const MANY: usize = 200;

/// Reads a manifest.
pub(super) fn manifest(source: &str) -> Result<Manifest, Vec<Problem>> {
    let root = tree::read(source).map_err(|problem| vec![problem])?;
    let mut reader = Reader { problems: Vec::new() };
    let manifest = reader.root(&root);
    match manifest {
        Some(manifest) if reader.problems.is_empty() => Ok(manifest),
        _ => Err(reader.problems),
    }
}

struct Reader {
    problems: Vec<Problem>,
}

/// A mapping whose keys were checked.
type Map<'a> = HashMap<&'static str, &'a Entry>;

impl Reader {
    fn problem(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    fn root(&mut self, root: &Node) -> Option<Manifest> {
        let map = self.mapping(root, "", fields::ROOT)?;
        let app = self.text(&map, "app", rules::app);
        let location = self.text(&map, "location", rules::location);
        let python = self.version(&map, "python");
        let backend = map.get("backend").and_then(|e| self.backend(&e.value));
        let worker = self.process(&map, "worker");
        let scheduler = self.process(&map, "scheduler");
        let database = Database {
            migrate: map.get("database").and_then(|e| {
                let map = self.mapping(&e.value, "database", fields::DATABASE)?;
                self.text(&map, "migrate", rules::command)
            }),
        };
        let cache = self.cache(&map);
        let secrets = self.secrets(&map, app.as_deref().unwrap_or_default(), backend.as_ref());
        let smoke = self.smoke(&map);
        let package = Package { exclude: self.exclude(&map) };
        let domain = self.text(&map, "domain", rules::domain);
        let frontend = map.get("frontend").and_then(|e| self.frontend(&e.value));
        let openai = map.get("openai").and_then(|e| self.openai(&e.value));
        let alerts = map.get("alerts").and_then(|e| self.alerts(&e.value)).unwrap_or_default();
        let budget = self.budget(&map);
        let pipelines = self.pipelines(&map, app.as_deref().unwrap_or_default());
        let access = map.get("access").and_then(|e| self.access(&e.value)).unwrap_or_default();
        let release = self.release(&map);
        Some(Manifest {
            app: app?,
            location: location?,
            python: python.unwrap_or_else(|| compute::PYTHON.to_string()),
            backend: backend?,
            worker,
            scheduler,
            database,
            cache,
            secrets,
            smoke,
            package,
            domain,
            frontend,
            openai,
            alerts,
            budget,
            pipelines,
            access,
            release,
        })
    }

    fn backend(&mut self, node: &Node) -> Option<Backend> {
        let map = self.mapping(node, "backend", fields::BACKEND)?;
        let app = self.text(&map, "app", rules::asgi);
        let workers = map.get("workers").and_then(|e| self.integer(&e.value, "workers", 1, 16));
        let worker_class = self.text(&map, "worker-class", rules::dotted);
        let health = self.text(&map, "health", rules::path);
        let readiness = self.text(&map, "readiness", rules::path);
        let websockets = map.get("websockets").and_then(|e| self.truth(&e.value, "websockets"));
        let settings = map.get("settings").map(|e| self.settings(&e.value)).unwrap_or_default();
        Some(Backend {
            app: app?,
            workers: workers.map_or(*compute::WORKERS, |w| u32::try_from(w).unwrap_or(1)),
            worker_class: worker_class.unwrap_or_else(|| compute::WORKER_CLASS_PACKAGE.to_string()),
            health: health.unwrap_or_else(|| "/health".to_owned()),
            readiness: readiness.unwrap_or_else(|| "/health/ready".to_owned()),
            websockets: websockets.unwrap_or(false),
            settings,
        })
    }

    fn process(&mut self, map: &Map<'_>, name: &'static str) -> Option<Process> {
        let map = self.mapping(&map.get(name)?.value, name, fields::PROCESS)?;
        let webjob = map.get("webjob").and_then(|e| self.truth(&e.value, "webjob"));
        Some(Process {
            run: self.text(&map, "run", rules::command)?,
            webjob: webjob.unwrap_or(false),
        })
    }

    fn frontend(&mut self, node: &Node) -> Option<Frontend> {
        let map = self.mapping(node, "frontend", fields::FRONTEND)?;
        let names = ["static-web-app", "app-service"];
        let hosting = match map.get("hosting").map(|e| (e, self.string(&e.value, "hosting"))) {
            None | Some((_, None | Some("static-web-app"))) => Hosting::StaticWebApp,
            Some((_, Some("app-service"))) => Hosting::AppService,
            Some((entry, Some(other))) => {
                let title = format!("`{}` hosts no front end", short(other));
                let mut problem = Problem::new(entry.value.span.clone(), title)
                    .label("expected `static-web-app` or `app-service`");
                if let Some(near) = rules::nearest(&other.to_ascii_lowercase(), names) {
                    problem = problem.help(format!("did you mean `{near}`?"));
                }
                self.problem(problem);
                Hosting::StaticWebApp
            }
        };
        let directory = self.text(&map, "directory", rules::directory);
        let output = self.text(&map, "output", rules::directory);
        let connect = self.texts(&map, "connect", rules::origin);
        Some(Frontend {
            hosting,
            directory: directory.unwrap_or_else(|| "modules/frontend".to_owned()),
            output: output.unwrap_or_else(|| "dist".to_owned()),
            connect,
        })
    }

    fn openai(&mut self, node: &Node) -> Option<OpenAi> {
        let map = self.mapping(node, "openai", fields::OPENAI)?;
        let model = self.text(&map, "model", rules::model);
        let version = self.text(&map, "version", rules::model);
        let capacity =
            map.get("capacity").and_then(|e| self.integer(&e.value, "capacity", 1, 10_000));
        Some(OpenAi {
            model: model?,
            version: version?,
            capacity: capacity.and_then(|c| u32::try_from(c).ok()).unwrap_or(10),
        })
    }

    fn alerts(&mut self, node: &Node) -> Option<Alerts> {
        let map = self.mapping(node, "alerts", fields::ALERTS)?;
        let mut receivers = |name| {
            let texts = self.texts(&map, name, rules::receiver);
            let kind = |t: String| {
                if t.contains('@') { Receiver::Email(t) } else { Receiver::Webhook(t) }
            };
            texts.into_iter().map(kind).collect()
        };
        Some(Alerts { oncall: receivers("oncall"), team: receivers("team") })
    }

    fn access(&mut self, node: &Node) -> Option<Access> {
        let map = self.mapping(node, "access", fields::ACCESS)?;
        let mut id =
            |name| self.text(&map, name, rules::object_id).map(|id| id.to_ascii_lowercase());
        Some(Access { ci_cd: id("ci-cd"), break_glass: id("break-glass") })
    }

    fn budget(&mut self, map: &Map<'_>) -> Budget {
        let given = map
            .get("budget")
            .and_then(|e| self.mapping(&e.value, "budget", fields::BUDGET))
            .unwrap_or_default();
        let mut of = |environment: Environment| {
            given
                .get(environment.as_str())
                .and_then(|e| self.integer(&e.value, environment.as_str(), 1, 1_000_000))
                .and_then(|n| u32::try_from(n).ok())
                .unwrap_or(*cost::budget(environment))
        };
        Budget {
            dev: of(Environment::Dev),
            staging: of(Environment::Staging),
            prod: of(Environment::Prod),
        }
    }

    fn pipelines(&mut self, map: &Map<'_>, app: &str) -> Pipelines {
        let given = map
            .get("pipelines")
            .and_then(|e| self.mapping(&e.value, "pipelines", fields::PIPELINES))
            .unwrap_or_default();
        let connection = self.text(&given, "service-connection", rules::label);
        Pipelines {
            service_connection: connection.unwrap_or_else(|| format!("{app}-azure")),
            pool: self.text(&given, "pool", rules::label).unwrap_or_else(|| format!("{app}-vnet")),
        }
    }

    /// A list of texts that obey a rule, each once.
    fn texts(
        &mut self,
        map: &Map<'_>,
        name: &'static str,
        rule: fn(&str) -> Option<String>,
    ) -> Vec<String> {
        let mut texts: Vec<String> = Vec::new();
        for item in self.sequence(map, name) {
            let Some(text) = self.string(item, name) else { continue };
            let why = if texts.iter().any(|t| t == text) {
                Some("it is here twice".to_owned())
            } else {
                rule(text)
            };
            match why {
                Some(why) => {
                    let title = format!("`{}` cannot be in `{name}`", short(text));
                    self.problem(Problem::new(item.span.clone(), title).label(why));
                }
                None => texts.push(text.to_owned()),
            }
        }
        texts
    }

    fn cache(&mut self, map: &Map<'_>) -> Cache {
        let Some(entry) = map.get("cache") else { return Cache::Managed };
        match self.string(&entry.value, "cache") {
            Some("premium") => Cache::Premium,
            Some("managed") | None => Cache::Managed,
            Some(other) => {
                let near = rules::nearest(&other.to_ascii_lowercase(), ["premium", "managed"]);
                let mut problem =
                    Problem::new(entry.value.span.clone(), format!("`{other}` is not a cache"))
                        .label("expected `premium` or `managed`");
                if let Some(near) = near {
                    problem = problem.help(format!("did you mean `{near}`?"));
                }
                self.problem(problem);
                Cache::Managed
            }
        }
    }

    fn settings(&mut self, node: &Node) -> BTreeMap<String, String> {
        let mut settings = BTreeMap::new();
        let Kind::Mapping(entries) = &node.kind else {
            self.expected(node, "settings", "names and values");
            return settings;
        };
        self.count(node, "settings", entries.len());
        let mut seen: HashMap<&str, Range<usize>> = HashMap::new();
        for entry in entries {
            if let Some(first) = seen.insert(&entry.key, entry.key_span.clone()) {
                self.twice(entry, first);
                continue;
            }
            if let Some(why) = rules::setting(&entry.key) {
                let title = format!("`{}` cannot be a setting", entry.key);
                self.problem(Problem::new(entry.key_span.clone(), title).label(why));
                continue;
            }
            match &entry.value.kind {
                Kind::Scalar { text, plain } if resolve(text, *plain) != Scalar::Null => {
                    if text.starts_with("@Microsoft.KeyVault(") {
                        let problem = Problem::new(
                            entry.value.span.clone(),
                            "a Key Vault reference among the plain settings",
                        )
                        .label("the blueprint writes references itself")
                        .help("name the secret under `secrets`");
                        self.problem(problem);
                    }
                    settings.insert(entry.key.clone(), text.clone());
                }
                _ => self.expected(&entry.value, &entry.key, "a value"),
            }
        }
        settings
    }

    fn secrets(&mut self, map: &Map<'_>, app: &str, backend: Option<&Backend>) -> Vec<Secret> {
        let mut secrets: Vec<Secret> = Vec::new();
        for item in self.sequence(map, "secrets") {
            let Some(name) = self.string(item, "secrets") else { continue };
            let setting = rules::setting_of(name);
            let why = if secrets.iter().any(|s| s.name == name) {
                Some("it is here twice".to_owned())
            } else if backend.is_some_and(|b| b.settings.contains_key(&setting)) {
                Some(format!("`{setting}` is among the plain settings too"))
            } else {
                rules::secret(app, name)
            };
            match why {
                Some(why) => {
                    let title = format!("`{name}` cannot be a secret");
                    self.problem(Problem::new(item.span.clone(), title).label(why));
                }
                None => secrets.push(Secret { name: name.to_owned(), setting }),
            }
        }
        secrets
    }

    fn smoke(&mut self, map: &Map<'_>) -> Vec<SmokeCheck> {
        let mut checks = Vec::new();
        for item in self.sequence(map, "smoke") {
            let Some(map) = self.mapping(item, "smoke", fields::SMOKE) else { continue };
            let path = self.text(&map, "path", rules::path);
            let status = map.get("status").and_then(|e| self.integer(&e.value, "status", 100, 599));
            let json = map.get("json").and_then(|e| {
                if let Value::Object(object) = self.json(&e.value) {
                    return Some(object);
                }
                self.expected(&e.value, "json", "names and values");
                None
            });
            let method = self.text(&map, "method", rules::method);
            let within = map.get("within-ms");
            let within = within.and_then(|e| self.integer(&e.value, "within-ms", 1, 230_000));
            let websocket = map
                .get("websocket")
                .and_then(|e| self.truth(&e.value, "websocket"))
                .unwrap_or(false);
            if websocket && let Some(entry) = map.get("method").or(map.get("json")) {
                let title = format!("`{}` does not go with `websocket`", entry.key);
                let label = "a WebSocket is opened with GET, and answers with no JSON";
                self.problem(Problem::new(entry.key_span.clone(), title).label(label));
            }
            if let Some(path) = path {
                let usual = if websocket { 101 } else { 200 };
                checks.push(SmokeCheck {
                    method: method.unwrap_or_else(|| "GET".to_owned()),
                    path,
                    status: status.map_or(usual, |s| u16::try_from(s).unwrap_or(usual)),
                    within_ms: within.and_then(|ms| u32::try_from(ms).ok()),
                    websocket,
                    json,
                });
            }
        }
        checks
    }

    fn release(&mut self, map: &Map<'_>) -> ReleaseRules {
        let Some(entry) = map.get("release") else { return ReleaseRules::default() };
        let Some(map) = self.mapping(&entry.value, "release", fields::RELEASE) else {
            return ReleaseRules::default();
        };
        ReleaseRules {
            tests: self.text(&map, "tests", rules::command),
            junit: self.text(&map, "junit", rules::relative),
        }
    }

    fn exclude(&mut self, map: &Map<'_>) -> Vec<String> {
        let Some(entry) = map.get("package") else { return Vec::new() };
        let Some(map) = self.mapping(&entry.value, "package", fields::PACKAGE) else {
            return Vec::new();
        };
        let mut exclude = Vec::new();
        for item in self.sequence(&map, "exclude") {
            match self.string(item, "exclude") {
                Some(pattern)
                    if pattern.trim().is_empty() || pattern.contains(char::is_control) =>
                {
                    self.expected(item, "exclude", "a pattern");
                }
                Some(pattern) => exclude.push(pattern.to_owned()),
                None => {}
            }
        }
        exclude
    }

    // ---- shapes ----

    /// A mapping, its keys checked: unknown, twice, missing.
    fn mapping<'a>(
        &mut self,
        node: &'a Node,
        place: &str,
        fields: &'static [Field],
    ) -> Option<Map<'a>> {
        let Kind::Mapping(entries) = &node.kind else {
            let names: Vec<_> = fields.iter().map(|f| format!("`{}:`", f.name)).collect();
            let what = if place.is_empty() { "the manifest" } else { place };
            self.expected(
                node,
                what,
                &format!("keys such as {}", names[..names.len().min(3)].join(", ")),
            );
            return None;
        };
        let mut map: Map<'a> = HashMap::new();
        for entry in entries {
            let Some(field) = fields.iter().find(|f| f.name == entry.key) else {
                self.unknown(entry, place, fields);
                continue;
            };
            if let Some(first) = map.get(field.name) {
                let first = first.key_span.clone();
                self.twice(entry, first);
                continue;
            }
            map.insert(field.name, entry);
        }
        // A key that is missing is often there under another spelling; once is enough.
        let meant: Vec<_> = entries.iter().filter_map(|e| suggestion(&e.key, fields)).collect();
        for field in fields.iter().filter(|f| f.required && !map.contains_key(f.name)) {
            if !meant.contains(&field.name) {
                let place = if place.is_empty() { "the manifest" } else { place };
                let at = node.span.start..node.span.end;
                self.problem(
                    Problem::new(at, format!("`{}` is missing", field.name))
                        .label(format!("{place} needs `{}:`", field.name))
                        .help(field.description),
                );
            }
        }
        Some(map)
    }

    fn unknown(&mut self, entry: &Entry, place: &str, fields: &'static [Field]) {
        let title = if place.is_empty() {
            format!("unknown key `{}`", entry.key)
        } else {
            format!("unknown key `{}` in `{place}`", entry.key)
        };
        let mut problem = Problem::new(entry.key_span.clone(), title);
        if let Some(meant) = suggestion(&entry.key, fields) {
            problem = problem.label(format!("did you mean `{meant}`?"));
        } else {
            let elsewhere = fields::PLACES
                .iter()
                .filter(|(at, _)| *at != place)
                .find(|(_, f)| f.iter().any(|f| f.name == entry.key));
            problem = match elsewhere {
                Some(("", _)) => problem.label("it stands at the top level, not in here"),
                Some((at, _)) => problem.label(format!("it belongs under `{at}:`")),
                None => problem.label("a manifest has no such key"),
            };
            let names: Vec<_> = fields.iter().map(|f| f.name).collect();
            problem = problem.help(format!("known here: {}", names.join(", ")));
        }
        self.problem(problem);
    }

    fn twice(&mut self, entry: &Entry, first: Range<usize>) {
        self.problem(
            Problem::new(entry.key_span.clone(), format!("`{}` is here twice", entry.key))
                .label("again")
                .context(first, "first")
                .help("keep one of them"),
        );
    }

    fn sequence<'a>(&mut self, map: &Map<'a>, name: &'static str) -> &'a [Node] {
        let Some(entry) = map.get(name) else { return &[] };
        if let Kind::Sequence(items) = &entry.value.kind {
            self.count(&entry.value, name, items.len());
            return items;
        }
        self.expected(&entry.value, name, "a list");
        &[]
    }

    fn count(&mut self, node: &Node, name: &str, count: usize) {
        if count > MANY {
            let title = format!("`{name}` has {count} items; {MANY} is the most");
            self.problem(Problem::new(node.span.clone(), title));
        }
    }

    /// A text that obeys a rule.
    fn text(
        &mut self,
        map: &Map<'_>,
        name: &'static str,
        rule: fn(&str) -> Option<String>,
    ) -> Option<String> {
        let entry = map.get(name)?;
        let text = self.string(&entry.value, name)?;
        if text.is_empty() {
            self.expected(&entry.value, name, "text");
            return None;
        }
        if let Some(why) = rule(text) {
            let title = format!("`{}` cannot be `{name}`", short(text));
            self.problem(Problem::new(entry.value.span.clone(), title).label(why));
            return None;
        }
        Some(text.to_owned())
    }

    /// A version: text, though it looks like a number. Its digits are taken as they stand.
    fn version(&mut self, map: &Map<'_>, name: &'static str) -> Option<String> {
        let entry = map.get(name)?;
        let Kind::Scalar { text, .. } = &entry.value.kind else {
            self.expected(&entry.value, name, "a version in quotes");
            return None;
        };
        if let Some(why) = rules::python(text) {
            let title = format!("`{}` cannot be `{name}`", short(text));
            self.problem(Problem::new(entry.value.span.clone(), title).label(why));
            return None;
        }
        Some(text.clone())
    }

    fn string<'a>(&mut self, node: &'a Node, name: &str) -> Option<&'a str> {
        let Kind::Scalar { text, plain } = &node.kind else {
            self.expected(node, name, "text");
            return None;
        };
        match resolve(text, *plain) {
            Scalar::Text(text) => Some(text),
            Scalar::Null => {
                self.expected(node, name, "text");
                None
            }
            other => {
                let title = format!("`{name}` must be text, and this is {}", other.what());
                self.problem(
                    Problem::new(node.span.clone(), title)
                        .label(format!("write \"{text}\" if text is meant")),
                );
                None
            }
        }
    }

    fn integer(&mut self, node: &Node, name: &str, from: i64, to: i64) -> Option<i64> {
        if let Kind::Scalar { text, plain } = &node.kind
            && let Scalar::Int(value) = resolve(text, *plain)
        {
            if (from..=to).contains(&value) {
                return Some(value);
            }
            let title = format!("`{name}` is out of range");
            self.problem(
                Problem::new(node.span.clone(), title).label(format!("expected {from} to {to}")),
            );
            return None;
        }
        self.expected(node, name, "a whole number");
        None
    }

    fn truth(&mut self, node: &Node, name: &str) -> Option<bool> {
        if let Kind::Scalar { text, plain } = &node.kind {
            if let Scalar::Bool(value) = resolve(text, *plain) {
                return Some(value);
            }
            if matches!(&*text.to_ascii_lowercase(), "yes" | "on" | "no" | "off") {
                let title = format!("`{name}` must be `true` or `false`");
                let label = format!("YAML 1.2 reads `{text}` as text");
                self.problem(Problem::new(node.span.clone(), title).label(label));
                return None;
            }
        }
        self.expected(node, name, "`true` or `false`");
        None
    }

    fn expected(&mut self, node: &Node, name: &str, what: &str) {
        let found = match &node.kind {
            Kind::Scalar { text, plain } => resolve(text, *plain).what(),
            Kind::Sequence(_) => "a list",
            Kind::Mapping(_) => "keys and values",
        };
        let title = format!("`{name}` must be {what}");
        self.problem(Problem::new(node.span.clone(), title).label(format!("this is {found}")));
    }

    fn json(&mut self, node: &Node) -> Value {
        match &node.kind {
            Kind::Scalar { text, plain } => match resolve(text, *plain) {
                Scalar::Null => Value::Null,
                Scalar::Bool(value) => value.into(),
                Scalar::Int(value) => value.into(),
                Scalar::Float(value) => value.into(),
                Scalar::Text(text) => text.into(),
            },
            Kind::Sequence(items) => items.iter().map(|i| self.json(i)).collect(),
            Kind::Mapping(entries) => {
                let mut object = serde_json::Map::new();
                let mut seen: HashMap<&str, Range<usize>> = HashMap::new();
                for entry in entries {
                    if let Some(first) = seen.insert(&entry.key, entry.key_span.clone()) {
                        self.twice(entry, first);
                        continue;
                    }
                    let value = self.json(&entry.value);
                    object.insert(entry.key.clone(), value);
                }
                Value::Object(object)
            }
        }
    }
}

/// What a key was probably meant to be.
fn suggestion(key: &str, fields: &'static [Field]) -> Option<&'static str> {
    let plain = key.to_ascii_lowercase().replace('_', "-");
    fields
        .iter()
        .find(|f| f.name == plain || f.also.contains(&&*plain))
        .map(|f| f.name)
        .or_else(|| rules::nearest(&plain, fields.iter().map(|f| f.name)))
        .filter(|name| *name != key)
}

/// A value in a message: its beginning, so that a message stays one line.
fn short(text: &str) -> String {
    let mut out: String =
        text.chars().take(60).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().count() > 60 {
        out.push('…');
    }
    out
}
