//! Maps and objects: of JSON as it stands, fields under their escaped names, or made on the way.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::Value;

use super::{Text, Val, weigh};
use crate::cel::shape::{self, Form, Shape};

/// A map, or an object.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub enum Map<'a> {
    Json(&'a serde_json::Map<String, Value>, Option<&'a Shape>),
    /// With its weight.
    Made(Rc<BTreeMap<Key<'a>, Val<'a>>>, u64),
}

/// The key of a map.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub enum Key<'a> {
    Bool(bool),
    Int(i64),
    Uint(u64),
    Str(Text<'a>),
}

impl Ord for Key<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        let number = |k: &Self| match k {
            Self::Int(i) => Some(i128::from(*i)),
            Self::Uint(u) => Some(i128::from(*u)),
            _ => None,
        };
        match (self, other) {
            (Self::Bool(a), Self::Bool(b)) => a.cmp(b),
            (Self::Bool(_), _) => Ordering::Less,
            (_, Self::Bool(_)) => Ordering::Greater,
            (Self::Str(a), Self::Str(b)) => a[..].cmp(&b[..]),
            (Self::Str(_), _) => Ordering::Greater,
            (_, Self::Str(_)) => Ordering::Less,
            _ => number(self).cmp(&number(other)),
        }
    }
}

impl PartialOrd for Key<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Key<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Key<'_> {}

impl<'a> Key<'a> {
    /// The key that a value is; nothing for what cannot be one. A double that is a whole number is that number.
    #[must_use]
    pub fn of(val: &Val<'a>) -> Option<Self> {
        match val {
            Val::Bool(b) => Some(Self::Bool(*b)),
            Val::Int(i) => Some(Self::Int(*i)),
            Val::Uint(u) => Some(Self::Uint(*u)),
            Val::Str(s) => Some(Self::Str(s.clone())),
            Val::Double(d) if d.fract() == 0.0 && d.abs() < 9.0e18 => Some(Self::Int(*d as i64)),
            _ => None,
        }
    }

    /// The key as a value.
    #[must_use]
    pub fn val(&self) -> Val<'a> {
        match self {
            Self::Bool(b) => Val::Bool(*b),
            Self::Int(i) => Val::Int(*i),
            Self::Uint(u) => Val::Uint(*u),
            Self::Str(s) => Val::Str(s.clone()),
        }
    }
}

impl<'a> Map<'a> {
    /// A map of these.
    #[must_use]
    pub fn made(entries: BTreeMap<Key<'a>, Val<'a>>) -> Self {
        let weight = weigh(entries.values());
        Self::Made(Rc::new(entries), weight)
    }

    /// Puts an entry in, without copying what nobody else holds. Says whether the key was free.
    pub fn insert(&mut self, key: Key<'a>, value: Val<'a>) -> bool {
        if let Self::Json(..) = self {
            *self = Self::made(self.entries().collect());
        }
        let Self::Made(entries, weight) = self else { return false };
        if entries.contains_key(&key) {
            return false;
        }
        *weight = weight.saturating_add(value.weight());
        Rc::make_mut(entries).insert(key, value);
        true
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Json(_, Some(Shape { form: Form::Object(_), .. })) => self.keys().len(),
            Self::Json(map, _) => map.len(),
            Self::Made(map, _) => map.len(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value under a key.
    #[must_use]
    pub fn get(&self, key: &Val<'a>) -> Option<Val<'a>> {
        match (self, key) {
            (Self::Json(..), Val::Str(name)) => self.field(name),
            (Self::Json(..), _) => None,
            (Self::Made(map, _), key) => map.get(&Key::of(key)?).cloned(),
        }
    }

    /// The field or entry of that name, as expressions name it.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<Val<'a>> {
        match self {
            Self::Json(map, Some(shape)) => match &shape.form {
                Form::Object(fields) => {
                    let field = fields.get(name)?;
                    map.get(&field.json).map(|v| Val::of(v, Some(&field.shape)))
                }
                Form::Map(value) => map.get(name).map(|v| Val::of(v, Some(value))),
                _ => map.get(name).map(|v| Val::of(v, None)),
            },
            Self::Json(map, None) => map.get(name).map(|v| Val::of(v, None)),
            Self::Made(map, _) => map.get(&Key::Str(Text::Made(name.into()))).cloned(),
        }
    }

    /// The field of that name in JSON.
    pub(super) fn field_json(&self, name: &str) -> Option<Val<'a>> {
        match self {
            Self::Json(map, shape) => {
                let field = shape.and_then(|s| s.field(&shape::escape(name)?));
                map.get(name).map(|v| Val::of(v, field.map(|f| &*f.shape)))
            }
            Self::Made(..) => self.field(name),
        }
    }

    /// Every key.
    #[must_use]
    pub fn keys(&self) -> Vec<Key<'a>> {
        match self {
            Self::Json(map, shape) => match shape.map(|s| &s.form) {
                Some(Form::Object(fields)) => {
                    fields.iter().filter(|(_, f)| map.contains_key(&f.json)).map(|(k, _)| Key::Str(Text::Borrowed(k))).collect()
                }
                _ => map.keys().map(|k| Key::Str(Text::Borrowed(k))).collect(),
            },
            Self::Made(map, _) => map.keys().cloned().collect(),
        }
    }

    /// Every entry.
    pub fn entries(&self) -> impl Iterator<Item = (Key<'a>, Val<'a>)> + '_ {
        self.keys().into_iter().filter_map(|k| {
            let value = self.get(&k.val())?;
            Some((k, value))
        })
    }
}

impl PartialEq for Map<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.entries().all(|(k, v)| other.get(&k.val()).is_some_and(|o| o == v))
    }
}
