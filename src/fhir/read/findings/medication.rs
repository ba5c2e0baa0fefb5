//! Drugs given, dispensed, stated and ordered.
//!
//! Given is better than dispensed, dispensed better than ordered: an order may make a drug a
//! possible cause, but it never makes cytotoxic treatment certain, because a cancelled cycle
//! must not silence an alarm.

use rust_decimal::Decimal;
use time::OffsetDateTime;

use super::{
    Reader,
    code::{self, Hit},
    table::{Condition as Asked, System, TABLE, Use, Voice},
    when::{self, When},
};
use crate::{
    clinical::{tokens, truth::Truth},
    fhir::tree::Tree,
};

/// Days a supply is taken to last when nothing is said.
const USUAL_SUPPLY: i64 = 30;

/// More methotrexate than this in a day, mg, is cytotoxic treatment.
const METHOTREXATE_HIGH: Decimal = Decimal::from_parts(50, 0, 0, false, 0);

/// What a resource says of the exposure.
struct Exposure {
    truth: Truth,
    from: Option<OffsetDateTime>,
    until: Option<OffsetDateTime>,
    /// It is still going on.
    open: bool,
    /// An order only.
    ordered: bool,
}

/// Reads a `MedicationAdministration`, -Statement, -Dispense or -Request.
pub(super) fn read(reader: &mut Reader<'_, '_>) {
    let resource = reader.resource;
    let Some(exposure) = exposure(resource) else {
        return;
    };
    let route = Route::of(resource);
    if route == Route::Local {
        return;
    }
    let mut hits = Vec::new();
    let mut unmapped = false;
    for concept in concepts(reader) {
        let found = code::hits(concept, Use::Medication);
        unmapped |= found.is_empty() && is_unknown_product(concept);
        hits.extend(found);
    }
    if unmapped && hits.is_empty() {
        reader.warn(
            "code-not-used",
            "Drug code not mapped: neither an ingredient nor an ATC code that is known here",
            "medication",
        );
    }
    let mut stated: Vec<(&str, Option<&str>)> = Vec::new();
    for hit in &hits {
        // Two ingredients of one group, or ATC and `RxNorm` of one drug, are one exposure.
        let key = (hit.row.token, hit.row.qualifier());
        if !stated.contains(&key) {
            stated.push(key);
            state(reader, resource, hit, &exposure, route);
        }
    }
}

/// Groups of drugs (`chemo`, `drug_high`, `drug_other` ...) that a draft order is for. An order that
/// is being written has no dates and no status yet: only its drug, dose and route count.
pub(super) fn ordered_groups(reader: &Reader<'_, '_>) -> Vec<&'static str> {
    let resource = reader.resource;
    let route = Route::of(resource);
    if route == Route::Local {
        return Vec::new();
    }
    let mut groups = Vec::new();
    for concept in concepts(reader) {
        for hit in code::hits(concept, Use::Medication) {
            let token = hit.row.token;
            let high_dose = hit.row.when.contains(&Asked::HighDose);
            let is_high = || {
                route == Route::Vein
                    || route == Route::Spine
                    || daily_milligrams(resource).is_some_and(|dose| dose > METHOTREXATE_HIGH)
            };
            let means_it = hit.row.voice != Voice::Never
                && (hit.says() || high_dose)
                && !(is_local_atc(&hit) && token != "chemo")
                && (!high_dose || is_high());
            if means_it && !groups.contains(&token) {
                groups.push(token);
            }
        }
    }
    groups
}

/// The drug of the resource: as a concept of its own, of the Medication it points at, or of that
/// Medication's ingredients.
fn concepts<'c, 't: 'c>(reader: &Reader<'c, 't>) -> Vec<&'c Tree<'c>> {
    let mut concepts = Vec::new();
    if let Some(concept) = reader.resource.get("medicationCodeableConcept") {
        concepts.push(concept);
    }
    if let Some(medication) = reader.referenced(reader.resource, "medicationReference") {
        concepts.extend(medication.get("code"));
        for ingredient in medication.items("ingredient") {
            if let Some(concept) = ingredient.get("itemCodeableConcept") {
                concepts.push(concept);
            } else if let Some(part) = reader.referenced(ingredient, "itemReference") {
                concepts.extend(part.get("code"));
            }
        }
    }
    concepts
}

