//! Resource quantities: `quantity("1.5Gi").isLessThan(quantity("2Gi"))`.

use std::cmp::Ordering;

use api::quantity::Quantity;

use super::super::value::Val;
use super::opaque::Opaque;
use super::{Cost, Cx, Def, Fail, Out, def, fail, no_overload};

pub(super) const DEFS: &[Def] = &[
    def("quantity", &["(string) kubernetes.Quantity"], quantity, Cost::Scan),
    def("isQuantity", &["(string) bool"], is_quantity, Cost::Scan),
    def("sign", &["kubernetes.Quantity.() int"], |a, _| one(a, |q| Ok(Val::Int(sign(q)))), Cost::One),
    def("isInteger", &["kubernetes.Quantity.() bool"], |a, _| one(a, |q| Ok(Val::Bool(integer(q).is_some()))), Cost::One),
    def("asInteger", &["kubernetes.Quantity.() int"], |a, _| one(a, as_integer), Cost::One),
    def("asApproximateFloat", &["kubernetes.Quantity.() double"], |a, _| one(a, |q| Ok(Val::Double(float(q)))), Cost::One),
    def("add", BINARY, |a, _| two(a, |x, y| made(x + y)), Cost::One),
    def("sub", BINARY, |a, _| two(a, |x, y| made(x - y)), Cost::One),
    def("isLessThan", COMPARE_BOOL, |a, _| two(a, |x, y| Val::Bool(x < y)), Cost::One),
    def("isGreaterThan", COMPARE_BOOL, |a, _| two(a, |x, y| Val::Bool(x > y)), Cost::One),
    def("compareTo", &["kubernetes.Quantity.(kubernetes.Quantity) int"], |a, _| two(a, |x, y| Val::Int(order(x.cmp(&y)))), Cost::One),
];

const BINARY: &[&str] = &["kubernetes.Quantity.(kubernetes.Quantity) kubernetes.Quantity", "kubernetes.Quantity.(int) kubernetes.Quantity"];
const COMPARE_BOOL: &[&str] = &["kubernetes.Quantity.(kubernetes.Quantity) bool"];

/// An order as -1, 0 or 1.
pub(super) const fn order(ordering: Ordering) -> i64 {
    ordering as i64
}

fn made<'a>(quantity: Quantity) -> Val<'a> {
    Val::Opaque(Opaque::Quantity(quantity))
}

fn one<'a>(args: &[Val<'a>], f: fn(Quantity) -> Out<'a>) -> Out<'a> {
    match args {
        [Val::Opaque(Opaque::Quantity(q))] => f(*q),
        _ => no_overload(),
    }
}

fn two<'a>(args: &[Val<'a>], f: fn(Quantity, Quantity) -> Val<'a>) -> Out<'a> {
    match args {
        [Val::Opaque(Opaque::Quantity(a)), Val::Opaque(Opaque::Quantity(b))] => Ok(f(*a, *b)),
        [Val::Opaque(Opaque::Quantity(a)), Val::Int(b)] => Ok(f(*a, Quantity::from_units(*b))),
        _ => no_overload(),
    }
}

fn quantity<'a>(args: &[Val<'a>], _: Cx<'_>) -> Out<'a> {
    match &args[0] {
        Val::Str(text) => text.parse().map(made).map_err(|e: api::quantity::ParseError| Fail::Error(e.to_string())),
        _ => no_overload(),
    }
}

fn is_quantity<'a>(args: &[Val<'a>], _: Cx<'_>) -> Out<'a> {
    match &args[0] {
        Val::Str(text) => Ok(Val::Bool(text.parse::<Quantity>().is_ok())),
        _ => no_overload(),
    }
}

fn sign(q: Quantity) -> i64 {
    order(q.cmp(&Quantity::ZERO))
}

fn integer(q: Quantity) -> Option<i64> {
    if q.is_whole() { i64::try_from(q.value()).ok() } else { None }
}

fn as_integer<'a>(q: Quantity) -> Out<'a> {
    integer(q).map_or_else(|| fail("cannot convert value to integer"), |i| Ok(Val::Int(i)))
}

fn float(q: Quantity) -> f64 {
    q.as_f64()
}
