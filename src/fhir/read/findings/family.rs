//! Relatives by blood.

use super::{Reader, code, status_code, table::Use, value::decimal, when::When};
use crate::{clinical::truth::Truth, fhir::tree::Tree};

/// v3 `RoleCode` of blood relatives: parents, siblings, children, grandparents, aunts, uncles,
/// cousins, nephews and nieces.
const BLOOD: &[&str] = &[
    "MTH",
    "FTH",
    "NMTH",
    "NFTH",
    "PRN",
    "NPRN",
    "SIB",
    "NSIB",
    "NBRO",
    "NSIS",
    "HSIB",
    "HBRO",
    "HSIS",
    "BRO",
    "SIS",
    "TWIN",
    "TWINBRO",
    "TWINSIS",
    "FTWIN",
    "FTWINBRO",
    "FTWINSIS",
    "ITWIN",
    "ITWINBRO",
    "ITWINSIS",
    "CHILD",
    "NCHILD",
    "SON",
    "DAU",
    "SONC",
    "DAUC",
    "GRPRN",
    "GRFTH",
    "GRMTH",
    "MGRPRN",
    "MGRFTH",
    "MGRMTH",
    "PGRPRN",
    "PGRFTH",
    "PGRMTH",
    "AUNT",
    "MAUNT",
    "PAUNT",
    "UNCLE",
    "MUNCLE",
    "PUNCLE",
    "COUSN",
    "MCOUSN",
    "PCOUSN",
    "GRNDCHILD",
    "GRNDSON",
    "GRNDDAU",
    "NIENEPH",
    "NEPHEW",
    "NIECE",
];

/// Not by blood: their diseases say nothing.
const OTHERS: &[&str] = &[
    "SPS",
    "HUSB",
    "WIFE",
    "DOMPART",
    "SIGOTHR",
    "INLAW",
    "FTHINLAW",
    "MTHINLAW",
    "PRNINLAW",
    "BROINLAW",
    "SISINLAW",
    "SIBINLAW",
    "SONINLAW",
    "DAUINLAW",
    "CHLDINLAW",
    "STPPRN",
    "STPFTH",
    "STPMTH",
    "STPSIB",
    "STPBRO",
    "STPSIS",
    "STPCHLD",
    "STPSON",
    "STPDAU",
    "CHLDADOPT",
    "SONADOPT",
    "DAUADOPT",
    "ADOPTF",
    "ADOPTM",
    "ADOPTP",
    "CHLDFOST",
    "SONFOST",
    "DAUFOST",
    "FTHFOST",
    "MTHFOST",
    "PRNFOST",
    "FRND",
    "NBOR",
    "ROOM",
    "ONESELF",
];

/// Brothers, and men of the mother's side.
const MALE_OF_MOTHERS_LINE: &[&str] = &[
    "BRO", "NBRO", "HBRO", "TWINBRO", "FTWINBRO", "ITWINBRO", "MUNCLE", "MGRFTH", "MCOUSN",
];

/// Reads a `FamilyMemberHistory`.
pub(super) fn read(reader: &mut Reader<'_, '_>) {
    let history = reader.resource;
    if !matches!(history.text("status"), Some("completed" | "partial")) {
        return;
    }
    let relation = status_code(history, "relationship");
    if relation.is_some_and(|relation| OTHERS.contains(&relation)) {
        return;
    }
    let by_blood = relation.is_some_and(|relation| BLOOD.contains(&relation));
    let recorded = When::member(history, "date").map(|when| when.first);
    for condition in history.items("condition") {
        let Some(concept) = condition.get("code") else {
            continue;
        };
        for hit in code::hits(concept, Use::Family) {
            let mut truth = if by_blood && hit.says() {
                Truth::True
            } else {
                Truth::Unknown
            };
            if hit.row.token == "family_xlinked_death" {
                truth = truth.and(died_early(history, relation));
            }
            reader.state(hit.token(), truth, recorded, None);
        }
    }
}

/// A boy of the mother's line who died before his fifth birthday.
fn died_early(history: &Tree<'_>, relation: Option<&str>) -> Truth {
    let male = match status_code(history, "sex") {
        Some("male") => Truth::True,
        Some("female") => Truth::False,
        _ if relation.is_some_and(|relation| {
            relation.ends_with("BRO") || matches!(relation, "MUNCLE" | "MGRFTH")
        }) =>
        {
            Truth::True
        }
        _ => Truth::Unknown,
    };
    let line = match relation {
        Some(relation) => MALE_OF_MOTHERS_LINE.contains(&relation).into(),
        None => Truth::Unknown,
    };
    let young = match history.get("deceasedAge") {
        Some(age) => age_below_five(age),
        None if history.get("deceasedBoolean").and_then(Tree::as_bool) == Some(false) => {
            Truth::False
        }
        None => match (
            When::member(history, "bornDate"),
            When::member(history, "deceasedDate"),
        ) {
            (Some(born), Some(died)) if born.to_the_day && died.to_the_day => {
                // Calendar years: the day before the fifth birthday still counts.
                let years = died.first.year().saturating_sub(born.first.year());
                let before_birthday = (u8::from(died.first.month()), died.first.day())
                    < (u8::from(born.first.month()), born.first.day());
                (years < 5 || (years == 5 && before_birthday)).into()
            }
            _ => Truth::Unknown,
        },
    };
    Truth::all([male, line, young])
}

fn age_below_five(age: &Tree<'_>) -> Truth {
    let Some(value) = age.get("value").and_then(decimal) else {
        return Truth::Unknown;
    };
    let limit = match age.text("code").or_else(|| age.text("unit")) {
        Some("a" | "year" | "years") => 5,
        Some("mo" | "month" | "months") => 60,
        Some("wk" | "week" | "weeks") => 260,
        Some("d" | "day" | "days") => 1826,
        _ => return Truth::Unknown,
    };
    (value < limit.into()).into()
}
