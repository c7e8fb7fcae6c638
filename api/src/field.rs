//! Field errors: where in an object something is wrong, and what, in the words of Kubernetes' `field.Error`.

use std::fmt;

/// The path to a field, such as `spec.containers[0].name`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Path(String);

impl Path {
    /// The path of a top-level field.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// The object itself.
    #[must_use]
    pub const fn root() -> Self {
        Self(String::new())
    }

    /// The path of the field `name` in the object at this path. `name` may itself be dotted.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        if self.0.is_empty() { Self::new(name) } else { Self(format!("{}.{name}", self.0)) }
    }

    /// The path of an element of the list at this path.
    #[must_use]
    pub fn index(&self, i: usize) -> Self {
        Self(format!("{}[{i}]", self.0))
    }

    /// The path of an entry of the map at this path.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        Self(format!("{}[{key}]", self.0))
    }

    /// The path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "<nil>" } else { &self.0 })
    }
}

/// What kind of mistake it is; the text is the `reason` of a Status cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A value that another object already has.
    Duplicate,
    /// Not allowed by policy or in this state.
    Forbidden,
    /// Malformed or out of range.
    Invalid,
    /// A reference to something that is not there.
    NotFound,
    /// Not one of the known values.
    NotSupported,
    /// Absent.
    Required,
    /// More bytes than allowed.
    TooLong,
    /// More items than allowed.
    TooMany,
    /// Not of the right type.
    TypeInvalid,
    /// Our own failure.
    Internal,
}

impl Kind {
    /// The machine-readable reason, as in `StatusCause.reason`.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Duplicate => "FieldValueDuplicate",
            Self::Forbidden => "FieldValueForbidden",
            Self::Invalid => "FieldValueInvalid",
            Self::NotFound => "FieldValueNotFound",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Required => "FieldValueRequired",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::TypeInvalid => "FieldValueTypeInvalid",
            Self::Internal => "InternalError",
        }
    }

    const fn text(self) -> &'static str {
        match self {
            Self::Duplicate => "Duplicate value",
            Self::Forbidden => "Forbidden",
            Self::Invalid | Self::TypeInvalid => "Invalid value",
            Self::NotFound => "Not found",
            Self::NotSupported => "Unsupported value",
            Self::Required => "Required value",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::Internal => "Internal error",
        }
    }
}

/// One mistake in an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// Where.
    pub path: Path,
    /// What kind.
    pub kind: Kind,
    /// The text after the path, as [`fmt::Display`] shows it.
    pub body: String,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.body)
    }
}

/// The mistakes found in an object. Empty means valid.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Errors(pub Vec<Error>);

impl Errors {
    /// No mistakes.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn push(&mut self, path: &Path, kind: Kind, value: Option<&dyn fmt::Display>, detail: &str) {
        let mut body = kind.text().to_owned();
        if let Some(value) = value {
            body.push_str(&format!(": {value}"));
        }
        if !detail.is_empty() {
            body.push_str(&format!(": {detail}"));
        }
        self.0.push(Error { path: path.clone(), kind, body });
    }

    /// `path: Required value: detail`
    pub fn required(&mut self, path: &Path, detail: &str) {
        self.push(path, Kind::Required, None, detail);
    }

    /// `path: Invalid value: "value": detail`. Strings are quoted as Go does, other values shown as JSON.
    pub fn invalid(&mut self, path: &Path, value: impl Shown, detail: &str) {
        self.push(path, Kind::Invalid, Some(&value.shown()), detail);
    }

    /// `path: Invalid value: "type": detail`, for a value of the wrong JSON type.
    pub fn type_invalid(&mut self, path: &Path, value: impl Shown, detail: &str) {
        self.push(path, Kind::TypeInvalid, Some(&value.shown()), detail);
    }

    /// `path: Forbidden: detail`
    pub fn forbidden(&mut self, path: &Path, detail: &str) {
        self.push(path, Kind::Forbidden, None, detail);
    }

    /// `path: Duplicate value: "value"`
    pub fn duplicate(&mut self, path: &Path, value: impl Shown) {
        self.push(path, Kind::Duplicate, Some(&value.shown()), "");
    }

    /// `path: Not found: "value"`
    pub fn not_found(&mut self, path: &Path, value: impl Shown) {
        self.push(path, Kind::NotFound, Some(&value.shown()), "");
    }

    /// `path: Unsupported value: "value": supported values: "a", "b"`
    pub fn not_supported(&mut self, path: &Path, value: impl Shown, supported: &[&str]) {
        let list: Vec<String> = supported.iter().map(|s| format!("{s:?}")).collect();
        self.push(path, Kind::NotSupported, Some(&value.shown()), &format!("supported values: {}", list.join(", ")));
    }

    /// `path: Too long: may not be more than N bytes`
    pub fn too_long(&mut self, path: &Path, most: usize) {
        self.push(path, Kind::TooLong, None, &format!("may not be more than {most} bytes"));
    }

    /// `path: Too many: have: must have at most N items`
    pub fn too_many(&mut self, path: &Path, have: usize, most: usize) {
        let items = if most == 1 { "item" } else { "items" };
        self.push(path, Kind::TooMany, Some(&have), &format!("must have at most {most} {items}"));
    }

    /// `path: Invalid value: ...: field is immutable` when `new` differs from `old`.
    pub fn immutable<T: PartialEq + serde::Serialize>(&mut self, path: &Path, new: &T, old: &T) {
        if new != old {
            let shown = serde_json::to_string(new).unwrap_or_default();
            self.push(path, Kind::Invalid, Some(&shown), "field is immutable");
        }
    }
}

/// How a value is shown in an error: strings quoted, others as they print.
pub trait Shown {
    /// The text.
    fn shown(&self) -> String;
}
impl Shown for &str {
    fn shown(&self) -> String {
        format!("{self:?}")
    }
}
impl Shown for &String {
    fn shown(&self) -> String {
        format!("{self:?}")
    }
}
impl Shown for String {
    fn shown(&self) -> String {
        format!("{self:?}")
    }
}
macro_rules! shown_as_is { ($($t:ty),*) => { $(impl Shown for $t { fn shown(&self) -> String { self.to_string() } })* } }
shown_as_is!(i32, i64, u32, usize, bool, f64);
impl Shown for &serde_json::Value {
    fn shown(&self) -> String {
        self.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_read_as_upstreams() {
        let mut e = Errors::new();
        let spec = Path::new("spec");
        e.required(&spec.child("containers"), "");
        e.invalid(&spec.child("containers").index(0).child("name"), "A_", "must be lower case");
        e.not_supported(&spec.child("restartPolicy"), "Often", &["Always", "Never"]);
        e.immutable(&spec.child("clusterIP"), &"a", &"b");
        e.too_long(&Path::new("metadata").child("annotations"), 262_144);
        let text: Vec<String> = e.0.iter().map(Error::to_string).collect();
        expect_test::expect![[r#"
            spec.containers: Required value
            spec.containers[0].name: Invalid value: "A_": must be lower case
            spec.restartPolicy: Unsupported value: "Often": supported values: "Always", "Never"
            spec.clusterIP: Invalid value: "a": field is immutable
            metadata.annotations: Too long: may not be more than 262144 bytes"#]]
        .assert_eq(&text.join("\n"));
    }
}
