//! The region's private names and addresses: what Azure's private DNS zones and subnets are.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use tokio::sync::watch;

/// Host name (lower case) → address inside the region. Shared by everyone who serves a private name
/// and everyone who fills a sandbox's hosts file. Cheap to clone; reads take no lock.
#[derive(Debug, Clone, Default)]
pub struct Names(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    map: ArcSwap<BTreeMap<String, Ipv4Addr>>,
    changed: watch::Sender<u64>,
}

impl Default for Shared {
    fn default() -> Self {
        Self { map: ArcSwap::default(), changed: watch::Sender::new(0) }
    }
}

impl Names {
    /// Points `name` to `address`.
    pub fn set(&self, name: &str, address: Ipv4Addr) {
        let name = name.to_ascii_lowercase();
        if self.get(&name) == Some(address) {
            return;
        }
        self.0.map.rcu(|map| {
            let mut map = BTreeMap::clone(map);
            map.insert(name.clone(), address);
            map
        });
        self.0.changed.send_modify(|n| *n += 1);
    }

    /// Forgets `name`.
    pub fn remove(&self, name: &str) {
        let name = name.to_ascii_lowercase();
        if self.get(&name).is_none() {
            return;
        }
        self.0.map.rcu(|map| {
            let mut map = BTreeMap::clone(map);
            map.remove(&name);
            map
        });
        self.0.changed.send_modify(|n| *n += 1);
    }

    /// The address of `name`.
    pub fn get(&self, name: &str) -> Option<Ipv4Addr> {
        self.0.map.load().get(&name.to_ascii_lowercase()).copied()
    }

    /// Every entry, as `lazuli_host::Spec::hosts` takes them.
    pub fn hosts(&self) -> Vec<(Ipv4Addr, String)> {
        self.0.map.load().iter().map(|(name, address)| (*address, name.clone())).collect()
    }

    /// Keeps a hosts file true until the process ends. Run it as a task of its own.
    pub async fn keep_file(self, path: PathBuf) {
        let mut changed = self.changed();
        loop {
            changed.borrow_and_update();
            let mut text = String::from("127.0.0.1 localhost\n::1 localhost\n");
            for (address, name) in self.hosts() {
                text.push_str(&format!("{address} {name}\n"));
            }
            // Renamed into place: whoever shows the file shows a whole one.
            let next = path.with_extension("new");
            let written = tokio::fs::write(&next, text).await;
            if let Err(error) = match written {
                Ok(()) => tokio::fs::rename(&next, &path).await,
                Err(error) => Err(error),
            } {
                tracing::warn!(path = %path.display(), %error, "cannot write the hosts file");
            }
            if changed.changed().await.is_err() {
                return;
            }
        }
    }

    /// Changes with every change of the map.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.0.changed.subscribe()
    }
}

/// The subnets of the region's network, by the standard's addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subnet {
    /// Instances: 10.0.1.0/24.
    App,
    /// Private endpoints (Key Vault, Redis): 10.0.2.0/24.
    PrivateEndpoints,
    /// PostgreSQL: 10.0.3.0/24.
    Database,
}

impl Subnet {
    fn third(self) -> u8 {
        match self {
            Self::App => 1,
            Self::PrivateEndpoints => 2,
            Self::Database => 3,
        }
    }
}

/// Hands out the region's addresses, one per owner, and remembers them across restarts: a database
/// keeps its address for life. Azure keeps the first four addresses of a subnet for itself, so the
/// first one handed out ends in `.4`.
///
/// <https://learn.microsoft.com/azure/virtual-network/virtual-networks-faq>
#[derive(Debug, Clone)]
pub struct Addresses(Arc<Mutex<Ledger>>);

#[derive(Debug)]
struct Ledger {
    /// `None` in tests: nothing is remembered.
    path: Option<PathBuf>,
    owners: BTreeMap<String, Ipv4Addr>,
}

/// Why an address could not be handed out.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// Every address of the subnet has an owner.
    #[error("the subnet 10.0.{}.0/24 has no free address left", .0.third())]
    Full(Subnet),
    /// The ledger could not be read or written.
    #[error("cannot keep the ledger of addresses in {}: {source}", path.display())]
    Io {
        /// The ledger.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
}

