//! Named formats: `format.dns1123Label().validate(self.name)` gives what is wrong, or nothing.

use std::rc::Rc;

use api::names;

use super::super::value::{List, Val};
use super::opaque::Opaque;
use super::{Cost, Cx, Def, Out, def, no_overload};
use crate::crd::formats::holds;

/// A format.
#[derive(Debug)]
pub struct Format {
    /// Its name.
    pub name: &'static str,
    wrong: fn(&str) -> Vec<String>,
}

const FORMATS: &[Format] = &[
    Format { name: "dns1123Label", wrong: names::dns1123_label },
    Format { name: "dns1123Subdomain", wrong: names::dns1123_subdomain },
    Format { name: "dns1035Label", wrong: names::dns1035_label },
    Format { name: "qualifiedName", wrong: names::qualified_name },
    Format { name: "dns1123LabelPrefix", wrong: |s| names::dns1123_label(&prefix(s)) },
    Format { name: "dns1123SubdomainPrefix", wrong: |s| names::dns1123_subdomain(&prefix(s)) },
    Format { name: "dns1035LabelPrefix", wrong: |s| names::dns1035_label(&prefix(s)) },
    Format { name: "labelValue", wrong: names::label_value },
    Format { name: "uri", wrong: |s| super::url::parse(s).err().map(|e| format!("parse {s:?}: {e}")).into_iter().collect() },
    Format { name: "uuid", wrong: |s| unless(holds("uuid", s), "does not match the UUID format") },
    Format { name: "byte", wrong: |s| unless(super::base64_bytes(s).is_some(), "invalid base64") },
    Format { name: "date", wrong: |s| unless(holds("date", s), "invalid date") },
    Format { name: "datetime", wrong: |s| unless(holds("date-time", s), "invalid datetime") },
];

const NONE: &[&str] = &["() kubernetes.NamedFormat"];

pub(super) const DEFS: &[Def] = &[
    def("format.dns1123Label", NONE, |_, _| named("dns1123Label"), Cost::One),
    def("format.dns1123Subdomain", NONE, |_, _| named("dns1123Subdomain"), Cost::One),
    def("format.dns1035Label", NONE, |_, _| named("dns1035Label"), Cost::One),
    def("format.qualifiedName", NONE, |_, _| named("qualifiedName"), Cost::One),
    def("format.dns1123LabelPrefix", NONE, |_, _| named("dns1123LabelPrefix"), Cost::One),
    def("format.dns1123SubdomainPrefix", NONE, |_, _| named("dns1123SubdomainPrefix"), Cost::One),
    def("format.dns1035LabelPrefix", NONE, |_, _| named("dns1035LabelPrefix"), Cost::One),
    def("format.labelValue", NONE, |_, _| named("labelValue"), Cost::One),
    def("format.uri", NONE, |_, _| named("uri"), Cost::One),
    def("format.uuid", NONE, |_, _| named("uuid"), Cost::One),
    def("format.byte", NONE, |_, _| named("byte"), Cost::One),
    def("format.date", NONE, |_, _| named("date"), Cost::One),
    def("format.datetime", NONE, |_, _| named("datetime"), Cost::One),
    def("format.named", &["(string) optional<kubernetes.NamedFormat>"], by_name, Cost::One),
    def("validate", &["kubernetes.NamedFormat.(string) optional<list<string>>"], validate, Cost::ScanSecond),
];

fn unless(holds: bool, why: &str) -> Vec<String> {
    if holds { vec![] } else { vec![why.to_owned()] }
}

/// A name that something will be put behind: a dash at the end is as good as a letter.
fn prefix(text: &str) -> String {
    match text.strip_suffix('-') {
        Some(start) if !start.is_empty() => format!("{start}a"),
        _ => text.to_owned(),
    }
}

fn find<'a>(name: &str) -> Option<Val<'a>> {
    FORMATS.iter().find(|f| f.name == name).map(|f| Val::Opaque(Opaque::Format(f)))
}

fn named<'a>(name: &str) -> Out<'a> {
    find(name).map_or_else(no_overload, Ok)
}

fn by_name<'a>(args: &[Val<'a>], _: Cx<'_>) -> Out<'a> {
    match &args[0] {
        Val::Str(name) => Ok(Val::Optional(find(name).map(Rc::new))),
        _ => no_overload(),
    }
}

fn validate<'a>(args: &[Val<'a>], _: Cx<'_>) -> Out<'a> {
    let [Val::Opaque(Opaque::Format(format)), Val::Str(text)] = args else { return no_overload() };
    let wrong = (format.wrong)(text);
    if wrong.is_empty() {
        return Ok(Val::Optional(None));
    }
    Ok(Val::Optional(Some(Rc::new(Val::List(List::made(wrong.into_iter().map(Val::str).collect()))))))
}
