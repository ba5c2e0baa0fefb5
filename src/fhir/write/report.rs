//! DiagnosticReport: what was found in one specimen, why, and what to do next.
//!
//! `partial`, because nobody has verified it; one for each specimen, new versions of it when its
//! data are corrected.

use data_encoding::BASE64;
use serde_json::{Value, json};
use sha1::{Digest, Sha1};

use super::{
    Resource, WriteContext, assemble, coding, device, identity, inputs, linked,
    narrative::Narrative, observation, put, reissue, text, words,
};
use crate::clinical::{
    analyte::Analyte,
    assessment::{Assessment, Doubt, RuleFinding},
    truth::Truth,
};

/// Inputs that are named.
const MOST_INPUTS: usize = 100;

/// Characters of a conclusion (read in ten seconds).
const MOST_CHARACTERS: usize = 1000;

/// The report of the assessment's index specimen; `None` without one.
pub fn report(assessment: &Assessment, ctx: &WriteContext<'_>) -> Option<Resource> {
    let index = assessment.index.as_ref()?;
    let identifier = identity::report_identifier(ctx.tenant, ctx.patient_key, index);
    let (first, last) = assessment.span.unwrap_or((index.at, index.at));
    let conclusion = conclusion(assessment);
    let page = text::render(assessment, false);
    let mut rest = json!({
        "identifier": [{
            "use": "official",
            "system": identity::REPORT_SYSTEM,
            "value": identifier
        }]
    });
    let orders: Vec<Value> = ctx
        .based_on
        .iter()
        .filter_map(|order| linked("ServiceRequest", order))
        .collect();
    if !orders.is_empty() {
        put(&mut rest, "basedOn", Value::Array(orders));
    }
    put(&mut rest, "status", json!("partial"));
    put(&mut rest, "category", categories());
    put(
        &mut rest,
        "code",
        json!({
            "coding": [
                {
                    "system": format!("{}/CodeSystem/mf-report", identity::CANON),
                    "code": "cytopenia-assessment",
                    "display": "Cytopenia assessment"
                },
                {
                    "system": "http://loinc.org",
                    "code": "18723-7",
                    "display": "Hematology studies (set)"
                }
            ],
            "text": "Cytopenia assessment"
        }),
    );
    put(&mut rest, "subject", super::subject(ctx.subject));
    if let Some(encounter) = ctx.encounter.and_then(|sent| linked("Encounter", sent)) {
        put(&mut rest, "encounter", encounter);
    }
    put(
        &mut rest,
        "effectivePeriod",
        json!({"start": words::date_time(&first), "end": words::date_time(&last)}),
    );
    put(&mut rest, "issued", json!(words::instant(assessment.as_of)));
    put(&mut rest, "performer", device::performer(ctx));
    put(&mut rest, "result", Value::Array(results(assessment, ctx)));
    put(&mut rest, "conclusion", json!(conclusion));
    let codes = conclusion_codes(assessment, ctx);
    if !codes.is_empty() {
        put(&mut rest, "conclusionCode", Value::Array(codes));
    }
    put(
        &mut rest,
        "presentedForm",
        json!([presented(&page, &words::date_time(&last))]),
    );
    let mut narrative = Narrative::default().headline(&assessment.headline);
    for part in parts(assessment) {
        narrative = narrative.paragraph(&part);
    }
    let narrative = narrative
        .values(assessment)
        .paragraph(&words::horizon(assessment))
        .paragraph(words::CAVEAT);
    Some(assemble(
        ctx,
        "DiagnosticReport",
        "cytopenia-report",
        Some((identity::REPORT_SYSTEM, &identifier)),
        rest,
        narrative,
    ))
}

/// The report of a specimen whose results were withdrawn.
pub fn withdrawn(previous: &Resource, ctx: &WriteContext<'_>) -> Resource {
    let narrative = Narrative::default()
        .headline("Entered in error")
        .paragraph("A result that this report rested on was withdrawn or corrected.")
        .paragraph(words::CAVEAT);
    reissue(ctx, "cytopenia-report", previous, narrative, |body| {
        put(body, "status", json!("entered-in-error"));
    })
}

fn categories() -> Value {
    const SYSTEM: &str = "http://terminology.hl7.org/CodeSystem/v2-0074";
    json!([
        {"coding": [{"system": SYSTEM, "code": "LAB", "display": "Laboratory"}]},
        {"coding": [{"system": SYSTEM, "code": "HM", "display": "Hematology"}]}
    ])
}

/// What was used, then what of the index could not be used; then the derived Observations.
fn results(assessment: &Assessment, ctx: &WriteContext<'_>) -> Vec<Value> {
    let mut results = inputs::all(assessment, MOST_INPUTS);
    if ctx.observations {
        results.extend(
            observation::observations(assessment, ctx)
                .iter()
                .map(|derived| json!({"reference": format!("Observation/{}", derived.id)})),
        );
    }
    if results.is_empty() {
        results.push(json!({"display": "No usable result"}));
    }
    results
}

