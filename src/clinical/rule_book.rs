//! The rule book: everything the model asks, with its numbers and sources, read from the same
//! definitions that are evaluated.

use super::{
    assessment::Urgency,
    candidates, catalogue, context, decide, explain, grade, judge, life_cycle,
    limits::{Limit, Tuning},
    patterns, quality, reference,
    rule::{Band, Criterion, Kind, Rule, Watch},
    safety, series, specimen, wording,
};

/// One rule, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// `D01`.
    pub id: &'static str,
    /// `disorder`, `mimic`, `pattern`, `safety`.
    pub kind: &'static str,
    /// Name for a reader.
    pub name: &'static str,
    /// Slug of the finding code system, if any.
    pub slug: Option<&'static str>,
    /// The sentence a clinician signs.
    pub sentence: String,
    /// Gate, or triggers, in words.
    pub gate: Vec<String>,
    /// Points and lines.
    pub evidence: Vec<(i32, String)>,
    /// Excluding lines.
    pub excluding: Vec<String>,
    /// Prior per age band, `N -3 I -2 ...`; empty for patterns and safety rules.
    pub priors: String,
    /// What a missing input does.
    pub if_missing: String,
    /// How soon, in words.
    pub urgency: Vec<String>,
    /// Suggested work-up.
    pub next: &'static str,
    /// Sources.
    pub source: &'static str,
    /// Confidence.
    pub confidence: &'static str,
    /// Its numbers.
    pub limits: Vec<LimitEntry>,
}

/// One number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitEntry {
    /// Stable id.
    pub id: &'static str,
    /// The number.
    pub value: String,
    /// Its unit, UCUM; `a`, `mo`, `d` for ages and windows.
    pub unit: &'static str,
    /// Where it comes from.
    pub source: &'static str,
    /// How sure we are.
    pub confidence: &'static str,
}

impl From<&'static Limit> for LimitEntry {
    fn from(limit: &'static Limit) -> Self {
        Self {
            id: limit.id,
            value: limit.value.to_string(),
            unit: limit.unit,
            source: limit.source,
            confidence: limit.confidence.as_str(),
        }
    }
}

