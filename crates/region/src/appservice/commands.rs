//! One command in the surroundings of a slot's app: its content, its environment, its identity, its
//! `/home` and its network, in a sandbox of its own beside the instances. What Kudu's command API does.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::{
    AppService,
    instance::{self, Kind, Program, StartError},
    site::SlotKey,
};

/// How long a command may take: as long as the front end waits for its answer.
const LIMIT: Duration = Duration::from_secs(230);
/// How much of each output is kept, in bytes.
const OUTPUT: u64 = 1 << 20;

/// What a command did.
#[derive(Debug)]
pub struct Outcome {
    /// Its standard output.
    pub output: String,
    /// Its standard error.
    pub error: String,
    /// Its exit code; -1 where a signal ended it.
    pub code: i32,
}

/// Why a command was not run, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The slot is not to run, or has no content.
    #[error("The site is stopped, or nothing has been deployed to it.")]
    Stopped,
    /// It could not be started.
    #[error(transparent)]
    Start(#[from] StartError),
    /// It took too long.
    #[error("The command took longer than {} seconds and was ended.", LIMIT.as_secs())]
    TooLong,
}

impl AppService {
    /// Runs `command` with `bash`. `dir` is where, below `/home` unless it is absolute.
    pub async fn command(
        self: &Arc<Self>,
        key: &SlotKey,
        command: &str,
        dir: &Path,
    ) -> Result<Outcome, CommandError> {
        let launch = self.current_launch(key).await.ok_or(CommandError::Stopped)?;
        let dir: PathBuf = Path::new("/home").join(dir);
        let program = Program {
            launch: Arc::new(launch),
            id: instance::new_id(),
            kind: Kind::Command { command: command.to_owned(), dir },
        };
        let mut running = self.runtime.start(program).await?;
        let mut outputs = running.output().into_iter();
        let (out, err) = (outputs.next(), outputs.next());
        let all = async { tokio::join!(running.ended(), kept(out), kept(err)) };
        let Ok((ended, output, error)) = tokio::time::timeout(LIMIT, all).await else {
            running.kill();
            return Err(CommandError::TooLong);
        };
        Ok(Outcome { output, error, code: ended.code.unwrap_or(-1) })
    }
}

/// The beginning of an output; the rest is read and dropped, so that nobody waits for it.
async fn kept(output: Option<Box<dyn AsyncRead + Send + Sync + Unpin>>) -> String {
    let Some(mut output) = output else { return String::new() };
    let mut bytes = Vec::new();
    let _ = (&mut output).take(OUTPUT).read_to_end(&mut bytes).await;
    let _ = tokio::io::copy(&mut output, &mut tokio::io::sink()).await;
    String::from_utf8_lossy(&bytes).into_owned()
}
