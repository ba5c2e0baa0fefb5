//! For Kubernetes, Prometheus and whoever asks what is running.

use actix_web::{HttpResponse, web::Data};
use serde_json::json;

use super::{
    Door, answer,
    error::{Error, Success},
};
use crate::{courier::TargetStatus, store::reading::TargetRow};

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
    let targets = door.store.targets().await?;
    let mut degraded: Vec<String> = targets
        .iter()
        .filter_map(|target| Some(format!("{}: {}", target.name, target.hold?.0.as_str())))
        .collect();
    for (name, status) in named(&door, &targets) {
        if status.open {
            degraded.push(format!("{name}: down"));
        }
        let unwritable = status.unwritable.iter();
        degraded.extend(unwritable.map(|kind| format!("{name}: {kind} cannot be written")));
    }
    Ok(answer::plain_json(
        Success::Ok,
        &json!({ "ready": true, "degraded": degraded }),
    ))
}

/// How the targets stand that are written to, by their configured names.
fn named<'t>(
    door: &Door,
    targets: &'t [TargetRow],
) -> impl Iterator<Item = (&'t str, TargetStatus)> {
    (door.targets)().into_iter().filter_map(|status| {
        let row = targets.iter().find(|row| row.id == status.target)?;
        Some((row.name.as_str(), status))
    })
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
    let targets = door.store.targets().await?;
    door.metrics.show_targets(named(&door, &targets));
    Ok(answer::text(
        Success::Ok,
        "application/openmetrics-text; version=1.0.0; charset=utf-8",
        door.metrics.text(),
    ))
}
