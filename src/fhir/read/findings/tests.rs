//! The trap cases of the findings specification, from a resource to the token at the index.

use proptest::prelude::*;
use serde_json::{Value, json};
use time::{OffsetDateTime, macros::datetime};

use super::*;
use crate::clinical::{
    time::BirthDate,
    timeline::Person,
    tokens::{self, Tokens},
};

const INDEX: OffsetDateTime = datetime!(2026-11-18 08:00 UTC);

const CM: &str = "http://hl7.org/fhir/sid/icd-10-cm";
const WHO: &str = "http://hl7.org/fhir/sid/icd-10";
const SCT: &str = "http://snomed.info/sct";
const LOINC: &str = "http://loinc.org";
const ATC: &str = "http://www.whocc.no/atc";
const RXNORM: &str = "http://www.nlm.nih.gov/research/umls/rxnorm";
const PCS: &str = "http://www.cms.gov/Medicare/Coding/ICD10";
const HPO: &str = "http://human-phenotype-ontology.org";

fn tree(value: &Value) -> Tree<'static> {
    match value {
        Value::Null => Tree::Null,
        Value::Bool(value) => Tree::Bool(*value),
        Value::Number(number) => Tree::Number(number.to_string().into()),
        Value::String(text) => Tree::String(text.clone().into()),
        Value::Array(items) => Tree::Array(items.iter().map(tree).collect()),
        Value::Object(members) => Tree::Object(
            members
                .iter()
                .map(|(name, value)| (name.clone().into(), tree(value)))
                .collect(),
        ),
    }
}

fn read_all(resources: &[Value]) -> (Vec<Fact>, Vec<Issue>) {
    let trees: Vec<Tree<'_>> = resources.iter().map(tree).collect();
    let resolve = |reference: &str| {
        trees.iter().find(|tree| {
            tree.resource_type()
                .zip(tree.text("id"))
                .is_some_and(|(kind, id)| reference == format!("{kind}/{id}"))
        })
    };
    let mut all = (Vec::new(), Vec::new());
    for tree in &trees {
        let (facts, issues) = facts(tree, &resolve);
        all.0.extend(facts);
        all.1.extend(issues);
    }
    all
}

fn person() -> Person {
    Person {
        birth: Some(BirthDate::Day(datetime!(1980-06-15 00:00 UTC).date())),
        ..Person::default()
    }
}

fn at_index(resources: &[Value]) -> Tokens {
    Tokens::at(&read_all(resources).0, &person(), INDEX)
}

fn truth(resources: &[Value], token: &str) -> Truth {
    at_index(resources).truth(token)
}

fn day(days_before: i64) -> String {
    (INDEX - time::Duration::days(days_before))
        .date()
        .to_string()
}

fn coded(system: &str, code: &str) -> Value {
    json!({ "coding": [{ "system": system, "code": code }] })
}

fn condition(system: &str, code: &str, rest: Value) -> Value {
    let mut resource = json!({
        "resourceType": "Condition",
        "subject": { "reference": "Patient/p" },
        "clinicalStatus": coded("http://terminology.hl7.org/CodeSystem/condition-clinical", "active"),
        "verificationStatus":
            coded("http://terminology.hl7.org/CodeSystem/condition-ver-status", "confirmed"),
        "code": coded(system, code),
    });
    merge(&mut resource, rest);
    resource
}

fn verification(status: &str) -> Value {
    json!({ "verificationStatus":
        coded("http://terminology.hl7.org/CodeSystem/condition-ver-status", status) })
}

fn category(code: &str) -> Value {
    json!([coded(
        "http://terminology.hl7.org/CodeSystem/condition-category",
        code
    )])
}

fn observation(system: &str, code: &str, rest: Value) -> Value {
    let mut resource = json!({
        "resourceType": "Observation",
        "status": "final",
        "code": coded(system, code),
        "effectiveDateTime": day(1),
    });
    merge(&mut resource, rest);
    resource
}

