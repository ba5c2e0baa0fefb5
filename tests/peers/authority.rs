//! An authorization server: it gives a token for an assertion that is signed with a key which the
//! client publishes (RFC 7523; SMART Backend Services), and knows its tokens again.

use std::collections::{BTreeSet, HashSet};

use jsonwebtoken::{Algorithm, DecodingKey, Validation, jwk::JwkSet};
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::deliveries::NOW;

pub(crate) const CLIENT: &str = "marrowflag-at-the-hospital";

/// Status, header lines and body.
type Answer = (u16, String, String);

pub(crate) struct Authority {
    /// `http://host:port`.
    address: String,
    /// What the client publishes.
    pub(crate) keys: JwkSet,
    pub(crate) now: OffsetDateTime,
    /// Whether the times of an assertion are compared with it.
    pub(crate) ends_are_checked: bool,
    pub(crate) expires_in: Value,
    /// Scopes that it grants; whoever asks for another gets none.
    pub(crate) scopes: Option<Vec<&'static str>>,
    /// What it says it granted, whatever was asked for.
    pub(crate) says: Option<&'static str>,
    pub(crate) algorithms: Vec<&'static str>,
    pub(crate) capabilities: Vec<&'static str>,
    /// Where it says tokens are given, if not here.
    pub(crate) elsewhere: Option<String>,
    /// Nodes of the FHIR server, to which requests go in turn; the first alone knows the tokens.
    pub(crate) nodes: usize,
    turn: usize,
    seen: HashSet<String>,
    live: Vec<String>,
    /// Who asked: algorithm, key and scope.
    pub(crate) given: Vec<(Algorithm, String, String)>,
}

impl Authority {
    /// At the server with this FHIR base.
    pub(crate) fn at(base: &str, keys: JwkSet) -> Self {
        Self {
            address: base.strip_suffix("/fhir").unwrap().to_owned(),
            keys,
            now: NOW,
            ends_are_checked: true,
            expires_in: json!(300),
            scopes: None,
            says: None,
            algorithms: vec!["RS384", "ES384"],
            capabilities: vec!["client-confidential-asymmetric", "permission-v2"],
            elsewhere: None,
            nodes: 1,
            turn: 0,
            seen: HashSet::new(),
            live: Vec::new(),
            given: Vec::new(),
        }
    }

    /// The tokens given so far are worth nothing.
    pub(crate) fn revoke(&mut self) {
        self.live.clear();
    }

    pub(crate) fn configuration(&self) -> Answer {
        let here = format!("{}/token", self.address);
        let endpoint = self.elsewhere.as_ref().unwrap_or(&here);
        let configuration = json!({
            "token_endpoint": endpoint,
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "private_key_jwt"],
            "token_endpoint_auth_signing_alg_values_supported": self.algorithms,
            "grant_types_supported": ["client_credentials"],
            "capabilities": self.capabilities
        });
        (200, String::new(), configuration.to_string())
    }

    /// Whether a request carries a token of ours, at the node whose turn it is.
    pub(crate) fn takes(&mut self, authorization: Option<&String>) -> bool {
        let node = self.turn % self.nodes;
        self.turn += 1;
        node == 0
            && authorization.is_some_and(|header| {
                let token = header.strip_prefix("Bearer ");
                self.live.iter().any(|live| Some(live.as_str()) == token)
            })
    }

    pub(crate) fn give(&mut self, form: &str) -> Answer {
        match self.check(form) {
            Ok(granted) => {
                let token = format!("token-{}", self.given.len());
                self.live.push(token.clone());
                let mut answer = json!({"access_token": token, "token_type": "Bearer"});
                if !self.expires_in.is_null() {
                    answer["expires_in"] = self.expires_in.clone();
                }
                answer["scope"] = json!(self.says.map_or(granted, str::to_owned));
                (200, String::new(), answer.to_string())
            }
            Err(error) => (400, String::new(), json!({"error": error}).to_string()),
        }
    }

    /// The scope that is granted.
    fn check(&mut self, form: &str) -> Result<String, &'static str> {
        let url = reqwest::Url::parse(&format!("http://localhost/?{form}")).unwrap();
        let field = |name: &str| {
            let mut pairs = url.query_pairs().filter(|(field, _)| field == name);
            let value = pairs.next().map(|(_, value)| value.into_owned());
            assert!(pairs.next().is_none(), "{name} stands twice");
            value.ok_or("invalid_request")
        };
        if field("grant_type")? != "client_credentials" {
            return Err("unsupported_grant_type");
        }
        if field("client_assertion_type")?
            != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
        {
            return Err("invalid_request");
        }
        let (algorithm, kid) = self.authenticate(&field("client_assertion")?)?;
        let scope = field("scope")?;
        let asked: BTreeSet<_> = scope.split(' ').collect();
        if self
            .scopes
            .as_ref()
            .is_some_and(|all| !asked.iter().all(|one| all.contains(one)))
        {
            return Err("invalid_scope");
        }
        self.given.push((algorithm, kid, scope.clone()));
        Ok(scope)
    }

    /// Algorithm and name of the key that signed.
    fn authenticate(&mut self, assertion: &str) -> Result<(Algorithm, String), &'static str> {
        const REFUSED: &str = "invalid_client";
        let header = jsonwebtoken::decode_header(assertion).map_err(|_| REFUSED)?;
        let name = format!("{:?}", header.alg);
        if header.typ.as_deref() != Some("JWT") || !self.algorithms.contains(&name.as_str()) {
            return Err(REFUSED);
        }
        let kid = header.kid.ok_or(REFUSED)?;
        let key = self.keys.find(&kid).ok_or(REFUSED)?;
        let key = DecodingKey::from_jwk(key).map_err(|_| REFUSED)?;
        let mut validation = Validation::new(header.alg);
        // Times are compared below: with the clock of the test.
        validation.validate_exp = false;
        validation.set_audience(&[format!("{}/token", self.address)]);
        validation.set_issuer(&[CLIENT]);
        validation.set_required_spec_claims(&["aud", "exp", "iss", "sub"]);
        validation.sub = Some(CLIENT.to_owned());
        let claims = jsonwebtoken::decode::<Value>(assertion, &key, &validation);
        let claims = claims.map_err(|_| REFUSED)?.claims;
        let now = self.now.unix_timestamp();
        let exp = claims["exp"].as_i64().ok_or(REFUSED)?;
        let begun = ["iat", "nbf"].iter().all(|name| {
            let at = claims[*name].as_i64();
            at.is_some_and(|at| at <= now)
        });
        if self.ends_are_checked && (exp <= now || exp > now + 300 || !begun) {
            return Err(REFUSED);
        }
        let jti = claims["jti"].as_str().ok_or(REFUSED)?;
        if !self.seen.insert(jti.to_owned()) {
            return Err(REFUSED);
        }
        Ok((header.alg, kid))
    }
}
