//! Which quantity, panel or finding a coding means.
//!
//! The table `loinc.tsv` is data: one row per LOINC code that the reader knows, with LOINC's axes,
//! the analyte it stands for and its role. A code that looks right and means something else has the
//! role `do-not-use` and is refused by name, which is another answer than "unknown code".
//!
//! A code is never matched without its system (LOINC codes have the same shape as others, e.g. the
//! CDC race codes), and a display or `code.text` is never read: the same code has had several
//! official names, and arbitrary local ones.

mod code_map;

use std::{collections::HashMap, sync::LazyLock};

use super::{tree::Tree, units};
use crate::clinical::{
    analyte::Analyte,
    timeline::{Draw, Method, Reason},
};

pub use code_map::{CodeMap, CodeMapError};

/// System of LOINC.
pub const LOINC: &str = "http://loinc.org";
/// System of UCUM.
pub const UCUM: &str = "http://unitsofmeasure.org";
/// Our own codes for facts that have no LOINC code (altitude, Duffy status, ...).
pub const CONTEXT: &str = "https://marrowflag.org/fhir/CodeSystem/mf-context";

/// Other spellings of LOINC's system that are understood, with a warning.
const LOINC_ALIASES: &[&str] = &[
    "urn:oid:2.16.840.1.113883.6.1",
    "https://loinc.org",
    "http://loinc.org/",
    "LN",
    "LOINC",
];

/// What a code is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Haemoglobin, white cells, neutrophils, platelets, blasts and what they need.
    Core,
    /// Differential count.
    Differential,
    /// Indices of the red cell.
    RedCell,
    /// Reticulocytes.
    Reticulocyte,
    /// Finding on a film.
    Smear,
    /// Tests beside the blood count.
    Context,
    /// A heading without a value of its own.
    Panel,
    /// Looks like a blood count and is none.
    DoNotUse,
}

impl Role {
    /// The word of the table.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Core => "core",
            Self::Differential => "differential",
            Self::RedCell => "red-cell",
            Self::Reticulocyte => "reticulocyte",
            Self::Smear => "smear",
            Self::Context => "context",
            Self::Panel => "panel",
            Self::DoNotUse => "do-not-use",
        }
    }

    fn from_word(word: &str) -> Option<Self> {
        [
            Self::Core,
            Self::Differential,
            Self::RedCell,
            Self::Reticulocyte,
            Self::Smear,
            Self::Context,
            Self::Panel,
            Self::DoNotUse,
        ]
        .into_iter()
        .find(|role| role.as_str() == word)
    }
}

/// One row of the table.
#[derive(Debug)]
pub struct Term {
    /// LOINC code.
    pub code: &'static str,
    /// LOINC component.
    pub component: &'static str,
    /// LOINC property: `MCnc`, `NCnc`, `NFr`, ...
    pub property: &'static str,
    /// LOINC system: `Bld`, `BldA`, `Urine`, ...
    pub system: &'static str,
    /// LOINC method; empty: none.
    pub method: &'static str,
    /// Long common name, for people only.
    pub name: &'static str,
    /// Key of the analyte or finding; `-`: none.
    pub key: &'static str,
    /// What it is for.
    pub role: Role,
    /// The analyte, when the model has a number of this name.
    pub analyte: Option<Analyte>,
}

impl Term {
    /// Withdrawn by LOINC, still understood.
    pub fn is_deprecated(&self) -> bool {
        self.name.starts_with("Deprecated")
    }

    /// How the value was obtained, as far as the code says.
    pub fn how(&self) -> Method {
        match self.method {
            "Automated count" => Method::Automated,
            "Automated count.optical" => Method::Optical,
            "Impedance" => Method::Impedance,
            "Manual count" | "Manual" | "Light microscopy" | "Centrifugation" | "Rees-Ecker" => {
                Method::Manual
            }
            "Estimate" | "Estimated" | "calculation" => Method::Calculated,
            "Oximetry" => Method::BloodGas,
            method if method.starts_with("Automated count") => Method::Automated,
            _ => Method::Unspecified,
        }
    }

    /// Where the blood came from, as far as the code says.
    pub fn draw(&self) -> Draw {
        match self.system {
            "BldV" => Draw::Venous,
            "BldA" | "BldMV" => Draw::Arterial,
            "BldC" => Draw::Capillary,
            _ => Draw::Unspecified,
        }
    }

