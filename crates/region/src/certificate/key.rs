//! A private key, RSA or on a curve: made, read in whatever form it comes, written as PKCS #8; its public
//! part as RFC 7517 writes it.

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING,
    ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair as _, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::RSAPublicKey;
use zeroize::Zeroizing;

/// A key that is none, or of a kind that the region has not: what was wrong.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct KeyError(pub String);

/// The curves that Key Vault has and the region's cryptographic library, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Curve {
    /// NIST P-256.
    P256,
    /// NIST P-384.
    P384,
    /// NIST P-521.
    P521,
}

impl Curve {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::P256, Self::P384, Self::P521];

    /// `P-256`.
    pub fn name(self) -> &'static str {
        match self {
            Self::P256 => "P-256",
            Self::P384 => "P-384",
            Self::P521 => "P-521",
        }
    }

    /// The curve of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|curve| curve.name() == name)
    }

    /// Bytes of a coordinate.
    fn size(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
        }
    }

    fn signing(self) -> &'static EcdsaSigningAlgorithm {
        match self {
            Self::P256 => &ECDSA_P256_SHA256_FIXED_SIGNING,
            Self::P384 => &ECDSA_P384_SHA384_FIXED_SIGNING,
            Self::P521 => &ECDSA_P521_SHA512_FIXED_SIGNING,
        }
    }
}

/// What a key is made of.
pub enum Kind {
    /// RSA, 2048 bits or more.
    Rsa(RsaKeyPair),
    /// On a curve.
    Ec(Curve, EcdsaKeyPair),
}

/// A private key.
pub struct PrivateKey {
    kind: Kind,
    pkcs8: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PrivateKey(…)")
    }
}

impl PrivateKey {
    /// A new RSA key. Takes up to seconds: not on a thread that answers others.
    pub fn generate_rsa(bits: u64) -> Result<Self, KeyError> {
        let size = match bits {
            2048 => KeySize::Rsa2048,
            3072 => KeySize::Rsa3072,
            4096 => KeySize::Rsa4096,
            bits => return Err(KeyError(format!("A key of {bits} bits is not supported."))),
        };
        let key = RsaKeyPair::generate(size).map_err(|_| unusable())?;
        Self::of(Kind::Rsa(key))
    }

    /// A new key on a curve.
    pub fn generate_ec(curve: Curve) -> Result<Self, KeyError> {
        let made = EcdsaKeyPair::generate_pkcs8(curve.signing(), &SystemRandom::new());
        Self::from_pkcs8(made.map_err(|_| unusable())?.as_ref())
    }

    fn of(kind: Kind) -> Result<Self, KeyError> {
        let pkcs8 = match &kind {
            Kind::Rsa(key) => {
                let der: Pkcs8V1Der<'_> = key.as_der().map_err(|_| unusable())?;
                der.as_ref().to_vec()
            }
            Kind::Ec(_, key) => key.to_pkcs8v1().map_err(|_| unusable())?.as_ref().to_vec(),
        };
        Ok(Self { kind, pkcs8: Zeroizing::new(pkcs8) })
    }

