//! What the design says about the tree, checked against the tree.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate has a parent").to_owned()
}

fn sources(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("a readable folder") {
        let path = entry.expect("a readable entry").path();
        if path.is_dir() {
            sources(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

#[test]
fn the_walk_through_the_code_names_files_that_exist() {
    let text = std::fs::read_to_string(root().join("docs/architecture.md")).expect("the document");
    let named: BTreeSet<&str> =
        text.split('`').skip(1).step_by(2).filter(|t| t.contains('/') && !t.contains(' ') && !t.starts_with('/')).collect();
    assert!(named.len() > 30, "only {} files are named", named.len());
    let gone: Vec<&&str> = named.iter().filter(|n| !root().join(n).exists()).collect();
    assert!(gone.is_empty(), "docs/architecture.md names what is not there: {gone:?}");
}

#[test]
fn daemons_meet_over_http_alone() {
    let metadata = cargo_metadata::MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .no_deps()
        .other_options(vec!["--offline".into()])
        .exec()
        .expect("cargo metadata");
    let allowed = |krate: &str| -> &[&str] {
        match krate {
            "api" | "daemon" => &[],
            "deploy" | "apiserver" | "scheduler" | "controller-manager" | "kubelet" | "kube-proxy" | "coredns-lite" => &["api", "daemon"],
            "testkit" => {
                &["api", "apiserver", "controller-manager", "coredns-lite", "daemon", "deploy", "kube-proxy", "kubelet", "scheduler"]
            }
            other => panic!("{other} is a crate that the design does not know"),
        }
    };
    let ours: BTreeSet<String> = metadata.packages.iter().map(|p| p.name.to_string()).collect();
    for package in &metadata.packages {
        for dependency in package.dependencies.iter().filter(|d| ours.contains(&d.name)) {
            let test_only = dependency.kind == cargo_metadata::DependencyKind::Development && dependency.name == "testkit";
            assert!(
                test_only || allowed(&package.name).contains(&dependency.name.as_str()),
                "{} may not depend on {}",
                package.name,
                dependency.name
            );
        }
        let speaks_etcd = package.dependencies.iter().any(|d| d.name == "etcd-client");
        assert!(!speaks_etcd || *package.name == "apiserver", "{} may not speak to etcd", package.name);
    }
}

#[test]
fn verbs_know_no_kind() {
    let mut files = vec![];
    sources(&root().join("apiserver/src/verbs"), &mut files);
    assert!(files.len() > 8);
    let rows = apiserver::resources::builtin();
    let names: BTreeSet<String> =
        rows.iter().flat_map(|r| [r.kind.to_string(), r.plural.to_string()]).map(|n| format!("\"{n}\"")).collect();
    for file in files {
        let text = std::fs::read_to_string(&file).expect("a source file");
        let code = text.split("#[cfg(test)]").next().unwrap_or("");
        // What is said to a client may name a kind; what is decided may not.
        for name in names.iter().map(String::as_str).chain(["k8s_openapi"]) {
            assert!(!code.contains(name), "{} names {name}", file.display());
        }
    }
}

#[test]
fn every_resource_has_a_file_of_its_own() {
    let folder = root().join("apiserver/src/resources");
    let mut files = vec![];
    sources(&folder, &mut files);
    let mut found = 0;
    for file in files {
        let text = std::fs::read_to_string(&file).expect("a source file");
        let rows = text.matches("\npub fn row() -> Resource").count();
        assert!(rows <= 1, "{} has {rows} rows", file.display());
        found += rows;
        if rows == 1 {
            let listed = file.strip_prefix(&folder).expect("below").components().count();
            assert!(listed <= 3, "{} is deeper than a group and a name", file.display());
        }
    }
    assert_eq!(found, apiserver::resources::builtin().len(), "each row of the table has its file, and each file its line in the table");
}

#[test]
fn files_of_the_apiserver_hold_one_idea_each() {
    let mut files = vec![];
    for krate in ["api/src", "apiserver/src", "testkit/src", "testkit/tests"] {
        sources(&root().join(krate), &mut files);
    }
    for file in files {
        let text = std::fs::read_to_string(&file).expect("a source file");
        let lines = text.lines().count();
        assert!(lines <= 600, "{} has {lines} lines", file.display());
        let is_tests = file.file_name().is_some_and(|n| n == "tests.rs");
        assert!(is_tests || text.starts_with("//!"), "{} does not say what it keeps true", file.display());
    }
}

#[test]
fn no_test_is_switched_off_and_nothing_is_left_to_do() {
    let mut files = vec![];
    for krate in
        ["api", "apiserver", "controller-manager", "coredns-lite", "daemon", "deploy", "kube-proxy", "kubelet", "scheduler", "testkit"]
    {
        sources(&root().join(krate), &mut files);
    }
    assert!(files.len() > 200);
    // Written apart, so that this file does not find itself.
    let forbidden = [concat!("#[", "ignore"), concat!("todo", "!("), concat!("unimplemented", "!(")];
    for file in files {
        let text = std::fs::read_to_string(&file).expect("a source file");
        for word in forbidden {
            assert!(!text.contains(word), "{} has {word}", file.display());
        }
    }
}

#[test]
fn every_listed_behaviour_has_one_test() {
    let dir = root().join("testkit/tests/conformance");
    let mut files = vec![];
    sources(&dir, &mut files);
    let mut tested = vec![];
    for file in files {
        let text = std::fs::read_to_string(&file).expect("a source file");
        let place = file.strip_prefix(&dir).expect("a file of the folder").with_extension("");
        // What came after the list is not in it.
        if place.starts_with("newer") {
            continue;
        }
        for literal in text.split("\"[sig-").skip(1) {
            // A name may hold quotes of its own, which are written with a backslash.
            let parts: Vec<&str> = literal.split('"').collect();
            let last = parts.iter().position(|part| !part.ends_with('\\')).unwrap_or(0);
            let name = parts[..=last].join("\"").replace('\\', "");
            tested.push((format!("[sig-{name}"), place.display().to_string()));
        }
    }
    tested.sort();
    let listed = std::fs::read_to_string(dir.join("behaviours.txt")).expect("the list");
    let mut listed: Vec<(&str, &str)> = listed
        .lines()
        .filter(|l| !l.starts_with('#'))
        .map(|l| l.split_once('\t').map(|(file, name)| (name, file)).expect("a tab"))
        .collect();
    listed.sort_unstable();
    let names = |all: Vec<&str>| all.join("\n");
    assert_eq!(
        names(tested.iter().map(|(name, _)| name.as_str()).collect()),
        names(listed.iter().map(|(name, _)| *name).collect()),
        "testkit/tests/conformance/behaviours.txt and the tests beside it name the same behaviours, each once"
    );
    for ((name, place), (_, file)) in tested.iter().zip(&listed) {
        let upstream = file.trim_start_matches("test/e2e/").trim_end_matches(".go");
        assert!(*place == upstream || place.starts_with(&format!("{upstream}/")), "{name} is of {file}, not of {place}");
    }
}
