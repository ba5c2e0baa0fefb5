//! A site's own codes, and its units of other systems.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{CONTEXT, Fact, LOINC, Meaning, Role, UCUM, refusal_by_name, term};
use crate::fhir::units;

/// A site's own codes (FHIR `ConceptMap`, `--code-map`), checked when it is loaded.
#[derive(Debug, Default)]
pub struct CodeMap {
    /// System and code to what they mean.
    codes: BTreeMap<(String, String), Vec<Translation>>,
    /// System and code of a unit to UCUM.
    units: BTreeMap<(String, String), String>,
}

/// The unit that a translation depends on, and its target.
type Translation = (Option<String>, Target);

#[derive(Debug, Clone, Copy)]
enum Target {
    Loinc(&'static str),
    Fact(Fact),
}

/// Why a code map cannot be loaded.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CodeMapError {
    /// Not JSON.
    #[error("{file}, line {line}: not JSON")]
    NotJson {
        /// File.
        file: String,
        /// Line.
        line: usize,
    },
    /// Not a map that can be used.
    #[error("{file}, {pointer}: {problem}")]
    Unusable {
        /// File.
        file: String,
        /// JSON pointer.
        pointer: String,
        /// What is wrong.
        problem: String,
    },
}

impl CodeMap {
    /// Reads a `ConceptMap`. `file` is only for the message.
    pub fn from_json(file: &str, bytes: &[u8]) -> Result<Self, CodeMapError> {
        let root: Value = serde_json::from_slice(bytes).map_err(|error| CodeMapError::NotJson {
            file: file.to_owned(),
            line: error.line(),
        })?;
        let mut map = Self::default();
        map.add(&root)
            .map_err(|(pointer, problem)| CodeMapError::Unusable {
                file: file.to_owned(),
                pointer,
                problem,
            })?;
        Ok(map)
    }

    /// Whether it maps nothing.
    pub fn is_empty(&self) -> bool {
        self.codes.is_empty() && self.units.is_empty()
    }

    fn add(&mut self, root: &Value) -> Result<(), (String, String)> {
        let refuse = |pointer: &str, problem: &str| Err((pointer.to_owned(), problem.to_owned()));
        if root.get("resourceType").and_then(Value::as_str) != Some("ConceptMap") {
            return refuse("/resourceType", "not a ConceptMap");
        }
        let Some(groups) = root.get("group").and_then(Value::as_array) else {
            return refuse("/group", "no group");
        };
        for (number, group) in groups.iter().enumerate() {
            let at = format!("/group/{number}");
            let (Some(source), Some(target)) = (string(group, "source"), string(group, "target"))
            else {
                return refuse(
                    &at,
                    "source and target are needed: a code without its system means nothing",
                );
            };
            for (place, element) in array(group, "element").iter().enumerate() {
                let at = format!("{at}/element/{place}");
                let Some(code) = string(element, "code") else {
                    return refuse(&at, "code is missing");
                };
                self.add_element(source, code, target, element, &at)?;
            }
        }
        Ok(())
    }

    fn add_element(
        &mut self,
        source: &str,
        code: &str,
        system: &str,
        element: &Value,
        at: &str,
    ) -> Result<(), (String, String)> {
        for (place, target) in array(element, "target").iter().enumerate() {
            let at = format!("{at}/target/{place}");
            match string(target, "equivalence") {
                Some("equal" | "equivalent") => {}
                Some(
                    "wider" | "narrower" | "inexact" | "relatedto" | "unmatched" | "disjoint"
                    | "subsumes" | "specializes",
                ) => continue,
                Some(_) => return Err((at, "unknown equivalence".to_owned())),
                None => return Err((at, "equivalence is missing".to_owned())),
            }
            let Some(to) = string(target, "code") else {
                return Err((at, "code is missing".to_owned()));
            };
            let key = (source.to_owned(), code.to_owned());
            if system == UCUM {
                if !units::is_ucum_of_table(to) {
                    return Err((at, format!("{to} is no unit of the table")));
                }
                if self.units.insert(key, to.to_owned()).is_some() {
                    return Err((at, format!("{code} has two targets")));
                }
                continue;
            }
            let meaning = target_of(system, to).map_err(|problem| (at.clone(), problem))?;
            let unit = dependency(target).map_err(|problem| (at.clone(), problem))?;
            let known = self.codes.entry(key).or_default();
            if known
                .iter()
                .any(|(other, _)| *other == unit || other.is_none() || unit.is_none())
            {
                return Err((at, format!("{code} has two targets")));
            }
            known.push((unit, meaning));
        }
        Ok(())
    }

