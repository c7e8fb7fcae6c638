//! Forms of objects: as they are, their metadata alone, rows of a table; as JSON, YAML or protobuf.
//!
//! The usual case, a whole object as JSON in its stored version, passes bytes through untouched.

use api::object::Meta as _;
use api::schema::Schema;
use api::status::Status;
use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::negotiate::{Format, Media, View};
use crate::catalog::Served;
use crate::protobuf;
use crate::resource::{Cell, Column, Conversion};

/// What of the object goes into a table's row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Include {
    /// Nothing.
    None,
    /// Its metadata.
    Metadata,
    /// All of it.
    Object,
}

impl Include {
    /// From the query parameter `includeObject`.
    ///
    /// # Errors
    /// 400 for an unknown policy.
    pub fn parse(text: Option<&str>) -> Result<Self, Status> {
        match text.unwrap_or("") {
            "" | "Metadata" => Ok(Self::Metadata),
            "None" => Ok(Self::None),
            "Object" => Ok(Self::Object),
            other => Err(Status::bad_request(format!(
                "Unable to convert to Table as requested: includeObject: Invalid value: {other:?}: must be 'Metadata', 'Object', 'None', or empty"
            ))),
        }
    }
}

/// Renders objects of one resource in one form.
#[derive(Debug, Clone)]
pub struct Renderer {
    row: std::sync::Arc<Served>,
    media: Media,
    include: Include,
    now: Timestamp,
    /// Whether bytes that had to be asked for are in the row's version already.
    settled: bool,
}

/// The state of a list besides its items.
#[derive(Debug, Clone, Default)]
pub struct ListMeta {
    /// The revision of the list.
    pub resource_version: u64,
    /// Where the next page begins; empty on the last.
    pub continue_token: String,
    /// How many are left, when that is known.
    pub remaining: Option<usize>,
}

impl Renderer {
    /// A renderer for a request made at `now`.
    #[must_use]
    pub fn new(row: std::sync::Arc<Served>, media: Media, include: Include, now: Timestamp) -> Self {
        Self { row, media, include, now, settled: false }
    }

    /// The same for bytes that went through [`crate::verbs::Call::entries`]: where somebody had to be asked for their form, they have it now.
    #[must_use]
    pub fn settled(self) -> Self {
        Self { settled: self.row.versions().is_some_and(|v| v.asks()), ..self }
    }

    /// Whether stored bytes are the answer.
    #[must_use]
    pub fn is_verbatim(&self) -> bool {
        self.media == Media::JSON && (self.row.conversion.is_none() || self.settled)
    }

    /// The form.
    #[must_use]
    pub fn media(&self) -> Media {
        self.media
    }

    /// Stored bytes as a tree in the worked form.
    fn tree(&self, wire: &[u8]) -> Result<Value, Status> {
        let tree = serde_json::from_slice(wire).map_err(|e| Status::internal(format!("an object in the storage is no JSON: {e}")))?;
        match self.row.versions().filter(|_| !self.settled) {
            Some(versions) => versions.settle(tree),
            None => Ok(tree),
        }
    }

    /// One object, given as its stored bytes, as a whole answer.
    ///
    /// # Errors
    /// An object that cannot be converted.
    pub fn object(&self, wire: &Bytes) -> Result<Bytes, Status> {
        if self.is_verbatim() {
            return Ok(wire.clone());
        }
        self.stored_tree(self.tree(wire)?)
    }

    /// One object, given in the worked form, as a whole answer.
    ///
    /// # Errors
    /// An object that cannot be converted.
    pub fn stored_tree(&self, tree: Value) -> Result<Bytes, Status> {
        self.bytes(&self.whole(tree, true)?)
    }

    /// An object that is not of the row's kind, as a whole answer: in a table where one is asked for and its kind has columns.
    ///
    /// # Errors
    /// An object that the format cannot express.
    pub fn apart(&self, tree: &Value) -> Result<Bytes, Status> {
        if self.media.view != View::Table || tree["kind"] != "Scale" {
            return bytes(tree, self.media.format);
        }
        let columns =
            [Column::name(), Column::integer("Desired", "/spec/replicas"), Column::integer("Available", "/status/replicas"), Column::age()];
        self.bytes(&json!({
            "kind": "Table", "apiVersion": self.media.meta.api_version(), "metadata": {"resourceVersion": tree.resource_version()},
            "columnDefinitions": definitions(&columns), "rows": [self.row_in(&columns, tree)],
        }))
    }

    /// An object on its own in the view that was asked for: in a table of one row where that is a table.
    fn whole(&self, tree: Value, columns: bool) -> Result<Value, Status> {
        if self.media.view != View::Table {
            return self.viewed(tree);
        }
        let meta = ListMeta { resource_version: tree.resource_version().parse().unwrap_or(0), ..ListMeta::default() };
        let mut table = self.list_frame(&meta, columns);
        table["rows"] = json!([self.viewed(tree)?]);
        Ok(table)
    }

