//! An expression, compiled once and evaluated many times.

use super::env::Env;
use super::eval::{self, Vars};
use super::ir::Expr;
use super::library::Out;
use super::types::Type;
use super::{check, cost, parser, source};

/// What one evaluation may cost: some tenth of a second.
pub const PER_CALL: u64 = 1_000_000;

/// A compiled expression. It may be shared and evaluated from many threads.
#[derive(Debug)]
pub struct Program {
    expr: Expr,
    used: Vec<bool>,
    /// What evaluating it may cost at most.
    pub worst: u64,
}

impl Program {
    /// Compiles an expression.
    ///
    /// # Errors
    /// What is wrong with it, as CEL's tools show it.
    pub fn compile(env: &Env, text: &str) -> Result<Self, String> {
        let node = parser::parse(text).map_err(|issues| source::render(text, &issues))?;
        let mut used = vec![false; env.vars.len()];
        let expr = check::check(env, &node, &mut used).map_err(|issues| source::render(text, &issues))?;
        let worst = cost::estimate(&expr).max;
        Ok(Self { expr, used, worst })
    }

    /// The type of what comes out.
    #[must_use]
    pub const fn result(&self) -> &Type {
        &self.expr.ty
    }

    /// Whether the expression names the variable at that place of its environment.
    #[must_use]
    pub fn uses(&self, index: usize) -> bool {
        self.used.get(index).copied().unwrap_or(false)
    }

    /// Evaluates it. What it cost comes along, also when it fails; it never costs much more than `limit`, nor than [`PER_CALL`].
    pub fn run<'a>(&'a self, vars: &dyn Vars<'a>, limit: u64) -> (Out<'a>, u64) {
        eval::run(&self.expr, vars, limit.min(PER_CALL))
    }
}
