//! For the authorization server that gives us tokens: our public keys.

use actix_web::{
    HttpResponse,
    http::header::{self, HeaderValue},
    web::Data,
};

use super::{
    Door, answer,
    error::{Error, Success},
};
use crate::fhir::outcome::Issue;

/// `GET /.well-known/jwks.json`.
pub(super) async fn show(door: Data<Door>) -> Result<HttpResponse, Error> {
    let Some(smart) = &door.keys else {
        return Err(Error::NotFound(Issue::error(
            "not-supported",
            "there are no keys: this service is no SMART client",
        )));
    };
    let mut response = answer::plain_json(Success::Ok, &smart.public_keys(door.now()).await);
    // A new key is listed for an hour before it signs.
    response.headers_mut().insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("max-age=3600"),
    );
    Ok(response)
}
