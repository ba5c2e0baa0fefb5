//! SMART Backend Services against an authorization server that checks every assertion with the keys
//! that we publish.

use std::{path::Path, sync::Arc, time::Duration};

use jsonwebtoken::{Algorithm, jwk::JwkSet};
use marrowflag::{
    fhir_server::{Connection, FhirServer, SetupError, Smart, TlsFiles, Token},
    store::{
        delivery::{First, Hold, Next, Outcome},
        lease::Leased,
    },
};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_RSA_SHA384, RsaKeySize};
use serde_json::{Value, json};
use tempfile::TempDir;
use time::OffsetDateTime;

use crate::{
    authority::{Authority, CLIENT},
    deliveries::{NOW, again, fate, flag, four, leased, limits, next, send},
    misbehaving::{Fault, Misbehaving, On, PUT_ID, TRANSACTION},
    service::{PANCYTOPENIA, Service, eventually, of},
};

fn es384() -> String {
    KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384)
        .unwrap()
        .serialize_pem()
}

fn rs384() -> String {
    let pair = KeyPair::generate_rsa_for(&PKCS_RSA_SHA384, RsaKeySize::_2048);
    pair.unwrap().serialize_pem()
}

/// The client file with these keys (name and algorithm), whose files are called like them.
pub(crate) fn registration(directory: &Path, keys: &[(&str, &str)], more: &str) {
    let mut text = format!("client_id = \"{CLIENT}\"\n{more}\n");
    for (kid, algorithm) in keys {
        let file = directory.join(format!("{kid}.pem"));
        if !file.exists() {
            let key = if *algorithm == "ES384" {
                es384()
            } else {
                rs384()
            };
            std::fs::write(file, key).unwrap();
        }
        let key = [
            "[[keys]]",
            &format!("kid = \"{kid}\""),
            &format!("alg = \"{algorithm}\""),
            &format!("file = \"{kid}.pem\""),
        ];
        text.push_str(&key.join("\n"));
        text.push('\n');
    }
    std::fs::write(directory.join("smart.toml"), text).unwrap();
}

fn load(directory: &Path, base: &str) -> Result<Smart, SetupError> {
    let connection = Arc::new(Connection::new(limits(), TlsFiles::default())?);
    Smart::load(
        &directory.join("smart.toml"),
        base,
        false,
        connection,
        rand::random,
    )
}

/// A FHIR server with its authorization server, and our client there.
struct Run {
    hostile: Misbehaving,
    directory: TempDir,
    smart: Arc<Smart>,
    target: FhirServer,
}

impl Run {
    async fn start(keys: &[(&str, &str)]) -> Self {
        Self::start_with(keys, "").await
    }

    async fn start_with(keys: &[(&str, &str)], more: &str) -> Self {
        let hostile = Misbehaving::start(PUT_ID).await;
        let directory = tempfile::tempdir().unwrap();
        let more = more.replace("HERE", hostile.base.strip_suffix("/fhir").unwrap());
        registration(directory.path(), keys, &more);
        let smart = Arc::new(load(directory.path(), &hostile.base).unwrap());
        let published = smart.public_keys(NOW).await;
        hostile.truth().authority = Some(Authority::at(&hostile.base, published));
        let token = Token::Smart(Arc::clone(&smart));
        let target = FhirServer::new(&hostile.base, token, limits()).unwrap();
        Self {
            hostile,
            directory,
            smart,
            target,
        }
    }

    fn authority(&self, change: impl FnOnce(&mut Authority)) {
        change(self.hostile.truth().authority.as_mut().unwrap());
    }

    /// Sends a Flag at this time; how it ended.
    async fn send_at(&self, now: OffsetDateTime) -> Outcome {
        self.authority(|authority| authority.now = now);
        self.target.send(&one(), now, &|| true).await.outcome
    }

    fn tokens(&self) -> usize {
        self.hostile.truth().asked(On::Token)
    }

    fn given(&self) -> Vec<(Algorithm, String, String)> {
        self.hostile
            .truth()
            .authority
            .as_ref()
            .unwrap()
            .given
            .clone()
    }
}

fn one() -> Leased {
    leased("1", vec![flag("1", "a", "active", "low")])
}

fn after(seconds: i64) -> OffsetDateTime {
    NOW + time::Duration::seconds(seconds)
}

