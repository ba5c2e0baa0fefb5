//! The conformance resources in `profiles/structuredefinitions` are FHIR, and say what the code
//! does.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may stop where its data are wrong"
)]

use std::{fs, path::PathBuf};

use marrowflag::{
    clinical::assessment::Grade,
    fhir::{
        model::{Model, Place},
        outcome,
        submission::Release,
        tree,
        write::{coding, observation},
    },
};
use serde_json::Value;

fn all() -> Vec<(String, Value)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("profiles/structuredefinitions");
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    files.sort();
    files
        .into_iter()
        .map(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            let text = fs::read_to_string(path).unwrap();
            (name, serde_json::from_str(&text).unwrap())
        })
        .collect()
}

fn concepts(system: &str) -> Vec<(String, String)> {
    let (_, body) = all()
        .into_iter()
        .find(|(name, _)| *name == format!("CodeSystem-{system}"))
        .unwrap();
    let concepts = body["concept"].as_array().unwrap();
    assert_eq!(body["count"], concepts.len(), "{system}");
    concepts
        .iter()
        .map(|concept| {
            let text = |name: &str| concept[name].as_str().unwrap().to_owned();
            (text("code"), text("display"))
        })
        .collect()
}

#[test]
fn every_file_is_fhir_and_named_after_what_it_holds() {
    let model = Model::new(Release::R4);
    for (name, body) in all() {
        let place = Place {
            expression: &name,
            pointer: "",
        };
        let issues = model.check(&tree::from_value(&body), &place, 100);
        assert!(issues.is_empty(), "{name}: {issues:#?}");
        let kind = body["resourceType"].as_str().unwrap();
        let id = body["id"].as_str().unwrap();
        assert_eq!(name, format!("{kind}-{id}"));
        if kind != "NamingSystem" {
            assert_eq!(
                body["url"],
                format!("https://marrowflag.org/fhir/{kind}/{id}")
            );
        }
    }
}

#[test]
fn findings_are_those_of_the_table() {
    let table: Vec<_> = coding::FINDINGS
        .iter()
        .map(|finding| (finding.slug.to_owned(), finding.display.to_owned()))
        .collect();
    assert_eq!(concepts("finding"), table);
}

#[test]
fn grades_are_those_of_the_model() {
    let table: Vec<_> = [
        Grade::None,
        Grade::Mild,
        Grade::Moderate,
        Grade::Severe,
        Grade::VerySevere,
        Grade::Critical,
    ]
    .map(|grade| {
        let (code, display, _) = coding::grade_code(grade);
        (code.to_owned(), display.to_owned())
    })
    .to_vec();
    assert_eq!(concepts("mf-grade"), table);
}

#[test]
fn outcome_words_are_those_of_the_table() {
    let words: Vec<_> = concepts("mf-outcome")
        .into_iter()
        .map(|(code, _)| code)
        .collect();
    let table: Vec<_> = outcome::WORDS.iter().map(|word| word.name).collect();
    assert_eq!(words, table);
}

#[test]
fn derived_codes_are_in_their_code_system() {
    let known = concepts("mf-lineage");
    for code in observation::CODES {
        assert!(known.iter().any(|(known, _)| known == code), "{code}");
    }
}

#[test]
fn every_profile_we_claim_is_defined() {
    let defined: Vec<Value> = all()
        .into_iter()
        .filter(|(name, _)| name.starts_with("StructureDefinition-"))
        .map(|(_, body)| body["url"].clone())
        .collect();
    for profile in [
        "cytopenia-flag",
        "cytopenia-report",
        "lineage-observation",
        "marrowflag-device",
        "assessment-provenance",
        "writeback-bundle",
    ] {
        let url = format!("https://marrowflag.org/fhir/StructureDefinition/{profile}");
        assert!(defined.contains(&Value::from(url)), "{profile}");
    }
}
