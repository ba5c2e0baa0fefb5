//! What an answer means: its status, and whether its content is what the status claims.

use reqwest::StatusCode;
use serde_json::Value;

use super::wire::Reply;
use crate::store::delivery::Outcome;

/// First reading of a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// 200, 201, 204: the content decides.
    Success,
    /// 404.
    NotFound,
    /// 405.
    NotAllowed,
    /// 406, 415.
    MediaType,
    /// 410.
    Gone,
    /// 413.
    TooLarge,
    /// 401.
    Unauthorized,
    /// 501.
    NotImplemented,
    /// Anything that needs no second look.
    Ends(Outcome),
}

impl Verdict {
    /// What it ends in where nothing special is made of it.
    pub(super) fn outcome(self) -> Outcome {
        match self {
            // A success where none can be: told apart before this is asked.
            Self::Success => Outcome::LyingSuccess,
            Self::NotFound | Self::NotAllowed | Self::MediaType => {
                Outcome::WayRefused { another_way: false }
            }
            Self::TooLarge => Outcome::Rejected,
            Self::Unauthorized => Outcome::Unauthorized,
            Self::Gone | Self::NotImplemented => Outcome::Unforeseen,
            Self::Ends(outcome) => outcome,
        }
    }
}

/// Reads a status.
pub(super) fn verdict(status: u16, retry_after: Option<std::time::Duration>) -> Verdict {
    match status {
        200 | 201 | 204 => Verdict::Success,
        202 => Verdict::Ends(Outcome::AcceptedOnly),
        300..=399 => Verdict::Ends(Outcome::Redirected),
        400 | 422 => Verdict::Ends(Outcome::Rejected),
        401 => Verdict::Unauthorized,
        403 => Verdict::Ends(Outcome::Forbidden { others_pass: false }),
        404 => Verdict::NotFound,
        405 => Verdict::NotAllowed,
        406 | 415 => Verdict::MediaType,
        408 | 425 => Verdict::Ends(Outcome::NotSent),
        409 | 412 => Verdict::Ends(Outcome::Conflict),
        410 => Verdict::Gone,
        413 => Verdict::TooLarge,
        423 | 429 => Verdict::Ends(Outcome::Throttled { retry_after }),
        501 => Verdict::NotImplemented,
        503 => Verdict::Ends(Outcome::Unavailable { retry_after }),
        505 => Verdict::Ends(Outcome::Unforeseen),
        500..=599 => Verdict::Ends(Outcome::ServerFault),
        _ => Verdict::Ends(Outcome::Unforeseen),
    }
}

/// What a successful write says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Stored {
    /// Id on the target.
    pub(super) id: Option<String>,
    /// Version on the target.
    pub(super) version: Option<String>,
}

/// Checks the answer to the write of one resource. `id` is what it must be called, where that is
/// known.
pub(super) fn stored(reply: &Reply, kind: &str, id: Option<&str>) -> Result<Stored, Outcome> {
    let mut stored = Stored {
        id: id.map(str::to_owned),
        version: reply.etag.clone(),
    };
    if let Some((place_id, version)) = reply.location.as_deref().and_then(|at| place(at, kind)) {
        stored.note(place_id, version)?;
    }
    if !reply.is_empty() {
        let body = reply.json().ok_or(Outcome::LyingSuccess)?;
        match resource_type(&body) {
            Some("OperationOutcome") if !has_error(&body) => {}
            Some(other) if other == kind => {
                let id = body.get("id").and_then(Value::as_str);
                stored.note(id.ok_or(Outcome::LyingSuccess)?, version_of(&body))?;
            }
            _ => return Err(Outcome::LyingSuccess),
        }
    }
    Ok(stored)
}

impl Stored {
    /// Takes in an id and a version; another id than the known one is a lie.
    fn note(&mut self, id: &str, version: Option<String>) -> Result<(), Outcome> {
        if self.id.as_deref().is_some_and(|known| known != id) {
            return Err(Outcome::LyingSuccess);
        }
        self.id = Some(id.to_owned());
        self.version = self.version.take().or(version);
        Ok(())
    }
}

/// Checks the answer to a transaction of `sent` (type, id): count, order, every status, type and id.
pub(super) fn transaction(reply: &Reply, sent: &[(&str, &str)]) -> Result<Vec<Stored>, Outcome> {
    let body = reply.json().ok_or(Outcome::LyingSuccess)?;
    let entries = match body.get("entry").and_then(Value::as_array) {
        Some(entries) if is_response(&body) => entries,
        _ => return Err(Outcome::LyingSuccess),
    };
    let worst = entries.iter().filter_map(inner_status).max().unwrap_or(0);
    if worst >= 300 {
        return Err(match verdict(worst, reply.retry_after) {
            // Which entry it was and whether it is gone, reading will tell.
            Verdict::Gone => Outcome::Conflict,
            other => other.outcome(),
        });
    }
    if entries.len() != sent.len() {
        return Err(Outcome::LyingSuccess);
    }
    entries
        .iter()
        .zip(sent)
        .map(|(entry, (kind, id))| entry_stored(entry, kind, id))
        .collect()
}

