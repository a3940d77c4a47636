//! A server of the region's own (PostgreSQL, PgBouncer, Redis) in its sandbox: its output goes to a
//! log file, its last lines are kept for error messages, and it is stopped with patience.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use lazuli_host::{Exit, Host, Process, Signal, Spec};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};

/// How many of a server's last lines an error message carries.
const TAIL: usize = 12;
/// A log file is set aside when it has grown to this; the one set aside before is dropped.
const ROTATE: u64 = 8 * 1024 * 1024;
/// A longer line is cut: a server may log a statement of any size.
const LINE: usize = 8 * 1024;

/// A running server. Dropped, it is killed.
#[derive(Debug)]
pub(crate) struct Service {
    process: Process,
    tail: Tail,
}

type Tail = Arc<Mutex<VecDeque<String>>>;

impl Service {
    /// Starts the server; `log` gets both its outputs.
    pub(crate) async fn start(host: &Host, spec: Spec, log: &Path) -> Result<Self, String> {
        let mut process = host.spawn(spec).await.map_err(|e| e.to_string())?;
        let tail = Tail::default();
        let log = Arc::new(Mutex::new(Log::new(log)));
        let outputs = [process.take_stdout(), process.take_stderr()];
        for output in outputs.into_iter().flatten() {
            tokio::spawn(pump(output, Arc::clone(&log), Arc::clone(&tail)));
        }
        Ok(Self { process, tail })
    }

    /// Waits for the server's end.
    pub(crate) async fn wait(&self) -> Exit {
        self.process.wait().await
    }

    /// How the server ended, if it has.
    pub(crate) fn exit(&self) -> Option<Exit> {
        self.process.exit()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        if let Err(error) = self.process.signal(signal) {
            tracing::warn!(%error, "signal not sent");
        }
    }

    /// The server's last lines, for an error message.
    pub(crate) fn tail(&self) -> String {
        let tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        tail.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }

    /// Asks the server to stop, and kills it when it has not after `patience`.
    pub(crate) async fn stop(self, signal: Signal, patience: Duration) -> Exit {
        self.signal(signal);
        if let Ok(exit) = tokio::time::timeout(patience, self.wait()).await {
            return exit;
        }
        self.signal(Signal::SIGKILL);
        self.wait().await
    }
}

/// Runs a program to its end; its output if it succeeded, an explanation if not.
pub(crate) async fn run(host: &Host, spec: Spec, patience: Duration) -> Result<String, String> {
    use tokio::io::AsyncReadExt as _;
    let name =
        Path::new(&spec.program).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut process = host.spawn(spec).await.map_err(|e| e.to_string())?;
    let (stdout, stderr) = (process.take_stdout(), process.take_stderr());
    let read = |output: Option<lazuli_host::Output>| async move {
        let mut bytes = Vec::new();
        if let Some(output) = output {
            // What cannot be read is missing from a message and nothing else.
            let _ = output.take(1 << 20).read_to_end(&mut bytes).await;
        }
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let work = async { tokio::join!(read(stdout), read(stderr), process.wait()) };
    match tokio::time::timeout(patience, work).await {
        Ok((text, _, exit)) if exit.success() => Ok(text),
        Ok((text, errors, exit)) => {
            Err(format!("{name} ended with {exit}\n{}{}", text, errors.trim_end()))
        }
        Err(_) => Err(format!("{name} did not end within {patience:?}")),
    }
}

struct Log {
    path: PathBuf,
    file: Option<File>,
    size: u64,
}

impl Log {
    fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), file: None, size: 0 }
    }

    fn write(&mut self, line: &str) -> io::Result<()> {
        if self.size > ROTATE {
            let mut aside = self.path.clone().into_os_string();
            aside.push(".1");
            fs::rename(&self.path, aside)?;
            self.file = None;
        }
        if self.file.is_none() {
            let file = File::options().create(true).append(true).open(&self.path)?;
            self.size = file.metadata()?.len();
            self.file = Some(file);
        }
        if let Some(file) = &mut self.file {
            writeln!(file, "{line}")?;
            self.size += line.len() as u64 + 1;
        }
        Ok(())
    }
}

