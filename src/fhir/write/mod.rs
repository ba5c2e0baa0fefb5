//! Assessment to resources: Flag, DiagnosticReport, Observation, Device, Provenance.

/// One resource to be stored, served and delivered.
#[derive(Debug, Clone, PartialEq)]
pub struct Resource {
    /// `resourceType`.
    pub kind: &'static str,
    /// Logical id, `mf-...`.
    pub id: String,
    /// Our business identifier (system, value), where the type has one.
    pub identifier: Option<(String, String)>,
    /// SHA-256 over the canonical JSON without id, meta, text and issued; 16 hex digits.
    pub content_hash: String,
    /// The JSON, our own copy: subject as the sender wrote it.
    pub body: serde_json::Value,
}
