//! How numbers, times and findings are put for a reader.
//!
//! Everything that came from outside passes [`clean`] before it is printed.

use rust_decimal::{Decimal, RoundingStrategy};
use time::{Date, OffsetDateTime, UtcOffset, format_description::well_known::Rfc3339};

use crate::clinical::{
    analyte::Analyte,
    assessment::{
        Assessment, Candidate, CellResult, Doubt, Fit, Grade, Lineage, LineageResult, RuleFinding,
        Urgency, Value, Verdict,
    },
    quantity::Interval,
    time::{Precision, SampleTime},
    truth::Truth,
};

/// The sentences every report ends with.
pub const CAVEAT: &str = "Decision support, not a diagnosis. Not reviewed by a clinician.";

/// How many candidates a reader is shown (clinical specification 6.1).
pub const SHOWN: usize = 5;

/// FHIR `instant` or `dateTime`, in the offset it was given in.
pub fn instant(at: OffsetDateTime) -> String {
    at.format(&Rfc3339)
        // An offset with seconds has no form in RFC 3339.
        .or_else(|_| at.to_offset(UtcOffset::UTC).format(&Rfc3339))
        .unwrap_or_else(|_| at.date().to_string())
}

/// FHIR `dateTime` as precise as the sample time is.
pub fn date_time(at: &SampleTime) -> String {
    match at.precision {
        Precision::Day => at.day().to_string(),
        Precision::Instant => instant(at.instant),
    }
}

/// Sample time for a reader: to the minute, with its offset.
pub fn readable_time(at: &SampleTime) -> String {
    match at.precision {
        Precision::Day => at.day().to_string(),
        Precision::Instant => {
            let (hours, minutes, _) = at.instant.offset().as_hms();
            let offset = match (hours, minutes) {
                (0, 0) => "UTC".to_owned(),
                _ => format!(
                    "UTC{}{:02}:{:02}",
                    if hours < 0 || minutes < 0 { '-' } else { '+' },
                    hours.abs(),
                    minutes.abs()
                ),
            };
            format!(
                "{} {:02}:{:02} {offset}",
                at.day(),
                at.instant.hour(),
                at.instant.minute()
            )
        }
    }
}

/// One line of text that may be shown anywhere: no control and no direction-changing characters,
/// single spaces, at most `most` characters.
pub fn clean(text: &str, most: usize) -> String {
    if text.len() <= most && is_plain_line(text) {
        return text.to_owned();
    }
    let visible: String = text
        .chars()
        .map(|character| match character {
            // Direction controls can make a number read as another one; the last two no XML allows.
            '\u{200E}'
            | '\u{200F}'
            | '\u{202A}'..='\u{202E}'
            | '\u{2066}'..='\u{2069}'
            | '\u{FEFF}'
            | '\u{FFFE}'
            | '\u{FFFF}' => ' ',
            other if other.is_control() => ' ',
            other => other,
        })
        .collect();
    let line = visible.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= most {
        return line;
    }
    let mut cut: String = line.chars().take(most.saturating_sub(3)).collect();
    cut.push_str("...");
    cut
}

/// Nothing to mend: printable ASCII with single spaces between words.
fn is_plain_line(text: &str) -> bool {
    let mut after_space = true;
    let plain = text.bytes().all(|byte| {
        let space = byte == b' ';
        let fits = byte.is_ascii_graphic() || (space && !after_space);
        after_space = space;
        fits
    });
    plain && (!after_space || text.is_empty())
}

/// Short name where the ward has one.
pub fn label(analyte: Analyte) -> &'static str {
    match analyte {
        Analyte::Hb => "Hb",
        Analyte::Anc | Analyte::AncManual => "ANC",
        Analyte::Platelets => "PLT",
        Analyte::Wbc | Analyte::WbcCorrected => "WBC",
        Analyte::Mcv => "MCV",
        Analyte::Alc => "ALC",
        Analyte::Arc => "reticulocytes",
        other => other.name(),
    }
}

/// Unit for a reader: `x10^9/L` where UCUM writes `10*9/L`.
pub fn unit(analyte: Analyte) -> String {
    let ucum = analyte.unit();
    match ucum.strip_prefix("10*") {
        Some(rest) => format!("x10^{rest}"),
        None => ucum.to_owned(),
    }
}

/// The number of a value, in its canonical unit: as received when that is the unit it came in.
pub fn number(value: &Value, limit: Option<Decimal>) -> String {
    let as_received = value.received.value.trim();
    if value.received.unit == value.analyte.unit()
        && value.interval.as_exact().is_some()
        && as_received.parse::<Decimal>().ok() == value.interval.as_exact()
    {
        return as_received.to_owned();
    }
    interval(&value.interval, value.analyte.decimals(), limit)
}

