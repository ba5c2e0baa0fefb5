//! Submission to timeline: what was understood, and what was not.

use std::{collections::HashSet, sync::Arc};

use time::OffsetDateTime;

use super::{
    codes::{self, CodeMap},
    outcome::Issue,
    submission::{Entry, Submission},
    tree::Tree,
};
use crate::clinical::{
    time::SampleTime,
    timeline::{Fact, Measurement, Person, Pregnancy, Reason, Received},
};

mod about;
pub mod findings;
mod observation;
mod people;
mod quantity;
mod references;
mod result_key;
mod sampling;
mod smear;
pub mod table;
mod together;
mod when;

use observation::{Context, SpecimenNote};
use people::{Named, People, Who};
use references::{Index, Target};
use sampling::Groups;

/// How a patient is known to the sender (`Patient.identifier`, or the reference as written).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PatientKey {
    /// System and value of an identifier (use `old` and `temp` left out).
    Identifier {
        /// System.
        system: String,
        /// Value.
        value: String,
    },
    /// `Patient/id` or an absolute URL, version dropped; valid for one client only.
    Reference(String),
}

/// Key under which a later version of the same result is recognised (idempotency layer 3).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ResultKey {
    /// First identifier with system and value.
    Identifier {
        /// System.
        system: String,
        /// Value.
        value: String,
    },
    /// A REST address (`fullUrl`), or type and id of a PUT.
    Url(String),
    /// Hash over code, time, specimen and value: nothing better was sent.
    Weak([u8; 16]),
}

/// One value read (an Observation, or one of its components), or an Observation without any.
#[derive(Debug, Clone)]
pub struct ReadValue {
    /// Position of the entry.
    pub entry: usize,
    /// FHIRPath of the Observation or component.
    pub path: String,
    /// Key of the Observation; a component adds its code.
    pub key: ResultKey,
    /// Code of the component, when it is one.
    pub component: Option<String>,
    /// Raw status as sent.
    pub status: String,
    /// `issued`.
    pub issued: Option<OffsetDateTime>,
    /// `meta.versionId`.
    pub source_version: Option<String>,
    /// The value for the model. `None`: no code that the model uses, or no value at all.
    pub measurement: Option<Measurement>,
    /// What the table calls it, also where the model has no use for it.
    pub analyte_key: Option<Arc<str>>,
    /// LOINC role: core, differential, red-cell, reticulocyte, smear, context, panel, do-not-use.
    pub role: Option<Arc<str>>,
    /// What was sent, for the table of what was understood.
    pub sent: AsSent,
}

/// An Observation or component as it was sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AsSent {
    /// `subject.reference`.
    pub subject: Option<String>,
    /// The code that was understood, else the first one sent.
    pub code: String,
    /// Value and unit.
    pub received: Received,
    /// Time of sampling.
    pub at: Option<SampleTime>,
    /// Why it is not used; `None`: it is, or it is a heading or a fact.
    pub why: Option<Reason>,
}

/// One finding token read (by this issue: smear and specimen tokens only).
#[derive(Debug, Clone)]
pub struct ReadFact {
    /// Position of the entry.
    pub entry: usize,
    /// FHIRPath.
    pub path: String,
    /// Key of the resource.
    pub key: ResultKey,
    /// Raw status as sent.
    pub status: String,
    /// The tokens it gives.
    pub facts: Vec<Fact>,
}

/// Everything read about one patient of a submission.
#[derive(Debug, Clone)]
pub struct PatientReading {
    /// All keys that name this patient, in the order found: identifiers as sent, then references.
    pub keys: Vec<PatientKey>,
    /// What our own copies carry as subject: the reference and the identifier as the sender wrote.
    pub subject: Subject,
    /// Demographics, as far as this submission has them; `None`: no Patient resource.
    pub person: Option<Person>,
    /// Pregnancies read.
    pub pregnancies: Vec<Pregnancy>,
    /// Values.
    pub values: Vec<ReadValue>,
    /// Finding tokens.
    pub facts: Vec<ReadFact>,
    /// Encounter class says inpatient and it has not ended.
    pub inpatient: bool,
    /// Encounter of the newest result, as reference or identifier, for the report.
    pub encounter: Option<String>,
}

