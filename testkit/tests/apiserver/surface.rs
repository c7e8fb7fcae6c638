//! What is served against what Kubernetes 1.35 serves: discovery and OpenAPI beside the facts in `testkit/facts`.
//!
//! What differs is listed with its reason in `docs/differences.md`; an entry there that matches no difference fails as well.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use testkit::{ApiServer, Wire};

const FACTS: &str = include_str!("../../facts/api-1.35.txt");
const NAMES: &str = include_str!("../../facts/names-1.35.txt");
const DIFFERENCES: &str = include_str!("../../../docs/differences.md");

/// Facts as text, one for whatever can differ by itself.
type Facts = BTreeSet<String>;

/// One operation of a path.
#[derive(Debug, Clone)]
struct Operation {
    path: String,
    method: String,
    action: String,
    /// `GROUP/VERSION/KIND`
    kind: String,
    parameters: Vec<String>,
    answer: String,
}

/// The operations and the definitions of the facts file.
fn upstream() -> (Vec<Operation>, Facts) {
    let (mut packages, mut sets) = (BTreeMap::new(), BTreeMap::new());
    let (mut operations, mut facts) = (vec![], Facts::new());
    let (mut path, mut definition) = (String::new(), String::new());
    let long = |packages: &BTreeMap<String, String>, ty: &str| {
        let name = ty.trim_start_matches("[]").trim_start_matches("{}");
        let known = name.split_once('.').and_then(|(number, rest)| Some(format!("{}.{rest}", packages.get(number)?)));
        known.map_or_else(|| ty.to_owned(), |known| ty.replace(name, &known))
    };
    for line in FACTS.lines().filter(|l| !l.starts_with('#')) {
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            ["p", number, package] => drop(packages.insert((*number).to_owned(), (*package).to_owned())),
            ["q", number, set] => drop(sets.insert((*number).to_owned(), (*set).to_owned())),
            ["P", of] => path = (*of).to_owned(),
            ["D", name, marks @ ..] => {
                definition = long(&packages, name);
                path.clear();
                facts.insert(format!("definition {definition}"));
                facts.extend(marks.iter().map(|m| format!("definition {definition} {m}")));
            }
            [method, action, kind, set, answer] if !path.is_empty() => operations.push(Operation {
                path: path.clone(),
                method: method.to_uppercase(),
                action: (*action).to_owned(),
                kind: (*kind).to_owned(),
                parameters: sets[*set].split(',').map(str::to_owned).collect(),
                answer: long(&packages, answer),
            }),
            [field, ty, marks @ ..] => {
                let text: Vec<String> = std::iter::once(long(&packages, ty)).chain(marks.iter().map(|m| (*m).to_owned())).collect();
                facts.insert(format!("field {definition}.{field}: {}", text.join(" ")));
            }
            _ => panic!("a line of the facts: {line}"),
        }
    }
    (operations, facts)
}

