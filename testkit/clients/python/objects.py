"""The official client on ordinary objects: typed, dynamic, server-side apply, watch, and what errors look like."""

import json
import os
import threading

from kubernetes import client, config, dynamic, watch

NAMESPACE = os.environ["NAMESPACE"]
config.load_kube_config()


def typed():
    core, apps = client.CoreV1Api(), client.AppsV1Api()
    map_ = client.V1ConfigMap(metadata=client.V1ObjectMeta(name="typed", labels={"by": "python"}), data={"a": "1"})
    made = core.create_namespaced_config_map(NAMESPACE, map_)
    assert made.metadata.uid and made.metadata.creation_timestamp.tzinfo, made
    patched = core.patch_namespaced_config_map("typed", NAMESPACE, {"data": {"b": "2"}})
    assert patched.data == {"a": "1", "b": "2"}, patched.data
    made.data = {"late": "yes"}
    try:
        core.replace_namespaced_config_map("typed", NAMESPACE, made)
        raise AssertionError("a stale resourceVersion was taken")
    except client.ApiException as error:
        assert (error.status, error.reason) == (409, "Conflict"), error
    try:
        core.read_namespaced_config_map("none", NAMESPACE)
        raise AssertionError("an object that is not there was read")
    except client.ApiException as error:
        assert error.status == 404 and '"reason":"NotFound"' in error.body.replace(" ", ""), error.body
    found = core.list_namespaced_config_map(NAMESPACE, label_selector="by=python")
    assert [item.metadata.name for item in found.items] == ["typed"]
    labels = {"app": "python"}
    deployment = client.V1Deployment(
        metadata=client.V1ObjectMeta(name="python"),
        spec=client.V1DeploymentSpec(
            replicas=0,
            selector=client.V1LabelSelector(match_labels=labels),
            template=client.V1PodTemplateSpec(
                metadata=client.V1ObjectMeta(labels=labels),
                spec=client.V1PodSpec(containers=[client.V1Container(name="main", image="busybox")]),
            ),
        ),
    )
    apps.create_namespaced_deployment(NAMESPACE, deployment)
    scaled = apps.patch_namespaced_deployment_scale("python", NAMESPACE, {"spec": {"replicas": 1}})
    assert scaled.spec.replicas == 1, scaled
    # Typed reading of everything the server fills in; a null where the client wants a list would fail here.
    read = apps.read_namespaced_deployment("python", NAMESPACE)
    assert read.spec.strategy.type == "RollingUpdate" and read.metadata.generation >= 2, read
    apps.delete_namespaced_deployment("python", NAMESPACE, propagation_policy="Background")
    pages, token = 0, None
    for name in ("page-1", "page-2", "page-3"):
        core.create_namespaced_config_map(NAMESPACE, client.V1ConfigMap(metadata=client.V1ObjectMeta(name=name, labels={"paged": "y"})))
    while True:
        page = core.list_namespaced_config_map(NAMESPACE, label_selector="paged=y", limit=1, _continue=token)
        pages, token = pages + len(page.items), page.metadata._continue
        if not token:
            break
    assert pages == 3, pages
    core.list_node()
    client.VersionApi().get_code()
    assert client.AuthorizationV1Api().create_self_subject_access_review(
        {"spec": {"resourceAttributes": {"verb": "create", "resource": "pods", "namespace": NAMESPACE}}}
    ).status.allowed


def dynamically():
    dyn = dynamic.DynamicClient(client.ApiClient())
    maps = dyn.resources.get(api_version="v1", kind="ConfigMap")
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "dynamic"}, "data": {"a": "1"}}
    maps.create(body=body, namespace=NAMESPACE)
    # Server-side apply: two managers, a conflict, and force.
    body["data"] = {"b": "mine"}
    maps.server_side_apply(body=body, namespace=NAMESPACE, name="dynamic", field_manager="first")
    body["data"] = {"b": "theirs"}
    try:
        maps.server_side_apply(body=body, namespace=NAMESPACE, name="dynamic", field_manager="second")
        raise AssertionError("no conflict")
    except dynamic.exceptions.ConflictError as error:
        assert json.loads(error.body)["message"] == 'Apply failed with 1 conflict: conflict with "first": .data.b', error
    applied = maps.server_side_apply(body=body, namespace=NAMESPACE, name="dynamic", field_manager="second", force_conflicts=True)
    assert applied.data.to_dict() == {"a": "1", "b": "theirs"}, applied
    assert {entry.manager for entry in applied.metadata.managedFields} >= {"second"}
    maps.delete(name="dynamic", namespace=NAMESPACE)
    assert dyn.resources.get(api_version="apps/v1", kind="Deployment").namespaced
    assert dyn.resources.get(api_version="v1", kind="Node").namespaced is False


def watching():
    core = client.CoreV1Api()
    start = core.list_namespaced_secret(NAMESPACE).metadata.resource_version
    seen = []

    def look():
        for event in watch.Watch().stream(core.list_namespaced_secret, NAMESPACE, resource_version=start, timeout_seconds=60):
            if event["object"].metadata.name == "watched":
                seen.append(event["type"])
            if event["type"] == "DELETED":
                return

    thread = threading.Thread(target=look)
    thread.start()
    core.create_namespaced_secret(NAMESPACE, client.V1Secret(metadata=client.V1ObjectMeta(name="watched"), string_data={"a": "b"}))
    core.patch_namespaced_secret("watched", NAMESPACE, {"metadata": {"labels": {"x": "y"}}})
    core.delete_namespaced_secret("watched", NAMESPACE)
    thread.join(60)
    assert seen == ["ADDED", "MODIFIED", "DELETED"], seen
    # From a version that is no longer kept the client lists again by itself; a timeout of the client's choosing ends the watch.
    quick = list(watch.Watch().stream(core.list_namespaced_secret, NAMESPACE, timeout_seconds=1))
    assert all(event["type"] == "ADDED" for event in quick), quick


typed()
dynamically()
watching()
