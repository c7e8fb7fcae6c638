//! Text: CEL's own functions and version 2 of its strings library. Places are counted in code points.

use super::super::value::{List, Val};
use super::{Cost, Cx, Def, Fail, Out, def, fail, formatting, no_overload};

/// How long `replace`, `join` and `format` may make a text: more than any object can hold.
const MAX_TEXT: usize = 8 << 20;

pub(super) const DEFS: &[Def] = &[
    def("contains", &["string.(string) bool"], |a, _| two(a, |s, t| s.contains(t)), Cost::Contains),
    def("startsWith", &["string.(string) bool"], |a, _| two(a, |s, t| s.starts_with(t)), Cost::ScanSecond),
    def("endsWith", &["string.(string) bool"], |a, _| two(a, |s, t| s.ends_with(t)), Cost::ScanSecond),
    def("charAt", &["string.(int) string"], char_at, Cost::One),
    def("indexOf", &["string.(string) int", "string.(string, int) int"], |a, _| index_of(a, false), Cost::Items),
    def("lastIndexOf", &["string.(string) int", "string.(string, int) int"], |a, _| index_of(a, true), Cost::Items),
    def("lowerAscii", &["string.() string"], |a, _| one(a, |s| s.to_ascii_lowercase()), Cost::Scan),
    def("upperAscii", &["string.() string"], |a, _| one(a, |s| s.to_ascii_uppercase()), Cost::Scan),
    def("trim", &["string.() string"], |a, _| one(a, |s| s.trim().to_owned()), Cost::Scan),
    def("replace", &["string.(string, string) string", "string.(string, string, int) string"], replace, Cost::Rewrite),
    def("split", &["string.(string) list<string>", "string.(string, int) list<string>"], split, Cost::Rewrite),
    def("substring", &["string.(int) string", "string.(int, int) string"], substring, Cost::Scan),
    def("join", &["list<string>.() string", "list<string>.(string) string"], join, Cost::Join),
    def("format", &["string.(list<dyn>) string"], format, Cost::Scan),
    def("strings.quote", &["(string) string"], |a, _| one(a, quote), Cost::Scan),
];

fn one<'a>(args: &[Val<'a>], f: fn(&str) -> String) -> Out<'a> {
    match &args[0] {
        Val::Str(text) => Ok(Val::str(f(text))),
        _ => no_overload(),
    }
}

fn two<'a>(args: &[Val<'a>], f: fn(&str, &str) -> bool) -> Out<'a> {
    match args {
        [Val::Str(a), Val::Str(b)] => Ok(Val::Bool(f(a, b))),
        _ => no_overload(),
    }
}

/// The byte at which a code point begins; the end is one too.
fn byte_at(text: &str, place: i64) -> Result<usize, Fail> {
    let found = usize::try_from(place).ok().and_then(|n| text.char_indices().map(|(i, _)| i).chain([text.len()]).nth(n));
    found.map_or_else(|| fail(format!("index out of range: {place}")), Ok)
}

fn char_at<'a>(args: &[Val<'a>], _: Cx<'_>) -> Out<'a> {
    let [Val::Str(text), Val::Int(place)] = args else { return no_overload() };
    let start = byte_at(text, *place)?;
    Ok(Val::str(text[start..].chars().next().map(String::from).unwrap_or_default()))
}

fn index_of<'a>(args: &[Val<'a>], last: bool) -> Out<'a> {
    let [Val::Str(text), Val::Str(wanted), rest @ ..] = args else { return no_overload() };
    let offset = match rest {
        [] => None,
        [Val::Int(offset)] => Some(byte_at(text, *offset)?),
        _ => return no_overload(),
    };
    let found = match (last, offset) {
        (false, start) => text[start.unwrap_or(0)..].find(&wanted[..]).map(|i| i + start.unwrap_or(0)),
        (true, None) => text.rfind(&wanted[..]),
        // What is found begins at or before the offset.
        (true, Some(offset)) => {
            let mut end = (offset + wanted.len()).min(text.len());
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            text[..end].rfind(&wanted[..])
        }
    };
    Ok(Val::Int(found.map_or(-1, |i| i64::try_from(text[..i].chars().count()).unwrap_or(i64::MAX))))
}

fn replace<'a>(args: &[Val<'a>], _: Cx<'_>) -> Out<'a> {
    let [Val::Str(text), Val::Str(from), Val::Str(to), rest @ ..] = args else { return no_overload() };
    let limit = match rest {
        [] => usize::MAX,
        [Val::Int(n)] => usize::try_from(*n).unwrap_or(usize::MAX),
        _ => return no_overload(),
    };
    let times = text.matches(&from[..]).count().min(limit);
    if times.saturating_mul(to.len()).saturating_add(text.len()) > MAX_TEXT {
        return fail("the result of replace is too long");
    }
    Ok(Val::str(text.replacen(&from[..], to, limit)))
}

fn split<'a>(args: &[Val<'a>], _: Cx<'_>) -> Out<'a> {
    let [Val::Str(text), Val::Str(by), rest @ ..] = args else { return no_overload() };
    let limit = match rest {
        [] => -1,
        [Val::Int(n)] => *n,
        _ => return no_overload(),
    };
    let part = |s: &str| Val::str(s.to_owned());
    let limit = match limit {
        0 => return Ok(Val::List(List::made(vec![]))),
        n => usize::try_from(n).unwrap_or(usize::MAX),
    };
    let parts = if by.is_empty() {
        let mut starts: Vec<usize> = text.char_indices().map(|(i, _)| i).take(limit).collect();
        starts.push(text.len());
        let pairs = starts.windows(2);
        let last = pairs.len().saturating_sub(1);
        pairs.enumerate().map(|(i, w)| part(if i == last { &text[w[0]..] } else { &text[w[0]..w[1]] })).collect()
    } else {
        text.splitn(limit, &by[..]).map(part).collect()
    };
    Ok(Val::List(List::made(parts)))
}

fn substring<'a>(args: &[Val<'a>], _: Cx<'_>) -> Out<'a> {
    let [Val::Str(text), Val::Int(start), rest @ ..] = args else { return no_overload() };
    let from = byte_at(text, *start)?;
    let to = match rest {
        [] => text.len(),
        [Val::Int(end)] => byte_at(text, *end)?,
        _ => return no_overload(),
    };
    match text.get(from..to) {
        Some(part) => Ok(Val::str(part.to_owned())),
        None => fail(format!("invalid substring range. start: {start}, end: {}", formatting::show(&rest[0]))),
    }
}

fn join<'a>(args: &[Val<'a>], _: Cx<'_>) -> Out<'a> {
    let (list, between) = match args {
        [Val::List(list)] => (list, ""),
        [Val::List(list), Val::Str(between)] => (list, &between[..]),
        _ => return no_overload(),
    };
    let mut out = String::new();
    for (i, item) in list.iter().enumerate() {
        let Val::Str(text) = item else { return no_overload() };
        if i > 0 {
            out.push_str(between);
        }
        out.push_str(&text);
        if out.len() > MAX_TEXT {
            return fail("the result of join is too long");
        }
    }
    Ok(Val::str(out))
}

fn format<'a>(args: &[Val<'a>], _: Cx<'_>) -> Out<'a> {
    match args {
        [Val::Str(text), Val::List(list)] => Ok(Val::str(formatting::format(text, &list.iter().collect::<Vec<_>>())?)),
        _ => no_overload(),
    }
}

fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            other => out.push(other),
        }
    }
    out.push('"');
    out
}
