//! One Observation, or one of its components, becomes one value, one finding or one statement
//! about the person - or a reason why not.

use std::sync::Arc;

use rust_decimal::Decimal;
use sha2::{Digest, Sha256};

use super::{
    AsSent, PatientKey, ReadFact, ReadValue, ResultKey, Site,
    about::{self, Statement},
    people::Named,
    references::{Index, identifier, is_rest_address, without_version},
    sampling::{self, Groups, Material, Report, Specimen},
    smear,
};
use crate::{
    clinical::{
        quantity::Interval,
        time::SampleTime,
        timeline::{
            Draw, Fact, Interpretation, Measurement, Method, Reason, Received, Source,
            SpecimenProblem, Status,
        },
        truth::Truth,
    },
    fhir::{
        codes::{self, Choice, CodeMap, Meaning, Role, Term},
        submission::{Method as HttpMethod, Request},
        tree::Tree,
        units,
        values::{self, Converted, Presence, Value, Word},
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
struct Frame<'t> {
    site: Site<'t>,
    status: Status,
    raw_status: String,
    at: Option<SampleTime>,
    time_problem: Option<(&'static str, &'static str)>,
    specimen: Option<Specimen>,
    report: Option<Arc<str>>,
    key: ResultKey,
    focus: bool,
}

impl Frame<'_> {
    fn specimen_key(&self) -> Option<Arc<str>> {
        self.specimen
            .as_ref()
            .and_then(|specimen| specimen.key.clone())
    }

    fn problems(&self) -> Vec<SpecimenProblem> {
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
        key: key(context, site, keys, at, specimen.as_ref()),
        specimen,
        report: context.groups.key(site.tree),
        focus: !site.tree.items("focus").is_empty(),
    };

    let own = part(context, &frame, site.tree, None, &mut out);
    let mut any_component = false;
    for (place, component) in site.tree.items("component").iter().enumerate() {
        let path = format!("{}.component[{place}]", site.path);
        any_component |= part(context, &frame, component, Some((path, own)), &mut out).is_some();
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

/// Key of idempotency layer 3: identifier, REST address, else a hash over what was sent.
fn key(
    context: &Context<'_, '_, '_>,
    site: &Site<'_>,
    keys: &[PatientKey],
    at: Option<SampleTime>,
    specimen: Option<&Specimen>,
) -> ResultKey {
    if let Some((system, value)) = site.tree.items("identifier").iter().find_map(identifier) {
        return ResultKey::Identifier { system, value };
    }
    let entry = context.index.entry(site.entry).filter(|_| !site.contained);
    if let Some(entry) = entry {
        if let Some(Request {
            method: HttpMethod::Put,
            url,
            ..
        }) = &entry.request
            && url.contains('/')
        {
            return ResultKey::Url(without_version(url).to_owned());
        }
        if let Some(url) = entry.full_url.filter(|url| is_rest_address(url)) {
            return ResultKey::Url(without_version(url).to_owned());
        }
    }
    let mut hash = Sha256::new();
    let mut add = |text: &str| {
        // The length keeps neighbouring texts apart.
        hash.update(text.len().to_le_bytes());
        hash.update(text);
    };
    match keys.first() {
        Some(PatientKey::Identifier { system, value }) => {
            add(system);
            add(value);
        }
        Some(PatientKey::Reference(reference)) => add(reference),
        None => {}
    }
    add(&at
        .map(|at| at.instant.unix_timestamp().to_string())
        .unwrap_or_default());
    add(specimen
        .and_then(|specimen| specimen.key.as_deref())
        .unwrap_or_default());
    for holder in std::iter::once(site.tree).chain(site.tree.items("component")) {
        if let Some(code) = holder.get("code") {
            for coding in code.items("coding") {
                add(coding.text("system").unwrap_or_default());
                add(coding.text("code").unwrap_or_default());
            }
            add(code.text("text").unwrap_or_default());
        }
        if let Tree::Object(members) = holder {
            for (name, value) in members {
                if name.starts_with("value") {
                    add_tree(value, &mut add);
                }
            }
        }
    }
    let mut weak = [0; 16];
    for (to, from) in weak.iter_mut().zip(hash.finalize()) {
        *to = from;
    }
    ResultKey::Weak(weak)
}

fn add_tree(tree: &Tree<'_>, add: &mut impl FnMut(&str)) {
    match tree {
        Tree::Null => add("null"),
        Tree::Bool(value) => add(if *value { "true" } else { "false" }),
        Tree::Number(text) | Tree::String(text) => add(text),
        Tree::Array(items) => items.iter().for_each(|item| add_tree(item, add)),
        Tree::Object(members) => {
            for (name, value) in members {
                add(name);
                add_tree(value, add);
            }
        }
    }
}

/// Reads the Observation itself, or a component of it. Returns what its code means, if it is ours.
fn part(
    context: &Context<'_, '_, '_>,
    frame: &Frame<'_>,
    holder: &Tree<'_>,
    component: Option<(String, Option<Meaning>)>,
    out: &mut Read,
) -> Option<Meaning> {
    let path = component
        .as_ref()
        .map_or(&frame.site.path, |(path, _)| path)
        .clone();
    let value = values::of(holder);
    let unit = match &value {
        Value::Quantity(quantity) => quantity.unit.code.or(quantity.unit.unit),
        _ => None,
    };
    let Some(code) = holder.get("code") else {
        return None;
    };
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
    if let (Some((_, Some(Meaning::Term(own)))), Meaning::Term(term)) = (&component, &meaning)
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
            part.quantity(out)
        }
        Meaning::About(statement) => part.about(statement, out),
        Meaning::Fact(fact) => part.own_fact(fact, out),
    }
    Some(meaning)
}