    /// An object among others in the view that was asked for.
    fn viewed(&self, tree: Value) -> Result<Value, Status> {
        match (self.media.view, &self.row.conversion) {
            (View::Metadata, _) => Ok(self.metadata_only(&tree)),
            (View::Table, _) => Ok(self.row_of(&tree)),
            (View::Object, Some(Conversion::Fixed { from_stored, .. })) => from_stored(tree),
            (View::Object, _) => Ok(tree),
        }
    }

    /// A list's item, given as its stored bytes.
    ///
    /// # Errors
    /// An object that cannot be converted.
    pub fn item(&self, wire: &[u8]) -> Result<Value, Status> {
        self.viewed(self.tree(wire)?)
    }

    /// One list item as JSON, where it is not its stored bytes.
    ///
    /// # Errors
    /// An object that cannot be converted.
    pub fn item_json(&self, wire: &[u8]) -> Result<Vec<u8>, Status> {
        serde_json::to_vec(&self.item(wire)?).map_err(Status::internal)
    }

    /// The text before and after a list's items, as JSON.
    #[must_use]
    pub fn list_ends(&self, meta: &ListMeta) -> (Vec<u8>, &'static [u8]) {
        let frame = self.list_frame(meta, true).to_string();
        // The frame is an object without its items, which go in as its last member.
        let open = frame.strip_suffix('}').unwrap_or(&frame);
        let items = if self.media.view == View::Table { ",\"rows\":[" } else { ",\"items\":[" };
        ([open, items].concat().into_bytes(), b"]}")
    }

    /// A list object without its items.
    fn list_frame(&self, meta: &ListMeta, columns: bool) -> Value {
        let mut metadata = Map::from_iter([("resourceVersion".to_owned(), Value::from(meta.resource_version.to_string()))]);
        if !meta.continue_token.is_empty() {
            metadata.insert("continue".to_owned(), meta.continue_token.as_str().into());
        }
        if let Some(remaining) = meta.remaining.filter(|r| *r > 0) {
            metadata.insert("remainingItemCount".to_owned(), remaining.into());
        }
        let version = self.media.meta.api_version();
        match self.media.view {
            View::Object => json!({"kind": self.row.list_kind, "apiVersion": self.row.api_version(), "metadata": metadata}),
            View::Metadata => json!({"kind": "PartialObjectMetadataList", "apiVersion": version, "metadata": metadata}),
            View::Table if columns => {
                json!({"kind": "Table", "apiVersion": version, "metadata": metadata, "columnDefinitions": definitions(&self.row.columns)})
            }
            View::Table => json!({"kind": "Table", "apiVersion": version, "metadata": metadata, "columnDefinitions": null}),
        }
    }

    /// An object as a watch event's `object`. A watched table shows its columns in the first event only.
    ///
    /// # Errors
    /// An object that cannot be converted.
    pub fn watched(&self, wire: &[u8], first: bool) -> Result<Value, Status> {
        self.whole(self.tree(wire)?, first)
    }

    /// A tree in the format of the answer.
    ///
    /// # Errors
    /// A tree that the format cannot express.
    pub fn bytes(&self, tree: &Value) -> Result<Bytes, Status> {
        bytes(tree, self.media.format)
    }

    /// The object of a bookmark: nothing but metadata.
    #[must_use]
    pub fn bookmark(&self, metadata: Value) -> Value {
        match self.media.view {
            View::Object => json!({"kind": self.row.kind, "apiVersion": self.row.api_version(), "metadata": metadata}),
            View::Metadata => json!({"kind": "PartialObjectMetadata", "apiVersion": self.media.meta.api_version(), "metadata": metadata}),
            View::Table => {
                let mut table = self.list_frame(&ListMeta::default(), false);
                table["metadata"] = metadata;
                table["rows"] = json!([]);
                table
            }
        }
    }

    /// A watch event as it is sent.
    #[must_use]
    pub fn event(&self, event: &Value) -> Bytes {
        if self.media.format == Format::Protobuf
            && let (Some(kind), Some(object)) = (event["type"].as_str(), protobuf::encode(&event["object"]))
        {
            return protobuf::watch_event(kind, &object).into();
        }
        format!("{event}\n").into()
    }

