//! A certificate's policy: what a client asks for, completed, and a self-signed certificate made by it
//! (<https://learn.microsoft.com/rest/api/keyvault/certificates/create-certificate/create-certificate>).

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyUsagePurpose, SanType,
};
use serde_json::{Value, json};

use super::{Attributes, VaultError};
use crate::certificate::{Facts, PrivateKey};

/// The content types of the secret that holds a certificate with its key.
pub(super) const PFX: &str = "application/x-pkcs12";
pub(super) const PEM: &str = "application/x-pem-file";

const MONTH: i64 = 30 * 86_400;
/// Server and client authentication: what Azure puts in unless a policy says otherwise.
const USAGES: [&str; 2] = ["1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"];

fn wrong(what: impl Into<String>) -> VaultError {
    VaultError::BadParameter(what.into())
}

/// The policy of a certificate to be made, completed by Azure's defaults. The only issuer is the
/// certificate itself.
pub(super) fn complete(asked: &Value) -> Result<Value, VaultError> {
    if !asked.is_object() {
        return Err(wrong("The parameter 'policy' is required."));
    }
    let issuer = asked["issuer"]["name"].as_str().unwrap_or("Self");
    if !issuer.eq_ignore_ascii_case("self") {
        return Err(wrong(format!("The issuer {issuer} is not supported; there is Self.")));
    }
    let mut policy = asked.clone();
    policy["issuer"] = json!({ "name": "Self" });
    let x509 = &asked["x509_props"];
    if x509["subject"].as_str().unwrap_or_default().is_empty() && x509["sans"].is_null() {
        return Err(wrong(
            "Property policy.x509_props.subject or policy.x509_props.sans is required.",
        ));
    }
    subject(x509["subject"].as_str().unwrap_or_default())?;
    let months = match &x509["validity_months"] {
        Value::Null => 12,
        months => months
            .as_i64()
            .filter(|months| (1..=1200).contains(months))
            .ok_or_else(|| wrong("The parameter 'validity_months' is invalid."))?,
    };
    policy["x509_props"]["validity_months"] = months.into();
    for (name, default) in [
        ("ekus", json!(USAGES)),
        ("key_usage", json!(["digitalSignature", "keyEncipherment"])),
        ("basic_constraints", json!({ "ca": false })),
    ] {
        if policy["x509_props"][name].is_null() {
            policy["x509_props"][name] = default;
        }
    }
    let renew = json!([{
        "trigger": { "lifetime_percentage": 80 }, "action": { "action_type": "AutoRenew" },
    }]);
    finish(policy, PFX, renew)
}

/// The policy of a certificate that is imported: it says what the certificate is.
pub(super) fn imported(
    asked: &Value,
    content_type: &str,
    facts: &Facts,
    key: &PrivateKey,
) -> Result<Value, VaultError> {
    let jwk = key.jwk()?;
    let mut policy = if asked.is_object() { asked.clone() } else { json!({}) };
    let exportable = policy["key_props"]["exportable"].as_bool().unwrap_or(true);
    policy["key_props"] = json!({
        "exportable": exportable, "kty": jwk["kty"], "reuse_key": false,
    });
    if let Some(bits) = key.bits() {
        policy["key_props"]["key_size"] = bits.into();
    } else {
        policy["key_props"]["crv"] = jwk["crv"].clone();
    }
    let months = (facts.not_after - facts.not_before + MONTH / 2) / MONTH;
    policy["x509_props"] = json!({
        "subject": facts.subject, "ekus": facts.ekus, "key_usage": facts.key_usage,
        "validity_months": months.max(1), "basic_constraints": { "ca": facts.ca },
    });
    if !facts.dns_names.is_empty() || !facts.emails.is_empty() {
        policy["x509_props"]["sans"] =
            json!({ "dns_names": facts.dns_names, "emails": facts.emails, "upns": [] });
    }
    policy["issuer"] = json!({ "name": "Unknown" });
    let mail = json!([{
        "trigger": { "lifetime_percentage": 80 }, "action": { "action_type": "EmailContacts" },
    }]);
    finish(policy, content_type, mail)
}

