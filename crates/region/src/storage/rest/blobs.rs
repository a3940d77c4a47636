//! Operations on blobs.

use std::{collections::BTreeMap, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{Method, StatusCode};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use jiff::Timestamp;
use lazuli_gateway::full;
use md5::{Digest as _, Md5};
use uuid::Uuid;

use super::{Answer, Ask, conditions, http_date, xml};
use crate::{
    storage::{
        BLOBS, Blob, Block, Name, SNAPSHOTS, Storage, UNCOMMITTED, error::Refusal, lease::Lease,
    },
    store::Batch,
};

/// Azure's limits on a blob's blocks and its name.
const MAX_BLOCKS: usize = 50_000;
const MAX_NAME: usize = 1_024;
/// The properties that a client gives a blob, and how it writes each.
const PROPERTIES: [(&str, &str); 6] = [
    ("content-type", "x-ms-blob-content-type"),
    ("content-encoding", "x-ms-blob-content-encoding"),
    ("content-language", "x-ms-blob-content-language"),
    ("content-disposition", "x-ms-blob-content-disposition"),
    ("cache-control", "x-ms-blob-cache-control"),
    ("content-md5", "x-ms-blob-content-md5"),
];

fn header_value(name: &str) -> Refusal {
    Refusal::bad(
        "InvalidHeaderValue",
        format!("The value for one of the HTTP headers is not in the correct format: {name}."),
    )
}

fn exists() -> Refusal {
    Refusal::new(StatusCode::CONFLICT, "BlobAlreadyExists", "The specified blob already exists.")
}

fn required(name: &'static str) -> Refusal {
    Refusal::bad(
        "MissingRequiredHeader",
        format!("An HTTP header that's mandatory for this request is not specified: {name}."),
    )
}

fn guid(text: &str, name: &str) -> Result<String, Refusal> {
    Uuid::parse_str(text).map(|id| id.to_string()).map_err(|_| header_value(name))
}

/// The bytes of `Range: bytes=a-b` in something of `size` bytes: first and length.
fn range(text: &str, size: u64) -> Result<Option<(u64, u64)>, Refusal> {
    let invalid = || {
        Refusal::new(
            StatusCode::RANGE_NOT_SATISFIABLE,
            "InvalidRange",
            "The range specified is invalid for the current size of the resource.",
        )
    };
    // What is no range of bytes is ignored, as HTTP has it.
    let Some((first, last)) = text.strip_prefix("bytes=").and_then(|range| range.split_once('-'))
    else {
        return Ok(None);
    };
    let Ok(first) = first.trim().parse::<u64>() else { return Ok(None) };
    let last = match last.trim() {
        "" => u64::MAX,
        last => match last.parse::<u64>() {
            Ok(last) if last >= first => last,
            _ => return Ok(None),
        },
    };
    if first >= size {
        return Err(invalid());
    }
    Ok(Some((first, last.min(size - 1) - first + 1)))
}

impl Storage {
    fn name(ask: &Ask<'_>) -> Name {
        Name {
            account: ask.account.id.name().to_ascii_lowercase(),
            container: ask.container.to_owned(),
            blob: ask.blob.to_owned(),
        }
    }

    /// What is asked of a blob.
    pub(super) async fn on_blob(self: &Arc<Self>, ask: &Ask<'_>) -> Result<Answer, Refusal> {
        if ask.blob.chars().count() > MAX_NAME {
            return Err(Refusal::bad("InvalidResourceName", "The name of the blob is too long."));
        }
        if self.container(&ask.account.id, ask.container).is_none() {
            return Err(Refusal::no_container());
        }
        if ask.method != Method::GET && ask.method != Method::HEAD {
            // Checks and writes are one step. The body is here already: nobody waits for a client.
            let _writes = self.writes.lock().await;
            return self.write(ask).await;
        }
        match ask.param("comp") {
            None | Some("metadata") => self.get(ask),
            Some("blocklist") => self.get_blocks(ask),
            Some(comp) => Err(Refusal::not_implemented(&format!("GET of a blob with comp={comp}"))),
        }
    }

    async fn write(self: &Arc<Self>, ask: &Ask<'_>) -> Result<Answer, Refusal> {
        if ask.param("snapshot").is_some() && ask.method != Method::DELETE {
            return Err(Refusal::bad(
                "InvalidQueryParameterValue",
                "Value for one of the query parameters specified in the request URI is invalid: a snapshot is not written to.",
            ));
        }
        if ask.header("x-ms-copy-source").is_some() {
            return Err(Refusal::not_implemented("Copy Blob and Put Blob From URL"));
        }
        match (ask.method, ask.param("comp")) {
            (&Method::PUT, None) => self.put(ask).await,
            (&Method::PUT, Some("block")) => self.put_block(ask).await,
            (&Method::PUT, Some("blocklist")) => self.put_block_list(ask).await,
            (&Method::PUT, Some("metadata")) => {
                let metadata = ask.metadata()?;
                self.change(ask, |blob| {
                    blob.metadata = metadata;
                    Ok(())
                })
                .await
            }
            (&Method::PUT, Some("properties")) => {
                let headers = properties(ask, false);
                self.change(ask, |blob| {
                    blob.headers = headers;
                    Ok(())
                })
                .await
            }
            (&Method::PUT, Some("tier")) => self.set_tier(ask).await,
            (&Method::PUT, Some("lease")) => self.lease(ask).await,
            (&Method::PUT, Some("snapshot")) => self.take_snapshot(ask).await,
            (&Method::DELETE, None) => self.delete(ask).await,
            (method, comp) => Err(Refusal::not_implemented(&format!(
                "{method} of a blob with comp={}",
                comp.unwrap_or_default()
            ))),
        }
    }

    fn existing(&self, ask: &Ask<'_>) -> Result<Blob, Refusal> {
        let blob = self.blob(&Self::name(ask)).ok_or_else(Refusal::no_blob)?;
        conditions(ask, Some((&blob.etag, blob.modified)), exists())?;
        Ok(blob)
    }

    async fn save(&self, ask: &Ask<'_>, blob: &Blob, batch: Option<Batch>) -> Result<(), Refusal> {
        let mut batch = batch.unwrap_or_default();
        let bytes = serde_json::to_vec(blob).unwrap_or_default();
        batch.put_state(BLOBS, &Self::name(ask).key(), bytes);
        self.commit(&ask.account.id, ask.container, batch).await
    }

    /// Changes what stands beside a blob's content.
    async fn change(
        &self,
        ask: &Ask<'_>,
        change: impl FnOnce(&mut Blob) -> Result<(), Refusal>,
    ) -> Result<Answer, Refusal> {
        let mut blob = self.existing(ask)?;
        blob.lease.admit_write(ask.header("x-ms-lease-id"), ask.now)?;
        change(&mut blob)?;
        blob.etag = self.etag(ask.now);
        blob.modified = ask.now;
        self.save(ask, &blob, None).await?;
        Ok(Answer::new(StatusCode::OK)
            .version(&blob.etag, blob.modified)
            .with("x-ms-request-server-encrypted", "true"))
    }

    /// Replaces a blob, or makes it.
    async fn replace(
        self: &Arc<Self>,
        ask: &Ask<'_>,
        blocks: Vec<Block>,
        headers: BTreeMap<String, String>,
    ) -> Result<Answer, Refusal> {
        let name = Self::name(ask);
        let before = self.blob(&name);
        let there = before.as_ref().map(|blob| (blob.etag.as_str(), blob.modified));
        conditions(ask, there, exists())?;
        let lease_id = ask.header("x-ms-lease-id");
        let mut lease = before.as_ref().map(|blob| blob.lease.clone()).unwrap_or_default();
        lease.admit_write(lease_id, ask.now)?;
        let blob = Blob {
            etag: self.etag(ask.now),
            created: before.as_ref().map_or(ask.now, |blob| blob.created),
            modified: ask.now,
            headers,
            metadata: ask.metadata()?,
            blocks,
            lease,
            tier: ask.header("x-ms-access-tier").map(ToOwned::to_owned),
        };
        let mut old = before.map(|blob| blob.blocks).unwrap_or_default();
        old.extend(self.uncommitted(&name));
        let mut batch = Batch::new();
        batch.delete_state(UNCOMMITTED, &name.key());
        self.save(ask, &blob, Some(batch)).await?;
        self.release(&name, old);
        let mut answer = Answer::new(StatusCode::CREATED)
            .version(&blob.etag, blob.modified)
            .with("x-ms-request-server-encrypted", "true");
        if let Some(md5) = blob.headers.get("content-md5") {
            answer = answer.with("content-md5", md5.clone());
        }
        Ok(answer)
    }

    async fn put(self: &Arc<Self>, ask: &Ask<'_>) -> Result<Answer, Refusal> {
        match ask.header("x-ms-blob-type") {
            None => return Err(required("x-ms-blob-type")),
            Some("BlockBlob") => {}
            Some("PageBlob" | "AppendBlob") => {
                return Err(Refusal::not_implemented("page blobs and append blobs"));
            }
            Some(_) => return Err(header_value("x-ms-blob-type")),
        }
        // Before the content is written down, so that a refused request leaves nothing.
        let before = self.blob(&Self::name(ask));
        let there = before.as_ref().map(|blob| (blob.etag.as_str(), blob.modified));
        conditions(ask, there, exists())?;
        before
            .map(|blob| blob.lease)
            .unwrap_or_default()
            .admit_write(ask.header("x-ms-lease-id"), ask.now)?;
        let sum = checksum(ask)?;
        let mut headers = properties(ask, true);
        headers.entry("content-md5".to_owned()).or_insert(sum);
        let blocks = if ask.body.is_empty() {
            Vec::new()
        } else {
            vec![self.write_file(ask.body.clone()).await?]
        };
        self.replace(ask, blocks, headers).await
    }

    async fn put_block(self: &Arc<Self>, ask: &Ask<'_>) -> Result<Answer, Refusal> {
        let id = ask.param("blockid").ok_or_else(|| {
            Refusal::bad("InvalidQueryParameterValue", "The query parameter blockid is missing.")
        })?;
        if STANDARD.decode(id).map_or(true, |bytes| bytes.is_empty() || bytes.len() > 64) {
            return Err(Refusal::bad(
                "InvalidBlockId",
                "The specified block ID is invalid. It must be Base64 of at most 64 bytes.",
            ));
        }
        let name = Self::name(ask);
        if let Some(blob) = self.blob(&name) {
            blob.lease.clone().admit_write(ask.header("x-ms-lease-id"), ask.now)?;
        }
        let sum = checksum(ask)?;
        let mut waiting = self.uncommitted(&name);
        if waiting.len() >= 2 * MAX_BLOCKS {
            return Err(Refusal::new(
                StatusCode::CONFLICT,
                "BlockCountExceedsLimit",
                "The uncommitted block count cannot exceed the maximum limit of 100,000 blocks.",
            ));
        }
        let mut block = self.write_file(ask.body.clone()).await?;
        block.id = Some(id.to_owned());
        let old: Vec<Block> =
            waiting.extract_if(.., |other| other.id.as_deref() == Some(id)).collect();
        waiting.push(block);
        let mut batch = Batch::new();
        batch.put_state(UNCOMMITTED, &name.key(), serde_json::to_vec(&waiting).unwrap_or_default());
        self.commit(&ask.account.id, ask.container, batch).await?;
        self.release(&name, old);
        Ok(Answer::new(StatusCode::CREATED)
            .with("content-md5", sum)
            .with("x-ms-request-server-encrypted", "true"))
    }

    async fn put_block_list(self: &Arc<Self>, ask: &Ask<'_>) -> Result<Answer, Refusal> {
        let invalid = |message: &str| Refusal::bad("InvalidBlockList", message);
        let text = std::str::from_utf8(&ask.body)
            .ok()
            .and_then(|text| xml::block_list(text, MAX_BLOCKS))
            .ok_or_else(|| {
                Refusal::bad("InvalidXmlDocument", "XML specified is not syntactically valid.")
            })?;
        let name = Self::name(ask);
        let waiting = self.uncommitted(&name);
        let committed = self.blob(&name).map(|blob| blob.blocks).unwrap_or_default();
        let find = |list: &[Block], id: &str| {
            list.iter().find(|block| block.id.as_deref() == Some(id)).cloned()
        };
        let mut blocks = Vec::with_capacity(text.len());
        for (kind, id) in text {
            let block = match kind.as_str() {
                "Committed" => find(&committed, &id),
                "Uncommitted" => find(&waiting, &id),
                _ => find(&waiting, &id).or_else(|| find(&committed, &id)),
            };
            blocks.push(block.ok_or_else(|| invalid("The specified block list is invalid."))?);
        }
        self.replace(ask, blocks, properties(ask, false)).await
    }

    fn get_blocks(&self, ask: &Ask<'_>) -> Result<Answer, Refusal> {
        let name = Self::name(ask);
        let blob = self.blob(&name);
        let waiting = self.uncommitted(&name);
        if blob.is_none() && waiting.is_empty() {
            return Err(Refusal::no_blob());
        }
        let wanted = ask.param("blocklisttype").unwrap_or("committed").to_ascii_lowercase();
        let list = |blocks: &[Block]| -> String {
            let shown = |block: &Block| {
                let name = xml::element("Name", block.id.as_deref()?);
                Some(format!(
                    "<Block>{name}{}</Block>",
                    xml::element("Size", &block.size.to_string())
                ))
            };
            blocks.iter().filter_map(shown).collect()
        };
        let mut text = String::from("<BlockList>");
        if wanted != "uncommitted" {
            let blocks = blob.as_ref().map(|blob| blob.blocks.as_slice()).unwrap_or_default();
            text.push_str(&format!("<CommittedBlocks>{}</CommittedBlocks>", list(blocks)));
        }
        if wanted != "committed" {
            text.push_str(&format!("<UncommittedBlocks>{}</UncommittedBlocks>", list(&waiting)));
        }
        text.push_str("</BlockList>");
        let mut answer = Answer::new(StatusCode::OK).xml(&text);
        if let Some(blob) = blob {
            answer = answer
                .version(&blob.etag, blob.modified)
                .with("x-ms-blob-content-length", blob.size().to_string());
        }
        Ok(answer)
    }

    fn get(self: &Arc<Self>, ask: &Ask<'_>) -> Result<Answer, Refusal> {
        let name = Self::name(ask);
        let moment = ask.param("snapshot");
        let blob = match moment {
            Some(moment) => self.snapshot(&name, moment),
            None => self.blob(&name),
        }
        .ok_or_else(Refusal::no_blob)?;
        conditions(ask, Some((&blob.etag, blob.modified)), exists())?;
        blob.lease.admit_read(ask.header("x-ms-lease-id"), ask.now)?;
        let size = blob.size();
        let wanted = ask.header("x-ms-range").or_else(|| ask.header("range"));
        let part = match wanted.filter(|_| ask.method == Method::GET) {
            Some(text) => range(text, size)?,
            None => None,
        };
        let (first, length) = part.unwrap_or((0, size));
        let status = if part.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
        let mut answer = Answer::new(status)
            .version(&blob.etag, blob.modified)
            .with("content-length", length.to_string())
            .with("accept-ranges", "bytes")
            .with("x-ms-blob-type", "BlockBlob")
            .with("x-ms-creation-time", http_date(blob.created))
            .with("x-ms-server-encrypted", "true");
        if moment.is_none() {
            let state = blob.lease.state(ask.now);
            answer = answer
                .with("x-ms-lease-state", state.name())
                .with("x-ms-lease-status", if state.locks() { "locked" } else { "unlocked" });
            if let Some(duration) = blob.lease.duration(ask.now) {
                answer = answer.with("x-ms-lease-duration", duration);
            }
        }
        answer = answer.with("x-ms-access-tier", blob.tier.as_deref().unwrap_or("Hot"));
        if blob.tier.is_none() {
            answer = answer.with("x-ms-access-tier-inferred", "true");
        }
        for (header, _) in PROPERTIES {
            let Some(value) = blob.headers.get(header) else { continue };
            // The sum is of the whole.
            let header = match header {
                "content-md5" if part.is_some() => "x-ms-blob-content-md5",
                header => header,
            };
            answer = answer.with(header, value.clone());
        }
        if part.is_some() {
            answer = answer
                .with("content-range", format!("bytes {first}-{}/{size}", first + length - 1));
        }
        answer.metadata = blob.metadata.clone();
        if ask.method == Method::GET {
            answer.body = self.content(blob.blocks, first, length);
        }
        Ok(answer)
    }

    /// `length` bytes from `first` on, a block at a time.
    fn content(
        self: &Arc<Self>,
        blocks: Vec<Block>,
        first: u64,
        length: u64,
    ) -> lazuli_gateway::Body {
        if length == 0 {
            return full(Bytes::new());
        }
        let (mut at, end) = (0, first + length);
        let mut parts = Vec::new();
        for block in blocks {
            let (from, to) = (at, at + block.size);
            at = to;
            if to > first && from < end {
                let skip = first.saturating_sub(from);
                let take = to.min(end) - from - skip;
                parts.push((block, skip, take));
            }
        }
        let storage = self.clone();
        let frames = stream::iter(parts).then(move |(block, skip, take)| {
            let storage = storage.clone();
            async move {
                let whole = storage.read_file(&block).await?;
                let skip = usize::try_from(skip).unwrap_or(usize::MAX).min(whole.len());
                let end = skip.saturating_add(usize::try_from(take).unwrap_or(usize::MAX));
                Ok(Frame::data(whole.slice(skip..end.min(whole.len()))))
            }
        });
        StreamBody::new(frames.map(|frame: std::io::Result<_>| {
            frame.map_err(|error| {
                tracing::error!(%error, "a blob's content cannot be read");
                error.into()
            })
        }))
        .boxed_unsync()
    }

    async fn set_tier(&self, ask: &Ask<'_>) -> Result<Answer, Refusal> {
        let tier = ask.header("x-ms-access-tier").ok_or_else(|| required("x-ms-access-tier"))?;
        if !["Hot", "Cool", "Cold", "Archive"].contains(&tier) {
            return Err(header_value("x-ms-access-tier"));
        }
        let mut blob = self.existing(ask)?;
        blob.tier = Some(tier.to_owned());
        self.save(ask, &blob, None).await?;
        Ok(Answer::new(StatusCode::OK))
    }

    async fn lease(&self, ask: &Ask<'_>) -> Result<Answer, Refusal> {
        let mut blob = self.existing(ask)?;
        let action =
            ask.header("x-ms-lease-action").ok_or_else(|| required("x-ms-lease-action"))?;
        let own = || {
            let id = ask.header("x-ms-lease-id").ok_or_else(|| required("x-ms-lease-id"))?;
            guid(id, "x-ms-lease-id")
        };
        let proposed = ask
            .header("x-ms-proposed-lease-id")
            .map(|id| guid(id, "x-ms-proposed-lease-id"))
            .transpose()?;
        let (status, id, time) = match action.to_ascii_lowercase().as_str() {
            "acquire" => {
                let text = ask
                    .header("x-ms-lease-duration")
                    .ok_or_else(|| required("x-ms-lease-duration"))?;
                let seconds = match text.parse::<i64>() {
                    Ok(-1) => None,
                    Ok(seconds @ 15..=60) => Some(seconds),
                    _ => return Err(header_value("x-ms-lease-duration")),
                };
                let id = proposed.unwrap_or_else(|| Uuid::new_v4().to_string());
                blob.lease.acquire(&id, seconds, ask.now)?;
                (StatusCode::CREATED, Some(id), None)
            }
            "renew" => {
                let id = own()?;
                blob.lease.renew(&id, ask.now)?;
                (StatusCode::OK, Some(id), None)
            }
            "change" => {
                let proposed = proposed.ok_or_else(|| required("x-ms-proposed-lease-id"))?;
                blob.lease.change(&own()?, &proposed, ask.now)?;
                (StatusCode::OK, Some(proposed), None)
            }
            "release" => {
                blob.lease.release(&own()?)?;
                (StatusCode::OK, None, None)
            }
            "break" => {
                let period = match ask.header("x-ms-lease-break-period").map(str::parse::<i64>) {
                    None => None,
                    Some(Ok(period @ 0..=60)) => Some(period),
                    Some(_) => return Err(header_value("x-ms-lease-break-period")),
                };
                let wait = blob.lease.break_it(period, ask.now)?;
                (StatusCode::ACCEPTED, None, Some(wait))
            }
            _ => return Err(header_value("x-ms-lease-action")),
        };
        // A lease changes neither the ETag nor the time of the last write.
        self.save(ask, &blob, None).await?;
        let mut answer = Answer::new(status).version(&blob.etag, blob.modified);
        if let Some(id) = id {
            answer = answer.with("x-ms-lease-id", id);
        }
        if let Some(time) = time {
            answer = answer.with("x-ms-lease-time", time.to_string());
        }
        Ok(answer)
    }

    async fn take_snapshot(&self, ask: &Ask<'_>) -> Result<Answer, Refusal> {
        let blob = self.existing(ask)?;
        blob.lease.admit_read(ask.header("x-ms-lease-id"), ask.now)?;
        let name = Self::name(ask);
        // 2026-11-22T10:00:00.1234567Z, and no two alike.
        let mut nanos = ask.now.as_nanosecond() / 100 * 100;
        let moment = loop {
            let at = Timestamp::from_nanosecond(nanos).unwrap_or(ask.now);
            let text = at.strftime("%Y-%m-%dT%H:%M:%S.%7fZ").to_string();
            if self.snapshot(&name, &text).is_none() {
                break text;
            }
            nanos += 100;
        };
        let given = ask.metadata()?;
        let snapshot = Blob {
            lease: Lease::default(),
            metadata: if given.is_empty() { blob.metadata.clone() } else { given },
            ..blob.clone()
        };
        let mut batch = Batch::new();
        let bytes = serde_json::to_vec(&snapshot).unwrap_or_default();
        batch.put_state(SNAPSHOTS, &name.snapshot_key(&moment), bytes);
        self.commit(&ask.account.id, ask.container, batch).await?;
        Ok(Answer::new(StatusCode::CREATED)
            .version(&snapshot.etag, snapshot.modified)
            .with("x-ms-snapshot", moment))
    }

    async fn delete(self: &Arc<Self>, ask: &Ask<'_>) -> Result<Answer, Refusal> {
        let name = Self::name(ask);
        let mut batch = Batch::new();
        let mut files = Vec::new();
        if let Some(moment) = ask.param("snapshot") {
            let snapshot = self.snapshot(&name, moment).ok_or_else(Refusal::no_blob)?;
            files.extend(snapshot.blocks);
            batch.delete_state(SNAPSHOTS, &name.snapshot_key(moment));
        } else {
            let mut blob = self.existing(ask)?;
            blob.lease.admit_write(ask.header("x-ms-lease-id"), ask.now)?;
            let snapshots = self.snapshots(&name);
            let only = match ask.header("x-ms-delete-snapshots") {
                None if !snapshots.is_empty() => {
                    return Err(Refusal::new(
                        StatusCode::CONFLICT,
                        "SnapshotsPresent",
                        "This operation is not permitted because the blob has snapshots.",
                    ));
                }
                None | Some("include") => false,
                Some("only") => true,
                Some(_) => return Err(header_value("x-ms-delete-snapshots")),
            };
            for (moment, snapshot) in snapshots {
                files.extend(snapshot.blocks);
                batch.delete_state(SNAPSHOTS, &name.snapshot_key(&moment));
            }
            if !only {
                files.extend(blob.blocks);
                batch.delete_state(BLOBS, &name.key());
            }
        }
        self.commit(&ask.account.id, ask.container, batch).await?;
        self.release(&name, files);
        Ok(Answer::new(StatusCode::ACCEPTED).with("x-ms-delete-type-permanent", "true"))
    }
}

/// A blob's properties as a request gives them; with `plain`, the request's own headers count too.
fn properties(ask: &Ask<'_>, plain: bool) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    for (name, own) in PROPERTIES {
        // The sum of a request's body is computed; only `x-ms-blob-content-md5` is taken on trust.
        let given = ask
            .header(own)
            .or_else(|| (plain && name != "content-md5").then(|| ask.header(name)).flatten());
        if let Some(value) = given {
            out.insert(name.to_owned(), value.to_owned());
        }
    }
    out.entry("content-type".to_owned()).or_insert_with(|| "application/octet-stream".to_owned());
    out
}

/// The MD5 of the body, which must be what the client says it is.
fn checksum(ask: &Ask<'_>) -> Result<String, Refusal> {
    let sum = STANDARD.encode(Md5::digest(&ask.body));
    match ask.header("content-md5") {
        Some(given) if given != sum => Err(Refusal::bad(
            "Md5Mismatch",
            "The MD5 value specified in the request did not match with the MD5 value calculated by the server.",
        )),
        _ => Ok(sum),
    }
}

#[cfg(test)]
mod tests {
    use super::range;

    #[test]
    fn ranges_are_cut_to_what_is_there() {
        assert_eq!(range("bytes=0-9", 100).expect("fits"), Some((0, 10)));
        assert_eq!(range("bytes=90-", 100).expect("fits"), Some((90, 10)));
        assert_eq!(range("bytes=90-1000", 100).expect("fits"), Some((90, 10)));
        assert_eq!(range("bytes=9-3", 100).expect("ignored"), None);
        assert_eq!(range("lines=1-2", 100).expect("ignored"), None);
        assert_eq!(range("bytes=100-", 100).expect_err("beyond").code, "InvalidRange");
        assert_eq!(range("bytes=0-", 0).expect_err("empty").code, "InvalidRange");
    }
}
