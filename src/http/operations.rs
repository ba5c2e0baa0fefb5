//! Operations that store nothing: `$assess-cytopenia` and `$validate`.

use std::sync::Arc;

use actix_web::{
    HttpRequest, HttpResponse,
    web::{self, Data, Payload},
};
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    Door, answer, bundles,
    error::{Error, Success},
    negotiate::{self, Wish},
};
use crate::{
    clinical::assessment::{Output, TraceStep, Verdict},
    fhir::{
        outcome::{Issue, operation_outcome},
        path::{Path, Step},
        submission::{At, Checker, Release},
        tree::{self, Broken, Parsed, Tree},
    },
    intake::{AsOf, Assessed, AssessedPatient, Settings, assess_only},
};

/// Bodies larger than this are worked on off the async workers.
const LARGE: usize = 256 << 10;

/// `POST /fhir/$assess-cytopenia`: a Bundle, a single resource, or Parameters with one in it.
pub(super) async fn assess(
    req: HttpRequest,
    payload: Payload,
    wish: Wish,
    door: Data<Door>,
) -> Result<HttpResponse, Error> {
    wish.only(&[])?;
    let release = negotiate::body_release(&req)?;
    let body = bundles::read(&req, payload, &door).await?;
    let now = door.now();
    let (checker, intake) = (Arc::clone(&door.checker), Arc::clone(&door.intake));
    let assessed = off_thread(body.bytes.len(), move || {
        let asked = Asked::read(&body.bytes, intake.settings())?;
        let mut settings = intake.settings().clone();
        if asked.as_of.is_some() {
            settings.as_of = AsOf::Received;
        }
        let bytes = asked.bundle.as_deref().unwrap_or(&body.bytes);
        let assessed = assess_only(
            &checker,
            &settings,
            release,
            bytes,
            asked.as_of.unwrap_or(now),
        )?;
        Ok::<_, Error>(parameters(&assessed, asked.explain))
    })
    .await?;
    Ok(answer::fhir(Success::Ok, &assessed, wish.pretty))
}

/// `POST /fhir/{type}/$validate`: 200 whether or not it is valid.
pub(super) async fn validate(
    req: HttpRequest,
    payload: Payload,
    wish: Wish,
    door: Data<Door>,
) -> Result<HttpResponse, Error> {
    // `mode` and `profile` of the operation change nothing here: every profile we have is checked.
    wish.only(&["mode", "profile"])?;
    let release = negotiate::body_release(&req)?;
    let kind = req.match_info().query("type").to_owned();
    if !door.checker.model(release).knows_resource(&kind) {
        return Err(Error::NotFound(Issue::error(
            "not-supported",
            "no such type",
        )));
    }
    let body = bundles::read(&req, payload, &door).await?;
    let (checker, intake) = (Arc::clone(&door.checker), Arc::clone(&door.intake));
    let outcome = off_thread(body.bytes.len(), move || {
        let issues = issues(&checker, intake.settings(), release, &kind, &body.bytes);
        Ok::<_, Error>(operation_outcome(&issues))
    })
    .await?;
    Ok(answer::fhir(Success::Ok, &outcome, wish.pretty))
}

/// Runs `work` here when it is quick.
async fn off_thread<T: Send + 'static>(
    size: usize,
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    if size <= LARGE {
        return work();
    }
    web::block(work)
        .await
        .unwrap_or_else(|_| Err(Error::Bug(anyhow::anyhow!("an operation panicked"))))
}

/// What `$assess-cytopenia` was asked.
#[derive(Default)]
struct Asked {
    /// The Bundle out of Parameters; `None`: the body itself is what to assess.
    bundle: Option<Vec<u8>>,
    as_of: Option<OffsetDateTime>,
    explain: bool,
}

impl Asked {
    fn read(bytes: &[u8], settings: &Settings) -> Result<Self, Error> {
        let mut asked = Self::default();
        let parsed = tree::parse(bytes, &settings.limits)
            .map_err(|broken| Error::Malformed(vec![broken.issue()]))?;
        if parsed.root.resource_type() != Some("Parameters") {
            return Ok(asked);
        }
        let refuse = |word, text: &str, at: String| {
            Err(Error::Malformed(vec![Issue::error(word, text).at(at)]))
        };
        for (index, parameter) in parsed.root.items("parameter").iter().enumerate() {
            let at = format!("Parameters.parameter[{index}]");
            let flag = || parameter.get("valueBoolean").and_then(Tree::as_bool);
            match parameter.text("name") {
                Some("bundle") => {
                    let Some(bundle) = parameter.get("resource") else {
                        return refuse(
                            "required",
                            "bundle is a resource",
                            format!("{at}.resource"),
                        );
                    };
                    asked.bundle = serde_json::to_vec(bundle).ok();
                }
                Some("asOf") => {
                    let time = parameter
                        .text("valueDateTime")
                        .or_else(|| parameter.text("valueInstant"));
                    asked.as_of = time.and_then(|time| OffsetDateTime::parse(time, &Rfc3339).ok());
                    if asked.as_of.is_none() {
                        return refuse(
                            "value",
                            "asOf is an instant with a zone",
                            format!("{at}.value"),
                        );
                    }
                }
                Some("explain") => asked.explain = flag().unwrap_or(false),
                Some("write") if flag() == Some(true) => {
                    return refuse(
                        "not-supported",
                        "write is not served yet; POST the Bundle to the base",
                        at,
                    );
                }
                Some("write") => {}
                Some("patient") => {
                    return refuse(
                        "not-supported",
                        "stored history is not served here yet; send the results",
                        at,
                    );
                }
                _ => {
                    return refuse(
                        "parameter-unknown",
                        "no such parameter",
                        format!("{at}.name"),
                    );
                }
            }
        }
        match asked.bundle {
            Some(_) => Ok(asked),
            None => refuse(
                "required",
                "the parameter bundle is missing",
                "Parameters.parameter".to_owned(),
            ),
        }
    }
}

