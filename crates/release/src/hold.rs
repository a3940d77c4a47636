//! One of releases and rotations at a time: both restart and swap the same sites. The lock of this
//! checkout and the lease of the environment, taken together.

use std::path::{Path, PathBuf};

use crate::cloud::Cloud;
use crate::event::Reporter;
use crate::journal::{JournalError, Journals};
use crate::lease::{self, Claim, Lease, LeaseError};
use crate::lock::{Lock, LockError, WATCHING};

/// What is to be held.
pub(crate) struct Ground<'a> {
    /// The project's directory.
    pub(crate) project: &'a Path,
    /// The environment's name.
    pub(crate) environment: &'a str,
    /// Its platform.
    pub(crate) cloud: &'a Cloud,
    /// Who is told of a holder that is gone.
    pub(crate) reporter: &'a Reporter,
}

/// Why it cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HoldError {
    /// Somebody else has this checkout.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// Somebody else has the environment, or the platform did not say who.
    #[error(transparent)]
    Lease(#[from] LeaseError),
}

impl Ground<'_> {
    /// Takes the locks, and keeps `.lazuli` out of version control.
    pub(crate) async fn hold(&self, purpose: &str, claim: Claim) -> Result<Held, HoldError> {
        let lazuli = self.project.join(".lazuli");
        let ignore = lazuli.join(".gitignore");
        if !ignore.exists() {
            let write = || {
                std::fs::create_dir_all(&lazuli)?;
                std::fs::write(&ignore, "# Releases and packages of this machine.\n*\n")
            };
            write().map_err(|source| LockError::Io(ignore.clone(), source))?;
        }
        let releases: Journals = Journals::of(&lazuli, self.environment);
        let (lock, from) = Lock::acquire(releases.dir(), purpose, claim.over_watch)?;
        if let Some(from) = from {
            let why = if from.purpose.ends_with(WATCHING) { "only watched" } else { "is gone" };
            self.reporter.note(format!("took over the lock of {from}, which {why}"));
        }
        let mut lease = None;
        if let Some(zone) = self.cloud.zone() {
            let place = lease::Place::new(self.cloud.client().clone(), &zone);
            let project = self.project.canonicalize().unwrap_or_else(|_| self.project.to_owned());
            match place.acquire(&lock.me(), &project.display().to_string(), claim).await {
                Ok((taken, from)) => {
                    // From here, the lock has said it already.
                    if let Some(from) =
                        from.filter(|from| from.project != project.display().to_string())
                    {
                        self.reporter.warn(format!("took the environment over from {from}"));
                    }
                    lease = Some(taken);
                }
                // An environment without its network is not provisioned: there is nothing to lock.
                Err(LeaseError::Platform(error)) if error.is_not_found() => {}
                Err(LeaseError::Platform(error)) if error.is_forbidden() => {
                    self.reporter.warn(format!(
                        "the environment cannot be locked against others elsewhere: {error}"
                    ));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Held { lock, lease })
    }
}

/// What is held while a release or a rotation runs.
#[derive(Debug)]
pub(crate) struct Held {
    /// The checkout's lock.
    pub(crate) lock: Lock,
    /// The environment's.
    pub(crate) lease: Option<Lease>,
}

impl Held {
    /// Says whether from now on it is only watched.
    pub(crate) async fn watching(&self, watching: bool) -> Result<(), JournalError> {
        let lock = self.lock.watching(watching);
        lock.map_err(|error| JournalError::Io(PathBuf::from("lock"), error))?;
        match &self.lease {
            Some(lease) if watching => lease.watching().await,
            Some(lease) => lease.acting().await,
            None => {}
        }
        Ok(())
    }

    /// Whether somebody took it over.
    pub(crate) fn is_lost(&self) -> bool {
        self.lease.as_ref().is_some_and(Lease::is_lost)
            || self.lock.fence().is_ok_and(|fence| fence.is_none())
    }

    /// Gives both back.
    pub(crate) async fn release(self) {
        let Self { lock, lease } = self;
        if let Some(lease) = lease {
            lease.release().await;
        }
        drop(lock);
    }
}
