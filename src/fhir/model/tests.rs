use std::collections::BTreeSet;

use serde_json::json;

use super::*;
use crate::fhir::tree;

fn models() -> [Model; 2] {
    [Release::R4, Release::R4b].map(Model::new)
}

fn field(model: &Model, owner: &str, name: &str) -> Field {
    *model.types[model.by_name[owner]]
        .field(name)
        .unwrap_or_else(|| panic!("{owner}.{name}"))
}

#[test]
fn the_graph_holds_together() {
    for model in models() {
        for owner in &model.types {
            assert!(owner.fields.is_sorted_by_key(|(name, _)| order(name)));
            for (name, field) in &owner.fields {
                if let Kind::Complex(id) = field.kind {
                    assert!(id < model.types.len(), "{}.{name}", owner.name);
                }
                if let Some(stem) = field.choice {
                    assert!(
                        name.starts_with(stem) && !field.list,
                        "{}.{name}",
                        owner.name
                    );
                }
            }
        }
        let resources = model.types.iter().filter(|owner| owner.resource).count();
        assert!((140..=160).contains(&resources), "{resources}");
    }
}

#[test]
fn choices_are_those_of_the_specification() {
    for model in models() {
        let stems: BTreeSet<_> = model.types[model.by_name["Observation"]]
            .fields
            .iter()
            .filter_map(|(_, field)| field.choice)
            .collect();
        assert_eq!(stems, BTreeSet::from(["effective", "value"]));
        for (owner, name, stem) in [
            ("Patient", "deceasedDateTime", Some("deceased")),
            ("Patient", "multipleBirthInteger", Some("multipleBirth")),
            ("Patient", "birthDate", None),
            ("Extension", "valueQuantity", Some("value")),
            ("Annotation", "authorString", Some("author")),
            ("Specimen.collection", "collectedPeriod", Some("collected")),
            (
                "MedicationRequest",
                "medicationReference",
                Some("medication"),
            ),
            ("MedicationRequest", "reasonReference", None),
            ("PaymentReconciliation", "paymentDate", None),
            ("Task", "reasonReference", None),
            ("Bundle.entry", "fullUrl", None),
        ] {
            assert_eq!(field(&model, owner, name).choice, stem, "{owner}.{name}");
        }
    }
}

#[test]
fn kinds_are_those_of_the_specification() {
    for model in models() {
        let primitive = |owner, name| match field(&model, owner, name).kind {
            Kind::Primitive(primitive) => primitive,
            other => panic!("{owner}.{name} {other:?}"),
        };
        for (owner, name, kind) in [
            ("Observation", "id", Primitive::Id),
            ("Observation", "status", Primitive::Code),
            ("Observation", "issued", Primitive::Instant),
            ("Observation", "effectiveDateTime", Primitive::DateTime),
            ("Observation", "valueInteger", Primitive::Integer),
            ("Observation", "implicitRules", Primitive::Uri),
            ("Patient", "birthDate", Primitive::Date),
            ("Patient.contact", "id", Primitive::String),
            ("Period", "start", Primitive::DateTime),
            ("Quantity", "value", Primitive::Decimal),
            ("Quantity", "system", Primitive::Uri),
            ("Attachment", "size", Primitive::UnsignedInt),
            ("ContactPoint", "rank", Primitive::PositiveInt),
            ("Narrative", "div", Primitive::String),
            ("HumanName", "given", Primitive::String),
            ("Timing.repeat", "timeOfDay", Primitive::Time),
            ("Extension", "valueBase64Binary", Primitive::String),
        ] {
            assert_eq!(primitive(owner, name), kind, "{owner}.{name}");
        }
        let target = |owner, name| match field(&model, owner, name).kind {
            Kind::Complex(id) => model.types[id].name,
            other => panic!("{owner}.{name} {other:?}"),
        };
        for (owner, name, of) in [
            ("Observation", "text", "Narrative"),
            ("Observation", "meta", "Meta"),
            ("Observation", "extension", "Extension"),
            ("Observation", "component", "Observation.component"),
            (
                "Observation.component",
                "referenceRange",
                "Observation.referenceRange",
            ),
            ("Bundle.entry", "link", "Bundle.link"),
            ("Parameters.parameter", "part", "Parameters.parameter"),
            ("Reference", "identifier", "Identifier"),
            ("Identifier", "assigner", "Reference"),
        ] {
            assert_eq!(target(owner, name), of, "{owner}.{name}");
        }
        assert_eq!(
            field(&model, "Observation", "contained").kind,
            Kind::Resource
        );
        assert!(field(&model, "Observation", "contained").list);
        assert_eq!(
            field(&model, "Bundle.entry", "resource").kind,
            Kind::Resource
        );
        assert!(field(&model, "HumanName", "given").list);
    }
}

#[test]
fn a_path_is_told_as_fhirpath() {
    let [model, _] = models();
    let bundle = json!({ "resourceType": "Bundle", "entry": [{ "resource": {
        "resourceType": "Observation",
        "_effectiveDateTime": { "extension": [{ "valueString": "x" }] },
        "contained": [{ "resourceType": "Patient", "deceasedBoolean": true }],
        "Jane": 1,
    } }] });
    let tree = tree::from_value(&bundle);
    for (pointer, expression) in [
        ("", "Bundle"),
        (
            "/entry/0/resource/valueQuantity/value",
            "Bundle.entry[0].resource.value.value",
        ),
        (
            "/entry/0/resource/_effectiveDateTime/extension/0/valueString",
            "Bundle.entry[0].resource.effective.extension[0].value",
        ),
        (
            "/entry/0/resource/contained/0/deceasedBoolean",
            "Bundle.entry[0].resource.contained[0].deceased",
        ),
        (
            "/entry/0/resource/nonsense/deeper",
            "Bundle.entry[0].resource.nonsense",
        ),
        ("/entry/0/resource/Jane", "Bundle.entry[0].resource"),
        ("/entry/7/resource/code", "Bundle.entry[7].resource.code"),
    ] {
        assert_eq!(
            model.expression(&tree, &Path::from_pointer(pointer)),
            expression
        );
    }
    assert_eq!(model.expression(&Tree::Null, &Path::default()), "Resource");
}
