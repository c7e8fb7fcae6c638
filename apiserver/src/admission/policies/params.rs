//! The parameters with which a binding puts a policy to work.

use api::object::{Meta as _, ObjectKey};
use serde_json::Value;

use super::compile::{ParamKind, ParamRef};
use crate::admission::View;
use crate::catalog::Served;
use crate::resource::Conversion;

/// The row of the parameters' kind.
///
/// # Errors
/// A kind that is not served.
pub fn row(kind: &ParamKind, view: &dyn View) -> Result<std::sync::Arc<Served>, String> {
    let found = view.catalog().of_kind(&kind.group, &kind.version, &kind.kind).cloned();
    found.ok_or_else(|| {
        let ParamKind { group, version, kind } = kind;
        format!("failed to find resource referenced by paramKind: '{}, Kind={kind}'", api::object::api_version(group, version))
    })
}

/// The parameters of a binding, one evaluation for each: `None` is an evaluation without any.
///
/// # Errors
/// Why it cannot be said which they are.
pub fn collect(row: &Served, params: Option<&ParamRef>, namespace: &str, view: &dyn View) -> Result<Vec<Option<Value>>, String> {
    let Some(params) = params else { return Ok(vec![None]) };
    let namespace = match (row.is_namespaced(), params.namespace.as_str()) {
        (false, "") => None,
        (false, _) => return Err("paramRef.namespace must not be provided for a cluster-scoped `paramKind`".to_owned()),
        (true, "") if namespace.is_empty() => {
            return Err("cannot use namespaced paramRef in policy binding that matches cluster-scoped resources".to_owned());
        }
        (true, "") => Some(namespace),
        (true, given) => Some(given),
    };
    let (group, plural) = (&row.stored_as.0, &row.stored_as.1);
    let stored: Vec<std::sync::Arc<Value>> = if params.name.is_empty() {
        let Some(selector) = &params.selector else { return Err("the selector of paramRef is not valid".to_owned()) };
        view.list(group, plural, namespace).into_iter().filter(|p| selector.matches(&p.labels())).collect()
    } else {
        let key = ObjectKey { namespace: namespace.map(str::to_owned), name: params.name.clone() };
        view.get(group, plural, &key).into_iter().collect()
    };
    if stored.is_empty() && params.required {
        return Err("no params found for policy binding with `Deny` parameterNotFoundAction".to_owned());
    }
    let shown = |stored: std::sync::Arc<Value>| match &row.conversion {
        Some(Conversion::Fixed { from_stored, .. }) => from_stored((*stored).clone()).map(Some).map_err(|s| s.message),
        Some(Conversion::Versions(versions)) => versions.settle_now((*stored).clone()).map(Some).map_err(|s| s.message),
        None => Ok(Some((*stored).clone())),
    };
    stored.into_iter().map(shown).collect()
}
