//! The stored form of an object, and how it becomes the form on the wire.
//!
//! Stored: compact JSON that starts with `{"metadata":{` and has no resourceVersion. On the wire: the same bytes with
//! `"resourceVersion":"N",` put in right there. So one serialisation, at the write, serves every later read.
//! Values of resources that are encrypted at rest go through [`Cipher`] on the way.

use serde_json::Value;

/// What every stored object starts with.
pub const HEAD: &[u8] = br#"{"metadata":{"#;

/// What stands before the digits of a resourceVersion; `",` follows them.
const VERSION: &[u8] = br#""resourceVersion":""#;

/// Serialises an object into the stored form. `None` when it has no `metadata` map with something in it.
#[must_use]
pub fn encode(object: &Value) -> Option<Vec<u8>> {
    let fields = object.as_object()?;
    let metadata = fields.get("metadata")?.as_object()?;
    let mut out = Vec::with_capacity(1024);
    out.extend_from_slice(HEAD);
    let mut first = true;
    for (key, value) in metadata.iter().filter(|(k, _)| *k != "resourceVersion") {
        write_member(&mut out, &mut first, key, value)?;
    }
    if first {
        return None;
    }
    out.push(b'}');
    let mut first = false;
    for (key, value) in fields.iter().filter(|(k, _)| *k != "metadata") {
        write_member(&mut out, &mut first, key, value)?;
    }
    out.push(b'}');
    Some(out)
}

fn write_member(out: &mut Vec<u8>, first: &mut bool, key: &str, value: &Value) -> Option<()> {
    if !std::mem::take(first) {
        out.push(b',');
    }
    serde_json::to_writer(&mut *out, key).ok()?;
    out.push(b':');
    serde_json::to_writer(&mut *out, value).ok()
}

/// How many bytes [`write_wire`] appends.
#[must_use]
pub fn wire_len(stored: &[u8], revision: u64) -> usize {
    let digits = revision.checked_ilog10().unwrap_or(0) as usize + 1;
    if stored.starts_with(HEAD) { stored.len() + VERSION.len() + digits + 2 } else { stored.len() }
}

/// Appends the wire form of `stored` at `revision`. Bytes that are no stored object are appended as they are.
pub fn write_wire(out: &mut Vec<u8>, stored: &[u8], revision: u64) {
    match stored.strip_prefix(HEAD) {
        Some(rest) => {
            out.extend_from_slice(HEAD);
            out.extend_from_slice(VERSION);
            out.extend_from_slice(revision.to_string().as_bytes());
            out.extend_from_slice(br#"","#);
            out.extend_from_slice(rest);
        }
        None => out.extend_from_slice(stored),
    }
}

/// Where the stored form goes on in a wire form, after [`HEAD`] and the resourceVersion.
#[must_use]
pub fn after_version(wire: &[u8]) -> Option<&[u8]> {
    let rest = wire.strip_prefix(HEAD)?.strip_prefix(VERSION)?;
    let digits = rest.iter().position(|b| *b == b'"')?;
    rest.get(digits + 2..)
}

/// Turns plain stored bytes into what etcd holds, and back.
pub trait Cipher: Send + Sync {
    /// Encrypts, bound to `key`.
    ///
    /// # Errors
    /// No usable key.
    fn seal(&self, key: &str, plain: Vec<u8>) -> Result<Vec<u8>, String>;
    /// Decrypts what [`Cipher::seal`] made; plain values pass.
    ///
    /// # Errors
    /// A value that was sealed with an unknown key or for another `key`.
    fn open(&self, key: &str, stored: Vec<u8>) -> Result<Vec<u8>, String>;
}

/// Keeps values as they are.
#[derive(Debug, Clone, Copy)]
pub struct Plain;

impl Cipher for Plain {
    fn seal(&self, _: &str, plain: Vec<u8>) -> Result<Vec<u8>, String> {
        Ok(plain)
    }
    fn open(&self, key: &str, stored: Vec<u8>) -> Result<Vec<u8>, String> {
        if stored.starts_with(b"k8s:enc:") {
            return Err(format!("the value of {key} is encrypted, and no key was configured"));
        }
        Ok(stored)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_wire_form_is_the_stored_form_with_its_version() {
        let object =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "resourceVersion": "7"}, "data": {"é": "\n"}});
        let stored = encode(&object).unwrap();
        assert!(stored.starts_with(HEAD));
        let mut wire = Vec::new();
        write_wire(&mut wire, &stored, 42);
        assert_eq!(wire.len(), wire_len(&stored, 42));
        assert_eq!([0, 9, 10, 99_999, 100_000].map(|r| wire_len(b"{\"metadata\":{", r) - wire_len(b"{\"metadata\":{", 1)), [0, 0, 1, 4, 5]);
        let mut back: Value = serde_json::from_slice(&wire).unwrap();
        assert_eq!(back["metadata"]["resourceVersion"].take(), "42");
        assert_eq!(after_version(&wire), stored.strip_prefix(HEAD));
        back["metadata"]["resourceVersion"] = "7".into();
        assert_eq!(back, object);
    }

    #[test]
    fn what_has_no_metadata_is_refused() {
        assert_eq!(encode(&json!({"metadata": {}})), None);
        assert_eq!(encode(&json!([])), None);
    }
}
