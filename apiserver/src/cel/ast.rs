//! An expression as it is written, macros expanded.

/// A place in the tree.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Where it is in the source: the offset in characters of what names it (an operator, a dot, a bracket).
    pub at: u32,
    /// How many nodes deep the tree below is, itself included.
    pub depth: u32,
    /// What it is.
    pub kind: Kind,
}

/// A value written down.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub enum Literal {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(String),
    Bytes(Vec<u8>),
}

/// What a node is.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// A value.
    Literal(Literal),
    /// A name.
    Ident(String),
    /// `operand.field`; `test` is `has(operand.field)`.
    Select {
        /// Of what.
        operand: Box<Node>,
        /// Which.
        field: String,
        /// Whether it is there.
        test: bool,
    },
    /// `function(args)` or `target.function(args)`; operators are functions too.
    Call {
        /// Its name, such as `_+_`.
        function: String,
        /// What it is called on.
        target: Option<Box<Node>>,
        /// What it is called with.
        args: Vec<Node>,
    },
    /// `[a, ?b]`: items, and whether each is optional.
    List(Vec<(Node, bool)>),
    /// `{k: v, ?k: v}`
    Map(Vec<Entry>),
    /// `Name{field: v, ?field: v}`
    Struct {
        /// The type's name.
        name: String,
        /// Field, where it stands, value, whether it is optional.
        fields: Vec<(String, u32, Node, bool)>,
    },
    /// What a macro over a list or map is.
    Fold(Box<Fold>),
}

/// An entry of a map literal.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The key.
    pub key: Node,
    /// The value.
    pub value: Node,
    /// Whether the value is an optional one.
    pub optional: bool,
}

/// `result` after `step` for every element of `range` while `condition` holds, the accumulator beginning with `init`.
#[derive(Debug, Clone, PartialEq)]
pub struct Fold {
    /// A list or map.
    pub range: Node,
    /// The element, or the index or key when there are two.
    pub var: String,
    /// The value.
    pub var2: Option<String>,
    /// The name of the accumulator.
    pub accu: String,
    /// Where it begins.
    pub init: Node,
    /// Whether to go on.
    pub condition: Node,
    /// What becomes of it.
    pub step: Node,
    /// What comes out.
    pub result: Node,
}

impl Node {
    /// A node, with its depth worked out.
    #[must_use]
    pub fn new(at: u32, kind: Kind) -> Self {
        let deepest = |nodes: &mut dyn Iterator<Item = &Self>| nodes.map(|n| n.depth).max().unwrap_or(0);
        let below = match &kind {
            Kind::Literal(_) | Kind::Ident(_) => 0,
            Kind::Select { operand, .. } => operand.depth,
            Kind::Call { target, args, .. } => deepest(&mut target.as_deref().into_iter().chain(args)),
            Kind::List(items) => deepest(&mut items.iter().map(|(n, _)| n)),
            Kind::Map(entries) => deepest(&mut entries.iter().flat_map(|e| [&e.key, &e.value])),
            Kind::Struct { fields, .. } => deepest(&mut fields.iter().map(|(_, _, n, _)| n)),
            Kind::Fold(f) => deepest(&mut [&f.range, &f.init, &f.condition, &f.step, &f.result].into_iter()),
        };
        Self { at, depth: below + 1, kind }
    }

    /// A name.
    #[must_use]
    pub fn ident(at: u32, name: &str) -> Self {
        Self::new(at, Kind::Ident(name.to_owned()))
    }

    /// A value.
    #[must_use]
    pub fn literal(at: u32, literal: Literal) -> Self {
        Self::new(at, Kind::Literal(literal))
    }

    /// A call of a function or operator.
    #[must_use]
    pub fn call(at: u32, function: &str, args: Vec<Self>) -> Self {
        Self::new(at, Kind::Call { function: function.to_owned(), target: None, args })
    }

    /// A call on something.
    #[must_use]
    pub fn member(at: u32, target: Self, function: &str, args: Vec<Self>) -> Self {
        Self::new(at, Kind::Call { function: function.to_owned(), target: Some(Box::new(target)), args })
    }

    /// `a.b.c`, when that is all it is.
    #[must_use]
    pub fn qualified_name(&self) -> Option<String> {
        match &self.kind {
            Kind::Ident(name) => Some(name.clone()),
            Kind::Select { operand, field, test: false } => Some(format!("{}.{field}", operand.qualified_name()?)),
            _ => None,
        }
    }
}
