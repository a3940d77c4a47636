//! `Microsoft.Web/certificates` (<https://learn.microsoft.com/rest/api/appservice/certificates>): what
//! sites show under host names of their own. A certificate is brought as PFX, imported from Key Vault (and
//! kept in step with it), or made for a name that a site has: what Azure calls a managed one. The private
//! part is sealed private state and never shown.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::Method as Verb;
use jiff::Timestamp;
use lazuli_azure::ResourceId;
use rcgen::{CertificateParams, DnType};
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::{
    Call, Registry, Reply, ResourceType, Style, Write, network_dns_zones as dns,
    web::{VERSIONS, app, record_error},
    web_host_name_bindings,
};
use crate::{
    appservice::{
        hosts::{self, CERTIFICATE},
        records::{PLAN_KIND, slot_key},
    },
    certificate::{Bundle, BundleError, Curve, Facts, PrivateKey},
    control::{Context, error::ArmError},
    identity::token::{base64, unbase64},
    store::{Batch, Expect, Resource},
    vault::resolve::NoCertificate,
};

/// Certificates for host names of one's own.
pub(super) struct Certificates;

const DAY: i64 = 86_400;
/// How long a managed certificate is valid, and how long before its end it is made anew
/// (<https://learn.microsoft.com/azure/app-service/configure-ssl-certificate#create-a-free-managed-certificate>).
const MANAGED_LIFE: i64 = 180 * DAY;
const MANAGED_RENEWAL: i64 = 45 * DAY;

/// Adds this file's routes.
pub(super) fn register(types: &mut Registry) {
    // Certificates that are bought from Azure: there are none, and `az` asks before it imports one.
    types.route(
        Verb::GET,
        "/subscriptions/{}/providers/microsoft.certificateregistration/certificateorders",
        Some("Microsoft.CertificateRegistration/certificateOrders/read"),
        no_orders,
    );
}

fn no_orders<'a>(_: &'a Arc<Context>, _: &'a Call<'a>) -> BoxFuture<'a, Result<Reply, ArmError>> {
    Box::pin(async { Ok(Reply::ok(json!({ "value": [], "nextLink": null }))) })
}

