//! What is done with keys: sign, verify, encrypt, decrypt, wrap, unwrap. The private part stays in the
//! vault (<https://learn.microsoft.com/azure/key-vault/keys/about-keys-details>).

use aws_lc_rs::digest::{Algorithm, Digest, SHA256, SHA384, SHA512};
use aws_lc_rs::rsa::{
    OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OaepAlgorithm, OaepPrivateDecryptingKey,
    OaepPublicEncryptingKey, Pkcs1PrivateDecryptingKey, Pkcs1PublicEncryptingKey,
    PrivateDecryptingKey,
};
use aws_lc_rs::signature::{self, RsaEncoding, UnparsedPublicKey, VerificationAlgorithm};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::{VaultError, Vaults};
use crate::certificate::{Curve, Kind, PrivateKey};

/// What is asked of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    Sign,
    Verify,
    Encrypt,
    Decrypt,
    Wrap,
    Unwrap,
}

impl Deed {
    /// As `key_ops` lists it.
    fn operation(self) -> &'static str {
        match self {
            Self::Sign => "sign",
            Self::Verify => "verify",
            Self::Encrypt => "encrypt",
            Self::Decrypt => "decrypt",
            Self::Wrap => "wrapKey",
            Self::Unwrap => "unwrapKey",
        }
    }
}

fn wrong(what: impl Into<String>) -> VaultError {
    VaultError::BadParameter(what.into())
}

fn bytes(asked: &Value, name: &str) -> Result<Vec<u8>, VaultError> {
    asked[name]
        .as_str()
        .and_then(|text| URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok())
        .ok_or_else(|| wrong(format!("The parameter '{name}' is required, in base64url.")))
}

impl Vaults {
    /// Does something with a key; the answer's body. Takes milliseconds of the processor.
    pub(super) fn perform(
        &self,
        vault: &str,
        name: &str,
        version: Option<&str>,
        deed: Deed,
        asked: &Value,
    ) -> Result<Value, VaultError> {
        let (shown, key) = self.usable_key(vault, name, version, deed.operation())?;
        let algorithm = asked["alg"].as_str().unwrap_or_default();
        let value = bytes(asked, "value")?;
        let result = match deed {
            Deed::Sign => sign(&key, algorithm, &value)?,
            Deed::Verify => {
                let digest = bytes(asked, "digest")?;
                return Ok(json!({ "value": verify(&key, algorithm, &digest, &value)? }));
            }
            Deed::Encrypt | Deed::Wrap => encrypt(&key, algorithm, &value)?,
            Deed::Decrypt | Deed::Unwrap => decrypt(&key, algorithm, &value)?,
        };
        let kid = format!("https://{vault}.vault.azure.net/keys/{}/{}", shown.name, shown.version);
        Ok(json!({ "kid": kid, "value": URL_SAFE_NO_PAD.encode(result) }))
    }
}

/// The digest's algorithm, and how RSA pads it to sign and to check.
struct Scheme {
    digest: &'static Algorithm,
    rsa: Option<(&'static dyn RsaEncoding, &'static dyn VerificationAlgorithm)>,
    ec: Option<(Curve, &'static dyn VerificationAlgorithm)>,
}

fn scheme(name: &str) -> Result<Scheme, VaultError> {
    let rsa = |digest, sign, verify| Scheme { digest, rsa: Some((sign, verify)), ec: None };
    let ec = |digest, curve, verify| Scheme { digest, rsa: None, ec: Some((curve, verify)) };
    Ok(match name {
        "RS256" => {
            rsa(&SHA256, &signature::RSA_PKCS1_SHA256, &signature::RSA_PKCS1_2048_8192_SHA256)
        }
        "RS384" => {
            rsa(&SHA384, &signature::RSA_PKCS1_SHA384, &signature::RSA_PKCS1_2048_8192_SHA384)
        }
        "RS512" => {
            rsa(&SHA512, &signature::RSA_PKCS1_SHA512, &signature::RSA_PKCS1_2048_8192_SHA512)
        }
        "PS256" => rsa(&SHA256, &signature::RSA_PSS_SHA256, &signature::RSA_PSS_2048_8192_SHA256),
        "PS384" => rsa(&SHA384, &signature::RSA_PSS_SHA384, &signature::RSA_PSS_2048_8192_SHA384),
        "PS512" => rsa(&SHA512, &signature::RSA_PSS_SHA512, &signature::RSA_PSS_2048_8192_SHA512),
        "ES256" => ec(&SHA256, Curve::P256, &signature::ECDSA_P256_SHA256_FIXED),
        "ES384" => ec(&SHA384, Curve::P384, &signature::ECDSA_P384_SHA384_FIXED),
        "ES512" => ec(&SHA512, Curve::P521, &signature::ECDSA_P521_SHA512_FIXED),
        other => return Err(wrong(format!("The algorithm '{other}' is not supported."))),
    })
}

fn mismatch(algorithm: &str) -> VaultError {
    wrong(format!("Key and signing algorithm are incompatible: the key does not fit {algorithm}."))
}

fn digest_of(scheme: &Scheme, value: &[u8]) -> Result<Digest, VaultError> {
    Digest::import_less_safe(value, scheme.digest).map_err(|_| {
        wrong(format!(
            "Invalid length of 'value': {} bytes. Digest should be {} bytes.",
            value.len(),
            scheme.digest.output_len()
        ))
    })
}

fn sign(key: &PrivateKey, algorithm: &str, value: &[u8]) -> Result<Vec<u8>, VaultError> {
    let scheme = scheme(algorithm)?;
    let digest = digest_of(&scheme, value)?;
    match (key.kind(), &scheme) {
        (Kind::Rsa(key), Scheme { rsa: Some((encoding, _)), .. }) => {
            let mut signature = vec![0; key.public_modulus_len()];
            key.sign_digest(*encoding, &digest, &mut signature).map_err(|_| mismatch(algorithm))?;
            Ok(signature)
        }
        (Kind::Ec(curve, key), Scheme { ec: Some((wanted, _)), .. }) if curve == wanted => {
            let signed = key.sign_digest(&digest).map_err(|_| mismatch(algorithm))?;
            Ok(signed.as_ref().to_vec())
        }
        _ => Err(mismatch(algorithm)),
    }
}

fn verify(
    key: &PrivateKey,
    algorithm: &str,
    digest: &[u8],
    signature: &[u8],
) -> Result<bool, VaultError> {
    let scheme = scheme(algorithm)?;
    let digest = digest_of(&scheme, digest)?;
    let check = match (key.kind(), &scheme) {
        (Kind::Rsa(_), Scheme { rsa: Some((_, check)), .. }) => *check,
        (Kind::Ec(curve, _), Scheme { ec: Some((wanted, check)), .. }) if curve == wanted => *check,
        _ => return Err(mismatch(algorithm)),
    };
    Ok(UnparsedPublicKey::new(check, key.public()).verify_digest(&digest, signature).is_ok())
}

/// None is RSA1_5.
fn padding(algorithm: &str) -> Result<Option<&'static OaepAlgorithm>, VaultError> {
    match algorithm {
        "RSA-OAEP" => Ok(Some(&OAEP_SHA1_MGF1SHA1)),
        "RSA-OAEP-256" => Ok(Some(&OAEP_SHA256_MGF1SHA256)),
        "RSA1_5" => Ok(None),
        other => Err(wrong(format!("The algorithm '{other}' is not supported."))),
    }
}

