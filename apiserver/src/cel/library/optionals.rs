//! Optional values. `optMap` and `optFlatMap` are macros.

use std::rc::Rc;

use super::super::value::{Map, Val};
use super::operators::at;
use super::{Cost, Cx, Def, Out, def, fail, no_overload};

pub(super) const DEFS: &[Def] = &[
    def("optional.of", &["(A) optional<A>"], |a, _| Ok(Val::Optional(Some(Rc::new(a[0].clone())))), Cost::One),
    def("optional.none", &["() optional<A>"], |_, _| Ok(Val::Optional(None)), Cost::One),
    def("optional.ofNonZeroValue", &["(A) optional<A>"], non_zero, Cost::One),
    def("hasValue", &["optional<A>.() bool"], has_value, Cost::One),
    def("value", &["optional<A>.() A"], value, Cost::One),
    def("or", &["optional<A>.(optional<A>) optional<A>"], or, Cost::One),
    def("orValue", &["optional<A>.(A) A"], or_value, Cost::One),
    def("_?._", &["(dyn, string) optional<dyn>"], select, Cost::One),
    def(
        "_[?_]",
        &[
            "(list<A>, int) optional<A>",
            "(map<A, B>, A) optional<B>",
            "(optional<list<A>>, int) optional<A>",
            "(optional<map<A, B>>, A) optional<B>",
        ],
        index,
        Cost::One,
    ),
];

fn non_zero<'a>(args: &[Val<'a>], _: Cx<'_>) -> Out<'a> {
    Ok(Val::Optional(if args[0].is_zero() { None } else { Some(Rc::new(args[0].clone())) }))
}

fn has_value<'a>(args: &[Val<'a>], _: Cx<'_>) -> Out<'a> {
    match &args[0] {
        Val::Optional(inner) => Ok(Val::Bool(inner.is_some())),
        _ => no_overload(),
    }
}

fn value<'a>(args: &[Val<'a>], _: Cx<'_>) -> Out<'a> {
    match &args[0] {
        Val::Optional(Some(inner)) => Ok((**inner).clone()),
        Val::Optional(None) => fail("optional.none() dereference"),
        _ => no_overload(),
    }
}

fn or<'a>(args: &[Val<'a>], _: Cx<'_>) -> Out<'a> {
    match (&args[0], &args[1]) {
        (Val::Optional(None), other @ Val::Optional(_)) => Ok(other.clone()),
        (some @ Val::Optional(Some(_)), _) => Ok(some.clone()),
        _ => no_overload(),
    }
}

fn or_value<'a>(args: &[Val<'a>], _: Cx<'_>) -> Out<'a> {
    match &args[0] {
        Val::Optional(None) => Ok(args[1].clone()),
        Val::Optional(Some(inner)) => Ok((**inner).clone()),
        _ => no_overload(),
    }
}

fn select<'a>(args: &[Val<'a>], _: Cx<'_>) -> Out<'a> {
    let Val::Str(name) = &args[1] else { return no_overload() };
    let field = |val: &Val<'a>| match val {
        Val::Map(map) => Ok(Map::field(map, name)),
        Val::Struct(made) => Ok(made.fields.get(&name[..]).cloned()),
        _ => no_overload(),
    };
    let found = match &args[0] {
        Val::Optional(None) => None,
        Val::Optional(Some(inner)) => field(inner)?,
        other => field(other)?,
    };
    Ok(Val::Optional(found.map(Rc::new)))
}

fn index<'a>(args: &[Val<'a>], _: Cx<'_>) -> Out<'a> {
    let found = match &args[0] {
        Val::Optional(None) => None,
        Val::Optional(Some(inner)) => at(inner, &args[1])?,
        other => at(other, &args[1])?,
    };
    Ok(Val::Optional(found.map(Rc::new)))
}
