//! Numbers within bounds, and values that may not change, in upstream's words.

use api::field::{Errors, Path};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// Says that a number is below 0.
pub const NOT_NEGATIVE: &str = "must be greater than or equal to 0";
/// Says that a number is not above 0.
pub const POSITIVE: &str = "must be greater than 0";

/// Checks that a text follows a rule of [`api::names`].
pub fn follows(value: &str, rule: fn(&str) -> Vec<String>, path: &Path, errors: &mut Errors) {
    for wrong in rule(value) {
        errors.invalid(path, value, &wrong);
    }
}

/// Checks that a number, if given, is not negative.
pub fn not_negative(value: Option<impl Into<i64>>, path: &Path, errors: &mut Errors) {
    if let Some(value) = value.map(Into::into).filter(|v| *v < 0) {
        errors.invalid(path, value, NOT_NEGATIVE);
    }
}

/// Checks that a number, if given, is above 0.
pub fn positive(value: Option<impl Into<i64>>, path: &Path, errors: &mut Errors) {
    if let Some(value) = value.map(Into::into).filter(|v| *v <= 0) {
        errors.invalid(path, value, POSITIVE);
    }
}

/// Checks that a text is one of a set.
pub fn one_of(value: &str, known: &[&str], path: &Path, errors: &mut Errors) {
    if !known.contains(&value) {
        errors.not_supported(path, value, known);
    }
}

/// Checks that a text that must be there is one of a set.
pub fn required_one_of(value: &str, known: &[&str], path: &Path, errors: &mut Errors) {
    if value.is_empty() { errors.required(path, "") } else { one_of(value, known, path, errors) }
}

/// What a percentage says; `None` for text that is no percentage.
pub fn percent(text: &str) -> Option<i64> {
    let digits = text.strip_suffix('%')?;
    (!digits.is_empty() && digits.bytes().all(|c| c.is_ascii_digit())).then(|| digits.parse().ok())?
}

/// Checks a number or percentage that is not negative.
pub fn int_or_percent(value: &IntOrString, path: &Path, errors: &mut Errors) {
    match value {
        IntOrString::Int(n) => not_negative(Some(*n), path, errors),
        IntOrString::String(s) if percent(s).is_none() => {
            errors.invalid(path, s, "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')");
        }
        IntOrString::String(_) => {}
    }
}

/// Checks that a percentage is at most 100.
pub fn at_most_100_percent(value: &IntOrString, path: &Path, errors: &mut Errors) {
    if let IntOrString::String(s) = value
        && percent(s).is_some_and(|p| p > 100)
    {
        errors.invalid(path, s, "must not be greater than 100%");
    }
}

/// Whether a number or percentage is nothing.
pub fn is_zero(value: &IntOrString) -> bool {
    match value {
        IntOrString::Int(n) => *n == 0,
        IntOrString::String(s) => percent(s) == Some(0),
    }
}
