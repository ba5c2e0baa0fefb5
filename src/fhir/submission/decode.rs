//! From a parsed body to entries that are fit to be read, or say why not.

use std::{
    collections::HashSet,
    panic::{AssertUnwindSafe, catch_unwind},
};

use serde_json::Value;

use super::{
    At, Entry, Kind, Refusal, Release, Submission, blood_count::is_blood_count, envelope,
    invariants, request,
};
use crate::fhir::{
    model::{Model, Place},
    outcome::{Issue, word},
    profiles::{ProfileError, Profiles, SiteProfile},
    tree::{self, Broken, Limits, Parsed, Tree},
};

/// Issues of one entry at most.
const MAX_ENTRY_ISSUES: usize = 100;
/// Issues of a submission after which an entry says only the first thing that is wrong with it.
const MAX_ISSUES: usize = 2_000;

/// Everything incoming and outgoing FHIR is checked against, made once at the start and shared.
#[derive(Debug)]
pub struct Checker {
    r4: Model,
    r4b: Model,
    profiles: Profiles,
}

/// Why a [`Checker`] could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CheckerError {
    /// The tables of the base specification do not fit together.
    #[error("the tables of the base specification cannot be used")]
    Tables,
    /// A schema does not compile.
    #[error(transparent)]
    Profile(#[from] ProfileError),
}

impl Checker {
    /// Builds the gates of both releases and compiles the profiles.
    pub fn new(extra: Vec<SiteProfile>) -> Result<Self, CheckerError> {
        let models = catch_unwind(|| (Model::new(Release::R4), Model::new(Release::R4b)));
        let (r4, r4b) = models.map_err(|_| CheckerError::Tables)?;
        let profiles = Profiles::new(extra)?;
        Ok(Self { r4, r4b, profiles })
    }

    /// The base specification in a release.
    pub fn model(&self, release: Release) -> &Model {
        match release {
            Release::R4 => &self.r4,
            Release::R4b => &self.r4b,
        }
    }

    /// The profiles.
    pub fn profiles(&self) -> &Profiles {
        &self.profiles
    }

    /// Checks a body entry by entry. Nothing is lost: a refused entry is there, with its reasons.
    pub fn decode<'t>(&self, parsed: &'t Parsed<'t>, release: Release, at: At) -> Submission<'t> {
        let mut decode = Decode {
            checker: self,
            model: self.model(release),
            parsed,
            issues: 0,
        };
        let mut submission = decode.start(release);
        match parsed.root.resource_type() {
            Some("Bundle") => decode.bundle(&mut submission, at),
            _ => decode.single(&mut submission),
        }
        submission
    }
}

struct Decode<'c, 't> {
    checker: &'c Checker,
    model: &'c Model,
    parsed: &'t Parsed<'t>,
    /// How many issues there are so far.
    issues: usize,
}

