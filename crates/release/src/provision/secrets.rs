//! Values that are made here, once, and then live in the vault.

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use lazuli_azure::Secret;

/// The system had no randomness to give.
#[derive(Debug, thiserror::Error)]
#[error("the system's random generator failed")]
pub struct NoRandomness;

fn random(bytes: usize) -> Result<Vec<u8>, NoRandomness> {
    let mut buffer = vec![0; bytes];
    SystemRandom::new().fill(&mut buffer).map_err(|_| NoRandomness)?;
    Ok(buffer)
}

/// Random bytes as URL-safe text.
pub(crate) fn generated(bytes: usize) -> Result<Secret, NoRandomness> {
    Ok(Secret::new(URL_SAFE_NO_PAD.encode(random(bytes)?)))
}

/// A password for the database server: 48 characters that need no escaping in a URL, and of three
/// kinds at least, as Azure demands
/// (<https://learn.microsoft.com/azure/postgresql/flexible-server/how-to-create-users>).
pub(crate) fn password() -> Result<Secret, NoRandomness> {
    loop {
        let text = URL_SAFE_NO_PAD.encode(random(36)?);
        let has = |kind: fn(&char) -> bool| text.chars().any(|c| kind(&c));
        if has(char::is_ascii_lowercase)
            && has(char::is_ascii_uppercase)
            && has(char::is_ascii_digit)
            && text.starts_with(|c: char| c.is_ascii_alphabetic())
        {
            return Ok(Secret::new(text));
        }
    }
}

/// The value of a secret that hangs on the password.
pub(super) fn fill(template: &str, password: &Secret) -> Secret {
    Secret::new(template.replace("{password}", password.expose()))
}

/// Percent-encodes what may not stand in the user part of a URL.
pub(crate) fn in_url(text: &str) -> String {
    text.bytes()
        .map(|b| {
            if b.is_ascii_alphanumeric() || b"-._~".contains(&b) {
                char::from(b).to_string()
            } else {
                format!("%{b:02X}")
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_what_azure_takes_and_a_url_can_hold() {
        for _ in 0..200 {
            let password = password().expect("randomness");
            let text = password.expose();
            assert_eq!(text.len(), 48);
            assert_eq!(in_url(text), text);
            assert!(text.bytes().any(|b| b.is_ascii_digit()));
        }
    }

    #[test]
    fn a_key_is_escaped() {
        assert_eq!(in_url("a+b/c="), "a%2Bb%2Fc%3D");
    }
}
