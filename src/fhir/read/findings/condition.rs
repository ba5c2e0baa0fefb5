//! Conditions, on their own or as diagnoses of an Encounter.

use time::{Date, Month, OffsetDateTime, Time};

use super::{
    Reader,
    code::{self, Certainty, Hit},
    status_code,
    table::{Condition as Asked, System, Use, Voice},
    when::{self, When},
};
use crate::{
    clinical::{
        tokens::{self, Span},
        truth::Truth,
    },
    fhir::tree::Tree,
};

/// Reads the resource as a Condition of its own.
pub(super) fn read(reader: &mut Reader<'_, '_>) {
    let condition = reader.resource;
    let encounter = reader
        .referenced(condition, "encounter")
        .and_then(|encounter| When::start(encounter, "period"));
    read_one(reader, condition, encounter, false);
}

/// Reads the diagnoses of an Encounter.
pub(super) fn read_encounter(reader: &mut Reader<'_, '_>) {
    let encounter = reader.resource;
    if matches!(
        encounter.text("status"),
        Some("entered-in-error" | "cancelled" | "planned")
    ) {
        return;
    }
    let start = When::start(encounter, "period");
    for diagnosis in encounter.items("diagnosis") {
        if let Some(condition) = reader.referenced(diagnosis, "condition")
            && condition.resource_type() == Some("Condition")
        {
            read_one(reader, condition, start, true);
        }
    }
}

/// How sure the sender is of it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    Refuted,
    Mentioned,
    Unstated,
    Confirmed,
}

/// When it began.
struct Onset {
    /// The date; `None`: none at all.
    when: Option<When>,
    /// It began then, not only "at the latest then".
    dated: bool,
}

fn read_one(
    reader: &mut Reader<'_, '_>,
    condition: &Tree<'_>,
    encounter: Option<When>,
    diagnosis: bool,
) {
    let Some(concept) = condition.get("code") else {
        return;
    };
    let standing = match status_code(condition, "verificationStatus") {
        Some("entered-in-error") => return,
        Some("refuted") => Standing::Refuted,
        Some("provisional" | "differential" | "unconfirmed") => Standing::Mentioned,
        Some("confirmed") => Standing::Confirmed,
        _ => Standing::Unstated,
    };
    let category = |code: &str| {
        condition.items("category").iter().any(|category| {
            category
                .items("coding")
                .iter()
                .any(|coding| coding.text("code") == Some(code))
        })
    };
    let filing = Filing {
        standing: if category("health-concern") && standing != Standing::Refuted {
            Standing::Mentioned
        } else {
            standing
        },
        on_problem_list: category("problem-list-item"),
        onset: onset(
            reader,
            condition,
            encounter,
            diagnosis || category("encounter-diagnosis"),
        ),
        recorded: When::member(condition, "recordedDate"),
        course: course(reader, condition),
    };
    let mut hits = code::hits(concept, Use::Condition);
    if code::codings(concept).any(|(system, code, _)| is_family_history(system, code)) {
        hits.extend(code::hits(concept, Use::Family));
    }
    for hit in hits {
        filing.state(reader, &hit);
    }
    gestational_weeks(reader, concept, &filing);
}

/// ICD Z80 to Z84: history of a relative, filed as the patient's own Condition.
fn is_family_history(system: System, code: &str) -> bool {
    matches!(system, System::Icd10Cm | System::Icd10)
        && matches!(code.get(..3), Some("Z80" | "Z81" | "Z82" | "Z83" | "Z84"))
}

/// Whether it is still so.
#[derive(Clone, Copy)]
enum Course {
    Active,
    /// Over, since then if known.
    Over(Option<When>),
    /// Treated, may come back.
    Remission(Option<When>),
}