fn given(system: &str, code: &str, rest: Value) -> Value {
    let mut resource = json!({
        "resourceType": "MedicationAdministration",
        "status": "completed",
        "medicationCodeableConcept": coded(system, code),
        "effectiveDateTime": day(5),
    });
    merge(&mut resource, rest);
    resource
}

fn merge(into: &mut Value, rest: Value) {
    if let (Some(into), Value::Object(rest)) = (into.as_object_mut(), rest) {
        into.extend(rest);
    }
}

use Truth::{False, True, Unknown};

#[test]
fn trap_01_02_a_spleen_confirmed_and_refuted() {
    let confirmed = condition(CM, "R16.1", json!({}));
    assert_eq!(truth(&[confirmed], "splenomegaly"), True);
    let refuted = condition(
        SCT,
        "16294009",
        json!({ "verificationStatus": verification("refuted")["verificationStatus"],
                "recordedDate": day(3) }),
    );
    assert_eq!(truth(std::slice::from_ref(&refuted), "splenomegaly"), False);
    let before = condition(CM, "R16.1", json!({ "onsetDateTime": day(30) }));
    assert_eq!(truth(&[before, refuted.clone()], "splenomegaly"), False);
    let after = condition(CM, "R16.1", json!({ "onsetDateTime": day(1) }));
    assert_eq!(truth(&[after, refuted], "splenomegaly"), True);
}

#[test]
fn trap_03_04_05_words_and_their_cues() {
    let words = |text: &str| json!({ "resourceType": "Condition", "code": { "text": text } });
    assert_eq!(truth(&[words("splenomegaly")], "splenomegaly"), True);
    assert_eq!(truth(&[words("no splenomegaly")], "splenomegaly"), Unknown);
    let absent = observation(SCT, "16294009", json!({ "valueBoolean": false }));
    assert_eq!(truth(&[absent], "splenomegaly"), False);
    let named = json!({ "resourceType": "Observation", "status": "final",
        "code": { "text": "Splenomegaly" }, "valueString": "no splenomegaly",
        "effectiveDateTime": day(1) });
    assert_eq!(truth(&[named], "splenomegaly"), False);
    assert_eq!(
        truth(
            &[words("Family history of aplastic anemia")],
            "dx:aplastic_anaemia"
        ),
        Unknown
    );
}

#[test]
fn trap_06_to_09_known_marrow_failure() {
    let quiet = |resources: &[Value]| {
        let facts = read_all(resources).0;
        let tokens = Tokens::at(&facts, &person(), INDEX);
        tokens::quiet(&facts, &tokens, INDEX).known_bmf
    };
    let sign = condition(
        CM,
        "D61.818",
        json!({ "category": category("problem-list-item") }),
    );
    assert_eq!(truth(std::slice::from_ref(&sign), "dx:pancytopenia"), True);
    assert_eq!(quiet(&[sign]), None);
    let provisional = condition(CM, "D61.01", verification("provisional"));
    assert_eq!(truth(&[provisional], "dx:dba"), Unknown);
    let known = [
        condition(CM, "D61.03", json!({})),
        condition(CM, "D70.9", json!({})),
    ];
    assert_eq!(quiet(&known), Some("dx:fanconi"));
    let unspecific = [condition(WHO, "D61.0", json!({}))];
    assert_eq!(truth(&unspecific, "dx:ibmf_unspecified"), True);
    assert_eq!(truth(&unspecific, "dx:dba"), Unknown);
    assert_eq!(truth(&unspecific, "dx:fanconi"), Unknown);
}

#[test]
fn a_diagnosis_of_encounters_needs_two_of_them() {
    let seen = |days: i64| {
        json!({ "resourceType": "Condition", "code": coded(CM, "D61.01"),
                "category": category("encounter-diagnosis"), "onsetDateTime": day(days) })
    };
    let known = |resources: &[Value]| {
        let facts = read_all(resources).0;
        tokens::is_confirmed(&facts, "dx:dba", INDEX)
    };
    assert!(!known(&[seen(40)]));
    assert!(!known(&[seen(40), seen(11)]));
    assert!(known(&[seen(40), seen(10)]));
    let listed = json!({ "resourceType": "Condition", "code": coded(CM, "D61.01"),
        "category": category("problem-list-item") });
    assert!(known(&[listed]));
}