fn is_response(body: &Value) -> bool {
    resource_type(body) == Some("Bundle")
        && matches!(
            body.get("type").and_then(Value::as_str),
            Some("transaction-response" | "batch-response")
        )
}

/// `entry.response.status` begins with three digits.
fn inner_status(entry: &Value) -> Option<u16> {
    let text = entry.pointer("/response/status")?.as_str()?;
    text.get(..3)?.parse().ok()
}

fn entry_stored(entry: &Value, kind: &str, id: &str) -> Result<Stored, Outcome> {
    if !matches!(inner_status(entry), Some(200 | 201 | 204)) {
        return Err(Outcome::LyingSuccess);
    }
    let text = |path| entry.pointer(path).and_then(Value::as_str);
    let mut stored = Stored {
        id: Some(id.to_owned()),
        version: text("/response/etag").map(str::to_owned),
    };
    if let Some(location) = text("/response/location") {
        let (there, version) = place(location, kind).ok_or(Outcome::LyingSuccess)?;
        stored.note(there, version)?;
    }
    let outcome = entry.pointer("/response/outcome");
    if outcome.is_some_and(has_error) {
        return Err(Outcome::LyingSuccess);
    }
    match entry.get("resource") {
        None => {}
        Some(resource) if resource_type(resource) == Some(kind) => {
            let there = resource.get("id").and_then(Value::as_str);
            stored.note(there.unwrap_or(id), version_of(resource))?;
        }
        Some(outcome)
            if resource_type(outcome) == Some("OperationOutcome") && !has_error(outcome) => {}
        Some(_) => return Err(Outcome::LyingSuccess),
    }
    Ok(stored)
}

/// Id and version in `.../Type/id/_history/version`.
fn place<'a>(location: &'a str, kind: &str) -> Option<(&'a str, Option<String>)> {
    let segments: Vec<_> = location.split('/').collect();
    let at = segments.iter().rposition(|segment| *segment == kind)?;
    let id = segments.get(at + 1).filter(|id| !id.is_empty())?;
    let version = match (segments.get(at + 2), segments.get(at + 3)) {
        (Some(&"_history"), Some(version)) if !version.is_empty() => Some(weak(version)),
        _ => None,
    };
    Some((id, version))
}

/// `meta.versionId` as an `ETag`.
pub(super) fn version_of(resource: &Value) -> Option<String> {
    resource
        .pointer("/meta/versionId")
        .and_then(Value::as_str)
        .map(weak)
}

fn weak(version: &str) -> String {
    format!("W/\"{version}\"")
}

pub(super) fn resource_type(resource: &Value) -> Option<&str> {
    resource.get("resourceType")?.as_str()
}

fn has_error(outcome: &Value) -> bool {
    outcome
        .get("issue")
        .and_then(Value::as_array)
        .is_some_and(|issues| {
            issues.iter().any(|issue| {
                matches!(
                    issue.get("severity").and_then(Value::as_str),
                    Some("error" | "fatal")
                )
            })
        })
}

/// First `issue.code` of an OperationOutcome, in the code system's letters only.
pub(super) fn issue_code(reply: &Reply) -> Option<String> {
    let body = reply.json()?;
    let code = body.pointer("/issue/0/code")?.as_str()?;
    (code.len() <= 32
        && code
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte == b'-'))
    .then(|| code.to_owned())
}