impl ResourceType for Certificates {
    fn kind(&self) -> &'static str {
        CERTIFICATE
    }

    fn api_versions(&self) -> &'static [&'static str] {
        VERSIONS
    }

    fn not_acted_upon(&self) -> &'static [&'static str] {
        &[
            "serverFarmId",
            "domainValidationMethod",
            "canonicalName: the certificate is made and bound, but signed by itself, as the region's authority may issue for Azure's names alone; who is to trust it takes it from the handshake",
        ]
    }

    fn provisioning_state(&self) -> bool {
        false
    }

    fn check_name(&self, name: &str) -> Result<(), ArmError> {
        // `az webapp config ssl upload` makes `{thumbprint}_{environment}_{location}_{group}`.
        crate::control::names::check(
            name,
            1..=260,
            |c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '(' | ')' | ' ' | '*'),
            |_| true,
        )
        .map_err(|()| {
            crate::control::names::invalid(
                CERTIFICATE,
                name,
                "letters, digits, '-', '_', '.', '*', spaces and parentheses",
            )
        })
    }

    fn write_style(&self, _: &Write<'_>) -> Style {
        Style::SyncOk
    }

    fn desired(
        &self,
        context: &Context,
        write: &Write<'_>,
        batch: &mut Batch,
    ) -> Result<Value, ArmError> {
        let asked = match &write.body["properties"] {
            Value::Null => Map::new(),
            Value::Object(asked) => asked.clone(),
            _ => return Err(ArmError::invalid_content("'properties' must be an object")),
        };
        let asked = Asked(&asked);
        let location = write.body["location"].as_str().unwrap_or_default();
        let source = asked.source(write)?;
        let bundle = match &source {
            Source::Pfx => Some(read_pfx(&asked)?),
            Source::Vault { vault, secret } => {
                let read = from_vault(context, vault, secret);
                Some(read.map_err(|why| refused_by_vault(why, vault, secret))?)
            }
            Source::Managed { host } => Some(managed(context, write.id, host, location)?),
            Source::Unchanged => None,
        };
        let before = write.existing.map(|one| one.properties().clone()).unwrap_or_default();
        let mut properties = match &bundle {
            Some(bundle) => shown(bundle)?,
            None => before.clone(),
        };
        // An imported one is replaced under its bindings; one that was brought is not.
        let follows = !matches!(source, Source::Pfx);
        if bundle.is_some() && write.existing.is_some() {
            replace(context, &before, &properties, follows, batch)?;
        }
        match &source {
            Source::Vault { vault, secret } => {
                properties["keyVaultId"] = json!(vault);
                properties["keyVaultSecretName"] = json!(secret);
                properties["keyVaultSecretStatus"] = json!("Initialized");
            }
            Source::Managed { host } => properties["canonicalName"] = json!(host),
            Source::Pfx | Source::Unchanged => {}
        }
        for name in ["serverFarmId", "domainValidationMethod"] {
            let given = asked.0.get(name).filter(|value| !value.is_null());
            properties[name] = given.cloned().unwrap_or_else(|| before[name].clone());
        }
        if let Some(plan) = asked.text("serverFarmId")
            && !ResourceId::parse(plan)
                .is_ok_and(|id| id.is(PLAN_KIND) && context.store.get(&id).is_some())
        {
            let name = plan.rsplit('/').next().unwrap_or_default();
            return Err(ArmError::new(
                http::StatusCode::NOT_FOUND,
                "NotFound",
                format!("Cannot find serverfarm with name {name}."),
            ));
        }
        if let Some(bundle) = &bundle {
            let records = &app(context)?.records;
            hosts::put_private(records, batch, write.id, bundle)
                .map_err(|error| record_error(&error))?;
        }
        let mut body = json!({ "location": location, "properties": properties });
        if let Some(tags) = write.body.get("tags").filter(|tags| tags.is_object()) {
            body["tags"] = tags.clone();
        }
        Ok(body)
    }

    fn provision<'a>(
        &'a self,
        context: &'a Arc<Context>,
        _: &'a ResourceId,
    ) -> BoxFuture<'a, Result<(), ArmError>> {
        Box::pin(async move {
            app(context)?.certificates_changed();
            Ok(())
        })
    }

    /// Refused while it is served, in Azure's words
    /// (<https://github.com/MarcStan/lets-encrypt-azure/issues/7>).
    fn deletable(
        &self,
        context: &Context,
        resource: &Resource,
        batch: &mut Batch,
    ) -> Result<(), ArmError> {
        let thumbprint = resource.text("/properties/thumbprint").unwrap_or_default();
        let twins = context.store.list(CERTIFICATE, &ResourceId::root());
        let alone = !twins.iter().any(|other| {
            other.id != resource.id && other.text("/properties/thumbprint") == Some(thumbprint)
        });
        if alone && let Some(binding) = serving(context, thumbprint).first() {
            return Err(in_use(thumbprint, binding.id.name()));
        }
        hosts::delete_private(batch, &resource.id);
        Ok(())
    }

    fn view(&self, _: &Context, resource: &Resource) -> Value {
        let mut body = resource.body.clone();
        let now = Timestamp::now();
        let ends = body["properties"]["expirationDate"].as_str().and_then(|at| at.parse().ok());
        body["properties"]["valid"] = json!(ends.is_some_and(|ends: Timestamp| ends > now));
        // Azure shows no `cerBlob` either: `az` would fail on it. The handshake shows the certificate.
        let hidden =
            ["cerBlob", "pfxBlob", "password", "siteName", "selfLink", "hostingEnvironmentProfile"];
        for name in hidden {
            body["properties"][name] = Value::Null;
        }
        body
    }
}

