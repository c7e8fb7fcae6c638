//! Links of a proxied page, led back below the proxy as redirects are. A page goes through in pieces, each as soon as it is known to hold no
//! half of a tag; what is no link stays byte for byte as it was. Pure, but for [`body`].

use axum::body::{Body, Bytes};
use futures::StreamExt as _;
use http::{HeaderMap, header};

/// Attributes that hold a link, by element: upstream's list, which is that of HTML 5.
const LINKS: &[(&str, &[&str])] = &[
    ("a", &["href"]),
    ("applet", &["codebase"]),
    ("area", &["href"]),
    ("audio", &["src"]),
    ("base", &["href"]),
    ("blockquote", &["cite"]),
    ("body", &["background"]),
    ("button", &["formaction"]),
    ("command", &["icon"]),
    ("del", &["cite"]),
    ("embed", &["src"]),
    ("form", &["action"]),
    ("frame", &["longdesc", "src"]),
    ("head", &["profile"]),
    ("html", &["manifest"]),
    ("iframe", &["longdesc", "src"]),
    ("img", &["longdesc", "src", "usemap"]),
    ("input", &["src", "usemap", "formaction"]),
    ("ins", &["cite"]),
    ("link", &["href"]),
    ("object", &["classid", "codebase", "data", "usemap"]),
    ("q", &["cite"]),
    ("script", &["src"]),
    ("source", &["src"]),
    ("video", &["poster", "src"]),
];
/// Elements whose content is text, whatever it looks like.
const RAW: [&str; 8] = ["iframe", "noembed", "noframes", "script", "style", "textarea", "title", "xmp"];
/// The longest tag or comment that is looked at as a whole; a longer one goes through as it is. Pages with images in their tags have long ones.
const LONGEST: usize = 1 << 20;

/// Whether an answer is a page that can be read: parts of pages, and compressed ones, stay as they are.
pub fn is_page(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or("");
    let kind = text(header::CONTENT_TYPE).split(';').next().unwrap_or("").trim();
    let whole = !headers.contains_key(header::CONTENT_RANGE) && matches!(text(header::CONTENT_ENCODING), "" | "identity");
    whole && kind.eq_ignore_ascii_case("text/html")
}

/// A page's body with its links rewritten: `link` gives a link's new form, or nothing when it stays.
pub fn body(page: Body, link: impl Fn(&str) -> Option<String> + Send + 'static) -> Body {
    let mut rewriter = Rewriter { link, held: vec![], raw: None };
    let pieces = page.into_data_stream().map(Some).chain(futures::stream::once(async { None }));
    Body::from_stream(pieces.map(move |piece| match piece {
        Some(Ok(bytes)) => Ok(Bytes::from(rewriter.feed(&bytes))),
        Some(Err(error)) => Err(error),
        None => Ok(Bytes::from(std::mem::take(&mut rewriter.held))),
    }))
}

struct Rewriter<F> {
    link: F,
    /// The beginning of a tag or comment whose end has not come yet.
    held: Vec<u8>,
    /// The element whose text we are in.
    raw: Option<&'static str>,
}

impl<F: Fn(&str) -> Option<String>> Rewriter<F> {
    /// What can be sent on after this piece.
    fn feed(&mut self, piece: &[u8]) -> Vec<u8> {
        self.held.extend_from_slice(piece);
        let page = std::mem::take(&mut self.held);
        let (mut out, mut rest) = (Vec::with_capacity(page.len()), page.as_slice());
        loop {
            if let Some(raw) = self.raw.take() {
                let close = format!("</{raw}");
                let Some(at) = rest.windows(close.len()).position(|w| w.eq_ignore_ascii_case(close.as_bytes())) else {
                    self.raw = Some(raw);
                    // Its end may have begun.
                    let (text, tail) = rest.split_at((rest.len() + 1).saturating_sub(close.len()));
                    out.extend_from_slice(text);
                    self.held = tail.to_vec();
                    return out;
                };
                out.extend_from_slice(&rest[..at]);
                rest = &rest[at..];
            }
            let Some(at) = rest.iter().position(|b| *b == b'<') else { break };
            let (text, tag) = rest.split_at(at);
            out.extend_from_slice(text);
            match end(tag) {
                Some(length) => {
                    let (tag, after) = tag.split_at(length);
                    self.tag(tag, &mut out);
                    rest = after;
                }
                None if tag.len() > LONGEST => {
                    out.push(b'<');
                    rest = &tag[1..];
                }
                None => {
                    self.held = tag.to_vec();
                    return out;
                }
            }
        }
        out.extend_from_slice(rest);
        out
    }

