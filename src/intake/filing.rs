//! From what was read to what is filed: resources by patient, in the order of their entries.

use std::collections::{BTreeMap, HashSet};

use sha2::{Digest, Sha256};

use super::receipt::{EntryOutcome, EntryReceipt};
use crate::{
    fhir::{
        outcome::Issue,
        read::{EntryUse, PatientKey, PatientReading, ReadFact, ReadValue, Reading, ResultKey},
        submission::{Entry, Method, Refusal, Submission, parse_if_match, parse_if_none_exist},
        tree::Tree,
        write::identity,
    },
    store::{
        IdentityKey,
        keys::ResultId,
        submission::{IncomingPatient, IncomingResource, IncomingValue, Withdrawal},
    },
};

/// Whose keys and ids they are.
pub(super) struct Owner<'a> {
    pub(super) tenant: &'a str,
    pub(super) client: &'a str,
    pub(super) identity_key: &'a IdentityKey,
}

/// What is filed, and what is known of each entry before the store has seen it.
pub(super) struct Filed {
    pub(super) patients: Vec<IncomingPatient>,
    pub(super) withdrawals: Vec<Withdrawal>,
    pub(super) entries: Vec<EntryReceipt>,
}

/// Sort out a submission that was read.
pub(super) fn file(submission: &Submission<'_>, reading: &Reading, owner: &Owner<'_>) -> Filed {
    let stored = stored_entries(submission, reading);
    let mut entries: Vec<EntryReceipt> = submission
        .entries
        .iter()
        .enumerate()
        .map(|(position, entry)| start(entry, stored.contains(&position)))
        .collect();
    for (position, issue) in &reading.issues {
        let Some(receipt) = entries.get_mut(*position) else {
            continue;
        };
        if issue.is_error() && !matches!(receipt.outcome, EntryOutcome::Refused(_)) {
            receipt.outcome = EntryOutcome::Refused(Refusal::Invalid);
        }
        receipt.issues.push(issue.clone());
    }
    let patients = reading
        .patients
        .iter()
        .map(|patient| file_patient(submission, patient, &entries, owner))
        .collect();
    let mut withdrawals: Vec<Withdrawal> = submission
        .entries
        .iter()
        .enumerate()
        .filter_map(|(position, entry)| withdrawal(position, entry))
        .collect();
    // A report entered in error takes its results along, also those sent before.
    withdrawals.extend(
        reading
            .withdrawn
            .iter()
            .filter_map(|(position, reference)| {
                let (kind, id) = last_two(reference)?;
                Some(Withdrawal {
                    entry: *position,
                    kind: kind.to_owned(),
                    id: id.to_owned(),
                    if_match: None,
                })
            }),
    );
    for receipt in &mut entries {
        if receipt.outcome == EntryOutcome::Accepted {
            receipt
                .issues
                .push(Issue::usual("context", "used as context, not stored"));
        }
    }
    Filed {
        patients,
        withdrawals,
        entries,
    }
}

/// Entries whose own resource is stored, and not only something it contains.
fn stored_entries(submission: &Submission<'_>, reading: &Reading) -> HashSet<usize> {
    let values = reading
        .patients
        .iter()
        .flat_map(|patient| &patient.values)
        .map(|value| (value.entry, value.path.as_str()));
    let facts = reading
        .patients
        .iter()
        .flat_map(|patient| &patient.facts)
        .map(|fact| (fact.entry, fact.path.as_str()));
    values
        .chain(facts)
        .filter(|(entry, path)| is_own(submission, *entry, without_component(path)))
        .map(|(entry, _)| entry)
        .filter(|entry| reading.uses.get(*entry) != Some(&EntryUse::Ignored))
        .collect()
}

/// Type and id at the end of a reference.
fn last_two(reference: &str) -> Option<(&str, &str)> {
    let (rest, id) = reference.rsplit_once('/')?;
    Some((rest.rsplit('/').next().unwrap_or(rest), id))
}

/// An entry before its resource is stored.
fn start(entry: &Entry<'_>, stored: bool) -> EntryReceipt {
    let url = entry.request.as_ref().map(|request| request.url.as_str());
    let kind = entry
        .resource
        .and_then(Tree::resource_type)
        .or_else(|| url.and_then(|url| url.split(['/', '?']).next()))
        .map(str::to_owned);
    let outcome = match (&entry.refused, &entry.request) {
        (Some(refusal), _) => EntryOutcome::Refused(*refusal),
        (None, Some(request)) if request.method == Method::Get => look(&request.url),
        (None, Some(request)) if request.method == Method::Delete => EntryOutcome::NoContent,
        // The store will say what became of it.
        _ if stored => EntryOutcome::NoContent,
        _ => EntryOutcome::Accepted,
    };
    EntryReceipt {
        kind,
        full_url: entry.full_url.map(str::to_owned),
        outcome,
        issues: entry.issues.clone(),
        assessment: None,
    }
}

