//! Codes that leave the house: our own finding codes, and beside them those of ICD-10-CM and
//! SNOMED CT that name a sign.
//!
//! A disorder is never coded in a system that bills: what stands on a Flag is copied into problem
//! lists. Codes with a cause in their meaning (neutropenia *due to* chemotherapy) are left out for
//! the same reason.

use serde_json::{Value, json};

use super::identity::CANON;
use crate::clinical::{
    assessment::{Assessment, Grade, Lineage},
    truth::Truth,
};

/// Code system of the findings.
pub const FINDING: &str = "https://marrowflag.org/fhir/CodeSystem/finding";
const ICD_10_CM: &str = "http://hl7.org/fhir/sid/icd-10-cm";
const SNOMED_CT: &str = "http://snomed.info/sct";

/// One code of `CodeSystem/finding`.
#[derive(Debug, Clone, Copy)]
pub struct Finding {
    /// The code: stable, never reused.
    pub slug: &'static str,
    /// What a reader sees.
    pub display: &'static str,
    /// ICD-10-CM codes of the sign, checked against the tabular list.
    pub icd: &'static [(&'static str, &'static str)],
    /// SNOMED CT concept of the sign; its display comes from the site's own release.
    pub snomed: Option<&'static str>,
}

const ANAEMIA: (&str, &str) = ("D64.9", "Anemia, unspecified");
const NEUTROPENIA: (&str, &str) = ("D70.9", "Neutropenia, unspecified");
const THROMBOCYTOPENIA: (&str, &str) = ("D69.6", "Thrombocytopenia, unspecified");
const FEVER: (&str, &str) = (
    "R50.81",
    "Fever presenting with conditions classified elsewhere",
);

const fn plain(slug: &'static str, display: &'static str) -> Finding {
    Finding {
        slug,
        display,
        icd: &[],
        snomed: None,
    }
}

