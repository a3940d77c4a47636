//! Runs the rules, then takes out what is suppressed, accepted by the baseline, or configured away.
//! The order of findings is that of places, whatever order files and rules came in.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use lazuli_hcl::{Sources, Span, Value};

use crate::project::Project;
use crate::rule::{Check, Finding, Rule, Severity, Sink};
use crate::rules;
use crate::yaml;

/// What a team decided: `lazuli-check.yaml`.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Severities that differ from the rules' own; `None` switches a rule off.
    pub severities: BTreeMap<String, Option<Severity>>,
    /// What is accepted: rule, a prefix of the path, the reason.
    pub ignore: Vec<(String, String, String)>,
    /// The environment where it cannot be told.
    pub environment: Option<lazuli_standard::Environment>,
}

/// A configuration that makes no sense.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

impl Config {
    /// Reads `lazuli-check.yaml`.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let documents = yaml::parse(lazuli_hcl::FileId(0), text).map_err(|e| ConfigError(e.0))?;
        let mut out = Self::default();
        let Some(root) = documents.first() else { return Ok(out) };
        let root = root.as_map().ok_or_else(|| ConfigError("expected a mapping".into()))?;
        let known = |id: &str| {
            if rules::find(id).is_some() {
                Ok(())
            } else {
                Err(ConfigError(format!("`{id}` is no rule{}", near(id))))
            }
        };
        for e in root {
            match &*e.key {
                "severity" => {
                    for r in e.value.as_map().into_iter().flatten() {
                        known(&r.key)?;
                        let s = match r.value.known_text().as_str() {
                            "error" => Some(Severity::Error),
                            "warning" => Some(Severity::Warning),
                            "note" => Some(Severity::Note),
                            "off" | "false" => None,
                            x => {
                                return Err(ConfigError(format!(
                                    "`{x}` is no severity: error, warning, note or off"
                                )));
                            }
                        };
                        out.severities.insert(r.key.to_string(), s);
                    }
                }
                "ignore" => {
                    for i in e.value.as_list().unwrap_or_default() {
                        let m = i.as_map().ok_or_else(|| {
                            ConfigError("`ignore` holds mappings of rule, path and reason".into())
                        })?;
                        let text = |k: &str| m.get(k).map(Value::known_text).unwrap_or_default();
                        known(&text("rule"))?;
                        if text("reason").trim().is_empty() {
                            return Err(ConfigError(format!(
                                "ignoring {} needs a `reason`",
                                text("rule")
                            )));
                        }
                        out.ignore.push((text("rule"), text("path"), text("reason")));
                    }
                }
                "environment" => {
                    let word = e.value.known_text();
                    out.environment = Some(word.parse().map_err(|e| ConfigError(format!("{e}")))?);
                }
                other => {
                    return Err(ConfigError(format!(
                        "`{other}` is no setting: expected `severity`, `ignore` or `environment`"
                    )));
                }
            }
        }
        Ok(out)
    }
}

/// ` (did you mean …?)`, or nothing.
pub fn near(id: &str) -> String {
    let best = rules::all().map(|r| (strsim::levenshtein(r.id, &id.to_uppercase()), r.id)).min();
    match best {
        Some((d, id)) if d <= 4 => format!(" (did you mean `{id}`?)"),
        _ => String::new(),
    }
}

/// What came of a check.
#[derive(Debug)]
pub struct Report {
    /// What was read.
    pub project: Project,
    /// Every breach, in the order of places; those that do not count are marked.
    pub findings: Vec<Finding>,
    /// How often a rule could not judge, with the reasons.
    pub unknown: BTreeMap<&'static str, BTreeSet<String>>,
    /// Rules that met something they judge.
    pub judged: BTreeSet<&'static str>,
    /// Production-only rules that were left out for stacks whose environment is not known.
    pub environment_unknown: Vec<String>,
}

/// A section of the standard in the summary.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Section {
    /// Its heading.
    pub section: &'static str,
    /// Rules that come from it.
    pub rules: usize,
    /// Those that met something.
    pub judged: usize,
    /// Those without a finding.
    pub held: usize,
    /// Those with one.
    pub broken: usize,
}

impl Report {
    /// Findings that count.
    pub fn active(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|f| f.suppressed.is_none())
    }

    /// The worst that counts.
    pub fn worst(&self) -> Option<Severity> {
        self.active().map(|f| f.severity).max()
    }

    /// The share of the standard that was judged, held and broken.
    pub fn sections(&self) -> Vec<Section> {
        let broken: HashSet<&str> = self.active().map(|f| f.rule.id).collect();
        let mut out: Vec<Section> = Vec::new();
        for r in rules::all() {
            let i = out.iter().position(|s| s.section == r.section).unwrap_or_else(|| {
                out.push(Section { section: r.section, rules: 0, judged: 0, held: 0, broken: 0 });
                out.len() - 1
            });
            let s = &mut out[i];
            s.rules += 1;
            if self.judged.contains(r.id) {
                s.judged += 1;
                if broken.contains(r.id) {
                    s.broken += 1;
                } else {
                    s.held += 1;
                }
            }
        }
        out
    }
}