fn decrypting(key: &PrivateKey, algorithm: &str) -> Result<PrivateDecryptingKey, VaultError> {
    match key.kind() {
        Kind::Rsa(_) => {
            PrivateDecryptingKey::from_pkcs8(key.pkcs8()).map_err(|_| mismatch(algorithm))
        }
        Kind::Ec(..) => Err(mismatch(algorithm)),
    }
}

fn encrypt(key: &PrivateKey, algorithm: &str, plain: &[u8]) -> Result<Vec<u8>, VaultError> {
    let padding = padding(algorithm)?;
    let public = decrypting(key, algorithm)?.public_key();
    let too_long = |_| wrong("Invalid length of 'value': it is too long for the key.");
    let mut out = vec![0; public.key_size_bytes()];
    let length = if let Some(padding) = padding {
        let key = OaepPublicEncryptingKey::new(public).map_err(too_long)?;
        key.encrypt(padding, plain, &mut out, None).map_err(too_long)?.len()
    } else {
        let key = Pkcs1PublicEncryptingKey::new(public).map_err(too_long)?;
        key.encrypt(plain, &mut out).map_err(too_long)?.len()
    };
    out.truncate(length);
    Ok(out)
}

fn decrypt(key: &PrivateKey, algorithm: &str, sealed: &[u8]) -> Result<Vec<u8>, VaultError> {
    let padding = padding(algorithm)?;
    let private = decrypting(key, algorithm)?;
    // One answer, whatever is wrong.
    let failed = |_| wrong("The parameter is incorrect.");
    let mut out = vec![0; private.key_size_bytes()];
    let length = if let Some(padding) = padding {
        let key = OaepPrivateDecryptingKey::new(private).map_err(failed)?;
        key.decrypt(padding, sealed, &mut out, None).map_err(failed)?.len()
    } else {
        let key = Pkcs1PrivateDecryptingKey::new(private).map_err(failed)?;
        key.decrypt(sealed, &mut out).map_err(failed)?.len()
    };
    out.truncate(length);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_signed_is_verified_and_nothing_else() {
        let rsa = PrivateKey::generate_rsa(2048).expect("a key");
        let ec = PrivateKey::generate_ec(Curve::P384).expect("a key");
        for (key, algorithm, length) in
            [(&rsa, "RS256", 32), (&rsa, "PS512", 64), (&ec, "ES384", 48)]
        {
            let digest = vec![7; length];
            let signature = sign(key, algorithm, &digest).expect("signed");
            assert!(verify(key, algorithm, &digest, &signature).expect("looked at"));
            assert!(!verify(key, algorithm, &vec![8; length], &signature).expect("looked at"));
            assert!(sign(key, algorithm, b"no digest").is_err());
        }
        assert!(sign(&ec, "RS256", &[0; 32]).is_err());
        assert!(sign(&rsa, "ES256", &[0; 32]).is_err());
        assert!(sign(&rsa, "none", &[0; 32]).is_err());
    }

    #[test]
    fn what_is_encrypted_comes_back() {
        let key = PrivateKey::generate_rsa(2048).expect("a key");
        for algorithm in ["RSA-OAEP", "RSA-OAEP-256", "RSA1_5"] {
            let sealed = encrypt(&key, algorithm, b"a content key").expect("encrypted");
            assert_eq!(decrypt(&key, algorithm, &sealed).expect("decrypted"), b"a content key");
            assert!(encrypt(&key, algorithm, &[0; 300]).is_err());
        }
        assert!(decrypt(&key, "RSA-OAEP", b"garbage").is_err());
        let curve = PrivateKey::generate_ec(Curve::P256).expect("a key");
        assert!(encrypt(&curve, "RSA-OAEP", b"x").is_err());
    }
}
