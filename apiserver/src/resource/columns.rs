//! The table that `kubectl get` shows of a resource: its columns, and how each cell is got from an object.

use jiff::Timestamp;
use serde_json::Value;

use super::Str;

/// How a table cell is got from an object.
#[derive(Clone)]
pub enum Cell {
    /// The value at a JSON pointer.
    Pointer(Str),
    /// The integer at a JSON pointer, 0 when there is none: the table says so where the object leaves it out.
    PointerOrZero(Str),
    /// Computed from the object at a time.
    Compute(fn(&Value, Timestamp) -> Value),
    /// The time since the timestamp at a JSON pointer.
    Age(Str),
    /// The value found by a custom resource's JSONPath.
    JsonPath(Str),
}

/// A column of `kubectl get`.
#[derive(Clone)]
pub struct Column {
    /// Heading.
    pub name: Str,
    /// OpenAPI type: string, integer, number, boolean, date.
    pub kind: Str,
    /// OpenAPI format; `name` for the object's name.
    pub format: Str,
    /// For people.
    pub description: Str,
    /// 0 always, above that with `-o wide`.
    pub priority: i32,
    /// The content.
    pub cell: Cell,
}

impl Column {
    fn new(name: &'static str, kind: &'static str, cell: Cell) -> Self {
        let description = Str::Borrowed("");
        Self { name: name.into(), kind: kind.into(), format: "".into(), description, priority: 0, cell }
    }
    /// The object's name.
    #[must_use]
    pub fn name() -> Self {
        Self { format: "name".into(), ..Self::new("Name", "string", Cell::Pointer("/metadata/name".into())) }
    }
    /// The time since the object was made.
    #[must_use]
    pub fn age() -> Self {
        Self::new("Age", "string", Cell::Age("/metadata/creationTimestamp".into()))
    }
    /// Text at a pointer.
    #[must_use]
    pub fn text(name: &'static str, pointer: &'static str) -> Self {
        Self::new(name, "string", Cell::Pointer(pointer.into()))
    }
    /// An integer at a pointer.
    #[must_use]
    pub fn integer(name: &'static str, pointer: &'static str) -> Self {
        Self::new(name, "integer", Cell::Pointer(pointer.into()))
    }
    /// An integer at a pointer, shown as 0 when it is not there.
    #[must_use]
    pub fn integer_or_zero(name: &'static str, pointer: &'static str) -> Self {
        Self::new(name, "integer", Cell::PointerOrZero(pointer.into()))
    }
    /// Text computed from the object.
    #[must_use]
    pub fn compute(name: &'static str, f: fn(&Value, Timestamp) -> Value) -> Self {
        Self::new(name, "string", Cell::Compute(f))
    }
    /// Shown with `-o wide` only.
    #[must_use]
    pub fn wide(self) -> Self {
        Self { priority: 1, ..self }
    }
}
