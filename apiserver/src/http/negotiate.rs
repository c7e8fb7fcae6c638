//! Which form of an answer a client wants, from its `Accept` header.

use api::status::Status;

/// How bytes are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// `application/json`
    Json,
    /// `application/yaml`
    Yaml,
    /// `application/vnd.kubernetes.protobuf`
    Protobuf,
}

impl Format {
    /// The `Content-Type` of a whole object.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Yaml => "application/yaml",
            Self::Protobuf => "application/vnd.kubernetes.protobuf",
        }
    }
}

/// What is shown of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum View {
    /// All of it.
    Object,
    /// A `Table`, as `kubectl get` asks for.
    Table,
    /// Its metadata alone.
    Metadata,
}

/// A negotiated form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Media {
    /// How bytes are written.
    pub format: Format,
    /// What is shown.
    pub view: View,
}

impl Media {
    /// Plain JSON.
    pub const JSON: Self = Self { format: Format::Json, view: View::Object };
}

/// The types named in a 406.
const ACCEPTED: [&str; 3] = ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];

/// Picks the first form in `accept` that is served. Quality values are honoured. `protobuf` says whether the kind has that form.
///
/// # Errors
/// 406 when none is served.
pub fn accept(accept: Option<&str>, protobuf: bool) -> Result<Media, Status> {
    let Some(accept) = accept.filter(|a| !a.trim().is_empty()) else { return Ok(Media::JSON) };
    let mut clauses: Vec<(f32, &str)> = accept.split(',').map(|c| (quality(c), c.trim())).filter(|(q, _)| *q > 0.0).collect();
    clauses.sort_by(|a, b| b.0.total_cmp(&a.0));
    clauses.iter().find_map(|(_, c)| clause(c, protobuf)).ok_or_else(|| Status::not_acceptable(&ACCEPTED[..if protobuf { 3 } else { 2 }]))
}

fn quality(clause: &str) -> f32 {
    clause.split(';').find_map(|p| p.trim().strip_prefix("q=")?.parse().ok()).unwrap_or(1.0)
}

fn clause(clause: &str, protobuf: bool) -> Option<Media> {
    let mut parts = clause.split(';').map(str::trim);
    let format = match parts.next()? {
        "application/json" | "*/*" | "application/*" | "text/*" => Format::Json,
        "application/yaml" => Format::Yaml,
        "application/vnd.kubernetes.protobuf" if protobuf => Format::Protobuf,
        _ => return None,
    };
    let (mut view, mut group, mut version) = (View::Object, "", "");
    for part in parts {
        match part.split_once('=') {
            Some(("as", "Table")) => view = View::Table,
            Some(("as", "PartialObjectMetadata" | "PartialObjectMetadataList")) => view = View::Metadata,
            Some(("as", _)) => return None,
            Some(("g", g)) => group = g,
            Some(("v", v)) => version = v,
            // A stream is chosen by the verb, not here.
            _ => {}
        }
    }
    let known = view == View::Object || (group == "meta.k8s.io" && matches!(version, "v1" | "v1beta1"));
    // Tables are shown as JSON or YAML only.
    (known && !(view == View::Table && format == Format::Protobuf)).then_some(Media { format, view })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_get_what_they_ask_for() {
        let got = |a: &str| accept(Some(a), true).map(|m| (m.format, m.view));
        assert_eq!(got("application/json"), Ok((Format::Json, View::Object)));
        assert_eq!(
            got("application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json"),
            Ok((Format::Json, View::Table))
        );
        assert_eq!(got("application/vnd.kubernetes.protobuf,application/json"), Ok((Format::Protobuf, View::Object)));
        assert_eq!(
            got(
                "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
            ),
            Ok((Format::Protobuf, View::Metadata))
        );
        assert_eq!(got("application/json;q=0.5, application/yaml"), Ok((Format::Yaml, View::Object)));
        assert_eq!(got("*/*"), Ok((Format::Json, View::Object)));
        assert_eq!(got("text/html").map_err(|e| e.code), Err(406));
        assert_eq!(accept(Some("application/vnd.kubernetes.protobuf, application/json"), false).unwrap(), Media::JSON);
    }
}
