//! Variants of genes, and karyotypes.
//!
//! A variant counts when its gene and its clinical significance are said: (likely) pathogenic is
//! TRUE, uncertain UNKNOWN, benign FALSE. A negative result is FALSE only for the gene it names.

use rust_decimal::Decimal;

use super::{
    Reader,
    code::{self, Hit},
    table::{Condition as Asked, System, Use, Voice},
    value::decimal,
};
use crate::{clinical::truth::Truth, fhir::tree::Tree};

const GENE_STUDIED: &str = "48018-6";
const SIGNIFICANCE: &str = "53037-8";
const VARIANT_FOUND: &str = "69548-6";
const ALLELE_FRACTION: &str = "81258-6";
const SOURCE_CLASS: &str = "48002-0";
const ALLELIC_STATE: &str = "53034-5";

/// LOINC codes of karyotypes written in the international nomenclature.
const KARYOTYPES: &[&str] = &["33893-9", "29770-5"];

/// Smallest variant allele fraction of a clone, in % (WHO 2022, ICC 2022).
const CLONE: Decimal = Decimal::from_parts(2, 0, 0, false, 0);

/// What is said of one variant.
#[derive(Default)]
struct Variant<'r> {
    gene: Option<&'r Tree<'r>>,
    significance: Option<Truth>,
    found: Option<Truth>,
    /// Present in a share of the alleles, %.
    fraction: Option<Decimal>,
    /// Not inherited; `None`: not said.
    somatic: Option<bool>,
    /// On both copies, or on the only one; `None`: not said.
    both_copies: Option<bool>,
}

/// Reads a variant from an Observation and its components; `false`: it speaks of no gene.
pub(super) fn read(reader: &mut Reader<'_, '_>, preliminary: bool) -> bool {
    let observation = reader.resource;
    let mut variant = Variant::default();
    for part in std::iter::once(observation).chain(observation.items("component")) {
        variant.take(part);
    }
    let Some(gene) = variant.gene else {
        return false;
    };
    let mut hits = code::hits(gene, Use::Observation);
    // A gene is often named by its symbol only, as text or as the display of its HGNC id.
    if hits.is_empty()
        && let Some(symbol) = gene.text("text")
    {
        hits = symbol_hits(symbol.trim());
    }
    for hit in hits {
        if hit.row.voice == Voice::Never {
            continue;
        }
        let mut truth = variant.truth(&hit);
        if preliminary {
            truth = Truth::Unknown;
        }
        let at = super::observation::time_of(reader.resource).map(|when| when.first);
        reader.state(hit.row.token, truth, at, None);
    }
    true
}

fn symbol_hits(symbol: &str) -> Vec<Hit> {
    super::table::TABLE
        .rows_of(System::Gene, symbol)
        .into_iter()
        .map(|(row, _)| Hit {
            row,
            code: symbol.to_owned(),
            certainty: None,
            text_fits: false,
            by_text: false,
            cancelled: false,
        })
        .collect()
}

impl<'r> Variant<'r> {
    fn take(&mut self, part: &'r Tree<'r>) {
        let Some(concept) = part.get("code") else {
            return;
        };
        let loinc = code::codings(concept)
            .find_map(|(system, code, _)| (system == System::Loinc).then_some(code));
        let answer = || {
            part.get("valueCodeableConcept").and_then(|value| {
                code::codings(value)
                    .find_map(|(system, code, _)| (system == System::Loinc).then_some(code))
            })
        };
        match loinc {
            Some(GENE_STUDIED) => self.gene = part.get("valueCodeableConcept"),
            Some(SIGNIFICANCE) => {
                self.significance = answer().map(|answer| match answer {
                    "LA6668-3" | "LA26332-9" => Truth::True,
                    "LA26334-5" | "LA6675-8" => Truth::False,
                    _ => Truth::Unknown,
                });
            }
            Some(VARIANT_FOUND) => {
                self.found = answer().map(|answer| match answer {
                    "LA9633-4" => Truth::True,
                    "LA9634-2" => Truth::False,
                    _ => Truth::Unknown,
                });
            }
            Some(ALLELE_FRACTION) => {
                self.fraction = part.get("valueQuantity").and_then(|quantity| {
                    let value = decimal(quantity.get("value")?)?;
                    match quantity.text("code").or_else(|| quantity.text("unit")) {
                        Some("%") => Some(value),
                        Some("1") | None => value.checked_mul(Decimal::ONE_HUNDRED),
                        Some(_) => None,
                    }
                });
            }
            Some(SOURCE_CLASS) => {
                self.somatic = match answer() {
                    Some("LA6684-0") => Some(true),
                    Some("LA6683-2") => Some(false),
                    _ => None,
                };
            }
            Some(ALLELIC_STATE) => {
                self.both_copies = match answer() {
                    Some("LA6705-3" | "LA6707-9") => Some(true),
                    Some("LA6706-1") => Some(false),
                    _ => None,
                };
            }
            _ => {}
        }
    }

