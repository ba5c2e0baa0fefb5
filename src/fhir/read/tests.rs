use std::sync::LazyLock;

use serde_json::{Value, json};
use time::macros::{date, datetime};

use super::*;
use crate::{
    clinical::{
        analyte::Analyte,
        time::{BirthDate, Precision},
        timeline::{Draw, Duffy, Method, Sex, Smoking, SpecimenProblem, Status},
        truth::Truth,
    },
    fhir::{
        submission::{At, Checker, Release},
        tree::{self, Limits},
    },
};

static CHECKER: LazyLock<Checker> = LazyLock::new(|| Checker::new(Vec::new()).unwrap());

fn read_with(value: &Value, map: &CodeMap) -> Reading {
    let text = value.to_string();
    let Ok(parsed) = tree::parse(text.as_bytes(), &Limits::default()) else {
        return Reading::default();
    };
    let submission = CHECKER.decode(&parsed, Release::R4, At::Command);
    super::read(&submission, map)
}

fn read(value: &Value) -> Reading {
    read_with(value, &CodeMap::default())
}

fn haemoglobin() -> Value {
    json!({
        "resourceType": "Observation",
        "status": "final",
        "code": { "coding": [{ "system": "http://loinc.org", "code": "718-7" }] },
        "subject": { "reference": "Patient/p1" },
        "effectiveDateTime": "2026-11-18T08:00:00+01:00",
        "valueQuantity": { "value": 9.4, "system": "http://unitsofmeasure.org", "code": "g/dL" },
    })
}

fn result(code: &str, value: f64, unit: &str) -> Value {
    let mut result = haemoglobin();
    result["code"]["coding"][0]["code"] = code.into();
    result["valueQuantity"]["value"] = json!(value);
    result["valueQuantity"]["code"] = unit.into();
    result
}

fn patient() -> Value {
    json!({
        "resourceType": "Patient", "id": "p1", "gender": "male", "birthDate": "1950-07-04",
        "identifier": [
            { "use": "old", "system": "urn:oid:1.2", "value": "0" },
            { "system": "urn:oid:1.2", "value": "1" },
        ],
    })
}

/// A collection; an item may be a resource, or an entry that has a `resource`.
fn bundle(items: &[Value]) -> Value {
    let entries: Vec<Value> = items
        .iter()
        .map(|item| match item.get("resource") {
            Some(_) => item.clone(),
            None => json!({ "resource": item }),
        })
        .collect();
    json!({ "resourceType": "Bundle", "type": "collection", "entry": entries })
}

fn at_url(url: &str, resource: &Value) -> Value {
    json!({ "fullUrl": url, "resource": resource })
}

fn only(reading: &Reading) -> &PatientReading {
    assert_eq!(reading.patients.len(), 1, "{:?}", reading.issues);
    &reading.patients[0]
}

fn measurement(reading: &Reading, analyte: Analyte) -> &Measurement {
    only(reading)
        .values
        .iter()
        .filter_map(|value| value.measurement.as_ref())
        .find(|measurement| measurement.analyte == analyte)
        .unwrap()
}

fn why(reading: &Reading, analyte: Analyte) -> Option<&'static str> {
    measurement(reading, analyte)
        .unusable
        .as_ref()
        .map(|reason| reason.word)
}

fn words(reading: &Reading) -> Vec<(usize, &'static str)> {
    reading
        .issues
        .iter()
        .map(|(entry, issue)| (*entry, issue.word))
        .collect()
}

fn by(reference: &str) -> Value {
    let mut result = haemoglobin();
    result["subject"] = json!({ "reference": reference });
    result
}

