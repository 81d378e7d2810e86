//! Signatures of tokens, checked with keys that the registry was given. What a token's header says of keys (`jwk`, `x5c`,
//! `jku`, `kid`) is not looked at: a token that brings its own key proves nothing (CVE-2025-24976).

use std::path::Path;

use cais_types::{Error, Result};
use rustls_pki_types::pem::{PemObject as _, SectionKind};
use rustls_pki_types::{CertificateDer, SubjectPublicKeyInfoDer};
use webpki::ring as algorithms;
use webpki::{EndEntityCert, RawPublicKeyEntity};

/// A public key, as SubjectPublicKeyInfo.
pub struct PublicKey(Vec<u8>);

/// The two ways that tokens are signed (RFC 7518).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    Es256,
    Rs256,
}

impl Algorithm {
    /// By its name in a token's header.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "ES256" => Some(Self::Es256),
            "RS256" => Some(Self::Rs256),
            _ => None,
        }
    }
}

impl PublicKey {
    /// Reads the public keys and certificates of a PEM file.
    ///
    /// # Errors
    /// Invalid: no such file, nothing in it.
    pub fn read(file: &Path) -> Result<Vec<Self>> {
        let bad = |what: &str| Error::invalid(format!("token keys {}: {what}", file.display()));
        let text = std::fs::read(file).map_err(|error| bad(&error.to_string()))?;
        let mut keys = Vec::new();
        for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(&text) {
            match section.map_err(|error| bad(&error.to_string()))? {
                (SectionKind::PublicKey, der) => keys.push(Self(der)),
                (SectionKind::Certificate, der) => {
                    let der = CertificateDer::from(der);
                    let certificate = EndEntityCert::try_from(&der)
                        .map_err(|error| bad(&format!("certificate: {error}")))?;
                    keys.push(Self(certificate.subject_public_key_info().to_vec()));
                }
                _ => {}
            }
        }
        if keys.is_empty() {
            return Err(bad("no public key and no certificate"));
        }
        Ok(keys)
    }

    /// Whether this key made the signature. The key must be of the kind that the algorithm means.
    pub fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        let der = SubjectPublicKeyInfoDer::from(self.0.as_slice());
        let Ok(key) = RawPublicKeyEntity::try_from(&der) else {
            return false;
        };
        match algorithm {
            Algorithm::Es256 => as_der(signature).is_some_and(|signature| {
                key.verify_signature(algorithms::ECDSA_P256_SHA256, message, &signature)
                    .is_ok()
            }),
            Algorithm::Rs256 => key
                .verify_signature(algorithms::RSA_PKCS1_2048_8192_SHA256, message, signature)
                .is_ok(),
        }
    }
}

/// The two numbers of an ES256 signature (RFC 7518, 3.4) as certificates have them: a DER sequence of two integers.
fn as_der(signature: &[u8]) -> Option<Vec<u8>> {
    if signature.len() != 64 {
        return None;
    }
    let mut body = Vec::with_capacity(72);
    for number in signature.chunks(32) {
        let zeros = number.iter().take_while(|byte| **byte == 0).count();
        let digits = &number[zeros.min(31)..];
        let sign = usize::from(digits.first().is_some_and(|byte| byte & 0x80 != 0));
        body.extend([2, u8::try_from(digits.len() + sign).ok()?]);
        body.extend(std::iter::repeat_n(0, sign));
        body.extend_from_slice(digits);
    }
    let mut der = vec![0x30, u8::try_from(body.len()).ok()?];
    der.append(&mut body);
    Some(der)
}
