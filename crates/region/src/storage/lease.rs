//! Leases of blobs: a lock that a client holds by its ID
//! (<https://learn.microsoft.com/rest/api/storageservices/lease-blob>). No I/O and no clock of its own.

use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::error::Refusal;

/// A blob's lease, as it is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    id: Option<String>,
    /// Seconds; None is for ever.
    seconds: Option<i64>,
    /// When a lease of limited length ends.
    until: Option<Timestamp>,
    /// When a broken lease is (or was) over.
    breaks: Option<Timestamp>,
}

/// What a lease is at a moment, in Azure's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nobody has it.
    Available,
    /// Somebody has it.
    Leased,
    /// Its time ran out.
    Expired,
    /// It will be over soon and cannot be taken yet.
    Breaking,
    /// It was broken.
    Broken,
}

impl State {
    /// `x-ms-lease-state`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Available => "available",
            Self::Leased => "leased",
            Self::Expired => "expired",
            Self::Breaking => "breaking",
            Self::Broken => "broken",
        }
    }

    /// Whether nobody else may write (`x-ms-lease-status: locked`).
    pub fn locks(self) -> bool {
        matches!(self, Self::Leased | Self::Breaking)
    }
}

fn refused(status: StatusCode, code: &'static str, message: &'static str) -> Refusal {
    Refusal::new(status, code, message)
}

fn mismatch() -> Refusal {
    refused(
        StatusCode::CONFLICT,
        "LeaseIdMismatchWithLeaseOperation",
        "The lease ID specified did not match the lease ID for the blob.",
    )
}

impl Lease {
    /// What it is at `now`.
    pub fn state(&self, now: Timestamp) -> State {
        match (&self.id, self.breaks, self.until) {
            (None, _, _) => State::Available,
            (_, Some(breaks), _) if breaks <= now => State::Broken,
            (_, Some(_), _) => State::Breaking,
            (_, None, Some(until)) if until <= now => State::Expired,
            _ => State::Leased,
        }
    }

