#!/usr/bin/env python3
"""Writes facts-1.35.txt, the table of facts about the Kubernetes 1.35 API that Ferrite works from.

Two published packages are read, and only facts are taken from them (names, types, numbers, markers; no prose):
  kubernetes-validate 1.37.0 (PyPI)  the JSON definitions of 1.35 with their x-kubernetes-* extensions
  k8s-pb 0.9.0 (Rust crate)          protobuf tags and the +default markers

The format, one message after another, both in the order of their names:
  p NUMBER PACKAGE                    a package, so that a reference is NUMBER.Name
  m NUMBER.Name [a] [g=GROUP/VERSION/KIND ...]
                                      a message; a = atomic for server-side apply; g=* = a kind of every group and version
  JSONNAME TYPE TAG [marker ...]      a field of the message above
TYPE    s string, b boolean, i32, i64, f64, bytes, ios IntOrString, q Quantity, t Time, mt MicroTime, any (raw JSON),
        schemaOr{Array,Bool,Strings}, NUMBER.Name, []TYPE, {}TYPE (map from string)
TAG     the wire tag; 2.5 = tag 5 inside the message at tag 2, whose fields JSON shows inline; - = not on the wire
marker  r required; la/ls list atomic/set; lm=KEY,.. list map; ma/mg map atomic/granular; pk=KEY patch merge key;
        ps=STRATEGY,.. patch strategy; w the list is wrapped in a message on the wire; d=JSON default;
        z zero on the wire means that it is not set (optional strings are so unless marked p)

usage: generate.py [--check] [--cache DIR]
  --check   compare with the file in place of writing it (exit 1 when it differs)
  exit 75   the packages could not be fetched
"""
import argparse, glob, json, os, re, subprocess, sys, tempfile, zipfile

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(HERE, "facts-1.35.txt")
WHEEL, VERSION = "kubernetes-validate==1.37.0", "v1.35.0"
CRATE, CRATE_VERSION = "k8s-pb", "0.9.0"

HEADER = """\
# Facts about the Kubernetes 1.35 API: written by generate.py, which says what the lines mean; do not edit.
# Taken from kubernetes-validate 1.37.0 and k8s-pb 0.9.0, both Apache-2.0; see NOTICE.
"""

META = "io.k8s.apimachinery.pkg.apis.meta.v1."
# Messages that travel but are in no OpenAPI document.
EXTRA = {
    META + "PartialObjectMetadata": ("PartialObjectMetadata", {"metadata": META + "ObjectMeta"}),
    META + "PartialObjectMetadataList": ("PartialObjectMetadataList", {"metadata": META + "ListMeta", "items": ["PartialObjectMetadata"]}),
}
SCALARS = {
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": "ios",
    "io.k8s.apimachinery.pkg.api.resource.Quantity": "q",
    META + "Time": "t",
    META + "MicroTime": "mt",
    META + "FieldsV1": "any",
    "io.k8s.apimachinery.pkg.runtime.RawExtension": "any",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON": "any",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrArray": "schemaOrArray",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrBool": "schemaOrBool",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrStringArray": "schemaOrStrings",
}
# +default=ref(NAME) in the sources: the value of the constant.
CONSTANTS = {"AzureDataDiskCachingReadWrite": '"ReadWrite"', "AzureSharedBlobDisk": '"Shared"'}
# Optional numbers and booleans whose Go fields are no pointers and always travel, so that zero says nothing. In no package: written down
# from the API's documentation. `name` for every message, `Message.name` for one.
PLAIN = set("""
authenticated chapAuthDiscovery chapAuthSession clusterScope denied deprecated exclusiveMaximum exclusiveMinimum globalDefault hostIPC
hostNetwork hostPID insecureSkipTLSVerify nullable paused preserveUnknownFields publishNotReadyAddresses readOnly sslEnabled stdin
stdinOnce tty uniqueItems unschedulable x-kubernetes-embedded-resource x-kubernetes-int-or-string
active availableReplicas code Event.count EventSeries.count StatefulSetStatus.currentReplicas HorizontalPodAutoscalerStatus.currentReplicas
deprecatedCount failed failureThreshold fullyLabeledReplicas handSize healthCheckNodePort hostPort initialDelaySeconds matchingPrecedence
minReadySeconds nodePort number numberAvailable numberUnavailable AWSElasticBlockStoreVolumeSource.partition
GCEPersistentDiskVolumeSource.partition periodSeconds CustomResourceColumnDefinition.priority queueLengthLimit queues readyReplicas
DeploymentStatus.replicas retryAfterSeconds signal start succeeded successThreshold Probe.timeoutSeconds unavailableReplicas
updatedNumberScheduled updatedReplicas generation observedGeneration sizeBytes ExactDeviceRequest.count DeviceSubRequest.count
ServicePort.targetPort
""".split())
NOT_PLAIN = {"CSIVolumeSource.readOnly", "AzureDiskVolumeSource.readOnly"}
# Strings whose Go fields are pointers, and for which "" is not the same as nothing.
POINTERS = {"PersistentVolumeClaimSpec.storageClassName", "PersistentVolumeClaimSpec.volumeAttributesClassName", "EndpointPort.name"}
# More kinds of one message than are worth writing down: every group and version has them.
EVERYWHERE = {META + "DeleteOptions", META + "WatchEvent"}