/// A code of `RxNorm` (or of no system we read) says nothing here unless it is an ingredient of the
/// table: it may be the product of one. An ATC code that is not in the table is simply harmless.
fn is_unknown_product(concept: &Tree<'_>) -> bool {
    let mut coded = false;
    for (system, code, _) in code::codings(concept) {
        coded = true;
        if system == System::Atc || !TABLE.rows_of(system, code).is_empty() {
            return false;
        }
    }
    coded || code::is_coded(concept)
}

fn state(
    reader: &mut Reader<'_, '_>,
    resource: &Tree<'_>,
    hit: &Hit,
    exposure: &Exposure,
    route: Route,
) {
    let token = hit.row.token;
    if hit.row.voice == Voice::Never || (is_local_atc(hit) && token != "chemo") {
        return;
    }
    let mut truth = exposure.truth;
    let mut name = hit.token();
    for asked in &hit.row.when {
        match asked {
            Asked::HighDose => {
                let high = route == Route::Vein
                    || route == Route::Spine
                    || daily_milligrams(resource).is_some_and(|dose| dose > METHOTREXATE_HIGH);
                if !high {
                    return;
                }
            }
            Asked::Systemic if !matches!(route, Route::Vein | Route::Spine | Route::Systemic) => {
                truth = truth.and(Truth::Unknown);
            }
            Asked::LongerThan(days) => name = format!("{token}@longer{days}"),
            Asked::Steroid(factor) => {
                let dose = daily_milligrams(resource)
                    .zip(factor.parse::<Decimal>().ok())
                    .and_then(|(dose, factor)| dose.checked_mul(factor));
                name = match dose {
                    Some(dose) => format!("{token}@{}", dose.normalize()),
                    None => token.to_owned(),
                };
            }
            _ => {}
        }
    }
    if hit.row.voice == Voice::Mentions && !hit.row.when.contains(&Asked::HighDose) {
        truth = truth.and(Truth::Unknown);
    }
    if tokens::silences(token) && (exposure.ordered || !hit.row.verified) && truth.is_true() {
        truth = Truth::Unknown;
    }
    if name == token && tokens::is_also_a_condition(token) {
        name = format!("{token}@drug");
    }
    let until = if exposure.open { None } else { exposure.until };
    reader.state(name, truth, exposure.from, until);
}

/// ATC groups for skin (D), eye and ear (S) and lungs (R).
fn is_local_atc(hit: &Hit) -> bool {
    hit.code.len() == 7 && hit.code.starts_with(['D', 'S', 'R'])
}

