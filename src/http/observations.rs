//! Single results: `POST /fhir/Observation` and `PUT /fhir/Observation/{id}`.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{self, HeaderName},
    web::{Data, Payload},
};

use super::{Door, bundles, error::Error, negotiate::Wish, render};
use crate::{fhir::outcome::Issue, intake::Interaction};

const KIND: &str = "Observation";

/// `POST /fhir/Observation`.
pub(super) async fn create(
    req: HttpRequest,
    payload: Payload,
    wish: Wish,
    door: Data<Door>,
) -> Result<HttpResponse, Error> {
    let if_none_exist = condition(&req, &HeaderName::from_static("if-none-exist"))?;
    let interaction = Interaction::Create {
        kind: KIND.to_owned(),
        if_none_exist,
    };
    let receipt = bundles::take(&req, payload, &wish, &door, interaction).await?;
    render::single(&door, &receipt, &wish).await
}

/// `PUT /fhir/Observation/{id}`.
pub(super) async fn update(
    req: HttpRequest,
    payload: Payload,
    wish: Wish,
    door: Data<Door>,
) -> Result<HttpResponse, Error> {
    let interaction = Interaction::Update {
        kind: KIND.to_owned(),
        id: req.match_info().query("id").to_owned(),
        if_match: condition(&req, &header::IF_MATCH)?,
    };
    let receipt = bundles::take(&req, payload, &wish, &door, interaction).await?;
    render::single(&door, &receipt, &wish).await
}

/// A condition that says nothing is a mistake: taken for none it would do what it was to prevent.
fn condition(req: &HttpRequest, name: &HeaderName) -> Result<Option<String>, Error> {
    let Some(value) = req.headers().get(name) else {
        return Ok(None);
    };
    match value.to_str().map(str::trim) {
        Ok(text) if !text.is_empty() => Ok(Some(text.to_owned())),
        _ => Err(Error::Malformed(vec![Issue::error(
            "value",
            format!("{name} is empty or unreadable"),
        )])),
    }
}
