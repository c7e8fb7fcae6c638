//! Operators, `size`, `type` and `dyn`. The logical ones are the evaluator's, since they forgive errors.

use std::cmp::Ordering;

use super::super::value::{Key, Map, Text, Val};
use super::{Cost, Cx, Def, Fail, Out, def, fail, no_overload};

const ORDERED: &[&str] = &[
    "(bool, bool) bool",
    "(int, int) bool",
    "(int, uint) bool",
    "(int, double) bool",
    "(uint, uint) bool",
    "(uint, int) bool",
    "(uint, double) bool",
    "(double, double) bool",
    "(double, int) bool",
    "(double, uint) bool",
    "(string, string) bool",
    "(bytes, bytes) bool",
    "(timestamp, timestamp) bool",
    "(duration, duration) bool",
];

pub(super) const DEFS: &[Def] = &[
    def(
        "_+_",
        &[
            "(int, int) int",
            "(uint, uint) uint",
            "(double, double) double",
            "(string, string) string",
            "(bytes, bytes) bytes",
            "(list<A>, list<A>) list<A>",
            "(timestamp, duration) timestamp",
            "(duration, timestamp) timestamp",
            "(duration, duration) duration",
        ],
        add,
        Cost::Concat,
    ),
    def(
        "_-_",
        &[
            "(int, int) int",
            "(uint, uint) uint",
            "(double, double) double",
            "(timestamp, timestamp) duration",
            "(timestamp, duration) timestamp",
            "(duration, duration) duration",
        ],
        subtract,
        Cost::One,
    ),
    def("_*_", &["(int, int) int", "(uint, uint) uint", "(double, double) double"], multiply, Cost::One),
    def("_/_", &["(int, int) int", "(uint, uint) uint", "(double, double) double"], divide, Cost::One),
    def("_%_", &["(int, int) int", "(uint, uint) uint"], modulo, Cost::One),
    def("-_", &["(int) int", "(double) double"], negate, Cost::One),
    def("!_", &["(bool) bool"], not, Cost::One),
    // These forgive errors of their arguments: they are the evaluator's.
    def("_&&_", &["(bool, bool) bool"], |_, _| no_overload(), Cost::One),
    def("_||_", &["(bool, bool) bool"], |_, _| no_overload(), Cost::One),
    def("_?_:_", &["(bool, A, A) A"], |_, _| no_overload(), Cost::One),
    def("@not_strictly_false", &["(bool) bool"], |_, _| no_overload(), Cost::One),
    def("_==_", &["(A, A) bool"], |a, _| Ok(Val::Bool(a[0] == a[1])), Cost::Compare),
    def("_!=_", &["(A, A) bool"], |a, _| Ok(Val::Bool(a[0] != a[1])), Cost::Compare),
    def("_<_", ORDERED, |a, _| ordered(a, Ordering::is_lt), Cost::Compare),
    def("_<=_", ORDERED, |a, _| ordered(a, Ordering::is_le), Cost::Compare),
    def("_>_", ORDERED, |a, _| ordered(a, Ordering::is_gt), Cost::Compare),
    def("_>=_", ORDERED, |a, _| ordered(a, Ordering::is_ge), Cost::Compare),
    def("@in", &["(A, list<A>) bool", "(A, map<A, B>) bool"], within, Cost::In),
    def(
        "_[_]",
        &["(list<A>, int) A", "(map<A, B>, A) B", "(optional<list<A>>, int) optional<A>", "(optional<map<A, B>>, A) optional<B>"],
        index,
        Cost::One,
    ),
    def(
        "size",
        &[
            "(string) int",
            "string.() int",
            "(bytes) int",
            "bytes.() int",
            "(list<A>) int",
            "list<A>.() int",
            "(map<A, B>) int",
            "map<A, B>.() int",
        ],
        size,
        Cost::One,
    ),
    def("type", &["(A) type<A>"], |a, _| Ok(Val::Type(Text::Borrowed(a[0].type_name()))), Cost::One),
    def("dyn", &["(A) dyn"], |a, _| Ok(a[0].clone()), Cost::One),
    def("cel.@mapInsert", &["(map<A, B>, A, B) map<A, B>", "(map<A, B>, map<A, B>) map<A, B>"], insert, Cost::One),
];

fn overflow<T>() -> Result<T, Fail> {
    fail("integer overflow")
}

