//! Evaluation, metered: every step is paid for, in the units of cel-go, and what costs more than it may stops.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::ast::Literal;
use super::cost::{self, CHARACTER, PATTERN, scaled};
use super::ir::{Expr, Fold, Kind, Step};
use super::library::{Cost, Cx, Def, Fail, Out, no_overload, operators};
use super::value::{Key, List, Made, Map, Text, Val, weigh};

/// How much a value may weigh that is made of others: doubling needs no more than a line.
const MAX_WEIGHT: u64 = 2_000_000;

/// What the variables of an expression are.
pub trait Vars<'a> {
    /// The value of the variable at that place of the environment.
    ///
    /// # Errors
    /// Why it has none.
    fn get(&self, index: usize) -> Out<'a>;
}

impl<'a, const N: usize> Vars<'a> for [Val<'a>; N] {
    fn get(&self, index: usize) -> Out<'a> {
        self.as_slice().get(index).cloned().map_or_else(|| Err(Fail::Error("no such attribute".to_owned())), Ok)
    }
}

/// Evaluates an expression. What it cost comes along, also when it fails.
pub fn run<'a>(expr: &'a Expr, vars: &dyn Vars<'a>, limit: u64) -> (Out<'a>, u64) {
    let mut machine = Machine { vars, locals: vec![], spent: 0, limit };
    let out = machine.eval(expr);
    (out, machine.spent)
}

struct Machine<'a, 'v> {
    vars: &'v dyn Vars<'a>,
    /// The variables of folds; an accumulator may be an error that later elements make good.
    locals: Vec<Out<'a>>,
    spent: u64,
    limit: u64,
}

