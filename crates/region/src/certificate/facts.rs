//! What a certificate says of itself (RFC 5280).

use x509_parser::prelude::{FromDer as _, GeneralName, ParsedExtension, X509Certificate, X509Name};

use super::BundleError;

/// What of a certificate the region's services show or judge by.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// `CN=www.example.org, O=Example`.
    pub subject: String,
    /// The subject's common name, or the whole subject where it has none.
    pub subject_name: String,
    /// The same of the issuer.
    pub issuer_name: String,
    /// The host names among the alternative names, or the common name where there are none.
    pub host_names: Vec<String>,
    /// `dns_names` of a Key Vault policy: the alternative names alone.
    pub dns_names: Vec<String>,
    /// Mail addresses among the alternative names.
    pub emails: Vec<String>,
    /// Seconds since 1970.
    pub not_before: i64,
    /// Seconds since 1970.
    pub not_after: i64,
    /// SHA-1 of the whole certificate: how Azure names it.
    pub thumbprint: [u8; 20],
    /// Object identifiers of the extended key usages.
    pub ekus: Vec<String>,
    /// Key usages, as Key Vault calls them.
    pub key_usage: Vec<&'static str>,
    /// Whether it is an authority's.
    pub ca: bool,
    /// The public key's bits, as [`super::PrivateKey::public`] gives them.
    pub public: Vec<u8>,
}

impl Facts {
    /// Reads a certificate's DER.
    pub fn of(der: &[u8]) -> Result<Self, BundleError> {
        let (rest, certificate) =
            X509Certificate::from_der(der).map_err(|_| BundleError::BadCertificate)?;
        if !rest.is_empty() {
            return Err(BundleError::BadCertificate);
        }
        let mut facts = Self {
            subject: certificate.subject().to_string(),
            subject_name: short(certificate.subject()),
            issuer_name: short(certificate.issuer()),
            not_before: certificate.validity().not_before.timestamp(),
            not_after: certificate.validity().not_after.timestamp(),
            public: certificate.public_key().subject_public_key.data.to_vec(),
            ..Self::default()
        };
        let sha1 = &aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY;
        let digest = aws_lc_rs::digest::digest(sha1, der);
        facts.thumbprint.copy_from_slice(digest.as_ref());
        for extension in certificate.extensions() {
            facts.take(extension.parsed_extension());
        }
        facts.host_names = facts.dns_names.clone();
        if facts.host_names.is_empty() && facts.subject_name.contains('.') {
            facts.host_names.push(facts.subject_name.clone());
        }
        Ok(facts)
    }

    fn take(&mut self, extension: &ParsedExtension<'_>) {
        match extension {
            ParsedExtension::SubjectAlternativeName(names) => {
                for name in &names.general_names {
                    match name {
                        GeneralName::DNSName(name) => self.dns_names.push((*name).to_owned()),
                        GeneralName::RFC822Name(name) => self.emails.push((*name).to_owned()),
                        _ => {}
                    }
                }
            }
            ParsedExtension::BasicConstraints(constraints) => self.ca = constraints.ca,
            ParsedExtension::ExtendedKeyUsage(usages) => {
                let known = [
                    (usages.server_auth, "1.3.6.1.5.5.7.3.1"),
                    (usages.client_auth, "1.3.6.1.5.5.7.3.2"),
                    (usages.code_signing, "1.3.6.1.5.5.7.3.3"),
                    (usages.email_protection, "1.3.6.1.5.5.7.3.4"),
                    (usages.time_stamping, "1.3.6.1.5.5.7.3.8"),
                    (usages.ocsp_signing, "1.3.6.1.5.5.7.3.9"),
                    (usages.any, "2.5.29.37.0"),
                ];
                let known = known.into_iter().filter(|(has, _)| *has);
                self.ekus = known.map(|(_, oid)| oid.to_owned()).collect();
                self.ekus.extend(usages.other.iter().map(ToString::to_string));
            }
            ParsedExtension::KeyUsage(usage) => {
                let known = [
                    (usage.digital_signature(), "digitalSignature"),
                    (usage.non_repudiation(), "nonRepudiation"),
                    (usage.key_encipherment(), "keyEncipherment"),
                    (usage.data_encipherment(), "dataEncipherment"),
                    (usage.key_agreement(), "keyAgreement"),
                    (usage.key_cert_sign(), "keyCertSign"),
                    (usage.crl_sign(), "cRLSign"),
                    (usage.encipher_only(), "encipherOnly"),
                    (usage.decipher_only(), "decipherOnly"),
                ];
                let known = known.into_iter().filter(|(has, _)| *has);
                self.key_usage = known.map(|(_, name)| name).collect();
            }
            _ => {}
        }
    }

    /// The thumbprint as App Service writes it: 40 hexadecimal digits, upper case.
    pub fn thumbprint_hex(&self) -> String {
        self.thumbprint.iter().map(|byte| format!("{byte:02X}")).collect()
    }

    /// Whether it is for this host name: equal, or by a wildcard for one label
    /// (RFC 9525, 6.3).
    pub fn covers(&self, host: &str) -> bool {
        self.host_names.iter().any(|name| match name.strip_prefix("*.") {
            None => name.eq_ignore_ascii_case(host),
            Some(domain) => {
                host.split_once('.').is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(domain))
            }
        })
    }
}

fn short(name: &X509Name<'_>) -> String {
    let common = name.iter_common_name().next().and_then(|name| name.as_str().ok());
    common.map_or_else(|| name.to_string(), str::to_owned)
}
