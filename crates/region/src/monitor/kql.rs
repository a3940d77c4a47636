//! The part of the Kusto query language that is understood: a table and, each after a `|`, `where`,
//! `project`, `order by` (or `sort by`), `top`, `take` (or `limit`) and `count`. Whatever else a query
//! holds is refused in Azure's shape, with what this region understands.
//!
//! Conditions: `== != =~ !~ < <= > >= contains !contains has startswith endswith in in~`, `and`, `or`,
//! `not(…)`, `isempty(…)`, `isnotempty(…)`; values: texts, numbers, `true`, `false`, `now()`, `ago(1h)`,
//! `datetime(…)`.
//!
//! <https://learn.microsoft.com/kusto/query/>

mod tokens;

use std::cmp::Ordering;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::tables::{Table, Type};
pub(super) use tokens::instant;
use tokens::{At, Token, tokens};

/// The longest query.
const LENGTH: usize = 64 * 1024;
/// How deep conditions may be nested.
const DEPTH: usize = 64;

/// Why a query is refused, in the query API's own codes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    /// `SYN0002`: where and at what it cannot be read.
    Syntax { token: String, line: usize, position: usize },
    /// `SEM0100` and its like.
    Meaning(String),
}

impl Wrong {
    /// The `innererror` of the API's answer.
    pub(super) fn body(&self) -> Value {
        match self {
            Self::Syntax { token, line, position } => json!({
                "code": "SyntaxError",
                "message": "A recognition error occurred in the query.",
                "innererror": {
                    "code": "SYN0002",
                    "message": format!("Query could not be parsed at '{token}' on line [{line},{position}]"),
                    "line": line, "pos": position, "token": token,
                },
            }),
            Self::Meaning(message) => json!({
                "code": "SemanticError",
                "message": "A semantic error occurred.",
                "innererror": { "code": "SEM0100", "message": message },
            }),
        }
    }
}

/// What a query answers.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) columns: Vec<(String, Type)>,
    pub(super) rows: Vec<Vec<Value>>,
}

/// A query, read and with every name in it known.
#[derive(Debug)]
pub(super) struct Query {
    pub(super) table: Table,
    steps: Vec<Step>,
    columns: Vec<(String, Type)>,
}

#[derive(Debug)]
enum Step {
    Where(Condition),
    /// Which columns stay, in this order.
    Project(Vec<usize>),
    /// By which columns, and whether the largest comes first.
    Order(Vec<(usize, bool)>),
    Take(usize),
    Count,
}

#[derive(Debug)]
enum Condition {
    All(Vec<Condition>),
    Any(Vec<Condition>),
    Not(Box<Condition>),
    Compare(usize, Operator, Vec<Literal>),
    Empty(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Equal,
    Unequal,
    EqualAnyCase,
    UnequalAnyCase,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Contains,
    ContainsNot,
    Has,
    StartsWith,
    EndsWith,
    In,
    InAnyCase,
}

const OPERATORS: [(&str, Operator); 15] = [
    ("==", Operator::Equal),
    ("!=", Operator::Unequal),
    ("=~", Operator::EqualAnyCase),
    ("!~", Operator::UnequalAnyCase),
    ("<", Operator::Less),
    ("<=", Operator::LessOrEqual),
    (">", Operator::Greater),
    (">=", Operator::GreaterOrEqual),
    ("contains", Operator::Contains),
    ("!contains", Operator::ContainsNot),
    ("has", Operator::Has),
    ("startswith", Operator::StartsWith),
    ("endswith", Operator::EndsWith),
    ("in", Operator::In),
    ("in~", Operator::InAnyCase),
];

#[derive(Clone, Debug, PartialEq)]
enum Literal {
    Text(String),
    Number(f64),
    Time(Timestamp),
    Truth(bool),
}

// Reading ---------------------------------------------------------------------------------------------

struct Reader {
    tokens: Vec<At>,
    at: usize,
    /// The end, for an error there.
    end: (usize, usize),
    now: Timestamp,
    depth: usize,
}

/// Reads a query; `now` is what `ago` counts from.
pub(super) fn parse(text: &str, now: Timestamp) -> Result<Query, Wrong> {
    if text.len() > LENGTH {
        return Err(Wrong::Meaning("The query is too long.".to_owned()));
    }
    let (tokens, end) = tokens(text)?;
    let mut reader = Reader { tokens, at: 0, end, now, depth: 0 };
    let name = reader.word()?;
    if !reader.done() && !reader.is_sign("|") {
        return Err(reader.wrong());
    }
    let first = reader.peek_operator();
    let table = Table::find(&name).ok_or_else(|| {
        let place = first.map_or_else(String::new, |operator| format!("'{operator}' operator: "));
        Wrong::Meaning(format!(
            "{place}Failed to resolve table or column expression named '{name}'"
        ))
    })?;
    let mut query = Query { table, steps: Vec::new(), columns: table.columns().0 };
    while !reader.done() {
        reader.sign("|")?;
        reader.step(&mut query)?;
    }
    Ok(query)
}

impl Reader {
    fn done(&self) -> bool {
        self.at >= self.tokens.len()
    }

