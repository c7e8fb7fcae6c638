//! What selectors look at in an object: its labels, and the fields that its resource can be selected by.
//!
//! Read once, when a version comes in, without building the rest of the object. Kept as one text with the ends of its pieces: there is one
//! for each stored object.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::resource::Selectable;

/// Labels and selectable fields of one version of one object.
#[derive(PartialEq, Eq)]
pub struct Facets {
    /// Keys and values of labels in turn, sorted by key, then the fields in the row's order.
    text: Box<str>,
    /// Where each piece ends.
    ends: Box<[u32]>,
    /// How many pieces are fields.
    fields: usize,
}

impl Facets {
    /// Reads them off an object's JSON.
    #[must_use]
    pub fn of(json: &[u8], selectable: &[Selectable]) -> Self {
        let count = selectable.len();
        let places = selectable.iter().map(|s| &s.pointer).chain(selectable.iter().map(|s| &s.instead)).enumerate();
        let wanted: Vec<(usize, Vec<&str>)> =
            places.filter(|(_, p)| !p.is_empty()).map(|(i, p)| (i, p.trim_start_matches('/').split('/').collect())).collect();
        // First what stands at the places, then what stands instead, if anything does.
        let values = wanted.last().map_or(0, |(i, _)| i + 1).max(count);
        let mut found = Found { labels: vec![], values: vec![None; values] };
        let mut parser = serde_json::Deserializer::from_slice(json);
        let look =
            Look { found: &mut found, wanted: wanted.iter().map(|(i, p)| (*i, p.as_slice())).collect(), labels: &["metadata", "labels"] };
        if let Err(error) = look.deserialize(&mut parser) {
            tracing::error!(%error, "an object in the storage is no JSON");
        }
        found.labels.sort();
        let labels = found.labels.iter().flat_map(|(key, value)| [&**key, &**value]);
        let (at, instead) = found.values.split_at(count);
        let fields = at.iter().zip(selectable).enumerate().map(|(i, (value, s))| {
            let value = value.as_deref();
            let value = match &*s.instead {
                "" => value,
                _ => value.filter(|v| !v.is_empty()).or_else(|| instead.get(i).and_then(|v| v.as_deref())),
            };
            value.unwrap_or(&s.absent)
        });
        let (mut text, mut ends) = (String::new(), Vec::with_capacity(found.labels.len() * 2 + selectable.len()));
        for piece in labels.chain(fields) {
            text.push_str(piece);
            // No object is that large; if one were, its last pieces would read as empty.
            ends.push(u32::try_from(text.len()).unwrap_or(u32::MAX));
        }
        Self { text: text.into(), ends: ends.into(), fields: selectable.len() }
    }

    fn piece(&self, index: usize) -> &str {
        let end = |i: usize| self.ends.get(i).map_or(0, |e| *e as usize);
        self.text.get(index.checked_sub(1).map_or(0, end)..end(index)).unwrap_or("")
    }

    fn label_pieces(&self) -> usize {
        self.ends.len() - self.fields
    }

    /// The value of a label.
    #[must_use]
    pub fn label(&self, key: &str) -> Option<&str> {
        (0..self.label_pieces()).step_by(2).find(|i| self.piece(*i) == key).map(|i| self.piece(i + 1))
    }

    /// The value of the selectable field with that index in the row; empty when there is none.
    #[must_use]
    pub fn field(&self, index: usize) -> &str {
        if index < self.fields { self.piece(self.label_pieces() + index) } else { "" }
    }
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