fn int<'a>(value: Option<i64>) -> Out<'a> {
    value.map_or_else(overflow, |v| Ok(Val::Int(v)))
}

fn uint<'a>(value: Option<u64>) -> Out<'a> {
    value.map_or_else(|| fail("unsigned integer overflow"), |v| Ok(Val::Uint(v)))
}

fn duration<'a>(value: Option<i64>) -> Out<'a> {
    value.map_or_else(|| fail("duration overflow"), |v| Ok(Val::Duration(v)))
}

fn add<'a>(args: &[Val<'a>], _: Cx<'_>) -> Out<'a> {
    match (&args[0], &args[1]) {
        (Val::Int(a), Val::Int(b)) => int(a.checked_add(*b)),
        (Val::Uint(a), Val::Uint(b)) => uint(a.checked_add(*b)),
        (Val::Double(a), Val::Double(b)) => Ok(Val::Double(a + b)),
        (Val::Str(a), Val::Str(b)) => Ok(Val::str([&a[..], &b[..]].concat())),
        (Val::Bytes(a), Val::Bytes(b)) => Ok(Val::Bytes([&a[..], &b[..]].concat().into())),
        (Val::List(a), Val::List(b)) => Ok(Val::List(a.concat(b))),
        (Val::Duration(a), Val::Duration(b)) => duration(a.checked_add(*b)),
        (Val::Timestamp(t), Val::Duration(d)) | (Val::Duration(d), Val::Timestamp(t)) => super::time::shift(*t, i128::from(*d)),
        _ => no_overload(),
    }
}

fn subtract<'a>(args: &[Val<'a>], _: Cx<'_>) -> Out<'a> {
    match (&args[0], &args[1]) {
        (Val::Int(a), Val::Int(b)) => int(a.checked_sub(*b)),
        (Val::Uint(a), Val::Uint(b)) => uint(a.checked_sub(*b)),
        (Val::Double(a), Val::Double(b)) => Ok(Val::Double(a - b)),
        (Val::Duration(a), Val::Duration(b)) => duration(a.checked_sub(*b)),
        (Val::Timestamp(t), Val::Duration(d)) => super::time::shift(*t, -i128::from(*d)),
        (Val::Timestamp(a), Val::Timestamp(b)) => duration(i64::try_from(a.as_nanosecond() - b.as_nanosecond()).ok()),
        _ => no_overload(),
    }
}

fn multiply<'a>(args: &[Val<'a>], _: Cx<'_>) -> Out<'a> {
    match (&args[0], &args[1]) {
        (Val::Int(a), Val::Int(b)) => int(a.checked_mul(*b)),
        (Val::Uint(a), Val::Uint(b)) => uint(a.checked_mul(*b)),
        (Val::Double(a), Val::Double(b)) => Ok(Val::Double(a * b)),
        _ => no_overload(),
    }
}

fn divide<'a>(args: &[Val<'a>], _: Cx<'_>) -> Out<'a> {
    match (&args[0], &args[1]) {
        (Val::Int(_), Val::Int(0)) | (Val::Uint(_), Val::Uint(0)) => fail("division by zero"),
        (Val::Int(a), Val::Int(b)) => int(a.checked_div(*b)),
        (Val::Uint(a), Val::Uint(b)) => uint(a.checked_div(*b)),
        (Val::Double(a), Val::Double(b)) => Ok(Val::Double(a / b)),
        _ => no_overload(),
    }
}

fn modulo<'a>(args: &[Val<'a>], _: Cx<'_>) -> Out<'a> {
    match (&args[0], &args[1]) {
        (Val::Int(_), Val::Int(0)) | (Val::Uint(_), Val::Uint(0)) => fail("modulus by zero"),
        (Val::Int(a), Val::Int(b)) => int(a.checked_rem(*b)),
        (Val::Uint(a), Val::Uint(b)) => uint(a.checked_rem(*b)),
        _ => no_overload(),
    }
}

fn negate<'a>(args: &[Val<'a>], _: Cx<'_>) -> Out<'a> {
    match &args[0] {
        Val::Int(a) => int(a.checked_neg()),
        Val::Double(a) => Ok(Val::Double(-a)),
        _ => no_overload(),
    }
}

fn not<'a>(args: &[Val<'a>], _: Cx<'_>) -> Out<'a> {
    match &args[0] {
        Val::Bool(b) => Ok(Val::Bool(!b)),
        _ => no_overload(),
    }
}

