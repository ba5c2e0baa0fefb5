//! OperationOutcome: one issue per problem, in words that are never reused.

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
