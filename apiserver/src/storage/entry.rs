//! One version of one object in the watch cache: its bytes, shared by every reader, and what selectors look at.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::codec;
use super::facets::Facets;
use crate::resource::Selectable;

/// How an object came to this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It was created.
    Added,
    /// It was changed.
    Modified,
    /// It was removed; the bytes are its last state, at the revision of its removal.
    Deleted,
}

impl Kind {
    /// The start of a watch event's line.
    #[must_use]
    pub const fn head(self) -> &'static [u8] {
        match self {
            Self::Added => br#"{"type":"ADDED","object":"#,
            Self::Modified => br#"{"type":"MODIFIED","object":"#,
            Self::Deleted => br#"{"type":"DELETED","object":"#,
        }
    }

    /// The name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }
}

/// The end of a watch event's line.
pub const TAIL: &[u8] = b"}\n";

/// One version of one object. The buffer is a whole watch event, so that a watcher, a list and a get share the same bytes.
pub struct Entry {
    /// The key after the resource's prefix: `ns/name` or `name`.
    pub key: Box<str>,
    /// The revision at which etcd has this version.
    pub revision: u64,
    /// How it came to be.
    pub kind: Kind,
    /// Shared with the version before it when selectors see no difference.
    facets: Arc<Facets>,
    frame: Bytes,
}

impl Entry {
    /// An entry from the stored form.
    #[must_use]
    pub fn new(key: &str, stored: &[u8], revision: u64, kind: Kind, selectable: &[Selectable]) -> Self {
        // Exactly as large as it gets: what lies about unused is counted in ten thousands.
        let mut frame = Vec::with_capacity(kind.head().len() + codec::wire_len(stored, revision) + TAIL.len());
        frame.extend_from_slice(kind.head());
        let start = frame.len();
        codec::write_wire(&mut frame, stored, revision);
        let facets = Arc::new(Facets::of(&frame[start..], selectable));
        frame.extend_from_slice(TAIL);
        Self { key: key.into(), revision, kind, facets, frame: frame.into() }
    }

    /// The same version, selected by other fields.
    #[must_use]
    pub fn looked_at(&self, selectable: &[Selectable]) -> Self {
        let facets = Arc::new(Facets::of(self.json(), selectable));
        Self { key: self.key.clone(), revision: self.revision, kind: self.kind, facets, frame: self.frame.clone() }
    }

    /// Lets the entry hold on to what selectors see in the version before it, when that is the same.
    #[must_use]
    pub fn after(mut self, before: &Self) -> Self {
        if self.facets == before.facets {
            self.facets = before.facets.clone();
        }
        self
    }

    /// The last state of an object, as its removal at `revision` reports it.
    #[must_use]
    pub fn deleted(&self, revision: u64) -> Self {
        let mut frame = Vec::with_capacity(self.frame.len() + 8);
        frame.extend_from_slice(Kind::Deleted.head());
        match codec::after_version(self.json()) {
            Some(rest) => {
                codec::write_wire(&mut frame, codec::HEAD, revision);
                frame.extend_from_slice(rest);
            }
            None => frame.extend_from_slice(self.json()),
        }
        frame.extend_from_slice(TAIL);
        Self { key: self.key.clone(), revision, kind: Kind::Deleted, facets: self.facets.clone(), frame: frame.into() }
    }

    /// The object's JSON, resourceVersion included.
    #[must_use]
    pub fn json(&self) -> &[u8] {
        &self.frame[self.kind.head().len()..self.frame.len() - TAIL.len()]
    }

    /// As [`Entry::json`], for keeping.
    #[must_use]
    pub fn wire(&self) -> Bytes {
        self.frame.slice(self.kind.head().len()..self.frame.len() - TAIL.len())
    }

    /// The line of a watch event of `kind` about this version; shared when it is the version's own kind.
    #[must_use]
    pub fn line(&self, kind: Kind) -> Bytes {
        if kind == self.kind {
            return self.frame.clone();
        }
        [kind.head(), self.json(), TAIL].concat().into()
    }