/// An interval as a laboratory writes it.
pub fn interval(interval: &Interval, decimals: u32, limit: Option<Decimal>) -> String {
    let print = |number: Decimal| rounded(number, decimals, limit);
    match (interval.low, interval.high) {
        (Some(low), Some(high)) if low.value == high.value => print(low.value),
        (Some(low), Some(high)) if low.value.is_zero() && low.closed => {
            format!(
                "{}{}",
                if high.closed { "<=" } else { "<" },
                print(high.value)
            )
        }
        (Some(low), Some(high)) => format!("{} to {}", print(low.value), print(high.value)),
        (None, Some(high)) => format!(
            "{}{}",
            if high.closed { "<=" } else { "<" },
            print(high.value)
        ),
        (Some(low), None) => format!(
            "{}{}",
            if low.closed { ">=" } else { ">" },
            print(low.value)
        ),
        (None, None) => "not known".to_owned(),
    }
}

/// Rounded for print, with more digits where rounding would move it across the limit: 129.6 with
/// limit 130 must not read as 130.
fn rounded(number: Decimal, decimals: u32, limit: Option<Decimal>) -> String {
    let round = |to: u32| number.round_dp_with_strategy(to, RoundingStrategy::MidpointAwayFromZero);
    let misleads = |shown: Decimal| {
        limit.is_some_and(|limit| number != limit && (shown < limit) != (number < limit))
    };
    (decimals..decimals.saturating_add(4))
        .map(round)
        .find(|shown| !misleads(*shown))
        .unwrap_or(number)
        .normalize()
        .to_string()
}

/// `Platelets 45 10*9/L, 2026-11-18`: how an input is named where it cannot be linked.
pub fn display(value: &Value) -> String {
    clean(
        &format!(
            "{} {} {}, {}",
            value.analyte.name(),
            number(value, None),
            value.analyte.unit(),
            value.at.day()
        ),
        200,
    )
}

/// A value that was sent, as sent: `Platelets 45 g/L`.
pub fn as_sent(doubt: &Doubt) -> String {
    clean(
        &format!(
            "{} {} {}",
            label(doubt.analyte),
            clean(&doubt.received.value, 40),
            clean(&doubt.received.unit, 40)
        ),
        120,
    )
}

/// Grade in words.
pub fn grade(grade: Grade) -> &'static str {
    match grade {
        Grade::None => "not low",
        Grade::Mild => "mild",
        Grade::Moderate => "moderate",
        Grade::Severe => "severe",
        Grade::VerySevere => "very severe",
        Grade::Critical => "critical",
    }
}

/// Analyte a blood line is counted by.
pub fn lineage_label(lineage: Lineage) -> &'static str {
    match lineage {
        Lineage::Erythroid => "Hb",
        Lineage::Neutrophil => "ANC",
        Lineage::Platelet => "PLT",
    }
}

/// How soon, for a clinician (clinical specification 0.3).
pub fn urgency(urgency: Urgency) -> &'static str {
    match urgency {
        Urgency::U0 => "U0 information only",
        Urgency::U1 => "U1 routine: review at next visit; repeat CBC in 2-12 weeks",
        Urgency::U2 => "U2 soon: review within 14 days",
        Urgency::U3 => "U3 urgent: contact a clinician within 24 h",
        Urgency::U4 => "U4 emergency: contact now",
    }
}

/// Fit in words.
pub fn fit(fit: Fit) -> &'static str {
    match fit {
        Fit::Hidden => "hidden",
        Fit::Weak => "weak fit",
        Fit::Moderate => "moderate fit",
        Fit::Strong => "strong fit",
    }
}

/// `Hb 92 g/L (limit 130, moderate)`; what is not known says so.
pub fn lineage(result: &LineageResult, index: Option<Date>) -> String {
    let name = lineage_label(result.lineage);
    let Some(value) = &result.value else {
        return match &result.note {
            Some(note) => format!("{name} not assessed ({})", clean(note, 120)),
            None => format!("{name} not assessed"),
        };
    };
    let mut remarks = Vec::new();
    if let Some(limit) = result.limit {
        remarks.push(format!("limit {}", limit.normalize()));
    }
    remarks.push(match (result.low, result.grade, result.at_least) {
        (Truth::False, ..) => "not low".to_owned(),
        (_, Some(certain), _) => grade(certain).to_owned(),
        (Truth::True, None, Some(least)) => format!("at least {}", grade(least)),
        (Truth::True, None, None) => "low".to_owned(),
        (Truth::Unknown, ..) => "not decided".to_owned(),
    });
    if index.is_some_and(|day| day != value.at.day()) {
        remarks.push(value.at.day().to_string());
    }
    counted(name, value, result.limit, remarks)
}

/// The same of white cells and lymphocytes.
pub fn cells(result: &CellResult) -> String {
    let mut remarks = Vec::new();
    if let Some(limit) = result.limit {
        remarks.push(format!("limit {}", limit.normalize()));
    }
    remarks.push(match result.grade {
        Some(Grade::None) => "not low".to_owned(),
        Some(certain) => grade(certain).to_owned(),
        None => "not decided".to_owned(),
    });
    let name = match result.analyte {
        Analyte::Alc => "Lymphocytes",
        _ => "WBC",
    };
    counted(name, &result.value, result.limit, remarks)
}