/// A change of a policy: it is for the certificates to come
/// (<https://learn.microsoft.com/rest/api/keyvault/certificates/update-certificate-policy>).
pub(super) fn changed(before: &Value, asked: &Value) -> Result<Value, VaultError> {
    let mut policy = before.clone();
    for name in ["key_props", "secret_props", "x509_props", "lifetime_actions", "issuer"] {
        if asked[name].is_null() {
            continue;
        }
        match (&mut policy[name], &asked[name]) {
            (Value::Object(old), Value::Object(new)) => {
                old.extend(new.iter().map(|(name, value)| (name.clone(), value.clone())));
            }
            (old, new) => *old = new.clone(),
        }
    }
    let issuer = policy["issuer"]["name"].as_str().unwrap_or("Self").to_owned();
    if !issuer.eq_ignore_ascii_case("self") && !issuer.eq_ignore_ascii_case("unknown") {
        return Err(wrong(format!("The issuer {issuer} is not supported; there is Self.")));
    }
    policy["attributes"]["updated"] = Timestamp::now().as_second().into();
    let actions = policy["lifetime_actions"].clone();
    finish(policy, PFX, actions)
}

fn finish(mut policy: Value, content_type: &str, actions: Value) -> Result<Value, VaultError> {
    let key = &mut policy["key_props"];
    for (name, default) in
        [("exportable", json!(true)), ("kty", json!("RSA")), ("reuse_key", json!(false))]
    {
        if key[name].is_null() {
            key[name] = default;
        }
    }
    if key["kty"] == "RSA" && key["key_size"].is_null() {
        key["key_size"] = 2048.into();
    }
    if policy["secret_props"]["contentType"].is_null() {
        policy["secret_props"] = json!({ "contentType": content_type });
    }
    let kind = policy["secret_props"]["contentType"].as_str().unwrap_or_default();
    if kind != PFX && kind != PEM {
        return Err(wrong(format!(
            "Property policy.secret_props.contentType has invalid value: {kind}."
        )));
    }
    if policy["lifetime_actions"].is_null() {
        policy["lifetime_actions"] = actions;
    }
    let now = Timestamp::now().as_second();
    let created = policy["attributes"]["created"].as_i64().unwrap_or(now);
    policy["attributes"] = json!({ "enabled": true, "created": created, "updated": now });
    if let Some(policy) = policy.as_object_mut() {
        policy.shift_remove("id");
    }
    Ok(policy)
}

/// A certificate by a completed policy and the request for it, both DER.
pub(super) fn certify(
    key: &PrivateKey,
    policy: &Value,
    attributes: &mut Attributes,
) -> Result<(Vec<u8>, Vec<u8>), VaultError> {
    let x509 = &policy["x509_props"];
    let mut params = CertificateParams::default();
    params.distinguished_name = subject(x509["subject"].as_str().unwrap_or_default())?;
    for (list, dns) in [("dns_names", true), ("emails", false)] {
        for name in x509["sans"][list].as_array().into_iter().flatten().filter_map(Value::as_str) {
            let name = name.try_into().map_err(|_| wrong(format!("{name} is no name.")))?;
            let name = if dns { SanType::DnsName(name) } else { SanType::Rfc822Name(name) };
            params.subject_alt_names.push(name);
        }
    }
    for usage in x509["key_usage"].as_array().into_iter().flatten() {
        params.key_usages.push(match usage.as_str().unwrap_or_default() {
            "digitalSignature" => KeyUsagePurpose::DigitalSignature,
            "nonRepudiation" => KeyUsagePurpose::ContentCommitment,
            "keyEncipherment" => KeyUsagePurpose::KeyEncipherment,
            "dataEncipherment" => KeyUsagePurpose::DataEncipherment,
            "keyAgreement" => KeyUsagePurpose::KeyAgreement,
            "keyCertSign" => KeyUsagePurpose::KeyCertSign,
            "cRLSign" => KeyUsagePurpose::CrlSign,
            "encipherOnly" => KeyUsagePurpose::EncipherOnly,
            "decipherOnly" => KeyUsagePurpose::DecipherOnly,
            other => return Err(wrong(format!("The key usage {other} is not valid."))),
        });
    }
    for usage in x509["ekus"].as_array().into_iter().flatten() {
        let text = usage.as_str().unwrap_or_default();
        let arcs = text.split('.').map(str::parse).collect::<Result<Vec<u64>, _>>();
        let valid = |arcs: &Vec<u64>| arcs.len() > 1 && arcs[0] < 3 && arcs[1] < 40;
        let arcs = arcs.ok().filter(valid);
        let arcs = arcs.ok_or_else(|| wrong(format!("{text} is no object identifier.")))?;
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::Other(arcs));
    }
    let signing_request = params
        .serialize_request(&key.signer()?)
        .map_err(|error| wrong(format!("The certificate cannot be made: {error}.")))?;
    params.is_ca = match x509["basic_constraints"]["ca"].as_bool() {
        Some(true) => IsCa::Ca(BasicConstraints::Unconstrained),
        _ => IsCa::ExplicitNoCa,
    };
    let now = Timestamp::now().as_second();
    let months = x509["validity_months"].as_i64().unwrap_or(12);
    let time = |seconds: i64| {
        time::OffsetDateTime::from_unix_timestamp(seconds)
            .map_err(|_| wrong("The parameter 'validity_months' is invalid."))
    };
    // As Azure does: clocks may be behind.
    let (from, to) = (now - 600, now + months * MONTH);
    params.not_before = time(from)?;
    params.not_after = time(to)?;
    attributes.nbf = Some(from);
    attributes.exp = Some(to);
    let certificate = params
        .self_signed(&key.signer()?)
        .map_err(|error| wrong(format!("The certificate cannot be made: {error}.")))?;
    Ok((certificate.der().to_vec(), signing_request.der().to_vec()))
}