    fn tag(&mut self, tag: &[u8], out: &mut Vec<u8>) {
        let name = name(tag);
        self.raw = RAW.into_iter().find(|raw| *raw == name);
        let attributes = LINKS.iter().find(|(element, _)| *element == name).map(|(_, attributes)| *attributes);
        match attributes.and_then(|attributes| self.rewritten(tag, attributes)) {
            Some(tag) => out.extend_from_slice(tag.as_bytes()),
            None => out.extend_from_slice(tag),
        }
    }

    /// A tag with its links rewritten; nothing when there are none, or when it is no text.
    fn rewritten(&self, tag: &[u8], links: &[&str]) -> Option<String> {
        let tag = std::str::from_utf8(tag).ok()?;
        let (mut out, mut copied) = (String::new(), 0);
        for (name, at) in values(tag) {
            if links.iter().any(|l| name.eq_ignore_ascii_case(l))
                && let Some(new) = (self.link)(tag[at.clone()].trim())
            {
                out += &tag[copied..at.start];
                out += &new;
                copied = at.end;
            }
        }
        (copied > 0).then(|| out + &tag[copied..])
    }
}

/// The length of a tag or comment that the text begins with, once its end is there. A `<` that begins neither is one byte.
fn end(text: &[u8]) -> Option<usize> {
    if b"<!--".starts_with(&text[..text.len().min(4)]) && text.len() > 1 {
        return text.windows(3).skip(2).position(|w| w == b"-->").map(|at| at + 5);
    }
    match text.get(1)? {
        b if b.is_ascii_alphabetic() || matches!(b, b'/' | b'!' | b'?') => {}
        _ => return Some(1),
    }
    let mut quote = None;
    for (at, byte) in text.iter().enumerate() {
        match (quote, byte) {
            (None, b'>') => return Some(at + 1),
            // A quote begins a value only where one can begin.
            (None, b'"' | b'\'') if text[..at].trim_ascii_end().ends_with(b"=") => quote = Some(*byte),
            (Some(open), byte) if *byte == open => quote = None,
            _ => {}
        }
    }
    None
}

/// A tag's name in small letters, with the slash of an end tag.
fn name(tag: &[u8]) -> String {
    let name = tag.iter().skip(1).take_while(|b| !b.is_ascii_whitespace() && **b != b'>');
    let name: String = name.map(|b| char::from(b.to_ascii_lowercase())).collect();
    if name.len() > 1 { name.trim_end_matches('/').to_owned() } else { name }
}

