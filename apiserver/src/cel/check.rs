//! Types: resolves every name and call of an expression, or says what is wrong with it in cel-go's words.

use std::sync::Arc;

use super::ast::{Fold, Kind as Ast, Literal, Node};
use super::env::Env;
use super::ir::{self, Expr, Kind, Step};
use super::library::{self, Function, regexes, time};
use super::shape::Shape;
use super::source::Issue;
use super::types::{Inferred, Type};

/// Complaints at most: the first few tell.
const MAX_ISSUES: usize = 20;

/// Checks an expression; marks the variables that it names.
///
/// # Errors
/// What is wrong with it, never empty.
pub fn check(env: &Env, node: &Node, used: &mut [bool]) -> Result<Expr, Vec<Issue>> {
    let mut checker = Checker { env, used, scope: vec![], inferred: Inferred::default(), issues: vec![], mixed: 0 };
    let mut expr = checker.expr(node);
    if !checker.issues.is_empty() {
        return Err(checker.issues);
    }
    settle(&checker.inferred, &mut expr);
    Ok(expr)
}

struct Local {
    name: String,
    ty: Type,
    shape: Option<Arc<Shape>>,
}

struct Checker<'e> {
    env: &'e Env,
    used: &'e mut [bool],
    scope: Vec<Local>,
    inferred: Inferred,
    issues: Vec<Issue>,
    /// Within how many calls whose lists may hold values of many types.
    mixed: u32,
}

/// The types that have names, as values.
const TYPES: [(&str, Type); 13] = [
    ("bool", Type::Bool),
    ("int", Type::Int),
    ("uint", Type::Uint),
    ("double", Type::Double),
    ("string", Type::String),
    ("bytes", Type::Bytes),
    ("list", Type::Dyn),
    ("map", Type::Dyn),
    ("null_type", Type::Null),
    ("type", Type::Dyn),
    ("optional_type", Type::Dyn),
    ("google.protobuf.Timestamp", Type::Timestamp),
    ("google.protobuf.Duration", Type::Duration),
];

fn made(ty: Type, shape: Option<Arc<Shape>>, kind: Kind) -> Expr {
    Expr { ty, shape, kind }
}

