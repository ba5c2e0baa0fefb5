//! What the generated tables do not say about R4 and R4B, by hand from the specification.

use super::Primitive;

/// What every element has, `_status` beside `status` too.
pub(super) const ELEMENT: &str = "Element";

/// Elements that repeat wherever they occur and are in no table.
pub(super) const LISTS: &[&str] = &["extension", "modifierExtension", "contained"];

/// Names that look like a choice and are two elements.
pub(super) const NO_CHOICE: &[(&str, &str)] = &[
    ("PaymentReconciliation", "paymentDate"),
    ("PaymentReconciliation", "paymentIdentifier"),
];

/// The primitive type that a choice element may end in.
pub(super) fn primitive(suffix: &str) -> Option<Primitive> {
    Some(match suffix {
        "Boolean" => Primitive::Boolean,
        "Integer" => Primitive::Integer,
        "UnsignedInt" => Primitive::UnsignedInt,
        "PositiveInt" => Primitive::PositiveInt,
        "Decimal" => Primitive::Decimal,
        "String" | "Markdown" => Primitive::String,
        "Code" => Primitive::Code,
        "Id" => Primitive::Id,
        "Uri" | "Url" | "Canonical" | "Oid" | "Uuid" => Primitive::Uri,
        "Date" => Primitive::Date,
        "DateTime" => Primitive::DateTime,
        "Instant" => Primitive::Instant,
        "Time" => Primitive::Time,
        "Base64Binary" => Primitive::Base64,
        _ => return None,
    })
}

/// Which primitive an element is that the tables only know to be written as a string. Where one
/// name is a `date` here and a `dateTime` there, the wider form is allowed.
pub(super) fn string_kind(owner: &str, element: &str, resource: bool) -> Primitive {
    match (owner, element) {
        (_, "id") if resource => return Primitive::Id,
        ("Meta", "versionId") => return Primitive::Id,
        (
            "Coding" | "Quantity" | "Age" | "Count" | "Distance" | "Duration" | "Money",
            "code" | "comparator",
        )
        | (_, "status" | "gender" | "use" | "intent")
        | ("Bundle", "type")
        | ("Bundle.entry.request", "method")
        | ("ContactPoint", "system") => return Primitive::Code,
        (_, "system" | "url" | "fullUrl" | "implicitRules") | ("Meta", "source" | "profile") => {
            return Primitive::Uri;
        }
        ("Attachment" | "Binary" | "Signature", "data") => return Primitive::Base64,
        ("SampledData", _) => return Primitive::String,

        ("Meta" | "CatalogEntry", "lastUpdated")
        | ("Bundle", "timestamp")
        | ("Bundle.entry.response", "lastModified")
        | ("Bundle.entry.request", "ifModifiedSince")
        | ("Observation" | "DiagnosticReport" | "Media", "issued")
        | ("Provenance" | "AuditEvent", "recorded")
        | ("Signature", "when")
        | ("DocumentReference", "date")
        | ("Appointment" | "AppointmentResponse" | "Slot", "start" | "end")
        | ("Subscription", "end") => return Primitive::Instant,

        (_, "birthDate" | "approvalDate" | "lastReviewDate")
        | ("Immunization", "expirationDate")
        | ("Goal", "statusDate") => return Primitive::Date,

        (
            _,
            "date" | "authoredOn" | "authored" | "recordedDate" | "dateAsserted" | "created"
            | "receivedTime" | "whenHandedOver" | "whenPrepared" | "lastOccurrence" | "enteredDate"
            | "manufactureDate" | "expirationDate" | "sent" | "received" | "started" | "creation"
            | "recordedOn" | "dateWritten" | "publicationDate" | "presentationDate" | "statusDate"
            | "paymentDate",
        )
        | ("Period", "start" | "end")
        | ("Immunization", "recorded")
        | ("Task", "lastModified")
        | ("Annotation" | "Composition.attester" | "DeviceMetric.calibration", "time")
        | ("NutritionOrder" | "Consent", "dateTime") => return Primitive::DateTime,

        (_, "openingTime" | "closingTime" | "availableStartTime" | "availableEndTime")
        | ("Timing.repeat", "timeOfDay") => return Primitive::Time,
        _ => {}
    }
    // `valueDateTime`, `effectiveInstant`: the type is the end of the name. Only where the rest is
    // a stem that choices have, for `planId` and `startTime` end in a type's name by accident.
    element
        .char_indices()
        .filter(|(at, letter)| *at > 0 && letter.is_ascii_uppercase())
        .filter_map(|(at, _)| element.split_at_checked(at))
        .find_map(|(stem, rest)| {
            CHOICE_STEMS
                .contains(&stem)
                .then(|| primitive(rest))
                .flatten()
        })
        .unwrap_or(Primitive::String)
}

/// Stems of choices that may be a primitive written as a string.
const CHOICE_STEMS: &[&str] = &[
    "abatement",
    "allowed",
    "answer",
    "author",
    "born",
    "collected",
    "date",
    "deceased",
    "defaultValue",
    "definition",
    "due",
    "effective",
    "event",
    "fixed",
    "identified",
    "instantiates",
    "maxValue",
    "minValue",
    "occurred",
    "occurrence",
    "onset",
    "participantEffective",
    "pattern",
    "performed",
    "serviced",
    "source",
    "start",
    "studyEffective",
    "target",
    "time",
    "timing",
    "value",
];

/// What the specification demands (minimum 1) of the types that reach us or that we send. A name
/// is an element or the stem of a choice.
pub(super) fn required(type_name: &str) -> &'static [&'static str] {
    match type_name {
        "Extension" => &["url"],
        "Narrative" => &["status", "div"],
        "Bundle.link" => &["relation", "url"],
        "Bundle.entry.response" => &["status"],
        "Annotation" => &["text"],
        "Observation" | "DiagnosticReport" => &["status", "code"],
        "Observation.component" | "FamilyMemberHistory.condition" => &["code"],
        "DiagnosticReport.media" => &["link"],
        "Patient.communication" => &["language"],
        "Patient.link" => &["other", "type"],
        "Condition" => &["subject"],
        "Procedure" => &["status", "subject"],
        "Procedure.performer" => &["actor"],
        "Procedure.focalDevice" => &["manipulated"],
        "MedicationStatement" => &["status", "medication", "subject"],
        "MedicationRequest" => &["status", "intent", "medication", "subject"],
        "MedicationAdministration" => &["status", "medication", "subject", "effective"],
        "FamilyMemberHistory" => &["status", "patient", "relationship"],
        "AllergyIntolerance" => &["patient"],
        "Immunization" => &["status", "vaccineCode", "patient", "occurrence"],
        "Encounter" => &["status", "class"],
        "ServiceRequest" => &["status", "intent", "subject"],
        "Composition" => &["status", "type", "date", "author", "title"],
        "MessageHeader" => &["event", "source"],
        "MessageHeader.source" | "MessageHeader.destination" => &["endpoint"],
        "MessageHeader.response" => &["identifier", "code"],
        "Flag" => &["status", "code", "subject"],
        "Provenance" => &["target", "recorded", "agent"],
        "Provenance.agent" => &["who"],
        "Provenance.entity" => &["role", "what"],
        "Device.deviceName" => &["name", "type"],
        "Device.version" => &["value"],
        "OperationOutcome" => &["issue"],
        "OperationOutcome.issue" => &["severity", "code"],
        "Parameters.parameter" => &["name"],
        "Group" => &["type", "actual"],
        "Binary" => &["contentType"],
        _ => &[],
    }
}
