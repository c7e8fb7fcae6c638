//! Lists as sets: `sets.contains`, `sets.intersects`, `sets.equivalent`.

use super::super::value::{List, Val};
use super::{Cost, Def, Out, def, no_overload};

pub(super) const DEFS: &[Def] = &[
    def("sets.contains", &["(list<A>, list<A>) bool"], |a, _| both(a, contains), Cost::Product),
    def("sets.intersects", &["(list<A>, list<A>) bool"], |a, _| both(a, |a, b| b.iter().any(|x| a.contains(&x))), Cost::Product),
    def("sets.equivalent", &["(list<A>, list<A>) bool"], |a, _| both(a, |a, b| contains(a, b) && contains(b, a)), Cost::Product),
];

fn contains<'a>(all: &List<'a>, some: &List<'a>) -> bool {
    some.iter().all(|item| all.contains(&item))
}

fn both<'a>(args: &[Val<'a>], f: for<'l> fn(&'l List<'a>, &'l List<'a>) -> bool) -> Out<'a> {
    match args {
        [Val::List(a), Val::List(b)] => Ok(Val::Bool(f(a, b))),
        _ => no_overload(),
    }
}