/// What a GET asks for: a resource, or one version of it.
fn look(url: &str) -> EntryOutcome {
    let path = url.split('?').next().unwrap_or(url);
    let mut parts = path.split('/');
    let (_, id) = (parts.next(), parts.next());
    let version = match (parts.next(), parts.next()) {
        (Some("_history"), Some(version)) => version.parse().ok(),
        _ => None,
    };
    match id.filter(|id| !id.is_empty() && path == url) {
        Some(id) => EntryOutcome::Look {
            id: id.to_owned(),
            version,
        },
        None => EntryOutcome::Refused(Refusal::Unsupported),
    }
}

fn withdrawal(position: usize, entry: &Entry<'_>) -> Option<Withdrawal> {
    let request = entry.request.as_ref()?;
    if request.method != Method::Delete || entry.refused.is_some() {
        return None;
    }
    let (kind, id) = request.url.split_once('/')?;
    Some(Withdrawal {
        entry: position,
        kind: kind.to_owned(),
        id: id.to_owned(),
        if_match: version_of(request.if_match.as_deref()),
    })
}

/// The version of an entity tag; one that is no number of ours fits no version.
fn version_of(tag: Option<&str>) -> Option<i64> {
    let tag = tag?;
    Some(
        parse_if_match(tag)
            .and_then(|version| version.parse().ok())
            .unwrap_or(-1),
    )
}

fn file_patient(
    submission: &Submission<'_>,
    patient: &PatientReading,
    entries: &[EntryReceipt],
    owner: &Owner<'_>,
) -> IncomingPatient {
    let mut filed = IncomingPatient {
        keys: patient
            .keys
            .iter()
            .map(|key| {
                identity::patient_key(
                    owner.identity_key.as_bytes(),
                    owner.tenant,
                    owner.client,
                    key,
                )
            })
            .collect(),
        person: patient.person.clone(),
        pregnancies: patient.pregnancies.clone(),
        inpatient: patient.inpatient,
        ..IncomingPatient::default()
    };
    for key in &patient.keys {
        match key {
            PatientKey::Identifier { system, value } => {
                filed.identifiers.push((system.clone(), value.clone()));
            }
            PatientKey::Reference(reference) => filed.references.push(reference.clone()),
        }
    }
    // By entry, then by path: what an entry contains before the entry itself, so that the last
    // word about it is its own.
    let mut resources: BTreeMap<(usize, bool, &str), Gathered<'_>> = BTreeMap::new();
    for value in &patient.values {
        let path = without_component(&value.path);
        let own = is_own(submission, value.entry, path);
        let gathered = resources
            .entry((value.entry, own, path))
            .or_insert_with(|| Gathered::new(&value.key));
        gathered.values.push(value);
    }
    for fact in &patient.facts {
        let path = without_component(&fact.path);
        let own = is_own(submission, fact.entry, path);
        let gathered = resources
            .entry((fact.entry, own, path))
            .or_insert_with(|| Gathered::new(&fact.key));
        gathered.facts.push(fact);
    }
    for ((position, own, path), gathered) in resources {
        let refused = entries
            .get(position)
            .is_some_and(|entry| matches!(entry.outcome, EntryOutcome::Refused(_)));
        let Some(entry) = submission.entries.get(position).filter(|_| !refused) else {
            continue;
        };
        filed
            .resources
            .extend(file_resource(entry, position, own, path, &gathered, owner));
    }
    filed
}

/// What was read of one resource.
struct Gathered<'r> {
    key: &'r ResultKey,
    values: Vec<&'r ReadValue>,
    facts: Vec<&'r ReadFact>,
}

impl<'r> Gathered<'r> {
    fn new(key: &'r ResultKey) -> Self {
        Self {
            key,
            values: Vec::new(),
            facts: Vec::new(),
        }
    }
}

fn without_component(path: &str) -> &str {
    path.split(".component[").next().unwrap_or(path)
}

fn is_own(submission: &Submission<'_>, entry: usize, path: &str) -> bool {
    submission
        .entries
        .get(entry)
        .is_some_and(|entry| entry.path == path)
}

