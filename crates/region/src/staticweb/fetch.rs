//! Packages fetched from the address that a deployment names.

use std::{error::Error as _, path::Path, time::Duration};

use lazuli_azure::{Client, Connection, Credential, Secret};
use tokio::io::AsyncWriteExt as _;

/// How long a package may take.
const WITHIN: Duration = Duration::from_secs(600);

/// Why a package could not be had. The address is in none: its query may hold a signature.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// It cannot be asked for.
    #[error("the package cannot be downloaded: {0}")]
    Unreachable(String),
    /// It was refused.
    #[error("the package cannot be downloaded: {host} answered {status}{code}")]
    Refused {
        /// Who was asked.
        host: String,
        /// What they said.
        status: u16,
        /// The storage service's own word for it.
        code: String,
    },
    /// It is larger than what the plan takes.
    #[error("the package is larger than {0} bytes")]
    TooLarge(u64),
    /// It took too long.
    #[error("the package was not there within {} s", WITHIN.as_secs())]
    TooLong,
    /// The machine.
    #[error("the package cannot be kept: {0}")]
    Io(#[from] std::io::Error),
}

/// Checks an address before anything is done with it.
pub fn check(url: &str) -> Result<(), String> {
    let uri: http::Uri = url.parse().map_err(|_| "it is no address".to_owned())?;
    match (uri.scheme_str(), uri.host()) {
        (Some("https" | "http"), Some(host)) if !host.is_empty() => Ok(()),
        (Some("https" | "http"), _) => Err("it names no host".into()),
        _ => Err("it is neither https nor http".into()),
    }
}

/// Fetches as a program on the machine would: the region's own names lead to the region, Azure's others are
/// refused, everybody else's are asked.
pub struct Fetcher {
    connection: Connection,
}

impl Fetcher {
    /// Through the region's gateway at `proxy`, trusting `roots`.
    pub fn new(proxy: String, roots: Option<String>) -> Self {
        Self { connection: Connection { proxy: Some(proxy), roots } }
    }

    /// Writes what is at `url` to `to`.
    pub async fn fetch(&self, url: &str, to: &Path, limit: u64) -> Result<(), FetchError> {
        match tokio::time::timeout(WITHIN, self.download(url, to, limit)).await {
            Ok(done) => done,
            Err(_) => Err(FetchError::TooLong),
        }
    }

    async fn download(&self, url: &str, to: &Path, limit: u64) -> Result<(), FetchError> {
        // Nobody is given a token: the credential is never asked.
        let nobody = Credential::client_secret(String::new(), String::new(), Secret::new(""));
        let client = Client::new(&self.connection, nobody)
            .map_err(|error| FetchError::Unreachable(error.to_string()))?;
        let mut response = match client.http().get(url).send().await {
            Ok(response) => response,
            Err(error) => {
                let error = error.without_url();
                let mut why = error.to_string();
                let mut source = error.source();
                while let Some(error) = source {
                    why = error.to_string();
                    source = error.source();
                }
                // All that the client library says of a refused CONNECT.
                if why.contains("tunnel") {
                    why = "its host cannot be reached, or is a name of Azure's that this region does not have".into();
                }
                return Err(FetchError::Unreachable(why));
            }
        };
        let status = response.status().as_u16();
        if status != 200 {
            let code = response.headers().get("x-ms-error-code").and_then(|v| v.to_str().ok());
            return Err(FetchError::Refused {
                host: response.url().host_str().unwrap_or_default().to_owned(),
                status,
                code: code.map(|code| format!(" ({code})")).unwrap_or_default(),
            });
        }
        if response.content_length().is_some_and(|length| length > limit) {
            return Err(FetchError::TooLarge(limit));
        }
        let mut out = tokio::fs::File::create(to).await?;
        let mut size = 0;
        while let Some(piece) = response
            .chunk()
            .await
            .map_err(|error| FetchError::Unreachable(error.without_url().to_string()))?
        {
            size += piece.len() as u64;
            if size > limit {
                return Err(FetchError::TooLarge(limit));
            }
            out.write_all(&piece).await?;
        }
        out.flush().await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_the_web_are_fetched() {
        for good in ["https://a.blob.core.windows.net/c/b.zip?sig=x", "http://127.0.0.1:8000/a.zip"]
        {
            assert!(check(good).is_ok(), "{good}");
        }
        for bad in ["file:///etc/passwd", "/a.zip", "", "ftp://a/b", "https://", "http:///x"] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
