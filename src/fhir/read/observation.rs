//! One Observation, or one of its components, becomes one value, one finding or one statement
//! about the person - or a reason why not.

use std::sync::Arc;

use super::{
    AsSent, PatientKey, ReadFact, ReadValue, ResultKey, Site,
    about::{self, Statement},
    people::Named,
    references::{self, Index, Target},
    result_key,
    sampling::{self, Groups, Report, Specimen},
    smear,
};
use crate::{
    clinical::{
        time::SampleTime,
        timeline::{Fact, Measurement, Reason, Received, Source, SpecimenProblem, Status},
        truth::Truth,
    },
    fhir::{
        codes::{self, Choice, CodeMap, Meaning, Role, Term},
        tree::Tree,
        values::{self, Presence, Value},
    },
};

/// What every Observation is read with.
pub(super) struct Context<'a, 's, 't> {
    pub(super) index: &'a Index<'s, 't>,
    pub(super) groups: &'a Groups<'t>,
    pub(super) codes: &'a CodeMap,
}

/// A warning or information: word, FHIRPath, text.
pub(super) type Note = (&'static str, String, String);

/// Everything one Observation gave.
#[derive(Debug, Default)]
pub(super) struct Read {
    pub(super) values: Vec<ReadValue>,
    pub(super) facts: Vec<ReadFact>,
    pub(super) statements: Vec<Statement>,
    pub(super) notes: Vec<Note>,
    /// A problem of the specimen that this Observation names.
    pub(super) problem: Option<SpecimenNote>,
}

/// A problem that stands in an Observation of its own.
#[derive(Debug, Clone)]
pub(super) struct SpecimenNote {
    pub(super) problem: SpecimenProblem,
    pub(super) specimen: Option<Arc<str>>,
    pub(super) report: Option<Arc<str>>,
    pub(super) at: Option<SampleTime>,
}

/// What components inherit.
pub(super) struct Frame<'t> {
    pub(super) site: Site<'t>,
    pub(super) status: Status,
    pub(super) raw_status: String,
    pub(super) at: Option<SampleTime>,
    pub(super) time_problem: Option<(&'static str, &'static str)>,
    pub(super) specimen: Option<Specimen>,
    pub(super) report: Option<Arc<str>>,
    pub(super) laboratory: Option<Arc<str>>,
    pub(super) key: ResultKey,
    pub(super) focus: bool,
}

impl Frame<'_> {
    pub(super) fn specimen_key(&self) -> Option<Arc<str>> {
        self.specimen
            .as_ref()
            .and_then(|specimen| specimen.key.clone())
    }

    pub(super) fn problems(&self) -> Vec<SpecimenProblem> {
        self.specimen
            .as_ref()
            .map(|specimen| specimen.problems.clone())
            .unwrap_or_default()
    }
}

/// Reads one Observation. `named` is the patient, when there is one.
pub(super) fn read<'t>(
    context: &Context<'_, '_, 't>,
    site: &Site<'t>,
    named: Option<&Named>,
    keys: &[PatientKey],
) -> Read {
    let mut out = Read::default();
    let report = context.groups.report(site.tree);
    let specimen = sampling::specimen(context.index, site, named);
    let (at, time_notes) = sampling::sampled(site, specimen.as_ref(), report);
    let frame = Frame {
        site: site.clone(),
        status: status(site.tree, report),
        raw_status: report
            .and_then(Report::withdraws)
            .or(site.tree.text("status"))
            .unwrap_or_default()
            .to_owned(),
        time_problem: at
            .is_none()
            .then(|| time_notes.first().map(|(word, _, text)| (*word, *text)))
            .flatten(),
        at,
        laboratory: laboratory(context, site),
        key: result_key::of_result(context.index, site, keys, at, specimen.as_ref()),
        specimen,
        report: context.groups.key(site.tree),
        focus: !site.tree.items("focus").is_empty(),
    };

    let own = part(context, &frame, site.tree, None, &mut out);
    let mut any_component = false;
    for (place, component) in site.tree.items("component").iter().enumerate() {
        let path = format!("{}.component[{place}]", site.path);
        any_component |= part(context, &frame, component, Some((&path, own)), &mut out).is_some();
    }
    text_problem(&frame, &mut out);

    let useful = own.is_some() || any_component;
    if useful && !matches!(frame.status, Status::NotEvaluated | Status::EnteredInError) {
        for (word, element, text) in time_notes {
            out.notes
                .push((word, format!("{}.{element}", site.path), text.to_owned()));
        }
    }
    if useful && frame.status == Status::NotEvaluated {
        out.notes.push((
            "not-evaluated",
            format!("{}.status", site.path),
            "the status says that there is no verified result; kept, not used".to_owned(),
        ));
    }
    if useful
        && site.tree.items("category").iter().any(|category| {
            category
                .items("coding")
                .iter()
                .any(|coding| matches!(coding.text("code"), Some("vital-signs" | "survey")))
        })
        && out
            .values
            .iter()
            .any(|value| value.measurement.is_some() && value.role.is_some())
    {
        out.notes.push((
            "category-differs",
            format!("{}.category", site.path),
            "a blood count filed as vital sign or survey".to_owned(),
        ));
    }
    out
}

