//! JSON with positions. Takes comments and trailing commas, because `staticwebapp.config.json` and
//! friends are written by hand; deep nesting is refused, never recursed into.

use std::sync::Arc;

use lazuli_hcl::{Entry, FileId, Kind, Map, Span, Value};

/// How deep JSON may nest.
const MAX_DEPTH: usize = 128;

/// What is wrong, and at which byte.
pub(crate) type Error = (String, Span);

/// Reads a document.
pub(crate) fn parse(file: FileId, text: &str) -> Result<Value, Error> {
    let mut p = Parser { file, text, s: text.as_bytes(), i: 0 };
    if text.starts_with('\u{feff}') {
        p.i = 3;
    }
    let v = p.value(0)?;
    p.space();
    if p.i < p.s.len() {
        return Err(p.error("expected the end of the file"));
    }
    Ok(v)
}

struct Parser<'a> {
    file: FileId,
    text: &'a str,
    s: &'a [u8],
    i: usize,
}

impl Parser<'_> {
    fn error(&self, message: &str) -> Error {
        let start = self.i.min(self.s.len());
        (message.to_owned(), Span::new(self.file, start, (start + 1).min(self.s.len())))
    }

    fn peek(&self) -> u8 {
        self.s.get(self.i).copied().unwrap_or(0)
    }

    fn space(&mut self) {
        loop {
            match self.peek() {
                b' ' | b'\t' | b'\r' | b'\n' => self.i += 1,
                b'/' if self.s.get(self.i + 1) == Some(&b'/') => {
                    while self.i < self.s.len() && self.peek() != b'\n' {
                        self.i += 1;
                    }
                }
                _ => return,
            }
        }
    }

    fn value(&mut self, depth: usize) -> Result<Value, Error> {
        if depth > MAX_DEPTH {
            return Err(self.error("it nests too deep"));
        }
        self.space();
        let start = self.i;
        let kind = match self.peek() {
            b'{' => {
                let mut map = Map::default();
                self.i += 1;
                loop {
                    self.space();
                    if self.peek() == b'}' {
                        self.i += 1;
                        break;
                    }
                    let key_start = self.i;
                    if self.peek() != b'"' {
                        return Err(self.error("expected a key in quotes"));
                    }
                    let key = self.string()?;
                    let key_span = Span::new(self.file, key_start, self.i);
                    self.space();
                    if self.peek() != b':' {
                        return Err(self.error("expected `:` after the key"));
                    }
                    self.i += 1;
                    let value = self.value(depth + 1)?;
                    map.insert(Entry { key, key_span, at: value.span, value });
                    self.space();
                    match self.peek() {
                        b',' => self.i += 1,
                        b'}' => {}
                        _ => return Err(self.error("expected `,` or `}`")),
                    }
                }
                Kind::Map(Arc::new(map))
            }
            b'[' => {
                let mut items = Vec::new();
                self.i += 1;
                loop {
                    self.space();
                    if self.peek() == b']' {
                        self.i += 1;
                        break;
                    }
                    items.push(self.value(depth + 1)?);
                    self.space();
                    match self.peek() {
                        b',' => self.i += 1,
                        b']' => {}
                        _ => return Err(self.error("expected `,` or `]`")),
                    }
                }
                Kind::List(items.into())
            }
            b'"' => Kind::Text(self.string()?),
            b'-' | b'0'..=b'9' => {
                while matches!(self.peek(), b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9') {
                    self.i += 1;
                }
                let n = self.text[start..self.i].parse().map_err(|_| self.error("not a number"))?;
                Kind::Number(n)
            }
            _ => {
                let word = ["true", "false", "null"]
                    .into_iter()
                    .find(|w| self.s[self.i..].starts_with(w.as_bytes()));
                let Some(word) = word else { return Err(self.error("expected a value")) };
                self.i += word.len();
                match word {
                    "null" => Kind::Null,
                    w => Kind::Bool(w == "true"),
                }
            }
        };
        Ok(Value::new(kind, Span::new(self.file, start, self.i)))
    }

    fn string(&mut self) -> Result<Arc<str>, Error> {
        self.i += 1;
        let start = self.i;
        let mut escaped = false;
        loop {
            match self.s.get(self.i) {
                None | Some(b'\n') => return Err(self.error("this text is never closed")),
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    self.i += 2;
                }
                Some(_) => self.i += 1,
            }
        }
        let raw = self.text.get(start..self.i).ok_or_else(|| self.error("a broken escape"))?;
        self.i += 1;
        if !escaped {
            return Ok(Arc::from(raw));
        }
        serde_json::from_str::<String>(&format!("\"{}\"", raw.replace('\t', "\\t")))
            .map(Arc::from)
            .map_err(|_| self.error("a broken escape"))
    }
}