/// A virtual Observation: code and value of its own, the rest of its frame.
struct Part<'p, 'c, 's, 't> {
    context: &'p Context<'c, 's, 't>,
    frame: &'p Frame<'t>,
    holder: &'p Tree<'p>,
    path: String,
    is_component: bool,
    value: Value<'p>,
    choice: Choice,
}

impl Part<'_, '_, '_, '_> {
    fn term(&self) -> Option<&'static Term> {
        match self.choice.meaning {
            Some(Meaning::Term(term)) => Some(term),
            _ => self.choice.refused_term,
        }
    }

    /// The code to show: LOINC code, else the first code sent.
    fn code_sent(&self) -> String {
        if let Some(term) = self.term() {
            return term.code.to_owned();
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
    fn received(&self) -> Received {
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
            value: text.chars().take(80).collect(),
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

    fn row(
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

    fn clumped(&self, out: &mut Read) {
        out.problem = Some(SpecimenNote {
            problem: SpecimenProblem::Clumped,
            specimen: self.frame.specimen_key(),
            report: self.frame.report.clone(),
            at: self.frame.at,
        });
    }

    fn facts(&self, tokens: Vec<(&'static str, Truth)>) -> ReadFact {
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

    fn source(&self) -> Source {
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
    fn may_count(&self) -> bool {
        !matches!(
            self.frame.status,
            Status::NotEvaluated | Status::EnteredInError
        ) && !self.frame.focus
    }

    fn status_reason(&self) -> Option<Reason> {
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
        let day = self.frame.at.map(|at| at.day());
        let statements = about::statement(statement, &self.value, day);
        let why = statements.is_empty().then(|| Reason {
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

    /// A number, or what stands in its place.
    fn quantity(&self, out: &mut Read) {
        let Some(analyte) = self.choice.meaning.and_then(|meaning| match meaning {
            Meaning::Term(term) => term.analyte,
            Meaning::Fact(codes::Fact::Quantity(analyte)) => Some(analyte),
            Meaning::About(_) => Some(crate::clinical::analyte::Analyte::Temperature),
            Meaning::Fact(_) => None,
        }) else {
            // A test beside the blood count that is a yes or no, or that no rule reads.
            out.values
                .push(self.row(None, self.received(), self.status_reason()));
            return;
        };
        let terms = &self.choice.terms;
        let flags = values::flags(self.holder);
        let mut notes: Vec<(&'static str, &'static str, String)> = Vec::new();
        let outcome = match &self.value {
            Value::Quantity(quantity) => {
                values::convert(analyte, terms, quantity, self.context.codes)
                    .map_err(|failed| (failed.received, self.hint(analyte, failed.reason)))
            }
            Value::Text(text) => self.text(analyte, text, out),
            Value::Coded(concept) => self.coded(analyte, concept, out),
            Value::Boolean(_) => Err((
                self.received(),
                reason("not-supported", "a boolean is no value of a quantity"),
            )),
            Value::Absent(code) => Err((Received::default(), absent_reason(*code))),
            Value::Unsupported(name) => Err((
                Received::default(),
                Reason {
                    word: "not-supported",
                    text: format!("{name} is not read"),
                },
            )),
            Value::Nothing => {
                out.values.push(
                    self.row(
                        None,
                        Received::default(),
                        self.status_reason()
                            .or_else(|| Some(reason("not-measured", "sent without a value"))),
                    ),
                );
                return;
            }
        };
        let measurement = match outcome {
            Ok(converted) => {
                notes.extend(converted.notes.iter().cloned());
                if flags.off_scale
                    && converted
                        .value
                        .is_some_and(|value| value.as_exact().is_some())
                {
                    notes.push((
                        "interpretation-differs",
                        "interpretation",
                        "the flag says off scale, the value is a plain number; used as sent"
                            .to_owned(),
                    ));
                }
                if flags.unknown {
                    notes.push((
                        "code-not-used",
                        "interpretation",
                        "an interpretation of no known code system; not used".to_owned(),
                    ));
                }
                self.measurement(analyte, Some(converted), None, flags.interpretation)
            }
            Err((received, reason)) => self.measurement(
                analyte,
                None,
                Some((received, reason)),
                flags.interpretation,
            ),
        };
        for (word, element, text) in notes {
            let element = match element {
                "code" | "unit" | "comparator" => format!("value.{element}"),
                other => other.to_owned(),
            };
            out.notes
                .push((word, format!("{}.{element}", self.path), text));
        }
        if self.status_reason().is_none()
            && let Some(unusable) = &measurement.unusable
            && !unusable.word.starts_with("time")
        {
            out.notes.push((
                unusable.word,
                format!("{}.{}", self.path, element_of(unusable.word)),
                unusable.text.clone(),
            ));
        }
        let why = self
            .status_reason()
            .or_else(|| measurement.unusable.clone());
        out.values
            .push(self.row(Some(measurement), self.received(), why));
    }

    fn measurement(
        &self,
        analyte: crate::clinical::analyte::Analyte,
        converted: Option<Converted>,
        failed: Option<(Received, Reason)>,
        interpretation: Option<Interpretation>,
    ) -> Measurement {
        let frame = self.frame;
        let term = self.term();
        let specimen_draw = match frame.specimen.as_ref().map(|specimen| specimen.material) {
            Some(Material::Blood(draw)) => draw,
            _ => Draw::Unspecified,
        };
        let upper_limit = converted
            .as_ref()
            .and_then(|converted| self.upper_limit(converted));
        let (analyte, value, received, mut unusable) = match (converted, failed) {
            (Some(converted), _) => (
                converted.analyte,
                converted.value,
                converted.received,
                converted.unusable,
            ),
            (None, Some((received, reason))) => (analyte, None, received, Some(reason)),
            (None, None) => (analyte, None, Received::default(), None),
        };
        unusable = self
            .specimen_reason()
            .or(unusable)
            .or_else(|| frame.time_problem.map(|(word, text)| reason(word, text)));
        Measurement {
            analyte,
            value,
            received,
            at: frame.at,
            specimen: frame.specimen_key(),
            report: frame.report.clone(),
            status: frame.status,
            method: self.method(),
            preference: term.map_or(0, Term::preference),
            draw: if specimen_draw == Draw::Unspecified {
                term.map_or(Draw::Unspecified, Term::draw)
            } else {
                specimen_draw
            },
            problems: frame.problems(),
            cells_counted: None,
            interpretation,
            upper_limit,
            unusable,
            filed_at: None,
            source: self.source(),
        }
    }

    /// Reasons that hold whatever the value is.
    fn specimen_reason(&self) -> Option<Reason> {
        if self.frame.focus {
            return Some(reason(
                "not-the-patient",
                "the result is about someone or something else (focus)",
            ));
        }
        let blood_code = self.term().is_none_or(|term| {
            term.system.starts_with("Bld") || matches!(term.system, "RBC" | "Retic")
        }) && !matches!(
            self.choice.meaning,
            Some(Meaning::Fact(_) | Meaning::About(_))
        );
        let specimen = self.frame.specimen.as_ref()?;
        if specimen.of_someone_else {
            return Some(reason("not-the-patient", "the specimen is of someone else"));
        }
        match specimen.material {
            Material::Other(name) if blood_code => Some(Reason {
                word: "specimen-not-blood",
                text: format!("the code is of blood, the specimen is {name}"),
            }),
            Material::Cord if blood_code => Some(reason(
                "cord-blood",
                "cord blood belongs to the birth; not used for the patient",
            )),
            _ => specimen
                .problems
                .iter()
                .find(|problem| {
                    blood_code
                        && matches!(problem, SpecimenProblem::Clotted | SpecimenProblem::Diluted)
                })
                .and_then(|problem| problem_reason(*problem)),
        }
    }

    /// How it was obtained: what the Observation says, else the most specific of its codes.
    fn method(&self) -> Method {
        let said = self
            .frame
            .site
            .tree
            .get("method")
            .and_then(values::text_of)
            .map(str::to_lowercase);
        let said = said.as_deref().map_or(Method::Unspecified, |text| {
            let has = |stems: &[&str]| stems.iter().any(|stem| text.contains(stem));
            if has(&["point of care", "point-of-care", "poct"]) {
                Method::PointOfCare
            } else if has(&["blood gas", "oximet", "blutgas"]) {
                Method::BloodGas
            } else if has(&["manual", "microscop", "mikroskop"]) {
                Method::Manual
            } else if has(&["fluorescence", "optical"]) {
                Method::Optical
            } else if has(&["impedance"]) {
                Method::Impedance
            } else {
                Method::Unspecified
            }
        });
        if said != Method::Unspecified {
            return said;
        }
        self.choice
            .terms
            .iter()
            .map(|term| term.how())
            .find(|how| *how != Method::Unspecified)
            .unwrap_or_default()
    }

    /// Upper limit of the laboratory's range in the canonical unit, when there is exactly one.
    fn upper_limit(&self, converted: &Converted) -> Option<Decimal> {
        let mut limits = self
            .holder
            .items("referenceRange")
            .iter()
            .filter(|range| {
                range.get("type").is_none_or(|kind| {
                    kind.items("coding").is_empty()
                        || kind
                            .items("coding")
                            .iter()
                            .any(|coding| coding.text("code") == Some("normal"))
                })
            })
            .filter_map(|range| {
                let high = range.get("high")?;
                let number = values::decimal(high.get("value")?.as_number()?).ok()?;
                let sent = units::Sent {
                    system: high.text("system"),
                    code: high.text("code"),
                    unit: high.text("unit"),
                };
                let factor = if sent.code.is_none() && sent.unit.is_none() {
                    converted.factor
                } else {
                    let understood =
                        units::read(converted.analyte, &[], sent, self.context.codes).ok()?;
                    (understood.analyte == converted.analyte).then_some(understood.factor)?
                };
                number.checked_mul(factor).map(|limit| limit.normalize())
            });
        let first = limits.next()?;
        limits.all(|other| other == first).then_some(first)
    }

    /// A missing unit: the reference range may show which one was meant, but never fills the gap.
    fn hint(&self, analyte: crate::clinical::analyte::Analyte, mut reason: Reason) -> Reason {
        if reason.word == "unit-missing" {
            let unit = self
                .holder
                .items("referenceRange")
                .iter()
                .find_map(|range| {
                    let end = range.get("high").or_else(|| range.get("low"))?;
                    end.text("code").or_else(|| end.text("unit"))
                });
            if let Some(understood) = unit.and_then(|unit| units::in_text(analyte, &[], unit).ok())
            {
                reason.text = format!(
                    "{}; the reference range is given in {}",
                    reason.text, understood.unit
                );
            }
        }
        reason
    }

    /// A text where a number should be.
    fn text(
        &self,
        analyte: crate::clinical::analyte::Analyte,
        text: &str,
        out: &mut Read,
    ) -> Result<Converted, (Received, Reason)> {
        use crate::clinical::analyte::Analyte;
        let fail = |reason| Err((self.received(), reason));
        if let Some(number) = values::number_in(text) {
            let number = match number {
                Ok(number) => number,
                Err(reason) => return fail(reason),
            };
            let zero_word = values::word(text) == Some(Word::Absent) && counts_none(analyte);
            if !(number.unit.is_empty() && zero_word) {
                return self.number_in_text(analyte, &number);
            }
        }
        let word = values::word(text);
        let platelets = analyte == Analyte::Platelets;
        match word {
            Some(Word::Clumped) if platelets => {
                self.clumped(out);
                if self.may_count() {
                    out.facts.push(self.facts(vec![("plt_clump", Truth::True)]));
                }
                fail(reason("clumped", "platelets clumped: the count is unknown"))
            }
            Some(Word::Clotted) => {
                out.problem = Some(SpecimenNote {
                    problem: SpecimenProblem::Clotted,
                    specimen: self.frame.specimen_key(),
                    report: self.frame.report.clone(),
                    at: self.frame.at,
                });
                fail(reason(
                    "clotted",
                    "clotted specimen: the whole count is refused",
                ))
            }
            Some(Word::Absent) if counts_none(analyte) => Ok(self.zero(analyte, text)),
            Some(Word::Grade(_) | Word::TooManyToCount) if is_blast(analyte) => {
                if self.may_count() {
                    out.facts
                        .push(self.facts(vec![("blasts_flagged_film", Truth::True)]));
                }
                fail(reason("text-only", "present, the amount is not a number"))
            }
            Some(Word::NotMeasured) => fail(reason(
                "not-measured",
                "sent as not done, not possible or not ready",
            )),
            Some(
                Word::SeeNote
                | Word::Adequate
                | Word::Decreased
                | Word::Absent
                | Word::Grade(_)
                | Word::TooManyToCount
                | Word::Clumped,
            ) => fail(reason("text-only", "a text that is not a number")),
            None => match sampling::problem_in(text) {
                Some(SpecimenProblem::Clumped) if platelets => {
                    self.clumped(out);
                    if self.may_count() {
                        out.facts.push(self.facts(vec![("plt_clump", Truth::True)]));
                    }
                    fail(reason("clumped", "platelets clumped: the count is unknown"))
                }
                _ => fail(reason("text-only", "a text that is not a number")),
            },
        }
    }

    fn number_in_text(
        &self,
        analyte: crate::clinical::analyte::Analyte,
        number: &values::NumberInText<'_>,
    ) -> Result<Converted, (Received, Reason)> {
        if !number.unit.is_empty()
            && units::in_text(analyte, &self.choice.terms, number.unit).is_err()
            && number.unit.contains(' ')
        {
            // "3 cells seen in 5 fields" is a sentence, not a number with a unit.
            return Err((
                self.received(),
                reason("text-only", "a text that is not a number with its unit"),
            ));
        }
        let quantity = values::Quantity {
            numbers: values::Numbers::One(number.comparator, &number.number),
            unit: units::Sent {
                unit: Some(number.unit).filter(|unit| !unit.is_empty()),
                ..units::Sent::default()
            },
        };
        let mut converted =
            values::convert(analyte, &self.choice.terms, &quantity, self.context.codes)
                .map_err(|failed| (self.received(), self.hint(analyte, failed.reason)))?;
        converted.notes.retain(|(word, ..)| *word != "unit-text");
        converted.notes.push((
            "value-text",
            "value",
            "number and unit were read from a text; send a Quantity".to_owned(),
        ));
        Ok(converted)
    }

    fn zero(&self, analyte: crate::clinical::analyte::Analyte, text: &str) -> Converted {
        Converted {
            analyte,
            value: Some(Interval::exact(Decimal::ZERO)),
            received: Received {
                value: text.trim().to_owned(),
                unit: String::new(),
            },
            factor: Decimal::ONE,
            unusable: None,
            notes: vec![("value-text", "value", "none; read from a text".to_owned())],
        }
    }

    /// A coded answer where a number should be.
    fn coded(
        &self,
        analyte: crate::clinical::analyte::Analyte,
        concept: &Tree<'_>,
        out: &mut Read,
    ) -> Result<Converted, (Received, Reason)> {
        if let Some(text) = concept.text("text")
            && let result @ (Ok(_)
            | Err((
                _,
                Reason {
                    word: "clumped" | "clotted" | "unit-missing" | "number-ambiguous",
                    ..
                },
            ))) = self.text(analyte, text, out)
        {
            return result;
        }
        match values::answer(concept) {
            Some(Presence::Absent) if counts_none(analyte) => Ok(self.zero(analyte, "absent")),
            Some(Presence::Present | Presence::Grade(_)) if is_blast(analyte) => {
                if self.may_count() {
                    out.facts
                        .push(self.facts(vec![("blasts_flagged_film", Truth::True)]));
                }
                Err((
                    self.received(),
                    reason("text-only", "present, the amount is not a number"),
                ))
            }
            _ => Err((
                self.received(),
                reason("text-only", "a coded answer that is not a number"),
            )),
        }
    }
}

/// Where "none" means zero: cells that are looked for, not counted.
fn counts_none(analyte: crate::clinical::analyte::Analyte) -> bool {
    use crate::clinical::analyte::Analyte as A;
    is_blast(analyte)
        || matches!(
            analyte,
            A::Nrbc
                | A::NrbcAbsolute
                | A::PromyelocytePercent
                | A::MyelocytePercent
                | A::MetamyelocytePercent
                | A::PlasmaPercent
                | A::HairyPercent
                | A::ImmatureGranulocytes
        )
}

fn is_blast(analyte: crate::clinical::analyte::Analyte) -> bool {
    use crate::clinical::analyte::Analyte as A;
    matches!(
        analyte,
        A::Blasts
            | A::BlastsAbsolute
            | A::MyeloblastPercent
            | A::MyeloblastAbsolute
            | A::MonoblastPercent
            | A::MonoblastAbsolute
            | A::LymphoblastPercent
            | A::LymphoblastAbsolute
    )
}

fn reason(word: &'static str, text: &str) -> Reason {
    Reason {
        word,
        text: text.to_owned(),
    }
}

fn absent_reason(code: Option<&str>) -> Reason {
    reason(
        "not-measured",
        match code {
            Some("error" | "unsatisfactory") => {
                "the sender could not measure it; repeat the sample"
            }
            Some("not-performed") => "not performed",
            Some("below-detection-limit" | "above-detection-limit") => {
                "beyond the limit of detection, and the limit was not sent"
            }
            _ => "no value was sent",
        },
    )
}

/// Why a value of a bad specimen is refused; `None`: it is used with its mark.
pub(super) fn problem_reason(problem: SpecimenProblem) -> Option<Reason> {
    Some(match problem {
        SpecimenProblem::Clotted => {
            reason("clotted", "clotted specimen: the whole count is refused")
        }
        SpecimenProblem::Diluted => reason("not-measured", "diluted specimen (drip arm): refused"),
        SpecimenProblem::Clumped => reason("clumped", "platelets clumped: the count is unknown"),
        _ => return None,
    })
}

fn element_of(word: &str) -> &'static str {
    match word {
        "specimen-not-blood" | "cord-blood" | "clotted" => "specimen",
        "not-the-patient" => "subject",
        _ => "value",
    }
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
