//! The prose of the API, gathered by `build.rs`.

use std::collections::HashMap;

/// See `build.rs` for the form. It is read in place; nothing of it is kept.
const TEXT: &str = include_str!(concat!(env!("OUT_DIR"), "/descriptions.txt"));

/// What is said of one message.
#[derive(Default)]
pub(super) struct Descriptions {
    message: Option<String>,
    fields: HashMap<&'static str, &'static str>,
}

impl Descriptions {
    /// Of the message of that full name; empty when nothing is said of it.
    pub(super) fn of(name: &str) -> Self {
        let start = format!("M {name}\t");
        let found = if TEXT.starts_with(&start) { Some(0) } else { TEXT.find(&format!("\n{start}")).map(|i| i + 1) };
        let Some(at) = found else { return Self::default() };
        let mut lines = TEXT[at..].lines().map(|line| line.split_once('\t').unwrap_or((line, "\"\"")));
        let message = lines.next().and_then(|(_, text)| unquote(text));
        let fields = lines.take_while(|(name, _)| !name.starts_with("M ")).collect();
        Self { message, fields }
    }

    pub(super) fn message(&mut self) -> Option<String> {
        self.message.take()
    }

    pub(super) fn field(&self, name: &str) -> Option<String> {
        self.fields.get(name).and_then(|text| unquote(text))
    }
}

fn unquote(text: &str) -> Option<String> {
    serde_json::from_str::<String>(text).ok().filter(|t| !t.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_and_fields_are_described() {
        let mut port = Descriptions::of("io.k8s.api.core.v1.ContainerPort");
        assert!(port.message().unwrap().contains("network port"));
        assert!(port.field("protocol").unwrap().contains("\"TCP\""), "escapes are undone");
        assert_eq!(port.field("nonsense"), None);
        assert_eq!(Descriptions::of("io.k8s.api.core.v1.Nonsense").message(), None);
    }
}
