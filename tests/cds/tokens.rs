//! Who may call: signed tokens, and every way to get one wrong.

use std::sync::Arc;

use data_encoding::{BASE64, BASE64URL_NOPAD};
use jsonwebtoken::{Algorithm, EncodingKey, jwk::Jwk};
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    app::{Answer, NOW, TestApp, send},
    ehr::{Ehr, FEEDBACK, HEALTHY, LOW, Manners, SERVICE, bare_call, call},
};

const SANDBOX: &str = "https://sandbox.cds-hooks.org";
const JKU: &str = "https://sandbox.cds-hooks.org/.well-known/jwks.json";

fn der(text: &str) -> Vec<u8> {
    BASE64.decode(text.trim().as_bytes()).unwrap()
}

fn es384() -> EncodingKey {
    EncodingKey::from_ec_der(&der(include_str!("keys/es384.pkcs8.b64")))
}

fn other() -> EncodingKey {
    EncodingKey::from_ec_der(&der(include_str!("keys/es384-other.pkcs8.b64")))
}

fn es256() -> EncodingKey {
    EncodingKey::from_ec_der(&der(include_str!("keys/es256.pkcs8.b64")))
}

fn rs384() -> EncodingKey {
    EncodingKey::from_rsa_der(&der(include_str!("keys/rs384.pkcs1.b64")))
}

/// 1024 bits. Nothing signs with it: its strength is looked at before any signature.
fn weak() -> Value {
    json!({ "kty": "RSA", "kid": "weak", "use": "sig", "e": "AQAB", "n": include_str!("keys/weak-modulus.b64").trim() })
}

fn public(key: &EncodingKey, algorithm: Algorithm, name: &str) -> Value {
    let mut jwk = serde_json::to_value(Jwk::from_encoding_key(key, algorithm).unwrap()).unwrap();
    jwk["kid"] = json!(name);
    jwk["use"] = json!("sig");
    jwk
}

/// A service that knows the sandbox and a hospital.
async fn closed() -> TestApp {
    closed_with("", &[]).await
}

async fn closed_with(more: &str, flags: &[&str]) -> TestApp {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let clients = clients(&dir, more);
    let mut all = vec!["--clients", clients.as_str()];
    all.extend(flags);
    TestApp::spawn_in(dir, &all, NOW).await
}

fn clients(dir: &TempDir, more: &str) -> String {
    let mut encrypting = public(&es384(), Algorithm::ES384, "encrypting");
    encrypting["use"] = json!("enc");
    let keys = json!({ "keys": [
        public(&es384(), Algorithm::ES384, "e1"),
        public(&rs384(), Algorithm::RS384, "r1"),
        weak(),
        public(&es256(), Algorithm::ES256, "p256"),
        public(&es384(), Algorithm::ES384, "twice"),
        public(&other(), Algorithm::ES384, "twice"),
        encrypting,
    ] });
    std::fs::write(dir.path().join("sandbox.json"), keys.to_string()).unwrap();
    let file = dir.path().join("clients.toml");
    let text = format!(
        "[[client]]\nname = \"sandbox\"\n[client.jwt]\nissuer = \"{SANDBOX}\"\njwks_file = \"sandbox.json\"\n\
         jku = [\"{JKU}\"]\n[client.cds]\norigins = [\"{SANDBOX}\"]\n{more}"
    );
    std::fs::write(&file, text).unwrap();
    file.display().to_string()
}

fn header(algorithm: &str, name: &str) -> Value {
    json!({ "alg": algorithm, "typ": "JWT", "kid": name })
}

fn claims(app: &TestApp, path: &str) -> Value {
    let now = NOW.unix_timestamp();
    json!({
        "iss": SANDBOX, "aud": format!("{}{path}", app.base),
        "iat": now, "exp": now + 300, "jti": uuid::Uuid::new_v4().to_string()
    })
}

fn sign(header: &Value, claims: &Value, key: &EncodingKey, algorithm: Algorithm) -> String {
    let encode = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    let message = format!("{}.{}", encode(header), encode(claims));
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), key, algorithm).unwrap();
    format!("{message}.{signature}")
}

fn good(app: &TestApp, path: &str) -> String {
    sign(
        &header("ES384", "e1"),
        &claims(app, path),
        &es384(),
        Algorithm::ES384,
    )
}

async fn discover(app: &TestApp, token: &str) -> Answer {
    send(
        app.request(Method::GET, "/cds-services")
            .header("authorization", format!("Bearer {token}")),
    )
    .await
}

