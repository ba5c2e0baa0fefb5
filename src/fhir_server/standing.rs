//! What stands on the target, and whether a human changed it since we wrote.

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    fhir::write,
    store::lease::{Fate, Item},
};

/// `flag-priority`, the extension whose edit counts as one of the priority.
const FLAG_PRIORITY: &str = "http://hl7.org/fhir/StructureDefinition/flag-priority";
/// Ends the system of the tag that carries our content hash.
const CONTENT_HASH: &str = "/CodeSystem/mf-content-hash";

/// A resource as a target shows it.
#[derive(Debug, Clone)]
pub(super) struct Found {
    /// Its id there.
    pub(super) id: String,
    /// Its version, as `If-Match` takes it.
    pub(super) version: Option<String>,
    /// The resource.
    pub(super) resource: Value,
}

/// What follows from what stands there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is what we want to write.
    Ours,
    /// It may be written over, in the version that was read.
    Outdated,
    /// A human's edit: left as it is.
    Human(Fate),
}

/// Judges what was found in the place of `item`. `wanted` is the copy for this target.
///
/// Only a Flag is a human's to edit: its state is the display, while a report is a document of one
/// specimen.
pub(super) fn judge(found: &Found, item: &Item, wanted: &Value) -> Standing {
    let there = fingerprint(item, &found.resource);
    let same = unedited(&there, &fingerprint(item, wanted));
    let tagged = content_hash(&found.resource) == Some(item.content_hash.as_str());
    // A revision between may still be on its way, and name the version that was read: it is written
    // once more, so that it comes too late.
    let settled = item.unconfirmed.is_empty() || revision(found) == Some(item.revision);
    if item.kind != "Flag" {
        return if tagged && same && settled {
            Standing::Ours
        } else {
            Standing::Outdated
        };
    }
    match (tagged, same) {
        (true, true) if settled => Standing::Ours,
        (true, true) => Standing::Outdated,
        // Written by this very revision and changed afterwards: nothing outranks that.
        (true, false) => Standing::Human(human(&found.resource)),
        (false, _) => {
            let untouched = match &item.written_hash {
                // Nothing is remembered of it: an older revision of ours.
                None if item.unconfirmed.is_empty() => true,
                None => is_unconfirmed(found, item, &there),
                // Or a later one, of a time that a restored copy does not know.
                Some(written) => {
                    unedited(written, &there)
                        || same_version(found, item)
                        || is_unconfirmed(found, item, &there)
                        || revision(found) > item.written_revision
                }
            };
            if untouched || item.outranks_human {
                Standing::Outdated
            } else {
                Standing::Human(human(&found.resource))
            }
        }
    }
}

fn human(resource: &Value) -> Fate {
    Fate::HumanEdited {
        inactive: resource.get("status").and_then(Value::as_str) == Some("inactive"),
    }
}

/// Whether it is a revision of ours that was replaced before anybody knew that it had arrived. A
/// human who edits it leaves its tag and changes what it shows.
fn is_unconfirmed(found: &Found, item: &Item, there: &str) -> bool {
    let tag = content_hash(&found.resource);
    item.unconfirmed.iter().any(|ours| {
        tag.is_none_or(|tag| tag == ours.content_hash)
            && unedited(&fingerprint(item, &ours.body), there)
    })
}

fn same_version(found: &Found, item: &Item) -> bool {
    match (&found.version, &item.etag) {
        (Some(there), Some(known)) => bare(there) == bare(known),
        _ => false,
    }
}

/// The version without what an `ETag` wraps it in.
fn bare(etag: &str) -> &str {
    etag.strip_prefix("W/").unwrap_or(etag).trim_matches('"')
}

/// Whether what stands there is a later revision of ours than the one to be written.
pub(super) fn is_newer(found: &Found, item: &Item) -> bool {
    revision(found).is_some_and(|there| there > item.revision)
}

fn revision(found: &Found) -> Option<i64> {
    i64::try_from(write::revision_in(&found.resource)?).ok()
}

