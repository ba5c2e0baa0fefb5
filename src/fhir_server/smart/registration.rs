//! The file of `--fhir-server-smart`: who we are at the authorization server, and our keys.

use std::{collections::BTreeSet, io::Read as _, path::Path};

use jsonwebtoken::{
    Algorithm, EncodingKey, Header,
    jwk::{Jwk, JwkSet, PublicKeyUse},
};
use reqwest::Url;
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};

/// Far more than a registration or a key takes.
const FILE_LIMIT: u64 = 64 * 1024;
/// Old and new, for each of two algorithms, and some to spare.
const KEY_LIMIT: usize = 8;
/// How long an assertion holds: with a clock that is a minute ahead of theirs it still ends within
/// the five minutes that SMART allows.
const LIFETIME: Duration = Duration::minutes(4);
/// How far our clock may be ahead of theirs before they take the assertion for one of the future.
const SKEW: Duration = Duration::seconds(30);

/// The file, as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    client_id: String,
    token_url: Option<String>,
    jku: Option<String>,
    scopes: Option<Vec<String>>,
    keys: Vec<KeyText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyText {
    kid: String,
    alg: String,
    file: String,
}

/// Who we are at the authorization server. Holds private keys, and is therefore not printable.
pub(super) struct Registration {
    pub(super) client_id: String,
    /// Where tokens are asked for; `None`: where the FHIR server says.
    pub(super) token_url: Option<(Url, String)>,
    jku: Option<String>,
    /// What is asked for instead of our own list.
    pub(super) scopes: Option<String>,
    /// The first one that the server takes signs; all are published.
    pub(super) keys: Vec<Key>,
}

/// One key pair.
pub(super) struct Key {
    kid: String,
    algorithm: Algorithm,
    private: EncodingKey,
    public: Jwk,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    sub: &'a str,
    aud: &'a str,
    exp: i64,
    nbf: i64,
    iat: i64,
    jti: &'a str,
}

impl Registration {
    /// Reads the file and the keys that it names. `Err` is for the operator and quotes no content.
    pub(super) fn read(path: &Path) -> Result<Self, String> {
        let text = file(path)?;
        let text: Text = toml::from_str(&text).map_err(|error| {
            // Its message may quote what stands there, and someone may have put a key there.
            let before = error.span().and_then(|span| text.get(..span.start));
            let line = before.unwrap_or_default().matches('\n').count() + 1;
            format!("is not what is expected at line {line}")
        })?;
        if text.client_id.is_empty() {
            return Err("has an empty client_id".to_owned());
        }
        if text.keys.is_empty() || text.keys.len() > KEY_LIMIT {
            return Err(format!("needs 1 to {KEY_LIMIT} [[keys]]"));
        }
        let mut kids = BTreeSet::new();
        if let Some(twice) = text.keys.iter().find(|key| !kids.insert(&key.kid)) {
            return Err(format!("has the kid {} twice", twice.kid));
        }
        let token_url = match text.token_url {
            None => None,
            Some(text) => {
                let url = super::super::checked(&text)
                    .map_err(|_| "has no plain token_url".to_owned())?;
                Some((url, text))
            }
        };
        let beside = path.parent().unwrap_or_else(|| Path::new(""));
        Ok(Self {
            client_id: text.client_id,
            token_url,
            jku: text.jku,
            scopes: text.scopes.map(|scopes| scopes.join(" ")),
            keys: text
                .keys
                .into_iter()
                .map(|key| Key::read(key, beside))
                .collect::<Result<_, _>>()?,
        })
    }

    /// Our public keys.
    pub(super) fn public(&self) -> JwkSet {
        JwkSet {
            keys: self.keys.iter().map(|key| key.public.clone()).collect(),
        }
    }

    /// The signed assertion for one token request.
    pub(super) fn assertion(
        &self,
        key: &Key,
        audience: &str,
        jti: &str,
        now: OffsetDateTime,
    ) -> Result<String, jsonwebtoken::errors::Error> {
        let mut header = Header::new(key.algorithm);
        header.kid = Some(key.kid.clone());
        header.jku.clone_from(&self.jku);
        let claims = Claims {
            iss: &self.client_id,
            sub: &self.client_id,
            aud: audience,
            exp: (now + LIFETIME).unix_timestamp(),
            nbf: (now - SKEW).unix_timestamp(),
            iat: (now - SKEW).unix_timestamp(),
            jti,
        };
        jsonwebtoken::encode(&header, &claims, &key.private)
    }
}

impl Key {
    fn read(text: KeyText, beside: &Path) -> Result<Self, String> {
        let KeyText { kid, alg, file } = text;
        let algorithm = match alg.as_str() {
            "RS384" => Algorithm::RS384,
            "ES384" => Algorithm::ES384,
            _ => return Err(format!("key {kid}: alg must be RS384 or ES384")),
        };
        let pem = self::file(&beside.join(&file)).map_err(|why| format!("key {kid}: {why}"))?;
        let wrong = |_| {
            format!(
                "key {kid}: its file is no private key for {alg} (PEM, PKCS#8, P-384 or RSA of at least 2048 bits)"
            )
        };
        let private = match algorithm {
            Algorithm::RS384 => EncodingKey::from_rsa_pem(pem.as_bytes()),
            _ => EncodingKey::from_ec_pem(pem.as_bytes()),
        }
        .map_err(wrong)?;
        let mut public = Jwk::from_encoding_key(&private, algorithm).map_err(wrong)?;
        public.common.public_key_use = Some(PublicKeyUse::Signature);
        public.common.key_id = Some(kid.clone());
        Ok(Self {
            kid,
            algorithm,
            private,
            public,
        })
    }

    /// `RS384` or `ES384`.
    pub(super) fn name(&self) -> &'static str {
        match self.algorithm {
            Algorithm::RS384 => "RS384",
            _ => "ES384",
        }
    }
}

fn file(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    let file = std::fs::File::open(path)
        .map_err(|error| format!("{} cannot be read: {}", path.display(), error.kind()))?;
    file.take(FILE_LIMIT)
        .read_to_string(&mut text)
        .map_err(|error| format!("{} cannot be read: {}", path.display(), error.kind()))?;
    Ok(text)
}