#[test]
fn a_subject_is_found_in_every_way_that_senders_write_it() {
    let uuid = "urn:uuid:3b1c9dd6-4a2f-4a39-9a0e-6a9f0b6d7c11";
    for (patient_entry, reference) in [
        (json!({ "resource": patient() }), "Patient/p1"),
        (at_url(uuid, &patient()), uuid),
        (at_url(uuid, &patient()), "Patient/p1"),
        (at_url("Patient/p1", &patient()), "Patient/p1/_history/3"),
        (
            at_url("https://a.example/fhir/Patient/p1", &patient()),
            "https://a.example/fhir/Patient/p1",
        ),
    ] {
        let reading = read(&bundle(&[patient_entry, by(reference)]));
        let found = only(&reading);
        assert_eq!(
            found.keys[0],
            PatientKey::Identifier {
                system: "urn:oid:1.2".into(),
                value: "1".into()
            },
            "{reference}: an old identifier is no key"
        );
        assert_eq!(found.person.as_ref().unwrap().sex, Sex::Male, "{reference}");
    }
}

#[test]
fn a_relative_reference_stays_on_the_server_that_says_it() {
    let mut other = patient();
    other["identifier"] = json!([{ "system": "urn:oid:1.2", "value": "2" }]);
    let reading = read(&bundle(&[
        at_url("https://a.example/fhir/Patient/p1", &other),
        at_url("https://b.example/fhir/Patient/p1", &patient()),
        at_url("https://b.example/fhir/Observation/o1", &haemoglobin()),
    ]));
    assert_eq!(
        only(&reading).subject.identifier,
        Some(("urn:oid:1.2".into(), "1".into()))
    );
}

#[test]
fn a_patient_outside_is_an_opaque_key() {
    for reference in ["Patient/77", "https://elsewhere.example/fhir/Patient/77"] {
        let reading = read(&bundle(&[by(&format!("{reference}/_history/2"))]));
        let found = only(&reading);
        assert_eq!(found.keys, [PatientKey::Reference(reference.into())]);
        assert_eq!(found.person, None);
    }
}

#[test]
fn a_logical_and_a_conditional_subject_are_identifiers() {
    let key = PatientKey::Identifier {
        system: "urn:oid:1.2".into(),
        value: "1".into(),
    };
    let mut logical = haemoglobin();
    logical["subject"] = json!({ "identifier": { "system": "urn:oid:1.2", "value": "1" } });
    let alone = read(&bundle(std::slice::from_ref(&logical)));
    assert_eq!(only(&alone).keys, std::slice::from_ref(&key));
    // The same person by reference and by identifier is one patient.
    let reading = read(&bundle(&[patient(), haemoglobin(), logical.clone()]));
    assert_eq!(only(&reading).values.len(), 2);
    let reading = read(&bundle(&[logical, patient()]));
    assert_eq!(only(&reading).person.as_ref().unwrap().sex, Sex::Male);

    let mut conditional = bundle(&[
        by("Patient?identifier=urn:oid:1.2%7C1"),
        by("Patient?identifier=urn:oid:1.2|1"),
    ]);
    conditional["type"] = "transaction".into();
    for entry in conditional["entry"].as_array_mut().unwrap() {
        entry["request"] = json!({ "method": "POST", "url": "Observation" });
    }
    let reading = read(&conditional);
    assert!(only(&reading).keys.contains(&key));
}

#[test]
fn a_subject_that_names_nobody_is_refused_or_set_aside() {
    for (subject, word) in [
        (
            json!({ "reference": "urn:uuid:3b1c9dd6-4a2f-4a39-9a0e-6a9f0b6d7c11" }),
            "not-found",
        ),
        (json!({ "reference": "Group/g1" }), "not-the-patient"),
    ] {
        let mut result = haemoglobin();
        result["subject"] = subject;
        let reading = read(&bundle(&[patient(), result]));
        assert!(reading.patients.is_empty());
        assert_eq!(words(&reading), [(1, word)]);
        assert_eq!(reading.aside[0].sent.why.as_ref().unwrap().word, word);
    }
    // Even when the Bundle holds exactly one Patient.
    let mut result = haemoglobin();
    result.as_object_mut().unwrap().remove("subject");
    let reading = read(&bundle(&[patient(), result]));
    assert!(reading.patients.is_empty());
    assert_eq!(reading.aside.len(), 1);
}