/// Fingerprint of the elements that a human edits: status, code and its text, category and period,
/// then the priority. Displays and other extensions are left out, for servers add and drop them;
/// times count as instants. Of a type that humans do not edit: status only.
pub(super) fn fingerprint(item: &Item, resource: &Value) -> String {
    if item.kind != "Flag" {
        return digest(&json!([resource.get("status")]));
    }
    let elements = digest(&json!([
        resource.get("status"),
        concept(resource.get("code")),
        each(resource.get("category"), concept),
        instant(resource.pointer("/period/start")),
        instant(resource.pointer("/period/end")),
    ]));
    match priority(resource) {
        Value::Null => elements,
        priority => format!("{elements}.{}", digest(&priority)),
    }
}

/// Whether two fingerprints show no edit. A priority that is missing on one side is no edit: some
/// servers drop extensions, and no human removes one.
fn unedited(one: &str, other: &str) -> bool {
    match (one.split_once('.'), other.split_once('.')) {
        (Some(_), Some(_)) | (None, None) => one == other,
        (Some((elements, _)), None) => elements == other,
        (None, Some((elements, _))) => one == elements,
    }
}

fn digest(watched: &Value) -> String {
    let hash = Sha256::digest(watched.to_string());
    data_encoding::HEXLOWER.encode(hash.get(..16).unwrap_or_default())
}

fn concept(concept: Option<&Value>) -> Value {
    let coding = |coding: Option<&Value>| {
        json!([
            coding.and_then(|coding| coding.get("system")),
            coding.and_then(|coding| coding.get("code")),
        ])
    };
    json!([
        concept.and_then(|concept| concept.get("text")),
        each(concept.and_then(|concept| concept.get("coding")), coding),
    ])
}

fn each(list: Option<&Value>, one: impl Fn(Option<&Value>) -> Value) -> Value {
    let items = list
        .and_then(Value::as_array)
        .map_or(&[][..], Vec::as_slice);
    items.iter().map(|item| one(Some(item))).collect()
}

fn instant(time: Option<&Value>) -> Value {
    let Some(text) = time.and_then(Value::as_str) else {
        return Value::Null;
    };
    OffsetDateTime::parse(text, &Rfc3339).map_or_else(
        |_| json!(text),
        |time| json!(time.unix_timestamp_nanos().to_string()),
    )
}

fn priority(resource: &Value) -> Value {
    each(resource.get("extension"), |extension| {
        match extension.and_then(Value::as_object) {
            Some(extension) if is_priority(extension) => {
                concept(extension.get("valueCodeableConcept"))
            }
            _ => Value::Null,
        }
    })
    .as_array()
    .and_then(|all| all.iter().find(|one| !one.is_null()).cloned())
    .unwrap_or_default()
}

fn is_priority(extension: &Map<String, Value>) -> bool {
    extension.get("url").and_then(Value::as_str) == Some(FLAG_PRIORITY)
}

/// The content hash in `meta.tag`.
pub(super) fn content_hash(resource: &Value) -> Option<&str> {
    resource
        .pointer("/meta/tag")?
        .as_array()?
        .iter()
        .find(|tag| {
            tag.get("system")
                .and_then(Value::as_str)
                .is_some_and(|system| system.ends_with(CONTENT_HASH))
        })?
        .get("code")?
        .as_str()
}

