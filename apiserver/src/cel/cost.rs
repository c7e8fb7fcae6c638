//! What an expression may cost at worst, before there are values: the sums that cel-go and Kubernetes do, so that a rule is refused here when it
//! is refused there. What evaluation did cost is [`super::eval`]'s.

use super::ast::Literal;
use super::ir::{Expr, Fold, Kind, Step};
use super::library::{Cost, Def};
use super::types::Type;

/// The cost of looking at one character.
pub const CHARACTER: f64 = 0.1;
/// The cost of one character of a pattern.
pub const PATTERN: f64 = 0.25;
/// The cost of making a list, a map, an object.
pub const LIST: u64 = 10;
/// See [`LIST`].
pub const MAP: u64 = 30;
/// See [`LIST`].
pub const STRUCT: u64 = 40;
/// The cost of an authorization check.
pub const CHECK: u64 = 350_000;

/// At least so much, at most so much. The most there is is [`u64::MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Range {
    pub min: u64,
    pub max: u64,
}

impl Range {
    const ZERO: Self = Self::exact(0);
    const UNKNOWN: Self = Self { min: 0, max: u64::MAX };

    const fn exact(n: u64) -> Self {
        Self { min: n, max: n }
    }
    const fn plus(self, other: Self) -> Self {
        Self { min: self.min.saturating_add(other.min), max: self.max.saturating_add(other.max) }
    }
    const fn times(self, other: Self) -> Self {
        Self { min: self.min.saturating_mul(other.min), max: self.max.saturating_mul(other.max) }
    }
    fn scaled(self, factor: f64) -> Self {
        Self { min: scaled(self.min, factor), max: scaled(self.max, factor) }
    }
    fn union(self, other: Self) -> Self {
        Self { min: self.min.min(other.min), max: self.max.max(other.max) }
    }
}

/// So many times a factor, rounded up. What has no bound keeps having none.
#[must_use]
pub fn scaled(n: u64, factor: f64) -> u64 {
    let product = n as f64 * factor;
    if n == u64::MAX || product >= u64::MAX as f64 { u64::MAX } else { product.ceil() as u64 }
}

/// What evaluating an expression may cost.
#[must_use]
pub fn estimate(expr: &Expr) -> Range {
    match &expr.kind {
        Kind::Literal(_) | Kind::TypeName(_) => Range::ZERO,
        Kind::Global(_) | Kind::Local(_) => Range::exact(1),
        Kind::Select { operand, test, .. } => estimate(operand).plus(Range::exact(u64::from(!test))),
        Kind::And(pair) | Kind::Or(pair) => {
            let (left, right) = (estimate(&pair[0]), estimate(&pair[1]));
            Range { min: left.min, max: left.max.saturating_add(right.max) }
        }
        Kind::NotFalse(inner) => estimate(inner).plus(Range::exact(1)),
        Kind::Conditional(three) => estimate(&three[0]).plus(estimate(&three[1]).union(estimate(&three[2]))),
        Kind::List(items) => items.iter().fold(Range::exact(LIST), |sum, (e, _)| sum.plus(estimate(e))),
        Kind::Map(entries) => entries.iter().fold(Range::exact(MAP), |sum, (k, v, _)| sum.plus(estimate(k)).plus(estimate(v))),
        Kind::Struct(_, fields) => fields.iter().fold(Range::exact(STRUCT), |sum, (_, e, _)| sum.plus(estimate(e))),
        Kind::Call { functions, args, .. } => {
            let arguments = args.iter().fold(Range::ZERO, |sum, a| sum.plus(estimate(a)));
            let calls = functions.iter().map(|f| call(f.def, args)).reduce(Range::union);
            arguments.plus(calls.unwrap_or(Range::exact(1)))
        }
        Kind::Fold(fold) => self::fold(fold),
    }
}

fn fold(fold: &Fold) -> Range {
    let step = match &fold.step {
        Step::To(e) => estimate(e),
        // The accumulator, a list of one, and putting them together.
        Step::Append(item) => estimate(item).plus(Range::exact(1 + LIST + 1)),
        Step::Insert(entry) => entry.iter().fold(Range::exact(2), |sum, e| sum.plus(estimate(e))),
    };
    let step = match &fold.filter {
        Some(filter) => estimate(filter).plus(step.union(Range::exact(1))),
        None => step,
    };
    let each = step.plus(estimate(&fold.condition));
    estimate(&fold.range).plus(estimate(&fold.init)).plus(estimate(&fold.result)).plus(size(&fold.range).times(each))
}

/// How large the value of an expression may be.
fn size(expr: &Expr) -> Range {
    match &expr.kind {
        Kind::Literal(Literal::String(text)) => return Range::exact(text.len() as u64),
        Kind::Literal(Literal::Bytes(bytes)) => return Range::exact(bytes.len() as u64),
        Kind::List(items) => return Range::exact(items.len() as u64),
        Kind::Map(entries) => return Range::exact(entries.len() as u64),
        Kind::Conditional(three) => return size(&three[1]).union(size(&three[2])),
        Kind::Fold(fold) if matches!(fold.init.kind, Kind::List(_) | Kind::Map(_)) => return size(&fold.range),
        Kind::Call { functions, args, .. } => {
            if let Some(size) = functions.iter().find_map(|f| result_size(f.def.name, args)) {
                return size;
            }
        }
        _ => {}
    }
    match (&expr.ty, &expr.shape) {
        (Type::String | Type::Bytes | Type::List(_) | Type::Map(_) | Type::Dyn | Type::Object(_), Some(shape)) => {
            Range { min: 0, max: shape.most }
        }
        (Type::String | Type::Bytes | Type::List(_) | Type::Map(_) | Type::Dyn | Type::Object(_), _) => Range::UNKNOWN,
        _ => Range::exact(1),
    }
}

