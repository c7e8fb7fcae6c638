//! Where in an expression something is wrong, shown as CEL's own tools show it: `ERROR: <input>:1:5: ...`, the line, and a caret.

use std::fmt::Write as _;

/// One complaint about an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issue {
    /// The offset in characters.
    pub at: u32,
    /// What is wrong.
    pub message: String,
}

/// Complaints about `source`, in the order of their places.
#[must_use]
pub fn render(source: &str, issues: &[Issue]) -> String {
    let mut sorted: Vec<&Issue> = issues.iter().collect();
    sorted.sort_by_key(|i| i.at);
    sorted.dedup();
    let mut out = String::new();
    for issue in sorted {
        if !out.is_empty() {
            out.push('\n');
        }
        let (line, column, text) = place(source, issue.at as usize);
        // Writing to a string cannot fail.
        let _ = write!(out, "ERROR: <input>:{line}:{}: {}\n | {text}\n | {}^", column + 1, issue.message, ".".repeat(column));
    }
    out
}

/// The line (from 1), the column (from 0) and the text of the line of an offset in characters.
fn place(source: &str, at: usize) -> (usize, usize, &str) {
    let mut start = 0;
    let mut last = (1, 0, "");
    for (i, text) in source.split('\n').enumerate() {
        let length = text.chars().count();
        last = (i + 1, at.saturating_sub(start).min(length), text);
        if at <= start + length {
            break;
        }
        start += length + 1;
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn the_line_is_shown_with_a_caret() {
        let issues = [Issue { at: 9, message: "b".into() }, Issue { at: 4, message: "a".into() }, Issue { at: 99, message: "c".into() }];
        expect![[r#"
            ERROR: <input>:1:5: a
             | self.x
             | ....^
            ERROR: <input>:2:3: b
             | + é.y
             | ..^
            ERROR: <input>:2:6: c
             | + é.y
             | .....^"#]]
        .assert_eq(&render("self.x\n+ é.y", &issues));
    }
}
