//! What is fuzzed. Each target says what came of an input, and panics when what must hold does not.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use api::schema::{Schema, SchemaNode, check};
use apiserver::apply::server_side::{self, ApplyOptions};
use apiserver::apply::{json_patch, merge_patch, strategic};
use apiserver::auth::User;
use apiserver::cel::types::Type;
use apiserver::cel::{Env, Fail, Program, Val};
use apiserver::connect::stream::spdy::{self as frame, Decoder, Encoder, Event};
use apiserver::http::query::{ListOptions, Query};
use apiserver::http::{negotiate, request_info};
use apiserver::resource::{Cell, Conversion, Cx, Resource};
use apiserver::{crd, flowcontrol, protobuf, resources};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::mutate::{SEPARATOR, split};

/// A function that reads what outsiders write.
pub struct Target {
    /// Its name, and that of its folder in the corpus.
    pub name: &'static str,
    /// Runs it; gives a text that says what came of the input.
    pub run: fn(&[u8]) -> String,
    /// How many parts its inputs have.
    pub parts: usize,
    /// Inputs besides those in files.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// What a fuzzed expression may cost: enough to come around every loop, too little to be waited for.
const FUZZED_COST: u64 = 20_000;

const fn target(name: &'static str, run: fn(&[u8]) -> String, parts: usize) -> Target {
    Target { name, run, parts, seeds: Vec::new }
}

/// Every target.
pub const ALL: &[Target] = &[
    Target { seeds: samples, ..target("json", decode_json, 1) },
    target("yaml", decode_yaml, 1),
    Target { seeds: encoded, ..target("protobuf", decode_protobuf, 1) },
    target("json-patch", patch_json, 2),
    target("merge-patch", patch_merge, 2),
    target("strategic-patch", patch_strategic, 2),
    target("apply", apply, 3),
    target("selectors", selectors, 1),
    target("quantity", quantity, 1),
    target("url", url, 1),
    target("json-path", json_path, 1),
    target("continue", continue_token, 1),
    target("definition", definition, 2),
    Target { seeds: samples, ..target("rows", rows, 1) },
    target("flow-schema", flow_schema, 2),
    Target { seeds: expressions, ..target("cel", cel, 2) },
    Target { seeds: spdy_frames, ..target("spdy", spdy, 1) },
];

fn text(input: &[u8]) -> String {
    String::from_utf8_lossy(input).into_owned()
}

/// The smallest object of each kind.
fn samples() -> Vec<Vec<u8>> {
    let documents = include_str!("../../tests/apiserver/samples.yaml").split("\n---\n");
    documents.filter_map(|d| serde_saphyr::from_str::<Value>(d).ok()).map(|v| v.to_string().into_bytes()).collect()
}

fn encoded() -> Vec<Vec<u8>> {
    samples().iter().filter_map(|s| protobuf::encode(&serde_json::from_slice(s).ok()?)).collect()
}

fn node_of(value: &Value) -> Option<SchemaNode<'static>> {
    let (group, version) = api::object::split_api_version(value.get("apiVersion")?.as_str()?);
    Schema::builtin().node_of(group, version, value.get("kind")?.as_str()?)
}

fn deployment() -> SchemaNode<'static> {
    Schema::builtin().node_of("apps", "v1", "Deployment").expect("there are Deployments")
}

fn decode_json(input: &[u8]) -> String {
    let plain = match api::json::parse_strict(input) {
        Err(error) => return error,
        Ok((value, _)) => value,
    };
    let again = api::json::parse_strict(plain.to_string().as_bytes()).expect("what was written can be read").0;
    assert_eq!(again, plain);
    let Some(node) = node_of(&plain) else { return "of no kind".to_owned() };
    match check::decode(input, Some(node)) {
        Err(error) => error,
        Ok(decoded) => {
            let twice = check::conform(decoded.value.clone(), node).expect("what conforms conforms");
            assert_eq!(twice.value, decoded.value, "conforming twice");
            decoded.strict_error().unwrap_or_default()
        }
    }
}

fn decode_yaml(input: &[u8]) -> String {
    match serde_saphyr::from_str::<Value>(&text(input)) {
        Err(error) => error.to_string().lines().next().unwrap_or("").to_owned(),
        Ok(value) => match serde_saphyr::to_string(&value) {
            Err(error) => error.to_string(),
            Ok(out) => format!("{} bytes", out.len().ilog2()),
        },
    }
}

fn decode_protobuf(input: &[u8]) -> String {
    match protobuf::decode(input) {
        Err(error) => error,
        Ok(value) => {
            let Some(bytes) = protobuf::encode(&value) else { return "of no kind".to_owned() };
            let again = protobuf::decode(&bytes).expect("what was written can be read");
            assert_eq!(protobuf::encode(&again).expect("of a kind"), bytes, "written twice");
            value["kind"].as_str().unwrap_or("").to_owned()
        }
    }
}

