//! The parser: never panics, never recurses past [`MAX_DEPTH`], and goes on after an error with the
//! next line, so that one half-written attribute does not hide a whole file.

use std::sync::Arc;

use crate::ast::{Attribute, Block, Body, Expr, ExprKind, For, Name, Operator, Part};
use crate::span::{FileId, Span};

/// How deep expressions and blocks may nest. Real configurations stay below 20.
pub const MAX_DEPTH: usize = 120;
/// How long a chain (`a.b.c…`, `1 + 1 + …`) may be: dropping and evaluating it recurse.
const MAX_CHAIN: usize = 400;
/// After how many errors a file is given up.
const MAX_ERRORS: usize = 20;

/// Something that is not HCL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SyntaxError {
    /// What is wrong.
    pub message: String,
    /// Where.
    pub span: Span,
}

/// Parses a file. What could be read is returned also when there are errors.
pub fn parse(file: FileId, text: &str) -> (Body, Vec<SyntaxError>) {
    let mut p =
        Parser { file, text, s: text.as_bytes(), i: 0, depth: 0, flat: 0, errors: Vec::new() };
    if text.starts_with('\u{feff}') {
        p.i = 3;
    }
    let body = p.body(None);
    (body, p.errors)
}

/// Parses one expression, for values on a command line.
pub fn parse_expression(file: FileId, text: &str) -> Result<Expr, SyntaxError> {
    let mut p =
        Parser { file, text, s: text.as_bytes(), i: 0, depth: 0, flat: 1, errors: Vec::new() };
    p.space();
    let e = p.expr()?;
    p.space();
    if p.i < p.s.len() { Err(p.error("expected the end of the expression")) } else { Ok(e) }
}

type Result<T, E = SyntaxError> = std::result::Result<T, E>;

struct Parser<'a> {
    file: FileId,
    text: &'a str,
    s: &'a [u8],
    i: usize,
    depth: usize,
    /// Above zero inside brackets, where line ends mean nothing.
    flat: usize,
    errors: Vec<SyntaxError>,
}

/// A template's parts before `if` and `for` are matched with their ends.
enum Flat {
    Text(Name),
    Hole(Expr),
    If(Expr),
    Else,
    EndIf,
    For(Option<Name>, Name, Expr),
    EndFor,
}

