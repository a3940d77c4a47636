//! The syntax tree of HCL: every node with its place.

use std::sync::Arc;

use crate::span::Span;

/// An identifier or text that many nodes share.
pub type Name = Arc<str>;

/// What stands between braces, or in a file.
#[derive(Clone, Debug, Default)]
pub struct Body {
    /// `name = value`.
    pub attributes: Vec<Attribute>,
    /// `kind "label" { … }`.
    pub blocks: Vec<Block>,
}

/// `name = value`.
#[derive(Clone, Debug)]
pub struct Attribute {
    /// Its name.
    pub name: Name,
    /// Where the name stands.
    pub name_span: Span,
    /// Its value.
    pub value: Expr,
}

/// `kind "label" { … }`.
#[derive(Clone, Debug)]
pub struct Block {
    /// The first word.
    pub kind: Name,
    /// Where the first word stands.
    pub kind_span: Span,
    /// The labels.
    pub labels: Vec<Name>,
    /// From the first word to before the brace: what is underlined when something is missing.
    pub header: Span,
    /// The whole block.
    pub span: Span,
    /// Its body.
    pub body: Body,
}

impl Body {
    /// The attribute of a name.
    pub fn attribute(&self, name: &str) -> Option<&Attribute> {
        self.attributes.iter().find(|a| &*a.name == name)
    }

    /// The blocks of a kind.
    pub fn blocks_of<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Block> {
        self.blocks.iter().filter(move |b| &*b.kind == kind)
    }
}

/// An expression.
#[derive(Clone, Debug)]
pub struct Expr {
    /// What it is.
    pub kind: ExprKind,
    /// Where it stands.
    pub span: Span,
}

/// What an expression is.
#[derive(Clone, Debug)]
pub enum ExprKind {
    /// `null`
    Null,
    /// `true`
    Bool(bool),
    /// `1.5`
    Number(f64),
    /// A string without interpolation.
    Text(Name),
    /// A string with.
    Template(Vec<Part>),
    /// The first word of a traversal.
    Root(Name),
    /// `base.name`
    Get(Box<Expr>, Name),
    /// `base[index]`
    Index(Box<Expr>, Box<Expr>),
    /// `base[*]…` or `base.*…`; the second expression starts at [`ExprKind::Item`].
    Splat(Box<Expr>, Box<Expr>),
    /// The element at hand inside a splat.
    Item,
    /// `[…]`
    List(Vec<Expr>),
    /// `{…}`
    Object(Vec<(Expr, Expr)>),
    /// `name(…)`; true when the last argument is followed by `...`
    Call(Name, Vec<Expr>, bool),
    /// `!a`, `-a`
    Unary(Operator, Box<Expr>),
    /// `a + b`
    Binary(Operator, Box<Expr>, Box<Expr>),
    /// `a ? b : c`
    Conditional(Box<(Expr, Expr, Expr)>),
    /// `[for …]`, `{for …}`
    For(Box<For>),
}

/// `for k, v in collection : key => value... if condition`
#[derive(Clone, Debug)]
pub struct For {
    /// The first of two names.
    pub key_name: Option<Name>,
    /// The only or second name.
    pub value_name: Name,
    /// What is walked over.
    pub collection: Expr,
    /// The key, when an object is built.
    pub key: Option<Expr>,
    /// The element.
    pub value: Expr,
    /// Whether values of one key are gathered.
    pub group: bool,
    /// `if`
    pub condition: Option<Expr>,
}

/// A part of a string template.
#[derive(Clone, Debug)]
pub enum Part {
    /// Text as it is.
    Text(Name),
    /// `${…}`
    Hole(Expr),
    /// `%{ if … }…%{ else }…%{ endif }`
    If(Expr, Vec<Part>, Vec<Part>),
    /// `%{ for … in … }…%{ endfor }`
    For(Option<Name>, Name, Expr, Vec<Part>),
}

/// An operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is its own sign")]
pub enum Operator {
    Or,
    And,
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    Not,
    Negate,
}
