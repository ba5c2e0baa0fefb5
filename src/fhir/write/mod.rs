//! Assessment to resources: Flag, DiagnosticReport, Observation, Device, Provenance.
//!
//! [`resources`] turns one decision into everything that is to be stored, in sending order; it is
//! a pure function, so the same decision and context give the same bytes. What did not change
//! since the version in [`WriteContext::previous`] is left out: no new version, nothing to send.
//!
//! Ids come from [`identity`]; the words from [`words`] (one line) and [`text`] (a page).

pub mod bundle;
pub mod coding;
pub mod device;
pub mod flag;
pub mod identity;
mod inputs;
pub mod narrative;
pub mod observation;
pub mod provenance;
pub mod report;
pub mod text;
pub mod words;

pub use bundle::{for_target, writeback_bundle};

use serde_json::{Map, Value, json};

use self::{identity::CANON, narrative::Narrative};
use super::read::Subject;
use crate::clinical::assessment::{Decision, FlagState, ReportChange};

/// One resource to be stored, served and delivered.
#[derive(Debug, Clone, PartialEq)]
pub struct Resource {
    /// `resourceType`.
    pub kind: &'static str,
    /// Logical id, `mf-...`.
    pub id: String,
    /// Our business identifier (system, value), where the type has one.
    pub identifier: Option<(String, String)>,
    /// SHA-256 over the canonical JSON without id, meta, text and issued; 16 hex digits.
    pub content_hash: String,
    /// The JSON, our own copy: subject as the sender wrote it.
    pub body: Value,
}

impl Resource {
    /// Revision as written in `meta.source`: 1 for the first version, one more whenever the content
    /// changed.
    pub fn revision(&self) -> u64 {
        revision_in(&self.body).unwrap_or(1)
    }

    /// Name of our profile for this type.
    pub fn profile(&self) -> &'static str {
        match self.kind {
            "Flag" => "cytopenia-flag",
            "DiagnosticReport" => "cytopenia-report",
            "Observation" => "lineage-observation",
            "Device" => "marrowflag-device",
            _ => "assessment-provenance",
        }
    }

    /// A stored version read back, so that it can stand in [`WriteContext::previous`]; `None` when
    /// it is none of the types we write, or has no id.
    pub fn stored(body: Value) -> Option<Self> {
        let kind = [
            "Flag",
            "DiagnosticReport",
            "Observation",
            "Device",
            "Provenance",
        ]
        .into_iter()
        .find(|kind| body.get("resourceType").and_then(Value::as_str) == Some(kind))?;
        let id = body.get("id")?.as_str()?.to_owned();
        let identifier = body.pointer("/identifier/0").and_then(|identifier| {
            Some((
                identifier.get("system")?.as_str()?.to_owned(),
                identifier.get("value")?.as_str()?.to_owned(),
            ))
        });
        Some(Self {
            kind,
            id,
            identifier,
            content_hash: identity::content_hash(&body),
            body,
        })
    }
}

/// What the assessment itself does not know: whose finding it is, who writes it, and what was
/// written before.
#[derive(Debug, Clone)]
pub struct WriteContext<'a> {
    /// Tenant.
    pub tenant: &'a str,
    /// [`identity::patient_key`] of the id-forming key.
    pub patient_key: &'a [u8; 32],
    /// Subject as the sender wrote it.
    pub subject: &'a Subject,
    /// Logical identifier (system, value) of the performing organization.
    pub organization: Option<(String, String)>,
    /// Add SNOMED CT codings.
    pub snomed: bool,
    /// Test data: label it so.
    pub insecure: bool,
    /// The derived Observations go to the target too, so report and Provenance link to them.
    pub observations: bool,
    /// Identifier (system, value) of the Bundle or message that brought the data.
    pub inbound: Option<(String, String)>,
    /// Encounter of the index result: a reference as sent, or `system|value`.
    pub encounter: Option<&'a str>,
    /// Orders (`ServiceRequest`) of the index result, in the same two forms.
    pub based_on: &'a [String],
    /// Fingerprint of the site's code map: part of the configuration that the Device names.
    pub code_map: Option<&'a str>,
    /// Latest stored versions of the resources named by [`affected`]. Empty: nothing was ever
    /// written, so everything is new and nothing is withdrawn.
    pub previous: &'a [Resource],
}

impl<'a> WriteContext<'a> {
    /// A context with every switch off and no history.
    pub fn new(tenant: &'a str, patient_key: &'a [u8; 32], subject: &'a Subject) -> Self {
        Self {
            tenant,
            patient_key,
            subject,
            organization: None,
            snomed: false,
            insecure: false,
            observations: false,
            inbound: None,
            encounter: None,
            based_on: &[],
            code_map: None,
            previous: &[],
        }
    }

    fn previous_of(&self, kind: &str, id: &str) -> Option<&Resource> {
        self.previous
            .iter()
            .find(|resource| resource.kind == kind && resource.id == id)
    }
}

/// Whether a content is news (D-24: equal hash, no new version).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revision {
    /// Same content as the stored version with this number.
    Unchanged(u64),
    /// New content; the number it gets.
    New(u64),
}

