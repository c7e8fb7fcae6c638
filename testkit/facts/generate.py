#!/usr/bin/env python3
"""Distils an OpenAPI 2 document of Kubernetes into api-1.35.txt: facts alone, no prose.

The document itself is not ours and stays out of the project. Only stable group versions are taken (v1, v2, ...) and
those in SERVED, with the definitions that they reach. The test `testkit/tests/apiserver/surface.rs` compares what the apiserver serves with the file.

The format, one fact group a line:
  p NUMBER PACKAGE                    a package, so that a definition is NUMBER.Name
  q NUMBER PARAMETER,..               a set of parameters, those in the path included, the body left out
  P PATH                              a path; the lines after it are its operations
  METHOD ACTION GROUP/VERSION/KIND NUMBER TYPE    with the number of its parameters and the type of the answer; the kind is - for none
  D NUMBER.Name [a] [g=GROUP/VERSION/KIND ...]    a definition; a = atomic for server-side apply; g=* = of every group and version
  FIELD TYPE [MARKER ...]             a property of the definition above
TYPE    s string, b boolean, i32, i64, f64, bytes, any, other scalars as type:format, NUMBER.Name of a definition, []TYPE, {}TYPE
MARKER  r required; la/ls list atomic/set; lm=KEY,.. list map; ma/mg map atomic/granular; pk=KEY patch merge key; ps=STRATEGY,..

usage: generate.py SWAGGER.json > api-1.35.txt
"""
import json, re, sys

STABLE = re.compile(r"^v\d+$")
# Versions that are served though they are not stable: what they are for has no stable version in 1.35.
SERVED = {("admissionregistration.k8s.io", "v1beta1")}


def stable(path):
    parts = path.strip("/").split("/")
    return (parts[0] == "api" and len(parts) > 1 and STABLE.match(parts[1])) or (
        parts[0] == "apis" and len(parts) > 2 and counts(parts[1], parts[2]))


def counts(group, version):
    return STABLE.match(version) or (group, version) in SERVED


def package_counts(package):
    """Of io.k8s.api.GROUP.VERSION; what is in no API group always counts."""
    parts = package.split(".")
    served = {f"io.k8s.api.{g.split('.')[0]}.{v}" for g, v in SERVED}
    return STABLE.match(parts[-1]) or not package.startswith("io.k8s.api.") or package in served


def kind(g):
    return f"{g['group']}/{g['version']}/{g['kind']}"


def type_of(s):
    if "$ref" in s:
        return s["$ref"].split("/")[-1]
    t, f = s.get("type"), s.get("format")
    if t == "array":
        return "[]" + type_of(s["items"])
    if t == "object":
        return "{}" + type_of(s["additionalProperties"]) if "additionalProperties" in s else "any"
    known = {("string", None): "s", ("string", "byte"): "bytes", ("boolean", None): "b", ("integer", "int32"): "i32",
             ("integer", "int64"): "i64", ("number", "double"): "f64", (None, None): "any"}
    return known.get((t, f)) or f"{t}:{f}"


def markers(s):
    out = []
    if "x-kubernetes-list-type" in s:
        of = s["x-kubernetes-list-type"]
        out.append("lm=" + ",".join(s["x-kubernetes-list-map-keys"]) if of == "map" else {"atomic": "la", "set": "ls"}[of])
    if "x-kubernetes-map-type" in s:
        out.append({"atomic": "ma", "granular": "mg"}[s["x-kubernetes-map-type"]])
    if "x-kubernetes-patch-merge-key" in s:
        out.append("pk=" + s["x-kubernetes-patch-merge-key"])
    if "x-kubernetes-patch-strategy" in s:
        out.append("ps=" + s["x-kubernetes-patch-strategy"])
    return out


def main():
    with open(sys.argv[1]) as f:
        document = json.load(f)
    definitions, shared = document["definitions"], document.get("parameters", {})
    reached, waiting = set(), []

    def walk(value):
        if isinstance(value, dict):
            ref = value.get("$ref", "")
            if isinstance(ref, str) and ref.startswith("#/definitions/"):
                waiting.append(ref.split("/")[-1])
            for inner in value.values():
                walk(inner)
        elif isinstance(value, list):
            for inner in value:
                walk(inner)

    out, sets = [], {}
    packages = {p: n for n, p in enumerate(sorted({d.rsplit(".", 1)[0] for d in definitions if package_counts(d.rsplit(".", 1)[0])}))}
    short = lambda name: f"{packages[name.rsplit('.', 1)[0]]}.{name.rsplit('.', 1)[1]}"
    typed = lambda s: re.sub(r"io\.k8s\.[\w.-]+", lambda m: short(m.group()), type_of(s))
    print("# Facts about the Kubernetes 1.35 API: written by generate.py, which says what the lines mean; do not edit.")
    for path in sorted(p for p in document["paths"] if stable(p)):
        item = document["paths"][path]
        lines = []
        common = item.get("parameters", [])
        for method in sorted(m for m in item if m != "parameters"):
            operation = item[method]
            action = operation.get("x-kubernetes-action", "-")
            if action == "-":
                continue  # discovery itself
            of = operation.get("x-kubernetes-group-version-kind")
            names = set()
            for p in common + operation.get("parameters", []):
                p = shared[p["$ref"].split("/")[-1]] if "$ref" in p else p
                walk(p)
                if p["in"] != "body":
                    names.add(p["name"])
            walk(operation.get("responses", {}))
            answer = next(r for c, r in operation["responses"].items() if c[0] == "2").get("schema", {})
            lines.append(f"{method} {action} {kind(of) if of else '-'} {sets.setdefault(','.join(sorted(names)), len(sets))} {typed(answer)}")
        if lines:
            out.append(f"P {path}")
            out.extend(lines)
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            walk(definitions[name])
    for name in sorted(reached):
        d = definitions[name]
        head = ["D", short(name)]
        if d.get("x-kubernetes-map-type") == "atomic":
            head.append("a")
        kinds = [k for k in d.get("x-kubernetes-group-version-kind", [])]
        stable_kinds = sorted(kind(k) for k in kinds if counts(k["group"], k["version"]))
        head += ["g=*"] if len(kinds) > 9 else ["g=" + k for k in stable_kinds]
        out.append(" ".join(head))
        for field, s in sorted(d.get("properties", {}).items()):
            row = [field, typed(s)] + (["r"] if field in d.get("required", []) else []) + markers(s)
            out.append(" ".join(row))
        if "properties" not in d and d.get("type") != "object":
            out.append(f". {type_of(d)}")
    for package, n in packages.items():
        print(f"p {n} {package}")
    for names, n in sets.items():
        print(f"q {n} {names}")
    print("\n".join(out))


if __name__ == "__main__":
    main()
