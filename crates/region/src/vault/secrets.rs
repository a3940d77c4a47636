//! Secrets' own: a value is set and read
//! (<https://learn.microsoft.com/rest/api/keyvault/secrets/operation-groups>).

use jiff::Timestamp;

use super::{Kind, MAX_VALUE, NewSecret, Read, VaultError, Vaults, Version, check_name, shown};
use crate::store::Batch;

impl Vaults {
    /// Writes a new version of a secret, which is the current one from then on.
    pub async fn set(
        &self,
        vault: &str,
        name: &str,
        value: &str,
        new: NewSecret,
    ) -> Result<Version, VaultError> {
        check_name(name)?;
        if value.len() > MAX_VALUE {
            return Err(VaultError::BadParameter(format!(
                "Secret value must not exceed {MAX_VALUE} bytes; it has {}.",
                value.len()
            )));
        }
        let _turn = self.writing.lock().await;
        let version = super::life::new_version();
        let mut batch = Batch::new();
        let object = self.next(Kind::Secret, vault, name, &version, "set")?;
        let mut record = super::life::new_record(new);
        record.value = self.seal(Kind::Secret, vault, name, &version, value.as_bytes());
        let shown = shown(&object, &version, record.clone());
        Self::put(&mut batch, Kind::Secret, vault, &object, &version, &record);
        self.store.commit(batch).await?;
        Ok(shown)
    }

    /// The value of a version, or of the current one.
    pub fn read(&self, vault: &str, name: &str, version: Option<&str>) -> Result<Read, VaultError> {
        let secret = self.alive(Kind::Secret, vault, name)?;
        let version = version.unwrap_or(&secret.current);
        let record = self.version(Kind::Secret, vault, name, version)?;
        if record.attributes.enabled == Some(false) {
            return Err(VaultError::Disabled(Kind::Secret, "get"));
        }
        if record.attributes.nbf.is_some_and(|nbf| nbf > Timestamp::now().as_second()) {
            return Err(VaultError::NotYetValid(Kind::Secret));
        }
        let plain = self.unseal(Kind::Secret, vault, name, version, &record)?;
        let text = std::str::from_utf8(&plain)
            .map_err(|_| VaultError::Damaged(format!("{vault}/{name}")))?;
        let value = zeroize::Zeroizing::new(text.to_owned());
        Ok(Read { version: shown(&secret, version, record), value })
    }
}
