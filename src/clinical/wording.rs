//! How numbers and findings are said (section 6.2). Suggestions for review, never a diagnosis.

use rust_decimal::Decimal;

use super::{
    analyte::Analyte,
    assessment::{Lineage, Urgency, Value},
    context::Context,
    grade,
    quantity::Interval,
    rule::Input,
    specimen::{Reading, Specimen},
    timeline::{Measurement, Received, Source, Timeline},
};

/// A unit as a reader writes it.
pub fn unit(analyte: Analyte) -> &'static str {
    match analyte.unit() {
        "10*9/L" => "x10^9/L",
        "10*12/L" => "x10^12/L",
        "/100{WBCs}" => "/100 WBC",
        "mL/min/{1.73_m2}" => "mL/min/1.73 m2",
        "m[IU]/L" => "mIU/L",
        "[IU]/L" => "IU/L",
        "Cel" => "C",
        other => other,
    }
}

/// The short name used in sentences.
pub fn short(analyte: Analyte) -> &'static str {
    match analyte {
        Analyte::Hb => "Hb",
        Analyte::Anc => "ANC",
        Analyte::Platelets => "PLT",
        Analyte::Wbc | Analyte::WbcCorrected => "WBC",
        Analyte::Alc => "ALC",
        Analyte::Amc => "AMC",
        Analyte::Mcv => "MCV",
        Analyte::Arc => "ARC",
        Analyte::Rdw => "RDW",
        Analyte::Ldh => "LDH",
        Analyte::B12 => "B12",
        Analyte::Crp => "CRP",
        Analyte::Egfr => "eGFR",
        Analyte::Tsat => "TSAT",
        Analyte::Alt => "ALT",
        Analyte::Ast => "AST",
        Analyte::Blasts => "blasts",
        other => other.name(),
    }
}

/// A number with at most the printing precision of its analyte, never with digits it did not have.
pub fn number(value: Decimal, analyte: Analyte) -> String {
    value.round_dp(analyte.decimals()).normalize().to_string()
}

/// An interval as a reader writes it: `92`, `<0.1`, `0 to 2.1`.
pub fn interval(interval: &Interval, analyte: Analyte) -> String {
    match (interval.low, interval.high) {
        _ if interval.as_exact().is_some() => interval
            .as_exact()
            .map(|value| number(value, analyte))
            .unwrap_or_default(),
        (Some(low), Some(high)) if low.value.is_zero() => {
            let sign = if high.closed { "<=" } else { "<" };
            format!("{sign}{}", number(high.value, analyte))
        }
        (Some(low), Some(high)) => {
            format!(
                "{} to {}",
                number(low.value, analyte),
                number(high.value, analyte)
            )
        }
        (Some(low), None) => {
            let sign = if low.closed { ">=" } else { ">" };
            format!("{sign}{}", number(low.value, analyte))
        }
        (None, Some(high)) => format!("<{}", number(high.value, analyte)),
        (None, None) => "?".to_owned(),
    }
}

/// `Hb 92 g/L`.
pub fn value(analyte: Analyte, of: &Interval) -> String {
    format!(
        "{} {} {}",
        short(analyte),
        interval(of, analyte),
        unit(analyte)
    )
}

/// A result that cannot be used, as it was sent: `13.2 g/L`.
pub fn received(received: &Received) -> String {
    if received.unit.is_empty() {
        received.value.clone()
    } else {
        format!("{} {}", received.value, received.unit)
    }
}

/// Urgency as the headline says it.
pub fn urgency_words(urgency: Urgency) -> &'static str {
    match urgency {
        Urgency::U0 => "information only",
        Urgency::U1 => "review at next visit; repeat CBC in 2-12 weeks",
        Urgency::U2 => "review within 14 days",
        Urgency::U3 => "contact a clinician within 24 h",
        Urgency::U4 => "contact now",
    }
}

/// `U3`.
pub fn urgency_code(urgency: Urgency) -> &'static str {
    match urgency {
        Urgency::U0 => "U0",
        Urgency::U1 => "U1",
        Urgency::U2 => "U2",
        Urgency::U3 => "U3",
        Urgency::U4 => "U4",
    }
}

/// Name of a lineage for a reader.
pub fn lineage(lineage: Lineage) -> &'static str {
    match lineage {
        Lineage::Erythroid => "haemoglobin",
        Lineage::Neutrophil => "neutrophils",
        Lineage::Platelet => "platelets",
    }
}

/// A name inside a sentence: `Ferritin` becomes `ferritin`, `PNH clone` and `HbF` stay.
fn uncapitalised(name: &str) -> String {
    let first_word = name.split(' ').next().unwrap_or_default();
    let mut letters = name.chars();
    match letters.next() {
        Some(first)
            if first_word.chars().count() > 2
                && first_word.chars().skip(1).all(char::is_lowercase) =>
        {
            first.to_lowercase().chain(letters).collect()
        }
        _ => name.to_owned(),
    }
}

/// What an input is called when it is missing.
pub fn input(input: Input) -> String {
    match input {
        Input::Of(analyte) | Input::Within(analyte, _) => match analyte {
            Analyte::Hb | Analyte::Anc | Analyte::Platelets | Analyte::Mcv | Analyte::Wbc => {
                short(analyte).to_owned()
            }
            // Its name has a comma of its own.
            Analyte::Pnh => "PNH clone".to_owned(),
            Analyte::B12 => "vitamin B12".to_owned(),
            other => uncapitalised(short(other)),
        },
        Input::TimesUpperLimit(analyte) => {
            format!("{} with its upper limit", uncapitalised(short(analyte)))
        }
        Input::Rpi => "reticulocyte production index".to_owned(),
        Input::Mentzer => "MCV and RBC".to_owned(),
        Input::LymphocytePercent => "lymphocytes".to_owned(),
        Input::McvFromMidpoint => "MCV".to_owned(),
        Input::GestationAtBirth => "gestation at birth".to_owned(),
    }
}

