//! What surrounds a value: the report that lists it, the specimen it was measured in, the time of
//! sampling.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use sha2::{Digest, Sha256};

use super::{
    Site,
    people::{Named, Who, who},
    references::{Index, Target, identifier, is_rest_address, without_version},
    when::{self, When},
};
use crate::{
    clinical::timeline::{Draw, SpecimenProblem},
    fhir::{tree::Tree, values},
};

/// Identity of a resource of the submission while it is read.
pub(super) fn address(tree: &Tree<'_>) -> usize {
    std::ptr::from_ref(tree).addr()
}

/// A DiagnosticReport of the submission.
pub(super) struct Report<'t> {
    pub(super) entry: usize,
    pub(super) path: String,
    pub(super) tree: &'t Tree<'t>,
    pub(super) key: Arc<str>,
    pub(super) who: Who,
}

impl Report<'_> {
    /// A withdrawn report withdraws its results.
    pub(super) fn withdraws(&self) -> Option<&str> {
        self.tree
            .text("status")
            .filter(|status| matches!(*status, "entered-in-error" | "cancelled"))
    }
}

/// Which results belong together.
#[derive(Default)]
pub(super) struct Groups<'t> {
    pub(super) reports: Vec<Report<'t>>,
    /// Result to the first report that lists it.
    listed: HashMap<usize, usize>,
    /// Result to the key of its report, else of the panel it is a member of.
    key: HashMap<usize, Arc<str>>,
    /// What reports and panels name and nobody sent: entry, path, reference.
    pub(super) unresolved: Vec<(usize, String, String)>,
}

impl<'t> Groups<'t> {
    pub(super) fn new(index: &Index<'_, 't>, reports: &[Site<'t>], results: &[Site<'t>]) -> Self {
        let mut groups = Self::default();
        for site in reports {
            let report = Report {
                entry: site.entry,
                path: site.path.clone(),
                tree: site.tree,
                key: group_key(index, site),
                who: who(index, site.entry, site.tree.get("subject")),
            };
            let place = groups.reports.len();
            let key = Arc::clone(&report.key);
            groups.reports.push(report);
            groups.add(index, site, "result", &key, Some(place));
        }
        for site in results {
            if !site.tree.items("hasMember").is_empty() {
                let key = groups
                    .key
                    .get(&address(site.tree))
                    .cloned()
                    .unwrap_or_else(|| group_key(index, site));
                groups
                    .key
                    .entry(address(site.tree))
                    .or_insert_with(|| Arc::clone(&key));
                groups.add(index, site, "hasMember", &key, None);
            } else if !site.tree.items("component").is_empty() {
                let address = address(site.tree);
                groups
                    .key
                    .entry(address)
                    .or_insert_with(|| group_key(index, site));
            }
        }
        groups
    }

    /// Adds what `site` lists, and their members, as far as they have no group yet.
    fn add(
        &mut self,
        index: &Index<'_, 't>,
        site: &Site<'t>,
        element: &str,
        key: &Arc<str>,
        report: Option<usize>,
    ) {
        let mut open: Vec<(usize, String, &'t Tree<'t>, &str)> =
            vec![(site.entry, site.path.clone(), site.tree, element)];
        let mut seen = HashSet::new();
        while let Some((entry, path, holder, element)) = open.pop() {
            for (place, reference) in holder.items(element).iter().enumerate() {
                match index.follow(entry, reference) {
                    Some(Target::Here(found)) => {
                        let address = address(found.tree);
                        if !seen.insert(address) {
                            continue;
                        }
                        self.key.entry(address).or_insert_with(|| Arc::clone(key));
                        if let Some(report) = report {
                            self.listed.entry(address).or_insert(report);
                        }
                        open.push((found.entry, String::new(), found.tree, "hasMember"));
                    }
                    Some(Target::Outside(reference)) if !path.is_empty() => {
                        self.unresolved.push((
                            entry,
                            format!("{path}.{element}[{place}]"),
                            reference,
                        ));
                    }
                    Some(Target::Nowhere) if !path.is_empty() => {
                        self.unresolved.push((
                            entry,
                            format!("{path}.{element}[{place}]"),
                            String::new(),
                        ));
                    }
                    _ => {}
                }
            }
        }
    }

