//! Signed tokens of callers (CDS Hooks client authentication).
//!
//! The signature is checked by `jsonwebtoken` with aws-lc; everything else is checked here, on our
//! own strict parse: by the clock that is handed in, and with no member standing twice. Whatever
//! is wrong, the caller learns only that it is.

use std::{collections::HashMap, fmt};

use data_encoding::BASE64URL_NOPAD;
use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse},
};
use time::{Duration, OffsetDateTime};
use tokio::sync::Mutex;

use crate::{
    fhir::tree::{self, Parsed},
    fhir_server::lookup::{Allowed, Lookup},
};

/// A token may be this long.
const LONGEST: usize = 16 * 1024;
/// Clocks may differ by this much.
const LEEWAY: i64 = 60;
/// A token may be good for this long, seconds.
const LIFE: i64 = 3600;
/// The name of a key is no longer.
const KEY_ID: usize = 128;
/// Bytes of a key set.
const KEY_SET: usize = 256 * 1024;
/// A key set is fetched again after this time, and for an unknown key at most this often.
const FRESH: Duration = Duration::HOUR;
const AT_MOST: Duration = Duration::seconds(30);
/// Old keys serve for this long while their issuer cannot be reached.
const STALE: Duration = Duration::DAY;

/// Who signs.
#[derive(Debug)]
pub(super) struct Issuer {
    /// `iss`, exactly.
    pub(super) name: String,
    /// Its keys.
    pub(super) keys: Keys,
    /// Values of `jku` that are not refused. They are never fetched.
    pub(super) jku: Vec<String>,
    /// Algorithms it may use.
    pub(super) algorithms: Vec<Algorithm>,
}

/// Keys by name; a name that two keys have is nobody's.
type KeyMap = HashMap<String, Option<(Jwk, DecodingKey)>>;

/// Where keys come from.
pub(super) enum Keys {
    /// A file, read at the start.
    Fixed(KeyMap),
    /// An address.
    At(Box<Remote>),
}

/// Keys at an address.
pub(super) struct Remote {
    url: Allowed,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    keys: KeyMap,
    fetched: Option<OffsetDateTime>,
    tried: Option<OffsetDateTime>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[keys]")
    }
}

impl Keys {
    /// From a key set; `None`: it is none.
    pub(super) fn fixed(bytes: &[u8]) -> Option<Self> {
        key_map(bytes).map(Self::Fixed)
    }

    /// At an address.
    pub(super) fn at(url: Allowed) -> Self {
        Self::At(Box::new(Remote {
            url,
            state: Mutex::default(),
        }))
    }

    async fn find(
        &self,
        name: &str,
        lookup: &Lookup,
        now: OffsetDateTime,
    ) -> Option<(Jwk, DecodingKey)> {
        match self {
            Self::Fixed(keys) => keys.get(name).cloned().flatten(),
            Self::At(remote) => remote.find(name, lookup, now).await,
        }
    }
}

impl Remote {
    async fn find(
        &self,
        name: &str,
        lookup: &Lookup,
        now: OffsetDateTime,
    ) -> Option<(Jwk, DecodingKey)> {
        let mut state = self.state.lock().await;
        let age = |since: Option<OffsetDateTime>| since.map(|since| now - since);
        let is_fresh = age(state.fetched).is_some_and(|age| age < FRESH);
        let may_try = age(state.tried).is_none_or(|age| age >= AT_MOST);
        if (!is_fresh || !state.keys.contains_key(name)) && may_try {
            state.tried = Some(now);
            let keys = lookup.key_set(&self.url, KEY_SET).await;
            if let Some(keys) = keys.as_deref().and_then(key_map) {
                state.keys = keys;
                state.fetched = Some(now);
            }
        }
        if age(state.fetched).is_none_or(|age| age > STALE) {
            return None;
        }
        state.keys.get(name).cloned().flatten()
    }
}

fn key_map(bytes: &[u8]) -> Option<KeyMap> {
    let set: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    let mut keys = KeyMap::new();
    for key in set.get("keys")?.as_array()? {
        // Keys of kinds we do not know may stand beside ours.
        let Ok(jwk) = serde_json::from_value::<Jwk>(key.clone()) else {
            continue;
        };
        let (Some(name), Ok(key)) = (jwk.common.key_id.clone(), DecodingKey::from_jwk(&jwk)) else {
            continue;
        };
        keys.entry(name)
            .and_modify(|known| *known = None)
            .or_insert(Some((jwk, key)));
    }
    Some(keys)
}

/// A token that proved who sent it. Its `jti` still has to be used up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Proven {
    /// `jti`.
    pub(super) jti: String,
    /// When it can no longer be used, leeway included.
    pub(super) until: OffsetDateTime,
}

/// `iss` of a token that nobody has checked yet, to find its issuer by.
pub(super) fn claimed_issuer(token: &str) -> Option<String> {
    let (_, claims, _) = parts(token)?;
    let claims = BASE64URL_NOPAD.decode(claims.as_bytes()).ok()?;
    Some(strict(&claims)?.root.text("iss")?.to_owned())
}