    /// `x-ms-lease-duration` of a lease that is held.
    pub fn duration(&self, now: Timestamp) -> Option<&'static str> {
        (self.state(now) == State::Leased).then_some(if self.seconds.is_none() {
            "infinite"
        } else {
            "fixed"
        })
    }

    /// Whether a client that gives this lease ID, or none, may write. A lease that is over is forgotten
    /// by the first write without it.
    pub fn admit_write(&mut self, given: Option<&str>, now: Timestamp) -> Result<(), Refusal> {
        if given.is_none() && self.state(now).locks() {
            return Err(refused(
                StatusCode::PRECONDITION_FAILED,
                "LeaseIdMissing",
                "There is currently a lease on the blob and no lease ID was specified in the request.",
            ));
        }
        self.admit_read(given, now)?;
        if !self.state(now).locks() {
            *self = Self::default();
        }
        Ok(())
    }

    /// Whether a client that gives this lease ID may read. Anybody may who gives none.
    pub fn admit_read(&self, given: Option<&str>, now: Timestamp) -> Result<(), Refusal> {
        let Some(given) = given else { return Ok(()) };
        let failed = StatusCode::PRECONDITION_FAILED;
        match self.state(now) {
            state if state.locks() => {
                if self.is(given) {
                    Ok(())
                } else {
                    Err(refused(
                        failed,
                        "LeaseIdMismatchWithBlobOperation",
                        "The lease ID specified did not match the lease ID for the blob.",
                    ))
                }
            }
            State::Available => Err(refused(
                failed,
                "LeaseNotPresentWithBlobOperation",
                "There is currently no lease on the blob.",
            )),
            _ => Err(refused(
                failed,
                "LeaseLost",
                "A lease ID was specified, but the lease for the blob has expired.",
            )),
        }
    }

    fn is(&self, id: &str) -> bool {
        self.id.as_deref().is_some_and(|own| own.eq_ignore_ascii_case(id))
    }

    /// Takes the lease; `seconds` is None for ever.
    pub fn acquire(
        &mut self,
        id: &str,
        seconds: Option<i64>,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        match self.state(now) {
            State::Leased if !self.is(id) => Err(refused(
                StatusCode::CONFLICT,
                "LeaseAlreadyPresent",
                "There is already a lease present.",
            )),
            State::Breaking => Err(refused(
                StatusCode::CONFLICT,
                "LeaseAlreadyPresent",
                "There is already a lease present.",
            )),
            _ => {
                *self = Self {
                    id: Some(id.to_owned()),
                    seconds,
                    until: seconds.map(|seconds| now + SignedDuration::from_secs(seconds)),
                    breaks: None,
                };
                Ok(())
            }
        }
    }

    /// Begins its time anew.
    pub fn renew(&mut self, id: &str, now: Timestamp) -> Result<(), Refusal> {
        match self.state(now) {
            State::Breaking | State::Broken if self.is(id) => Err(refused(
                StatusCode::CONFLICT,
                "LeaseIsBrokenAndCannotBeRenewed",
                "The lease ID matched, but the lease has been broken explicitly and cannot be renewed.",
            )),
            State::Leased | State::Expired if self.is(id) => {
                self.until = self.seconds.map(|seconds| now + SignedDuration::from_secs(seconds));
                Ok(())
            }
            _ => Err(mismatch()),
        }
    }

    /// Gives it another ID.
    pub fn change(&mut self, id: &str, proposed: &str, now: Timestamp) -> Result<(), Refusal> {
        match self.state(now) {
            State::Leased if self.is(id) || self.is(proposed) => {
                self.id = Some(proposed.to_owned());
                Ok(())
            }
            State::Breaking if self.is(id) => Err(refused(
                StatusCode::CONFLICT,
                "LeaseIsBreakingAndCannotBeChanged",
                "The lease ID matched, but the lease is currently in breaking state and cannot be changed.",
            )),
            State::Leased | State::Breaking => Err(mismatch()),
            _ => Err(refused(
                StatusCode::CONFLICT,
                "LeaseNotPresentWithLeaseOperation",
                "There is currently no lease on the blob.",
            )),
        }
    }

    /// Gives it up.
    pub fn release(&mut self, id: &str) -> Result<(), Refusal> {
        if !self.is(id) {
            return Err(mismatch());
        }
        *self = Self::default();
        Ok(())
    }

    /// Ends it without its ID, after at most `period` seconds. Returns the seconds until it is over.
    pub fn break_it(&mut self, period: Option<i64>, now: Timestamp) -> Result<i64, Refusal> {
        let left = |at: Timestamp| at.duration_since(now).as_secs().max(0);
        match self.state(now) {
            State::Available => Err(refused(
                StatusCode::CONFLICT,
                "LeaseNotPresentWithLeaseOperation",
                "There is currently no lease on the blob.",
            )),
            State::Broken | State::Expired => {
                self.breaks = Some(now);
                Ok(0)
            }
            State::Leased | State::Breaking => {
                let end = self.breaks.or(self.until);
                let wait = match (period, end) {
                    (Some(period), Some(end)) => period.min(left(end)),
                    (Some(period), None) => period,
                    (None, Some(end)) => left(end),
                    (None, None) => 0,
                };
                self.breaks = Some(now + SignedDuration::from_secs(wait));
                Ok(wait)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "11111111-1111-1111-1111-111111111111";
    const TWO: &str = "22222222-2222-2222-2222-222222222222";

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).expect("a time")
    }

    fn code(result: Result<impl std::fmt::Debug, Refusal>) -> &'static str {
        result.expect_err("refused").code
    }

    #[test]
    fn one_holder_at_a_time() {
        let mut lease = Lease::default();
        lease.acquire(ONE, None, at(0)).expect("free");
        assert_eq!(code(lease.acquire(TWO, None, at(1))), "LeaseAlreadyPresent");
        lease.acquire(ONE, None, at(1)).expect("its own");
        assert_eq!(code(lease.admit_write(None, at(2))), "LeaseIdMissing");
        assert_eq!(code(lease.admit_write(Some(TWO), at(2))), "LeaseIdMismatchWithBlobOperation");
        lease.admit_write(Some(ONE), at(1_000_000)).expect("an infinite lease");
        lease.admit_read(None, at(2)).expect("reading is free");
        assert_eq!(code(lease.release(TWO)), "LeaseIdMismatchWithLeaseOperation");
        lease.release(ONE).expect("its own");
        lease.acquire(TWO, Some(15), at(3)).expect("free again");
    }

    #[test]
    fn a_lease_of_limited_length_ends_by_itself() {
        let mut lease = Lease::default();
        lease.acquire(ONE, Some(15), at(0)).expect("free");
        assert_eq!(lease.state(at(14)), State::Leased);
        assert_eq!(lease.state(at(15)), State::Expired);
        lease.renew(ONE, at(15)).expect("nobody wrote meanwhile");
        assert_eq!(lease.state(at(29)), State::Leased);
        assert_eq!(code(lease.clone().admit_write(Some(ONE), at(40))), "LeaseLost");
        lease.admit_write(None, at(40)).expect("it is over");
        assert_eq!(code(lease.renew(ONE, at(41))), "LeaseIdMismatchWithLeaseOperation");
    }

    #[test]
    fn a_broken_lease_is_free_when_its_time_is_over() {
        let mut lease = Lease::default();
        assert_eq!(code(lease.break_it(None, at(0))), "LeaseNotPresentWithLeaseOperation");
        lease.acquire(ONE, Some(60), at(0)).expect("free");
        assert_eq!(lease.break_it(Some(10), at(0)).expect("broken"), 10);
        assert_eq!(lease.state(at(9)), State::Breaking);
        assert_eq!(code(lease.acquire(TWO, None, at(9))), "LeaseAlreadyPresent");
        assert_eq!(code(lease.renew(ONE, at(9))), "LeaseIsBrokenAndCannotBeRenewed");
        assert_eq!(lease.state(at(10)), State::Broken);
        lease.acquire(TWO, None, at(10)).expect("free");
        assert_eq!(lease.break_it(None, at(11)).expect("broken"), 0);
        assert_eq!(lease.state(at(11)), State::Broken);
    }
}