impl Parser<'_> {
    fn span(&self, start: usize) -> Span {
        Span::new(self.file, start, self.i)
    }

    fn error(&self, message: impl Into<String>) -> SyntaxError {
        let mut start = self.i.min(self.s.len());
        // A line's end is where its text ends, also on Windows.
        if self.s.get(start) == Some(&b'\n') && start > 0 && self.s[start - 1] == b'\r' {
            start -= 1;
        }
        let mut end = (self.i.max(start) + 1).min(self.s.len());
        while !self.text.is_char_boundary(end) {
            end += 1;
        }
        SyntaxError { message: message.into(), span: Span::new(self.file, start, end) }
    }

    fn peek(&self) -> u8 {
        self.s.get(self.i).copied().unwrap_or(0)
    }

    fn at(&self, what: &str) -> bool {
        self.s[self.i..].starts_with(what.as_bytes())
    }

    fn eat(&mut self, what: &str) -> bool {
        let hit = self.at(what);
        if hit {
            self.i += what.len();
        }
        hit
    }

    fn expect(&mut self, what: &str, after: &str) -> Result<()> {
        if self.eat(what) {
            Ok(())
        } else {
            Err(self.error(format!("expected `{what}` {after}, found {}", self.found())))
        }
    }

    fn found(&self) -> String {
        match self.text.get(self.i..).and_then(|t| t.chars().next()) {
            None => "the end of the file".into(),
            Some('\n' | '\r') => "the end of the line".into(),
            Some(c) => format!("`{c}`"),
        }
    }

    /// Spaces and comments; line ends too when `flat`.
    fn space(&mut self) {
        let lines = self.flat > 0;
        loop {
            match self.peek() {
                b' ' | b'\t' | b'\r' => self.i += 1,
                b'\n' if lines => self.i += 1,
                b'#' => self.skip_line(),
                b'/' if self.at("//") => self.skip_line(),
                b'/' if self.at("/*") => {
                    let from = self.i + 2;
                    self.i = match find(&self.s[from..], b"*/") {
                        Some(n) => from + n + 2,
                        None => self.s.len(),
                    };
                }
                _ => return,
            }
        }
    }

    fn skip_line(&mut self) {
        self.i = match self.s[self.i..].iter().position(|&b| b == b'\n') {
            Some(n) => self.i + n,
            None => self.s.len(),
        };
    }

    fn spaces_and_lines(&mut self) {
        self.flat += 1;
        self.space();
        self.flat -= 1;
    }

    fn ident(&mut self) -> Option<Name> {
        let rest = self.text.get(self.i..)?;
        let mut len = 0;
        for (n, c) in rest.char_indices() {
            let ok = if n == 0 {
                c.is_alphabetic() || c == '_'
            } else {
                c.is_alphanumeric() || c == '_' || c == '-'
            };
            if !ok {
                break;
            }
            len = n + c.len_utf8();
        }
        if len == 0 {
            return None;
        }
        self.i += len;
        Some(Arc::from(&rest[..len]))
    }

    fn body(&mut self, opened: Option<Span>) -> Body {
        let mut body = Body::default();
        let flat = std::mem::replace(&mut self.flat, 0);
        loop {
            self.spaces_and_lines();
            if self.i >= self.s.len() {
                if let Some(span) = opened {
                    self.errors
                        .push(SyntaxError { message: "this block is never closed".into(), span });
                }
                break;
            }
            if opened.is_some() && self.eat("}") {
                break;
            }
            if self.errors.len() >= MAX_ERRORS {
                self.i = self.s.len();
                break;
            }
            let before = self.i;
            if let Err(e) = self.item(&mut body) {
                self.errors.push(e);
                self.flat = 0;
                // Go on with the next line; a line that opened a block is swallowed with it.
                self.i = self.i.max(before);
                self.skip_line();
            }
            if self.i == before {
                self.i = before + 1;
            }
        }
        self.flat = flat;
        body
    }

    fn item(&mut self, body: &mut Body) -> Result<()> {
        let start = self.i;
        let Some(name) = self.ident() else {
            let quoted = self.peek() == b'"';
            if quoted && self.quoted_key().is_some() {
                self.space();
            }
            return Err(
                self.error(format!("expected an attribute or a block, found {}", self.found()))
            );
        };
        let name_span = self.span(start);
        self.space();
        if self.peek() == b'=' && !self.at("==") {
            self.i += 1;
            self.space();
            let value = self.expr()?;
            body.attributes.push(Attribute { name, name_span, value });
            return self.end_of_item();
        }
        let mut labels = Vec::new();
        loop {
            match self.peek() {
                b'"' => labels.push(
                    self.quoted_key()
                        .ok_or_else(|| self.error("a block's label must be plain text"))?,
                ),
                b'{' => break,
                _ => match self.ident() {
                    Some(l) => labels.push(l),
                    None => {
                        return Err(self.error(format!(
                            "expected `=` or a block after `{name}`, found {}",
                            self.found()
                        )));
                    }
                },
            }
            self.space();
        }
        let mut header = self.span(start);
        while header.end > header.start && self.s[header.end as usize - 1].is_ascii_whitespace() {
            header.end -= 1;
        }
        self.i += 1;
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            self.depth -= 1;
            self.i = self.s.len();
            return Err(SyntaxError {
                message: format!("blocks nest deeper than {MAX_DEPTH}"),
                span: header,
            });
        }
        let inner = self.body(Some(header));
        self.depth -= 1;
        let span = self.span(start);
        body.blocks.push(Block {
            kind: name,
            kind_span: name_span,
            labels,
            header,
            span,
            body: inner,
        });
        self.end_of_item()
    }

    fn end_of_item(&mut self) -> Result<()> {
        self.space();
        match self.peek() {
            b'\n' | b'}' => Ok(()),
            0 if self.i >= self.s.len() => Ok(()),
            _ => Err(self.error(format!("expected the end of the line, found {}", self.found()))),
        }
    }

    /// A quoted string without interpolation.
    fn quoted_key(&mut self) -> Option<Name> {
        let start = self.i;
        if let Ok(Expr { kind: ExprKind::Text(t), .. }) = self.quoted() {
            Some(t)
        } else {
            self.i = start;
            None
        }
    }

    fn expr(&mut self) -> Result<Expr> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            self.depth -= 1;
            return Err(self.error(format!("expressions nest deeper than {MAX_DEPTH}")));
        }
        let r = self.conditional();
        self.depth -= 1;
        r
    }

    fn conditional(&mut self) -> Result<Expr> {
        let condition = self.binary(0)?;
        self.space();
        if self.peek() != b'?' {
            return Ok(condition);
        }
        self.i += 1;
        self.spaces_and_lines();
        let yes = self.expr()?;
        self.spaces_and_lines();
        self.expect(":", "between the two results of the condition")?;
        self.spaces_and_lines();
        let no = self.expr()?;
        let span = condition.span.to(no.span);
        Ok(Expr { kind: ExprKind::Conditional(Box::new((condition, yes, no))), span })
    }

    fn operator(&self) -> Option<(Operator, usize, u8)> {
        use Operator as O;
        let two = self.s.get(self.i..self.i + 2).unwrap_or(b"");
        Some(match (two, self.peek()) {
            (b"||", _) => (O::Or, 2, 1),
            (b"&&", _) => (O::And, 2, 2),
            (b"==", _) => (O::Equal, 2, 3),
            (b"!=", _) => (O::NotEqual, 2, 3),
            (b"<=", _) => (O::LessEqual, 2, 4),
            (b">=", _) => (O::GreaterEqual, 2, 4),
            (_, b'<') => (O::Less, 1, 4),
            (_, b'>') => (O::Greater, 1, 4),
            (_, b'+') => (O::Add, 1, 5),
            (_, b'-') => (O::Subtract, 1, 5),
            (_, b'*') => (O::Multiply, 1, 6),
            (_, b'/') => (O::Divide, 1, 6),
            (_, b'%') => (O::Remainder, 1, 6),
            _ => return None,
        })
    }

    fn binary(&mut self, least: u8) -> Result<Expr> {
        let mut left = self.unary()?;
        for _ in 0..MAX_CHAIN {
            self.space();
            let Some((op, len, strength)) = self.operator() else { return Ok(left) };
            if strength <= least {
                return Ok(left);
            }
            self.i += len;
            self.spaces_and_lines();
            let right = self.binary(strength)?;
            let span = left.span.to(right.span);
            left = Expr { kind: ExprKind::Binary(op, Box::new(left), Box::new(right)), span };
        }
        Err(self.error("this expression is too long"))
    }

    fn unary(&mut self) -> Result<Expr> {
        let start = self.i;
        let op = match self.peek() {
            b'!' if !self.at("!=") => Operator::Not,
            b'-' => Operator::Negate,
            _ => return self.postfix(),
        };
        self.i += 1;
        self.space();
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            self.depth -= 1;
            return Err(self.error("too many signs"));
        }
        let e = self.unary();
        self.depth -= 1;
        let e = e?;
        let span = Span::new(self.file, start, e.span.end as usize);
        Ok(Expr { kind: ExprKind::Unary(op, Box::new(e)), span })
    }

    fn postfix(&mut self) -> Result<Expr> {
        let base = self.primary()?;
        self.accessors(base)
    }

    fn accessors(&mut self, mut base: Expr) -> Result<Expr> {
        let start = base.span.start as usize;
        for _ in 0..MAX_CHAIN {
            let before = self.i;
            if self.flat > 0 {
                self.space();
            }
            match self.peek() {
                b'.' if !self.at("...") => {
                    self.i += 1;
                    if self.eat("*") {
                        let item = Expr { kind: ExprKind::Item, span: self.span(self.i - 1) };
                        // `.*` carries on over attributes only, `[*]` over everything.
                        let rest = self.attributes_only(item)?;
                        let span = self.span(start);
                        base = Expr { kind: ExprKind::Splat(Box::new(base), Box::new(rest)), span };
                    } else {
                        base = self.member(base, start)?;
                    }
                }
                b'[' => {
                    self.i += 1;
                    self.flat += 1;
                    self.space();
                    if self.at("*") {
                        self.i += 1;
                        self.space();
                        self.flat -= 1;
                        self.expect("]", "after `[*`")?;
                        let item = Expr { kind: ExprKind::Item, span: self.span(self.i - 1) };
                        self.depth += 1;
                        if self.depth > MAX_DEPTH {
                            self.depth -= 1;
                            return Err(self.error("too many `[*]`"));
                        }
                        let rest = self.accessors(item);
                        self.depth -= 1;
                        let span = self.span(start);
                        return Ok(Expr {
                            kind: ExprKind::Splat(Box::new(base), Box::new(rest?)),
                            span,
                        });
                    }
                    let index = self.expr();
                    self.space();
                    self.flat -= 1;
                    let index = index?;
                    self.expect("]", "after the index")?;
                    let span = self.span(start);
                    base = Expr { kind: ExprKind::Index(Box::new(base), Box::new(index)), span };
                }
                _ => {
                    self.i = before;
                    return Ok(base);
                }
            }
        }
        Err(self.error("this reference is too long"))
    }

    fn member(&mut self, base: Expr, start: usize) -> Result<Expr> {
        let at = self.i;
        if self.peek().is_ascii_digit() {
            while self.peek().is_ascii_digit() {
                self.i += 1;
            }
            let n: f64 = self.text[at..self.i].parse().unwrap_or(0.0);
            let index = Expr { kind: ExprKind::Number(n), span: self.span(at) };
            let span = self.span(start);
            return Ok(Expr { kind: ExprKind::Index(Box::new(base), Box::new(index)), span });
        }
        let name = self.ident().ok_or_else(|| self.error("expected a name after `.`"))?;
        let span = self.span(start);
        Ok(Expr { kind: ExprKind::Get(Box::new(base), name), span })
    }

    fn attributes_only(&mut self, mut base: Expr) -> Result<Expr> {
        let start = base.span.start as usize;
        for _ in 0..MAX_CHAIN {
            if self.peek() != b'.' || self.at("...") || self.at(".*") {
                return Ok(base);
            }
            self.i += 1;
            base = self.member(base, start)?;
        }
        Err(self.error("this reference is too long"))
    }

    fn primary(&mut self) -> Result<Expr> {
        let start = self.i;
        match self.peek() {
            b'"' => self.quoted(),
            b'<' if self.at("<<") => self.heredoc(),
            b'(' => {
                self.i += 1;
                self.flat += 1;
                self.space();
                let e = self.expr();
                self.space();
                self.flat -= 1;
                let mut e = e?;
                self.expect(")", "to close the parenthesis")?;
                e.span = self.span(start);
                Ok(e)
            }
            b'[' => self.list(),
            b'{' => self.object(),
            b'0'..=b'9' => {
                while self.peek().is_ascii_digit() {
                    self.i += 1;
                }
                if self.peek() == b'.' && self.s.get(self.i + 1).is_some_and(u8::is_ascii_digit) {
                    self.i += 1;
                    while self.peek().is_ascii_digit() {
                        self.i += 1;
                    }
                }
                if matches!(self.peek(), b'e' | b'E') {
                    let mark = self.i;
                    self.i += 1;
                    if matches!(self.peek(), b'+' | b'-') {
                        self.i += 1;
                    }
                    if self.peek().is_ascii_digit() {
                        while self.peek().is_ascii_digit() {
                            self.i += 1;
                        }
                    } else {
                        self.i = mark;
                    }
                }
                let n = self.text[start..self.i].parse().map_err(|_| self.error("not a number"))?;
                Ok(Expr { kind: ExprKind::Number(n), span: self.span(start) })
            }
            _ => {
                let Some(name) = self.ident() else {
                    return Err(self.error(format!("expected a value, found {}", self.found())));
                };
                let span = self.span(start);
                let mark = self.i;
                // `provider::aws::arn_parse(…)`
                while self.at("::") {
                    self.i += 2;
                    if self.ident().is_none() {
                        return Err(self.error("expected a function's name"));
                    }
                }
                let full: Name = Arc::from(&self.text[start..self.i]);
                // Tokens decide, not spaces: `try (…)` is a call, and within brackets the parenthesis
                // may stand on the next line.
                self.space();
                if self.peek() == b'(' {
                    return self.call(full, start);
                }
                self.i = mark;
                let kind = match &*name {
                    "null" => ExprKind::Null,
                    "true" => ExprKind::Bool(true),
                    "false" => ExprKind::Bool(false),
                    _ => ExprKind::Root(name),
                };
                Ok(Expr { kind, span })
            }
        }
    }

    fn call(&mut self, name: Name, start: usize) -> Result<Expr> {
        self.i += 1;
        self.flat += 1;
        let inner = self.arguments();
        self.flat -= 1;
        let (arguments, spread) = inner?;
        Ok(Expr { kind: ExprKind::Call(name, arguments, spread), span: self.span(start) })
    }

    fn arguments(&mut self) -> Result<(Vec<Expr>, bool)> {
        let mut arguments = Vec::new();
        loop {
            self.space();
            if self.eat(")") {
                return Ok((arguments, false));
            }
            arguments.push(self.expr()?);
            self.space();
            if self.eat("...") {
                self.space();
                self.eat(",");
                self.space();
                self.expect(")", "after `...`")?;
                return Ok((arguments, true));
            }
            if !self.eat(",") {
                self.expect(")", "to close the call")?;
                return Ok((arguments, false));
            }
        }
    }

    fn list(&mut self) -> Result<Expr> {
        let start = self.i;
        self.i += 1;
        self.flat += 1;
        let r = self.list_inner(start);
        self.flat -= 1;
        r
    }

    fn list_inner(&mut self, start: usize) -> Result<Expr> {
        self.space();
        if self.at_for() {
            let f = self.for_expr(false)?;
            self.expect("]", "to close the `for`")?;
            return Ok(Expr { kind: ExprKind::For(Box::new(f)), span: self.span(start) });
        }
        let mut items = Vec::new();
        loop {
            self.space();
            if self.eat("]") {
                break;
            }
            items.push(self.expr()?);
            self.space();
            if !self.eat(",") {
                self.expect("]", "to close the list")?;
                break;
            }
        }
        Ok(Expr { kind: ExprKind::List(items), span: self.span(start) })
    }

    fn at_for(&self) -> bool {
        self.at("for") && self.s.get(self.i + 3).is_some_and(u8::is_ascii_whitespace)
    }

    fn for_expr(&mut self, object: bool) -> Result<For> {
        self.i += 3;
        self.space();
        let mut value_name =
            self.ident().ok_or_else(|| self.error("expected a name after `for`"))?;
        let mut key_name = None;
        self.space();
        if self.eat(",") {
            self.space();
            key_name = Some(value_name);
            value_name = self.ident().ok_or_else(|| self.error("expected a name after `,`"))?;
            self.space();
        }
        self.expect("in", "in the `for`")?;
        self.space();
        let collection = self.expr()?;
        self.space();
        self.expect(":", "after what `for` walks over")?;
        self.space();
        let mut value = self.expr()?;
        self.space();
        let mut key = None;
        let mut group = false;
        if object {
            self.expect("=>", "between key and value")?;
            self.space();
            key = Some(value);
            value = self.expr()?;
            self.space();
            group = self.eat("...");
            self.space();
        }
        let mut condition = None;
        if self.at("if") && self.s.get(self.i + 2).is_some_and(|b| !b.is_ascii_alphanumeric()) {
            self.i += 2;
            self.space();
            condition = Some(self.expr()?);
            self.space();
        }
        Ok(For { key_name, value_name, collection, key, value, group, condition })
    }

    fn object(&mut self) -> Result<Expr> {
        let start = self.i;
        self.i += 1;
        let flat = std::mem::replace(&mut self.flat, 0);
        let r = self.object_inner(start);
        self.flat = flat;
        r
    }

    fn object_inner(&mut self, start: usize) -> Result<Expr> {
        self.spaces_and_lines();
        if self.at_for() {
            self.flat = 1;
            let f = self.for_expr(true)?;
            self.expect("}", "to close the `for`")?;
            return Ok(Expr { kind: ExprKind::For(Box::new(f)), span: self.span(start) });
        }
        let mut items = Vec::new();
        loop {
            self.spaces_and_lines();
            if self.eat("}") {
                break;
            }
            let at = self.i;
            let mut key = self.expr()?;
            // A bare word is text, unless it stands in parentheses.
            if let ExprKind::Root(name) = &key.kind
                && self.s[at] != b'('
            {
                key.kind = ExprKind::Text(name.clone());
            }
            self.space();
            if !self.eat("=") && !self.eat(":") {
                return Err(
                    self.error(format!("expected `=` after the key, found {}", self.found()))
                );
            }
            self.spaces_and_lines();
            let value = self.expr()?;
            items.push((key, value));
            self.space();
            if self.eat(",") || self.peek() == b'\n' {
                continue;
            }
            self.expect("}", "or a new line after the value")?;
            break;
        }
        Ok(Expr { kind: ExprKind::Object(items), span: self.span(start) })
    }

    fn quoted(&mut self) -> Result<Expr> {
        let start = self.i;
        self.i += 1;
        let mut flat = Vec::new();
        let mut text = String::new();
        loop {
            match self.peek() {
                b'"' => {
                    self.i += 1;
                    break;
                }
                0 if self.i >= self.s.len() => {
                    return Err(SyntaxError {
                        message: "this text is never closed".into(),
                        span: Span::new(self.file, start, start + 1),
                    });
                }
                b'\n' => {
                    return Err(SyntaxError {
                        message: "this text is not closed on its line".into(),
                        span: Span::new(self.file, start, self.i),
                    });
                }
                b'\\' => self.escape(&mut text)?,
                b'$' | b'%' => self.hole(&mut text, &mut flat)?,
                _ => self.plain(&mut text, b"\"\n\\$%"),
            }
        }
        self.template(flat, text, start)
    }

    /// Text up to one of the stop bytes.
    fn plain(&mut self, text: &mut String, stop: &[u8]) {
        let from = self.i;
        while self.i < self.s.len() && !stop.contains(&self.s[self.i]) {
            self.i += 1;
        }
        text.push_str(&self.text[from..self.i]);
    }

    fn escape(&mut self, text: &mut String) -> Result<()> {
        self.i += 1;
        let c = self.peek();
        self.i += 1;
        match c {
            b'n' => text.push('\n'),
            b'r' => text.push('\r'),
            b't' => text.push('\t'),
            b'"' => text.push('"'),
            b'\\' => text.push('\\'),
            b'u' | b'U' => {
                let len = if c == b'u' { 4 } else { 8 };
                let digits = self.text.get(self.i..self.i + len).unwrap_or("");
                let c = u32::from_str_radix(digits, 16).ok().and_then(char::from_u32);
                text.push(c.ok_or_else(|| self.error("not a Unicode escape"))?);
                self.i += len;
            }
            _ => {
                self.i -= 1;
                return Err(self.error("no such escape; a backslash is written `\\\\`"));
            }
        }
        Ok(())
    }

    /// At `$` or `%`: an interpolation, a directive, an escaped one, or just the sign.
    fn hole(&mut self, text: &mut String, flat: &mut Vec<Flat>) -> Result<()> {
        let sign = self.peek();
        let open: &[u8; 2] = if sign == b'$' { b"${" } else { b"%{" };
        let rest = &self.s[self.i..];
        if rest.get(1) == Some(&sign) && rest.get(2) == Some(&b'{') {
            text.push(sign as char);
            text.push('{');
            self.i += 3;
            return Ok(());
        }
        if !rest.starts_with(open) {
            text.push(sign as char);
            self.i += 1;
            return Ok(());
        }
        let start = self.i;
        self.i += 2;
        if self.eat("~") {
            let kept = text.trim_end().len();
            text.truncate(kept);
        }
        if !text.is_empty() {
            flat.push(Flat::Text(Arc::from(std::mem::take(text))));
        }
        self.flat += 1;
        self.depth += 1;
        let inner = if self.depth > MAX_DEPTH {
            Err(self.error("templates nest too deep"))
        } else {
            self.hole_inner(sign == b'%')
        };
        self.depth -= 1;
        self.flat -= 1;
        flat.push(inner?);
        let strip = self.eat("~");
        if !self.eat("}") {
            return Err(SyntaxError {
                message: "this interpolation is never closed".into(),
                span: Span::new(self.file, start, (start + 2).min(self.s.len())),
            });
        }
        if strip {
            while matches!(self.peek(), b' ' | b'\t' | b'\n' | b'\r') {
                self.i += 1;
            }
        }
        Ok(())
    }

    fn hole_inner(&mut self, directive: bool) -> Result<Flat> {
        self.space();
        let r = if directive {
            let word = self
                .ident()
                .ok_or_else(|| self.error("expected `if`, `for`, `else`, `endif` or `endfor`"))?;
            self.space();
            match &*word {
                "if" => Flat::If(self.expr()?),
                "else" => Flat::Else,
                "endif" => Flat::EndIf,
                "endfor" => Flat::EndFor,
                "for" => {
                    let mut value =
                        self.ident().ok_or_else(|| self.error("expected a name after `for`"))?;
                    let mut key = None;
                    self.space();
                    if self.eat(",") {
                        self.space();
                        key = Some(value);
                        value =
                            self.ident().ok_or_else(|| self.error("expected a name after `,`"))?;
                        self.space();
                    }
                    self.expect("in", "in the `for`")?;
                    self.space();
                    Flat::For(key, value, self.expr()?)
                }
                _ => return Err(self.error(format!("`{word}` is no template directive"))),
            }
        } else {
            Flat::Hole(self.expr()?)
        };
        self.space();
        Ok(r)
    }

    fn template(&self, mut flat: Vec<Flat>, text: String, start: usize) -> Result<Expr> {
        let span = self.span(start);
        if flat.is_empty() {
            return Ok(Expr { kind: ExprKind::Text(Arc::from(text)), span });
        }
        if !text.is_empty() {
            flat.push(Flat::Text(Arc::from(text)));
        }
        // `"${x}"` is x itself.
        if flat.len() == 1 {
            if let Some(Flat::Hole(e)) = flat.pop() {
                return Ok(Expr { kind: e.kind, span });
            }
            return Err(SyntaxError { message: "a template directive is not closed".into(), span });
        }
        let mut items = flat.into_iter();
        let (parts, end) = assemble(&mut items, 0, span)?;
        if end.is_some() {
            return Err(SyntaxError {
                message: "a template directive ends what was not begun".into(),
                span,
            });
        }
        Ok(Expr { kind: ExprKind::Template(parts), span })
    }

    fn heredoc(&mut self) -> Result<Expr> {
        let start = self.i;
        self.i += 2;
        let indented = self.eat("-");
        let Some(marker) = self.ident() else {
            return Err(self.error("expected a name after `<<`"));
        };
        self.eat("\r");
        if !self.eat("\n") {
            return Err(self.error("expected a new line after the name of the text"));
        }
        // Find the end first, so that an unclosed one costs one error, not the file.
        let from = self.i;
        let mut line = from;
        let (end, after) = loop {
            if line >= self.s.len() {
                return Err(SyntaxError {
                    message: format!("this text is never closed by a line `{marker}`"),
                    span: Span::new(self.file, start, from - 1),
                });
            }
            let stop =
                self.s[line..].iter().position(|&b| b == b'\n').map_or(self.s.len(), |n| line + n);
            if self.text[line..stop].trim() == &*marker {
                break (line, stop);
            }
            line = stop + 1;
        };
        let strip = if indented {
            self.text[from..end]
                .lines()
                .filter(|l| !l.trim().is_empty())
                .map(|l| l.len() - l.trim_start_matches([' ', '\t']).len())
                .min()
                .unwrap_or(0)
        } else {
            0
        };
        let mut flat = Vec::new();
        let mut text = String::new();
        let mut line_start = true;
        while self.i < end {
            if line_start {
                let mut n = 0;
                while n < strip && matches!(self.peek(), b' ' | b'\t') && self.i < end {
                    self.i += 1;
                    n += 1;
                }
                line_start = false;
                continue;
            }
            match self.peek() {
                b'\n' => {
                    text.push('\n');
                    self.i += 1;
                    line_start = true;
                }
                b'$' | b'%' => self.hole(&mut text, &mut flat)?,
                _ => self.plain(&mut text, b"\n$%"),
            }
        }
        self.i = after;
        self.template(flat, text, start)
    }
}

