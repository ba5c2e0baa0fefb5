//! A path and its verbs; any other verb is answered with those it takes.

use actix_web::{FromRequest, Handler, HttpRequest, HttpResponse, Resource, Responder, guard, web};

use super::error::Error;
use crate::fhir::outcome::Issue;

/// A path under construction.
pub(super) struct At {
    resource: Resource,
    allow: Vec<&'static str>,
}

/// Starts a path.
pub(super) fn at(path: &str) -> At {
    At {
        resource: web::resource(path),
        allow: Vec::new(),
    }
}

impl At {
    /// `GET`, and `HEAD`, which is the same without the body.
    pub(super) fn get<F, Args>(mut self, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        let verbs = guard::Any(guard::Get()).or(guard::Head());
        self.resource = self.resource.route(web::route().guard(verbs).to(handler));
        self.allow.extend(["GET", "HEAD"]);
        self
    }

    /// `POST`.
    pub(super) fn post<F, Args>(mut self, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.resource = self.resource.route(web::post().to(handler));
        self.allow.push("POST");
        self
    }

    /// `PUT`.
    pub(super) fn put<F, Args>(mut self, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        self.resource = self.resource.route(web::put().to(handler));
        self.allow.push("PUT");
        self
    }

    /// `OPTIONS`, which a browser sends before it calls across origins.
    pub(super) fn options<F, Args>(mut self, handler: F) -> Self
    where
        F: Handler<Args>,
        Args: FromRequest + 'static,
        F::Output: Responder + 'static,
    {
        let options = web::method(actix_web::http::Method::OPTIONS).to(handler);
        self.resource = self.resource.route(options);
        self.allow.push("OPTIONS");
        self
    }

    /// The resource, with an answer for every other verb.
    pub(super) fn finish(self) -> Resource {
        let allow = self.allow.join(", ");
        self.resource.default_service(web::to(move || {
            let allow = allow.clone();
            async move { Err::<HttpResponse, Error>(Error::Verb { allow }) }
        }))
    }
}

/// Every other path.
pub(super) async fn nothing_here(req: HttpRequest) -> Result<HttpResponse, Error> {
    let text = if req.path().starts_with("/fhir/") {
        "this type or operation is not served here; GET [base]/metadata lists what is"
    } else {
        "nothing is served at this address"
    };
    Err(Error::NotFound(Issue::error("not-supported", text)))
}