/// `properties` of a request.
struct Asked<'a>(&'a Map<String, Value>);

/// Where a certificate comes from.
enum Source {
    Pfx,
    Vault {
        vault: ResourceId,
        secret: String,
    },
    Managed {
        host: String,
    },
    /// What there is stays: tags are changed.
    Unchanged,
}

impl Asked<'_> {
    fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
    }

    fn source(&self, write: &Write<'_>) -> Result<Source, ArmError> {
        if self.text("pfxBlob").is_some() {
            return Ok(Source::Pfx);
        }
        if let Some(vault) = self.text("keyVaultId") {
            let vault = ResourceId::parse(vault)
                .ok()
                .filter(|id| id.is(crate::vault::KIND))
                .ok_or_else(|| invalid("KeyVaultId"))?;
            let secret =
                self.text("keyVaultSecretName").ok_or_else(|| invalid("KeyVaultSecretName"))?;
            return Ok(Source::Vault { vault, secret: secret.to_owned() });
        }
        if let Some(host) = self.text("canonicalName") {
            return Ok(Source::Managed { host: host.to_ascii_lowercase() });
        }
        if write.existing.is_some() {
            return Ok(Source::Unchanged);
        }
        Err(invalid("PfxBlob"))
    }
}

fn invalid(parameter: &str) -> ArmError {
    ArmError::bad_request("BadRequest", format!("The parameter {parameter} has an invalid value."))
}

fn read_pfx(asked: &Asked<'_>) -> Result<Bundle, ArmError> {
    let blob = Zeroizing::new(asked.text("pfxBlob").unwrap_or_default().to_owned());
    let password = Zeroizing::new(asked.text("password").unwrap_or_default().to_owned());
    let bytes = Zeroizing::new(unbase64(&blob).ok_or_else(|| invalid("PfxBlob"))?);
    let bundle = aside(|| Bundle::from_pfx(&bytes, &password)).map_err(|error| match error {
        // As .NET, and with it App Service, says it.
        BundleError::Password => {
            ArmError::bad_request("BadRequest", "The specified network password is not correct.")
        }
        BundleError::NoKey | BundleError::NoCertificate => {
            ArmError::bad_request("BadRequest", "The certificate does not contain a private key.")
        }
        BundleError::NotPfx => invalid("PfxBlob"),
        other => ArmError::bad_request(
            "BadRequest",
            format!("The parameter PfxBlob has an invalid value: {other}."),
        ),
    })?;
    let facts = bundle.facts().map_err(|_| invalid("PfxBlob"))?;
    if facts.not_after <= Timestamp::now().as_second() {
        return Err(ArmError::bad_request(
            "BadRequest",
            format!("The certificate with thumbprint {} has expired.", facts.thumbprint_hex()),
        ));
    }
    Ok(bundle)
}