/// How large the items of a list may be.
fn item_size(list: &Expr) -> Option<Range> {
    let Type::List(item) = &list.ty else { return None };
    if !matches!(**item, Type::String | Type::Bytes) {
        return Some(Range::exact(1));
    }
    let literal = match &list.kind {
        Kind::List(items) => items.iter().map(|(e, _)| size(e)).reduce(Range::union),
        _ => None,
    };
    let known = list.shape.as_ref().and_then(|s| s.item()).map(|s| Range { min: 0, max: s.most });
    Some(literal.or(known).unwrap_or(Range::UNKNOWN))
}

fn result_size(name: &str, args: &[Expr]) -> Option<Range> {
    let sizes = |i: usize| args.get(i).map_or(Range::UNKNOWN, size);
    Some(match name {
        "_+_" if !matches!(args[0].ty, Type::Int | Type::Uint | Type::Double | Type::Duration | Type::Timestamp) => sizes(0).plus(sizes(1)),
        "lowerAscii" | "upperAscii" | "substring" | "trim" => sizes(0),
        "split" | "find" | "findAll" => Range { min: 0, max: sizes(0).max },
        "join" => joined(args),
        "replace" if args.len() >= 3 => replaced(sizes(0), sizes(1), sizes(2)),
        _ => return None,
    })
}

fn joined(args: &[Expr]) -> Range {
    let list = size(&args[0]);
    let items = item_size(&args[0]).map_or(Range::UNKNOWN, |item| list.times(item));
    let between = Range { min: list.min.saturating_sub(1), max: list.max.saturating_sub(1) };
    items.plus(args.get(1).map_or(Range::ZERO, |a| size(a).times(between)))
}

/// The longest and the shortest that a text may get.
fn replaced(text: Range, from: Range, to: Range) -> Range {
    let times = |text: u64, from: u64| if text == u64::MAX { text } else { text.div_ceil(from) };
    let max = match (from.min, to.max) {
        (0, to) => text.max.saturating_add(1).saturating_mul(to).saturating_add(text.max),
        (from, to) if to <= from => text.max,
        (from, to) => times(text.max, from).saturating_mul(to),
    };
    let min = match (from.max, to.min) {
        (0, to) => text.min.saturating_add(1).saturating_mul(to).saturating_add(text.min),
        (from, to) if from <= to => text.min,
        (from, to) => times(text.min, from).saturating_mul(to),
    };
    Range { min, max }
}

fn call(def: &Def, args: &[Expr]) -> Range {
    let sizes = |i: usize| args.get(i).map_or(Range::UNKNOWN, size);
    match def.cost {
        Cost::One => Range::exact(1),
        Cost::Check => Range::exact(CHECK),
        Cost::Scan if matches!(args.first().map(|a| &a.ty), Some(Type::Opaque(_))) => Range::exact(1),
        Cost::Scan => sizes(0).scaled(CHARACTER),
        Cost::ScanSecond => sizes(1).scaled(CHARACTER),
        Cost::Rewrite => sizes(0).scaled(2.0 * CHARACTER),
        Cost::Join => joined(args).scaled(CHARACTER),
        Cost::Match => sizes(0).plus(Range::exact(1)).scaled(CHARACTER).times(sizes(1).scaled(PATTERN)),
        Cost::Contains => sizes(0).scaled(CHARACTER).times(sizes(1).scaled(CHARACTER)),
        Cost::Compare => {
            let (a, b) = (sizes(0), sizes(1));
            Range { min: a.min.min(b.min), max: a.max.min(b.max) }.scaled(CHARACTER)
        }
        Cost::Concat => match args[0].ty {
            Type::String | Type::Bytes | Type::Dyn => sizes(0).plus(sizes(1)).scaled(CHARACTER),
            _ => Range::exact(1),
        },
        Cost::In if matches!(args[1].ty, Type::Map(_)) => Range::exact(1),
        Cost::In => sizes(1),
        Cost::Items => match item_size(&args[0]) {
            Some(item) if matches!(&args[0].ty, Type::List(of) if matches!(**of, Type::String | Type::Bytes)) => {
                sizes(0).times(Range::exact(1).plus(item.scaled(CHARACTER)))
            }
            Some(_) => sizes(0),
            None => sizes(0).scaled(CHARACTER),
        },
        Cost::Network => {
            let text = args.get(1).filter(|a| matches!(a.ty, Type::String)).map_or(Range::ZERO, size);
            Range { min: 4, max: 16 }.scaled(3.0 * CHARACTER).plus(Range::exact(1)).plus(text.scaled(CHARACTER))
        }
        Cost::Product => sizes(0).times(sizes(1)).plus(Range::exact(1)),
    }
}
