//! Just enough of Python: imports, calls with their arguments, text, by a tokenizer that knows
//! strings and comments. Requirements from `requirements*.txt` and `pyproject.toml`.

use lazuli_hcl::{FileId, Span};

/// A token.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Token {
    /// A name, a dotted path counts as one.
    Name(String),
    /// A string's content.
    Text(String),
    /// Anything else, one character.
    Sign(char),
    /// The end of a logical line, with the indentation of the next.
    Line(usize),
}

/// How many tokens of a file are looked at.
const MAX_TOKENS: usize = 400_000;

/// Splits a file. Never fails: what is no Python gives odd tokens.
pub(crate) fn tokens(file: FileId, text: &str) -> Vec<(Token, Span)> {
    let s = text.as_bytes();
    let mut out = Vec::new();
    let mut i = 0;
    let mut depth = 0usize;
    while i < s.len() && out.len() < MAX_TOKENS {
        let start = i;
        match s[i] {
            b'#' => {
                while i < s.len() && s[i] != b'\n' {
                    i += 1;
                }
            }
            b'\n' => {
                i += 1;
                let from = i;
                while i < s.len() && matches!(s[i], b' ' | b'\t') {
                    i += 1;
                }
                if depth == 0 {
                    out.push((Token::Line(i - from), Span::new(file, start, i)));
                }
            }
            b' ' | b'\t' | b'\r' => i += 1,
            b'\\' if s.get(i + 1) == Some(&b'\n') => i += 2,
            b'"' | b'\'' => {
                let (content, end) = string(text, i);
                i = end;
                out.push((Token::Text(content), Span::new(file, start, i)));
            }
            b if b.is_ascii_alphabetic() || b == b'_' => {
                while i < s.len()
                    && (s[i].is_ascii_alphanumeric()
                        || s[i] == b'_'
                        || s[i] == b'.'
                            && s.get(i + 1).is_some_and(|n| n.is_ascii_alphabetic() || *n == b'_'))
                {
                    i += 1;
                }
                let name = &text[start..i];
                // A prefix of a string: r"…", f"…", rb"…".
                if i < s.len()
                    && matches!(s[i], b'"' | b'\'')
                    && name.len() <= 2
                    && name.bytes().all(|b| b"rRfFbBuUtT".contains(&b))
                {
                    let (content, end) = string(text, i);
                    i = end;
                    out.push((Token::Text(content), Span::new(file, start, i)));
                } else {
                    out.push((Token::Name(name.to_owned()), Span::new(file, start, i)));
                }
            }
            b if b.is_ascii_digit() => {
                while i < s.len() && (s[i].is_ascii_alphanumeric() || s[i] == b'_' || s[i] == b'.')
                {
                    i += 1;
                }
                out.push((Token::Name(text[start..i].to_owned()), Span::new(file, start, i)));
            }
            b => {
                match b {
                    b'(' | b'[' | b'{' => depth += 1,
                    b')' | b']' | b'}' => depth = depth.saturating_sub(1),
                    _ => {}
                }
                i += 1;
                while !text.is_char_boundary(i) {
                    i += 1;
                }
                out.push((Token::Sign(b as char), Span::new(file, start, i)));
            }
        }
    }
    out
}

fn string(text: &str, at: usize) -> (String, usize) {
    let s = text.as_bytes();
    let q = s[at];
    let triple = s.get(at + 1) == Some(&q) && s.get(at + 2) == Some(&q);
    let mut i = at + if triple { 3 } else { 1 };
    let from = i;
    while i < s.len() {
        if s[i] == b'\\' {
            i += 2;
            continue;
        }
        if s[i] == q && (!triple || (s.get(i + 1) == Some(&q) && s.get(i + 2) == Some(&q))) {
            let content = text.get(from..i).unwrap_or("").to_owned();
            return (content, i + if triple { 3 } else { 1 });
        }
        if s[i] == b'\n' && !triple {
            break;
        }
        i += 1;
    }
    i = i.min(s.len());
    while !text.is_char_boundary(i) {
        i += 1;
    }
    (text.get(from..i).unwrap_or("").to_owned(), i)
}

