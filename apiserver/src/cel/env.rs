//! What an expression may name.

use std::sync::Arc;

use super::shape::Shape;
use super::types::Type;

/// A variable.
#[derive(Debug, Clone)]
pub struct Var {
    /// Its name, which may have dots.
    pub name: String,
    /// Its type.
    pub ty: Type,
    /// What else is known of it.
    pub shape: Option<Arc<Shape>>,
}

/// The variables of an expression, in the order in which they are given when it is evaluated.
#[derive(Debug, Clone, Default)]
pub struct Env {
    /// The variables.
    pub vars: Vec<Var>,
    /// Whether objects of mutations (`Object{..}`, `JSONPatch{..}`) can be made.
    pub mutations: bool,
}

impl Env {
    /// With a variable of whatever type.
    #[must_use]
    pub fn with(mut self, name: &str, ty: Type) -> Self {
        self.vars.push(Var { name: name.to_owned(), ty, shape: None });
        self
    }

    /// With a variable whose shape is known.
    #[must_use]
    pub fn shaped(mut self, name: &str, shape: &Arc<Shape>) -> Self {
        self.vars.push(Var { name: name.to_owned(), ty: shape.ty(), shape: Some(shape.clone()) });
        self
    }

    /// With a variable that may be of that shape, or not be there.
    #[must_use]
    pub fn optional(mut self, name: &str, shape: &Arc<Shape>) -> Self {
        self.vars.push(Var { name: name.to_owned(), ty: Type::optional(shape.ty()), shape: Some(shape.clone()) });
        self
    }

    /// The place of a variable.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<usize> {
        self.vars.iter().position(|v| v.name == name)
    }
}