fn exposure(resource: &Tree<'_>) -> Option<Exposure> {
    let status = resource.text("status")?;
    let given = |from: Option<When>, until: Option<When>, open: bool, truth: Truth| {
        // Without a date nobody knows whether it was last week or ten years ago.
        let truth = if from.is_none() && until.is_none() {
            truth.and(Truth::Unknown)
        } else {
            truth
        };
        let precise = |when: Option<When>| when.is_none_or(|when| when.to_the_day);
        Exposure {
            truth: if precise(from) && precise(until) {
                truth
            } else {
                truth.and(Truth::Unknown)
            },
            from: from.or(until).map(|when| when.first),
            until: until.or(from).map(|when| when.last),
            open,
            ordered: false,
        }
    };
    match resource.resource_type()? {
        "MedicationAdministration" => {
            if !matches!(status, "completed" | "in-progress" | "stopped" | "on-hold") {
                return None;
            }
            let from = effective_start(resource);
            let open = status == "in-progress"
                && When::end(resource, "effectivePeriod").is_none()
                && resource.get("effectivePeriod").is_some();
            Some(given(from, effective_end(resource), open, Truth::True))
        }
        "MedicationStatement" => {
            let truth = match status {
                "active" | "completed" | "stopped" | "on-hold" => Truth::True,
                "not-taken" => Truth::False,
                _ => return None,
            };
            let from = effective_start(resource);
            let end = effective_end(resource);
            let bounded = When::end(resource, "effectivePeriod").is_some()
                || resource.get("effectiveDateTime").is_some();
            let open = status == "active" && from.is_some() && !bounded;
            Some(given(from, end, open, truth))
        }
        "MedicationDispense" => {
            if status != "completed" {
                return None;
            }
            let from = When::member(resource, "whenHandedOver")?;
            let days = resource
                .get("daysSupply")
                .and_then(days)
                .unwrap_or(USUAL_SUPPLY);
            let mut exposure = given(Some(from), Some(from), false, Truth::True);
            exposure.until = when::days_after(from.last, days);
            Some(exposure)
        }
        "MedicationRequest" => ordered(resource, status),
        _ => None,
    }
}

fn ordered(resource: &Tree<'_>, status: &str) -> Option<Exposure> {
    let planned = !matches!(status, "active" | "completed" | "stopped")
        || !matches!(resource.text("intent"), Some("order" | "original-order"))
        || resource.get("doNotPerform").and_then(Tree::as_bool) == Some(true);
    if planned {
        return None;
    }
    let bounds = resource
        .items("dosageInstruction")
        .iter()
        .find_map(|dosage| dosage.get("timing")?.get("repeat")?.get("boundsPeriod"));
    let (from, until) = match bounds {
        Some(bounds) => (When::member(bounds, "start"), When::member(bounds, "end")),
        None => (None, None),
    };
    let from = from.or_else(|| When::member(resource, "authoredOn"));
    let until = until.map(|when| when.last).or_else(|| {
        let supply = resource
            .get("dispenseRequest")
            .and_then(|request| request.get("expectedSupplyDuration"))
            .and_then(days)
            .unwrap_or(USUAL_SUPPLY);
        when::days_after(from?.last, supply)
    });
    let dated = from.is_some_and(|when| when.to_the_day);
    Some(Exposure {
        truth: if dated { Truth::True } else { Truth::Unknown },
        from: from.map(|when| when.first),
        until,
        open: false,
        ordered: true,
    })
}

fn effective_start(resource: &Tree<'_>) -> Option<When> {
    When::member(resource, "effectiveDateTime").or_else(|| When::start(resource, "effectivePeriod"))
}

fn effective_end(resource: &Tree<'_>) -> Option<When> {
    When::end(resource, "effectivePeriod").or_else(|| When::member(resource, "effectiveDateTime"))
}

/// A Duration in days, rounded up.
fn days(duration: &Tree<'_>) -> Option<i64> {
    let amount = super::value::decimal(duration.get("value")?)?;
    let factor = match duration.text("code").or_else(|| duration.text("unit"))? {
        "d" | "day" | "days" => Decimal::ONE,
        "wk" | "week" | "weeks" => Decimal::from(7),
        "mo" | "month" | "months" => Decimal::from(30),
        "h" => return Some(1),
        _ => return None,
    };
    let days: i64 = amount.checked_mul(factor)?.ceil().try_into().ok()?;
    (0..=1200).contains(&days).then_some(days)
}

/// Where a drug enters the body, as far as a rule asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route {
    /// Not said.
    Unsaid,
    /// By mouth or into muscle or skin fold: reaches the blood.
    Systemic,
    /// Into a vein.
    Vein,
    /// Into the spinal fluid.
    Spine,
    /// Eye, ear, skin, vagina, lungs.
    Local,
}