/// Every code of `CodeSystem/finding`.
#[rustfmt::skip]
pub const FINDINGS: &[Finding] = &[
    Finding { slug: "pancytopenia", display: "Pancytopenia", icd: &[("D61.818", "Other pancytopenia")], snomed: Some("127034005") },
    plain("bicytopenia", "Two low cell lines"),
    Finding { slug: "anemia", display: "Anaemia", icd: &[ANAEMIA], snomed: Some("271737000") },
    Finding { slug: "anemia-hyporegenerative", display: "Anaemia with low reticulocytes", icd: &[ANAEMIA], snomed: Some("271737000") },
    Finding { slug: "neutropenia", display: "Neutropenia", icd: &[NEUTROPENIA], snomed: Some("165517008") },
    Finding { slug: "neutropenia-cyclic-suspected", display: "Periodic low neutrophils", icd: &[NEUTROPENIA], snomed: None },
    Finding { slug: "febrile-neutropenia", display: "Fever with neutropenia", icd: &[NEUTROPENIA, FEVER], snomed: None },
    Finding { slug: "thrombocytopenia", display: "Low platelets", icd: &[THROMBOCYTOPENIA], snomed: Some("415116008") },
    Finding { slug: "leukopenia", display: "Low white cells", icd: &[], snomed: Some("84828003") },
    plain("lymphopenia", "Low lymphocytes"),
    plain("monocytopenia", "Low monocytes"),
    plain("reticulocytopenia", "Low reticulocytes"),
    plain("macrocytosis", "Large red cells"),
    plain("circulating-blasts", "Blasts in blood"),
    plain("schistocytosis", "Red cell fragments"),
    plain("platelet-clumping", "Platelet count not valid (clumps)"),
    plain("bmf-pattern-suspected", "Pattern of marrow failure, acquired or inherited, to be clarified"),
    plain("leukocytosis-extreme", "Very high white cells"),
    plain("laboratory-critical", "Critical value flagged by the laboratory"),
    plain("leukemia-alert", "Possible acute leukaemia"),
    plain("aplastic-anemia-suspected", "Pattern of aplastic anaemia"),
    plain("mds-suspected", "Pattern of myelodysplastic neoplasm"),
    plain("refractory-cytopenia-childhood-suspected", "Pattern of refractory cytopenia of childhood"),
    plain("jmml-suspected", "Pattern of juvenile myelomonocytic leukaemia"),
    plain("pnh-suspected", "Pattern of paroxysmal nocturnal haemoglobinuria"),
    plain("prca-suspected", "Pattern of red cell aplasia"),
    plain("inherited-bmf-suspected", "Pattern of an inherited marrow failure syndrome"),
    plain("dba-suspected", "Pattern of Diamond-Blackfan anaemia"),
    plain("tec-suspected", "Pattern of transient erythroblastopenia of childhood"),
    plain("fanconi-suspected", "Pattern of Fanconi anaemia"),
    plain("telomere-suspected", "Pattern of a telomere biology disorder"),
    plain("shwachman-diamond-suspected", "Pattern of Shwachman-Diamond syndrome"),
    plain("camt-suspected", "Pattern of congenital amegakaryocytic thrombocytopenia"),
    plain("tar-suspected", "Pattern of thrombocytopenia with absent radii"),
    plain("scn-suspected", "Pattern of severe congenital neutropenia"),
    plain("gata2-suspected", "Pattern of GATA2 deficiency"),
    plain("pearson-suspected", "Pattern of Pearson syndrome"),
    plain("reticular-dysgenesis-suspected", "Pattern of reticular dysgenesis"),
    plain("cda-suspected", "Pattern of congenital dyserythropoietic anaemia"),
    plain("sideroblastic-suspected", "Pattern of sideroblastic anaemia"),
    plain("barth-suspected", "Pattern of Barth syndrome"),
    plain("syndromic-suspected", "Pattern of a syndrome with marrow involvement"),
    plain("vexas-suspected", "Pattern of VEXAS syndrome"),
    plain("mimic-duffy-null", "Low neutrophils of the Duffy-null phenotype"),
    plain("mimic-chemotherapy", "Expected after chemotherapy"),
    plain("mimic-drug", "Possible drug effect"),
    plain("mimic-b12-folate", "Possible lack of vitamin B12 or folate"),
    plain("mimic-copper", "Possible lack of copper"),
    plain("mimic-microcytic", "Possible iron deficiency or thalassaemia"),
    plain("mimic-itp", "Pattern of immune thrombocytopenia"),
    plain("mimic-hypersplenism", "Possible hypersplenism"),
    plain("mimic-hlh", "Pattern of haemophagocytic lymphohistiocytosis"),
    plain("mimic-tma", "Pattern of thrombotic microangiopathy"),
    plain("mimic-infection", "Possible infection"),
    plain("mimic-autoimmune", "Possible autoimmune cytopenia"),
    plain("mimic-pregnancy", "Possible pregnancy-related cytopenia"),
    plain("mimic-chronic-disease", "Possible anaemia of chronic disease"),
    plain("mimic-pseudothrombocytopenia", "Possible pseudothrombocytopenia"),
    plain("mimic-infiltration", "Possible marrow infiltration"),
    plain("mimic-haemolysis-bleeding", "Possible haemolysis or bleeding"),
    plain("mimic-neonatal", "Possible neonatal cytopenia"),
    plain("dq-unit", "Unit not usable"),
    plain("dq-implausible", "Value not plausible"),
    plain("dq-inconsistent", "Values contradict each other"),
    plain("dq-clumped", "Platelets clumped"),
    plain("dq-clotted", "Specimen clotted"),
    plain("dq-diluted", "Specimen diluted"),
    plain("dq-stale", "Older result"),
];

/// The finding with this slug.
pub fn finding(slug: &str) -> Option<&'static Finding> {
    FINDINGS.iter().find(|finding| finding.slug == slug)
}

/// Coding of our own system. A slug that is not in the table goes out without a display and fails
/// our own profile, loudly.
pub fn own(slug: &str) -> Value {
    match finding(slug) {
        Some(finding) => json!({"system": FINDING, "code": slug, "display": finding.display}),
        None => json!({"system": FINDING, "code": slug}),
    }
}

