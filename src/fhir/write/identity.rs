//! Deterministic identities: the same finding gets the same id on every replica and every replay,
//! and none of them tells who the patient is.

use std::sync::LazyLock;

use data_encoding::{BASE32_NOPAD, HEXLOWER};
use hmac::{Hmac, Mac};
use serde_json::Value;
use sha2::{Digest, Sha256};
use time::UtcOffset;
use uuid::Uuid;

use super::words;
use crate::{
    clinical::{
        assessment::{Family, IndexSpecimen},
        time::Precision,
    },
    fhir::read::PatientKey,
};

/// Base of every canonical URL. It names definitions, not installations.
pub const CANON: &str = "https://marrowflag.org/fhir";

/// Key of the ids that commands make which store nothing: public on purpose, so that the same
/// file gives the same ids everywhere, and never those of a service.
pub const PUBLIC_KEY: &[u8] = b"marrowflag: ids without a store.";

/// Major version of the rules: a new one starts new reports, never new Flags.
pub const RULES_MAJOR: &str = "1";

/// Identifier system of Flags.
pub const FLAG_SYSTEM: &str = "https://marrowflag.org/fhir/NamingSystem/mf-flag";
/// Identifier system of reports.
pub const REPORT_SYSTEM: &str = "https://marrowflag.org/fhir/NamingSystem/mf-report";
/// Identifier system of derived Observations.
pub const OBSERVATION_SYSTEM: &str = "https://marrowflag.org/fhir/NamingSystem/mf-observation";
/// Identifier system of the software.
pub const DEVICE_SYSTEM: &str = "https://marrowflag.org/fhir/NamingSystem/mf-device";

/// Extension that carries a Flag's priority.
pub const FLAG_PRIORITY: &str = "http://hl7.org/fhir/StructureDefinition/flag-priority";

/// HMAC-SHA-256 over tenant and id-forming key, so that ids do not leak record numbers. A bare
/// reference means something only together with the client that sent it; an identifier does not.
pub fn patient_key(identity_key: &[u8], tenant: &str, client: &str, key: &PatientKey) -> [u8; 32] {
    let parts = match key {
        PatientKey::Identifier { system, value } => [tenant, "identifier", system, value],
        PatientKey::Reference(reference) => [tenant, "reference", client, reference],
    };
    #[expect(
        clippy::expect_used,
        clippy::missing_panics_doc,
        reason = "HMAC takes keys of every length"
    )]
    let mut mac =
        Hmac::<Sha256>::new_from_slice(identity_key).expect("HMAC takes keys of every length");
    for part in parts {
        // Lengths first: no two lists of parts may read the same.
        mac.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        mac.update(part.as_bytes());
    }
    mac.finalize().into_bytes().into()
}

/// Business identifier of the Flag of one patient and family. Without a version of the model: the
/// Flag outlives it.
pub fn flag_identifier(tenant: &str, patient_key: &[u8; 32], family: Family) -> String {
    short(&format!(
        "flag|1|{tenant}|{}|{}",
        HEXLOWER.encode(patient_key),
        family.as_str()
    ))
}

/// Business identifier of the report of one specimen.
pub fn report_identifier(tenant: &str, patient_key: &[u8; 32], index: &IndexSpecimen) -> String {
    // A day has no instant: midnight of an offset would make two ids of one day.
    let at = match index.at.precision {
        Precision::Day => index.at.day().to_string(),
        Precision::Instant => words::instant(index.at.instant.to_offset(UtcOffset::UTC)),
    };
    short(&format!(
        "report|1|{tenant}|{}|{at}|{}|{RULES_MAJOR}",
        HEXLOWER.encode(patient_key),
        index.specimen.as_deref().unwrap_or_default()
    ))
}

/// Business identifier of a derived Observation: that of its report and its code.
pub fn observation_identifier(report_identifier: &str, code: &str) -> String {
    format!("{report_identifier}.{code}")
}

/// Business identifier of the software as configured.
pub fn device_identifier(configuration: &str) -> String {
    format!("marrowflag:{}:{configuration}", env!("CARGO_PKG_VERSION"))
}

/// Eight hex digits over everything configured that changes what is written.
pub fn configuration_hash(settings: &[&str]) -> String {
    let mut hash = Sha256::new();
    for setting in settings {
        hash.update(
            u64::try_from(setting.len())
                .unwrap_or(u64::MAX)
                .to_be_bytes(),
        );
        hash.update(setting.as_bytes());
    }
    first(&HEXLOWER.encode(&hash.finalize()), 8)
}