/// The parts of an input as JSON.
fn parts<const N: usize>(input: &[u8]) -> Option<[Value; N]> {
    let parts: Vec<Value> = split(input, N).into_iter().filter_map(|p| serde_json::from_slice(p).ok()).collect();
    parts.try_into().ok()
}

fn patch_json(input: &[u8]) -> String {
    let Some([object, patch]) = parts(input) else { return "no JSON".into() };
    json_patch::apply(&object, &patch).map_or_else(|e| e.to_string(), |_| "patched".into())
}

fn patch_merge(input: &[u8]) -> String {
    let Some([object, patch]) = parts(input) else { return "no JSON".into() };
    match merge_patch::apply(&object, &patch) {
        Err(error) => error.to_string(),
        Ok(once) => {
            assert_eq!(merge_patch::apply(&once, &patch).expect("a patch that applied"), once, "patched twice");
            "patched".into()
        }
    }
}

fn patch_strategic(input: &[u8]) -> String {
    let Some([object, patch]) = parts(input) else { return "no JSON".into() };
    let node = node_of(&object).unwrap_or_else(deployment);
    let Ok(object) = check::conform(object, node) else { return "no such object".into() };
    strategic::apply(&object.value, &patch, node).map_or_else(|e| e.to_string(), |_| "patched".into())
}

fn apply(input: &[u8]) -> String {
    let Some([live, first, second]) = parts(input) else { return "no JSON".into() };
    let node = deployment();
    let Ok(live) = check::conform(live, node) else { return "no such object".into() };
    let how = |manager, force| ApplyOptions {
        manager,
        force,
        subresource: "",
        api_version: "apps/v1",
        now: Timestamp::UNIX_EPOCH,
        reset_fields: &[&["status"]],
    };
    let updated = server_side::update(Some(&live.value), live.value.clone(), &how("u", false), node);
    let one = match server_side::apply(Some(&updated), &first, &how("a", true), node) {
        Err(error) => return error.to_string(),
        Ok(one) => one,
    };
    let again = server_side::apply(Some(&one), &first, &how("a", true), node).expect("what was applied can be applied");
    assert_eq!(again, one, "applied twice");
    match server_side::apply(Some(&one), &second, &how("b", false), node) {
        Err(error) => error.to_string(),
        Ok(two) => format!("{} entries", two.pointer("/metadata/managedFields").and_then(Value::as_array).map_or(0, Vec::len)),
    }
}

fn selectors(input: &[u8]) -> String {
    let text = text(input);
    let labels = match api::labels::Selector::parse(&text) {
        Err(error) => error,
        Ok(selector) => {
            let shown = selector.to_string();
            let again = api::labels::Selector::parse(&shown).expect("what is shown can be read");
            assert_eq!(again.to_string(), shown);
            // A label that the selector asks about, for each kind of requirement.
            selector.matches_with(|_| Some("1"));
            format!("{} requirements", selector.requirements().map_or(0, <[_]>::len).min(9))
        }
    };
    let fields = api::fields::Selector::parse(&text).map_or_else(|e| e, |s| format!("{} terms", s.terms.len().min(9)));
    let structured =
        serde_json::from_str::<Value>(&text).map(|v| api::labels::Selector::from_object(&v).map_or_else(|e| e, |_| "selects".into()));
    format!("{labels} | {fields} | {structured:?}")
}

fn quantity(input: &[u8]) -> String {
    let text = text(input);
    match text.parse::<api::quantity::Quantity>() {
        Err(error) => error.to_string(),
        Ok(quantity) => {
            let shown = quantity.to_string();
            let again: api::quantity::Quantity = shown.parse().expect("what is shown can be read");
            assert_eq!((again.to_string(), again.cmp(&quantity)), (shown.clone(), std::cmp::Ordering::Equal));
            shown.trim_start_matches(|c: char| c.is_ascii_digit() || "-.".contains(c)).to_owned()
        }
    }
}

fn url(input: &[u8]) -> String {
    let text = text(input);
    let (method, rest) = text.split_once(' ').unwrap_or(("GET", &text));
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let query = Query::parse(query);
    let info = request_info::parse(method, path, &query);
    let options = [false, true].map(|watch| ListOptions::parse(&query, watch).map_or_else(|e| e.message, |o| format!("{:?}", o.version())));
    let accepted = negotiate::accept(query.get("accept"), true, query.flag("views")).map_or_else(|e| e.message, |m| format!("{m:?}"));
    format!("{} {} {} | {} | {} | {accepted}", info.verb, info.is_resource, !info.tail.is_empty(), options[0], options[1])
}

