//! `GET /`: one page for a newcomer and for a look at how things stand. No script or style from
//! elsewhere, and it works without its script, but for the try-it form.

use std::fmt::Write as _;

use actix_web::{
    HttpResponse,
    http::header::{self, HeaderName, HeaderValue},
    web::Data,
};

use super::{
    Door, answer,
    error::{Error, Success},
};
use crate::store::{ResourceQuery, SearchPage};

const EXAMPLE: &str = include_str!("../../../fixtures/bundles/pancytopenia.json");

/// Only what this service serves itself may run or be loaded in the page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
    connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// How many Flags the page lists.
const LISTED: usize = 50;

/// `GET /`.
pub(super) async fn page(door: Data<Door>) -> Result<HttpResponse, Error> {
    let flags = door.store.search(&ResourceQuery::newest("Flag", LISTED)).await?;
    let deliveries = door.store.delivery_counts().await?;
    let mut response = answer::text(
        Success::Ok,
        "text/html; charset=utf-8",
        html(&door.base, &flags, &deliveries),
    );
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("x-frame-options"), "DENY"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    Ok(response)
}

/// `GET /console.css`.
pub(super) async fn style() -> HttpResponse {
    answer::text(Success::Ok, "text/css; charset=utf-8", include_str!("console.css"))
}

/// `GET /console.js`.
pub(super) async fn script() -> HttpResponse {
    answer::text(Success::Ok, "text/javascript; charset=utf-8", include_str!("console.js"))
}
