//! `POST /fhir`: Bundles in.

use std::sync::Arc;

use actix_web::{
    HttpRequest, HttpResponse,
    web::{Data, Payload},
};

use super::{
    CLIENT, Door, TENANT,
    body::{self, BodyLimits},
    error::Error,
    negotiate::{self, Wish},
    render,
};
use crate::{
    fhir::outcome::Issue,
    intake::{IntakeError, Interaction, Sent, receipt::Receipt},
};

/// `POST /fhir`.
pub(super) async fn submit(
    req: HttpRequest,
    payload: Payload,
    wish: Wish,
    door: Data<Door>,
) -> Result<HttpResponse, Error> {
    let receipt = take(&req, payload, &wish, &door, Interaction::Bundle).await?;
    let answer = render::bundle(&door, &receipt, &wish).await?;
    #[cfg(feature = "fault-injection")]
    let answer = super::fault::in_halves(answer);
    Ok(answer)
}

/// `POST /fhir/Bundle`, which elsewhere stores the Bundle as it is.
pub(super) async fn wrong_address() -> Result<HttpResponse, Error> {
    let issue = Issue::error(
        "not-supported",
        "a Bundle is not stored as such; it is taken apart at the base",
    )
    .diagnosed("use POST [base]");
    Err(Error::NotFound(issue))
}

/// Reads a body and hands it to the intake.
pub(super) async fn take(
    req: &HttpRequest,
    payload: Payload,
    wish: &Wish,
    door: &Door,
    interaction: Interaction,
) -> Result<Receipt, Error> {
    wish.only(&[])?;
    let release = negotiate::body_release(req)?;
    let key = negotiate::idempotency_key(req)?;
    let mut body = read(req, payload, door).await?;
    let sent = Sent {
        tenant: Arc::from(TENANT),
        client: Arc::from(CLIENT),
        request_id: wish.request_id.clone(),
        received_at: door.now(),
        release,
        // The key is of one method and one address.
        idempotency_key: key.map(|key| {
            format!(
                "{} {} {key}",
                req.method(),
                req.path().trim_end_matches('/')
            )
        }),
        interaction,
    };
    let bytes = std::mem::take(&mut body.bytes);
    let taken = door.intake.accept(sent, bytes).await;
    door.metrics.count(&taken);
    door.wake.notify_one();
    Ok(taken?)
}

/// Reads a body within the limits.
pub(super) async fn read(
    req: &HttpRequest,
    payload: Payload,
    door: &Door,
) -> Result<body::Body, Error> {
    let limits = BodyLimits {
        size: door.limits.max_body,
        time: door.limits.body_timeout,
    };
    body::read(req, payload, limits, &door.budget).await
}

impl From<IntakeError> for Error {
    fn from(error: IntakeError) -> Self {
        match error {
            IntakeError::Refused { refusal, issues } => super::error::of_refusal(refusal, issues),
            IntakeError::Store(error) => error.into(),
        }
    }
}