#[tokio::test]
async fn an_assertion_of_either_algorithm_is_worth_a_token() {
    let keys = [("r", "RS384"), ("e", "ES384")];
    for (only, algorithm, kid) in [
        (vec!["RS384", "ES384"], Algorithm::RS384, "r"),
        (vec!["ES384"], Algorithm::ES384, "e"),
        (vec!["RS384"], Algorithm::RS384, "r"),
    ] {
        let run = Run::start(&keys).await;
        run.authority(|authority| authority.algorithms = only);
        assert_eq!(run.send_at(NOW).await, Outcome::Delivered);
        let (used, name, scope) = run.given().remove(0);
        assert_eq!((used, name.as_str()), (algorithm, kid));
        assert_eq!(
            scope,
            "system/Flag.crus system/DiagnosticReport.crus system/Device.crus \
             system/Provenance.crus system/Patient.rs"
        );
    }
}

#[tokio::test]
async fn a_token_is_kept_for_four_fifths_of_its_life() {
    let run = Run::start(&[("e", "ES384")]).await;
    for (seconds, tokens) in [(0, 1), (100, 1), (239, 1), (240, 2), (400, 2), (480, 3)] {
        assert_eq!(run.send_at(after(seconds)).await, Outcome::Delivered);
        assert_eq!(run.tokens(), tokens, "after {seconds} s");
        assert_eq!(run.target.tokens(), u64::try_from(tokens).ok());
    }
    assert_eq!(run.hostile.truth().asked(On::Discovery), 1);
    // A clock that goes back makes nothing last longer.
    assert_eq!(run.send_at(after(100)).await, Outcome::Delivered);
    assert_eq!(run.tokens(), 4);
}

#[tokio::test]
async fn eight_that_need_a_token_ask_once() {
    let run = Run::start(&[("e", "ES384")]).await;
    let eight = || async {
        // Those who began first come last.
        let sends = (0..8).map(|number| run.send_at(after(8 - number)));
        futures_util::future::join_all(sends).await
    };
    assert!(
        eight()
            .await
            .iter()
            .all(|outcome| *outcome == Outcome::Delivered)
    );
    assert_eq!(run.tokens(), 1);
    run.authority(Authority::revoke);
    assert!(
        eight()
            .await
            .iter()
            .all(|outcome| *outcome == Outcome::Delivered)
    );
    assert_eq!(run.tokens(), 2, "one for all who were refused");
}

#[tokio::test]
async fn a_refused_token_is_renewed_once_and_then_the_target_is_held() {
    let run = Run::start(&[("e", "ES384")]).await;
    assert_eq!(run.send_at(NOW).await, Outcome::Delivered);
    run.hostile.script(On::Write, [Fault::status(401)]);
    assert_eq!(run.send_at(NOW).await, Outcome::Delivered);
    assert_eq!(run.tokens(), 2);

    run.hostile.script(On::Write, vec![Fault::status(401); 2]);
    let sent = send(&run.target, &one()).await;
    assert_eq!(next(&sent), held(60, First::Token));
    assert_eq!(run.tokens(), 3);
    // The token that was refused is not tried again.
    run.authority(Authority::revoke);
    let refused = run.hostile.truth().requests.len();
    let sent = send(&run.target, &again(&one(), &sent)).await;
    assert_eq!(sent.outcome, Outcome::Delivered);
    let truth = run.hostile.truth();
    let (first, rest) = truth.requests[refused..].split_first().unwrap();
    assert_eq!(first.path, "/token");
    assert!(
        rest.iter()
            .all(|request| request.headers["authorization"] == "Bearer token-4")
    );
}

fn held(seconds: u64, first: First) -> Next {
    Next::Held {
        hold: Hold::Forbidden,
        at: NOW + Duration::from_secs(seconds),
        first,
    }
}

/// The new key is published first, then it signs, then the old one goes; nothing is restarted.
#[tokio::test]
async fn keys_are_rotated_while_it_runs() {
    let run = Run::start(&[("old", "ES384")]).await;
    let mut at = 0;
    for (keys, signs) in [
        (vec![("old", "ES384"), ("new", "ES384")], "old"),
        (vec![("new", "ES384"), ("old", "ES384")], "new"),
        (vec![("new", "ES384")], "new"),
    ] {
        registration(run.directory.path(), &keys, "");
        at += 3600;
        let published = run.smart.public_keys(after(at)).await;
        let names: Vec<_> = published
            .keys
            .iter()
            .map(|key| key.common.key_id.clone().unwrap())
            .collect();
        let expected: Vec<_> = keys.iter().map(|(kid, _)| (*kid).to_owned()).collect();
        assert_eq!(names, expected);
        run.authority(|authority| authority.keys = published);
        assert_eq!(run.send_at(after(at)).await, Outcome::Delivered);
        assert_eq!(run.given().last().unwrap().1, signs);
    }
    // A file that is broken while it runs costs nothing.
    std::fs::write(run.directory.path().join("smart.toml"), "client_id = ").unwrap();
    assert_eq!(run.send_at(after(at + 3600)).await, Outcome::Delivered);
    assert_eq!(run.smart.public_keys(after(at + 7200)).await.keys.len(), 1);
}

