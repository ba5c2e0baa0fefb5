//! Every status this service answers with, and the `OperationOutcome` that goes with a refusal.
//!
//! The only file that names a status code.

use actix_web::{
    HttpResponse, ResponseError,
    http::{
        StatusCode,
        header::{self, HeaderValue},
    },
};

use super::answer;
use crate::{
    fhir::{
        outcome::{Issue, Severity, operation_outcome},
        submission::Refusal,
    },
    store::StoreError,
};

/// Answers that are not refusals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Success {
    /// Done, or here it is.
    Ok,
    /// Stored for the first time.
    Created,
    /// Used, not stored.
    Accepted,
    /// Deleted.
    NoContent,
    /// The copy you have is current.
    NotModified,
}

impl Success {
    pub(super) fn code(self) -> StatusCode {
        match self {
            Self::Ok => StatusCode::OK,
            Self::Created => StatusCode::CREATED,
            Self::Accepted => StatusCode::ACCEPTED,
            Self::NoContent => StatusCode::NO_CONTENT,
            Self::NotModified => StatusCode::NOT_MODIFIED,
        }
    }

    /// For `Bundle.entry.response.status`: `201 Created`.
    pub(super) fn line(self) -> String {
        line(self.code())
    }
}

/// Everything that can be refused, and why.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Cannot be parsed, or fails the basic rules of FHIR or of HTTP.
    #[error("malformed")]
    Malformed(Vec<Issue>),
    /// Parsed, but not valid FHIR, against our profile, or with no or two patients.
    #[error("invalid")]
    Invalid(Vec<Issue>),
    /// Somebody else's page asked for this.
    #[error("forbidden")]
    Forbidden(Issue),
    /// Nobody we know, and not a word about why.
    #[error("unauthorized")]
    Unauthorized,
    /// Nothing is here.
    #[error("not found")]
    NotFound(Issue),
    /// It was here and has been withdrawn.
    #[error("gone")]
    Gone(Issue),
    /// Something is here, but not with this verb.
    #[error("verb not allowed")]
    Verb {
        /// The verbs that are.
        allow: String,
    },
    /// We cannot answer in any form the caller takes.
    #[error("not acceptable")]
    NotAcceptable(Issue),
    /// We cannot read this form.
    #[error("unsupported media type")]
    MediaType(Issue),
    /// The body did not arrive in time.
    #[error("slow body")]
    SlowBody,
    /// Body, or number of entries or patients, over its limit.
    #[error("too large")]
    TooLarge(Vec<Issue>),
    /// The address is too long.
    #[error("address too long")]
    AddressTooLong,
    /// `If-Match` or `If-None-Exist` does not hold.
    #[error("precondition failed")]
    Precondition(Vec<Issue>),
    /// Contradicts something newer.
    #[error("conflict")]
    Conflict(Vec<Issue>),
    /// The same submission is still being worked on.
    #[error("twin in flight")]
    TwinInFlight,
    /// More than we can take right now; nothing was stored.
    #[error("overloaded: {limit}")]
    Overloaded {
        /// Which limit, for the metrics.
        limit: &'static str,
        /// When to come back, in seconds.
        retry_after: u32,
    },
    /// Our own deadline passed.
    #[error("deadline passed")]
    Deadline,
    /// The store cannot keep it.
    #[error("store unusable")]
    NoStore(#[source] Option<anyhow::Error>),
    /// Cannot be done now, may work later.
    #[error("try later")]
    Transient(#[source] Option<anyhow::Error>),
    /// Our bug.
    #[error("bug")]
    Bug(#[source] anyhow::Error),
}

impl Error {
    fn code(&self) -> StatusCode {
        match self {
            Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::Gone(_) => StatusCode::GONE,
            Self::Verb { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::NotAcceptable(_) => StatusCode::NOT_ACCEPTABLE,
            Self::MediaType(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::SlowBody => StatusCode::REQUEST_TIMEOUT,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::AddressTooLong => StatusCode::URI_TOO_LONG,
            Self::Precondition(_) => StatusCode::PRECONDITION_FAILED,
            Self::Conflict(_) | Self::TwinInFlight => StatusCode::CONFLICT,
            Self::Overloaded { .. } | Self::Deadline | Self::NoStore(_) | Self::Transient(_) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Bug(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn issues(&self, request_id: &str) -> Vec<Issue> {
        match self {
            Self::Malformed(issues)
            | Self::Invalid(issues)
            | Self::TooLarge(issues)
            | Self::Precondition(issues)
            | Self::Conflict(issues) => issues.clone(),
            Self::Forbidden(issue)
            | Self::NotFound(issue)
            | Self::Gone(issue)
            | Self::NotAcceptable(issue)
            | Self::MediaType(issue) => vec![issue.clone()],
            Self::Verb { allow } => vec![Issue::error(
                "not-supported",
                format!("this address does not take that verb; it takes {allow}"),
            )],
            Self::Unauthorized => vec![Issue::error("login", "a valid token is needed")],
            Self::SlowBody => vec![Issue::error("timeout", "the body did not arrive in time")],
            Self::AddressTooLong => {
                vec![Issue::error("too-long", "the address is longer than 8 KiB")]
            }
            Self::TwinInFlight => vec![Issue::error(
                "lock-error",
                "the same submission is still being worked on; repeat it to get its answer",
            )],
            Self::Overloaded { .. } => vec![Issue::error(
                "throttled",
                "more is waiting than can be taken now; nothing was stored, send it again",
            )],
            Self::Deadline => vec![Issue::error(
                "timeout",
                "not done within the deadline; send the same again to learn what became of it",
            )],
            Self::NoStore(_) => vec![Issue::error(
                "no-store",
                "the store cannot keep it; nothing was stored",
            )],
            Self::Transient(_) => vec![Issue::error(
                "transient",
                "cannot be done now; send it again",
            )],
            Self::Bug(_) => vec![Issue {
                severity: Severity::Fatal,
                diagnostics: Some(format!("request {request_id}")),
                ..Issue::error(
                    "exception",
                    "an error of ours; the log has it under the request id",
                )
            }],
        }
    }

    fn retry_after(&self) -> Option<u32> {
        match self {
            Self::TwinInFlight => Some(1),
            Self::Overloaded { retry_after, .. } => Some(*retry_after),
            Self::Deadline | Self::Transient(_) => Some(5),
            Self::NoStore(_) => Some(10),
            _ => None,
        }
    }

    /// Name of the limit that refused, for the metrics.
    pub(super) fn limit(&self) -> Option<&'static str> {
        match self {
            Self::TooLarge(_) => Some("size"),
            Self::AddressTooLong => Some("address"),
            Self::SlowBody => Some("body-timeout"),
            Self::Overloaded { limit, .. } => Some(limit),
            Self::Deadline => Some("deadline"),
            _ => None,
        }
    }

    /// The answer. The cause is logged here, once.
    pub(super) fn answer(&self, request_id: &str, pretty: bool) -> HttpResponse {
        match self {
            Self::Bug(cause) => tracing::error!(cause = %format!("{cause:#}"), "bug"),
            Self::NoStore(Some(cause)) | Self::Transient(Some(cause)) => {
                tracing::warn!(cause = %format!("{cause:#}"), "{self}");
            }
            _ => {}
        }
        let mut response = answer::json(
            self.code(),
            &operation_outcome(&self.issues(request_id)),
            pretty,
        );
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        match self {
            Self::Verb { allow } => {
                if let Ok(allow) = HeaderValue::from_str(allow) {
                    headers.insert(header::ALLOW, allow);
                }
            }
            Self::Unauthorized => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            Self::MediaType(_) => {
                headers.insert(
                    header::HeaderName::from_static("accept-post"),
                    HeaderValue::from_static("application/fhir+json"),
                );
            }
            // What is left of the body will not be read.
            Self::TooLarge(_) | Self::SlowBody | Self::AddressTooLong => {
                response
                    .head_mut()
                    .set_connection_type(actix_web::http::ConnectionType::Close);
            }
            _ => {}
        }
        response
    }
}

impl ResponseError for Error {
    fn status_code(&self) -> StatusCode {
        self.code()
    }

    fn error_response(&self) -> HttpResponse {
        self.answer("unknown", false)
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Busy => Self::Overloaded {
                limit: "queue",
                retry_after: 1,
            },
            StoreError::Deadline => Self::Deadline,
            StoreError::NoStore(_) | StoreError::Fatal(_) | StoreError::Closed => {
                Self::NoStore(Some(error.into()))
            }
            StoreError::Twin => Self::TwinInFlight,
            StoreError::Transient(_) => Self::Transient(Some(error.into())),
            StoreError::Refused(why) => Self::Conflict(vec![Issue::error("conflict", why)]),
            StoreError::ModelPanicked
            | StoreError::Defect(_)
            | StoreError::Unreadable(_)
            | StoreError::Unforeseen(_) => Self::Bug(error.into()),
        }
    }
}

/// A refused entry's `response.status` in a batch, and the error of a whole that is refused.
pub(super) fn of_refusal(refusal: Refusal, issues: Vec<Issue>) -> Error {
    match refusal {
        Refusal::Malformed => Error::Malformed(issues),
        Refusal::Invalid => Error::Invalid(issues),
        Refusal::Unsupported => Error::NotFound(
            issues
                .into_iter()
                .next()
                .unwrap_or_else(|| Issue::error("not-supported", "not served here")),
        ),
        Refusal::TooLarge => Error::TooLarge(issues),
        Refusal::Precondition => Error::Precondition(issues),
        Refusal::Conflict => Error::Conflict(issues),
    }
}

/// `422 Unprocessable Entity`, for `Bundle.entry.response.status`.
pub(super) fn refusal_line(refusal: Refusal) -> String {
    line(of_refusal(refusal, Vec::new()).code())
}

/// Class of a status, for metrics: `2xx`.
pub(super) fn class(status: StatusCode) -> &'static str {
    match status.as_u16() {
        100..=199 => "1xx",
        200..=299 => "2xx",
        300..=399 => "3xx",
        400..=499 => "4xx",
        _ => "5xx",
    }
}

fn line(code: StatusCode) -> String {
    match code.canonical_reason() {
        Some(reason) => format!("{} {reason}", code.as_u16()),
        None => code.as_u16().to_string(),
    }
}