fn status(observation: &Tree<'_>, report: Option<&Report<'_>>) -> Status {
    match report.and_then(Report::withdraws) {
        Some("entered-in-error") => return Status::EnteredInError,
        Some(_) => return Status::NotEvaluated,
        None => {}
    }
    match observation.text("status") {
        Some("preliminary") => Status::Preliminary,
        Some("final") => Status::Final,
        Some("amended" | "appended") => Status::Amended,
        Some("corrected") => Status::Corrected,
        Some("entered-in-error") => Status::EnteredInError,
        _ => Status::NotEvaluated,
    }
}

/// Reads the Observation itself, or a component of it. Returns what its code means, if it is ours.
fn part(
    context: &Context<'_, '_, '_>,
    frame: &Frame<'_>,
    holder: &Tree<'_>,
    component: Option<(&str, Option<Meaning>)>,
    out: &mut Read,
) -> Option<Meaning> {
    let path = component
        .map_or(frame.site.path.as_str(), |(path, _)| path)
        .to_owned();
    let value = values::of(holder);
    let unit = match &value {
        Value::Quantity(quantity) => quantity.unit.code.or(quantity.unit.unit),
        _ => None,
    };
    let code = holder.get("code")?;
    let mut choice = codes::choose(code, context.codes, unit);
    for (word, text) in std::mem::take(&mut choice.notes) {
        out.notes.push((word, format!("{path}.code"), text));
    }
    let part = Part {
        context,
        frame,
        holder,
        path,
        is_component: component.is_some(),
        value,
        choice,
    };
    if let Some(refused) = part.choice.refused.clone() {
        out.notes.push((
            refused.word,
            format!("{}.code", part.path),
            refused.text.clone(),
        ));
        let row = part.row(None, part.received(), Some(refused));
        out.values.push(row);
        return None;
    }
    let Some(meaning) = part.choice.meaning else {
        part.unknown(out);
        return None;
    };
    if let (Some((_, Some(Meaning::Term(own)))), Meaning::Term(term)) = (component, meaning)
        && own.role == Role::Panel
        && own.code == term.code
    {
        out.notes.push((
            "panel-value",
            part.path.clone(),
            "a component with the code of its own panel; not used".to_owned(),
        ));
        return Some(meaning);
    }
    match meaning {
        Meaning::Term(term) => match term.role {
            Role::Panel => part.panel(out),
            Role::Smear => part.smear(term, out),
            Role::DoNotUse => {}
            _ if term.key == "smoking" => part.about(codes::About::Smoking, out),
            _ => part.quantity(out),
        },
        Meaning::About(codes::About::Temperature) | Meaning::Fact(codes::Fact::Quantity(_)) => {
            part.quantity(out);
        }
        Meaning::About(statement) => part.about(statement, out),
        Meaning::Fact(fact) => part.own_fact(fact, out),
    }
    Some(meaning)
}

