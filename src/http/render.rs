//! Receipts on the wire: `batch-response`, `transaction-response`, the answer to a message, and the
//! answer to one resource.

use actix_web::{
    HttpResponse,
    http::header::{self, HeaderName, HeaderValue},
};
use serde_json::{Map, Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use uuid::Uuid;

use super::{
    CLIENT, Door, TENANT, answer,
    error::{self, Error, Success},
    findings,
    negotiate::{Return, Wish},
};
use crate::{
    fhir::{
        outcome::{Issue, Severity, operation_outcome},
        submission::{Kind, Refusal},
    },
    intake::receipt::{EntryOutcome, EntryReceipt, Receipt},
    store::reading::HeldResource,
};

/// The answer to a Bundle.
pub(super) async fn bundle(
    door: &Door,
    receipt: &Receipt,
    wish: &Wish,
) -> Result<HttpResponse, Error> {
    if receipt.kind == Kind::Transaction {
        refused_whole(receipt)?;
    }
    if receipt.kind == Kind::Message {
        let mut response = answer::fhir(Success::Ok, &message(door, receipt), wish.pretty);
        finish(&mut response, receipt, wish);
        return Ok(response);
    }
    let kind = if receipt.kind == Kind::Transaction {
        "transaction-response"
    } else {
        "batch-response"
    };
    let mut entries = Vec::with_capacity(receipt.entries.len());
    for entry in &receipt.entries {
        entries.push(response_entry(door, receipt, entry, wish).await?);
    }
    let mut answered = Map::new();
    answered.insert("resourceType".to_owned(), "Bundle".into());
    answered.insert("type".to_owned(), kind.into());
    // FHIR knows no empty arrays.
    if !entries.is_empty() {
        answered.insert("entry".to_owned(), entries.into());
    }
    let warnings = said(&receipt.issues, wish);
    if !warnings.is_empty() {
        // A Bundle has no place for warnings about itself; its first entry is where engines look.
        warn(&mut answered, &warnings);
    }
    let mut response = answer::fhir(Success::Ok, &Value::Object(answered), wish.pretty);
    finish(&mut response, receipt, wish);
    Ok(response)
}

/// The answer to one resource that was created or updated.
pub(super) async fn single(
    door: &Door,
    receipt: &Receipt,
    wish: &Wish,
) -> Result<HttpResponse, Error> {
    refused_whole(receipt)?;
    let Some(entry) = receipt.entries.first() else {
        return Err(Error::Bug(anyhow::anyhow!(
            "a receipt of one resource has no entry"
        )));
    };
    let issues: Vec<Issue> = receipt
        .issues
        .iter()
        .chain(&entry.issues)
        .cloned()
        .collect();
    let (success, id, version) = match &entry.outcome {
        EntryOutcome::Created { id, version } => (Success::Created, id, *version),
        EntryOutcome::Ok { id, version } => (Success::Ok, id, *version),
        _ => {
            let outcome = operation_outcome(&issues);
            let mut response = answer::fhir(Success::Accepted, &outcome, wish.pretty);
            finish(&mut response, receipt, wish);
            return Ok(response);
        }
    };
    let mut response = match wish.give_back {
        Return::Minimal => answer::empty(success),
        Return::Outcome => answer::fhir(success, &operation_outcome(&issues), wish.pretty),
        Return::Unsaid | Return::Representation => match held(door, entry, id, version).await? {
            Some(held) => findings::show(success, &held, wish),
            None => answer::empty(success),
        },
    };
    let headers = response.headers_mut();
    for (name, value) in [
        (header::LOCATION, location(door, entry, id, version)),
        (header::ETAG, etag(version)),
    ] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
    finish(&mut response, receipt, wish);
    Ok(response)
}

/// The answer to a message. Its ids are made of the message's own and of the time it was stored, so
/// that a repeat is answered with the same bytes.
fn message(door: &Door, receipt: &Receipt) -> Value {
    let header = receipt.message.as_ref();
    let id = header
        .and_then(|header| header.id.as_deref())
        .unwrap_or_default();
    let made = |what: &str| {
        let name = format!("{what} {id} {}", receipt.stored_at);
        Uuid::new_v5(&Uuid::NAMESPACE_URL, name.as_bytes()).to_string()
    };
    let (bundle_id, header_id, outcome_id) = (made("bundle"), made("header"), made("outcome"));
    let issues: Vec<Issue> = receipt
        .issues
        .iter()
        .chain(receipt.entries.iter().flat_map(|entry| &entry.issues))
        .cloned()
        .collect();
    let mut answered = json!({
        "resourceType": "MessageHeader",
        "id": header_id,
        "source": { "name": "marrowflag", "endpoint": format!("{}/fhir", door.base) },
        "response": {
            "identifier": id,
            "code": "ok",
            "details": { "reference": format!("urn:uuid:{outcome_id}") }
        }
    });
    if let Some(answered) = answered.as_object_mut() {
        if let Some((name, event)) = header.and_then(|header| header.event.clone()) {
            answered.insert(name, event);
        }
        if let Some(source) = header.and_then(|header| header.source.as_deref()) {
            answered.insert("destination".to_owned(), json!([{ "endpoint": source }]));
        }
    }
    json!({
        "resourceType": "Bundle",
        "id": bundle_id,
        "type": "message",
        "timestamp": stored_at(receipt),
        "entry": [
            { "fullUrl": format!("urn:uuid:{header_id}"), "resource": answered },
            { "fullUrl": format!("urn:uuid:{outcome_id}"), "resource": operation_outcome(&issues) }
        ]
    })
}

/// What stands or falls as a whole, and fell: the status of the first entry that failed, and every
/// entry that did.
fn refused_whole(receipt: &Receipt) -> Result<(), Error> {
    let failed: Vec<(Refusal, &EntryReceipt)> = receipt
        .entries
        .iter()
        .filter_map(|entry| match entry.outcome {
            EntryOutcome::Refused(refusal) => Some((refusal, entry)),
            _ => None,
        })
        .collect();
    let Some((refusal, _)) = failed.first() else {
        return Ok(());
    };
    let issues = receipt
        .issues
        .iter()
        .chain(failed.iter().flat_map(|(_, entry)| &entry.issues))
        .cloned()
        .collect();
    Err(error::of_refusal(*refusal, issues))
}

async fn response_entry(
    door: &Door,
    receipt: &Receipt,
    entry: &EntryReceipt,
    wish: &Wish,
) -> Result<Value, Error> {
    let mut answered = Map::new();
    let mut response = Map::new();
    let mut issues = said(&entry.issues, wish);
    let mut state = |text: String| {
        response.insert("status".to_owned(), text.into());
    };
    match &entry.outcome {
        EntryOutcome::Created { id, version } | EntryOutcome::Ok { id, version } => {
            let created = matches!(entry.outcome, EntryOutcome::Created { .. });
            state(
                if created {
                    Success::Created
                } else {
                    Success::Ok
                }
                .line(),
            );
            answered.insert("fullUrl".to_owned(), address(door, entry, id).into());
            response.insert(
                "location".to_owned(),
                location(door, entry, id, *version).into(),
            );
            response.insert("etag".to_owned(), etag(*version).into());
            if created {
                response.insert("lastModified".to_owned(), stored_at(receipt).into());
            }
            if wish.give_back == Return::Representation
                && let Some(held) = held(door, entry, id, *version).await?
            {
                answered.insert("resource".to_owned(), held.body);
            }
        }
        EntryOutcome::Accepted => state(Success::Accepted.line()),
        EntryOutcome::NoContent => state(Success::NoContent.line()),
        EntryOutcome::Refused(refusal) => state(error::refusal_line(*refusal)),
        EntryOutcome::Found(held) => {
            state(Success::Ok.line());
            answered.insert("fullUrl".to_owned(), address(door, entry, &held.id).into());
            response.insert("etag".to_owned(), etag(held.version).into());
            answered.insert("resource".to_owned(), held.body.clone());
        }
        EntryOutcome::Look { .. } | EntryOutcome::Missing => {
            state(error::refusal_line(Refusal::Unsupported));
            issues.push(Issue::error("not-found", "nothing is held under this id"));
        }
    }
    if !issues.is_empty() || wish.give_back == Return::Outcome {
        response.insert("outcome".to_owned(), operation_outcome(&issues));
    }
    answered.insert("response".to_owned(), response.into());
    Ok(answered.into())
}

/// Issues, as far as the caller wants to hear of them.
fn said(issues: &[Issue], wish: &Wish) -> Vec<Issue> {
    issues
        .iter()
        .filter(|issue| wish.give_back != Return::Minimal || issue.severity > Severity::Information)
        .cloned()
        .collect()
}

/// Puts warnings about the whole in front of what is said about the first entry.
fn warn(answered: &mut Map<String, Value>, warnings: &[Issue]) {
    let outcome = answered
        .get_mut("entry")
        .and_then(|entries| entries.get_mut(0))
        .and_then(|entry| entry.get_mut("response"))
        .and_then(Value::as_object_mut);
    let Some(response) = outcome else { return };
    let warnings = operation_outcome(warnings);
    match response
        .get_mut("outcome")
        .and_then(|outcome| outcome.get_mut("issue"))
        .and_then(Value::as_array_mut)
    {
        Some(issues) => {
            if let Some(warnings) = warnings.get("issue").and_then(Value::as_array) {
                issues.splice(0..0, warnings.iter().cloned());
            }
        }
        None => {
            response.insert("outcome".to_owned(), warnings);
        }
    }
}

fn finish(response: &mut HttpResponse, receipt: &Receipt, wish: &Wish) {
    let headers = response.headers_mut();
    if receipt.replayed {
        headers.insert(
            HeaderName::from_static("idempotency-replayed"),
            HeaderValue::from_static("true"),
        );
    }
    if let Some(applied) = wish.give_back.applied() {
        headers.insert(
            HeaderName::from_static("preference-applied"),
            HeaderValue::from_static(applied),
        );
    }
}

async fn held(
    door: &Door,
    entry: &EntryReceipt,
    id: &str,
    version: i64,
) -> Result<Option<HeldResource>, Error> {
    Ok(door
        .store
        .read_sent(TENANT, CLIENT, kind(entry), id, Some(version))
        .await?)
}

fn kind(entry: &EntryReceipt) -> &str {
    entry.kind.as_deref().unwrap_or("Observation")
}

fn address(door: &Door, entry: &EntryReceipt, id: &str) -> String {
    format!("{}/fhir/{}/{id}", door.base, kind(entry))
}

fn location(door: &Door, entry: &EntryReceipt, id: &str, version: i64) -> String {
    format!("{}/_history/{version}", address(door, entry, id))
}

fn etag(version: i64) -> String {
    format!("W/\"{version}\"")
}

fn stored_at(receipt: &Receipt) -> String {
    OffsetDateTime::from_unix_timestamp_nanos(
        i128::from(receipt.stored_at).saturating_mul(1_000_000),
    )
    .ok()
    .and_then(|at| at.format(&Rfc3339).ok())
    .unwrap_or_default()
}
