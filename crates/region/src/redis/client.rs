//! The few commands core gives a cache, through its Unix socket.

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;

use super::server;

/// A bulk answer larger than this is not one of ours.
const LARGEST: usize = 1 << 20;

pub(super) struct Client(BufReader<UnixStream>);

impl Client {
    /// Connects as our own user, whose password for this run lies beside the socket.
    pub(super) async fn connect(dir: &Path) -> Result<Self, String> {
        let attempt = async {
            let password = std::fs::read_to_string(dir.join("password"))
                .map_err(|e| format!("cannot read our own password: {e}"))?;
            // A socket's path has at most 107 bytes, and a region may live anywhere.
            let run = File::open(dir.join("run")).map_err(|e| e.to_string())?;
            let path = format!("/proc/self/fd/{}/{}", run.as_raw_fd(), server::SOCKET);
            let stream = UnixStream::connect(path).await.map_err(|e| e.to_string())?;
            let mut client = Self(BufReader::new(stream));
            client.command(&["AUTH", server::OURS, &password]).await?;
            Ok(client)
        };
        tokio::time::timeout(Duration::from_secs(5), attempt)
            .await
            .unwrap_or_else(|_| Err("Redis does not answer".to_owned()))
    }

    /// Gives a command; the answer as text, or Redis' own words.
    pub(super) async fn command(&mut self, words: &[&str]) -> Result<String, String> {
        let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            bytes.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
        }
        let talk = async {
            self.0.get_mut().write_all(&bytes).await?;
            let mut line = String::new();
            (&mut self.0).take(64 * 1024).read_line(&mut line).await?;
            let line = line.trim_end();
            let bad = || std::io::Error::other(format!("Redis answered {line:?}"));
            match line.split_at_checked(1) {
                Some(("+" | ":", text)) => Ok(Ok(text.to_owned())),
                Some(("-", text)) => Ok(Err(text.to_owned())),
                Some(("$", length)) => {
                    let length: usize = length.parse().map_err(|_| bad())?;
                    if length > LARGEST {
                        return Err(bad());
                    }
                    let mut text = vec![0; length + 2];
                    self.0.read_exact(&mut text).await?;
                    text.truncate(length);
                    Ok(Ok(String::from_utf8_lossy(&text).into_owned()))
                }
                _ => Err(bad()),
            }
        };
        match tokio::time::timeout(Duration::from_secs(5), talk).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("Redis does not answer".to_owned()),
        }
    }

    /// Asks the server to end; it answers by hanging up.
    pub(super) async fn shutdown(mut self) {
        let _ = self.command(&["SHUTDOWN"]).await;
    }

    /// Whether the append-only file has been read; a server that loads answers nothing else.
    pub(super) async fn serves(&mut self) -> bool {
        self.command(&["PING"]).await.is_ok_and(|answer| answer == "PONG")
    }

    /// The version that runs.
    pub(super) async fn version(&mut self) -> Result<String, String> {
        let info = self.command(&["INFO", "server"]).await?;
        let version = info.lines().find_map(|line| line.strip_prefix("redis_version:"));
        Ok(version.unwrap_or_default().trim().to_owned())
    }
}
