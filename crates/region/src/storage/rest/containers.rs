//! Operations on containers, and lists.

use std::{fmt::Write as _, sync::Arc};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{Method, StatusCode};
use jiff::Timestamp;
use serde_json::json;

use super::{Answer, Ask, conditions, endpoint, http_date, xml};
use crate::{
    storage::{Blob, CONTAINER, Name, Storage, error::Refusal, forget_container},
    store::{Batch, Expect, Resource, StoreError},
};

/// How many entries a list shows at once.
const PAGE: usize = 5_000;

/// 3 to 63 lower-case letters, digits and single hyphens; `$root`, `$web`, `$logs`
/// (<https://learn.microsoft.com/rest/api/storageservices/naming-and-referencing-containers--blobs--and-metadata>).
pub(crate) fn valid_container(name: &str) -> bool {
    if ["$root", "$web", "$logs"].contains(&name) {
        return true;
    }
    (3..=63).contains(&name.len())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        && !name.starts_with('-')
        && !name.ends_with('-')
        && !name.contains("--")
}

/// The parts of a page that a client asks for.
struct Page<'a> {
    prefix: &'a str,
    from: Option<String>,
    limit: usize,
    echo: String,
}

fn page<'a>(ask: &'a Ask<'_>) -> Result<Page<'a>, Refusal> {
    let out_of_range = |name: &str| {
        Refusal::bad(
            "OutOfRangeQueryParameterValue",
            format!("The query parameter {name} has a value that is out of range."),
        )
    };
    let limit = match ask.param("maxresults").filter(|text| !text.is_empty()) {
        None => PAGE,
        Some(text) => match text.parse::<usize>() {
            Ok(limit @ 1..) => limit.min(PAGE),
            _ => return Err(out_of_range("maxresults")),
        },
    };
    let marker = ask.param("marker").filter(|text| !text.is_empty());
    let from = match marker {
        None => None,
        Some(marker) => Some(
            URL_SAFE_NO_PAD
                .decode(marker)
                .ok()
                .and_then(|bytes| String::from_utf8(bytes).ok())
                .ok_or_else(|| out_of_range("marker"))?,
        ),
    };
    let prefix = ask.param("prefix").unwrap_or_default();
    let mut echo = String::new();
    for (name, value) in [("Prefix", Some(prefix)), ("Marker", marker)] {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            echo.push_str(&xml::element(name, value));
        }
    }
    if ask.param("maxresults").is_some() {
        echo.push_str(&xml::element("MaxResults", &limit.to_string()));
    }
    Ok(Page { prefix, from, limit, echo })
}

fn next(name: Option<&str>) -> String {
    match name {
        Some(name) => xml::element("NextMarker", &URL_SAFE_NO_PAD.encode(name)),
        None => "<NextMarker />".to_owned(),
    }
}

fn modified(container: &Resource) -> Timestamp {
    container
        .text("/properties/lastModifiedTime")
        .and_then(|text| text.parse().ok())
        .unwrap_or(Timestamp::UNIX_EPOCH)
}

fn metadata(container: &Resource) -> impl Iterator<Item = (String, String)> {
    container.properties()["metadata"]
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
        .collect::<Vec<_>>()
        .into_iter()
}

fn metadata_xml(entries: impl IntoIterator<Item = (String, String)>) -> String {
    let inner: String =
        entries.into_iter().map(|(name, value)| xml::element(&name, &value)).collect();
    format!("<Metadata>{inner}</Metadata>")
}

impl Storage {
    /// What is asked of the account itself.
    pub(super) fn containers(&self, ask: &Ask<'_>) -> Result<Answer, Refusal> {
        if ask.method != Method::GET || ask.param("comp") != Some("list") {
            return Err(Refusal::not_implemented(
                "of the account, only its containers can be listed",
            ));
        }
        let page = page(ask)?;
        let mut containers = self.store.list(CONTAINER, &ask.account.id);
        containers.retain(|container| {
            let name = container.id.name();
            name.starts_with(page.prefix) && page.from.as_deref().is_none_or(|from| name >= from)
        });
        let more = containers.get(page.limit).map(|container| container.id.name().to_owned());
        containers.truncate(page.limit);
        let include = ask.param("include").unwrap_or_default().contains("metadata");
        let mut text = format!(
            "<EnumerationResults ServiceEndpoint=\"{}\">{}<Containers>",
            endpoint(&ask.account.id),
            page.echo
        );
        for container in containers {
            let _ = write!(
                text,
                "<Container>{}<Properties>{}{}<LeaseStatus>unlocked</LeaseStatus><LeaseState>available</LeaseState><HasImmutabilityPolicy>false</HasImmutabilityPolicy><HasLegalHold>false</HasLegalHold></Properties>{}</Container>",
                xml::element("Name", container.id.name()),
                xml::element("Last-Modified", &http_date(modified(&container))),
                xml::element("Etag", &format!("\"{}\"", container.etag)),
                if include { metadata_xml(metadata(&container)) } else { String::new() },
            );
        }
        let _ = write!(text, "</Containers>{}</EnumerationResults>", next(more.as_deref()));
        Ok(Answer::new(StatusCode::OK).xml(&text))
    }