def fetch(cache):
    """The definitions of 1.35 and the directory of k8s-pb's sources."""
    wheel = glob.glob(os.path.join(cache, "kubernetes_validate-*.whl"))
    run = lambda *a, **k: subprocess.run(a, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **k)
    if not wheel:
        run(sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", cache, WHEEL)
        wheel = glob.glob(os.path.join(cache, "kubernetes_validate-*.whl"))
    with zipfile.ZipFile(wheel[0]) as z:
        path = f"kubernetes_validate/kubernetes-json-schema/{VERSION}-local/_definitions.json"
        defs = json.loads(z.read(path))["$defs"]
    project = os.path.join(cache, "project")
    os.makedirs(os.path.join(project, "src"), exist_ok=True)
    with open(os.path.join(project, "Cargo.toml"), "w") as f:
        f.write('[package]\nname = "facts"\nversion = "0.0.0"\nedition = "2024"\n[workspace]\n[dependencies]\n')
        f.write(f'{CRATE} = "={CRATE_VERSION}"\n')
    open(os.path.join(project, "src", "lib.rs"), "w").close()
    meta = subprocess.run(["cargo", "metadata", "--format-version", "1"], cwd=project, check=True, capture_output=True).stdout
    manifest = next(p["manifest_path"] for p in json.loads(meta)["packages"] if p["name"] == CRATE)
    return defs, os.path.join(os.path.dirname(manifest), "src")


def parse_protobuf(src):
    """{rust path: [{name, attr, tag, type, default}]} of every struct in the crate."""
    messages = {}
    for f in sorted(glob.glob(src + "/**/mod.rs", recursive=True)):
        package = os.path.relpath(os.path.dirname(f), src).split(os.sep)
        lines = open(f).read().split("\n")
        current, doc, attr, i = None, [], None, 0
        while i < len(lines):
            line = lines[i].strip()
            start = re.match(r"pub struct (\w+) \{(\})?$", line)
            if start:
                current, doc, attr = [], [], None
                messages["::".join(package + [start.group(1)])] = current
                if start.group(2):
                    current = None
            elif current is not None and lines[i] == "}":
                current = None
            elif current is not None and line.startswith("///"):
                doc.append(line[4:])
            elif current is not None and line.startswith("#[prost("):
                attr = line
                while not attr.endswith(")]"):
                    i += 1
                    attr += " " + lines[i].strip()
            elif current is not None and line.startswith("pub ") and attr:
                while not (line.endswith(",") and line.count("<") == line.count(">")):
                    i += 1
                    line += lines[i].strip()
                name, rust = re.match(r"pub (?:r#)?(\w+):\s*(.*),$", line).groups()
                default = next((d[len("+default="):] for d in doc if d.startswith("+default=")), None)
                if default and default.startswith("ref("):
                    default = CONSTANTS[default[4:-1]]
                inner = re.sub(r"::(core|prost)::(option|alloc)::(vec::|boxed::|string::|collections::)?", "", rust)
                while (m := re.match(r"(?:Option|Vec|Box|BTreeMap)\s*<(.*),?>$", inner)):
                    inner = m.group(1).rstrip(",").split(",")[-1].strip()
                current.append({
                    "name": name, "attr": attr, "tag": int(re.search(r'tag = "(\d+)"', attr).group(1)),
                    "type": resolve(package, inner), "default": default,
                })
                doc, attr = [], None
            i += 1
    return messages


def resolve(package, rust):
    parts, base = rust.split("::"), list(package)
    while parts[0] == "super":
        parts, base = parts[1:], base[:-1]
    return "::".join(base + parts)


def low(s):
    return re.sub(r"[-_$.:]", "", s).lower()


def wire_form(field):
    """(shape, scalar) as the prost attribute says: ("list", "string"), ("map", "message"), ("one", "int32")."""
    a = field["attr"]
    m = re.search(r'btree_map = "string, (\w+)"', a)
    if m:
        return "map", m.group(1)
    scalar = re.match(r'#\[prost\((\w+)', a).group(1)
    return ("list" if "repeated" in a else "one"), scalar


WIRE = {"s": "string", "b": "bool", "i32": "int32", "i64": "int64", "f64": "double", "bytes": "bytes"}


def main():
    args = argparse.ArgumentParser()
    args.add_argument("--check", action="store_true")
    args.add_argument("--cache")
    args = args.parse_args()
    with tempfile.TemporaryDirectory() as tmp:
        cache = os.path.abspath(args.cache or tmp)
        os.makedirs(cache, exist_ok=True)
        try:
            defs, src = fetch(cache)
        except (subprocess.CalledProcessError, OSError) as e:
            print(f"cannot fetch the packages: {e} {getattr(e, 'stderr', b'') or b''}", file=sys.stderr)
            return 75
        text = generate(defs, parse_protobuf(src))
    if args.check:
        if open(OUT).read() == text:
            return 0
        print(f"{OUT} is not what generate.py writes: run it", file=sys.stderr)
        return 1
    with open(OUT, "w") as f:
        f.write(text)
    return 0


def generate(defs, protobuf):
    by_low = {low(k): k for k in protobuf}
    wire_of = lambda name: by_low.get(low(name.replace("io.k8s.", "", 1)))
    for name, (kind, fields) in EXTRA.items():
        ref = lambda n: {"$ref": "#/$defs/" + (n if "." in n else META + n)}
        props = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}}
        for f, t in fields.items():
            props[f] = {"type": "array", "items": ref(t[0])} if isinstance(t, list) else ref(t)
        defs[name] = {"type": "object", "properties": props, "x-kubernetes-group-version-kind":
                      [{"group": "meta.k8s.io", "version": "v1", "kind": kind}]}
    names = sorted(n for n in defs if n not in SCALARS)
    packages = sorted({n.rsplit(".", 1)[0] for n in names})
    number = {p: i for i, p in enumerate(packages)}
    short = lambda n: f"{number[n.rsplit('.', 1)[0]]}.{n.rsplit('.', 1)[1]}"

    def type_of(s):
        if "$ref" in s:
            target = s["$ref"].split("/")[-1]
            return SCALARS.get(target) or short(target)
        t = s.get("type")
        t = t[0] if isinstance(t, list) else t
        f = s.get("format")
        if t == "array":
            return "[]" + type_of(s["items"])
        if t == "object":
            return "{}" + type_of(s["additionalProperties"]) if "additionalProperties" in s else "any"
        if t == "string":
            return "bytes" if f == "byte" else "s"
        if t == "integer":
            return {"int32": "i32", "int64": "i64"}[f]
        return {"boolean": "b", "number": "f64"}[t]

    def tags(name, props):
        """{json name: (tag path, wrapped, default)}; fails when wire and JSON disagree."""
        found = {}
        wanted = {low(p): p for p in props}

        def walk(rust, path):
            for f in protobuf[rust]:
                prop = wanted.get(low(f["name"]))
                if prop is None:
                    walk(f["type"], path + [f["tag"]])  # an embedded struct: JSON shows its fields inline
                    continue
                t = type_of(props[prop])
                shape, scalar = wire_form(f)
                want = "list" if t.startswith("[]") else "map" if t.startswith("{}") else "one"
                leaf = t[2:] if want != "one" else t
                wrapped = False
                if want != shape or leaf.startswith("[]"):
                    inner = protobuf[f["type"]]
                    assert len(inner) == 1 and inner[0]["name"] == "items" and inner[0]["tag"] == 1, (name, prop, t, f)
                    wrapped, leaf, scalar = True, leaf.removeprefix("[]"), wire_form(inner[0])[1]
                assert scalar == WIRE.get(leaf, "message"), (name, prop, t, f)
                found[prop] = (path + [f["tag"]], wrapped, f["default"])

        walk(wire_of(name), [])
        return found

    lines = [f"p {i} {p}" for i, p in enumerate(packages)]
    for name in names:
        d = defs[name]
        head = ["m", short(name)]
        if d.get("x-kubernetes-map-type") == "atomic":
            head.append("a")
        if name in EVERYWHERE:
            head.append("g=*")
        else:
            for g in d.get("x-kubernetes-group-version-kind", []):
                head.append(f"g={g['group']}/{g['version']}/{g['kind']}")
        lines.append(" ".join(head))
        props = d.get("properties", {})
        wire = tags(name, props) if wire_of(name) else {}
        for prop in sorted(props):
            s = props[prop]
            path, wrapped, default = wire.get(prop, ([], False, None))
            assert path or prop in ("apiVersion", "kind") or not wire, (name, prop)
            row = [prop, type_of(s), ".".join(map(str, path)) or "-"]
            if prop in d.get("required", []):
                row.append("r")
            kind = s.get("x-kubernetes-list-type")
            if kind == "map":
                row.append("lm=" + ",".join(s["x-kubernetes-list-map-keys"]))
            elif kind:
                row.append({"atomic": "la", "set": "ls"}[kind])
            if "x-kubernetes-map-type" in s:
                row.append({"atomic": "ma", "granular": "mg"}[s["x-kubernetes-map-type"]])
            if "x-kubernetes-patch-merge-key" in s:
                row.append("pk=" + s["x-kubernetes-patch-merge-key"])
            if "x-kubernetes-patch-strategy" in s:
                row.append("ps=" + s["x-kubernetes-patch-strategy"])
            if wrapped:
                row.append("w")
            at = f"{name.rsplit('.', 1)[1]}.{prop}"
            if path and "r" not in row and (prop in PLAIN or at in PLAIN) and at not in NOT_PLAIN and row[1] in ("b", "i32", "i64", "ios"):
                row.append("z")
            if at in POINTERS and row[1] == "s" and "r" not in row:
                row.append("p")
            if default is not None:
                row.append("d=" + default)
            lines.append(" ".join(row))
    return HEADER + "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
