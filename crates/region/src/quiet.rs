//! What clients tell Microsoft about themselves, and where they look for newer versions: answered
//! here, so that it neither reaches the internet nor makes a client wait or complain.
//!
//! `az` posts telemetry and reads version files
//! (<https://learn.microsoft.com/cli/azure/azure-cli-configuration#cli-configuration-values-and-environment-variables>).

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use lazuli_gateway::{Body, Peer, Service};
use serde_json::json;

use crate::http::{self as plain, Whole};

/// Telemetry's host, and that of `az`'s version files.
pub(crate) const HOSTS: [&str; 2] =
    ["dc.services.visualstudio.com", "azcliprod.blob.core.windows.net"];
/// More than a client gathers between two reports.
const MAX_BODY: usize = 4 * 1024 * 1024;

/// Takes telemetry and forgets it; has no newer version of anything.
pub(crate) struct Quiet;

impl Service for Quiet {
    fn call(
        self: Arc<Self>,
        request: Request<Incoming>,
        peer: Peer,
    ) -> BoxFuture<'static, Response<Body>> {
        plain::call(self, request, peer)
    }
}

impl Whole for Quiet {
    fn limit(&self) -> usize {
        MAX_BODY
    }

    fn too_large(&self) -> Response<Bytes> {
        plain::status(StatusCode::PAYLOAD_TOO_LARGE)
    }

    fn answer(
        self: Arc<Self>,
        request: Request<Bytes>,
        _: Peer,
    ) -> BoxFuture<'static, Response<Bytes>> {
        Box::pin(async move {
            if request.method() != Method::POST {
                let body = "<?xml version=\"1.0\" encoding=\"utf-8\"?><Error><Code>BlobNotFound</Code>\
                            <Message>The specified blob does not exist.</Message></Error>";
                return plain::text(StatusCode::NOT_FOUND, "application/xml", body.to_owned());
            }
            // Envelopes come as a list, or one a line.
            let count = serde_json::from_slice::<Vec<serde_json::Value>>(request.body())
                .map_or_else(
                    |_| {
                        request
                            .body()
                            .split(|byte| *byte == b'\n')
                            .filter(|line| !line.is_empty())
                            .count()
                    },
                    |envelopes| envelopes.len(),
                );
            let said = json!({ "itemsReceived": count, "itemsAccepted": count, "errors": [] });
            plain::json(StatusCode::OK, &said)
        })
    }
}