/// Subject as the sender wrote it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Subject {
    /// `subject.reference` when it is a literal that means something outside the Bundle.
    pub reference: Option<String>,
    /// `subject.identifier`, or the first identifier of the Patient.
    pub identifier: Option<(String, String)>,
}

/// What became of one entry in reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EntryUse {
    /// Stored (Observations; facts).
    Stored,
    /// Used as context, not stored.
    Context,
    /// Nothing to do (refused before, or an entry without resource).
    Ignored,
}

/// A whole submission, read.
#[derive(Debug, Default)]
pub struct Reading {
    /// Patients, in the order of their first result.
    pub patients: Vec<PatientReading>,
    /// Per entry: what became of it.
    pub uses: Vec<EntryUse>,
    /// Warnings, informations and errors (`two-patients`, `required` subject, `not-found`) with
    /// the entry they belong to. An error refuses that entry.
    pub issues: Vec<(usize, Issue)>,
    /// Values that belong to no patient here: of refused entries, or without a subject that is a
    /// person. For the table only.
    pub aside: Vec<ReadValue>,
    /// Results that a report entered in error names and that are not in the submission: entry and
    /// reference without its version.
    pub withdrawn: Vec<(usize, String)>,
}

/// A resource to read: where it stands and what it is.
#[derive(Debug, Clone)]
struct Site<'t> {
    /// Position of its entry.
    entry: usize,
    /// FHIRPath.
    path: String,
    tree: &'t Tree<'t>,
    contained: bool,
}

/// Reads a submission. Refused entries give no value; resources that are still good as context
/// (a Patient, a Specimen) are used as such.
pub fn read(submission: &Submission<'_>, codes: &CodeMap) -> Reading {
    let index = Index::new(submission);
    let (results, reports) = sites(submission);
    let groups = Groups::new(&index, &reports, &results);
    let context = Context {
        index: &index,
        groups: &groups,
        codes,
    };
    let mut reader = Reader {
        out: Reading {
            uses: submission.entries.iter().map(first_use).collect(),
            ..Reading::default()
        },
        people: People::default(),
        specimen_notes: Vec::new(),
        said: HashSet::new(),
    };
    reader.reports(&context, submission);
    for site in &results {
        reader.observation(&context, submission, site);
    }
    for site in nested(submission) {
        let why = Reason {
            word: "not-supported",
            text: "a Bundle inside a Bundle is not read; send it on its own".to_owned(),
        };
        reader.aside(&context, &site, Some(&why));
    }
    reader.findings(&context, submission);
    reader.encounters(&context, submission, &results);
    reader.deaths(&context, submission);
    reader.finish()
}

/// What an entry is good for before its Observations are read.
fn first_use(entry: &Entry<'_>) -> EntryUse {
    match entry.resource {
        Some(_) if entry.refused.is_none() => EntryUse::Context,
        _ => EntryUse::Ignored,
    }
}

/// Every Observation and DiagnosticReport, contained Observations included.
fn sites<'t>(submission: &Submission<'t>) -> (Vec<Site<'t>>, Vec<Site<'t>>) {
    let (mut results, mut reports) = (Vec::new(), Vec::new());
    for (place, entry) in submission.entries.iter().enumerate() {
        let Some(tree) = entry.resource else {
            continue;
        };
        let site = Site {
            entry: place,
            path: entry.path.clone(),
            tree,
            contained: false,
        };
        let kind = tree.resource_type();
        if matches!(kind, Some("Observation" | "DiagnosticReport")) {
            for (number, contained) in tree.items("contained").iter().enumerate() {
                if contained.resource_type() == Some("Observation") {
                    results.push(Site {
                        entry: place,
                        path: format!("{}.contained[{number}]", entry.path),
                        tree: contained,
                        contained: true,
                    });
                }
            }
        }
        match kind {
            Some("Observation") => results.push(site),
            Some("DiagnosticReport") if entry.refused.is_none() => reports.push(site),
            _ => {}
        }
    }
    (results, reports)
}