#[tokio::test]
async fn published_keys_hold_nothing_private() {
    let run = Run::start(&[("r", "RS384"), ("e", "ES384")]).await;
    let keys = serde_json::to_value(run.smart.public_keys(NOW).await).unwrap();
    let members = |index: usize| -> Vec<_> {
        let key = keys["keys"][index].as_object().unwrap();
        let mut names: Vec<_> = key.keys().map(String::as_str).collect();
        names.sort_unstable();
        names
    };
    assert_eq!(members(0), ["alg", "e", "kid", "kty", "n", "use"]);
    assert_eq!(members(1), ["alg", "crv", "kid", "kty", "use", "x", "y"]);
    assert_eq!(keys["keys"][1]["use"], "sig");
    assert_eq!(keys["keys"][1]["alg"], "ES384");
}

#[tokio::test]
async fn who_is_not_known_there_is_held_and_does_not_hammer() {
    let run = Run::start(&[("e", "ES384")]).await;
    run.authority(|authority| authority.keys.keys.clear());
    let sent = send(&run.target, &one()).await;
    assert_eq!(sent.outcome, Outcome::Unauthorized);
    assert_eq!(next(&sent), held(60, First::Token));
    for _ in 0..7 {
        assert_eq!(run.send_at(NOW).await, Outcome::Unauthorized);
    }
    assert_eq!(run.tokens(), 1, "those who come at once share the refusal");
    let truth = run.hostile.truth();
    assert_eq!(truth.asked(On::Metadata) + truth.asked(On::Write), 0);
}

#[tokio::test]
async fn what_a_token_does_not_let_us_write_is_left_out() {
    let run = Run::start(&[("e", "ES384")]).await;
    run.authority(|authority| {
        authority.says = Some("system/Flag.crus system/DiagnosticReport.crus system/Patient.rs");
    });
    let sent = send(&run.target, &leased("1", four("1", "a", "active", "low"))).await;
    assert_eq!(sent.outcome, Outcome::Delivered);
    let fates: Vec<_> = (0..4)
        .map(|ordinal| fate(&sent, ordinal).unwrap().as_str())
        .collect();
    assert_eq!(
        fates,
        ["not-writable", "written", "written", "not-writable"]
    );
    assert_eq!(run.target.unwritable(&["Device", "Flag"]), ["Device"]);
}

#[tokio::test]
async fn refused_scopes_are_asked_for_without_what_we_can_do_without() {
    let run = Run::start(&[("e", "ES384")]).await;
    run.authority(|authority| {
        authority.scopes = Some(vec![
            "system/Flag.crus",
            "system/DiagnosticReport.crus",
            "system/Patient.rs",
        ]);
    });
    assert_eq!(run.send_at(NOW).await, Outcome::Delivered);
    assert_eq!(run.tokens(), 2);
    run.authority(|authority| {
        authority.scopes = Some(vec!["system/Flag.crus"]);
        authority.revoke();
    });
    let sent = send(&run.target, &one()).await;
    assert_eq!(next(&sent), held(60, First::Token));
}

#[tokio::test]
async fn scopes_are_those_of_the_version_that_is_known_there() {
    let run = Run::start(&[("e", "ES384")]).await;
    run.authority(|authority| authority.capabilities = vec!["permission-v1"]);
    assert_eq!(run.send_at(NOW).await, Outcome::Delivered);
    let scope = run.given().remove(0).2;
    assert!(
        scope.starts_with("system/Flag.read system/Flag.write "),
        "{scope}"
    );

    let own = "token_url = \"HERE/token\"\nscopes = [\"system/*.cruds\"]";
    let run = Run::start_with(&[("e", "ES384")], own).await;
    assert_eq!(run.send_at(NOW).await, Outcome::Delivered);
    assert_eq!(run.given().remove(0).2, "system/*.cruds");
    assert_eq!(run.hostile.truth().asked(On::Discovery), 0);
}