    /// Order among the codes of one analyte when one specimen has several; 0 is best.
    pub fn preference(&self) -> u8 {
        if let Some((_, order)) = PREFERENCE.iter().find(|(code, _)| *code == self.code) {
            return *order;
        }
        match self.how() {
            Method::Automated | Method::Optical | Method::Impedance => 0,
            Method::Unspecified => 1,
            Method::Manual => 2,
            Method::Calculated | Method::BloodGas | Method::PointOfCare => 3,
        }
    }

    /// Whether the specimen of the code is cord blood.
    pub fn is_cord_blood(&self) -> bool {
        matches!(self.system, "BldCo" | "BldCoV")
    }
}

/// Codes whose order is not simply analyser, method-less, microscope.
#[rustfmt::skip]
const PREFERENCE: &[(&str, u8)] = &[
    ("718-7", 0), ("59260-0", 0), ("30350-3", 1), ("93846-4", 1),
    ("55782-7", 2), ("76769-9", 2), ("14775-1", 2), ("76768-1", 2),
    ("30313-1", 3), ("75928-2", 3), ("30351-1", 3), ("30352-9", 4), ("20509-6", 5),
    ("4544-3", 0), ("71833-8", 0), ("20570-8", 0), ("31100-1", 1), ("41654-5", 1), ("71829-6", 1),
    ("32354-3", 2), ("41655-2", 2), ("42908-4", 3), ("71831-2", 3), ("4545-0", 4), ("48703-3", 5),
    ("97995-5", 0), ("777-3", 1), ("5907-1", 1), ("26515-7", 2), ("778-1", 3), ("74464-9", 4),
    ("49497-1", 5), ("107193-5", 6),
    ("709-6", 0), ("26446-5", 1), ("708-8", 0), ("30376-8", 1),
    ("42246-9", 0), ("32682-7", 1), ("71865-0", 1), ("4576-5", 2),
    ("90737-8", 0), ("53831-4", 1),
    ("98979-8", 0), ("62238-1", 1),
];

/// A fact of our own code system, which a site's code map can point to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fact {
    /// Altitude of residence in metres.
    AltitudeM,
    /// Fy(a-b-) or ACKR1 rs2814778 C/C.
    DuffyNull,
    /// Any other Duffy type.
    DuffyPositive,
    /// A quantity that has no LOINC code.
    Quantity(Analyte),
    /// Erythrocyte adenosine deaminase, by interpretation.
    Eada,
    /// Pancreatic isoamylase, by interpretation.
    Isoamylase,
}

impl Fact {
    fn from_code(code: &str) -> Option<Self> {
        Some(match code {
            "altitude-m" => Self::AltitudeM,
            "duffy-null" => Self::DuffyNull,
            "duffy-positive" => Self::DuffyPositive,
            "bm-cellularity" => Self::Quantity(Analyte::MarrowCellularity),
            "bm-ring" => Self::Quantity(Analyte::RingSideroblasts),
            "scd25" => Self::Quantity(Analyte::SolubleCd25),
            "adamts13" => Self::Quantity(Analyte::Adamts13),
            "eada" => Self::Eada,
            "isoamylase" => Self::Isoamylase,
            _ => return None,
        })
    }
}

/// Codes outside the table that say something about the person, not about a specimen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum About {
    /// Pregnancy status, 82810-3.
    Pregnancy,
    /// Gestational age now: 49051-6, 18185-9, 11884-4.
    GestationNow,
    /// Gestational age at birth, 76516-4.
    GestationAtBirth,
    /// Body temperature, 8310-5.
    Temperature,
    /// Smoking, 72166-2.
    Smoking,
}

/// What a code means.
#[derive(Debug, Clone, Copy)]
pub enum Meaning {
    /// A row of the table.
    Term(&'static Term),
    /// A fact of our own code system.
    Fact(Fact),
    /// A statement about the person.
    About(About),
}

impl Meaning {
    fn analyte(&self) -> Option<Analyte> {
        match self {
            Self::Term(term) => term.analyte,
            Self::Fact(Fact::Quantity(analyte)) => Some(*analyte),
            Self::About(About::Temperature) => Some(Analyte::Temperature),
            _ => None,
        }
    }

    /// The name by which two codings are compared.
    fn key(&self) -> &'static str {
        match self {
            Self::Term(term) => term.key,
            _ => self.analyte().map_or("", Analyte::key),
        }
    }
}

static TABLE: LazyLock<HashMap<&'static str, Term>> = LazyLock::new(|| {
    include_str!("../loinc.tsv")
        .lines()
        .skip(1)
        .filter_map(row)
        .map(|term| (term.code, term))
        .collect()
});