async fn pump(output: impl AsyncRead + Unpin, log: Arc<Mutex<Log>>, tail: Tail) {
    let mut reader = BufReader::new(output);
    let mut line = Vec::new();
    // Read to the end whatever happens to the log: a full pipe would stop the server.
    while let Ok(available) = reader.fill_buf().await {
        if available.is_empty() {
            break;
        }
        let (part, ended) = match available.iter().position(|byte| *byte == b'\n') {
            Some(end) => (&available[..end], true),
            None => (available, false),
        };
        let room = LINE.saturating_sub(line.len()).min(part.len());
        line.extend_from_slice(&part[..room]);
        let used = part.len() + usize::from(ended);
        reader.consume(used);
        if ended {
            finish(&line, &log, &tail);
            line.clear();
        }
    }
    if !line.is_empty() {
        finish(&line, &log, &tail);
    }
}

fn finish(line: &[u8], log: &Mutex<Log>, tail: &Tail) {
    let line = String::from_utf8_lossy(line);
    if let Err(error) = log.lock().unwrap_or_else(PoisonError::into_inner).write(&line) {
        tracing::warn!(%error, "a server's log cannot be written");
    }
    let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
    if tail.len() == TAIL {
        tail.pop_front();
    }
    tail.push_back(line.into_owned());
}

/// Pauses between attempts, growing while they fail soon after one another.
#[derive(Debug)]
pub(crate) struct Backoff {
    failures: u32,
    last: Option<Instant>,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(100);
    const LONGEST: Duration = Duration::from_secs(10);
    /// A server that ran this long has not failed "again".
    const SETTLED: Duration = Duration::from_secs(60);

    pub(crate) fn new() -> Self {
        Self { failures: 0, last: None }
    }

    /// The pause after one more failure.
    pub(crate) fn next(&mut self) -> Duration {
        if self.last.is_some_and(|last| last.elapsed() > Self::SETTLED) {
            self.failures = 0;
        }
        self.last = Some(Instant::now());
        let pause = Self::FIRST * 2_u32.pow(self.failures.min(7));
        self.failures += 1;
        pause.min(Self::LONGEST)
    }
}

/// Writes a file if its content differs, readable by the region's user alone, whole or not at all.
/// Answers whether it has changed.
pub(crate) fn write_if_changed(path: &Path, content: &[u8]) -> io::Result<bool> {
    use std::os::unix::fs::OpenOptionsExt as _;
    if fs::read(path).is_ok_and(|old| old == content) {
        return Ok(false);
    }
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let mut file =
        File::options().create(true).write(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    Ok(true)
}

/// Makes a directory for the region's user alone.
pub(crate) fn make_dir(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit() {
        let mut backoff = Backoff::new();
        let pauses: Vec<_> = (0..10).map(|_| backoff.next()).collect();
        assert_eq!(pauses[0], Duration::from_millis(100));
        assert_eq!(pauses[1], Duration::from_millis(200));
        assert_eq!(pauses[9], Duration::from_secs(10));
    }

    #[test]
    fn a_file_is_private_and_rewritten_only_when_it_differs() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("userlist");
        assert!(write_if_changed(&path, b"one").expect("written"));
        assert!(!write_if_changed(&path, b"one").expect("the same"));
        assert!(write_if_changed(&path, b"two").expect("changed"));
        let mode = fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[tokio::test]
    async fn a_long_line_is_cut_and_the_next_is_whole() {
        let dir = tempfile::tempdir().expect("temp dir");
        let log = Arc::new(Mutex::new(Log::new(&dir.path().join("log"))));
        let tail = Tail::default();
        let text = format!("{}\nshort\nlast", "x".repeat(3 * LINE));
        pump(text.as_bytes(), Arc::clone(&log), Arc::clone(&tail)).await;
        let written = fs::read_to_string(dir.path().join("log")).expect("log");
        let lengths: Vec<_> = written.lines().map(str::len).collect();
        assert_eq!(lengths, [LINE, 5, 4]);
        assert_eq!(tail.lock().expect("tail").back().map(String::as_str), Some("last"));
    }
}
