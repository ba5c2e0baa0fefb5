//! How a unit is read, and by which exact factor it becomes canonical.
//!
//! `units.tsv` is data: family, factor to the canonical unit, class, spellings. A table and no UCUM
//! library, because haematology writes units that are valid UCUM and mean something else there
//! (`K/uL` is kelvin, `G/L` gauss, `T/L` tesla), because no library converts mmol/L of haemoglobin
//! to g/L, and because the libraries count in binary floating point, which misses a limit by one
//! unit in the last place. A library checks the table in the tests.
//!
//! Factors of molar mass: haemoglobin 16.114 (monomer, 16 114 g/mol), bilirubin 17.1, B12 0.738,
//! folate 2.266, iron 0.1791 per ug/dL, copper 0.1574, zinc 0.153, creatinine 88.4, triglycerides
//! 0.01129, lactate 0.111 (clinical specification, section 1; units table of the terminology).

use std::{collections::HashMap, sync::LazyLock};

use rust_decimal::Decimal;
use unicode_normalization::UnicodeNormalization;

use super::codes::{CodeMap, Term, UCUM};
use crate::clinical::{analyte::Analyte, timeline::Reason};

/// Analytes whose units convert into each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// Cells per volume.
    Count,
    /// Parts of a hundred cells.
    Percent,
    /// Per 100 white cells.
    Nrbc,
    /// Per 100 red cells.
    Reticulocyte,
    /// Haemoglobin per volume.
    Haemoglobin,
    /// Haemoglobin per volume of red cells.
    Mchc,
    /// Volume of red cells per volume.
    Haematocrit,
    /// Volume of a cell.
    Volume,
    /// Haemoglobin of a cell.
    CellHaemoglobin,
    /// Width of distribution, ratio.
    Rdw,
    /// Width of distribution, volume.
    RdwSd,
    /// Anything else, by its own row of the table.
    Own(&'static str),
}

impl Family {
    /// Name of its rows in `units.tsv`.
    fn name(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Percent => "percent",
            Self::Nrbc => "nrbc",
            Self::Reticulocyte => "reticulocyte",
            Self::Haemoglobin => "hb",
            Self::Mchc => "mchc",
            Self::Haematocrit => "hct",
            Self::Volume => "volume",
            Self::CellHaemoglobin => "cell-haemoglobin",
            Self::Rdw => "rdw",
            Self::RdwSd => "rdw-sd",
            Self::Own(name) => name,
        }
    }
}

