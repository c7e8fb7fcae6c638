//! What is served by a handler of its own: reviews, bindings, and connections to kubelets.

pub mod admitted;
pub mod backend;
pub mod binding;
pub mod component_status;
pub mod eviction;
pub mod headers;
mod html;
pub mod impersonate;
pub mod kubelet;
pub mod paths;
pub mod proxy;
pub mod reviews;
pub mod stream;
pub mod token;
pub mod tunnel;

use api::status::Status;
use axum::extract::Request;
use axum::response::Response;
use futures::future::BoxFuture;

use crate::verbs::Call;

/// Serves a virtual kind or a custom subresource.
pub type Handler = fn(Call, Request) -> BoxFuture<'static, Result<Response, Status>>;

/// Group, plural and subresource of each handler. The order does not matter.
const HANDLERS: &[(&str, &str, &str, Handler)] = &[
    ("", "componentstatuses", "", component_status::serve),
    ("", "nodes", "proxy", proxy::node),
    ("", "pods", "attach", kubelet::stream),
    ("", "pods", "binding", binding::bind),
    ("", "pods", "eviction", eviction::evict),
    ("", "pods", "exec", kubelet::stream),
    ("", "pods", "log", kubelet::log),
    ("", "pods", "portforward", kubelet::stream),
    ("", "pods", "proxy", proxy::pod),
    ("", "serviceaccounts", "token", token::request),
    ("", "services", "proxy", proxy::service),
    ("authentication.k8s.io", "selfsubjectreviews", "", reviews::whoami),
    ("authentication.k8s.io", "tokenreviews", "", reviews::token),
    ("authorization.k8s.io", "localsubjectaccessreviews", "", reviews::access),
    ("authorization.k8s.io", "selfsubjectaccessreviews", "", reviews::own_access),
    ("authorization.k8s.io", "selfsubjectrulesreviews", "", reviews::own_rules),
    ("authorization.k8s.io", "subjectaccessreviews", "", reviews::access),
];

/// Serves a request that has a handler of its own.
///
/// # Errors
/// What the handler finds.
pub async fn dispatch(call: Call, request: Request) -> Result<Response, Status> {
    let wanted = (&*call.row.group, &*call.row.plural, call.info.subresource.as_str());
    let found = HANDLERS.iter().find(|(group, plural, sub, _)| (*group, *plural, *sub) == wanted);
    let allowed = match call.row.subresource(&call.info.subresource) {
        // OPTIONS has no verb; what it asks of a proxied server is that server's to say.
        Some(crate::resource::Subresource::Custom { name, .. }) if name == "proxy" && call.info.verb.is_empty() => true,
        Some(crate::resource::Subresource::Custom { verbs, .. }) => verbs.contains(&call.info.verb.as_str()),
        _ => call.row.verbs.iter().any(|v| v.name() == call.info.verb),
    };
    match found {
        Some((.., handler)) if allowed => handler(call, request).await,
        _ => Err(crate::http::serve::not_allowed(&call.row, &call.info)),
    }
}
