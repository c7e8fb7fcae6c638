use std::path::Path;

use api::schema::Schema;

use super::*;

fn sub(name: &'static str, kind: [&'static str; 3], verbs: &[&'static str]) -> SubresourceDoc {
    let [group, version, kind] = kind.map(Cow::Borrowed);
    SubresourceDoc { name: name.into(), group, version, kind, verbs: verbs.to_vec() }
}

fn row(group: &'static str, version: &'static str, kind: &'static str, plural: &'static str, namespaced: bool) -> ResourceDoc {
    let message = Schema::builtin().kind_of(group, version, kind).unwrap();
    ResourceDoc {
        group: group.into(),
        version: version.into(),
        kind: kind.into(),
        plural: plural.into(),
        singular: kind.to_lowercase().into(),
        namespaced,
        verbs: vec!["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"],
        returns_deleted: false,
        subresources: vec![],
        schema: SchemaDoc::Builtin(message.name.clone()),
    }
}

fn rows() -> Vec<ResourceDoc> {
    let mut pods = row("", "v1", "Pod", "pods", true);
    pods.subresources = vec![
        sub("binding", ["", "v1", "Binding"], &["create"]),
        sub("exec", ["", "v1", "PodExecOptions"], &["create", "get"]),
        sub("log", ["", "v1", "Pod"], &["get"]),
        sub("status", ["", "v1", "Pod"], &["get", "patch", "update"]),
    ];
    let mut deployments = row("apps", "v1", "Deployment", "deployments", true);
    deployments.subresources = vec![
        sub("scale", ["autoscaling", "v1", "Scale"], &["get", "patch", "update"]),
        sub("status", ["apps", "v1", "Deployment"], &["get", "patch", "update"]),
    ];
    let mut reviews = row("authorization.k8s.io", "v1", "SubjectAccessReview", "subjectaccessreviews", false);
    reviews.verbs = vec!["create"];
    let mut tabs = row("", "v1", "Pod", "crontabs", true);
    (tabs.group, tabs.kind) = ("stable.example.com".into(), "CronTab".into());
    tabs.schema = SchemaDoc::Custom(Arc::new(json!({
        "type": "object", "description": "A tab.",
        "properties": {"spec": {"type": "object", "properties": {
            "port": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]},
            "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        }}},
    })));
    vec![pods, row("", "v1", "Node", "nodes", false), deployments, reviews, tabs]
}

fn parse(document: &Document) -> Value {
    serde_json::from_slice(&document.plain()).unwrap()
}

/// Every `$ref` of a document.
fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                match value {
                    Value::String(text) if key == "$ref" => drop(found.insert(text.clone())),
                    value => references(value, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

#[test]
fn version_3_has_what_kubectl_looks_for() {
    let api = OpenApi::new(rows());
    let index: Value = serde_json::from_slice(&api.index()).unwrap();
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap();
    assert_eq!(url, format!("/openapi/v3/apis/apps/v1?hash={}", api.hash("apis/apps/v1").unwrap()));
    assert!(api.group_version("apis/nonsense/v1").is_none());
    let core = parse(&api.group_version("api/v1").unwrap());
    let patch = &core["paths"]["/api/v1/namespaces/{namespace}/pods/{name}"]["patch"];
    assert_eq!(patch["x-kubernetes-group-version-kind"], json!({"group": "", "version": "v1", "kind": "Pod"}));
    assert_eq!(patch["operationId"], "patchCoreV1NamespacedPod");
    let parameters: Vec<_> = patch["parameters"].as_array().unwrap().iter().map(|p| p["name"].as_str().unwrap()).collect();
    assert_eq!(parameters, ["dryRun", "fieldManager", "fieldValidation", "force"]);
    assert!(patch["requestBody"]["content"]["application/apply-patch+yaml"].is_object());
    let exec = &core["paths"]["/api/v1/namespaces/{namespace}/pods/{name}/exec"]["post"];
    assert_eq!((&exec["operationId"], &exec["x-kubernetes-action"]), (&json!("connectCoreV1PostNamespacedPodExec"), &json!("connect")));
    let pod = &core["components"]["schemas"]["io.k8s.api.core.v1.Pod"];
    assert_eq!(pod["x-kubernetes-group-version-kind"][0]["kind"], "Pod");
    assert!(pod["properties"]["spec"]["allOf"][0]["$ref"].as_str().unwrap().ends_with("PodSpec"));
    assert!(pod["properties"]["spec"]["description"].as_str().unwrap().contains("desired behavior"));
    assert!(api.group_version("apis/authorization.k8s.io/v1").is_some());
}

#[test]
fn every_reference_of_every_document_is_defined() {
    let api = OpenApi::new(rows());
    let mut documents: Vec<_> = api.hashes.keys().map(|path| parse(&api.group_version(path).unwrap())).collect();
    documents.push(parse(&api.v2(false)));
    for document in documents {
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        assert!(found.len() > 10);
        for reference in found {
            assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference} is defined");
        }
    }
}

#[test]
fn custom_resources_are_served_with_their_schema() {
    let api = OpenApi::new(rows());
    let v3 = parse(&api.group_version("apis/stable.example.com/v1").unwrap());
    let tab = &v3["components"]["schemas"]["com.example.stable.v1.CronTab"];
    assert_eq!(tab["x-kubernetes-group-version-kind"], json!([{"group": "stable.example.com", "version": "v1", "kind": "CronTab"}]));
    assert_eq!(tab["properties"]["spec"]["properties"]["port"]["anyOf"][0]["type"], "integer");
    assert!(tab["properties"]["metadata"]["allOf"].is_array());
    let v2 = parse(&api.v2(false));
    let spec = &v2["definitions"]["com.example.stable.v1.CronTab"]["properties"]["spec"]["properties"];
    assert_eq!(*spec, json!({"port": {"x-kubernetes-int-or-string": true}, "any": {"x-kubernetes-preserve-unknown-fields": true}}));
}

#[test]
fn what_is_said_of_custom_resources_refuses_nothing_valid() {
    let mut tabs = rows().remove(4);
    let served = |schema: Value, tabs: &mut ResourceDoc| {
        tabs.schema = SchemaDoc::Custom(Arc::new(schema));
        let api = OpenApi::new(vec![tabs.clone()]);
        let v3 = parse(&api.group_version("apis/stable.example.com/v1").unwrap());
        let name = "com.example.stable.v1.CronTab";
        (parse(&api.v2(false))["definitions"][name].clone(), v3["components"]["schemas"][name].clone())
    };
    let anything = json!({"type": "object", "description": "Any.", "x-kubernetes-preserve-unknown-fields": true});
    let (v2, v3) = served(anything, &mut tabs);
    let kinds = json!([{"group": "stable.example.com", "version": "v1", "kind": "CronTab"}]);
    assert_eq!(v2, json!({"type": "object", "x-kubernetes-group-version-kind": kinds}));
    assert_eq!((&v3["description"], v3["properties"]["metadata"].is_object()), (&json!("Any."), true));

    let (v2, v3) = served(
        json!({"type": "object", "properties": {
            "template": {"type": "object", "x-kubernetes-embedded-resource": true, "properties": {"spec": {"type": "object"}}},
            "spec": {"type": "object", "required": ["a"], "properties": {"a": {"type": "string", "nullable": true}}},
        }}),
        &mut tabs,
    );
    for document in [&v2, &v3] {
        assert!(document["properties"]["template"]["properties"]["metadata"].is_object(), "{document}");
        assert_eq!(document["properties"]["template"]["required"], json!(["kind", "apiVersion"]));
    }
    assert_eq!(
        (&v2["properties"]["spec"], &v3["properties"]["spec"]["required"]),
        (&json!({"type": "object", "properties": {"a": {}}}), &json!(["a"]))
    );
}

#[test]
fn a_changed_row_changes_the_hash() {
    let mut changed = rows();
    changed[1].verbs.pop();
    let (old, new) = (OpenApi::new(rows()), OpenApi::new(changed));
    assert_ne!(old.hash("api/v1"), new.hash("api/v1"));
    assert_eq!(old.hash("apis/apps/v1"), new.hash("apis/apps/v1"));
    assert_ne!(old.v2(false).etag, new.v2(false).etag);
}

/// Reads protobuf as a tree of (tag, bytes), enough to find what is looked for.
fn fields(bytes: &[u8]) -> Vec<(u32, &[u8])> {
    use prost::encoding::{WireType, decode_key, decode_varint};
    let mut rest = bytes;
    let mut found = Vec::new();
    while !rest.is_empty() {
        let (tag, wire) = decode_key(&mut rest).unwrap();
        let length = match wire {
            WireType::Varint => {
                decode_varint(&mut rest).unwrap();
                0
            }
            WireType::SixtyFourBit => 8,
            WireType::LengthDelimited => decode_varint(&mut rest).unwrap() as usize,
            other => panic!("{other:?}"),
        };
        let (field, after) = rest.split_at(length);
        found.push((tag, field));
        rest = after;
    }
    found
}

fn at(bytes: &[u8], tag: u32) -> &[u8] {
    fields(bytes).into_iter().find(|(t, _)| *t == tag).unwrap_or_else(|| panic!("tag {tag}")).1
}

#[test]
fn version_2_as_protobuf_has_the_same_paths_and_definitions() {
    let api = OpenApi::new(rows());
    let (json, protobuf) = (parse(&api.v2(false)), api.v2(true).plain());
    let names = |bytes, tag| -> BTreeSet<String> {
        fields(bytes).into_iter().filter(|(t, _)| *t == tag).map(|(_, entry)| String::from_utf8(at(entry, 1).to_vec()).unwrap()).collect()
    };
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(names(at(&protobuf, 8), 2), keys(&json["paths"]));
    assert_eq!(names(at(&protobuf, 9), 1), keys(&json["definitions"]));
    let nodes = fields(at(&protobuf, 8)).into_iter().find(|(_, e)| at(e, 1) == b"/api/v1/nodes/{name}").unwrap().1;
    let patch = at(at(nodes, 2), 8);
    assert_eq!(at(patch, 5), b"patchCoreV1Node");
    let extension =
        fields(patch).into_iter().filter(|(t, _)| *t == 13).find(|(_, e)| at(e, 1) == b"x-kubernetes-group-version-kind").unwrap().1;
    assert_eq!(at(at(extension, 2), 2), b"{\"group\":\"\",\"kind\":\"Node\",\"version\":\"v1\"}\n");
}

/// Where Kubernetes' own document lies beside the repository, ours says the same of schemas and paths.
#[test]
fn schemas_and_paths_are_kubernetes_own() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/openapi/kubernetes-1.35.swagger.json");
    let Ok(theirs) = std::fs::read(&file) else { return eprintln!("not compared: {} is not there", file.display()) };
    let theirs: Value = serde_json::from_slice(&theirs).unwrap();
    let ours = parse(&OpenApi::new(rows()).v2(false));
    for (path, item) in ours["paths"].as_object().unwrap().iter().filter(|(p, _)| !p.contains("example.com")) {
        for (method, operation) in item.as_object().unwrap().iter().filter(|(m, _)| *m != "parameters") {
            let other = &theirs["paths"][path][method];
            for key in ["operationId", "tags", "x-kubernetes-action", "x-kubernetes-group-version-kind"] {
                assert_eq!(operation[key], other[key], "{method} {path} {key}");
            }
        }
    }
    // Schemas of every kind there is, served or not.
    let schema = Schema::builtin();
    let listed = schema.messages().iter().filter(|m| schema.message(&format!("{}List", m.name)).is_some());
    let all = listed.flat_map(|m| m.kinds.iter()).filter(|k| !k.kind.starts_with("PartialObject"));
    let all = all.map(|k| ResourceDoc {
        group: k.group.clone(),
        version: k.version.clone(),
        kind: k.kind.clone(),
        schema: SchemaDoc::Builtin(schema.kind_of(&k.group, &k.version, &k.kind).unwrap().name.clone()),
        ..row("", "v1", "Pod", "pods", false)
    });
    let ours = parse(&OpenApi::new(all.collect()).v2(false));
    let mut compared = 0;
    for (name, definition) in ours["definitions"].as_object().unwrap().iter().filter(|(n, _)| n.starts_with("io.k8s")) {
        let other = &theirs["definitions"][name];
        let required = |value: &Value| -> BTreeSet<String> {
            value["required"].as_array().into_iter().flatten().map(|name| name.as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(required(definition), required(other), "{name}");
        for (field, property) in definition["properties"].as_object().into_iter().flatten() {
            let mut expected = other["properties"][field].clone();
            let mut property = property.clone();
            for value in [&mut expected, &mut property] {
                let map = value.as_object_mut().unwrap();
                map.remove("description");
                if map.get("format") == Some(&json!("byte")) {
                    // Go has bytes as a list; nothing merges them.
                    map.remove("x-kubernetes-list-type");
                }
            }
            assert_eq!(property, expected, "{name}.{field}");
            compared += 1;
        }
    }
    assert!(compared > 2_400, "{compared}");
}