fn parameters(assessed: &Assessed, explain: bool) -> Value {
    let mut parameters = match assessed.patients.as_slice() {
        [] => vec![
            json!({ "name": "result", "valueCode": verdict(Verdict::InsufficientData) }),
            json!({ "name": "output", "valueCode": output(Output::Nothing) }),
        ],
        [patient] => of_patient(patient, explain),
        // Each patient's answers stay together.
        patients => patients
            .iter()
            .map(|patient| json!({ "name": "patient", "part": of_patient(patient, explain) }))
            .collect(),
    };
    if !assessed.issues.is_empty() {
        parameters
            .push(json!({ "name": "outcome", "resource": operation_outcome(&assessed.issues) }));
    }
    json!({ "resourceType": "Parameters", "parameter": parameters })
}

fn of_patient(patient: &AssessedPatient, explain: bool) -> Vec<Value> {
    let assessment = &patient.decision.assessment;
    let mut parts = vec![
        json!({ "name": "result", "valueCode": verdict(assessment.verdict) }),
        json!({ "name": "output", "valueCode": output(assessment.output) }),
    ];
    for resource in &patient.resources {
        let name = match resource.kind {
            "Flag" => "flag",
            "DiagnosticReport" => "report",
            "Observation" => "observation",
            _ => continue,
        };
        parts.push(json!({ "name": name, "resource": resource.body }));
    }
    if explain {
        let steps: Vec<Value> = assessment.trace.iter().map(step).collect();
        if !steps.is_empty() {
            parts.push(json!({ "name": "trace", "part": steps }));
        }
    }
    parts
}

fn step(step: &TraceStep) -> Value {
    let mut parts = vec![
        json!({ "name": "id", "valueString": step.id }),
        json!({ "name": "question", "valueString": step.question }),
        json!({ "name": "answer", "valueString": step.answer }),
    ];
    parts.extend(
        step.inputs
            .iter()
            .map(|input| json!({ "name": "input", "valueString": input })),
    );
    // FHIR strings are never empty.
    parts.retain(|part| part.get("valueString").and_then(Value::as_str) != Some(""));
    json!({ "name": "step", "part": parts })
}

fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Cytopenia => "cytopenia",
        Verdict::NoCytopenia => "no-cytopenia",
        Verdict::InsufficientData => "insufficient-data",
    }
}

fn output(output: Output) -> &'static str {
    match output {
        Output::SafetyFlag => "flag-safety",
        Output::Flag => "flag",
        Output::Report => "report",
        Output::Nothing => "none",
    }
}

/// Everything there is to say about a resource, which may be wrapped in Parameters.
fn issues(
    checker: &Checker,
    settings: &Settings,
    release: Release,
    kind: &str,
    bytes: &[u8],
) -> Vec<Issue> {
    let parsed = match tree::parse(bytes, &settings.limits) {
        Ok(parsed) => parsed,
        Err(broken) => return vec![broken.issue()],
    };
    let parsed = if kind == "Parameters" {
        parsed
    } else {
        unwrapped(parsed)
    };
    let mut issues: Vec<Issue> = checker
        .decode(&parsed, release, At::Door)
        .all_issues()
        .cloned()
        .collect();
    let found = parsed.root.resource_type();
    if found.is_some_and(|found| found != kind) {
        issues.push(Issue::error(
            "value",
            "the resource is of another type than the address",
        ));
    }
    issues
}

/// The parameter `resource` of Parameters, as if it had come alone.
fn unwrapped(parsed: Parsed<'_>) -> Parsed<'_> {
    if parsed.root.resource_type() != Some("Parameters") {
        return parsed;
    }
    let parameters = parsed.root.items("parameter").iter().enumerate();
    let wrapped = parameters
        .filter(|(_, parameter)| parameter.text("name") == Some("resource"))
        .find_map(|(index, parameter)| Some((index, parameter.get("resource")?.clone())));
    let Some((index, root)) = wrapped else {
        return parsed;
    };
    let prefix = [
        Step::Name("parameter".into()),
        Step::Index(index),
        Step::Name("resource".into()),
    ];
    let broken = parsed
        .broken
        .iter()
        .filter_map(|broken| {
            Some(Broken {
                path: Path(broken.path.0.strip_prefix(&prefix)?.to_vec()),
                word: broken.word,
            })
        })
        .collect();
    Parsed {
        root,
        broken,
        ..parsed
    }
}
