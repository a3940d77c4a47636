//! Terraform's functions, as far as configurations of this kind use them. One that is not here, or
//! that asks for time, files or randomness, gives unknown with its name as the reason.

use std::fmt::Write as _;
use std::sync::Arc;

use crate::eval::{MAX_TEXT, concat, elements, why};
use crate::span::Span;
use crate::value::{Entry, Kind, Map, Piece, Value};

/// How long a list a function may make.
const MAX_LIST: usize = 100_000;

pub(crate) fn call(name: &str, a: &[Value], span: Span) -> Value {
    let name = name.strip_prefix("core::").unwrap_or(name);
    let unknown = || {
        let w = a.iter().find(|v| !v.is_whole()).map(|v| why(v, "an argument"));
        Value::unknown(
            w.unwrap_or_else(|| Arc::from(format!("`{name}` cannot be worked out here"))),
            span,
        )
    };
    inner(name, a, span).unwrap_or_else(unknown)
}

fn inner(name: &str, a: &[Value], span: Span) -> Option<Value> {
    let text = |i: usize| a.get(i).and_then(scalar);
    let number = |i: usize| a.get(i).and_then(Value::as_number);
    let say = |s: String| (s.len() <= MAX_TEXT).then(|| Value::text(s, span));
    let num = |n: f64| Some(Value::new(Kind::Number(n), span));
    let yes = |b: bool| Some(Value::new(Kind::Bool(b), span));
    let list = |l: Vec<Value>| (l.len() <= MAX_LIST).then(|| Value::list(l, span));
    let items = |i: usize| a.get(i).and_then(Value::as_list);
    let known = |i: usize| items(i).filter(|l| l.iter().all(Value::is_whole));
    match name {
        // Those that keep the value's own place.
        "tostring" | "tonumber" | "tobool" | "nonsensitive" | "sensitive" | "ephemeralasnull"
        | "toset" | "tolist" | "tomap" | "issensitive"
            if a.len() == 1 =>
        {
            let v = &a[0];
            match (name, &v.kind) {
                ("tolist" | "toset", Kind::List(l)) if name == "toset" => {
                    Some(Value::list(distinct(l), v.span))
                }
                ("tostring", Kind::Bool(_) | Kind::Number(_)) => {
                    Some(Value::text(v.known_text(), v.span))
                }
                ("issensitive", _) => None,
                _ => Some(v.clone()),
            }
        }
        "coalesce" => {
            for v in a {
                match &v.kind {
                    Kind::Null => {}
                    Kind::Text(t) if t.is_empty() => {}
                    Kind::Unknown(_) => return None,
                    _ => return Some(v.clone()),
                }
            }
            None
        }
        "coalescelist" => {
            for v in a {
                match &v.kind {
                    Kind::List(l) if l.is_empty() => {}
                    Kind::List(_) => return Some(v.clone()),
                    _ => return None,
                }
            }
            None
        }
        "merge" => {
            let mut out = Map::default();
            for v in a {
                match &v.kind {
                    Kind::Map(m) => {
                        if out.open.is_none() {
                            out.open.clone_from(&m.open);
                        }
                        for e in &**m {
                            out.insert(e.clone());
                        }
                    }
                    Kind::Null => {}
                    _ => {
                        // What was known so far may be overridden by what is not known.
                        let w = why(v, "an argument of `merge`");
                        let keys: Vec<Entry> = out.iter().cloned().collect();
                        for e in keys {
                            out.insert(Entry {
                                value: Value::unknown(w.clone(), e.value.span),
                                ..e
                            });
                        }
                        out.open = Some(w);
                    }
                }
            }
            Some(Value::map(out, span))
        }
        "lookup" => {
            let Kind::Map(m) = &a.first()?.kind else { return None };
            match (m.entry(&text(1)?), &m.open) {
                (Some(e), _) => Some(e.value.clone()),
                (None, None) => a.get(2).cloned(),
                (None, Some(_)) => None,
            }
        }
        "element" => {
            let l = items(0)?;
            let n = number(1)?;
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked")]
            let n = if n >= 0.0 && !l.is_empty() { n as usize % l.len() } else { return None };
            Some(l[n].clone())
        }
        "one" => match items(0)? {
            [] => Some(Value::new(Kind::Null, span)),
            [v] => Some(v.clone()),
            _ => None,
        },
        "concat" => {
            let mut out = Vec::new();
            for v in a {
                match &v.kind {
                    Kind::List(l) => out.extend(l.iter().cloned()),
                    _ => out.push(Value::unknown(why(v, "an argument of `concat`"), v.span)),
                }
                if out.len() > MAX_LIST {
                    return None;
                }
            }
            list(out)
        }
        "flatten" => {
            fn flat(v: &Value, out: &mut Vec<Value>, depth: usize) -> Option<()> {
                if depth > 50 || out.len() > MAX_LIST {
                    return None;
                }
                if let Kind::List(l) = &v.kind {
                    l.iter().try_for_each(|i| flat(i, out, depth + 1))
                } else {
                    out.push(v.clone());
                    Some(())
                }
            }
            let mut out = Vec::new();
            flat(a.first()?, &mut out, 0)?;
            list(out)
        }
        "compact" => list(
            items(0)?.iter().filter(|v| !v.is_null() && v.as_str() != Some("")).cloned().collect(),
        ),
        "distinct" => list(distinct(known(0)?)),
        "reverse" => list(items(0)?.iter().rev().cloned().collect()),
        "sort" => {
            let mut l = known(0)?.to_vec();
            l.sort_by_key(Value::known_text);
            list(l)
        }
        "slice" => {
            let l = items(0)?;
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "get checks bounds"
            )]
            let (from, to) = (number(1)?.max(0.0) as usize, number(2)?.max(0.0) as usize);
            list(l.get(from..to)?.to_vec())
        }
        "setunion" => {
            let mut out = Vec::new();
            for i in 0..a.len() {
                out.extend(known(i)?.iter().cloned());
            }
            list(distinct(&out))
        }
        "setintersection" => {
            let mut out = distinct(known(0)?);
            for i in 1..a.len() {
                let other = known(i)?;
                out.retain(|v| has(other, v));
            }
            list(out)
        }
        "setsubtract" => {
            let other = known(1)?;
            list(distinct(known(0)?).into_iter().filter(|v| !has(other, v)).collect())
        }
        "setproduct" => {
            let mut out: Vec<Vec<Value>> = vec![Vec::new()];
            for i in 0..a.len() {
                let l = items(i)?;
                if out.len().saturating_mul(l.len()) > MAX_LIST {
                    return None;
                }
                out = out
                    .iter()
                    .flat_map(|row| {
                        l.iter().map(move |v| {
                            let mut r = row.clone();
                            r.push(v.clone());
                            r
                        })
                    })
                    .collect();
            }
            list(out.into_iter().map(|r| Value::list(r, span)).collect())
        }
        "chunklist" => {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "at least one"
            )]
            let n = number(1)?.max(1.0) as usize;
            list(items(0)?.chunks(n).map(|c| Value::list(c.to_vec(), span)).collect())
        }
        "range" => {
            let (from, to, step) = match a.len() {
                1 => (0.0, number(0)?, 1.0),
                2 => (number(0)?, number(1)?, 1.0),
                _ => (number(0)?, number(1)?, number(2)?),
            };
            if step == 0.0 || ((to - from) / step) > 10_000.0 {
                return None;
            }
            let mut out = Vec::new();
            let mut n = from;
            while (step > 0.0 && n < to) || (step < 0.0 && n > to) {
                out.push(Value::new(Kind::Number(n), span));
                n += step;
            }
            list(out)
        }
        "keys" => {
            let v = a.first()?;
            list(elements(v).ok()?.into_iter().map(|(k, _)| k).collect())
        }
        "values" => list(elements(a.first()?).ok()?.into_iter().map(|(_, v)| v).collect()),
        "zipmap" => {
            let mut out = Map::default();
            for (k, v) in items(0)?.iter().zip(items(1)?) {
                let key: Arc<str> = Arc::from(scalar(k)?);
                out.insert(Entry { key, key_span: k.span, at: v.span, value: v.clone() });
            }
            Some(Value::map(out, span))
        }
        "length" => match &a.first()?.kind {
            Kind::List(l) if !l.iter().any(|v| matches!(v.kind, Kind::Unknown(_))) => {
                count(l.len(), span)
            }
            Kind::Map(m) if m.open.is_none() => count(m.len(), span),
            Kind::Text(t) => count(t.chars().count(), span),
            _ => None,
        },
        "contains" => {
            let (l, v) = (items(0)?, a.get(1)?);
            let all: Option<Vec<bool>> = l.iter().map(|i| i.equals(v)).collect();
            match all {
                Some(all) => yes(all.contains(&true)),
                None => l
                    .iter()
                    .any(|i| i.equals(v) == Some(true))
                    .then(|| Value::new(Kind::Bool(true), span)),
            }
        }
        "index" => {
            let (l, v) = (known(0)?, a.get(1)?);
            count(l.iter().position(|i| i.equals(v) == Some(true))?, span)
        }
        "alltrue" => {
            yes(items(0)?.iter().map(Value::as_bool).try_fold(true, |x, y| Some(x && y?))?)
        }
        "anytrue" => {
            yes(items(0)?.iter().map(Value::as_bool).try_fold(false, |x, y| Some(x || y?))?)
        }
        "sum" => num(items(0)?.iter().map(Value::as_number).try_fold(0.0, |x, y| Some(x + y?))?),
        "min" => num(numbers(a)?.into_iter().reduce(f64::min)?),
        "max" => num(numbers(a)?.into_iter().reduce(f64::max)?),
        "abs" => num(number(0)?.abs()),
        "ceil" => num(number(0)?.ceil()),
        "floor" => num(number(0)?.floor()),
        "pow" => num(number(0)?.powf(number(1)?)),
        "signum" => num(number(0)?.signum()),
        "parseint" => {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked")]
            let base = number(1).filter(|n| (2.0..=36.0).contains(n))? as u32;
            let n = i64::from_str_radix(&text(0)?, base).ok()?;
            #[expect(clippy::cast_precision_loss, reason = "HCL's numbers are ours")]
            num(n as f64)
        }
        "lower" => say(text(0)?.to_lowercase()),
        "upper" => say(text(0)?.to_uppercase()),
        "title" => {
            let mut start = true;
            let mut out = String::new();
            for c in text(0)?.chars() {
                if start {
                    out.extend(c.to_uppercase());
                } else {
                    out.push(c);
                }
                start = !c.is_alphanumeric();
            }
            say(out)
        }
        "trimspace" => say(text(0)?.trim().to_owned()),
        "chomp" => say(text(0)?.trim_end_matches(['\n', '\r']).to_owned()),
        "trim" => {
            let set: Vec<char> = text(1)?.chars().collect();
            say(text(0)?.trim_matches(&*set).to_owned())
        }
        "trimprefix" => {
            let (s, p) = (text(0)?, text(1)?);
            say(s.strip_prefix(&p).unwrap_or(&s).to_owned())
        }
        "trimsuffix" => {
            let (s, p) = (text(0)?, text(1)?);
            say(s.strip_suffix(&p).unwrap_or(&s).to_owned())
        }
        "startswith" => yes(text(0)?.starts_with(&text(1)?)),
        "endswith" => yes(text(0)?.ends_with(&text(1)?)),
        "strcontains" => yes(text(0)?.contains(&text(1)?)),
        "strrev" => say(text(0)?.chars().rev().collect()),
        "replace" => {
            let (s, from, to) = (text(0)?, text(1)?, text(2)?);
            // Between slashes it is a regular expression.
            if from.is_empty() || (from.len() > 1 && from.starts_with('/') && from.ends_with('/')) {
                return None;
            }
            if s.len().saturating_mul(to.len().max(1)) > MAX_TEXT {
                return None;
            }
            say(s.replace(&from, &to))
        }
        "substr" => {
            let s: Vec<char> = text(0)?.chars().collect();
            let (from, len) = (number(1)?, number(2)?);
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "clamped to the text"
            )]
            let from = if from < 0.0 {
                s.len().saturating_sub((-from) as usize)
            } else {
                (from as usize).min(s.len())
            };
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "clamped to the text"
            )]
            let to =
                if len < 0.0 { s.len() } else { from.saturating_add(len as usize).min(s.len()) };
            say(s[from..to].iter().collect())
        }
        "indent" => {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounded")]
            let n = number(0)?.clamp(0.0, 200.0) as usize;
            say(text(1)?.replace('\n', &format!("\n{}", " ".repeat(n))))
        }
        "join" => {
            let separator: Arc<str> = Arc::from(text(0)?);
            let mut pieces = Vec::new();
            for i in 1..a.len() {
                for v in items(i)? {
                    if !pieces.is_empty() {
                        pieces.push(Piece::Text(separator.clone()));
                    }
                    match scalar(v) {
                        Some(t) => pieces.push(Piece::Text(Arc::from(t))),
                        None => pieces.push(Piece::Hole(v.clone())),
                    }
                }
            }
            Some(concat(pieces, span))
        }
        "split" => {
            let (separator, s) = (text(0)?, text(1)?);
            if separator.is_empty() {
                return None;
            }
            list(s.split(&separator).map(|p| Value::text(p, span)).collect())
        }
        "format" => format_text(a, span),
        "formatlist" => {
            let length = a.iter().skip(1).filter_map(Value::as_list).map(<[Value]>::len).max()?;
            let mut out = Vec::new();
            for i in 0..length.min(MAX_LIST) {
                let row: Option<Vec<Value>> = a
                    .iter()
                    .map(|v| match v.as_list() {
                        Some(l) => l.get(i).cloned(),
                        None => Some(v.clone()),
                    })
                    .collect();
                out.push(format_text(&row?, span)?);
            }
            list(out)
        }
        "jsonencode" => {
            let mut s = String::new();
            json(a.first()?, &mut s, 0).then(|| Value::text(s, span))
        }
        "basename" => say(text(0)?.rsplit('/').next()?.to_owned()),
        "dirname" => {
            let s = text(0)?;
            say(s.rsplit_once('/').map_or(".", |(d, _)| d).to_owned())
        }
        "abspath" | "pathexpand" => a.first().cloned(),
        "cidrsubnet" => cidr_subnet(&text(0)?, number(1)?, number(2)?).and_then(say),
        "cidrsubnets" => {
            let mut out = Vec::new();
            let (base, length) = cidr(&text(0)?)?;
            let mut next = u64::from(base);
            for i in 1..a.len() {
                let bits = number(i)?;
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "checked"
                )]
                let new =
                    if (0.0..=32.0).contains(&bits) { length + bits as u32 } else { return None };
                if new > 32 {
                    return None;
                }
                let size = 1u64 << (32 - new);
                next = next.div_ceil(size) * size;
                out.push(Value::text(
                    format!("{}/{new}", address(u32::try_from(next).ok()?)),
                    span,
                ));
                next += size;
            }
            list(out)
        }
        "cidrhost" => {
            let (base, length) = cidr(&text(0)?)?;
            let n = number(1)?;
            let size = 1u64 << (32 - length);
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "checked against the size"
            )]
            let offset = if n < 0.0 { size.checked_sub((-n) as u64)? } else { n as u64 };
            if offset >= size {
                return None;
            }
            say(address(base + u32::try_from(offset).ok()?))
        }
        "cidrnetmask" => {
            let (_, length) = cidr(&text(0)?)?;
            say(address(mask(length)))
        }
        _ => None,
    }
}

