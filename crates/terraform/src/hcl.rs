//! Text of HCL: quoting, and the alignment that `terraform fmt` asks for.

use std::fmt::Write as _;

pub(crate) use lazuli_standard::template::fill;

use crate::HEADER;

/// A whole file: header, body, formatted.
pub(crate) fn file(body: &str) -> String {
    format(&format!(
        "{HEADER}\n# To differ, write a file *_override.tf beside it; Terraform merges it over this one.\n\n{}",
        body.trim_start_matches('\n')
    ))
}

/// Text as a quoted string that means just this text: nothing in it is interpolated.
pub(crate) fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '$' | '%' if characters.peek() == Some(&'{') => {
                out.push(c);
                out.push(c);
            }
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A key of an object: bare where it is plainly a name.
pub(crate) fn key(name: &str) -> String {
    let plain = name.starts_with(|c: char| c.is_ascii_uppercase())
        && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
    if plain { name.to_owned() } else { quote(name) }
}

/// A list of strings.
pub(crate) fn list<'a>(items: impl IntoIterator<Item = &'a str>) -> String {
    let items: Vec<String> = items.into_iter().map(quote).collect();
    format!("[{}]", items.join(", "))
}

/// Aligns the equals signs of consecutive single-line attributes, as `terraform fmt` does:
/// a line that opens a bracket it does not close stands for itself
/// (hashicorp/hcl, `hclwrite/format.go`, `formatCells`). Indentation is the templates' own.
pub fn format(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 8);
    let mut chain: Vec<(&str, String)> = Vec::new();
    let mut heredoc: Option<&str> = None;
    let mut blank = false;
    for line in text.lines() {
        let line = line.trim_end();
        // A heredoc belongs to its line: what follows it lines up with what stands before it.
        if let Some(end) = heredoc {
            if let Some((_, value)) = chain.last_mut() {
                value.push('\n');
                value.push_str(line);
            }
            if line.trim_start() == end {
                heredoc = None;
            }
            continue;
        }
        if line.is_empty() {
            flush(&mut out, &mut chain);
            // One blank line at most, and none at the beginning of a block.
            blank = !out.ends_with("{\n") && !out.is_empty();
            continue;
        }
        if let Some((name, value)) = assignment(line) {
            if blank {
                out.push('\n');
                blank = false;
            }
            chain.push((name, value.to_owned()));
            heredoc = value.strip_prefix("<<-");
            continue;
        }
        flush(&mut out, &mut chain);
        if blank && !line.trim_start().starts_with('}') {
            out.push('\n');
        }
        blank = false;
        out.push_str(line);
        out.push('\n');
    }
    flush(&mut out, &mut chain);
    out
}

fn flush(out: &mut String, chain: &mut Vec<(&str, String)>) {
    let width = chain.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    for (name, value) in chain.drain(..) {
        let _ = writeln!(out, "{name:width$} = {value}");
    }
}

/// `name = value` on one line, all its brackets closed; the name with its indentation.
fn assignment(line: &str) -> Option<(&str, &str)> {
    let trimmed = line.trim_start();
    if trimmed.starts_with('#') {
        return None;
    }
    let indent = line.len() - trimmed.len();
    let end = if let Some(rest) = trimmed.strip_prefix('"') {
        let mut escaped = false;
        let close = rest.find(|c| {
            let found = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            found
        })?;
        close + 2
    } else {
        trimmed.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-')?
    };
    let value = trimmed[end..].trim_start().strip_prefix("= ")?.trim_start();
    if end == 0 {
        return None;
    }
    let mut depth = 0_i32;
    let mut quoted = false;
    let mut escaped = false;
    for c in value.chars() {
        match c {
            '"' if !escaped => quoted = !quoted,
            '{' | '[' | '(' if !quoted => depth += 1,
            '}' | ']' | ')' if !quoted => depth -= 1,
            _ => {}
        }
        escaped = c == '\\' && !escaped;
    }
    (depth == 0).then_some((&line[..indent + end], value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_signs_line_up_until_something_else_comes() {
        let text = "a = 1\nlong = \"x = {\"\nmap = {\n  b = 1\n  cc = 2\n}\n\nd = [\"}\"]\n";
        let aligned = "a    = 1\nlong = \"x = {\"\nmap = {\n  b  = 1\n  cc = 2\n}\n\nd = [\"}\"]\n";
        assert_eq!(format(text), aligned);
        assert_eq!(format(aligned), aligned, "formatting twice changes nothing");
    }

    #[test]
    fn a_heredoc_is_left_as_it_is() {
        let text = "query = <<-KQL\n  a = 1\n  bbb = 2\nKQL\nx = 1\n";
        let aligned = "query = <<-KQL\n  a = 1\n  bbb = 2\nKQL\nx     = 1\n";
        assert_eq!(format(text), aligned);
        assert_eq!(format(aligned), aligned);
    }

    #[test]
    fn nothing_in_a_quoted_text_is_interpolated() {
        assert_eq!(quote("a\"b\\c${d}%{e}$f\n"), r#""a\"b\\c$${d}%%{e}$f\n""#);
        assert_eq!(quote("\u{0}\u{1b}"), r#""\u0000\u001b""#);
    }
}
