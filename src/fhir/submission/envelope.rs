//! What a Bundle must be before its entries count: `Bundle.type` and the invariants bdl-1 to
//! bdl-12 of R4.

use std::collections::HashMap;

use super::{At, Kind, Refusal};
use crate::fhir::{
    outcome::{Issue, word},
    tree::Tree,
};

/// `Bundle.type`; `Untyped` when it is missing or unknown.
pub(super) fn kind(bundle: &Tree<'_>) -> Kind {
    match bundle.text("type") {
        Some("batch") => Kind::Batch,
        Some("transaction") => Kind::Transaction,
        Some("collection") => Kind::Collection,
        Some("document") => Kind::Document,
        Some("message") => Kind::Message,
        Some("searchset") => Kind::Searchset,
        Some("history" | "subscription-notification") => Kind::History,
        Some("batch-response" | "transaction-response") => Kind::Response,
        _ => Kind::Untyped,
    }
}

/// Issues of the envelope as a whole, all of them errors; [`super::decode`] makes warnings of
/// them for a command.
pub(super) fn check(bundle: &Tree<'_>, kind: Kind, at: At) -> Vec<(Refusal, Issue)> {
    let mut found = Vec::new();
    let mut invalid = |issue: Issue, path: String| found.push((Refusal::Invalid, issue.at(path)));
    let entries = bundle.items("entry");
    let broken = |text: &str| Issue::error(word::INVARIANT, text);

    match (kind, bundle.get("type")) {
        (Kind::Untyped, None) => invalid(
            Issue::error(word::REQUIRED, "type is required"),
            "Bundle.type".to_owned(),
        ),
        (Kind::Untyped, Some(_)) => invalid(
            Issue::error(word::CODE_INVALID, "Not a type of Bundle"),
            "Bundle.type".to_owned(),
        ),
        (Kind::Searchset | Kind::History | Kind::Response, _) if at == At::Door => invalid(
            Issue::error(
                word::NOT_SUPPORTED,
                "This type of Bundle cannot be sent here",
            ),
            "Bundle.type".to_owned(),
        ),
        _ => {}
    }
    if bundle.get("total").is_some() && !matches!(kind, Kind::Searchset | Kind::History) {
        let text = "bdl-1: total is for searchset and history only";
        invalid(broken(text), "Bundle.total".to_owned());
    }

    let mut seen: HashMap<(&str, Option<&str>), usize> = HashMap::new();
    for (index, entry) in entries.iter().enumerate() {
        let place = |member: &str| format!("Bundle.entry[{index}].{member}");
        if entry.get("search").is_some() && kind != Kind::Searchset {
            let text = "bdl-2: entry.search is for searchset only";
            invalid(broken(text), place("search"));
        }
        let with_request = matches!(
            kind,
            Kind::Batch | Kind::Transaction | Kind::History | Kind::Untyped
        );
        if entry.get("request").is_some() && !with_request {
            let text = "bdl-3: entry.request is for batch, transaction and history only";
            invalid(broken(text), place("request"));
        }
        let with_response = matches!(kind, Kind::Response | Kind::History | Kind::Untyped);
        if entry.get("response").is_some() && !with_response {
            let text = "bdl-4: entry.response is for responses and history only";
            invalid(broken(text), place("response"));
        }
        let Some(url) = entry.text("fullUrl") else {
            continue;
        };
        if url.contains("/_history/") {
            let text = "bdl-8: fullUrl must not name a version";
            invalid(broken(text), place("fullUrl"));
        } else if !is_absolute(url) {
            let text = "fullUrl must be absolute: https://..., urn:uuid:... or urn:oid:...";
            invalid(Issue::error(word::VALUE, text), place("fullUrl"));
        }
        let version = entry
            .get("resource")
            .and_then(|resource| resource.get("meta"))
            .and_then(|meta| meta.text("versionId"));
        if kind != Kind::History && seen.insert((url, version), index).is_some() {
            let text = "bdl-7: fullUrl stands for two entries";
            invalid(broken(text), place("fullUrl"));
        }
    }

    let first = entries
        .first()
        .and_then(|entry| entry.get("resource"))
        .and_then(Tree::resource_type);
    match kind {
        Kind::Document => {
            let identified = bundle.get("identifier").is_some_and(|identifier| {
                identifier.get("system").is_some() && identifier.get("value").is_some()
            });
            if !identified {
                let text = "bdl-9: A document needs an identifier with system and value";
                invalid(broken(text), "Bundle.identifier".to_owned());
            }
            if bundle.get("timestamp").is_none() {
                let text = "bdl-10: A document needs a timestamp";
                invalid(broken(text), "Bundle.timestamp".to_owned());
            }
            if first != Some("Composition") {
                let text = "bdl-11: A document begins with a Composition";
                invalid(broken(text), "Bundle.entry[0].resource".to_owned());
            }
        }
        Kind::Message if first != Some("MessageHeader") => {
            let text = "bdl-12: A message begins with a MessageHeader";
            invalid(broken(text), "Bundle.entry[0].resource".to_owned());
        }
        Kind::Transaction => twice(entries, &mut invalid),
        _ => {}
    }
    found
}

/// A transaction must not touch the same resource twice.
fn twice(entries: &[Tree<'_>], invalid: &mut impl FnMut(Issue, String)) {
    let mut seen = HashMap::new();
    for (index, entry) in entries.iter().enumerate() {
        let Some(request) = entry.get("request") else {
            continue;
        };
        let (Some("PUT" | "DELETE"), Some(url)) = (request.text("method"), request.text("url"))
        else {
            continue;
        };
        if let Some(before) = seen.insert(url.trim_start_matches('/'), index) {
            let text = "A transaction must not write or delete the same resource twice";
            let issue = Issue::error(word::CONFLICT, text)
                .diagnosed(format!("also Bundle.entry[{before}]"));
            invalid(issue, format!("Bundle.entry[{index}].request.url"));
        }
    }
}

/// bdl-3 and bdl-5, as far as they are one entry's own fault.
pub(super) fn entry(kind: Kind, entry: &Tree<'_>, index: usize) -> Option<Issue> {
    let has = |member: &str| entry.get(member).is_some();
    if matches!(kind, Kind::Batch | Kind::Transaction) && !has("request") {
        let text = "bdl-3: An entry of a batch or transaction needs a request";
        let issue = Issue::error(word::INVARIANT, text);
        return Some(issue.at(format!("Bundle.entry[{index}].request")));
    }
    if !has("resource") && !has("request") && !has("response") {
        let text = "bdl-5: An entry needs a resource, a request or a response";
        let issue = Issue::error(word::INVARIANT, text);
        return Some(issue.at(format!("Bundle.entry[{index}]")));
    }
    None
}

/// Has a scheme, and something after it.
fn is_absolute(url: &str) -> bool {
    url.split_once(':').is_some_and(|(scheme, rest)| {
        scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
            && !rest.is_empty()
    })
}
