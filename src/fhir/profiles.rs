//! Our profiles as JSON Schemas.

use serde_json::Value;

/// A schema that a site adds: what claims the profile in `meta.profile` is checked against it.
#[derive(Debug, Clone)]
pub struct SiteProfile {
    /// The canonical URL that resources claim.
    pub url: String,
    /// The JSON Schema.
    pub schema: Value,
}
