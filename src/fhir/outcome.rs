//! OperationOutcome: one issue per problem, in words that are never reused.
//!
//! A word says what is wrong in a way that software can act on; the sentence beside it says it to
//! people. Neither repeats what was sent: an OperationOutcome ends up in logs and mailboxes where
//! a patient's data has no business.

use serde_json::{Value, json};

/// Where the words are defined.
pub const CODE_SYSTEM: &str = "https://marrowflag.org/fhir/CodeSystem/mf-outcome";

/// Issues that one OperationOutcome carries at most, before `more-issues`.
pub const MAX_ISSUES: usize = 100;

/// `issue.severity`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// `information`.
    Information,
    /// `warning`.
    Warning,
    /// `error`.
    Error,
    /// `fatal`.
    Fatal,
}

impl Severity {
    /// The code in FHIR.
    pub fn code(self) -> &'static str {
        match self {
            Self::Information => "information",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Fatal => "fatal",
        }
    }
}

/// A word of the code system `mf-outcome`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Word {
    /// The word.
    pub name: &'static str,
    /// `issue.code` that goes with it.
    pub issue_type: &'static str,
    /// How bad it usually is.
    pub severity: Severity,
    /// What it means.
    pub meaning: &'static str,
}

macro_rules! words {
    ($($constant:ident, $name:literal, $issue_type:literal, $severity:ident, $meaning:literal;)*) => {
        /// The words as constants.
        pub mod word {
            $(#[doc = $meaning] pub const $constant: &str = $name;)*
        }

        /// Every word there is.
        pub const WORDS: &[Word] = &[
            $(Word {
                name: $name,
                issue_type: $issue_type,
                severity: Severity::$severity,
                meaning: $meaning,
            },)*
        ];
    };
}

words! {
    BROKEN_TEXT, "broken-text", "structure", Fatal, "Not JSON (or XML), bad UTF-8, lone surrogate, cut off, bytes after the end, forbidden XML (DOCTYPE, entity, processing instruction).";
    BYTE_ORDER_MARK, "byte-order-mark", "structure", Warning, "A leading BOM was stripped.";
    DUPLICATE_KEY, "duplicate-key", "structure", Error, "One member twice in an object.";
    EMPTY_VALUE, "empty-value", "structure", Error, "`[]`, `{}`, `\"\"`, or `null` where none may stand.";
    JSON_TYPE, "json-type", "structure", Error, "Array where an object belongs, or the reverse.";
    RESOURCE_TYPE, "resource-type", "structure", Error, "`resourceType` missing or unknown.";
    UNKNOWN_ELEMENT, "unknown-element", "structure", Error, "An element the base specification does not know there.";
    VALUE, "value", "value", Error, "Wrong kind or form of a primitive: quoted number, date that does not exist, ids that differ, wrong hook.";
    REQUIRED, "required", "required", Error, "A required element is missing, the subject too.";
    CODE_INVALID, "code-invalid", "code-invalid", Error, "Not a code of the required binding (e); or not a possible code for its use: check digit, LOINC part or answer, no system (w).";
    INVARIANT, "invariant", "invariant", Error, "An invariant of FHIR or of our profile is broken; its key stands in the text.";
    EXTENSION, "extension", "extension", Error, "Unknown `modifierExtension`.";
    NOT_SUPPORTED, "not-supported", "not-supported", Error, "Type, verb, operation, media type, event, Bundle type or criterion we do not serve (e); kind of value we do not read (i).";
    PARAMETER_UNKNOWN, "parameter-unknown", "not-supported", Error, "Query parameter we do not know: refused with `handling=strict`, else ignored.";
    NOT_FOUND, "not-found", "not-found", Error, "A `#id` or `urn:` reference leads nowhere (e); a panel's member is not found (w).";
    MULTIPLE_MATCHES, "multiple-matches", "multiple-matches", Error, "Keys or criteria fit more than one.";
    TWO_PATIENTS, "two-patients", "business-rule", Error, "Report and result have different subjects.";
    CONFLICT, "conflict", "conflict", Error, "Two statements that cannot both hold: `If-Match`, an older document (e); codings of two analytes, two values of one analyte, an older version of a result (w).";
    DUPLICATE, "duplicate", "duplicate", Error, "Seen before with other content: message id or `Idempotency-Key` reused (e); message or Bundle processed again (w).";
    LOCK_ERROR, "lock-error", "lock-error", Error, "Its twin is still running.";
    TOO_LONG, "too-long", "too-long", Error, "Body, URI, string, number or list of entries over its limit.";
    TOO_COSTLY, "too-costly", "too-costly", Error, "Nesting, members or items over their limit.";
    LOGIN, "login", "login", Error, "No token.";
    TOKEN_INVALID, "token-invalid", "unknown", Error, "A token that proves nothing.";
    EXPIRED, "expired", "expired", Error, "Token too old.";
    FORBIDDEN, "forbidden", "forbidden", Error, "Scope or tenant does not allow it.";
    THROTTLED, "throttled", "throttled", Error, "Rate, queue or bytes in flight over their limit.";
    TIMEOUT, "timeout", "timeout", Error, "Our own deadline passed.";
    NO_STORE, "no-store", "no-store", Error, "The store cannot keep it (full, read-only).";
    TRANSIENT, "transient", "transient", Error, "Cannot be done now, may work later.";
    EXCEPTION, "exception", "exception", Fatal, "Our bug; the request id only.";
    DATA_INCOMPLETE, "data-incomplete", "incomplete", Error, "CDS Hooks: the counts asked for were not sent and cannot be fetched.";
    MORE_ISSUES, "more-issues", "informational", Information, "The cap of 100 was reached; how many more.";
    CONTEXT, "context", "informational", Information, "Used as context, not stored.";
    ASSESSMENT, "assessment", "informational", Information, "What was found, in one line.";
    CHANGED_FINAL, "changed-final", "business-rule", Warning, "Content changed while the status stayed `final`; taken as a correction.";
    NOT_EVALUATED, "not-evaluated", "business-rule", Warning, "Status `unknown`, `registered`, `cancelled`: kept, not used.";
    CODE_SYSTEM_ALIAS, "code-system-alias", "code-invalid", Warning, "Another spelling of the LOINC system.";
    CODE_NOT_USED, "code-not-used", "code-invalid", Information, "No code that the model uses; kept.";
    CODE_DO_NOT_USE, "code-do-not-use", "business-rule", Warning, "A code that looks right and means something else, refused by name.";
    CODE_DEPRECATED, "code-deprecated", "code-invalid", Information, "LOINC has withdrawn the code; its successor is named.";
    CATEGORY_DIFFERS, "category-differs", "business-rule", Warning, "Blood count filed as vital sign or survey.";
    PANEL_VALUE, "panel-value", "business-rule", Warning, "A panel code with a value of its own.";
    PANEL_EMPTY, "panel-empty", "business-rule", Information, "A panel without members.";
    SPECIMEN_NOT_BLOOD, "specimen-not-blood", "business-rule", Warning, "Blood code, other specimen.";
    CORD_BLOOD, "cord-blood", "business-rule", Information, "Cord or fetal blood.";
    NOT_THE_PATIENT, "not-the-patient", "business-rule", Warning, "Subject is a group, device or location; `focus` set; specimen of someone else.";
    UNIT_NOT_UCUM, "unit-not-ucum", "code-invalid", Warning, "Alias in `code`; the right UCUM code is named.";
    UNIT_TEXT, "unit-text", "code-invalid", Warning, "Read from `unit`, no `code`.";
    UNIT_SYSTEM_MISSING, "unit-system-missing", "code-invalid", Warning, "Unit code without system.";
    UNIT_CONFLICT, "unit-conflict", "business-rule", Warning, "`code` and `unit` differ in factor.";
    UNIT_MISSING, "unit-missing", "business-rule", Warning, "No unit.";
    UNIT_UNKNOWN, "unit-unknown", "code-invalid", Warning, "Unit in no table for this analyte, ambiguous, of another system, or without conversion.";
    UNIT_KIND, "unit-kind", "business-rule", Warning, "Unit of another family than the code: count against percent.";
    PROPERTY_MISMATCH, "property-mismatch", "business-rule", Warning, "Unit of a sister property; read by the unit.";
    VALUE_IMPLAUSIBLE, "value-implausible", "business-rule", Warning, "Outside the hard range, negative too.";
    UNIT_SUSPECT, "unit-suspect", "business-rule", Warning, "Possible, but ordinary under another unit.";
    UNIT_INCONSISTENT, "unit-inconsistent", "business-rule", Warning, "Other values of the specimen contradict it.";
    UNIT_DELTA, "unit-delta", "business-rule", Warning, "Differs from the patient's own last value by a unit's factor.";
    ZERO_PLATELETS, "zero-platelets", "business-rule", Warning, "Platelets 0: used, verify.";
    VALUE_TEXT, "value-text", "value", Warning, "Number and unit read from a text.";
    NUMBER_AMBIGUOUS, "number-ambiguous", "value", Warning, "A separator that may mean thousands or decimals.";
    TEXT_ONLY, "text-only", "value", Warning, "A text that is not a number.";
    VALUE_KIND, "value-kind", "value", Warning, "Another kind of value than the code has; read all the same.";
    COMPARATOR_IGNORED, "comparator-ignored", "value", Warning, "Comparator `=` read as none.";
    NOT_MEASURED, "not-measured", "business-rule", Warning, "Sent as not done, insufficient, haemolysed ….";
    CLOTTED, "clotted", "business-rule", Warning, "Clotted specimen: the whole count is refused.";
    CLUMPED, "clumped", "business-rule", Warning, "Platelets clumped: count unknown.";
    BANDS_EXCLUDED, "bands-excluded", "business-rule", Warning, "The sender's neutrophils leave out bands; added.";
    INTERPRETATION_DIFFERS, "interpretation-differs", "business-rule", Warning, "The sender's flag says the other direction.";
    DAY_PRECISION, "day-precision", "value", Warning, "No time of day, or exactly local midnight: the day is used.";
    TIME_IMPRECISE, "time-imprecise", "value", Warning, "Month or year only: not used in series.";
    TIME_APPROXIMATE, "time-approximate", "value", Warning, "No sample time; `issued` used.";
    TIME_MISSING, "time-missing", "required", Warning, "No time at all: not used.";
    PERIOD_LONG, "period-long", "value", Warning, "`effectivePeriod` longer than 24 h.";
    FUTURE, "future", "business-rule", Warning, "Sampled more than 24 h after the time of the assessment: not used.";
    PATIENT_INACTIVE, "patient-inactive", "business-rule", Warning, "`Patient.active` is false.";
    PATIENT_MERGED, "patient-merged", "business-rule", Warning, "`Patient.link` replaced-by: held for review.";
}

/// The entry of `name` in [`WORDS`].
pub fn lookup(name: &str) -> Option<&'static Word> {
    WORDS.iter().find(|word| word.name == name)
}

