//! Who may call: the file of `--clients`.

use std::collections::HashSet;

use data_encoding::HEXLOWER_PERMISSIVE;
use jsonwebtoken::Algorithm;
use serde::Deserialize;

use super::jwt::{Issuer, Keys};
use crate::{fhir::cds::Service, fhir_server::lookup::Allowed};

/// Everyone who may call.
#[derive(Debug, Default)]
pub struct Clients {
    pub(super) list: Vec<Client>,
}

/// One caller.
#[derive(Debug)]
pub(super) struct Client {
    /// Its name; appears in logs.
    pub(super) name: String,
    /// Whose data it sees.
    pub(super) tenant: String,
    /// How it proves who it is.
    pub(super) proof: Proof,
    /// What it may do with CDS Hooks; `None`: nothing.
    pub(super) cds: Option<CdsRights>,
}

/// How a caller proves who it is.
#[derive(Debug)]
pub(super) enum Proof {
    /// SHA-256 of its bearer token.
    Token([u8; 32]),
    /// Tokens that it signs.
    Jwt(Box<Issuer>),
}

/// What a client of CDS Hooks may do.
#[derive(Debug, Clone, Default)]
pub(super) struct CdsRights {
    /// FHIR servers that may be asked for it.
    pub(super) fhir_servers: Vec<Allowed>,
    /// Web pages that may call for it.
    pub(super) origins: Vec<String>,
    /// Services it may call.
    pub(super) services: Vec<Service>,
    /// It carries out actions by itself.
    pub(super) system_actions: bool,
    /// Launch address of the SMART app that its cards link to.
    pub(super) smart_app: Option<String>,
}

