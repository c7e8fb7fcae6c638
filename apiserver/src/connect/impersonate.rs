//! `Impersonate-*` headers: acting as somebody else, for those who may.

use api::status::Status;
use http::HeaderMap;

use crate::auth::{Attributes, User};
use crate::server::Server;

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|v| v.to_str().ok()).filter(|v| !v.is_empty())
}

/// The user that a request wants to be taken for.
///
/// # Errors
/// 400 for groups or extras without a user.
pub fn wanted(headers: &HeaderMap) -> Result<Option<User>, Status> {
    let extra: Vec<(String, String)> = headers
        .iter()
        .filter_map(|(name, value)| {
            let key = name.as_str().strip_prefix("impersonate-extra-")?;
            Some((crate::http::query::percent_decode(key, false), value.to_str().ok()?.to_owned()))
        })
        .collect();
    let mut groups: Vec<String> = headers.get_all("impersonate-group").iter().filter_map(|v| v.to_str().ok()).map(str::to_owned).collect();
    let Some(name) = text(headers, "impersonate-user") else {
        if groups.is_empty() && extra.is_empty() && text(headers, "impersonate-uid").is_none() {
            return Ok(None);
        }
        return Err(Status::internal("requested impersonation without impersonating a user"));
    };
    if let (Some((namespace, _)), true) = (service_account(name), groups.is_empty()) {
        groups = vec!["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")];
    }
    let unknown = name == "system:anonymous";
    let everybody = if unknown { "system:unauthenticated" } else { "system:authenticated" };
    if !groups.iter().any(|g| g == everybody) {
        groups.push(everybody.to_owned());
    }
    let mut user =
        User { name: name.to_owned(), uid: text(headers, "impersonate-uid").unwrap_or("").to_owned(), groups, ..User::default() };
    for (key, value) in extra {
        user.extra.entry(key).or_default().push(value);
    }
    Ok(Some(user))
}

fn service_account(name: &str) -> Option<(&str, &str)> {
    name.strip_prefix("system:serviceaccount:")?.split_once(':')
}

/// Whether `user` may act as `other`: each name, group and extra is a right of its own.
///
/// # Errors
/// 403 for the first that is not granted.
pub fn check(server: &Server, user: &User, other: &User) -> Result<(), Status> {
    let mut wanted = vec![match service_account(&other.name) {
        Some((namespace, name)) => ("", "serviceaccounts", "", namespace, name.to_owned()),
        None => ("", "users", "", "", other.name.clone()),
    }];
    let implied = |g: &str| {
        matches!(g, "system:authenticated" | "system:unauthenticated")
            || (service_account(&other.name).is_some() && g.starts_with("system:serviceaccounts"))
    };
    wanted.extend(other.groups.iter().filter(|g| !implied(g)).map(|g| ("", "groups", "", "", g.clone())));
    if !other.uid.is_empty() {
        wanted.push(("authentication.k8s.io", "uids", "", "", other.uid.clone()));
    }
    for (key, values) in &other.extra {
        wanted.extend(values.iter().map(|v| ("authentication.k8s.io", "userextras", key.as_str(), "", v.clone())));
    }
    for (group, resource, subresource, namespace, name) in wanted {
        let attributes = Attributes {
            verb: "impersonate".to_owned(),
            group: group.to_owned(),
            version: "v1".to_owned(),
            resource: resource.to_owned(),
            subresource: subresource.to_owned(),
            namespace: namespace.to_owned(),
            name: name.clone(),
            ..Attributes::default()
        };
        if !server.authorizer.allows(user, &attributes) {
            return Err(Status::forbidden(group, resource, &name, &attributes.refusal(&user.name)));
        }
    }
    Ok(())
}