    fn wrong(&self) -> Wrong {
        match self.tokens.get(self.at) {
            Some(at) => {
                Wrong::Syntax { token: at.shown.clone(), line: at.line, position: at.position }
            }
            None => Wrong::Syntax { token: String::new(), line: self.end.0, position: self.end.1 },
        }
    }

    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|at| &at.token)
    }

    fn peek_operator(&self) -> Option<String> {
        match self.tokens.get(self.at + 1).map(|at| &at.token) {
            Some(Token::Word(word)) => Some(word.clone()),
            _ => None,
        }
    }

    fn word(&mut self) -> Result<String, Wrong> {
        match self.peek() {
            Some(Token::Word(word)) => {
                let word = word.clone();
                self.at += 1;
                Ok(word)
            }
            _ => Err(self.wrong()),
        }
    }

    fn is_word(&self, wanted: &str) -> bool {
        matches!(self.peek(), Some(Token::Word(word)) if word == wanted)
    }

    fn is_sign(&self, wanted: &str) -> bool {
        matches!(self.peek(), Some(Token::Sign(sign)) if sign == wanted)
    }

    fn took(&mut self, yes: bool) -> bool {
        self.at += usize::from(yes);
        yes
    }

    fn take_word(&mut self, wanted: &str) -> bool {
        let yes = self.is_word(wanted);
        self.took(yes)
    }

    fn take_sign(&mut self, wanted: &str) -> bool {
        let yes = self.is_sign(wanted);
        self.took(yes)
    }

    fn sign(&mut self, wanted: &str) -> Result<(), Wrong> {
        if self.take_sign(wanted) { Ok(()) } else { Err(self.wrong()) }
    }

    fn step(&mut self, query: &mut Query) -> Result<(), Wrong> {
        let before = self.at;
        let operator = self.word()?;
        match operator.as_str() {
            "where" | "filter" => {
                let condition = self.any(query)?;
                query.steps.push(Step::Where(condition));
            }
            "project" => {
                let mut kept = Vec::new();
                let mut columns = Vec::new();
                loop {
                    let name = self.word()?;
                    let source = if self.take_sign("=") { self.word()? } else { name.clone() };
                    let index = column(query, &source, "project")?;
                    kept.push(index);
                    columns.push((name, query.columns[index].1));
                    if !self.take_sign(",") {
                        break;
                    }
                }
                query.steps.push(Step::Project(kept));
                query.columns = columns;
            }
            "order" | "sort" => {
                self.by()?;
                let keys = self.keys(query, &operator)?;
                query.steps.push(Step::Order(keys));
            }
            "top" => {
                let count = self.count()?;
                self.by()?;
                let keys = self.keys(query, "top")?;
                query.steps.push(Step::Order(keys));
                query.steps.push(Step::Take(count));
            }
            "take" | "limit" => {
                let count = self.count()?;
                query.steps.push(Step::Take(count));
            }
            "count" => {
                query.steps.push(Step::Count);
                query.columns = vec![("Count".to_owned(), Type::Long)];
            }
            "summarize" | "extend" | "join" | "union" | "distinct" | "parse" | "mv-expand"
            | "project-away" | "project-rename" | "render" | "make-series" | "evaluate"
            | "search" | "lookup" => {
                return Err(Wrong::Meaning(format!(
                    "'{operator}' operator: this region understands where, project, order by, top, take and \
                     count"
                )));
            }
            _ => {
                self.at = before;
                return Err(self.wrong());
            }
        }
        Ok(())
    }

    fn by(&mut self) -> Result<(), Wrong> {
        if self.take_word("by") { Ok(()) } else { Err(self.wrong()) }
    }

    fn count(&mut self) -> Result<usize, Wrong> {
        match self.peek() {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked")]
            Some(Token::Number(number)) if number.fract() == 0.0 && *number < 1e9 => {
                let number = *number as usize;
                self.at += 1;
                Ok(number)
            }
            _ => Err(self.wrong()),
        }
    }

    fn keys(&mut self, query: &Query, operator: &str) -> Result<Vec<(usize, bool)>, Wrong> {
        let mut keys = Vec::new();
        loop {
            let name = self.word()?;
            let index = column(query, &name, operator)?;
            // Kusto's default is the largest first.
            let ascending = self.take_word("asc");
            if !ascending {
                self.take_word("desc");
            }
            keys.push((index, !ascending));
            if !self.take_sign(",") {
                return Ok(keys);
            }
        }
    }

    fn any(&mut self, query: &Query) -> Result<Condition, Wrong> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(Wrong::Meaning("The query is nested too deeply.".to_owned()));
        }
        let mut alternatives = vec![self.all(query)?];
        while self.take_word("or") {
            alternatives.push(self.all(query)?);
        }
        self.depth -= 1;
        Ok(Condition::Any(alternatives))
    }

    fn all(&mut self, query: &Query) -> Result<Condition, Wrong> {
        let mut conditions = vec![self.one(query)?];
        while self.take_word("and") {
            conditions.push(self.one(query)?);
        }
        Ok(Condition::All(conditions))
    }

    fn one(&mut self, query: &Query) -> Result<Condition, Wrong> {
        if self.take_sign("(") {
            let inner = self.any(query)?;
            self.sign(")")?;
            return Ok(inner);
        }
        let name = self.word()?;
        if self.is_sign("(") {
            self.at += 1;
            let condition = match name.as_str() {
                "not" => Condition::Not(Box::new(self.any(query)?)),
                "isempty" | "isnull" => Condition::Empty(self.column(query)?),
                "isnotempty" | "isnotnull" => {
                    Condition::Not(Box::new(Condition::Empty(self.column(query)?)))
                }
                _ => {
                    return Err(Wrong::Meaning(format!(
                        "'where' operator: this region does not know the function '{name}'"
                    )));
                }
            };
            self.sign(")")?;
            return Ok(condition);
        }
        let index = column(query, &name, "where")?;
        let spelled = match self.peek() {
            Some(Token::Word(word) | Token::Sign(word)) => word.clone(),
            _ => return Err(self.wrong()),
        };
        let Some((_, operator)) = OPERATORS.iter().find(|(name, _)| *name == spelled) else {
            return Err(self.wrong());
        };
        self.at += 1;
        let literals = if matches!(operator, Operator::In | Operator::InAnyCase) {
            self.sign("(")?;
            let mut literals = vec![self.literal()?];
            while self.take_sign(",") {
                literals.push(self.literal()?);
            }
            self.sign(")")?;
            literals
        } else {
            vec![self.literal()?]
        };
        for literal in &literals {
            fits(&query.columns[index], literal)?;
        }
        Ok(Condition::Compare(index, *operator, literals))
    }

    fn column(&mut self, query: &Query) -> Result<usize, Wrong> {
        let name = self.word()?;
        column(query, &name, "where")
    }

    fn literal(&mut self) -> Result<Literal, Wrong> {
        let literal = match self.peek() {
            Some(Token::Text(text)) => Literal::Text(text.clone()),
            Some(Token::Number(number)) => Literal::Number(*number),
            Some(Token::Word(word)) if word == "true" || word == "false" => {
                Literal::Truth(word == "true")
            }
            Some(Token::Word(word)) if word == "now" => {
                self.at += 1;
                self.sign("(")?;
                if !self.is_sign(")") {
                    return Err(self.wrong());
                }
                Literal::Time(self.now)
            }
            Some(Token::Word(word)) if word == "ago" => {
                self.at += 1;
                self.sign("(")?;
                let Some(Token::Span(seconds)) = self.peek() else { return Err(self.wrong()) };
                let ago = SignedDuration::try_from_secs_f64(*seconds).ok();
                let time = ago.and_then(|ago| self.now.checked_sub(ago).ok());
                self.at += 1;
                if !self.is_sign(")") {
                    return Err(self.wrong());
                }
                Literal::Time(time.ok_or_else(|| self.wrong())?)
            }
            Some(Token::Word(word)) if word == "datetime" => {
                self.at += 1;
                self.sign("(")?;
                let text = match self.peek() {
                    Some(Token::Text(text) | Token::Word(text)) => text.clone(),
                    _ => return Err(self.wrong()),
                };
                let time = instant(&text).ok_or_else(|| self.wrong())?;
                self.at += 1;
                if !self.is_sign(")") {
                    return Err(self.wrong());
                }
                Literal::Time(time)
            }
            _ => return Err(self.wrong()),
        };
        self.at += 1;
        Ok(literal)
    }
}

