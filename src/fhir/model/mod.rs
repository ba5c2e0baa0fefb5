//! The base specification as a gate: which elements a type has, which of them repeat, and what
//! kind of value each takes, for FHIR R4 and R4B.
//!
//! The tables come from `fhirbolt-shared`. Its own readers stop at the first problem, name no
//! place and cost five times the parse, so the tables are made into a graph once, at the start,
//! and the tree is walked along it. What the tables leave out (formats of dates and codes, which
//! elements exclude each other, what must be there, what is common to all resources) stands in
//! [`tables`].

mod tables;
mod walk;

use std::{collections::HashMap, fmt::Write as _};

use fhirbolt_shared::{element_map, type_hints};

use super::{
    outcome::Issue,
    path::{Path, Step},
    submission::Release,
    tree::Tree,
};

pub use walk::Place;
pub(crate) use walk::is_id;

/// One release of FHIR, ready to be walked along.
#[derive(Debug)]
pub struct Model {
    types: Vec<Type>,
    /// Types and backbone elements by their path: `Quantity`, `Observation.component`.
    by_name: HashMap<&'static str, TypeId>,
    element: TypeId,
}

type TypeId = usize;

#[derive(Debug)]
struct Type {
    name: &'static str,
    resource: bool,
    /// Sorted by length, then name: most comparisons end at the length.
    fields: Vec<(&'static str, Field)>,
    /// Elements, or stems of choices, that must be there.
    required: Vec<&'static str>,
}

#[derive(Debug, Clone, Copy)]
struct Field {
    kind: Kind,
    list: bool,
    /// `value` for `valueQuantity`: at most one with the same stem may stand.
    choice: Option<&'static str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Primitive(Primitive),
    Complex(TypeId),
    /// Any resource; its `resourceType` says which.
    Resource,
}

/// Kinds of primitive that are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Primitive {
    Boolean,
    Integer,
    UnsignedInt,
    PositiveInt,
    Decimal,
    /// A string whose form is not checked further.
    String,
    Code,
    Id,
    Uri,
    Date,
    DateTime,
    Instant,
    Time,
}

/// The order of fields within a type.
fn order(name: &str) -> (usize, &str) {
    (name.len(), name)
}

impl Type {
    fn field(&self, name: &str) -> Option<&Field> {
        self.fields
            .binary_search_by(|(field, _)| order(field).cmp(&order(name)))
            .ok()
            .and_then(|at| self.fields.get(at))
            .map(|(_, field)| field)
    }
}

impl Model {
    /// The graph of a release.
    pub fn new(release: Release) -> Self {
        let (elements, hints) = match release {
            Release::R4 => (&element_map::r4::ELEMENT_MAP, &type_hints::r4::TYPE_HINTS),
            Release::R4b => (&element_map::r4b::ELEMENT_MAP, &type_hints::r4b::TYPE_HINTS),
        };
        let mut names: Vec<&'static str> = elements
            .keys()
            .copied()
            .filter(|name| name.starts_with(|first: char| first.is_ascii_uppercase()))
            .collect();
        names.sort_unstable();
        names.insert(0, tables::ELEMENT);
        let by_name: HashMap<_, _> = names
            .iter()
            .enumerate()
            .map(|(id, name)| (*name, id))
            .collect();
        let mut model = Self {
            types: Vec::with_capacity(names.len()),
            by_name,
            element: 0,
        };
        for name in names {
            let made = model.make_type(name, elements, hints);
            model.types.push(made);
        }
        model
    }