impl<'a> Machine<'a, '_> {
    fn pay(&mut self, cost: u64) -> Result<(), Fail> {
        self.spent = self.spent.saturating_add(cost);
        if self.spent > self.limit { Err(Fail::Budget) } else { Ok(()) }
    }

    /// Little is done here, so that little of the stack is used: expressions nest.
    fn eval(&mut self, expr: &'a Expr) -> Out<'a> {
        match &expr.kind {
            Kind::Literal(value) => Ok(literal(value)),
            Kind::TypeName(name) => Ok(Val::Type(Text::Borrowed(name))),
            Kind::Global(i) => {
                self.pay(1)?;
                self.vars.get(*i)
            }
            Kind::Local(i) => {
                self.pay(1)?;
                self.locals.get(*i).cloned().unwrap_or_else(|| Err(Fail::Error("no such variable".to_owned())))
            }
            Kind::Select { operand, field, test } => {
                let operand = self.eval(operand)?;
                self.pay(u64::from(!test))?;
                select(&operand, field, *test)
            }
            Kind::Call { .. } => self.call(expr),
            Kind::And(pair) => self.logical(&pair[0], &pair[1], false),
            Kind::Or(pair) => self.logical(&pair[0], &pair[1], true),
            Kind::NotFalse(inner) => self.not_false(inner),
            Kind::Conditional(three) => match self.eval(&three[0])? {
                Val::Bool(true) => self.eval(&three[1]),
                Val::Bool(false) => self.eval(&three[2]),
                _ => no_overload(),
            },
            Kind::List(items) => self.list(items),
            Kind::Map(entries) => self.map(entries),
            Kind::Struct(name, fields) => self.message(name, fields),
            Kind::Fold(fold) => self.fold(fold),
        }
    }

    #[inline(never)]
    fn not_false(&mut self, inner: &'a Expr) -> Out<'a> {
        let value = self.eval(inner);
        self.pay(1)?;
        match value {
            Err(Fail::Budget) => Err(Fail::Budget),
            Ok(Val::Bool(false)) => Ok(Val::Bool(false)),
            _ => Ok(Val::Bool(true)),
        }
    }

    /// `&&` and `||`: one side that decides is enough, whatever becomes of the other.
    #[inline(never)]
    fn logical(&mut self, left: &'a Expr, right: &'a Expr, decides: bool) -> Out<'a> {
        let judge = |out: Out<'a>| match out {
            Ok(Val::Bool(b)) => Ok(b),
            Ok(_) => no_overload(),
            Err(fail) => Err(fail),
        };
        let left = judge(self.eval(left));
        match left {
            Ok(b) if b == decides => return Ok(Val::Bool(b)),
            Err(Fail::Budget) => return Err(Fail::Budget),
            _ => {}
        }
        match (left, judge(self.eval(right))) {
            (_, Ok(b)) if b == decides => Ok(Val::Bool(b)),
            (_, Err(Fail::Budget)) => Err(Fail::Budget),
            (Err(fail), _) | (Ok(_), Err(fail)) => Err(fail),
            (Ok(_), Ok(b)) => Ok(Val::Bool(b)),
        }
    }

    #[inline(never)]
    fn call(&mut self, expr: &'a Expr) -> Out<'a> {
        let Kind::Call { functions, args, regex } = &expr.kind else { return no_overload() };
        let mut values = Vec::with_capacity(args.len());
        for arg in args {
            values.push(self.eval(arg)?);
        }
        let cx = Cx { regex: regex.as_ref() };
        let mut out = no_overload();
        for function in functions {
            // Paid before it is done, but for what is known only afterwards.
            let def = function.def;
            if def.cost != Cost::Join {
                self.pay(price(def, &values))?;
            }
            out = (def.call)(&values, cx);
            if out != no_overload() {
                if let (Cost::Join, Ok(result)) = (def.cost, &out) {
                    self.pay(scaled(result.size(), 2.0 * CHARACTER))?;
                }
                break;
            }
        }
        out.and_then(bounded)
    }

    #[inline(never)]
    fn list(&mut self, items: &'a [(Expr, bool)]) -> Out<'a> {
        let mut out = Vec::with_capacity(items.len());
        for (item, optional) in items {
            let value = self.eval(item)?;
            out.extend(if *optional { unwrapped(value)? } else { Some(value) });
        }
        self.pay(cost::LIST)?;
        bounded(Val::List(List::made(out)))
    }

    #[inline(never)]
    fn map(&mut self, entries: &'a [(Expr, Expr, bool)]) -> Out<'a> {
        let mut out = BTreeMap::new();
        for (key, value, optional) in entries {
            let (key, value) = (self.eval(key)?, self.eval(value)?);
            let value = if *optional { unwrapped(value)? } else { Some(value) };
            let Some(found) = Key::of(&key) else { return Err(Fail::Error("unsupported key type".to_owned())) };
            if let Some(value) = value
                && out.insert(found, value).is_some()
            {
                return Err(Fail::Error("Failed with repeated key".to_owned()));
            }
        }
        self.pay(cost::MAP)?;
        bounded(Val::Map(Map::made(out)))
    }

    #[inline(never)]
    fn message(&mut self, name: &'a str, fields: &'a [(String, Expr, bool)]) -> Out<'a> {
        let mut out = BTreeMap::new();
        for (field, value, optional) in fields {
            let value = self.eval(value)?;
            if let Some(value) = if *optional { unwrapped(value)? } else { Some(value) } {
                out.insert(field.clone(), value);
            }
        }
        self.pay(cost::STRUCT)?;
        let weight = weigh(out.values());
        bounded(Val::Struct(Rc::new(Made { name, fields: out, weight })))
    }

    #[inline(never)]
    fn fold(&mut self, fold: &'a Fold) -> Out<'a> {
        let range = self.eval(&fold.range)?;
        let accu = self.locals.len();
        let init = self.eval(&fold.init);
        if init == Err(Fail::Budget) {
            return init;
        }
        self.locals.push(init);
        let done = match &range {
            Val::List(list) => (0..list.len()).try_for_each(|i| {
                let item = list.get(i).unwrap_or(Val::Null);
                let index = Val::Int(i64::try_from(i).unwrap_or(i64::MAX));
                self.turn(fold, accu, if fold.two { (index, Some(item)) } else { (item, None) })
            }),
            Val::Map(map) => map.keys().into_iter().try_for_each(|key| {
                let key = key.val();
                let value = if fold.two { map.get(&key) } else { None };
                self.turn(fold, accu, (key, value))
            }),
            _ => Err(Turn::Fail(Fail::Error("no such overload".to_owned()))),
        };
        self.locals.truncate(accu + 1);
        let out = match done {
            Ok(()) | Err(Turn::Enough) => self.eval(&fold.result),
            Err(Turn::Fail(fail)) => Err(fail),
        };
        self.locals.truncate(accu);
        out
    }

    /// One element of a fold.
    #[inline(never)]
    fn turn(&mut self, fold: &'a Fold, accu: usize, (first, second): (Val<'a>, Option<Val<'a>>)) -> Result<(), Turn> {
        self.locals.truncate(accu + 1);
        self.locals.push(Ok(first));
        self.locals.extend(second.map(Ok));
        match self.eval(&fold.condition) {
            Ok(Val::Bool(true)) => {}
            Ok(_) => return Err(Turn::Enough),
            Err(fail) => return Err(Turn::Fail(fail)),
        }
        if let Some(filter) = &fold.filter {
            match self.eval(filter).map_err(Turn::Fail)? {
                Val::Bool(true) => {}
                Val::Bool(false) => return self.pay(1).map_err(Turn::Fail),
                _ => return Err(Turn::Fail(Fail::Error("no such overload".to_owned()))),
            }
        }
        match &fold.step {
            Step::To(step) => {
                let value = self.eval(step);
                if value == Err(Fail::Budget) {
                    return Err(Turn::Fail(Fail::Budget));
                }
                self.locals[accu] = value;
                Ok(())
            }
            Step::Append(item) => self.append(accu, item).map_err(Turn::Fail),
            Step::Insert(entry) => self.insert(accu, entry).map_err(Turn::Fail),
        }
    }

    fn append(&mut self, accu: usize, item: &'a Expr) -> Result<(), Fail> {
        let item = self.eval(item)?;
        self.pay(1 + cost::LIST + 1)?;
        match &mut self.locals[accu] {
            Ok(Val::List(list)) => list.push(item),
            _ => return no_overload(),
        }
        self.light(accu)
    }

    fn insert(&mut self, accu: usize, entry: &'a [Expr]) -> Result<(), Fail> {
        let entry = entry.iter().map(|e| self.eval(e)).collect::<Result<Vec<_>, _>>()?;
        self.pay(2)?;
        match &mut self.locals[accu] {
            Ok(Val::Map(map)) => operators::grow(map, &entry)?,
            _ => return no_overload(),
        }
        self.light(accu)
    }

    /// Whether what is being collected is not too large yet.
    fn light(&self, accu: usize) -> Result<(), Fail> {
        match &self.locals[accu] {
            Ok(value) if value.weight() > MAX_WEIGHT => Err(Fail::Budget),
            _ => Ok(()),
        }
    }
}

/// Why a fold does not go on.
enum Turn {
    /// Its condition says so.
    Enough,
    /// It failed.
    Fail(Fail),
}

fn bounded(value: Val<'_>) -> Out<'_> {
    if value.weight() > MAX_WEIGHT { Err(Fail::Budget) } else { Ok(value) }
}

fn literal(value: &Literal) -> Val<'_> {
    match value {
        Literal::Null => Val::Null,
        Literal::Bool(b) => Val::Bool(*b),
        Literal::Int(i) => Val::Int(*i),
        Literal::Uint(u) => Val::Uint(*u),
        Literal::Double(d) => Val::Double(*d),
        Literal::String(text) => Val::Str(Text::Borrowed(text)),
        Literal::Bytes(bytes) => Val::Bytes(bytes.as_slice().into()),
    }
}

/// What is in an optional, for an item or field that may be left out.
fn unwrapped(value: Val<'_>) -> Result<Option<Val<'_>>, Fail> {
    match value {
        Val::Optional(inner) => Ok(inner.map(|v| (*v).clone())),
        other => Err(Fail::Error(format!("cannot initialize optional entry from non-optional value {}", other.type_name()))),
    }
}

fn select<'a>(operand: &Val<'a>, field: &str, test: bool) -> Out<'a> {
    let found = match operand {
        Val::Map(map) => map.field(field),
        Val::Struct(made) => made.fields.get(field).cloned(),
        Val::Optional(None) => return Ok(if test { Val::Bool(false) } else { Val::Optional(None) }),
        Val::Optional(Some(inner)) => {
            let found = match &**inner {
                Val::Map(map) => map.field(field),
                Val::Struct(made) => made.fields.get(field).cloned(),
                _ => return no_overload(),
            };
            return Ok(if test { Val::Bool(found.is_some()) } else { Val::Optional(found.map(Rc::new)) });
        }
        _ => return no_overload(),
    };
    match found {
        _ if test => Ok(Val::Bool(found.is_some())),
        Some(value) => Ok(value),
        None => Err(Fail::Error(format!("no such key: {field}"))),
    }
}

/// What a call costs, with its arguments.
fn price(def: &Def, args: &[Val<'_>]) -> u64 {
    let size = |i: usize| args.get(i).map_or(1, Val::size);
    match def.cost {
        Cost::One | Cost::Join => 1,
        Cost::Check => cost::CHECK,
        Cost::Scan => scaled(size(0), CHARACTER),
        Cost::ScanSecond => scaled(size(1), CHARACTER),
        Cost::Rewrite => scaled(size(0), 2.0 * CHARACTER),
        Cost::Match => scaled(size(0) + 1, CHARACTER).saturating_mul(scaled(size(1), PATTERN)),
        Cost::Contains => scaled(size(0), CHARACTER).saturating_mul(scaled(size(1), CHARACTER)),
        Cost::Compare => scaled(size(0).min(size(1)), CHARACTER),
        Cost::Concat => match &args[0] {
            Val::Str(_) | Val::Bytes(_) => scaled(size(0) + size(1), CHARACTER),
            _ => 1,
        },
        Cost::In => match &args[1] {
            Val::List(list) => list.len() as u64,
            _ => 1,
        },
        Cost::Items => match &args[0] {
            Val::List(list) => list.iter().map(|v| walk(&v)).sum(),
            text => scaled(text.size(), CHARACTER),
        },
        Cost::Network => {
            let text = if matches!(args.get(1), Some(Val::Str(_))) { scaled(size(1), CHARACTER) } else { 0 };
            scaled(size(0), 3.0 * CHARACTER) + 1 + text
        }
        Cost::Product => size(0).saturating_mul(size(1)).saturating_add(1),
    }
}

/// The cost of looking at an item of a list.
fn walk(value: &Val<'_>) -> u64 {
    match value {
        Val::Str(text) => (text.len() as f64 * CHARACTER) as u64,
        Val::Bytes(bytes) => (bytes.len() as f64 * CHARACTER) as u64,
        Val::List(_) | Val::Map(_) | Val::Struct(_) => value.weight(),
        _ => 1,
    }
}