/// A virtual Observation: code and value of its own, the rest of its frame.
pub(super) struct Part<'p, 'c, 's, 't> {
    pub(super) context: &'p Context<'c, 's, 't>,
    pub(super) frame: &'p Frame<'t>,
    pub(super) holder: &'p Tree<'p>,
    pub(super) path: String,
    is_component: bool,
    pub(super) value: Value<'p>,
    pub(super) choice: Choice,
}

impl Part<'_, '_, '_, '_> {
    pub(super) fn term(&self) -> Option<&'static Term> {
        match self.choice.meaning {
            Some(Meaning::Term(term)) => Some(term),
            _ => self.choice.refused_term,
        }
    }

    /// The code to show: the LOINC code, else the first code sent.
    fn code_sent(&self) -> String {
        if let Some(term) = self.term() {
            return term.code.to_owned();
        }
        if let Some((_, code)) = self
            .choice
            .unknown
            .as_deref()
            .and_then(|unknown| unknown.rsplit_once('|'))
        {
            return code.to_owned();
        }
        let codings = self
            .holder
            .get("code")
            .map_or(&[][..], |code| code.items("coding"));
        codings
            .iter()
            .find_map(|coding| coding.text("code"))
            .unwrap_or_default()
            .to_owned()
    }

    /// Value and unit as sent, for a row.
    pub(super) fn received(&self) -> Received {
        let quantity = |quantity: &values::Quantity<'_>| Received {
            value: quantity.written(),
            unit: quantity
                .unit
                .code
                .or(quantity.unit.unit)
                .unwrap_or_default()
                .trim()
                .to_owned(),
        };
        let text = |text: &str| Received {
            // One line, and no whole report.
            value: text
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ")
                .chars()
                .take(80)
                .collect(),
            unit: String::new(),
        };
        match &self.value {
            Value::Quantity(sent) => quantity(sent),
            Value::Text(sent) => text(sent),
            Value::Coded(concept) => text(
                values::text_of(concept)
                    .or_else(|| {
                        concept
                            .items("coding")
                            .iter()
                            .find_map(|coding| coding.text("code"))
                    })
                    .unwrap_or_default(),
            ),
            Value::Boolean(value) => text(if *value { "true" } else { "false" }),
            Value::Absent(_) | Value::Unsupported(_) | Value::Nothing => Received::default(),
        }
    }

    pub(super) fn row(
        &self,
        measurement: Option<Measurement>,
        received: Received,
        why: Option<Reason>,
    ) -> ReadValue {
        let frame = self.frame;
        let term = self.term();
        ReadValue {
            entry: frame.site.entry,
            path: self.path.clone(),
            key: frame.key.clone(),
            component: self.is_component.then(|| self.code_sent()),
            status: frame.raw_status.clone(),
            issued: frame
                .site
                .tree
                .text("issued")
                .and_then(super::when::instant),
            source_version: frame
                .site
                .tree
                .get("meta")
                .and_then(|meta| meta.text("versionId"))
                .map(str::to_owned),
            analyte_key: measurement
                .as_ref()
                .map(|measurement| Arc::from(measurement.analyte.key()))
                .or_else(|| {
                    term.filter(|term| term.key != "-")
                        .map(|term| Arc::from(term.key))
                }),
            role: term.map(|term| Arc::from(term.role.as_str())),
            measurement,
            sent: AsSent {
                subject: frame
                    .site
                    .tree
                    .get("subject")
                    .and_then(|subject| subject.text("reference"))
                    .map(str::to_owned),
                code: self.code_sent(),
                received,
                at: frame.at,
                why,
            },
        }
    }

    /// A code that the model does not use.
    fn unknown(&self, out: &mut Read) {
        if matches!(self.value, Value::Nothing) {
            return;
        }
        let text = match &self.choice.unknown {
            Some(code) => format!("{code} is no code that the model uses"),
            None => "no code that the model uses".to_owned(),
        };
        out.notes
            .push(("code-not-used", format!("{}.code", self.path), text.clone()));
        out.values.push(self.row(
            None,
            self.received(),
            Some(Reason {
                word: "code-not-used",
                text,
            }),
        ));
    }

    fn panel(&self, out: &mut Read) {
        let tree = self.frame.site.tree;
        if !matches!(self.value, Value::Nothing | Value::Absent(_)) {
            let reason = Reason {
                word: "panel-value",
                text: "the code is a heading; it has no value of its own".to_owned(),
            };
            out.notes.push((
                reason.word,
                format!("{}.value", self.path),
                reason.text.clone(),
            ));
            out.values
                .push(self.row(None, self.received(), Some(reason)));
        } else if !self.is_component
            && tree.items("component").is_empty()
            && tree.items("hasMember").is_empty()
        {
            out.notes.push((
                "panel-empty",
                self.path.clone(),
                "a panel without members says nothing about its tests".to_owned(),
            ));
        }
    }

    /// A finding on the film.
    fn smear(&self, term: &'static Term, out: &mut Read) {
        let flags = values::flags(self.holder);
        let found = smear::presence(&self.value, flags);
        if let Some(note) = found.note {
            out.notes
                .push((note.0, format!("{}.value", self.path), note.1.to_owned()));
        }
        let tokens = smear::tokens(term, found.presence, &self.value);
        if self.may_count()
            && tokens.iter().any(|(token, truth)| {
                matches!(*token, "plt_clump" | "plt_satellitism") && truth.is_true()
            })
        {
            self.clumped(out);
        }
        if !tokens.is_empty() && self.may_count() {
            out.facts.push(self.facts(tokens));
        } else if self.frame.status == Status::EnteredInError {
            // Withdraws what was said under this key before.
            out.facts.push(self.facts(Vec::new()));
        }
        let why = match (found.presence, &self.value) {
            _ if !self.may_count() => self.status_reason(),
            (None | Some(Presence::Unknown), Value::Nothing | Value::Absent(_)) => Some(Reason {
                word: "not-measured",
                text: "sent without an answer".to_owned(),
            }),
            (None, _) if !smear::is_narrative(term) => Some(Reason {
                word: "text-only",
                text: "the answer is not one of the known ones".to_owned(),
            }),
            _ => None,
        };
        out.values.push(self.row(None, self.received(), why));
    }

    pub(super) fn clumped(&self, out: &mut Read) {
        out.problem = Some(SpecimenNote {
            problem: SpecimenProblem::Clumped,
            specimen: self.frame.specimen_key(),
            report: self.frame.report.clone(),
            at: self.frame.at,
        });
    }

    pub(super) fn facts(&self, tokens: Vec<(&'static str, Truth)>) -> ReadFact {
        let at = self.frame.at.map(|at| at.instant);
        let certain = self.frame.status != Status::Preliminary;
        ReadFact {
            entry: self.frame.site.entry,
            path: self.path.clone(),
            key: self.frame.key.clone(),
            status: self.frame.raw_status.clone(),
            facts: tokens
                .into_iter()
                .map(|(token, truth)| Fact {
                    token: token.into(),
                    truth: if certain { truth } else { Truth::Unknown },
                    from: at,
                    until: None,
                    filed_at: None,
                    source: self.source(),
                })
                .collect(),
        }
    }

    pub(super) fn source(&self) -> Source {
        Source {
            handle: 0,
            identifier: match &self.frame.key {
                ResultKey::Identifier { system, value } => {
                    Some((system.as_str().into(), value.as_str().into()))
                }
                _ => None,
            },
            loinc: self.term().map(|term| term.code.into()),
        }
    }

    /// Whether status, subject and specimen let a finding count.
    pub(super) fn may_count(&self) -> bool {
        !matches!(
            self.frame.status,
            Status::NotEvaluated | Status::EnteredInError
        ) && !self.frame.focus
    }

    pub(super) fn status_reason(&self) -> Option<Reason> {
        let text = match self.frame.status {
            Status::NotEvaluated => "the status says that there is no verified result",
            Status::EnteredInError => "withdrawn by the sender (entered in error)",
            _ => return None,
        };
        Some(Reason {
            word: "not-evaluated",
            text: text.to_owned(),
        })
    }

    fn about(&self, statement: codes::About, out: &mut Read) {
        if !self.may_count() {
            out.values
                .push(self.row(None, self.received(), self.status_reason()));
            return;
        }
        let is_finding = matches!(
            statement,
            codes::About::Pregnancy | codes::About::GestationNow
        );
        let statements = about::statement(statement, &self.value);
        let why = (statements.is_empty() && !is_finding).then(|| Reason {
            word: "text-only",
            text: "the answer is not one of the known ones".to_owned(),
        });
        out.values.push(self.row(None, self.received(), why));
        out.statements.extend(statements);
    }

    fn own_fact(&self, fact: codes::Fact, out: &mut Read) {
        if !self.may_count() {
            out.values
                .push(self.row(None, self.received(), self.status_reason()));
            return;
        }
        let statements = about::own(fact, &self.value);
        let tokens = about::tokens(fact, values::flags(self.holder));
        let why = (statements.is_empty() && tokens.is_empty()).then(|| Reason {
            word: "text-only",
            text: "the answer is not one of the known ones".to_owned(),
        });
        if !tokens.is_empty() {
            out.facts.push(self.facts(tokens));
        }
        out.values.push(self.row(None, self.received(), why));
        out.statements.extend(statements);
    }
}