fn json_path(input: &[u8]) -> String {
    let text = text(input);
    let object =
        json!({"a": [{"b": 1, "type": "Ready", "status": "True"}, {"b": "2"}], "c": {"d": null, "e.f": true}, "t": "2026-01-01T00:00:00Z"});
    let steps = match crd::json_path::parse(&text) {
        Err(error) => return error,
        Ok(steps) => steps,
    };
    let found = crd::json_path::find(&object, &steps).len();
    for kind in ["string", "integer", "number", "boolean", "date"] {
        drop(crd::json_path::cell(&text, kind, &object, Timestamp::UNIX_EPOCH));
    }
    format!("{} steps, {found} found, {}", steps.len().min(9), crd::json_path::pointer(&text).is_some())
}

fn continue_token(input: &[u8]) -> String {
    apiserver::verbs::list::Continue::decode(&text(input)).map_or_else(|e| e.message, |_| "a token".into())
}

fn definition(input: &[u8]) -> String {
    let Some([schema, object]) = parts(input) else { return "no JSON".into() };
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "foos.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": {"plural": "foos", "singular": "foo", "kind": "Foo", "listKind": "FooList"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}, "subresources": {"status": {}}}]},
    });
    let mut errors = api::field::Errors::new();
    crd::structural::check(&definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"], &api::field::Path::new("schema"), &mut errors);
    if let Some(first) = errors.0.first() {
        return first.body.clone();
    }
    let mut out = String::new();
    for row in crd::row::rows(&definition) {
        out += &use_row(&row, object.clone());
    }
    out
}

/// What an object goes through on its way in and out.
fn use_row(row: &Resource, object: Value) -> String {
    let schema = row.schema.as_ref().map_or(Schema::builtin(), |s| &s.schema);
    let Some(node) = schema.node_of(&row.group, &row.version, &row.kind) else { return "no schema".into() };
    let mut object = match check::conform(object, node) {
        Err(error) => return error,
        Ok(decoded) => decoded.value,
    };
    if !object.is_object() {
        return "no object".into();
    }
    if let Some(conversion) = &row.conversion {
        let worked = match conversion {
            Conversion::Fixed { to_stored, .. } => to_stored(object),
            Conversion::Versions(versions) => versions.settle(object),
        };
        match worked {
            Ok(worked) => object = worked,
            Err(status) => return status.message,
        }
    }
    let user = User { name: "fuzz".into(), ..User::default() };
    let cx = Cx { now: Timestamp::UNIX_EPOCH, user: &user };
    if let Err(error) = row.hooks.default(&mut object) {
        return error;
    }
    let mut once = object.clone();
    if row.hooks.default(&mut once).is_ok() {
        assert_eq!(once, object, "defaulting twice");
    }
    let old = object.clone();
    let errors = match row.hooks.create(&mut object, cx) {
        Err(error) => return error,
        Ok(errors) => errors,
    };
    row.hooks.warnings(&object);
    for column in &row.columns {
        match &column.cell {
            Cell::Compute(f) => drop(f(&object, cx.now)),
            Cell::JsonPath(path) => drop(crd::json_path::cell(path, &column.kind, &object, cx.now)),
            _ => {}
        }
    }
    let mut new = object.clone();
    // What an update or a deletion finds is its own business, as long as it finds an end.
    let update = row.hooks.update(&mut new, &old, cx).map_or_else(|e| e, |e| e.0.first().map(|e| e.body.clone()).unwrap_or_default());
    for sub in &row.subresources {
        drop(row.hooks.update_part(sub.name(), &mut object.clone(), &old, cx));
    }
    drop(row.hooks.deletion(&mut object.clone(), Some(5), cx));
    let first = errors.0.first().map(|e| format!("{}: {}", e.path, e.body)).unwrap_or_default();
    format!("{} {first} | {update}", row.kind)
}

fn rows(input: &[u8]) -> String {
    static ROWS: LazyLock<Vec<Resource>> = LazyLock::new(resources::builtin);
    let Ok(object) = serde_json::from_slice::<Value>(input) else { return "no JSON".into() };
    let of = |f: &str| object.get(f).and_then(Value::as_str).unwrap_or("");
    let Some(row) = ROWS.iter().find(|r| r.kind == of("kind") && r.api_version() == of("apiVersion")) else { return "no row".into() };
    use_row(row, object.clone())
}

fn flow_schema(input: &[u8]) -> String {
    let Some([schema, level]) = parts(input) else { return "no JSON".into() };
    let config = flowcontrol::config::Config::compile([schema].iter(), [level].iter());
    let mut queues = flowcontrol::queues::Queues::default();
    queues.configure(&config, 600);
    let user = User { name: "bob".into(), groups: vec!["system:authenticated".into()], ..User::default() };
    let info = request_info::parse("GET", "/api/v1/namespaces/a/pods", &Query::default());
    let found = flowcontrol::classify::classify(&config, &user, &info);
    if let Some(schema) = found {
        let flow = flowcontrol::classify::flow(schema, &user, &info);
        for _ in 0..700 {
            drop(queues.arrive(&schema.level, flow, 3));
        }
    }
    format!("{} schemas, {} levels, {}", config.schemas.len(), config.levels.len(), found.is_some())
}

