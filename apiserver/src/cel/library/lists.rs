//! Kubernetes' lists: `isSorted`, `sum`, `min`, `max`, `indexOf`, `lastIndexOf`.

use std::cmp::Ordering;

use super::super::value::Val;
use super::{Cost, Cx, Def, Out, def, fail, no_overload};

const SORTED: &[&str] = &[
    "list<int>.() bool",
    "list<uint>.() bool",
    "list<double>.() bool",
    "list<bool>.() bool",
    "list<duration>.() bool",
    "list<timestamp>.() bool",
    "list<string>.() bool",
    "list<bytes>.() bool",
];
const EXTREME: &[&str] = &[
    "list<int>.() int",
    "list<uint>.() uint",
    "list<double>.() double",
    "list<bool>.() bool",
    "list<duration>.() duration",
    "list<timestamp>.() timestamp",
    "list<string>.() string",
    "list<bytes>.() bytes",
];

pub(super) const DEFS: &[Def] = &[
    def("isSorted", SORTED, is_sorted, Cost::Items),
    def("sum", &["list<int>.() int", "list<uint>.() uint", "list<double>.() double", "list<duration>.() duration"], sum, Cost::Items),
    def("min", EXTREME, |a, _| extreme(a, "min", Ordering::Less), Cost::Items),
    def("max", EXTREME, |a, _| extreme(a, "max", Ordering::Greater), Cost::Items),
    def("indexOf", &["list<A>.(A) int"], |a, _| index_of(a, false), Cost::Items),
    def("lastIndexOf", &["list<A>.(A) int"], |a, _| index_of(a, true), Cost::Items),
];

fn is_sorted<'a>(args: &[Val<'a>], _: Cx<'_>) -> Out<'a> {
    let Val::List(list) = &args[0] else { return no_overload() };
    let mut before: Option<Val<'a>> = None;
    for item in list.iter() {
        if let Some(before) = &before {
            match before.order(&item) {
                None => return no_overload(),
                Some(Ordering::Greater) => return Ok(Val::Bool(false)),
                Some(_) => {}
            }
        }
        before = Some(item);
    }
    Ok(Val::Bool(true))
}

fn sum<'a>(args: &[Val<'a>], cx: Cx<'_>) -> Out<'a> {
    let Val::List(list) = &args[0] else { return no_overload() };
    let mut items = list.iter();
    let Some(mut total) = items.next() else { return Ok(Val::Int(0)) };
    if !matches!(total, Val::Int(_) | Val::Uint(_) | Val::Double(_) | Val::Duration(_)) {
        return no_overload();
    }
    let add = super::find("_+_").first().map(|f| f.def.call);
    for item in items {
        total = match add {
            Some(add) => add(&[total, item], cx)?,
            None => return no_overload(),
        };
    }
    Ok(total)
}

fn extreme<'a>(args: &[Val<'a>], name: &str, wanted: Ordering) -> Out<'a> {
    let Val::List(list) = &args[0] else { return no_overload() };
    let mut items = list.iter();
    let Some(mut best) = items.next() else { return fail(format!("{name} called on empty list")) };
    for item in items {
        match item.order(&best) {
            None => return no_overload(),
            Some(order) if order == wanted => best = item,
            Some(_) => {}
        }
    }
    Ok(best)
}

fn index_of<'a>(args: &[Val<'a>], last: bool) -> Out<'a> {
    let [Val::List(list), wanted] = args else { return no_overload() };
    let mut found = -1;
    for (i, item) in list.iter().enumerate() {
        if item == *wanted {
            found = i64::try_from(i).unwrap_or(i64::MAX);
            if !last {
                break;
            }
        }
    }
    Ok(Val::Int(found))
}
