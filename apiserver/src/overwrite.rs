//! Makes a tree what a typed value says, in place: what is the same already stays as it is, and nothing is allocated for it.
//!
//! The outcome is that of `serde_json::to_value`. After defaulting and validation most of an object is what it was before, and building it
//! anew, as well as dropping the old one, costs more than comparing.

use serde::Serialize;
use serde::ser::{self, Impossible, SerializeMap, SerializeSeq, SerializeStruct, SerializeTuple, SerializeTupleStruct, Serializer};
use serde_json::{Error, Map, Value};

/// Overwrites `tree` by `value`.
///
/// # Errors
/// What JSON cannot express.
pub fn overwrite(tree: &mut Value, value: &impl Serialize) -> Result<(), Error> {
    value.serialize(Place(tree))
}

/// A place in the tree that takes a value.
struct Place<'t>(&'t mut Value);

impl<'t> Place<'t> {
    fn set(self, value: Value) -> Result<(), Error> {
        if *self.0 != value {
            *self.0 = value;
        }
        Ok(())
    }

    fn items(self) -> Items<'t> {
        if !self.0.is_array() {
            *self.0 = Value::Array(Vec::new());
        }
        match self.0 {
            Value::Array(items) => Items { items, at: 0 },
            _ => unreachable!("made an array above"),
        }
    }

    fn fields<K>(self, most: usize) -> Fields<'t, K> {
        if !self.0.is_object() {
            *self.0 = Value::Object(Map::new());
        }
        match self.0 {
            Value::Object(map) => Fields { map, seen: Vec::with_capacity(most), key: None },
            _ => unreachable!("made an object above"),
        }
    }
}

impl<'t> Serializer for Place<'t> {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = Items<'t>;
    type SerializeTuple = Items<'t>;
    type SerializeTupleStruct = Items<'t>;
    type SerializeTupleVariant = Impossible<(), Error>;
    type SerializeMap = Fields<'t, String>;
    type SerializeStruct = Fields<'t, &'static str>;
    type SerializeStructVariant = Impossible<(), Error>;

    fn serialize_bool(self, v: bool) -> Result<(), Error> {
        self.set(v.into())
    }
    fn serialize_i8(self, v: i8) -> Result<(), Error> {
        self.set(v.into())
    }
    fn serialize_i16(self, v: i16) -> Result<(), Error> {
        self.set(v.into())
    }
    fn serialize_i32(self, v: i32) -> Result<(), Error> {
        self.set(v.into())
    }
    fn serialize_i64(self, v: i64) -> Result<(), Error> {
        self.set(v.into())
    }
    fn serialize_u8(self, v: u8) -> Result<(), Error> {
        self.set(v.into())
    }
    fn serialize_u16(self, v: u16) -> Result<(), Error> {
        self.set(v.into())
    }
    fn serialize_u32(self, v: u32) -> Result<(), Error> {
        self.set(v.into())
    }
    fn serialize_u64(self, v: u64) -> Result<(), Error> {
        self.set(v.into())
    }
    fn serialize_f32(self, v: f32) -> Result<(), Error> {
        self.set(v.into())
    }
    fn serialize_f64(self, v: f64) -> Result<(), Error> {
        self.set(v.into())
    }
    fn serialize_char(self, v: char) -> Result<(), Error> {
        self.serialize_str(v.encode_utf8(&mut [0; 4]))
    }
    fn serialize_str(self, v: &str) -> Result<(), Error> {
        if self.0.as_str() != Some(v) {
            *self.0 = v.into();
        }
        Ok(())
    }
    fn serialize_bytes(self, v: &[u8]) -> Result<(), Error> {
        self.set(v.into())
    }
    fn serialize_none(self) -> Result<(), Error> {
        self.serialize_unit()
    }
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Error> {
        value.serialize(self)
    }
    fn serialize_unit(self) -> Result<(), Error> {
        self.set(Value::Null)
    }
    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Error> {
        self.serialize_unit()
    }
    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<(), Error> {
        self.serialize_str(variant)
    }
    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<(), Error> {
        value.serialize(self)
    }
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        let mut fields: Fields<'t, &'static str> = self.fields(1);
        SerializeStruct::serialize_field(&mut fields, variant, value)?;
        SerializeStruct::end(fields)
    }
    fn serialize_seq(self, _: Option<usize>) -> Result<Items<'t>, Error> {
        Ok(self.items())
    }
    fn serialize_tuple(self, _: usize) -> Result<Items<'t>, Error> {
        Ok(self.items())
    }
    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Items<'t>, Error> {
        Ok(self.items())
    }
    fn serialize_tuple_variant(self, name: &'static str, _: u32, _: &'static str, _: usize) -> Result<Self::SerializeTupleVariant, Error> {
        Err(unexpected(name))
    }
    fn serialize_map(self, most: Option<usize>) -> Result<Fields<'t, String>, Error> {
        Ok(self.fields(most.unwrap_or(0)))
    }
    fn serialize_struct(self, _: &'static str, most: usize) -> Result<Fields<'t, &'static str>, Error> {
        Ok(self.fields(most))
    }
    fn serialize_struct_variant(
        self,
        name: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, Error> {
        Err(unexpected(name))
    }
}

