//! People: who signs in with a name and a password instead of an application's secret
//! (<https://learn.microsoft.com/graph/api/resources/user>).
//!
//! A region is made with one, the developer whose machine it is, who like everybody but the deployer
//! starts with no rights at all. Others are made through Microsoft Graph.

use std::num::NonZeroU32;

use aws_lc_rs::pbkdf2;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{Identity, IdentityError, NAMESPACE, PrincipalRecord, principal_key, to_json, token};
use crate::seal::Sealer;
use crate::store::{Batch, Store};

/// The tenant's domain, which every user's name ends in.
pub const DOMAIN: &str = "lazuli.onmicrosoft.com";
const DEVELOPER: &str = "developer";
/// The most users of a tenant.
const MAX_USERS: usize = 1_000;
/// Of PBKDF2-HMAC-SHA256, as OWASP advises
/// (<https://cheatsheetseries.owasp.org/cheatsheets/Password_Storage_Cheat_Sheet.html>).
const ITERATIONS: NonZeroU32 = NonZeroU32::new(600_000).unwrap();
/// The same for 256 random bits, which nobody guesses however quickly.
const RANDOM: NonZeroU32 = NonZeroU32::MIN;

/// A user.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct User {
    /// The object ID.
    pub id: String,
    /// `userPrincipalName`.
    pub upn: String,
    /// The name for people.
    pub display_name: String,
    /// Whether it may sign in.
    pub enabled: bool,
    /// When it was made.
    pub created: Timestamp,
    password: Password,
}

/// What is kept of a password.
#[derive(Clone, Serialize, Deserialize)]
struct Password {
    /// Base64.
    salt: String,
    /// PBKDF2, base64. Changes with the password: refresh tokens name its beginning.
    digest: String,
    iterations: NonZeroU32,
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Password(…)")
    }
}

impl Password {
    fn of(text: &str, iterations: NonZeroU32) -> Result<Self, IdentityError> {
        let mut salt = [0; 16];
        aws_lc_rs::rand::fill(&mut salt)
            .map_err(|_| IdentityError::Key("no randomness".to_owned()))?;
        let mut digest = [0; 32];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, &salt, text.as_bytes(), &mut digest);
        Ok(Self { salt: token::base64(&salt), digest: token::base64(&digest), iterations })
    }

    /// Of a password that a person chose: its hash takes its time, so not on a thread that serves others.
    async fn chosen(text: &str) -> Result<Self, IdentityError> {
        let text = Zeroizing::new(text.to_owned());
        tokio::task::spawn_blocking(move || Self::of(&text, ITERATIONS))
            .await
            .map_err(|_| IdentityError::Key("a password was not hashed".to_owned()))?
    }

    /// In constant time.
    fn is(&self, text: &str) -> bool {
        let (Some(salt), Some(digest)) =
            (token::unbase64(&self.salt), token::unbase64(&self.digest))
        else {
            return false;
        };
        let algorithm = pbkdf2::PBKDF2_HMAC_SHA256;
        pbkdf2::verify(algorithm, self.iterations, &salt, text.as_bytes(), &digest).is_ok()
    }
}

/// The user that the region is made with.
#[derive(Clone)]
pub struct Developer {
    /// Its name to sign in with.
    pub upn: String,
    /// Its password, which the person who owns the region's directory can read there.
    pub password: Zeroizing<String>,
}

impl std::fmt::Debug for Developer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Developer").field("upn", &self.upn).finish_non_exhaustive()
    }
}

#[derive(Serialize, Deserialize)]
struct DeveloperRecord {
    upn: String,
    /// Sealed; base64.
    secret: String,
}

impl Developer {
    /// The region's developer, made when it has none.
    pub(super) async fn open(store: &Store, sealer: &Sealer) -> Result<Self, IdentityError> {
        let damaged = || IdentityError::Damaged(DEVELOPER.to_owned());
        if let Some(bytes) = store.get_state(NAMESPACE, DEVELOPER) {
            let record: DeveloperRecord = serde_json::from_slice(&bytes).map_err(|_| damaged())?;
            let sealed = token::unbase64(&record.secret).ok_or_else(damaged)?;
            let plain = sealer.open_sealed(DEVELOPER, &sealed)?;
            let password = std::str::from_utf8(&plain).map_err(|_| damaged())?.to_owned();
            return Ok(Self { upn: record.upn, password: Zeroizing::new(password) });
        }
        let password = Zeroizing::new(token::random_secret()?);
        let upn = format!("{DEVELOPER}@{DOMAIN}");
        let record = DeveloperRecord {
            upn: upn.clone(),
            secret: token::base64(&sealer.seal(DEVELOPER, password.as_bytes())),
        };
        let user = made(&upn, "Developer", true, Password::of(&password, RANDOM)?);
        let mut batch = Batch::new();
        batch.put_state(NAMESPACE, DEVELOPER, to_json(&record));
        put(&mut batch, &user);
        store.commit(batch).await?;
        Ok(Self { upn, password })
    }
}