/// One problem, or one thing worth saying.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issue {
    /// How bad.
    pub severity: Severity,
    /// Word of the code system `mf-outcome`.
    pub word: &'static str,
    /// `details.text`: one sentence, no value and no identifier of a patient.
    pub text: String,
    /// Technical addition.
    pub diagnostics: Option<String>,
    /// Simple FHIRPath of the element: `Bundle.entry[3].resource.status`.
    pub expression: Option<String>,
}

impl Issue {
    fn new(severity: Severity, word: &'static str, text: impl Into<String>) -> Self {
        Self {
            severity,
            word,
            text: text.into(),
            diagnostics: None,
            expression: None,
        }
    }

    /// The body as a whole cannot be used.
    pub fn fatal(word: &'static str, text: impl Into<String>) -> Self {
        Self::new(Severity::Fatal, word, text)
    }

    /// Refuses what it is about.
    pub fn error(word: &'static str, text: impl Into<String>) -> Self {
        Self::new(Severity::Error, word, text)
    }

    /// Accepted, but somebody should look.
    pub fn warning(word: &'static str, text: impl Into<String>) -> Self {
        Self::new(Severity::Warning, word, text)
    }

    /// Good to know.
    pub fn information(word: &'static str, text: impl Into<String>) -> Self {
        Self::new(Severity::Information, word, text)
    }