    pub(super) fn report(&self, result: &Tree<'_>) -> Option<&Report<'t>> {
        self.listed
            .get(&address(result))
            .and_then(|place| self.reports.get(*place))
    }

    pub(super) fn key(&self, result: &Tree<'_>) -> Option<Arc<str>> {
        self.key.get(&address(result)).cloned()
    }
}

/// A name for a report or panel that no other has, also in later submissions.
fn group_key(index: &Index<'_, '_>, site: &Site<'_>) -> Arc<str> {
    if let Some((system, value)) = site.tree.items("identifier").iter().find_map(identifier) {
        return format!("{system}|{value}").into();
    }
    if !site.contained
        && let Some(url) = index.entry(site.entry).and_then(|entry| entry.full_url)
        && (url.starts_with("urn:") || is_rest_address(url))
    {
        return without_version(url).into();
    }
    // Ids such as `1` come again in the next submission: the content tells reports apart.
    let mut hash = Sha256::new();
    let mut add = |text: Option<&str>| {
        hash.update(text.unwrap_or_default());
        hash.update([0]);
    };
    for name in ["id", "issued", "effectiveDateTime", "status"] {
        add(site.tree.text(name));
    }
    for list in ["result", "hasMember"] {
        for reference in site.tree.items(list) {
            add(reference.text("reference"));
        }
    }
    for component in site.tree.items("component") {
        add(component
            .get("valueQuantity")
            .and_then(|value| value.get("value"))
            .and_then(Tree::as_number));
    }
    data_encoding::HEXLOWER
        .encode(hash.finalize().get(..12).unwrap_or_default())
        .into()
}

/// What kind of specimen it is, as far as a blood count asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Material {
    /// Blood, or not said.
    Blood(Draw),
    /// Cord or fetal blood.
    Cord,
    /// Something else, by name.
    Other(&'static str),
}

/// A specimen as far as it is known.
#[derive(Debug)]
pub(super) struct Specimen {
    pub(super) key: Option<Arc<str>>,
    pub(super) material: Material,
    pub(super) problems: Vec<SpecimenProblem>,
    pub(super) collected: Option<When>,
    pub(super) of_someone_else: bool,
}

/// Codes of v2-0487, v3 `SpecimenType` and SNOMED CT.
#[rustfmt::skip]
const MATERIALS: &[(Material, &[&str])] = &[
    (Material::Blood(Draw::Venous), &["BLDV", "122555007"]),
    (Material::Blood(Draw::Arterial), &["BLDA", "BLDMV", "122552005"]),
    (Material::Blood(Draw::Capillary), &["BLDC", "122554006"]),
    (Material::Cord, &["BLDCO", "CORD", "122556008"]),
    (Material::Other("bone marrow"), &["MAR", "BMAR", "BON", "BONE", "119359002"]),
    (Material::Other("urine"), &["UR", "URC", "URT", "URNS", "URINE", "122575003", "122880004"]),
    (Material::Other("cerebrospinal fluid"), &["CSF", "CSFSP", "258450006"]),
    (Material::Other("pleural fluid"), &["PLR", "PLEU", "418564007"]),
    (Material::Other("peritoneal fluid"), &["PRT", "PERIT", "168139001", "309201001"]),
    (Material::Other("synovial fluid"), &["SNV", "SYNF", "119332005"]),
    (Material::Other("drain fluid"), &["DRN", "258455001"]),
    (Material::Other("dialysis fluid"), &["DIAF", "DIAFP", "258456000"]),
    (Material::Other("a blood product"), &["BPH", "BPU", "BPP"]),
];

/// Words of a specimen type that was sent as text only.
#[rustfmt::skip]
const MATERIAL_WORDS: &[(Material, &[&str])] = &[
    (Material::Cord, &["cord blood", "nabelschnurblut", "navelstrengbloed", "sang de cordon", "fetal blood"]),
    (Material::Other("bone marrow"), &["bone marrow", "knochenmark", "beenmerg", "moelle"]),
    (Material::Other("urine"), &["urine", "urin"]),
    (Material::Other("cerebrospinal fluid"), &["csf", "cerebrospinal fluid", "liquor", "lumbaalvocht"]),
    (Material::Other("pleural fluid"), &["pleural fluid", "pleurapunktat", "pleuravocht"]),
    (Material::Other("peritoneal fluid"), &["ascites", "peritoneal fluid", "aszites"]),
    (Material::Other("synovial fluid"), &["synovial fluid", "gelenkpunktat"]),
];

/// The specimen of an Observation.
pub(super) fn specimen(
    index: &Index<'_, '_>,
    site: &Site<'_>,
    named: Option<&Named>,
) -> Option<Specimen> {
    let reference = site.tree.get("specimen")?;
    let logical = reference.get("identifier").and_then(identifier).map(key_of);
    let found = match index.follow(site.entry, reference) {
        Some(Target::Here(found)) => found,
        Some(Target::Outside(reference)) => {
            return Some(unseen(logical.or_else(|| Some(reference.into()))));
        }
        Some(Target::Identifier(system, value)) => {
            return Some(unseen(Some(key_of((system, value)))));
        }
        Some(Target::Nowhere) | None => return logical.map(|key| unseen(Some(key))),
    };
    let tree = found.tree;
    let other = |subject| match (named, who(index, found.entry, Some(subject))) {
        (Some(named), Who::Person(other)) => named.differs_from(&other),
        (_, Who::NotAPerson) => true,
        _ => false,
    };
    let key = tree
        .items("identifier")
        .iter()
        .find_map(identifier)
        .or_else(|| tree.get("accessionIdentifier").and_then(identifier))
        .map(key_of)
        .or(logical)
        .or_else(|| {
            written_key(
                index,
                found.entry,
                found.contained,
                reference.text("reference"),
            )
        });
    Some(Specimen {
        key,
        material: material(tree),
        problems: problems(tree),
        collected: tree
            .get("collection")
            .and_then(|collection| when::choice(collection, "collected")),
        of_someone_else: tree.get("subject").is_some_and(other),
    })
}

fn key_of((system, value): (String, String)) -> Arc<str> {
    format!("{system}|{value}").into()
}

/// A specimen that nobody identified is known by its address; a contained one, and one with an id
/// that may come again, only by its report.
fn written_key(
    index: &Index<'_, '_>,
    entry: usize,
    contained: bool,
    written: Option<&str>,
) -> Option<Arc<str>> {
    if contained {
        return None;
    }
    index
        .entry(entry)
        .and_then(|entry| entry.full_url)
        .map(without_version)
        .filter(|url| url.starts_with("urn:") || is_rest_address(url))
        .or(written.map(without_version))
        .map(Arc::from)
}

fn unseen(key: Option<Arc<str>>) -> Specimen {
    Specimen {
        key,
        material: Material::Blood(Draw::Unspecified),
        problems: Vec::new(),
        collected: None,
        of_someone_else: false,
    }
}

fn codes<'t>(concept: &'t Tree<'_>) -> impl Iterator<Item = &'t str> {
    concept
        .items("coding")
        .iter()
        .filter_map(|coding| coding.text("code"))
}

fn material(specimen: &Tree<'_>) -> Material {
    let blood = Material::Blood(Draw::Unspecified);
    let Some(kind) = specimen.get("type") else {
        return blood;
    };
    let mut any = false;
    for code in codes(kind) {
        any = true;
        if let Some((material, _)) = MATERIALS.iter().find(|(_, known)| known.contains(&code)) {
            return *material;
        }
    }
    if any {
        return blood;
    }
    let text = kind.text("text").unwrap_or_default().trim().to_lowercase();
    MATERIAL_WORDS
        .iter()
        .find(|(_, words)| words.contains(&text.as_str()))
        .map_or(blood, |(material, _)| *material)
}

/// `Specimen.condition` (v2-0493 or text), additive and note.
fn problems(specimen: &Tree<'_>) -> Vec<SpecimenProblem> {
    let mut problems = Vec::new();
    let mut add = |problem| {
        if !problems.contains(&problem) {
            problems.push(problem);
        }
    };
    for condition in specimen.items("condition") {
        for code in codes(condition) {
            match code {
                "CLOT" => add(SpecimenProblem::Clotted),
                "HEM" => add(SpecimenProblem::Haemolysed),
                _ => {}
            }
        }
        if let Some(problem) = values::text_of(condition).and_then(problem_in) {
            add(problem);
        }
    }
    for note in specimen.items("note") {
        if let Some(problem) = note.text("text").and_then(problem_in) {
            add(problem);
        }
    }
    let citrate = |concept: &Tree<'_>| {
        codes(concept).any(|code| code.starts_with("CIT"))
            || values::text_of(concept).is_some_and(|text| text.to_lowercase().contains("citrat"))
    };
    for container in specimen.items("container") {
        let concept = |name| container.get(name).is_some_and(citrate);
        if concept("additiveCodeableConcept")
            || concept("type")
            || container
                .text("description")
                .is_some_and(|text| text.to_lowercase().contains("citrat"))
        {
            add(SpecimenProblem::Citrate);
        }
    }
    problems
}