/// Our coding first, then those of the sign: ICD-10-CM as a coding aid, SNOMED CT where licensed.
pub fn codings(slug: &str, low: &[Lineage], snomed: bool) -> Vec<Value> {
    let mut codings = vec![own(slug)];
    let Some(finding) = finding(slug) else {
        return codings;
    };
    let mut icd = finding.icd.to_vec();
    if slug == "bicytopenia" {
        // Two single signs: there is no code for two lines.
        icd.extend(low.iter().map(|lineage| match lineage {
            Lineage::Erythroid => ANAEMIA,
            Lineage::Neutrophil => NEUTROPENIA,
            Lineage::Platelet => THROMBOCYTOPENIA,
        }));
    }
    codings.extend(
        icd.into_iter()
            .map(|(code, display)| json!({"system": ICD_10_CM, "code": code, "display": display})),
    );
    if let Some(code) = finding.snomed.filter(|_| snomed) {
        codings.push(json!({"system": SNOMED_CT, "code": code}));
    }
    codings
}

/// Lines that are low, E, N, P.
pub fn low_lines(assessment: &Assessment) -> Vec<Lineage> {
    assessment
        .lineages
        .iter()
        .filter(|result| result.low == Truth::True)
        .map(|result| result.lineage)
        .collect()
}

/// Data quality code for an outcome word, where one stands for it.
pub fn quality(word: &str) -> Option<&'static str> {
    match word {
        "unit-unknown" | "unit-missing" | "unit-kind" | "unit-conflict" | "unit-suspect"
        | "unit-delta" | "unit-text" => Some("dq-unit"),
        "value-implausible" | "zero-platelets" => Some("dq-implausible"),
        "unit-inconsistent" | "conflict" => Some("dq-inconsistent"),
        "clumped" => Some("dq-clumped"),
        "clotted" => Some("dq-clotted"),
        _ => None,
    }
}

/// Coding of a grade, with its rank for those who sort.
pub fn grade(grade: Grade) -> Value {
    let (code, display, rank) = grade_code(grade);
    json!({
        "extension": [{
            "url": "http://hl7.org/fhir/StructureDefinition/ordinalValue",
            "valueDecimal": rank
        }],
        "system": format!("{CANON}/CodeSystem/mf-grade"),
        "code": code,
        "display": display
    })
}

/// Code, display and rank of a grade in `CodeSystem/mf-grade`.
pub fn grade_code(grade: Grade) -> (&'static str, &'static str, u8) {
    match grade {
        Grade::None => ("none", "Not low", 0),
        Grade::Mild => ("mild", "Mild", 1),
        Grade::Moderate => ("moderate", "Moderate", 2),
        Grade::Severe => ("severe", "Severe", 3),
        Grade::VerySevere => ("very-severe", "Very severe", 4),
        Grade::Critical => ("critical", "Critical", 5),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slug_stands_once() {
        let mut slugs: Vec<_> = FINDINGS.iter().map(|finding| finding.slug).collect();
        slugs.sort_unstable();
        slugs.dedup();
        assert_eq!(slugs.len(), FINDINGS.len());
    }

    #[test]
    fn disorders_carry_no_code_that_bills() {
        for finding in FINDINGS {
            if finding.slug.ends_with("-suspected")
                && finding.slug != "neutropenia-cyclic-suspected"
                || finding.slug.starts_with("mimic-")
            {
                assert!(finding.icd.is_empty(), "{}", finding.slug);
            }
        }
    }

    #[test]
    fn two_low_lines_are_coded_as_two_signs() {
        let codes: Vec<_> = codings(
            "bicytopenia",
            &[Lineage::Erythroid, Lineage::Platelet],
            true,
        )
        .iter()
        .map(|coding| coding["code"].as_str().unwrap_or_default().to_owned())
        .collect();
        assert_eq!(codes, ["bicytopenia", "D64.9", "D69.6"]);
    }

    #[test]
    fn snomed_needs_its_switch() {
        assert_eq!(codings("neutropenia", &[], false).len(), 2);
        assert_eq!(codings("neutropenia", &[], true).len(), 3);
    }
}
