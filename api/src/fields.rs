//! Field selectors: `metadata.name=a,status.phase!=Running`.

/// One term of a field selector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Term {
    /// The field's path.
    pub field: String,
    /// The value compared with.
    pub value: String,
    /// Whether equality is asked for; otherwise inequality.
    pub equals: bool,
}

/// A parsed field selector: every term must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selector {
    /// The terms.
    pub terms: Vec<Term>,
}

impl Selector {
    /// Parses a selector. `\`, `,` and `=` in values are escaped by `\`.
    ///
    /// # Errors
    /// A term that is no comparison, in upstream's words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let terms = split_terms(text).into_iter().filter(|t| !t.is_empty()).map(|t| parse_term(&t)).collect::<Result<_, _>>()?;
        Ok(Self { terms })
    }

    /// Whether everything matches.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// Whether all terms hold, where `field` gives a field's value (empty when absent).
    pub fn matches<'a>(&self, field: impl Fn(&str) -> &'a str) -> bool {
        self.terms.iter().all(|t| (field(&t.field) == t.value) == t.equals)
    }

    /// The value that the selector asks `field` to equal.
    #[must_use]
    pub fn required(&self, field: &str) -> Option<&str> {
        self.terms.iter().find(|t| t.equals && t.field == field).map(|t| t.value.as_str())
    }
}

fn split_terms(text: &str) -> Vec<String> {
    let mut terms = vec![String::new()];
    let mut escaped = false;
    for c in text.chars() {
        if c == ',' && !escaped {
            terms.push(String::new());
            continue;
        }
        escaped = c == '\\' && !escaped;
        if let Some(term) = terms.last_mut() {
            term.push(c);
        }
    }
    terms
}

fn parse_term(term: &str) -> Result<Term, String> {
    let bytes = term.as_bytes();
    for i in 0..bytes.len() {
        let (length, equals) = match (bytes[i], bytes.get(i + 1)) {
            (b'!', Some(b'=')) => (2, false),
            (b'=', Some(b'=')) => (2, true),
            (b'=', _) => (1, true),
            _ => continue,
        };
        let value = unescape(&term[i + length..])?;
        return Ok(Term { field: term[..i].to_owned(), value, equals });
    }
    Err(format!("invalid selector: '{term}'; can't understand '{term}'"))
}

fn unescape(value: &str) -> Result<String, String> {
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(e @ ('\\' | ',' | '=')) => out.push(e),
                Some(other) => return Err(format!("invalid field selector: invalid escape sequence: \\{other}")),
                None => return Err("invalid field selector: invalid escape sequence: \\".to_owned()),
            },
            '=' => return Err(format!("invalid field selector: unescaped special character in {value}: =")),
            c => out.push(c),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_hold_together() {
        let s = Selector::parse(r"metadata.name=a,status.phase!=Running,x==1\,2").unwrap();
        let m = |name: &'static str, phase: &'static str| {
            s.matches(|f| match f {
                "metadata.name" => name,
                "status.phase" => phase,
                _ => "1,2",
            })
        };
        assert!(m("a", "Pending") && !m("b", "Pending") && !m("a", "Running"));
        assert_eq!(s.required("metadata.name"), Some("a"));
        assert!(Selector::parse("nonsense").is_err() && Selector::parse("a=b=c").is_err());
        assert!(Selector::parse("").unwrap().is_empty());
    }
}