/// Observations of a Bundle that is itself an entry: shown, so that nobody thinks they were read.
fn nested<'t>(submission: &Submission<'t>) -> Vec<Site<'t>> {
    let mut sites = Vec::new();
    for (place, entry) in submission.entries.iter().enumerate() {
        let Some(bundle) = entry
            .resource
            .filter(|resource| resource.resource_type() == Some("Bundle"))
        else {
            continue;
        };
        for (number, inner) in bundle.items("entry").iter().enumerate() {
            if let Some(tree) = inner
                .get("resource")
                .filter(|resource| resource.resource_type() == Some("Observation"))
            {
                sites.push(Site {
                    entry: place,
                    path: format!("{}.entry[{number}].resource", entry.path),
                    tree,
                    contained: true,
                });
            }
        }
    }
    sites
}

struct Reader {
    out: Reading,
    people: People,
    specimen_notes: Vec<(Named, SpecimenNote)>,
    /// Codes that were listed as not used: each once per Bundle.
    said: HashSet<String>,
}

impl Reader {
    fn issue(&mut self, entry: usize, issue: Issue) {
        self.out.issues.push((entry, issue));
    }

    /// What is wrong with reports, and the results that they withdraw elsewhere.
    fn reports(&mut self, context: &Context<'_, '_, '_>, submission: &Submission<'_>) {
        for report in &context.groups.reports {
            if report.withdraws() == Some("entered-in-error") {
                for reference in report.tree.items("result") {
                    if let Some(Target::Outside(reference)) =
                        context.index.follow(report.entry, reference)
                    {
                        self.out.withdrawn.push((report.entry, reference));
                    }
                }
            }
            if matches!(report.who, Who::Nowhere) {
                self.issue(
                    report.entry,
                    Issue::error("not-found", "the reference leads nowhere")
                        .at(format!("{}.subject.reference", report.path)),
                );
                self.ignore(report.entry);
            }
        }
        for (entry, path, reference) in &context.groups.unresolved {
            let refused = submission
                .entries
                .get(*entry)
                .is_some_and(|entry| entry.refused.is_some());
            if !refused && path.contains(".hasMember[") {
                let text = if reference.is_empty() {
                    "the reference leads nowhere"
                } else {
                    "a member that is not in the submission; not used"
                };
                self.issue(*entry, Issue::warning("not-found", text).at(path.clone()));
            }
        }
    }

    fn ignore(&mut self, entry: usize) {
        if let Some(used) = self.out.uses.get_mut(entry) {
            *used = EntryUse::Ignored;
        }
    }

    fn stored(&mut self, entry: usize) {
        if let Some(used) = self.out.uses.get_mut(entry)
            && *used == EntryUse::Context
        {
            *used = EntryUse::Stored;
        }
    }

