//! When a request is tried again, and after how long.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::{Duration, SystemTime};

use http::{HeaderMap, Method, StatusCode, header};

/// When to try again.
#[derive(Clone, Copy, Debug)]
pub struct RetryPolicy {
    /// Tries in all.
    pub attempts: u32,
    /// The first pause, before jitter; doubles each time.
    pub base: Duration,
    /// The longest pause, also for a `Retry-After`.
    pub cap: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { attempts: 5, base: Duration::from_millis(400), cap: Duration::from_secs(60) }
    }
}

impl RetryPolicy {
    /// The pause before try `attempt + 1` (the first try is 1): what the server asks for, or
    /// exponential with full jitter.
    pub(crate) fn pause(&self, attempt: u32, retry_after: Option<Duration>) -> Duration {
        if let Some(asked) = retry_after {
            return asked.min(self.cap);
        }
        let ceiling =
            self.base.saturating_mul(1 << attempt.saturating_sub(1).min(16)).min(self.cap);
        ceiling.mul_f64(0.5 + 0.5 * unit())
    }
}

/// A number in [0, 1): enough randomness to keep clients from retrying in step.
fn unit() -> f64 {
    let bits = RandomState::new().build_hasher().finish() >> 11;
    #[allow(clippy::cast_precision_loss)] // 53 bits fit a double exactly
    let unit = bits as f64 / (1_u64 << 53) as f64;
    unit
}

/// Whether an answer may be followed by the same request again. A throttled request was not
/// carried out, so 429 is safe for every method.
/// <https://learn.microsoft.com/azure/architecture/best-practices/transient-faults>
pub(crate) fn retryable(method: &Method, status: StatusCode) -> bool {
    let idempotent = matches!(
        *method,
        Method::GET | Method::HEAD | Method::PUT | Method::DELETE | Method::OPTIONS
    );
    match status.as_u16() {
        429 => true,
        408 | 500 | 502 | 503 | 504 => idempotent,
        _ => false,
    }
}

/// The pause before something that has run for a while is looked at again, where the server does not say:
/// a tenth of that while, so that looking too late never costs more than a tenth of it, and not less than
/// 100 ms nor more than `longest`.
pub fn look_again(elapsed: Duration, longest: Duration) -> Duration {
    (elapsed / 10).max(Duration::from_millis(100)).min(longest)
}

/// `Retry-After`, in seconds or as a date, or `retry-after-ms` as some Azure services send it.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name| headers.get(name).and_then(|v: &http::HeaderValue| v.to_str().ok());
    if let Some(ms) = text(header::HeaderName::from_static("retry-after-ms")) {
        return ms.trim().parse().ok().map(Duration::from_millis);
    }
    let value = text(header::RETRY_AFTER)?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at: SystemTime = jiff::fmt::rfc2822::parse(value).ok()?.timestamp().into();
    Some(at.duration_since(SystemTime::now()).unwrap_or_default())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn looking_again_costs_a_tenth_at_most() {
        let (again, second) = (look_again, Duration::from_secs(1));
        assert_eq!(again(Duration::ZERO, second), Duration::from_millis(100));
        assert_eq!(again(4 * second, second), Duration::from_millis(400));
        assert_eq!(again(60 * second, second), second);
    }

    #[test]
    fn a_pause_grows_and_stays_below_the_cap() {
        let policy = RetryPolicy::default();
        for attempt in 1..40 {
            let pause = policy.pause(attempt, None);
            assert!(pause <= policy.cap, "{attempt}: {pause:?}");
            assert!(pause >= policy.base / 2, "{attempt}: {pause:?}");
        }
        assert!(policy.pause(6, None) > policy.pause(1, None));
        assert_eq!(policy.pause(1, Some(Duration::from_secs(7))), Duration::from_secs(7));
        assert_eq!(policy.pause(1, Some(Duration::from_secs(7 * 3600))), policy.cap);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let mut headers = HeaderMap::new();
        assert_eq!(retry_after(&headers), None);
        headers.insert(header::RETRY_AFTER, "12".parse().unwrap());
        assert_eq!(retry_after(&headers), Some(Duration::from_secs(12)));
        headers.insert(header::RETRY_AFTER, "Wed, 21 Oct 2015 07:28:00 GMT".parse().unwrap());
        assert_eq!(retry_after(&headers), Some(Duration::ZERO));
        headers.insert(header::RETRY_AFTER, "soon".parse().unwrap());
        assert_eq!(retry_after(&headers), None);
    }

    #[test]
    fn a_post_is_repeated_only_when_it_was_not_carried_out() {
        assert!(retryable(&Method::POST, StatusCode::TOO_MANY_REQUESTS));
        assert!(!retryable(&Method::POST, StatusCode::SERVICE_UNAVAILABLE));
        assert!(retryable(&Method::PUT, StatusCode::SERVICE_UNAVAILABLE));
        assert!(!retryable(&Method::PUT, StatusCode::CONFLICT));
    }
}
