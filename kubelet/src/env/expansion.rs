//! `$(VAR)` references, as in a container's command, arguments, variables and `subPathExpr`.
//!
//! `$$` stands for one `$`, so `$$(VAR)` is the text `$(VAR)`. What names no known variable stays as it is written.

use std::collections::BTreeSet;

/// `text` with its references replaced; an unknown one stays.
#[must_use]
pub fn expand<'a>(text: &str, lookup: impl Fn(&str) -> Option<&'a str>) -> String {
    walk(text, |name, out| match lookup(name) {
        Some(value) => out.push_str(value),
        None => out.extend(["$(", name, ")"]),
    })
}

/// `text` with its references replaced; a variable without a value counts as unknown, as upstream has it for `subPathExpr`.
///
/// # Errors
/// The names that are not known, sorted.
pub fn expand_strict<'a>(text: &str, lookup: impl Fn(&str) -> Option<&'a str>) -> Result<String, Vec<String>> {
    let mut missing = BTreeSet::new();
    let out = walk(text, |name, out| match lookup(name).filter(|value| !value.is_empty()) {
        Some(value) => out.push_str(value),
        None => drop(missing.insert(name.to_owned())),
    });
    if missing.is_empty() { Ok(out) } else { Err(missing.into_iter().collect()) }
}

fn walk(text: &str, mut reference: impl FnMut(&str, &mut String)) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        rest = after;
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|r| r.split_once(')')) {
            reference(name, &mut out);
            rest = after;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    #[track_caller]
    fn check(text: &str, expected: &str) {
        let lookup = |name: &str| match name {
            "A" => Some("1"),
            "LOOP" => Some("$(A)"),
            "EMPTY" => Some(""),
            _ => None,
        };
        assert_eq!(super::expand(text, lookup), expected);
    }

    #[test]
    fn references_are_replaced_once() {
        check("x$(A)y$(A)", "x1y1");
        check("$(LOOP)", "$(A)");
        check("[$(EMPTY)]", "[]");
    }

    #[test]
    fn what_is_no_known_reference_stays() {
        check("$(NO) $A $ $( $() $", "$(NO) $A $ $( $() $");
        check("$(A", "$(A");
        check("é$é", "é$é");
    }

    #[test]
    fn a_doubled_dollar_escapes() {
        check("$$(A) $$$(A) $$$$(A)", "$(A) $1 $$(A)");
    }

    #[test]
    fn the_strict_form_names_what_is_missing() {
        let lookup = |name: &str| match name {
            "A" => Some("1"),
            "EMPTY" => Some(""),
            _ => None,
        };
        assert_eq!(super::expand_strict("$(A)/$(A)", lookup), Ok("1/1".to_owned()));
        assert_eq!(super::expand_strict("$(A)/$(NO)/$(EMPTY)", lookup), Err(vec!["EMPTY".to_owned(), "NO".to_owned()]));
        assert_eq!(super::expand_strict("$$(B)", |_| None), Ok("$(B)".to_owned()));
    }
}