fn made(upn: &str, display_name: &str, enabled: bool, password: Password) -> User {
    User {
        id: Uuid::new_v4().to_string(),
        upn: upn.to_owned(),
        display_name: display_name.to_owned(),
        enabled,
        created: Timestamp::now(),
        password,
    }
}

fn put(batch: &mut Batch, user: &User) {
    let record = PrincipalRecord {
        client_id: String::new(),
        display_name: user.display_name.clone(),
        resource: None,
        user: true,
    };
    batch.put_state(NAMESPACE, &user_key(&user.id), to_json(user)).put_state(
        NAMESPACE,
        &principal_key(&user.id),
        to_json(&record),
    );
}

fn user_key(id: &str) -> String {
    format!("user/{}", id.to_ascii_lowercase())
}

/// Why a user cannot be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum UserError {
    #[error("Another object with the same value for property userPrincipalName already exists.")]
    Taken,
    #[error("The directory object quota limit has been exceeded.")]
    TooMany,
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

impl User {
    /// What changes when the password does.
    pub(super) fn stamp(&self) -> &str {
        self.password.digest.get(..12).unwrap_or_default()
    }
}

impl Identity {
    /// Every user, ordered by object ID.
    pub(super) fn users(&self) -> Vec<User> {
        let all = self.store.list_state(NAMESPACE, "user/");
        all.iter().filter_map(|(_, bytes)| serde_json::from_slice(bytes).ok()).collect()
    }

    /// The user of that object ID or name.
    pub(super) fn user(&self, name: &str) -> Option<User> {
        self.users()
            .into_iter()
            .find(|one| one.id.eq_ignore_ascii_case(name) || one.upn.eq_ignore_ascii_case(name))
    }

    /// The user of that name, if that is its password. Takes as long for a name that nobody has.
    pub(super) fn by_password(&self, upn: &str, password: &str) -> Option<User> {
        let Some(user) = self.user(upn).filter(|one| one.upn.eq_ignore_ascii_case(upn)) else {
            let _ = Password::of(password, ITERATIONS);
            return None;
        };
        user.password.is(password).then_some(user)
    }

    pub(super) async fn create_user(
        &self,
        upn: &str,
        display_name: &str,
        enabled: bool,
        password: &str,
    ) -> Result<User, UserError> {
        let users = self.users();
        if users.iter().any(|one| one.upn.eq_ignore_ascii_case(upn)) {
            return Err(UserError::Taken);
        }
        if users.len() >= MAX_USERS {
            return Err(UserError::TooMany);
        }
        let user = made(upn, display_name, enabled, Password::chosen(password).await?);
        self.keep_user(&user).await?;
        Ok(user)
    }

    /// A user with another password. Its refresh tokens stop working.
    pub(super) async fn with_password(
        mut user: User,
        password: &str,
    ) -> Result<User, IdentityError> {
        user.password = Password::chosen(password).await?;
        Ok(user)
    }

    pub(super) async fn keep_user(&self, user: &User) -> Result<(), IdentityError> {
        let mut batch = Batch::new();
        put(&mut batch, user);
        self.store.commit(batch).await?;
        Ok(())
    }

    /// Forgets a user: its tokens stop working at once.
    pub(super) async fn forget_user(&self, user: &User) -> Result<(), IdentityError> {
        let mut batch = Batch::new();
        batch
            .delete_state(NAMESPACE, &user_key(&user.id))
            .delete_state(NAMESPACE, &principal_key(&user.id));
        self.store.commit(batch).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::identity;
    use super::*;

    #[tokio::test]
    async fn the_developer_signs_in_with_the_password_and_nothing_else() {
        let identity = identity().await;
        let developer = identity.developer().clone();
        let user = identity.by_password(&developer.upn, &developer.password).expect("right");
        assert_eq!(identity.principal_type(&user.id), Some("User"));
        assert!(identity.by_password(&developer.upn, "wrong").is_none());
        assert!(identity.by_password(&user.id, &developer.password).is_none(), "an ID is no name");
        assert!(identity.principals().iter().all(|one| one.id != user.id), "no service principal");
        let debug = format!("{user:?} {developer:?}");
        assert!(!debug.contains(&*developer.password) && !debug.contains(&user.password.digest));
    }

    #[tokio::test]
    async fn a_name_is_given_once_and_a_new_password_is_another_stamp() {
        let identity = identity().await;
        let upn = "ada@lazuli.onmicrosoft.com";
        let ada = identity.create_user(upn, "Ada", true, "first").await.expect("made");
        assert!(matches!(
            identity.create_user(&upn.to_uppercase(), "Ada", true, "x").await,
            Err(UserError::Taken)
        ));
        let changed = Identity::with_password(ada.clone(), "second").await.expect("changed");
        assert_ne!(changed.stamp(), ada.stamp());
        identity.keep_user(&changed).await.expect("kept");
        assert!(identity.by_password(upn, "first").is_none());
        identity.forget_user(&changed).await.expect("forgotten");
        assert!(!identity.exists(&ada.id));
    }
}