impl<'t> Decode<'_, 't> {
    fn start(&mut self, release: Release) -> Submission<'t> {
        let mut issues = Vec::new();
        if self.parsed.byte_order_mark {
            let text = "A byte order mark before the JSON was left out";
            issues.push(Issue::warning(word::BYTE_ORDER_MARK, text));
        }
        Submission {
            kind: Kind::Single,
            release,
            identifier: None,
            timestamp: None,
            id: None,
            entries: Vec::new(),
            issues,
            refused: None,
        }
    }

    fn single(&mut self, submission: &mut Submission<'t>) {
        let root = &self.parsed.root;
        let path = match root.resource_type() {
            Some(name) if self.model.knows_resource(name) => name.to_owned(),
            _ => "Resource".to_owned(),
        };
        let mut entry = Entry {
            index: 0,
            path,
            full_url: None,
            request: None,
            resource: Some(root),
            issues: Vec::new(),
            refused: None,
        };
        self.charge(&mut entry, self.parsed.broken.iter());
        if matches!(root, Tree::Object(_)) {
            self.resource(&mut entry, root, "");
        } else {
            let issue = Issue::error(word::RESOURCE_TYPE, "The body is no resource");
            entry.refuse(Refusal::Malformed, issue.at("Resource"));
        }
        submission.refused = entry.refused;
        submission.entries.push(entry);
    }

    fn bundle(&mut self, submission: &mut Submission<'t>, at: At) {
        let bundle = &self.parsed.root;
        submission.kind = envelope::kind(bundle);
        submission.id = bundle.text("id");
        submission.timestamp = bundle.text("timestamp");
        submission.identifier = bundle.get("identifier").and_then(|identifier| {
            Some((
                identifier.text("system")?.to_owned(),
                identifier.text("value")?.to_owned(),
            ))
        });

        for broken in &self.parsed.broken {
            if broken.path.entry().is_none() {
                submission.refuse(Refusal::Malformed, self.broken(broken));
            }
        }
        let entries = bundle.items("entry");
        if entries.len() > self.parsed.max_entries {
            let text = format!("More than {} entries", self.parsed.max_entries);
            submission.refuse(
                Refusal::TooLarge,
                Issue::fatal(word::TOO_LONG, text).at("Bundle.entry"),
            );
            return;
        }
        let place = Place {
            expression: "Bundle",
            pointer: "",
        };
        for issue in self.model.check_envelope(bundle, &place, MAX_ENTRY_ISSUES) {
            // Whether a missing type matters depends on who asks.
            if issue.is_error() && issue.expression.as_deref() != Some("Bundle.type") {
                submission.refuse(Refusal::Invalid, issue);
            }
        }
        for (refusal, issue) in envelope::check(bundle, submission.kind, at) {
            match at {
                At::Door => submission.refuse(refusal, issue),
                At::Command => submission.issues.push(issue.as_warning()),
            }
        }

        let kind = submission.kind;
        let mut broken = self.parsed.broken.iter().peekable();
        for (index, tree) in entries.iter().enumerate() {
            let mut own = Vec::new();
            while let Some(next) =
                broken.next_if(|next| next.path.entry().is_none_or(|entry| entry <= index))
            {
                if next.path.entry() == Some(index) {
                    own.push(next);
                }
            }
            let entry = self.entry(kind, at, index, tree, own);
            submission.entries.push(entry);
        }
        if submission.is_atomic() {
            let first = submission.entries.iter().find_map(|entry| entry.refused);
            submission.refused = submission.refused.or(first);
        }
    }

    fn entry(
        &mut self,
        kind: Kind,
        at: At,
        index: usize,
        tree: &'t Tree<'t>,
        broken: Vec<&'t Broken>,
    ) -> Entry<'t> {
        let resource = tree.get("resource");
        let mut entry = Entry {
            index,
            path: format!("Bundle.entry[{index}].resource"),
            full_url: tree.text("fullUrl"),
            request: None,
            resource,
            issues: Vec::new(),
            refused: None,
        };
        self.charge(&mut entry, broken.into_iter());
        let place = Place {
            expression: &format!("Bundle.entry[{index}]"),
            pointer: &format!("/entry/{index}"),
        };
        let cap = self.cap();
        for issue in self.model.check_part("Bundle.entry", tree, &place, cap) {
            entry.add(Refusal::Invalid, issue);
        }
        if let Some(issue) = envelope::entry(kind, tree, index) {
            match at {
                At::Door => entry.refuse(Refusal::Invalid, issue),
                At::Command => entry.issues.push(issue.as_warning()),
            }
        }
        if matches!(kind, Kind::Batch | Kind::Transaction) {
            entry.request = request::read(self.model, tree, &mut entry);
        }
        if let Some(resource) = resource {
            let unknown = resource
                .resource_type()
                .is_some_and(|name| !self.model.knows_resource(name));
            if unknown && !matches!(kind, Kind::Transaction | Kind::Message) {
                let issue = Issue::error(word::NOT_SUPPORTED, "Not a type of resource");
                let path = entry.path.clone();
                entry.refuse(Refusal::Unsupported, issue.at(path));
            } else {
                self.resource(&mut entry, resource, &format!("/entry/{index}/resource"));
            }
        }
        self.issues += entry.issues.len();
        entry
    }

    /// The base gate, then the profiles.
    fn resource(&mut self, entry: &mut Entry<'t>, resource: &'t Tree<'t>, pointer: &str) {
        let expression = entry.path.clone();
        let place = Place {
            expression: &expression,
            pointer,
        };
        let cap = self.cap();
        let checker = self.checker;
        let model = self.model;
        let found = catch_unwind(AssertUnwindSafe(|| {
            checker.resource_issues(model, resource, &place, cap)
        }));
        let Ok(mut issues) = found else {
            let text = "This resource could not be checked";
            let issue = Issue::fatal(word::EXCEPTION, text).at(expression);
            entry.refuse(Refusal::Invalid, issue);
            return;
        };
        // What is empty is also not what a schema wants there; it is said already.
        issues.retain(|issue| {
            !entry
                .issues
                .iter()
                .any(|said| said.expression == issue.expression)
        });
        for issue in issues {
            let refusal = if issue.word == word::RESOURCE_TYPE {
                Refusal::Malformed
            } else {
                Refusal::Invalid
            };
            entry.add(refusal, issue);
        }
    }

    /// Charges an entry with the JSON that FHIR forbids.
    fn charge(&self, entry: &mut Entry<'t>, broken: impl Iterator<Item = &'t Broken>) {
        for broken in broken {
            entry.refuse(Refusal::Malformed, self.broken(broken));
        }
    }

    fn broken(&self, broken: &Broken) -> Issue {
        broken_issue(self.model, &self.parsed.root, broken)
    }

    fn cap(&self) -> usize {
        if self.issues > MAX_ISSUES {
            1
        } else {
            MAX_ENTRY_ISSUES
        }
    }
}