impl Revision {
    /// The number.
    pub fn number(self) -> u64 {
        match self {
            Self::Unchanged(number) | Self::New(number) => number,
        }
    }
}

/// Compares a content with the stored version.
pub fn revision(previous: Option<&Resource>, content_hash: &str) -> Revision {
    match previous {
        None => Revision::New(1),
        Some(previous) if previous.content_hash == content_hash => {
            Revision::Unchanged(previous.revision())
        }
        Some(previous) => Revision::New(previous.revision().saturating_add(1)),
    }
}

/// Type and id of every resource whose stored version [`resources`] asks for: to be loaded into
/// [`WriteContext::previous`] in the same transaction.
pub fn affected(
    decision: &Decision,
    tenant: &str,
    patient_key: &[u8; 32],
) -> Vec<(&'static str, String)> {
    let flags = decision.flags.iter().map(|change| {
        let family = change.finding.family;
        ("Flag", identity::flag_id(tenant, patient_key, family))
    });
    let specimens = decision.reports.iter().filter_map(|change| match change {
        ReportChange::Write => decision.assessment.index.as_ref(),
        ReportChange::Rewrite(assessment) => assessment.index.as_ref(),
        ReportChange::Retract(index) => Some(index),
    });
    // The report of the index specimen too: a Flag that closes without a new report links to it.
    let specimens = specimens.chain(decision.assessment.index.as_ref());
    let reports = specimens.flat_map(|index| {
        let identifier = identity::report_identifier(tenant, patient_key, index);
        let observations = observation::CODES
            .iter()
            .map(|code| ("Observation", identity::observation_id(&identifier, code)))
            .collect::<Vec<_>>();
        std::iter::once((
            "DiagnosticReport",
            identity::resource_id("DiagnosticReport", &identifier),
        ))
        .chain(observations)
    });
    let mut all: Vec<_> = flags.chain(reports).collect();
    all.sort();
    all.dedup();
    all
}

/// Everything that a decision leads to, in sending order: Device, derived Observations, reports,
/// Flags, Provenance. Empty when nothing has to be written.
pub fn resources(decision: &Decision, ctx: &WriteContext<'_>) -> Vec<Resource> {
    let mut observations = Vec::new();
    let mut reports: Vec<Resource> = Vec::new();
    for change in &decision.reports {
        let (made, derived) = match change {
            ReportChange::Write => (
                report::report(&decision.assessment, ctx),
                observation::observations(&decision.assessment, ctx),
            ),
            ReportChange::Rewrite(assessment) => {
                if written(assessment.index.as_ref(), ctx).is_none() {
                    continue;
                }
                (
                    report::report(assessment, ctx),
                    observation::observations(assessment, ctx),
                )
            }
            ReportChange::Retract(index) => match written(Some(index), ctx) {
                None => continue,
                Some(previous) => (
                    Some(report::withdrawn(previous, ctx)),
                    observation::withdrawn(index, ctx),
                ),
            },
        };
        let Some(made) = made else { continue };
        // Two entries of one identity in a transaction: servers drop one of them silently.
        if reports.iter().all(|report| report.id != made.id) {
            reports.push(made);
            observations.extend(derived);
        }
    }

    let index = decision.assessment.index.as_ref();
    let index_report = index
        .map(|index| identity::report_id(ctx.tenant, ctx.patient_key, index))
        .filter(|id| {
            reports.iter().any(|report| &report.id == id)
                || ctx.previous_of("DiagnosticReport", id).is_some()
        });
    let mut changes: Vec<_> = decision
        .flags
        .iter()
        .filter(|change| change.write)
        .collect();
    // The open Flag before the one it replaces.
    changes.sort_by_key(|change| {
        (
            change.finding.state != FlagState::Active,
            change.finding.family,
        )
    });
    let flags: Vec<Resource> = changes
        .iter()
        .map(|change| flag::flag(change, &decision.assessment, ctx, index_report.as_deref()))
        .collect();

    let mut news: Vec<Resource> = observations
        .into_iter()
        .chain(reports)
        .chain(flags)
        .filter(|resource| {
            let previous = ctx.previous_of(resource.kind, &resource.id);
            matches!(revision(previous, &resource.content_hash), Revision::New(_))
        })
        .collect();
    if news.is_empty() {
        return news;
    }
    let provenance = provenance::provenance(decision, ctx, &news);
    news.insert(0, device::device(ctx));
    news.extend(provenance);
    news
}

/// The stored report of a specimen.
fn written<'c>(
    index: Option<&crate::clinical::assessment::IndexSpecimen>,
    ctx: &'c WriteContext<'_>,
) -> Option<&'c Resource> {
    let id = identity::report_id(ctx.tenant, ctx.patient_key, index?);
    ctx.previous_of("DiagnosticReport", &id)
}