#[test]
fn trap_10_to_14_codes_that_are_too_wide() {
    let renal = [condition(SCT, "40488004", json!({}))];
    assert_eq!(truth(&renal, "renal_tubulopathy"), True);
    assert_eq!(at_index(&renal).get("dx:fanconi"), None);
    assert_eq!(
        truth(&[condition(CM, "Q87.19", json!({}))], "noonan"),
        Unknown
    );
    let named = condition(
        CM,
        "Q87.19",
        json!({ "code": { "coding": [{ "system": CM, "code": "Q87.19" }],
                          "text": "Noonan syndrome" } }),
    );
    assert_eq!(truth(&[named], "noonan"), True);
    assert_eq!(truth(&[condition(WHO, "Q85.0", json!({}))], "nf1"), Unknown);
    let wart = |days: i64| condition(CM, "B07.9", json!({ "onsetDateTime": day(days) }));
    assert_eq!(truth(&[wart(10)], "warts"), Unknown);
    assert_eq!(truth(&[wart(10), wart(189)], "warts"), Unknown);
    assert_eq!(truth(&[wart(10), wart(190)], "warts"), True);
    let chronic = [condition(CM, "B18.2", json!({ "onsetDateTime": day(100) }))];
    assert_eq!(truth(&chronic, "chronic_liver"), True);
    assert_eq!(truth(&chronic, "hepatitis_recent"), Unknown);
}

#[test]
fn trap_15_to_17_windows_open_on_a_day() {
    for (days, expected) in [(179, True), (180, True), (181, Unknown)] {
        let hepatitis = condition(CM, "B15.9", json!({ "onsetDateTime": day(days) }));
        assert_eq!(truth(&[hepatitis], "hepatitis_recent"), expected, "{days}");
    }
    for (days, expected) in [(42, True), (43, Unknown)] {
        let encounter = json!({ "resourceType": "Encounter", "id": "e",
            "status": "finished", "period": { "start": day(days) } });
        let flu = condition(
            CM,
            "J10.1",
            json!({ "category": category("encounter-diagnosis"),
                    "encounter": { "reference": "Encounter/e" } }),
        );
        assert_eq!(truth(&[encounter, flu], "viral_recent"), expected, "{days}");
    }
    let filed = condition(
        CM,
        "J11.1",
        json!({ "category": category("problem-list-item"), "recordedDate": day(3) }),
    );
    assert_eq!(truth(&[filed], "viral_recent"), Unknown);
    let future = condition(CM, "R16.1", json!({ "onsetDateTime": day(-1) }));
    assert_eq!(at_index(&[future]).get("splenomegaly"), None);
}

#[test]
fn trap_18_to_21_pathogens() {
    let negative = json!({ "valueCodeableConcept": coded(LOINC, "LA6577-6") });
    let positive = json!({ "valueCodeableConcept": coded(LOINC, "LA6576-8") });
    let past = [
        observation(LOINC, "29660-8", positive.clone()),
        observation(LOINC, "40658-7", negative),
    ];
    assert_eq!(truth(&past, "parvo"), False);
    assert_eq!(
        truth(&[observation(LOINC, "40658-7", positive.clone())], "parvo"),
        True
    );
    let old = json!({ "valueCodeableConcept": coded(LOINC, "LA6576-8"),
                      "effectiveDateTime": day(43) });
    assert_eq!(
        truth(&[observation(LOINC, "40658-7", old)], "parvo"),
        Unknown
    );
    let screen = json!({ "valueCodeableConcept": coded(LOINC, "LA15255-5") });
    assert_eq!(
        truth(&[observation(LOINC, "56888-1", screen)], "hiv"),
        Unknown
    );
    assert_eq!(
        truth(&[condition(SCT, "165815009", json!({}))], "hiv"),
        False
    );
    assert_eq!(truth(&[condition(CM, "R75", json!({}))], "hiv"), Unknown);
}

