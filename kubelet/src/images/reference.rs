//! Image references: `[registry/]path[:tag][@digest]` (the distribution project's grammar).

/// The longest name without tag, as the grammar says.
const MAX_NAME: usize = 255;

/// The reference with `:latest` where it has neither tag nor digest.
///
/// # Errors
/// Not a reference, in upstream's words.
pub fn with_default_tag(image: &str) -> Result<String, String> {
    let bad = |why: &str| format!("couldn't parse image name {image:?}: {why}");
    let (rest, digest) = match image.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (image, None),
    };
    if digest.is_some_and(|d| !is_digest(d)) {
        return Err(bad("invalid reference format"));
    }
    let (name, tag) = match rest.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (rest, None),
    };
    let (host, path) = split_host(name);
    if path.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err(bad("invalid reference format: repository name must be lowercase"));
    }
    let host_ok = host.is_none_or(|h| !h.is_empty() && h.bytes().all(|b| b.is_ascii_alphanumeric() || b".-:[]".contains(&b)));
    let path_ok = !path.is_empty() && path.split('/').all(is_component);
    let tag_ok = tag.is_none_or(|t| (1..=128).contains(&t.len()) && t.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)));
    if !(host_ok && path_ok && tag_ok) || name.len() > MAX_NAME {
        return Err(bad("invalid reference format"));
    }
    Ok(if tag.is_none() && digest.is_none() { format!("{image}:latest") } else { image.to_owned() })
}

/// The registry and the path; `None` for Docker Hub's short names.
#[must_use]
pub fn split_host(name: &str) -> (Option<&str>, &str) {
    match name.split_once('/') {
        Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => (Some(host), path),
        _ => (None, name),
    }
}

fn is_component(part: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    part.bytes().all(|b| plain(b) || b"._-".contains(&b))
        && part.bytes().next().is_some_and(plain)
        && part.bytes().last().is_some_and(plain)
}

fn is_digest(digest: &str) -> bool {
    digest.split_once(':').is_some_and(|(algorithm, hex)| {
        !algorithm.is_empty() && hex.len() >= 32 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_and_errors() {
        let digest = format!("a@sha256:{}", "0".repeat(64));
        for (image, expected) in [
            ("nginx", Some("nginx:latest")),
            ("nginx:1", Some("nginx:1")),
            ("localhost:5000/a/b", Some("localhost:5000/a/b:latest")),
            (digest.as_str(), Some(digest.as_str())),
            ("registry.k8s.io/pause:3.9", Some("registry.k8s.io/pause:3.9")),
            ("Nginx", None),
            ("", None),
            ("a b", None),
            ("a@sha256:xyz", None),
            ("a/", None),
        ] {
            assert_eq!(with_default_tag(image).ok().as_deref(), expected, "{image}");
        }
    }
}
