//! SCRAM-SHA-256 verifiers, computed by whoever makes a password, so that it never reaches a server's
//! log, command line or statement: PostgreSQL and PgBouncer are only ever told verifiers.
//!
//! <https://www.rfc-editor.org/rfc/rfc5803>, as PostgreSQL stores them.

use std::num::NonZeroU32;

use aws_lc_rs::{digest, hmac, pbkdf2, rand};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

const ITERATIONS: NonZeroU32 = NonZeroU32::new(4096).unwrap();

/// A new verifier of `password` with a salt of its own.
///
/// # Errors
/// When the system has no random numbers.
pub fn verifier(password: &str) -> Result<String, String> {
    let mut salt = [0_u8; 16];
    rand::fill(&mut salt).map_err(|_| "no random numbers".to_owned())?;
    Ok(with_salt(password, &salt, ITERATIONS))
}

/// Whether `verifier` was made from `password`.
pub fn matches(verifier: &str, password: &str) -> bool {
    let parse = || -> Option<(Vec<u8>, NonZeroU32)> {
        let rest = verifier.strip_prefix("SCRAM-SHA-256$")?;
        let (iterations, rest) = rest.split_once(':')?;
        let (salt, _) = rest.split_once('$')?;
        Some((BASE64_STANDARD.decode(salt).ok()?, iterations.parse().ok()?))
    };
    parse().is_some_and(|(salt, iterations)| with_salt(password, &salt, iterations) == verifier)
}

fn with_salt(password: &str, salt: &[u8], iterations: NonZeroU32) -> String {
    let mut salted = [0_u8; digest::SHA256_OUTPUT_LEN];
    // SASLprep leaves ASCII as it is, and the resource type accepts nothing else.
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, salt, password.as_bytes(), &mut salted);
    let key = hmac::Key::new(hmac::HMAC_SHA256, &salted);
    let client = hmac::sign(&key, b"Client Key");
    let stored = digest::digest(&digest::SHA256, client.as_ref());
    let server = hmac::sign(&key, b"Server Key");
    format!(
        "SCRAM-SHA-256${iterations}:{}${}:{}",
        BASE64_STANDARD.encode(salt),
        BASE64_STANDARD.encode(stored),
        BASE64_STANDARD.encode(server)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_example_of_rfc_7677() {
        // Section 3: user "user", password "pencil". The stored and server keys follow from it.
        let salt = BASE64_STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").expect("base64");
        assert_eq!(
            with_salt("pencil", &salt, ITERATIONS),
            "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$\
             WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
        );
    }

    #[test]
    fn recognises_its_own_password_only() {
        let verifier = verifier("correct horse").expect("verifier");
        assert!(matches(&verifier, "correct horse"));
        assert!(!matches(&verifier, "Correct horse"));
        assert!(!matches("md5aabbcc", "correct horse"));
    }
}
