//! One `check`: an expression, variables, and what comes out.

mod bounds;
mod language;
mod libraries;

use serde_json::{Value, json};

use super::Env;
use super::library::{Fail, Out};
use super::program::{PER_CALL, Program};
use super::types::Type;
use super::value::Val;

fn shown(out: Out<'_>) -> String {
    match out {
        Ok(Val::Type(name)) => name.to_string(),
        Ok(Val::Optional(None)) => "none".to_owned(),
        Ok(Val::Opaque(opaque)) => opaque.text().unwrap_or_default(),
        Ok(val) => val.to_json().map_or_else(|| val.type_name().to_owned(), |j| j.to_string()),
        Err(Fail::Error(why)) => format!("error: {why}"),
        Err(Fail::Budget) => "budget".to_owned(),
    }
}

/// What an expression comes to, or why it does not compile. Its variable is `x`, of whatever type.
fn run(source: &str, x: &Value) -> String {
    let program = match Program::compile(&Env::default().with("x", Type::Dyn), source) {
        Ok(program) => program,
        Err(why) => return why,
    };
    let vars = [Val::of(x, None)];
    shown(program.run(&vars, PER_CALL).0)
}

/// Pairs of expressions and what they come to.
fn check(cases: &[(&str, &str)]) {
    check_with(&json!({"a": 1, "s": "héllo", "l": [1, 2, 3], "n": null, "m": {"k": "v"}, "d": 1.5}), cases);
}

fn check_with(x: &Value, cases: &[(&str, &str)]) {
    let wrong: Vec<String> = cases
        .iter()
        .map(|(source, wanted)| (source, wanted, run(source, x)))
        .filter(|(_, wanted, found)| *wanted != found)
        .map(|(source, wanted, found)| format!("{source}\n   wanted {wanted}\n   found  {found}"))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