    fn observation<'t>(
        &mut self,
        context: &Context<'_, '_, 't>,
        submission: &Submission<'t>,
        site: &Site<'t>,
    ) {
        let refused = submission
            .entries
            .get(site.entry)
            .into_iter()
            .flat_map(|entry| &entry.issues)
            .chain(&submission.issues)
            .find(|issue| issue.is_error());
        let is_refused = submission.refused.is_some()
            || submission
                .entries
                .get(site.entry)
                .is_some_and(|entry| entry.refused.is_some());
        let who = people::who(context.index, site.entry, site.tree.get("subject"));
        let named = match &who {
            Who::Person(named) if !is_refused => named,
            _ => {
                let why = if is_refused {
                    refused.map(|issue| Reason {
                        word: issue.word,
                        text: issue.text.clone(),
                    })
                } else {
                    Some(self.no_person(context, site, &who))
                };
                self.aside(context, site, why.as_ref());
                return;
            }
        };
        if let Some(report) = context.groups.report(site.tree)
            && let Who::Person(other) = &report.who
            && named.differs_from(other)
        {
            const TEXT: &str = "the report and its result name two patients";
            self.issue(
                site.entry,
                Issue::error("two-patients", TEXT).at(format!("{}.subject", site.path)),
            );
            self.issue(
                report.entry,
                Issue::error("two-patients", TEXT).at(format!("{}.subject", report.path)),
            );
            self.ignore(site.entry);
            self.ignore(report.entry);
            let why = Reason {
                word: "two-patients",
                text: TEXT.to_owned(),
            };
            self.aside(context, site, Some(&why));
            return;
        }
        let read = observation::read(context, site, Some(named), named.keys());
        for (word, path, text) in read.notes {
            if word == "code-not-used" && !self.said.insert(text.clone()) {
                continue;
            }
            self.issue(site.entry, about_a_value(word, text).at(path));
        }
        self.patient_notes(context, site, named);
        let subject = site.tree.get("subject");
        let reading = self
            .people
            .reading(named, || people::person(context.index, site.entry, subject));
        reading.values.extend(read.values);
        reading.facts.extend(read.facts);
        for statement in read.statements {
            statement.apply(reading);
        }
        if let Some(note) = read.problem {
            self.specimen_notes.push((named.clone(), note));
        }
        self.stored(site.entry);
    }

    /// Why an Observation belongs to no person, told once.
    fn no_person(&mut self, context: &Context<'_, '_, '_>, site: &Site<'_>, who: &Who) -> Reason {
        let ours = holders(site.tree).any(|holder| {
            holder
                .get("code")
                .is_some_and(|code| codes::choose(code, context.codes, None).meaning.is_some())
        });
        let (word, text, element) = match who {
            Who::Nowhere => (
                "not-found",
                "the reference leads nowhere",
                "subject.reference",
            ),
            Who::NotAPerson => (
                "not-the-patient",
                "the subject is no person; not used",
                "subject",
            ),
            Who::Missing if ours => (
                "required",
                "a blood count needs a subject: a reference or an identifier",
                "subject",
            ),
            _ => {
                return Reason {
                    word: "required",
                    text: "no subject".to_owned(),
                };
            }
        };
        let issue = Issue::usual(word, text).at(format!("{}.{element}", site.path));
        if issue.is_error() {
            self.ignore(site.entry);
        }
        self.issue(site.entry, issue);
        Reason {
            word,
            text: text.to_owned(),
        }
    }

    /// Reads an Observation for the table only.
    fn aside<'t>(&mut self, context: &Context<'_, '_, 't>, site: &Site<'t>, why: Option<&Reason>) {
        let read = observation::read(context, site, None, &[]);
        self.out
            .aside
            .extend(read.values.into_iter().map(|mut value| {
                value.measurement = None;
                value.sent.why = why.cloned().or(value.sent.why);
                value
            }));
    }

    /// `Patient.active` and `Patient.link`, once per Patient.
    fn patient_notes(&mut self, context: &Context<'_, '_, '_>, site: &Site<'_>, named: &Named) {
        let Some(entry) = named.patient_entry() else {
            return;
        };
        let Some((path, patient)) = context
            .index
            .entry(entry)
            .and_then(|entry| Some((entry.path.clone(), entry.resource?)))
            .filter(|(_, resource)| resource.resource_type() == Some("Patient"))
        else {
            return;
        };
        if !self
            .said
            .insert(format!("patient {entry} {}", site.contained))
        {
            return;
        }
        if patient.get("active").and_then(Tree::as_bool) == Some(false) {
            self.issue(
                entry,
                Issue::usual("patient-inactive", "the Patient is not active")
                    .at(format!("{path}.active")),
            );
        }
        if patient
            .items("link")
            .iter()
            .any(|link| link.text("type") == Some("replaced-by"))
        {
            self.issue(
                entry,
                Issue::usual(
                    "patient-merged",
                    "the Patient was replaced by another; held for review",
                )
                .at(format!("{path}.link")),
            );
        }
    }

    /// Finding tokens of every resource that states one, Observations included.
    fn findings<'t>(&mut self, context: &Context<'_, '_, 't>, submission: &Submission<'t>) {
        if submission.refused.is_some() {
            return;
        }
        for (place, entry) in submission.entries.iter().enumerate() {
            let Some(tree) = entry.resource.filter(|_| entry.refused.is_none()) else {
                continue;
            };
            let is_observation = tree.resource_type() == Some("Observation");
            if is_observation && self.out.uses.get(place) != Some(&EntryUse::Stored) {
                continue;
            }
            let resolve = |reference: &str| context.index.resource(place, reference);
            let (mut facts, issues) = findings::facts(tree, &resolve);
            let status = status_of(tree);
            if facts.is_empty() && issues.is_empty() && status != "entered-in-error" {
                continue;
            }
            let subject = tree.get("subject").or_else(|| tree.get("patient"));
            let Who::Person(named) = people::who(context.index, place, subject) else {
                continue;
            };
            for mut issue in issues {
                issue.expression = Some(match issue.expression {
                    Some(relative) => format!("{}.{relative}", entry.path),
                    None => entry.path.clone(),
                });
                self.issue(place, issue);
            }
            let site = Site {
                entry: place,
                path: entry.path.clone(),
                tree,
                contained: false,
            };
            let reading = self
                .people
                .reading(&named, || people::person(context.index, place, subject));
            // What was read of a film with its grade is not said twice.
            let below = |path: &str| {
                path == entry.path
                    || path
                        .strip_prefix(&entry.path)
                        .is_some_and(|rest| rest.starts_with('.'))
            };
            facts.retain(|fact| {
                !reading
                    .facts
                    .iter()
                    .filter(|read| below(&read.path))
                    .flat_map(|read| &read.facts)
                    .any(|known| base(&known.token) == base(&fact.token))
            });
            if facts.is_empty() && (is_observation || status != "entered-in-error") {
                continue;
            }
            let as_value = reading.values.iter().find(|value| value.path == entry.path);
            let key = as_value.map_or_else(
                || result_key::of_fact(context.index, &site, named.keys()),
                |value| value.key.clone(),
            );
            reading.facts.push(ReadFact {
                entry: place,
                path: entry.path.clone(),
                key,
                status: status.to_owned(),
                facts,
            });
            self.stored(place);
        }
    }

    /// Inpatient stays, and the Encounter that the newest result belongs to.
    fn encounters<'t>(
        &mut self,
        context: &Context<'_, '_, 't>,
        submission: &Submission<'t>,
        results: &[Site<'t>],
    ) {
        for (place, entry) in submission.entries.iter().enumerate() {
            let Some(encounter) = entry
                .resource
                .filter(|resource| resource.resource_type() == Some("Encounter"))
            else {
                continue;
            };
            if entry.refused.is_some() || !is_open_inpatient_stay(encounter) {
                continue;
            }
            if let Who::Person(named) = people::who(context.index, place, encounter.get("subject"))
                && let Some(reading) = self.people.known(&named)
            {
                reading.inpatient = true;
            }
        }
        for site in results {
            let Some(reference) = site.tree.get("encounter") else {
                continue;
            };
            let Who::Person(named) =
                people::who(context.index, site.entry, site.tree.get("subject"))
            else {
                continue;
            };
            let here = match context.index.follow(site.entry, reference) {
                Some(Target::Here(found)) => Some(found.tree),
                _ => None,
            };
            let Some(reading) = self.people.known(&named) else {
                continue;
            };
            reading.inpatient |= here.is_some_and(is_open_inpatient_stay);
            let at = reading
                .values
                .iter()
                .find(|value| value.path == site.path)
                .and_then(|value| value.sent.at);
            let newest = reading
                .values
                .iter()
                .filter_map(|value| value.sent.at)
                .map(|at| at.instant)
                .max();
            if at.map(|at| at.instant) == newest {
                let written = reference
                    .text("reference")
                    .filter(|text| !text.starts_with(['#']) && !text.starts_with("urn:"));
                let by_identifier = || {
                    let identifier = reference
                        .get("identifier")
                        .and_then(references::identifier)
                        .or_else(|| {
                            here?
                                .items("identifier")
                                .iter()
                                .find_map(references::identifier)
                        });
                    identifier.map(|(system, value)| format!("{system}|{value}"))
                };
                reading.encounter = written.map(str::to_owned).or_else(by_identifier);
            }
        }
    }

    /// A death closes Flags also when it comes without any result.
    fn deaths(&mut self, context: &Context<'_, '_, '_>, submission: &Submission<'_>) {
        for (place, entry) in submission.entries.iter().enumerate() {
            let patient = entry
                .resource
                .filter(|resource| resource.resource_type() == Some("Patient"));
            if let (Some(patient), None) = (patient, &entry.refused)
                && let Some((named, person)) = people::deceased(context.index, place, patient)
            {
                self.people.reading(&named, || Some(person));
            }
        }
    }

    /// What only all results of a patient together decide.
    fn finish(mut self) -> Reading {
        for (named, note) in std::mem::take(&mut self.specimen_notes) {
            if let Some(reading) = self.people.known(&named) {
                together::spoil(reading, &note);
            }
        }
        let mut handle = 0;
        self.out.patients = self.people.into_readings();
        for patient in &mut self.out.patients {
            together::dysplasia_needs_company(patient);
            about::pregnancies(patient);
            together::count_once(patient);
            for (entry, path) in together::add_excluded_bands(patient) {
                let text = "the neutrophils leave out the bands; added";
                let issue = Issue::usual("bands-excluded", text).at(path);
                self.out.issues.push((entry, issue));
            }
            for value in &mut patient.values {
                if let Some(measurement) = &mut value.measurement {
                    measurement.source.handle = handle;
                }
                handle += 1;
            }
            for fact in patient.facts.iter_mut().flat_map(|read| &mut read.facts) {
                fact.source.handle = handle;
                handle += 1;
            }
        }
        self.out.issues.sort_by_key(|(entry, _)| *entry);
        self.out
    }
}