fn operation_facts(operations: &[Operation]) -> Facts {
    let mut facts = Facts::new();
    for Operation { path, method, action, kind, parameters, answer } in operations {
        facts.insert(format!("{method} {path}: {action} {kind}"));
        facts.insert(format!("{method} {path} > {answer}"));
        facts.extend(parameters.iter().map(|p| format!("{method} {path} ?{p}")));
    }
    facts
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or("")
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// The last segment of a `$ref`.
fn referred(schema: &Value) -> Option<&str> {
    let reference = schema.get("$ref").or_else(|| schema.pointer("/allOf/0/$ref"))?;
    reference.as_str()?.rsplit('/').next()
}

fn type_of(schema: &Value) -> String {
    if let Some(name) = referred(schema) {
        return name.to_owned();
    }
    match (text(schema, "/type"), text(schema, "/format")) {
        ("array", _) => format!("[]{}", type_of(&schema["items"])),
        ("object", _) => schema.get("additionalProperties").map_or_else(|| "any".to_owned(), |of| format!("{{}}{}", type_of(of))),
        ("string", "") => "s".into(),
        ("string", "byte") => "bytes".into(),
        ("boolean", _) => "b".into(),
        ("integer", "int32") => "i32".into(),
        ("integer", "int64") => "i64".into(),
        ("number", "double") => "f64".into(),
        ("", "") => "any".into(),
        (ty, format) => format!("{ty}:{format}"),
    }
}

fn marks(schema: &Value) -> Vec<String> {
    let mut out = vec![];
    match text(schema, "/x-kubernetes-list-type") {
        "atomic" => out.push("la".to_owned()),
        "set" => out.push("ls".to_owned()),
        "map" => {
            let keys: Vec<&str> = list(&schema["x-kubernetes-list-map-keys"]).filter_map(Value::as_str).collect();
            out.push(format!("lm={}", keys.join(",")));
        }
        _ => {}
    }
    match text(schema, "/x-kubernetes-map-type") {
        "atomic" => out.push("ma".to_owned()),
        "granular" => out.push("mg".to_owned()),
        _ => {}
    }
    for (short, key) in [("pk", "/x-kubernetes-patch-merge-key"), ("ps", "/x-kubernetes-patch-strategy")] {
        if !text(schema, key).is_empty() {
            out.push(format!("{short}={}", text(schema, key)));
        }
    }
    out
}

/// The type of an operation's answer.
fn answer_of(operation: &Value) -> String {
    let responses = operation["responses"].as_object().expect("responses");
    let good = responses.iter().find(|(code, _)| code.starts_with('2')).expect("a good answer").1;
    let schema = good.get("schema").or_else(|| good["content"].as_object()?.values().next()?.get("schema"));
    schema.map_or_else(|| "any".to_owned(), type_of)
}

/// The operations and definitions of a served document, of either version of OpenAPI.
fn served(document: &Value) -> (Vec<Operation>, Facts) {
    let mut operations = vec![];
    for (path, item) in document["paths"].as_object().expect("paths") {
        let common: Vec<&Value> = list(&item["parameters"]).collect();
        for (method, operation) in item.as_object().expect("a path").iter().filter(|(m, _)| *m != "parameters") {
            let gvk = &operation["x-kubernetes-group-version-kind"];
            let kind = ["/group", "/version", "/kind"].map(|p| text(gvk, p)).join("/");
            let all = common.iter().copied().chain(list(&operation["parameters"])).filter(|p| p["in"] != "body");
            operations.push(Operation {
                path: path.clone(),
                method: method.to_uppercase(),
                action: text(operation, "/x-kubernetes-action").to_owned(),
                kind: if gvk.is_null() { "-".to_owned() } else { kind },
                parameters: all.map(|p| text(p, "/name").to_owned()).collect(),
                answer: answer_of(operation),
            });
        }
    }
    let mut facts = Facts::new();
    let version2 = document.get("definitions").is_some();
    let definitions = document.get("definitions").or_else(|| document.pointer("/components/schemas")).expect("definitions");
    for (name, schema) in definitions.as_object().expect("definitions") {
        facts.insert(format!("definition {name}"));
        if text(schema, "/x-kubernetes-map-type") == "atomic" {
            facts.insert(format!("definition {name} a"));
        }
        let kinds: Vec<&Value> = list(&schema["x-kubernetes-group-version-kind"]).collect();
        if kinds.len() > 9 {
            facts.insert(format!("definition {name} g=*"));
        } else {
            facts.extend(
                kinds.iter().map(|k| format!("definition {name} g={}", ["/group", "/version", "/kind"].map(|p| text(k, p)).join("/"))),
            );
        }
        let required: Vec<&str> = list(&schema["required"]).filter_map(Value::as_str).collect();
        match schema.get("properties").and_then(Value::as_object) {
            Some(properties) => facts.extend(properties.iter().map(|(field, of)| {
                let needed = required.contains(&field.as_str()).then(|| "r".to_owned());
                let words: Vec<String> = std::iter::once(type_of(of)).chain(needed).chain(marks(of)).collect();
                format!("field {name}.{field}: {}", words.join(" "))
            })),
            // In version 3 these are said in another way.
            None if version2 && schema["type"] != "object" => drop(facts.insert(format!("field {name}..: {}", type_of(schema)))),
            None => {}
        }
    }
    (operations, facts)
}

/// What discovery says, as the operations have it: `apps/v1 deployments: Namespaced Deployment create get ...`.
fn discovery_of(operations: &[Operation]) -> Facts {
    let mut found: BTreeMap<String, (String, BTreeSet<&str>)> = BTreeMap::new();
    for operation in operations {
        let parts: Vec<&str> = operation.path.trim_start_matches('/').split('/').collect();
        let (version, rest) = match parts.as_slice() {
            ["api", version, rest @ ..] => ((*version).to_owned(), rest),
            ["apis", group, version, rest @ ..] => (format!("{group}/{version}"), rest),
            _ => continue,
        };
        let (watching, rest) = if rest.first() == Some(&"watch") { (true, &rest[1..]) } else { (false, rest) };
        let (namespaced, rest) = match rest {
            ["namespaces", "{namespace}", rest @ ..] => (true, rest),
            rest => (false, rest),
        };
        let name = match rest {
            [plural] | [plural, "{name}"] => (*plural).to_owned(),
            [plural, "{name}", sub] => format!("{plural}/{sub}"),
            _ => continue,
        };
        let verb = match (operation.action.as_str(), operation.method.as_str()) {
            _ if watching => "watch",
            ("post", _) | ("connect", "POST") => "create",
            ("put", _) | ("connect", "PUT") => "update",
            ("connect", "HEAD" | "OPTIONS") => continue,
            ("connect", "GET") => "get",
            ("connect", "PATCH") => "patch",
            ("connect", "DELETE") => "delete",
            (action @ ("get" | "list" | "patch" | "delete" | "deletecollection"), _) => action,
            other => panic!("{other:?} at {}", operation.path),
        };
        let (scope, verbs) = found.entry(format!("{version} {name}")).or_default();
        verbs.insert(verb);
        if namespaced {
            *scope = format!("Namespaced {}", operation.kind);
        } else if scope.is_empty() {
            *scope = format!("Cluster {}", operation.kind);
        }
    }
    let mut facts = Facts::new();
    for (name, (scope, verbs)) in found {
        facts.insert(format!("resource {name}: {scope}"));
        facts.extend(verbs.iter().map(|v| format!("resource {name}: {v}")));
    }
    facts
}

/// What is known of names besides.
fn names_of(operations: &[Operation]) -> Facts {
    let said: BTreeMap<&str, (&str, &str)> = NAMES
        .lines()
        .filter(|l| !l.starts_with('#'))
        .map(|l| l.split(' ').collect::<Vec<_>>())
        .map(|w| (w[0], (w[1].trim_start_matches('-'), w[2].trim_start_matches('-'))))
        .collect();
    let resources: BTreeSet<String> = discovery_of(operations).iter().filter_map(|f| f.split(' ').nth(2).map(str::to_owned)).collect();
    assert!(resources.len() > 60);
    let mut facts = Facts::new();
    for fact in discovery_of(operations) {
        let words: Vec<&str> = fact.split(' ').collect();
        let ["resource", version, name, "Namespaced" | "Cluster", kind] = words.as_slice() else { continue };
        let plural = name.trim_end_matches(':');
        if plural.contains('/') {
            continue;
        }
        let qualified = version.split_once('/').map_or_else(|| plural.to_owned(), |(group, _)| format!("{plural}.{group}"));
        let (short, categories) = said.get(qualified.as_str()).copied().unwrap_or_default();
        let singular = kind.rsplit('/').next().unwrap_or("").to_lowercase();
        facts.insert(format!("names {version} {plural}: {singular} [{short}] [{categories}]"));
    }
    facts
}

/// What discovery is served as, in the words of [`discovery_of`] and [`names_of`].
async fn discovered(wire: &Wire) -> Facts {
    let mut facts = Facts::new();
    let mut versions = vec!["/api/v1".to_owned()];
    for group in list(&wire.get("/apis").await.ok()["groups"]) {
        versions.extend(list(&group["versions"]).map(|v| format!("/apis/{}", text(v, "/groupVersion"))));
    }
    let joined = |v: &Value| list(v).filter_map(Value::as_str).collect::<Vec<_>>().join(",");
    for path in versions {
        let answer = wire.get(&path).await.ok();
        let version = text(&answer, "/groupVersion");
        let (own_group, own_version) = version.split_once('/').unwrap_or(("", version));
        for resource in list(&answer["resources"]) {
            let name = text(resource, "/name");
            let or = |pointer: &str, own: &str| {
                if resource.pointer(pointer).is_some() { text(resource, pointer).to_owned() } else { own.to_owned() }
            };
            let kind = format!("{}/{}/{}", or("/group", own_group), or("/version", own_version), text(resource, "/kind"));
            let scope = if resource["namespaced"] == true { "Namespaced" } else { "Cluster" };
            facts.insert(format!("resource {version} {name}: {scope} {kind}"));
            facts.extend(list(&resource["verbs"]).filter_map(Value::as_str).map(|v| format!("resource {version} {name}: {v}")));
            if !name.contains('/') {
                let singular = text(resource, "/singularName");
                let (short, categories) = (joined(&resource["shortNames"]), joined(&resource["categories"]));
                facts.insert(format!("names {version} {name}: {singular} [{short}] [{categories}]"));
            }
        }
    }
    facts
}

/// A pattern of `docs/differences.md`: `*` stands for anything.
fn matches(pattern: &str, fact: &str) -> bool {
    let mut pieces = pattern.split('*');
    let Some(mut rest) = fact.strip_prefix(pieces.next().unwrap_or("")) else { return false };
    let pieces: Vec<&str> = pieces.collect();
    let Some((last, middle)) = pieces.split_last() else { return rest.is_empty() };
    for piece in middle {
        let Some(at) = rest.find(piece) else { return false };
        rest = &rest[at + piece.len()..];
    }
    rest.ends_with(last)
}

/// The differences that are known: `- FACT` for what only upstream has, `+ FACT` for what only we have.
fn known() -> Vec<&'static str> {
    DIFFERENCES
        .lines()
        .filter_map(|l| l.strip_prefix("- `")?.split('`').next())
        .filter(|p| p.starts_with("- ") || p.starts_with("+ "))
        .collect()
}

