//! An expression that was checked: names resolved, functions found, types known. It is what costs are estimated over and what is evaluated.

use std::sync::Arc;

use regex::Regex;

use super::ast::Literal;
use super::library::Function;
use super::shape::Shape;
use super::types::Type;

/// A place in a checked expression.
#[derive(Debug)]
pub struct Expr {
    /// Its type.
    pub ty: Type,
    /// What else is known of its value; of an optional, of the value inside.
    pub shape: Option<Arc<Shape>>,
    /// What it is.
    pub kind: Kind,
}

/// What a checked place is.
#[derive(Debug)]
pub enum Kind {
    /// A value.
    Literal(Literal),
    /// A type, by its name.
    TypeName(String),
    /// A variable of the environment.
    Global(usize),
    /// A variable of a fold, by its place among those in scope.
    Local(usize),
    /// A field, or whether it is there.
    Select {
        /// Of what.
        operand: Box<Expr>,
        /// Which.
        field: String,
        /// Whether it is there.
        test: bool,
    },
    /// A call. What is not known until it is evaluated may leave several functions of one name.
    Call {
        /// Candidates, in order.
        functions: Vec<&'static Function>,
        /// The target, if any, first.
        args: Vec<Expr>,
        /// The pattern, when it is written down.
        regex: Option<Regex>,
    },
    /// `a && b`
    And(Box<[Expr; 2]>),
    /// `a || b`
    Or(Box<[Expr; 2]>),
    /// Whether it is anything but false: an error is.
    NotFalse(Box<Expr>),
    /// `a ? b : c`
    Conditional(Box<[Expr; 3]>),
    /// Items, and whether each is optional.
    List(Vec<(Expr, bool)>),
    /// Keys, values, and whether each value is optional.
    Map(Vec<(Expr, Expr, bool)>),
    /// An object of a named type.
    Struct(String, Vec<(String, Expr, bool)>),
    /// A fold.
    Fold(Box<Fold>),
}

/// A fold. Its accumulator is the first of the variables it brings into scope, then the element.
#[derive(Debug)]
pub struct Fold {
    /// A list or map.
    pub range: Expr,
    /// Whether there are two variables.
    pub two: bool,
    /// Where the accumulator begins.
    pub init: Expr,
    /// Whether to go on.
    pub condition: Expr,
    /// What becomes of the accumulator, if `filter` holds.
    pub step: Step,
    /// What must hold for a step that collects.
    pub filter: Option<Expr>,
    /// What comes out.
    pub result: Expr,
}

/// What becomes of an accumulator.
#[derive(Debug)]
pub enum Step {
    /// The value of this.
    To(Expr),
    /// This goes to the end of the list.
    Append(Expr),
    /// These go into the map: a key and a value, or a map.
    Insert(Vec<Expr>),
}