/// The family of an analyte.
pub fn family(analyte: Analyte) -> Family {
    use Analyte as A;
    match analyte {
        A::Hb => Family::Haemoglobin,
        A::Hct => Family::Haematocrit,
        A::Mcv | A::Mpv => Family::Volume,
        A::Mch | A::ReticulocyteHb => Family::CellHaemoglobin,
        A::Mchc => Family::Mchc,
        A::Rdw => Family::Rdw,
        A::RdwSd => Family::RdwSd,
        A::Nrbc => Family::Nrbc,
        A::ReticulocytePercent | A::ReticulocytePercentCorrected => Family::Reticulocyte,
        A::Ldh | A::Alt | A::Ast => Family::Own("enzyme"),
        A::Haptoglobin => Family::Own("hapto"),
        A::Bilirubin | A::BilirubinIndirect | A::BilirubinDirect => Family::Own("bilirubin"),
        A::B12 => Family::Own("b12"),
        A::Folate => Family::Own("folate"),
        A::Ferritin => Family::Own("ferritin"),
        A::Iron | A::Tibc => Family::Own("iron"),
        A::Transferrin => Family::Own("transferrin"),
        A::Copper => Family::Own("copper"),
        A::Zinc => Family::Own("zinc"),
        A::Creatinine => Family::Own("creatinine"),
        A::Egfr => Family::Own("gfr"),
        A::Crp => Family::Own("crp"),
        A::FaecalElastase => Family::Own("elastase"),
        A::Lactate => Family::Own("lactate"),
        A::Fibrinogen => Family::Own("fibrinogen"),
        A::Triglycerides => Family::Own("triglyceride"),
        A::SolubleCd25 => Family::Own("units-per-volume"),
        A::Tsh => Family::Own("tsh"),
        A::Erythropoietin => Family::Own("epo"),
        A::Temperature => Family::Own("temperature"),
        _ if analyte.unit() == "%" => Family::Percent,
        _ => Family::Count,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    /// A UCUM code.
    Ucum,
    /// Not UCUM, or UCUM with another meaning; understood all the same.
    Alias,
    /// A UCUM code of another property, found in old reports.
    Other,
    /// Seen, and known to mean more than one thing.
    Refused,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    family: &'static str,
    factor: Decimal,
    class: Class,
    spelling: &'static str,
}

struct Table {
    /// In the order of the file: the first spelling of a factor is the one we name.
    entries: Vec<Entry>,
    /// Family and spelling as sent (litre in either case).
    exact: HashMap<(&'static str, String), usize>,
    /// Family and normalised spelling.
    normal: HashMap<(&'static str, String), usize>,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let mut table = Table {
        entries: Vec::new(),
        exact: HashMap::new(),
        normal: HashMap::new(),
    };
    for line in include_str!("units.tsv").lines().skip(1) {
        let cells: Vec<&'static str> = line.split('\t').collect();
        let [family, factor, class, spellings] = cells.as_slice() else {
            continue;
        };
        let (Ok(factor), Some(class)) = (
            Decimal::from_str_exact(factor),
            match *class {
                "ucum" => Some(Class::Ucum),
                "alias" => Some(Class::Alias),
                "other" => Some(Class::Other),
                "refused" => Some(Class::Refused),
                _ => None,
            },
        ) else {
            continue;
        };
        for spelling in spellings.split(" | ") {
            let entry = Entry {
                family,
                factor,
                class,
                spelling,
            };
            let place = table.entries.len();
            if class == Class::Ucum {
                table.exact.insert((family, litre(spelling)), place);
            }
            // A UCUM code wins over an alias that normalises to it.
            table
                .normal
                .entry((family, normal(spelling)))
                .or_insert(place);
            table.entries.push(entry);
        }
    }
    table
});

/// `l` and `L` are the same litre.
fn litre(text: &str) -> String {
    text.replace('l', "L")
}

fn trim(text: &str) -> &str {
    text.trim_matches(|letter: char| letter.is_whitespace() || letter.is_control())
}

/// One spelling for what is written in many ways: NFKC, `u` for micro, no multiplication sign
/// before a power of ten, no spaces, one litre.
fn normal(text: &str) -> String {
    let text: String = text
        .nfkc()
        .filter(|letter| !letter.is_whitespace() && !letter.is_control())
        .map(|letter| match letter {
            'µ' | 'μ' => 'u',
            '∕' | '⁄' => '/',
            other => other,
        })
        .collect();
    let text = ["×10", "x10", "X10", "*10"]
        .iter()
        .find_map(|sign| {
            let at = text.find(sign)?;
            let sign_length = text.get(at..)?.chars().next()?.len_utf8();
            let (before, rest) = (text.get(..at)?, text.get(at + sign_length..)?);
            // `10*10` is no multiplication sign before a power of ten.
            (!before.ends_with(|letter: char| letter.is_ascii_digit()))
                .then(|| format!("{before}{rest}"))
        })
        .unwrap_or(text);
    litre(&text)
}

/// Without `/{x}` and `{x}`: an annotation has no meaning for conversion.
fn without_annotations(code: &str) -> Option<String> {
    if !code.contains('{') {
        return None;
    }
    let mut out = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(open) = rest.find('{') {
        let (before, from) = rest.split_at_checked(open)?;
        let close = from.find('}')?;
        out.push_str(
            before
                .strip_suffix('/')
                .filter(|_| from.len() == close + 1)
                .unwrap_or(before),
        );
        rest = from.get(close + 1..)?;
    }
    out.push_str(rest);
    Some(out)
}

/// Looks in the analyte's own rows; red cells and reticulocytes are also counted in millions.
fn in_families<T>(analyte: Analyte, mut look: impl FnMut(&'static str) -> Option<T>) -> Option<T> {
    look(family(analyte).name()).or_else(|| {
        matches!(analyte, Analyte::Rbc | Analyte::Arc)
            .then(|| look("count-red"))
            .flatten()
    })
}

/// Canonical red cells are counted in 10*12/L, all other cells in 10*9/L.
fn scale(analyte: Analyte, factor: Decimal) -> Decimal {
    if analyte == Analyte::Rbc {
        (factor * Decimal::new(1, 3)).normalize()
    } else {
        factor
    }
}

fn by_code(analyte: Analyte, code: &str) -> Option<&'static Entry> {
    let table = &*TABLE;
    let find = |spelling: &str| {
        in_families(analyte, |family| {
            table.exact.get(&(family, litre(spelling)))
        })
        .and_then(|place| table.entries.get(*place))
    };
    find(code).or_else(|| {
        // Per 100 white cells and per 100 red cells differ by nothing but the annotation.
        if matches!(family(analyte), Family::Nrbc | Family::Reticulocyte)
            || analyte == Analyte::NrbcAbsolute
        {
            None
        } else {
            without_annotations(code).and_then(|plain| find(&plain))
        }
    })
}

fn by_text(analyte: Analyte, text: &str) -> Option<&'static Entry> {
    let table = &*TABLE;
    let find = |spelling: &str| {
        let spelling = normal(spelling);
        in_families(analyte, |family| {
            table.normal.get(&(family, spelling.clone()))
        })
        .and_then(|place| table.entries.get(*place))
    };
    find(text).or_else(|| {
        if matches!(family(analyte), Family::Nrbc | Family::Reticulocyte)
            || analyte == Analyte::NrbcAbsolute
        {
            None
        } else {
            without_annotations(text).and_then(|plain| find(&plain))
        }
    })
}