impl Checker<'_> {
    fn wrong(&mut self, at: u32, message: String) {
        if self.issues.len() < MAX_ISSUES {
            self.issues.push(Issue { at, message });
        }
    }

    /// What stands for a place that is wrong, so that checking goes on.
    fn unknown() -> Expr {
        made(Type::Dyn, None, Kind::Literal(Literal::Null))
    }

    fn shown(&self, ty: &Type) -> String {
        self.inferred.settle(ty).to_string()
    }

    fn expr(&mut self, node: &Node) -> Expr {
        match &node.kind {
            Ast::Literal(literal) => made(type_of(literal), None, Kind::Literal(literal.clone())),
            Ast::Ident(name) => self.name(name).unwrap_or_else(|| self.undeclared(node.at, name)),
            Ast::Select { operand, field, test } => self.select(node, operand, field, *test),
            Ast::Call { function, target, args } => self.call(node, function, target.as_deref(), args),
            Ast::List(items) => self.list(items),
            Ast::Map(entries) => self.map(entries),
            Ast::Struct { name, fields } => self.message(node.at, name, fields),
            Ast::Fold(fold) => self.fold(node.at, fold),
        }
    }

    fn undeclared(&mut self, at: u32, name: &str) -> Expr {
        self.wrong(at, format!("undeclared reference to '{name}' (in container '')"));
        Self::unknown()
    }

    fn name(&mut self, name: &str) -> Option<Expr> {
        if let Some(i) = self.scope.iter().rposition(|l| l.name == name) {
            let local = &self.scope[i];
            return Some(made(local.ty.clone(), local.shape.clone(), Kind::Local(i)));
        }
        if let Some(i) = self.env.find(name) {
            let var = &self.env.vars[i];
            self.used[i] = true;
            return Some(made(var.ty.clone(), var.shape.clone(), Kind::Global(i)));
        }
        let (name, ty) = TYPES.iter().find(|(n, _)| *n == name)?;
        Some(made(Type::Type(Arc::new(ty.clone())), None, Kind::TypeName((*name).to_owned())))
    }

    /// A name with dots that is a variable or type of its own, unless what it begins with is a variable of a fold.
    fn dotted(&mut self, node: &Node) -> Option<Expr> {
        let name = node.qualified_name()?;
        let first = name.split('.').next()?;
        if self.scope.iter().any(|l| l.name == first) { None } else { self.name(&name) }
    }

    fn select(&mut self, node: &Node, operand: &Node, field: &str, test: bool) -> Expr {
        if test {
            let plain = Node {
                at: node.at,
                depth: node.depth,
                kind: Ast::Select { operand: Box::new(operand.clone()), field: field.to_owned(), test: false },
            };
            if self.dotted(&plain).is_some() {
                return made(Type::Bool, None, Kind::Literal(Literal::Bool(true)));
            }
        } else if let Some(found) = self.dotted(node) {
            return found;
        }
        let operand = self.expr(operand);
        let Some((ty, shape)) = self.field(node.at, &operand.ty, operand.shape.as_ref(), field) else { return Self::unknown() };
        let kind = Kind::Select { operand: Box::new(operand), field: field.to_owned(), test };
        if test { made(Type::Bool, None, kind) } else { made(ty, shape, kind) }
    }

    /// The type of a field; nothing when it has been said what is wrong.
    fn field(&mut self, at: u32, ty: &Type, shape: Option<&Arc<Shape>>, field: &str) -> Option<(Type, Option<Arc<Shape>>)> {
        match self.inferred.resolve(ty) {
            Type::Dyn | Type::Param(_) | Type::Mutation(_) => Some((Type::Dyn, None)),
            Type::Map(kv) => Some((kv.1.clone(), shape.and_then(|s| s.item()).cloned())),
            Type::Optional(inner) => {
                let (ty, shape) = self.field(at, &inner, shape, field)?;
                // An optional of an optional is one.
                Some((if matches!(ty, Type::Optional(_)) { ty } else { Type::optional(ty) }, shape))
            }
            Type::Object(shape) => match shape.field(field) {
                Some(found) => Some((found.shape.ty(), Some(found.shape.clone()))),
                None => {
                    self.wrong(at, format!("undefined field '{field}'"));
                    None
                }
            },
            other => {
                let shown = self.shown(&other);
                self.wrong(at, format!("type '{shown}' does not support field selection"));
                None
            }
        }
    }

    fn call(&mut self, node: &Node, function: &str, target: Option<&Node>, args: &[Node]) -> Expr {
        // `math.greatest(..)` is no call on something.
        if let Some(target) = target {
            let whole = target.qualified_name().map(|n| format!("{n}.{function}"));
            if let Some(whole) = whole.filter(|w| !library::find(w).is_empty()) {
                let args = args.iter().map(|a| self.expr(a)).collect();
                return self.resolve(node.at, &whole, false, args, &[]);
            }
        }
        let places: Vec<u32> = target.iter().map(|t| t.at).chain(args.iter().map(|a| a.at)).collect();
        // What is formatted may be of many types.
        let mixed = u32::from(function == "format");
        self.mixed += mixed;
        let checked: Vec<Expr> = target.into_iter().chain(args).map(|a| self.expr(a)).collect();
        self.mixed -= mixed;
        if library::find(function).is_empty() {
            return self.undeclared(node.at, function);
        }
        if function == "_?._" {
            return self.optional_select(node.at, checked);
        }
        self.resolve(node.at, function, target.is_some(), checked, &places)
    }

    fn optional_select(&mut self, at: u32, args: Vec<Expr>) -> Expr {
        let Kind::Literal(Literal::String(name)) = &args[1].kind else { return Self::unknown() };
        let name = name.clone();
        let Some((ty, shape)) = self.field(at, &args[0].ty, args[0].shape.as_ref(), &name) else { return Self::unknown() };
        let ty = if matches!(ty, Type::Optional(_)) { ty } else { Type::optional(ty) };
        made(ty, shape, Kind::Call { functions: library::find("_?._").iter().collect(), args, regex: None })
    }

    /// Finds the signatures that fit.
    fn resolve(&mut self, at: u32, name: &str, member: bool, args: Vec<Expr>, places: &[u32]) -> Expr {
        let mut result: Option<Type> = None;
        let mut functions: Vec<&'static Function> = vec![];
        for function in library::find(name) {
            let mut fits = false;
            for overload in function.overloads.iter().filter(|o| o.member == member && o.params.len() == args.len()) {
                let first = self.inferred.fresh();
                let params: Vec<Type> = overload.params.iter().map(|p| p.shifted(first)).collect();
                if !self.inferred.assign_all(params.iter().zip(args.iter().map(|a| &a.ty))) {
                    continue;
                }
                fits = true;
                let ty = self.inferred.resolve(&overload.result.shifted(first));
                result = Some(match result {
                    None => ty,
                    Some(before) if before.to_string() == ty.to_string() => before,
                    Some(_) => Type::Dyn,
                });
            }
            if fits {
                functions.push(function);
            }
        }
        let Some(ty) = result else {
            let mut shown: Vec<String> = args.iter().map(|a| self.shown(&a.ty)).collect();
            let target = if member { format!("{}.", shown.remove(0)) } else { String::new() };
            self.wrong(at, format!("found no matching overload for '{name}' applied to '{target}({})'", shown.join(", ")));
            return Self::unknown();
        };
        let regex = self.literals(name, &args, places);
        lower(name, ty, functions, args, regex)
    }

    /// Durations, times and patterns that are written down are looked at now.
    fn literals(&mut self, name: &str, args: &[Expr], places: &[u32]) -> Option<regex::Regex> {
        let place = |i: usize| places.get(i).copied().unwrap_or(0);
        let text = |i: usize| match args.get(i).map(|a| &a.kind) {
            Some(Kind::Literal(Literal::String(text))) => Some(text.as_str()),
            _ => None,
        };
        match name {
            "duration" if text(0).is_some_and(|t| time::parse_duration(t).is_none()) => {
                self.wrong(place(0), "invalid duration argument".to_owned());
            }
            "timestamp" if text(0).is_some_and(|t| time::parse_timestamp(t).is_none()) => {
                self.wrong(place(0), "invalid timestamp argument".to_owned());
            }
            _ if regexes::takes_pattern(name) => match text(1).map(regexes::compile) {
                Some(Ok(regex)) => return Some(regex),
                Some(Err(_)) => self.wrong(place(1), format!("invalid {name} argument")),
                None => {}
            },
            _ => {}
        }
        None
    }

    /// The type of all of these; says so when they have none in common.
    fn join(&mut self, joined: Option<Type>, at: u32, ty: &Type) -> Type {
        let Some(joined) = joined else { return ty.clone() };
        if self.inferred.assign(&joined, ty) {
            // The more general of the two.
            return if self.inferred.resolve(ty).is_dyn() { Type::Dyn } else { joined };
        }
        if self.mixed > 0 {
            return Type::Dyn;
        }
        let (expected, found) = (self.shown(&joined), self.shown(ty));
        self.wrong(at, format!("expected type '{expected}' but found '{found}'"));
        Type::Dyn
    }

    /// The type of an item marked `?`: what is inside.
    fn unwrapped(&mut self, at: u32, expr: &Expr, optional: bool) -> Type {
        if !optional {
            return expr.ty.clone();
        }
        match self.inferred.resolve(&expr.ty) {
            Type::Optional(inner) => (*inner).clone(),
            Type::Dyn | Type::Param(_) => Type::Dyn,
            other => {
                let shown = self.shown(&other);
                self.wrong(at, format!("expected type 'optional_type({shown})' but found '{shown}'"));
                Type::Dyn
            }
        }
    }

    fn list(&mut self, items: &[(Node, bool)]) -> Expr {
        let mut joined = None;
        let mut out = vec![];
        for (node, optional) in items {
            let expr = self.expr(node);
            let ty = self.unwrapped(node.at, &expr, *optional);
            joined = Some(self.join(joined, node.at, &ty));
            out.push((expr, *optional));
        }
        let item = joined.unwrap_or_else(|| Type::Param(self.inferred.fresh()));
        made(Type::list(item), None, Kind::List(out))
    }

    fn map(&mut self, entries: &[super::ast::Entry]) -> Expr {
        let (mut keys, mut values) = (None, None);
        let mut out = vec![];
        for entry in entries {
            let (key, value) = (self.expr(&entry.key), self.expr(&entry.value));
            // Types of keys are simple ones: what else there may be is found out when it is evaluated.
            let key_type = match self.inferred.resolve(&key.ty) {
                simple @ (Type::Bool | Type::Int | Type::Uint | Type::String) => simple,
                _ => Type::Dyn,
            };
            let value_type = self.unwrapped(entry.value.at, &value, entry.optional);
            keys = Some(self.join(keys, entry.key.at, &key_type));
            values = Some(self.join(values, entry.value.at, &value_type));
            out.push((key, value, entry.optional));
        }
        let first = self.inferred.fresh();
        let ty = Type::map(keys.unwrap_or(Type::Param(first)), values.unwrap_or(Type::Param(first.saturating_add(1))));
        made(ty, None, Kind::Map(out))
    }

    fn message(&mut self, at: u32, name: &str, fields: &[(String, u32, Node, bool)]) -> Expr {
        let object = name == "Object" || name.starts_with("Object.");
        if !self.env.mutations || !(object || name == "JSONPatch") {
            return self.undeclared(at, name);
        }
        let mut out: Vec<(String, Expr, bool)> = vec![];
        for (field, place, node, optional) in fields {
            let value = self.expr(node);
            let ty = self.unwrapped(node.at, &value, *optional);
            let wanted = match (object, field.as_str()) {
                (true, _) => match self.inferred.resolve(&ty) {
                    Type::Mutation(_) => Type::Mutation(format!("{name}.{field}").into()),
                    other => other,
                },
                (false, "op" | "path" | "from") => Type::String,
                (false, "value") => Type::Dyn,
                (false, _) => {
                    self.wrong(*place, format!("undefined field '{field}'"));
                    continue;
                }
            };
            if !self.inferred.assign(&wanted, &ty) {
                let found = self.shown(&ty);
                self.wrong(*place, format!("expected type of field '{field}' is '{wanted}' but provided type is '{found}'"));
            }
            if out.iter().any(|(f, ..)| f == field) {
                self.wrong(*place, format!("duplicate field '{field}'"));
            }
            out.push((field.clone(), value, *optional));
        }
        made(Type::Mutation(name.into()), None, Kind::Struct(name.to_owned(), out))
    }

    fn fold(&mut self, at: u32, fold: &Fold) -> Expr {
        let range = self.expr(&fold.range);
        let init = self.expr(&fold.init);
        let item = range.shape.as_ref().and_then(|s| s.item()).cloned();
        let (first, second) = match self.inferred.resolve(&range.ty) {
            Type::List(of) if fold.var2.is_some() => ((Type::Int, None), Some(((*of).clone(), item))),
            Type::List(of) => (((*of).clone(), item), None),
            Type::Map(kv) => ((kv.0.clone(), None), Some((kv.1.clone(), item))),
            Type::Dyn | Type::Param(_) => ((Type::Dyn, None), Some((Type::Dyn, None))),
            other => {
                let shown = self.shown(&other);
                self.wrong(at, format!("expression of type '{shown}' cannot be range of a comprehension (must be list, map, or dynamic)"));
                ((Type::Dyn, None), Some((Type::Dyn, None)))
            }
        };
        let depth = self.scope.len();
        self.scope.push(Local { name: fold.accu.clone(), ty: init.ty.clone(), shape: init.shape.clone() });
        self.scope.push(Local { name: fold.var.clone(), ty: first.0, shape: first.1 });
        if let Some(var2) = &fold.var2 {
            let (ty, shape) = second.unwrap_or((Type::Dyn, None));
            self.scope.push(Local { name: var2.clone(), ty, shape });
        }
        let condition = self.expr(&fold.condition);
        let (filter, step) = self.step(fold, &init.ty);
        self.scope.truncate(depth + 1);
        let result = self.expr(&fold.result);
        self.scope.truncate(depth);
        let shape = match &step {
            Step::Append(item) => item.shape.as_ref().map(Shape::list),
            _ => result.shape.clone(),
        };
        let two = fold.var2.is_some();
        made(result.ty.clone(), shape, Kind::Fold(Box::new(ir::Fold { range, two, init, condition, step, filter, result })))
    }

    /// What a step does; what collects is seen for what it is.
    fn step(&mut self, fold: &Fold, accu: &Type) -> (Option<Expr>, Step) {
        let is_accu = |node: &Node| matches!(&node.kind, Ast::Ident(name) if *name == fold.accu);
        let (condition, inner) = match &fold.step.kind {
            Ast::Call { function, args, .. } if function == "_?_:_" && is_accu(&args[2]) && !matches!(fold.init.kind, Ast::Literal(_)) => {
                (Some(&args[0]), &args[1])
            }
            _ => (None, &fold.step),
        };
        let filter = condition.map(|node| self.expr(node));
        let step = match &inner.kind {
            Ast::Call { function, args, .. } if function == "_+_" && is_accu(&args[0]) && matches!(args[1].kind, Ast::List(_)) => {
                let Ast::List(items) = &args[1].kind else { return (filter, Step::To(Self::unknown())) };
                let item = self.expr(&items[0].0);
                self.expect(items[0].0.at, accu, &Type::list(item.ty.clone()));
                Step::Append(item)
            }
            Ast::Call { function, args, .. } if function == "cel.@mapInsert" && is_accu(&args[0]) => {
                let entry: Vec<Expr> = args[1..].iter().map(|a| self.expr(a)).collect();
                let ty = match entry.as_slice() {
                    [key, value] => Type::map(key.ty.clone(), value.ty.clone()),
                    other => other.first().map_or(Type::Dyn, |e| e.ty.clone()),
                };
                self.expect(inner.at, accu, &ty);
                Step::Insert(entry)
            }
            _ => {
                let step = self.expr(inner);
                if !matches!(fold.range.kind, Ast::List(ref items) if items.is_empty()) {
                    self.expect(inner.at, accu, &step.ty);
                }
                Step::To(step)
            }
        };
        if let Some(filter) = &filter
            && !self.inferred.assign(&Type::Bool, &filter.ty)
        {
            let (found, accu) = (self.shown(&filter.ty), self.shown(accu));
            self.wrong(fold.step.at, format!("found no matching overload for '_?_:_' applied to '({found}, {accu}, {accu})'"));
        }
        (filter, step)
    }

    fn expect(&mut self, at: u32, wanted: &Type, found: &Type) {
        if !self.inferred.assign(wanted, found) {
            let (wanted, found) = (self.shown(wanted), self.shown(found));
            self.wrong(at, format!("expected type '{wanted}' but found '{found}'"));
        }
    }
}