/// The resource that a path names: the entry's own, or one it contains.
fn tree_at<'t>(entry: &Entry<'t>, path: &str) -> Option<&'t Tree<'t>> {
    let resource = entry.resource?;
    let rest = path.strip_prefix(entry.path.as_str())?;
    let Some(contained) = rest.strip_prefix(".contained[") else {
        return rest.is_empty().then_some(resource);
    };
    let number: usize = contained.split(']').next()?.parse().ok()?;
    resource.items("contained").get(number)
}

fn file_resource(
    entry: &Entry<'_>,
    position: usize,
    own: bool,
    path: &str,
    gathered: &Gathered<'_>,
    owner: &Owner<'_>,
) -> Option<IncomingResource> {
    let tree = tree_at(entry, path)?;
    let kind = tree.resource_type()?;
    let request = entry.request.as_ref().filter(|_| own);
    let first = gathered.values.first();
    let status = first
        .map(|value| value.status.clone())
        .or_else(|| gathered.facts.first().map(|fact| fact.status.clone()))
        .unwrap_or_default();
    let mut values: Vec<IncomingValue> = gathered
        .values
        .iter()
        .map(|value| IncomingValue {
            path: value.path.clone(),
            component: value.component.clone(),
            code: value.analyte_key.as_deref().map(str::to_owned),
            measurement: value.measurement.clone(),
        })
        .collect();
    // The row of the Observation itself comes first, with or without a value.
    match values.iter().position(|value| value.component.is_none()) {
        Some(main) => values.swap(0, main),
        None if kind == "Observation" => values.insert(
            0,
            IncomingValue {
                path: path.to_owned(),
                component: None,
                code: None,
                measurement: None,
            },
        ),
        None => {}
    }
    let mut seen = HashSet::new();
    // Two components with one code: the first is the one that the key finds again.
    values.retain(|value| seen.insert(value.component.clone()));
    Some(IncomingResource {
        entry: position,
        kind: kind.to_owned(),
        id: ResultId::of(kind, owner.client, gathered.key),
        content: content(tree),
        withdrawn: status == "entered-in-error",
        status,
        issued: first.and_then(|value| value.issued),
        source_version: first.and_then(|value| value.source_version.clone()),
        put_id: request
            .filter(|request| request.method == Method::Put)
            .and_then(|request| request.url.split_once('/'))
            .map(|(_, id)| id.to_owned()),
        if_match: version_of(request.and_then(|request| request.if_match.as_deref())),
        unless_held: request
            .and_then(|request| request.if_none_exist.as_deref())
            .and_then(parse_if_none_exist)
            .map(|(system, value)| {
                ResultId::of(kind, owner.client, &ResultKey::Identifier { system, value })
            }),
        values,
        facts: gathered
            .facts
            .iter()
            .flat_map(|fact| fact.facts.iter().cloned())
            .collect(),
        text: serde_json::to_string(tree).ok()?,
    })
}

/// Hash of what a resource says: without its id, `meta` and narrative, and without references by
/// `urn:uuid`, which engines make anew for every Bundle. The order of members does not count.
fn content(resource: &Tree<'_>) -> [u8; 8] {
    let mut hash = Sha256::new();
    add(resource, true, &mut hash);
    let digest = hash.finalize();
    let mut content = [0; 8];
    content.copy_from_slice(digest.first_chunk::<8>().unwrap_or(&[0; 8]));
    content
}

fn add(tree: &Tree<'_>, top: bool, hash: &mut Sha256) {
    match tree {
        Tree::Null => hash.update(b"0"),
        Tree::Bool(value) => hash.update(if *value { b"t" } else { b"f" }),
        Tree::Number(text) => add_text(b"n", text, hash),
        Tree::String(text) => {
            let text = if text.starts_with("urn:uuid:") {
                ""
            } else {
                text
            };
            add_text(b"s", text, hash);
        }
        Tree::Array(items) => {
            hash.update(b"[");
            for item in items {
                add(item, false, hash);
            }
            hash.update(b"]");
        }
        Tree::Object(members) => {
            hash.update(b"{");
            let mut members: Vec<_> = members
                .iter()
                .filter(|(name, _)| !(top && matches!(name.as_ref(), "id" | "meta" | "text")))
                .collect();
            members.sort_by(|one, two| one.0.cmp(&two.0));
            for (name, value) in members {
                add_text(b"k", name, hash);
                add(value, false, hash);
            }
            hash.update(b"}");
        }
    }
}

fn add_text(mark: &[u8], text: &str, hash: &mut Sha256) {
    hash.update(mark);
    hash.update((text.len() as u64).to_be_bytes());
    hash.update(text.as_bytes());
}