/// The first Organization among the performers: its identifier, else its address or name. A person
/// is not the laboratory.
fn laboratory(context: &Context<'_, '_, '_>, site: &Site<'_>) -> Option<Arc<str>> {
    site.tree.items("performer").iter().find_map(|performer| {
        let name = match context.index.follow(site.entry, performer)? {
            Target::Here(found) if found.tree.resource_type() == Some("Organization") => {
                let organization = found.tree;
                organization
                    .items("identifier")
                    .iter()
                    .find_map(references::identifier)
                    .map(|(system, value)| format!("{system}|{value}"))
                    .or_else(|| organization.text("name").map(str::to_owned))?
            }
            Target::Outside(reference) if is_organization(&reference) => reference,
            Target::Identifier(system, value) if performer.text("type") == Some("Organization") => {
                format!("{system}|{value}")
            }
            _ => return None,
        };
        Some(Arc::from(name))
    })
}

fn is_organization(reference: &str) -> bool {
    reference.rsplit('/').nth(1) == Some("Organization")
}

/// A text that speaks of the specimen, in an Observation of its own or in a note.
fn text_problem(frame: &Frame<'_>, out: &mut Read) {
    if out.problem.is_some()
        || matches!(frame.status, Status::EnteredInError | Status::NotEvaluated)
    {
        return;
    }
    let tree = frame.site.tree;
    // The value of a recognised quantity was read as its value.
    let own = out
        .values
        .first()
        .is_none_or(|value| value.measurement.is_none());
    let value = tree
        .text("valueString")
        .or_else(|| tree.get("valueCodeableConcept").and_then(values::text_of))
        .filter(|_| own);
    let notes = tree
        .items("note")
        .iter()
        .filter_map(|note| note.text("text"));
    if let Some(problem) = value
        .into_iter()
        .chain(notes)
        .find_map(sampling::problem_in)
    {
        out.problem = Some(SpecimenNote {
            problem,
            specimen: frame.specimen_key(),
            report: frame.report.clone(),
            at: frame.at,
        });
        if problem == SpecimenProblem::Clumped {
            out.facts.push(ReadFact {
                entry: frame.site.entry,
                path: frame.site.path.clone(),
                key: frame.key.clone(),
                status: frame.raw_status.clone(),
                facts: vec![Fact {
                    token: "plt_clump".into(),
                    truth: Truth::True,
                    from: frame.at.map(|at| at.instant),
                    until: None,
                    filed_at: None,
                    source: Source::default(),
                }],
            });
        }
    }
}