fn difference(upstream: &Facts, ours: &Facts) -> Vec<String> {
    let lacks = upstream.difference(ours).map(|f| format!("- {f}"));
    lacks.chain(ours.difference(upstream).map(|f| format!("+ {f}"))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn discovery_and_openapi_are_upstreams_but_for_what_is_listed() {
    let server = ApiServer::start().await.expect("an apiserver");
    let wire = server.wire().await.expect("a client");
    let (operations, definitions) = upstream();
    assert!(operations.len() > 500 && definitions.len() > 2_000);
    let (ours, our_definitions) = served(&wire.get("/openapi/v2").await.ok());

    let mut expected = definitions.clone();
    expected.extend(operation_facts(&operations));
    let mut got = our_definitions.clone();
    got.extend(operation_facts(&ours));
    expected.extend(discovery_of(&operations));
    expected.extend(names_of(&operations));
    got.extend(discovered(&wire).await);

    let known = known();
    let mut used = BTreeSet::new();
    let mut unknown = vec![];
    for difference in difference(&expected, &got) {
        match known.iter().position(|pattern| matches(pattern, &difference)) {
            Some(index) => drop(used.insert(index)),
            None => unknown.push(difference),
        }
    }
    assert!(unknown.is_empty(), "{} differences are not in docs/differences.md:\n{}", unknown.len(), unknown.join("\n"));
    let stale: Vec<_> = known.iter().enumerate().filter(|(i, _)| !used.contains(i)).map(|(_, pattern)| pattern).collect();
    assert!(stale.is_empty(), "docs/differences.md lists what does not differ (any more): {stale:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn both_versions_of_openapi_and_both_forms_of_discovery_say_the_same() {
    let server = ApiServer::start().await.expect("an apiserver");
    let wire = server.wire().await.expect("a client");
    let (of_v2, definitions) = served(&wire.get("/openapi/v2").await.ok());
    let (mut of_v3, mut definitions3) = (vec![], Facts::new());
    let index = wire.get("/openapi/v3").await.ok();
    for (path, place) in index["paths"].as_object().expect("paths") {
        let document = wire.get(text(place, "/serverRelativeURL")).await.ok();
        let (operations, definitions) = served(&document);
        assert!(!operations.is_empty(), "{path}");
        of_v3.extend(operations);
        definitions3.extend(definitions);
    }
    assert_eq!(difference(&operation_facts(&of_v2), &operation_facts(&of_v3)), Vec::<String>::new());
    let whole: Facts = definitions.into_iter().filter(|f| !f.contains("..:")).collect();
    assert_eq!(difference(&whole, &definitions3), Vec::<String>::new());

    let aggregated = wire.with("accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList");
    let mut facts = Facts::new();
    for root in ["/api", "/apis"] {
        let answer = aggregated.get(root).await.ok();
        assert_eq!((text(&answer, "/kind"), text(&answer, "/apiVersion")), ("APIGroupDiscoveryList", "apidiscovery.k8s.io/v2"));
        for group in list(&answer["items"]) {
            for version in list(&group["versions"]) {
                let at = api::object::api_version(text(group, "/metadata/name"), text(version, "/version"));
                let kind = |of: &Value| ["/group", "/version", "/kind"].map(|p| text(&of["responseKind"], p)).join("/");
                let joined = |v: &Value| list(v).filter_map(Value::as_str).collect::<Vec<_>>().join(",");
                for resource in list(&version["resources"]) {
                    let (name, scope) = (text(resource, "/resource"), text(resource, "/scope"));
                    facts.insert(format!("resource {at} {name}: {scope} {}", kind(resource)));
                    facts.extend(list(&resource["verbs"]).filter_map(Value::as_str).map(|v| format!("resource {at} {name}: {v}")));
                    let (singular, short) = (text(resource, "/singularResource"), joined(&resource["shortNames"]));
                    facts.insert(format!("names {at} {name}: {singular} [{short}] [{}]", joined(&resource["categories"])));
                    for sub in list(&resource["subresources"]) {
                        let name = format!("{name}/{}", text(sub, "/subresource"));
                        facts.insert(format!("resource {at} {name}: {scope} {}", kind(sub)));
                        facts.extend(list(&sub["verbs"]).filter_map(Value::as_str).map(|v| format!("resource {at} {name}: {v}")));
                    }
                }
            }
        }
    }
    assert_eq!(difference(&discovered(&wire).await, &facts), Vec::<String>::new());
}

#[test]
fn patterns_stand_for_what_they_look_like() {
    assert!(matches("- GET *?pretty", "- GET /api/v1/pods ?pretty") && matches("a", "a") && matches("a*b*", "axbc"));
    assert!(!matches("a", "ab") && !matches("a*c", "ab") && !matches("*x*", "abc"));
}