/// A count with what there is to say of it.
fn counted(name: &str, value: &Value, limit: Option<Decimal>, mut remarks: Vec<String>) -> String {
    if value.suspect {
        remarks.push("please verify".to_owned());
    }
    if value.preliminary {
        remarks.push("preliminary result".to_owned());
    }
    format!(
        "{name} {} {} ({})",
        number(value, limit),
        unit(value.analyte),
        remarks.join(", ")
    )
}

/// The blood lines of the index specimen in one line, with its date.
pub fn counts(assessment: &Assessment) -> String {
    let day = assessment.index.as_ref().map(|index| index.at.day());
    let mut parts: Vec<String> = assessment
        .lineages
        .iter()
        .map(|result| lineage(result, day))
        .collect();
    parts.extend(day.map(|day| day.to_string()));
    parts.join(", ")
}

/// Patterns that are present: the count pattern (C0 to C5) carries the numbers of all lines, the
/// others their own sentence.
pub fn pattern(finding: &RuleFinding, assessment: &Assessment) -> String {
    if counts_lines(finding) {
        format!("{}: {}", finding.name, counts(assessment))
    } else {
        named(finding)
    }
}

/// Whether this is one of the patterns C0 to C5, which are about the three lines.
fn counts_lines(finding: &RuleFinding) -> bool {
    finding
        .id
        .strip_prefix('C')
        .and_then(|rest| rest.chars().next())
        .is_some_and(|digit| ('0'..='5').contains(&digit))
}

/// Name and sentence, the name once.
pub fn named(finding: &RuleFinding) -> String {
    let sentence = clean(&finding.sentence, 400);
    let begins_with_name = sentence
        .to_lowercase()
        .starts_with(&finding.name.to_lowercase());
    if sentence.is_empty() {
        finding.name.to_owned()
    } else if begins_with_name {
        sentence
    } else {
        format!("{}: {sentence}", finding.name)
    }
}

/// What a rule that could not be assessed is waiting for.
pub fn not_assessable(finding: &RuleFinding) -> String {
    format!(
        "{}: not assessable: needs {}",
        finding.name,
        list(&finding.needs, "more data")
    )
}

/// Words with commas, or `otherwise` when there are none.
pub fn list(items: &[String], otherwise: &str) -> String {
    if items.is_empty() {
        otherwise.to_owned()
    } else {
        let cleaned: Vec<String> = items.iter().map(|item| clean(item, 120)).collect();
        cleaned.join(", ")
    }
}

/// Values that could not be used and belong to the index: of its day, or of no known time.
pub fn refused_of_index(assessment: &Assessment) -> impl Iterator<Item = &Doubt> {
    let day = assessment.index.as_ref().map(|index| index.at.day());
    assessment
        .doubts
        .iter()
        .filter(move |doubt| !doubt.used && doubt.at.is_none_or(|at| Some(at.day()) == day))
}

/// Candidates a reader is shown.
pub fn shown(assessment: &Assessment) -> impl Iterator<Item = &Candidate> {
    assessment
        .candidates
        .iter()
        .filter(|candidate| candidate.fit != Fit::Hidden)
        .take(SHOWN)
}

/// The sentence that says how far we saw. The time is that of the newest sample, not of the
/// assessment: the same data must give the same words.
pub fn horizon(assessment: &Assessment) -> String {
    let newest = assessment
        .span
        .as_ref()
        .map(|(_, last)| last)
        .or(assessment.index.as_ref().map(|index| &index.at));
    match newest {
        Some(at) => format!(
            "Based on results received up to {}. Other data may exist that marrowflag cannot see.",
            readable_time(at)
        ),
        None => {
            "Based on results received. Other data may exist that marrowflag cannot see.".to_owned()
        }
    }
}

/// `no cytopenia`, or what is missing for an answer; `None` when at least one line is low.
pub fn nothing(assessment: &Assessment) -> Option<String> {
    match assessment.verdict {
        Verdict::Cytopenia => None,
        Verdict::NoCytopenia => Some("no cytopenia".to_owned()),
        Verdict::InsufficientData => {
            let open: Vec<String> = assessment
                .lineages
                .iter()
                .filter(|result| result.low.is_unknown())
                .map(|result| {
                    let name = lineage_label(result.lineage);
                    match &result.note {
                        Some(note) => format!("{name}: {}", clean(note, 120)),
                        None if result.value.is_some() => format!("{name} not decided"),
                        None => format!("{name} not received"),
                    }
                })
                .collect();
            Some(match (&assessment.index, open.is_empty()) {
                (None, _) => "insufficient data: no usable blood count".to_owned(),
                (_, true) => "insufficient data: the counts do not decide".to_owned(),
                _ => format!("insufficient data: {}", open.join(", ")),
            })
        }
    }
}
