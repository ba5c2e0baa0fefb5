//! Where a reference leads, inside one submission.

use std::collections::HashMap;

use super::super::{
    submission::{Entry, Kind, Submission},
    tree::Tree,
};

/// A resource of the submission: an entry's own, or one contained in it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found<'t> {
    /// Position of the entry it is in.
    pub(super) entry: usize,
    /// The resource.
    pub(super) tree: &'t Tree<'t>,
    /// Whether it is contained in the entry's resource.
    pub(super) contained: bool,
}

/// Where a reference leads.
#[derive(Debug, Clone)]
pub(super) enum Target<'t> {
    /// To a resource of the submission.
    Here(Found<'t>),
    /// To somewhere else: the reference without its version is a key of the sender.
    Outside(String),
    /// By identifier: conditional or logical.
    Identifier(String, String),
    /// Nowhere: a `#id` or `urn:` that names nothing.
    Nowhere,
}

/// The resources of a submission by all their addresses.
pub(super) struct Index<'s, 't> {
    entries: &'s [Entry<'t>],
    transaction: bool,
    by_url: HashMap<&'s str, usize>,
    /// Type and id, and every entry that has them.
    by_id: HashMap<(&'t str, &'t str), Vec<usize>>,
}

impl<'s, 't> Index<'s, 't> {
    pub(super) fn new(submission: &'s Submission<'t>) -> Self {
        let mut by_url = HashMap::new();
        let mut by_id: HashMap<_, Vec<usize>> = HashMap::new();
        for (place, entry) in submission.entries.iter().enumerate() {
            if let Some(url) = entry.full_url {
                by_url.entry(without_version(url)).or_insert(place);
            }
            let Some(resource) = entry.resource else {
                continue;
            };
            if let (Some(kind), Some(id)) = (resource.resource_type(), resource.text("id")) {
                by_id.entry((kind, id)).or_default().push(place);
            }
        }
        Self {
            entries: &submission.entries,
            transaction: submission.kind == Kind::Transaction,
            by_url,
            by_id,
        }
    }

    /// The entry at a place of the list.
    pub(super) fn entry(&self, place: usize) -> Option<&'s Entry<'t>> {
        self.entries.get(place)
    }