#[tokio::test]
async fn an_assertion_goes_nowhere_but_to_the_right_place() {
    let elsewhere = Misbehaving::start(PUT_ID).await;
    let other_host = elsewhere.base.replace("127.0.0.1", "localhost");
    for endpoint in [
        other_host.as_str(),
        "http://169.254.169.254/token",
        "ftp://127.0.0.1/token",
        "/token",
        "",
    ] {
        let run = Run::start(&[("e", "ES384")]).await;
        run.authority(|authority| authority.elsewhere = Some(endpoint.to_owned()));
        assert_eq!(run.send_at(NOW).await, Outcome::Unauthorized, "{endpoint}");
    }
    assert!(elsewhere.truth().requests.is_empty());

    // A redirect is not followed either.
    let run = Run::start(&[("e", "ES384")]).await;
    let location = format!("Location: {}/token\r\n", elsewhere.base);
    run.hostile.script(
        On::Token,
        [Fault::Answer(307, location.leak(), String::new())],
    );
    let sent = send(&run.target, &one()).await;
    assert_eq!(sent.outcome, Outcome::Redirected);
    assert!(elsewhere.truth().requests.is_empty());
}

#[tokio::test]
async fn what_the_server_says_of_its_tokens_must_be_usable() {
    let said = |body: Value| Fault::Answer(200, "", body.to_string());
    for (fault, outcome) in [
        (Fault::status(404), Outcome::Unauthorized),
        (Fault::status(500), Outcome::NotSent),
        (
            Fault::status(503),
            Outcome::Unavailable { retry_after: None },
        ),
        (
            Fault::Answer(200, "", "<html>".to_owned()),
            Outcome::Unauthorized,
        ),
        (said(json!({})), Outcome::Unauthorized),
        (
            said(
                json!({"token_endpoint": "http://127.0.0.1/t", "token_endpoint_auth_methods_supported": ["client_secret_basic"]}),
            ),
            Outcome::Unauthorized,
        ),
        (
            said(
                json!({"token_endpoint": "http://127.0.0.1/t", "token_endpoint_auth_signing_alg_values_supported": ["RS256"]}),
            ),
            Outcome::Unauthorized,
        ),
        (Fault::Reset, Outcome::NotSent),
    ] {
        let run = Run::start(&[("e", "ES384")]).await;
        run.hostile.script(On::Discovery, [fault]);
        assert_eq!(run.send_at(NOW).await, outcome);
        assert_eq!(
            run.send_at(after(60)).await,
            Outcome::Delivered,
            "it was mended"
        );
    }
}

#[test]
fn a_client_file_that_cannot_work_is_refused_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    registration(path, &[("e", "ES384")], "");
    let p256 = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    std::fs::write(path.join("p256.pem"), p256.serialize_pem()).unwrap();
    std::fs::write(path.join("no.pem"), "secret").unwrap();
    let key = |kid: &str, alg: &str, file: &str| {
        format!("[[keys]]\nkid = \"{kid}\"\nalg = \"{alg}\"\nfile = \"{file}\"\n")
    };
    let good = key("e", "ES384", "e.pem");
    for (text, why) in [
        (format!("client_id = \"\"\n{good}"), "empty client_id"),
        (
            format!("client_id = \"c\"\nsecret = \"s\"\n{good}"),
            "line 2",
        ),
        (
            "client_id = \"c\"\nkeys = \"-----BEGIN secret\"".to_owned(),
            "line 2",
        ),
        ("client_id = \"c\"\nkeys = []".to_owned(), "needs 1 to 8"),
        (format!("client_id = \"c\"\n{good}{good}"), "kid e twice"),
        (
            format!("client_id = \"c\"\ntoken_url = \"x\"\n{good}"),
            "token_url",
        ),
        (
            format!("client_id = \"c\"\n{}", key("k", "HS256", "e.pem")),
            "RS384 or ES384",
        ),
        (
            format!("client_id = \"c\"\n{}", key("k", "RS384", "e.pem")),
            "no private key for RS384",
        ),
        (
            format!("client_id = \"c\"\n{}", key("k", "ES384", "p256.pem")),
            "no private key for ES384",
        ),
        (
            format!("client_id = \"c\"\n{}", key("k", "ES384", "no.pem")),
            "no private key for ES384",
        ),
        (
            format!("client_id = \"c\"\n{}", key("k", "ES384", "absent.pem")),
            "cannot be read",
        ),
    ] {
        std::fs::write(path.join("smart.toml"), &text).unwrap();
        let error = load(path, "http://127.0.0.1:1/fhir")
            .unwrap_err()
            .to_string();
        assert!(error.contains(why), "{why}: {error}");
        assert!(!error.contains("secret"), "{error}");
    }
}