    /// As bad as the word usually is.
    pub fn usual(word: &'static str, text: impl Into<String>) -> Self {
        let severity = lookup(word).map_or(Severity::Error, |word| word.severity);
        Self::new(severity, word, text)
    }

    /// About the element at this FHIRPath.
    pub fn at(mut self, expression: impl Into<String>) -> Self {
        self.expression = Some(expression.into());
        self
    }

    /// With a technical addition, if there is any: FHIR knows no empty string.
    pub fn diagnosed(mut self, diagnostics: impl Into<String>) -> Self {
        self.diagnostics = Some(diagnostics.into()).filter(|text| !text.is_empty());
        self
    }

    /// The same thing said more mildly.
    pub fn as_warning(self) -> Self {
        Self {
            severity: Severity::Warning,
            ..self
        }
    }

    /// An error or worse.
    pub fn is_error(&self) -> bool {
        self.severity >= Severity::Error
    }

    /// `issue.code`.
    pub fn issue_type(&self) -> &'static str {
        lookup(self.word).map_or("processing", |word| word.issue_type)
    }

    fn to_fhir(&self) -> Value {
        let mut issue = json!({
            "severity": self.severity.code(),
            "code": self.issue_type(),
            "details": {
                "coding": [{ "system": CODE_SYSTEM, "code": self.word }],
                "text": self.text,
            },
        });
        if let Value::Object(members) = &mut issue {
            if let Some(diagnostics) = &self.diagnostics {
                members.insert("diagnostics".to_owned(), json!(diagnostics));
            }
            if let Some(expression) = &self.expression {
                members.insert("expression".to_owned(), json!([expression]));
            }
        }
        issue
    }
}

