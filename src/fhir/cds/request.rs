//! A call, decoded and checked, with every prefetch value told apart: not sent, nothing there,
//! could not be had, here it is.

use std::fmt;

use super::{Hook, Service, discovery::Key};
use crate::fhir::{
    outcome::{Issue, word},
    submission::Checker,
    tree::{Parsed, Tree},
};

/// Root of expressions about a call.
const ROOT: &str = "CDSHooksRequest";
/// Issues said about one call.
const MAX_ISSUES: usize = 50;
/// Resources looked at in one prefetch value.
const MAX_RESOURCES: usize = 500;

/// A bearer token that came with a call. It never shows and lives as long as the call.
#[derive(Clone)]
pub struct AccessToken(String);

impl AccessToken {
    /// The token, to be put into one header.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[token]")
    }
}

/// What came under one key.
#[derive(Debug, Clone)]
pub enum Sent<'t> {
    /// Resources; maybe none.
    Here(Found<'t>),
    /// `null`: the client has no such data. That is an answer.
    Nothing,
    /// The client tried and failed (`OperationOutcome`): not asked for again.
    Failed,
    /// Not what was asked for, or about somebody else.
    Unfit(Unfit),
}

/// Why a prefetch value was put aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfit {
    /// Another type of resource.
    Kind,
    /// A resource of another patient.
    OtherPatient,
}

/// The resources under one key.
#[derive(Debug, Clone, Default)]
pub struct Found<'t> {
    /// They.
    pub resources: Vec<&'t Tree<'t>>,
    /// Address of the next page, when there is one.
    pub next: Option<&'t str>,
    /// There is more than was sent: a next page, a `total` above what came, or a full page that
    /// does not begin with the newest.
    pub partial: bool,
}

/// A call of a service.
#[derive(Debug, Clone)]
pub struct Call<'t> {
    /// The service.
    pub service: Service,
    /// The hook.
    pub hook: Hook,
    /// `hookInstance` as sent.
    pub hook_instance: &'t str,
    /// Id of the patient, without the type in front.
    pub patient_id: &'t str,
    /// Id of the encounter, without the type in front.
    pub encounter_id: Option<&'t str>,
    /// `fhirServer`.
    pub fhir_server: Option<&'t str>,
    /// The token for it, when it is not used up.
    pub token: Option<AccessToken>,
    /// What was sent of what we ask for.
    pub prefetch: Vec<(Key, Sent<'t>)>,
    /// Every resource of `context.draftOrders`.
    pub draft_orders: Vec<&'t Tree<'t>>,
    /// `context.selections`.
    pub selections: Vec<&'t str>,
}

impl<'t> Call<'t> {
    /// What came under a key; `None`: it was not sent.
    pub fn sent(&self, key: Key) -> Option<&Sent<'t>> {
        self.prefetch
            .iter()
            .find(|(sent, _)| *sent == key)
            .map(|(_, sent)| sent)
    }
}

/// Decodes a call of `service`. Wrong calls are answered with every issue that was found.
pub fn decode<'t>(
    parsed: &'t Parsed<'t>,
    service: Service,
    checker: &Checker,
) -> Result<Call<'t>, Vec<Issue>> {
    let root = &parsed.root;
    let mut issues: Vec<Issue> = parsed
        .broken
        .iter()
        .filter(|broken| broken.word == word::DUPLICATE_KEY)
        // A resource in the prefetch that is broken is put aside alone, when it is read.
        .filter(|broken| !broken.path.dotted().starts_with(".prefetch."))
        .map(|broken| {
            Issue::error(broken.word, "A member stands twice in one object")
                .at(format!("{ROOT}{}", broken.path.dotted()))
        })
        .collect();
    issues.extend(
        checker
            .profiles()
            .check_json("cds-request", ROOT, root, MAX_ISSUES),
    );
    let hook = root.text("hook").and_then(Hook::from_name);
    match hook {
        Some(hook) if hook.service() == service => {}
        Some(_) | None if root.text("hook").is_some() => {
            let text = "This service is not listed for that hook";
            issues.push(Issue::error(word::VALUE, text).at(format!("{ROOT}.hook")));
        }
        _ => {}
    }
    let context = root.get("context").unwrap_or(&Tree::Null);
    let (Some(hook), Some(hook_instance), Some(patient_id), true) = (
        hook,
        root.text("hookInstance"),
        context.text("patientId"),
        issues.is_empty(),
    ) else {
        issues.truncate(MAX_ISSUES);
        return Err(issues);
    };
    let patient_id = bare(patient_id, "Patient/");
    let prefetch = root
        .get("prefetch")
        .map_or(&[][..], Tree::members)
        .iter()
        .filter_map(|(name, value)| {
            let key = Key::from_name(name)?;
            Some((key, classify(key, value, patient_id)))
        })
        .collect();
    Ok(Call {
        service,
        hook,
        hook_instance,
        patient_id,
        encounter_id: context.text("encounterId").map(|id| bare(id, "Encounter/")),
        fhir_server: root.text("fhirServer"),
        token: token(root),
        prefetch,
        draft_orders: context
            .get("draftOrders")
            .map_or(&[][..], |orders| orders.items("entry"))
            .iter()
            .filter_map(|entry| entry.get("resource"))
            .collect(),
        selections: context
            .items("selections")
            .iter()
            .filter_map(Tree::as_str)
            .collect(),
    })
}

