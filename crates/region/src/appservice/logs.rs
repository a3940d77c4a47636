//! Logs of a slot: what its instances write, and what the platform says of them.
//!
//! As on App Service there are two files per slot below `LogFiles`: `default_docker.log` (standard
//! output and error of the instances) and `docker.log` (the platform). Both rotate by size. Whoever
//! follows the log gets both.

use std::{
    collections::VecDeque,
    fmt::Write as _,
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    sync::broadcast,
};

/// Bytes of one file before it is rotated.
const FILE_BYTES: u64 = 8 << 20;
/// Files kept beside the current one.
const KEPT: usize = 4;
/// A line longer than this is cut: a program that never ends its lines must not fill memory.
const LINE_BYTES: usize = 16 << 10;
/// Lines kept of each instance for error messages.
const TAIL_LINES: usize = 60;

/// The logs of one slot.
#[derive(Debug)]
pub struct SlotLog {
    dir: PathBuf,
    app: Mutex<Rotating>,
    platform: Mutex<Rotating>,
    followers: broadcast::Sender<Bytes>,
}

#[derive(Debug)]
struct Rotating {
    path: PathBuf,
    file: Option<(File, u64)>,
}

impl Rotating {
    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        if self.file.as_ref().is_some_and(|(_, length)| *length >= FILE_BYTES) {
            self.file = None;
            for age in (1..KEPT).rev() {
                let _ = fs::rename(self.aged(age), self.aged(age + 1));
            }
            fs::rename(&self.path, self.aged(1))?;
        }
        if self.file.is_none() {
            let file = File::options().append(true).create(true).open(&self.path)?;
            let length = file.metadata()?.len();
            self.file = Some((file, length));
        }
        if let Some((file, length)) = &mut self.file {
            file.write_all(line)?;
            *length += line.len() as u64;
        }
        Ok(())
    }

    fn aged(&self, age: usize) -> PathBuf {
        self.path.with_extension(format!("{age}.log"))
    }
}

impl SlotLog {
    /// The logs in `dir`.
    pub fn open(dir: PathBuf) -> io::Result<Arc<Self>> {
        fs::create_dir_all(&dir)?;
        let rotating = |name: &str| Mutex::new(Rotating { path: dir.join(name), file: None });
        Ok(Arc::new(Self {
            app: rotating("default_docker.log"),
            platform: rotating("docker.log"),
            followers: broadcast::Sender::new(1024),
            dir,
        }))
    }

    /// Where the files are.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Something the platform says.
    pub fn platform(&self, message: &str) {
        tracing::info!(target: "appservice", log = %self.dir.display(), "{message}");
        for line in message.lines() {
            self.write(&self.platform, &format!("{} INFO  - {line}\n", now()));
        }
    }

    fn app_line(&self, instance: &str, line: &str) {
        self.write(&self.app, &format!("{} [{}] {line}\n", now(), short(instance)));
    }

    fn write(&self, file: &Mutex<Rotating>, line: &str) {
        let mut file = lock(file);
        if let Err(error) = file.append(line.as_bytes()) {
            tracing::warn!(path = %file.path.display(), %error, "cannot write an application's log");
        }
        // No receiver is no error: nobody follows.
        let _ = self.followers.send(Bytes::copy_from_slice(line.as_bytes()));
    }

    /// What is written from now on.
    pub fn follow(&self) -> broadcast::Receiver<Bytes> {
        self.followers.subscribe()
    }

    /// The last lines of both files together, at most `bytes` of each, oldest first.
    pub fn recent(&self, bytes: u64) -> String {
        let mut lines = Vec::new();
        for file in [&self.app, &self.platform] {
            let path = lock(file).path.clone();
            lines.extend(read_end(&path, bytes).unwrap_or_default().lines().map(str::to_owned));
        }
        // Both files' lines begin with their time in one form; a stable sort keeps the rest in order.
        lines.sort_by(|a, b| a.get(..TIME_LENGTH).cmp(&b.get(..TIME_LENGTH)));
        lines.into_iter().fold(String::new(), |mut text, line| {
            let _ = writeln!(text, "{line}");
            text
        })
    }

    /// The files there are, newest first of each kind.
    pub fn files(&self) -> io::Result<Vec<(String, u64, std::time::SystemTime)>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if metadata.is_file() {
                files.push((
                    entry.file_name().to_string_lossy().into_owned(),
                    metadata.len(),
                    metadata.modified()?,
                ));
            }
        }
        files.sort();
        Ok(files)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The last `bytes` of a file, from a line's beginning.
