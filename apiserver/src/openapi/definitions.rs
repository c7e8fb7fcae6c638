//! Schemas of the messages in the facts table, in either dialect.

use std::collections::{BTreeMap, BTreeSet};

use api::schema::{Kind, ListType, MapType, Message, Schema, Type};
use serde_json::{Map, Value, json};

use super::descriptions::Descriptions;
use super::render::Dialect;
use super::{ResourceDoc, SchemaDoc};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.";
const EXTENSIONS: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.";
const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";
const INT_OR_STRING: &str = "io.k8s.apimachinery.pkg.util.intstr.IntOrString";
const RAW_EXTENSION: &str = "io.k8s.apimachinery.pkg.runtime.RawExtension";

const PRESERVE: &str = "x-kubernetes-preserve-unknown-fields";

/// Every schema the rows need, by name.
pub(super) struct Definitions<'r> {
    pub(super) dialect: Dialect,
    pub(super) group_versions: &'r BTreeSet<(String, String)>,
    needed: BTreeSet<String>,
    custom: BTreeMap<String, (&'r ResourceDoc, &'r Value)>,
}

/// The name of a row's schema.
pub(super) fn name_of(row: &ResourceDoc) -> String {
    match &row.schema {
        SchemaDoc::Builtin(name) => name.to_string(),
        SchemaDoc::Custom(_) => {
            let group: Vec<_> = row.group.rsplit('.').collect();
            format!("{}.{}.{}", group.join("."), row.version, row.kind)
        }
    }
}

/// The name of the schema of a kind that a subresource takes; `None` when it has none (options of connections).
pub(super) fn name_of_kind(group: &str, version: &str, kind: &str) -> Option<String> {
    Schema::builtin().kind_of(group, version, kind).map(|m| m.name.to_string())
}

pub(super) fn meta(name: &str) -> String {
    format!("{META}{name}")
}

