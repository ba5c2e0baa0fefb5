//! The walk of a resource along the graph.

use super::{Kind, Model, Primitive, Type};
use crate::fhir::{
    dates,
    outcome::{Issue, word},
    path::Trail,
    tree::Tree,
};

/// Where the part that is checked stands in what was sent.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// FHIRPath: `Bundle.entry[3].resource`.
    pub expression: &'a str,
    /// JSON pointer: `/entry/3/resource`; empty for a resource that came alone.
    pub pointer: &'a str,
}

pub(super) fn check(
    model: &Model,
    resource: &Tree<'_>,
    place: &Place<'_>,
    cap: usize,
) -> Vec<Issue> {
    let mut walk = Walk::new(model, resource, Kind::Resource, place, cap);
    walk.resource(resource, &Trail::ROOT, None);
    walk.issues
}

pub(super) fn check_part(
    model: &Model,
    type_name: &str,
    part: &Tree<'_>,
    place: &Place<'_>,
    cap: usize,
) -> Vec<Issue> {
    let Some(id) = model.by_name.get(type_name) else {
        return Vec::new();
    };
    let mut walk = Walk::new(model, part, Kind::Complex(*id), place, cap);
    walk.into_resources = false;
    walk.value(part, Kind::Complex(*id), &Trail::ROOT, None);
    walk.issues
}

pub(super) fn check_envelope(
    model: &Model,
    bundle: &Tree<'_>,
    place: &Place<'_>,
    cap: usize,
) -> Vec<Issue> {
    let mut walk = Walk::new(model, bundle, Kind::Resource, place, cap);
    walk.into_entries = false;
    walk.resource(bundle, &Trail::ROOT, None);
    walk.issues
}

struct Walk<'m, 't> {
    model: &'m Model,
    root: &'t Tree<'t>,
    root_kind: Kind,
    place: &'m Place<'m>,
    cap: usize,
    /// Whether resources within are walked too.
    into_resources: bool,
    /// Whether the entries of a Bundle are.
    into_entries: bool,
    issues: Vec<Issue>,
}

/// The resource that holds what is walked now, for references to its contained ones.
#[derive(Clone, Copy)]
struct Holder<'t> {
    resource: &'t Tree<'t>,
    /// The walk is within one of its contained resources.
    inside: bool,
}

impl<'m, 't> Walk<'m, 't> {
    fn new(
        model: &'m Model,
        root: &'t Tree<'t>,
        root_kind: Kind,
        place: &'m Place<'m>,
        cap: usize,
    ) -> Self {
        Self {
            model,
            root,
            root_kind,
            place,
            cap,
            into_resources: true,
            into_entries: true,
            issues: Vec::new(),
        }
    }

    fn report(&mut self, issue: Issue, trail: &Trail<'_>) {
        if self.issues.len() < self.cap {
            let located =
                self.model
                    .locate_in(issue, self.root, self.root_kind, &trail.path(), self.place);
            self.issues.push(located);
        }
    }

    fn resource(&mut self, tree: &'t Tree<'t>, trail: &Trail<'_>, holder: Option<Holder<'t>>) {
        let Tree::Object(_) = tree else {
            self.report(
                Issue::error(word::JSON_TYPE, "A resource must be an object"),
                trail,
            );
            return;
        };
        let Some(name) = tree.resource_type() else {
            let text = "resourceType is missing";
            self.report(Issue::error(word::RESOURCE_TYPE, text), trail);
            return;
        };
        let Some(found) = self.model.resource(name) else {
            let text = "resourceType is not a resource of this release";
            self.report(Issue::error(word::RESOURCE_TYPE, text), trail);
            return;
        };
        if tree.get("implicitRules").is_some() {
            self.report(
                Issue::error(word::NOT_SUPPORTED, "Implicit rules are not understood"),
                &trail.name("implicitRules"),
            );
        }
        let holder = match holder {
            // A Bundle's entries are resources of their own, what is contained is not.
            Some(holder) if holder.inside => holder,
            _ => Holder {
                resource: tree,
                inside: false,
            },
        };
        self.members(found, tree, trail, Some(holder));
        if !holder.inside {
            self.contained(tree, trail);
        }
    }

