//! HCL and Terraform, read with positions: a parser that recovers from errors, and an evaluator
//! that knows what it does not know. Pure: files come in as text. It knows nothing of Azure.

pub mod ast;
mod eval;
mod functions;
pub mod parser;
pub mod span;
pub mod terraform;
pub mod value;

pub use span::{FileId, Source, Sources, Span};
pub use value::{Entry, Kind, Map, Piece, Ref, Value};