/// Whether a code is a UCUM code of some family (for a site's map of units).
pub fn is_ucum_of_table(code: &str) -> bool {
    TABLE
        .entries
        .iter()
        .any(|entry| entry.class == Class::Ucum && entry.spelling == code)
}

/// The UCUM codes of a family that have this factor, the usual one first.
fn ucum_codes(family: &str, factor: Decimal) -> impl Iterator<Item = &'static str> {
    TABLE
        .entries
        .iter()
        .filter(move |entry| {
            entry.class == Class::Ucum
                && entry.factor == factor
                && (entry.family == family || (family == "count-red" && entry.family == "count"))
        })
        .map(|entry| entry.spelling)
}

/// The unit of a Quantity as sent.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sent<'t> {
    /// `system`.
    pub system: Option<&'t str>,
    /// `code`.
    pub code: Option<&'t str>,
    /// `unit`.
    pub unit: Option<&'t str>,
}

/// A unit that was understood.
#[derive(Debug, Clone, PartialEq)]
pub struct Understood {
    /// The analyte the value belongs to: another one than the code's when the unit says so (RDW in
    /// fL, nucleated red cells per volume).
    pub analyte: Analyte,
    /// canonical = received x factor.
    pub factor: Decimal,
    /// The UCUM code of the unit: the one sent, or the one that an alias stands for.
    pub unit: &'static str,
    /// Degrees Fahrenheit are not a multiple of degrees Celsius.
    pub fahrenheit: bool,
    /// Word, element (`code`, `unit`) and text of what should be said about it.
    pub notes: Vec<(&'static str, &'static str, String)>,
}

