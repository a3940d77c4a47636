//! `POST /api/publish` and `POST /api/zipdeploy`: packages come in here, streamed to the disk.
//!
//! <https://learn.microsoft.com/azure/app-service/deploy-zip>

use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::BodyExt;
use lazuli_gateway::{Body, BoxError};
use tokio::io::AsyncWriteExt;

use super::{Answer, Call, Refused, json_ok, status_only};
use crate::appservice::{
    deployments::{DeployError, Package, Status},
    records::RecordError,
    settings::hex,
};

pub(super) async fn publish<B>(call: Call<B>) -> Answer
where
    B: http_body::Body<Data = Bytes> + Send + Unpin,
    B::Error: Into<BoxError>,
{
    match call.query("type") {
        None => {
            return Err(Refused::new(
                StatusCode::BAD_REQUEST,
                "The type of the artifact is missing: ?type=zip.",
            ));
        }
        Some(kind) if kind.eq_ignore_ascii_case("zip") => {}
        Some(kind) => {
            return Err(Refused::new(
                StatusCode::BAD_REQUEST,
                format!(
                    "Artifact type '{kind}' is not supported for Python on Linux here; send type=zip."
                ),
            ));
        }
    }
    let asynchronous = call.flag("async") || call.flag("isAsync");
    receive(call, asynchronous, "OneDeploy").await
}

pub(super) async fn zip_deploy<B>(call: Call<B>) -> Answer
where
    B: http_body::Body<Data = Bytes> + Send + Unpin,
    B::Error: Into<BoxError>,
{
    let asynchronous = call.flag("isAsync") || call.flag("async");
    receive(call, asynchronous, "ZipDeploy").await
}

async fn receive<B>(mut call: Call<B>, asynchronous: bool, deployer: &str) -> Answer
where
    B: http_body::Body<Data = Bytes> + Send + Unpin,
    B::Error: Into<BoxError>,
{
    let limit = call.app.limits.package_bytes;
    let too_large = || {
        Refused::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("The package is larger than {limit} bytes."),
        )
    };
    let announced = call
        .request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|announced| announced > limit) {
        return Err(too_large());
    }
    let failed = |error: std::io::Error| {
        Refused::new(
            StatusCode::INSUFFICIENT_STORAGE,
            format!("The package could not be kept: {error}"),
        )
    };
    // Removed when anything below fails.
    let file = tempfile::Builder::new()
        .suffix(".zip")
        .tempfile_in(call.app.layout.uploads())
        .map_err(failed)?;
    let (file, path) = file.into_parts();
    let mut file = tokio::fs::File::from_std(file);
    let mut hash = Context::new(&SHA256);
    let mut received = 0;
    while let Some(frame) = call.request.body_mut().frame().await {
        let frame = frame.map_err(|error| {
            Refused::new(
                StatusCode::BAD_REQUEST,
                format!("The package was cut off: {}", error.into()),
            )
        })?;
        let Ok(data) = frame.into_data() else { continue };
        received += data.len() as u64;
        if received > limit {
            return Err(too_large());
        }
        hash.update(&data);
        file.write_all(&data).await.map_err(failed)?;
    }
    if received == 0 {
        return Err(Refused::new(
            StatusCode::BAD_REQUEST,
            "The request has no body: the package is its body.",
        ));
    }
    file.flush().await.map_err(failed)?;
    drop(file);
    let text = |name: &str, default: &str| {
        call.query(name).unwrap_or(default).chars().take(500).collect::<String>()
    };
    let package = Package {
        digest: hex(hash.finish().as_ref()),
        author: text("author", &call.who),
        deployer: text("deployer", deployer),
        message: text("message", "Created via a push deployment"),
        path: path.keep().map_err(|error| failed(error.error))?,
    };
    let id = call.app.deploy(&call.slot, package).await.map_err(|error| refused(&error))?;
    let location =
        format!("https://{}/api/deployments/latest?deployer={deployer}", call.slot.scm_host_name());
    if asynchronous {
        return Ok(with_id(status_only(StatusCode::ACCEPTED), &id, Some(&location)));
    }
    let deployment = call
        .app
        .deployed(&call.slot, &id)
        .await
        .ok_or_else(|| Refused::not_found("The deployment"))?;
    if deployment.status == Status::Failed {
        return Err(Refused::new(
            StatusCode::BAD_REQUEST,
            format!("Deployment Failed. {}", deployment.status_text),
        ));
    }
    Ok(with_id(json_ok(&deployment.to_kudu(&call.slot, true)), &id, None))
}

fn with_id(mut response: Response<Body>, id: &str, location: Option<&str>) -> Response<Body> {
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(id) {
        headers.insert("scm-deployment-id", id);
    }
    if let Some(location) = location.and_then(|location| HeaderValue::from_str(location).ok()) {
        headers.insert(header::LOCATION, location);
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

fn refused(error: &DeployError) -> Refused {
    let status = match error {
        DeployError::Busy => StatusCode::CONFLICT,
        DeployError::Record(RecordError::NotFound(_)) => StatusCode::NOT_FOUND,
        DeployError::Package(_) | DeployError::Build(_) => StatusCode::BAD_REQUEST,
        DeployError::Record(_) | DeployError::Machine(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    Refused::new(status, error.to_string())
}
