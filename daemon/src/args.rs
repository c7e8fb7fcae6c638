//! Flags, and a config file that is nothing but flags written as YAML.
//!
//! `--config FILE` names a flat YAML map. Each key is a flag's name, in kebab-case or camelCase; each value is
//! what would follow the flag. The command line wins over the file. So there is one list of settings, one
//! parser, and one place that complains about a wrong name.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context as _, bail};

/// Flags that every daemon has. Flatten it into the daemon's own flags.
#[derive(Debug, Clone, clap::Args)]
pub struct CommonFlags {
    /// YAML file with settings: a map from flag names to values. The command line wins over it.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Log verbosity: 0 warnings, 2 information, 4 debug, 6 trace. `RUST_LOG` sets it per module (`warn,kubelet=debug`).
    #[arg(short, long = "v", default_value_t = 2, value_name = "LEVEL")]
    pub verbosity: u8,
    /// Log format.
    #[arg(long, default_value = "text", value_parser = ["text", "json"])]
    pub logging_format: String,
}

/// The largest config file that is read, in bytes: settings are a few lines.
const MAX_CONFIG: u64 = 1 << 20;

/// Parses the command line, with the file named by `--config` underneath it.
///
/// # Errors
/// A config file that cannot be read or is not a flat map. Wrong flags end the process with usage, as clap does.
pub fn parse<F: clap::Parser>() -> anyhow::Result<F> {
    let args: Vec<OsString> = std::env::args_os().collect();
    let Some(path) = config_path(&args) else { return Ok(F::parse_from(args)) };
    let size = std::fs::metadata(&path).with_context(|| format!("reading config file {}", path.display()))?.len();
    if size > MAX_CONFIG {
        bail!("config file {} has {size} bytes; the most that is read is {MAX_CONFIG}", path.display());
    }
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading config file {}", path.display()))?;
    let from_file = file_args(&text).with_context(|| format!("in config file {}", path.display()))?;
    Ok(F::parse_from(merge::<F>(args, from_file)))
}

fn config_path(args: &[OsString]) -> Option<PathBuf> {
    let mut rest = args.iter().skip(1);
    while let Some(arg) = rest.next() {
        let text = arg.to_string_lossy();
        if text == "--config" {
            return rest.next().map(PathBuf::from);
        }
        if let Some(path) = text.strip_prefix("--config=") {
            return Some(path.into());
        }
    }
    None
}

/// Puts the file's flags before those of the command line, leaving out what the command line sets itself.
fn merge<F: clap::Parser>(args: Vec<OsString>, from_file: Vec<(String, String)>) -> Vec<OsString> {
    let on_line: Vec<String> =
        args.iter().filter_map(|a| a.to_str()?.strip_prefix("--").map(|f| f.split('=').next().unwrap_or(f).to_owned())).collect();
    let switches: Vec<String> =
        F::command().get_arguments().filter(|a| !a.get_action().takes_values()).filter_map(|a| a.get_long().map(str::to_owned)).collect();
    let mut out: Vec<OsString> = args.first().cloned().into_iter().collect();
    for (flag, value) in from_file {
        if on_line.contains(&flag) {
            continue;
        }
        match (switches.contains(&flag), value.as_str()) {
            (true, "true") => out.push(format!("--{flag}").into()),
            (true, "false") => {}
            _ => out.push(format!("--{flag}={value}").into()),
        }
    }
    out.extend(args.into_iter().skip(1));
    out
}

fn file_args(text: &str) -> anyhow::Result<Vec<(String, String)>> {
    let map: serde_json::Map<String, serde_json::Value> = serde_saphyr::from_str(text)?;
    let mut out = Vec::new();
    for (key, value) in map {
        let flag = kebab(&key);
        match value {
            serde_json::Value::String(s) => out.push((flag, s)),
            serde_json::Value::Bool(_) | serde_json::Value::Number(_) => out.push((flag, value.to_string())),
            serde_json::Value::Null => {}
            serde_json::Value::Array(items) => {
                for item in items {
                    match item {
                        serde_json::Value::String(s) => out.push((flag.clone(), s)),
                        other => out.push((flag.clone(), other.to_string())),
                    }
                }
            }
            serde_json::Value::Object(_) => bail!("{key}: a setting is a value or a list of values, not a map"),
        }
    }
    Ok(out)
}

fn kebab(key: &str) -> String {
    let mut out = String::with_capacity(key.len() + 4);
    for c in key.chars() {
        if c.is_ascii_uppercase() {
            out.push('-');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, clap::Parser)]
    struct Flags {
        #[command(flatten)]
        common: CommonFlags,
        #[arg(long)]
        node_name: Option<String>,
        #[arg(long)]
        leader_elect: bool,
    }

    fn flags(line: &[&str], file: &str) -> Flags {
        let line = std::iter::once("x").chain(line.iter().copied()).map(OsString::from).collect();
        Flags::parse_from(merge::<Flags>(line, file_args(file).expect("a flat map")))
    }

    #[test]
    fn the_file_gives_flags_and_the_command_line_wins() {
        let f = flags(&["--v=4"], "nodeName: a\nv: 0\nleader-elect: true\n");
        assert_eq!((f.node_name.as_deref(), f.common.verbosity, f.leader_elect), (Some("a"), 4, true));
        let f = flags(&["--node-name", "b"], "nodeName: a\nleaderElect: false\n");
        assert_eq!((f.node_name.as_deref(), f.leader_elect), (Some("b"), false));
    }

    #[test]
    fn nested_maps_are_refused() {
        assert!(file_args("a: {b: 1}").is_err());
    }
}
