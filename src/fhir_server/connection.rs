//! How a FHIR server is connected to: limits, whose certificates are believed there, and our own.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
    sync::Mutex,
};

use reqwest::{Certificate, Identity};
use sha2::{Digest, Sha256};
use time::{Duration, OffsetDateTime};

use super::{
    SetupError, lock,
    wire::{self, Limits},
};

/// How often files are looked at again at most: a renewed certificate needs no restart.
pub(super) const FILE_FRESH: Duration = Duration::minutes(1);
/// Far more than a certificate with its chain, a key or a list of authorities takes.
const FILE_LIMIT: u64 = 4 * 1024 * 1024;

/// Certificates for the connections to one FHIR server and its authorization server, as PEM files.
#[derive(Debug, Clone, Default)]
pub struct TlsFiles {
    /// Our certificate with its chain, and its private key: for a server that asks who connects.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The only authorities to believe, instead of those of this machine.
    pub authorities: Option<PathBuf>,
}

/// Connections to one FHIR server. Its files are read again when they change.
#[derive(Debug)]
pub struct Connection {
    limits: Limits,
    files: TlsFiles,
    made: Mutex<Made>,
}

#[derive(Debug)]
struct Made {
    looked_at: Option<OffsetDateTime>,
    /// Of what the files held.
    hash: [u8; 32],
    client: reqwest::Client,
}

/// What the files hold.
struct Held {
    identity: Option<Vec<u8>>,
    authorities: Option<Vec<u8>>,
}

impl Connection {
    /// Reads the files, so that what is wrong with them is heard of at the start.
    pub fn new(limits: Limits, files: TlsFiles) -> Result<Self, SetupError> {
        let held = Held::read(&files)?;
        let made = Made {
            looked_at: None,
            hash: held.hash(),
            client: held.client(&limits, &files)?,
        };
        Ok(Self {
            limits,
            files,
            made: Mutex::new(made),
        })
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The client, by the files as they are now. Files that are broken meanwhile leave the one that
    /// works.
    pub(super) async fn client(&self, now: OffsetDateTime) -> reqwest::Client {
        {
            let mut made = lock(&self.made);
            let no_files = self.files.identity.is_none() && self.files.authorities.is_none();
            let fresh = made
                .looked_at
                .is_some_and(|at| (now - at).abs() < FILE_FRESH);
            if no_files || fresh {
                return made.client.clone();
            }
            made.looked_at = Some(now);
        }
        let files = self.files.clone();
        let read = tokio::task::spawn_blocking(move || Held::read(&files)).await;
        let mut made = lock(&self.made);
        if let Ok(held) = read {
            let renewed = held.and_then(|held| {
                let hash = held.hash();
                if hash == made.hash {
                    return Ok(None);
                }
                let client = held.client(&self.limits, &self.files)?;
                Ok(Some((hash, client)))
            });
            match renewed {
                Ok(None) => {}
                Ok(Some((hash, client))) => {
                    tracing::info!("the certificates for the FHIR server were renewed");
                    made.hash = hash;
                    made.client = client;
                }
                Err(error) => {
                    tracing::warn!(%error, "the certificates for the FHIR server are left as they were");
                }
            }
        }
        made.client.clone()
    }
}

impl Held {
    fn read(files: &TlsFiles) -> Result<Self, SetupError> {
        let identity = match &files.identity {
            None => None,
            Some((certificate, key)) => {
                let mut both = read(certificate)?;
                both.push(b'\n');
                both.extend(read(key)?);
                Some(both)
            }
        };
        Ok(Self {
            identity,
            authorities: files.authorities.as_deref().map(read).transpose()?,
        })
    }

    fn hash(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        for part in [&self.identity, &self.authorities] {
            hash.update(Sha256::digest(part.as_deref().unwrap_or_default()));
        }
        hash.finalize().into()
    }

    fn client(&self, limits: &Limits, files: &TlsFiles) -> Result<reqwest::Client, SetupError> {
        let mut builder = wire::builder(limits);
        if let (Some(pem), Some(path)) = (&self.authorities, &files.authorities) {
            let certificates = Certificate::from_pem_bundle(pem)
                .ok()
                .filter(|all| !all.is_empty())
                .ok_or_else(|| broken(path, "holds no certificate (PEM)"))?;
            builder = builder.tls_certs_only(certificates);
        }
        if let (Some(pem), Some((certificate, _))) = (&self.identity, &files.identity) {
            let wrong = "and its key are no pair of certificate and private key (PEM)";
            let identity = Identity::from_pem(pem).map_err(|_| broken(certificate, wrong))?;
            // Whether the two belong together shows when a client is made of them.
            let client = builder.identity(identity).build();
            return client.map_err(|_| broken(certificate, wrong));
        }
        builder.build().map_err(SetupError::Client)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, SetupError> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(FILE_LIMIT).read_to_end(&mut bytes))
        .map_err(|error| SetupError::File {
            what: "certificates",
            path: path.to_owned(),
            why: format!("cannot be read: {}", error.kind()),
        })?;
    Ok(bytes)
}

fn broken(path: &Path, why: &str) -> SetupError {
    SetupError::File {
        what: "certificates",
        path: path.to_owned(),
        why: why.to_owned(),
    }
}
