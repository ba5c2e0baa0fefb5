//! What only the results of a patient together decide.

use std::collections::{HashMap, HashSet};

use rust_decimal::Decimal;

use super::{PatientReading, ReadValue, observation::SpecimenNote, quantity};
use crate::clinical::{
    analyte::Analyte,
    quantity::{End, Interval},
    time::Precision,
    timeline::{Fact, Measurement, Reason, SpecimenProblem, Status},
    truth::Truth,
};

/// Marks the values of the specimen that a comment speaks of.
pub(super) fn spoil(reading: &mut PatientReading, note: &SpecimenNote) {
    for value in &mut reading.values {
        let Some(measurement) = value
            .measurement
            .as_mut()
            .filter(|measurement| same_specimen(measurement, note))
        else {
            continue;
        };
        let blood_count = value.role.as_deref().is_some_and(|role| {
            matches!(role, "core" | "differential" | "red-cell" | "reticulocyte")
        });
        let concerned = match note.problem {
            SpecimenProblem::Clumped => matches!(
                measurement.analyte,
                Analyte::Platelets | Analyte::Mpv | Analyte::Ipf | Analyte::IpfAbsolute
            ),
            SpecimenProblem::Haemolysed => true,
            _ => blood_count,
        };
        let citrate = measurement.problems.contains(&SpecimenProblem::Citrate);
        if !concerned || (note.problem == SpecimenProblem::Clumped && citrate) {
            continue;
        }
        if !measurement.problems.contains(&note.problem) {
            measurement.problems.push(note.problem);
        }
        if let Some(reason) = quantity::problem_reason(note.problem)
            && measurement.unusable.is_none()
        {
            measurement.unusable = Some(reason.clone());
            value.sent.why.get_or_insert(reason);
        }
    }
}

/// Same specimen, else same report, else same minute (clinical specification, section 0).
fn same_specimen(measurement: &Measurement, note: &SpecimenNote) -> bool {
    if let (Some(one), Some(two)) = (&measurement.specimen, &note.specimen) {
        return one == two;
    }
    if let (Some(one), Some(two)) = (&measurement.report, &note.report)
        && one == two
    {
        return true;
    }
    match (measurement.at, note.at) {
        (Some(one), Some(two))
            if one.precision == Precision::Instant && two.precision == Precision::Instant =>
        {
            one.instant.unix_timestamp().div_euclid(60)
                == two.instant.unix_timestamp().div_euclid(60)
        }
        // A comment of the day, and nothing that says which specimen: better a count too few.
        (Some(one), Some(two)) => {
            one.day() == two.day() && (measurement.report.is_none() || note.report.is_none())
        }
        _ => false,
    }
}

/// Pelger-Huet cells count as dysplasia only beside another item of it.
pub(super) fn dysplasia_needs_company(patient: &mut PatientReading) {
    let is = |fact: &Fact, truth| &*fact.token == "dysplasia" && fact.truth == truth;
    let times: HashSet<_> = patient
        .facts
        .iter()
        .flat_map(|read| &read.facts)
        .filter(|fact| is(fact, Truth::True))
        .map(|fact| fact.from)
        .collect();
    for fact in patient.facts.iter_mut().flat_map(|read| &mut read.facts) {
        if is(fact, Truth::Unknown)
            && fact.source.loinc.as_deref() == Some("18311-1")
            && times.contains(&fact.from)
        {
            fact.truth = Truth::True;
        }
    }
}

