//! The types of CEL, and which values may stand where.

use std::fmt;
use std::sync::Arc;

use super::shape::Shape;

/// A type.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub enum Type {
    /// Anything; found out when it is evaluated.
    Dyn,
    Null,
    Bool,
    Int,
    Uint,
    Double,
    String,
    Bytes,
    Timestamp,
    Duration,
    List(Arc<Type>),
    Map(Arc<(Type, Type)>),
    /// The type of types.
    Type(Arc<Type>),
    Optional(Arc<Type>),
    /// A type of a library, by its name.
    Opaque(&'static str),
    /// An object with known fields.
    Object(Arc<Shape>),
    /// An object of an admission mutation, whose fields are whatever they are: `Object.spec`.
    Mutation(Arc<str>),
    /// Stands for one type throughout a signature; the number tells the uses of signatures apart.
    Param(u32),
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dyn => f.write_str("dyn"),
            Self::Null => f.write_str("null"),
            Self::Bool => f.write_str("bool"),
            Self::Int => f.write_str("int"),
            Self::Uint => f.write_str("uint"),
            Self::Double => f.write_str("double"),
            Self::String => f.write_str("string"),
            Self::Bytes => f.write_str("bytes"),
            Self::Timestamp => f.write_str("timestamp"),
            Self::Duration => f.write_str("duration"),
            Self::List(item) => write!(f, "list({item})"),
            Self::Map(kv) => write!(f, "map({}, {})", kv.0, kv.1),
            Self::Type(of) => write!(f, "type({of})"),
            Self::Optional(of) => write!(f, "optional_type({of})"),
            Self::Opaque(name) => f.write_str(name),
            Self::Object(shape) => f.write_str(shape.name()),
            Self::Mutation(name) => f.write_str(name),
            Self::Param(n) => write!(f, "_var{n}"),
        }
    }
}

impl Type {
    /// A list of these.
    #[must_use]
    pub fn list(item: Self) -> Self {
        Self::List(Arc::new(item))
    }
    /// A map.
    #[must_use]
    pub fn map(key: Self, value: Self) -> Self {
        Self::Map(Arc::new((key, value)))
    }
    /// One that may not be there.
    #[must_use]
    pub fn optional(of: Self) -> Self {
        Self::Optional(Arc::new(of))
    }

    /// Whether it is `dyn`.
    #[must_use]
    pub const fn is_dyn(&self) -> bool {
        matches!(self, Self::Dyn)
    }

    /// Whether null may stand for it.
    const fn takes_null(&self) -> bool {
        matches!(
            self,
            Self::Null | Self::Duration | Self::Timestamp | Self::Object(_) | Self::Opaque(_) | Self::Optional(_) | Self::Mutation(_)
        )
    }

    /// With the parameters of a signature told apart from those of other uses.
    #[must_use]
    pub fn shifted(&self, by: u32) -> Self {
        match self {
            Self::Param(n) => Self::Param(n + by),
            Self::List(item) => Self::list(item.shifted(by)),
            Self::Map(kv) => Self::map(kv.0.shifted(by), kv.1.shifted(by)),
            Self::Type(of) => Self::Type(Arc::new(of.shifted(by))),
            Self::Optional(of) => Self::optional(of.shifted(by)),
            other => other.clone(),
        }
    }

    /// The type of a library's signature: `list<A>`, `map<string, B>`, `optional<A>`, `type<A>`, `string`, `net.IP`.
    ///
    /// # Panics
    /// On a signature that is none, which is ours to get right: a test reads them all.
    #[must_use]
    pub fn parse(text: &'static str) -> Self {
        let text = text.trim();
        if let Some((outer, inner)) = text.strip_suffix('>').and_then(|t| t.split_once('<')) {
            let of = || Arc::new(Self::parse(inner));
            return match outer {
                "list" => Self::List(of()),
                "optional" => Self::Optional(of()),
                "type" => Self::Type(of()),
                "map" => {
                    let (key, value) = inner.split_once(',').expect("a map's signature has two types");
                    Self::map(Self::parse(key), Self::parse(value))
                }
                other => panic!("no such signature: {other}"),
            };
        }
        match text {
            "dyn" => Self::Dyn,
            "null" => Self::Null,
            "bool" => Self::Bool,
            "int" => Self::Int,
            "uint" => Self::Uint,
            "double" => Self::Double,
            "string" => Self::String,
            "bytes" => Self::Bytes,
            "timestamp" => Self::Timestamp,
            "duration" => Self::Duration,
            "A" => Self::Param(0),
            "B" => Self::Param(1),
            name => Self::Opaque(name),
        }
    }
}

/// How many types may be inferred within one expression: beyond it everything is `dyn`, which is found out when it is evaluated.
const MAX_PARAMS: usize = 20_000;

/// What the parameters of an expression's signatures stand for, as far as is known.
#[derive(Debug, Clone, Default)]
pub struct Inferred {
    known: Vec<Option<Type>>,
    /// What was known before each change of an assignment that may yet fail.
    undo: Vec<(u32, Option<Type>)>,
}