    /// A key in PKCS #8, without encryption.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        Self::from_der(&PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(der)))
    }

    /// A key in whatever form PEM files have it.
    pub fn from_der(der: &PrivateKeyDer<'_>) -> Result<Self, KeyError> {
        let bytes = der.secret_der();
        for curve in Curve::ALL {
            if let Ok(key) = EcdsaKeyPair::from_private_key_der(curve.signing(), bytes) {
                return Self::of(Kind::Ec(curve, key));
            }
        }
        let rsa = match der {
            PrivateKeyDer::Pkcs8(_) => RsaKeyPair::from_pkcs8(bytes),
            _ => RsaKeyPair::from_der(bytes),
        };
        // Smaller keys are refused by the library.
        Self::of(Kind::Rsa(rsa.map_err(|_| {
            KeyError(
                "The key is neither RSA of 2048 to 8192 bits nor on P-256, P-384 or P-521."
                    .to_owned(),
            )
        })?))
    }

    /// A key as a JSON Web Key, private parts included
    /// (<https://learn.microsoft.com/rest/api/keyvault/keys/import-key>).
    pub fn from_jwk(jwk: &Value) -> Result<Self, KeyError> {
        let wrong =
            || KeyError("The key is not a valid JSON Web Key with its private part.".into());
        let part = |name: &str| -> Result<Zeroizing<Vec<u8>>, KeyError> {
            let text = jwk[name].as_str().ok_or_else(wrong)?.trim_end_matches('=');
            URL_SAFE_NO_PAD.decode(text).map(Zeroizing::new).map_err(|_| wrong())
        };
        match jwk["kty"].as_str().unwrap_or_default() {
            "RSA" => {
                let public = |name: &str| -> Result<Vec<u8>, KeyError> {
                    let bytes = part(name)?;
                    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
                    Ok(bytes[zeros..].to_vec())
                };
                let components = aws_lc_rs::rsa::KeyPairComponents {
                    public_key: aws_lc_rs::rsa::PublicKeyComponents {
                        n: public("n")?,
                        e: public("e")?,
                    },
                    d: part("d")?.to_vec(),
                    p: part("p")?.to_vec(),
                    q: part("q")?.to_vec(),
                    dP: part("dp")?.to_vec(),
                    dQ: part("dq")?.to_vec(),
                    qInv: part("qi")?.to_vec(),
                };
                let key = RsaKeyPair::from_components(&components).map_err(|_| wrong())?;
                Self::of(Kind::Rsa(key))
            }
            "EC" => {
                let name = jwk["crv"].as_str().unwrap_or_default();
                let curve = Curve::named(name)
                    .ok_or_else(|| KeyError(format!("The curve {name} is not supported.")))?;
                let fixed = |name: &str| -> Result<Zeroizing<Vec<u8>>, KeyError> {
                    let bytes = part(name)?;
                    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
                    let bare = &bytes[zeros..];
                    let missing = curve.size().checked_sub(bare.len()).ok_or_else(wrong)?;
                    Ok(Zeroizing::new([vec![0; missing], bare.to_vec()].concat()))
                };
                let point = [&[4][..], &fixed("x")?, &fixed("y")?].concat();
                let key = EcdsaKeyPair::from_private_key_and_public_key(
                    curve.signing(),
                    &fixed("d")?,
                    &point,
                );
                Self::of(Kind::Ec(curve, key.map_err(|_| wrong())?))
            }
            kty => Err(KeyError(format!(
                "The key type {kty} is not supported: a standard vault has RSA and EC keys, and no HSM."
            ))),
        }
    }

    /// What it is made of.
    pub fn kind(&self) -> &Kind {
        &self.kind
    }

    /// PKCS #8, without encryption.
    pub fn pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    /// The public key as certificates have it: an `RSAPublicKey`, or a point.
    pub fn public(&self) -> &[u8] {
        match &self.kind {
            Kind::Rsa(key) => key.public_key().as_ref(),
            Kind::Ec(_, key) => key.public_key().as_ref(),
        }
    }

    /// The public key, as RFC 7517 writes it.
    pub fn jwk(&self) -> Result<Value, KeyError> {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match &self.kind {
            Kind::Ec(curve, _) => {
                let (x, y) = self.public()[1..].split_at(curve.size());
                Ok(json!({ "kty": "EC", "crv": curve.name(), "x": text(x), "y": text(y) }))
            }
            Kind::Rsa(_) => {
                let (_, key) = RSAPublicKey::from_der(self.public()).map_err(|_| unusable())?;
                let bare = |number: &[u8]| {
                    let zeros = number.iter().take_while(|byte| **byte == 0).count();
                    text(&number[zeros..])
                };
                Ok(json!({ "kty": "RSA", "n": bare(key.modulus), "e": bare(key.exponent) }))
            }
        }
    }

    /// The size that a policy names, for RSA.
    pub fn bits(&self) -> Option<usize> {
        match &self.kind {
            Kind::Rsa(key) => Some(key.public_modulus_len() * 8),
            Kind::Ec(..) => None,
        }
    }

    /// The same key, to sign certificates with.
    pub fn signer(&self) -> Result<rcgen::KeyPair, KeyError> {
        rcgen::KeyPair::try_from(&PrivatePkcs8KeyDer::from(self.pkcs8())).map_err(|_| unusable())
    }
}

fn unusable() -> KeyError {
    KeyError("The key cannot be used.".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_the_same_after_pkcs8() {
        for key in [
            PrivateKey::generate_rsa(2048).expect("made"),
            PrivateKey::generate_ec(Curve::P256).expect("made"),
            PrivateKey::generate_ec(Curve::P521).expect("made"),
        ] {
            let again = PrivateKey::from_pkcs8(key.pkcs8()).expect("read");
            assert_eq!(again.public(), key.public());
            assert_eq!(again.jwk().expect("shown"), key.jwk().expect("shown"));
        }
    }

    #[test]
    fn bad_json_web_keys_are_refused() {
        for bad in [
            json!({}),
            json!({ "kty": "oct", "k": "AA" }),
            json!({ "kty": "RSA", "n": "AQAB", "e": "AQAB" }),
            json!({ "kty": "RSA", "n": "AQAB", "e": "AQAB", "d": "AQ", "p": "AQ", "q": "AQ", "dp": "AQ", "dq": "AQ", "qi": "AQ" }),
            json!({ "kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "d": "AA" }),
            json!({ "kty": "EC", "crv": "P-256K", "x": "AA", "y": "AA", "d": "AA" }),
        ] {
            assert!(PrivateKey::from_jwk(&bad).is_err(), "{bad}");
        }
    }
}
