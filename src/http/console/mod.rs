//! `GET /`: one page for a newcomer and for a look at how things stand, and one for each patient.
//! No script or style from elsewhere, and they work without their script, but for the try-it form.

mod patient;
mod plot;

use std::fmt::Write as _;

use actix_web::{
    HttpResponse,
    http::header::{self, HeaderName, HeaderValue},
    web::Data,
};

use serde_json::Value;

pub(super) use self::patient::page as patient;
use super::{
    Door, TENANT, answer,
    error::{Error, Success},
};
use crate::store::reading::{Figures, HeldResource, Search};

const EXAMPLE: &str = include_str!("../../../fixtures/bundles/pancytopenia.json");

/// Only what this service serves itself may run or be loaded in the page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
    connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// How many Flags the page lists.
const LISTED: usize = 50;

/// `GET /`.
pub(super) async fn page(door: Data<Door>) -> Result<HttpResponse, Error> {
    let newest = Search {
        tenant: TENANT.to_owned(),
        kind: "Flag".to_owned(),
        limit: LISTED,
        ..Search::default()
    };
    let mut flags = door.store.search(newest).await?.resources;
    // A worklist: what is open comes first.
    flags.sort_by_key(|flag| flag.body.get("status").and_then(Value::as_str) != Some("active"));
    let figures = door.store.figures().await?;
    Ok(framed("marrowflag", &html(&door.base, &flags, &figures)))
}

/// A page of ours around `body`, which is markup.
fn framed(title: &str, body: &str) -> HttpResponse {
    let version = env!("CARGO_PKG_VERSION");
    let page = format!(
        r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="stylesheet" href="/console.css">
<script src="/console.js" defer></script>
</head>
<body>
<header><h1>marrowflag <small>{version}</small></h1></header>
{body}
</body>
</html>
"#
    );
    let mut response = answer::text(Success::Ok, "text/html; charset=utf-8", page);
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("x-frame-options"), "DENY"),
    ] {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    response
}

/// `GET /console.css`.
pub(super) async fn style() -> HttpResponse {
    answer::text(
        Success::Ok,
        "text/css; charset=utf-8",
        include_str!("console.css"),
    )
}

/// `GET /console.js`.
pub(super) async fn script() -> HttpResponse {
    answer::text(
        Success::Ok,
        "text/javascript; charset=utf-8",
        include_str!("console.js"),
    )
}

fn html(base: &str, flags: &[HeldResource], figures: &Figures) -> String {
    let mut page = String::with_capacity(16 * 1024);
    let base = escaped(base);
    // Writing into a String cannot fail.
    let _ = write!(
        page,
        r#"<p>Reads blood counts as FHIR, assesses the patient's whole timeline against a cytopenia model, and describes
suspected bone-marrow-failure patterns as <code>DiagnosticReport</code> and, where it deserves attention,
<code>Flag</code>.</p>
<p class="notice">Decision support for clinicians, whose basis they can review. It never diagnoses, and it
is not a medical device. "Nothing found" never means that nothing is wrong.</p>
<h2>Send results</h2>
<pre>curl -H 'Content-Type: application/fhir+json' --data-binary @bundle.json {base}/fhir</pre>
<p>A Bundle of type batch, transaction, collection or document, or single results at
<code>{base}/fhir/Observation</code>. The answer comes after they are stored for good.
What this service does: <a href="/fhir/metadata?_pretty=true"><code>/fhir/metadata</code></a>;
how it does: <a href="/readyz"><code>/readyz</code></a>, <a href="/metrics"><code>/metrics</code></a>.</p>
<h2>Findings</h2>
"#
    );
    findings(&mut page, flags);
    page.push_str("<h2>Deliveries</h2>\n");
    deliveries(&mut page, figures);
    let _ = write!(
        page,
        r#"<h2>Try it</h2>
<p>Assesses what is in the box. Nothing is stored and nothing is sent.</p>
<form id="try">
<textarea name="bundle" spellcheck="false" aria-label="Bundle">{}</textarea>
<button value="text">Assess</button><button value="raw">Show the answer as FHIR</button>
</form>
<pre id="result" hidden></pre>"#,
        escaped(EXAMPLE)
    );
    page
}

fn findings(page: &mut String, flags: &[HeldResource]) {
    if flags.is_empty() {
        page.push_str("<p>None yet.</p>\n");
        return;
    }
    page.push_str("<table>\n<tr><th>Finding</th><th>State</th><th>Since</th><th>Changed</th><th>Flag</th></tr>\n");
    for flag in flags {
        let text = |pointer: &str| {
            escaped(
                flag.body
                    .pointer(pointer)
                    .and_then(Value::as_str)
                    .unwrap_or_default(),
            )
        };
        let _ = writeln!(
            page,
            "<tr><td>{}<br><small>{}</small>{}</td><td>{}</td><td>{}</td><td>{}</td><td><a href=\"/fhir/Flag/{id}?_pretty=true\">{id}</a></td></tr>",
            text("/code/coding/0/display"),
            text("/code/text"),
            flag.patient
                .map(|patient| format!(
                    "<br><a href=\"/patients/{}\">Counts over time</a>",
                    patient.0
                ))
                .unwrap_or_default(),
            text("/status"),
            text("/period/start"),
            text("/meta/lastUpdated"),
            id = escaped(&flag.id),
        );
    }
    page.push_str("</table>\n");
    if flags.len() >= LISTED {
        let _ = writeln!(
            page,
            "<p>The newest {LISTED}; <a href=\"/fhir/Flag?_pretty=true\">all of them</a>.</p>"
        );
    }
}

fn deliveries(page: &mut String, figures: &Figures) {
    if figures.deliveries.is_empty() {
        page.push_str("<p>None are waiting. Without <code>--fhir-server</code> findings are served here only.</p>\n");
        return;
    }
    page.push_str("<ul class=\"numbers\">\n");
    for (target, state, count) in &figures.deliveries {
        let _ = writeln!(
            page,
            "<li><b>{count}</b>{} to {}</li>",
            escaped(state),
            escaped(target)
        );
    }
    page.push_str("</ul>\n<p><code>marrowflag deliveries list</code> says more.</p>\n");
}

/// Text that cannot become markup.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            _ => escaped.push(letter),
        }
    }
    escaped
}