/// Stems of the words with which laboratories say that a specimen is no good.
#[rustfmt::skip]
const PROBLEM_STEMS: &[(SpecimenProblem, &[&str])] = &[
    (SpecimenProblem::Clumped, &["clumped", "clumps", "clumping", "platelet aggregat", "plt aggregat", "thrombozytenaggregat", "thrombozyten-aggregat", "trombocytenaggrega", "agrégats plaquett", "agregats plaquett", "agregados plaquet", "aggregati piastrin"]),
    (SpecimenProblem::Clotted, &["clotted", "geronnen", "coagulated", "gestold", "coagulé", "coagulado"]),
    (SpecimenProblem::Haemolysed, &["hemolyzed", "haemolysed", "hemolysed", "haemolyzed", "hemolytisch", "hämolytisch", "haemolytisch", "hémolysé", "hemolizado"]),
    (SpecimenProblem::Lipaemic, &["lipemic", "lipaemic", "lipämisch", "lipemisch", "lipémique"]),
    (SpecimenProblem::Diluted, &["drip arm", "diluted sample", "diluted specimen", "iv contamination"]),
    (SpecimenProblem::Insufficient, &["underfilled", "onvoldoende gevuld", "unterfüllt", "insufficient", "short sample", "qns", "quantity not sufficient"]),
];