#[test]
fn report_and_result_of_two_patients_are_both_refused() {
    let report = json!({
        "resourceType": "DiagnosticReport", "status": "final", "code": { "text": "Full blood count" },
        "subject": { "reference": "Patient/p2" }, "result": [{ "reference": "Observation/o1" }],
    });
    let mut result = haemoglobin();
    result["id"] = "o1".into();
    let reading = read(&bundle(&[result, report]));
    assert!(reading.patients.is_empty());
    assert_eq!(words(&reading), [(0, "two-patients"), (1, "two-patients")]);
}

#[test]
fn time_is_looked_for_in_order() {
    let specimen = json!({
        "resourceType": "Specimen", "id": "s1",
        "collection": { "collectedDateTime": "2026-11-17T07:30:00+01:00" },
    });
    let report = json!({
        "resourceType": "DiagnosticReport", "status": "final", "code": { "text": "Full blood count" },
        "subject": { "reference": "Patient/p1" }, "effectiveDateTime": "2026-11-16T00:00:00+01:00",
        "result": [{ "reference": "Observation/o1" }],
    });
    let mut result = haemoglobin();
    result["id"] = "o1".into();
    result["issued"] = "2026-11-18T10:00:00+01:00".into();
    result["specimen"] = json!({ "reference": "Specimen/s1" });
    let at = |items: &[Value]| measurement(&read(&bundle(items)), Analyte::Hb).at.unwrap();
    assert_eq!(
        at(&[specimen.clone(), report.clone(), result.clone()]).instant,
        datetime!(2026-11-18 08:00 +1)
    );
    result.as_object_mut().unwrap().remove("effectiveDateTime");
    assert_eq!(
        at(&[specimen, report.clone(), result.clone()]).instant,
        datetime!(2026-11-17 07:30 +1)
    );
    let by_report = at(&[report, result.clone()]);
    assert_eq!(
        (by_report.day(), by_report.precision),
        (date!(2026 - 11 - 16), Precision::Day)
    );
    assert_eq!(
        at(&[result.clone()]).instant,
        datetime!(2026-11-18 10:00 +1)
    );
    result.as_object_mut().unwrap().remove("issued");
    let reading = read(&bundle(&[result]));
    assert_eq!(why(&reading, Analyte::Hb), Some("time-missing"));
    assert_eq!(words(&reading), [(0, "time-missing")]);
}

#[test]
fn a_withdrawn_report_withdraws_its_results() {
    let report = json!({
        "resourceType": "DiagnosticReport", "status": "entered-in-error", "code": { "text": "Full blood count" },
        "subject": { "reference": "Patient/p1" },
        "result": [{ "reference": "Observation/o1" }, { "reference": "Observation/elsewhere" }],
    });
    let mut result = haemoglobin();
    result["id"] = "o1".into();
    let reading = read(&bundle(&[result, report]));
    let value = &only(&reading).values[0];
    assert_eq!(value.status, "entered-in-error");
    assert_eq!(
        value.measurement.as_ref().unwrap().status,
        Status::EnteredInError
    );
    assert_eq!(reading.withdrawn, [(1, "Observation/elsewhere".to_owned())]);
}

#[test]
fn components_inherit_and_one_number_counts_once() {
    let component = |code: &str, value: f64, unit: &str| {
        json!({
            "code": { "coding": [{ "system": "http://loinc.org", "code": code }] },
            "valueQuantity": { "value": value, "system": "http://unitsofmeasure.org", "code": unit },
        })
    };
    let mut panel = haemoglobin();
    panel["id"] = "panel".into();
    panel.as_object_mut().unwrap().remove("valueQuantity");
    panel["code"]["coding"][0]["code"] = "58410-2".into();
    panel["specimen"] = json!({ "identifier": { "system": "urn:lab", "value": "S7" } });
    panel["component"] = json!([
        component("718-7", 9.4, "g/dL"),
        component("777-3", 31.0, "10*9/L"),
        { "code": { "coding": [{ "system": "http://loinc.org", "code": "6690-2" }] },
          "dataAbsentReason": { "coding": [{ "system": "http://terminology.hl7.org/CodeSystem/data-absent-reason", "code": "error" }] } },
    ]);
    let mut alone = haemoglobin();
    alone["specimen"] = panel["specimen"].clone();
    let reading = read(&bundle(&[panel, alone]));
    let haemoglobins: Vec<_> = only(&reading)
        .values
        .iter()
        .filter(|value| value.sent.code == "718-7")
        .map(|value| value.sent.why.as_ref().map(|why| why.word))
        .collect();
    assert_eq!(haemoglobins, [None, Some("duplicate")]);
    let platelets = measurement(&reading, Analyte::Platelets);
    assert_eq!(
        platelets.at.unwrap().instant,
        datetime!(2026-11-18 08:00 +1)
    );
    assert_eq!(platelets.specimen.as_deref(), Some("urn:lab|S7"));
    assert_eq!(why(&reading, Analyte::Wbc), Some("not-measured"));
}

