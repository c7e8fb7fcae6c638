//! Answers: bodies with their headers, errors as Status objects, compression.

use std::io::Write as _;

use api::status::Status;
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::negotiate::Format;
use super::render::Renderer;
use crate::verbs::{self, Reply};

/// Answers smaller than this, in bytes, are not worth compressing (upstream's limit).
const COMPRESS_FROM: usize = 128 << 10;

/// Whether the client takes gzip.
#[must_use]
pub fn takes_gzip(headers: &HeaderMap) -> bool {
    headers
        .get(header::ACCEPT_ENCODING)
        .and_then(|v| v.to_str().ok())
        .is_some_and(|v| v.split(',').any(|e| e.trim().split(';').next() == Some("gzip")))
}

/// A response with a body of a known type.
#[must_use]
pub fn with_type(code: u16, content_type: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

/// An error.
#[must_use]
pub fn error(status: &Status) -> Response {
    let mut response = with_type(status.code, "application/json", status.to_json().to_string());
    let seconds = status.details.as_ref().map_or(0, |d| d.retry_after_seconds);
    if seconds > 0 {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    if status.code == 401 {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

/// A verb's reply in the form that was asked for.
///
/// # Errors
/// What cannot be shown in that form.
pub fn reply(reply: Reply, renderer: &Renderer) -> Result<Response, Status> {
    let media = renderer.media();
    let body: Bytes = match reply.body {
        verbs::Body::Stored(bytes) => renderer.object(&bytes)?,
        verbs::Body::Written { wire, .. } if renderer.is_verbatim() => wire,
        verbs::Body::Object(tree) | verbs::Body::Written { tree, .. } => renderer.stored_tree(tree)?,
        verbs::Body::Tree(tree) => renderer.apart(&tree)?,
    };
    let mut response = with_type(reply.code, media.format.content_type(), body);
    warn(response.headers_mut(), &reply.warnings);
    Ok(response)
}

/// Adds `Warning` headers (RFC 7234, code 299), bounded as upstream bounds them.
pub fn warn(headers: &mut HeaderMap, warnings: &[String]) {
    const MOST: usize = 4 << 10;
    let mut size = 0;
    for text in warnings {
        let escaped: String =
            text.chars().filter(|c| !c.is_control()).flat_map(|c| if matches!(c, '"' | '\\') { vec!['\\', c] } else { vec![c] }).collect();
        size += escaped.len();
        if size > MOST {
            return;
        }
        // A warning that no header can carry is one nobody could read either.
        if let Ok(value) = HeaderValue::from_bytes(format!("299 - \"{escaped}\"").as_bytes()) {
            headers.append(header::WARNING, value);
        }
    }
}

/// A list as a response; long ones are compressed on the way for clients that take it.
#[must_use]
pub fn list(body: Body, format: Format, size: Option<usize>, gzip: bool) -> Response {
    let compress = gzip && size.is_some_and(|s| s >= COMPRESS_FROM);
    if !compress {
        return with_type(200, format.content_type(), body);
    }
    let mut response = with_type(200, format.content_type(), Body::from_stream(compressed(body)));
    response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    response
}

/// A body that holds `guard` until it is sent or dropped.
pub fn guarded(body: Body, guard: impl Send + 'static) -> Body {
    use futures::StreamExt as _;
    // The guard goes with the closure, when the stream ends.
    let pieces = body.into_data_stream().map(move |piece| {
        let _held = &guard;
        piece
    });
    Body::from_stream(pieces)
}

/// Compresses a body piece by piece.
fn compressed(body: Body) -> impl futures::Stream<Item = Result<Bytes, axum::Error>> {
    use futures::StreamExt as _;
    let encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(1));
    futures::stream::unfold(Some((body.into_data_stream(), encoder)), |state| async move {
        let (mut pieces, mut encoder) = state?;
        loop {
            match pieces.next().await {
                Some(Ok(piece)) => {
                    if let Err(error) = encoder.write_all(&piece) {
                        return Some((Err(axum::Error::new(error)), None));
                    }
                    if encoder.get_ref().len() >= 16 << 10 {
                        let out = std::mem::take(encoder.get_mut());
                        return Some((Ok(out.into()), Some((pieces, encoder))));
                    }
                }
                Some(Err(error)) => return Some((Err(error), None)),
                None => return Some((encoder.finish().map(Bytes::from).map_err(axum::Error::new), None)),
            }
        }
    })
}