fn row(line: &'static str) -> Option<Term> {
    let mut cells = line.split('\t');
    let mut cell = || cells.next();
    let (code, component, property, system, method, name) =
        (cell()?, cell()?, cell()?, cell()?, cell()?, cell()?);
    let (_example_unit, key, role) = (cell()?, cell()?, cell()?);
    Some(Term {
        code,
        component,
        property,
        system,
        method,
        name,
        key,
        role: Role::from_word(role)?,
        analyte: Analyte::from_key(key),
    })
}

/// The row of a LOINC code.
pub fn term(code: &str) -> Option<&'static Term> {
    TABLE.get(code)
}

/// Whether the blood-count profile applies to a LOINC code: it is in the table and may be used.
pub fn is_known_loinc(code: &str) -> bool {
    term(code.trim()).is_some_and(|term| term.role != Role::DoNotUse)
}

/// All rows, in no order.
pub fn terms() -> impl Iterator<Item = &'static Term> {
    TABLE.values()
}

/// Whether `system` names LOINC, and whether in its proper spelling.
pub(crate) fn loinc_system(system: &str) -> Option<bool> {
    if system == LOINC {
        Some(true)
    } else if LOINC_ALIASES.contains(&system) {
        Some(false)
    } else {
        None
    }
}

const FORM: &str = "not the form of a LOINC code";

/// Form and check digit (Luhn over the digits before the hyphen) of a LOINC code.
fn check_loinc(code: &str) -> Result<(), &'static str> {
    if code.starts_with("LP") || code.starts_with("LA") {
        return Err("a LOINC part or answer (LP, LA) is not a code of an observation");
    }
    let (digits, check) = code.split_once('-').ok_or(FORM)?;
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if digits.is_empty()
        || digits.len() > 6
        || digits.starts_with('0')
        || !all_digits(digits)
        || check.len() != 1
        || !all_digits(check)
    {
        return Err(FORM);
    }
    let sum: u32 = digits
        .bytes()
        .rev()
        .enumerate()
        .map(|(place, byte)| {
            let digit = u32::from(byte - b'0');
            match (place % 2 == 0, digit * 2) {
                (true, doubled) if doubled > 9 => doubled - 9,
                (true, doubled) => doubled,
                (false, _) => digit,
            }
        })
        .sum();
    if check
        .bytes()
        .all(|byte| u32::from(byte - b'0') == (10 - sum % 10) % 10)
    {
        Ok(())
    } else {
        Err("the check digit of the LOINC code is wrong")
    }
}

/// What was found for one `CodeableConcept`.
#[derive(Debug, Default)]
pub struct Choice {
    /// What it means; `None`: nothing the model uses, or refused.
    pub meaning: Option<Meaning>,
    /// Every LOINC row that agrees with `meaning` (a second coding may say the method).
    pub terms: Vec<&'static Term>,
    /// Why it is not used although a code was recognised.
    pub refused: Option<Reason>,
    /// The row that was refused by name.
    pub refused_term: Option<&'static Term>,
    /// The code to name where nothing was understood: `system|code`, without a patient's data.
    pub unknown: Option<String>,
    /// Word and text, each once.
    pub notes: Vec<(&'static str, String)>,
}

struct Coding<'t> {
    system: Option<&'t str>,
    code: &'t str,
    preferred: bool,
}

fn codings<'t>(concept: &'t Tree<'_>) -> impl Iterator<Item = Coding<'t>> {
    concept.items("coding").iter().filter_map(|coding| {
        let code = coding.text("code")?.trim();
        (!code.is_empty()).then(|| Coding {
            system: coding
                .text("system")
                .map(str::trim)
                .filter(|system| !system.is_empty()),
            code,
            preferred: coding.get("userSelected").and_then(Tree::as_bool) == Some(true),
        })
    })
}

