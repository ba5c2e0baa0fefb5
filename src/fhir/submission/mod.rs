//! What was sent, decoded and checked entry by entry, before anything is read from it.

mod blood_count;
mod decode;
mod envelope;
mod invariants;
mod request;

use super::{outcome::Issue, tree::Tree};

pub use decode::{Checker, CheckerError};
pub use request::{parse_if_match, parse_if_none_exist};

/// Who asks: what a Bundle breaks only as an envelope refuses it at the door, and is a warning to
/// somebody who looks at files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum At {
    /// `POST` to the service.
    Door,
    /// A command, or `$assess-cytopenia`.
    Command,
}

/// Release of FHIR that a body is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Release {
    /// 4.0.1.
    R4,
    /// 4.3.0.
    R4b,
}

/// `Bundle.type`, or a resource that came alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A resource that came alone (single create, or a line of NDJSON).
    Single,
    /// `batch`.
    Batch,
    /// `transaction`.
    Transaction,
    /// `collection`.
    Collection,
    /// `document`.
    Document,
    /// `message`.
    Message,
    /// `searchset`.
    Searchset,
    /// `history`, `subscription-notification`.
    History,
    /// `batch-response`, `transaction-response`.
    Response,
    /// Bundle without a type, or with one nobody knows (tolerated by the commands only).
    Untyped,
}

/// `entry.request.method`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// `GET`.
    Get,
    /// `HEAD`.
    Head,
    /// `POST`.
    Post,
    /// `PUT`.
    Put,
    /// `DELETE`.
    Delete,
    /// `PATCH`.
    Patch,
}

/// `entry.request`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Method.
    pub method: Method,
    /// `url` as sent.
    pub url: String,
    /// `ifNoneExist`.
    pub if_none_exist: Option<String>,
    /// `ifMatch`.
    pub if_match: Option<String>,
}

/// What class of refusal a broken entry earns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Refusal {
    /// Cannot be parsed or fails basic FHIR JSON rules.
    Malformed,
    /// Parsed, but not valid FHIR or not our profile.
    Invalid,
    /// A type or interaction we do not serve.
    Unsupported,
    /// Too long or too many.
    TooLarge,
    /// A precondition (`ifMatch`, `ifNoneExist` with several matches) does not hold.
    Precondition,
    /// Contradicts something newer.
    Conflict,
}

/// One entry.
#[derive(Debug)]
pub struct Entry<'a> {
    /// Position in `Bundle.entry`; 0 for a single resource.
    pub index: usize,
    /// FHIRPath of the resource: `Bundle.entry[3].resource`, or `Observation` when it came alone.
    pub path: String,
    /// `fullUrl`.
    pub full_url: Option<&'a str>,
    /// `request`.
    pub request: Option<Request>,
    /// The resource.
    pub resource: Option<&'a Tree<'a>>,
    /// Errors (then it is refused), warnings and informations of decoding, base gate and profile.
    pub issues: Vec<Issue>,
    /// Set when the entry is refused.
    pub refused: Option<Refusal>,
}

/// A decoded and checked submission. Borrows from the tree.
#[derive(Debug)]
pub struct Submission<'a> {
    /// What it is.
    pub kind: Kind,
    /// Release.
    pub release: Release,
    /// `Bundle.identifier`: system and value.
    pub identifier: Option<(String, String)>,
    /// `Bundle.timestamp` as sent.
    pub timestamp: Option<&'a str>,
    /// `Bundle.id`.
    pub id: Option<&'a str>,
    /// Every entry, in order, refused ones too.
    pub entries: Vec<Entry<'a>>,
    /// Problems of the envelope (`Bundle.type`, `fullUrl`, bdl-*) that are not of one entry, and
    /// warnings about the body (`byte-order-mark`).
    pub issues: Vec<Issue>,
    /// Set when the whole is refused.
    pub refused: Option<Refusal>,
}

impl Submission<'_> {
    /// Every issue, of the envelope and then of the entries in their order.
    pub fn all_issues(&self) -> impl Iterator<Item = &Issue> {
        self.issues
            .iter()
            .chain(self.entries.iter().flat_map(|entry| &entry.issues))
    }

    /// Every entry stands or falls with the others.
    pub fn is_atomic(&self) -> bool {
        matches!(self.kind, Kind::Transaction | Kind::Message | Kind::Single)
    }
}

#[cfg(test)]
mod tests;