#[test]
fn members_of_a_heading_in_a_report_are_of_that_report() {
    let mut heading = haemoglobin();
    heading["id"] = "h".into();
    heading["code"] = json!({ "text": "HEMATOLOGIE" });
    heading.as_object_mut().unwrap().remove("valueQuantity");
    heading["hasMember"] =
        json!([{ "reference": "Observation/o1" }, { "reference": "Observation/lost" }]);
    let mut member = haemoglobin();
    member["id"] = "o1".into();
    let report = json!({
        "resourceType": "DiagnosticReport", "status": "final", "code": { "text": "Laboratory report" },
        "identifier": [{ "system": "urn:reports", "value": "R1" }],
        "subject": { "reference": "Patient/p1" }, "result": [{ "reference": "Observation/h" }],
    });
    let reading = read(&bundle(&[heading, member, report]));
    assert_eq!(
        measurement(&reading, Analyte::Hb).report.as_deref(),
        Some("urn:reports|R1")
    );
    assert_eq!(words(&reading), [(0, "not-found")]);
}

#[test]
fn a_comment_apart_spoils_the_specimen_it_is_about() {
    let comment = |text: &str| {
        json!({
            "resourceType": "Observation", "status": "final", "code": { "text": "Microscopie" },
            "subject": { "reference": "Patient/p1" }, "effectiveDateTime": "2026-11-18T08:00:00+01:00",
            "valueString": text,
        })
    };
    let read = |text: &str| {
        read(&bundle(&[
            result("777-3", 25.0, "10*9/L"),
            result("718-7", 9.4, "g/dL"),
            comment(text),
        ]))
    };
    let clumped = read("Trombocytenaggregaten, dit kan aanleiding geven tot een onderschatting.");
    assert_eq!(why(&clumped, Analyte::Platelets), Some("clumped"));
    assert_eq!(why(&clumped, Analyte::Hb), None);
    let facts: Vec<&str> = only(&clumped)
        .facts
        .iter()
        .flat_map(|read| &read.facts)
        .map(|fact| &*fact.token)
        .collect();
    assert_eq!(facts, ["plt_clump"]);

    let clotted = read("geronnen");
    assert_eq!(why(&clotted, Analyte::Hb), Some("clotted"));
    let haemolysed = read("Hemolytisch staal +++");
    assert_eq!(
        measurement(&haemolysed, Analyte::Hb).problems,
        [SpecimenProblem::Haemolysed]
    );
    assert_eq!(why(&haemolysed, Analyte::Hb), None);
    let negated = read("geen trombocytenaggregaten");
    assert_eq!(why(&negated, Analyte::Platelets), None);
}

