//! The table of codes: which code of which system says what, compiled in and read once.

use std::{collections::HashMap, sync::LazyLock};

/// Tab-separated: token, type, system, code, match, when, display, `verified_in`, note.
/// `when` holds what the row asks for besides its code, separated by `;` ([`Condition`]).
const TEXT: &str = include_str!("../../findings.tsv");

/// Code system that a coding can come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum System {
    /// ICD-10-CM.
    Icd10Cm,
    /// ICD-10 of the WHO and its national editions.
    Icd10,
    /// ICD-10-PCS.
    Icd10Pcs,
    /// SNOMED CT.
    Snomed,
    /// Human Phenotype Ontology.
    Hpo,
    /// Anatomical Therapeutic Chemical classification.
    Atc,
    /// `RxNorm`, ingredients.
    RxNorm,
    /// LOINC.
    Loinc,
    /// HGNC gene ids.
    Hgnc,
    /// HGNC gene symbols.
    Gene,
}

impl System {
    /// The system of this URI. National editions of ICD-10 are read as WHO ICD-10.
    pub(super) fn from_uri(uri: &str) -> Option<Self> {
        Some(match uri.trim_end_matches('/') {
            "http://hl7.org/fhir/sid/icd-10-cm" | "urn:oid:2.16.840.1.113883.6.90" => Self::Icd10Cm,
            "http://hl7.org/fhir/sid/icd-10"
            | "urn:oid:2.16.840.1.113883.6.3"
            | "http://fhir.de/CodeSystem/bfarm/icd-10-gm"
            | "http://fhir.de/CodeSystem/dimdi/icd-10-gm"
            | "urn:oid:1.2.276.0.76.5.311"
            | "http://hl7.org/fhir/sid/icd-10-gm"
            | "http://hl7.org/fhir/sid/icd-10-nl"
            | "http://hl7.org/fhir/sid/icd-10-uk"
            | "http://hl7.org/fhir/sid/icd-10-am"
            | "http://hl7.org/fhir/sid/icd-10-ca"
            | "http://hl7.org/fhir/sid/icd-10-se" => Self::Icd10,
            "http://www.cms.gov/Medicare/Coding/ICD10"
            | "http://hl7.org/fhir/sid/icd-10-pcs"
            | "urn:oid:2.16.840.1.113883.6.4" => Self::Icd10Pcs,
            "http://snomed.info/sct" | "urn:oid:2.16.840.1.113883.6.96" => Self::Snomed,
            "http://human-phenotype-ontology.org" | "http://purl.obolibrary.org/obo/hp.owl" => {
                Self::Hpo
            }
            "http://www.whocc.no/atc"
            | "http://fhir.de/CodeSystem/bfarm/atc"
            | "urn:oid:2.16.840.1.113883.6.73" => Self::Atc,
            "http://www.nlm.nih.gov/research/umls/rxnorm" | "urn:oid:2.16.840.1.113883.6.88" => {
                Self::RxNorm
            }
            "http://loinc.org" | "https://loinc.org" | "urn:oid:2.16.840.1.113883.6.1" => {
                Self::Loinc
            }
            "http://www.genenames.org/geneId"
            | "http://www.genenames.org"
            | "urn:oid:2.16.840.1.113883.6.281" => Self::Hgnc,
            _ => return None,
        })
    }

    fn from_column(word: &str) -> Option<Self> {
        Some(match word {
            "icd10cm" => Self::Icd10Cm,
            "icd10" => Self::Icd10,
            "icd10pcs" => Self::Icd10Pcs,
            "sct" => Self::Snomed,
            "hpo" => Self::Hpo,
            "atc" => Self::Atc,
            "rxnorm" => Self::RxNorm,
            "loinc" => Self::Loinc,
            "hgnc" => Self::Hgnc,
            "gene" => Self::Gene,
            _ => return None,
        })
    }

    /// The form in which codes of this system are compared.
    pub(super) fn normal(self, code: &str) -> String {
        let code = code.trim();
        match self {
            Self::Icd10Cm | Self::Icd10 | Self::Icd10Pcs | Self::Atc => code
                .chars()
                .filter(|character| *character != '.')
                .map(|character| character.to_ascii_uppercase())
                .collect(),
            Self::Hpo => code.replace('_', ":"),
            Self::Hgnc => {
                let number = code.strip_prefix("HGNC:").unwrap_or(code);
                format!("HGNC:{number}")
            }
            Self::Snomed | Self::RxNorm | Self::Loinc | Self::Gene => code.to_owned(),
        }
    }