    /// How many bytes the entry holds on to.
    #[must_use]
    pub fn size(&self) -> usize {
        self.frame.len() + self.key.len() + 128
    }

    /// The object as a tree.
    ///
    /// # Errors
    /// Bytes in etcd that are no JSON.
    pub fn tree(&self) -> Result<serde_json::Value, serde_json::Error> {
        serde_json::from_slice(self.json())
    }

    /// The value of a label.
    #[must_use]
    pub fn label(&self, key: &str) -> Option<&str> {
        self.facets.label(key)
    }

    /// The value of the selectable field with that index in the row.
    #[must_use]
    pub fn field(&self, index: usize) -> &str {
        self.facets.field(index)
    }

    /// The namespace in the key; empty for a cluster-scoped object.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.key.rsplit_once('/').map_or("", |(namespace, _)| namespace)
    }

    /// The name in the key.
    #[must_use]
    pub fn name(&self) -> &str {
        self.key.rsplit_once('/').map_or(&self.key, |(_, name)| name)
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}@{}", self.kind.name(), self.key, self.revision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: Kind) -> Entry {
        let stored = br#"{"metadata":{"labels":{"b":"2","a":"1"},"name":"p"},"spec":{"x":[{"nodeName":"no"}],"nodeName":"n1","hostNetwork":true},"kind":"Pod"}"#;
        let s = |field: &'static str, pointer: &'static str, absent: &'static str| Selectable {
            field: field.into(),
            pointer: pointer.into(),
            absent: absent.into(),
            instead: "".into(),
        };
        let fields = [
            s("spec.nodeName", "/spec/nodeName", ""),
            s("spec.hostNetwork", "/spec/hostNetwork", "false"),
            s("status.phase", "/status/phase", "Pending"),
        ];
        Entry::new("ns/p", stored, 5, kind, &fields)
    }

    #[test]
    fn knows_what_selectors_look_at() {
        let e = entry(Kind::Added);
        assert_eq!((e.label("a"), e.label("b"), e.label("c")), (Some("1"), Some("2"), None));
        assert_eq!((e.field(0), e.field(1), e.field(2), e.field(9)), ("n1", "true", "Pending", ""));
        assert_eq!((e.namespace(), e.name()), ("ns", "p"));
    }

    #[test]
    fn another_place_counts_where_the_first_has_nothing() {
        let s = |pointer: &'static str, instead: &'static str| Selectable {
            field: "x".into(),
            pointer: pointer.into(),
            absent: "none".into(),
            instead: instead.into(),
        };
        let fields = [s("/a/b", "/c"), s("/c", ""), s("/d", "/e")];
        let seen = |object: &[u8]| {
            let entry = Entry::new("ns/p", object, 5, Kind::Added, &fields);
            [0, 1, 2].map(|i| entry.field(i).to_owned())
        };
        assert_eq!(seen(br#"{"metadata":{"name":"p"},"a":{"b":"1"},"c":"2","e":"3"}"#), ["1", "2", "3"]);
        assert_eq!(seen(br#"{"metadata":{"name":"p"},"a":{"b":""},"c":"2","d":"4"}"#), ["2", "2", "4"]);
        assert_eq!(seen(br#"{"metadata":{"name":"p"}}"#), ["none", "none", "none"]);
    }

    #[test]
    fn a_line_is_the_object_in_a_frame() {
        let e = entry(Kind::Modified);
        let line: serde_json::Value = serde_json::from_slice(&e.line(Kind::Added)).unwrap();
        assert_eq!((&line["type"], &line["object"]), (&"ADDED".into(), &e.tree().unwrap()));
        assert_eq!(e.line(Kind::Modified).as_ptr(), e.line(Kind::Modified).as_ptr(), "shared, not copied");
        let gone = e.deleted(12_345);
        let line: serde_json::Value = serde_json::from_slice(&gone.line(Kind::Deleted)).unwrap();
        assert_eq!(line["object"]["metadata"]["resourceVersion"], "12345");
        assert_eq!(line["object"]["spec"], e.tree().unwrap()["spec"]);
    }
}
