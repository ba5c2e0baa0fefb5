//! What happens around every request: its id, its deadline, its line in the log, its metrics, and
//! the answer when something breaks.

use std::{panic::AssertUnwindSafe, time::Duration};

use actix_web::{
    HttpMessage as _,
    body::{BoxBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::{
        Method,
        header::{self, HeaderMap, HeaderName, HeaderValue},
    },
    middleware::Next,
    web::Data,
};
use futures_util::FutureExt as _;
use tokio::time::{Instant, timeout};
use tracing::Instrument as _;

use super::{
    Door,
    body::Unread,
    cors,
    error::{self, Error},
    metrics::{RequestLabels, RouteLabel},
    negotiate,
};
use crate::fhir::outcome::Issue;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlation-id");

/// A copy of the database takes as long as it takes.
const BACKUP: &str = "/admin/backup";
const COPYING: Duration = Duration::from_hours(1);

/// The longest address that is answered.
const LONGEST_ADDRESS: usize = 8 * 1024;

/// Id of a request: the caller's, or one of ours.
#[derive(Debug, Clone)]
pub(super) struct RequestId(pub(super) String);

/// The middleware around everything.
pub(super) async fn follow(
    req: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let Some(door) = req.app_data::<Data<Door>>().cloned() else {
        return Err(Error::Bug(anyhow::anyhow!("the door has no state")).into());
    };
    let id =
        caller_id(req.headers(), &REQUEST_ID).unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
    let correlation = caller_id(req.headers(), &CORRELATION_ID);
    let pretty = negotiate::pretty(req.query_string());
    let method = method_label(req.method());
    req.extensions_mut().insert(RequestId(id.clone()));

    let start = Instant::now();
    door.metrics.inflight.inc();
    let span = tracing::info_span!("request", id = %id, correlation = correlation.as_deref());
    let deadline = match req.path() {
        BACKUP => COPYING,
        _ => door.limits.deadline,
    };
    let outcome = run(req, next, &door, deadline)
        .instrument(span.clone())
        .await;
    door.metrics.inflight.dec();

    let _entered = span.enter();
    let mut response = match outcome {
        Ok(response) => match refused(&response).map(|error| error.answer(&id, pretty)) {
            Some(answer) => {
                let unread = response.request().extensions_mut().remove::<Unread>();
                response.into_response(match unread {
                    Some(unread) => unread.outlive(answer),
                    None => answer,
                })
            }
            None => response.map_into_boxed_body(),
        },
        Err(early) => {
            let answer = early.error.answer(&id, pretty);
            match early.request {
                Some(request) => ServiceResponse::new(request, answer),
                // The request went down with its handler; its answer still has to carry the id.
                None => {
                    return Err(Lost {
                        id,
                        error: early.error,
                        pretty,
                    }
                    .into());
                }
            }
        }
    };
    let route = response
        .request()
        .match_pattern()
        .unwrap_or_else(|| "none".to_owned());
    let status = response.status();
    let seconds = start.elapsed().as_secs_f64();
    door.metrics
        .requests
        .get_or_create(&RequestLabels {
            route: route.clone(),
            method,
            class: error::class(status),
        })
        .inc();
    door.metrics
        .request_seconds
        .get_or_create(&RouteLabel {
            route: route.clone(),
        })
        .observe(seconds);
    tracing::info!(route, method, status = status.as_u16(), seconds, "answered");
    finish(response.headers_mut(), &id, correlation.as_deref());
    let origin = cors::origin(response.request().headers()).map(str::to_owned);
    let path = response.request().path().to_owned();
    cors::mark(&door, &path, origin.as_deref(), response.headers_mut());
    Ok(response)
}

/// Ended before a handler could answer.
struct Early {
    request: Option<actix_web::HttpRequest>,
    error: Error,
}

async fn run<B: MessageBody + 'static>(
    req: ServiceRequest,
    next: Next<B>,
    door: &Door,
    deadline: Duration,
) -> Result<ServiceResponse<B>, Early> {
    let refuse = |req: ServiceRequest, error| Early {
        request: Some(req.into_parts().0),
        error,
    };
    if req
        .uri()
        .path_and_query()
        .is_some_and(|address| address.as_str().len() > LONGEST_ADDRESS)
    {
        door.metrics.refuse("address");
        return Err(refuse(req, Error::AddressTooLong));
    }
    if from_another_page(&req, &door.base) {
        return Err(refuse(
            req,
            Error::Forbidden(Issue::error(
                "forbidden",
                "a page of another origin may not write here",
            )),
        ));
    }
    let lost = |error| Early {
        request: None,
        error,
    };
    match timeout(deadline, AssertUnwindSafe(next.call(req)).catch_unwind()).await {
        Ok(Ok(Ok(response))) => {
            if let Some(limit) = refused(&response).and_then(Error::limit) {
                door.metrics.refuse(limit);
            }
            Ok(response)
        }
        Ok(Ok(Err(error))) => Err(lost(Error::Bug(anyhow::anyhow!("{error}")))),
        Ok(Err(_)) => {
            door.metrics.panics.inc();
            Err(lost(Error::Bug(anyhow::anyhow!("a handler panicked"))))
        }
        Err(_) => {
            door.metrics.refuse("deadline");
            Err(lost(Error::Deadline))
        }
    }
}

/// A refusal whose request is gone: the handler was dropped at the deadline, or panicked.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
struct Lost {
    id: String,
    error: Error,
    pretty: bool,
}

impl actix_web::ResponseError for Lost {
    fn error_response(&self) -> actix_web::HttpResponse {
        let mut response = self.error.answer(&self.id, self.pretty);
        finish(response.headers_mut(), &self.id, None);
        response
    }
}

fn refused<B>(response: &ServiceResponse<B>) -> Option<&Error> {
    response.response().error()?.as_error::<Error>()
}

/// The caller's id, if it is one that may stand in a log.
fn caller_id(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let id = headers.get(name)?.to_str().ok()?;
    let plain = id
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    (plain && (1..=128).contains(&id.len())).then(|| id.to_owned())
}

fn finish(headers: &mut HeaderMap, id: &str, correlation: Option<&str>) {
    for (name, value) in [(REQUEST_ID, Some(id)), (CORRELATION_ID, correlation)] {
        if let Some(value) = value.and_then(|value| HeaderValue::from_str(value).ok()) {
            headers.insert(name, value);
        }
    }
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
}

/// Whether a browser sends this on behalf of a page that is not ours. Nobody is asked who they are,
/// so a page on the internet must not be able to write through a clinician's browser.
fn from_another_page(req: &ServiceRequest, base: &str) -> bool {
    // The services look at the origin themselves.
    if cors::is_for_pages(req.path()) {
        return false;
    }
    if matches!(*req.method(), Method::GET | Method::HEAD | Method::OPTIONS) {
        return false;
    }
    let text = |name: HeaderName| {
        req.headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
    };
    if matches!(
        req.headers()
            .get("sec-fetch-site")
            .map(HeaderValue::as_bytes),
        Some(b"cross-site")
    ) {
        return true;
    }
    let Some(origin) = text(header::ORIGIN) else {
        return false;
    };
    let same_host = origin
        .split_once("://")
        .is_some_and(|(_, host)| Some(host) == text(header::HOST));
    !same_host
        && !base
            .strip_prefix(origin)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}