/// What a token is called.
pub fn token(token: &str) -> String {
    match token {
        "fever" => "temperature".to_owned(),
        "bleeding" => "bleeding (yes or no)".to_owned(),
        "sepsis" => "sepsis (yes or no)".to_owned(),
        "chemo_21" | "chemo_42" => "chemotherapy dates".to_owned(),
        "dat_positive" => "DAT".to_owned(),
        "breakage_positive" => "chromosome breakage test".to_owned(),
        other => other
            .strip_prefix("gene:")
            .map_or_else(|| other.replace('_', " "), |gene| format!("{gene} variant")),
    }
}

/// A reading as the assessment reports it.
pub fn reported(reading: &Reading, specimen: &Specimen, timeline: &Timeline) -> Value {
    let sources: Vec<Source> = reading
        .from
        .iter()
        .filter_map(|position| Some(timeline.measurements.get(*position)?.source.clone()))
        .collect();
    let own: Option<&Measurement> = reading
        .from
        .first()
        .filter(|_| reading.formula.is_none())
        .and_then(|position| timeline.measurements.get(*position));
    Value {
        analyte: reading.analyte,
        interval: reading.interval,
        received: own
            .map(|measurement| measurement.received.clone())
            .unwrap_or_default(),
        at: own
            .and_then(|measurement| measurement.at)
            .unwrap_or(specimen.at),
        derived: reading.formula.map(str::to_owned),
        suspect: reading.suspect,
        preliminary: reading.preliminary,
        sources,
    }
}

/// `Hb 92 g/L (limit 130, moderate)` for each lineage that has a value.
pub fn lineage_summary(context: &Context<'_>) -> String {
    let mut parts = Vec::new();
    for line in &context.lines {
        let Some(reading) = &line.reading else {
            continue;
        };
        let text = value(reading.analyte, &reading.interval);
        let limit = match (line.limit, line.low.is_true()) {
            (Some(limit), true) => {
                let word = line.grade().map_or_else(
                    || format!("at least {}", grade::grade_word(line.mildest)),
                    |grade| grade::grade_word(grade).to_owned(),
                );
                format!(" (limit {}, {word})", number(limit, reading.analyte))
            }
            (Some(limit), false) if line.low.is_unknown() => {
                format!(" (limit {}, not decided)", number(limit, reading.analyte))
            }
            _ => String::new(),
        };
        let older = line
            .borrowed_days
            .map_or_else(String::new, |days| format!(", {days} d older"));
        parts.push(format!("{text}{limit}{older}"));
    }
    parts.join(", ")
}

/// Expressions that no output may contain, checked by tests on everything that is written.
pub const FORBIDDEN: [&str; 11] = [
    "the patient has",
    "is diagnosed",
    "diagnosis of",
    "ruled out",
    "has been excluded",
    "have been excluded",
    "is excluded",
    "normal marrow",
    "no action needed",
    "is safe",
    "usually harmless",
];

/// Orders that may not open a sentence.
const ORDERS: [&str; 5] = ["give ", "start ", "stop ", "transfuse ", "treat with "];

/// The first forbidden expression in a text, if any.
pub fn forbidden(text: &str) -> Option<String> {
    let lower = text.to_lowercase();
    if let Some(found) = FORBIDDEN.iter().find(|phrase| lower.contains(**phrase)) {
        return Some((*found).to_owned());
    }
    let bare = lower
        .replace("this is a suggestion for review, not a diagnosis.", "")
        .replace("decision support, not a diagnosis.", "");
    if bare.contains("not a diagnosis") {
        return Some("not a diagnosis".to_owned());
    }
    let confirms = lower
        .split(|letter: char| !letter.is_alphanumeric())
        .any(|word| word == "confirm" || word == "confirms");
    if confirms {
        return Some("confirm".to_owned());
    }
    for (position, _) in lower.match_indices('%') {
        let before = lower.get(..position).unwrap_or_default().trim_end();
        let after = lower.get(position + 1..).unwrap_or_default().trim_start();
        let digit = before
            .chars()
            .next_back()
            .is_some_and(|letter| letter.is_ascii_digit());
        if digit
            && ["risk", "chance", "probability"]
                .iter()
                .any(|word| after.starts_with(word))
        {
            return Some("a probability".to_owned());
        }
    }
    lower
        .split(['.', ';', '\n'])
        .map(str::trim_start)
        .find_map(|sentence| ORDERS.iter().find(|order| sentence.starts_with(**order)))
        .map(|order| (*order).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forbidden_expressions_are_found() {
        for text in [
            "The patient has AA.",
            "This confirms it",
            "90 % risk",
            "Repeat; stop the drug",
            "Not a diagnosis at all",
            "TTP has been excluded",
        ] {
            assert!(forbidden(text).is_some(), "{text}");
        }
        for text in [
            "cannot be excluded",
            "discuss stopping suspect drugs",
            "This is a suggestion for review, not a diagnosis.",
            "5 % blasts",
            "give fever advice"
                .replacen("give", "then give", 1)
                .as_str(),
        ] {
            assert!(forbidden(text).is_none(), "{text}");
        }
    }
}