fn ordered<'a>(args: &[Val<'a>], holds: fn(Ordering) -> bool) -> Out<'a> {
    let numeric = |v: &Val<'a>| matches!(v, Val::Int(_) | Val::Uint(_) | Val::Double(_));
    let comparable = match (&args[0], &args[1]) {
        (Val::Bool(_), Val::Bool(_))
        | (Val::Str(_), Val::Str(_))
        | (Val::Bytes(_), Val::Bytes(_))
        | (Val::Timestamp(_), Val::Timestamp(_))
        | (Val::Duration(_), Val::Duration(_)) => true,
        (a, b) => numeric(a) && numeric(b),
    };
    if !comparable {
        return no_overload();
    }
    // NaN is neither less nor greater than anything.
    Ok(Val::Bool(args[0].order(&args[1]).is_some_and(holds)))
}

fn within<'a>(args: &[Val<'a>], _: Cx<'_>) -> Out<'a> {
    match &args[1] {
        Val::List(list) => Ok(Val::Bool(list.contains(&args[0]))),
        Val::Map(map) => Ok(Val::Bool(map.get(&args[0]).is_some())),
        _ => no_overload(),
    }
}

/// The item at an index, or the value under a key; the error when there is none.
pub(super) fn at<'a>(container: &Val<'a>, key: &Val<'a>) -> Result<Option<Val<'a>>, Fail> {
    match (container, key) {
        (Val::List(list), key) => {
            let i = match key {
                Val::Int(i) => usize::try_from(*i).ok(),
                Val::Uint(u) => usize::try_from(*u).ok(),
                Val::Double(d) if d.fract() == 0.0 && *d >= 0.0 => Some(*d as usize),
                Val::Double(_) => None,
                _ => return fail(format!("unsupported index type '{}' in list", key.type_name())),
            };
            Ok(i.and_then(|i| list.get(i)))
        }
        (Val::Map(map), key) => Ok(map.get(key)),
        (Val::Struct(made), Val::Str(name)) => Ok(made.fields.get(&name[..]).cloned()),
        _ => no_overload(),
    }
}

/// How a key that is not there is named.
pub(super) fn missing<T>(container: &Val<'_>, key: &Val<'_>) -> Result<T, Fail> {
    let shown = super::formatting::show(key);
    match container {
        Val::List(_) => fail(format!("index out of bounds: {shown}")),
        _ => fail(format!("no such key: {shown}")),
    }
}

fn index<'a>(args: &[Val<'a>], _: Cx<'_>) -> Out<'a> {
    if let Val::Optional(inner) = &args[0] {
        let found = inner.as_ref().map(|v| at(v, &args[1])).transpose()?.flatten();
        return Ok(Val::Optional(found.map(Into::into)));
    }
    match at(&args[0], &args[1])? {
        Some(found) => Ok(found),
        None => missing(&args[0], &args[1]),
    }
}

fn size<'a>(args: &[Val<'a>], _: Cx<'_>) -> Out<'a> {
    match &args[0] {
        Val::Str(_) | Val::Bytes(_) | Val::List(_) | Val::Map(_) => Ok(Val::Int(i64::try_from(args[0].size()).unwrap_or(i64::MAX))),
        _ => no_overload(),
    }
}

fn insert<'a>(args: &[Val<'a>], _: Cx<'_>) -> Out<'a> {
    let Val::Map(map) = &args[0] else { return no_overload() };
    let mut map = map.clone();
    grow(&mut map, &args[1..])?;
    Ok(Val::Map(map))
}

/// Puts an entry, or those of a map, into a map that is being made.
///
/// # Errors
/// A key that cannot be one, or that is there already.
pub fn grow<'a>(map: &mut Map<'a>, args: &[Val<'a>]) -> Result<(), Fail> {
    let mut put = |key: Option<Key<'a>>, value: Val<'a>| match key {
        None => fail("unsupported key type"),
        Some(key) if map.insert(key.clone(), value) => Ok(()),
        Some(key) => fail(format!("insert failed: key {} already exists", super::formatting::show(&key.val()))),
    };
    match args {
        [Val::Map(more)] => more.entries().try_for_each(|(k, v)| put(Some(k), v)),
        [key, value] => put(Key::of(key), value.clone()),
        _ => no_overload(),
    }
}
