//! Our profiles as JSON Schemas (draft 2020-12), compiled once and checked over the tree.
//!
//! The validator never leaves the process (no `$ref` is fetched) and its patterns run in linear
//! time, because sites may bring schemas of their own. Its messages are not used: they quote what
//! was sent. A breach is told in the words of [`super::outcome`], or in those that the schema
//! itself has beside the keyword, as `x-mf-word`, `x-mf-msg` and `x-mf-path`.

use std::{
    collections::{HashMap, HashSet},
    fmt,
};

use jsonschema::{
    PatternOptions, Registry, ValidationError, Validator,
    error::{TypeKind, ValidationErrorKind},
    types::JsonType,
};
use serde_json::Value;

use super::{
    model::{Model, Place, is_plain_name},
    outcome::{self, Issue, word},
    path::Path,
    tree::{Tree, TreeJson},
};

macro_rules! schemas {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../profiles/", $name, ".schema.json")))),*]
    };
}

/// Every profile: its name and the text of its schema.
pub const ALL: &[(&str, &str)] = schemas![
    "submission-bundle",
    "blood-count-observation",
    "subject-patient",
    "laboratory-report",
    "cytopenia-flag",
    "cytopenia-report",
    "lineage-observation",
    "marrowflag-device",
    "assessment-provenance",
    "writeback-bundle",
    "cds-request",
    "cds-response",
    "cds-feedback",
];

/// Parts that profiles share, by the same pattern.
pub const SHARED: &[(&str, &str)] = schemas!["datatypes", "output-datatypes"];

/// Bytes a compiled pattern may take.
const PATTERN_SIZE: usize = 1024 * 1024;

/// A schema that a site adds: what claims the profile in `meta.profile` is checked against it.
#[derive(Debug, Clone)]
pub struct SiteProfile {
    /// The canonical URL that resources claim.
    pub url: String,
    /// The JSON Schema. It may refer to ours by their `$id`.
    pub schema: Value,
}

/// A profile, for a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub title: String,
    /// The type it is of.
    pub resource_type: String,
    /// Its canonical URL.
    pub url: String,
}

/// Why a schema cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the schema of profile {name} cannot be used: {why}")]
pub struct ProfileError {
    /// Name or URL of the profile.
    pub name: String,
    /// What is wrong with the schema.
    pub why: String,
}

/// Canonical URL of one of our profiles.
pub fn canonical(name: &str) -> String {
    format!("https://marrowflag.org/fhir/StructureDefinition/{name}")
}

/// What there is, the site's own last.
pub fn list(site: &[SiteProfile]) -> Vec<Listing> {
    let describe = |name: &str, url: String, schema: &Value| {
        let text = |pointer| schema.pointer(pointer).and_then(Value::as_str);
        Listing {
            name: name.to_owned(),
            title: text("/title").unwrap_or_default().to_owned(),
            resource_type: text("/properties/resourceType/const")
                .unwrap_or_default()
                .to_owned(),
            url,
        }
    };
    let ours = ALL.iter().filter_map(|(name, text)| {
        let schema = serde_json::from_str(text).ok()?;
        Some(describe(name, canonical(name), &schema))
    });
    let theirs = site.iter().map(|profile| {
        let name = profile.url.rsplit('/').next().unwrap_or(&profile.url);
        describe(name, profile.url.clone(), &profile.schema)
    });
    ours.chain(theirs).collect()
}

/// All profiles, compiled.
pub struct Profiles {
    ours: HashMap<&'static str, Validator<TreeJson>>,
    site: HashMap<String, Validator<TreeJson>>,
    /// Schemas by their `$id`, to find what one says about its own breach.
    texts: HashMap<String, Value>,
}

impl fmt::Debug for Profiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: HashSet<_> = self.ours.keys().collect();
        f.debug_struct("Profiles")
            .field("ours", &names)
            .field("site", &self.site.keys())
            .finish_non_exhaustive()
    }
}

