//! A FHIR server over TLS: whom we believe, and who we are there.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use marrowflag::{
    fhir_server::{Connection, FhirServer, Limits, SetupError, Smart, TlsFiles, Token},
    store::delivery::{Hold, Next, Outcome},
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use tokio_rustls::rustls::{
    RootCertStore, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
};

use crate::{
    authority::Authority,
    deliveries::{NOW, flag, leased, limits, next, send},
    misbehaving::{Fault, Misbehaving, On, PUT_ID},
    smart::registration,
};

/// An authority, and what it is called in files.
pub(crate) struct Authorities {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate and its key (PEM).
pub(crate) struct Pair {
    certificate: String,
    key: String,
}

impl Authorities {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    /// A certificate for this name.
    pub(crate) fn certify(&self, name: &str) -> Pair {
        self.certify_until(name, 2100)
    }

    /// One that ends with the beginning of a year.
    pub(crate) fn certify_until(&self, name: &str, year: i32) -> Pair {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Pair {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    }

    /// The file that a client believes.
    pub(crate) fn write(&self, directory: &Path) -> PathBuf {
        let path = directory.join("ca.pem");
        std::fs::write(&path, &self.pem).unwrap();
        path
    }
}

impl Pair {
    fn write(&self, directory: &Path) -> (PathBuf, PathBuf) {
        let [certificate, key] = ["client.pem", "client.key"].map(|name| directory.join(name));
        std::fs::write(&certificate, &self.certificate).unwrap();
        std::fs::write(&key, &self.key).unwrap();
        (certificate, key)
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Serves with this certificate; `clients`: only those whom these authorities certified.
pub(crate) fn serving(pair: &Pair, clients: Option<&Authorities>) -> Arc<ServerConfig> {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authorities) => {
            let mut roots = RootCertStore::empty();
            roots
                .add(CertificateDer::from_pem_slice(authorities.pem.as_bytes()).unwrap())
                .unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let certificate = CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
    Arc::new(builder.with_single_cert(vec![certificate], key).unwrap())
}

/// A server whose certificate can be changed while it runs.
pub(crate) struct Secured {
    pub(crate) hostile: Misbehaving,
    pub(crate) authorities: Authorities,
    pub(crate) directory: TempDir,
    pub(crate) tls: Arc<Mutex<Arc<ServerConfig>>>,
}

impl Secured {
    /// With a certificate that is good.
    pub(crate) async fn start() -> Self {
        let authorities = Authorities::new();
        let tls = Arc::new(Mutex::new(serving(&authorities.certify("localhost"), None)));
        let current = Arc::clone(&tls);
        Self {
            hostile: Misbehaving::start_tls(PUT_ID, move || Arc::clone(&current.lock().unwrap()))
                .await,
            authorities,
            directory: tempfile::tempdir().unwrap(),
            tls,
        }
    }

    pub(crate) fn serve(&self, tls: Arc<ServerConfig>) {
        *self.tls.lock().unwrap() = tls;
    }

    /// A client that believes its authorities, as `pair` if it is someone.
    pub(crate) fn client(&self, pair: Option<&Pair>) -> Result<FhirServer, SetupError> {
        let files = TlsFiles {
            identity: pair.map(|pair| pair.write(self.directory.path())),
            authorities: Some(self.authorities.write(self.directory.path())),
        };
        let connection = Connection::new(limits(), files)?;
        FhirServer::over(Arc::new(connection), &self.hostile.base, Token::None)
    }
}

async fn sent(target: &FhirServer) -> Outcome {
    send(target, &leased("1", vec![flag("1", "a", "active", "low")]))
        .await
        .outcome
}

#[tokio::test]
async fn a_certificate_that_is_not_good_holds_the_target() {
    let secured = Secured::start().await;
    let target = secured.client(None).unwrap();
    let strangers = Authorities::new();
    for (what, pair) in [
        (
            "expired",
            secured.authorities.certify_until("localhost", 2020),
        ),
        (
            "of another name",
            secured.authorities.certify("other.example"),
        ),
        ("of an unknown authority", strangers.certify("localhost")),
    ] {
        secured.serve(serving(&pair, None));
        let sent = send(&target, &leased("1", vec![flag("1", "a", "active", "low")])).await;
        assert_eq!(sent.outcome, Outcome::Certificate, "{what}");
        let at = NOW + std::time::Duration::from_mins(5);
        let held = Next::Held {
            hold: Hold::Certificate,
            at,
            first: marrowflag::store::delivery::First::Nothing,
        };
        assert_eq!(next(&sent), held, "{what}");
    }
    secured.hostile.script(On::Connection, [Fault::OldTls]);
    assert_eq!(sent(&target).await, Outcome::Certificate, "TLS 1.0");
    assert!(
        secured.hostile.truth().requests.is_empty(),
        "nothing was told to any of them"
    );
    secured.serve(serving(&secured.authorities.certify("localhost"), None));
    assert_eq!(sent(&target).await, Outcome::Delivered);
}

#[tokio::test]
async fn without_a_list_of_authorities_those_of_the_machine_are_believed() {
    let secured = Secured::start().await;
    let target = FhirServer::new(&secured.hostile.base, Token::None, limits()).unwrap();
    assert_eq!(sent(&target).await, Outcome::Certificate);
}

#[tokio::test]
async fn a_server_that_asks_who_connects_is_told() {
    let secured = Secured::start().await;
    let hospital = Authorities::new();
    secured.serve(serving(
        &secured.authorities.certify("localhost"),
        Some(&hospital),
    ));
    assert_eq!(
        sent(&secured.client(None).unwrap()).await,
        Outcome::Certificate,
        "nobody"
    );
    let stranger = Authorities::new().certify("marrowflag.hospital.example");
    let target = secured.client(Some(&stranger)).unwrap();
    assert_eq!(sent(&target).await, Outcome::Certificate, "a stranger");
    let expired = hospital.certify_until("marrowflag.hospital.example", 2020);
    let target = secured.client(Some(&expired)).unwrap();
    assert_eq!(sent(&target).await, Outcome::Certificate, "too late");
    assert!(secured.hostile.truth().requests.is_empty());
    let target = secured
        .client(Some(&hospital.certify("marrowflag.hospital.example")))
        .unwrap();
    assert_eq!(sent(&target).await, Outcome::Delivered);
}

#[tokio::test]
async fn a_renewed_certificate_needs_no_restart() {
    let secured = Secured::start().await;
    let hospital = Authorities::new();
    secured.serve(serving(
        &secured.authorities.certify("localhost"),
        Some(&hospital),
    ));
    let expired = hospital.certify_until("marrowflag.hospital.example", 2020);
    let target = secured.client(Some(&expired)).unwrap();
    let at = |seconds: i64| NOW + time::Duration::seconds(seconds);
    let sent = async |seconds: i64| {
        let lease = leased("1", vec![flag("1", "a", "active", "low")]);
        target.send(&lease, at(seconds), &|| true).await.outcome
    };
    assert_eq!(sent(0).await, Outcome::Certificate);
    // Half written, as when it is copied: the old one stays.
    let (certificate, _) = hospital
        .certify("marrowflag.hospital.example")
        .write(secured.directory.path());
    let whole = std::fs::read(&certificate).unwrap();
    std::fs::write(&certificate, &whole[..whole.len() / 2]).unwrap();
    assert_eq!(sent(60).await, Outcome::Certificate);
    std::fs::write(&certificate, whole).unwrap();
    assert_eq!(
        sent(119).await,
        Outcome::Certificate,
        "looked at once a minute"
    );
    assert_eq!(sent(120).await, Outcome::Delivered);
}

/// The authorization server is asked as the FHIR server is: by our certificate, believing the same.
#[tokio::test]
async fn a_token_is_asked_for_by_the_same_certificates() {
    let secured = Secured::start().await;
    let hospital = Authorities::new();
    let localhost = secured.authorities.certify("localhost");
    secured.serve(serving(&localhost, Some(&hospital)));
    let path = secured.directory.path();
    registration(path, &[("e", "ES384")], "");
    let files = TlsFiles {
        identity: Some(hospital.certify("marrowflag.hospital.example").write(path)),
        authorities: Some(secured.authorities.write(path)),
    };
    let connection = Arc::new(Connection::new(limits(), files).unwrap());
    let base = &secured.hostile.base;
    let shared = Arc::clone(&connection);
    let smart = Smart::load(&path.join("smart.toml"), base, false, shared, rand::random).unwrap();
    let authority = Authority::at(base, smart.public_keys(NOW).await);
    secured.hostile.truth().authority = Some(authority);
    let token = Token::Smart(Arc::new(smart));
    let target = FhirServer::over(connection, base, token).unwrap();
    assert_eq!(sent(&target).await, Outcome::Delivered);
    assert_eq!(secured.hostile.truth().asked(On::Token), 1);
}

#[test]
fn files_that_cannot_work_are_refused_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let authorities = Authorities::new();
    let [one, other] = ["one", "other"].map(|name| authorities.certify(name));
    let certificate = file("certificate", &one.certificate);
    let key = file("key", &one.key);
    let others = file("others", &other.key);
    let empty = file("empty", "");
    let absent = directory.path().join("absent");
    let identity = |certificate: &PathBuf, key: &PathBuf| TlsFiles {
        identity: Some((certificate.clone(), key.clone())),
        authorities: None,
    };
    let authorities = |path: &PathBuf| TlsFiles {
        identity: None,
        authorities: Some(path.clone()),
    };
    assert!(Connection::new(Limits::default(), identity(&certificate, &key)).is_ok());
    assert!(Connection::new(Limits::default(), authorities(&certificate)).is_ok());
    for (files, why) in [
        (identity(&certificate, &others), "no pair"),
        (identity(&certificate, &empty), "no pair"),
        (identity(&key, &key), "no pair"),
        (identity(&certificate, &absent), "cannot be read"),
        (authorities(&empty), "holds no certificate"),
        (authorities(&absent), "cannot be read"),
    ] {
        let error = Connection::new(Limits::default(), files)
            .unwrap_err()
            .to_string();
        assert!(error.contains(why), "{why}: {error}");
        assert!(!error.contains("BEGIN"), "{error}");
    }
}
