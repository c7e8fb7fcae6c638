//! What is asked of many resources alike: all operations of an API, status and scale subresources, collections.

use serde_json::{Value, json};
use testkit::Watching;

use super::{Framework, POD, SOON};

/// A resource whose API is gone through from end to end.
pub struct Resource<'a> {
    /// `networking.k8s.io/v1`.
    pub group_version: &'a str,
    /// The plural.
    pub name: &'a str,
    pub namespaced: bool,
    /// One that can be made three times: it has no name.
    pub object: Value,
    /// What can be written to the status, when there is one.
    pub status: Option<Value>,
}

/// Reads events until one of this type tells of an object that is as `wanted`, and gives the object: controllers may have written in between.
pub async fn until_event(watch: &mut Watching, kind: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    loop {
        let event = watch.next().await.expect("another event");
        if event["type"] == kind && wanted(&event["object"]) {
            return event["object"].clone();
        }
    }
}

/// Whether `object` has what `part` has.
fn has(object: &Value, part: &Value) -> bool {
    match part {
        Value::Object(fields) => fields.iter().all(|(name, value)| has(&object[name], value)),
        _ => object == part,
    }
}

/// Whether there is a condition of this type.
pub fn has_condition(object: &Value, kind: &str) -> bool {
    object["status"]["conditions"].as_array().is_some_and(|all| all.iter().any(|c| c["type"] == kind))
}

#[allow(dead_code, reason = "for whoever needs it")]
impl Framework {
    /// The group, its version and the resource are in the discovery documents.
    pub async fn discovered(&self, group_version: &str, resources: &[&str]) {
        let (group, version) = group_version.split_once('/').expect("a named group");
        let all = self.wire.get("/apis").await.expect(200);
        let found = all["groups"].as_array().expect("groups").iter().find(|g| g["name"] == group).expect(group).clone();
        for list in [found, self.wire.get(&format!("/apis/{group}")).await.expect(200)] {
            assert!(list["versions"].as_array().expect("versions").iter().any(|v| v["version"] == version), "{list}");
        }
        let all = self.wire.get(&format!("/apis/{group_version}")).await.expect(200);
        for resource in resources {
            assert!(all["resources"].as_array().expect("resources").iter().any(|r| r["name"] == *resource), "{resource}");
        }
    }

    /// Reads, changes and writes back the object at `path`, again when somebody else was quicker.
    pub async fn update(&self, path: &str, change: impl Fn(&mut Value)) -> Value {
        self.until(&format!("{path}: an update without a conflict"), SOON, || async {
            let mut read = self.wire.get(path).await.expect(200);
            change(&mut read);
            let answer = self.wire.put(path, &read).await;
            (answer.code != 409).then(|| answer.expect(200))
        })
        .await
    }

    /// A watch on what a list of `path` (with a selector) does not hold yet.
    pub async fn watch_from_now(&self, path: &str) -> Watching {
        let list = self.wire.get(path).await.expect(200);
        let version = list["metadata"]["resourceVersion"].as_str().expect("a version");
        let sign = if path.contains('?') { '&' } else { '?' };
        self.wire.watch(&format!("{path}{sign}watch=true&resourceVersion={version}")).await
    }

    /// Discovery, create, get, list, watch, patch, update, status, delete and deletecollection.
    pub async fn operations(&self, resource: &Resource<'_>) {
        let Resource { group_version, name, .. } = resource;
        let status = format!("{name}/status");
        let mut served = vec![*name];
        served.extend(resource.status.is_some().then_some(&*status));
        self.discovered(group_version, &served).await;
        let label = self.unique("special");
        let mut object = resource.object.clone();
        object["metadata"]["generateName"] = json!("e2e-example-");
        object["metadata"]["labels"]["special-label"] = json!(label);
        let everywhere = format!("/apis/{group_version}/{name}");
        let here = if resource.namespaced { self.group(group_version, name) } else { everywhere.clone() };
        let selected = |path: &str| format!("{path}?labelSelector=special-label%3D{label}");

        let mut made = Value::Null;
        for _ in 0..3 {
            made = self.wire.post(&here, &object).await.expect(201);
            self.remove_later(&format!("{here}/{}", made["metadata"]["name"].as_str().expect("a name")));
        }
        let path = format!("{here}/{}", made["metadata"]["name"].as_str().expect("a name"));
        assert_eq!(self.wire.get(&path).await.expect(200)["metadata"]["uid"], made["metadata"]["uid"]);
        assert_eq!(self.list(&selected(&here)).await.len(), 3);
        assert_eq!(self.list(&selected(&everywhere)).await.len(), 3);

        let mut watch = self.watch_from_now(&selected(&everywhere)).await;
        let marks = |word: &str| json!({"metadata": {"annotations": {word: "true"}}});
        let patched = self.wire.patch("merge", &path, &marks("patched")).await.expect(200);
        assert!(has(&patched, &marks("patched")), "{patched}");
        let updated = self.update(&path, |object| object["metadata"]["annotations"]["updated"] = json!("true")).await;
        assert!(has(&updated, &marks("updated")), "{updated}");
        for wanted in [&patched, &updated] {
            let version = &wanted["metadata"]["resourceVersion"];
            let seen = until_event(&mut watch, "MODIFIED", |o| o["metadata"]["resourceVersion"] == *version).await;
            assert_eq!(seen, *wanted);
        }
        if let Some(status) = &resource.status {
            let path = format!("{path}/status");
            let mut patch = marks("patchedstatus");
            patch["status"] = status.clone();
            let patched = self.wire.patch("merge", &path, &patch).await.expect(200);
            assert!(has(&patched, &patch), "{patched}");
            let updated = self.update(&path, |o| o["metadata"]["annotations"]["updatedstatus"] = json!("true")).await;
            assert!(has(&updated, &marks("updatedstatus")) && has(&updated["status"], status), "{updated}");
            assert_eq!(self.wire.get(&path).await.expect(200)["metadata"]["uid"], made["metadata"]["uid"]);
        }

        self.wire.delete(&path).await.ok();
        self.until_gone(&path, SOON).await;
        until_event(&mut watch, "DELETED", |o| o["metadata"]["uid"] == made["metadata"]["uid"]).await;
        assert_eq!(self.list(&selected(&here)).await.len(), 2);
        self.delete_collection(&selected(&here)).await;
    }

