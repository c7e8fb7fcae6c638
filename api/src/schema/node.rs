//! A place in a schema, walked beside an object.

use super::{Field, Kind, ListType, MapType, Message, Schema, Type};

/// The type of a place in an object, with the schema its references point into. Cheap to copy.
#[derive(Clone, Copy, Debug)]
pub struct SchemaNode<'s> {
    schema: &'s Schema,
    ty: &'s Type,
}

impl<'s> SchemaNode<'s> {
    /// A place of that type.
    #[must_use]
    pub const fn new(schema: &'s Schema, ty: &'s Type) -> Self {
        Self { schema, ty }
    }

    /// The schema this place is in.
    #[must_use]
    pub const fn schema(self) -> &'s Schema {
        self.schema
    }

    /// The type of this place.
    #[must_use]
    pub const fn ty(self) -> &'s Type {
        self.ty
    }

    /// What it may hold.
    #[must_use]
    pub const fn kind(self) -> &'s Kind {
        &self.ty.kind
    }

    /// The message, where this is an object with known fields.
    #[must_use]
    pub fn message(self) -> Option<&'s Message> {
        match self.ty.kind {
            Kind::Message(id) => Some(self.schema.get(id)),
            _ => None,
        }
    }

    /// The field of that name of a message, and its place.
    #[must_use]
    pub fn field(self, name: &str) -> Option<(&'s Field, Self)> {
        self.message()?.field(name).map(|f| (f, Self { schema: self.schema, ty: &f.ty }))
    }

    /// The place under that key: a message's field or a map's value.
    #[must_use]
    pub fn child(self, key: &str) -> Option<Self> {
        match &self.ty.kind {
            Kind::Map(value) => Some(Self { schema: self.schema, ty: value }),
            _ => self.field(key).map(|(_, node)| node),
        }
    }

    /// The place of a list's items.
    #[must_use]
    pub fn item(self) -> Option<Self> {
        match &self.ty.kind {
            Kind::List(list) => Some(Self { schema: self.schema, ty: &list.item }),
            _ => None,
        }
    }

    /// How the items of a list are told apart; atomic for what is no list.
    #[must_use]
    pub fn list_type(self) -> &'s ListType {
        match &self.ty.kind {
            Kind::List(list) => &list.list_type,
            _ => &ListType::Atomic,
        }
    }

    /// The value is owned and replaced as a whole: scalars, and what is marked so.
    #[must_use]
    pub fn is_atomic(self) -> bool {
        match &self.ty.kind {
            Kind::List(list) => list.list_type == ListType::Atomic,
            Kind::Message(id) => match self.ty.map_type {
                MapType::Unsaid => self.schema.get(*id).ty.map_type == MapType::Atomic,
                said => said == MapType::Atomic,
            },
            Kind::Map(_) | Kind::Any => self.ty.map_type == MapType::Atomic,
            _ => true,
        }
    }

    /// The type as Go would write it, which is what error messages say: `[]v1.Container`, `map[string]string`, `int32`.
    #[must_use]
    pub fn describe(self) -> String {
        let at = |ty| Self { schema: self.schema, ty };
        match &self.ty.kind {
            Kind::String => "string".into(),
            Kind::Bytes => "[]uint8".into(),
            Kind::Boolean => "bool".into(),
            Kind::Int32 => "int32".into(),
            Kind::Int64 => "int64".into(),
            Kind::Number => "float64".into(),
            Kind::IntOrString => "intstr.IntOrString".into(),
            Kind::Quantity => "resource.Quantity".into(),
            Kind::Time => "v1.Time".into(),
            Kind::MicroTime => "v1.MicroTime".into(),
            Kind::Any => "runtime.RawExtension".into(),
            Kind::SchemaOrArray => "v1.JSONSchemaPropsOrArray".into(),
            Kind::SchemaOrBool => "v1.JSONSchemaPropsOrBool".into(),
            Kind::SchemaOrStrings => "v1.JSONSchemaPropsOrStringArray".into(),
            Kind::Message(id) => {
                let name = &self.schema.get(*id).name;
                let start = name.rmatch_indices('.').nth(1).map_or(0, |(i, _)| i + 1);
                name[start..].to_owned()
            }
            Kind::List(list) => format!("[]{}", at(&list.item).describe()),
            Kind::Map(value) if value.kind == Kind::Quantity => "v1.ResourceList".into(),
            Kind::Map(value) => format!("map[string]{}", at(value).describe()),
        }
    }
}
