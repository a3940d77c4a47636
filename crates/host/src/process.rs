use nix::sys::signal::Signal;

use crate::Error;

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
    pid: i32,
}

impl Process {
    /// The sandbox's init as core sees it.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// The program's standard output, once. Must be called within a tokio runtime.
    pub fn take_stdout(&mut self) -> Option<Output> {
        todo!()
    }

    /// The program's standard error, once. Must be called within a tokio runtime.
    pub fn take_stderr(&mut self) -> Option<Output> {
        todo!()
    }

    /// Sends a signal to the program (SIGKILL ends the whole sandbox). A program that has already
    /// ended is no error.
    pub fn signal(&self, _signal: Signal) -> Result<(), Error> {
        todo!()
    }

    /// Waits for the program's end. When this returns, nothing of the sandbox is left. May be
    /// called again and answers the same.
    pub async fn wait(&self) -> Exit {
        todo!()
    }
}