    /// Deletes what a list of `selected` holds, and waits until it holds nothing.
    pub async fn delete_collection(&self, selected: &str) {
        self.wire.delete(selected).await.expect(200);
        self.until(&format!("{selected} to hold nothing"), POD, || async { self.list(selected).await.is_empty().then_some(()) }).await;
    }

    /// The status of the object at `path` is read, updated and patched by itself, and who watches the object sees it: conditions, as the
    /// resource's controller leaves those alone that are not its own.
    pub async fn status_conditions(&self, path: &str) {
        let (collection, name) = path.rsplit_once('/').expect("a path");
        let mut watch = self.watch_from_now(&format!("{collection}?fieldSelector=metadata.name%3D{name}")).await;
        let status = format!("{path}/status");
        let object = self.wire.get(path).await.expect(200);
        let read = self.wire.get(&status).await.expect(200);
        assert_eq!((&read["kind"], &read["metadata"]["uid"]), (&object["kind"], &object["metadata"]["uid"]));

        let condition = json!({"type": "StatusUpdate", "status": "True", "reason": "E2E", "message": "Set from e2e test"});
        self.update(&status, |object| match object["status"]["conditions"].as_array_mut() {
            Some(all) => all.push(condition.clone()),
            None => object["status"]["conditions"] = json!([condition]),
        })
        .await;
        until_event(&mut watch, "MODIFIED", |object| has_condition(object, "StatusUpdate")).await;
        assert!(has_condition(&self.wire.get(&status).await.expect(200), "StatusUpdate"));

        let patch = json!({"status": {"conditions": [{"type": "StatusPatched", "status": "True"}]}});
        let patched = self.wire.patch("merge", &status, &patch).await.expect(200);
        assert!(has_condition(&patched, "StatusPatched") && !has_condition(&patched, "StatusUpdate"), "{patched}");
        until_event(&mut watch, "MODIFIED", |object| has_condition(object, "StatusPatched")).await;
        assert_eq!(self.wire.get(path).await.expect(200)["spec"], object["spec"], "the status alone was written");
    }

    /// The scale of the object at `path` is read, updated and patched by itself, and the object follows.
    pub async fn scaled(&self, path: &str, from: u64, updated: u64, patched: u64) {
        let scale = format!("{path}/scale");
        let read = self.wire.get(&scale).await.expect(200);
        assert_eq!((&read["kind"], &read["apiVersion"]), (&json!("Scale"), &json!("autoscaling/v1")));
        assert_eq!((&read["spec"]["replicas"], &read["status"]["replicas"]), (&json!(from), &json!(from)));
        assert!(read["status"]["selector"].as_str().is_some_and(|s| s.contains('=')), "{read}");
        let answer = self.update(&scale, |scale| scale["spec"]["replicas"] = json!(updated)).await;
        assert_eq!(answer["spec"]["replicas"], updated);
        assert_eq!(self.wire.get(path).await.expect(200)["spec"]["replicas"], updated);
        self.wire.patch("merge", &scale, &json!({"spec": {"replicas": patched}})).await.expect(200);
        assert_eq!(self.wire.get(path).await.expect(200)["spec"]["replicas"], patched);
        self.until_it(&scale, "to have followed", POD, |scale| scale["status"]["replicas"] == patched).await;
    }
}
