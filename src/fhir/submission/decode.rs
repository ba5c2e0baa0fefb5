//! From a parsed body to entries that are fit to be read, or say why not.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{At, Entry, Kind, Refusal, Release, Submission, envelope, request};
use crate::fhir::{
    model::{Model, Place},
    outcome::{Issue, word},
    profiles::SiteProfile,
    tree::{Broken, Parsed, Tree},
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
}

/// Why a [`Checker`] could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CheckerError {
    /// The tables of the base specification do not fit together.
    #[error("the tables of the base specification cannot be used")]
    Tables,
}

impl Checker {
    /// Builds the gates of both releases and compiles the profiles.
    pub fn new(extra: Vec<SiteProfile>) -> Result<Self, CheckerError> {
        let _ = extra;
        let models = catch_unwind(|| (Model::new(Release::R4), Model::new(Release::R4b)));
        let (r4, r4b) = models.map_err(|_| CheckerError::Tables)?;
        Ok(Self { r4, r4b })
    }

    /// The base specification in a release.
    pub fn model(&self, release: Release) -> &Model {
        match release {
            Release::R4 => &self.r4,
            Release::R4b => &self.r4b,
        }
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
        let broken = self.parsed.broken.iter();
        self.charge(&mut entry, broken);
        self.resource(&mut entry, root, "");
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
            if issue.is_error() {
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
        let checked = catch_unwind(AssertUnwindSafe(|| {
            checker.resource_issues(model, resource, &place, cap)
        }));
        match checked {
            Ok(issues) => {
                for issue in issues {
                    let refusal = if issue.word == word::RESOURCE_TYPE {
                        Refusal::Malformed
                    } else {
                        Refusal::Invalid
                    };
                    entry.add(refusal, issue);
                }
            }
            Err(_) => {
                let text = "This resource could not be checked";
                let issue = Issue::fatal(word::EXCEPTION, text).at(expression);
                entry.refuse(Refusal::Invalid, issue);
            }
        }
    }

    /// Charges an entry with the JSON that FHIR forbids.
    fn charge(&self, entry: &mut Entry<'t>, broken: impl Iterator<Item = &'t Broken>) {
        for broken in broken {
            entry.refuse(Refusal::Malformed, self.broken(broken));
        }
    }

    fn broken(&self, broken: &Broken) -> Issue {
        let text = match broken.word {
            word::DUPLICATE_KEY => "A member stands twice in one object",
            _ => "FHIR allows no null, empty array, empty object or empty string here",
        };
        Issue::error(broken.word, text).at(self.model.expression(&self.parsed.root, &broken.path))
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
    /// Everything that is wrong with one resource.
    fn resource_issues(
        &self,
        model: &Model,
        resource: &Tree<'_>,
        place: &Place<'_>,
        cap: usize,
    ) -> Vec<Issue> {
        model.check(resource, place, cap)
    }
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
