//! Values as text: in error messages, and in `format`'s clauses.

use super::super::value::{Key, Val};
use super::{Fail, conversions, fail, time};

/// Digits after the point at most.
const MAX_PRECISION: usize = 1000;
/// How deep lists within lists are shown.
const MAX_SHOWN: u32 = 32;

/// A value as error messages name it.
pub(super) fn show(val: &Val<'_>) -> String {
    shown(val, 0).unwrap_or_else(|_| val.type_name().to_owned())
}

/// `%s`
fn shown(val: &Val<'_>, depth: u32) -> Result<String, Fail> {
    if depth > MAX_SHOWN {
        return fail("value is nested too deeply to be formatted");
    }
    Ok(match val {
        Val::Null => "null".to_owned(),
        Val::Bool(b) => b.to_string(),
        Val::Int(i) => i.to_string(),
        Val::Uint(u) => u.to_string(),
        Val::Double(d) => conversions::double_text(*d),
        Val::Str(text) | Val::Type(text) => text.to_string(),
        Val::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Val::Timestamp(t) => time::show_timestamp(*t),
        Val::Duration(d) => time::show_duration(*d),
        Val::List(list) => {
            let items = list.iter().map(|v| shown(&v, depth + 1)).collect::<Result<Vec<_>, _>>()?;
            format!("[{}]", items.join(", "))
        }
        Val::Map(map) => {
            let one = |(k, v): (Key<'_>, Val<'_>)| Ok(format!("{}: {}", shown(&k.val(), depth + 1)?, shown(&v, depth + 1)?));
            format!("{{{}}}", map.entries().map(one).collect::<Result<Vec<String>, Fail>>()?.join(", "))
        }
        Val::Optional(_) | Val::Struct(_) => return cannot('s', val),
        Val::Opaque(opaque) => opaque.text().map_or_else(|| cannot('s', val), Ok)?,
    })
}

fn cannot<T>(clause: char, val: &Val<'_>) -> Result<T, Fail> {
    let kinds = match clause {
        's' => "strings, bools, bytes, ints, doubles, maps, lists, types, durations, and timestamps",
        'd' => "integers",
        'f' | 'e' => "doubles",
        'b' => "ints, uints and bools",
        'o' => "ints and uints",
        _ => "ints, uints, bytes and strings",
    };
    let name = match clause {
        's' => "string clause",
        'd' => "decimal clause",
        'f' => "fixed-point clause",
        'e' => "scientific clause",
        'b' => "binary clause",
        'o' => "octal clause",
        _ => "hex clause",
    };
    fail(format!("error during formatting: {name} can only be used on {kinds}, was given {}", val.type_name()))
}

/// What a text with clauses becomes with these arguments.
pub(super) fn format(text: &str, args: &[Val<'_>]) -> Result<String, Fail> {
    let mut out = String::new();
    let mut chars = text.chars().peekable();
    let mut next = args.iter().enumerate();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        if chars.peek() == Some(&'%') {
            chars.next();
            out.push('%');
            continue;
        }
        let mut precision = 6;
        if chars.peek() == Some(&'.') {
            chars.next();
            let mut digits = String::new();
            while let Some(d) = chars.peek().filter(|c| c.is_ascii_digit()) {
                digits.push(*d);
                chars.next();
            }
            precision = match digits.parse::<usize>() {
                Ok(p) if p <= MAX_PRECISION => p,
                _ => return fail("error while parsing formatting clause: unable to parse precision"),
            };
        }
        let Some(clause) = chars.next() else { return fail("unexpected end of string") };
        if !matches!(clause, 's' | 'd' | 'f' | 'e' | 'b' | 'x' | 'X' | 'o') {
            return fail(format!("error while parsing formatting clause: unrecognized formatting clause \"{clause}\""));
        }
        let Some((_, arg)) = next.next() else { return fail(format!("index {} out of range", args.len())) };
        out.push_str(&clause_text(clause, precision, arg)?);
    }
    if next.next().is_some() {
        return fail("too many arguments supplied to string.format");
    }
    Ok(out)
}

fn clause_text(clause: char, precision: usize, arg: &Val<'_>) -> Result<String, Fail> {
    let signed =
        |value: i64, digits: &dyn Fn(u64) -> String| format!("{}{}", if value < 0 { "-" } else { "" }, digits(value.unsigned_abs()));
    let number = |digits: &dyn Fn(u64) -> String| match arg {
        Val::Int(i) => Ok(signed(*i, digits)),
        Val::Uint(u) => Ok(digits(*u)),
        other => cannot(clause, other),
    };
    let bytes = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let double = |show: &dyn Fn(f64) -> String| match arg {
        Val::Double(d) if d.is_nan() => Ok("NaN".to_owned()),
        Val::Double(d) if d.is_infinite() => Ok(if *d > 0.0 { "Infinity".to_owned() } else { "-Infinity".to_owned() }),
        Val::Double(d) => Ok(show(*d)),
        Val::Int(i) => Ok(show(*i as f64)),
        Val::Uint(u) => Ok(show(*u as f64)),
        other => cannot(clause, other),
    };
    match (clause, arg) {
        ('s', _) => shown(arg, 0),
        ('d', _) => number(&|u| u.to_string()),
        ('b', Val::Bool(b)) => Ok(u8::from(*b).to_string()),
        ('b', _) => number(&|u| format!("{u:b}")),
        ('o', _) => number(&|u| format!("{u:o}")),
        ('x', Val::Str(text)) => Ok(bytes(text.as_bytes())),
        ('x', Val::Bytes(b)) => Ok(bytes(b)),
        ('x', _) => number(&|u| format!("{u:x}")),
        ('X', Val::Str(text)) => Ok(bytes(text.as_bytes()).to_uppercase()),
        ('X', Val::Bytes(b)) => Ok(bytes(b).to_uppercase()),
        ('X', _) => number(&|u| format!("{u:X}")),
        ('f', _) => double(&|d| format!("{d:.precision$}")),
        _ => double(&|d| {
            let text = format!("{d:.precision$e}");
            let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
            let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |e| ('-', e));
            format!("{mantissa}e{sign}{digits:0>2}")
        }),
    }
}
