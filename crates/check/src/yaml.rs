//! YAML with positions. Aliases are shared, not copied, so an alias bomb costs what its text costs;
//! every walk over the result is bounded by its weight.

use std::collections::HashMap;
use std::sync::Arc;

use lazuli_hcl::{Entry, FileId, Kind, Map, Span, Value};
use saphyr_parser::{Event, Parser, ScalarStyle};

/// How deep YAML may nest.
const MAX_DEPTH: usize = 128;
/// How many nodes a document may have when every alias is counted as what it stands for.
const MAX_WEIGHT: u64 = 400_000;

/// Reads every document of a file.
pub(crate) fn parse(file: FileId, text: &str) -> Result<Vec<Value>, (String, Span)> {
    // The scanner counts characters; slices count bytes.
    let offsets: Option<Vec<u32>> = (!text.is_ascii()).then(|| {
        let mut o: Vec<u32> =
            text.char_indices().map(|(i, _)| u32::try_from(i).unwrap_or(u32::MAX)).collect();
        o.push(u32::try_from(text.len()).unwrap_or(u32::MAX));
        o
    });
    let byte = |n: usize| match &offsets {
        Some(o) => o.get(n).or(o.last()).map_or(0, |b| *b as usize),
        None => n.min(text.len()),
    };
    let span = |s: saphyr_parser::Span| {
        let (a, b) = (byte(s.start.index()), byte(s.end.index()));
        let kept = text.get(a..b).map_or(0, |t| t.trim_end().len());
        Span::new(file, a, if kept == 0 { b } else { a + kept })
    };
    let mut out = Vec::new();
    let mut stack: Vec<Open> = Vec::new();
    let mut anchors: HashMap<usize, (Value, u64)> = HashMap::new();
    let mut weight: u64 = 0;
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        let (event, at) = event.map_err(|e| {
            let at = byte(e.marker().index());
            (e.info().to_owned(), Span::new(file, at, (at + 1).min(text.len())))
        })?;
        let at = span(at);
        let (value, anchor, own) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain && tag.is_none();
                (Value::new(scalar(&text, plain), at), anchor, 1)
            }
            Event::Alias(id) => match anchors.get(&id) {
                Some((v, w)) => (Value::new(v.kind.clone(), at), 0, *w),
                None => (Value::unknown("an alias to itself", at), 0, 1),
            },
            Event::SequenceStart(anchor, _) | Event::MappingStart(anchor, _) => {
                if stack.len() >= MAX_DEPTH {
                    return Err(("it nests too deep".into(), at));
                }
                let map = matches!(event, Event::MappingStart(..));
                stack.push(Open {
                    map: map.then(Map::default),
                    items: Vec::new(),
                    key: None,
                    start: at,
                    anchor,
                    weight: 1,
                });
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(open) = stack.pop() else { continue };
                // A block ends where its last part ends, not at the line that closes it.
                let whole = open.start.to(open.last().unwrap_or(at));
                let kind = match open.map {
                    Some(m) => Kind::Map(Arc::new(m)),
                    None => Kind::List(open.items.into()),
                };
                (Value::new(kind, whole), open.anchor, open.weight)
            }
            _ => continue,
        };
        weight = weight.saturating_add(own);
        // Said before the next one is unfolded: `<<` copies what it merges.
        if own > MAX_WEIGHT {
            return Err(("its aliases unfold to too much".into(), at));
        }
        if weight > MAX_WEIGHT * 8 {
            return Err(("it is too large".into(), at));
        }
        if anchor != 0 {
            anchors.insert(anchor, (value.clone(), own));
        }
        match stack.last_mut() {
            None => out.push(value),
            Some(open) => {
                open.weight = open.weight.saturating_add(own);
                open.add(value);
            }
        }
    }
    Ok(out)
}

struct Open {
    map: Option<Map>,
    items: Vec<Value>,
    key: Option<Value>,
    start: Span,
    anchor: usize,
    weight: u64,
}

impl Open {
    fn last(&self) -> Option<Span> {
        match &self.map {
            Some(m) => m.iter().last().map(|e| e.at),
            None => self.items.last().map(|v| v.span),
        }
    }

    fn add(&mut self, value: Value) {
        let Some(map) = &mut self.map else {
            self.items.push(value);
            return;
        };
        let Some(key) = self.key.take() else {
            self.key = Some(value);
            return;
        };
        if key.as_str() == Some("<<") {
            let merged: Vec<Value> = match &value.kind {
                Kind::List(l) => l.to_vec(),
                _ => vec![value],
            };
            for m in merged.iter().filter_map(Value::as_map) {
                for e in m {
                    if map.entry(&e.key).is_none() {
                        map.insert(e.clone());
                    }
                }
            }
            return;
        }
        let text: Arc<str> = match &key.kind {
            Kind::Text(t) => t.clone(),
            _ => Arc::from(key.known_text()),
        };
        map.insert(Entry { key: text, key_span: key.span, at: value.span, value });
    }
}

fn scalar(text: &str, plain: bool) -> Kind {
    if plain {
        match text {
            "" | "~" | "null" | "Null" | "NULL" => return Kind::Null,
            "true" | "True" | "TRUE" => return Kind::Bool(true),
            "false" | "False" | "FALSE" => return Kind::Bool(false),
            _ => {}
        }
        let digit =
            text.starts_with(|c: char| c.is_ascii_digit() || c == '-' || c == '+' || c == '.');
        if (digit && !text.starts_with('0') || text == "0")
            && let Ok(n) = text.parse::<f64>()
        {
            return Kind::Number(n);
        }
    }
    Kind::Text(Arc::from(text))
}