    fn make_type(
        &self,
        name: &'static str,
        elements: &element_map::ElementMap,
        hints: &type_hints::TypeHints,
    ) -> Type {
        let own: Vec<&'static str> = if name == tables::ELEMENT {
            vec!["id", "extension"]
        } else {
            elements
                .get(name)
                .map(|set| set.iter().copied().collect())
                .unwrap_or_default()
        };
        let resource = own.contains(&"implicitRules");
        let mut fields: Vec<(&'static str, Field)> = own
            .iter()
            .map(|element| {
                let path = format!("{name}.{element}");
                let mut kind = self.kind(element, &path, resource, hints);
                let list = tables::LISTS.contains(element) || hints.array_paths.contains(&*path);
                let choice = (!list)
                    .then(|| self.stem(name, element, kind, &own))
                    .flatten();
                if kind == Kind::Primitive(Primitive::String) {
                    kind = Kind::Primitive(tables::string_form(name, element, choice, resource));
                }
                (*element, Field { kind, list, choice })
            })
            .collect();
        fields.sort_unstable_by_key(|(element, _)| order(element));
        let known = |required: &&&str| {
            fields
                .iter()
                .any(|(name, field)| name == *required || field.choice == Some(**required))
        };
        let required = tables::required(name)
            .iter()
            .filter(known)
            .copied()
            .collect();
        Type {
            name,
            resource,
            fields,
            required,
        }
    }

    fn kind(
        &self,
        element: &str,
        path: &str,
        resource: bool,
        hints: &type_hints::TypeHints,
    ) -> Kind {
        let named = hints
            .content_reference_paths
            .get(path)
            .or_else(|| hints.type_paths.get(path))
            .copied();
        match (named, element) {
            (Some("Resource"), _) => return Kind::Resource,
            (Some(named), _) => {
                if let Some(id) = self.by_name.get(named) {
                    return Kind::Complex(*id);
                }
            }
            (None, "contained") if resource => return Kind::Resource,
            _ => {}
        }
        let common = match element {
            "extension" | "modifierExtension" => Some("Extension"),
            "meta" if resource => Some("Meta"),
            "text" if resource => Some("Narrative"),
            _ => None,
        };
        if let Some(id) = self.by_name.get(common.unwrap_or(path)) {
            return Kind::Complex(*id);
        }
        Kind::Primitive(if hints.boolean_paths.contains(path) {
            Primitive::Boolean
        } else if hints.integer_paths.contains(path) {
            Primitive::Integer
        } else if hints.unsigned_integer_paths.contains(path) {
            Primitive::UnsignedInt
        } else if hints.positive_integer_paths.contains(path) {
            Primitive::PositiveInt
        } else if hints.decimal_paths.contains(path) {
            Primitive::Decimal
        } else {
            Primitive::String
        })
    }

    /// The stem of a choice: what is left of an element's name without the name of its type, if
    /// another element of the same owner is left with the same.
    fn stem(
        &self,
        owner: &str,
        element: &'static str,
        kind: Kind,
        siblings: &[&'static str],
    ) -> Option<&'static str> {
        let suffix = |element: &'static str| -> Vec<&'static str> {
            element
                .char_indices()
                .filter(|(at, letter)| *at > 0 && letter.is_ascii_uppercase())
                .filter_map(|(at, _)| element.get(at..))
                .filter(|rest| self.by_name.contains_key(rest) || tables::primitive(rest).is_some())
                .collect()
        };
        let of_this_kind = |rest: &&str| match kind {
            Kind::Complex(id) => self.by_name.get(*rest) == Some(&id),
            Kind::Primitive(_) => tables::primitive(rest).is_some(),
            Kind::Resource => false,
        };
        suffix(element)
            .into_iter()
            .filter(of_this_kind)
            .filter_map(|rest| element.strip_suffix(rest))
            .filter(|stem| !tables::NO_CHOICE.contains(&(owner, stem)))
            .find(|stem| {
                siblings.iter().any(|other| {
                    *other != element
                        && suffix(other)
                            .iter()
                            .any(|rest| other.strip_suffix(rest) == Some(stem))
                })
            })
    }

    fn get(&self, id: TypeId) -> Option<&Type> {
        self.types.get(id)
    }

    fn resource(&self, name: &str) -> Option<&Type> {
        self.get(*self.by_name.get(name)?)
            .filter(|found| found.resource)
    }

    /// Whether the release has a resource of this name.
    pub fn knows_resource(&self, name: &str) -> bool {
        self.resource(name).is_some()
    }