impl Profiles {
    /// Compiles our schemas and the site's.
    pub fn new(site: Vec<SiteProfile>) -> Result<Self, ProfileError> {
        let mut texts = HashMap::new();
        let mut named = Vec::new();
        for (name, text) in ALL.iter().chain(SHARED) {
            let schema: Value = serde_json::from_str(text).map_err(|why| wrong(name, &why))?;
            named.push((*name, id(&schema)));
            texts.insert(id(&schema), schema);
        }
        let registry = texts
            .iter()
            .try_fold(
                Registry::new().retriever(Offline),
                |registry, (id, schema)| registry.add(id, schema),
            )
            .and_then(jsonschema::RegistryBuilder::prepare)
            .map_err(|why| wrong("datatypes", &why))?;
        let options = jsonschema::options_for::<TreeJson>()
            .with_pattern_options(PatternOptions::regex().size_limit(PATTERN_SIZE))
            .with_registry(&registry)
            .offline();
        let build =
            |name: &str, schema: &Value| options.build(schema).map_err(|why| wrong(name, &why));

        let mut ours = HashMap::new();
        for (name, id) in &named {
            if let Some(schema) = texts.get(id) {
                ours.insert(*name, build(name, schema)?);
            }
        }
        let mut theirs = HashMap::new();
        for profile in &site {
            theirs.insert(profile.url.clone(), build(&profile.url, &profile.schema)?);
        }
        drop(options);
        drop(registry);
        for profile in site {
            texts.insert(id(&profile.schema), profile.schema);
        }
        Ok(Self {
            ours,
            site: theirs,
            texts,
        })
    }

    /// Breaches of one of our profiles. Nothing for a name that is none.
    pub fn check(
        &self,
        name: &str,
        model: &Model,
        resource: &Tree<'_>,
        place: &Place<'_>,
        cap: usize,
    ) -> Vec<Issue> {
        match self.ours.get(name) {
            Some(schema) => self.breaches(schema, model, resource, place, cap),
            None => Vec::new(),
        }
    }

    /// Breaches of one of our schemas by JSON that is not FHIR (CDS Hooks). The expression is the
    /// path from `root` down.
    pub fn check_json(&self, name: &str, root: &str, json: &Tree<'_>, cap: usize) -> Vec<Issue> {
        let Some(schema) = self.ours.get(name) else {
            return Vec::new();
        };
        schema
            .iter_errors(json)
            .flat_map(|error| self.translate(&error))
            .take(cap)
            .map(|(path, issue)| issue.at(format!("{root}{}", path.dotted())))
            .collect()
    }

    /// Whether there is a profile of ours with this name.
    pub fn has(&self, name: &str) -> bool {
        self.ours.contains_key(name)
    }

    /// Breaches of the site's profiles that `resource` claims to meet.
    pub fn check_claimed(
        &self,
        model: &Model,
        resource: &Tree<'_>,
        place: &Place<'_>,
        cap: usize,
    ) -> Vec<Issue> {
        if self.site.is_empty() {
            return Vec::new();
        }
        resource
            .get("meta")
            .map_or(&[][..], |meta| meta.items("profile"))
            .iter()
            .filter_map(Tree::as_str)
            .map(|url| url.split_once('|').map_or(url, |(url, _version)| url))
            .filter_map(|url| self.site.get(url))
            .flat_map(|schema| self.breaches(schema, model, resource, place, cap))
            .take(cap)
            .collect()
    }

    fn breaches(
        &self,
        schema: &Validator<TreeJson>,
        model: &Model,
        resource: &Tree<'_>,
        place: &Place<'_>,
        cap: usize,
    ) -> Vec<Issue> {
        let mut issues = Vec::new();
        // Nearly everything is valid, and to find that out costs half of collecting why not.
        if schema.is_valid(resource) {
            return issues;
        }
        for error in schema.iter_errors(resource) {
            for (path, issue) in self.translate(&error) {
                if issues.len() < cap {
                    issues.push(model.locate(issue, resource, &path, place));
                }
            }
        }
        issues
    }