/// What `Reply` is when the status has not been read yet.
pub(super) fn of(reply: &Reply) -> Verdict {
    verdict(StatusCode::as_u16(&reply.status), reply.retry_after)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn reply(body: &(impl ToString + ?Sized)) -> Reply {
        Reply {
            status: StatusCode::OK,
            etag: None,
            location: None,
            retry_after: None,
            bytes: body.to_string().into_bytes(),
        }
    }

    #[test]
    fn every_status_has_a_verdict() {
        use Outcome as O;
        let ends = [
            (202, O::AcceptedOnly),
            (206, O::Unforeseen),
            (302, O::Redirected),
            (304, O::Redirected),
            (400, O::Rejected),
            (402, O::Unforeseen),
            (403, O::Forbidden { others_pass: false }),
            (408, O::NotSent),
            (409, O::Conflict),
            (412, O::Conflict),
            (418, O::Unforeseen),
            (422, O::Rejected),
            (423, O::Throttled { retry_after: None }),
            (425, O::NotSent),
            (429, O::Throttled { retry_after: None }),
            (500, O::ServerFault),
            (502, O::ServerFault),
            (503, O::Unavailable { retry_after: None }),
            (504, O::ServerFault),
            (505, O::Unforeseen),
            (507, O::ServerFault),
            (599, O::ServerFault),
            (101, O::Unforeseen),
            (999, O::Unforeseen),
        ];
        for (status, outcome) in ends {
            assert_eq!(verdict(status, None), Verdict::Ends(outcome), "{status}");
        }
        let special = [
            (200, Verdict::Success),
            (201, Verdict::Success),
            (204, Verdict::Success),
            (401, Verdict::Unauthorized),
            (404, Verdict::NotFound),
            (405, Verdict::NotAllowed),
            (406, Verdict::MediaType),
            (410, Verdict::Gone),
            (413, Verdict::TooLarge),
            (415, Verdict::MediaType),
            (501, Verdict::NotImplemented),
        ];
        for (status, expected) in special {
            assert_eq!(verdict(status, None), expected, "{status}");
        }
    }

    #[test]
    fn a_single_answer_must_be_what_was_sent() {
        let flag = json!({"resourceType": "Flag", "id": "mf-1", "meta": {"versionId": "7"}});
        let ok = stored(&reply(&flag), "Flag", Some("mf-1")).unwrap();
        assert_eq!(ok.version.as_deref(), Some("W/\"7\""));
        assert!(stored(&reply(""), "Flag", Some("mf-1")).is_ok(), "minimal");
        let fine =
            json!({"resourceType": "OperationOutcome", "issue": [{"severity": "information"}]});
        assert!(stored(&reply(&fine), "Flag", Some("mf-1")).is_ok());
        for lie in [
            "<html>login</html>".to_owned(),
            "{\"resourceType\":\"Flag\",\"id\":\"mf-1\"".to_owned(),
            "[]".to_owned(),
            "{}".to_owned(),
            json!({"resourceType": "Flag"}).to_string(),
            json!({"resourceType": "Flag", "id": "mf-2"}).to_string(),
            json!({"resourceType": "Patient", "id": "mf-1"}).to_string(),
            json!({"resourceType": "OperationOutcome", "issue": [{"severity": "error"}]})
                .to_string(),
        ] {
            let outcome = stored(&reply(&lie), "Flag", Some("mf-1"));
            assert_eq!(outcome, Err(Outcome::LyingSuccess), "{lie}");
        }
        let elsewhere = Reply {
            location: Some("https://f.example/fhir/Flag/other/_history/3".to_owned()),
            ..reply("")
        };
        assert_eq!(
            stored(&elsewhere, "Flag", Some("mf-1")),
            Err(Outcome::LyingSuccess)
        );
        let new = stored(&elsewhere, "Flag", None).unwrap();
        assert_eq!(new.id.as_deref(), Some("other"));
        assert_eq!(new.version.as_deref(), Some("W/\"3\""));
    }

    fn bundle(entries: &Value) -> Reply {
        reply(&json!({"resourceType": "Bundle", "type": "transaction-response", "entry": entries}))
    }

    #[test]
    fn a_transaction_answer_is_checked_entry_by_entry() {
        let sent = [("Device", "d"), ("Flag", "f")];
        let device =
            json!({"response": {"status": "201 Created", "location": "Device/d/_history/1"}});
        let flag = json!({"response": {"status": "200", "etag": "W/\"2\""}});
        let both = transaction(&bundle(&json!([device, flag])), &sent).unwrap();
        assert_eq!(both[0].version.as_deref(), Some("W/\"1\""));
        assert_eq!(both[1].version.as_deref(), Some("W/\"2\""));
        for (entries, why) in [
            (json!([device]), "missing"),
            (json!([flag, device]), "reordered"),
            (json!([device, {}]), "no response"),
            (
                json!([device, {"response": {"status": "soon"}}]),
                "no status",
            ),
            (
                json!([device, {"resource": {"resourceType": "Patient", "id": "f"}, "response": {"status": "200"}}]),
                "other type",
            ),
            (
                json!([device, {"response": {"status": "200", "outcome": {"resourceType": "OperationOutcome", "issue": [{"severity": "fatal"}]}}}]),
                "error inside",
            ),
        ] {
            assert_eq!(
                transaction(&bundle(&entries), &sent),
                Err(Outcome::LyingSuccess),
                "{why}"
            );
        }
        let searchset =
            reply(&json!({"resourceType": "Bundle", "type": "searchset", "entry": [device, flag]}));
        assert_eq!(transaction(&searchset, &sent), Err(Outcome::LyingSuccess));
    }

    #[test]
    fn an_inner_failure_is_the_failure_of_the_whole() {
        let sent = [("Device", "d"), ("Flag", "f")];
        let device = json!({"response": {"status": "201"}});
        for (inner, outcome) in [
            ("412 Precondition Failed", Outcome::Conflict),
            ("422", Outcome::Rejected),
            ("500", Outcome::ServerFault),
            ("503", Outcome::Unavailable { retry_after: None }),
            ("410", Outcome::Conflict),
        ] {
            let entries = json!([device, {"response": {"status": inner}}]);
            assert_eq!(
                transaction(&bundle(&entries), &sent),
                Err(outcome),
                "{inner}"
            );
        }
    }
}
