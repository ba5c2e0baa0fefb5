//! A page of ours in Chromium that calls the running service across origins, as the public
//! sandbox does. Skipped by name where Chromium is not installed. With `MARROWFLAG_SCREENSHOTS`
//! set, pictures are kept there.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    process::Command,
};

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, http::header::HeaderValue, web};
use serde_json::Value;

use super::{
    app::TestApp,
    ehr::{HEALTHY, SEVERE, prefetch},
};

const PAGE: &str = include_str!("../browser/cds.html");

fn chromium() -> Option<&'static str> {
    ["chromium", "chromium-browser", "google-chrome"]
        .into_iter()
        .find(|name| {
            Command::new(name)
                .arg("--version")
                .output()
                .is_ok_and(|output| output.status.success())
        })
}

/// Serves the page and the prefetch data from an origin of their own.
fn page_server() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = HttpServer::new(|| {
        App::new()
            .route(
                "/",
                web::get().to(|| async {
                    HttpResponse::Ok()
                        .content_type("text/html; charset=utf-8")
                        .body(PAGE)
                }),
            )
            .route("/fhir/Patient/{patient}", web::get().to(read_patient))
            .route("/fhir/{type}/_search", web::post().to(search))
    })
    .workers(1)
    .disable_signals()
    .listen(listener)
    .unwrap()
    .run();
    tokio::spawn(server);
    format!("http://{address}")
}

fn data_of(patient: &str) -> Value {
    let counts = if patient == "severe" { SEVERE } else { HEALTHY };
    prefetch(patient, counts)
}

async fn read_patient(req: HttpRequest) -> HttpResponse {
    HttpResponse::Ok().json(&data_of(req.match_info().query("patient"))["patient"])
}

/// Answers searches for blood counts, as the form asks for them, and fails all others.
async fn search(req: HttpRequest, form: web::Form<HashMap<String, String>>) -> HttpResponse {
    let accept = req.headers().get("accept").map(HeaderValue::as_bytes);
    let key = [
        ("718-7", "hb"),
        ("777-3", "plt"),
        ("6690-2", "wbc"),
        ("751-8", "anc"),
    ]
    .into_iter()
    .find(|(loinc, _)| form.get("code").is_some_and(|code| code.contains(loinc)));
    match (key, form.get("patient")) {
        (Some((_, key)), Some(patient)) if accept == Some(b"application/json+fhir") => {
            HttpResponse::Ok().json(&data_of(patient)[key])
        }
        _ => HttpResponse::InternalServerError().finish(),
    }
}

/// Opens the page: a picture of it, or its text once it is done.
async fn look(
    chromium: &'static str,
    url: String,
    picture: Option<PathBuf>,
    profile: PathBuf,
) -> String {
    let mut command = Command::new(chromium);
    command
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            "--window-size=1100,1500",
            "--virtual-time-budget=8000",
            // Nothing but this machine.
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        ])
        .arg(format!("--user-data-dir={}", profile.display()));
    match picture {
        Some(picture) => command.arg(format!("--screenshot={}", picture.display())),
        None => command.arg("--dump-dom"),
    };
    command.arg(url);
    let output = tokio::task::spawn_blocking(move || command.output())
        .await
        .unwrap()
        .unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaints}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_another_origin_shows_the_card_and_answers_it() {
    let Some(chromium) = chromium() else {
        assert!(
            std::env::var_os("CI").is_none(),
            "chromium must be there in continuous integration"
        );
        eprintln!("skipped: chromium is not installed");
        return;
    };
    let scratch = tempfile::tempdir().unwrap();
    let pictures = std::env::var_os("MARROWFLAG_SCREENSHOTS").map_or_else(
        || scratch.path().to_owned(),
        |folder| Path::new(&folder).to_owned(),
    );
    let page = page_server();
    for (patient, expected) in [
        ("severe", "Pancytopenia: Hb 68 g/L"),
        ("healthy", "Nothing to show (200)"),
    ] {
        let picture = pictures.join(format!("cds-{patient}.png"));
        // A service for the picture and one for the text: a card is shown once.
        let app = TestApp::spawn().await;
        let url = format!("{page}/?service={}&patient={patient}", app.base);
        let profile = scratch.path().join(format!("{patient}-picture"));
        look(chromium, url, Some(picture.clone()), profile).await;
        assert!(picture.metadata().unwrap().len() > 5_000);

        let app = TestApp::spawn().await;
        let url = format!("{page}/?service={}&patient={patient}&override=1", app.base);
        let profile = scratch.path().join(format!("{patient}-text"));
        let text = look(chromium, url, None, profile).await;
        assert!(text.contains(expected), "{text}");
        if patient == "severe" {
            assert!(text.contains("class=\"card warning\""), "{text}");
            assert!(text.contains("feedback 200 {\"received\":1}"), "{text}");
        }
    }
}