/// What identifies a Provenance: the resources it is about (`Flag/mf-...`, with the content hash
/// each has now), in any order.
pub fn provenance_identifier(targets: &[(String, String)]) -> String {
    let mut targets = targets.to_vec();
    targets.sort();
    let ids: Vec<&str> = targets.iter().map(|(id, _)| id.as_str()).collect();
    let hashes: Vec<&str> = targets.iter().map(|(_, hash)| hash.as_str()).collect();
    let name = format!("{}|{}", ids.join(","), hashes.join(","));
    Uuid::new_v5(&NAMESPACE, name.as_bytes()).to_string()
}

/// Logical id: `mf-` and a name-based UUID over type and identifier.
pub fn resource_id(kind: &str, identifier: &str) -> String {
    format!(
        "mf-{}",
        Uuid::new_v5(&NAMESPACE, format!("{kind}|{identifier}").as_bytes())
    )
}

/// Logical id of the Flag of one patient and family.
pub fn flag_id(tenant: &str, patient_key: &[u8; 32], family: Family) -> String {
    resource_id("Flag", &flag_identifier(tenant, patient_key, family))
}

/// Logical id of the report of one specimen.
pub fn report_id(tenant: &str, patient_key: &[u8; 32], index: &IndexSpecimen) -> String {
    resource_id(
        "DiagnosticReport",
        &report_identifier(tenant, patient_key, index),
    )
}

/// Logical id of a derived Observation.
pub fn observation_id(report_identifier: &str, code: &str) -> String {
    resource_id(
        "Observation",
        &observation_identifier(report_identifier, code),
    )
}

/// SHA-256 over the canonical JSON without `id`, `meta`, `text` and `issued`; 16 hex digits. Equal
/// hash: nothing a reader would notice has changed.
pub fn content_hash(resource: &Value) -> String {
    let mut text = String::new();
    match resource {
        Value::Object(members) => {
            let kept = members
                .iter()
                .filter(|(name, _)| !matches!(name.as_str(), "id" | "meta" | "text" | "issued"));
            object(&mut text, kept);
        }
        other => canonical(&mut text, other),
    }
    first(&HEXLOWER.encode(&Sha256::digest(text.as_bytes())), 16)
}

/// Hash over what a person may edit on a Flag: status, code, category, period and priority. Compared
/// with that of our last write, it tells a person's edit from a server's own additions.
pub fn edit_hash(flag: &Value) -> String {
    let priority = flag
        .get("extension")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .find(|extension| extension.get("url").and_then(Value::as_str) == Some(FLAG_PRIORITY));
    let part = |name: &str| flag.get(name).cloned().unwrap_or_default();
    content_hash(&serde_json::json!({
        "status": part("status"),
        "code": part("code"),
        "category": part("category"),
        "period": part("period"),
        "priority": priority
    }))
}

/// Canonical JSON: no spaces, members sorted by name, numbers as written. Own code because
/// `preserve_order` keeps `serde_json` from sorting, and a decimal must stay as it is.
fn canonical(text: &mut String, value: &Value) {
    match value {
        Value::Object(members) => object(text, members.iter()),
        Value::Array(items) => {
            text.push('[');
            for (position, item) in items.iter().enumerate() {
                if position > 0 {
                    text.push(',');
                }
                canonical(text, item);
            }
            text.push(']');
        }
        Value::String(string) => quoted(text, string),
        Value::Number(number) => text.push_str(number.as_str()),
        Value::Bool(true) => text.push_str("true"),
        Value::Bool(false) => text.push_str("false"),
        Value::Null => text.push_str("null"),
    }
}

fn object<'v>(text: &mut String, members: impl Iterator<Item = (&'v String, &'v Value)>) {
    let mut members: Vec<_> = members.collect();
    members.sort_unstable_by_key(|(name, _)| name.as_str());
    text.push('{');
    for (position, (name, value)) in members.into_iter().enumerate() {
        if position > 0 {
            text.push(',');
        }
        quoted(text, name);
        text.push(':');
        canonical(text, value);
    }
    text.push('}');
}