/// Words that turn such a text round. A text that has one of them says nothing.
const NEGATIONS: &[&str] = &[
    "no ", "not ", "none", "geen ", "niet ", "kein", "nicht ", "pas de", "pas d'", "sans ",
    "without", "zonder", "ohne", "absence", "negat", "sin ",
];

/// The problem that a comment names, if it is short and not negated.
pub(super) fn problem_in(text: &str) -> Option<SpecimenProblem> {
    // A comment of the bench is a sentence or two; a whole report is not searched.
    const LONGEST: usize = 200;
    let text = text.trim().to_lowercase();
    if text.chars().count() > LONGEST {
        return None;
    }
    let (problem, at) = PROBLEM_STEMS.iter().find_map(|(problem, stems)| {
        stems
            .iter()
            .find_map(|stem| text.find(stem))
            .map(|at| (*problem, at))
    })?;
    // "onvoldoende", "not sufficient" hold their own negation: only what stands before counts.
    let before = text.get(..at)?;
    let negated = NEGATIONS.iter().any(|word| before.contains(word));
    (!negated).then_some(problem)
}

/// Time of sampling: Observation, Specimen, DiagnosticReport, `issued`. With the word and text of
/// every warning, and the element it is about.
pub(super) fn sampled(
    site: &Site<'_>,
    specimen: Option<&Specimen>,
    report: Option<&Report<'_>>,
) -> (
    Option<crate::clinical::time::SampleTime>,
    Vec<(&'static str, &'static str, &'static str)>,
) {
    let found = when::choice(site.tree, "effective")
        .map(|when| (when, "effective"))
        .or_else(|| {
            specimen
                .and_then(|specimen| specimen.collected.clone())
                .map(|when| (when, "specimen"))
        })
        .or_else(|| {
            report
                .and_then(|report| when::choice(report.tree, "effective"))
                .map(|when| (when, "effective"))
        });
    match found {
        Some((When::At(at, notes), element)) => (
            Some(at),
            notes
                .into_iter()
                .map(|(word, text)| (word, element, text))
                .collect(),
        ),
        Some((When::Not(word, text), element)) => (None, vec![(word, element, text)]),
        None => match site.tree.text("issued").and_then(when::instant) {
            Some(instant) => {
                let at = crate::clinical::time::SampleTime {
                    instant,
                    precision: crate::clinical::time::Precision::Instant,
                };
                (
                    Some(at),
                    vec![(
                        "time-approximate",
                        "issued",
                        "no time of sampling; the time of issue is used",
                    )],
                )
            }
            None => (
                None,
                vec![("time-missing", "effective", "no time at all; not used")],
            ),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_of_the_bench_are_understood_unless_negated() {
        for (text, problem) in [
            (
                "Trombocytenaggregaten, dit kan aanleiding geven tot een onderschatting van het aantal trombocyten.",
                SpecimenProblem::Clumped,
            ),
            (
                "De EDTA-tube was onvoldoende gevuld",
                SpecimenProblem::Insufficient,
            ),
            ("Hemolytisch staal +++", SpecimenProblem::Haemolysed),
            ("clotted", SpecimenProblem::Clotted),
        ] {
            assert_eq!(problem_in(text), Some(problem), "{text}");
        }
        for text in [
            "No platelet clumps seen",
            "geen trombocytenaggregaten",
            "keine Thrombozytenaggregate",
            "adequate",
            "",
        ] {
            assert_eq!(problem_in(text), None, "{text}");
        }
    }
}