/// Expressions that reach every part of the language and its libraries.
fn expressions() -> Vec<Vec<u8>> {
    let object = r#"{"s":"a,b","n":3,"f":1.5,"l":[3,1,2],"m":{"k":"v"},"o":[{"k":"x","v":1},{"k":"y","v":2}],"q":"1Gi","u":"https://a.io:8443/p?q=1","t":"2026-01-01T00:00:00Z"}"#;
    include_str!("expressions.cel").lines().map(|e| format!("{e}{}{object}", String::from_utf8_lossy(SEPARATOR)).into_bytes()).collect()
}

/// An expression of any length is compiled or refused, and evaluated within its budget; what it costs does not depend on when it is asked.
fn cel(input: &[u8]) -> String {
    let pieces = split(input, 2);
    let source = text(pieces[0]);
    let object: Value = pieces.get(1).and_then(|o| serde_json::from_slice(o).ok()).unwrap_or_default();
    let program = match Program::compile(&Env::default().with("x", Type::Dyn), &source) {
        Ok(program) => program,
        // The lines below the first repeat the expression.
        Err(why) => return why.lines().next().unwrap_or_default().to_owned(),
    };
    let vars = [Val::of(&object, None)];
    let (first, cost) = program.run(&vars, FUZZED_COST);
    assert_eq!(program.run(&vars, FUZZED_COST).1, cost, "the cost of {source}");
    match first {
        Ok(val) => format!("a {} for {}", val.type_name(), cost.checked_ilog2().unwrap_or(0)),
        Err(Fail::Error(why)) => why,
        Err(Fail::Budget) => "budget".into(),
    }
}

/// A client's side of a conversation, frame by frame and as a whole.
fn spdy_frames() -> Vec<Vec<u8>> {
    let mut encoder = Encoder::default();
    let of = |kind: u16, flags: u8, body: &[u8]| {
        let head = [0x80, 3, kind.to_be_bytes()[0], kind.to_be_bytes()[1], flags, 0, 0, u8::try_from(body.len()).unwrap_or(u8::MAX)];
        [&head[..], body].concat()
    };
    let mut frames = vec![
        encoder.open(1, &[("streamtype", "error"), ("port", "80")]),
        encoder.open(3, &[("streamtype", "data")]),
        [&frame::data(3, 5, false)[..], b"hello"].concat(),
        [&frame::data(3, 5, true)[..], b"hello"].concat(),
        frame::data(1, 0, true).to_vec(),
        of(2, 0, &[0, 0, 0, 1]),                   // SYN_REPLY
        of(2, 1, &[0, 0, 0, 3, 0x78, 0xbb]),       // the last of its stream
        of(8, 1, &[0, 0, 0, 3]),                   // HEADERS
        of(4, 0, &[0, 0, 0, 1, 0, 0, 0, 7]),       // SETTINGS
        of(7, 0, &[0, 0, 0, 3, 0, 0, 0, 0]),       // GOAWAY
        of(9, 0, &[0, 0, 0, 3, 0, 1, 0, 0, 0, 0]), // WINDOW_UPDATE
        frame::ping(1),
        frame::refuse(5),
    ];
    frames.push(frames.concat());
    frames
}

/// However the bytes come in pieces, the same events come out.
fn spdy(input: &[u8]) -> String {
    let read = |pieces: &[usize]| {
        let (mut decoder, mut events, mut data) = (Decoder::default(), vec![], BTreeMap::<u32, Vec<u8>>::new());
        let (mut rest, mut lengths) = (input, pieces.iter().cycle());
        while !rest.is_empty() {
            let (mut bytes, after) = rest.split_at(lengths.next().map_or(1, |l| *l).clamp(1, rest.len()));
            rest = after;
            loop {
                match decoder.next(&mut bytes) {
                    Ok(Some(Event::Data(stream, some))) => data.entry(stream).or_default().extend(some),
                    Ok(Some(event)) => events.push(format!("{event:?}")),
                    Ok(None) => break,
                    Err(_) => return (events, data, true),
                }
            }
        }
        (events, data, false)
    };
    let whole = read(&[input.len()]);
    for pieces in [&[1][..], &[7], &[8, 1], &[9, 3, 30]] {
        assert_eq!(whole, read(pieces), "in pieces of {pieces:?}");
    }
    let (events, data, malformed) = whole;
    let kinds: Vec<&str> = events.iter().filter_map(|e| e.split('(').next()).take(6).collect();
    format!("{kinds:?}, data on {} streams, malformed: {malformed}", data.len().min(3))
}
