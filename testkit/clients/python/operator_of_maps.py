"""An operator as people write them with kopf: for each Fleet it makes that many ConfigMaps, which it owns, and reports in the status."""

import kopf
import kubernetes


@kopf.on.startup()
def configure(settings: kopf.OperatorSettings, **_):
    settings.posting.enabled = True
    settings.persistence.finalizer = "clients.ferrite.test/kopf"


@kopf.on.create("clients.ferrite.test", "v1", "fleets")
@kopf.on.update("clients.ferrite.test", "v1", "fleets", field="spec.size")
def build(spec, name, namespace, patch, **_):
    core = kubernetes.client.CoreV1Api()
    there = core.list_namespaced_config_map(namespace, label_selector=f"fleet={name}").items
    for index in range(len(there), spec["size"]):
        child = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"{name}-{index}", "labels": {"fleet": name}}}
        kopf.adopt(child)
        core.create_namespaced_config_map(namespace, child)
    patch.status["built"] = spec["size"]
    return {"children": spec["size"]}


@kopf.on.delete("clients.ferrite.test", "v1", "fleets")
def leave(name, namespace, **_):
    core = kubernetes.client.CoreV1Api()
    core.create_namespaced_config_map(namespace, {"metadata": {"name": f"{name}-was-here"}})