    /// Everything in which `resource` departs from the base specification, at most `cap` issues.
    pub fn check(&self, resource: &Tree<'_>, place: &Place<'_>, cap: usize) -> Vec<Issue> {
        walk::check(self, resource, place, cap)
    }

    /// The same for one backbone element or data type, without the resources within it.
    pub fn check_part(
        &self,
        type_name: &str,
        part: &Tree<'_>,
        place: &Place<'_>,
        cap: usize,
    ) -> Vec<Issue> {
        walk::check_part(self, type_name, part, place, cap)
    }

    /// The same for a Bundle itself, its entries left out.
    pub fn check_envelope(&self, bundle: &Tree<'_>, place: &Place<'_>, cap: usize) -> Vec<Issue> {
        walk::check_envelope(self, bundle, place, cap)
    }

    /// The FHIRPath of `path`, which leads down from `root`: choice elements without their type,
    /// `_name` as `name`. A name that is none of ours ends it, because it may be anything.
    pub fn expression(&self, root: &Tree<'_>, path: &Path) -> String {
        let mut expression = match root.resource_type() {
            Some(name) if self.knows_resource(name) => name.to_owned(),
            _ => "Resource".to_owned(),
        };
        self.extend_expression(&mut expression, root, Kind::Resource, path);
        expression
    }

    /// The issue with its place: `path` leads down from `part`, which stands at `place`.
    pub(crate) fn locate(
        &self,
        issue: Issue,
        part: &Tree<'_>,
        path: &Path,
        place: &Place<'_>,
    ) -> Issue {
        self.locate_in(issue, part, Kind::Resource, path, place)
    }

    fn locate_in(
        &self,
        issue: Issue,
        part: &Tree<'_>,
        kind: Kind,
        path: &Path,
        place: &Place<'_>,
    ) -> Issue {
        let mut expression = place.expression.to_owned();
        self.extend_expression(&mut expression, part, kind, path);
        let pointer = format!("{}{}", place.pointer, safe_pointer(path));
        let diagnostics = match &issue.diagnostics {
            Some(more) if !pointer.is_empty() => format!("{more}; {pointer}"),
            Some(more) => more.clone(),
            None => pointer,
        };
        issue.at(expression).diagnosed(diagnostics)
    }

    fn extend_expression(
        &self,
        expression: &mut String,
        root: &Tree<'_>,
        root_kind: Kind,
        path: &Path,
    ) {
        let mut tree = Some(root);
        let mut kind = root_kind;
        for step in &path.0 {
            match step {
                Step::Index(index) => {
                    let _ = write!(expression, "[{index}]");
                    tree = match tree {
                        Some(Tree::Array(items)) => items.get(*index),
                        _ => None,
                    };
                }
                Step::Name(name) => {
                    let owner = match kind {
                        Kind::Resource => tree
                            .and_then(Tree::resource_type)
                            .and_then(|name| self.resource(name)),
                        Kind::Complex(id) => self.get(id),
                        Kind::Primitive(_) => self.get(self.element),
                    };
                    let plain = name.strip_prefix('_').unwrap_or(name);
                    let field = owner.and_then(|owner| owner.field(plain));
                    if !is_plain_name(plain) {
                        return;
                    }
                    expression.push('.');
                    expression.push_str(field.and_then(|field| field.choice).unwrap_or(plain));
                    tree = tree.and_then(|tree| tree.get(name));
                    match field {
                        Some(field) => kind = field.kind,
                        None => return,
                    }
                }
            }
        }
    }
}

/// Looks like the name of an element, so that it cannot carry anything else into a message.
pub(crate) fn is_plain_name(name: &str) -> bool {
    name.len() <= 64
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// A pointer without names that are none of FHIR's.
fn safe_pointer(path: &Path) -> String {
    let known = path
        .0
        .iter()
        .take_while(|step| match step {
            Step::Name(name) => is_plain_name(name.strip_prefix('_').unwrap_or(name)),
            Step::Index(_) => true,
        })
        .cloned()
        .collect();
    Path(known).pointer()
}

#[cfg(test)]
mod tests;
