//! A query's words and signs.

use jiff::Timestamp;

use super::Wrong;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    Word(String),
    Text(String),
    Number(f64),
    /// `1h`, seconds.
    Span(f64),
    Sign(String),
}

#[derive(Debug)]
pub(super) struct At {
    pub(super) token: Token,
    pub(super) shown: String,
    pub(super) line: usize,
    pub(super) position: usize,
}

pub(super) type Tokens = (Vec<At>, (usize, usize));

pub(super) fn tokens(text: &str) -> Result<Tokens, Wrong> {
    let characters: Vec<char> = text.chars().collect();
    let (mut at, mut line, mut began) = (0, 1, 0);
    let mut found = Vec::new();
    while let Some(&character) = characters.get(at) {
        let start = at;
        let position = at - began;
        let wrong = |shown: String| Wrong::Syntax { token: shown, line, position };
        let token = match character {
            '\n' => {
                at += 1;
                line += 1;
                began = at;
                continue;
            }
            _ if character.is_whitespace() => {
                at += 1;
                continue;
            }
            '/' if characters.get(at + 1) == Some(&'/') => {
                while characters.get(at).is_some_and(|c| *c != '\n') {
                    at += 1;
                }
                continue;
            }
            '\'' | '"' => {
                let (value, end) = quoted(&characters, at + 1, character, true)
                    .ok_or_else(|| wrong(character.to_string()))?;
                at = end;
                Token::Text(value)
            }
            '@' if matches!(characters.get(at + 1), Some('\'' | '"')) => {
                let quote = characters[at + 1];
                let (value, end) = quoted(&characters, at + 2, quote, false)
                    .ok_or_else(|| wrong(quote.to_string()))?;
                at = end;
                Token::Text(value)
            }
            _ if character.is_ascii_digit() => {
                while characters
                    .get(at)
                    .is_some_and(|c| c.is_ascii_alphanumeric() || "-:._+".contains(*c))
                {
                    at += 1;
                }
                let word: String = characters[start..at].iter().collect();
                number(&word).ok_or_else(|| wrong(word))?
            }
            _ if character.is_alphabetic() || character == '_' => {
                while characters.get(at).is_some_and(|c| c.is_alphanumeric() || *c == '_') {
                    at += 1;
                }
                let mut word: String = characters[start..at].iter().collect();
                if ["project", "mv", "make"].contains(&word.as_str())
                    && characters.get(at) == Some(&'-')
                {
                    while characters.get(at).is_some_and(|c| c.is_alphanumeric() || *c == '-') {
                        word.push(characters[at]);
                        at += 1;
                    }
                } else if word == "in" && characters.get(at) == Some(&'~') {
                    word.push('~');
                    at += 1;
                }
                Token::Word(word)
            }
            '!' if characters.get(at + 1).is_some_and(|c| c.is_alphabetic()) => {
                at += 1;
                while characters.get(at).is_some_and(|c| c.is_alphabetic()) {
                    at += 1;
                }
                Token::Sign(characters[start..at].iter().collect())
            }
            _ => {
                let two: String = characters[at..].iter().take(2).collect();
                let sign = if ["==", "!=", "=~", "!~", "<=", ">="].contains(&two.as_str()) {
                    two
                } else if "|=<>(),".contains(character) {
                    character.to_string()
                } else {
                    return Err(wrong(character.to_string()));
                };
                at += sign.chars().count();
                Token::Sign(sign)
            }
        };
        let shown = characters[start..at].iter().collect();
        found.push(At { token, shown, line, position });
    }
    Ok((found, (line, at - began)))
}

/// The text up to the quote, and what follows it.
fn quoted(characters: &[char], from: usize, quote: char, escapes: bool) -> Option<(String, usize)> {
    let (mut value, mut at) = (String::new(), from);
    loop {
        match *characters.get(at)? {
            '\n' => return None,
            '\\' if escapes => {
                at += 1;
                value.push(match *characters.get(at)? {
                    'n' => '\n',
                    't' => '\t',
                    'r' => '\r',
                    other => other,
                });
            }
            character if character == quote => return Some((value, at + 1)),
            character => value.push(character),
        }
        at += 1;
    }
}

/// `10`, `2.5`, `1h`; a date, which only `datetime(…)` takes, is a word.
fn number(word: &str) -> Option<Token> {
    if let Ok(number) = word.parse::<f64>() {
        return Some(Token::Number(number));
    }
    if instant(word).is_some() {
        return Some(Token::Word(word.to_owned()));
    }
    let split = word.find(|c: char| c.is_ascii_alphabetic())?;
    let number: f64 = word[..split].parse().ok()?;
    let unit = match &word[split..] {
        "d" => 86_400.0,
        "h" => 3600.0,
        "m" => 60.0,
        "s" => 1.0,
        "ms" => 0.001,
        _ => return None,
    };
    Some(Token::Span(number * unit))
}

/// `2026-11-27`, `2026-11-27T10:00:00Z`; a time without a zone is UTC.
pub(in crate::monitor) fn instant(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    text.parse().ok().or_else(|| {
        let civil: jiff::civil::DateTime = text.parse().ok()?;
        civil.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
    })
}