impl<'r> Definitions<'r> {
    pub(super) fn new(dialect: Dialect, rows: &[&'r ResourceDoc], group_versions: &'r BTreeSet<(String, String)>) -> Self {
        let mut found = Self { dialect, group_versions, needed: BTreeSet::new(), custom: BTreeMap::new() };
        for name in ["DeleteOptions", "Patch", "Status", "WatchEvent", "ObjectMeta", "ListMeta"] {
            found.need(&meta(name));
        }
        for row in rows {
            let name = name_of(row);
            found.need(&format!("{name}List"));
            match &row.schema {
                SchemaDoc::Builtin(_) => found.need(&name),
                SchemaDoc::Custom(schema) => drop(found.custom.insert(name, (row, schema))),
            }
            for sub in &row.subresources {
                if let Some(name) = name_of_kind(&sub.group, &sub.version, &sub.kind) {
                    found.need(&name);
                }
            }
        }
        found
    }

    /// A message and all it refers to.
    fn need(&mut self, name: &str) {
        let schema = Schema::builtin();
        let Some(message) = schema.message(name) else { return };
        if !self.needed.insert(name.to_owned()) {
            return;
        }
        for field in &message.fields {
            self.need_type(message, &field.ty);
        }
    }

    fn need_type(&mut self, within: &Message, ty: &Type) {
        match &ty.kind {
            Kind::Message(id) => self.need(&Schema::builtin().get(*id).name),
            Kind::List(list) => self.need_type(within, &list.item),
            Kind::Map(value) => self.need_type(within, value),
            kind => self.needed.extend(opaque(within, kind)),
        }
    }

    /// Each schema with its name.
    pub(super) fn entries(&self) -> impl Iterator<Item = (String, Value)> {
        let builtin = self.needed.iter().map(|name| (name.clone(), self.definition(name)));
        let custom = self.custom.iter().flat_map(|(name, (row, schema))| {
            [(name.clone(), self.custom_definition(row, schema)), (format!("{name}List"), self.custom_list(name, row))]
        });
        builtin.chain(custom)
    }

    fn definition(&self, name: &str) -> Value {
        let mut said = Descriptions::of(name);
        let mut out = Map::new();
        let Some(message) = Schema::builtin().message(name) else {
            out = opaque_definition(name, self.dialect);
            put(&mut out, "description", said.message());
            return out.into();
        };
        let description = said.message().or_else(|| {
            let kind = message.short_name().strip_suffix("List")?;
            Some(format!("{kind}List is a list of {kind} objects."))
        });
        put(&mut out, "description", description);
        out.insert("type".into(), "object".into());
        if !message.fields.is_empty() {
            let properties: Map<_, _> = message
                .fields
                .iter()
                .map(|field| {
                    let mut property = self.property(message, &field.ty, said.field(&field.name));
                    put(&mut property, "x-kubernetes-patch-merge-key", field.merge_key.as_deref());
                    let strategy = field.patch_strategy;
                    let strategies = [(strategy.merge, "merge"), (strategy.replace, "replace"), (strategy.retain_keys, "retainKeys")];
                    let strategies: Vec<_> = strategies.into_iter().filter_map(|(on, word)| on.then_some(word)).collect();
                    put(&mut property, "x-kubernetes-patch-strategy", (!strategies.is_empty()).then(|| strategies.join(",")));
                    if self.dialect == Dialect::V3 {
                        put(&mut property, "default", field.default.as_deref().cloned());
                    }
                    (field.name.to_string(), Value::Object(property))
                })
                .collect();
            out.insert("properties".into(), properties.into());
        }
        let required: Vec<&str> = message.fields.iter().filter(|f| f.required).map(|f| &*f.name).collect();
        put(&mut out, "required", (!required.is_empty()).then_some(required));
        if message.ty.map_type == MapType::Atomic {
            out.insert("x-kubernetes-map-type".into(), "atomic".into());
        }
        let kinds: Vec<_> = if message.everywhere {
            let kind = message.short_name();
            self.group_versions.iter().map(|(group, version)| json!({"group": group, "version": version, "kind": kind})).collect()
        } else {
            message.kinds.iter().map(|k| json!({"group": k.group, "version": k.version, "kind": k.kind})).collect()
        };
        put(&mut out, "x-kubernetes-group-version-kind", (!kinds.is_empty()).then_some(kinds));
        out.into()
    }

    /// A property: a reference that is described stands in `allOf` in version 3, where nothing may stand beside a `$ref`.
    fn property(&self, within: &Message, ty: &Type, description: Option<String>) -> Map<String, Value> {
        let mut out = self.type_schema(within, ty);
        if self.dialect == Dialect::V3 && out.contains_key("$ref") {
            out = Map::from_iter([("allOf".to_owned(), json!([out]))]);
        }
        put(&mut out, "description", description);
        match ty.map_type {
            MapType::Atomic if !matches!(ty.kind, Kind::Any) => put(&mut out, "x-kubernetes-map-type", Some("atomic")),
            MapType::Granular => put(&mut out, "x-kubernetes-map-type", Some("granular")),
            _ => {}
        }
        out
    }

    fn type_schema(&self, within: &Message, ty: &Type) -> Map<String, Value> {
        let value = match &ty.kind {
            Kind::String => json!({"type": "string"}),
            Kind::Bytes => json!({"type": "string", "format": "byte"}),
            Kind::Boolean => json!({"type": "boolean"}),
            Kind::Int32 => json!({"type": "integer", "format": "int32"}),
            Kind::Int64 => json!({"type": "integer", "format": "int64"}),
            Kind::Number => json!({"type": "number", "format": "double"}),
            Kind::Message(id) => self.dialect.reference(&Schema::builtin().get(*id).name),
            Kind::Map(value) => json!({"type": "object", "additionalProperties": self.type_schema(within, value)}),
            Kind::List(list) => {
                let mut out = json!({"type": "array", "items": self.type_schema(within, &list.item)});
                let word = match &list.list_type {
                    ListType::Atomic => "atomic",
                    ListType::Set => "set",
                    ListType::Map(keys) => {
                        out["x-kubernetes-list-map-keys"] = json!(keys);
                        "map"
                    }
                };
                if list.said {
                    out["x-kubernetes-list-type"] = word.into();
                }
                out
            }
            kind => opaque(within, kind).map_or(json!({}), |name| self.dialect.reference(&name)),
        };
        match value {
            Value::Object(map) => map,
            _ => Map::new(),
        }
    }

    fn custom_definition(&self, row: &ResourceDoc, schema: &Value) -> Value {
        let kinds = json!([{"group": row.group, "version": row.version, "kind": row.kind}]);
        // With properties, clients that validate by version 2 take every other field for unknown: they are told of none.
        if self.dialect == Dialect::V2 && preserves_unknown(schema) {
            return json!({"type": "object", "x-kubernetes-group-version-kind": kinds});
        }
        let mut out = schema.clone();
        if self.dialect == Dialect::V2 {
            to_v2(&mut out);
        }
        self.embedded(&mut out);
        let Value::Object(map) = &mut out else { return json!({"type": "object"}) };
        map.insert("type".into(), "object".into());
        self.add_object_properties(map);
        map.insert("x-kubernetes-group-version-kind".into(), kinds);
        out
    }

    /// Adds what every object has to the properties of a schema.
    fn add_object_properties(&self, schema: &mut Map<String, Value>) {
        let object = Schema::builtin().message("io.k8s.api.core.v1.Pod").expect("there are Pods");
        let said = Descriptions::of(&object.name);
        let properties = schema.entry("properties").or_insert_with(|| json!({}));
        for name in ["apiVersion", "kind", "metadata"] {
            let field = object.field(name).expect("every kind has it");
            properties[name] = self.property(object, &field.ty, said.field(name)).into();
        }
    }

    /// Says of each object embedded in a custom one that it is an object too.
    fn embedded(&self, schema: &mut Value) {
        let Value::Object(map) = schema else { return };
        if let Some(Value::Object(properties)) = map.get_mut("properties") {
            properties.values_mut().for_each(|p| self.embedded(p));
        }
        for key in ["items", "additionalProperties"] {
            if let Some(inner) = map.get_mut(key) {
                self.embedded(inner);
            }
        }
        if map.get("x-kubernetes-embedded-resource") != Some(&Value::Bool(true)) {
            return;
        }
        if self.dialect == Dialect::V2 && map.get(PRESERVE) == Some(&Value::Bool(true)) {
            return;
        }
        self.add_object_properties(map);
        let required = map.entry("required").or_insert_with(|| json!([]));
        if let Value::Array(names) = required {
            for name in ["kind", "apiVersion"] {
                if !names.iter().any(|n| n == name) {
                    names.push(name.into());
                }
            }
        }
    }

    fn custom_list(&self, name: &str, row: &ResourceDoc) -> Value {
        let list = Schema::builtin().message("io.k8s.api.core.v1.PodList").expect("there are lists of Pods");
        let said = Descriptions::of("io.k8s.api.core.v1.Pod");
        let mut properties = Map::new();
        for field in &list.fields {
            let property = self.property(list, &field.ty, said.field(&field.name).filter(|_| field.name != "metadata"));
            properties.insert(field.name.to_string(), property.into());
        }
        properties.insert("items".into(), json!({"type": "array", "items": self.dialect.reference(name)}));
        let kind = format!("{}List", row.kind);
        json!({
            "description": format!("{kind} is a list of {} objects.", row.kind),
            "type": "object",
            "required": ["items"],
            "properties": properties,
            "x-kubernetes-group-version-kind": [{"group": row.group, "version": row.version, "kind": kind}],
        })
    }
}

fn put(map: &mut Map<String, Value>, key: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        map.insert(key.to_owned(), value.into());
    }
}