impl Inferred {
    /// New parameters, as many as a signature may have. The first of them.
    pub fn fresh(&mut self) -> u32 {
        let first = self.known.len();
        if first < MAX_PARAMS {
            self.known.extend([None, None]);
        }
        u32::try_from(first).unwrap_or(u32::MAX)
    }

    fn get(&self, n: u32) -> Option<&Type> {
        self.known.get(n as usize).and_then(Option::as_ref)
    }

    /// A type with what is known put in; unknown parameters stay.
    #[must_use]
    pub fn resolve(&self, ty: &Type) -> Type {
        match ty {
            Type::Param(n) => self.get(*n).map_or_else(|| ty.clone(), |t| self.resolve(t)),
            Type::List(item) => Type::list(self.resolve(item)),
            Type::Map(kv) => Type::map(self.resolve(&kv.0), self.resolve(&kv.1)),
            Type::Type(of) => Type::Type(Arc::new(self.resolve(of))),
            Type::Optional(of) => Type::optional(self.resolve(of)),
            other => other.clone(),
        }
    }

    /// A type with what is known put in, and `dyn` for what is not.
    #[must_use]
    pub fn settle(&self, ty: &Type) -> Type {
        match self.resolve(ty) {
            Type::Param(_) => Type::Dyn,
            Type::List(item) => Type::list(self.settle(&item)),
            Type::Map(kv) => Type::map(self.settle(&kv.0), self.settle(&kv.1)),
            Type::Type(of) => Type::Type(Arc::new(self.settle(&of))),
            Type::Optional(of) => Type::optional(self.settle(&of)),
            other => other,
        }
    }

    /// Whether every value of `from` may stand where `to` is wanted; learns what parameters are on the way. Nothing is learnt from a no.
    pub fn assign(&mut self, to: &Type, from: &Type) -> bool {
        self.undo.clear();
        let fits = self.unify(to, from);
        if !fits {
            self.forget(0);
        }
        fits
    }

    /// The same for many, of which all have to fit or nothing is learnt.
    pub fn assign_all<'t>(&mut self, pairs: impl IntoIterator<Item = (&'t Type, &'t Type)>) -> bool {
        self.undo.clear();
        for (to, from) in pairs {
            if !self.unify(to, from) {
                self.forget(0);
                return false;
            }
        }
        true
    }

    fn forget(&mut self, mark: usize) {
        for (n, before) in self.undo.drain(mark..).rev() {
            if let Some(slot) = self.known.get_mut(n as usize) {
                *slot = before;
            }
        }
    }

    fn unify(&mut self, to: &Type, from: &Type) -> bool {
        match (to, from) {
            (Type::Param(a), Type::Param(b)) if a == b => true,
            (Type::Param(n), other) | (other, Type::Param(n)) => match self.get(*n).cloned() {
                Some(known) => {
                    let (known_to, known_from) = if matches!(to, Type::Param(_)) { (&known, from) } else { (to, &known) };
                    if !self.unify(known_to, known_from) {
                        return false;
                    }
                    // The more general of the two is what it is.
                    if self.resolve(other).is_dyn() {
                        self.set(*n, Type::Dyn);
                    }
                    true
                }
                None => {
                    if self.occurs(*n, other) {
                        return false;
                    }
                    self.set(*n, other.clone());
                    true
                }
            },
            (Type::Dyn, _) | (_, Type::Dyn) => true,
            (Type::Null, t) | (t, Type::Null) => t.takes_null(),
            (Type::List(a), Type::List(b)) | (Type::Optional(a), Type::Optional(b)) => self.unify(a, b),
            // Types of whatever are types.
            (Type::Type(_), Type::Type(_)) => true,
            (Type::Map(a), Type::Map(b)) => self.unify(&a.0, &b.0) && self.unify(&a.1, &b.1),
            (Type::Opaque(a), Type::Opaque(b)) => a == b,
            (Type::Object(a), Type::Object(b)) => a.name() == b.name(),
            (Type::Mutation(a), Type::Mutation(b)) => a == b,
            (a, b) => std::mem::discriminant(a) == std::mem::discriminant(b),
        }
    }

    fn set(&mut self, n: u32, ty: Type) {
        if let Some(slot) = self.known.get_mut(n as usize) {
            self.undo.push((n, slot.replace(ty)));
        }
    }

    fn occurs(&self, n: u32, ty: &Type) -> bool {
        match ty {
            Type::Param(m) => *m == n || self.get(*m).is_some_and(|t| self.occurs(n, t)),
            Type::List(t) | Type::Type(t) | Type::Optional(t) => self.occurs(n, t),
            Type::Map(kv) => self.occurs(n, &kv.0) || self.occurs(n, &kv.1),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_stand_for_one_type() {
        let mut inferred = Inferred::default();
        let a = Type::Param(inferred.fresh());
        assert!(inferred.assign(&Type::list(a.clone()), &Type::list(Type::Int)));
        assert!(!inferred.assign(&a, &Type::String));
        assert!(inferred.assign(&a, &Type::Dyn));
        assert_eq!(inferred.settle(&a).to_string(), "dyn");
        assert!(inferred.assign(&Type::Timestamp, &Type::Null) && !inferred.assign(&Type::String, &Type::Null));
    }
}
