//! CEL, the Common Expression Language, as Kubernetes has it: rules of custom resources, match conditions, admission policies.
//!
//! [`Program::compile`] parses ([`parser`]), expands macros ([`macros`]), checks types ([`check`]) against an environment ([`env`]) and estimates what
//! evaluation may cost ([`cost`]); [`Program::run`] evaluates ([`eval`]) over JSON as it stands ([`value`]), metered. Functions are in [`library`],
//! one file a library. Nothing here does IO, and nothing an expression says makes it panic, overflow the stack or run without bound.
//!
//! What uses it: [`conditions`] (match conditions), `crd::rules` (custom resources), `admission::policies`.

pub mod ast;
pub mod check;
pub mod conditions;
pub mod cost;
pub mod env;
pub mod eval;
pub mod ir;
pub mod lexer;
pub mod library;
pub mod macros;
pub mod parser;
pub mod program;
pub mod request;
pub mod shape;
pub mod source;
#[cfg(test)]
mod tests;
pub mod types;
pub mod value;

pub use env::Env;
pub use eval::Vars;
pub use library::authorizer::Authorize;
pub use library::{Fail, Out};
pub use program::Program;
pub use value::Val;