    fn members(
        &mut self,
        owner: &'m Type,
        tree: &'t Tree<'t>,
        trail: &Trail<'_>,
        holder: Option<Holder<'t>>,
    ) {
        let mut choices: Vec<(&str, &str)> = Vec::new();
        for (name, value) in tree.members() {
            if name == "resourceType" && owner.resource {
                continue;
            }
            let here = trail.name(name);
            let plain = name.strip_prefix('_').unwrap_or(name);
            let field = owner.field(plain).filter(|field| {
                plain.len() == name.len() || matches!(field.kind, Kind::Primitive(_))
            });
            let Some(field) = field else {
                let text = "The base specification does not know this element here";
                self.report(Issue::error(word::UNKNOWN_ELEMENT, text), &here);
                continue;
            };
            if let Some(stem) = field.choice {
                match choices.iter().find(|(other, _)| *other == stem) {
                    Some((_, other)) if *other != plain => {
                        let text = "At most one of these elements may be there";
                        let issue = Issue::error(word::INVARIANT, text)
                            .diagnosed(format!("{other} and {plain}"));
                        self.report(issue, &here);
                    }
                    Some(_) => {}
                    None => choices.push((stem, plain)),
                }
            }
            if plain == "modifierExtension" {
                let text = "This modifier extension is not understood";
                self.report(Issue::error(word::EXTENSION, text), &here);
            }
            let kind = if plain.len() == name.len() {
                field.kind
            } else {
                Kind::Complex(self.model.element)
            };
            match (field.list, value) {
                (_, Tree::Null) => {}
                (true, Tree::Array(_)) if name == "entry" && !self.into_entries => {}
                (true, Tree::Array(items)) => {
                    for (index, item) in items.iter().enumerate() {
                        if *item != Tree::Null {
                            self.value(item, kind, &here.index(index), holder);
                        }
                    }
                }
                (true, _) => {
                    let text = "This element repeats and must be an array";
                    self.report(Issue::error(word::JSON_TYPE, text), &here);
                }
                (false, Tree::Array(_)) => {
                    let text = "This element does not repeat and must not be an array";
                    self.report(Issue::error(word::JSON_TYPE, text), &here);
                }
                (false, value) => self.value(value, kind, &here, holder),
            }
        }
        for required in &owner.required {
            let names = || {
                let members = tree.members().iter();
                members.map(|(name, _)| name.strip_prefix('_').unwrap_or(name))
            };
            let of_this_choice = |name: &str| {
                let field = owner.field(name);
                field.is_some_and(|field| field.choice == Some(*required))
            };
            if !names().any(|name| name == *required) && !names().any(of_this_choice) {
                let text = format!("{required} is required");
                self.report(Issue::error(word::REQUIRED, text), &trail.name(required));
            }
        }
        match owner.name {
            "Extension" => self.extension(tree, trail),
            "Reference" => self.reference(tree, trail, holder),
            _ => {}
        }
    }

    fn value(
        &mut self,
        value: &'t Tree<'t>,
        kind: Kind,
        trail: &Trail<'_>,
        holder: Option<Holder<'t>>,
    ) {
        match kind {
            Kind::Primitive(primitive) => {
                if let Some(issue) = primitive_issue(primitive, value) {
                    self.report(issue, trail);
                }
            }
            Kind::Resource if self.into_resources => {
                let holder = holder.filter(|_| trail.leads_into("contained"));
                let holder = holder.map(|holder| Holder {
                    inside: true,
                    ..holder
                });
                self.resource(value, trail, holder);
            }
            Kind::Resource => {}
            Kind::Complex(id) => match value {
                Tree::Object(_) => {
                    if let Some(owner) = self.model.get(id) {
                        self.members(owner, value, trail, holder);
                    }
                }
                _ => self.report(
                    Issue::error(word::JSON_TYPE, "This element must be an object"),
                    trail,
                ),
            },
        }
    }

    /// ext-1: a value or further extensions, never both.
    fn extension(&mut self, tree: &Tree<'_>, trail: &Trail<'_>) {
        let has_value = tree
            .members()
            .iter()
            .any(|(name, _)| name.starts_with("value") || name.starts_with("_value"));
        if has_value == tree.get("extension").is_some() {
            let text = "ext-1: An extension has either a value or extensions";
            self.report(Issue::error(word::INVARIANT, text), trail);
        }
    }

    /// A reference to a contained resource must find it.
    fn reference(&mut self, tree: &Tree<'_>, trail: &Trail<'_>, holder: Option<Holder<'t>>) {
        let (Some(id), Some(holder)) = (
            tree.text("reference")
                .and_then(|text| text.strip_prefix('#')),
            holder,
        ) else {
            return;
        };
        // `#` alone is the holder, seen from within.
        let found = (id.is_empty() && holder.inside)
            || holder
                .resource
                .items("contained")
                .iter()
                .any(|contained| contained.text("id") == Some(id));
        if !found {
            let text = "The contained resource that this refers to is not there";
            let issue = Issue::error(word::NOT_FOUND, text);
            self.report(issue, &trail.name("reference"));
        }
    }