/// A call: its name, its place, and what stands between the parentheses.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// `op.drop_column`
    pub(crate) name: String,
    /// Where the name stands.
    pub(crate) span: Span,
    /// Tokens between the parentheses.
    pub(crate) arguments: Vec<(Token, Span)>,
    /// The function it stands in, if any.
    pub(crate) function: Option<String>,
}

impl Call {
    /// What a keyword argument is, as one token.
    pub(crate) fn keyword(&self, name: &str) -> Option<&(Token, Span)> {
        let mut depth = 0usize;
        for (i, (t, _)) in self.arguments.iter().enumerate() {
            match t {
                Token::Sign('(' | '[' | '{') => depth += 1,
                Token::Sign(')' | ']' | '}') => depth = depth.saturating_sub(1),
                Token::Name(n) if depth == 0 && n == name => {
                    if matches!(self.arguments.get(i + 1), Some((Token::Sign('='), _))) {
                        return self.arguments.get(i + 2);
                    }
                }
                _ => {}
            }
        }
        None
    }

    /// A keyword argument that is a number.
    pub(crate) fn number(&self, name: &str) -> Option<(u32, Span)> {
        match self.keyword(name)? {
            (Token::Name(n), s) => n.parse().ok().map(|n| (n, *s)),
            _ => None,
        }
    }

    /// Whether a name or text with this in it occurs anywhere in the arguments.
    pub(crate) fn mentions(&self, what: &str) -> bool {
        self.arguments
            .iter()
            .any(|(t, _)| matches!(t, Token::Name(n) | Token::Text(n) if n.contains(what)))
    }

    /// Whether arguments come from `**something`, which may be any.
    pub(crate) fn spread(&self) -> bool {
        self.arguments
            .windows(2)
            .any(|w| matches!((&w[0].0, &w[1].0), (Token::Sign('*'), Token::Sign('*'))))
    }
}

/// Every call of a file.
pub(crate) fn calls(tokens: &[(Token, Span)]) -> Vec<Call> {
    let mut out = Vec::new();
    let mut function: Option<(usize, String)> = None;
    let mut indent = 0;
    let mut i = 0;
    // Calls nest, and each keeps its arguments: a file of nothing but `f(f(f(` must not grow them
    // without bound.
    let mut left = 4 * MAX_TOKENS;
    while i + 1 < tokens.len() && left > 0 {
        if let Token::Line(n) = tokens[i].0 {
            indent = n;
            let blank = matches!(tokens[i + 1].0, Token::Line(_));
            if !blank && function.as_ref().is_some_and(|(at, _)| indent <= *at) {
                function = None;
            }
        }
        if let (Token::Name(d), Token::Name(n)) = (&tokens[i].0, &tokens[i + 1].0)
            && d == "def"
        {
            if function.is_none() {
                function = Some((indent, n.clone()));
            }
            i += 2;
            continue;
        }
        if let (Token::Name(name), Token::Sign('(')) = (&tokens[i].0, &tokens[i + 1].0) {
            let mut depth = 1usize;
            let mut j = i + 2;
            while j < tokens.len() && depth > 0 && j - i < 4000 {
                match tokens[j].0 {
                    Token::Sign('(' | '[' | '{') => depth += 1,
                    Token::Sign(')' | ']' | '}') => depth -= 1,
                    _ => {}
                }
                j += 1;
            }
            left = left.saturating_sub(j - i);
            out.push(Call {
                name: name.clone(),
                span: tokens[i].1,
                arguments: tokens[i + 2..j.saturating_sub(1).max(i + 2)].to_vec(),
                function: function.as_ref().map(|(_, n)| n.clone()),
            });
        }
        i += 1;
    }
    out
}

/// Every module a file imports.
pub(crate) fn imports(tokens: &[(Token, Span)]) -> Vec<(String, Span)> {
    let mut out = Vec::new();
    let mut start = true;
    let mut i = 0;
    while i < tokens.len() {
        match &tokens[i].0 {
            Token::Line(_) => start = true,
            Token::Name(n) if start && (n == "import" || n == "from") => {
                start = false;
                let from = n == "from";
                let mut j = i + 1;
                while let Some((Token::Name(m), span)) = tokens.get(j) {
                    out.push((m.clone(), *span));
                    if from || !matches!(tokens.get(j + 1), Some((Token::Sign(','), _))) {
                        break;
                    }
                    j += 2;
                }
            }
            _ => start = false,
        }
        i += 1;
    }
    out
}

