//! A drug is being ordered while neutrophils are low (`order-select`, `order-sign`).
//!
//! Speaks only of cytotoxic drugs and of those with a known high risk for the marrow (clinical
//! specification 4.8), and only when neutrophils of the last 7 days are below 1.0 x10^9/L: `info`,
//! below 0.5 `warning`. It shows the counts and judges nothing else about the order.

use rust_decimal::Decimal;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use time::{Duration, OffsetDateTime};

use super::{
    Hook,
    card::{Card, source, uuid},
    markdown,
    quiet::Marks,
    request::Call,
};
use crate::{
    clinical::{
        assessment::{Assessment, Lineage, Value},
        truth::Truth,
    },
    fhir::{read::findings, tree::Tree, write::words},
};

/// Counts older than this do not matter for an order.
const RECENT: Duration = Duration::days(7);
/// Below it the card is shown, 10*9/L.
const LOW: Decimal = Decimal::ONE;
/// Below it the card warns, 10*9/L.
const VERY_LOW: Decimal = Decimal::from_parts(5, 0, 0, false, 1);
/// Drugs named on the card.
const NAMED: usize = 5;

/// What the drugs of a call have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drugs {
    /// A cytotoxic drug is among them.
    pub cytotoxic: bool,
    /// A drug with a known high risk of neutropenia is among them.
    pub toxic: bool,
    /// What the orders call them.
    pub names: Vec<String>,
    /// Fingerprint of the orders: the same orders have the same.
    pub fingerprint: String,
}

/// The drugs ordered that low neutrophils matter for; `None`: there are none.
pub fn drugs(call: &Call<'_>) -> Option<Drugs> {
    let mut drugs = Drugs {
        cytotoxic: false,
        toxic: false,
        names: Vec::new(),
        fingerprint: String::new(),
    };
    let mut hash = Sha256::new();
    for order in &call.draft_orders {
        if order.resource_type() != Some("MedicationRequest") || !is_selected(call, order) {
            continue;
        }
        let resolve = |reference: &str| find(call, order, reference);
        let groups = findings::ordered_drugs(order, &resolve);
        let cytotoxic = groups.contains(&"chemo");
        let toxic = groups.contains(&"drug_high");
        if !cytotoxic && !toxic {
            continue;
        }
        drugs.cytotoxic |= cytotoxic;
        drugs.toxic |= toxic;
        let medication = order
            .get("medicationCodeableConcept")
            .or_else(|| resolve(order.get("medicationReference")?.text("reference")?)?.get("code"));
        if let Some(name) = medication.and_then(name_of) {
            hash.update(name.as_bytes());
            if drugs.names.len() < NAMED {
                drugs.names.push(name.to_owned());
            }
        }
        hash.update([0]);
    }
    (drugs.cytotoxic || drugs.toxic).then(|| {
        let digest = hash.finalize();
        drugs.fingerprint = data_encoding::HEXLOWER.encode(digest.get(..8).unwrap_or_default());
        drugs
    })
}

fn is_selected(call: &Call<'_>, order: &Tree<'_>) -> bool {
    if call.hook == Hook::OrderSign {
        return true;
    }
    let id = order.text("id").unwrap_or_default();
    call.selections
        .iter()
        .any(|selection| selection.rsplit('/').next() == Some(id))
}

fn find<'t>(call: &Call<'t>, order: &'t Tree<'t>, reference: &str) -> Option<&'t Tree<'t>> {
    if let Some(id) = reference.strip_prefix('#') {
        return order
            .items("contained")
            .iter()
            .find(|contained| contained.text("id") == Some(id));
    }
    let (kind, id) = reference.rsplit_once('/')?;
    call.draft_orders.iter().copied().find(|resource| {
        resource.text("id") == Some(id) && resource.resource_type() == kind.rsplit('/').next()
    })
}

fn name_of<'t>(concept: &'t Tree<'t>) -> Option<&'t str> {
    concept.text("text").or_else(|| {
        concept
            .items("coding")
            .iter()
            .find_map(|coding| coding.text("display").or_else(|| coding.text("code")))
    })
}

/// The card for these drugs, when neutrophils are low.
pub fn check(
    call: &Call<'_>,
    drugs: &Drugs,
    assessment: &Assessment,
    now: OffsetDateTime,
    base: &str,
) -> Option<Card> {
    let anc = assessment
        .lineages
        .iter()
        .find(|result| result.lineage == Lineage::Neutrophil)?
        .value
        .as_ref()?;
    let age = now - anc.at.instant;
    if age > RECENT || anc.interval.is_below(LOW) != Truth::True {
        return None;
    }
    let very_low = anc.interval.is_below(VERY_LOW).is_true();
    // The same orders with the same count are the same content, whichever hook asks.
    let family = format!(
        "order-check:{}:{}",
        drugs.fingerprint,
        anc.at.instant.unix_timestamp()
    );
    let uuid = uuid(call, &family).to_string();
    let drug = match (drugs.cytotoxic, drugs.toxic) {
        (true, false) => "cytotoxic drug in this order",
        (false, _) => "drug with a known risk of neutropenia in this order",
        (true, true) => "cytotoxic or marrow-toxic drugs in this order",
    };
    let count = counted(anc);
    let summary = words::clean(
        &format!("{count}, {}{}; {drug}.", anc.at.day(), old(age)),
        139,
    );
    let body = json!({
        "uuid": uuid,
        "summary": summary,
        "detail": detail(drugs, assessment, &count, very_low),
        "indicator": if very_low { "warning" } else { "info" },
        "source": source(base, "order-check", "Low neutrophils and this order"),
    });
    Some(Card {
        uuid,
        family,
        rules: vec!["order-check".to_owned()],
        marks: Marks::default(),
        body,
    })
}

fn counted(anc: &Value) -> String {
    format!(
        "ANC {} {}",
        words::number(anc, Some(LOW)),
        words::unit(anc.analyte)
    )
}

fn old(age: Duration) -> String {
    match age.whole_days() {
        ..=0 => String::new(),
        1 => " (1 day old)".to_owned(),
        days => format!(" ({days} days old)"),
    }
}

fn detail(drugs: &Drugs, assessment: &Assessment, count: &str, very_low: bool) -> String {
    let mut paragraphs = Vec::new();
    let limit = if very_low { "0.5" } else { "1.0" };
    paragraphs.push(format!(
        "{} is below {limit} x10^9/L. The latest counts matter for this order.",
        markdown::text(count)
    ));
    if !drugs.names.is_empty() {
        let names: Vec<String> = drugs
            .names
            .iter()
            .map(|name| markdown::code(name))
            .collect();
        paragraphs.push(format!("Ordered: {}.", names.join(", ")));
    }
    let day = assessment.index.as_ref().map(|index| index.at.day());
    let others: Vec<String> = assessment
        .lineages
        .iter()
        .filter(|result| result.value.is_some())
        .map(|result| markdown::text(&words::lineage(result, day)))
        .collect();
    if !others.is_empty() {
        paragraphs.push(format!("Latest counts: {}.", others.join("; ")));
    }
    paragraphs.push(
        "Shown for cytotoxic drugs and for drugs with a known high risk of \
        neutropenia when neutrophils of the last 7 days are below 1.0 x10^9/L. Dose limits of \
        the protocol are not known to marrowflag."
            .to_owned(),
    );
    paragraphs.push(markdown::text(&words::horizon(assessment)));
    paragraphs.push(format!("*{}*", words::CAVEAT));
    paragraphs.join("\n\n")
}
