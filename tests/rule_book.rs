//! The rule book in the repository says what the compiled rules say.

use std::collections::BTreeSet;

use marrowflag::clinical::rule_book;

#[test]
fn the_rule_book_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/clinical/README.md");
    let compiled = rule_book::markdown();
    if std::env::var_os("MARROWFLAG_BLESS").is_some() {
        std::fs::write(path, &compiled).expect("the rule book can be written");
    }
    let kept = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        kept == compiled,
        "src/clinical/README.md is out of date: MARROWFLAG_BLESS=1 cargo test --test rule_book"
    );
}

#[test]
fn every_number_has_an_id_of_its_own_and_a_step() {
    let mut seen = BTreeSet::new();
    for limit in rule_book::limits() {
        assert!(seen.insert(limit.id), "{} twice", limit.id);
        assert!(!limit.step.is_zero(), "{} has no step", limit.id);
        assert!(!limit.source.is_empty(), "{} has no source", limit.id);
    }
}

#[test]
fn every_line_has_a_name_of_its_own_in_its_rule() {
    let mut seen = BTreeSet::new();
    for (id, _) in rule_book::points() {
        assert!(seen.insert(id.clone()), "{id} twice");
    }
}

#[test]
fn every_rule_can_be_signed() {
    for entry in rule_book::entries() {
        assert!(!entry.sentence.is_empty(), "{} has no sentence", entry.id);
        assert!(!entry.next.is_empty(), "{} has no work-up", entry.id);
        assert!(!entry.source.is_empty(), "{} has no source", entry.id);
        for text in [entry.sentence.as_str(), entry.next] {
            assert_eq!(
                marrowflag::clinical::wording::forbidden(text),
                None,
                "{}",
                entry.id
            );
        }
    }
}

#[test]
fn the_catalogue_points_at_what_exists() {
    use marrowflag::clinical::{
        analyte::Analyte,
        catalogue::{self, Use},
    };
    let entries = rule_book::entries();
    let tokens = rule_book::tokens();
    for entry in catalogue::ALL {
        assert!(!entry.uses.is_empty(), "{} is taken up nowhere", entry.name);
        for used in entry.uses {
            match used {
                Use::Rule(id) => {
                    assert!(
                        entries.iter().any(|rule| rule.id == *id),
                        "{}: {id}",
                        entry.name
                    );
                }
                Use::Token(token) => {
                    assert!(tokens.contains(token), "{}: {token}", entry.name);
                }
                Use::WorkUp(id, words) => {
                    let rule = entries.iter().find(|rule| rule.id == *id);
                    assert!(
                        rule.is_some_and(|rule| rule.next.contains(words)),
                        "{}: {words} in {id}",
                        entry.name
                    );
                }
                Use::Measured(key) => {
                    assert!(Analyte::from_key(key).is_some(), "{}: {key}", entry.name);
                }
                Use::Said(how) => assert!(!how.is_empty(), "{}", entry.name),
            }
        }
    }
}