/// Runs what takes the processor for a while where it holds up nobody.
fn aside<T>(work: impl FnOnce() -> T) -> T {
    use tokio::runtime::{Handle, RuntimeFlavor};
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

/// As App Service's own service principal: whoever imports gives that one the right to read, and needs none
/// to the vault's data themselves.
fn from_vault(
    context: &Context,
    vault: &ResourceId,
    secret: &str,
) -> Result<Bundle, NoCertificate> {
    let principal = context.identity.app_service().ok_or(NoCertificate::Denied)?;
    aside(|| context.vaults.certificate_for(vault, secret, &principal))
}

fn refused_by_vault(why: NoCertificate, vault: &ResourceId, secret: &str) -> ArmError {
    ArmError::bad_request(
        "BadRequest",
        match why {
            NoCertificate::NoVault => format!("The Key Vault '{vault}' was not found."),
            NoCertificate::Denied => format!(
                "The service does not have access to '{}' Key Vault. Please make sure that you have granted necessary permissions to the service to perform the request operation.",
                vault.as_str().to_ascii_lowercase()
            ),
            NoCertificate::NoSecret => format!(
                "The secret '{secret}' was not found in the Key Vault '{vault}', or it cannot be read."
            ),
            NoCertificate::NotOne => {
                "The parameter KeyVault Certificate has an invalid value.".to_owned()
            }
        },
    )
}

/// A certificate for a host name that a site of the subscription has and that leads there: what proves to
/// Azure's authority that it is the site's. Signed by itself here.
fn managed(
    context: &Context,
    id: &ResourceId,
    host: &str,
    location: &str,
) -> Result<Bundle, ArmError> {
    let subscription = id.subscription().unwrap_or_default();
    let binding = hosts::bindings(&context.store).into_iter().find(|one| {
        one.id.name().eq_ignore_ascii_case(host)
            && one.id.subscription().is_some_and(|of| of.eq_ignore_ascii_case(subscription))
    });
    let key = binding.as_ref().and_then(|one| slot_key(&one.id));
    let Some(key) = key.filter(|key| {
        app(context)
            .ok()
            .and_then(|app| app.records.slot(key))
            .is_some_and(|slot| slot.location.eq_ignore_ascii_case(location))
    }) else {
        return Err(ArmError::bad_request(
            "BadRequest",
            format!(
                "Properties.CanonicalName is invalid. Certificate creation requires hostname {host} added to an App Service in the same region."
            ),
        ));
    };
    if web_host_name_bindings::record_type(context, &key, host).is_none() {
        let leads = dns::alias(context, host).unwrap_or_else(|| "nowhere".to_owned());
        return Err(ArmError::bad_request(
            "BadRequest",
            format!(
                "Properties.CanonicalName is invalid. The DNS records of {host} must lead to {} (CNAME, or A to its address); they lead to {leads}.",
                key.host_name()
            ),
        ));
    }
    self_signed(host).map_err(|error| ArmError::internal(&error))
}

fn self_signed(host: &str) -> Result<Bundle, String> {
    let key = PrivateKey::generate_ec(Curve::P256).map_err(|error| error.to_string())?;
    let mut params =
        CertificateParams::new(vec![host.to_owned()]).map_err(|error| error.to_string())?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    if host.len() <= 64 {
        params.distinguished_name.push(DnType::CommonName, host);
    }
    params.distinguished_name.push(DnType::OrganizationName, "Lazuli region, signed by itself");
    let now = Timestamp::now().as_second();
    let time =
        |at| time::OffsetDateTime::from_unix_timestamp(at).map_err(|error| error.to_string());
    params.not_before = time(now - 600)?;
    params.not_after = time(now + MANAGED_LIFE)?;
    params.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let signer = key.signer().map_err(|error| error.to_string())?;
    let signed = params.self_signed(&signer).map_err(|error| error.to_string())?;
    Ok(Bundle { chain: vec![signed.der().to_vec()], key })
}

/// What is shown of a certificate.
fn shown(bundle: &Bundle) -> Result<Value, ArmError> {
    let facts: Facts = bundle.facts().map_err(|_| invalid("PfxBlob"))?;
    let date = |seconds: i64| Timestamp::from_second(seconds).map(|at| at.to_string());
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &facts.public);
    Ok(json!({
        "friendlyName": "",
        "subjectName": facts.subject_name,
        "hostNames": facts.host_names,
        "issuer": facts.issuer_name,
        "issueDate": date(facts.not_before).unwrap_or_default(),
        "expirationDate": date(facts.not_after).unwrap_or_default(),
        "thumbprint": facts.thumbprint_hex(),
        "cerBlob": base64(bundle.leaf()),
        "publicKeyHash": base64(digest.as_ref()),
        "keyVaultId": null,
        "keyVaultSecretName": null,
        "keyVaultSecretStatus": null,
        "canonicalName": null,
    }))
}

fn in_use(thumbprint: &str, host: &str) -> ArmError {
    ArmError::conflict(
        "Conflict",
        format!(
            "Cannot remove certificate with thumbprint {thumbprint} because it is used for hostname {host}."
        ),
    )
}

