//! For operators, and the commands that go through the service: deliveries, deleting a patient,
//! copying the database.

use std::path::PathBuf;

use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, Path, Payload},
};
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    Door, TENANT, answer, bundles,
    error::{Error, Success},
    findings,
    negotiate::Wish,
    search,
};
use crate::{
    fhir::outcome::Issue,
    store::reading::{DeliveryDetail, DeliveryFilter, DeliverySummary},
};

/// `GET /admin/deliveries?state=&target=&reason=&before=&limit=`.
pub(super) async fn list(wish: Wish, door: Data<Door>) -> Result<HttpResponse, Error> {
    wish.only(&["state", "target", "reason", "before", "limit"])?;
    let mut filter = DeliveryFilter::default();
    for (name, value) in &wish.query {
        let number = || {
            value.parse().map_err(|_| {
                Error::Malformed(vec![Issue::error("value", "before and limit are numbers")])
            })
        };
        match name.as_str() {
            "state" => filter.state = Some(value.clone()),
            "target" => filter.target = Some(value.clone()),
            "reason" => filter.reason = Some(value.clone()),
            "before" => filter.before = Some(number()?),
            "limit" => filter.limit = usize::try_from(number()?).unwrap_or(0),
            _ => {}
        }
    }
    let deliveries = door.store.deliveries(filter).await?;
    let deliveries: Vec<_> = deliveries.iter().map(summary_json).collect();
    Ok(answer::plain_json(
        Success::Ok,
        &json!({ "deliveries": deliveries }),
    ))
}

/// `GET /admin/deliveries/{id}`.
pub(super) async fn show(id: Path<i64>, door: Data<Door>) -> Result<HttpResponse, Error> {
    match door.store.delivery(*id).await? {
        Some(delivery) => Ok(answer::plain_json(Success::Ok, &detail_json(&delivery))),
        None => Err(no_such_delivery()),
    }
}

/// `POST /admin/deliveries/{id}/retry`.
pub(super) async fn retry(id: Path<i64>, door: Data<Door>) -> Result<HttpResponse, Error> {
    let filter = DeliveryFilter {
        id: Some(*id),
        ..DeliveryFilter::default()
    };
    if door.store.retry(filter, door.now()).await? == 0 {
        return Err(not_parked(&door, *id).await?);
    }
    door.wake.notify_one();
    Ok(answer::plain_json(
        Success::Ok,
        &json!({ "id": *id, "state": "later" }),
    ))
}

/// `POST /admin/deliveries/{id}/discard`.
pub(super) async fn discard(id: Path<i64>, door: Data<Door>) -> Result<HttpResponse, Error> {
    if door.store.discard(*id, door.now()).await? {
        Ok(answer::plain_json(
            Success::Ok,
            &json!({ "id": *id, "state": "discarded" }),
        ))
    } else {
        Err(not_parked(&door, *id).await?)
    }
}

async fn not_parked(door: &Door, id: i64) -> Result<Error, Error> {
    Ok(match door.store.delivery(id).await? {
        Some(_) => Error::Conflict(vec![Issue::error(
            "conflict",
            "this delivery is not in a state to do that with",
        )]),
        None => no_such_delivery(),
    })
}

fn no_such_delivery() -> Error {
    Error::NotFound(Issue::error("not-found", "there is no such delivery"))
}

/// `POST /admin/patients/delete` with `{"patient": "Patient/p1"}` or `{"patient": "system|value"}`:
/// in the body, so that no address names a patient.
pub(super) async fn delete_patient(
    req: HttpRequest,
    payload: Payload,
    door: Data<Door>,
) -> Result<HttpResponse, Error> {
    only_from_this_machine(&req)?;
    let name = member(&req, payload, &door, "patient").await?;
    let keys = if name.contains('|') {
        vec![search::identifier(&name)?]
    } else {
        search::references(&name)
    };
    let keys = findings::hashes(&door, &keys);
    let deleted = door.store.erase(TENANT, keys).await?;
    tracing::info!(deleted, "a patient was deleted on request");
    Ok(answer::plain_json(
        Success::Ok,
        &json!({ "deleted": deleted }),
    ))
}

/// `POST /admin/backup` with `{"file": "/where/to"}`.
pub(super) async fn back_up(
    req: HttpRequest,
    payload: Payload,
    door: Data<Door>,
) -> Result<HttpResponse, Error> {
    only_from_this_machine(&req)?;
    let file = member(&req, payload, &door, "file").await?;
    if !std::path::Path::new(&file).is_absolute() {
        return Err(Error::Malformed(vec![Issue::error(
            "value",
            "file is an absolute path",
        )]));
    }
    door.store.back_up(PathBuf::from(&file)).await?;
    tracing::info!("the database was copied");
    Ok(answer::plain_json(
        Success::Ok,
        &json!({ "file": file, "identity_key": format!("{file}.identity-key") }),
    ))
}

/// Nobody is asked who they are yet, and these two can take everything away.
fn only_from_this_machine(req: &HttpRequest) -> Result<(), Error> {
    match req.peer_addr() {
        Some(peer) if peer.ip().is_loopback() => Ok(()),
        _ => Err(Error::Forbidden(Issue::error(
            "forbidden",
            "this is asked for on the machine of the service only",
        ))),
    }
}

/// A member of a small JSON object.
async fn member(
    req: &HttpRequest,
    payload: Payload,
    door: &Data<Door>,
    name: &'static str,
) -> Result<String, Error> {
    let body = bundles::read(req, payload, door).await?;
    serde_json::from_slice::<Value>(&body.bytes)
        .ok()
        .and_then(|body| Some(body.get(name)?.as_str()?.to_owned()))
        .filter(|text| !text.is_empty())
        .ok_or_else(|| {
            Error::Malformed(vec![Issue::error(
                "structure",
                format!("a JSON object with the member {name} is expected"),
            )])
        })
}

/// A delivery in a list.
pub fn summary_json(delivery: &DeliverySummary) -> Value {
    json!({
        "id": delivery.id,
        "target": delivery.target,
        "state": delivery.state,
        "urgency": format!("{:?}", delivery.urgency),
        "attempts": delivery.attempts,
        "created": text(delivery.created_at),
        "due": delivery.due_at.map(text),
        "settled": delivery.settled_at.map(text),
        "parked": delivery.parked_reason,
        "recheck": delivery.recheck_at.map(text),
    })
}

/// A delivery with its items and attempts. What the other server answered is left out: it may hold
/// data of a patient.
pub fn detail_json(delivery: &DeliveryDetail) -> Value {
    let items: Vec<Value> = delivery
        .items
        .iter()
        .map(|item| json!({ "type": item.kind, "id": item.id, "version": item.revision, "state": item.state }))
        .collect();
    let attempts: Vec<Value> = delivery
        .attempts
        .iter()
        .map(|attempt| {
            json!({
                "number": attempt.number,
                "started": text(attempt.started_at),
                "ended": text(attempt.ended_at),
                "class": attempt.class,
                "status": attempt.http_status,
                "code": attempt.outcome_code,
            })
        })
        .collect();
    let mut detail = summary_json(&delivery.summary);
    if let Some(detail) = detail.as_object_mut() {
        detail.insert(
            "correlation_id".to_owned(),
            delivery.correlation_id.as_str().into(),
        );
        detail.insert("items".to_owned(), items.into());
        detail.insert("attempt_list".to_owned(), attempts.into());
    }
    detail
}

fn text(at: OffsetDateTime) -> String {
    at.format(&Rfc3339).unwrap_or_default()
}
