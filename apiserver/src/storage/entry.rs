//! One version of one object in the watch cache: its bytes, shared by every reader, and what selectors look at.

use std::fmt;

use bytes::Bytes;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::codec;
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
    /// Labels, sorted by key.
    labels: Box<[(Box<str>, Box<str>)]>,
    /// The values of the resource's selectable fields, in the row's order.
    fields: Box<[Box<str>]>,
    frame: Bytes,
}

impl Entry {
    /// An entry from the stored form.
    #[must_use]
    pub fn new(key: &str, stored: &[u8], revision: u64, kind: Kind, selectable: &[Selectable]) -> Self {
        let mut frame = Vec::with_capacity(stored.len() + 80);
        frame.extend_from_slice(kind.head());
        let start = frame.len();
        codec::write_wire(&mut frame, stored, revision);
        let (labels, fields) = looked_at(&frame[start..], selectable);
        frame.extend_from_slice(TAIL);
        Self { key: key.into(), revision, kind, labels, fields, frame: frame.into() }
    }

    /// The last state of an object, as its removal at `revision` reports it.
    #[must_use]
    pub fn deleted(&self, revision: u64) -> Self {
        let mut frame = Vec::with_capacity(self.frame.len() + 8);
        frame.extend_from_slice(Kind::Deleted.head());
        match codec::after_version(&self.wire()) {
            Some(rest) => {
                codec::write_wire(&mut frame, codec::HEAD, revision);
                frame.extend_from_slice(rest);
            }
            None => frame.extend_from_slice(&self.wire()),
        }
        frame.extend_from_slice(TAIL);
        Self {
            key: self.key.clone(),
            revision,
            kind: Kind::Deleted,
            labels: self.labels.clone(),
            fields: self.fields.clone(),
            frame: frame.into(),
        }
    }

    /// The object's JSON, resourceVersion included.
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
        [kind.head(), &self.wire(), TAIL].concat().into()
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
        serde_json::from_slice(&self.wire())
    }

    /// The value of a label.
    #[must_use]
    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels.binary_search_by(|(k, _)| (**k).cmp(key)).ok().map(|i| &*self.labels[i].1)
    }

    /// The value of the selectable field with that index in the row.
    #[must_use]
    pub fn field(&self, index: usize) -> &str {
        self.fields.get(index).map_or("", |f| f)
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

type Labels = Box<[(Box<str>, Box<str>)]>;
type Fields = Box<[Box<str>]>;

/// Reads labels and selectable fields without building the rest of the object.
fn looked_at(json: &[u8], selectable: &[Selectable]) -> (Labels, Fields) {
    let mut found = Found { labels: vec![], values: vec![None; selectable.len()] };
    let wanted: Vec<(usize, Vec<&str>)> =
        selectable.iter().enumerate().map(|(i, s)| (i, s.pointer.trim_start_matches('/').split('/').collect())).collect();
    let mut parser = serde_json::Deserializer::from_slice(json);
    let look =
        Look { found: &mut found, wanted: wanted.iter().map(|(i, p)| (*i, p.as_slice())).collect(), labels: &["metadata", "labels"] };
    if let Err(error) = look.deserialize(&mut parser) {
        tracing::error!(%error, "an object in the storage is no JSON");
    }
    found.labels.sort();
    let fields = found.values.into_iter().zip(selectable).map(|(v, s)| v.unwrap_or_else(|| s.absent.as_ref().into()));
    (found.labels.into(), fields.collect())
}

struct Found {
    labels: Vec<(Box<str>, Box<str>)>,
    values: Vec<Option<Box<str>>>,
}

/// Walks an object along the wanted paths and skips everything else.
struct Look<'a, 'p> {
    found: &'a mut Found,
    /// Index of a field and what is left of its path.
    wanted: Vec<(usize, &'p [&'p str])>,
    /// What is left of the way to the labels; empty for "no labels here".
    labels: &'p [&'p str],
}

impl<'de> DeserializeSeed<'de> for Look<'_, '_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Look<'_, '_> {
    fn value(self, text: &str) {
        for (i, path) in self.wanted {
            if path.is_empty() {
                self.found.values[i] = Some(text.into());
            }
        }
    }
}

impl<'de> Visitor<'de> for Look<'_, '_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }
    fn visit_str<E>(self, v: &str) -> Result<(), E> {
        self.value(v);
        Ok(())
    }
    fn visit_bool<E>(self, v: bool) -> Result<(), E> {
        self.value(if v { "true" } else { "false" });
        Ok(())
    }
    fn visit_i64<E>(self, v: i64) -> Result<(), E> {
        self.value(&v.to_string());
        Ok(())
    }
    fn visit_u64<E>(self, v: u64) -> Result<(), E> {
        self.value(&v.to_string());
        Ok(())
    }
    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<std::borrow::Cow<'_, str>>()? {
            if self.labels == ["labels"] && key == "labels" {
                let labels = map.next_value::<Option<std::collections::BTreeMap<Box<str>, Box<str>>>>()?;
                self.found.labels.extend(labels.unwrap_or_default());
                continue;
            }
            let wanted: Vec<_> = self.wanted.iter().filter(|(_, p)| p.first() == Some(&&*key)).map(|(i, p)| (*i, &p[1..])).collect();
            let labels = if self.labels.first() == Some(&&*key) && self.labels.len() > 1 { &self.labels[1..] } else { &[] };
            if wanted.is_empty() && labels.is_empty() {
                map.next_value::<IgnoredAny>()?;
            } else {
                map.next_value_seed(Look { found: self.found, wanted, labels })?;
            }
        }
        Ok(())
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
