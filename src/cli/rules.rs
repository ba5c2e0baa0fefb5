//! `marrowflag rules` and `marrowflag profiles`: what is compiled in.

use std::fs;

use serde_json::{Value, json};

use super::{Exit, complain, print};
use crate::{
    clinical::rule_book::{self, Entry},
    config::{Profiles, Rules, RulesFormat},
    fhir::profiles,
};

/// Prints the rule book.
pub(super) fn rules(args: &Rules) -> Exit {
    match args.format {
        RulesFormat::Md => print(rule_book::markdown()),
        RulesFormat::Json => {
            let entries: Vec<Value> = rule_book::entries().iter().map(json_of).collect();
            print(format!(
                "{:#}\n",
                json!({ "version": env!("CARGO_PKG_VERSION"), "rules": entries })
            ))
        }
    }
}

fn json_of(entry: &Entry) -> Value {
    let evidence: Vec<Value> = entry
        .evidence
        .iter()
        .map(|(points, line)| json!({ "points": points, "line": line }))
        .collect();
    let limits: Vec<Value> = entry
        .limits
        .iter()
        .map(|limit| {
            json!({
                "id": limit.id,
                "value": limit.value,
                "unit": limit.unit,
                "source": limit.source,
                "confidence": limit.confidence,
            })
        })
        .collect();
    json!({
        "id": entry.id,
        "kind": entry.kind,
        "name": entry.name,
        "slug": entry.slug,
        "sentence": entry.sentence,
        "gate": entry.gate,
        "evidence": evidence,
        "excluding": entry.excluding,
        "priors": entry.priors,
        "if_missing": entry.if_missing,
        "urgency": entry.urgency,
        "next": entry.next,
        "source": entry.source,
        "confidence": entry.confidence,
        "limits": limits,
    })
}

/// Lists the profiles, or writes their schemas into a directory.
pub(super) fn profiles(args: &Profiles) -> Exit {
    let Some(dir) = &args.write else {
        let names: Vec<&str> = profiles::ALL.iter().map(|(name, _)| *name).collect();
        return print(format!("{}\n", names.join("\n")));
    };
    let written = fs::create_dir_all(dir).and_then(|()| {
        profiles::ALL.iter().try_for_each(|(name, schema)| {
            fs::write(dir.join(format!("{name}.schema.json")), schema)
        })
    });
    match written {
        Ok(()) => Exit::Done,
        Err(error) => {
            complain(format!("{}: {error}", dir.display()));
            Exit::Io
        }
    }
}