fn column(query: &Query, name: &str, operator: &str) -> Result<usize, Wrong> {
    query.columns.iter().position(|(known, _)| known == name).ok_or_else(|| {
        Wrong::Meaning(format!(
            "'{operator}' operator: Failed to resolve scalar expression named '{name}'"
        ))
    })
}

fn fits((name, kind): &(String, Type), literal: &Literal) -> Result<(), Wrong> {
    let fits = match (kind, literal) {
        (Type::Text | Type::Dynamic, Literal::Text(_))
        | (Type::Int | Type::Long | Type::Real, Literal::Number(_))
        | (Type::Time, Literal::Time(_)) => true,
        (Type::Time, Literal::Text(text)) => instant(text).is_some(),
        _ => false,
    };
    if fits {
        return Ok(());
    }
    Err(Wrong::Meaning(format!(
        "'where' operator: Cannot compare values of types {} and {} (column '{name}')",
        kind.name(),
        match literal {
            Literal::Text(_) => "string",
            Literal::Number(_) => "real",
            Literal::Time(_) => "datetime",
            Literal::Truth(_) => "bool",
        }
    )))
}

// Answering -------------------------------------------------------------------------------------------

impl Query {
    /// What it answers of these rows, which have the table's columns.
    pub(super) fn run(self, mut rows: Vec<Vec<Value>>) -> Answer {
        for step in &self.steps {
            match step {
                Step::Where(condition) => rows.retain(|row| holds(condition, row)),
                Step::Project(kept) => {
                    for row in &mut rows {
                        *row = kept.iter().map(|index| row[*index].clone()).collect();
                    }
                }
                Step::Order(keys) => rows.sort_by(|a, b| {
                    keys.iter().fold(Ordering::Equal, |so_far, (index, descending)| {
                        so_far.then_with(|| {
                            let order = compare(&a[*index], &b[*index]);
                            if *descending { order.reverse() } else { order }
                        })
                    })
                }),
                Step::Take(count) => rows.truncate(*count),
                Step::Count => rows = vec![vec![json!(rows.len())]],
            }
        }
        Answer { columns: self.columns, rows }
    }
}

