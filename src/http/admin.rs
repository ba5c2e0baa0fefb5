//! Deliveries, for operators and `marrowflag deliveries`.

use actix_web::{
    HttpResponse,
    web::{Data, Path},
};
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    Door, answer,
    error::{Error, Success},
    negotiate::Wish,
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