#[test]
fn trap_22_to_25_cytotoxic_drugs() {
    let past = [condition(CM, "Z92.21", json!({}))];
    assert_eq!(truth(&past, "chemo_past"), True);
    assert_eq!(truth(&past, "chemo_42"), Unknown);
    let request = json!({ "resourceType": "MedicationRequest", "status": "active",
        "intent": "order", "medicationCodeableConcept": coded(RXNORM, "3002"),
        "authoredOn": day(3) });
    assert_eq!(truth(&[request], "chemo_42"), Unknown);
    let not_done = given(RXNORM, "3041", json!({ "status": "not-done" }));
    assert!(read_all(&[not_done]).0.is_empty());
    for (days, recent, later, past) in [
        (21, True, True, Unknown),
        (22, Unknown, True, Unknown),
        (42, Unknown, True, Unknown),
        (43, Unknown, Unknown, Unknown),
        (364, Unknown, Unknown, Unknown),
        (365, Unknown, Unknown, True),
    ] {
        let dose = [given(
            ATC,
            "L01XA02",
            json!({ "effectiveDateTime": day(days) }),
        )];
        assert_eq!(truth(&dose, "chemo_21"), recent, "{days}");
        assert_eq!(truth(&dose, "chemo_42"), later, "{days}");
        assert_eq!(truth(&dose, "chemo_past"), past, "{days}");
    }
}

#[test]
fn trap_26_to_30_routes_doses_and_products() {
    let cream = given(
        RXNORM,
        "4492",
        json!({ "dosage": { "route": coded(SCT, "6064005") } }),
    );
    assert!(read_all(&[cream]).0.is_empty());
    let weekly = json!({ "resourceType": "MedicationStatement", "status": "active",
        "medicationCodeableConcept": coded(RXNORM, "6851"),
        "effectivePeriod": { "start": day(200) },
        "dosage": [{ "timing": { "repeat": { "frequency": 1, "period": 1, "periodUnit": "wk" } },
            "doseAndRate": [{ "doseQuantity": { "value": 15, "unit": "mg", "code": "mg" } }] }] });
    assert_eq!(truth(std::slice::from_ref(&weekly), "drug_other"), True);
    assert_eq!(truth(&[weekly], "chemo_42"), Unknown);
    for (milligrams, expected) in [("50", Unknown), ("50.1", True)] {
        let high = given(
            RXNORM,
            "6851",
            json!({ "dosage": { "dose": { "value": serde_json::from_str::<Value>(milligrams).unwrap(),
                                          "code": "mg" } } }),
        );
        assert_eq!(truth(&[high], "chemo_21"), expected, "{milligrams}");
    }
    let vein = given(
        RXNORM,
        "6851",
        json!({ "dosage": { "route": coded(SCT, "47625008") } }),
    );
    assert_eq!(truth(&[vein], "chemo_21"), True);
    let (facts, issues) = read_all(&[given(RXNORM, "1736776", json!({}))]);
    assert!(facts.is_empty());
    assert_eq!(issues.len(), 1);
    assert!(read_all(&[given(ATC, "S01AA01", json!({}))]).0.is_empty());
    for (days, expected) in [(20, True), (21, True), (22, Unknown)] {
        let depot = given(ATC, "L03AA13", json!({ "effectiveDateTime": day(days) }));
        assert_eq!(truth(&[depot], "gcsf_14"), expected, "{days}");
    }
    for (days, expected) in [(14, True), (15, Unknown)] {
        let plain = given(ATC, "L03AA02", json!({ "effectiveDateTime": day(days) }));
        assert_eq!(truth(&[plain], "gcsf_14"), expected, "{days}");
    }
}

#[test]
fn a_product_is_known_by_its_ingredients() {
    let product = [
        json!({ "resourceType": "Medication", "id": "m", "code": coded(RXNORM, "1736776"),
            "ingredient": [{ "itemCodeableConcept": coded(RXNORM, "3041") }] }),
        json!({ "resourceType": "MedicationAdministration", "status": "completed",
            "medicationReference": { "reference": "Medication/m" },
            "effectiveDateTime": day(3) }),
    ];
    assert_eq!(truth(&product, "chemo_21"), True);
    assert!(read_all(&product).1.is_empty());
}

