//! What macros stand for: presence tests, and folds over lists and maps.

use super::ast::{Fold, Kind, Literal, Node};
use super::source::Issue;

/// The accumulator's name, which no expression can say.
const ACCU: &str = "@result";

type Expanded = Result<Node, Issue>;

/// A call without a target.
///
/// # Errors
/// A macro with arguments it cannot have.
pub fn global(at: u32, name: &str, mut args: Vec<Node>) -> Expanded {
    if name != "has" || args.len() != 1 {
        return Ok(Node::call(at, name, args));
    }
    let arg = args.remove(0);
    match arg.kind {
        Kind::Select { operand, field, test: false } => Ok(Node::new(at, Kind::Select { operand, field, test: true })),
        _ => Err(Issue { at: arg.at, message: "invalid argument to has() macro".to_owned() }),
    }
}

/// A call on something.
///
/// # Errors
/// A macro with arguments it cannot have.
pub fn member(at: u32, target: Node, name: &str, args: Vec<Node>) -> Expanded {
    match (name, args.len()) {
        ("all" | "exists" | "exists_one" | "existsOne", 2 | 3) => quantifier(at, target, name, args),
        ("map", 2 | 3) => each(at, target, args, 1),
        ("filter", 2) => filter(at, target, args),
        ("transformList", 3 | 4) => each(at, target, args, 2),
        ("transformMap" | "transformMapEntry", 3 | 4) => transform_map(at, target, name, args),
        ("optMap" | "optFlatMap", 2) => optional(at, target, name, args),
        _ => Ok(Node::member(at, target, name, args)),
    }
}

/// The variables before the other arguments.
fn variables(args: &mut Vec<Node>, count: usize) -> Result<(String, Option<String>), Issue> {
    let mut names = vec![];
    for node in args.drain(..count) {
        match node.kind {
            Kind::Ident(name) => names.push((node.at, name)),
            _ => return Err(Issue { at: node.at, message: "argument must be a simple name".to_owned() }),
        }
    }
    let (_, first) = names.remove(0);
    match names.pop() {
        Some((at, second)) if second == first => Err(Issue { at, message: format!("duplicate variable name: {second}") }),
        second => Ok((first, second.map(|(_, name)| name))),
    }
}

fn accu(at: u32) -> Node {
    Node::ident(at, ACCU)
}

fn truth(at: u32, value: bool) -> Node {
    Node::literal(at, Literal::Bool(value))
}

fn fold(at: u32, range: Node, vars: (String, Option<String>), init: Node, condition: Node, step: Node, result: Node) -> Node {
    let (var, var2) = vars;
    Node::new(at, Kind::Fold(Box::new(Fold { range, var, var2, accu: ACCU.to_owned(), init, condition, step, result })))
}

fn quantifier(at: u32, range: Node, name: &str, mut args: Vec<Node>) -> Expanded {
    let count = args.len() - 1;
    let vars = variables(&mut args, count)?;
    let predicate = args.remove(0);
    let not_false = |node: Node| Node::call(at, "@not_strictly_false", vec![node]);
    let (init, condition, step, result) = match name {
        "all" => (truth(at, true), not_false(accu(at)), Node::call(at, "_&&_", vec![accu(at), predicate]), accu(at)),
        "exists" => {
            let condition = not_false(Node::call(at, "!_", vec![accu(at)]));
            (truth(at, false), condition, Node::call(at, "_||_", vec![accu(at), predicate]), accu(at))
        }
        _ => {
            let number = |n| Node::literal(at, Literal::Int(n));
            let more = Node::call(at, "_+_", vec![accu(at), number(1)]);
            let step = Node::call(at, "_?_:_", vec![predicate, more, accu(at)]);
            (number(0), truth(at, true), step, Node::call(at, "_==_", vec![accu(at), number(1)]))
        }
    };
    Ok(fold(at, range, vars, init, condition, step, result))
}

/// `map` and `transformList`.
fn each(at: u32, range: Node, mut args: Vec<Node>, count: usize) -> Expanded {
    let vars = variables(&mut args, count)?;
    let transform = args.pop().unwrap_or_else(|| accu(at));
    let item = Node::new(at, Kind::List(vec![(transform, false)]));
    Ok(collect(at, range, vars, Node::new(at, Kind::List(vec![])), Node::call(at, "_+_", vec![accu(at), item]), args.pop()))
}

fn filter(at: u32, range: Node, mut args: Vec<Node>) -> Expanded {
    let place = args[0].at;
    let vars = variables(&mut args, 1)?;
    let item = Node::new(at, Kind::List(vec![(Node::ident(place, &vars.0), false)]));
    Ok(collect(at, range, vars, Node::new(at, Kind::List(vec![])), Node::call(at, "_+_", vec![accu(at), item]), args.pop()))
}

fn transform_map(at: u32, range: Node, name: &str, mut args: Vec<Node>) -> Expanded {
    let vars = variables(&mut args, 2)?;
    let transform = args.pop().unwrap_or_else(|| accu(at));
    let mut insert = vec![accu(at)];
    if name == "transformMap" {
        insert.push(Node::ident(at, &vars.0));
    }
    insert.push(transform);
    Ok(collect(at, range, vars, Node::new(at, Kind::Map(vec![])), Node::call(at, "cel.@mapInsert", insert), args.pop()))
}

fn collect(at: u32, range: Node, vars: (String, Option<String>), init: Node, step: Node, condition: Option<Node>) -> Node {
    let step = match condition {
        Some(condition) => Node::call(at, "_?_:_", vec![condition, step, accu(at)]),
        None => step,
    };
    fold(at, range, vars, init, truth(at, true), step, accu(at))
}

/// `optMap` and `optFlatMap`: the transform of the value, where there is one.
fn optional(at: u32, target: Node, name: &str, mut args: Vec<Node>) -> Expanded {
    let vars = variables(&mut args, 1)?;
    let body = args.remove(0);
    let held = || Node::ident(at, HELD);
    let bound = bind(at, vars.0, Node::member(at, held(), "value", vec![]), body);
    let some = if name == "optMap" { Node::call(at, "optional.of", vec![bound]) } else { bound };
    let none = Node::call(at, "optional.none", vec![]);
    let either = Node::call(at, "_?_:_", vec![Node::member(at, held(), "hasValue", vec![]), some, none]);
    // Held, not written twice: a chain of these would double with each.
    Ok(bind(at, HELD.to_owned(), target, either))
}

/// The variable that holds an optional whose value is transformed. No source can name it.
const HELD: &str = "#held";

/// `result` with a variable: a fold over nothing, whose accumulator begins with the value.
fn bind(at: u32, name: String, value: Node, result: Node) -> Node {
    Node::new(
        at,
        Kind::Fold(Box::new(Fold {
            range: Node::new(at, Kind::List(vec![])),
            var: "#unused".to_owned(),
            var2: None,
            init: value,
            condition: truth(at, false),
            step: Node::ident(at, &name),
            result,
            accu: name,
        })),
    )
}
