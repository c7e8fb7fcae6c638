//! Regular expressions: `matches`, `find`, `findAll`. Linear in the text, bounded in size.

use regex::{Regex, RegexBuilder};

use super::super::value::{List, Val};
use super::{Cost, Cx, Def, Fail, Out, def, no_overload};

/// Bytes of a compiled pattern at most.
const MAX_COMPILED: usize = 1 << 20;

pub(super) const DEFS: &[Def] = &[
    def("matches", &["string.(string) bool", "(string, string) bool"], matches, Cost::Match),
    def("find", &["string.(string) string"], find, Cost::Match),
    def("findAll", &["string.(string) list<string>", "string.(string, int) list<string>"], find_all, Cost::Match),
];

/// Whether the second argument of a function is a pattern.
#[must_use]
pub fn takes_pattern(function: &str) -> bool {
    DEFS.iter().any(|d| d.name == function)
}

/// Compiles a pattern.
///
/// # Errors
/// What is wrong with it.
pub fn compile(pattern: &str) -> Result<Regex, String> {
    RegexBuilder::new(pattern).size_limit(MAX_COMPILED).build().map_err(|error| {
        let error = error.to_string();
        let last = error.lines().last().unwrap_or_default().trim_start_matches("error: ");
        format!("error parsing regexp: {last}: `{pattern}`")
    })
}

fn with<'a>(args: &[Val<'a>], cx: Cx<'_>, f: impl FnOnce(&str, &Regex) -> Out<'a>) -> Out<'a> {
    let (Some(Val::Str(text)), Some(Val::Str(pattern))) = (args.first(), args.get(1)) else { return no_overload() };
    match cx.regex {
        Some(regex) => f(text, regex),
        None => f(text, &compile(pattern).map_err(Fail::Error)?),
    }
}

fn matches<'a>(args: &[Val<'a>], cx: Cx<'_>) -> Out<'a> {
    with(args, cx, |text, regex| Ok(Val::Bool(regex.is_match(text))))
}

fn find<'a>(args: &[Val<'a>], cx: Cx<'_>) -> Out<'a> {
    with(args, cx, |text, regex| Ok(Val::str(regex.find(text).map_or("", |m| m.as_str()).to_owned())))
}

fn find_all<'a>(args: &[Val<'a>], cx: Cx<'_>) -> Out<'a> {
    let limit = match args.get(2) {
        None => usize::MAX,
        Some(Val::Int(n)) => usize::try_from(*n).unwrap_or(usize::MAX),
        Some(_) => return no_overload(),
    };
    with(args, cx, |text, regex| {
        Ok(Val::List(List::made(regex.find_iter(text).take(limit).map(|m| Val::str(m.as_str().to_owned())).collect())))
    })
}