/// Matches `if` and `for` with their ends. Returns the end that stopped it.
fn assemble(
    items: &mut std::vec::IntoIter<Flat>,
    depth: usize,
    span: Span,
) -> Result<(Vec<Part>, Option<Flat>)> {
    let unclosed = || SyntaxError { message: "a template directive is not closed".into(), span };
    if depth > MAX_DEPTH {
        return Err(SyntaxError { message: "templates nest too deep".into(), span });
    }
    let mut parts = Vec::new();
    while let Some(item) = items.next() {
        match item {
            Flat::Text(t) => parts.push(Part::Text(t)),
            Flat::Hole(e) => parts.push(Part::Hole(e)),
            Flat::If(c) => {
                let (yes, end) = assemble(items, depth + 1, span)?;
                let no = match end {
                    Some(Flat::Else) => {
                        let (no, end) = assemble(items, depth + 1, span)?;
                        if !matches!(end, Some(Flat::EndIf)) {
                            return Err(unclosed());
                        }
                        no
                    }
                    Some(Flat::EndIf) => Vec::new(),
                    _ => return Err(unclosed()),
                };
                parts.push(Part::If(c, yes, no));
            }
            Flat::For(k, v, c) => {
                let (inner, end) = assemble(items, depth + 1, span)?;
                if !matches!(end, Some(Flat::EndFor)) {
                    return Err(unclosed());
                }
                parts.push(Part::For(k, v, c, inner));
            }
            end @ (Flat::Else | Flat::EndIf | Flat::EndFor) => return Ok((parts, Some(end))),
        }
    }
    Ok((parts, None))
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|w| w == needle)
}
