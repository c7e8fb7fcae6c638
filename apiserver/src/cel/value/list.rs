//! Lists: of JSON as it stands or made on the way; sets and lists of type map are compared and put together as what they are.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::Value;

use super::{Val, weigh};
use crate::cel::shape::Shape;
use crate::crd::schema::ListType;

/// A list.
#[derive(Debug, Clone)]
pub struct List<'a> {
    /// Its items.
    pub items: Items<'a>,
    /// Whether it is a set or a map of items.
    pub kind: Option<&'a ListType>,
}

/// The items of a list.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub enum Items<'a> {
    Json(&'a [Value], Option<&'a Shape>),
    /// With their weight.
    Made(Rc<Vec<Val<'a>>>, u64),
}

impl<'a> List<'a> {
    /// A list of these.
    #[must_use]
    pub fn made(items: Vec<Val<'a>>) -> Self {
        let weight = weigh(items.iter());
        Self { items: Items::Made(Rc::new(items), weight), kind: None }
    }

    /// Puts an item at the end, without copying what nobody else holds.
    pub fn push(&mut self, item: Val<'a>) {
        if let Items::Json(..) = self.items {
            *self = Self { kind: self.kind, ..Self::made(self.iter().collect()) };
        }
        if let Items::Made(items, weight) = &mut self.items {
            *weight = weight.saturating_add(item.weight());
            Rc::make_mut(items).push(item);
        }
    }

    /// How many items there are.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.items {
            Items::Json(items, _) => items.len(),
            Items::Made(items, _) => items.len(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The item at a place.
    #[must_use]
    pub fn get(&self, i: usize) -> Option<Val<'a>> {
        match &self.items {
            Items::Json(items, shape) => items.get(i).map(|v| Val::of(v, *shape)),
            Items::Made(items, _) => items.get(i).cloned(),
        }
    }

    /// All items.
    pub fn iter(&self) -> impl Iterator<Item = Val<'a>> + '_ {
        (0..self.len()).filter_map(|i| self.get(i))
    }

    /// Whether one of the items equals a value.
    #[must_use]
    pub fn contains(&self, val: &Val<'a>) -> bool {
        self.iter().any(|item| item == *val)
    }

    /// One text for equal items, to look them up by: of sets the item itself, of lists of type map its keys.
    fn token(&self, kind: &ListType, item: &Val<'a>) -> String {
        let part = |val: Option<Val<'a>>| match val {
            Some(Val::Double(d)) if d.fract() == 0.0 => format!("{d:.0}"),
            Some(other) => other.to_json().map(|j| j.to_string()).unwrap_or_default(),
            None => String::new(),
        };
        match (kind, item) {
            (ListType::Map(keys), Val::Map(map)) => keys.iter().map(|k| part(map.field_json(k)) + "\n").collect(),
            _ => part(Some(item.clone())),
        }
    }

    /// One list after another; what sets and maps have in common is there once, the latter's value in the former's place.
    #[must_use]
    pub fn concat(&self, other: &Self) -> Self {
        let mut items: Vec<Val<'a>> = self.iter().collect();
        match self.kind.or(other.kind) {
            None | Some(ListType::Atomic) => items.extend(other.iter()),
            Some(kind) => {
                let mut places: BTreeMap<String, usize> = items.iter().enumerate().map(|(i, item)| (self.token(kind, item), i)).collect();
                for item in other.iter() {
                    match places.get(&self.token(kind, &item)) {
                        Some(place) => items[*place] = item,
                        None => {
                            places.insert(self.token(kind, &item), items.len());
                            items.push(item);
                        }
                    }
                }
            }
        }
        Self { kind: self.kind.or(other.kind), ..Self::made(items) }
    }
}

impl PartialEq for List<'_> {
    fn eq(&self, other: &Self) -> bool {
        if self.len() != other.len() {
            return false;
        }
        match self.kind.or(other.kind) {
            None | Some(ListType::Atomic) => self.iter().zip(other.iter()).all(|(a, b)| a == b),
            Some(kind) => {
                let by_token: BTreeMap<String, Val<'_>> = other.iter().map(|item| (other.token(kind, &item), item)).collect();
                self.iter().all(|item| by_token.get(&self.token(kind, &item)).is_some_and(|o| *o == item))
            }
        }
    }
}