/// The OperationOutcome of these issues: the worst first, otherwise in the order given, at most
/// [`MAX_ISSUES`] and then how many more. Nothing to say is said, for FHIR wants one issue.
pub fn operation_outcome(issues: &[Issue]) -> Value {
    let mut sorted: Vec<&Issue> = issues.iter().collect();
    sorted.sort_by_key(|issue| std::cmp::Reverse(issue.severity));
    let mut list: Vec<Value> = sorted
        .iter()
        .take(MAX_ISSUES)
        .map(|issue| issue.to_fhir())
        .collect();
    let more = issues.len().saturating_sub(MAX_ISSUES);
    if more > 0 {
        let text = format!("{more} more");
        list.push(Issue::information(word::MORE_ISSUES, text).to_fhir());
    }
    if list.is_empty() {
        list.push(json!({
            "severity": "information",
            "code": "informational",
            "details": { "text": "No issues" },
        }));
    }
    json!({ "resourceType": "OperationOutcome", "issue": list })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_word_has_one_meaning() {
        let names: HashSet<_> = WORDS.iter().map(|word| word.name).collect();
        assert_eq!(names.len(), WORDS.len());
        for word in WORDS {
            assert!(
                word.name
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b == b'-')
            );
            assert!(word.meaning.ends_with('.'), "{}", word.name);
        }
    }

    #[test]
    fn an_issue_carries_word_sentence_and_place() {
        let issue = Issue::usual(
            word::DAY_PRECISION,
            "Result date has no time; day precision used",
        )
        .at("Bundle.entry[0].resource.effective");
        assert_eq!(
            operation_outcome(&[issue]),
            json!({
                "resourceType": "OperationOutcome",
                "issue": [{
                    "severity": "warning",
                    "code": "value",
                    "details": {
                        "coding": [{ "system": CODE_SYSTEM, "code": "day-precision" }],
                        "text": "Result date has no time; day precision used",
                    },
                    "expression": ["Bundle.entry[0].resource.effective"],
                }],
            })
        );
    }

    #[test]
    fn the_cap_says_how_many_are_missing_and_keeps_the_worst() {
        let mut issues = vec![Issue::information(word::CONTEXT, "a"); 120];
        issues.push(Issue::error(word::REQUIRED, "b"));
        let outcome = operation_outcome(&issues);
        let list = outcome["issue"].as_array().unwrap();
        assert_eq!(list.len(), 101);
        assert_eq!(list[0]["code"], "required");
        assert_eq!(list[100]["details"]["text"], "21 more");
    }

    #[test]
    fn an_outcome_is_never_empty() {
        assert_eq!(
            operation_outcome(&[])["issue"][0]["severity"],
            "information"
        );
    }
}