/// Puts a resource together: `rest` holds its elements in order, without type, id, meta and text.
fn assemble(
    ctx: &WriteContext<'_>,
    kind: &'static str,
    profile: &str,
    identifier: Option<(&str, &str)>,
    rest: Value,
    narrative: Narrative,
) -> Resource {
    let name = identifier.map_or("", |(_, value)| value);
    let id = identity::resource_id(kind, name);
    let mut body = json!({"resourceType": kind, "id": id});
    if let (Value::Object(body), Value::Object(rest)) = (&mut body, rest) {
        body.insert("meta".to_owned(), Value::Null);
        body.insert("language".to_owned(), json!("en"));
        body.insert("text".to_owned(), narrative.finish());
        body.extend(rest);
    }
    // A Provenance has no identifier of its own; its name only makes its id.
    let identifier = identifier
        .filter(|(system, _)| !system.is_empty())
        .map(|(system, value)| (system.to_owned(), value.to_owned()));
    seal(ctx, kind, id, identifier, profile, body)
}

/// A new version of a stored resource, changed in place.
fn reissue(
    ctx: &WriteContext<'_>,
    profile: &str,
    previous: &Resource,
    narrative: Narrative,
    change: impl FnOnce(&mut Value),
) -> Resource {
    let mut body = previous.body.clone();
    put(&mut body, "text", narrative.finish());
    change(&mut body);
    seal(
        ctx,
        previous.kind,
        previous.id.clone(),
        previous.identifier.clone(),
        profile,
        body,
    )
}

/// Content hash and, from it, `meta`.
fn seal(
    ctx: &WriteContext<'_>,
    kind: &'static str,
    id: String,
    identifier: Option<(String, String)>,
    profile: &str,
    mut body: Value,
) -> Resource {
    let content_hash = identity::content_hash(&body);
    let number = revision(ctx.previous_of(kind, &id), &content_hash).number();
    let mut security = vec![json!({
        "system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue",
        "code": "DEVAST",
        "display": "device asserted"
    })];
    if ctx.insecure {
        security.push(json!({
            "system": "http://terminology.hl7.org/CodeSystem/v3-ActReason",
            "code": "HTEST",
            "display": "test health data"
        }));
    }
    let meta = json!({
        "source": format!("{REVISION}{number}"),
        "profile": [format!("{CANON}/StructureDefinition/{profile}")],
        "security": security,
        "tag": [{
            "system": format!("{CANON}/CodeSystem/mf-content-hash"),
            "code": content_hash
        }]
    });
    put(&mut body, "meta", meta);
    Resource {
        kind,
        id,
        identifier,
        content_hash,
        body,
    }
}

/// The revision of ours that a resource shows, wherever it stands: some servers write a fragment
/// of their own behind `meta.source`.
pub fn revision_in(body: &Value) -> Option<u64> {
    body.pointer("/meta/source")
        .and_then(Value::as_str)
        .and_then(|source| source.strip_prefix(REVISION))
        .and_then(|number| number.split('#').next())
        .and_then(|number| number.parse().ok())
}

const REVISION: &str = "https://marrowflag.org/fhir/revision/";

/// Sets a member of an object.
fn put(body: &mut Value, name: &str, value: Value) {
    if let Value::Object(members) = body {
        members.insert(name.to_owned(), value);
    }
}

/// `subject` of our own copy.
fn subject(subject: &Subject) -> Value {
    let mut reference = Map::new();
    if let Some(literal) = &subject.reference {
        reference.insert("reference".to_owned(), json!(literal));
    }
    if let Some(name) = subject
        .identifier
        .as_ref()
        .and_then(|(system, value)| identifier_or_none(system, value))
    {
        reference.insert("identifier".to_owned(), name);
    }
    Value::Object(reference)
}

/// Identifier with system and value, as they were sent.
fn identifier(system: &str, value: &str) -> Value {
    if system.is_empty() {
        json!({"value": value})
    } else {
        json!({"system": system, "value": value})
    }
}

/// As [`identifier`], or nothing where the two are no identifier that FHIR could carry.
fn identifier_or_none(system: &str, value: &str) -> Option<Value> {
    let unfit = value.trim().is_empty() || value.chars().any(char::is_control) || !one_word(system);
    (!unfit).then(|| identifier(system, value))
}

/// What FHIR allows in a `uri`; the byte order mark counts as a space in its regular expression.
fn one_word(text: &str) -> bool {
    !text.chars().any(|character| {
        character.is_whitespace() || character.is_control() || character == '\u{FEFF}'
    })
}

/// A reference in one of the two forms a reader hands on: `system|value`, or a literal of `kind`.
fn linked(kind: &str, sent: &str) -> Option<Value> {
    if let Some((system, value)) = sent.split_once('|') {
        return identifier_or_none(system, value).map(|name| json!({"identifier": name}));
    }
    let absolute = sent.starts_with("http://") || sent.starts_with("https://");
    let relative = sent
        .strip_prefix(kind)
        .and_then(|rest| rest.strip_prefix('/'))
        .is_some_and(|id| !id.is_empty());
    ((absolute || relative) && one_word(sent)).then(|| json!({"reference": sent}))
}

#[cfg(test)]
mod tests;