/// `CN=example.com, O=Example`.
fn subject(text: &str) -> Result<DistinguishedName, VaultError> {
    let mut name = DistinguishedName::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let wrong = || wrong(format!("The subject `{part}` is not valid."));
        let (kind, value) = part.split_once('=').ok_or_else(wrong)?;
        let kind = match kind.trim().to_ascii_uppercase().as_str() {
            "CN" => DnType::CommonName,
            "O" => DnType::OrganizationName,
            "OU" => DnType::OrganizationalUnitName,
            "C" => DnType::CountryName,
            "L" => DnType::LocalityName,
            "ST" | "S" => DnType::StateOrProvinceName,
            _ => return Err(wrong()),
        };
        name.push(kind, value.trim());
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificate::{Curve, Facts};

    #[test]
    fn a_certificate_is_as_its_policy_asks() {
        let asked = json!({
            "x509_props": {
                "subject": "CN=www.example.org, O=Example",
                "sans": { "dns_names": ["www.example.org", "example.org"] },
                "ekus": ["1.3.6.1.5.5.7.3.1"], "validity_months": 3,
            },
        });
        let policy = complete(&asked).expect("complete");
        assert_eq!(policy["secret_props"]["contentType"], PFX);
        assert_eq!(policy["key_props"]["key_size"], 2048);
        let key = PrivateKey::generate_ec(Curve::P256).expect("a key");
        let mut attributes = Attributes::default();
        let (der, request) = certify(&key, &policy, &mut attributes).expect("made");
        assert!(!request.is_empty());
        let facts = Facts::of(&der).expect("read");
        assert_eq!(facts.subject, "CN=www.example.org, O=Example");
        assert_eq!(facts.dns_names, ["www.example.org", "example.org"]);
        assert_eq!(facts.ekus, ["1.3.6.1.5.5.7.3.1"]);
        assert_eq!(facts.key_usage, ["digitalSignature", "keyEncipherment"]);
        assert_eq!(Some(facts.not_after), attributes.exp);
    }

    #[test]
    fn what_no_certificate_can_be_made_by_is_refused() {
        for bad in [
            json!(null),
            json!({}),
            json!({ "x509_props": { "subject": "nonsense" } }),
            json!({ "x509_props": { "subject": "CN=a", "validity_months": 0 } }),
            json!({ "x509_props": { "subject": "CN=a" }, "issuer": { "name": "DigiCert" } }),
            json!({ "x509_props": { "subject": "CN=a" }, "secret_props": { "contentType": "x" } }),
        ] {
            assert!(complete(&bad).is_err(), "{bad}");
        }
        let key = PrivateKey::generate_ec(Curve::P256).expect("a key");
        for bad in [json!({ "ekus": ["x"] }), json!({ "key_usage": ["x"] })] {
            let policy = json!({ "x509_props": bad });
            assert!(certify(&key, &policy, &mut Attributes::default()).is_err(), "{policy}");
        }
    }
}