/// Reads a unit for an analyte; `terms` are the LOINC rows of the code (their property says whether
/// the unit is of a sister property).
pub fn read(
    analyte: Analyte,
    terms: &[&Term],
    sent: Sent<'_>,
    map: &CodeMap,
) -> Result<Understood, Reason> {
    let present = |text: Option<&'_ str>| {
        text.map(trim)
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
    };
    let (system, code, unit) = (present(sent.system), present(sent.code), present(sent.unit));
    let mut notes = Vec::new();

    let (entry, analyte) = match (code, unit) {
        (None, None) => {
            return Err(reason(
                "unit-missing",
                format!(
                    "no unit; the model does not guess that it is {}",
                    analyte.unit()
                ),
            ));
        }
        (None, Some(unit)) => {
            let (entry, analyte) = find(analyte, &unit, Spelling::Text)?;
            notes.push((
                "unit-text",
                "unit",
                format!("no unit code; the text was read as {}", named(entry)),
            ));
            (entry, analyte)
        }
        (Some(code), unit) => {
            let (entry, analyte) = match system.as_deref() {
                Some(system) if is_ucum(system) => find(analyte, &code, Spelling::Code)?,
                None => {
                    notes.push(("unit-system-missing", "code", format!("no system; the unit was read as UCUM (system {UCUM})")));
                    find(analyte, &code, Spelling::Code)?
                }
                Some(system) => match map.unit(system, &code) {
                    Some(mapped) => find(analyte, mapped, Spelling::Code)?,
                    None => return Err(reason("unit-unknown", "the unit's code is of a system that only a code map of the site can translate".to_owned())),
                },
            };
            if entry.class == Class::Alias {
                notes.push((
                    "unit-not-ucum",
                    "code",
                    format!("not the UCUM code of this unit; use {}", named(entry)),
                ));
            }
            if let Some(unit) = unit
                && let Ok((other, other_analyte)) = find(analyte, &unit, Spelling::Text)
                && other_analyte == analyte
                && scale(analyte, other.factor) != scale(analyte, entry.factor)
            {
                return Err(reason(
                    "unit-conflict",
                    "the unit's code and its text differ by a factor".to_owned(),
                ));
            }
            (entry, analyte)
        }
    };
    if entry.class == Class::Refused {
        return Err(reason(
            "unit-unknown",
            "the unit has more than one meaning".to_owned(),
        ));
    }
    if let Some(note) = mismatch(analyte, terms, entry) {
        notes.push(("property-mismatch", "code", note));
    }
    Ok(Understood {
        analyte,
        factor: scale(analyte, entry.factor),
        unit: named(entry),
        fahrenheit: entry.family == "temperature-fahrenheit",
        notes,
    })
}

/// A unit that follows a number in a text.
pub fn in_text(analyte: Analyte, terms: &[&Term], unit: &str) -> Result<Understood, Reason> {
    let mut understood = read(
        analyte,
        terms,
        Sent {
            unit: Some(unit),
            ..Sent::default()
        },
        &CodeMap::default(),
    )?;
    understood.notes.retain(|(word, ..)| *word != "unit-text");
    Ok(understood)
}

fn is_ucum(system: &str) -> bool {
    matches!(
        system,
        UCUM | "http://unitsofmeasure.org/"
            | "https://unitsofmeasure.org"
            | "urn:oid:2.16.840.1.113883.6.8"
    )
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Spelling {
    Code,
    Text,
}

fn lookup(analyte: Analyte, text: &str, spelling: Spelling) -> Option<&'static Entry> {
    match spelling {
        Spelling::Code => by_code(analyte, text).or_else(|| by_text(analyte, text)),
        Spelling::Text => by_text(analyte, text),
    }
}

/// Finds the unit among those of the analyte, else among those of its sister.
fn find(
    analyte: Analyte,
    text: &str,
    spelling: Spelling,
) -> Result<(&'static Entry, Analyte), Reason> {
    if let Some(entry) = lookup(analyte, text, spelling) {
        return Ok((entry, analyte));
    }
    let sister = match analyte {
        Analyte::Rdw => Some(Analyte::RdwSd),
        Analyte::RdwSd => Some(Analyte::Rdw),
        Analyte::Nrbc => Some(Analyte::NrbcAbsolute),
        _ => None,
    };
    if let Some(sister) = sister
        && let Some(entry) = lookup(sister, text, spelling)
    {
        return Ok((entry, sister));
    }
    if analyte == Analyte::Temperature {
        let key = ("temperature-fahrenheit", normal(text));
        if let Some(entry) = TABLE
            .normal
            .get(&key)
            .and_then(|place| TABLE.entries.get(*place))
        {
            return Ok((entry, analyte));
        }
    }
    let kind = |other: Analyte| lookup(other, text, spelling).is_some();
    let counts = family(analyte) == Family::Count;
    let fractions = matches!(family(analyte), Family::Percent | Family::Reticulocyte);
    if counts && (kind(Analyte::NeutrophilPercent) || kind(Analyte::Nrbc)) {
        return Err(reason(
            "unit-kind",
            "the code is a number per volume, the unit a share; not read as the code of the share"
                .to_owned(),
        ));
    }
    if fractions && kind(Analyte::Anc) {
        return Err(reason(
            "unit-kind",
            "the code is a share, the unit a number per volume; not read as the code of the number"
                .to_owned(),
        ));
    }
    Err(reason(
        "unit-unknown",
        format!("no unit of this quantity; {} is expected", analyte.unit()),
    ))
}

