//! JSON for people: indented by two spaces, as it is sent, so that nothing is assembled for it.

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, header};

use super::query::Query;

/// On a response: its body is sent as it is, whoever reads it.
#[derive(Debug, Clone, Copy)]
pub struct AsItIs;

/// Whether somebody wants to read it: says so, or asks with a program that people type into (upstream's list).
#[must_use]
pub fn wanted(query: &Query, headers: &HeaderMap) -> bool {
    match query.get("pretty").filter(|p| !p.is_empty()) {
        Some(said) => matches!(said, "1" | "t" | "T" | "true" | "TRUE" | "True"),
        None => {
            let agent = headers.get(header::USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or("");
            ["curl", "Wget", "Mozilla/5.0"].iter().any(|known| agent.starts_with(known))
        }
    }
}

/// Indents JSON piece by piece. What is no JSON comes out as something that is none either.
#[derive(Debug, Default)]
struct Indenter {
    depth: usize,
    in_string: bool,
    escaped: bool,
    /// An object or list has begun and nothing of it was written.
    opened: bool,
}

impl Indenter {
    fn line(&self, out: &mut Vec<u8>) {
        out.push(b'\n');
        out.extend(std::iter::repeat_n(b' ', 2 * self.depth));
    }

    fn push(&mut self, piece: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(piece.len() * 2);
        for &byte in piece {
            if self.in_string {
                out.push(byte);
                self.in_string = byte != b'"' || self.escaped;
                self.escaped = byte == b'\\' && !self.escaped;
                continue;
            }
            if byte.is_ascii_whitespace() {
                continue;
            }
            if matches!(byte, b'}' | b']') {
                self.depth = self.depth.saturating_sub(1);
                // What is empty stays on one line.
                if !std::mem::take(&mut self.opened) {
                    self.line(&mut out);
                }
                out.push(byte);
                continue;
            }
            if std::mem::take(&mut self.opened) {
                self.line(&mut out);
            }
            out.push(byte);
            match byte {
                b'{' | b'[' => {
                    self.depth += 1;
                    self.opened = true;
                }
                b',' => self.line(&mut out),
                b':' => out.push(b' '),
                b'"' => self.in_string = true,
                _ => {}
            }
        }
        out
    }
}

/// A body of JSON, indented.
pub fn indented(body: Body) -> Body {
    use futures::StreamExt as _;
    let mut indenter = Indenter::default();
    Body::from_stream(body.into_data_stream().map(move |piece| piece.map(|piece| Bytes::from(indenter.push(&piece)))))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn as_go_indents_whatever_the_pieces() {
        let value = json!({"a": [1, {"b": "x, {y}: \"z\\\""}, [], {}], "c": null, "d": -1.5, "e": {}});
        let text = value.to_string();
        let whole = serde_json::to_string_pretty(&value).unwrap();
        for size in [1, 2, 7, 1_000] {
            let mut indenter = Indenter::default();
            let out: Vec<u8> = text.as_bytes().chunks(size).flat_map(|p| indenter.push(p)).collect();
            assert_eq!(String::from_utf8(out).unwrap(), whole);
        }
        assert_eq!(serde_json::from_str::<Value>(&whole).unwrap(), value);
    }

    #[test]
    fn people_are_known_by_what_they_ask_with() {
        let asks = |query: &str, agent: &str| {
            let headers = HeaderMap::from_iter([(header::USER_AGENT, agent.parse().unwrap())]);
            wanted(&Query::parse(query), &headers)
        };
        assert!(asks("", "curl/8.0") && asks("pretty=true", "kubectl") && asks("pretty=1", "x"));
        assert!(!asks("", "kubectl") && !asks("pretty=false", "curl/8.0") && !asks("pretty=yes", "curl/8.0"));
    }
}