    /// A breach in our words, with its path within the resource.
    fn translate(&self, error: &ValidationError<'_>) -> Vec<(Path, Issue)> {
        let path = Path::from_pointer(error.instance_path().as_str());
        let said = self.annotations(error);
        let one = |path: Path, word: &'static str, text: &str| {
            let word = said
                .and_then(|said| outcome::lookup(said["x-mf-word"].as_str()?))
                .map_or(word, |word| word.name);
            let path = match said.and_then(|said| said["x-mf-path"].as_str()) {
                Some(name) => path.child(name),
                None => path,
            };
            let text = said
                .and_then(|said| said["x-mf-msg"].as_str())
                .unwrap_or(text);
            let text: String = text.chars().take(200).collect();
            vec![(path, Issue::error(word, text))]
        };
        match error.kind() {
            ValidationErrorKind::Required { property } => {
                let name = property.as_str().unwrap_or_default();
                let text = format!("{name} is required");
                vec![(path.child(name), Issue::error(word::REQUIRED, text))]
            }
            ValidationErrorKind::AdditionalProperties { unexpected }
            | ValidationErrorKind::UnevaluatedProperties { unexpected } => unexpected
                .iter()
                .map(|name| {
                    let path = if is_plain_name(name) {
                        path.child(name)
                    } else {
                        path.clone()
                    };
                    let text = "The profile does not know this element here";
                    (path, Issue::error(word::UNKNOWN_ELEMENT, text))
                })
                .collect(),
            ValidationErrorKind::Type { kind } => {
                let structural = |kind: &TypeKind| match kind {
                    TypeKind::Single(JsonType::Object | JsonType::Array) => true,
                    TypeKind::Single(_) | TypeKind::Multiple(_) => false,
                };
                if structural(kind) {
                    one(
                        path,
                        word::JSON_TYPE,
                        "Must be an object or an array, not the other",
                    )
                } else {
                    one(
                        path,
                        word::VALUE,
                        "Another kind of value than the profile wants",
                    )
                }
            }
            ValidationErrorKind::Enum { .. } => {
                one(path, word::CODE_INVALID, "Not a code that may stand here")
            }
            ValidationErrorKind::Constant { .. } => {
                one(path, word::VALUE, "Not the value that the profile fixes")
            }
            ValidationErrorKind::Pattern { .. }
            | ValidationErrorKind::Format { .. }
            | ValidationErrorKind::MinLength { .. }
            | ValidationErrorKind::MaxLength { .. }
            | ValidationErrorKind::Minimum { .. }
            | ValidationErrorKind::Maximum { .. }
            | ValidationErrorKind::ExclusiveMinimum { .. }
            | ValidationErrorKind::ExclusiveMaximum { .. }
            | ValidationErrorKind::MultipleOf { .. } => {
                one(path, word::VALUE, "Not in the form that the profile wants")
            }
            ValidationErrorKind::MinItems { .. } | ValidationErrorKind::Contains => one(
                path,
                word::REQUIRED,
                "Not as many, or not those, that the profile wants",
            ),
            ValidationErrorKind::FalseSchema => {
                one(path, word::INVARIANT, "The profile forbids this element")
            }
            _ => one(path, word::INVARIANT, "A rule of the profile is broken"),
        }
    }

    /// The schema object that holds the keyword which was broken.
    fn annotations(&self, error: &ValidationError<'_>) -> Option<&Value> {
        let location = error.absolute_keyword_location()?.as_str();
        let (base, pointer) = location.split_once('#')?;
        let pointer = percent_encoding_undone(pointer);
        let (parent, _keyword) = pointer.rsplit_once('/')?;
        self.texts.get(base)?.pointer(parent)
    }
}

/// `$id`, where a reference to the schema leads.
fn id(schema: &Value) -> String {
    schema["$id"].as_str().unwrap_or_default().to_owned()
}

fn wrong(name: &str, why: &impl ToString) -> ProfileError {
    ProfileError {
        name: name.to_owned(),
        why: why.to_string(),
    }
}

/// Fragments of a URI are percent-encoded; `$defs` and letters are all that ours hold.
fn percent_encoding_undone(pointer: &str) -> String {
    pointer
        .replace("%24", "$")
        .replace("%5B", "[")
        .replace("%5D", "]")
}

/// Fetches nothing.
struct Offline;

impl jsonschema::Retrieve for Offline {
    fn retrieve(
        &self,
        _: &jsonschema::Uri<String>,
    ) -> Result<Value, Box<dyn std::error::Error + Send + Sync>> {
        Err("schemas are never fetched".into())
    }
}