    pub(super) fn find(&self, system: &str, code: &str, unit: Option<&str>) -> Option<Meaning> {
        let targets = self.codes.get(&(system.to_owned(), code.to_owned()))?;
        targets
            .iter()
            .find(|(depends, _)| {
                depends
                    .as_deref()
                    .is_none_or(|depends| Some(depends) == unit)
            })
            .and_then(|(_, target)| match target {
                Target::Loinc(code) => term(code).map(Meaning::Term),
                Target::Fact(fact) => Some(Meaning::Fact(*fact)),
            })
    }

    /// The UCUM code a site gives for a unit of another system.
    pub fn unit(&self, system: &str, code: &str) -> Option<&str> {
        self.units
            .get(&(system.to_owned(), code.to_owned()))
            .map(String::as_str)
    }
}

fn target_of(system: &str, code: &str) -> Result<Target, String> {
    match system {
        LOINC => match term(code) {
            Some(term) if term.role == Role::DoNotUse => Err(format!(
                "LOINC {code} must not be used: {}",
                refusal_by_name(term).text
            )),
            Some(term) => Ok(Target::Loinc(term.code)),
            None => Err(format!("LOINC {code} is not in the table")),
        },
        CONTEXT => Fact::from_code(code)
            .map(Target::Fact)
            .ok_or_else(|| format!("{code} is no code of {CONTEXT}")),
        _ => Err(format!("the target must be of {LOINC} or {CONTEXT}")),
    }
}

/// The unit a target depends on (`dependsOn` with property `unit`).
fn dependency(target: &Value) -> Result<Option<String>, String> {
    let mut unit = None;
    for depends in array(target, "dependsOn") {
        match (string(depends, "property"), string(depends, "value")) {
            (Some("unit"), Some(value)) if unit.is_none() => unit = Some(value.to_owned()),
            _ => return Err("dependsOn: only one, of property unit".to_owned()),
        }
    }
    Ok(unit)
}

fn string<'v>(of: &'v Value, name: &str) -> Option<&'v str> {
    of.get(name).and_then(Value::as_str)
}

fn array<'v>(of: &'v Value, name: &str) -> &'v [Value] {
    of.get(name)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(target: &str) -> Result<CodeMap, CodeMapError> {
        CodeMap::from_json(
            "site.json",
            format!(
                r#"{{"resourceType":"ConceptMap","group":[{{"source":"urn:oid:1.2.3","target":"{LOINC}",
                "element":[{{"code":"NEUT","target":[{target}]}}]}}]}}"#
            )
            .as_bytes(),
        )
    }

    #[test]
    fn a_map_is_checked_when_it_is_loaded() {
        let broken = CodeMap::from_json("site.json", b"{\n\n x").expect_err("no JSON");
        assert_eq!(broken.to_string(), "site.json, line 3: not JSON");
        for (target, problem) in [
            (
                r#"{"code":"726-0","equivalence":"equal"}"#,
                "must not be used",
            ),
            (
                r#"{"code":"1-8","equivalence":"equal"}"#,
                "not in the table",
            ),
            (r#"{"code":"718-7"}"#, "equivalence is missing"),
            (
                r#"{"code":"718-7","equivalence":"equal"},{"code":"777-3","equivalence":"equal"}"#,
                "two targets",
            ),
        ] {
            let error = map(target).expect_err(target).to_string();
            assert!(
                error.starts_with("site.json, /group/0/element/0/target/"),
                "{error}"
            );
            assert!(error.contains(problem), "{error}");
        }
        assert!(
            map(r#"{"code":"718-7","equivalence":"wider"}"#)
                .expect("not mapped")
                .is_empty()
        );
    }

    #[test]
    fn a_map_may_depend_on_the_unit() {
        let map = map(
            r#"{"code":"770-8","equivalence":"equal","dependsOn":[{"property":"unit","value":"%"}]},
               {"code":"751-8","equivalence":"equal","dependsOn":[{"property":"unit","value":"10*9/L"}]}"#,
        )
        .expect("a good map");
        let key = |unit| {
            map.find("urn:oid:1.2.3", "NEUT", unit)
                .map(|meaning| meaning.key())
        };
        assert_eq!(key(Some("%")), Some("neut_pct"));
        assert_eq!(key(Some("10*9/L")), Some("anc"));
        assert_eq!(key(None), None);
    }
}
