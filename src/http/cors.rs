//! Web pages of other origins that may call the CDS Hooks services.

use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::Door;

/// Everything below here may be called by pages.
const BELOW: &str = "/cds-services";

/// Whether an address is one that pages of other origins may call.
pub(super) fn is_for_pages(path: &str) -> bool {
    path.strip_prefix(BELOW)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The origin of a call, if a page makes it.
pub(super) fn origin(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::ORIGIN)?.to_str().ok()
}

/// Whether pages of this origin may call.
pub(super) fn allows(door: &Door, origin: &str) -> bool {
    match &door.cds.clients {
        Some(clients) => clients.origins().any(|allowed| allowed == origin),
        None => is_loopback(origin),
    }
}

/// A page served from this machine.
fn is_loopback(origin: &str) -> bool {
    let Some((scheme, host)) = origin.split_once("://") else {
        return false;
    };
    if !matches!(scheme, "http" | "https") {
        return false;
    }
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name == "localhost"
        || name
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback())
}

/// Marks an answer as one that the page may read; refusals too, or it could not tell why.
pub(super) fn mark(door: &Door, path: &str, origin: Option<&str>, headers: &mut HeaderMap) {
    if !is_for_pages(path) {
        return;
    }
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    let Some(origin) = origin.filter(|origin| allows(door, origin)) else {
        return;
    };
    let Ok(origin) = HeaderValue::from_str(origin) else {
        return;
    };
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    for (name, value) in [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, OPTIONS"),
        (
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            "authorization, content-type, x-request-id",
        ),
        (header::ACCESS_CONTROL_EXPOSE_HEADERS, "x-request-id"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.insert(
        HeaderName::from_static("access-control-max-age"),
        HeaderValue::from_static("600"),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_of_this_machine_are_local() {
        for local in [
            "http://localhost:3000",
            "http://127.0.0.1",
            "https://[::1]:8443",
            "http://127.0.0.2:1",
        ] {
            assert!(is_loopback(local), "{local}");
        }
        for other in [
            "null",
            "https://localhost.evil.example",
            "https://127.0.0.1.evil.example",
            "https://evil.example",
            "file://",
            "ftp://localhost",
        ] {
            assert!(!is_loopback(other), "{other}");
        }
        assert!(is_for_pages("/cds-services"));
        assert!(is_for_pages("/cds-services/x/feedback"));
        assert!(!is_for_pages("/cds-servicesx"));
    }
}