const fn type_of(literal: &Literal) -> Type {
    match literal {
        Literal::Null => Type::Null,
        Literal::Bool(_) => Type::Bool,
        Literal::Int(_) => Type::Int,
        Literal::Uint(_) => Type::Uint,
        Literal::Double(_) => Type::Double,
        Literal::String(_) => Type::String,
        Literal::Bytes(_) => Type::Bytes,
    }
}

/// A call as it is evaluated: the operators that forgive errors are no functions.
fn lower(name: &str, ty: Type, functions: Vec<&'static Function>, args: Vec<Expr>, regex: Option<regex::Regex>) -> Expr {
    let shape = match name {
        "_[_]" | "_[?_]" => args[0].shape.as_ref().and_then(|s| s.item()).cloned(),
        "value" | "orValue" | "or" | "optional.of" | "optional.ofNonZeroValue" => args[0].shape.clone(),
        _ => None,
    };
    let call = |args| Kind::Call { functions, args, regex };
    let kind = match name {
        "_&&_" => <[Expr; 2]>::try_from(args).map_or_else(call, |a| Kind::And(Box::new(a))),
        "_||_" => <[Expr; 2]>::try_from(args).map_or_else(call, |a| Kind::Or(Box::new(a))),
        "_?_:_" => <[Expr; 3]>::try_from(args).map_or_else(call, |a| Kind::Conditional(Box::new(a))),
        "@not_strictly_false" => <[Expr; 1]>::try_from(args).map_or_else(call, |[a]| Kind::NotFalse(Box::new(a))),
        _ => call(args),
    };
    made(ty, shape, kind)
}

