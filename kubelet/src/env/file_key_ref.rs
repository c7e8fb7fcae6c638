//! Variables out of files that a container has written (`fileKeyRef`, KEP-3721).
//!
//! The format is a part of what a POSIX shell reads: `NAME='value'`, where everything between the quotes stands for itself,
//! newlines too; comments on lines of their own; nothing else.

use std::path::Path;

use k8s_openapi::api::core::v1::Container;

use super::EnvError;

/// The most bytes of such a file that are read; what is larger is refused, as what cannot be parsed is.
const MAX_FILE: u64 = 1 << 20;

/// A file as a container's variables name it: its volume and its path in there.
pub type FileName = (String, String);

/// What was found at a file's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum File {
    /// Its text.
    Text(String),
    /// No such file.
    Absent,
    /// No such volume.
    NoVolume,
    /// There is something, and it cannot be read.
    Unreadable,
}

impl File {
    /// What is at `path` of the volume that is on the host at `volume`; no link leads out of it, and nothing but a regular file is read.
    #[must_use]
    pub fn read(volume: Option<&Path>, path: &str) -> Self {
        let Some(volume) = volume else { return Self::NoVolume };
        match crate::volumes::sub_path::read(volume, path, MAX_FILE) {
            Ok(text) => Self::Text(text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Self::Absent,
            Err(error) => {
                // What is on the host is not for the pod's owner to read.
                tracing::warn!(path, %error, "an environment file could not be read");
                Self::Unreadable
            }
        }
    }
}

/// The files that a container's variables are in.
#[must_use]
pub fn files(container: &Container) -> Vec<FileName> {
    let sources = container.env.iter().flatten().filter_map(|e| e.value_from.as_ref()?.file_key_ref.as_ref());
    sources.map(|f| (f.volume_name.clone(), f.path.clone())).collect()
}

/// The value of `key` in a file; none when it is not there and need not be.
///
/// # Errors
/// The volume, the file or the key is not there, or the file is none of this format; in upstream's words.
pub fn value(file: &File, volume: &str, key: &str, optional: bool) -> Result<Option<String>, EnvError> {
    let unparsed = || EnvError("couldn't parse env file".to_owned());
    let found = match file {
        File::NoVolume => return Err(EnvError(format!("cannot find the volume {volume:?} referenced by FileKeyRef"))),
        File::Text(text) => find(text, key).ok_or_else(unparsed)?,
        File::Absent if optional => None,
        File::Absent | File::Unreadable => return Err(unparsed()),
    };
    match found {
        None if !optional => Err(EnvError(format!("environment variable key {key:?} not found in file"))),
        found => Ok(found),
    }
}

/// The last value of `key`; the outer `None` when the text is not of this format.
fn find(text: &str, key: &str) -> Option<Option<String>> {
    let mut found = None;
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        if rest.starts_with('#') {
            rest = rest.split_once('\n').map_or("", |(_, after)| after).trim_start();
            continue;
        }
        let (name, after) = rest.split_once('=')?;
        let name = name.trim_end_matches([' ', '\t']);
        if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c == '\'' || c == '"') {
            return None;
        }
        let (value, after) = after.trim_start_matches([' ', '\t']).strip_prefix('\'')?.split_once('\'')?;
        let (end, after) = after.split_once('\n').unwrap_or((after, ""));
        if !end.trim().is_empty() {
            return None;
        }
        if name == key {
            found = Some(value.to_owned());
        }
        rest = after.trim_start();
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, key: &str, expected: &str) {
        let said = match value(&File::Text(text.to_owned()), "v", key, false) {
            Ok(value) => value.expect("it is not optional"),
            Err(error) => format!("error: {error}"),
        };
        assert_eq!(said, expected);
    }

    #[test]
    fn quoted_text_stands_for_itself() {
        let text = "# comment='x'\n\n  A = 'a b'  \nB='#no comment $A \\n'\nC='one\ntwo'\nA='again'\r\nD=''";
        check(text, "A", "again");
        check(text, "B", "#no comment $A \\n");
        check(text, "C", "one\ntwo");
        check(text, "D", "");
        check(text, "comment", "error: environment variable key \"comment\" not found in file");
    }

    #[test]
    fn what_a_shell_reads_otherwise_is_refused() {
        for text in ["A=a", "A=\"a\"", "A='a''b'", "A='a'$B", "A='a", "export A='a'", "A", "='a'", "A='a' # b", "B='b'\nA=a"] {
            check(text, "A", "error: couldn't parse env file");
        }
    }

    #[test]
    fn what_is_missing_may_be_optional() {
        let said = |file: &File, optional| value(file, "v", "A", optional).map_err(|e| e.to_string());
        assert_eq!(said(&File::Absent, true), Ok(None));
        assert_eq!(said(&File::Text("B='b'".into()), true), Ok(None));
        assert_eq!(said(&File::Absent, false), Err("couldn't parse env file".into()));
        assert_eq!(said(&File::Unreadable, true), Err("couldn't parse env file".into()));
        assert_eq!(said(&File::NoVolume, true), Err("cannot find the volume \"v\" referenced by FileKeyRef".into()));
    }
}
