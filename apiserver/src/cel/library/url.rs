//! URLs as Go reads them in a request: `url("https://a:80/b?c=d").getHost()`.

use std::collections::BTreeMap;

use super::super::value::{Key, List, Map, Text, Val};
use super::opaque::Opaque;
use super::{Cost, Cx, Def, Out, def, fail, no_overload};

/// The parts of a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    scheme: String,
    host: String,
    path: String,
    query: String,
}

const TEXT: &[&str] = &["kubernetes.URL.() string"];

pub(super) const DEFS: &[Def] = &[
    def("url", &["(string) kubernetes.URL"], url, Cost::Scan),
    def("isURL", &["(string) bool"], is_url, Cost::Scan),
    def("getScheme", TEXT, |a, _| part(a, |u| u.scheme.clone()), Cost::One),
    def("getHost", TEXT, |a, _| part(a, |u| u.host.clone()), Cost::One),
    def("getHostname", TEXT, |a, _| part(a, |u| host_and_port(&u.host).0.trim_matches(['[', ']']).to_owned()), Cost::One),
    def("getPort", TEXT, |a, _| part(a, |u| host_and_port(&u.host).1.to_owned()), Cost::One),
    def("getEscapedPath", TEXT, |a, _| part(a, |u| escape(&u.path)), Cost::One),
    def("getQuery", &["kubernetes.URL.() map<string, list<string>>"], query, Cost::One),
];

fn url<'a>(args: &[Val<'a>], _: Cx<'_>) -> Out<'a> {
    match &args[0] {
        Val::Str(text) => match parse(text) {
            Ok(url) => Ok(Val::Opaque(Opaque::Url(url.into()))),
            Err(why) => fail(format!("URL parse error during conversion from string: parse {text:?}: {why}", text = &text[..])),
        },
        _ => no_overload(),
    }
}

fn is_url<'a>(args: &[Val<'a>], _: Cx<'_>) -> Out<'a> {
    match &args[0] {
        Val::Str(text) => Ok(Val::Bool(parse(text).is_ok())),
        _ => no_overload(),
    }
}

fn part<'a>(args: &[Val<'a>], f: fn(&Url) -> String) -> Out<'a> {
    match &args[0] {
        Val::Opaque(Opaque::Url(url)) => Ok(Val::str(f(url))),
        _ => no_overload(),
    }
}

/// An absolute URL, or an absolute path.
pub(super) fn parse(text: &str) -> Result<Url, String> {
    if text.chars().any(|c| c.is_ascii_control()) {
        return Err("net/url: invalid control character in URL".to_owned());
    }
    if text.is_empty() {
        return Err("empty url".to_owned());
    }
    let (scheme, rest) = scheme(text)?;
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    if !rest.starts_with('/') {
        if scheme.is_empty() {
            return Err("invalid URI for request".to_owned());
        }
        return Ok(Url { scheme, host: String::new(), path: String::new(), query: query.to_owned() });
    }
    let (host, path) = match rest.strip_prefix("//").filter(|_| !scheme.is_empty()) {
        Some(after) => {
            let (authority, path) = after.find('/').map_or((after, ""), |i| after.split_at(i));
            (authority.rsplit_once('@').map_or(authority, |(_, host)| host), path)
        }
        None => ("", rest),
    };
    check_host(host)?;
    unescape(path).ok_or_else(|| format!("invalid URL escape in {path:?}"))?;
    Ok(Url { scheme, host: host.to_owned(), path: path.to_owned(), query: query.to_owned() })
}

fn scheme(text: &str) -> Result<(String, &str), String> {
    for (i, c) in text.char_indices() {
        match c {
            'a'..='z' | 'A'..='Z' => {}
            '0'..='9' | '+' | '-' | '.' if i > 0 => {}
            ':' if i == 0 => return Err("missing protocol scheme".to_owned()),
            ':' => return Ok((text[..i].to_ascii_lowercase(), &text[i + 1..])),
            _ => break,
        }
    }
    Ok((String::new(), text))
}

fn host_and_port(host: &str) -> (&str, &str) {
    match host.rfind(':') {
        Some(i) if !host[i..].contains(']') => (&host[..i], &host[i + 1..]),
        _ => (host, ""),
    }
}

fn check_host(host: &str) -> Result<(), String> {
    let port = match host.strip_prefix('[') {
        Some(inner) => {
            let end = inner.find(']').ok_or("missing ']' in host")?;
            &inner[end + 1..]
        }
        None => host.rfind(':').map_or("", |i| &host[i..]),
    };
    let sound = port.is_empty() || port.strip_prefix(':').is_some_and(|p| p.bytes().all(|b| b.is_ascii_digit()));
    if !sound {
        return Err(format!("invalid port {port:?} after host"));
    }
    if let Some(c) = host.chars().find(|c| matches!(c, ' ' | '"' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}')) {
        return Err(format!("invalid character {:?} in host name", c.to_string()));
    }
    Ok(())
}

/// Without percent escapes; nothing when one of them is none.
fn unescape(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        if bytes[i] == b'%' {
            let digit = |at: usize| bytes.get(at).and_then(|b| char::from(*b).to_digit(16));
            out.push(u8::try_from(digit(i + 1)? * 16 + digit(i + 2)?).ok()?);
            i += 3;
        } else {
            out.push(bytes[i]);
            i += 1;
        }
    }
    Some(String::from_utf8_lossy(&out).into_owned())
}

/// A path as it was written, with what may not stand in one escaped.
fn escape(path: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@%!'()*[]".contains(&b);
    path.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

fn query<'a>(args: &[Val<'a>], _: Cx<'_>) -> Out<'a> {
    let Val::Opaque(Opaque::Url(url)) = &args[0] else { return no_overload() };
    let mut all: BTreeMap<String, Vec<Val<'a>>> = BTreeMap::new();
    for pair in url.query.split('&').filter(|p| !p.is_empty() && !p.contains(';')) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let plain = |t: &str| unescape(&t.replace('+', " "));
        if let (Some(name), Some(value)) = (plain(name), plain(value)) {
            all.entry(name).or_default().push(Val::str(value));
        }
    }
    let entry = |(name, values): (String, Vec<Val<'a>>)| (Key::Str(Text::Made(name.into())), Val::List(List::made(values)));
    Ok(Val::Map(Map::made(all.into_iter().map(entry).collect())))
}
