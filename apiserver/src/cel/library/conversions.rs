//! From one type to another: `int`, `uint`, `double`, `string`, `bytes`, `bool`.

use super::super::value::Val;
use super::{Cost, Cx, Def, Out, def, fail, no_overload, time};

pub(super) const DEFS: &[Def] = &[
    def("int", &["(int) int", "(uint) int", "(double) int", "(string) int", "(timestamp) int"], to_int, Cost::One),
    def("uint", &["(uint) uint", "(int) uint", "(double) uint", "(string) uint"], to_uint, Cost::One),
    def("double", &["(double) double", "(int) double", "(uint) double", "(string) double"], to_double, Cost::One),
    def(
        "string",
        &[
            "(string) string",
            "(bool) string",
            "(int) string",
            "(uint) string",
            "(double) string",
            "(bytes) string",
            "(timestamp) string",
            "(duration) string",
            "(net.IP) string",
            "(net.CIDR) string",
        ],
        to_string,
        Cost::One,
    ),
    def("bytes", &["(bytes) bytes", "(string) bytes"], to_bytes, Cost::One),
    def("bool", &["(bool) bool", "(string) bool"], to_bool, Cost::One),
];

fn to_int<'a>(args: &[Val<'a>], _: Cx<'_>) -> Out<'a> {
    match &args[0] {
        Val::Int(i) => Ok(Val::Int(*i)),
        Val::Uint(u) => i64::try_from(*u).map_or_else(|_| fail("integer overflow"), |i| Ok(Val::Int(i))),
        Val::Double(d) if *d > -9_223_372_036_854_775_808.0 && *d < 9_223_372_036_854_775_807.0 => Ok(Val::Int(*d as i64)),
        Val::Double(_) => fail("integer overflow"),
        Val::Str(text) => text.parse().map_or_else(
            |_| fail(format!("type conversion error from 'string' to 'int': {text:?}", text = &text[..])),
            |i| Ok(Val::Int(i)),
        ),
        Val::Timestamp(t) => Ok(Val::Int(t.as_second())),
        _ => no_overload(),
    }
}

fn to_uint<'a>(args: &[Val<'a>], _: Cx<'_>) -> Out<'a> {
    match &args[0] {
        Val::Uint(u) => Ok(Val::Uint(*u)),
        Val::Int(i) => u64::try_from(*i).map_or_else(|_| fail("unsigned integer overflow"), |u| Ok(Val::Uint(u))),
        Val::Double(d) if *d > -1.0 && *d < 18_446_744_073_709_551_615.0 => Ok(Val::Uint(*d as u64)),
        Val::Double(_) => fail("unsigned integer overflow"),
        Val::Str(text) => text.parse().map_or_else(
            |_| fail(format!("type conversion error from 'string' to 'uint': {text:?}", text = &text[..])),
            |u| Ok(Val::Uint(u)),
        ),
        _ => no_overload(),
    }
}

fn to_double<'a>(args: &[Val<'a>], _: Cx<'_>) -> Out<'a> {
    match &args[0] {
        Val::Double(d) => Ok(Val::Double(*d)),
        Val::Int(i) => Ok(Val::Double(*i as f64)),
        Val::Uint(u) => Ok(Val::Double(*u as f64)),
        Val::Str(text) => text.parse().map_or_else(
            |_| fail(format!("type conversion error from 'string' to 'double': {text:?}", text = &text[..])),
            |d| Ok(Val::Double(d)),
        ),
        _ => no_overload(),
    }
}

fn to_string<'a>(args: &[Val<'a>], _: Cx<'_>) -> Out<'a> {
    match &args[0] {
        Val::Str(text) => Ok(Val::Str(text.clone())),
        Val::Bool(b) => Ok(Val::str(b.to_string())),
        Val::Int(i) => Ok(Val::str(i.to_string())),
        Val::Uint(u) => Ok(Val::str(u.to_string())),
        Val::Double(d) => Ok(Val::str(double_text(*d))),
        Val::Bytes(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Val::str(text.to_owned())),
            Err(_) => fail("invalid UTF-8 in bytes, cannot convert to string"),
        },
        Val::Timestamp(t) => Ok(Val::str(time::show_timestamp(*t))),
        Val::Duration(d) => Ok(Val::str(time::show_duration(*d))),
        Val::Opaque(opaque) => opaque.text().map_or_else(no_overload, |t| Ok(Val::str(t))),
        _ => no_overload(),
    }
}

/// A double in Go's shortest form (`%g`): an exponent below 1e-4 and from 1e21 on.
pub(super) fn double_text(d: f64) -> String {
    let size = d.abs();
    if d.is_nan() {
        return "NaN".to_owned();
    }
    if d.is_infinite() {
        return if d > 0.0 { "+Inf".to_owned() } else { "-Inf".to_owned() };
    }
    if size != 0.0 && !(1e-4..1e21).contains(&size) {
        let text = format!("{d:e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |e| ('-', e));
        return format!("{mantissa}e{sign}{digits:0>2}");
    }
    format!("{d}")
}

fn to_bytes<'a>(args: &[Val<'a>], _: Cx<'_>) -> Out<'a> {
    match &args[0] {
        Val::Bytes(bytes) => Ok(Val::Bytes(bytes.clone())),
        Val::Str(text) => Ok(Val::Bytes(text.as_bytes().into())),
        _ => no_overload(),
    }
}

fn to_bool<'a>(args: &[Val<'a>], _: Cx<'_>) -> Out<'a> {
    match &args[0] {
        Val::Bool(b) => Ok(Val::Bool(*b)),
        Val::Str(text) => match &text[..] {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Val::Bool(true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Val::Bool(false)),
            _ => fail(format!("type conversion error from 'string' to 'bool': {text:?}", text = &text[..])),
        },
        _ => no_overload(),
    }
}
