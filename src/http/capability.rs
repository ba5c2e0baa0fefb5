//! `GET /fhir/metadata`: what this service does. Lists only what a test proves.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{self, HeaderValue},
    web::Data,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{
    Door, answer,
    error::{Error, Success},
    negotiate::Wish,
};

/// Day of the release; stable, so that the document is.
const RELEASED: &str = "2026-11-21";

/// The document and its entity tag, made once.
#[derive(Debug, Clone)]
pub(super) struct Capability {
    document: Value,
    etag: String,
}

impl Capability {
    /// For a service reached at `base`, that answers repeats for `receipt_hours`.
    pub(super) fn new(base: &str, receipt_hours: u32) -> Self {
        let document = document(base, receipt_hours);
        let digest = Sha256::digest(document.to_string().as_bytes());
        let etag = format!(
            "W/\"{}\"",
            data_encoding::HEXLOWER.encode(digest.first_chunk::<8>().unwrap_or(&[0; 8]))
        );
        Self { document, etag }
    }
}

/// `GET /fhir/metadata`.
pub(super) async fn show(
    req: HttpRequest,
    wish: Wish,
    door: Data<Door>,
) -> Result<HttpResponse, Error> {
    let capability = &door.capability;
    let current = req.headers().get_all(header::IF_NONE_MATCH).any(|tags| {
        tags.to_str().is_ok_and(|tags| {
            tags.split(',').any(|tag| {
                let tag = tag.trim();
                tag == "*"
                    || tag.trim_start_matches("W/") == capability.etag.trim_start_matches("W/")
            })
        })
    });
    let mut response = if current {
        answer::empty(Success::NotModified)
    } else {
        answer::fhir(Success::Ok, &capability.document, wish.pretty)
    };
    let headers = response.headers_mut();
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("max-age=300"),
    );
    if let Ok(etag) = HeaderValue::from_str(&capability.etag) {
        headers.insert(header::ETAG, etag);
    }
    Ok(response)
}

fn document(base: &str, receipt_hours: u32) -> Value {
    let canonical = "https://marrowflag.org/fhir";
    let version = env!("CARGO_PKG_VERSION");
    let interactions = |codes: &[&str]| -> Vec<Value> {
        codes.iter().map(|code| json!({ "code": code })).collect()
    };
    let parameter = |name: &str, kind: &str| json!({ "name": name, "type": kind });
    json!({
        "resourceType": "CapabilityStatement",
        "url": format!("{base}/fhir/metadata"),
        "version": version,
        "name": "MarrowflagCapability",
        "title": "marrowflag",
        "status": "active",
        "date": RELEASED,
        "kind": "instance",
        "description": "Decision support: reads blood counts, describes suspected bone-marrow-failure patterns \
            as DiagnosticReport and Flag. Never a diagnosis.",
        "software": { "name": "marrowflag", "version": version, "releaseDate": RELEASED },
        "implementation": { "description": "marrowflag", "url": format!("{base}/fhir") },
        "fhirVersion": "4.0.1",
        "format": ["json", "application/fhir+json"],
        "rest": [{
            "mode": "server",
            "documentation": format!(
                "POST a Bundle of type batch, transaction, collection or document to the base. The same Bundle, or the \
                 same Idempotency-Key, is answered with the same receipt for {receipt_hours} hours, marked \
                 Idempotency-Replayed; a single result is recognised by its identifier for as long as it is kept."
            ),
            "security": {
                "cors": false,
                "description": "This version asks nobody who they are: it listens on loopback unless told --insecure."
            },
            "resource": [
                {
                    "type": "Observation",
                    "profile": "http://hl7.org/fhir/StructureDefinition/Observation",
                    "supportedProfile": [format!("{canonical}/StructureDefinition/blood-count-observation")],
                    "interaction": interactions(&["create", "read", "vread", "update"]),
                    "versioning": "versioned-update",
                    "readHistory": false,
                    "updateCreate": true,
                    "conditionalCreate": true,
                    "conditionalUpdate": false,
                    "conditionalDelete": "not-supported"
                },
                {
                    "type": "Flag",
                    "supportedProfile": [format!("{canonical}/StructureDefinition/cytopenia-flag")],
                    "interaction": interactions(&["read", "vread", "search-type"]),
                    "versioning": "versioned",
                    "readHistory": false,
                    "searchParam": [
                        parameter("patient", "reference"),
                        parameter("status", "token"),
                        parameter("code", "token"),
                        parameter("_lastUpdated", "date")
                    ]
                },
                {
                    "type": "DiagnosticReport",
                    "supportedProfile": [format!("{canonical}/StructureDefinition/cytopenia-report")],
                    "interaction": interactions(&["read", "vread", "search-type"]),
                    "versioning": "versioned",
                    "readHistory": false,
                    "searchParam": [
                        parameter("patient", "reference"),
                        parameter("status", "token"),
                        parameter("code", "token"),
                        parameter("date", "date"),
                        parameter("_lastUpdated", "date")
                    ]
                },
                { "type": "Provenance", "interaction": interactions(&["read", "vread"]), "versioning": "versioned" },
                { "type": "Device", "interaction": interactions(&["read", "vread"]), "versioning": "versioned" }
            ],
            "interaction": interactions(&["transaction", "batch"]),
            "operation": [
                { "name": "assess-cytopenia", "definition": format!("{canonical}/OperationDefinition/assess-cytopenia") },
                { "name": "validate", "definition": "http://hl7.org/fhir/OperationDefinition/Resource-validate" }
            ]
        }],
        "document": [{
            "mode": "consumer",
            "profile": format!("{canonical}/StructureDefinition/submission-bundle")
        }]
    })
}
