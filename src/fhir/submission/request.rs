//! `Bundle.entry.request`: what the sender wants done with an entry.

use super::{Entry, Method, Refusal, Request};
use crate::fhir::{
    model::{Model, is_id},
    outcome::{Issue, word},
    tree::Tree,
};

/// Reads and checks the request of an entry. Nothing: there is none, or it cannot be read and the
/// entry says why.
pub(super) fn read(model: &Model, tree: &Tree<'_>, entry: &mut Entry<'_>) -> Option<Request> {
    let request = tree.get("request")?;
    let place = format!("Bundle.entry[{}].request", entry.index);
    // The base specification wants method and url, and has said so.
    let (method, url) = (request.text("method")?, request.text("url")?);
    let method = match method {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        "PATCH" => Method::Patch,
        _ => {
            let issue = Issue::error(word::CODE_INVALID, "Not a method of HTTP");
            entry.refuse(Refusal::Invalid, issue.at(format!("{place}.method")));
            return None;
        }
    };
    if matches!(method, Method::Head | Method::Patch) {
        let issue = Issue::error(word::NOT_SUPPORTED, "HEAD and PATCH are not served");
        entry.refuse(Refusal::Invalid, issue.at(format!("{place}.method")));
    }
    if let Err((refusal, issue)) = check_url(model, method, url, entry.resource) {
        entry.refuse(refusal, issue.at(format!("{place}.url")));
    }
    let writes = matches!(method, Method::Post | Method::Put);
    if writes && entry.resource.is_none() {
        let issue = Issue::error(word::REQUIRED, "POST and PUT need a resource");
        let path = entry.path.clone();
        entry.refuse(Refusal::Invalid, issue.at(path));
    }
    let if_none_exist = request.text("ifNoneExist");
    if let Some(criteria) = if_none_exist
        && parse_if_none_exist(criteria).is_none()
    {
        let text = "Only identifier=system|value is served as a condition";
        let issue = Issue::error(word::NOT_SUPPORTED, text);
        entry.refuse(Refusal::Malformed, issue.at(format!("{place}.ifNoneExist")));
    }
    let if_match = request.text("ifMatch");
    if let Some(tag) = if_match
        && parse_if_match(tag).is_none()
    {
        let issue = Issue::error(word::VALUE, "Must be an entity tag: W/\"1\"");
        entry.refuse(Refusal::Malformed, issue.at(format!("{place}.ifMatch")));
    }
    Some(Request {
        method,
        url: url.strip_prefix('/').unwrap_or(url).to_owned(),
        if_none_exist: if_none_exist.map(str::to_owned),
        if_match: if_match.map(str::to_owned),
    })
}

/// Relative, of the resource's type, with the resource's id.
fn check_url(
    model: &Model,
    method: Method,
    url: &str,
    resource: Option<&Tree<'_>>,
) -> Result<(), (Refusal, Issue)> {
    let invalid = |text: &str| (Refusal::Invalid, Issue::error(word::VALUE, text));
    let unsupported = |text: &str| {
        (
            Refusal::Unsupported,
            Issue::error(word::NOT_SUPPORTED, text),
        )
    };
    let path = url.strip_prefix('/').unwrap_or(url);
    if path.contains("://") || path.starts_with("urn:") {
        return Err(invalid("The URL must be relative: Observation/1"));
    }
    let (path, query) = match path.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (path, None),
    };
    let mut parts = path.split('/');
    let (kind, id, more) = (parts.next().unwrap_or(""), parts.next(), parts.next());
    if kind.starts_with('$') || id.is_some_and(|id| id.starts_with('$')) {
        return Err(unsupported("Operations are not served within a Bundle"));
    }
    if !model.knows_resource(kind) {
        return Err(unsupported("Not a type of resource"));
    }
    if method == Method::Get {
        return Ok(());
    }
    if query.is_some() {
        return Err((
            Refusal::Malformed,
            Issue::error(
                word::NOT_SUPPORTED,
                "Conditional updates and deletes are not served",
            ),
        ));
    }
    if more.is_some() {
        return Err(invalid("A version cannot be written: no _history"));
    }
    if let Some(resource) = resource
        && resource.resource_type().is_some_and(|name| name != kind)
    {
        return Err(invalid("The URL names another type than the resource"));
    }
    match (method, id) {
        (Method::Post, None) | (Method::Head | Method::Patch, _) => Ok(()),
        (Method::Post, Some(_)) => Err(invalid("POST takes the type only")),
        (_, Some(id)) if is_id(id) => match resource.and_then(|resource| resource.text("id")) {
            Some(own) if own != id => Err((
                Refusal::Malformed,
                Issue::error(word::VALUE, "The URL names another id than the resource"),
            )),
            _ => Ok(()),
        },
        _ => Err(invalid("PUT and DELETE need type and id")),
    }
}

/// System and value of `identifier=system|value`, the only condition that is served.
pub fn parse_if_none_exist(criteria: &str) -> Option<(String, String)> {
    let criteria = criteria
        .rsplit_once('?')
        .map_or(criteria, |(_, query)| query);
    let token = percent_decoded(criteria.strip_prefix("identifier=")?)?;
    let (system, value) = token.split_once('|')?;
    let fits = !system.is_empty() && !value.is_empty() && !token.contains(['&', ',', '\0']);
    fits.then(|| (system.to_owned(), value.to_owned()))
}

/// The version in `W/"1"`.
pub fn parse_if_match(tag: &str) -> Option<&str> {
    tag.strip_prefix("W/")
        .unwrap_or(tag)
        .strip_prefix('"')?
        .strip_suffix('"')
        .filter(|version| is_id(version))
}

/// Only a bare `&` ends a parameter, and we allow no second one.
fn percent_decoded(text: &str) -> Option<String> {
    if text.contains(['&', ',']) {
        return None;
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                u8::from_str_radix(str::from_utf8(&digits).ok()?, 16).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_only_condition_is_an_identifier() {
        let pair = |system: &str, value: &str| Some((system.to_owned(), value.to_owned()));
        assert_eq!(
            parse_if_none_exist("identifier=urn:s|v"),
            pair("urn:s", "v")
        );
        assert_eq!(
            parse_if_none_exist("Observation?identifier=http%3A%2F%2Fs%7Cv%201"),
            pair("http://s", "v 1")
        );
        for criteria in [
            "",
            "code=718-7",
            "identifier=v",
            "identifier=|v",
            "identifier=s|",
            "identifier=s|v&code=1",
            "identifier=s|v,s|w",
            "identifier=s|%",
            "identifier=s|%zz",
            "identifier=%ff|v",
        ] {
            assert_eq!(parse_if_none_exist(criteria), None, "{criteria}");
        }
    }

    #[test]
    fn an_entity_tag_is_weak_or_strong() {
        assert_eq!(parse_if_match("W/\"12\""), Some("12"));
        assert_eq!(parse_if_match("\"12\""), Some("12"));
        for tag in ["12", "W/12", "W/\"\"", "*", "\""] {
            assert_eq!(parse_if_match(tag), None, "{tag}");
        }
    }
}