/// The Observation and its components.
fn holders<'t>(observation: &'t Tree<'t>) -> impl Iterator<Item = &'t Tree<'t>> {
    std::iter::once(observation).chain(observation.items("component"))
}

/// A value that cannot be used never fails its entry: at most a warning.
fn about_a_value(word: &'static str, text: String) -> Issue {
    match word {
        "not-supported" => Issue::information(word, text),
        _ => match Issue::usual(word, text) {
            issue if issue.is_error() => issue.as_warning(),
            issue => issue,
        },
    }
}

/// A token without its qualifier.
fn base(token: &str) -> &str {
    token.split('@').next().unwrap_or(token)
}

/// `status`, or what stands for it in a Condition.
fn status_of<'t>(resource: &'t Tree<'_>) -> &'t str {
    resource
        .text("status")
        .or_else(|| {
            resource
                .get("verificationStatus")?
                .items("coding")
                .iter()
                .find_map(|coding| coding.text("code"))
        })
        .unwrap_or_default()
}

/// Class of v3 `ActCode`: inpatient, acute and non-acute inpatient, emergency.
fn is_open_inpatient_stay(encounter: &Tree<'_>) -> bool {
    let inpatient = encounter
        .get("class")
        .and_then(|class| class.text("code"))
        .is_some_and(|code| matches!(code, "IMP" | "ACUTE" | "NONAC" | "EMER"));
    let over = matches!(
        encounter.text("status"),
        Some("finished" | "cancelled" | "entered-in-error" | "planned")
    ) || encounter
        .get("period")
        .and_then(|period| period.text("end"))
        .is_some();
    inpatient && !over
}

#[cfg(test)]
mod tests;