async fn post(app: &TestApp, path: &str, token: &str, body: &Value) -> Answer {
    send(
        app.fhir(Method::POST, path)
            .header("authorization", format!("Bearer {token}"))
            .body(body.to_string()),
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sandbox_is_let_in_with_its_own_kind_of_token() {
    let app = closed().await;
    assert_eq!(
        discover(&app, &good(&app, "/cds-services")).await.status,
        200
    );
    // As the sandbox sends it: jku on the Internet, aud the exact address, five minutes.
    let mut with_jku = header("ES384", "e1");
    with_jku["jku"] = json!(JKU);
    let token = sign(
        &with_jku,
        &claims(&app, SERVICE),
        &es384(),
        Algorithm::ES384,
    );
    post(&app, SERVICE, &token, &call("p1", LOW)).await.card();
    let feedback = json!({ "feedback": [{
        "card": "x", "outcome": "overridden", "outcomeTimestamp": "2026-11-18T08:59:00Z"
    }] });
    let token = good(&app, FEEDBACK);
    assert_eq!(post(&app, FEEDBACK, &token, &feedback).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn good_tokens_of_both_kinds_are_taken() {
    let app = closed().await;
    let path = "/cds-services";
    let rsa = sign(
        &header("RS384", "r1"),
        &claims(&app, path),
        &rs384(),
        Algorithm::RS384,
    );
    assert_eq!(discover(&app, &rsa).await.status, 200);
    let now = NOW.unix_timestamp();
    let mut long = claims(&app, path);
    long["exp"] = json!(now + 600);
    long["iat"] = json!(now - 300);
    long["nbf"] = json!(now - 300);
    let long = sign(&header("ES384", "e1"), &long, &es384(), Algorithm::ES384);
    assert_eq!(discover(&app, &long).await.status, 200);
    let mut several = claims(&app, path);
    several["aud"] = json!([
        "https://other.example",
        format!("{}/cds-services/", app.base)
    ]);
    let several = sign(&header("ES384", "e1"), &several, &es384(), Algorithm::ES384);
    assert_eq!(discover(&app, &several).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_wrong_token_gets_the_same_answer() {
    let jku = Ehr::start("p1", HEALTHY, Manners::default());
    let app = closed().await;
    let path = "/cds-services";
    let now = NOW.unix_timestamp();
    let signed = |change: &dyn Fn(&mut Value)| {
        let mut all = claims(&app, path);
        change(&mut all);
        sign(&header("ES384", "e1"), &all, &es384(), Algorithm::ES384)
    };
    let headed = |head: Value| sign(&head, &claims(&app, path), &es384(), Algorithm::ES384);
    let encode = |text: &str| BASE64URL_NOPAD.encode(text.as_bytes());
    let unsigned = |alg: &str| {
        let head = encode(&header(alg, "e1").to_string());
        format!("{head}.{}.", encode(&claims(&app, path).to_string()))
    };
    let public_key = serde_json::to_string(&public(&es384(), Algorithm::ES384, "e1")).unwrap();
    let by_public_key = {
        let secret = EncodingKey::from_secret(public_key.as_bytes());
        sign(
            &header("HS256", "e1"),
            &claims(&app, path),
            &secret,
            Algorithm::HS256,
        )
    };
    let zero = {
        let message = good(&app, path);
        let (message, _) = message.rsplit_once('.').unwrap();
        format!("{message}.{}", BASE64URL_NOPAD.encode(&[0; 96]))
    };
    let duplicate = {
        let claims = claims(&app, path).to_string();
        let claims = claims.replacen('{', r#"{"aud":"https://other.example","#, 1);
        let message = format!(
            "{}.{}",
            encode(&header("ES384", "e1").to_string()),
            encode(&claims)
        );
        let signature =
            jsonwebtoken::crypto::sign(message.as_bytes(), &es384(), Algorithm::ES384).unwrap();
        format!("{message}.{signature}")
    };
    let mut foreign_jku = header("ES384", "e1");
    foreign_jku["jku"] = json!(format!("{}/jwks.json", jku.base));
    let mut embedded = header("ES384", "e1");
    embedded["jwk"] = public(&other(), Algorithm::ES384, "e1");
    let mut critical = header("ES384", "e1");
    critical["crit"] = json!(["exp"]);
    let weak_key = sign(
        &header("RS384", "weak"),
        &claims(&app, path),
        &rs384(),
        Algorithm::RS384,
    );
    let tokens: Vec<(&str, String)> = vec![
        ("none", unsigned("none")),
        ("None", unsigned("None")),
        ("no signature", unsigned("ES384")),
        (
            "empty alg",
            headed(json!({ "alg": "", "typ": "JWT", "kid": "e1" })),
        ),
        ("hmac with the public key", by_public_key),
        (
            "other key",
            sign(
                &header("ES384", "e1"),
                &claims(&app, path),
                &other(),
                Algorithm::ES384,
            ),
        ),
        ("unknown key", headed(header("ES384", "e9"))),
        (
            "no key named",
            headed(json!({ "alg": "ES384", "typ": "JWT" })),
        ),
        (
            "long key name",
            headed(header("ES384", &"k".repeat(10_000))),
        ),
        ("path as key name", headed(header("ES384", "../../e1"))),
        ("key named twice", headed(header("ES384", "twice"))),
        ("encryption key", headed(header("ES384", "encrypting"))),
        ("weak key", weak_key),
        (
            "algorithm that is not listed",
            sign(
                &header("ES256", "p256"),
                &claims(&app, path),
                &es256(),
                Algorithm::ES256,
            ),
        ),
        ("algorithm of another key", headed(header("RS384", "e1"))),
        ("no typ", headed(json!({ "alg": "ES384", "kid": "e1" }))),
        ("foreign jku", headed(foreign_jku)),
        ("embedded key", headed(embedded)),
        ("critical header", headed(critical)),
        ("zero signature", zero),
        ("claim twice", duplicate),
        (
            "wrong audience",
            signed(&|c| c["aud"] = json!("https://other.example/cds-services")),
        ),
        (
            "audience of another path",
            signed(&|c| c["aud"] = json!(format!("{}{SERVICE}", app.base))),
        ),
        (
            "audience as prefix",
            signed(&|c| c["aud"] = json!(format!("{}{path}/x", app.base))),
        ),
        (
            "no audience",
            signed(&|c| {
                c.as_object_mut().unwrap().remove("aud");
            }),
        ),
        (
            "unknown issuer",
            signed(&|c| c["iss"] = json!("https://other.example")),
        ),
        (
            "issuer with a slash",
            signed(&|c| c["iss"] = json!(format!("{SANDBOX}/"))),
        ),
        (
            "expired",
            signed(&|c| {
                c["iat"] = json!(now - 400);
                c["exp"] = json!(now - 61);
            }),
        ),
        (
            "from the future",
            signed(&|c| {
                c["iat"] = json!(now + 120);
                c["exp"] = json!(now + 300);
            }),
        ),
        ("not yet", signed(&|c| c["nbf"] = json!(now + 120))),
        (
            "good for too long",
            signed(&|c| c["exp"] = json!(now + 3601)),
        ),
        (
            "no exp",
            signed(&|c| {
                c.as_object_mut().unwrap().remove("exp");
            }),
        ),
        (
            "exp as text",
            signed(&|c| c["exp"] = json!((now + 300).to_string())),
        ),
        (
            "no iat",
            signed(&|c| {
                c.as_object_mut().unwrap().remove("iat");
            }),
        ),
        (
            "no jti",
            signed(&|c| {
                c.as_object_mut().unwrap().remove("jti");
            }),
        ),
        ("empty jti", signed(&|c| c["jti"] = json!(""))),
        ("four parts", format!("{}.x", good(&app, path))),
        ("no token", "nonsense".to_owned()),
        ("long", "a".repeat(5000)),
    ];
    let mut bodies = std::collections::BTreeSet::new();
    for (what, token) in &tokens {
        let answer = discover(&app, token).await;
        assert_eq!(answer.status, 401, "{what}: {}", answer.text);
        assert_eq!(answer.header("www-authenticate"), "Bearer", "{what}");
        bodies.insert(answer.text);
    }
    let bare = app.get("/cds-services").await;
    assert_eq!(bare.status, 401);
    bodies.insert(bare.text);
    let basic = app
        .request(Method::GET, path)
        .header("authorization", "Basic YTpi");
    bodies.insert(send(basic).await.text);
    assert_eq!(bodies.len(), 1, "{bodies:?}");
    assert_eq!(jku.contacts(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_good_once_also_after_a_restart() {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let clients = clients(&dir, "");
    let app = TestApp::spawn_in(
        Arc::clone(&dir),
        &[
            "--clients",
            &clients,
            "--public-base-url",
            "https://mf.example",
        ],
        NOW,
    )
    .await;
    let mut all = claims(&app, "/cds-services");
    all["aud"] = json!("https://mf.example/cds-services");
    let token = sign(&header("ES384", "e1"), &all, &es384(), Algorithm::ES384);
    assert_eq!(discover(&app, &token).await.status, 200);
    assert_eq!(discover(&app, &token).await.status, 401);
    app.stop().await;
    let app = TestApp::spawn_in(
        dir,
        &[
            "--clients",
            &clients,
            "--public-base-url",
            "https://mf.example",
        ],
        NOW,
    )
    .await;
    assert_eq!(discover(&app, &token).await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_has_its_own_servers_services_and_actions() {
    let ehr = Ehr::start("p1", LOW, Manners::default());
    let hash = data_encoding::HEXLOWER.encode(&<sha2::Sha256 as sha2::Digest>::digest(b"opaque"));
    let more = format!(
        "[[client]]\nname = \"ward\"\ntoken_sha256 = \"{hash}\"\n[client.cds]\nfhir_servers = [\"{}\"]\n\
         services = [\"marrowflag-cytopenia\"]\nsystem_actions = true\n\
         smart_app = \"https://app.example/launch\"\n",
        ehr.base
    );
    let app = closed_with(&more, &[]).await;
    let listed = discover(&app, "opaque").await.json();
    assert_eq!(listed["services"].as_array().unwrap().len(), 3);
    let order = app
        .post("/cds-services/marrowflag-order-check", &json!({}))
        .await;
    assert_eq!(order.status, 401);
    let answer = post(
        &app,
        "/cds-services/marrowflag-order-check",
        "opaque",
        &json!({}),
    )
    .await;
    assert_eq!(answer.status, 404);
    let answer = post(&app, SERVICE, "opaque", &bare_call("p1", &ehr.base)).await;
    let links = answer.card()["links"].clone();
    assert_eq!(
        links,
        json!([{"label": "Open in app", "url": "https://app.example/launch", "type": "smart"}])
    );
    let action = &answer.json()["systemActions"][0];
    assert_eq!(action["type"], "create");
    assert_eq!(action["resource"]["resourceType"], "Flag");
    assert_eq!(action["resource"]["subject"]["reference"], "Patient/p1");
    assert!(action["resource"].get("id").is_none());
    // The sandbox has no servers: the same address is not contacted for it.
    let before = ehr.contacts();
    let token = good(&app, SERVICE);
    post(&app, SERVICE, &token, &bare_call("p1", &ehr.base))
        .await
        .assert_refused(412, "data-incomplete");
    assert_eq!(ehr.contacts(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_card_of_one_client_is_not_quiet_for_another() {
    let hash = data_encoding::HEXLOWER.encode(&<sha2::Sha256 as sha2::Digest>::digest(b"opaque"));
    let more = format!("[[client]]\nname = \"ward\"\ntoken_sha256 = \"{hash}\"\n[client.cds]\n");
    let app = closed_with(&more, &[]).await;
    post(&app, SERVICE, "opaque", &call("p1", LOW)).await.card();
    assert!(
        post(&app, SERVICE, "opaque", &call("p1", LOW))
            .await
            .cards()
            .is_empty()
    );
    post(&app, SERVICE, &good(&app, SERVICE), &call("p1", LOW))
        .await
        .card();
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_at_an_address_are_fetched_once_and_not_for_every_unknown_name() {
    let fetches = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let keys = json!({ "keys": [public(&es384(), Algorithm::ES384, "e1")] }).to_string();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/jwks.json", listener.local_addr().unwrap());
    let counter = Arc::clone(&fetches);
    let server = actix_web::HttpServer::new(move || {
        let (keys, counter) = (keys.clone(), Arc::clone(&counter));
        actix_web::App::new().default_service(actix_web::web::to(move || {
            counter.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            let keys = keys.clone();
            async move { keys }
        }))
    })
    .workers(1)
    .disable_signals()
    .listen(listener)
    .unwrap()
    .run();
    tokio::spawn(server);
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let file = dir.path().join("clients.toml");
    let text = format!(
        "[[client]]\nname = \"ehr\"\n[client.jwt]\nissuer = \"{SANDBOX}\"\njwks_url = \"{url}\"\n[client.cds]\n"
    );
    std::fs::write(&file, text).unwrap();
    let file = file.display().to_string();
    let app = TestApp::spawn_in(dir, &["--clients", &file], NOW).await;
    for _ in 0..3 {
        assert_eq!(
            discover(&app, &good(&app, "/cds-services")).await.status,
            200
        );
    }
    for name in ["a", "b", "c"] {
        let token = sign(
            &header("ES384", name),
            &claims(&app, "/cds-services"),
            &es384(),
            Algorithm::ES384,
        );
        assert_eq!(discover(&app, &token).await.status, 401);
    }
    assert_eq!(fetches.load(std::sync::atomic::Ordering::SeqCst), 1);
}