pub fn read_end(path: &Path, bytes: u64) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let skipped = length.saturating_sub(bytes);
    file.seek(SeekFrom::Start(skipped))?;
    let mut end = Vec::new();
    file.take(bytes).read_to_end(&mut end)?;
    let end = String::from_utf8_lossy(&end);
    Ok(match end.split_once('\n') {
        Some((_, rest)) if skipped > 0 => rest.to_owned(),
        _ => end.into_owned(),
    })
}

const TIME_LENGTH: usize = "2026-01-01T00:00:00.000000000Z".len();

/// The time as App Service's logs write it.
pub fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%9fZ").to_string()
}

/// The part of an instance's ID that people read.
pub fn short(instance: &str) -> &str {
    instance.get(..8).unwrap_or(instance)
}

/// The last lines of one instance's output, for messages about how it ended.
#[derive(Clone, Debug, Default)]
pub struct Tail(Arc<Mutex<VecDeque<String>>>);

impl Tail {
    fn push(&self, line: &str) {
        let mut lines = lock(&self.0);
        if lines.len() == TAIL_LINES {
            lines.pop_front();
        }
        lines.push_back(line.to_owned());
    }

    /// The last `count` lines.
    pub fn last(&self, count: usize) -> Vec<String> {
        let lines = lock(&self.0);
        lines.iter().skip(lines.len().saturating_sub(count)).cloned().collect()
    }
}

/// Copies an instance's output into the slot's log until it ends.
pub async fn pump(
    mut output: impl AsyncRead + Unpin,
    log: Arc<SlotLog>,
    instance: String,
    tail: Tail,
) {
    lines(&mut output, |line| {
        tail.push(line);
        log.app_line(&instance, line);
    })
    .await;
}

/// Calls `each` with every line of `output`, without its end, until it ends. Lines that are too long
/// come in pieces.
pub async fn lines(output: &mut (impl AsyncRead + Unpin), mut each: impl FnMut(&str)) {
    let mut buffer = vec![0; 8 << 10];
    let mut pending: Vec<u8> = Vec::new();
    while let Ok(read) = output.read(&mut buffer).await {
        if read == 0 {
            break;
        }
        pending.extend_from_slice(&buffer[..read]);
        let mut start = 0;
        while let Some(end) = pending[start..].iter().position(|byte| *byte == b'\n') {
            each(String::from_utf8_lossy(&pending[start..start + end]).trim_end_matches('\r'));
            start += end + 1;
        }
        pending.drain(..start);
        if pending.len() >= LINE_BYTES {
            each(&String::from_utf8_lossy(&pending));
            pending.clear();
        }
    }
    if !pending.is_empty() {
        each(&String::from_utf8_lossy(&pending));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn output_is_kept_line_by_line_with_its_instance_and_its_tail() {
        let dir = tempfile::tempdir().expect("tempdir");
        let log = SlotLog::open(dir.path().join("log")).expect("open");
        let mut follower = log.follow();
        let tail = Tail::default();
        pump(&b"one\r\ntwo\nthree"[..], log.clone(), "0123456789abcdef".into(), tail.clone()).await;
        log.platform("Container started");
        assert_eq!(tail.last(2), ["two", "three"]);
        let recent = log.recent(1 << 20);
        let lines: Vec<&str> = recent.lines().collect();
        assert_eq!(lines.len(), 4, "{recent}");
        assert!(lines[0].ends_with("[01234567] one"), "{recent}");
        assert!(lines[3].ends_with("INFO  - Container started"), "{recent}");
        assert!(follower.recv().await.expect("followed").ends_with(b"one\n"));
    }

    #[tokio::test]
    async fn a_line_without_end_does_not_fill_memory() {
        let endless = vec![b'x'; 100 << 10];
        let mut longest = 0;
        lines(&mut &endless[..], |line| longest = longest.max(line.len())).await;
        assert!(longest <= LINE_BYTES + (8 << 10), "{longest}");
    }

    #[test]
    fn files_rotate_by_size_and_old_ones_go() {
        let dir = tempfile::tempdir().expect("tempdir");
        let mut file = Rotating { path: dir.path().join("a.log"), file: None };
        let chunk = vec![b'x'; usize::try_from(FILE_BYTES).expect("fits")];
        for _ in 0..KEPT + 3 {
            file.append(&chunk).expect("append");
        }
        assert_eq!(fs::read_dir(dir.path()).expect("read").count(), KEPT + 1);
    }

    #[test]
    fn the_end_of_a_file_begins_with_a_whole_line() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("a");
        fs::write(&path, "first\nsecond\nthird\n").expect("write");
        assert_eq!(read_end(&path, 9).expect("read"), "third\n");
        assert_eq!(read_end(&path, 900).expect("read"), "first\nsecond\nthird\n");
    }
}
