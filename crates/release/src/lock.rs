//! One release at a time per environment, and honesty about who holds it.
//!
//! The lock is a file that says who: user, host, process id *and* the time that process started (ids
//! are reused), and since when. A holder on this host that is gone is seen to be gone, and its lock
//! is taken over; a holder on another host cannot be checked from here, and that is said.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

/// Who holds a lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Holder {
    /// User name.
    pub user: String,
    /// Host name.
    pub host: String,
    /// Process id on that host.
    pub pid: u32,
    /// When the process started, in clock ticks since boot, with the boot's id: together with the
    /// pid this names a process for good.
    pub started: String,
    /// Since when.
    pub since: Timestamp,
    /// For what: `deploy`, `rollback`.
    pub purpose: String,
}

impl Holder {
    /// This process.
    pub fn me(purpose: &str) -> Self {
        let pid = std::process::id();
        Self {
            user: user(),
            host: host(),
            pid,
            started: started(pid).unwrap_or_default(),
            since: Timestamp::now(),
            purpose: purpose.to_owned(),
        }
    }

    /// Whether this is the process that asks.
    pub(crate) fn is_me(&self) -> bool {
        let me = Self::me("");
        (self.pid, &self.started, &self.host) == (me.pid, &me.started, &me.host)
    }

    /// Whether the holder still runs; `None` when it cannot be known from here.
    pub(crate) fn is_alive(&self) -> Option<bool> {
        if self.host != host() {
            return None;
        }
        Some(started(self.pid).is_some_and(|started| started == self.started))
    }
}

impl Holder {
    /// What they do, for a sentence.
    pub(crate) fn what(&self) -> &'static str {
        if self.rotates() { "rotation" } else { "release" }
    }

    /// Whether they rotate a secret.
    pub fn rotates(&self) -> bool {
        self.purpose == ROTATE
    }
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { user, host, pid, since, purpose, .. } = self;
        write!(f, "{user} on {host} (process {pid}, `{purpose}`) since {since:.0}")
    }
}

/// Why there is no lock.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody holds it and runs.
    #[error("a {what} is running: {0}", what = .0.what())]
    Held(Box<Holder>),
    /// Somebody on another host holds it; whether they still run cannot be seen from here.
    #[error("the lock is held by {0}, which cannot be seen from this host")]
    Elsewhere(Box<Holder>, PathBuf),
    /// The lock file could not be read or written.
    #[error("cannot use the lock {}", .0.display())]
    Io(PathBuf, #[source] io::Error),
}

/// A held lock; released when dropped.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    me: Mutex<Holder>,
}

/// The purpose of whoever rotates a secret.
pub(crate) const ROTATE: &str = "secrets rotate";

/// How the purpose of a holder ends who only watches: whoever rolls back need not wait for them.
pub(crate) const WATCHING: &str = " (watching)";