/// Runs every rule.
pub fn run(project: Project, config: &Config, baseline: &HashSet<String>) -> Report {
    let mut raw: Vec<Finding> = Vec::new();
    let mut unknown = Vec::new();
    let mut judged = BTreeSet::new();
    for (message, span) in &project.trouble {
        let mut s = Sink {
            rule: &rules::input::UNREADABLE,
            findings: &mut raw,
            unknown: &mut unknown,
            judged: false,
        };
        s.at(*span, message.clone());
    }
    for rule in rules::all() {
        if config.severities.get(rule.id).is_some_and(Option::is_none) {
            continue;
        }
        let mut met = false;
        let mut sink = |findings: &mut Vec<Finding>, run: &mut dyn FnMut(&mut Sink<'_>)| {
            let mut s = Sink { rule, findings, unknown: &mut unknown, judged: false };
            run(&mut s);
            met |= s.judged;
        };
        match rule.check {
            Check::Stack(f) => {
                for stack in &project.stacks {
                    let from = raw.len();
                    sink(&mut raw, &mut |s| f(stack, s));
                    let found = raw.split_off(from);
                    for mut x in found {
                        if x.absence && stack.partial || x.unset && stack.fragment {
                            continue;
                        }
                        if let Some(r) = stack.enclosing(x.span) {
                            x.block = Some(r.header);
                            x.address.get_or_insert_with(|| r.address.to_string());
                        }
                        x.environments =
                            stack.environment.iter().map(ToString::to_string).collect();
                        raw.push(x);
                    }
                }
            }
            Check::Pipeline(f) => {
                for p in &project.pipelines {
                    let from = raw.len();
                    sink(&mut raw, &mut |s| f(p, s));
                    if p.partial {
                        let found = raw.split_off(from);
                        raw.extend(found.into_iter().filter(|x| !x.absence && !x.unset));
                    }
                }
            }
            Check::Project(f) => {
                let from = raw.len();
                sink(&mut raw, &mut |s| f(&project, s));
                if project.fragments {
                    let found = raw.split_off(from);
                    raw.extend(found.into_iter().filter(|x| !x.absence && !x.unset));
                }
            }
            Check::Reading => {}
        }
        if met {
            judged.insert(rule.id);
        }
    }

    for f in &mut raw {
        f.span = whole_characters(&project.sources, f.span);
    }
    let mut findings = merge(raw, &project);
    for f in &mut findings {
        if let Some(Some(s)) = config.severities.get(f.rule.id) {
            f.severity = *s;
        }
        let path = project.sources.path(f.span.file).to_string_lossy().into_owned();
        let hit = config
            .ignore
            .iter()
            .find(|(rule, prefix, _)| rule == f.rule.id && path.starts_with(prefix.as_str()));
        if let Some((_, _, reason)) = hit {
            f.suppressed = Some(reason.clone());
        }
    }
    suppress(&project.sources, &mut findings);
    let prints = fingerprints(&project.sources, &findings);
    for (f, print) in findings.iter_mut().zip(prints) {
        if f.suppressed.is_none() && baseline.contains(&print) {
            f.suppressed = Some("in the baseline".into());
        }
    }
    sort(&project.sources, &mut findings);
    let mut reasons: BTreeMap<&'static str, BTreeSet<String>> = BTreeMap::new();
    for (id, why) in unknown {
        let set = reasons.entry(id).or_default();
        if set.len() < 20 {
            set.insert(why);
        }
    }
    let environment_unknown = project
        .stacks
        .iter()
        .filter(|s| s.environment.is_none() && s.any(rules::PLATFORM))
        .map(|s| s.name.clone())
        .collect();
    Report { project, findings, unknown: reasons, judged, environment_unknown }
}

/// Readers that stop at a byte name that byte; a person is shown characters.
fn whole_characters(sources: &Sources, span: Span) -> Span {
    let text = &sources.get(span.file).text;
    let mut start = (span.start as usize).min(text.len());
    while !text.is_char_boundary(start) {
        start -= 1;
    }
    let mut end = (span.end as usize).clamp(start, text.len());
    while !text.is_char_boundary(end) {
        end += 1;
    }
    Span::new(span.file, start, end)
}