#[test]
fn the_specimen_may_contradict_the_code() {
    let with = |specimen: Value| {
        let mut result = haemoglobin();
        let mut specimen = specimen;
        specimen["resourceType"] = "Specimen".into();
        specimen["id"] = "s".into();
        result["contained"] = json!([specimen]);
        result["specimen"] = json!({ "reference": "#s" });
        read(&bundle(&[result]))
    };
    let kind = |code: &str| json!({ "type": { "coding": [{ "system": "http://snomed.info/sct", "code": code }] } });
    assert_eq!(
        why(&with(kind("119359002")), Analyte::Hb),
        Some("specimen-not-blood")
    );
    assert_eq!(
        why(&with(kind("122556008")), Analyte::Hb),
        Some("cord-blood")
    );
    assert_eq!(
        why(
            &with(json!({ "subject": { "reference": "Patient/donor" } })),
            Analyte::Hb
        ),
        Some("not-the-patient")
    );
    let capillary = with(kind("122554006"));
    assert_eq!(why(&capillary, Analyte::Hb), None);
    assert_eq!(measurement(&capillary, Analyte::Hb).draw, Draw::Capillary);
    let clotted = with(
        json!({ "condition": [{ "coding": [{ "system": "http://terminology.hl7.org/CodeSystem/v2-0493", "code": "CLOT" }] }] }),
    );
    assert_eq!(why(&clotted, Analyte::Hb), Some("clotted"));
    let citrate =
        with(json!({ "container": [{ "additiveCodeableConcept": { "text": "Citrate 3.2 %" } }] }));
    assert_eq!(
        measurement(&citrate, Analyte::Hb).problems,
        [SpecimenProblem::Citrate]
    );
}

#[test]
fn what_is_about_someone_else_is_not_used() {
    let mut result = haemoglobin();
    result["focus"] = json!([{ "reference": "Patient/fetus" }]);
    assert_eq!(
        why(&read(&bundle(&[result])), Analyte::Hb),
        Some("not-the-patient")
    );
}

#[test]
fn status_decides_whether_a_value_counts() {
    for (sent, status, said) in [
        ("preliminary", Status::Preliminary, None),
        ("corrected", Status::Corrected, None),
        ("unknown", Status::NotEvaluated, Some("not-evaluated")),
        ("cancelled", Status::NotEvaluated, Some("not-evaluated")),
    ] {
        let mut result = haemoglobin();
        result["status"] = sent.into();
        let reading = read(&bundle(&[result]));
        assert_eq!(measurement(&reading, Analyte::Hb).status, status);
        assert_eq!(
            words(&reading).first().map(|(_, word)| *word),
            said,
            "{sent}"
        );
    }
}

#[test]
fn method_and_preference_come_from_the_code_unless_the_sender_says_more() {
    let reading = read(&bundle(&[result("778-1", 31.0, "10*9/L")]));
    let manual = measurement(&reading, Analyte::Platelets);
    assert_eq!((manual.method, manual.preference), (Method::Manual, 3));
    let mut sent = haemoglobin();
    sent["method"] = json!({ "text": "POCT" });
    assert_eq!(
        measurement(&read(&bundle(&[sent])), Analyte::Hb).method,
        Method::PointOfCare
    );
}

#[test]
fn the_upper_limit_of_the_laboratory_is_converted() {
    let mut sent = result("2532-0", 5.0, "ukat/L");
    sent["referenceRange"] = json!([{ "high": { "value": 4.1 } }]);
    let reading = read(&bundle(&[sent]));
    assert_eq!(
        measurement(&reading, Analyte::Ldh).upper_limit,
        Some(rust_decimal::Decimal::from(246))
    );
}

#[test]
fn the_person_is_read_from_the_patient() {
    let person = |patient: Value| {
        only(&read(&bundle(&[patient, haemoglobin()])))
            .person
            .clone()
            .unwrap()
    };
    let mut sent = patient();
    sent["birthDate"] = "1950-07".into();
    sent["deceasedDateTime"] = "2026-11-19T00:00:00Z".into();
    sent["extension"] = json!([{
        "url": "http://hl7.org/fhir/StructureDefinition/patient-sexParameterForClinicalUse",
        "extension": [{ "url": "value", "valueCodeableConcept": { "coding": [{ "code": "female-typical" }] } }],
    }]);
    let read = person(sent);
    assert_eq!(read.birth, Some(BirthDate::Month(1950, time::Month::July)));
    assert_eq!(read.sex, Sex::Female);
    assert!(read.deceased && read.deceased_at.is_some());
}

