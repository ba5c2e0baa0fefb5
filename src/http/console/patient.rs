//! `GET /patients/{id}`: one patient's blood counts over time, and what they were last found to
//! mean. The number is this database's own and says nothing about the patient.

use std::fmt::Write as _;

use actix_web::{
    HttpResponse,
    web::{Data, Path},
};
use time::OffsetDateTime;

use super::{
    escaped, findings, framed,
    plot::{Plot, Point},
};
use crate::{
    clinical::{
        analyte::Analyte,
        assessment::Assessment,
        grade,
        timeline::{Measurement, Status, Timeline},
        truth::Truth,
    },
    fhir::{
        outcome::Issue,
        write::{text, words},
    },
    http::{Door, TENANT, error::Error},
    intake::Review,
    store::{
        lease::PatientId,
        reading::{HeldResource, Search},
    },
};

/// What is drawn, from above.
const DRAWN: [Analyte; 4] = [Analyte::Hb, Analyte::Anc, Analyte::Platelets, Analyte::Wbc];
/// The newest values of each that are drawn.
const MOST: usize = 400;
/// How many Flags the page lists.
const FLAGS: usize = 20;

/// `GET /patients/{id}`.
pub(in crate::http) async fn page(id: Path<i64>, door: Data<Door>) -> Result<HttpResponse, Error> {
    let id = PatientId(*id);
    let Some(review) = door.intake.review(TENANT, id, door.now()).await? else {
        let text = "there is no such patient";
        return Err(Error::NotFound(Issue::error("not-found", text)));
    };
    let flags = Search {
        tenant: TENANT.to_owned(),
        kind: "Flag".to_owned(),
        patients: Some(vec![id]),
        limit: FLAGS,
        ..Search::default()
    };
    let flags = door.store.search(flags).await?.resources;
    Ok(framed("Patient", &html(&review, &flags)))
}

fn html(review: &Review, flags: &[HeldResource]) -> String {
    let assessment = &review.assessment;
    let known = &review.known;
    let mut page = String::with_capacity(32 * 1024);
    page.push_str("<p><a href=\"/\">All findings</a></p>\n<h2>Patient</h2>\n<ul>\n");
    for (system, value) in &known.identifiers {
        let _ = writeln!(
            page,
            "<li><code>{}</code> {}</li>",
            escaped(system),
            escaped(value)
        );
    }
    for reference in &known.references {
        let _ = writeln!(page, "<li>{}</li>", escaped(reference));
    }
    let _ = writeln!(
        page,
        "</ul>\n<h2>{}</h2>\n<p>Assessed for {} UTC.</p>",
        escaped(&assessment.headline),
        readable(assessment.as_of)
    );
    plots(&mut page, &known.timeline, assessment);
    let _ = writeln!(
        page,
        "<h2>What it rests on</h2>\n<pre>{}</pre>\n<h2>Flags</h2>",
        escaped(&text::render(assessment, false))
    );
    findings(&mut page, flags);
    page
}

fn readable(at: OffsetDateTime) -> String {
    let at = at.to_offset(time::UtcOffset::UTC);
    format!("{} {:02}:{:02}", at.date(), at.hour(), at.minute())
}

fn plots(page: &mut String, timeline: &Timeline, assessment: &Assessment) {
    let lines: Vec<(Analyte, Option<rust_decimal::Decimal>, Vec<Point>)> = DRAWN
        .into_iter()
        .map(|analyte| {
            let limit = assessment
                .lineages
                .iter()
                .find(|result| grade::analyte_of(result.lineage) == analyte)
                .and_then(|result| result.limit);
            (analyte, limit, points(timeline, analyte, limit))
        })
        .filter(|(_, _, points)| !points.is_empty())
        .collect();
    let times = || {
        lines
            .iter()
            .flat_map(|(_, _, points)| points)
            .map(|point| point.at)
    };
    let (Some(first), Some(last)) = (times().min(), times().max()) else {
        page.push_str("<p>No blood count that can be drawn.</p>\n");
        return;
    };
    for (analyte, limit, points) in &lines {
        let plot = Plot {
            title: &format!("{} ({})", analyte.name(), words::unit(*analyte)),
            points,
            limit: *limit,
            span: (first, last),
        };
        page.push_str(&plot.svg());
    }
    if lines.iter().any(|(_, limit, _)| limit.is_some()) {
        page.push_str(
            "<p><small>Dashed: the limit that holds at the time of the assessment; a child's was \
             another when it was younger. A value that could not be used is not drawn.</small></p>\n",
        );
    }
}

/// The newest values that can be used, by time.
fn points(
    timeline: &Timeline,
    analyte: Analyte,
    limit: Option<rust_decimal::Decimal>,
) -> Vec<Point> {
    let mut points: Vec<Point> = timeline
        .measurements
        .iter()
        .filter(|one| one.analyte == analyte && one.unusable.is_none())
        .filter(|one| !matches!(one.status, Status::EnteredInError | Status::NotEvaluated))
        .filter_map(|one| point(one, limit))
        .collect();
    points.sort_by_key(|point| point.at);
    points.split_off(points.len().saturating_sub(MOST))
}

fn point(one: &Measurement, limit: Option<rust_decimal::Decimal>) -> Option<Point> {
    let (interval, at) = (one.value.as_ref()?, one.at.as_ref()?);
    Some(Point {
        at: at.instant,
        value: interval.anchor()?,
        low: limit.is_some_and(|limit| interval.is_below(limit) == Truth::True),
        label: format!(
            "{} {}, {}",
            words::interval(interval, one.analyte.decimals(), limit),
            words::unit(one.analyte),
            words::readable_time(at)
        ),
    })
}