    /// dom-2 to dom-5, for the resources contained in `tree`.
    fn contained(&mut self, tree: &Tree<'_>, trail: &Trail<'_>) {
        let contained = tree.items("contained");
        if contained.is_empty() {
            return;
        }
        let mut referred = Vec::new();
        references(tree, &mut referred);
        let list = trail.name("contained");
        for (index, resource) in contained.iter().enumerate() {
            let here = list.index(index);
            if resource.get("contained").is_some() {
                let text = "dom-2: A contained resource must not contain others";
                let issue = Issue::error(word::INVARIANT, text);
                self.report(issue, &here.name("contained"));
            }
            let mut to_the_holder = Vec::new();
            references(resource, &mut to_the_holder);
            let used = resource.text("id").is_some_and(|id| referred.contains(&id))
                || to_the_holder.contains(&"");
            if !used {
                let text = "dom-3: Nothing refers to this contained resource";
                self.report(Issue::warning(word::INVARIANT, text), &here);
            }
            if let Some(meta) = resource.get("meta") {
                let meta_trail = here.name("meta");
                if meta.get("versionId").is_some() || meta.get("lastUpdated").is_some() {
                    let text = "dom-4: A contained resource has no version and no time of update";
                    self.report(Issue::warning(word::INVARIANT, text), &meta_trail);
                }
                if meta.get("security").is_some() {
                    let text = "dom-5: A contained resource has no security label";
                    self.report(Issue::warning(word::INVARIANT, text), &meta_trail);
                }
            }
        }
    }
}

/// What every `#...` within refers to, without the `#`. URIs count too: a signature or an
/// extension may refer to what is contained.
fn references<'t>(tree: &'t Tree<'_>, found: &mut Vec<&'t str>) {
    match tree {
        Tree::String(text) => found.extend(text.strip_prefix('#')),
        Tree::Array(items) => {
            for item in items {
                references(item, found);
            }
        }
        Tree::Object(members) => {
            for (_, value) in members {
                references(value, found);
            }
        }
        _ => {}
    }
}

fn primitive_issue(primitive: Primitive, value: &Tree<'_>) -> Option<Issue> {
    let wrong = |text: &str| Some(Issue::error(word::VALUE, text));
    match (primitive, value) {
        (_, Tree::Object(_) | Tree::Array(_)) => Some(Issue::error(
            word::JSON_TYPE,
            "This element is a single value, not an object or array",
        )),
        (Primitive::Boolean, Tree::Bool(_)) | (Primitive::Decimal, Tree::Number(_)) => None,
        (Primitive::Boolean, _) => wrong("Must be true or false, without quotes"),
        (Primitive::Decimal, _) => wrong("Must be a number, without quotes"),
        (
            Primitive::Integer | Primitive::UnsignedInt | Primitive::PositiveInt,
            Tree::Number(digits),
        ) => {
            let least = match primitive {
                Primitive::Integer => i32::MIN,
                Primitive::UnsignedInt => 0,
                _ => 1,
            };
            match digits.parse::<i32>() {
                Ok(number) if number >= least => None,
                _ => wrong("Must be a whole number within the limits of its type"),
            }
        }
        (Primitive::Integer | Primitive::UnsignedInt | Primitive::PositiveInt, _) => {
            wrong("Must be a whole number, without quotes")
        }
        (_, Tree::String(text)) => string_issue(primitive, text),
        _ => wrong("Must be a string, in quotes"),
    }
}

fn string_issue(primitive: Primitive, text: &str) -> Option<Issue> {
    let (fits, says) = match primitive {
        Primitive::Code => (is_code(text), "A code has no space at its ends"),
        Primitive::Id => (is_id(text), "An id has 1 to 64 letters, digits, - or ."),
        Primitive::Uri => (
            is_plain(text) || !text.contains(char::is_whitespace),
            "A URI contains no white space",
        ),
        Primitive::Date => (
            dates::is_date(text),
            "Must be a date that exists: YYYY, YYYY-MM or YYYY-MM-DD",
        ),
        Primitive::DateTime => (
            dates::is_date_time(text),
            "Must be a date that exists, and a time needs seconds and a zone",
        ),
        Primitive::Instant => (
            dates::is_instant(text),
            "Must be a day that exists with time, seconds and zone",
        ),
        Primitive::Time => (dates::is_time(text), "Must be a time of day, hh:mm:ss"),
        _ => (true, ""),
    };
    (!fits && !text.is_empty()).then(|| Issue::error(word::VALUE, says))
}

/// Nothing but visible ASCII, which is how nearly all codes and URIs are.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// `code`: no white space but single spaces within.
fn is_code(text: &str) -> bool {
    is_plain(text)
        || text
            .split(' ')
            .all(|part| !part.is_empty() && !part.contains(char::is_whitespace))
}

/// `id`.
pub(crate) fn is_id(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
}
