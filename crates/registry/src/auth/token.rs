//! Tokens (JSON Web Tokens, RFC 7519) as Docker's authorization servers make them: who signed, for whom, until when, and what
//! they grant (distribution's "Token authentication implementation").

use std::sync::{PoisonError, RwLock};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cais_types::Result;
use serde::Deserialize;

use super::signature::{Algorithm, PublicKey};
use super::{Grant, TokenConfig};

/// Seconds that clocks may differ.
const LEEWAY: i64 = 60;
/// Longer tokens are not looked at.
const TOKEN_MAX: usize = 16 << 10;

/// Why a token is refused.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error("not a signed JSON web token")]
    Format,
    #[error("signed in a way that is not supported: {0}")]
    Algorithm(String),
    #[error("not signed by a configured key")]
    Signature,
    #[error("{0}: issuer, audience or time do not fit")]
    Claims(&'static str),
}

/// The keys.
pub struct Tokens {
    keys: RwLock<Vec<PublicKey>>,
    issuer: String,
    service: String,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    aud: Audience,
    exp: i64,
    #[serde(default)]
    nbf: Option<i64>,
    #[serde(default)]
    access: Option<Vec<Grant>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Tokens {
    /// Reads the keys.
    ///
    /// # Errors
    /// Invalid: files that hold none.
    pub fn open(config: &TokenConfig) -> Result<Self> {
        Ok(Self {
            keys: RwLock::new(read_keys(config)?),
            issuer: config.issuer.clone(),
            service: config.service.clone(),
        })
    }

    /// Reads the keys again.
    ///
    /// # Errors
    /// As [`Tokens::open`].
    pub fn reload(&self, config: &TokenConfig) -> Result<()> {
        let keys = read_keys(config)?;
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
        Ok(())
    }

    /// What a token grants.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub fn verify(&self, token: &str) -> std::result::Result<Vec<Grant>, TokenError> {
        if token.len() > TOKEN_MAX {
            return Err(TokenError::Format);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Format)?;
        let (header, claims) = signed.split_once('.').ok_or(TokenError::Format)?;
        let signature = decode(signature)?;
        let header: Header = parse(header)?;
        let algorithm = Algorithm::named(&header.alg).ok_or(TokenError::Algorithm(header.alg))?;
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let known = keys
            .iter()
            .any(|key| key.verifies(algorithm, signed.as_bytes(), &signature));
        if !known {
            return Err(TokenError::Signature);
        }
        self.check(parse(claims)?)
    }

    fn check(&self, claims: Claims) -> std::result::Result<Vec<Grant>, TokenError> {
        let now = jiff::Timestamp::now().as_second();
        if claims.iss != self.issuer {
            return Err(TokenError::Claims("iss"));
        }
        let ours = match &claims.aud {
            Audience::One(audience) => *audience == self.service,
            Audience::Many(audiences) => audiences.contains(&self.service),
        };
        if !ours {
            return Err(TokenError::Claims("aud"));
        }
        if claims.exp.saturating_add(LEEWAY) < now {
            return Err(TokenError::Claims("exp"));
        }
        if claims
            .nbf
            .is_some_and(|start| start.saturating_sub(LEEWAY) > now)
        {
            return Err(TokenError::Claims("nbf"));
        }
        Ok(claims.access.unwrap_or_default())
    }
}

fn read_keys(config: &TokenConfig) -> Result<Vec<PublicKey>> {
    let mut keys = Vec::new();
    for file in &config.keys {
        keys.extend(PublicKey::read(file)?);
    }
    Ok(keys)
}

fn decode(part: &str) -> std::result::Result<Vec<u8>, TokenError> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Format)
}

fn parse<T: serde::de::DeserializeOwned>(part: &str) -> std::result::Result<T, TokenError> {
    serde_json::from_slice(&decode(part)?).map_err(|_| TokenError::Format)
}
