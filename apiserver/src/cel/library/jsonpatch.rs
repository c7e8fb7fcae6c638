//! What mutating policies need of JSON patches: `jsonpatch.escapeKey`.

use super::super::value::Val;
use super::{Cost, Cx, Def, Out, def, no_overload};

pub(super) const DEFS: &[Def] = &[def("jsonpatch.escapeKey", &["(string) string"], escape_key, Cost::Scan)];

fn escape_key<'a>(args: &[Val<'a>], _: Cx<'_>) -> Out<'a> {
    match &args[0] {
        Val::Str(text) => Ok(Val::str(text.replace('~', "~0").replace('/', "~1"))),
        _ => no_overload(),
    }
}