fn course(reader: &Reader<'_, '_>, condition: &Tree<'_>) -> Course {
    let abated = When::member(condition, "abatementDateTime")
        .or_else(|| When::end(condition, "abatementPeriod"))
        .or_else(|| When::start(condition, "abatementPeriod"))
        .or_else(|| at_age(reader, condition, "abatementAge"));
    match status_code(condition, "clinicalStatus") {
        Some("active" | "recurrence" | "relapse") => Course::Active,
        Some("remission") => Course::Remission(abated),
        Some("inactive" | "resolved") => Course::Over(abated),
        _ => match abated {
            Some(_) => Course::Over(abated),
            None => Course::Active,
        },
    }
}

fn onset(
    reader: &Reader<'_, '_>,
    condition: &Tree<'_>,
    encounter: Option<When>,
    of_encounter: bool,
) -> Onset {
    let own = When::member(condition, "onsetDateTime")
        .or_else(|| When::start(condition, "onsetPeriod"))
        .or_else(|| at_age(reader, condition, "onsetAge"));
    if own.is_some() {
        return Onset {
            when: own,
            dated: true,
        };
    }
    if encounter.is_some() {
        return Onset {
            when: encounter,
            dated: of_encounter,
        };
    }
    Onset {
        when: When::member(condition, "recordedDate"),
        dated: false,
    }
}

/// The date on which the subject reached an Age, as far as years and months tell.
fn at_age(reader: &Reader<'_, '_>, condition: &Tree<'_>, name: &str) -> Option<When> {
    let age = condition.get(name)?;
    let amount: u16 = age.get("value")?.as_number()?.parse().ok()?;
    let birth = reader
        .referenced(condition, "subject")
        .and_then(|patient| When::member(patient, "birthDate"))
        .filter(|birth| birth.to_the_day)?;
    let days = |count: i64| when::days_after(birth.first, count);
    let months = |count: u16| {
        let birth = birth.first.date();
        let from_zero = i32::from(u8::from(birth.month())) - 1 + i32::from(count);
        let year = birth.year().checked_add(from_zero.div_euclid(12))?;
        let month = Month::try_from(
            u8::try_from(from_zero.rem_euclid(12))
                .ok()?
                .checked_add(1)?,
        )
        .ok()?;
        let day = birth.day().min(month.length(year));
        let date = Date::from_calendar_date(year, month, day).ok()?;
        Some(date.with_time(Time::MIDNIGHT).assume_utc())
    };
    let (first, last): (OffsetDateTime, OffsetDateTime) =
        match age.text("code").or_else(|| age.text("unit"))? {
            "a" | "year" | "years" => (
                months(amount.checked_mul(12)?)?,
                months(amount.checked_add(1)?.checked_mul(12)?)?,
            ),
            "mo" | "month" | "months" => (months(amount)?, months(amount.checked_add(1)?)?),
            "wk" | "week" | "weeks" => (
                days(i64::from(amount) * 7)?,
                days(i64::from(amount) * 7 + 6)?,
            ),
            "d" | "day" | "days" => (days(i64::from(amount))?, days(i64::from(amount))?),
            _ => return None,
        };
    Some(When {
        first,
        // The last day at that age; a year later he is one year older.
        last: if first == last {
            last
        } else {
            when::days_after(last, -1)?
        },
        to_the_day: first == last,
    })
}

/// Everything about a Condition but its code.
struct Filing {
    standing: Standing,
    on_problem_list: bool,
    onset: Onset,
    recorded: Option<When>,
    course: Course,
}