/// Keeps everybody else from taking the lock for as long as it lives.
#[derive(Debug)]
pub struct Fence(#[expect(dead_code, reason = "held")] Flock<File>);

impl Lock {
    /// Takes the lock in `dir`. The second value is the holder that died with it, if one did.
    /// `over_watch` takes it from somebody who only watches.
    pub fn acquire(
        dir: &Path,
        purpose: &str,
        over_watch: bool,
    ) -> Result<(Self, Option<Holder>), LockError> {
        let path = dir.join("lock");
        let error = |source| LockError::Io(path.clone(), source);
        std::fs::create_dir_all(dir).map_err(error)?;
        // Held only while the file is looked at and written, so that of two that find a dead holder
        // one wins.
        let _guard = guard(dir).map_err(error)?;
        let previous = match std::fs::read(&path) {
            // A file that cannot be read as a holder was cut off while being written: nobody's.
            Ok(text) => serde_json::from_slice::<Holder>(&text).ok(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(error(e)),
        };
        if let Some(holder) = &previous {
            let yields = over_watch && holder.purpose.ends_with(WATCHING);
            match holder.is_alive() {
                _ if yields => {}
                Some(true) => return Err(LockError::Held(Box::new(holder.clone()))),
                None => return Err(LockError::Elsewhere(Box::new(holder.clone()), path)),
                Some(false) => {}
            }
        }
        let me = Holder::me(purpose);
        write(&path, &me).map_err(error)?;
        Ok((Self { path, me: Mutex::new(me) }, previous))
    }

    /// Who holds it: this process.
    pub fn me(&self) -> Holder {
        self.me.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says whether from now on it is only watched.
    pub fn watching(&self, watching: bool) -> io::Result<()> {
        let Some(_fence) = self.fence()? else { return Ok(()) };
        let mut me = self.me.lock().unwrap_or_else(PoisonError::into_inner);
        let purpose = me.purpose.trim_end_matches(WATCHING).to_owned();
        me.purpose = if watching { format!("{purpose}{WATCHING}") } else { purpose };
        write(&self.path, &me)
    }

    /// Keeps the lock from being taken, if it has not been taken already.
    pub fn fence(&self) -> io::Result<Option<Fence>> {
        let guard = guard(self.path.parent().unwrap_or(&self.path))?;
        let holder = std::fs::read(&self.path).ok();
        let holder = holder.and_then(|text| serde_json::from_slice::<Holder>(&text).ok());
        Ok((holder == Some(self.me())).then_some(Fence(guard)))
    }

    /// Who holds the lock in `dir` and runs, or cannot be seen.
    pub fn holder(dir: &Path) -> Option<Holder> {
        let holder: Holder = serde_json::from_slice(&std::fs::read(dir.join("lock")).ok()?).ok()?;
        (holder.is_alive() != Some(false)).then_some(holder)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Only our own: after a takeover on a shared directory it may be somebody else's.
        let holder = std::fs::read(&self.path).ok();
        let holder = holder.and_then(|text| serde_json::from_slice::<Holder>(&text).ok());
        if holder == Some(self.me()) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn guard(dir: &Path) -> io::Result<Flock<File>> {
    let guard = File::create(dir.join("lock.guard"))?;
    Flock::lock(guard, FlockArg::LockExclusive).map_err(|(_, errno)| io::Error::from(errno))
}

fn write(path: &Path, holder: &Holder) -> io::Result<()> {
    let text = serde_json::to_vec(holder)?;
    let mut file = tempfile::NamedTempFile::new_in(path.parent().unwrap_or(path))?;
    file.write_all(&text).and_then(|()| file.as_file().sync_all())?;
    file.persist(path).map(|_| ()).map_err(|error| error.error)
}

/// Boot id and start time of a process; `None` when there is none.
fn started(pid: u32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command in parentheses may hold spaces and parentheses: fields count from the last `)`.
    let mut fields = stat.get(stat.rfind(')')? + 2..)?.split(' ');
    if fields.next()? == "Z" {
        return None;
    }
    // proc(5): starttime is field 22, the 20th after the command; one was taken.
    let ticks = fields.nth(18)?;
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    Some(format!("{}/{ticks}", boot.trim()))
}

/// The host's name.
pub(crate) fn host() -> String {
    nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .unwrap_or_else(|| "unknown".to_owned())
}

/// The user's name.
pub(crate) fn user() -> String {
    let by_id =
        || nix::unistd::User::from_uid(nix::unistd::getuid()).ok().flatten().map(|u| u.name);
    by_id().or_else(|| std::env::var("USER").ok()).unwrap_or_else(|| "unknown".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir() -> tempfile::TempDir {
        tempfile::tempdir().expect("a temporary directory")
    }

    #[test]
    fn the_second_sees_who_the_first_is() {
        let dir = dir();
        let (lock, previous) = Lock::acquire(dir.path(), "deploy", false).expect("free");
        assert_eq!(previous, None);
        let Err(LockError::Held(holder)) = Lock::acquire(dir.path(), "rollback", false) else {
            panic!("taken twice");
        };
        assert_eq!((holder.pid, holder.purpose.as_str()), (std::process::id(), "deploy"));
        drop(lock);
        Lock::acquire(dir.path(), "rollback", false).expect("free again");
    }

    #[test]
    fn a_dead_holder_is_seen_to_be_dead_though_its_pid_lives() {
        let dir = dir();
        // Our own pid, but another start time: the id was reused.
        let dead = Holder { started: "0000/1".into(), ..Holder::me("deploy") };
        std::fs::write(dir.path().join("lock"), serde_json::to_vec(&dead).expect("json"))
            .expect("written");
        assert_eq!(Lock::holder(dir.path()), None);
        let (_lock, previous) = Lock::acquire(dir.path(), "deploy", false).expect("taken over");
        assert_eq!(previous, Some(dead));
    }

    #[test]
    fn a_holder_elsewhere_is_neither_alive_nor_dead() {
        let dir = dir();
        let other = Holder { host: "elsewhere.invalid".into(), ..Holder::me("deploy") };
        std::fs::write(dir.path().join("lock"), serde_json::to_vec(&other).expect("json"))
            .expect("written");
        assert!(matches!(
            Lock::acquire(dir.path(), "deploy", false),
            Err(LockError::Elsewhere(..))
        ));
    }

    #[test]
    fn who_rolls_back_does_not_wait_for_who_watches() {
        let dir = dir();
        let (watcher, _) = Lock::acquire(dir.path(), "deploy", false).expect("free");
        watcher.watching(true).expect("written");
        assert!(Lock::acquire(dir.path(), "deploy", false).is_err());
        assert!(watcher.fence().expect("read").is_some());
        let (second, from) = Lock::acquire(dir.path(), "rollback", true).expect("taken over");
        assert_eq!(from.map(|from| from.purpose), Some("deploy (watching)".to_owned()));
        assert!(watcher.fence().expect("read").is_none(), "it knows");
        drop(watcher);
        assert!(second.fence().expect("read").is_some(), "and takes nothing with it");
    }

    #[test]
    fn a_torn_lock_file_is_nobodys() {
        let dir = dir();
        std::fs::write(dir.path().join("lock"), b"{\"user\":").expect("written");
        Lock::acquire(dir.path(), "deploy", false).expect("free");
    }

    #[test]
    fn of_many_at_once_one_wins() {
        let dir = dir();
        let won: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| Lock::acquire(dir.path(), "deploy", false).ok()))
                .collect();
            threads.into_iter().filter_map(|thread| thread.join().expect("no panic")).collect()
        });
        assert_eq!(won.len(), 1);
    }
}
