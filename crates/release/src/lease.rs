//! One release or rotation at a time per environment, across checkouts and machines: a record in the environment
//! itself that says who releases, since when, and that they were alive a moment ago.
//!
//! It is the TXT record set `lazuli-release` of a private DNS zone of the environment, because that is
//! what every environment of the standard has that Resource Manager changes under a condition
//! (`If-None-Match: *` makes it for one of many at once, `If-Match` changes it only as it was seen:
//! <https://learn.microsoft.com/rest/api/dns/privatedns/record-sets/create-or-update>). Who holds it
//! stands in the set's metadata. The holder renews it; one that has not been renewed for long is nobody's
//! any more, and taking it over is said.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use lazuli_azure::{Client, Condition, Error};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::lock::{Holder, WATCHING};

/// The version of Microsoft.Network/privateDnsZones spoken here.
const API: &str = "2024-06-01";
/// The record set's name.
const NAME: &str = "lazuli-release";
/// How often the holder says that it lives.
const RENEW: Duration = Duration::from_secs(20);
/// How long ago the last such sign may be. Clocks of two machines differ by less.
const LIFE: Duration = Duration::from_secs(120);

/// Who holds an environment, as its record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lessee {
    /// Who.
    pub holder: Holder,
    /// The directory that was released from, on their machine.
    pub project: String,
    /// When they last said that they live.
    pub renewed: Timestamp,
    etag: String,
}

impl Lessee {
    fn read(set: &Value) -> Option<Self> {
        let text = |name: &str| {
            set.pointer(&format!("/properties/metadata/{name}")).and_then(Value::as_str)
        };
        Some(Self {
            holder: Holder {
                user: text("user")?.to_owned(),
                host: text("host")?.to_owned(),
                pid: text("pid")?.parse().ok()?,
                started: text("started")?.to_owned(),
                since: text("since")?.parse().ok()?,
                purpose: text("purpose")?.to_owned(),
            },
            project: text("project")?.to_owned(),
            renewed: text("renewed")?.parse().ok()?,
            etag: set.get("etag").and_then(Value::as_str)?.to_owned(),
        })
    }

    /// Whether the holder lives: seen, where it is a process of this host, else concluded.
    pub fn is_alive(&self) -> bool {
        // A record of this very process is of a release of it that has ended.
        if self.holder.is_me() {
            return false;
        }
        self.holder.is_alive().unwrap_or_else(|| {
            let silent = Timestamp::now().duration_since(self.renewed);
            Duration::try_from(silent).unwrap_or_default() < LIFE
        })
    }
}

impl std::fmt::Display for Lessee {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, from {}", self.holder, self.project)
    }
}

/// Why an environment cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// Somebody releases to it, or rotates a secret of it.
    #[error("a {what} is running: {0}", what = .0.holder.what())]
    Held(Box<Lessee>),
    /// Somebody released to it from another place, and is gone without having ended.
    #[error(
        "a {what} was interrupted and not ended: {0}, last seen {renewed:.0}",
        what = .0.holder.what(), renewed = .0.renewed
    )]
    Abandoned(Box<Lessee>),
    /// The platform could not be asked.
    #[error("the environment's lock cannot be used")]
    Platform(#[from] Error),
}

/// How a lease is taken.
#[derive(Clone, Copy, Debug, Default)]
pub struct Claim {
    /// Also from somebody who is gone, or who only watches.
    pub take_over: bool,
    /// Also from somebody who only watches: the person who rolls back must not wait for the watch.
    pub over_watch: bool,
}

/// Where the record is.
#[derive(Clone, Debug)]
pub struct Place {
    client: Client,
    id: String,
}

impl Place {
    /// In a zone, by its resource ID.
    pub fn new(client: Client, zone: &str) -> Self {
        Self { client, id: format!("{zone}/TXT/{NAME}") }
    }

    /// Who holds the environment, dead or alive.
    pub async fn holder(&self) -> Result<Option<Lessee>, Error> {
        Ok(self.client.find_tagged(&self.id, API).await?.as_ref().and_then(Lessee::read))
    }

