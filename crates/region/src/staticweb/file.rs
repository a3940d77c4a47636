//! A file on its way to a visitor: its type and its tag, or the part of it that is asked for.

use std::io::SeekFrom;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{HeaderName, HeaderValue, Method, Response, StatusCode, header, request::Parts};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use lazuli_gateway::{Body, empty, full};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

use super::{
    content::{Content, File},
    mime,
};

/// How much of a file is read at once.
const PIECE: usize = 64 << 10;
/// How long a file may be shown without asking again, unless the site says otherwise: as recorded from Azure's
/// answers in public.
pub(super) const CACHE: &str = "public, must-revalidate, max-age=30";

/// A file, or what is asked of it.
pub(super) async fn send(
    content: &Content,
    name: &str,
    file: &File,
    status: StatusCode,
    head: &Parts,
) -> std::io::Result<Response<Body>> {
    let said = |name: HeaderName| head.headers.get(name).and_then(|value| value.to_str().ok());
    let modified = content.deployed.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    let mut response = Response::new(empty());
    let headers = response.headers_mut();
    let kind =
        mime::extension(name).and_then(|extension| content.config.mime.get(&extension).cloned());
    headers.insert(
        header::CONTENT_TYPE,
        kind.unwrap_or_else(|| HeaderValue::from_static(mime::of(name))),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(CACHE));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if let (Ok(etag), Ok(modified)) =
        (HeaderValue::from_str(&file.etag), HeaderValue::from_str(&modified))
    {
        headers.insert(header::ETAG, etag);
        headers.insert(header::LAST_MODIFIED, modified);
    }
    let same = match said(header::IF_NONE_MATCH) {
        Some(tags) => tags
            .split(',')
            .map(str::trim)
            .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == file.etag),
        None => said(header::IF_MODIFIED_SINCE).is_some_and(|since| since == modified),
    };
    if status == StatusCode::OK && same {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response.headers_mut().remove(header::CONTENT_TYPE);
        return Ok(response);
    }
    *response.status_mut() = status;
    let ranged = said(header::RANGE).filter(|_| {
        head.method == Method::GET
            && status == StatusCode::OK
            && said(header::IF_RANGE).is_none_or(|tag| tag == file.etag)
    });
    let (first, length) = match ranged.map(|text| range(text, file.size)) {
        None | Some(Range::Whole) => (0, file.size),
        Some(Range::Part(first, length)) => {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            let shown = format!("bytes {first}-{}/{}", first + length - 1, file.size);
            if let Ok(shown) = HeaderValue::from_str(&shown) {
                response.headers_mut().insert(header::CONTENT_RANGE, shown);
            }
            (first, length)
        }
        Some(Range::Outside) => {
            *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
            if let Ok(shown) = HeaderValue::from_str(&format!("bytes */{}", file.size)) {
                response.headers_mut().insert(header::CONTENT_RANGE, shown);
            }
            return Ok(response);
        }
    };
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    if head.method != Method::HEAD {
        *response.body_mut() = body(content, name, first, length).await?;
    }
    Ok(response)
}

/// `length` bytes of a file, read as they are taken.
async fn body(content: &Content, name: &str, first: u64, length: u64) -> std::io::Result<Body> {
    let mut file = tokio::fs::File::open(content.path(name)).await?;
    if first > 0 {
        file.seek(SeekFrom::Start(first)).await?;
    }
    if length <= PIECE as u64 {
        let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(PIECE));
        file.take(length).read_to_end(&mut bytes).await?;
        return Ok(full(bytes));
    }
    let pieces = stream::try_unfold((file, length), |(mut file, left)| async move {
        if left == 0 {
            return Ok::<_, std::io::Error>(None);
        }
        let mut piece = vec![0; PIECE.min(usize::try_from(left).unwrap_or(PIECE))];
        file.read_exact(&mut piece).await?;
        let left = left - piece.len() as u64;
        Ok(Some((Frame::data(Bytes::from(piece)), (file, left))))
    });
    Ok(StreamBody::new(pieces.map(|piece| piece.map_err(Into::into))).boxed_unsync())
}

/// What `Range` asks for.
#[derive(Debug, PartialEq, Eq)]
enum Range {
    /// Nothing that is understood: the whole (RFC 9110, 14.2).
    Whole,
    /// First byte and length.
    Part(u64, u64),
    /// Nothing that there is.
    Outside,
}

fn range(text: &str, size: u64) -> Range {
    let number = |text: &str| {
        Some(text)
            .filter(|t| t.bytes().all(|b| b.is_ascii_digit()))
            .and_then(|t| t.parse::<u64>().ok())
    };
    let Some((first, last)) =
        text.strip_prefix("bytes=").and_then(|range| range.trim().split_once('-'))
    else {
        return Range::Whole;
    };
    match (first, last) {
        ("", last) => match number(last) {
            Some(0) => Range::Outside,
            Some(_) if size == 0 => Range::Outside,
            Some(last) => Range::Part(size - last.min(size), last.min(size)),
            None => Range::Whole,
        },
        (first, last) => {
            let last = if last.is_empty() { Some(u64::MAX) } else { number(last) };
            match (number(first), last) {
                (Some(first), Some(last)) if first <= last => {
                    if first >= size {
                        return Range::Outside;
                    }
                    Range::Part(first, last.min(size - 1) - first + 1)
                }
                _ => Range::Whole,
            }
        }
    }
}
