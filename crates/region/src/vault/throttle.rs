//! How many requests a vault takes: Key Vault's service limits, per vault and ten seconds.
//!
//! <https://learn.microsoft.com/azure/key-vault/general/service-limits#secrets-managed-storage-account-keys-and-vault-transactions>

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The window that the limits are for.
const WINDOW: Duration = Duration::from_secs(10);
/// New versions of secrets in a window.
const CREATES: u32 = 300;
/// All other requests in a window.
const OTHERS: u32 = 4000;
/// Vaults that are remembered; a window that is over is forgotten when there are more.
const VAULTS: usize = 1024;

/// What a request is, to the limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It makes a new version.
    Create,
    /// Anything else.
    Other,
}

struct Window {
    began: Instant,
    creates: u32,
    others: u32,
}

/// Counts requests.
#[derive(Default)]
pub(super) struct Throttle {
    windows: Mutex<HashMap<String, Window>>,
}

impl Throttle {
    /// Counts a request to `vault`; when there were too many, the seconds until there is room again.
    pub(super) fn admit(&self, vault: &str, kind: Kind) -> Result<(), u64> {
        self.admit_at(vault, kind, Instant::now())
    }

    fn admit_at(&self, vault: &str, kind: Kind, now: Instant) -> Result<(), u64> {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        if windows.len() > VAULTS {
            windows.retain(|_, window| now.duration_since(window.began) < WINDOW);
        }
        if !windows.contains_key(vault) {
            windows.insert(vault.to_owned(), Window { began: now, creates: 0, others: 0 });
        }
        let Some(window) = windows.get_mut(vault) else { return Ok(()) };
        if now.duration_since(window.began) >= WINDOW {
            *window = Window { began: now, creates: 0, others: 0 };
        }
        let (count, limit) = match kind {
            Kind::Create => (&mut window.creates, CREATES),
            Kind::Other => (&mut window.others, OTHERS),
        };
        if *count < limit {
            *count += 1;
            return Ok(());
        }
        let left = WINDOW.saturating_sub(now.duration_since(window.began));
        Err(left.as_secs() + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vault_takes_so_many_and_then_says_when_to_come_back() {
        let throttle = Throttle::default();
        let now = Instant::now();
        for _ in 0..CREATES {
            assert_eq!(throttle.admit_at("kv", Kind::Create, now), Ok(()));
        }
        let later = now + Duration::from_secs(4);
        assert_eq!(throttle.admit_at("kv", Kind::Create, later), Err(7));
        assert_eq!(throttle.admit_at("kv", Kind::Other, later), Ok(()), "another kind");
        assert_eq!(throttle.admit_at("other", Kind::Create, later), Ok(()), "another vault");
        assert_eq!(throttle.admit_at("kv", Kind::Create, now + WINDOW), Ok(()), "another window");
    }
}