    fn is_hierarchical(self) -> bool {
        matches!(
            self,
            Self::Icd10Cm | Self::Icd10 | Self::Icd10Pcs | Self::Atc
        )
    }
}

/// Which resources may use a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// C: `Condition`, diagnoses.
    Condition,
    /// O: `Observation`, conclusions.
    Observation,
    /// M: medication.
    Medication,
    /// P: `Procedure`.
    Procedure,
    /// F: `FamilyMemberHistory`.
    Family,
    /// S: notes of specimen and result.
    Note,
}

/// How a row speaks about its token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Voice {
    /// Says so.
    Says,
    /// Wider than the token: only mentions it, unless its condition holds.
    Mentions,
    /// Must not set the token.
    Never,
}

/// What a row asks for besides its code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Condition {
    /// `text:a|b`: one of these words in the text beside the code.
    Text(Vec<&'static str>),
    /// `as:x`: the token carries the qualifier `x`.
    Qualifier(&'static str),
    /// `longer:n`: counts only after more than `n` days.
    LongerThan(u16),
    /// `steroid:f`: prednisolone equivalent of 1 mg.
    Steroid(&'static str),
    /// `systemic`: a route that reaches the blood must be named.
    Systemic,
    /// `high-dose`: by vein, into the spine, or more than 50 mg in a day.
    HighDose,
    /// `marrow`: only from a marrow specimen or marrow report.
    Marrow,
    /// `biallelic`: both copies of the gene, or the only one.
    Biallelic,
    /// `somatic`: not inherited.
    Somatic,
    /// `vaf`: variant allele fraction of 2 % or more.
    AlleleFraction,
    /// `number:>=6`, `number:>3.5`, `number:<2.3`: the number beside the code.
    Number(&'static str),
    /// `done`: any result in words says that it was done.
    Done,
    /// `false`: a row that must not set its token says the opposite.
    Opposite,
}

impl Condition {
    fn parse(word: &'static str) -> Option<Self> {
        Some(match word.split_once(':') {
            Some(("text", words)) => Self::Text(words.split('|').collect()),
            Some(("as", qualifier)) => Self::Qualifier(qualifier),
            Some(("longer", days)) => Self::LongerThan(days.parse().ok()?),
            Some(("steroid", factor)) => Self::Steroid(factor),
            Some(("number", test)) => Self::Number(test),
            None => match word {
                "systemic" => Self::Systemic,
                "high-dose" => Self::HighDose,
                "marrow" => Self::Marrow,
                "biallelic" => Self::Biallelic,
                "somatic" => Self::Somatic,
                "vaf" => Self::AlleleFraction,
                "done" => Self::Done,
                "false" => Self::Opposite,
                _ => return None,
            },
            Some(_) => return None,
        })
    }
}

/// One row.
#[derive(Debug)]
pub(super) struct Row {
    /// Token or base token, without prefix.
    pub(super) token: &'static str,
    /// How the row speaks.
    pub(super) voice: Voice,
    /// Letters of the resources that may use it.
    uses: &'static str,
    /// Further conditions.
    pub(super) when: Vec<Condition>,
    /// Code as compared, or the phrase of a text row.
    pub(super) code: String,
    /// Whether code and meaning were seen together in a public source; what was not may raise a
    /// suspicion, but may not silence one.
    pub(super) verified: bool,
}

impl Row {
    /// Whether resources of this kind may use it.
    pub(super) fn usable_by(&self, kind: Use) -> bool {
        let letter = match kind {
            Use::Condition => 'C',
            Use::Observation => 'O',
            Use::Medication => 'M',
            Use::Procedure => 'P',
            Use::Family => 'F',
            Use::Note => 'S',
        };
        self.uses.contains(letter)
    }

    /// The qualifier that its token carries.
    pub(super) fn qualifier(&self) -> Option<&'static str> {
        self.when.iter().find_map(|condition| match condition {
            Condition::Qualifier(qualifier) => Some(*qualifier),
            _ => None,
        })
    }
}

/// The table, with its indexes.
pub(super) struct Table {
    rows: Vec<Row>,
    exact: HashMap<(System, String), Vec<usize>>,
    prefix: HashMap<(System, String), Vec<usize>>,
    texts: Vec<usize>,
}

/// The table.
pub(super) static TABLE: LazyLock<Table> = LazyLock::new(|| Table::read(TEXT));

impl Table {
    fn read(text: &'static str) -> Self {
        let mut table = Self {
            rows: Vec::new(),
            exact: HashMap::new(),
            prefix: HashMap::new(),
            texts: Vec::new(),
        };
        for line in text.lines().skip(1) {
            // A row that cannot be read fails `every_row_is_read`, not a running service.
            let _ = table.add(line);
        }
        table
    }

    fn add(&mut self, line: &'static str) -> Option<()> {
        let mut columns = line.split('\t');
        let token = columns.next()?;
        let uses = columns.next()?;
        let system = columns.next()?;
        let code = columns.next()?;
        let matching = columns.next()?;
        let when = columns.next()?;
        let verified = columns.nth(1)?;
        let (voice, token) = if let Some(token) = token.strip_prefix("not:") {
            (Voice::Never, token)
        } else if let Some(token) = token.strip_prefix("weak:") {
            (Voice::Mentions, token)
        } else {
            (Voice::Says, token)
        };
        let when = when
            .split(';')
            .filter(|word| !word.is_empty())
            .map(Condition::parse)
            .collect::<Option<Vec<_>>>()?;
        let position = self.rows.len();
        let mut row = Row {
            token,
            voice,
            uses,
            when,
            code: code.to_owned(),
            verified: !matches!(verified, "U" | "ours"),
        };
        if system == "text" {
            self.texts.push(position);
        } else {
            for word in system.split(',') {
                let system = System::from_column(word)?;
                let code = system.normal(code);
                row.code.clone_from(&code);
                let index = if matching == "prefix" {
                    &mut self.prefix
                } else {
                    &mut self.exact
                };
                index.entry((system, code)).or_default().push(position);
            }
        }
        self.rows.push(row);
        Some(())
    }

    /// Every row that this code meets, with the length of what matched.
    pub(super) fn rows_of(&self, system: System, code: &str) -> Vec<(&Row, usize)> {
        let code = system.normal(code);
        let mut found = Vec::new();
        let take = |positions: Option<&Vec<usize>>, length, found: &mut Vec<_>| {
            for position in positions.into_iter().flatten() {
                if let Some(row) = self.rows.get(*position) {
                    found.push((row, length));
                }
            }
        };
        // No code of these systems is longer than a dozen characters.
        if code.len() > 32 || !code.is_ascii() {
            return found;
        }
        take(
            self.exact.get(&(system, code.clone())),
            code.len(),
            &mut found,
        );
        if system.is_hierarchical() {
            for length in (1..=code.len()).rev() {
                if let Some(start) = code.get(..length) {
                    take(
                        self.prefix.get(&(system, start.to_owned())),
                        length,
                        &mut found,
                    );
                }
            }
        }
        found
    }

    /// The rows that match words instead of codes.
    pub(super) fn texts(&self) -> impl Iterator<Item = &Row> {
        self.texts
            .iter()
            .filter_map(|position| self.rows.get(*position))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_read() {
        assert_eq!(TABLE.rows.len(), TEXT.lines().count() - 1);
        assert!(TABLE.rows.len() > 2300);
        for row in &TABLE.rows {
            assert!(
                row.uses
                    .split(',')
                    .all(|letter| "COMPFS".contains(letter) && letter.len() == 1),
                "{row:?}"
            );
        }
    }

    #[test]
    fn licensed_words_are_not_shipped() {
        for line in TEXT.lines().skip(1) {
            let columns: Vec<_> = line.split('\t').collect();
            assert_eq!(columns.len(), 9, "{line}");
            assert_ne!(columns[2], "cpt");
            if columns[2] == "sct" || columns[2] == "icd10" {
                assert!(columns[6].is_empty(), "{line}");
            }
        }
    }

    #[test]
    fn dots_do_not_matter_and_prefixes_do() {
        let tokens = |code| {
            TABLE
                .rows_of(System::Icd10Cm, code)
                .into_iter()
                .map(|(row, length)| (row.token, length))
                .collect::<Vec<_>>()
        };
        assert_eq!(tokens("R16.1"), tokens("r161"));
        assert!(tokens("R16.1").contains(&("splenomegaly", 4)));
        assert!(tokens("B15.9").contains(&("hepatitis", 3)));
        assert!(tokens("").is_empty());
    }
}