    /// Takes the environment. The second value is the holder it was taken from.
    pub async fn acquire(
        &self,
        me: &Holder,
        project: &str,
        claim: Claim,
    ) -> Result<(Lease, Option<Lessee>), LeaseError> {
        let mut condition = Condition::Absent;
        let mut before = None;
        // Another may be faster twice; a third time somebody holds it for sure.
        for _ in 0..3 {
            match self.client.put_if(&self.id, API, &body(me, project), &condition).await {
                Ok(set) => return Ok((self.hold(me, project, &set), before)),
                Err(error) if error.is_precondition_failed() => {}
                Err(error) => return Err(error.into()),
            }
            let Some(set) = self.client.find_tagged(&self.id, API).await? else {
                condition = Condition::Absent;
                continue;
            };
            let etag = set.get("etag").and_then(Value::as_str).unwrap_or("*").to_owned();
            if let Some(lessee) = Lessee::read(&set) {
                let watches = lessee.holder.purpose.ends_with(WATCHING);
                let allowed = if lessee.is_alive() {
                    watches && (claim.over_watch || claim.take_over)
                } else {
                    // The next command from the same place goes on where this one was interrupted.
                    claim.take_over
                        || claim.over_watch && watches
                        || lessee.holder.host == me.host && lessee.project == project
                };
                if !allowed {
                    let lessee = Box::new(lessee);
                    return Err(if lessee.is_alive() {
                        LeaseError::Held(lessee)
                    } else {
                        LeaseError::Abandoned(lessee)
                    });
                }
                before = Some(lessee);
            }
            condition = Condition::Unchanged(etag);
        }
        match self.holder().await? {
            Some(lessee) => Err(LeaseError::Held(Box::new(lessee))),
            None => Err(LeaseError::Platform(Error::Unexpected {
                url: self.id.clone(),
                what: "it is there for writing and not for reading".to_owned(),
            })),
        }
    }

    fn hold(&self, me: &Holder, project: &str, set: &Value) -> Lease {
        let etag = set.get("etag").and_then(Value::as_str).unwrap_or_default().to_owned();
        let shared = Arc::new(Shared {
            place: self.clone(),
            me: Mutex::new((me.clone(), etag)),
            project: project.to_owned(),
            lost: AtomicBool::new(false),
        });
        let renewal = tokio::spawn({
            let shared = Arc::clone(&shared);
            async move {
                loop {
                    tokio::time::sleep(RENEW).await;
                    shared.renew(None).await;
                }
            }
        });
        Lease { shared, renewal }
    }
}

fn body(holder: &Holder, project: &str) -> Value {
    json!({ "properties": {
        "ttl": 60,
        "txtRecords": [{ "value": ["held by lazuli while it releases or rotates"] }],
        "metadata": {
            "user": holder.user,
            "host": holder.host,
            "pid": holder.pid.to_string(),
            "started": holder.started,
            "since": holder.since.to_string(),
            "purpose": holder.purpose,
            "project": project,
            "renewed": Timestamp::now().to_string(),
        },
    } })
}

struct Shared {
    place: Place,
    me: Mutex<(Holder, String)>,
    project: String,
    lost: AtomicBool,
}

impl Shared {
    /// Says that the holder lives, and for what.
    async fn renew(&self, purpose: Option<&str>) {
        let mut me = self.me.lock().await;
        if let Some(purpose) = purpose {
            purpose.clone_into(&mut me.0.purpose);
        }
        let condition = Condition::Unchanged(me.1.clone());
        let body = body(&me.0, &self.project);
        match self.place.client.put_if(&self.place.id, API, &body, &condition).await {
            Ok(set) => {
                set.get("etag").and_then(Value::as_str).unwrap_or_default().clone_into(&mut me.1);
            }
            Err(error) if error.is_precondition_failed() => {
                // An answer that was lost leaves our own words under another etag.
                let ours = match self.place.client.find_tagged(&self.place.id, API).await {
                    Ok(Some(set)) => Lessee::read(&set).filter(|lessee| {
                        lessee.holder.pid == me.0.pid
                            && lessee.holder.started == me.0.started
                            && lessee.holder.host == me.0.host
                    }),
                    // Not to be known now: the next renewal will tell.
                    Err(_) => return,
                    Ok(None) => None,
                };
                match ours {
                    Some(lessee) => me.1 = lessee.etag,
                    None => self.lost.store(true, Ordering::Release),
                }
            }
            // A platform that does not answer takes no other holder either.
            Err(error) => tracing::debug!(%error, "the lease was not renewed"),
        }
    }
}

/// A held environment.
pub struct Lease {
    shared: Arc<Shared>,
    renewal: tokio::task::JoinHandle<()>,
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lease").field("id", &self.shared.place.id).finish_non_exhaustive()
    }
}

impl Lease {
    /// Says that from now on it is only watched.
    pub async fn watching(&self) {
        let purpose = self.shared.me.lock().await.0.purpose.clone();
        self.shared.renew(Some(&format!("{}{WATCHING}", purpose.trim_end_matches(WATCHING)))).await;
    }

    /// Says that it is more than watched again.
    pub async fn acting(&self) {
        let purpose = self.shared.me.lock().await.0.purpose.clone();
        if let Some(purpose) = purpose.strip_suffix(WATCHING) {
            self.shared.renew(Some(purpose)).await;
        }
    }

    /// Whether somebody else took it.
    pub fn is_lost(&self) -> bool {
        self.shared.lost.load(Ordering::Acquire)
    }

    /// Gives it back.
    pub async fn release(self) {
        self.renewal.abort();
        if self.is_lost() {
            return;
        }
        let me = self.shared.me.lock().await;
        let condition = Condition::Unchanged(me.1.clone());
        let place = &self.shared.place;
        if let Err(error) = place.client.delete_if(&place.id, API, &condition).await {
            tracing::debug!(%error, "the lease was not given back: it runs out by itself");
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.renewal.abort();
    }
}
