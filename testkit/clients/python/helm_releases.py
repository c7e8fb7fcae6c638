"""Helm itself, with client-go and protobuf: a small chart is installed, upgraded through a hook, rolled back and removed."""

import os

import helm_python as helm
from kubernetes import client, config

NAMESPACE, CHART = os.environ["NAMESPACE"], os.environ["CHART"]
config.load_kube_config()
core, apps = client.CoreV1Api(), client.AppsV1Api()


def greeting():
    return core.read_namespaced_config_map("small", NAMESPACE).data["greeting"]


with helm.Config(kubeconfig_path=os.environ["KUBECONFIG"], namespace=NAMESPACE) as releases:
    releases.check_reachable()
    made = releases.install(CHART, "small", wait="watcher", timeout=180)
    assert made["status"] == "deployed", made
    assert apps.read_namespaced_deployment("small", NAMESPACE).status.ready_replicas == 1
    assert greeting() == "hello"

    changed = releases.upgrade(CHART, "small", {"greeting": "goodbye", "replicas": 2}, wait="watcher", timeout=180)
    assert changed["revision"] == 2, changed
    assert apps.read_namespaced_deployment("small", NAMESPACE).status.updated_replicas == 2
    assert greeting() == "goodbye"

    releases.rollback("small", version=1, wait="watcher", timeout=180)
    assert greeting() == "hello"
    assert apps.read_namespaced_deployment("small", NAMESPACE).spec.replicas == 1
    assert [entry["revision"] for entry in releases.history("small")] == [1, 2, 3], releases.history("small")
    assert [entry["name"] for entry in releases.list()] == ["small"]

    releases.uninstall("small", wait="watcher", timeout=180)
    assert releases.list() == []

left = [item.metadata.name for item in apps.list_namespaced_deployment(NAMESPACE).items]
assert left == [], left