/// No type of the API is an enum with such variants.
fn unexpected(name: &str) -> Error {
    ser::Error::custom(format!("{name} has a variant of a form that no API type has"))
}

/// A list that is being overwritten.
struct Items<'t> {
    items: &'t mut Vec<Value>,
    at: usize,
}

impl SerializeSeq for Items<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        if self.at == self.items.len() {
            self.items.push(Value::Null);
        }
        let place = &mut self.items[self.at];
        self.at += 1;
        value.serialize(Place(place))
    }

    fn end(self) -> Result<(), Error> {
        self.items.truncate(self.at);
        Ok(())
    }
}

impl SerializeTuple for Items<'_> {
    type Ok = ();
    type Error = Error;
    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        SerializeSeq::serialize_element(self, value)
    }
    fn end(self) -> Result<(), Error> {
        SerializeSeq::end(self)
    }
}

impl SerializeTupleStruct for Items<'_> {
    type Ok = ();
    type Error = Error;
    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        SerializeSeq::serialize_element(self, value)
    }
    fn end(self) -> Result<(), Error> {
        SerializeSeq::end(self)
    }
}

/// An object that is being overwritten.
struct Fields<'t, K> {
    map: &'t mut Map<String, Value>,
    /// What the value has; what else the object has goes at the end.
    seen: Vec<K>,
    key: Option<String>,
}

impl<K> Fields<'_, K> {
    fn field<T: Serialize + ?Sized>(&mut self, key: &str, value: &T) -> Result<(), Error> {
        if let Some(place) = self.map.get_mut(key) {
            return value.serialize(Place(place));
        }
        let mut new = Value::Null;
        value.serialize(Place(&mut new))?;
        self.map.insert(key.to_owned(), new);
        Ok(())
    }

    fn finish(self, seen: impl Fn(&K, &str) -> bool) {
        if self.map.len() > self.seen.len() {
            self.map.retain(|key, _| self.seen.iter().any(|k| seen(k, key)));
        }
    }
}

impl SerializeStruct for Fields<'_, &'static str> {
    type Ok = ();
    type Error = Error;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), Error> {
        self.seen.push(key);
        self.field(key, value)
    }

    fn end(self) -> Result<(), Error> {
        self.finish(|seen, key| *seen == key);
        Ok(())
    }
}

impl SerializeMap for Fields<'_, String> {
    type Ok = ();
    type Error = Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        match serde_json::to_value(key)? {
            Value::String(key) => self.key = Some(key),
            other => return Err(ser::Error::custom(format!("a key is no string: {other}"))),
        }
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        let key = self.key.take().ok_or_else(|| <Error as ser::Error>::custom("a value without a key"))?;
        self.field(&key, value)?;
        self.seen.push(key);
        Ok(())
    }

    fn end(self) -> Result<(), Error> {
        self.finish(|seen, key| *seen == key);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn tree() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (-3..3_i64).prop_map(Value::from),
            "[ab]".prop_map(Value::from)
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[abc]", inner, 0..4).prop_map(|m| Value::Object(m.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_tree_becomes_any_other(mut old in tree(), new in tree()) {
            overwrite(&mut old, &new).unwrap();
            prop_assert_eq!(old, new);
        }
    }

    #[test]
    fn a_typed_object_leaves_nothing_of_what_was_there() {
        let pod = json!({
            "metadata": {"name": "p", "labels": {"a": "1"}},
            "spec": {"containers": [{"name": "a", "ports": [{"containerPort": 80, "hostPort": 1}], "livenessProbe": {"httpGet": {"port": "http"}}}]},
        });
        let typed: k8s_openapi::api::core::v1::Pod = serde_json::from_value(pod).unwrap();
        let mut tree = json!({
            "metadata": {"name": "q", "labels": {"b": "1"}, "uid": "u"},
            "spec": {"containers": [{"name": "a", "image": "i", "ports": []}, {"name": "b"}], "nodeName": "n"},
            "status": {},
        });
        overwrite(&mut tree, &typed).unwrap();
        assert_eq!(tree, serde_json::to_value(&typed).unwrap());
    }
}
