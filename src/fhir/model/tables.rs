//! What the generated tables do not say: which form a primitive written as a string has, and
//! which elements must be there. Both come from the definitions of R4 (4.0.1), as
//! `elements.tsv`; an element that R4B has not, or has under another name, is left alone there.

use std::{collections::HashMap, sync::LazyLock};

use super::Primitive;

/// What every element has, `_status` beside `status` too.
pub(super) const ELEMENT: &str = "Element";

/// Elements that repeat wherever they occur and are in no table.
pub(super) const LISTS: &[&str] = &["extension", "modifierExtension", "contained"];

/// Types and stems that look like a choice and are elements of their own, which may stand together.
pub(super) const NO_CHOICE: &[(&str, &str)] = &[
    ("ClinicalImpression.finding", "item"),
    ("Contract", "instantiates"),
    ("ImagingStudy", "procedure"),
    ("MolecularSequence.referenceSeq", "referenceSeq"),
    ("PaymentReconciliation", "payment"),
    ("Task", "instantiates"),
    ("Task", "reason"),
    ("TestScript.setup.action.assert", "compareToSource"),
];

/// What `elements.tsv` says of one type.
#[derive(Debug, Default)]
struct Row {
    forms: HashMap<&'static str, Primitive>,
    required: Vec<&'static str>,
}

static ROWS: LazyLock<HashMap<&'static str, Row>> = LazyLock::new(|| {
    let mut rows: HashMap<&'static str, Row> = HashMap::new();
    for line in include_str!("elements.tsv").lines().skip(1) {
        let mut columns = line.split('\t');
        let (Some(owner), Some(element)) = (columns.next(), columns.next()) else {
            continue;
        };
        let row = rows.entry(owner).or_default();
        if let Some(form) = columns.next().and_then(form) {
            row.forms.insert(element, form);
        }
        if columns.next().is_some() {
            row.required.push(element);
        }
    }
    rows
});

fn form(name: &str) -> Option<Primitive> {
    Some(match name {
        "code" => Primitive::Code,
        "id" => Primitive::Id,
        "uri" => Primitive::Uri,
        "date" => Primitive::Date,
        "dateTime" => Primitive::DateTime,
        "instant" => Primitive::Instant,
        "time" => Primitive::Time,
        _ => return None,
    })
}

/// Elements that must be there, choices by their stem.
pub(super) fn required(type_name: &str) -> &'static [&'static str] {
    ROWS.get(type_name).map_or(&[], |row| &row.required)
}

/// The primitive type that the name of a choice element may end in.
pub(super) fn primitive(suffix: &str) -> Option<Primitive> {
    Some(match suffix {
        "Boolean" => Primitive::Boolean,
        "Integer" => Primitive::Integer,
        "UnsignedInt" => Primitive::UnsignedInt,
        "PositiveInt" => Primitive::PositiveInt,
        "Decimal" => Primitive::Decimal,
        "String" | "Markdown" | "Base64Binary" => Primitive::String,
        "Code" => Primitive::Code,
        "Id" => Primitive::Id,
        "Uri" | "Url" | "Canonical" | "Oid" | "Uuid" => Primitive::Uri,
        "Date" => Primitive::Date,
        "DateTime" => Primitive::DateTime,
        "Instant" => Primitive::Instant,
        "Time" => Primitive::Time,
        _ => return None,
    })
}

/// The form of an element that is written as a string. `stem` is that of a choice: there, the
/// name says it.
pub(super) fn string_form(
    owner: &str,
    element: &str,
    stem: Option<&str>,
    resource: bool,
) -> Primitive {
    if element == "id" && resource {
        return Primitive::Id;
    }
    if element == "implicitRules" && resource {
        return Primitive::Uri;
    }
    stem.and_then(|stem| element.strip_prefix(stem))
        .and_then(primitive)
        .or_else(|| ROWS.get(owner)?.forms.get(element).copied())
        .unwrap_or(Primitive::String)
}