    fn truth(&self, hit: &Hit) -> Truth {
        if self.found == Some(Truth::False) {
            return Truth::False;
        }
        let mut truth = self.significance.unwrap_or(Truth::Unknown);
        if !truth.is_true() {
            return truth;
        }
        if self.found == Some(Truth::Unknown) || !hit.says() {
            truth = Truth::Unknown;
        }
        for asked in &hit.row.when {
            let met = match asked {
                Asked::Biallelic => self.both_copies == Some(true),
                Asked::Somatic => self.somatic == Some(true),
                Asked::AlleleFraction => self.fraction.is_some_and(|share| share >= CLONE),
                _ => true,
            };
            if !met {
                truth = Truth::Unknown;
            }
        }
        truth
    }
}

/// Reads a karyotype; `false`: the Observation is none.
pub(super) fn read_karyotype(reader: &mut Reader<'_, '_>, preliminary: bool) -> bool {
    let observation = reader.resource;
    let is_karyotype = observation.get("code").is_some_and(|concept| {
        code::codings(concept)
            .any(|(system, code, _)| system == System::Loinc && KARYOTYPES.contains(&code))
    });
    if !is_karyotype {
        return false;
    }
    let words = observation.text("valueString").or_else(|| {
        observation
            .get("valueCodeableConcept")
            .and_then(|value| value.text("text"))
    });
    let at = super::observation::time_of(observation).map(|when| when.first);
    for (token, truth) in words.map(karyotype).unwrap_or_default() {
        let truth = if preliminary { Truth::Unknown } else { truth };
        reader.state(token, truth, at, None);
    }
    true
}

/// What a karyotype such as `45,XX,-7[12]/46,XX[8]` says of the abnormalities that matter here.
fn karyotype(text: &str) -> Vec<(&'static str, Truth)> {
    let text = text.trim();
    if text.len() > 400 || !text.starts_with(|first: char| first.is_ascii_digit()) {
        return Vec::new();
    }
    let parts: Vec<&str> = text
        .split([',', '/'])
        .map(|part| part.split('[').next().unwrap_or_default().trim())
        .collect();
    let has = |abnormality: &str| parts.contains(&abnormality);
    let deleted = |arm: &str| parts.iter().any(|part| part.starts_with(arm));
    let normal = parts.iter().all(|part| matches!(*part, "46" | "XX" | "XY"));
    let monosomy7 = has("-7");
    let trisomy8 = has("+8");
    // Abnormalities that define myelodysplasia on their own (WHO 2022).
    let defining = monosomy7
        || deleted("del(5)")
        || deleted("del(7)")
        || deleted("del(5q)")
        || deleted("del(7q)")
        || has("-5");
    let answer = |found: bool| match (found, normal) {
        (true, _) => Some(Truth::True),
        (false, true) => Some(Truth::False),
        (false, false) => None,
    };
    [
        ("monosomy7", answer(monosomy7)),
        ("trisomy8", answer(trisomy8)),
        ("mds_cytogenetics", answer(defining)),
    ]
    .into_iter()
    .filter_map(|(token, truth)| Some((token, truth?)))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn karyotypes() {
        assert_eq!(
            karyotype("45,XX,-7[12]/46,XX[8]"),
            [
                ("monosomy7", Truth::True),
                ("mds_cytogenetics", Truth::True)
            ]
        );
        assert_eq!(
            karyotype("46,XY,del(5)(q13q33)[20]"),
            [("mds_cytogenetics", Truth::True)]
        );
        assert_eq!(karyotype("47,XY,+8[20]"), [("trisomy8", Truth::True)]);
        assert_eq!(karyotype("46,XX[20]").len(), 3);
        assert!(
            karyotype("46,XX[20]")
                .iter()
                .all(|(_, truth)| truth.is_false())
        );
        assert!(karyotype("46,XX,t(9;22)(q34;q11)[20]").is_empty());
        assert!(karyotype("normal female karyotype").is_empty());
    }
}