    fn found(&self, place: usize) -> Option<Found<'t>> {
        let entry = self.entries.get(place)?;
        Some(Found {
            entry: place,
            tree: entry.resource?,
            contained: false,
        })
    }

    /// Follows `reference.reference`, else `reference.identifier`, from the entry at `from`.
    pub(super) fn follow(&self, from: usize, reference: &Tree<'_>) -> Option<Target<'t>> {
        if let Some(literal) = reference
            .text("reference")
            .map(str::trim)
            .filter(|text| !text.is_empty())
        {
            return Some(self.literal(from, literal));
        }
        let (system, value) = identifier(reference.get("identifier")?)?;
        let here = ["Patient", "Specimen"]
            .iter()
            .find_map(|kind| self.identified(kind, &system, &value));
        Some(match here {
            Some(found) => Target::Here(found),
            None => Target::Identifier(system, value),
        })
    }

    /// The entry of a type that has this identifier.
    fn identified(&self, kind: &str, system: &str, value: &str) -> Option<Found<'t>> {
        let place = self.entries.iter().position(|entry| {
            entry.resource.is_some_and(|resource| {
                resource.resource_type() == Some(kind)
                    && resource.items("identifier").iter().any(|known| {
                        known.text("system").map(str::trim) == Some(system)
                            && known.text("value").map(str::trim) == Some(value)
                    })
            })
        })?;
        self.found(place)
    }

    /// The resource that a literal reference of the entry at `from` leads to.
    pub(super) fn resource(&self, from: usize, reference: &str) -> Option<&'t Tree<'t>> {
        match self.literal(from, reference) {
            Target::Here(found) => Some(found.tree),
            _ => None,
        }
    }

    fn literal(&self, from: usize, reference: &str) -> Target<'t> {
        if let Some(id) = reference.strip_prefix('#') {
            return self
                .contained(from, id)
                .map_or(Target::Nowhere, Target::Here);
        }
        let reference = without_version(reference);
        if let Some(found) = self
            .by_url
            .get(reference)
            .and_then(|place| self.found(*place))
        {
            return Target::Here(found);
        }
        if let Some(id) = reference.strip_prefix("urn:") {
            // A resource without a fullUrl whose id is the UUID.
            let id = id.rsplit(':').next().unwrap_or(id);
            let here = self
                .by_id
                .iter()
                .find(|((_, known), _)| *known == id)
                .and_then(|(_, places)| self.found(*places.first()?));
            return here.map_or(Target::Nowhere, Target::Here);
        }
        // First: an identifier's system in the query has a scheme of its own.
        if let Some((kind, query)) = reference.split_once('?')
            && !kind.contains("://")
        {
            // Outside a transaction, or with other criteria, it names nothing.
            return self.conditional(kind, query).unwrap_or(Target::Nowhere);
        }
        if reference.contains("://") {
            return Target::Outside(reference.to_owned());
        }
        self.relative(from, reference)
            .map_or_else(|| Target::Outside(reference.to_owned()), Target::Here)
    }

    /// `Type/id`: under the address of the entry that says it, else by type and id.
    fn relative(&self, from: usize, reference: &str) -> Option<Found<'t>> {
        let base = self
            .entries
            .get(from)
            .and_then(|entry| rest_base(entry.full_url?));
        if let Some(base) = base
            && let Some(place) = self.by_url.get(format!("{base}/{reference}").as_str())
        {
            return self.found(*place);
        }
        let (kind, id) = reference.split_once('/')?;
        let places = self.by_id.get(&(kind, id))?;
        // A resource that says it lives on another server is another resource.
        let elsewhere = |place: &usize| {
            let its = self
                .entries
                .get(*place)
                .and_then(|entry| rest_base(entry.full_url?));
            matches!((base, its), (Some(ours), Some(its)) if ours != its)
        };
        places
            .iter()
            .find(|place| !elsewhere(place))
            .and_then(|place| self.found(*place))
    }

    fn contained(&self, from: usize, id: &str) -> Option<Found<'t>> {
        let root = self.entries.get(from)?.resource?;
        if id.is_empty() {
            return self.found(from);
        }
        root.items("contained")
            .iter()
            .find(|resource| resource.text("id") == Some(id))
            .map(|tree| Found {
                entry: from,
                tree,
                contained: true,
            })
    }

    /// `Patient?identifier=system|value`, in a transaction only.
    fn conditional(&self, kind: &str, query: &str) -> Option<Target<'t>> {
        if !self.transaction {
            return None;
        }
        let (system, value) = query.strip_prefix("identifier=")?.split_once(['|'])?;
        let (system, value) = (percent_decoded(system)?, percent_decoded(value)?);
        Some(match self.identified(kind, &system, &value) {
            Some(found) => Target::Here(found),
            None => Target::Identifier(system, value),
        })
    }
}

/// `Observation/1/_history/2` names the same thing as `Observation/1`.
pub(super) fn without_version(reference: &str) -> &str {
    reference.split("/_history/").next().unwrap_or(reference)
}

/// Base of a RESTful address `base/Type/id`.
fn rest_base(url: &str) -> Option<&str> {
    let url = without_version(url);
    if !(url.starts_with("http://") || url.starts_with("https://")) {
        return None;
    }
    let (rest, id) = url.rsplit_once('/')?;
    let (base, kind) = rest.rsplit_once('/')?;
    (!id.is_empty() && kind.starts_with(|letter: char| letter.is_ascii_uppercase())).then_some(base)
}

/// Whether a `fullUrl` is an address under which the resource can be read again.
pub(super) fn is_rest_address(url: &str) -> bool {
    rest_base(url).is_some()
}

/// System and value of an identifier that has both.
pub(super) fn identifier(of: &Tree<'_>) -> Option<(String, String)> {
    let part = |name| of.text(name).map(str::trim).filter(|text| !text.is_empty());
    Some((part("system")?.to_owned(), part("value")?.to_owned()))
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(if byte == b'%' {
            let hex = [rest.next()?, rest.next()?];
            u8::from_str_radix(std::str::from_utf8(&hex).ok()?, 16).ok()?
        } else {
            byte
        });
    }
    String::from_utf8(bytes).ok()
}