/// First the code of the Flag, then one for each candidate that the report lists.
fn conclusion_codes(assessment: &Assessment, ctx: &WriteContext<'_>) -> Vec<Value> {
    let low = coding::low_lines(assessment);
    let mut slugs: Vec<&str> = assessment
        .slug
        .or_else(|| {
            present(&assessment.patterns)
                .chain(present(&assessment.safety))
                .find_map(|finding| finding.slug)
        })
        .into_iter()
        .collect();
    let mut codes: Vec<Value> = slugs
        .iter()
        .map(|slug| json!({"coding": coding::codings(slug, &low, ctx.snomed)}))
        .collect();
    for candidate in words::shown(assessment) {
        if !slugs.contains(&candidate.slug) {
            slugs.push(candidate.slug);
            codes.push(json!({"coding": [coding::own(candidate.slug)]}));
        }
    }
    if codes.is_empty() {
        let quality = assessment
            .doubts
            .iter()
            .find_map(|doubt| coding::quality(doubt.word));
        codes.extend(quality.map(|slug| json!({"coding": [coding::own(slug)]})));
    }
    codes
}

fn present(findings: &[RuleFinding]) -> impl Iterator<Item = &RuleFinding> {
    findings
        .iter()
        .filter(|finding| finding.truth == Truth::True)
}

/// What a clinician reads, most important first, each part whole or not at all.
fn parts(assessment: &Assessment) -> Vec<String> {
    let mut parts = vec![sentence(words::urgency(assessment.urgency))];
    let count_pattern = present(&assessment.patterns).next();
    match count_pattern {
        Some(pattern) => parts.push(sentence(&words::pattern(pattern, assessment))),
        None => parts.push(match words::nothing(assessment).as_deref() {
            Some("no cytopenia") => "No cytopenia pattern in the results received.".to_owned(),
            Some(other) => sentence(&capital(other)),
            None => sentence(&words::counts(assessment)),
        }),
    }
    parts.extend(
        words::refused_of_index(assessment)
            .filter(|doubt| core(doubt.analyte))
            .take(3)
            .map(refused),
    );
    parts.extend(present(&assessment.safety).map(|rule| sentence(&words::named(rule))));
    parts.extend(
        present(&assessment.patterns)
            .skip(1)
            .map(|pattern| sentence(&words::pattern(pattern, assessment))),
    );
    let candidates: Vec<String> = words::shown(assessment)
        .map(|candidate| format!("{} ({})", candidate.name, words::fit(candidate.fit)))
        .collect();
    match candidates.as_slice() {
        [] => {}
        // Never one candidate alone (clinical specification 6.1, step 6).
        [only] => parts.push(format!("To consider: {only}; other causes possible.")),
        several => parts.push(format!("To consider: {}.", several.join(", "))),
    }
    if !assessment.first_look.is_empty() {
        parts.push(format!(
            "Look first for: {}.",
            words::list(&assessment.first_look, "")
        ));
    }
    let next = count_pattern
        .map(|pattern| pattern.next)
        .filter(|next| !next.is_empty());
    parts.extend(next.map(|next| sentence(&format!("Suggested work-up: {next}"))));
    parts.extend(
        assessment
            .safety
            .iter()
            .filter(|rule| rule.truth.is_unknown())
            .map(|rule| sentence(&words::not_assessable(rule))),
    );
    parts.extend(
        assessment
            .notes
            .iter()
            .map(|note| sentence(&words::clean(note, 300))),
    );
    parts.retain(|part| !part.is_empty());
    parts
}

/// `PLT 45 g/L not usable: verify today.`, in the words of the check that refused it where it has
/// more to say.
fn refused(doubt: &Doubt) -> String {
    let sent = words::as_sent(doubt);
    let text = words::clean(&doubt.text, 240);
    let said = text.to_lowercase();
    if said.starts_with("not usable") {
        sentence(&format!("{sent} {text}"))
    } else if said.contains("not usable") {
        sentence(&text)
    } else {
        format!("{sent} not usable: verify today.")
    }
}

/// Values whose refusal makes a report urgent (clinical specification 8.1, first line).
fn core(analyte: Analyte) -> bool {
    matches!(
        analyte,
        Analyte::Hb | Analyte::Anc | Analyte::AncManual | Analyte::Platelets
    )
}

/// The conclusion: the parts that fit, and the mandatory endings.
fn conclusion(assessment: &Assessment) -> String {
    const MORE: &str = "More in the text of the report.";
    let ending = format!("{} {}", words::horizon(assessment), words::CAVEAT);
    let room = MOST_CHARACTERS
        .saturating_sub(ending.chars().count())
        .saturating_sub(MORE.chars().count() + 2);
    let mut conclusion = String::new();
    let mut left_out = false;
    for part in parts(assessment) {
        let part = words::clean(&part, room);
        let length = conclusion.chars().count() + part.chars().count() + 1;
        if length > room {
            left_out = true;
            continue;
        }
        conclusion.push_str(&part);
        conclusion.push(' ');
    }
    if left_out {
        conclusion.push_str(MORE);
        conclusion.push(' ');
    }
    conclusion.push_str(&ending);
    conclusion
}

fn sentence(text: &str) -> String {
    let text = text.trim();
    if text.is_empty() || text.ends_with(['.', '!', '?']) {
        text.to_owned()
    } else {
        format!("{text}.")
    }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| {
        format!("{}{}", first.to_uppercase(), letters.as_str())
    })
}

/// The page as plain text. `creation` is the newest sample, the state of the data it shows: the
/// time of the assessment stands in `issued`, and must not make equal content differ.
fn presented(page: &str, creation: &str) -> Value {
    json!({
        "contentType": "text/plain",
        "language": "en",
        "data": BASE64.encode(page.as_bytes()),
        "size": page.len(),
        "hash": BASE64.encode(&Sha1::digest(page.as_bytes())),
        "title": "Cytopenia assessment",
        "creation": creation
    })
}