fn compare(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => {
            a.as_f64().partial_cmp(&b.as_f64()).unwrap_or(Ordering::Equal)
        }
        (Value::String(a), Value::String(b)) => {
            match (a.parse::<Timestamp>(), b.parse::<Timestamp>()) {
                (Ok(a), Ok(b)) => a.cmp(&b),
                _ => a.cmp(b),
            }
        }
        _ => Ordering::Equal,
    }
}

fn holds(condition: &Condition, row: &[Value]) -> bool {
    match condition {
        Condition::All(all) => all.iter().all(|one| holds(one, row)),
        Condition::Any(any) => any.iter().any(|one| holds(one, row)),
        Condition::Not(inner) => !holds(inner, row),
        Condition::Empty(index) => {
            row[*index].is_null() || row[*index].as_str().is_some_and(str::is_empty)
        }
        Condition::Compare(index, operator, literals) => {
            literals.iter().any(|literal| fulfils(&row[*index], *operator, literal))
        }
    }
}

fn fulfils(value: &Value, operator: Operator, literal: &Literal) -> bool {
    let text = value.as_str().unwrap_or_default();
    let order = match literal {
        Literal::Number(number) => value.as_f64().and_then(|value| value.partial_cmp(number)),
        Literal::Time(time) => text.parse::<Timestamp>().ok().map(|value| value.cmp(time)),
        Literal::Text(other) => match (text.parse::<Timestamp>(), instant(other)) {
            (Ok(value), Some(time)) => Some(value.cmp(&time)),
            _ => Some(text.cmp(other)),
        },
        Literal::Truth(truth) => value.as_bool().map(|value| value.cmp(truth)),
    };
    let Some(order) = order else { return false };
    let other = if let Literal::Text(text) = literal { text.as_str() } else { "" };
    let (low, other_low) = (text.to_lowercase(), other.to_lowercase());
    match operator {
        Operator::Equal | Operator::In => order.is_eq(),
        Operator::Unequal => order.is_ne(),
        Operator::Less => order.is_lt(),
        Operator::LessOrEqual => order.is_le(),
        Operator::Greater => order.is_gt(),
        Operator::GreaterOrEqual => order.is_ge(),
        Operator::EqualAnyCase | Operator::InAnyCase => low == other_low,
        Operator::UnequalAnyCase => low != other_low,
        Operator::Contains => low.contains(&other_low),
        Operator::ContainsNot => !low.contains(&other_low),
        Operator::StartsWith => low.starts_with(&other_low),
        Operator::EndsWith => low.ends_with(&other_low),
        Operator::Has => has(&low, &other_low),
    }
}

/// Whether `term` is in the text as a whole word.
fn has(text: &str, term: &str) -> bool {
    text.match_indices(term).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + term.len()..].chars().next();
        !before.is_some_and(char::is_alphanumeric) && !after.is_some_and(char::is_alphanumeric)
    })
}

#[cfg(test)]
mod tests;
