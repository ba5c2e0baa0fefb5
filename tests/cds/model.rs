//! What happens when the model itself breaks.

use std::sync::Arc;

use marrowflag::{
    fhir::{codes::CodeMap, submission::Checker},
    fhir_server::lookup::Lookup,
    http::{Door, Limits, Parts, Services},
    intake::{AsOf, Intake, Settings},
    store::{
        Store,
        sqlite::{Options, Sqlite},
    },
};
use tokio_util::sync::CancellationToken;

use super::{
    app::NOW,
    ehr::{LOW, SERVICE, call},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_is_an_error_and_never_good_news() {
    let dir = tempfile::tempdir().unwrap();
    let sqlite =
        Arc::new(Sqlite::open(&Options::new(dir.path().join("m.db"), NOW, [7; 32])).unwrap());
    let store: Arc<dyn Store> = Arc::<Sqlite>::clone(&sqlite);
    let checker = Arc::new(Checker::new(Vec::new()).unwrap());
    let intake = Intake::new(
        Arc::clone(&store),
        Arc::clone(&checker),
        Settings::default(),
    );
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let parts = Parts {
        intake: Arc::new(intake),
        store,
        checker,
        clock: Arc::new(|| NOW),
        base: base.clone(),
        limits: Limits {
            max_body: 8 << 20,
            max_inflight_bytes: 64 << 20,
            deadline: std::time::Duration::from_secs(30),
            body_timeout: std::time::Duration::from_secs(30),
        },
        receipt_hours: 24,
        keys: None,
        targets: Arc::new(Vec::new),
        wake: Arc::default(),
        draining: CancellationToken::new(),
        cds: Services {
            clients: None,
            own_server: None,
            cards: sqlite,
            codes: Arc::new(CodeMap::default()),
            as_of: AsOf::Received,
            lookup: Lookup::new().unwrap(),
            model: Arc::new(|_, _| panic!("of the test")),
        },
    };
    let door = Door::new(parts);
    let server = actix_web::HttpServer::new(move || marrowflag::http::app(door.clone()))
        .workers(1)
        .disable_signals()
        .listen(listener)
        .unwrap()
        .run();
    let handle = server.handle();
    tokio::spawn(server);
    let answer = reqwest::Client::builder()
        .build()
        .unwrap()
        .post(format!("{base}{SERVICE}"))
        .header("content-type", "application/json")
        .body(call("p1", LOW).to_string())
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 500);
    let text = answer.text().await.unwrap();
    assert!(
        text.contains("OperationOutcome") && text.contains("exception"),
        "{text}"
    );
    assert!(!text.contains("cards"), "{text}");
    handle.stop(false).await;
}
