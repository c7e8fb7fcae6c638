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

/// The version of `meta.k8s.io` that a table or metadata is shown in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MetaVersion {
    /// `v1`
    V1,
    /// `v1beta1`
    V1Beta1,
}

impl MetaVersion {
    /// The `apiVersion`.
    #[must_use]
    pub const fn api_version(self) -> &'static str {
        match self {
            Self::V1 => "meta.k8s.io/v1",
            Self::V1Beta1 => "meta.k8s.io/v1beta1",
        }
    }
}

/// A negotiated form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Media {
    /// How bytes are written.
    pub format: Format,
    /// What is shown.
    pub view: View,
    /// In which version, where that is no object of the row.
    pub meta: MetaVersion,
    /// Whether metadata is asked for as of a list, or as of one object; nothing where it does not matter.
    pub as_list: Option<bool>,
}

impl Media {
    /// Plain JSON.
    pub const JSON: Self = Self { format: Format::Json, view: View::Object, meta: MetaVersion::V1, as_list: None };
}

/// The types named in a 406.
const ACCEPTED: [&str; 3] = ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];

/// Picks the first form in `accept` that is served. Quality values are honoured. `protobuf` says whether the kind has that form, `views`
/// whether it is shown as a table or by its metadata.
///
/// # Errors
/// 406 when none is served.
pub fn accept(accept: Option<&str>, protobuf: bool, views: bool) -> Result<Media, Status> {
    let Some(accept) = accept.filter(|a| !a.trim().is_empty()) else { return Ok(Media::JSON) };
    let mut clauses: Vec<(f32, &str)> = accept.split(',').map(|c| (quality(c), c.trim())).filter(|(q, _)| *q > 0.0).collect();
    clauses.sort_by(|a, b| b.0.total_cmp(&a.0));
    clauses
        .iter()
        .find_map(|(_, c)| clause(c, protobuf).filter(|m| views || m.view == View::Object))
        .ok_or_else(|| Status::not_acceptable(&ACCEPTED[..if protobuf { 3 } else { 2 }]))
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
    let (mut view, mut group, mut version, mut as_list) = (View::Object, "", "", None);
    for part in parts {
        match part.split_once('=') {
            Some(("as", "Table")) => view = View::Table,
            Some(("as", kind @ ("PartialObjectMetadata" | "PartialObjectMetadataList"))) => {
                (view, as_list) = (View::Metadata, Some(kind.ends_with("List")));
            }
            Some(("as", _)) => return None,
            Some(("g", g)) => group = g,
            Some(("v", v)) => version = v,
            // A stream is chosen by the verb, not here.
            _ => {}
        }
    }
    let meta = if version == "v1beta1" { MetaVersion::V1Beta1 } else { MetaVersion::V1 };
    let known = view == View::Object || (group == "meta.k8s.io" && matches!(version, "v1" | "v1beta1"));
    // Tables are shown as JSON or YAML only.
    (known && !(view == View::Table && format == Format::Protobuf)).then_some(Media { format, view, meta, as_list })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_get_what_they_ask_for() {
        let got = |a: &str| accept(Some(a), true, true).map(|m| (m.format, m.view));
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
        assert_eq!(accept(Some("application/vnd.kubernetes.protobuf, application/json"), false, true).unwrap(), Media::JSON);
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
        assert_eq!(accept(Some(table), true, false).map_err(|e| e.code), Err(406));
        assert_eq!(accept(Some(&format!("{table},application/json")), true, false).unwrap(), Media::JSON);
    }
}