impl Checker {
    /// Everything that is wrong with one resource that came in.
    fn resource_issues(
        &self,
        model: &Model,
        resource: &Tree<'_>,
        place: &Place<'_>,
        cap: usize,
    ) -> Vec<Issue> {
        let mut issues = model.check(resource, place, cap);
        let blood_count = is_blood_count(resource);
        let mut breaches = match profile_of(resource, blood_count) {
            Some(name) => self.profiles.check(name, model, resource, place, cap),
            None => Vec::new(),
        };
        breaches.extend(self.profiles.check_claimed(model, resource, place, cap));
        if blood_count {
            breaches.extend(invariants::obs_7(model, resource, place));
        }
        // The schemas see again what the gate has seen, and say it less well.
        let seen: HashSet<_> = issues
            .iter()
            .filter(|issue| issue.is_error())
            .map(|issue| issue.expression.clone())
            .collect();
        breaches.retain(|breach| !seen.contains(&breach.expression));
        issues.extend(breaches);
        issues.truncate(cap);
        issues
    }

    /// Everything that is wrong with a resource of our own, which must be nothing: the base
    /// specification of R4 and our profile `profile`.
    pub fn check_output(&self, profile: &str, resource: &Value) -> Vec<Issue> {
        let name = resource["resourceType"].as_str().unwrap_or("Resource");
        let place = Place {
            expression: name,
            pointer: "",
        };
        if !self.profiles.has(profile) {
            let text = "There is no such profile";
            return vec![Issue::fatal(word::EXCEPTION, text).at(name)];
        }
        // Through the text, so that empty objects and limits are found as in anything else.
        let text = serde_json::to_vec(resource).unwrap_or_default();
        let parsed = match tree::parse(&text, &Limits::default()) {
            Ok(parsed) => parsed,
            Err(broken) => return vec![broken.issue()],
        };
        let model = &self.r4;
        let checked = catch_unwind(AssertUnwindSafe(|| {
            let mut issues: Vec<Issue> = parsed
                .broken
                .iter()
                .map(|broken| broken_issue(model, &parsed.root, broken))
                .collect();
            issues.extend(model.check(&parsed.root, &place, MAX_ENTRY_ISSUES));
            let breaches =
                self.profiles
                    .check(profile, model, &parsed.root, &place, MAX_ENTRY_ISSUES);
            issues.extend(breaches);
            issues
        }));
        checked.unwrap_or_else(|_| {
            let text = "This resource could not be checked";
            vec![Issue::fatal(word::EXCEPTION, text).at(name)]
        })
    }
}

/// Which of our profiles an incoming resource must meet.
fn profile_of(resource: &Tree<'_>, blood_count: bool) -> Option<&'static str> {
    match resource.resource_type()? {
        "Observation" if blood_count => Some("blood-count-observation"),
        "Patient" => Some("subject-patient"),
        "DiagnosticReport" => Some("laboratory-report"),
        _ => None,
    }
}

fn broken_issue(model: &Model, root: &Tree<'_>, broken: &Broken) -> Issue {
    let text = match broken.word {
        word::DUPLICATE_KEY => "A member stands twice in one object",
        _ => "FHIR allows no null, empty array, empty object or empty string here",
    };
    let expression = match root.resource_type() {
        Some(name) if model.knows_resource(name) => name,
        _ => "Resource",
    };
    let place = Place {
        expression,
        pointer: "",
    };
    model.locate(Issue::error(broken.word, text), root, &broken.path, &place)
}

impl Submission<'_> {
    /// Adds an issue that refuses the whole. The first refusal stands.
    fn refuse(&mut self, refusal: Refusal, issue: Issue) {
        self.refused = self.refused.or(Some(refusal));
        self.issues.push(issue);
    }
}

impl Entry<'_> {
    /// Adds an issue; an error refuses the entry.
    pub(super) fn add(&mut self, refusal: Refusal, issue: Issue) {
        if issue.is_error() {
            self.refuse(refusal, issue);
        } else {
            self.issues.push(issue);
        }
    }

    /// Adds an issue that refuses the entry. The first refusal stands.
    pub(super) fn refuse(&mut self, refusal: Refusal, issue: Issue) {
        self.refused = self.refused.or(Some(refusal));
        self.issues.push(issue);
    }
}
