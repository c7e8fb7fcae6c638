//! Which entries of a cache a list or watch is about.

use api::labels::Selector;
use api::status::Status;

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
        let selectable = row.cache.selectable();
        let mut fields = Vec::new();
        if !name.is_empty() {
            fields.push(Term { field: Field::Name, value: name.to_owned(), equals: true });
        }
        for term in &options.fields.terms {
            let field = match term.field.as_str() {
                "metadata.name" => Field::Name,
                "metadata.namespace" if row.is_namespaced() => Field::Namespace,
                other => match field_index(row, &selectable, other) {
                    Some(index) => Field::Selectable(index),
                    None => return Err(unknown_field(row, other)),
                },
            };
            fields.push(Term { field, value: term.value.clone(), equals: term.equals });
        }
        let prefix = if namespace.is_empty() { String::new() } else { format!("{namespace}/") };
        Ok(Self { prefix, labels: options.labels.clone(), fields })
    }

    /// Whether every entry under the prefix is selected.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.labels.is_everything() && self.fields.is_empty()
    }

    /// Whether an entry is selected.
    #[must_use]
    pub fn matches(&self, entry: &Entry) -> bool {
        entry.key.starts_with(&self.prefix)
            && self.fields.iter().all(|t| {
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