impl Filing {
    fn state(&self, reader: &mut Reader<'_, '_>, hit: &Hit) {
        let token = hit.row.token;
        let span = tokens::span(token);
        if hit.row.voice == Voice::Never {
            if token == "pregnant" && !hit.row.when.contains(&Asked::Opposite) {
                // Delivery and loss codes end a pregnancy.
                if let Some(when) = self.onset.when {
                    reader.state("pregnant@ended", Truth::True, Some(when.first), None);
                }
            } else if hit.row.when.contains(&Asked::Opposite) && self.standing != Standing::Refuted
            {
                reader.state(
                    token,
                    Truth::False,
                    self.onset.when.map(|when| when.first),
                    None,
                );
            }
            return;
        }
        let standing = match hit.certainty {
            Some(Certainty::Excluded) => Standing::Refuted,
            Some(Certainty::Suspected) => Standing::Mentioned,
            Some(Certainty::Confirmed) if self.standing == Standing::Unstated => {
                Standing::Confirmed
            }
            _ => self.standing,
        };
        if standing == Standing::Refuted {
            let since = self.recorded.or(self.onset.when);
            reader.state(
                format!("{token}@refuted"),
                Truth::False,
                since.map(|when| when.first),
                None,
            );
            return;
        }
        let course = match hit.certainty {
            Some(Certainty::Past) => Course::Over(None),
            _ => self.course,
        };
        let lasting = matches!(span, Span::Ever);
        let (mut truth, mut until) = match course {
            Course::Active => (Truth::True, None),
            Course::Remission(_) if token.starts_with("dx:") => (Truth::True, None),
            Course::Over(None) | Course::Remission(None) if !lasting => (Truth::Unknown, None),
            Course::Over(end) | Course::Remission(end) => (Truth::True, end.map(|when| when.last)),
        };
        if lasting {
            until = None;
        }
        if standing == Standing::Mentioned
            || !hit.says()
            || (tokens::silences(token) && !hit.row.verified)
        {
            truth = Truth::Unknown;
        }
        let from = match span {
            // A window opens on a day, and filing a problem is not its beginning.
            Span::Event { .. } => {
                let dated = self.onset.dated && self.onset.when.is_some_and(|when| when.to_the_day);
                if !dated && until.is_none() {
                    truth = truth.and(Truth::Unknown);
                }
                self.onset.when.map(|when| when.first).or(until)
            }
            Span::OnsetBefore(_) => self.onset.when.map(|when| when.last),
            // Comfort care is as new as its newest entry.
            _ if token == "palliative" => {
                let entry = self.recorded.or(self.onset.when);
                if entry.is_none() {
                    truth = truth.and(Truth::Unknown);
                }
                entry.map(|when| when.first)
            }
            _ => self.onset.when.map(|when| when.first),
        };
        if token == "postpartum" && truth.is_true() {
            reader.state("pregnant@ended", truth, from, None);
        }
        let token = self.qualified(hit, standing);
        reader.state(token, truth, from, until);
    }

    /// The token, and for known diagnoses how well it is known.
    fn qualified(&self, hit: &Hit, standing: Standing) -> String {
        let token = hit.token();
        if matches!(tokens::span(&token), Span::OnsetBefore(_)) {
            return format!("{token}@onset");
        }
        if !tokens::needs_confirmation(hit.row.token) || token.contains('@') {
            return token;
        }
        if hit.by_text || !hit.row.verified {
            format!("{token}@text")
        } else if standing == Standing::Confirmed || self.on_problem_list {
            token
        } else {
            format!("{token}@{}", hit.code)
        }
    }
}

/// Z3A.08 to Z3A.42 count the weeks of a pregnancy on the day they are recorded for.
fn gestational_weeks(reader: &mut Reader<'_, '_>, concept: &Tree<'_>, filing: &Filing) {
    if matches!(filing.standing, Standing::Refuted | Standing::Mentioned) {
        return;
    }
    let weeks = code::codings(concept).find_map(|(system, code, _)| {
        if system != System::Icd10Cm {
            return None;
        }
        let weeks: u16 = system
            .normal(code)
            .strip_prefix("Z3A")?
            .parse()
            .ok()
            .filter(|weeks| (8..=42).contains(weeks))?;
        Some(weeks)
    });
    if let (Some(weeks), Some(when)) = (weeks, filing.onset.when.filter(|when| when.to_the_day)) {
        reader.state(
            format!("gestational_age@{}", weeks * 7),
            Truth::True,
            Some(when.first),
            None,
        );
    }
}