/// Decides what a `CodeableConcept` means. `unit` is the unit sent with the value: a site's map may
/// depend on it.
pub fn choose(concept: &Tree<'_>, map: &CodeMap, unit: Option<&str>) -> Choice {
    let mut choice = Choice::default();
    let mut found: Vec<(Meaning, bool)> = Vec::new();
    let mut not_to_use: Vec<&'static Term> = Vec::new();
    let mut invalid = None;
    let mut shaped_without_system = None;

    for coding in codings(concept) {
        match coding.system.map(|system| (system, loinc_system(system))) {
            Some((_, Some(proper))) => {
                if !proper {
                    choice.note(
                        "code-system-alias",
                        format!("the system of LOINC is {LOINC}"),
                    );
                }
                if let Err(text) = check_loinc(coding.code) {
                    invalid.get_or_insert(text);
                    continue;
                }
                if let Some(meaning) = map.find(LOINC, coding.code, unit) {
                    found.push((meaning, coding.preferred));
                } else if let Some(about) = about(coding.code) {
                    found.push((Meaning::About(about), coding.preferred));
                } else if let Some(term) = term(coding.code) {
                    if term.role == Role::DoNotUse {
                        not_to_use.push(term);
                    } else {
                        found.push((Meaning::Term(term), coding.preferred));
                    }
                } else {
                    choice
                        .unknown
                        .get_or_insert_with(|| format!("{LOINC}|{}", coding.code));
                }
            }
            Some((system, None)) if system == CONTEXT => {
                if let Some(fact) = Fact::from_code(coding.code) {
                    found.push((Meaning::Fact(fact), coding.preferred));
                }
            }
            Some(_) => {}
            None => {
                if term(coding.code).is_some() {
                    shaped_without_system =
                        Some("the code has no system; without one it means nothing");
                }
            }
        }
    }
    if found.is_empty() && not_to_use.is_empty() {
        for coding in codings(concept) {
            let Some(system) = coding
                .system
                .filter(|system| loinc_system(system).is_none())
            else {
                continue;
            };
            if let Some(meaning) = map.find(system, coding.code, unit) {
                found.push((meaning, coding.preferred));
            } else {
                choice
                    .unknown
                    .get_or_insert_with(|| format!("{system}|{}", coding.code));
            }
        }
    }

    if let Some(term) = not_to_use.first() {
        choice.refused_term = Some(term);
        choice.refused = Some(if found.is_empty() {
            refusal_by_name(term)
        } else {
            Reason {
                word: "conflict",
                text: "the codings mean different things".to_owned(),
            }
        });
        return choice;
    }
    if found.is_empty() {
        choice.refused = invalid.or(shaped_without_system).map(|text| Reason {
            word: "code-invalid",
            text: text.to_owned(),
        });
        return choice;
    }
    if let Some(text) = invalid {
        choice.note("code-invalid", text.to_owned());
    }
    settle(&mut choice, &found);
    choice
}

impl Choice {
    fn note(&mut self, word: &'static str, text: String) {
        if !self.notes.iter().any(|(known, _)| *known == word) {
            self.notes.push((word, text));
        }
    }
}

/// Several codings: one analyte, or analytes of one family of units, else a contradiction.
fn settle(choice: &mut Choice, found: &[(Meaning, bool)]) {
    // A panel beside the code of a quantity is the heading it was ordered under.
    let is_panel =
        |meaning: &Meaning| matches!(meaning, Meaning::Term(term) if term.role == Role::Panel);
    let real: Vec<_> = found
        .iter()
        .filter(|(meaning, _)| !is_panel(meaning))
        .collect();
    let Some((first, _)) = real.first().copied().or(found.first()) else {
        return;
    };
    let contradiction = real.iter().any(|(other, _)| {
        other.key() != first.key()
            && match (other.analyte(), first.analyte()) {
                (Some(one), Some(two)) => units::family(one) != units::family(two),
                (None, None) => false,
                _ => true,
            }
    });
    if contradiction {
        choice.refused = Some(Reason {
            word: "conflict",
            text: "the codings mean different things".to_owned(),
        });
        return;
    }
    let chosen = real
        .iter()
        .find(|(_, preferred)| *preferred)
        .map_or(*first, |(meaning, _)| *meaning);
    choice.terms = real
        .iter()
        .filter_map(|(meaning, _)| match meaning {
            Meaning::Term(term) if meaning.key() == chosen.key() => Some(*term),
            _ => None,
        })
        .collect();
    if let Meaning::Term(term) = chosen
        && term.is_deprecated()
    {
        choice.note(
            "code-deprecated",
            match successor(term.code) {
                Some(code) => format!("LOINC has withdrawn {}; use {code}", term.code),
                None => format!("LOINC has withdrawn {}", term.code),
            },
        );
    }
    choice.meaning = Some(chosen);
}

/// What LOINC gives instead of the withdrawn codes of the table.
fn successor(code: &str) -> Option<&'static str> {
    match code {
        "5907-1" => Some("777-3"),
        "34527-2" | "24361-8" => Some("57021-8"),
        _ => None,
    }
}

