use api::schema::{Kind, Type};
use proptest::prelude::*;
use serde_json::{Map, json};

use super::*;

/// A Pod as the Go types encode it, made with k8s-pb 0.9.0.
const POD: &[u8] = include_bytes!("testdata/pod.pb");
const POD_JSON: &str = include_str!("testdata/pod.json");

#[test]
fn what_the_go_types_encode_is_read() {
    let expected: Value = serde_json::from_str(POD_JSON).unwrap();
    assert_eq!(decode(POD).unwrap(), expected);
    assert_eq!(decode(&encode(&expected).unwrap()).unwrap(), expected);
}

/// A value for a place: every field is set, down to some depth.
fn sample(ty: &Type, depth: usize) -> Value {
    match &ty.kind {
        Kind::String => "text".into(),
        Kind::Bytes => "Ynl0ZXM=".into(),
        Kind::Boolean => true.into(),
        Kind::Int32 => (-7).into(),
        Kind::Int64 => (1_i64 << 40).into(),
        Kind::Number => 2.5.into(),
        Kind::IntOrString => "50%".into(),
        Kind::Quantity => "500m".into(),
        Kind::Time => "1969-12-31T23:59:58Z".into(),
        Kind::MicroTime => "1969-12-31T23:59:58.123456Z".into(),
        Kind::Any => json!({"any": [1, null, "x"]}),
        Kind::SchemaOrArray => json!([{"type": "string"}, {"type": "object"}]),
        Kind::SchemaOrBool => json!({"type": "string"}),
        Kind::SchemaOrStrings => json!(["a", "b"]),
        Kind::List(list) => json!([sample(&list.item, depth), sample(&list.item, depth)]),
        Kind::Map(of) => json!({"a": sample(of, depth), "b": sample(of, depth)}),
        Kind::Message(id) => {
            let fields = Schema::builtin().get(*id).fields.iter().filter(|f| f.wire.tag != 0 && depth > 0);
            fields.map(|f| (f.name.to_string(), sample(&f.ty, depth - 1))).collect::<Map<_, _>>().into()
        }
    }
}

#[test]
fn every_kind_comes_back_as_it_was() {
    let mut kinds = 0;
    for message in Schema::builtin().messages() {
        for kind in message.kinds.iter().take(1) {
            // WatchEvent's like are not objects; everything else with a tag is tried.
            let mut object = sample(&message.ty, 6);
            if object.as_object().is_none_or(Map::is_empty) {
                continue;
            }
            object["apiVersion"] = api::object::api_version(&kind.group, &kind.version).into();
            object["kind"] = kind.kind.as_ref().into();
            let bytes = encode(&object).unwrap();
            assert_eq!(decode(&bytes).unwrap(), object, "{}", message.name);
            kinds += 1;
        }
    }
    assert!(kinds > 150, "{kinds}");
}

#[test]
fn zeros_that_say_nothing_are_dropped_and_others_kept() {
    let object = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": ""},
        "spec": {"replicas": 0, "minReadySeconds": 0, "paused": false, "selector": {}, "template": {"spec": {
            "automountServiceAccountToken": false, "hostNetwork": false, "restartPolicy": "", "containers": [{"name": "", "image": ""}],
        }}},
    });
    assert_eq!(
        decode(&encode(&object).unwrap()).unwrap(),
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {},
            "spec": {"replicas": 0, "selector": {}, "template": {"spec": {"automountServiceAccountToken": false, "containers": [{"name": ""}]}}},
        })
    );
}

#[test]
fn lists_are_made_of_encoded_items() {
    let message = Schema::builtin().message("io.k8s.api.core.v1.ConfigMap").unwrap();
    let items: Vec<_> = ["a", "b"].iter().map(|n| encode_message(&json!({"metadata": {"name": n}, "data": {"k": ""}}), message)).collect();
    let bytes = encode_list("v1", "ConfigMapList", &json!({"resourceVersion": "7"}), &items);
    let item = |name: &str| json!({"metadata": {"name": name}, "data": {"k": ""}});
    let expected =
        json!({"apiVersion": "v1", "kind": "ConfigMapList", "metadata": {"resourceVersion": "7"}, "items": [item("a"), item("b")]});
    assert_eq!(decode(&bytes).unwrap(), expected);
}

#[test]
fn watch_events_are_framed() {
    let object = encode(&json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}})).unwrap();
    let frame = watch_event("ADDED", &object);
    assert_eq!(u32::from_be_bytes(frame[..4].try_into().unwrap()) as usize, frame.len() - 4);
    assert_eq!(&frame[4..11], b"\x0a\x05ADDED");
    assert!(frame.ends_with(&object));
}

#[test]
fn what_is_no_object_is_refused() {
    let refused = |bytes: &[u8]| decode(bytes).unwrap_err();
    assert!(refused(b"{}").starts_with("provided data does not appear to be a protobuf message, expected prefix"));
    assert_eq!(refused(b"k8s\0\x0a\x7f"), "unexpected EOF");
    assert_eq!(refused(&envelope("x/v1", "Y", b"")), "no kind \"Y\" is registered for version \"x/v1\"");
    assert!(encode(&json!({"apiVersion": "stable.example.com/v1", "kind": "CronTab"})).is_none());
}

proptest! {
    #[test]
    fn no_bytes_panic(body in prop::collection::vec(any::<u8>(), 0..200), at in 0..POD.len(), byte in any::<u8>()) {
        drop(decode(&envelope("v1", "Pod", &body)));
        let mut changed = POD.to_vec();
        changed[at] = byte;
        drop(decode(&changed));
        drop(decode(&POD[..at]));
    }
}
