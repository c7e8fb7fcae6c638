//! Semantic versions: `semver("1.2.3").isLessThan(semver("2.0.0"))`.

use std::cmp::Ordering;
use std::fmt;

use super::super::value::Val;
use super::opaque::Opaque;
use super::quantity::order;
use super::{Cost, Cx, Def, Fail, Out, def, fail, no_overload};

/// A version, as semver.org has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Semver {
    numbers: [u64; 3],
    pre: Vec<Identifier>,
    build: String,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Identifier {
    Number(u64),
    Text(String),
}

impl fmt::Display for Semver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch] = self.numbers;
        write!(f, "{major}.{minor}.{patch}")?;
        for (i, part) in self.pre.iter().enumerate() {
            f.write_str(if i == 0 { "-" } else { "." })?;
            match part {
                Identifier::Number(n) => write!(f, "{n}")?,
                Identifier::Text(text) => f.write_str(text)?,
            }
        }
        if self.build.is_empty() { Ok(()) } else { write!(f, "+{}", self.build) }
    }
}

impl Ord for Semver {
    fn cmp(&self, other: &Self) -> Ordering {
        let pre = match (self.pre.is_empty(), other.pre.is_empty()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) => self.pre.cmp(&other.pre),
        };
        self.numbers.cmp(&other.numbers).then(pre)
    }
}

impl PartialOrd for Semver {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

const COMPARE: &[&str] = &["kubernetes.Semver.(kubernetes.Semver) bool"];
const NUMBER: &[&str] = &["kubernetes.Semver.() int"];

pub(super) const DEFS: &[Def] = &[
    def("semver", &["(string) kubernetes.Semver", "(string, bool) kubernetes.Semver"], semver, Cost::Scan),
    def("isSemver", &["(string) bool", "(string, bool) bool"], |a, _| Ok(Val::Bool(given(a)?.is_ok())), Cost::Scan),
    def("major", NUMBER, |a, _| number(a, 0), Cost::One),
    def("minor", NUMBER, |a, _| number(a, 1), Cost::One),
    def("patch", NUMBER, |a, _| number(a, 2), Cost::One),
    def("isLessThan", COMPARE, |a, _| two(a, |o| Val::Bool(o.is_lt())), Cost::One),
    def("isGreaterThan", COMPARE, |a, _| two(a, |o| Val::Bool(o.is_gt())), Cost::One),
    def("compareTo", &["kubernetes.Semver.(kubernetes.Semver) int"], |a, _| two(a, |o| Val::Int(order(o))), Cost::One),
];

fn given(args: &[Val<'_>]) -> Result<Result<Semver, String>, Fail> {
    match args {
        [Val::Str(text)] | [Val::Str(text), Val::Bool(false)] => Ok(parse(text)),
        [Val::Str(text), Val::Bool(true)] => Ok(normalize(text).and_then(|t| parse(&t))),
        _ => no_overload(),
    }
}

fn semver<'a>(args: &[Val<'a>], _: Cx<'_>) -> Out<'a> {
    match given(args)? {
        Ok(version) => Ok(Val::Opaque(Opaque::Semver(version.into()))),
        Err(why) => fail(why),
    }
}

fn number<'a>(args: &[Val<'a>], i: usize) -> Out<'a> {
    match args {
        [Val::Opaque(Opaque::Semver(v))] => Ok(Val::Int(i64::try_from(v.numbers[i]).unwrap_or(i64::MAX))),
        _ => no_overload(),
    }
}

fn two<'a>(args: &[Val<'a>], f: fn(Ordering) -> Val<'a>) -> Out<'a> {
    match args {
        [Val::Opaque(Opaque::Semver(a)), Val::Opaque(Opaque::Semver(b))] => Ok(f(a.cmp(b))),
        _ => no_overload(),
    }
}

fn parse(text: &str) -> Result<Semver, String> {
    let (rest, build) = text.split_once('+').map_or((text, None), |(r, b)| (r, Some(b)));
    let (core, pre) = rest.split_once('-').map_or((rest, None), |(c, p)| (c, Some(p)));
    let parts: Vec<&str> = core.split('.').collect();
    let [major, minor, patch] = parts[..] else { return Err("No Major.Minor.Patch elements found".to_owned()) };
    let number = |t: &str, what: &str| {
        if t.is_empty() || !t.bytes().all(|b| b.is_ascii_digit()) {
            return Err(format!("Invalid character(s) found in {what} number {t:?}"));
        }
        if t.len() > 1 && t.starts_with('0') {
            return Err(format!("{what} number must not contain leading zeroes {t:?}"));
        }
        t.parse::<u64>().map_err(|_| format!("{what} number {t:?} is too large"))
    };
    let identifier = |t: &str| match t {
        "" => Err("Prerelease is empty".to_owned()),
        t if !t.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') => Err(format!("Invalid character(s) found in prerelease {t:?}")),
        t if t.bytes().all(|b| b.is_ascii_digit()) => number(t, "Prerelease").map(Identifier::Number),
        t => Ok(Identifier::Text(t.to_owned())),
    };
    let builds = build.map(|b| b.split('.').collect::<Vec<_>>()).unwrap_or_default();
    if builds.iter().any(|b| b.is_empty() || !b.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-')) {
        return Err(format!("Invalid character(s) found in build meta data {text:?}"));
    }
    Ok(Semver {
        numbers: [number(major, "Major")?, number(minor, "Minor")?, number(patch, "Patch")?],
        pre: pre.map(|p| p.split('.').map(identifier).collect()).transpose()?.unwrap_or_default(),
        build: build.unwrap_or_default().to_owned(),
    })
}

/// Without a `v` in front and zeros before numbers, and with the parts that are missing.
fn normalize(text: &str) -> Result<String, String> {
    let mut parts: Vec<String> = text.strip_prefix('v').unwrap_or(text).splitn(3, '.').map(str::to_owned).collect();
    for part in &mut parts {
        let bare = part.trim_start_matches('0');
        if part.len() > 1 {
            *part = if bare.starts_with(|c: char| c.is_ascii_digit()) { bare.to_owned() } else { format!("0{bare}") };
        }
    }
    if parts.len() < 3 && parts.last().is_some_and(|p| p.contains(['+', '-'])) {
        return Err("short version cannot contain PreRelease/Build meta data".to_owned());
    }
    parts.resize(3, "0".to_owned());
    Ok(parts.join("."))
}