/// With everything that it names as possible.
#[test]
fn the_example_of_the_readme_is_taken() {
    let readme = include_str!("../../README.md");
    let (_, after) = readme.split_once("```toml\nclient_id").unwrap();
    let (example, _) = after.split_once("```").unwrap();
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("2026-11.pem"), es384()).unwrap();
    let text = format!("client_id{}", example.replace("\n# ", "\n"));
    assert!(text.contains("\nscopes = "));
    std::fs::write(directory.path().join("smart.toml"), text).unwrap();
    load(directory.path(), "http://127.0.0.1:1/fhir").unwrap();
}

#[tokio::test]
async fn nothing_secret_is_printed() {
    let run = Run::start(&[("e", "ES384")]).await;
    assert_eq!(run.send_at(NOW).await, Outcome::Delivered);
    let text = format!("{:?} {:?}", run.smart, run.target);
    assert!(!text.contains("token-"), "{text}");
    assert!(!text.contains("PRIVATE"), "{text}");
}

/// The whole service: its keys are fetched from where it shows them, and the finding arrives.
#[tokio::test]
async fn a_finding_arrives_at_a_server_that_knows_us_by_our_published_keys() {
    let hostile = Misbehaving::start(TRANSACTION).await;
    let directory = tempfile::tempdir().unwrap();
    registration(directory.path(), &[("r", "RS384"), ("e", "ES384")], "");
    let file = directory.path().join("smart.toml");
    let mut authority = Authority::at(&hostile.base, JwkSet { keys: Vec::new() });
    // Its clock is that of the machine, and so is the service's.
    authority.ends_are_checked = false;
    hostile.truth().authority = Some(authority);
    let flags = ["--fhir-server-smart", file.to_str().unwrap()];
    let service = Service::start_with(directory.path(), &hostile.base, "sampled", &flags);
    let address = format!("{}/.well-known/jwks.json", service.base);
    let answer = service.client.get(address).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["cache-control"], "max-age=3600");
    let keys: JwkSet = answer.json().await.unwrap();
    assert_eq!(keys.keys.len(), 2);
    hostile.truth().authority.as_mut().unwrap().keys = keys;
    service.post(&of(PANCYTOPENIA, "s1")).await;
    eventually("the Flag", || async {
        let truth = hostile.truth();
        let mut writes = truth.writes.iter();
        writes.any(|place| place.starts_with("Flag/")).then_some(())
    })
    .await;
    assert_eq!(hostile.truth().asked(On::Token), 1);
    let metrics = service.client.get(format!("{}/metrics", service.base));
    let metrics = metrics.send().await.unwrap().text().await.unwrap();
    let line = "\nmarrowflag_token_refresh_total{target=\"default\"} 1\n";
    assert!(metrics.contains(line), "{metrics}");
    assert!(
        metrics.contains("\nmarrowflag_store_free_bytes"),
        "{metrics}"
    );
}

#[tokio::test]
async fn who_is_no_client_publishes_no_keys() {
    let hostile = Misbehaving::start(TRANSACTION).await;
    let directory = tempfile::tempdir().unwrap();
    let service = Service::start_with(directory.path(), &hostile.base, "sampled", &[]);
    let address = format!("{}/.well-known/jwks.json", service.base);
    let answer = service.client.get(address).send().await.unwrap();
    assert_eq!(answer.status(), 404);
    let outcome: Value = answer.json().await.unwrap();
    assert_eq!(outcome["resourceType"], "OperationOutcome");
}

/// Transactions, too, go out with the token.
#[tokio::test]
async fn a_transaction_is_authorized() {
    let run = Run::start(&[("e", "ES384")]).await;
    run.hostile.truth().promises_now = Some(TRANSACTION);
    let sent = send(&run.target, &leased("1", four("1", "a", "active", "low"))).await;
    assert_eq!(sent.outcome, Outcome::Delivered);
    assert_eq!(run.hostile.truth().asked(On::Write), 1);
}
