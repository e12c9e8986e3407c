//! Issuers of tokens, with keys made at run time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use meshproof::policy::authorization::Token;
use meshproof::{Error, Result};
use rcgen::{KeyPair, PublicKeyData};
use serde_json::{Map, Value, json};

/// Lifetime of a token.
const LIFETIME: Duration = Duration::from_secs(3_600);

/// An issuer of tokens, with one ECDSA key.
pub(crate) struct Issuer {
    pub(crate) name: String,
    pub(crate) key_id: String,
    key: KeyPair,
}

/// When a token is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    /// For an hour, from an hour ago.
    Now,
    /// Until an hour ago.
    Expired,
    /// From in an hour.
    Later,
}

impl Issuer {
    /// An issuer with a new key.
    pub(crate) fn new(name: &str, key_id: &str) -> Result<Self> {
        let key = KeyPair::generate().map_err(Error::suite)?;
        Ok(Self { name: name.into(), key_id: key_id.into(), key })
    }

    /// The set with its public key, as text.
    pub(crate) fn key_set(&self) -> String {
        // An uncompressed point: 4, then two numbers of 32 bytes.
        let point = self.key.der_bytes();
        let (x, y) = point[1..].split_at(32);
        let key = json!({
            "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": self.key_id,
            "x": base64url(x), "y": base64url(y),
        });
        json!({ "keys": [key] }).to_string()
    }

    /// A token for `subject`, with further claims. They replace those of the same name.
    pub(crate) fn token(&self, subject: &str, when: When, claims: Value) -> Result<String> {
        self.token_as(&self.key_id, subject, when, claims)
    }

    /// A token that names another key than that which signed it.
    pub(crate) fn token_as(&self, key_id: &str, subject: &str, when: When, claims: Value) -> Result<String> {
        let header = Header { kid: Some(key_id.into()), ..Header::new(Algorithm::ES256) };
        let key = EncodingKey::from_ec_der(&self.key.serialize_der());
        encode(&header, &self.claims(subject, when, claims), &key).map_err(Error::suite)
    }

    /// A token that says it needs no signature.
    pub(crate) fn unsigned(&self, subject: &str) -> String {
        let header = json!({ "alg": "none", "typ": "JWT", "kid": self.key_id });
        let claims = Value::Object(self.claims(subject, When::Now, json!({})));
        format!("{}.{}.", base64url(header.to_string().as_bytes()), base64url(claims.to_string().as_bytes()))
    }

    /// A token whose signature is a HMAC with the public key as its secret.
    pub(crate) fn signed_with_public_key(&self, subject: &str) -> Result<String> {
        let header = Header { kid: Some(self.key_id.clone()), ..Header::new(Algorithm::HS256) };
        let key = EncodingKey::from_secret(self.key_set().as_bytes());
        encode(&header, &self.claims(subject, When::Now, json!({})), &key).map_err(Error::suite)
    }

    /// The claims of a valid token with these claims, for the model.
    pub(crate) fn seen(&self, subject: &str, claims: Value) -> Token {
        let claims = self.claims(subject, When::Now, claims);
        let text = |name: &str| claims.get(name).and_then(Value::as_str).map(str::to_owned);
        Token {
            issuer: self.name.clone(),
            subject: subject.into(),
            audiences: text("aud").into_iter().collect(),
            presenter: text("azp"),
            claims: claims.into_iter().collect(),
        }
    }

    fn claims(&self, subject: &str, when: When, more: Value) -> Map<String, Value> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let (from, until) = match when {
            When::Now => (now - LIFETIME, now + LIFETIME),
            When::Expired => (now - 2 * LIFETIME, now - LIFETIME),
            When::Later => (now + LIFETIME, now + 2 * LIFETIME),
        };
        let own = json!({
            "iss": self.name, "sub": subject, "aud": AUDIENCE, "nbf": from.as_secs(), "exp": until.as_secs(),
        });
        let all = [own, more].into_iter().filter_map(|claims| claims.as_object().cloned());
        all.flatten().collect()
    }
}

/// The audience of tokens that the servers take.
pub(crate) const AUDIENCE: &str = "orders";

fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