fn numbers(criteria: impl Iterator<Item = &'static Criterion>) -> Vec<&'static Limit> {
    let mut found = Vec::new();
    for criterion in criteria {
        explain::limits_of(criterion, &mut found);
    }
    unique(found)
}

fn unique(limits: Vec<&'static Limit>) -> Vec<&'static Limit> {
    let mut seen: Vec<&'static Limit> = Vec::with_capacity(limits.len());
    for limit in limits {
        if !seen.iter().any(|known| known.id == limit.id) {
            seen.push(limit);
        }
    }
    seen
}

fn criteria_of(rule: &'static Rule) -> impl Iterator<Item = &'static Criterion> {
    std::iter::once(&rule.gate)
        .chain(rule.evidence.iter().map(|line| &line.when))
        .chain(rule.excluding.iter().map(|line| &line.when))
        .chain(rule.caps.iter().map(|cap| &cap.when))
        .chain(rule.labels.iter().map(|label| &label.when))
        .chain(rule.suffixes.iter().map(|label| &label.when))
        .chain(rule.remarks.iter().map(|label| &label.when))
        .chain(rule.urgency.iter().map(|(_, when)| when))
}

fn criteria_of_watch(watch: &'static Watch) -> impl Iterator<Item = &'static Criterion> {
    watch.levels.iter().flat_map(|level| {
        std::iter::once(&level.when)
            .chain(level.urgency.iter().map(|(_, when)| when))
            .chain(level.remarks.iter().map(|label| &label.when))
    })
}

/// Every pattern and safety rule, with its kind.
pub fn watches() -> impl Iterator<Item = (&'static Watch, &'static str)> {
    let patterns = patterns::MAIN
        .iter()
        .chain(patterns::FURTHER)
        .map(|watch| (*watch, "pattern"));
    patterns.chain(safety::ALL.iter().map(|watch| (*watch, "safety")))
}

/// The limits of sections 0 to 3, 7 and 8, which no single rule owns.
pub fn common_limits() -> Vec<&'static Limit> {
    let mut all = reference::limits();
    all.extend(grade::limits());
    all.extend(specimen::limits());
    all.extend(series::limits());
    all.extend(context::limits());
    all.extend(quality::limits());
    all.extend(candidates::limits());
    all.extend(judge::limits());
    all.extend(life_cycle::limits());
    all.extend(decide::limits());
    all
}

/// Every number of the model.
pub fn limits() -> Vec<&'static Limit> {
    let mut all = common_limits();
    for (watch, _) in watches() {
        all.extend(numbers(criteria_of_watch(watch)));
    }
    for rule in candidates::rules() {
        all.extend(numbers(criteria_of(rule)));
    }
    unique(all)
}

/// Every line and prior that gives points: `rule.line` and its points.
pub fn points() -> Vec<(String, i32)> {
    let mut all = Vec::new();
    for rule in candidates::rules() {
        for line in rule.evidence {
            all.push((format!("{}.{}", rule.id, line.id), line.points));
        }
        for band in Band::ALL {
            if let Some(points) = rule.priors.of(band) {
                all.push((format!("{}.{}", rule.id, band.key()), points));
            }
        }
    }
    all
}

/// All rules: patterns, safety rules, disorders, mimics, S01.
pub fn entries() -> Vec<Entry> {
    let patterns = watches().map(|(watch, kind)| entry_of_watch(watch, kind));
    patterns
        .chain(candidates::rules().map(entry_of_rule))
        .collect()
}

fn how_soon(urgency: Urgency, when: &Criterion, tuning: &Tuning) -> String {
    let code = wording::urgency_code(urgency);
    match when {
        Criterion::Always => format!("{code} otherwise"),
        when => format!("{code} if {}", explain::words(when, tuning)),
    }
}

fn entry_of_watch(watch: &'static Watch, kind: &'static str) -> Entry {
    let tuning = Tuning::none();
    let named = watch.levels.len() > 1;
    let prefix = |id: &str| {
        if named {
            format!("{id}: ")
        } else {
            String::new()
        }
    };
    Entry {
        id: watch.id,
        kind,
        name: watch.name,
        slug: watch.slug,
        sentence: watch
            .levels
            .iter()
            .map(|level| format!("{}{}", prefix(level.id), level.sentence))
            .collect::<Vec<_>>()
            .join(" / "),
        gate: watch
            .levels
            .iter()
            .map(|level| {
                format!(
                    "{}{}",
                    prefix(level.id),
                    explain::words(&level.when, &tuning)
                )
            })
            .collect(),
        evidence: Vec::new(),
        excluding: Vec::new(),
        priors: String::new(),
        if_missing: if kind == "safety" {
            "Undecided: printed as not assessable, with what is needed.".to_owned()
        } else {
            "Undecided: not reported.".to_owned()
        },
        urgency: watch
            .levels
            .iter()
            .flat_map(|level| {
                level
                    .urgency
                    .iter()
                    .map(|(urgency, when)| prefix(level.id) + &how_soon(*urgency, when, &tuning))
            })
            .collect(),
        next: watch.next,
        source: watch.source,
        confidence: watch.confidence.as_str(),
        limits: numbers(criteria_of_watch(watch))
            .into_iter()
            .map(LimitEntry::from)
            .collect(),
    }
}

fn entry_of_rule(rule: &'static Rule) -> Entry {
    let tuning = Tuning::none();
    let lines = |line: &super::rule::Evidence| {
        format!("{}: {}", line.text, explain::words(&line.when, &tuning))
    };
    Entry {
        id: rule.id,
        kind: match rule.kind {
            Kind::Mimic => "mimic",
            Kind::Safety => "safety",
            Kind::Acquired | Kind::Inherited | Kind::Clonal => "disorder",
        },
        name: rule.name,
        slug: Some(rule.slug),
        sentence: rule.sentence.to_owned(),
        gate: vec![explain::words(&rule.gate, &tuning)],
        evidence: rule
            .evidence
            .iter()
            .map(|line| (line.points, lines(line)))
            .collect(),
        excluding: rule.excluding.iter().map(lines).collect(),
        priors: Band::ALL
            .iter()
            .map(|band| {
                let points = rule
                    .priors
                    .of(*band)
                    .map_or_else(|| "-".to_owned(), |points| format!("{points:+}"));
                format!("{} {points}", band.letter())
            })
            .collect::<Vec<_>>()
            .join(" "),
        if_missing: rule.if_missing.to_owned(),
        urgency: rule
            .urgency
            .iter()
            .map(|(urgency, when)| how_soon(*urgency, when, &tuning))
            .collect(),
        next: rule.next,
        source: rule.source,
        confidence: rule.confidence.as_str(),
        limits: numbers(criteria_of(rule))
            .into_iter()
            .map(LimitEntry::from)
            .collect(),
    }
}

const HEAD: &str = "\
# The rule book

Generated from the rules as they are compiled in; `cargo test --test rule_book` fails when it is \
out of date, and `MARROWFLAG_BLESS=1 cargo test --test rule_book` writes it again.

Decision support for clinicians: suspected patterns, never a diagnosis. Points and priors are \
transparent expert points, not calibrated probabilities. A statement is TRUE, FALSE or UNKNOWN; \
what was not sent is UNKNOWN unless a rule says otherwise. `token` is a finding that is TRUE, \
`!token` one that is explicitly FALSE, `?token` one that is not TRUE. Fit: 8 points and more \
strong, 5-7 moderate, 2-4 weak.

";

/// The rule book as Markdown.
pub fn markdown() -> String {
    let mut text = HEAD.to_owned();
    let mut kind = "";
    for entry in entries() {
        if entry.kind != kind {
            kind = entry.kind;
            let title = match kind {
                "pattern" => "Count patterns",
                "safety" => "Safety rules",
                "disorder" => "Disorders",
                _ => "Mimics",
            };
            push(&mut text, &["## ", title, "\n\n"]);
        }
        section(&mut text, &entry);
    }
    catalogue_section(&mut text);
    push(&mut text, &["## Common limits\n\n"]);
    table(
        &mut text,
        &common_limits()
            .into_iter()
            .map(LimitEntry::from)
            .collect::<Vec<_>>(),
    );
    text
}

/// What public pages name, and what the model does with it.
fn catalogue_section(text: &mut String) {
    push(
        text,
        &[
            "## Named in public, and where it is taken up\n\n| kind | name | taken up by |\n|---|---|---|\n",
        ],
    );
    for entry in catalogue::ALL {
        let kind = match entry.kind {
            catalogue::Kind::Disorder => "disorder",
            catalogue::Kind::Cause => "cause",
            catalogue::Kind::Test => "test",
            catalogue::Kind::Sign => "sign",
            catalogue::Kind::Treatment => "treatment",
        };
        let uses: Vec<String> = entry
            .uses
            .iter()
            .map(|used| match used {
                catalogue::Use::Rule(id) => (*id).to_owned(),
                catalogue::Use::Token(token) => format!("`{token}`"),
                catalogue::Use::WorkUp(id, words) => format!("work-up of {id} ({words})"),
                catalogue::Use::Measured(key) => format!("measured: {key}"),
                catalogue::Use::Said(how) => (*how).to_owned(),
            })
            .collect();
        push(
            text,
            &[
                "| ",
                kind,
                " | ",
                entry.name,
                " | ",
                &uses.join("; "),
                " |\n",
            ],
        );
    }
    text.push('\n');
}

/// The tokens that any rule reads.
pub fn tokens() -> Vec<&'static str> {
    let mut found = Vec::new();
    for (watch, _) in watches() {
        for criterion in criteria_of_watch(watch) {
            explain::tokens_of(criterion, &mut found);
        }
    }
    for rule in candidates::rules() {
        for criterion in criteria_of(rule) {
            explain::tokens_of(criterion, &mut found);
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

fn push(text: &mut String, parts: &[&str]) {
    for part in parts {
        text.push_str(part);
    }
}

fn list(text: &mut String, title: &str, items: &[String]) {
    match items {
        [] => {}
        [one] => push(text, &["- **", title, "**: ", one, "\n"]),
        several => {
            push(text, &["- **", title, "**:\n"]);
            for item in several {
                push(text, &["  - ", item, "\n"]);
            }
        }
    }
}

fn section(text: &mut String, entry: &Entry) {
    push(
        text,
        &[
            "### ",
            entry.id,
            " ",
            entry.name,
            "\n\n",
            &entry.sentence,
            "\n\n",
        ],
    );
    list(text, "When", &entry.gate);
    let lines: Vec<String> = entry
        .evidence
        .iter()
        .map(|(points, line)| format!("{points:+} {line}"))
        .collect();
    list(text, "Points", &lines);
    list(text, "Argued against by", &entry.excluding);
    if !entry.priors.is_empty() {
        push(text, &["- **Prior by age**: ", &entry.priors, "\n"]);
    }
    if !entry.if_missing.is_empty() {
        push(
            text,
            &["- **If something is missing**: ", &entry.if_missing, "\n"],
        );
    }
    list(text, "Urgency", &entry.urgency);
    push(text, &["- **Next**: ", entry.next, "\n"]);
    push(
        text,
        &[
            "- **Source**: ",
            entry.source,
            " (confidence ",
            entry.confidence,
            ")\n\n",
        ],
    );
    table(text, &entry.limits);
}

fn table(text: &mut String, limits: &[LimitEntry]) {
    if limits.is_empty() {
        return;
    }
    push(
        text,
        &["| limit | value | unit | source | confidence |\n|---|---|---|---|---|\n"],
    );
    for limit in limits {
        push(
            text,
            &[
                "| ",
                limit.id,
                " | ",
                &limit.value,
                " | ",
                limit.unit,
                " | ",
                limit.source,
                " | ",
                limit.confidence,
                " |\n",
            ],
        );
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where there is one way to be present it needs no name.
    #[test]
    fn several_levels_are_told_apart_by_name() {
        for (watch, kind) in watches() {
            let entry = entry_of_watch(watch, kind);
            for (level, gate) in watch.levels.iter().zip(&entry.gate) {
                let named = gate.starts_with(&format!("{}: ", level.id));
                assert_eq!(named, watch.levels.len() != 1, "{}", watch.id);
            }
        }
    }
}