/// The bindings that serve a certificate.
fn serving(context: &Context, thumbprint: &str) -> Vec<Arc<Resource>> {
    let mut all = hosts::bindings(&context.store);
    all.retain(|one| hosts::served(one) == Some(thumbprint));
    all
}

/// Another certificate takes the place of one that may be served: its bindings follow in the same step, or
/// it is refused.
fn replace(
    context: &Context,
    before: &Value,
    after: &Value,
    follows: bool,
    batch: &mut Batch,
) -> Result<(), ArmError> {
    let old = before["thumbprint"].as_str().unwrap_or_default();
    if old.is_empty() || after["thumbprint"] == old {
        return Ok(());
    }
    for binding in serving(context, old) {
        if !follows {
            return Err(in_use(old, binding.id.name()));
        }
        let mut body = binding.body.clone();
        body["properties"]["thumbprint"] = after["thumbprint"].clone();
        batch.expect(&binding.id, Expect::Etag(binding.etag.clone()));
        batch.put(&binding.id, body);
    }
    Ok(())
}

/// Brings every certificate up to date: those of Key Vault with the vault, managed ones before they expire.
/// To be called once a day
/// (<https://learn.microsoft.com/azure/app-service/configure-ssl-certificate#renew-a-certificate-imported-from-key-vault>).
pub(crate) async fn sync(context: &Arc<Context>) {
    let mut changed = false;
    for certificate in context.store.list(CERTIFICATE, &ResourceId::root()) {
        match sync_one(context, &certificate).await {
            Ok(did) => changed |= did,
            Err(error) => {
                tracing::error!(id = %certificate.id, %error, "a certificate is not in step");
            }
        }
    }
    if changed && let Ok(app) = app(context) {
        app.certificates_changed();
    }
}

/// Whether something was changed.
async fn sync_one(context: &Arc<Context>, certificate: &Resource) -> Result<bool, ArmError> {
    let properties = certificate.properties();
    let mut body = certificate.body.clone();
    let read = if let Some(vault) = properties["keyVaultId"].as_str() {
        let vault = ResourceId::parse(vault)?;
        let secret = properties["keyVaultSecretName"].as_str().unwrap_or_default();
        from_vault(context, &vault, secret)
    } else if let Some(host) = properties["canonicalName"].as_str() {
        let ends: Option<Timestamp> =
            properties["expirationDate"].as_str().and_then(|at| at.parse().ok());
        let due = Timestamp::now().as_second() + MANAGED_RENEWAL;
        if ends.is_some_and(|ends| ends.as_second() > due) {
            return Ok(false);
        }
        self_signed(host).map_err(|_| NoCertificate::NotOne)
    } else {
        return Ok(false);
    };
    let mut batch = Batch::new();
    let served = match read {
        Ok(bundle) => {
            let new = shown(&bundle)?;
            let changed = new["thumbprint"] != properties["thumbprint"];
            if changed {
                replace(context, properties, &new, true, &mut batch)?;
                for (name, value) in new.as_object().into_iter().flatten() {
                    if !value.is_null() {
                        body["properties"][name] = value.clone();
                    }
                }
                let records = &app(context)?.records;
                hosts::put_private(records, &mut batch, &certificate.id, &bundle)
                    .map_err(|error| record_error(&error))?;
            }
            if properties["keyVaultId"].is_string() {
                body["properties"]["keyVaultSecretStatus"] = json!("Succeeded");
            }
            changed
        }
        // What it serves it goes on serving.
        Err(why) => {
            body["properties"]["keyVaultSecretStatus"] = json!(why.status());
            false
        }
    };
    if body == certificate.body {
        return Ok(false);
    }
    batch.expect(&certificate.id, Expect::Etag(certificate.etag.clone()));
    batch.put(&certificate.id, body);
    context.store.commit(batch).await?;
    Ok(served)
}
