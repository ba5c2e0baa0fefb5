//! `marrowflag rules` and `marrowflag profiles`: what is compiled in.

use std::fs;

use serde_json::json;

use super::{Exit, complain, print};
use crate::{
    clinical::rule_book,
    config::{Profiles, Rules, RulesFormat},
    fhir::profiles,
};

/// Prints the rule book.
pub(super) fn rules(args: &Rules) -> Exit {
    match args.format {
        RulesFormat::Md => print(rule_book::markdown()),
        RulesFormat::Json => {
            let entries: Vec<_> = rule_book::entries()
                .into_iter()
                .map(|entry| {
                    json!({
                        "id": entry.id,
                        "name": entry.name,
                    })
                })
                .collect();
            print(format!(
                "{:#}\n",
                json!({ "version": env!("CARGO_PKG_VERSION"), "rules": entries })
            ))
        }
    }
}

/// Lists the profiles, or writes their schemas into a directory.
pub(super) fn profiles(args: &Profiles) -> Exit {
    let Some(dir) = &args.write else {
        let list: String = profiles::ALL
            .iter()
            .map(|(name, _)| format!("{name}\n"))
            .collect();
        return print(list);
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
