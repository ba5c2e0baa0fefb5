//! Answers as JSON, with the headers every FHIR answer carries.

use actix_web::{
    HttpResponse,
    http::{StatusCode, header},
};
use serde::Serialize;

use super::error::Success;

/// Media type of every FHIR answer.
pub(super) const FHIR_JSON: &str = "application/fhir+json; fhirVersion=4.0; charset=utf-8";

/// A FHIR answer.
pub(super) fn fhir(success: Success, body: &impl Serialize, pretty: bool) -> HttpResponse {
    json(success.code(), body, pretty)
}

/// A FHIR answer without a body.
pub(super) fn empty(success: Success) -> HttpResponse {
    HttpResponse::new(success.code())
}

/// An answer of plain JSON, outside FHIR.
pub(super) fn plain_json(success: Success, body: &impl Serialize) -> HttpResponse {
    HttpResponse::build(success.code()).json(body)
}

/// A text.
pub(super) fn text(
    success: Success,
    media_type: &'static str,
    body: impl Into<String>,
) -> HttpResponse {
    HttpResponse::build(success.code())
        .content_type(media_type)
        .body(body.into())
}

pub(super) fn json(code: StatusCode, body: &impl Serialize, pretty: bool) -> HttpResponse {
    let bytes = if pretty {
        serde_json::to_vec_pretty(body)
    } else {
        serde_json::to_vec(body)
    };
    // Only a map with keys that are not strings fails here, and no such map exists.
    HttpResponse::build(code)
        .content_type(FHIR_JSON)
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .body(bytes.unwrap_or_default())
}