    /// What is asked of a container.
    pub(super) async fn on_container(self: &Arc<Self>, ask: &Ask<'_>) -> Result<Answer, Refusal> {
        if ask.param("restype") != Some("container") {
            return Err(Refusal::bad(
                "InvalidUri",
                "The requested URI does not represent any resource on the server.",
            ));
        }
        let reads = ask.method == Method::GET || ask.method == Method::HEAD;
        match (ask.param("comp"), ask.method) {
            (None, &Method::PUT) => self.create(ask).await,
            (None | Some("metadata"), _) if reads => self.properties(ask),
            (Some("acl"), _) if reads => Ok(self.properties(ask)?.xml("<SignedIdentifiers />")),
            (Some("metadata"), &Method::PUT) => self.set_metadata(ask).await,
            (None, &Method::DELETE) => self.delete_container(ask).await,
            (Some("list"), &Method::GET) => self.blobs(ask),
            (comp, method) => Err(Refusal::not_implemented(&format!(
                "{method} of a container with comp={}",
                comp.unwrap_or_default()
            ))),
        }
    }

    fn there(&self, ask: &Ask<'_>) -> Result<Arc<Resource>, Refusal> {
        self.container(&ask.account.id, ask.container).ok_or_else(Refusal::no_container)
    }

    async fn create(&self, ask: &Ask<'_>) -> Result<Answer, Refusal> {
        if !valid_container(ask.container) {
            return Err(Refusal::bad(
                "InvalidResourceName",
                "The specifed resource name contains invalid characters.",
            ));
        }
        let level = match ask.header("x-ms-blob-public-access") {
            None => "None",
            Some("blob") => "Blob",
            Some("container") => "Container",
            Some(_) => {
                return Err(Refusal::bad(
                    "InvalidHeaderValue",
                    "The value for one of the HTTP headers is not in the correct format: x-ms-blob-public-access.",
                ));
            }
        };
        if level != "None" && ask.account.properties()["allowBlobPublicAccess"] != true {
            return Err(Refusal::new(
                StatusCode::CONFLICT,
                "PublicAccessNotPermitted",
                "Public access is not permitted on this storage account.",
            ));
        }
        let id = Self::container_id(&ask.account.id, ask.container)
            .ok_or_else(|| Refusal::bad("InvalidResourceName", "The name is not one."))?;
        let mut batch = Batch::new();
        batch.expect(&ask.account.id, Expect::Present).expect(&id, Expect::Absent).put(
            &id,
            json!({ "properties": {
                "publicAccess": level, "metadata": ask.metadata()?, "lastModifiedTime": ask.now,
            }}),
        );
        match self.store.commit(batch).await {
            Ok(()) => {}
            Err(StoreError::Conflict(_)) => {
                return Err(Refusal::new(
                    StatusCode::CONFLICT,
                    "ContainerAlreadyExists",
                    "The specified container already exists.",
                ));
            }
            Err(error) => return Err(error.into()),
        }
        let made = self.there(ask)?;
        Ok(Answer::new(StatusCode::CREATED).version(&made.etag, ask.now))
    }

    fn properties(&self, ask: &Ask<'_>) -> Result<Answer, Refusal> {
        let container = self.there(ask)?;
        let mut answer = Answer::new(StatusCode::OK)
            .version(&container.etag, modified(&container))
            .with("x-ms-lease-status", "unlocked")
            .with("x-ms-lease-state", "available")
            .with("x-ms-has-immutability-policy", "false")
            .with("x-ms-has-legal-hold", "false");
        match container.text("/properties/publicAccess") {
            Some("Blob") => answer = answer.with("x-ms-blob-public-access", "blob"),
            Some("Container") => answer = answer.with("x-ms-blob-public-access", "container"),
            _ => {}
        }
        answer.metadata = metadata(&container).collect();
        Ok(answer)
    }

    async fn set_metadata(&self, ask: &Ask<'_>) -> Result<Answer, Refusal> {
        let _writes = self.writes.lock().await;
        let container = self.there(ask)?;
        let mut body = container.body.clone();
        body["properties"]["metadata"] = json!(ask.metadata()?);
        body["properties"]["lastModifiedTime"] = json!(ask.now);
        let mut batch = Batch::new();
        batch.expect(&container.id, Expect::Etag(container.etag.clone())).put(&container.id, body);
        self.store.commit(batch).await?;
        let now = self.there(ask)?;
        Ok(Answer::new(StatusCode::OK).version(&now.etag, ask.now))
    }