fn count(n: usize, span: Span) -> Option<Value> {
    #[expect(clippy::cast_precision_loss, reason = "a length")]
    Some(Value::new(Kind::Number(n as f64), span))
}

fn scalar(v: &Value) -> Option<String> {
    match &v.kind {
        Kind::Text(t) => Some(t.to_string()),
        Kind::Number(_) | Kind::Bool(_) => Some(v.known_text()),
        _ => None,
    }
}

fn numbers(a: &[Value]) -> Option<Vec<f64>> {
    a.iter().map(Value::as_number).collect()
}

fn has(l: &[Value], v: &Value) -> bool {
    l.iter().any(|i| i.equals(v) == Some(true))
}

fn distinct(l: &[Value]) -> Vec<Value> {
    let mut seen = std::collections::HashSet::new();
    l.iter()
        .filter(|v| match scalar(v) {
            Some(t) => seen.insert(t),
            None => true,
        })
        .cloned()
        .collect()
}

fn format_text(a: &[Value], span: Span) -> Option<Value> {
    let pattern = a.first()?.as_str()?;
    let mut pieces = Vec::new();
    let mut text = String::new();
    let mut next = 1;
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            text.push(c);
            continue;
        }
        let mut zero = false;
        let mut width = 0usize;
        let mut precision: Option<usize> = None;
        let verb = loop {
            match chars.next()? {
                '0' if width == 0 && precision.is_none() => zero = true,
                d @ '0'..='9' => {
                    let d = d as usize - '0' as usize;
                    match &mut precision {
                        Some(p) => *p = (*p * 10 + d).min(40),
                        None => width = (width * 10 + d).min(200),
                    }
                }
                '.' => precision = Some(0),
                '-' | '+' | ' ' | '#' => {}
                // `%[1]s` names the argument.
                '[' => {
                    let mut n = 0;
                    for d in chars.by_ref() {
                        match d.to_digit(10) {
                            Some(d) => n = (n * 10 + d as usize).min(1000),
                            None => break,
                        }
                    }
                    next = n;
                }
                v => break v,
            }
        };
        if verb == '%' {
            text.push('%');
            continue;
        }
        let v = a.get(next)?;
        next += 1;
        if v.is_unknown() || matches!(v.kind, Kind::Partial(_)) {
            if !text.is_empty() {
                pieces.push(Piece::Text(Arc::from(std::mem::take(&mut text))));
            }
            match &v.kind {
                Kind::Partial(p) => pieces.extend(p.iter().cloned()),
                _ => pieces.push(Piece::Hole(v.clone())),
            }
            continue;
        }
        let mut s = match verb {
            's' | 'v' => scalar(v)?,
            'q' => format!("{:?}", scalar(v)?),
            'd' => format!("{}", v.as_number()?.trunc()),
            'f' => format!("{:.*}", precision.unwrap_or(6), v.as_number()?),
            't' => v.as_bool()?.to_string(),
            #[expect(clippy::cast_possible_truncation, reason = "as Terraform")]
            'x' => format!("{:x}", v.as_number()? as i64),
            _ => return None,
        };
        if s.len() < width {
            let fill = if zero { "0" } else { " " }.repeat(width - s.len());
            s.insert_str(0, &fill);
        }
        text.push_str(&s);
    }
    if !text.is_empty() || pieces.is_empty() {
        pieces.push(Piece::Text(Arc::from(text)));
    }
    Some(concat(pieces, span))
}

