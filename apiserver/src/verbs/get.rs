//! GET of one object.

use api::status::Status;

use super::{Body, Call, Reply};
use crate::http::query::{ListOptions, Version};
use crate::resource::Subresource;

/// One object, or a part of it.
///
/// # Errors
/// 404, or a resourceVersion that cannot be had.
pub async fn get(call: &Call) -> Result<Reply, Status> {
    let row = &call.row;
    let hub = &call.server.hub;
    match ListOptions::parse(&call.query, false)?.version() {
        Version::Any => hub.reach(0).await?,
        Version::NotOlderThan(v) | Version::Exact(v) => hub.reach(v).await?,
        Version::Latest => hub.fresh().await?,
    };
    let entry = row.cache.get(&row.rest(&call.info.namespace, &call.info.name)).ok_or_else(|| call.not_found())?;
    let body = match row.subresource(&call.info.subresource) {
        Some(Subresource::Scale { spec, status, selector }) => {
            Body::Tree(super::projection::scale(&call.read(call.tree(&entry)?).await?, spec, status, selector.as_deref())?)
        }
        _ if row.versions().is_some_and(|v| v.asks()) => Body::Object(call.read(call.tree(&entry)?).await?),
        _ => Body::Stored(entry.wire()),
    };
    Ok(Reply { code: 200, body, warnings: vec![] })
}
