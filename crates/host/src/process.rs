use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use nix::sys::signal::Signal;
use tokio::sync::watch;

use crate::{Error, sys};

/// The reading end of a sandboxed program's output: a pipe.
pub type Output = tokio::net::unix::pipe::Receiver;

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It exited with this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
}

impl Exit {
    /// Whether it exited with code 0.
    pub fn success(self) -> bool {
        self == Self::Code(0)
    }
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(number) => match Signal::try_from(*number) {
                Ok(signal) => write!(f, "{signal}"),
                Err(_) => write!(f, "signal {number}"),
            },
        }
    }
}

/// A program running in its sandbox. Dropped, the whole sandbox is killed.
#[derive(Debug)]
pub struct Process {
    pub(crate) pid: i32,
    pub(crate) pidfd: Arc<OwnedFd>,
    pub(crate) exit: watch::Receiver<Option<Exit>>,
    pub(crate) stdout: Option<OwnedFd>,
    pub(crate) stderr: Option<OwnedFd>,
}

impl Process {
    /// The sandbox's init as core sees it.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// The program's standard output, once. Must be called within a tokio runtime.
    pub fn take_stdout(&mut self) -> Option<Output> {
        self.stdout.take().and_then(|fd| Output::from_owned_fd(fd).ok())
    }

    /// The program's standard error, once. Must be called within a tokio runtime.
    pub fn take_stderr(&mut self) -> Option<Output> {
        self.stderr.take().and_then(|fd| Output::from_owned_fd(fd).ok())
    }

    /// Sends a signal to the program (SIGKILL ends the whole sandbox). A program that has already
    /// ended is no error.
    pub fn signal(&self, signal: Signal) -> Result<(), Error> {
        sys::signal(self.pidfd.as_fd(), signal as i32)
            .map_err(|e| Error::io(format!("send {signal} to process {}", self.pid), e))
    }

    /// Waits for the program's end. When this returns, nothing of the sandbox is left. May be
    /// called again and answers the same.
    pub async fn wait(&self) -> Exit {
        let mut exit = self.exit.clone();
        match exit.wait_for(Option::is_some).await {
            Ok(exit) => exit.unwrap_or(Exit::Signal(libc::SIGKILL)),
            // The thread that waits for sandboxes is gone, and so are they.
            Err(_) => Exit::Signal(libc::SIGKILL),
        }
    }

    /// How the program ended, if it has.
    pub fn exit(&self) -> Option<Exit> {
        *self.exit.borrow()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = sys::signal(self.pidfd.as_fd(), libc::SIGKILL);
    }
}