/// LOINC codes of statements about the person. They are not in the table because none of them is a
/// laboratory result; all but the smoking status are to be confirmed against a LOINC release.
fn about(code: &str) -> Option<About> {
    Some(match code {
        "82810-3" => About::Pregnancy,
        "49051-6" | "18185-9" | "11884-4" => About::GestationNow,
        "76516-4" => About::GestationAtBirth,
        "8310-5" => About::Temperature,
        "72166-2" => About::Smoking,
        _ => return None,
    })
}

/// Whether a code speaks of a pregnancy: that is read as a finding.
pub fn is_about_pregnancy(code: &str) -> bool {
    matches!(about(code), Some(About::Pregnancy | About::GestationNow))
}

/// Says what a do-not-use code is, and what to do when the sender means blood all the same.
fn refusal_by_name(term: &Term) -> Reason {
    if term.is_cord_blood() {
        return Reason {
            word: "cord-blood",
            text: format!(
                "{}: cord blood belongs to the birth and has its own limits; not used",
                term.name
            ),
        };
    }
    let component = term
        .component
        .split(['/', '^'])
        .next()
        .unwrap_or(term.component);
    let text = match (term.code, term.key, term.system) {
        (_, "nrbc_per_rbc", _) => "nucleated red cells per 100 red cells, not per 100 white cells".to_owned(),
        (_, "cd59_pos" | "cd55_pos", _) => {
            "counts the cells that carry CD59 or CD55 (99.9 % is healthy), not the PNH clone; a site whose result is the clone maps the code".to_owned()
        }
        (_, "retp_permille", _) => "reticulocytes per 1000, with a unit that contradicts it; a site maps the code if it knows the denominator".to_owned(),
        (_, "hbf_kb", _) => "Kleihauer-Betke: fetal cells in the mother's blood, not the patient's HbF".to_owned(),
        (_, "tnc", _) => "total nucleated cells include nucleated red cells; not a white cell count".to_owned(),
        (_, "folate_rbc", _) => "folate of another specimen than serum".to_owned(),
        (_, "hapto", _) => "haptoglobin in mol/L cannot be converted: its mass depends on the phenotype".to_owned(),
        ("721-1", ..) => "free haemoglobin in plasma is not the haemoglobin of a blood count".to_owned(),
        ("4548-4" | "17856-6" | "59261-8", ..) => "HbA1c is not the haemoglobin of a blood count".to_owned(),
        ("4551-8" | "20563-3" | "11559-2", ..) => "a fraction of haemoglobin, not its concentration".to_owned(),
        ("717-9" | "34524-9" | "17790-7", ..) => "a yes or no, not a count".to_owned(),
        ("2223-6", ..) => "leukocyte elastase, not pancreatic elastase".to_owned(),
        (_, _, "Plas" | "PRP") => format!(
            "{} in plasma, not in blood; a site whose code means blood maps it",
            component.to_lowercase()
        ),
        (_, _, system) => format!(
            "{} in {}: not a result of blood",
            component.to_lowercase(),
            match system {
                "Urine" | "Urine sed" => "urine",
                "CSF" => "cerebrospinal fluid",
                "Plr fld" => "pleural fluid",
                "Body fld" => "body fluid",
                "Stool" => "stool",
                "Semen" => "semen",
                "Dial fld" => "dialysis fluid",
                _ => "another specimen than the one of the model's test",
            }
        ),
    };
    Reason {
        word: "code-do-not-use",
        text: format!("LOINC {}: {text}", term.code),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_the_table_is_read_and_its_check_digit_is_right() {
        let rows = include_str!("../loinc.tsv").lines().count() - 1;
        assert_eq!(
            TABLE.len(),
            rows,
            "a row was dropped or a code stands twice"
        );
        for term in terms() {
            assert_eq!(check_loinc(term.code), Ok(()), "{}", term.code);
        }
    }

    #[test]
    fn a_code_of_another_shape_is_no_loinc_code() {
        for wrong in [
            "",
            "-",
            "718",
            "718-",
            "718-77",
            "0718-7",
            "1234567-8",
            "7l8-7",
            "LP1234-5",
            "LA9633-4",
            "６-4",
        ] {
            assert!(check_loinc(wrong).is_err(), "{wrong}");
        }
        assert!(check_loinc("718-8").is_err(), "check digit");
    }

    #[test]
    fn every_code_of_a_quantity_has_an_analyte() {
        for term in terms() {
            if matches!(
                term.role,
                Role::Core | Role::Differential | Role::RedCell | Role::Reticulocyte
            ) {
                assert!(term.analyte.is_some(), "{} {}", term.code, term.key);
            }
        }
    }
}
