//! For Kubernetes, Prometheus and whoever asks what is running.

use actix_web::{HttpResponse, web::Data};
use serde_json::json;

use super::{
    Door, answer,
    error::{Error, Success},
};

/// `GET /livez`: the process answers. Knows no database and no target.
pub(super) async fn live() -> HttpResponse {
    answer::text(Success::Ok, "text/plain; charset=utf-8", "ok\n")
}

/// `GET /readyz`: whether it takes work. A FHIR server that is down never makes this fail.
pub(super) async fn ready(door: Data<Door>) -> Result<HttpResponse, Error> {
    if door.draining.is_cancelled() {
        return Err(Error::Transient(None));
    }
    if !door.store.ready() {
        return Err(Error::NoStore(None));
    }
    let degraded: Vec<String> = door
        .store
        .targets()
        .await?
        .into_iter()
        .filter_map(|target| Some(format!("{}: {}", target.name, target.hold?.0.as_str())))
        .collect();
    Ok(answer::plain_json(
        Success::Ok,
        &json!({ "ready": true, "degraded": degraded }),
    ))
}

/// `GET /version`.
pub(super) async fn version() -> HttpResponse {
    answer::plain_json(
        Success::Ok,
        &json!({ "name": "marrowflag", "version": env!("CARGO_PKG_VERSION") }),
    )
}

/// `GET /metrics`.
pub(super) async fn metrics(door: Data<Door>) -> Result<HttpResponse, Error> {
    let figures = door.store.figures().await?;
    door.metrics.show(&figures, door.now());
    Ok(answer::text(
        Success::Ok,
        "application/openmetrics-text; version=1.0.0; charset=utf-8",
        door.metrics.text(),
    ))
}