/// The attributes of a tag that have values, and where their values are, without quotes.
fn values(tag: &str) -> Vec<(&str, std::ops::Range<usize>)> {
    let bytes = tag.as_bytes();
    let skip = |mut at: usize, over: &dyn Fn(u8) -> bool| {
        while at < bytes.len() && over(bytes[at]) {
            at += 1;
        }
        at
    };
    let space = |b: u8| b.is_ascii_whitespace() || b == b'/';
    let mut at = skip(1, &|b| !space(b) && b != b'>');
    let mut found = vec![];
    while at < bytes.len() && bytes[at] != b'>' {
        let begin = skip(at, &space);
        let name_end = skip(begin, &|b| !space(b) && b != b'=' && b != b'>');
        let sign = skip(name_end, &|b| b.is_ascii_whitespace());
        if bytes.get(sign) != Some(&b'=') {
            // No value. A stray sign is stepped over, so that each turn gets on.
            at = name_end.max(begin + usize::from(begin == at));
            continue;
        }
        let value = skip(sign + 1, &|b| b.is_ascii_whitespace());
        let (start, stop, next) = match bytes.get(value) {
            Some(quote @ (b'"' | b'\'')) => {
                let stop = skip(value + 1, &|b| b != *quote);
                (value + 1, stop, stop + 1)
            }
            _ => {
                let stop = skip(value, &|b| !b.is_ascii_whitespace() && b != b'>');
                (value, stop, stop)
            }
        };
        found.push((&tag[begin..name_end], start..stop));
        at = next;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However a page is cut into pieces, it becomes this one.
    #[track_caller]
    fn check(page: &str, expected: &str) {
        for size in 1..=page.len() {
            let link = |l: &str| l.starts_with('/').then(|| format!("/proxy{l}"));
            let mut rewriter = Rewriter { link, held: vec![], raw: None };
            let mut out: Vec<u8> = page.as_bytes().chunks(size).flat_map(|piece| rewriter.feed(piece)).collect();
            out.extend(rewriter.held);
            assert_eq!(String::from_utf8(out).unwrap(), expected, "in pieces of {size}");
        }
    }

    #[test]
    fn links_are_led_below_the_proxy() {
        check(r#"<a href="/x">test</a>"#, r#"<a href="/proxy/x">test</a>"#);
        check("<p><A\nclass=b HREF = '/x?a>b' disabled>t</A>", "<p><A\nclass=b HREF = '/proxy/x?a>b' disabled>t</A>");
        check("<img src=/a.png usemap=/m longdesc=d><br/>", "<img src=/proxy/a.png usemap=/proxy/m longdesc=d><br/>");
        check(r#"<link rel="x" href="/s.css"/>"#, r#"<link rel="x" href="/proxy/s.css"/>"#);
        check(r#"<form action="/f" method="post">"#, r#"<form action="/proxy/f" method="post">"#);
    }

    #[test]
    fn what_is_no_link_stays() {
        for page in [
            "",
            "a < b, <, <3 and <>",
            r#"<a name="/x" title='href="/y"'>"#,
            r#"<p href="/x">"#,
            r#"<!-- <a href="/x"> > -->"#,
            "<!-->",
            r#"<!doctype html><a href="relative">"#,
            r#"<a href="/unfinished"#,
            r#"<a = =href >é</a =>"#,
            r#"<style>a { content: '<a href="/x">' }</style>"#,
        ] {
            check(page, page);
        }
        check(
            r#"<script src="/s.js">x = '<a href="/x">'; if (1<2) {}</script><a href="/y">"#,
            r#"<script src="/proxy/s.js">x = '<a href="/x">'; if (1<2) {}</script><a href="/proxy/y">"#,
        );
        check(r#"<!-- x --><a href="/y">"#, r#"<!-- x --><a href="/proxy/y">"#);
    }

    #[test]
    fn a_tag_without_end_does_not_grow_for_ever() {
        let mut rewriter = Rewriter { link: |_: &str| None, held: vec![], raw: None };
        let long = vec![b'x'; LONGEST];
        assert!(rewriter.feed(b"<a href=").is_empty());
        assert_eq!(rewriter.feed(&long).len(), LONGEST + 8);
        assert!(rewriter.held.is_empty());
    }

    #[test]
    fn pages_are_html_that_is_not_compressed() {
        let map = |kind: &str, encoding: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, kind.parse().unwrap());
            if !encoding.is_empty() {
                headers.insert(header::CONTENT_ENCODING, encoding.parse().unwrap());
            }
            is_page(&headers)
        };
        assert!(map("text/html; charset=utf-8", "") && map("Text/HTML", "identity"));
        assert!(!map("application/json", "") && !map("text/html", "gzip") && !map("text/htmlx", ""));
    }
}