#[test]
fn facts_of_the_person_arrive_as_observations() {
    let mut smoking = haemoglobin();
    smoking["code"]["coding"][0]["code"] = "72166-2".into();
    smoking.as_object_mut().unwrap().remove("valueQuantity");
    smoking["valueCodeableConcept"] =
        json!({ "coding": [{ "system": "http://loinc.org", "code": "LA18976-3" }] });
    let mut pregnancy = smoking.clone();
    pregnancy["code"]["coding"][0]["code"] = "82810-3".into();
    pregnancy["valueCodeableConcept"]["coding"][0]["code"] = "LA15173-0".into();
    let gestation_at_birth = result("76516-4", 34.6, "wk");
    let reading = read(&bundle(&[smoking, pregnancy, gestation_at_birth]));
    let person = only(&reading).person.as_ref().unwrap();
    assert_eq!(person.smoking, Smoking::SomeNumberUnknown);
    assert_eq!(person.gestation_weeks, Some(34));
    let pregnancies = &only(&reading).pregnancies;
    assert_eq!(
        pregnancies
            .iter()
            .map(|pregnancy| pregnancy.from)
            .collect::<Vec<_>>(),
        [date!(2026 - 11 - 18)]
    );
}

#[test]
fn a_site_maps_its_own_codes() {
    let map = json!({
        "resourceType": "ConceptMap",
        "group": [
            { "source": "urn:site", "target": "https://marrowflag.org/fhir/CodeSystem/mf-context", "element": [
                { "code": "ALT", "target": [{ "code": "altitude-m", "equivalence": "equal" }] },
                { "code": "FY", "target": [{ "code": "duffy-null", "equivalence": "equivalent" }] },
            ] },
            { "source": "urn:site", "target": "http://loinc.org", "element": [
                { "code": "HGB", "target": [{ "code": "718-7", "equivalence": "equal" }] },
            ] },
            { "source": "http://loinc.org", "target": "http://loinc.org", "element": [
                { "code": "13056-7", "target": [{ "code": "777-3", "equivalence": "equal" }] },
            ] },
        ],
    });
    let map = CodeMap::from_json("site.json", map.to_string().as_bytes()).unwrap();
    let local = |code: &str, value: f64, unit: &str| {
        let mut local = result("718-7", value, unit);
        local["code"]["coding"][0] = json!({ "system": "urn:site", "code": code });
        local
    };
    let mut duffy = local("FY", 0.0, "1");
    duffy.as_object_mut().unwrap().remove("valueQuantity");
    duffy["valueBoolean"] = true.into();
    let reading = read_with(
        &bundle(&[
            local("HGB", 9.4, "g/dL"),
            local("ALT", 1650.0, "m"),
            duffy,
            result("13056-7", 31.0, "10*9/L"),
        ]),
        &map,
    );
    assert_eq!(measurement(&reading, Analyte::Platelets).unusable, None);
    assert_eq!(measurement(&reading, Analyte::Hb).unusable, None);
    let person = only(&reading).person.as_ref().unwrap();
    assert_eq!((person.altitude_m, person.duffy), (Some(1650), Duffy::Null));
}

#[test]
fn the_laboratory_is_the_organization_that_performed_it() {
    let laboratory = |performer: Value| {
        let mut sent = haemoglobin();
        sent["performer"] = performer;
        let organization = json!({
            "resourceType": "Organization", "id": "o1", "name": "Central",
            "identifier": [{ "system": "urn:lab", "value": "7" }]
        });
        let nameless = json!({ "resourceType": "Organization", "id": "o2", "name": "North" });
        let reading = read(&bundle(&[organization, nameless, sent]));
        measurement(&reading, Analyte::Hb)
            .laboratory
            .as_deref()
            .map(str::to_owned)
    };
    let reference = |to: &str| json!([{ "reference": to }]);
    for (performer, expected) in [
        (reference("Organization/o1"), Some("urn:lab|7")),
        (reference("Organization/o2"), Some("North")),
        (
            json!([{ "reference": "Practitioner/1" }, { "reference": "Organization/9" }]),
            Some("Organization/9"),
        ),
        (
            json!([{ "type": "Organization", "identifier": { "system": "urn:lab", "value": "8" } }]),
            Some("urn:lab|8"),
        ),
        (
            json!([{ "identifier": { "system": "urn:person", "value": "8" } }]),
            None,
        ),
        (reference("Practitioner/1"), None),
        (json!([{ "display": "Dr Who" }]), None),
    ] {
        assert_eq!(
            laboratory(performer.clone()).as_deref(),
            expected,
            "{performer}"
        );
    }
}