/// Checks a token of `issuer` for `audience`.
pub(super) async fn verify(
    token: &str,
    issuer: &Issuer,
    audience: &str,
    lookup: &Lookup,
    now: OffsetDateTime,
) -> Option<Proven> {
    let (header_text, claims_text, signature) = parts(token)?;
    let header_bytes = BASE64URL_NOPAD.decode(header_text.as_bytes()).ok()?;
    let header = strict(&header_bytes)?.root;
    let is_jwt = header
        .text("typ")
        .is_some_and(|kind| kind.eq_ignore_ascii_case("JWT"));
    let forbidden = ["crit", "jwk", "x5c", "x5u", "zip", "enc", "b64", "cty"];
    if !is_jwt || forbidden.iter().any(|name| header.get(name).is_some()) {
        return None;
    }
    let algorithm = algorithm(header.text("alg")?)?;
    if !issuer.algorithms.contains(&algorithm) {
        return None;
    }
    if header.get("jku").is_some() {
        let jku = header.text("jku")?;
        if !issuer.jku.iter().any(|allowed| allowed == jku) {
            return None;
        }
    }
    let name = header
        .text("kid")
        .filter(|name| !name.is_empty() && name.len() <= KEY_ID)?;
    let (jwk, key) = issuer.keys.find(name, lookup, now).await?;
    if !fits(&jwk, algorithm) {
        return None;
    }
    let message = token.get(..header_text.len() + 1 + claims_text.len())?;
    let signed =
        jsonwebtoken::crypto::verify(signature, message.as_bytes(), &key, algorithm).ok()?;
    if !signed {
        return None;
    }
    let claims_bytes = BASE64URL_NOPAD.decode(claims_text.as_bytes()).ok()?;
    claims(&strict(&claims_bytes)?, issuer, audience, now)
}

fn claims(
    claims: &Parsed<'_>,
    issuer: &Issuer,
    audience: &str,
    now: OffsetDateTime,
) -> Option<Proven> {
    let claims = &claims.root;
    let seconds = |name: &str| -> Option<i64> {
        let number = claims.get(name)?.as_number()?;
        // NumericDate may have a fraction.
        number.split('.').next()?.parse().ok()
    };
    let ours = |claimed: &str| claimed.trim_end_matches('/') == audience.trim_end_matches('/');
    let for_us = claims.text("aud").is_some_and(ours)
        || claims
            .items("aud")
            .iter()
            .filter_map(tree::Tree::as_str)
            .any(ours);
    let (expires, begun) = (seconds("exp")?, seconds("iat")?);
    let not_before = match claims.get("nbf") {
        Some(_) => seconds("nbf")?,
        None => begun,
    };
    let now = now.unix_timestamp();
    let in_time = expires > now.saturating_sub(LEEWAY)
        && begun <= now.saturating_add(LEEWAY)
        && not_before <= now.saturating_add(LEEWAY)
        && expires > begun
        && expires.saturating_sub(begun) <= LIFE;
    let jti = claims
        .text("jti")
        .filter(|jti| !jti.is_empty() && jti.len() <= 1024)?;
    if claims.text("iss") != Some(&issuer.name) || !for_us || !in_time {
        return None;
    }
    let until = OffsetDateTime::from_unix_timestamp(expires.saturating_add(LEEWAY)).ok()?;
    Some(Proven {
        jti: jti.to_owned(),
        until,
    })
}

/// Header, claims and signature.
fn parts(token: &str) -> Option<(&str, &str, &str)> {
    if token.len() > LONGEST {
        return None;
    }
    let mut parts = token.split('.');
    let found = (parts.next()?, parts.next()?, parts.next()?);
    (parts.next().is_none() && !found.2.is_empty()).then_some(found)
}

/// An object in which no member stands twice and nothing is empty.
fn strict(bytes: &[u8]) -> Option<Parsed<'_>> {
    let parsed = tree::parse(bytes, &tree::Limits::default()).ok()?;
    (parsed.broken.is_empty() && matches!(parsed.root, tree::Tree::Object(_))).then_some(parsed)
}

fn algorithm(name: &str) -> Option<Algorithm> {
    Some(match name {
        "ES384" => Algorithm::ES384,
        "RS384" => Algorithm::RS384,
        "ES256" => Algorithm::ES256,
        "RS256" => Algorithm::RS256,
        "PS384" => Algorithm::PS384,
        _ => return None,
    })
}

/// Whether a key is of the kind that the algorithm wants, strong enough, and meant for signatures.
fn fits(jwk: &Jwk, algorithm: Algorithm) -> bool {
    if let Some(usage) = &jwk.common.public_key_use
        && *usage != PublicKeyUse::Signature
    {
        return false;
    }
    let kind = match (&jwk.algorithm, algorithm) {
        (AlgorithmParameters::RSA(key), Algorithm::RS256 | Algorithm::RS384 | Algorithm::PS384) => {
            let modulus = BASE64URL_NOPAD.decode(key.n.as_bytes()).unwrap_or_default();
            let bytes = modulus.iter().skip_while(|byte| **byte == 0).count();
            bytes >= 256
        }
        (AlgorithmParameters::EllipticCurve(key), Algorithm::ES384) => {
            key.curve == EllipticCurve::P384
        }
        (AlgorithmParameters::EllipticCurve(key), Algorithm::ES256) => {
            key.curve == EllipticCurve::P256
        }
        _ => false,
    };
    let stated = jwk
        .common
        .key_algorithm
        .is_none_or(|stated| self::algorithm(&stated.to_string()) == Some(algorithm));
    kind && stated
}
