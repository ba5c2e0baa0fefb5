//! For operators, and the commands that go through the service: deliveries, deleting a patient,
//! copying the database.

use std::{path::PathBuf, time::Duration};

use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, Path, Payload},
};
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    CLIENT, Door, TENANT, answer, bundles,
    error::{Error, Success},
    findings,
    negotiate::Wish,
    search,
};
use crate::{
    fhir::outcome::Issue,
    store::{
        keys::Hash,
        reading::{DeliveryDetail, DeliveryFilter, DeliverySummary},
    },
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
/// in the body, so that no address names a patient. `"retract": true`: its Flags are withdrawn first,
/// also on the FHIR server.
pub(super) async fn delete_patient(
    req: HttpRequest,
    payload: Payload,
    wish: Wish,
    door: Data<Door>,
) -> Result<HttpResponse, Error> {
    only_from_this_machine(&req)?;
    let asked = object(&req, payload, &door).await?;
    let name = member(&asked, "patient")?;
    let keys = if name.contains('|') {
        vec![search::identifier(&name)?]
    } else {
        search::references(&name)
    };
    let keys = findings::hashes(&door, &keys);
    if asked.get("retract").and_then(Value::as_bool) == Some(true) {
        retract(&wish, &door, &keys).await?;
    }
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
    let asked = object(&req, payload, &door).await?;
    let file = member(&asked, "file")?;
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
        Some(peer) if peer.ip().to_canonical().is_loopback() => Ok(()),
        _ => Err(Error::Forbidden(Issue::error(
            "forbidden",
            "this is asked for on the machine of the service only",
        ))),
    }
}

/// Withdraws the Flags of these patients, and waits until every target has it.
async fn retract(wish: &Wish, door: &Door, keys: &[Hash]) -> Result<(), Error> {
    let patients = door.store.find_patients(TENANT, keys.to_vec()).await?;
    if patients.is_empty() {
        return Ok(());
    }
    for key in keys {
        let request = wish.request_id.clone();
        door.intake
            .retract(TENANT, CLIENT, *key, request, door.now())
            .await?;
    }
    door.wake.notify_one();
    for _ in 0..LOOKS {
        let mut waits = false;
        for state in ["queued", "in_flight", "later", "parked"] {
            let filter = DeliveryFilter {
                state: Some(state.to_owned()),
                ..DeliveryFilter::default()
            };
            let open = door.store.deliveries(filter).await?;
            if let Some(one) = open.iter().find(|one| patients.contains(&one.patient)) {
                if state == "parked" {
                    return Err(not_withdrawn(&format!("delivery {} is parked", one.id)));
                }
                waits = true;
            }
        }
        if !waits {
            return Ok(());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Err(not_withdrawn("the FHIR server does not have it yet"))
}

/// How often a withdrawal is looked after: for 20 s, within every deadline but a very short one.
const LOOKS: u32 = 100;
const LOOK_EVERY: Duration = Duration::from_millis(200);

fn not_withdrawn(why: &str) -> Error {
    Error::Conflict(vec![Issue::error(
        "conflict",
        format!("the Flags are not withdrawn everywhere, and nothing is deleted: {why}"),
    )])
}

/// A small JSON object.
async fn object(req: &HttpRequest, payload: Payload, door: &Data<Door>) -> Result<Value, Error> {
    let body = bundles::read(req, payload, door).await?;
    serde_json::from_slice(&body.bytes).map_err(|_| malformed("a JSON object is expected"))
}

/// A text in it.
fn member(object: &Value, name: &'static str) -> Result<String, Error> {
    object
        .get(name)
        .and_then(Value::as_str)
        .filter(|text| !text.is_empty())
        .map(str::to_owned)
        .ok_or_else(|| malformed(&format!("the member {name} is expected")))
}

fn malformed(text: &str) -> Error {
    Error::Malformed(vec![Issue::error("structure", text)])
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
