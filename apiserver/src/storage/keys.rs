//! Keys in etcd: `/registry/<plural>/<ns>/<name>` for the core group, `/registry/<group>/<plural>/<ns>/<name>` for the others;
//! without `<ns>/` for cluster-scoped objects.

use api::object::ObjectKey;

/// Everything of ours stands under this.
pub const ROOT: &str = "/registry/";

/// Groups whose names have no dot, and so cannot be told from a plural by themselves.
const DOTLESS_GROUPS: [&str; 4] = ["apps", "autoscaling", "batch", "policy"];

/// Splits a key into the prefix of its resource, ending in `/`, and the rest. `None` for a key that is not ours.
#[must_use]
pub fn split(key: &str) -> Option<(&str, &str)> {
    let path = key.strip_prefix(ROOT)?;
    let first = path.find('/')?;
    let segment = &path[..first];
    let end = if segment.contains('.') || DOTLESS_GROUPS.contains(&segment) { first + 1 + path[first + 1..].find('/')? } else { first };
    let at = ROOT.len() + end + 1;
    Some((&key[..at], &key[at..]))
}

/// The part of an object's key after its resource's prefix.
#[must_use]
pub fn rest(key: &ObjectKey) -> String {
    match &key.namespace {
        Some(namespace) => format!("{namespace}/{}", key.name),
        None => key.name.clone(),
    }
}

/// The first key after all those that start with `prefix`.
#[must_use]
pub fn prefix_end(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    // Our prefixes are ASCII, so the last byte can go up.
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_split_after_the_resource() {
        assert_eq!(split("/registry/pods/a/b"), Some(("/registry/pods/", "a/b")));
        assert_eq!(split("/registry/apps/deployments/a/b"), Some(("/registry/apps/deployments/", "a/b")));
        assert_eq!(split("/registry/x.io/foos/b"), Some(("/registry/x.io/foos/", "b")));
        assert_eq!(split("/registry/ranges/nodeports/1"), Some(("/registry/ranges/", "nodeports/1")));
        assert_eq!(split("/registry/apps/deployments"), None);
        assert_eq!(split("/other/pods/a/b"), None);
    }

    #[test]
    fn the_end_of_a_prefix_is_its_successor() {
        assert_eq!(prefix_end("/registry/pods/"), b"/registry/pods0");
    }
}