/// One finding for the same breach in several environments or instances.
fn merge(raw: Vec<Finding>, project: &Project) -> Vec<Finding> {
    let mut index: HashMap<(&'static str, Span, String), usize> = HashMap::new();
    let mut out: Vec<Finding> = Vec::new();
    for f in raw {
        let key = (f.rule.id, f.span, f.message.clone());
        if let Some(&i) = index.get(&key) {
            for e in f.environments {
                if !out[i].environments.contains(&e) {
                    out[i].environments.push(e);
                }
            }
            for l in f.labels {
                if !out[i].labels.contains(&l) && out[i].labels.len() < 6 {
                    out[i].labels.push(l);
                }
            }
        } else {
            index.insert(key, out.len());
            out.push(f);
        }
    }
    // An environment is worth saying only where there are several.
    if project.stacks.len() < 2 {
        for f in &mut out {
            f.environments.clear();
        }
    }
    out
}

fn sort(sources: &Sources, findings: &mut [Finding]) {
    findings.sort_by(|a, b| {
        let place = |f: &Finding| (sources.path(f.span.file).to_owned(), f.span.start, f.span.end);
        place(a)
            .cmp(&place(b))
            .then_with(|| a.rule.id.cmp(b.rule.id))
            .then_with(|| a.message.cmp(&b.message))
    });
}

/// `# lazuli:ignore LZ-APP-001 why it is so here`, on the line, the line above, or above the block.
fn suppress(sources: &Sources, findings: &mut Vec<Finding>) {
    const MARK: &str = "lazuli:ignore";
    let mut by_file: HashMap<lazuli_hcl::FileId, Vec<usize>> = HashMap::new();
    for (i, f) in findings.iter().enumerate() {
        by_file.entry(f.span.file).or_default().push(i);
    }
    let mut extra = Vec::new();
    let mut unknown = Vec::new();
    for (file, source) in sources.iter() {
        if !source.text.contains(MARK) {
            continue;
        }
        for n in 1..=source.line_count() {
            let line = source.line(n);
            let Some(at) = line.find(MARK) else { continue };
            let before = line[..at].trim_end();
            if !(before.ends_with('#') || before.ends_with("//") || before.ends_with("/*")) {
                continue;
            }
            let start = source.line_start(n) + at;
            let span = Span::new(file, start, start + MARK.len());
            let rest = line[at + MARK.len()..].trim().trim_end_matches("*/").trim();
            let mut words = rest.split_whitespace().peekable();
            let mut ids = Vec::new();
            while let Some(w) = words.peek() {
                if !w.starts_with("LZ-") {
                    break;
                }
                ids.extend(w.split(',').filter(|id| !id.is_empty()).map(str::to_owned));
                words.next();
            }
            let reason = words
                .collect::<Vec<_>>()
                .join(" ")
                .trim_start_matches([':', '-', '—', ' '])
                .to_owned();
            let mut sink = Sink {
                rule: &rules::input::NO_REASON,
                findings: &mut extra,
                unknown: &mut unknown,
                judged: false,
            };
            if ids.is_empty() {
                sink.at(span, "this suppression names no rule");
                continue;
            }
            if reason.is_empty() {
                sink.at(span, format!("this suppression of {} gives no reason", ids.join(", ")));
                continue;
            }
            // A comment of its own speaks for the next line that is not a comment.
            let alone = before.trim_end_matches(['#', '/', '*']).trim().is_empty();
            let mut next = n + 1;
            while alone
                && next < source.line_count()
                && source.line(next).trim_start().starts_with(['#', '/'])
            {
                next += 1;
            }
            let target = if alone { next } else { n };
            let mut used = false;
            for &i in by_file.get(&file).into_iter().flatten() {
                let f = &mut findings[i];
                let line_of = |s: Span| source.line_column(s.start).0;
                let end_line = source.line_column(f.span.end.saturating_sub(1).max(f.span.start)).0;
                let here = line_of(f.span) <= target && target <= end_line;
                let block = f.block.is_some_and(|b| b.file == file && line_of(b) == target);
                if ids.iter().any(|id| id == f.rule.id) && (here || block) {
                    f.suppressed.get_or_insert_with(|| reason.clone());
                    used = true;
                }
            }
            if !used {
                let mut sink = Sink {
                    rule: &rules::input::UNUSED,
                    findings: &mut extra,
                    unknown: &mut unknown,
                    judged: false,
                };
                let bad: Vec<&String> = ids.iter().filter(|id| rules::find(id).is_none()).collect();
                match bad.first() {
                    Some(id) => sink.at(span, format!("`{id}` is no rule{}", near(id))),
                    None => {
                        sink.at(span, format!("{} finds nothing here any more", ids.join(", ")))
                    }
                };
            }
        }
    }
    findings.extend(extra);
}

/// What a finding is recognised by when lines move: the rule, the file, the line's text, and which
/// one of its kind it is.
pub fn fingerprints(sources: &Sources, findings: &[Finding]) -> Vec<String> {
    let mut seen: HashMap<u64, u32> = HashMap::new();
    findings
        .iter()
        .map(|f| {
            let source = sources.get(f.span.file);
            let line = source.line(source.line_column(f.span.start).0);
            let text = line.split_whitespace().collect::<Vec<_>>().join(" ");
            let path = source.path.to_string_lossy().replace('\\', "/");
            let h = fnv(&[f.rule.id, &path, &text, f.address.as_deref().unwrap_or("")]);
            let n = seen.entry(h).or_default();
            *n += 1;
            format!("{h:016x}-{n}")
        })
        .collect()
}

/// FNV-1a: stable across versions and machines, which a baseline must be.
fn fnv(parts: &[&str]) -> u64 {
    let mut h = 0xcbf2_9ce4_8422_2325u64;
    for p in parts {
        for b in p.bytes().chain([0]) {
            h = (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    h
}

/// The rule of an ID.
pub fn explain(id: &str) -> Option<&'static Rule> {
    rules::find(id)
}