/// Whether the resource carries this identifier: a server that ignores a search parameter answers
/// with anything.
pub(super) fn carries(resource: &Value, identifier: &(String, String)) -> bool {
    resource
        .get("identifier")
        .and_then(Value::as_array)
        .is_some_and(|all| {
            all.iter().any(|one| {
                let text = |name| one.get(name).and_then(Value::as_str);
                text("system") == Some(&identifier.0) && text("value") == Some(&identifier.1)
            })
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::lease::Unconfirmed;

    fn flag(hash: &str, status: &str, text: &str) -> Value {
        json!({
            "resourceType": "Flag", "id": "mf-1",
            "meta": {"versionId": "1", "tag": [{"system": "https://marrowflag.org/fhir/CodeSystem/mf-content-hash", "code": hash}]},
            "extension": [
                {"url": "http://hl7.org/fhir/StructureDefinition/flag-detail", "valueReference": {"reference": "DiagnosticReport/mf-2"}},
                {"url": FLAG_PRIORITY, "valueCodeableConcept": {"coding": [{"system": "http://hl7.org/fhir/flag-priority-code", "code": "PH"}]}}
            ],
            "status": status,
            "category": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/flag-category", "code": "lab"}]}],
            "code": {"coding": [{"system": "https://marrowflag.org/fhir/CodeSystem/finding", "code": "pancytopenia"}], "text": text},
            "subject": {"reference": "Patient/1"},
            "period": {"start": "2026-11-18T07:00:00+01:00"}
        })
    }

    fn item(body: Value) -> Item {
        Item {
            ordinal: 0,
            kind: "Flag".to_owned(),
            id: "mf-1".to_owned(),
            identifier: None,
            revision: 2,
            content_hash: content_hash(&body).unwrap().to_owned(),
            body,
            remote_id: None,
            etag: None,
            written_hash: None,
            written_revision: None,
            outranks_human: false,
            unconfirmed: Vec::new(),
        }
    }

    fn found(resource: Value, version: &str) -> Found {
        Found {
            id: "mf-1".to_owned(),
            version: Some(version.to_owned()),
            resource,
        }
    }

    /// The second revision is to be written over the first, which is remembered in version 1.
    fn second(there: Value, version: &str, outranks_human: bool) -> Standing {
        let first = item(flag("a", "active", "one"));
        let wanted = flag("b", "active", "two");
        let item = Item {
            etag: Some("W/\"1\"".to_owned()),
            written_hash: Some(fingerprint(&first, &first.body)),
            outranks_human,
            ..item(wanted.clone())
        };
        judge(&found(there, version), &item, &wanted)
    }

    const EDITED: Standing = Standing::Human(Fate::HumanEdited { inactive: false });
    const CLOSED: Standing = Standing::Human(Fate::HumanEdited { inactive: true });

    #[test]
    fn our_last_version_is_written_over() {
        let first = flag("a", "active", "one");
        assert_eq!(second(first.clone(), "\"1\"", false), Standing::Outdated);
        assert_eq!(
            second(first, "W/\"2\"", false),
            Standing::Outdated,
            "a new version without a change of substance"
        );
    }

    #[test]
    fn a_humans_edit_stands_unless_it_is_outranked() {
        for (there, human) in [
            (flag("a", "inactive", "one"), CLOSED),
            (flag("a", "active", "I saw this"), EDITED),
        ] {
            assert_eq!(second(there.clone(), "W/\"2\"", false), human);
            assert_eq!(second(there, "W/\"2\"", true), Standing::Outdated);
        }
        let mut priority = flag("a", "active", "one");
        priority["extension"][1]["valueCodeableConcept"]["coding"][0]["code"] = json!("PL");
        assert_eq!(second(priority, "W/\"2\"", false), EDITED);
        let mut dropped = flag("a", "active", "one");
        dropped["extension"] = json!([]);
        assert_eq!(second(dropped, "W/\"2\"", false), Standing::Outdated);
        let mut period = flag("a", "active", "one");
        period["period"]["end"] = json!("2026-11-19");
        assert_eq!(second(period, "W/\"2\"", false), EDITED);
        let mut category = flag("a", "active", "one");
        category["category"] = json!([]);
        assert_eq!(second(category, "W/\"2\"", false), EDITED);
    }

    /// Its answer was lost, and the next revision came before anybody looked.
    #[test]
    fn a_revision_that_arrived_unknown_to_us_is_no_humans_edit() {
        let first = item(flag("a", "active", "one"));
        let lost = flag("x", "active", "between");
        let wanted = flag("b", "active", "two");
        let item = Item {
            etag: Some("W/\"1\"".to_owned()),
            written_hash: Some(fingerprint(&first, &first.body)),
            unconfirmed: vec![Unconfirmed {
                content_hash: "x".to_owned(),
                body: lost.clone(),
            }],
            ..item(wanted.clone())
        };
        let judged = |there| judge(&found(there, "W/\"2\""), &item, &wanted);
        assert_eq!(judged(lost), Standing::Outdated);
        assert_eq!(judged(flag("x", "inactive", "between")), CLOSED);
        assert_eq!(judged(flag("a", "inactive", "between")), CLOSED);
        // Nor when nothing was ever known to have arrived.
        let never = Item {
            etag: None,
            written_hash: None,
            ..item.clone()
        };
        let judged = |there| judge(&found(there, "W/\"1\""), &never, &wanted);
        assert_eq!(judged(flag("x", "active", "between")), Standing::Outdated);
        assert_eq!(judged(flag("x", "inactive", "between")), CLOSED);
    }

    #[test]
    fn what_a_human_changed_after_this_revision_is_never_outranked() {
        for outranks in [false, true] {
            assert_eq!(
                second(flag("b", "inactive", "two"), "W/\"2\"", outranks),
                CLOSED
            );
            assert_eq!(
                second(flag("b", "active", "two"), "W/\"2\"", outranks),
                Standing::Ours
            );
        }
    }

    #[test]
    fn what_stood_there_before_is_written_again_while_another_is_on_its_way() {
        let wanted = flag("a", "active", "one");
        let there = |revision: &str| {
            let mut there = wanted.clone();
            there["meta"]["source"] =
                json!(format!("https://marrowflag.org/fhir/revision/{revision}"));
            found(there, "W/\"1\"")
        };
        for kind in ["Flag", "DiagnosticReport"] {
            let mut item = Item {
                kind: kind.to_owned(),
                revision: 3,
                ..item(wanted.clone())
            };
            assert_eq!(judge(&there("1"), &item, &wanted), Standing::Ours);
            item.unconfirmed.push(Unconfirmed {
                content_hash: "b".to_owned(),
                body: flag("b", "active", "two"),
            });
            assert_eq!(judge(&there("1"), &item, &wanted), Standing::Outdated);
            assert_eq!(judge(&there("3"), &item, &wanted), Standing::Ours);
        }
    }

    #[test]
    fn a_humans_version_that_is_remembered_is_written_over() {
        let human = flag("a", "inactive", "one");
        let wanted = flag("b", "active", "two");
        let mut item = item(wanted.clone());
        item.written_hash = Some(fingerprint(&item, &human));
        item.etag = Some("W/\"2\"".to_owned());
        let standing = judge(&found(human, "W/\"2\""), &item, &wanted);
        assert_eq!(standing, Standing::Outdated);
    }

    #[test]
    fn what_a_restored_copy_forgot_is_no_edit_of_a_humans() {
        let first = item(flag("a", "active", "one"));
        let wanted = flag("c", "active", "three");
        let judged = |source: &str| {
            let mut there = flag("b", "inactive", "two");
            there["meta"]["source"] = json!(source);
            let item = Item {
                revision: 3,
                written_hash: Some(fingerprint(&first, &first.body)),
                written_revision: Some(1),
                ..item(wanted.clone())
            };
            let found = found(there, "9");
            (judge(&found, &item, &wanted), is_newer(&found, &item))
        };
        let source = |revision| format!("https://marrowflag.org/fhir/revision/{revision}");
        assert_eq!(judged(&source(1)), (CLOSED, false), "a human closed ours");
        assert_eq!(judged(&source(2)), (Standing::Outdated, false));
        assert_eq!(
            judged(&format!("{}#x", source(4))),
            (Standing::Outdated, true)
        );
        assert_eq!(judged("urn:other"), (CLOSED, false));
    }

    #[test]
    fn a_server_may_add_displays_and_write_times_otherwise() {
        let ours = flag("a", "active", "one");
        let mut theirs = ours.clone();
        theirs["code"]["coding"][0]["display"] = json!("Pancytopenia");
        theirs["period"]["start"] = json!("2026-11-18T06:00:00Z");
        let item = item(ours.clone());
        assert_eq!(fingerprint(&item, &ours), fingerprint(&item, &theirs));
    }

    #[test]
    fn a_report_is_ours_by_tag_and_status() {
        let report = json!({
            "resourceType": "DiagnosticReport", "status": "partial",
            "meta": {"tag": [{"system": "https://marrowflag.org/fhir/CodeSystem/mf-content-hash", "code": "a"}]}
        });
        let item = Item {
            kind: "DiagnosticReport".to_owned(),
            ..item(report.clone())
        };
        let judged = |resource| judge(&found(resource, "1"), &item, &report);
        assert_eq!(judged(report.clone()), Standing::Ours);
        let mut amended = report.clone();
        amended["status"] = json!("final");
        assert_eq!(judged(amended), Standing::Outdated);
    }
}