/// What is wrong with the file.
#[derive(Debug, thiserror::Error)]
pub enum ClientsError {
    /// Not TOML, or not of the right shape.
    #[error("{0}")]
    Shape(String),
    /// An entry.
    #[error("client {name}: {why}")]
    Entry {
        /// Its name.
        name: String,
        /// What is wrong with it.
        why: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    client: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    #[serde(default = "default_tenant")]
    tenant: String,
    /// Scopes of the FHIR door, which does not ask for them yet.
    #[serde(default, rename = "scopes")]
    _scopes: Vec<String>,
    token_sha256: Option<String>,
    san: Option<String>,
    jwt: Option<Jwt>,
    cds: Option<Cds>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Jwt {
    issuer: String,
    jwks_file: Option<std::path::PathBuf>,
    jwks_url: Option<String>,
    #[serde(default)]
    jku: Vec<String>,
    #[serde(default = "default_algs")]
    algs: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cds {
    #[serde(default)]
    fhir_servers: Vec<Server>,
    #[serde(default)]
    origins: Vec<String>,
    services: Option<Vec<String>>,
    #[serde(default)]
    system_actions: bool,
    smart_app: Option<String>,
}

/// A base address, or one that may lie in the hospital's own network.
#[derive(Deserialize)]
#[serde(untagged)]
enum Server {
    Base(String),
    Entry { base: String, network: String },
}

fn default_tenant() -> String {
    "default".to_owned()
}

fn default_algs() -> Vec<String> {
    vec!["ES384".to_owned(), "RS384".to_owned()]
}

impl Clients {
    /// Reads the text of the file; `read` reads the files of keys that it names.
    pub fn parse(
        text: &str,
        read: impl Fn(&std::path::Path) -> std::io::Result<Vec<u8>>,
    ) -> Result<Self, ClientsError> {
        // The message of the parser quotes the line; a line may hold a secret.
        let file: File = toml::from_str(text).map_err(|error| {
            let line = error
                .span()
                .and_then(|span| text.get(..span.start))
                .map_or(0, |before| before.matches('\n').count() + 1);
            ClientsError::Shape(format!("line {line}: {}", error.message()))
        })?;
        let mut names = HashSet::new();
        let mut issuers = HashSet::new();
        let mut list = Vec::new();
        for entry in file.client {
            let name = entry.name.clone();
            if let Some(jwt) = &entry.jwt
                && !issuers.insert(jwt.issuer.clone())
            {
                return Err(wrong(&name, "its issuer is the issuer of another client"));
            }
            if !names.insert(name.clone()) {
                return Err(wrong(&name, "the name stands twice"));
            }
            list.push(client(entry, &read)?);
        }
        Ok(Self { list })
    }

    /// Every web page that may call for anybody.
    pub(super) fn origins(&self) -> impl Iterator<Item = &str> {
        self.list
            .iter()
            .filter_map(|client| client.cds.as_ref())
            .flat_map(|cds| &cds.origins)
            .map(String::as_str)
    }
}

fn wrong(name: &str, why: impl Into<String>) -> ClientsError {
    ClientsError::Entry {
        name: name
            .chars()
            .filter(|letter| !letter.is_control())
            .take(100)
            .collect(),
        why: why.into(),
    }
}

fn client(
    entry: Entry,
    read: &impl Fn(&std::path::Path) -> std::io::Result<Vec<u8>>,
) -> Result<Client, ClientsError> {
    let name = entry.name;
    if name.is_empty() || name.len() > 100 {
        return Err(wrong(&name, "a name has 1 to 100 characters"));
    }
    let proof = match (entry.token_sha256, entry.jwt, entry.san) {
        (Some(hash), None, None) => Proof::Token(
            HEXLOWER_PERMISSIVE
                .decode(hash.as_bytes())
                .ok()
                .and_then(|bytes| bytes.try_into().ok())
                .ok_or_else(|| wrong(&name, "token_sha256 is not 64 hexadecimal digits"))?,
        ),
        (None, Some(jwt), None) => Proof::Jwt(Box::new(issuer(&name, jwt, read)?)),
        (None, None, Some(_)) => {
            return Err(wrong(
                &name,
                "san asks for client certificates, which this version leaves to a gateway",
            ));
        }
        (None, None, None) => return Err(wrong(&name, "it has no credentials")),
        _ => return Err(wrong(&name, "it has more than one kind of credentials")),
    };
    let cds = entry.cds.map(|cds| rights(&name, cds)).transpose()?;
    Ok(Client {
        name,
        tenant: entry.tenant,
        proof,
        cds,
    })
}

fn issuer(
    name: &str,
    jwt: Jwt,
    read: &impl Fn(&std::path::Path) -> std::io::Result<Vec<u8>>,
) -> Result<Issuer, ClientsError> {
    let algorithms = jwt
        .algs
        .iter()
        .map(|alg| match alg.as_str() {
            "ES384" => Ok(Algorithm::ES384),
            "RS384" => Ok(Algorithm::RS384),
            "ES256" => Ok(Algorithm::ES256),
            "RS256" => Ok(Algorithm::RS256),
            "PS384" => Ok(Algorithm::PS384),
            _ => Err(wrong(
                name,
                "algs may hold ES384, RS384, ES256, RS256, PS384",
            )),
        })
        .collect::<Result<Vec<_>, _>>()?;
    let keys = match (jwt.jwks_file, jwt.jwks_url) {
        (Some(file), None) => {
            let bytes = read(&file).map_err(|error| wrong(name, format!("jwks_file: {error}")))?;
            Keys::fixed(&bytes).ok_or_else(|| wrong(name, "jwks_file holds no key set"))?
        }
        (None, Some(url)) => {
            let url = Allowed::new(&url, false)
                .map_err(|error| wrong(name, format!("jwks_url: {error}")))?;
            Keys::at(url)
        }
        _ => return Err(wrong(name, "it needs jwks_file or jwks_url")),
    };
    Ok(Issuer {
        name: jwt.issuer,
        keys,
        jku: jwt.jku,
        algorithms,
    })
}

fn rights(name: &str, cds: Cds) -> Result<CdsRights, ClientsError> {
    let fhir_servers = cds
        .fhir_servers
        .iter()
        .map(|server| {
            let (base, internal) = match server {
                Server::Base(base) => (base, false),
                Server::Entry { base, network } => (base, network == "internal"),
            };
            Allowed::new(base, internal)
                .map_err(|error| wrong(name, format!("fhir_servers: {error}")))
        })
        .collect::<Result<Vec<_>, _>>()?;
    let services = match cds.services {
        None => Service::ALL.to_vec(),
        Some(ids) => ids
            .iter()
            .map(|id| Service::from_id(id).ok_or_else(|| wrong(name, "services: no such service")))
            .collect::<Result<Vec<_>, _>>()?,
    };
    if let Some(url) = &cds.smart_app
        && !(url.starts_with("https://") || url.starts_with("http://127.0.0.1"))
    {
        return Err(wrong(name, "smart_app: an https address is expected"));
    }
    Ok(CdsRights {
        fhir_servers,
        origins: cds
            .origins
            .into_iter()
            .map(|origin| origin.trim_end_matches('/').to_owned())
            .collect(),
        services,
        system_actions: cds.system_actions,
        smart_app: cds.smart_app,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Clients, ClientsError> {
        Clients::parse(text, |_| Ok(br#"{"keys":[]}"#.to_vec()))
    }

    #[test]
    fn an_entry_has_one_kind_of_credentials() {
        let token = format!("token_sha256 = \"{}\"", "ab".repeat(32));
        assert!(parse(&format!("[[client]]\nname = \"a\"\n{token}\n")).is_ok());
        assert!(parse("[[client]]\nname = \"a\"\n").is_err());
        let both = format!(
            "[[client]]\nname = \"a\"\n{token}\n[client.jwt]\nissuer = \"i\"\njwks_file = \"k\"\n"
        );
        assert!(parse(&both).is_err());
        assert!(parse("[[client]]\nname = \"a\"\ntoken_sha256 = \"abc\"\n").is_err());
        assert!(parse(&format!("[[client]]\nname = \"a\"\n{token}\nscope = 1\n")).is_err());
    }

    #[test]
    fn algorithms_and_addresses_are_checked() {
        let with = |more: &str| {
            parse(&format!(
                "[[client]]\nname = \"a\"\n[client.jwt]\nissuer = \"https://i\"\njwks_file = \"k\"\n{more}"
            ))
        };
        let fine = with(
            "algs = [\"ES384\"]\n[client.cds]\nfhir_servers = [\"https://e.example/fhir\", \
             { base = \"https://h.example/fhir\", network = \"internal\" }]\n\
             origins = [\"https://o.example/\"]\nservices = [\"marrowflag-cytopenia\"]\n",
        )
        .unwrap();
        let cds = fine.list[0].cds.as_ref().unwrap();
        assert_eq!(cds.services, [Service::Cytopenia]);
        assert_eq!(fine.origins().collect::<Vec<_>>(), ["https://o.example"]);
        for bad in [
            "algs = [\"HS256\"]\n",
            "algs = [\"none\"]\n",
            "jwks_url = \"https://x\"\n",
            "[client.cds]\nfhir_servers = [\"http://e.example/fhir\"]\n",
            "[client.cds]\nservices = [\"other\"]\n",
            "[client.cds]\nsmart_app = \"javascript:alert(1)\"\n",
        ] {
            assert!(with(bad).is_err(), "{bad}");
        }
        let secret = parse("[[client]]\nname = \"a\"\ntoken_sha256 = secret-word\n").unwrap_err();
        assert!(!secret.to_string().contains("secret-word"), "{secret}");
    }
}