    /// A whole list in a format that is not written item by item.
    ///
    /// # Errors
    /// An object that cannot be converted or expressed.
    pub fn list<'a>(&self, meta: &ListMeta, items: impl Iterator<Item = &'a [u8]>) -> Result<Bytes, Status> {
        let mut frame = self.list_frame(meta, true);
        let items = items.map(|i| self.item(i)).collect::<Result<Vec<_>, _>>()?;
        if self.media.format != Format::Protobuf {
            frame[if self.media.view == View::Table { "rows" } else { "items" }] = items.into();
            return self.bytes(&frame);
        }
        let text = |v: &Value, f: &str| v[f].as_str().unwrap_or("").to_owned();
        let (api_version, kind) = (text(&frame, "apiVersion"), text(&frame, "kind"));
        let node = |item: &Value| {
            let (version, kind) = (text(item, "apiVersion"), text(item, "kind"));
            let (group, version) = api::object::split_api_version(&version);
            Schema::builtin().kind_of(group, version, &kind)
        };
        let encoded = items
            .iter()
            .map(|i| node(i).map(|m| protobuf::encode_message(i, m)).ok_or_else(|| Status::internal("an item of no known kind")));
        Ok(protobuf::encode_list(&api_version, &kind, &frame["metadata"], &encoded.collect::<Result<Vec<_>, _>>()?).into())
    }

    fn metadata_only(&self, object: &Value) -> Value {
        let (version, metadata) = (self.media.meta.api_version(), object.get("metadata").cloned().unwrap_or_default());
        json!({"kind": "PartialObjectMetadata", "apiVersion": version, "metadata": metadata})
    }

    fn row_of(&self, object: &Value) -> Value {
        self.row_in(&self.row.columns, object)
    }

    fn row_in(&self, columns: &[Column], object: &Value) -> Value {
        let cells: Vec<Value> = columns.iter().map(|c| cell(c, object, self.now)).collect();
        let shown = match self.include {
            Include::None => Value::Null,
            Include::Metadata => self.metadata_only(object),
            Include::Object => object.clone(),
        };
        json!({"cells": cells, "object": shown})
    }
}

/// A tree in a format.
///
/// # Errors
/// A tree that the format cannot express.
pub fn bytes(tree: &Value, format: Format) -> Result<Bytes, Status> {
    match format {
        Format::Json => serde_json::to_vec(tree).map(Bytes::from).map_err(Status::internal),
        Format::Yaml => serde_saphyr::to_string(tree).map(Bytes::from).map_err(Status::internal),
        Format::Protobuf => {
            protobuf::encode(tree).map(Bytes::from).ok_or_else(|| Status::not_acceptable(&["application/json", "application/yaml"]))
        }
    }
}

fn definitions(columns: &[Column]) -> Value {
    let one =
        |c: &Column| json!({"name": c.name, "type": c.kind, "format": c.format, "description": c.description, "priority": c.priority});
    columns.iter().map(one).collect()
}

fn cell(column: &Column, object: &Value, now: Timestamp) -> Value {
    match &column.cell {
        Cell::Pointer(pointer) => object.pointer(pointer).cloned().unwrap_or_else(|| "".into()),
        Cell::PointerOrZero(pointer) => object.pointer(pointer).cloned().unwrap_or_else(|| 0.into()),
        Cell::Compute(f) => f(object, now),
        Cell::Age(pointer) => age(object.pointer(pointer).and_then(Value::as_str), now).into(),
        Cell::JsonPath(path) => crate::crd::json_path::cell(path, &column.kind, object, now),
    }
}

/// The time since a timestamp as people read it; `<unknown>` without one.
#[must_use]
pub fn age(since: Option<&str>, now: Timestamp) -> String {
    match since.and_then(|s| s.parse::<Timestamp>().ok()) {
        Some(since) => human_duration(now.duration_since(since).as_secs()),
        None => "<unknown>".to_owned(),
    }
}

/// Seconds in kubectl's notation: two units at most, fewer as the time grows (`duration.HumanDuration`).
#[must_use]
pub fn human_duration(seconds: i64) -> String {
    let (m, h, d) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    let two = |a: i64, au: char, b: i64, bu: char| if b == 0 { format!("{a}{au}") } else { format!("{a}{au}{b}{bu}") };
    match seconds {
        ..-1 => "<invalid>".to_owned(),
        -1..=0 => "0s".to_owned(),
        1..120 => format!("{seconds}s"),
        _ if m < 10 => two(m, 'm', seconds % 60, 's'),
        _ if m < 180 => format!("{m}m"),
        _ if h < 8 => two(h, 'h', m % 60, 'm'),
        _ if h < 48 => format!("{h}h"),
        _ if d < 8 => two(d, 'd', h % 24, 'h'),
        _ if d < 365 * 2 => format!("{d}d"),
        _ if d < 365 * 8 => two(d / 365, 'y', d % 365, 'd'),
        _ => format!("{}y", d / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_as_kubectl_shows_them() {
        let text = |s| human_duration(s);
        assert_eq!([0, 59, 119, 120, 599, 600, 10_799].map(text), ["0s", "59s", "119s", "2m", "9m59s", "10m", "179m"]);
        assert_eq!([10_800, 28_799, 28_800, 172_799, 172_800, 700_000].map(text), ["3h", "7h59m", "8h", "47h", "2d", "8d"]);
        assert_eq!([86_400 * 400, 86_400 * 800, 86_400 * 4_000].map(text), ["400d", "2y70d", "10y"]);
        assert_eq!(age(None, Timestamp::UNIX_EPOCH), "<unknown>");
    }
}