fn token(root: &Tree<'_>) -> Option<AccessToken> {
    let authorization = root.get("fhirAuthorization")?;
    let seconds: i64 = authorization
        .get("expires_in")
        .and_then(Tree::as_number)?
        .parse()
        .ok()?;
    let token = authorization.text("access_token")?;
    (seconds > 0).then(|| AccessToken(token.to_owned()))
}

fn bare<'t>(id: &'t str, kind: &str) -> &'t str {
    id.strip_prefix(kind).unwrap_or(id)
}

/// Tells what a prefetch value is. The same for what was fetched.
pub fn classify<'t>(key: Key, value: &'t Tree<'t>, patient_id: &str) -> Sent<'t> {
    // Clients from before 1.0 wrap: { "response": { "status": "200 OK" }, "resource": ... }.
    let value = match (
        value.resource_type(),
        value.get("resource"),
        value.get("response"),
    ) {
        (None, Some(resource), _) => resource,
        (None, None, Some(_)) => return Sent::Failed,
        _ => value,
    };
    let is_bundle = match value.resource_type() {
        Some(kind) => kind == "Bundle",
        None => value.get("entry").is_some() || value.get("total").is_some(),
    };
    if *value == Tree::Null {
        return Sent::Nothing;
    }
    if value.resource_type() == Some("OperationOutcome") {
        return Sent::Failed;
    }
    let mut found = Found::default();
    if is_bundle {
        let mut others = 0_usize;
        for entry in value.items("entry") {
            let Some(resource) = entry.get("resource") else {
                continue;
            };
            let mode = entry.get("search").and_then(|search| search.text("mode"));
            if mode == Some("outcome") || resource.resource_type() == Some("OperationOutcome") {
                continue;
            }
            if resource.resource_type() == Some(key.resource_type()) {
                found.resources.push(resource);
            } else {
                others += 1;
            }
        }
        if found.resources.is_empty() && others > 0 {
            return Sent::Unfit(Unfit::Kind);
        }
        found.next = value.items("link").iter().find_map(|link| {
            (link.text("relation") == Some("next"))
                .then(|| link.text("url"))
                .flatten()
        });
        let total = value
            .get("total")
            .and_then(Tree::as_number)
            .and_then(|total| total.parse::<usize>().ok());
        // A search asks for the newest so many and knows that there may be older ones: more of
        // them is not a gap, unless they are not the newest.
        let full = key
            .count()
            .is_some_and(|count| found.resources.len() >= count);
        let sorted = is_newest_first(&found.resources);
        found.partial = if full {
            !sorted
        } else {
            found.next.is_some() || total.is_some_and(|total| total > found.resources.len())
        };
    } else if value.resource_type() == Some(key.resource_type()) {
        found.resources.push(value);
    } else {
        return Sent::Unfit(Unfit::Kind);
    }
    // The whole value, not the one resource: who mixes up one may have mixed up the others.
    let foreign = |resource: &&Tree<'_>| !is_of(key, resource, patient_id);
    if found.resources.iter().any(foreign) {
        return Sent::Unfit(Unfit::OtherPatient);
    }
    if found.resources.len() > MAX_RESOURCES {
        found
            .resources
            .sort_by_key(|resource| std::cmp::Reverse(newest_of(resource)));
        found.resources.truncate(MAX_RESOURCES);
        found.partial = true;
    }
    Sent::Here(found)
}

/// Whether a resource is of the patient that the call is about.
fn is_of(key: Key, resource: &Tree<'_>, patient_id: &str) -> bool {
    if key == Key::Patient {
        return resource.text("id") == Some(patient_id);
    }
    let reference = resource
        .get("subject")
        .or_else(|| resource.get("patient"))
        .and_then(|subject| subject.text("reference"));
    let Some(reference) = reference else {
        return false;
    };
    let unversioned = reference
        .split_once("/_history/")
        .map_or(reference, |(reference, _)| reference);
    let mut parts = unversioned.rsplit('/');
    parts.next() == Some(patient_id) && parts.next() == Some("Patient")
}

/// The text that orders results in time; ISO dates of one form sort as text.
fn newest_of<'t>(resource: &'t Tree<'t>) -> &'t str {
    resource
        .text("effectiveDateTime")
        .or_else(|| {
            resource
                .get("effectivePeriod")
                .and_then(|period| period.text("start"))
        })
        .or_else(|| resource.text("effectiveInstant"))
        .or_else(|| resource.text("issued"))
        .unwrap_or_default()
}

fn is_newest_first(resources: &[&Tree<'_>]) -> bool {
    resources
        .iter()
        .zip(resources.iter().skip(1))
        // To the day: offsets may differ within one.
        .all(|(newer, older)| {
            newest_of(newer).get(..10).unwrap_or_default()
                >= newest_of(older).get(..10).unwrap_or_default()
        })
}
