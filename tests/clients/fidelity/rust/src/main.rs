//! Azure's own SDK for Rust, unmodified, against the region that the environment names.

use std::{env, error::Error};

use azure_core::{credentials::Secret, error::ErrorKind};
use azure_identity::ClientSecretCredential;
use azure_security_keyvault_secrets::{ResourceExt as _, SecretClient, models::SetSecretParameters};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let credential = ClientSecretCredential::new(
        &env::var("AZURE_TENANT_ID")?,
        env::var("AZURE_CLIENT_ID")?,
        Secret::new(env::var("AZURE_CLIENT_SECRET")?),
        None,
    )?;
    let vault = format!("https://{}.vault.azure.net/", env::var("VAULT")?);
    let client = SecretClient::new(&vault, credential, None)?;
    let parameters = SetSecretParameters { value: Some("wert".into()), ..Default::default() };
    let written = client.set_secret("from-rust", parameters.try_into()?, None).await?.into_model()?;
    let read = client.get_secret("from-rust", None).await?.into_model()?;
    assert_eq!(read.value.as_deref(), Some("wert"));
    assert_eq!(read.resource_id()?.version, written.resource_id()?.version);
    let absent = client.get_secret("absent", None).await.expect_err("there is none");
    let ErrorKind::HttpResponse { status, error_code, .. } = absent.kind() else {
        return Err(absent.into());
    };
    assert_eq!((u16::from(*status), error_code.as_deref()), (404, Some("SecretNotFound")), "{absent}");
    println!("fine");
    Ok(())
}