#[test]
fn trap_31_32_transfusions() {
    let transfused = |system: &str, code: &str, days: i64| {
        json!({ "resourceType": "Procedure", "status": "completed",
                "code": coded(system, code), "performedDateTime": day(days) })
    };
    // The unnamed component; the number of the American procedure list is not shipped.
    let (facts, issues) = read_all(&[transfused(SCT, "5447007", 20)]);
    assert_eq!(facts.len(), 1);
    assert_eq!(issues.len(), 1);
    assert_eq!(
        truth(&[transfused(PCS, "30233N1", 120)], "rbc_transfusion_120d"),
        True
    );
    assert_eq!(
        truth(&[transfused(PCS, "30233N1", 121)], "rbc_transfusion_120d"),
        Unknown
    );
    let platelets = [transfused(PCS, "30233R1", 130)];
    assert_eq!(truth(&platelets, "rbc_transfusion_120d"), Unknown);
    let apart = |days: [i64; 3]| {
        let units: Vec<Value> = days
            .iter()
            .map(|days| transfused(PCS, "30233N1", *days))
            .collect();
        truth(&units, "transfusion_dependent")
    };
    assert_eq!(apart([10, 24, 38]), True);
    assert_eq!(apart([10, 24, 37]), Unknown);
}

#[test]
fn trap_33_34_relatives() {
    let relative = |relation: &str, code: &str| {
        json!({ "resourceType": "FamilyMemberHistory", "status": "completed",
            "relationship":
                coded("http://terminology.hl7.org/CodeSystem/v3-RoleCode", relation),
            "condition": [{ "code": coded(CM, code) }] })
    };
    assert!(read_all(&[relative("WIFE", "D61.9")]).0.is_empty());
    assert_eq!(truth(&[relative("BRO", "D46.9")], "family_mds_aml"), True);
    assert_eq!(
        truth(&[relative("FAMMEMB", "D46.9")], "family_mds_aml"),
        Unknown
    );
    let boy = |years: i64| {
        let mut history = relative("MUNCLE", "I42.0");
        merge(
            &mut history,
            json!({ "deceasedAge": { "value": years, "code": "a" } }),
        );
        truth(&[history], "family_xlinked_death")
    };
    assert_eq!(boy(4), True);
    assert_eq!(boy(5), False);
}

#[test]
fn trap_35_to_37_onset_and_origin() {
    assert_eq!(
        truth(&[condition(CM, "E83.111", json!({}))], "iron_overload"),
        Unknown
    );
    // Born on 15 June 1980: 50 years old in 2030.
    let later = datetime!(2031-01-01 00:00 UTC);
    let cancer = |onset: Option<&str>| {
        let rest = onset.map_or_else(|| json!({}), |onset| json!({ "onsetDateTime": onset }));
        let facts = read_all(&[condition(CM, "C44.42", rest)]).0;
        Tokens::at(&facts, &person(), later).truth("scc_young")
    };
    assert_eq!(cancer(Some("2030-06-14")), True);
    assert_eq!(cancer(Some("2030-06-15")), Unknown);
    assert_eq!(cancer(None), Unknown);
    let empty = |rest: Value| {
        truth(
            &[
                json!({ "resourceType": "Specimen", "id": "s", "type": coded(SCT, "119359002") }),
                observation(LOINC, "59465-5", rest),
            ],
            "bm_hypocellular",
        )
    };
    let value = coded(HPO, "HP:0005528");
    assert_eq!(empty(json!({ "valueCodeableConcept": value })), Unknown);
    assert_eq!(
        empty(json!({ "valueCodeableConcept": value,
                      "specimen": { "reference": "Specimen/s" } })),
        True
    );
}