/// Puts what was inferred in the place of parameters.
fn settle(inferred: &Inferred, expr: &mut Expr) {
    expr.ty = inferred.settle(&expr.ty);
    each(expr, &mut |child| settle(inferred, child));
}

/// Visits what is directly below.
fn each(expr: &mut Expr, f: &mut dyn FnMut(&mut Expr)) {
    match &mut expr.kind {
        Kind::Literal(_) | Kind::TypeName(_) | Kind::Global(_) | Kind::Local(_) => {}
        Kind::Select { operand, .. } | Kind::NotFalse(operand) => f(operand),
        Kind::Call { args, .. } => args.iter_mut().for_each(f),
        Kind::And(pair) | Kind::Or(pair) => pair.iter_mut().for_each(f),
        Kind::Conditional(three) => three.iter_mut().for_each(f),
        Kind::List(items) => items.iter_mut().for_each(|(e, _)| f(e)),
        Kind::Map(entries) => {
            for (key, value, _) in entries {
                f(key);
                f(value);
            }
        }
        Kind::Struct(_, fields) => fields.iter_mut().for_each(|(_, e, _)| f(e)),
        Kind::Fold(fold) => {
            f(&mut fold.range);
            f(&mut fold.init);
            f(&mut fold.condition);
            match &mut fold.step {
                Step::To(e) | Step::Append(e) => f(e),
                Step::Insert(entry) => entry.iter_mut().for_each(&mut *f),
            }
            if let Some(filter) = &mut fold.filter {
                f(filter);
            }
            f(&mut fold.result);
        }
    }
}