/// The name of the schema for what the facts table has as a scalar and OpenAPI as a schema of its own.
fn opaque(within: &Message, kind: &Kind) -> Option<String> {
    let extensions = within.name.starts_with(EXTENSIONS);
    Some(match kind {
        Kind::IntOrString => INT_OR_STRING.into(),
        Kind::Quantity => QUANTITY.into(),
        Kind::Time => meta("Time"),
        Kind::MicroTime => meta("MicroTime"),
        Kind::Any if within.short_name() == "ManagedFieldsEntry" => meta("FieldsV1"),
        Kind::Any if extensions => format!("{EXTENSIONS}JSON"),
        Kind::Any => RAW_EXTENSION.into(),
        Kind::SchemaOrArray => format!("{EXTENSIONS}JSONSchemaPropsOrArray"),
        Kind::SchemaOrBool => format!("{EXTENSIONS}JSONSchemaPropsOrBool"),
        Kind::SchemaOrStrings => format!("{EXTENSIONS}JSONSchemaPropsOrStringArray"),
        _ => return None,
    })
}

fn opaque_definition(name: &str, dialect: Dialect) -> Map<String, Value> {
    let value = match (name, dialect) {
        (QUANTITY, Dialect::V2) => json!({"type": "string"}),
        (QUANTITY, Dialect::V3) => json!({"oneOf": [{"type": "string"}, {"type": "number"}]}),
        (INT_OR_STRING, Dialect::V2) => json!({"type": "string", "format": "int-or-string"}),
        (INT_OR_STRING, Dialect::V3) => json!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]}),
        (RAW_EXTENSION, _) => json!({"type": "object"}),
        (name, _) if name.ends_with("Time") => json!({"type": "string", "format": "date-time"}),
        (name, _) if name.ends_with("FieldsV1") => json!({"type": "object"}),
        _ => json!({}),
    };
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

fn preserves_unknown(schema: &Value) -> bool {
    schema.get(PRESERVE) == Some(&Value::Bool(true))
}

/// Takes out of a custom schema what version 2 cannot say, so that clients that check by it refuse nothing valid.
fn to_v2(schema: &mut Value) {
    let Value::Object(map) = schema else { return };
    for key in ["oneOf", "anyOf", "allOf", "not", "default", "x-kubernetes-validations"] {
        map.remove(key);
    }
    // What may be null need not be there, for who cannot say null.
    let nullable: Vec<String> = map
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter(|(_, p)| p["nullable"] == true)
        .map(|(n, _)| n.clone())
        .collect();
    if let Some(Value::Array(required)) = map.get_mut("required") {
        required.retain(|r| !nullable.iter().any(|n| r == n));
        if required.is_empty() {
            map.remove("required");
        }
    }
    if map.remove("nullable").is_some() || map.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true)) {
        for key in ["type", "format", "items", "properties", "additionalProperties", "required", "enum"] {
            map.remove(key);
        }
    }
    if map.get(PRESERVE) == Some(&Value::Bool(true)) {
        for key in ["type", "items", "properties", "additionalProperties", "required"] {
            map.remove(key);
        }
    }
    if let Some(Value::Object(properties)) = map.get_mut("properties") {
        properties.values_mut().for_each(to_v2);
    }
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = map.get_mut(key) {
            to_v2(inner);
        }
    }
}