impl Route {
    /// From `dosage.route` or `dosageInstruction.route`: SNOMED CT concepts of the FHIR route
    /// value set, or exact English words of a route without a code.
    fn of(resource: &Tree<'_>) -> Self {
        dosages(resource)
            .filter_map(|dosage| dosage.get("route"))
            .map(|route| {
                for (system, code, _) in code::codings(route) {
                    if system == System::Snomed {
                        return Self::of_concept(code);
                    }
                }
                if code::is_coded(route) {
                    Self::Unsaid
                } else {
                    Self::of_words(route.text("text").unwrap_or_default())
                }
            })
            .next()
            .unwrap_or(Self::Unsaid)
    }

    fn of_concept(code: &str) -> Self {
        match code {
            "47625008" | "418114005" | "419993007" => Self::Vein,
            "72607000" => Self::Spine,
            "26643006" | "78421000" | "34206005" | "37161004" | "37839007" => Self::Systemic,
            // topical, cutaneous, ocular, otic, vaginal, respiratory tract, nasal
            "6064005" | "448598008" | "54485002" | "10547007" | "16857009" | "447694001"
            | "46713006" => Self::Local,
            _ => Self::Unsaid,
        }
    }

    fn of_words(words: &str) -> Self {
        match words.trim().to_ascii_lowercase().as_str() {
            "intravenous" | "iv" | "i.v." => Self::Vein,
            "intrathecal" => Self::Spine,
            "oral" | "po" | "by mouth" | "subcutaneous" | "intramuscular" => Self::Systemic,
            "topical" | "cutaneous" | "skin" | "eye" | "ocular" | "ophthalmic" | "ear" | "otic"
            | "vaginal" | "inhalation" | "inhaled" | "nasal" => Self::Local,
            _ => Self::Unsaid,
        }
    }
}

/// `dosage` of what was given or taken, `dosageInstruction` of what was ordered or dispensed.
fn dosages<'r>(resource: &'r Tree<'r>) -> impl Iterator<Item = &'r Tree<'r>> {
    let single = resource
        .get("dosage")
        .filter(|dosage| matches!(dosage, Tree::Object(_)));
    single
        .into_iter()
        .chain(resource.items("dosage"))
        .chain(resource.items("dosageInstruction"))
}

/// Dose of one day in mg; `None` when dose or frequency is not said. A single dose given counts
/// as the dose of its day.
fn daily_milligrams(resource: &Tree<'_>) -> Option<Decimal> {
    let administered = resource.resource_type() == Some("MedicationAdministration");
    let mut total = Decimal::ZERO;
    let mut any = false;
    for dosage in dosages(resource) {
        let dose = dosage.get("dose").or_else(|| {
            dosage
                .items("doseAndRate")
                .iter()
                .find_map(|rate| rate.get("doseQuantity"))
        })?;
        let amount = super::value::decimal(dose.get("value")?)?;
        let milligrams = match dose.text("code").or_else(|| dose.text("unit"))? {
            "mg" => amount,
            "g" => amount.checked_mul(Decimal::ONE_THOUSAND)?,
            "ug" | "mcg" => amount.checked_div(Decimal::ONE_THOUSAND)?,
            _ => return None,
        };
        let a_day = if administered {
            Decimal::ONE
        } else {
            times_a_day(dosage)?
        };
        total = total.checked_add(milligrams.checked_mul(a_day)?)?;
        any = true;
    }
    any.then_some(total)
}

fn times_a_day(dosage: &Tree<'_>) -> Option<Decimal> {
    let repeat = dosage.get("timing")?.get("repeat")?;
    let frequency = match repeat.get("frequency") {
        Some(frequency) => super::value::decimal(frequency)?,
        None => Decimal::ONE,
    };
    let period = super::value::decimal(repeat.get("period")?)?;
    let days = match repeat.text("periodUnit")? {
        "h" => period.checked_div(Decimal::from(24))?,
        "d" => period,
        // A weekly dose is taken on one day, and it is the day that counts.
        "wk" | "mo" => Decimal::ONE,
        _ => return None,
    };
    frequency.checked_div(days)
}