    async fn delete_container(&self, ask: &Ask<'_>) -> Result<Answer, Refusal> {
        let _writes = self.writes.lock().await;
        let container = self.there(ask)?;
        conditions(ask, Some((&container.etag, modified(&container))), Refusal::no_container())?;
        let mut batch = Batch::new();
        forget_container(&self.store, &container.id, &mut batch);
        batch.delete(&container.id);
        self.store.commit(batch).await?;
        Ok(Answer::new(StatusCode::ACCEPTED))
    }

    fn blobs(&self, ask: &Ask<'_>) -> Result<Answer, Refusal> {
        self.there(ask)?;
        let page = page(ask)?;
        let include = ask.param("include").unwrap_or_default().to_ascii_lowercase();
        let delimiter = ask.param("delimiter").filter(|text| !text.is_empty());
        let account = ask.account.id.name().to_ascii_lowercase();
        let mut echo = page.echo.clone();
        if let Some(delimiter) = delimiter {
            echo.push_str(&xml::element("Delimiter", delimiter));
        }
        let mut text = format!(
            "<EnumerationResults ServiceEndpoint=\"{}\" ContainerName=\"{}\">{echo}<Blobs>",
            endpoint(&ask.account.id),
            xml::escape(ask.container),
        );
        let (mut shown, mut more, mut last_prefix) = (0, None, None::<String>);
        for (name, blob) in self.list(&account, ask.container, page.prefix) {
            if page.from.as_deref().is_some_and(|from| name.as_str() < from) {
                continue;
            }
            let group = delimiter.and_then(|delimiter| {
                let at = name[page.prefix.len()..].find(delimiter)?;
                Some(name[..page.prefix.len() + at + delimiter.len()].to_owned())
            });
            if group.is_some() && group == last_prefix {
                continue;
            }
            if shown == page.limit {
                more = Some(name);
                break;
            }
            shown += 1;
            if let Some(group) = group {
                let _ = write!(text, "<BlobPrefix>{}</BlobPrefix>", xml::element("Name", &group));
                last_prefix = Some(group);
                continue;
            }
            if include.contains("snapshots") {
                let own = Name {
                    account: account.clone(),
                    container: ask.container.to_owned(),
                    blob: name.clone(),
                };
                for (moment, snapshot) in self.snapshots(&own) {
                    text.push_str(&entry(&name, Some(&moment), &snapshot, &include, ask.now));
                }
            }
            text.push_str(&entry(&name, None, &blob, &include, ask.now));
        }
        let _ = write!(text, "</Blobs>{}</EnumerationResults>", next(more.as_deref()));
        Ok(Answer::new(StatusCode::OK).xml(&text))
    }
}

fn entry(name: &str, moment: Option<&str>, blob: &Blob, include: &str, now: Timestamp) -> String {
    let mut text = format!("<Blob>{}", xml::element("Name", name));
    if let Some(moment) = moment {
        text.push_str(&xml::element("Snapshot", moment));
    }
    text.push_str("<Properties>");
    for (tag, value) in [
        ("Creation-Time", http_date(blob.created)),
        ("Last-Modified", http_date(blob.modified)),
        ("Etag", blob.etag.clone()),
        ("Content-Length", blob.size().to_string()),
    ] {
        text.push_str(&xml::element(tag, &value));
    }
    for (tag, header) in [
        ("Content-Type", "content-type"),
        ("Content-Encoding", "content-encoding"),
        ("Content-Language", "content-language"),
        ("Content-MD5", "content-md5"),
        ("Cache-Control", "cache-control"),
        ("Content-Disposition", "content-disposition"),
    ] {
        text.push_str(&xml::element(tag, blob.headers.get(header).map_or("", String::as_str)));
    }
    text.push_str("<BlobType>BlockBlob</BlobType>");
    text.push_str(&xml::element("AccessTier", blob.tier.as_deref().unwrap_or("Hot")));
    if blob.tier.is_none() {
        text.push_str("<AccessTierInferred>true</AccessTierInferred>");
    }
    if moment.is_none() {
        let state = blob.lease.state(now);
        text.push_str(&xml::element(
            "LeaseStatus",
            if state.locks() { "locked" } else { "unlocked" },
        ));
        text.push_str(&xml::element("LeaseState", state.name()));
        if let Some(duration) = blob.lease.duration(now) {
            text.push_str(&xml::element("LeaseDuration", duration));
        }
    }
    text.push_str("<ServerEncrypted>true</ServerEncrypted></Properties>");
    if include.contains("metadata") {
        text.push_str(&metadata_xml(blob.metadata.clone()));
    }
    text.push_str("<OrMetadata /></Blob>");
    text
}