fn json(v: &Value, out: &mut String, depth: usize) -> bool {
    if depth > 100 || out.len() > MAX_TEXT {
        return false;
    }
    match &v.kind {
        Kind::Null => out.push_str("null"),
        Kind::Bool(_) | Kind::Number(_) => out.push_str(&v.known_text()),
        Kind::Text(t) => quote(t, out),
        Kind::List(l) => {
            out.push('[');
            for (i, v) in l.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                if !json(v, out, depth + 1) {
                    return false;
                }
            }
            out.push(']');
        }
        Kind::Map(m) if m.open.is_none() => {
            out.push('{');
            let mut entries: Vec<_> = m.iter().collect();
            entries.sort_by(|a, b| a.key.cmp(&b.key));
            for (i, e) in entries.into_iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                quote(&e.key, out);
                out.push(':');
                if !json(&e.value, out, depth + 1) {
                    return false;
                }
            }
            out.push('}');
        }
        _ => return false,
    }
    true
}

fn quote(t: &str, out: &mut String) {
    out.push('"');
    for c in t.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c if (c as u32) < 0x20 => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

fn cidr(s: &str) -> Option<(u32, u32)> {
    let (ip, length) = s.split_once('/')?;
    let ip: std::net::Ipv4Addr = ip.parse().ok()?;
    let length: u32 = length.parse().ok().filter(|l| *l <= 32)?;
    Some((u32::from(ip) & mask(length), length))
}

fn mask(length: u32) -> u32 {
    if length == 0 { 0 } else { u32::MAX << (32 - length) }
}

fn address(n: u32) -> String {
    std::net::Ipv4Addr::from(n).to_string()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked against the prefix"
)]
fn cidr_subnet(base: &str, bits: f64, number: f64) -> Option<String> {
    let (ip, length) = cidr(base)?;
    if !(0.0..=32.0).contains(&bits) || number < 0.0 {
        return None;
    }
    let new = length + bits as u32;
    if new > 32 || number >= f64::from(2u32).powf(bits) {
        return None;
    }
    let shifted = if new == 32 { number as u64 } else { (number as u64) << (32 - new) };
    Some(format!("{}/{new}", address(ip.checked_add(u32::try_from(shifted).ok()?)?)))
}