fn variant(gene: &str, parts: &[(&str, &str)]) -> Value {
    let mut components = vec![json!({ "code": coded(LOINC, "48018-6"),
        "valueCodeableConcept": coded("http://www.genenames.org/geneId", gene) })];
    for (code, answer) in parts {
        components.push(json!({ "code": coded(LOINC, code),
            "valueCodeableConcept": coded(LOINC, answer) }));
    }
    observation(
        LOINC,
        "69548-6",
        json!({ "component": components,
        "valueCodeableConcept": coded(LOINC, "LA9633-4") }),
    )
}

#[test]
fn trap_38_genes() {
    let fanca = |parts: &[(&str, &str)]| truth(&[variant("HGNC:3582", parts)], "gene:FANC");
    let pathogenic = ("53037-8", "LA6668-3");
    assert_eq!(fanca(&[pathogenic, ("53034-5", "LA6706-1")]), Unknown);
    assert_eq!(fanca(&[pathogenic, ("53034-5", "LA6705-3")]), True);
    assert_eq!(fanca(&[("53037-8", "LA26333-7")]), Unknown);
    assert_eq!(fanca(&[("53037-8", "LA6675-8")]), False);
}

#[test]
fn trap_39_40_what_says_nothing() {
    let no_resuscitation = condition(CM, "Z66", json!({ "recordedDate": day(1) }));
    assert_eq!(truth(&[no_resuscitation], "palliative"), Unknown);
    for (days, expected) in [(180, True), (181, Unknown)] {
        let comfort = condition(CM, "Z51.5", json!({ "recordedDate": day(days) }));
        assert_eq!(truth(&[comfort], "palliative"), expected, "{days}");
    }
    let race = json!({ "resourceType": "Patient", "id": "p", "extension": [{
        "url": "http://hl7.org/fhir/us/core/StructureDefinition/us-core-race",
        "extension": [{ "url": "ombCategory", "valueCoding": {
            "system": "urn:oid:2.16.840.1.113883.6.238", "code": "2054-5" } }] }] });
    assert!(read_all(&[race]).0.is_empty());
    let unnamed = json!({ "resourceType": "Condition",
        "code": { "coding": [{ "code": "R16.1" }] } });
    assert!(read_all(&[unnamed]).0.is_empty());
}

#[test]
fn german_certainty_of_a_diagnosis() {
    let german = |certainty: &str| {
        let coding = json!({ "system": "http://fhir.de/CodeSystem/bfarm/icd-10-gm",
            "code": "R16.1",
            "extension": [{ "url":
                "http://fhir.de/StructureDefinition/icd-10-gm-diagnosesicherheit",
                "valueCoding": { "code": certainty } }] });
        let resource = json!({ "resourceType": "Condition", "code": { "coding": [coding] } });
        truth(&[resource], "splenomegaly")
    };
    assert_eq!(german("G"), True);
    assert_eq!(german("V"), Unknown);
    assert_eq!(german("A"), False);
    assert_eq!(german("Z"), Unknown);
}

#[test]
fn resolved_state_is_over_and_a_resolved_infection_is_recent() {
    let resolved = json!({ "clinicalStatus":
        coded("http://terminology.hl7.org/CodeSystem/condition-clinical", "resolved"),
        "onsetDateTime": day(300), "abatementDateTime": day(40) });
    assert_eq!(
        truth(&[condition(CM, "R16.1", resolved.clone())], "splenomegaly"),
        False
    );
    assert_eq!(
        truth(&[condition(CM, "J10.1", resolved.clone())], "viral_recent"),
        True
    );
    assert_eq!(
        truth(&[condition(CM, "Q90.9", resolved)], "down_syndrome"),
        True
    );
    let undated = json!({ "clinicalStatus":
        coded("http://terminology.hl7.org/CodeSystem/condition-clinical", "inactive") });
    assert_eq!(
        truth(&[condition(CM, "R16.1", undated)], "splenomegaly"),
        Unknown
    );
}