/// A JSON string; nearly none of ours has a character that must be escaped.
fn quoted(text: &mut String, string: &str) {
    if string
        .bytes()
        .any(|byte| byte < 0x20 || byte == b'"' || byte == b'\\')
    {
        text.push_str(&Value::from(string).to_string());
    } else {
        text.push('"');
        text.push_str(string);
        text.push('"');
    }
}

/// Namespace of our name-based UUIDs: that of [`CANON`] as a URL.
static NAMESPACE: LazyLock<Uuid> =
    LazyLock::new(|| Uuid::new_v5(&Uuid::NAMESPACE_URL, CANON.as_bytes()));

fn short(name: &str) -> String {
    first(&BASE32_NOPAD.encode(&Sha256::digest(name.as_bytes())), 26)
}

fn first(text: &str, characters: usize) -> String {
    text.chars().take(characters).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clinical::time::SampleTime;
    use serde_json::json;
    use std::sync::Arc;
    use time::{OffsetDateTime, macros::datetime};

    fn key() -> [u8; 32] {
        patient_key(
            PUBLIC_KEY,
            "default",
            "",
            &PatientKey::Identifier {
                system: "urn:oid:1.2.3".into(),
                value: "4711".into(),
            },
        )
    }

    fn at(instant: OffsetDateTime, precision: Precision) -> IndexSpecimen {
        IndexSpecimen {
            at: SampleTime { instant, precision },
            specimen: None,
        }
    }

    #[test]
    fn a_reference_belongs_to_its_client_and_an_identifier_to_all() {
        let reference = PatientKey::Reference("Patient/p1".into());
        assert_ne!(
            patient_key(PUBLIC_KEY, "t", "a", &reference),
            patient_key(PUBLIC_KEY, "t", "b", &reference)
        );
        let identifier = PatientKey::Identifier {
            system: "s".into(),
            value: "v".into(),
        };
        assert_eq!(
            patient_key(PUBLIC_KEY, "t", "a", &identifier),
            patient_key(PUBLIC_KEY, "t", "b", &identifier)
        );
        assert_ne!(
            patient_key(PUBLIC_KEY, "t", "a", &identifier),
            patient_key(b"another", "t", "a", &identifier)
        );
    }

    #[test]
    fn moving_a_character_between_the_parts_is_another_patient() {
        let key = |system: &str, value: &str| {
            patient_key(
                PUBLIC_KEY,
                "t",
                "",
                &PatientKey::Identifier {
                    system: system.into(),
                    value: value.into(),
                },
            )
        };
        assert_ne!(key("ab", "c"), key("a", "bc"));
    }

    #[test]
    fn one_instant_in_two_offsets_is_one_report() {
        let utc = at(datetime!(2026-11-18 08:00 UTC), Precision::Instant);
        let vienna = at(datetime!(2026-11-18 09:00 +1), Precision::Instant);
        assert_eq!(
            report_id("t", &key(), &utc),
            report_id("t", &key(), &vienna)
        );
        let numbered = IndexSpecimen {
            specimen: Some(Arc::from("A-1")),
            ..utc.clone()
        };
        assert_ne!(
            report_id("t", &key(), &utc),
            report_id("t", &key(), &numbered)
        );
    }

    #[test]
    fn a_day_is_one_report_whatever_its_offset() {
        let utc = at(datetime!(2026-11-18 00:00 UTC), Precision::Day);
        let vienna = at(datetime!(2026-11-18 00:00 +1), Precision::Day);
        assert_eq!(
            report_id("t", &key(), &utc),
            report_id("t", &key(), &vienna)
        );
    }

    #[test]
    fn content_hash_sees_content_only() {
        let plain = json!({"resourceType": "Flag", "status": "active", "n": 1});
        let dressed = json!({
            "n": 1, "status": "active", "id": "x", "meta": {"versionId": "7"},
            "text": {"status": "generated"}, "issued": "2026-11-18T00:00:00Z", "resourceType": "Flag"
        });
        assert_eq!(content_hash(&plain), content_hash(&dressed));
        assert_ne!(
            content_hash(&plain),
            content_hash(&json!({"resourceType": "Flag", "status": "inactive", "n": 1}))
        );
        // Only the resource's own elements are left out, not those of the same name deeper down.
        assert_ne!(
            content_hash(&json!({"code": {"text": "a"}})),
            content_hash(&json!({"code": {"text": "b"}}))
        );
    }
}
