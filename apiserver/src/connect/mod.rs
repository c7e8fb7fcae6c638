//! What is served by a handler of its own: reviews, bindings, and connections to kubelets.

pub mod impersonate;
pub mod paths;

use api::status::Status;
use axum::extract::Request;
use axum::response::Response;
use futures::future::BoxFuture;

use crate::verbs::Call;

/// Serves a virtual kind or a custom subresource.
pub type Handler = fn(Call, Request) -> BoxFuture<'static, Result<Response, Status>>;

/// Group, plural and subresource of each handler. The order does not matter.
const HANDLERS: &[(&str, &str, &str, Handler)] = &[];

/// Serves a request that has a handler of its own.
///
/// # Errors
/// What the handler finds.
pub async fn dispatch(call: Call, request: Request) -> Result<Response, Status> {
    let wanted = (&*call.row.group, &*call.row.plural, call.info.subresource.as_str());
    let found = HANDLERS.iter().find(|(group, plural, sub, _)| (*group, *plural, *sub) == wanted);
    match found {
        Some((.., handler)) => handler(call, request).await,
        None => Err(Status::method_not_supported(&call.row.group, &call.row.plural, &call.info.verb)),
    }
}