/// The same number as component, member and on its own is one value.
pub(super) fn count_once(patient: &mut PatientReading) {
    let mut seen: HashMap<_, String> = HashMap::new();
    for value in &mut patient.values {
        let Some(measurement) = &value.measurement else {
            continue;
        };
        let Some(number) = measurement.value.filter(|_| {
            measurement.unusable.is_none()
                && !matches!(
                    measurement.status,
                    Status::NotEvaluated | Status::EnteredInError
                )
        }) else {
            continue;
        };
        let minute = measurement.at.map(|at| {
            (
                at.instant.unix_timestamp().div_euclid(60),
                at.precision == Precision::Day,
            )
        });
        let specimen = measurement
            .specimen
            .clone()
            .or_else(|| measurement.report.clone());
        if specimen.is_none() && minute.is_none_or(|(_, day)| day) {
            continue;
        }
        let ends = |end: Option<End>| end.map(|end| (end.value.normalize(), end.closed));
        let same = (
            measurement.analyte,
            ends(number.low),
            ends(number.high),
            specimen,
            minute,
            value.sent.code.clone(),
            measurement.status,
        );
        if let Some(first) = seen.get(&same) {
            value.sent.why = Some(Reason {
                word: "duplicate",
                text: format!("the same value as {first}"),
            });
            value.measurement = None;
        } else {
            seen.insert(same, value.path.clone());
        }
    }
}

/// Whether `neut_pct` leaves out the bands is told by the sum of the differential only. Where it is
/// 95 to 105 with the bands and not without them, they are added. Returns the values that changed.
pub(super) fn add_excluded_bands(patient: &mut PatientReading) -> Vec<(usize, String)> {
    let (low, high) = (Decimal::from(95), Decimal::from(105));
    let whole = |sum: Decimal| sum >= low && sum <= high;
    let mut changes = Vec::new();
    for (place, value) in patient.values.iter().enumerate() {
        let Some((neutrophils, count)) =
            usable(value).filter(|(found, _)| found.analyte == Analyte::NeutrophilPercent)
        else {
            continue;
        };
        let companion = |analyte: Analyte| {
            patient
                .values
                .iter()
                .filter_map(usable)
                .find(|(other, _)| {
                    other.analyte == analyte && are_of_one_specimen(neutrophils, other)
                })
                .map(|(_, number)| number)
        };
        let (Some(bands), Some(lymphocytes), Some(monocytes)) = (
            companion(Analyte::BandsPercent),
            companion(Analyte::LymphocytePercent),
            companion(Analyte::MonocytePercent),
        ) else {
            continue;
        };
        let others: Decimal = REST.iter().filter_map(|analyte| companion(*analyte)).sum();
        let without = count + lymphocytes + monocytes + others;
        if !whole(without) && whole(without + bands) {
            changes.push((place, count + bands));
        }
    }
    let mut told = Vec::new();
    for (place, with_bands) in changes {
        if let Some(value) = patient.values.get_mut(place)
            && let Some(measurement) = &mut value.measurement
        {
            measurement.value = Some(Interval::exact(with_bands));
            told.push((value.entry, format!("{}.value", value.path)));
        }
    }
    told
}

/// The rest of a differential beside neutrophils, bands, lymphocytes and monocytes.
const REST: &[Analyte] = &[
    Analyte::EosinophilPercent,
    Analyte::BasophilPercent,
    Analyte::Blasts,
    Analyte::PromyelocytePercent,
    Analyte::MyelocytePercent,
    Analyte::MetamyelocytePercent,
    Analyte::AtypicalLymphocytesPercent,
    Analyte::PlasmaPercent,
    Analyte::OtherCellsPercent,
    Analyte::OtherWhiteCellsPercent,
];

fn usable(value: &ReadValue) -> Option<(&Measurement, Decimal)> {
    let measurement = value
        .measurement
        .as_ref()
        .filter(|measurement| measurement.unusable.is_none())?;
    Some((measurement, measurement.value?.as_exact()?))
}

fn are_of_one_specimen(one: &Measurement, two: &Measurement) -> bool {
    match (&one.specimen, &two.specimen, &one.report, &two.report) {
        (Some(one), Some(two), ..) | (_, _, Some(one), Some(two)) => one == two,
        _ => one.at.is_some() && one.at == two.at,
    }
}
