//! A quantity: its number in the canonical unit, or the word and sentence that say why not.

use rust_decimal::Decimal;

use super::{
    observation::{Part, Read, SpecimenNote},
    sampling::{self, Material},
};
use crate::{
    clinical::{
        analyte::Analyte,
        quantity::Interval,
        timeline::{Draw, Interpretation, Measurement, Method, Reason, Received, SpecimenProblem},
        truth::Truth,
    },
    fhir::{
        codes::{self, Meaning, Term},
        tree::Tree,
        units,
        values::{self, Converted, Presence, Value, Word},
    },
};

impl Part<'_, '_, '_, '_> {
    /// A number, or what stands in its place.
    pub(super) fn quantity(&self, out: &mut Read) {
        let Some(analyte) = self.choice.meaning.and_then(|meaning| match meaning {
            Meaning::Term(term) => term.analyte,
            Meaning::Fact(codes::Fact::Quantity(analyte)) => Some(analyte),
            Meaning::About(_) => Some(Analyte::Temperature),
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
        analyte: Analyte,
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
            laboratory: frame.laboratory.clone(),
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
    fn hint(&self, analyte: Analyte, mut reason: Reason) -> Reason {
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
        analyte: Analyte,
        text: &str,
        out: &mut Read,
    ) -> Result<Converted, (Received, Reason)> {
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
            Some(Word::Absent) if counts_none(analyte) => Ok(Self::zero(analyte, text)),
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
        analyte: Analyte,
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

    fn zero(analyte: Analyte, text: &str) -> Converted {
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
        analyte: Analyte,
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
            Some(Presence::Absent) if counts_none(analyte) => Ok(Self::zero(analyte, "absent")),
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
fn counts_none(analyte: Analyte) -> bool {
    use Analyte as A;
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

fn is_blast(analyte: Analyte) -> bool {
    use Analyte as A;
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