impl Addresses {
    /// Opens the ledger of addresses in the region's directory.
    pub fn open(region: &Path) -> Result<Self, AddressError> {
        let path = region.join("addresses.json");
        let owners = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|e| AddressError::Io { path: path.clone(), source: e.into() })?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
            Err(source) => return Err(AddressError::Io { path, source }),
        };
        Ok(Self(Arc::new(Mutex::new(Ledger { path: Some(path), owners }))))
    }

    /// A ledger that remembers nothing, for tests.
    pub fn in_memory() -> Self {
        Self(Arc::new(Mutex::new(Ledger { path: None, owners: BTreeMap::new() })))
    }

    /// The address of `owner` in `subnet`; a new one if it has none there.
    pub fn of(&self, owner: &str, subnet: Subnet) -> Result<Ipv4Addr, AddressError> {
        let mut ledger = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let key = key(owner, subnet);
        if let Some(address) = ledger.owners.get(&key) {
            return Ok(*address);
        }
        let free = (4..=254)
            .map(|last| Ipv4Addr::new(10, 0, subnet.third(), last))
            .find(|candidate| !ledger.owners.values().any(|taken| taken == candidate))
            .ok_or(AddressError::Full(subnet))?;
        ledger.owners.insert(key, free);
        ledger.save()?;
        Ok(free)
    }

    /// Gives the address of `owner` in `subnet` back.
    pub fn release(&self, owner: &str, subnet: Subnet) -> Result<(), AddressError> {
        let mut ledger = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if ledger.owners.remove(&key(owner, subnet)).is_some() {
            ledger.save()?;
        }
        Ok(())
    }
}

fn key(owner: &str, subnet: Subnet) -> String {
    format!("{}/{}", subnet.third(), owner.to_ascii_lowercase())
}

impl Ledger {
    fn save(&self) -> Result<(), AddressError> {
        let Some(path) = &self.path else { return Ok(()) };
        let write = || -> std::io::Result<()> {
            use std::io::Write as _;
            let dir = path.parent().unwrap_or(Path::new("."));
            let mut file = tempfile::NamedTempFile::new_in(dir)?;
            serde_json::to_writer(&mut file, &self.owners)?;
            file.as_file_mut().flush()?;
            file.as_file().sync_all()?;
            file.persist(path)?;
            Ok(())
        };
        write().map_err(|source| AddressError::Io { path: path.clone(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_keeps_its_address_across_restarts_and_nobody_else_gets_it() {
        let dir = tempfile::tempdir().expect("temp dir");
        let addresses = Addresses::open(dir.path()).expect("new ledger");
        let one = addresses.of("notes-pg", Subnet::Database).expect("address");
        assert_eq!(one, Ipv4Addr::new(10, 0, 3, 4), "Azure keeps .0 to .3");
        let two = addresses.of("other-pg", Subnet::Database).expect("address");
        assert_ne!(one, two);

        let again = Addresses::open(dir.path()).expect("old ledger");
        assert_eq!(again.of("Notes-PG", Subnet::Database).expect("address"), one);
        again.release("notes-pg", Subnet::Database).expect("release");
        assert_eq!(again.of("third-pg", Subnet::Database).expect("address"), one);
    }

    #[test]
    fn a_full_subnet_says_so() {
        let addresses = Addresses::in_memory();
        for n in 0..251 {
            addresses.of(&format!("kv{n}"), Subnet::PrivateEndpoints).expect("free");
        }
        let full = addresses.of("one-too-many", Subnet::PrivateEndpoints);
        assert!(matches!(full, Err(AddressError::Full(Subnet::PrivateEndpoints))));
    }

    #[test]
    fn names_are_case_insensitive_and_changes_are_seen() {
        let names = Names::default();
        let mut changed = names.changed();
        changed.mark_unchanged();
        names.set("Notes-PG.postgres.database.azure.com", Ipv4Addr::new(10, 0, 3, 4));
        assert!(changed.has_changed().expect("sender lives"));
        assert_eq!(
            names.hosts(),
            [(Ipv4Addr::new(10, 0, 3, 4), "notes-pg.postgres.database.azure.com".to_owned())]
        );
        names.remove("NOTES-pg.postgres.database.azure.com");
        assert_eq!(names.get("notes-pg.postgres.database.azure.com"), None);
    }
}
