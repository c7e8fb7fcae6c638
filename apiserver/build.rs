//! Collects the API's descriptions for the OpenAPI documents out of the sources of `k8s-openapi`, which the build has at hand anyway.
//! They are prose of the Kubernetes authors (Apache-2.0), so they are read at build time and not kept in this repository.
//!
//! Writes `descriptions.txt` into `OUT_DIR`: a line `M NAME<tab>DESCRIPTION` for each message, then `FIELD<tab>DESCRIPTION` for each of
//! its fields; descriptions are JSON strings.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

const CRATE: &str = "k8s-openapi";
const VERSION: &str = "v1_35";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=../Cargo.lock");
    let mut files = Vec::new();
    walk(&sources().join(VERSION), &mut files);
    let mut messages: Vec<String> = files.iter().filter_map(|file| message(&fs::read_to_string(file).expect("a source file"))).collect();
    assert!(messages.len() > 500, "{CRATE} has changed its form: {} messages found", messages.len());
    messages.sort();
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("descriptions.txt");
    fs::write(out, messages.concat()).expect("OUT_DIR is writable");
}

/// The directory of the crate's sources, as cargo says it. It tells of all packages of the workspace or of none, also of those that this build
/// does without: when one of them was never downloaded, cargo has to do so.
fn sources() -> PathBuf {
    let cargo = env::var_os("CARGO").expect("cargo sets CARGO");
    let target = env::var("TARGET").expect("cargo sets TARGET");
    let mut said = String::new();
    for offline in [Some("--offline"), None] {
        let arguments = ["metadata", "--format-version=1", "--filter-platform", &target];
        let metadata = Command::new(&cargo).args(arguments).args(offline).output().expect("cargo metadata runs");
        let text = String::from_utf8_lossy(&metadata.stdout);
        let mut manifests = text.split("\"manifest_path\":\"").filter_map(|rest| rest.split('"').next());
        if let Some(path) = manifests.find(|p| p.rsplit('/').nth(1).is_some_and(|dir| dir.starts_with(&format!("{CRATE}-")))) {
            return Path::new(path).with_file_name("src");
        }
        said += &String::from_utf8_lossy(&metadata.stderr);
    }
    panic!("cargo metadata names no {CRATE}: {said}")
}

fn walk(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display())) {
        let path = entry.expect("a directory entry").path();
        if path.is_dir() {
            walk(&path, files);
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
}

/// The lines for the message a file defines, from its `JsonSchema` implementation.
fn message(source: &str) -> Option<String> {
    let (_, schema) = source.split_once("fn schema_name()")?;
    let name = schema.split('"').nth(1).filter(|n| n.starts_with("io.k8s."))?;
    let mut lines = String::new();
    let mut described = false;
    let mut field: Option<&str> = None;
    for line in schema.lines() {
        let indent = line.len() - line.trim_start().len();
        let text = line.trim_start();
        if indent == 16 && text.starts_with('"') && text.ends_with('{') {
            field = text.split('"').nth(1);
        } else if let Some(rest) = text.strip_prefix("\"description\": ") {
            let description = rest.trim_end_matches(',');
            if indent == 12 && !described {
                described = true;
                writeln!(lines, "M {name}\t{}", json(description)).expect("a String takes everything");
            } else if indent == 20
                && let Some(field) = field.take()
            {
                writeln!(lines, "{field}\t{}", json(description)).expect("a String takes everything");
            }
        } else if let Some((_, rest)) = text.split_once(".insert(\"description\".into(), ")
            && let Some(field) = field.take()
        {
            let description = rest.trim_end_matches(".into());");
            writeln!(lines, "{field}\t{}", json(description)).expect("a String takes everything");
        }
    }
    if !described {
        lines.insert_str(0, &format!("M {name}\t\"\"\n"));
    }
    Some(lines)
}

/// A Rust string literal as a JSON one: they differ in few escapes.
fn json(literal: &str) -> String {
    let mut out = String::with_capacity(literal.len());
    let mut chars = literal.chars();
    while let Some(c) = chars.next() {
        match (c, if c == '\\' { chars.next() } else { None }) {
            ('\\', Some('\'')) => out.push('\''),
            ('\\', Some('0')) => out.push_str("\\u0000"),
            ('\\', Some('u')) => {
                let digits: String = chars.by_ref().skip(1).take_while(|c| *c != '}').collect();
                out.extend(u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32));
            }
            ('\\', Some(other)) => out.extend(['\\', other]),
            (other, _) => out.push(other),
        }
    }
    out
}
