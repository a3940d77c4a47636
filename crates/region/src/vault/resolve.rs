//! How App Service reads from Key Vault. References: as the slot's identity, past the network rules (the
//! platform reads through the site's own network), with a status for each way it can go wrong.
//! Certificates for host names: as the resource provider's own service principal, which is a trusted
//! service for the network's rules.
//!
//! <https://learn.microsoft.com/azure/app-service/app-service-key-vault-references>,
//! <https://learn.microsoft.com/azure/app-service/configure-ssl-certificate#import-a-certificate-from-your-vault>

use futures_util::future::BoxFuture;

use lazuli_azure::ResourceId;

use super::audit::Event;
use super::{Kind, VaultError, Vaults};
use crate::appservice::references::{Answer, Reference, Secret, Secrets, Status};
use crate::certificate::Bundle;
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

/// Why App Service has no certificate from a vault: `keyVaultSecretStatus`
/// (<https://learn.microsoft.com/rest/api/appservice/certificates/get#keyvaultsecretstatus>).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoCertificate {
    /// No such vault.
    NoVault,
    /// The service principal may not read secrets there, or the network lets no trusted service in.
    Denied,
    /// No such secret, or it cannot be read now.
    NoSecret,
    /// The secret is no certificate with its key.
    NotOne,
}

impl NoCertificate {
    pub(crate) fn status(self) -> &'static str {
        match self {
            Self::NoVault => "KeyVaultDoesNotExist",
            Self::Denied => "OperationNotPermittedOnKeyVault",
            Self::NoSecret => "KeyVaultSecretDoesNotExist",
            Self::NotOne => "UnknownError",
        }
    }
}

impl Vaults {
    /// The certificate with its key that a secret of a vault holds, read as `principal`.
    pub(crate) fn certificate_for(
        &self,
        vault: &ResourceId,
        secret: &str,
        principal: &str,
    ) -> Result<Bundle, NoCertificate> {
        let vault = self.store.get(vault).ok_or(NoCertificate::NoVault)?;
        let name = vault.id.name();
        let trusted = vault.text("/properties/networkAcls/bypass") != Some("None")
            || super::network::admit(&vault, std::net::Ipv4Addr::UNSPECIFIED.into()).is_ok();
        let permission =
            Permission::DataAction("Microsoft.KeyVault/vaults/secrets/getSecret/action");
        let scope = vault.id.child("secrets", secret).unwrap_or_else(|_| vault.id.clone());
        let read = if trusted && allowed(&self.store, principal, permission, &scope) {
            Vaults::read(self, name, secret, None).map_err(|error| match error {
                VaultError::NotFound(..) => (NoCertificate::NoSecret, 404),
                _ => (NoCertificate::NoSecret, 403),
            })
        } else {
            Err((NoCertificate::Denied, 403))
        };
        self.audit.record(Event {
            vault: vault.id.as_str(),
            operation: "SecretGet",
            object: &format!("https://{name}.vault.azure.net/secrets/{secret}"),
            object_id: principal,
            app_id: crate::identity::APP_SERVICE,
            caller: None,
            status: read.as_ref().map_or_else(|(_, status)| *status, |_| 200),
        });
        let read = read.map_err(|(why, _)| why)?;
        super::certificates::of_secret(&read.value).map_err(|_| NoCertificate::NotOne)
    }
}