fn reason(word: &'static str, text: String) -> Reason {
    Reason { word, text }
}

/// The UCUM code to use instead.
fn named(entry: &Entry) -> &'static str {
    if entry.class == Class::Ucum {
        return entry.spelling;
    }
    ucum_codes(entry.family, entry.factor)
        .next()
        .unwrap_or(entry.spelling)
}

/// A unit of a sister property: amount of substance where the code says mass, and the like.
fn mismatch(analyte: Analyte, terms: &[&Term], entry: &Entry) -> Option<String> {
    if entry.class == Class::Other {
        return Some("an old way to write this quantity; read as g/dL".to_owned());
    }
    let substance = named(entry).contains("mol");
    let agrees = |term: &&Term| match term.property {
        "MCnc" | "EntMass" => !substance,
        "SCnc" | "EntSub" | "EntSCnc" => substance,
        _ => true,
    };
    let same_analyte = terms.iter().any(|term| term.analyte == Some(analyte));
    if terms.is_empty() || (same_analyte && terms.iter().any(agrees)) {
        return None;
    }
    Some(if same_analyte {
        format!(
            "the code is for {}, the unit is not; read by the unit",
            if substance {
                "mass"
            } else {
                "amount of substance"
            }
        )
    } else {
        format!(
            "the unit belongs to another quantity; read as {}",
            analyte.name()
        )
    })
}

/// Hard range of an analyte in its canonical unit, and the range in which results are ordinary.
///
/// The hard ranges (clinical specification, section 1) catch errors of unit, not rare biology; the
/// ordinary ranges only choose the unit that the message names.
struct Range {
    analyte: &'static str,
    reject_below: Decimal,
    /// `None`: limited by the white cells of the specimen, not by a number.
    reject_above: Option<Decimal>,
    ordinary: (Decimal, Decimal),
}

static RANGES: LazyLock<Vec<Range>> = LazyLock::new(|| {
    let number = |text: &str| Decimal::from_str_exact(text).ok();
    include_str!("plausible.tsv")
        .lines()
        .skip(1)
        .filter_map(|line| {
            let mut cells = line.split('\t');
            let mut cell = || cells.next();
            Some(Range {
                analyte: cell()?,
                reject_below: number(cell()?)?,
                reject_above: number(cell()?),
                ordinary: (number(cell()?)?, number(cell()?)?),
            })
        })
        .collect()
});

/// The range of the analyte, else the one of its unit.
fn range(analyte: Analyte) -> Option<&'static Range> {
    let by = |key: &str| RANGES.iter().find(|range| range.analyte == key);
    by(analyte.key()).or_else(|| by(&format!("unit:{}", analyte.unit())))
}

/// Test T1: whether `canonical` is impossible, and under which unit the number `raw` would be
/// ordinary. Nothing is ever re-scaled.
pub fn implausible(
    analyte: Analyte,
    raw: Decimal,
    canonical: Decimal,
    used: Decimal,
) -> Option<Reason> {
    if analyte != Analyte::Temperature && raw.is_sign_negative() && !raw.is_zero() {
        return Some(reason(
            "value-implausible",
            "a negative number cannot be a result".to_owned(),
        ));
    }
    let range = range(analyte)?;
    if canonical >= range.reject_below && range.reject_above.is_none_or(|above| canonical <= above)
    {
        return None;
    }
    let mut seen = Vec::new();
    let mut names: Vec<&str> = Vec::new();
    in_families(analyte, |family| {
        for entry in TABLE
            .entries
            .iter()
            .filter(|entry| entry.family == family && entry.class == Class::Ucum)
        {
            // Tens and hundreds of thousands are a custom of platelets.
            let unusual = analyte != Analyte::Platelets
                && ["10*4", "10^4", "10*5", "10^5"]
                    .iter()
                    .any(|head| entry.spelling.starts_with(head));
            let factor = scale(analyte, entry.factor);
            let would_be = raw.checked_mul(factor);
            if unusual
                || factor == used
                || seen.contains(&factor)
                || !would_be.is_some_and(|would_be| {
                    would_be >= range.ordinary.0 && would_be <= range.ordinary.1
                })
            {
                continue;
            }
            seen.push(factor);
            // Both spellings of counts are in daily use.
            let spellings = if family == "count" { 2 } else { 1 };
            names.extend(ucum_codes(family, entry.factor).take(spellings));
        }
        None::<()>
    });
    let text = match names.as_slice() {
        [] => "impossible in the unit sent".to_owned(),
        names => format!(
            "impossible in the unit sent; the number would be ordinary in {}",
            names.join(" or ")
        ),
    };
    Some(reason("value-implausible", text))
}