#[test]
fn steroids_by_dose_and_weight() {
    let taken = |drug: &str, milligrams: i64| {
        json!({ "resourceType": "MedicationStatement", "status": "active",
            "medicationCodeableConcept": coded(RXNORM, drug),
            "effectivePeriod": { "start": day(10) },
            "dosage": [{ "timing": { "repeat":
                { "frequency": 1, "period": 1, "periodUnit": "d" } },
                "doseAndRate": [{ "doseQuantity": { "value": milligrams, "code": "mg" } }] }] })
    };
    let weight = observation(
        LOINC,
        "29463-7",
        json!({ "valueQuantity": { "value": 80, "code": "kg" } }),
    );
    let high = |resources: &[Value]| truth(resources, "steroid_high");
    assert_eq!(high(&[taken("8638", 40)]), Unknown);
    assert_eq!(high(&[taken("8638", 40), weight.clone()]), True);
    assert_eq!(high(&[taken("8638", 39), weight.clone()]), False);
    // Dexamethasone counts 6.7-fold.
    assert_eq!(high(&[taken("3264", 6), weight.clone()]), True);
    assert_eq!(high(&[taken("3264", 5), weight]), False);
}

#[test]
fn whose_stem_cells() {
    let graft = |code: &str, days: i64| {
        json!({ "resourceType": "Procedure", "status": "completed",
                "code": coded(PCS, code), "performedDateTime": day(days) })
    };
    let status = condition(CM, "Z94.84", json!({}));
    assert_eq!(truth(&[graft("30233Y0", 20)], "hsct_allo"), Unknown);
    assert_eq!(truth(&[graft("30233Y0", 20)], "hsct_28"), True);
    assert_eq!(truth(&[graft("30233Y3", 29)], "hsct_allo"), True);
    assert_eq!(truth(&[graft("30233Y3", 29)], "hsct_28"), Unknown);
    assert_eq!(truth(&[graft("30233Y3", 100)], "hsct_recent"), True);
    assert_eq!(truth(&[graft("30233Y3", 101)], "hsct_recent"), Unknown);
    assert_eq!(truth(std::slice::from_ref(&status), "hsct_allo"), True);
    assert_eq!(
        truth(&[status, graft("30233Y0", 200)], "hsct_allo"),
        Unknown
    );
}

proptest! {
    /// A resource that speaks of something else changes nothing.
    #[test]
    fn an_unrelated_resource_changes_no_token(code in "[A-Z][0-9]{2}\\.[0-9]", text in ".{0,90}") {
        let unrelated = json!({ "resourceType": "Condition",
            "code": { "coding": [{ "system": "http://example.org/local", "code": code }],
                      "text": text } });
        let known = vec![
            condition(CM, "D61.03", json!({ "onsetDateTime": day(400) })),
            given(ATC, "L01XA02", json!({ "effectiveDateTime": day(30) })),
        ];
        let alone = at_index(&known);
        let mut more = known;
        more.push(unrelated);
        let both = at_index(&more);
        prop_assert!(alone.iter().eq(both.iter()));
    }

    /// No resource, however odd, makes the reader panic.
    #[test]
    fn anything_can_be_read(kind in "(Condition|Observation|Procedure|MedicationStatement|FamilyMemberHistory|Encounter|Specimen|DiagnosticReport)",
                            date in "[0-9T:+-]{0,25}", number in "-?[0-9]{1,30}(\\.[0-9]{1,30})?(e[0-9]{1,3})?",
                            text in ".{0,100}") {
        let number = Tree::Number(number.into());
        let quantity = Tree::Object(vec![("value".into(), number), ("code".into(), Tree::String("wk".into()))]);
        let mut resource = tree(&json!({ "resourceType": kind, "status": "final",
            "code": { "text": text, "coding": [{ "system": LOINC, "code": "49051-6" },
                                                 { "system": SCT, "code": text }] },
            "effectiveDateTime": date, "onsetDateTime": date, "performedDateTime": date,
            "conclusion": text, "note": [{ "text": text }] }));
        if let Tree::Object(members) = &mut resource {
            members.push(("valueQuantity".into(), quantity.clone()));
            members.push(("onsetAge".into(), quantity));
        }
        let (facts, _) = facts(&resource, &|_| None);
        Tokens::at(&facts, &person(), INDEX);
    }
}
