//! Which entries of a cache a list or watch is about.

use std::collections::HashSet;
use std::sync::Arc;

use api::labels::Selector;
use api::status::Status;

use super::Call;
use crate::catalog::Served;
use crate::http::query::ListOptions;
use crate::storage::Entry;

/// A list's or watch's selection: a namespace or all, labels, fields.
#[derive(Debug)]
pub struct Selection {
    /// What the keys start with: `ns/` or nothing.
    pub prefix: String,
    labels: Selector,
    fields: Vec<Term>,
    converts: bool,
}

#[derive(Debug)]
struct Term {
    field: Field,
    value: String,
    equals: bool,
}

#[derive(Debug)]
enum Field {
    Name,
    Namespace,
    Selectable(usize),
}

impl Selection {
    /// The selection of `options` in `namespace` (empty: all), of the object `name` alone when the URL names one.
    ///
    /// # Errors
    /// 400 for a field that the resource cannot be selected by.
    pub fn new(row: &Served, namespace: &str, name: &str, options: &ListOptions) -> Result<Self, Status> {
        // What only somebody else can bring into the row's version is looked at in that version, and has the fields of its row.
        let asks = row.versions().is_some_and(|v| v.asks());
        let selectable = row.cache.selectable();
        let index_of = |field: &str| match asks {
            true => row.selectable.iter().position(|s| s.field == field),
            false => field_index(row, &selectable, field),
        };
        let mut fields = Vec::new();
        if !name.is_empty() {
            fields.push(Term { field: Field::Name, value: name.to_owned(), equals: true });
        }
        for term in &options.fields.terms {
            let field = match term.field.as_str() {
                "metadata.name" => Field::Name,
                "metadata.namespace" if row.is_namespaced() => Field::Namespace,
                other => match index_of(other) {
                    Some(index) => Field::Selectable(index),
                    None => return Err(unknown_field(row, other)),
                },
            };
            fields.push(Term { field, value: term.value.clone(), equals: term.equals });
        }
        let prefix = if namespace.is_empty() { String::new() } else { format!("{namespace}/") };
        let converts = asks && fields.iter().any(|t| matches!(t.field, Field::Selectable(_)));
        Ok(Self { prefix, labels: options.labels.clone(), fields, converts })
    }

    /// Whether entries are selected by what they are in the row's version, and lie in the storage in another: [`Selection::matches`] is asked of
    /// [`Call::entries`](super::Call::entries), and [`Selection::may_match`] of those as they lie there.
    #[must_use]
    pub fn converts(&self) -> bool {
        self.converts
    }

    /// Whether an entry is selected as far as every version of it can tell.
    #[must_use]
    pub fn may_match(&self, entry: &Entry) -> bool {
        self.fits(entry, |t| matches!(t.field, Field::Name | Field::Namespace))
    }

    /// Whether every entry under the prefix is selected.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.labels.is_everything() && self.fields.is_empty()
    }

    /// Whether an entry is selected.
    #[must_use]
    pub fn matches(&self, entry: &Entry) -> bool {
        self.fits(entry, |_| true)
    }

    fn fits(&self, entry: &Entry, asked: impl Fn(&Term) -> bool) -> bool {
        entry.key.starts_with(&self.prefix)
            && self.fields.iter().filter(|t| asked(t)).all(|t| {
                let value = match t.field {
                    Field::Name => entry.name(),
                    Field::Namespace => entry.namespace(),
                    Field::Selectable(i) => entry.field(i),
                };
                (value == t.value) == t.equals
            })
            && self.labels.matches_with(|key| entry.label(key))
    }

    /// The one key that can match, when the name and namespace are asked for by value.
    #[must_use]
    pub fn only_name(&self) -> Option<&str> {
        self.fields.iter().find(|t| t.equals && matches!(t.field, Field::Name)).map(|t| t.value.as_str())
    }
}

/// Which of some entries are selected, as they lie in the storage.
pub struct Chosen<'s> {
    selection: &'s Selection,
    /// Their keys, where they had to be converted to tell.
    keys: Option<HashSet<Box<str>>>,
}

impl<'s> Chosen<'s> {
    /// The choice among `entries`.
    ///
    /// # Errors
    /// What cannot be converted.
    pub async fn among(call: &Call, selection: &'s Selection, entries: &[Arc<Entry>]) -> Result<Self, Status> {
        if !selection.converts() {
            return Ok(Self { selection, keys: None });
        }
        let candidates = entries.iter().filter(|e| selection.may_match(e)).cloned().collect();
        let converted = call.entries(candidates).await?;
        let keys = converted.iter().filter(|e| selection.matches(e)).map(|e| e.key.clone()).collect();
        Ok(Self { selection, keys: Some(keys) })
    }

    /// Whether one of them is selected.
    #[must_use]
    pub fn has(&self, entry: &Entry) -> bool {
        self.keys.as_ref().map_or_else(|| self.selection.matches(entry), |keys| keys.contains(&entry.key))
    }
}

/// The index among the cache's fields: by the row's own name for it, which may stand at the same place in a row of another version.
fn field_index(row: &Served, selectable: &[crate::resource::Selectable], field: &str) -> Option<usize> {
    let by_name = |name: &str| selectable.iter().position(|s| s.field == name);
    match row.selectable.iter().position(|s| s.field == field) {
        Some(index) => by_name(field).or(Some(index)),
        None => None,
    }
}

/// In the words of upstream's conversions: kinds that can be selected by fields of their own say less than those that cannot.
fn unknown_field(row: &Served, field: &str) -> Status {
    Status::bad_request(if row.selectable.is_empty() && row.schema.is_none() {
        format!("{field:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")
    } else {
        format!("field label not supported: {field}")
    })
}
