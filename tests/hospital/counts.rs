//! Blood counts as a laboratory sends them, and what it was promised for them.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};

use super::MRN;

/// Code, unit, and values from severe to normal.
const ANALYTES: [(&str, &str, [&str; 4]); 4] = [
    ("718-7", "g/dL", ["6.4", "8.9", "10.5", "14.1"]),
    ("6690-2", "10*3/uL", ["1.1", "2.6", "3.4", "6.8"]),
    ("751-8", "10*3/uL", ["0.31", "0.90", "1.60", "4.20"]),
    ("777-3", "10*3/uL", ["12", "45", "110", "260"]),
];

/// What a laboratory calls its results.
pub(crate) const RESULT: &str = "https://lab.example/result";

/// One Bundle.
#[derive(Clone, Debug)]
pub(crate) struct Submission {
    pub(crate) mrn: String,
    pub(crate) body: Vec<u8>,
    /// Results in it: identifier, when it was issued, value as sent.
    pub(crate) results: Vec<(String, i64, String)>,
}

/// What was promised: the value of each result that was issued last.
#[derive(Clone, Debug, Default)]
pub(crate) struct Promised {
    by_patient: BTreeMap<String, BTreeMap<String, (i64, String)>>,
}

impl Promised {
    /// A receipt for `submission` came.
    pub(crate) fn note(&mut self, submission: &Submission) {
        let results = self.by_patient.entry(submission.mrn.clone()).or_default();
        for (identifier, issued, value) in &submission.results {
            let held = results
                .entry(identifier.clone())
                .or_insert_with(|| (*issued, value.clone()));
            if held.0 < *issued {
                *held = (*issued, value.clone());
            }
        }
    }

    /// By patient: identifier and value of every result.
    pub(crate) fn values(&self) -> impl Iterator<Item = (&String, BTreeMap<&str, &str>)> {
        self.by_patient.iter().map(|(mrn, results)| {
            let values = results
                .iter()
                .map(|(identifier, (_, value))| (identifier.as_str(), value.as_str()));
            (mrn, values.collect())
        })
    }
}

/// A blood count of `mrn`, the `number`th, as issued the `version`th time.
pub(crate) fn count(
    mrn: &str,
    number: i64,
    version: i64,
    severity: usize,
    start: OffsetDateTime,
) -> Submission {
    let drawn = start - Duration::days(30 - 7 * number);
    let issued = drawn + Duration::hours(1 + version);
    let text = |at: OffsetDateTime| at.format(&Rfc3339).unwrap();
    let patient = json!({
        "resourceType": "Patient", "identifier": [{"system": MRN, "value": mrn}],
        "gender": "female", "birthDate": "1958-03-14"
    });
    let mut entries = vec![json!({
        "fullUrl": "urn:uuid:3afed2f1-26fc-55db-8df0-31393a2091de", "resource": patient,
        "request": {"method": "POST", "url": "Patient"}
    })];
    let mut results = Vec::new();
    for (place, (loinc, unit, values)) in ANALYTES.iter().enumerate() {
        let identifier = format!("{mrn}-{number}-{loinc}");
        let value = values[severity];
        let category = json!([{"coding": [{
            "system": "http://terminology.hl7.org/CodeSystem/observation-category",
            "code": "laboratory"
        }]}]);
        let number: Value = serde_json::from_str(value).unwrap();
        let observation = json!({
            "resourceType": "Observation", "status": if version > 0 { "corrected" } else { "final" },
            "identifier": [{"system": RESULT, "value": identifier}], "category": category,
            "code": {"coding": [{"system": "http://loinc.org", "code": loinc}]},
            "subject": {"reference": "urn:uuid:3afed2f1-26fc-55db-8df0-31393a2091de"},
            "effectiveDateTime": text(drawn), "issued": text(issued),
            "valueQuantity": {
                "value": number, "unit": unit, "system": "http://unitsofmeasure.org", "code": unit
            }
        });
        entries.push(json!({
            "fullUrl": format!("urn:uuid:7e45fa20-f4ac-5d51-8d66-dc897c81d5e{place}"),
            "resource": observation, "request": {"method": "POST", "url": "Observation"}
        }));
        results.push((identifier, issued.unix_timestamp(), value.to_owned()));
    }
    let bundle = json!({"resourceType": "Bundle", "type": "transaction", "entry": entries});
    Submission {
        mrn: mrn.to_owned(),
        body: bundle.to_string().into_bytes(),
        results,
    }
}