#[test]
fn an_open_inpatient_stay_is_seen() {
    let encounter = |class: &str, status: &str| {
        json!({
            "resourceType": "Encounter", "id": "e1", "status": status,
            "class": { "system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": class },
            "subject": { "reference": "Patient/p1" },
        })
    };
    let mut sent = haemoglobin();
    sent["encounter"] = json!({ "reference": "Encounter/e1" });
    let read_as =
        |class: &str, status: &str| read(&bundle(&[encounter(class, status), sent.clone()]));
    for (class, inpatient) in [
        ("IMP", true),
        ("ACUTE", true),
        ("NONAC", true),
        ("EMER", true),
        ("AMB", false),
        ("VR", false),
    ] {
        assert_eq!(
            only(&read_as(class, "in-progress")).inpatient,
            inpatient,
            "{class}"
        );
    }
    let read_stay = |status: &str| read_as("IMP", status);
    assert!(!only(&read_stay("finished")).inpatient);
    assert_eq!(
        only(&read_stay("finished")).encounter.as_deref(),
        Some("Encounter/e1")
    );
}

#[test]
fn findings_of_other_resources_are_kept_with_the_patient() {
    let condition = json!({
        "resourceType": "Condition",
        "clinicalStatus": { "coding": [{ "system": "http://terminology.hl7.org/CodeSystem/condition-clinical", "code": "active" }] },
        "verificationStatus": { "coding": [{ "system": "http://terminology.hl7.org/CodeSystem/condition-ver-status", "code": "confirmed" }] },
        "code": { "coding": [{ "system": "http://hl7.org/fhir/sid/icd-10-cm", "code": "R16.1" }] },
        "subject": { "reference": "Patient/p1" }, "onsetDateTime": "2026-10-01",
    });
    let reading = read(&bundle(&[haemoglobin(), condition]));
    let facts: Vec<_> = only(&reading)
        .facts
        .iter()
        .flat_map(|read| &read.facts)
        .map(|fact| (&*fact.token, fact.truth))
        .collect();
    assert_eq!(facts, [("splenomegaly", Truth::True)]);
    assert_eq!(reading.uses, [EntryUse::Stored, EntryUse::Stored]);
}

#[test]
fn a_result_is_known_again_by_its_best_name() {
    let key = |item: Value| only(&read(&bundle(&[item]))).values[0].key.clone();
    let mut named = haemoglobin();
    named["identifier"] = json!([{ "value": "no system" }, { "system": "urn:lab", "value": "9" }]);
    assert_eq!(
        key(named),
        ResultKey::Identifier {
            system: "urn:lab".into(),
            value: "9".into()
        }
    );
    let mut with_id = haemoglobin();
    with_id["id"] = "o1".into();
    assert_eq!(
        key(at_url("https://a.example/fhir/Observation/o1", &with_id)),
        ResultKey::Url("https://a.example/fhir/Observation/o1".into())
    );
    // An id alone may come again in the next file; the content is the name then.
    let weak = key(with_id);
    assert_eq!(weak, key(haemoglobin()));
    assert_ne!(weak, key(result("718-7", 9.5, "g/dL")));
}

