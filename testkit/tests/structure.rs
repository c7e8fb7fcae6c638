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
    for file in files {
        let text = std::fs::read_to_string(&file).expect("a source file");
        let code = text.split("#[cfg(test)]").next().unwrap_or("");
        for kind in ["\"pods\"", "\"Pod\"", "\"services\"", "\"nodes\"", "\"Deployment\"", "\"deployments\"", "k8s_openapi"] {
            assert!(!code.contains(kind), "{} names {kind}", file.display());
        }
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
