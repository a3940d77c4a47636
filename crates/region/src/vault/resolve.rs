//! How App Service reads Key Vault references: as the slot's identity, past the network rules (the
//! platform reads through the site's own network), with a status for each way it can go wrong.
//!
//! <https://learn.microsoft.com/azure/app-service/app-service-key-vault-references>

use futures_util::future::BoxFuture;

use super::audit::Event;
use super::{Kind, VaultError, Vaults};
use crate::appservice::references::{Answer, Reference, Secret, Secrets, Status};
use crate::control::authorization::{Permission, allowed};

impl Secrets for Vaults {
    fn read<'a>(
        &'a self,
        reference: &'a Reference,
        principal: Option<&'a str>,
    ) -> BoxFuture<'a, Answer> {
        Box::pin(async move { self.resolve(reference, principal) })
    }
}

impl Vaults {
    fn resolve(&self, reference: &Reference, principal: Option<&str>) -> Answer {
        let Some(principal) = principal else {
            return Err((
                Status::MsiNotEnabled,
                "The slot has no managed identity; each slot needs its own.".to_owned(),
            ));
        };
        let Some(vault) = self.find(&reference.vault) else {
            return Err((
                Status::VaultNotFound,
                format!("There is no Key Vault named {}.", reference.vault),
            ));
        };
        let (outcome, status) = if allowed(
            &self.store,
            principal,
            Permission::DataAction("Microsoft.KeyVault/vaults/secrets/getSecret/action"),
            &vault.id,
        ) {
            match Vaults::read(
                self,
                &reference.vault,
                &reference.secret,
                reference.version.as_deref(),
            ) {
                Ok(read) => {
                    let secret = Secret::new(read.value.as_str());
                    (Ok(secret.of_version(read.version.version)), 200)
                }
                Err(VaultError::NotFound(_, what)) => {
                    // The secret itself, or only the version asked for.
                    let status = match &reference.version {
                        Some(_)
                            if self
                                .current(Kind::Secret, &reference.vault, &reference.secret)
                                .is_ok() =>
                        {
                            Status::SecretVersionNotFound
                        }
                        _ => Status::SecretNotFound,
                    };
                    (Err((status, format!("{what} is not in {}.", reference.vault))), 404)
                }
                Err(error) => (Err((Status::OtherReasons, error.to_string())), 403),
            }
        } else {
            let message = format!(
                "The identity {principal} may not read secrets of {}; it needs the role Key Vault \
                 Secrets User there.",
                reference.vault
            );
            (Err((Status::AccessToKeyVaultDenied, message)), 403)
        };
        self.audit.record(Event {
            vault: vault.id.as_str(),
            operation: "SecretGet",
            object: &format!(
                "https://{}.vault.azure.net/secrets/{}",
                reference.vault, reference.secret
            ),
            object_id: principal,
            app_id: "",
            caller: None,
            status,
        });
        outcome
    }
}