/// The factor of a unit of one of the small families (`altitude`, `gestation`) that are no analyte.
pub fn simple_factor(family: &'static str, sent: Sent<'_>) -> Option<Decimal> {
    let text = sent.code.or(sent.unit).map(normal)?;
    TABLE
        .normal
        .get(&(family, text))
        .and_then(|place| TABLE.entries.get(*place))
        .map(|entry| entry.factor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fhir::codes::term;

    fn ucum<'t>(code: &'t str, unit: Option<&'t str>) -> Sent<'t> {
        Sent {
            system: Some(UCUM),
            code: Some(code),
            unit,
        }
    }

    fn factor(analyte: Analyte, sent: Sent<'_>) -> Result<String, &'static str> {
        read(analyte, &[], sent, &CodeMap::default())
            .map(|understood| understood.factor.to_string())
            .map_err(|reason| reason.word)
    }

    #[test]
    fn the_table_is_read_to_its_last_row() {
        let rows = include_str!("units.tsv").lines().skip(1);
        let spellings: usize = rows.map(|row| row.split(" | ").count()).sum();
        assert_eq!(TABLE.entries.len(), spellings);
    }

    #[test]
    fn every_analyte_has_a_range_or_is_limited_by_nothing_but_zero() {
        let rows = include_str!("plausible.tsv").lines().count() - 1;
        assert_eq!(RANGES.len(), rows);
        let without: Vec<_> = Analyte::all()
            .filter(|analyte| range(*analyte).is_none())
            .map(Analyte::key)
            .collect();
        assert_eq!(
            without,
            ["epo", "scd25"].into_iter().rev().collect::<Vec<_>>()
        );
    }

    #[test]
    fn no_spelling_means_two_things_in_one_family() {
        for entry in &TABLE.entries {
            let first = TABLE.normal.get(&(entry.family, normal(entry.spelling)));
            let first = first
                .and_then(|place| TABLE.entries.get(*place))
                .expect("its own entry at least");
            assert_eq!(
                first.factor, entry.factor,
                "{} {}",
                entry.family, entry.spelling
            );
        }
    }

    #[test]
    fn an_annotation_is_dropped_but_never_where_it_tells_white_from_red() {
        assert_eq!(
            factor(Analyte::Wbc, ucum("10*3{WBC}/uL", None)).as_deref(),
            Ok("1")
        );
        assert_eq!(
            factor(Analyte::Mch, ucum("pg/{cell}", None)).as_deref(),
            Ok("1")
        );
        assert_eq!(
            factor(Analyte::Mchc, ucum("g/dL{RBC}", None)).as_deref(),
            Ok("10")
        );
        assert_eq!(
            factor(Analyte::Hb, ucum("mmol{Hb}/L", None)).as_deref(),
            Ok("16.114")
        );
        assert_eq!(
            factor(Analyte::Nrbc, ucum("/100{RBC}", None)),
            Err("unit-unknown")
        );
        assert_eq!(
            factor(Analyte::Nrbc, ucum("/100{WBC}", None)).as_deref(),
            Ok("1")
        );
        assert_eq!(factor(Analyte::Hb, ucum("g/{", None)), Err("unit-unknown"));
    }

    #[test]
    fn units_are_understood_as_laboratories_write_them() {
        for (analyte, unit, expected) in [
            (Analyte::Rbc, "M/uL\r\n", "1"),
            (Analyte::Rbc, "×10¹²/L", "1"),
            (Analyte::Wbc, "x10⁹/l", "1"),
            (Analyte::Wbc, "10 9/L", "1"),
            (Analyte::Wbc, "x10^9/L", "1"),
            (Analyte::Wbc, "Tsd./µl", "1"),
            (Analyte::Platelets, "lakh/cumm", "100"),
            (Analyte::Platelets, "万/µL", "10"),
            (Analyte::Hct, "% v/v", "0.01"),
            (Analyte::Mcv, "µm³", "1"),
            (Analyte::Nrbc, "/100 WBC", "1"),
        ] {
            let sent = Sent {
                unit: Some(unit),
                ..Sent::default()
            };
            assert_eq!(factor(analyte, sent).as_deref(), Ok(expected), "{unit:?}");
        }
    }

    #[test]
    fn what_has_two_meanings_is_refused() {
        for unit in ["mil/uL", "M/L", "bill/L", "x10", "cells", "/HPF"] {
            assert_eq!(
                factor(Analyte::Wbc, ucum(unit, None)),
                Err("unit-unknown"),
                "{unit}"
            );
        }
        // Capital M means million only where millions are counted.
        assert_eq!(
            factor(Analyte::Wbc, ucum("M/uL", None)),
            Err("unit-unknown")
        );
        assert_eq!(
            factor(Analyte::Ferritin, ucum("pmol/L", None)),
            Err("unit-unknown")
        );
    }

    #[test]
    fn mass_and_substance_are_told_apart_by_the_code() {
        let note = |code: &str, unit: &str| {
            let term = term(code).expect("in the table");
            let analyte = term.analyte.expect("a quantity");
            read(analyte, &[term], ucum(unit, None), &CodeMap::default())
                .expect("understood")
                .notes
                .iter()
                .any(|(word, ..)| *word == "property-mismatch")
        };
        assert!(note("718-7", "mmol/L") && note("59260-0", "g/dL") && note("785-6", "fmol"));
        assert!(!note("718-7", "g/L") && !note("59260-0", "mmol/l") && !note("59468-9", "fmol"));
        assert!(note("788-0", "fL") && note("58413-6", "10*9/L"));
        assert!(note("786-4", "%") && !note("4544-3", "%"));
    }

    /// Aliases that are UCUM as well, of something else (kelvin, gauss, tesla) or of the same thing
    /// written in an unusual way: the table has to be asked before any UCUM library.
    const ABSURD: &[&str] = &[
        "K/uL",
        "K/ul",
        "K/mm3",
        "G/L",
        "T/L",
        "G/dL",
        "Mil/uL",
        "cu.um",
        "u3",
        "PG",
        "C",
        "F",
        "mL/min/{1.73m2}",
    ];

    /// A second opinion: every code that the table calls UCUM is UCUM, its factor is UCUM's where
    /// UCUM can convert at all (not between mass and amount of substance, not arbitrary units), and
    /// no alias is UCUM unless it is known to be.
    #[test]
    fn a_ucum_library_agrees_with_the_table() {
        let special = |code: &str| {
            ["mol", "eq", "U", "kat", "[degF]"]
                .iter()
                .any(|part| code.contains(part))
        };
        for entry in &TABLE.entries {
            let valid = ucum::validate(entry.spelling);
            match entry.class {
                Class::Ucum => {
                    assert!(
                        valid.is_ok(),
                        "{} {}: {valid:?}",
                        entry.family,
                        entry.spelling
                    );
                    let canonical = ucum_codes(entry.family, Decimal::ONE)
                        .next()
                        .unwrap_or_default();
                    if special(entry.spelling) != special(canonical)
                        || entry.family == "temperature-fahrenheit"
                    {
                        continue;
                    }
                    let Ok(theirs) = ucum::convert(1.0, entry.spelling, canonical) else {
                        let arbitrary = [entry.spelling, canonical]
                            .iter()
                            .any(|code| code.to_uppercase().contains("IU]"));
                        assert!(
                            arbitrary,
                            "{} {} is no {canonical}",
                            entry.family, entry.spelling
                        );
                        continue;
                    };
                    let ours: f64 = entry.factor.to_string().parse().expect("a number");
                    assert!(
                        (theirs / ours - 1.0).abs() < 1e-12,
                        "{} {}: {ours}, not {theirs}",
                        entry.family,
                        entry.spelling
                    );
                }
                Class::Alias => assert_eq!(
                    valid.is_ok(),
                    ABSURD.contains(&entry.spelling),
                    "{} {}",
                    entry.family,
                    entry.spelling
                ),
                Class::Other | Class::Refused => {}
            }
        }
    }
}
