//! The functions there are: one file a library, and the list of them. What a function costs stands beside it.
//!
//! The libraries are those of Kubernetes 1.35's environment: CEL's own, strings (version 2), optionals, sets, two-variable comprehensions, and
//! Kubernetes' lists, regex, url, ip, cidr, quantity, semver, format, authorizer and, for mutating policies, jsonpatch.

pub mod authorizer;
mod conversions;
mod formats;
mod formatting;
mod ip;
mod jsonpatch;
mod lists;
pub mod opaque;
pub mod operators;
mod optionals;
mod quantity;
pub mod regexes;
mod semver;
mod sets;
mod strings;
pub mod time;
mod url;

use std::collections::HashMap;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use regex::Regex;

use super::types::Type;
use super::value::Val;

/// Why there is no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fail {
    /// The expression is wrong about its values.
    Error(String),
    /// It costs more than it may.
    Budget,
}

/// What a function comes to.
pub type Out<'a> = Result<Val<'a>, Fail>;

/// Anything a call may need besides its arguments.
#[derive(Debug, Clone, Copy)]
pub struct Cx<'r> {
    /// The pattern, compiled already because it was written down.
    pub regex: Option<&'r Regex>,
}

/// A function's body. A member's target is the first argument.
pub type Call = for<'a> fn(&[Val<'a>], Cx<'_>) -> Out<'a>;

/// What a call costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cost {
    /// One.
    One,
    /// As much as an authorization check: two of them are all that an expression can pay for.
    Check,
    /// Looking through the first argument.
    Scan,
    /// Looking through the second argument, which is what a prefix or suffix is compared with.
    ScanSecond,
    /// Looking through the first argument and making as much.
    Rewrite,
    /// Making the result.
    Join,
    /// Matching the second argument, a pattern, in the first.
    Match,
    /// Looking for the second argument in the first.
    Contains,
    /// The smaller of the two.
    Compare,
    /// Both of them, of text; lists are free.
    Concat,
    /// Each item of the second argument.
    In,
    /// Each item of the first argument.
    Items,
    /// Comparing addresses.
    Network,
    /// Each item of one with each of the other.
    Product,
}

/// A function as a library writes it down.
#[derive(Debug, Clone, Copy)]
pub struct Def {
    /// Its name.
    pub name: &'static str,
    /// `(int, int) int` or, on a target, `string.(string) bool`.
    pub signatures: &'static [&'static str],
    /// Its body.
    pub call: Call,
    /// Its cost.
    pub cost: Cost,
}

const fn def(name: &'static str, signatures: &'static [&'static str], call: Call, cost: Cost) -> Def {
    Def { name, signatures, call, cost }
}

/// A signature.
#[derive(Debug, Clone)]
pub struct Overload {
    /// Whether the first parameter is the target.
    pub member: bool,
    /// What it takes.
    pub params: Vec<Type>,
    /// What it gives.
    pub result: Type,
}

/// A function.
#[derive(Debug)]
pub struct Function {
    /// As written down.
    pub def: &'static Def,
    /// Its signatures.
    pub overloads: Vec<Overload>,
}

const LIBRARIES: &[&[Def]] = &[
    operators::DEFS,
    conversions::DEFS,
    time::DEFS,
    strings::DEFS,
    optionals::DEFS,
    sets::DEFS,
    lists::DEFS,
    regexes::DEFS,
    url::DEFS,
    ip::DEFS,
    quantity::DEFS,
    semver::DEFS,
    formats::DEFS,
    authorizer::DEFS,
    jsonpatch::DEFS,
];

static FUNCTIONS: LazyLock<HashMap<&'static str, Vec<Function>>> = LazyLock::new(|| {
    let mut all: HashMap<&'static str, Vec<Function>> = HashMap::new();
    for def in LIBRARIES.iter().copied().flatten() {
        let overloads = def.signatures.iter().map(|s| signature(s)).collect();
        all.entry(def.name).or_default().push(Function { def, overloads });
    }
    all
});

/// The functions of that name: several when libraries share it.
#[must_use]
pub fn find(name: &str) -> &'static [Function] {
    FUNCTIONS.get(name).map_or(&[], Vec::as_slice)
}

fn signature(text: &'static str) -> Overload {
    let (target, rest) = text.split_once('(').expect("a signature has parameters");
    let (params, result) = rest.rsplit_once(')').expect("a signature's parameters end");
    let mut all = vec![];
    if let Some(target) = target.strip_suffix('.') {
        all.push(Type::parse(target));
    }
    let (mut depth, mut start) = (0, 0);
    for (i, c) in params.char_indices() {
        match c {
            '<' => depth += 1,
            '>' => depth -= 1,
            ',' if depth == 0 => {
                all.push(Type::parse(&params[start..i]));
                start = i + 1;
            }
            _ => {}
        }
    }
    if !params[start..].trim().is_empty() {
        all.push(Type::parse(&params[start..]));
    }
    Overload { member: !target.is_empty(), params: all, result: Type::parse(result) }
}

/// An error of an expression.
fn fail<T>(message: impl Into<String>) -> Result<T, Fail> {
    Err(Fail::Error(message.into()))
}

/// The error of a call whose arguments no signature takes.
pub fn no_overload<T>() -> Result<T, Fail> {
    fail("no such overload")
}

/// Base64 as bytes.
#[must_use]
pub fn base64_bytes(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// Bytes as base64.
#[must_use]
pub fn base64_text(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_signature_is_read() {
        let count: usize = FUNCTIONS.values().flatten().map(|f| f.overloads.len()).sum();
        assert!(count > 200, "{count}");
    }
}