#[test]
fn neutrophils_without_bands_are_seen_by_the_sum() {
    let differential = |neutrophils: f64, bands: f64| {
        let parts = [
            ("770-8", neutrophils),
            ("764-1", bands),
            ("736-9", 40.0),
            ("5905-5", 6.0),
        ];
        let reading = read(&bundle(
            &parts.map(|(code, value)| result(code, value, "%")),
        ));
        let value = measurement(&reading, Analyte::NeutrophilPercent).value;
        (
            value.unwrap().as_exact().unwrap().to_string(),
            words(&reading).len(),
        )
    };
    assert_eq!(differential(42.0, 12.0), ("54".to_owned(), 1));
    assert_eq!(
        differential(54.0, 12.0),
        ("54".to_owned(), 0),
        "they are in it"
    );
    assert_eq!(
        differential(52.0, 4.0),
        ("52".to_owned(), 0),
        "both sums are whole"
    );
}

#[test]
fn two_references_to_one_patient_are_one_even_when_seen_late() {
    let mut by_identifier = haemoglobin();
    by_identifier["subject"] = json!({ "identifier": { "system": "urn:oid:1.2", "value": "1" } });
    let mut both = haemoglobin();
    both["subject"] = json!({ "reference": "Patient/77", "identifier": { "system": "urn:oid:1.2", "value": "1" } });
    let reading = read(&bundle(&[by("Patient/77"), by_identifier, both]));
    assert_eq!(only(&reading).values.len(), 3);
}

/// Every node of a rich submission, replaced by whatever cannot stand there.
#[test]
fn nothing_that_is_sent_makes_the_reader_panic() {
    let mut sent = haemoglobin();
    sent["id"] = "o1".into();
    sent["identifier"] = json!([{ "system": "urn:lab", "value": "9" }]);
    sent["specimen"] = json!({ "reference": "#s" });
    sent["contained"] = json!([{ "resourceType": "Specimen", "id": "s", "type": { "text": "urine" }, "collection": { "collectedPeriod": { "start": "2026-11-18" } } }]);
    sent["hasMember"] = json!([{ "reference": "Observation/o1" }, { "reference": "#" }]);
    sent["component"] = json!([{ "code": { "coding": [{ "system": "http://loinc.org", "code": "800-3" }] }, "valueString": "1+" }]);
    sent["referenceRange"] = json!([{ "high": { "value": 1e30, "code": "g/L" } }]);
    sent["interpretation"] = json!([{ "coding": [{ "code": "LL" }] }]);
    let report = json!({
        "resourceType": "DiagnosticReport", "status": "final", "code": { "text": "x" },
        "subject": { "reference": "Patient/p1" }, "result": [{ "reference": "Observation/o1" }],
    });
    let whole = bundle(&[patient(), sent, report]);
    let mut fever = result("8310-5", 38.5, "[degF]");
    fever["valueQuantity"]["comparator"] = "<".into();
    let mut whole = whole;
    whole["entry"]
        .as_array_mut()
        .unwrap()
        .push(json!({ "resource": fever }));
    let mut pointers = Vec::new();
    let mut open = vec![(String::new(), &whole)];
    while let Some((pointer, value)) = open.pop() {
        match value {
            Value::Object(members) => open.extend(
                members
                    .iter()
                    .map(|(name, value)| (format!("{pointer}/{name}"), value)),
            ),
            Value::Array(items) => open.extend(
                items
                    .iter()
                    .enumerate()
                    .map(|(place, value)| (format!("{pointer}/{place}"), value)),
            ),
            _ => {}
        }
        pointers.push(pointer);
    }
    assert!(pointers.len() > 80, "{}", pointers.len());
    let huge = "9".repeat(400);
    let odd = [
        json!(null),
        json!([]),
        json!({}),
        json!(""),
        json!("#"),
        json!("ü/\u{0}?|%zz"),
        json!("{"),
        json!("<-1,000.5e"),
        json!(true),
        json!(-1),
        serde_json::from_str("1e999999999").unwrap(),
        serde_json::from_str(&huge).unwrap(),
        serde_json::from_str("-70000000000000000000000000000").unwrap(),
        json!([[{}]]),
        json!({ "coding": 1 }),
    ];
    for pointer in &pointers {
        for odd in &odd {
            let mut broken = whole.clone();
            *broken.pointer_mut(pointer).unwrap() = odd.clone();
            let reading = read(&broken);
            let _ = table::render(&table::rows(&reading, &[]), table::Format::Csv);
        }
    }
}