/// A requirement.
#[derive(Clone, Debug)]
pub(crate) struct Requirement {
    /// Normalised: lower case, dashes.
    pub(crate) name: String,
    /// Where the name stands.
    pub(crate) span: Span,
}

fn requirement(file: FileId, offset: usize, line: &str) -> Option<Requirement> {
    let line = line.split(" #").next()?.trim_start();
    let end = line
        .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')))
        .unwrap_or(line.len());
    let raw = &line[..end];
    if raw.is_empty() || raw.starts_with('-') {
        return None;
    }
    Some(Requirement {
        name: raw.to_lowercase().replace(['_', '.'], "-"),
        span: Span::new(file, offset, offset + raw.len()),
    })
}

/// `requirements*.txt`
pub(crate) fn requirements(file: FileId, text: &str) -> Vec<Requirement> {
    let mut out = Vec::new();
    let mut offset = 0;
    for raw in text.split_inclusive('\n') {
        let line = raw.trim_start();
        if !line.starts_with('#') {
            out.extend(requirement(file, offset + raw.len() - line.len(), line.trim_end()));
        }
        offset += raw.len();
    }
    out
}

/// What of `pyproject.toml` matters here.
#[derive(Debug, Default)]
pub(crate) struct PyProject {
    pub(crate) requirements: Vec<Requirement>,
    pub(crate) python: Option<(String, Span)>,
}

/// `pyproject.toml`: `[project]` dependencies, optional ones, dependency groups, Poetry's.
pub(crate) fn pyproject(file: FileId, text: &str) -> Result<PyProject, (String, Span)> {
    // The parser recurses over brackets.
    let deep = text.bytes().try_fold(0i32, |d, b| match b {
        b'[' | b'{' => (d < 200).then_some(d + 1),
        b'\n' if d < 0 => Some(0),
        b']' | b'}' => Some(d - 1),
        _ => Some(d),
    });
    if deep.is_none() {
        return Err(("it nests too deep".into(), Span::new(file, 0, 1.min(text.len()))));
    }
    let doc = toml_edit::Document::parse(text).map_err(|e| {
        let r = e.span().unwrap_or(0..0);
        (e.message().to_owned(), Span::new(file, r.start, r.end))
    })?;
    let mut out = PyProject::default();
    let add = |item: Option<&toml_edit::Item>, out: &mut PyProject| {
        let Some(array) = item.and_then(|i| i.as_array()) else { return };
        for v in array {
            if let (Some(t), Some(r)) = (v.as_str(), v.span()) {
                out.requirements.extend(requirement(file, r.start + 1, t));
            }
        }
    };
    let root = doc.as_table();
    if let Some(p) = root.get("project") {
        add(p.get("dependencies"), &mut out);
        if let Some(t) = p.get("optional-dependencies").and_then(|t| t.as_table_like()) {
            for (_, item) in t.iter() {
                add(Some(item), &mut out);
            }
        }
        if let Some(v) = p.get("requires-python")
            && let (Some(t), Some(r)) = (v.as_str(), v.span())
        {
            out.python = Some((t.to_owned(), Span::new(file, r.start, r.end)));
        }
    }
    if let Some(t) = root.get("dependency-groups").and_then(|t| t.as_table_like()) {
        for (_, item) in t.iter() {
            add(Some(item), &mut out);
        }
    }
    if let Some(t) = root
        .get("tool")
        .and_then(|t| t.get("poetry"))
        .and_then(|t| t.get("dependencies"))
        .and_then(|t| t.as_table_like())
    {
        for (key, item) in t.iter() {
            if let Some(r) = item.span() {
                out.requirements.push(Requirement {
                    name: key.to_lowercase().replace(['_', '.'], "-"),
                    span: Span::new(file, r.start, r.end),
                });
            }
        }
    }
    Ok(out)
}
