//! What stands in `value[x]`, in all the shapes in which laboratories send it: a number with its
//! comparator and unit, a number in a text, a word of the bench, a coded answer.
//!
//! Numbers are kept as written and as exact decimals; one that does not fit exactly is refused.

use rust_decimal::Decimal;

use super::{codes::CodeMap, codes::Term, tree::Tree, units};
use crate::clinical::{
    analyte::Analyte,
    quantity::Interval,
    timeline::{Interpretation, Reason, Received},
};

/// The value of an Observation or component, as far as its shape tells.
#[derive(Debug)]
pub enum Value<'t> {
    /// `valueQuantity`, `valueInteger`, `valueRange`, or an NRBC `valueRatio`.
    Quantity(Quantity<'t>),
    /// `valueString`, or the text of a `CodeableConcept`.
    Text(&'t str),
    /// `valueCodeableConcept`.
    Coded(&'t Tree<'t>),
    /// `valueBoolean`.
    Boolean(bool),
    /// `dataAbsentReason`: its code, if coded.
    Absent(Option<&'t str>),
    /// A shape that is not read, by the name of the element.
    Unsupported(&'t str),
    /// Neither a value nor a reason.
    Nothing,
}

/// A number, or two, with the unit as sent.
#[derive(Debug)]
pub struct Quantity<'t> {
    /// Numbers as written.
    pub numbers: Numbers<'t>,
    /// Unit.
    pub unit: units::Sent<'t>,
}

impl Quantity<'_> {
    /// The number as written, with its comparator; a range as `low-high`.
    pub fn written(&self) -> String {
        match self.numbers {
            Numbers::One(comparator, number) => {
                format!("{}{number}", comparator.map_or("", Comparator::as_str))
            }
            Numbers::Range(low, high) => {
                format!("{}-{}", low.unwrap_or_default(), high.unwrap_or_default())
            }
            Numbers::None => String::new(),
        }
    }
}

/// The numbers of a quantity, as written.
#[derive(Debug)]
pub enum Numbers<'t> {
    /// A number with its comparator.
    One(Option<Comparator>, &'t str),
    /// `valueRange`: low and high, at least one of them.
    Range(Option<&'t str>, Option<&'t str>),
    /// A quantity without a number.
    None,
}

/// `Quantity.comparator`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparator {
    /// `<`.
    Less,
    /// `<=`.
    LessOrEqual,
    /// `>`.
    Greater,
    /// `>=`.
    GreaterOrEqual,
    /// `=`: not FHIR, and no comparator at all.
    Equal,
}

impl Comparator {
    fn from_code(code: &str) -> Option<Self> {
        Some(match code {
            "<" => Self::Less,
            "<=" => Self::LessOrEqual,
            ">" => Self::Greater,
            ">=" => Self::GreaterOrEqual,
            "=" => Self::Equal,
            _ => return None,
        })
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::Equal => "",
        }
    }

    fn interval(self, number: Decimal) -> Interval {
        match self {
            Self::Less => Interval::below(number),
            Self::LessOrEqual => Interval::at_most(number),
            Self::Greater => Interval::above(number),
            Self::GreaterOrEqual => Interval::at_least(number),
            Self::Equal => Interval::exact(number),
        }
    }
}

/// Finds the value of an Observation or component.
pub fn of<'t>(holder: &'t Tree<'t>) -> Value<'t> {
    let Tree::Object(members) = holder else {
        return Value::Nothing;
    };
    for (name, value) in members {
        let shape = match name.strip_prefix("value") {
            Some(shape) if shape.starts_with(|letter: char| letter.is_ascii_uppercase()) => shape,
            _ => continue,
        };
        return match shape {
            "Quantity" => match quantity(value) {
                quantity @ Quantity {
                    numbers: Numbers::None,
                    ..
                } => absent(holder).unwrap_or(Value::Quantity(quantity)),
                quantity => Value::Quantity(quantity),
            },
            "Integer" => match value.as_number() {
                Some(number) => Value::Quantity(Quantity {
                    numbers: Numbers::One(None, number),
                    unit: units::Sent::default(),
                }),
                None => Value::Nothing,
            },
            "Range" => range(value),
            "Ratio" => ratio(value).unwrap_or(Value::Unsupported(name)),
            "String" => value.as_str().map_or(Value::Nothing, Value::Text),
            "CodeableConcept" => Value::Coded(value),
            "Boolean" => value.as_bool().map_or(Value::Nothing, Value::Boolean),
            _ => Value::Unsupported(name),
        };
    }
    absent(holder).unwrap_or(Value::Nothing)
}

fn absent<'t>(holder: &'t Tree<'t>) -> Option<Value<'t>> {
    holder.get("dataAbsentReason").map(|reason| {
        Value::Absent(
            reason
                .items("coding")
                .iter()
                .find_map(|coding| coding.text("code")),
        )
    })
}

fn quantity<'t>(value: &'t Tree<'t>) -> Quantity<'t> {
    let comparator = value.text("comparator").and_then(Comparator::from_code);
    Quantity {
        numbers: match value.get("value").and_then(Tree::as_number) {
            Some(number) => Numbers::One(comparator, number),
            None => Numbers::None,
        },
        unit: unit(value),
    }
}

fn unit<'t>(value: &'t Tree<'t>) -> units::Sent<'t> {
    units::Sent {
        system: value.text("system"),
        code: value.text("code"),
        unit: value.text("unit"),
    }
}

fn range<'t>(value: &'t Tree<'t>) -> Value<'t> {
    let end = |name| value.get(name);
    let number = |name| {
        end(name)
            .and_then(|end| end.get("value"))
            .and_then(Tree::as_number)
    };
    let Some(some) = end("low").or(end("high")) else {
        return Value::Nothing;
    };
    let agree = |one: Option<&str>, two: Option<&str>| one.is_none() || two.is_none() || one == two;
    if let (Some(low), Some(high)) = (end("low"), end("high"))
        && !(agree(low.text("code"), high.text("code"))
            && agree(low.text("unit"), high.text("unit")))
    {
        return Value::Unsupported("a valueRange whose ends have two units");
    }
    Value::Quantity(Quantity {
        numbers: Numbers::Range(number("low"), number("high")),
        unit: unit(some),
    })
}

/// `4/100`: nucleated red cells per 100 white cells.
fn ratio<'t>(value: &'t Tree<'t>) -> Option<Value<'t>> {
    let number = |name| value.get(name)?.get("value").and_then(Tree::as_number);
    let hundred =
        number("denominator").and_then(|text| decimal(text).ok()) == Some(Decimal::ONE_HUNDRED);
    let numerator = number("numerator").filter(|_| hundred)?;
    Some(Value::Quantity(Quantity {
        numbers: Numbers::One(None, numerator),
        unit: units::Sent {
            unit: Some("/100WBC"),
            ..units::Sent::default()
        },
    }))
}

/// A JSON number, exactly. 28 digits and what fits into 96 bits; more cannot be a measurement.
pub fn decimal(written: &str) -> Result<Decimal, Reason> {
    let too_long = || Reason {
        word: "value",
        text: "the number has more digits than can be kept exactly".to_owned(),
    };
    let (mantissa, exponent) = match written.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().map_err(|_| too_long())?),
        None => (written, 0),
    };
    let number = Decimal::from_str_exact(mantissa).map_err(|_| too_long())?;
    if exponent == 0 || number.is_zero() {
        return Ok(number);
    }
    if exponent.unsigned_abs() > Decimal::MAX_SCALE {
        return Err(too_long());
    }
    let number = number.normalize();
    if exponent < 0 {
        let mut scaled = number;
        scaled
            .set_scale(number.scale() + exponent.unsigned_abs())
            .map_err(|_| too_long())?;
        return Ok(scaled);
    }
    let power = Decimal::from_i128_with_scale(10_i128.pow(exponent.unsigned_abs()), 0);
    exact_product(number, power).ok_or_else(too_long)
}

/// The product, if no digit of it is lost.
fn exact_product(one: Decimal, two: Decimal) -> Option<Decimal> {
    let (one, two) = (one.normalize(), two.normalize());
    let product = one.checked_mul(two)?;
    (product.is_zero() || product.scale() == one.scale() + two.scale()).then(|| product.normalize())
}

/// A value in the canonical unit of its analyte.
#[derive(Debug)]
pub struct Converted {
    /// The analyte that the unit decided for.
    pub analyte: Analyte,
    /// In its canonical unit; `None`: only as received.
    pub value: Option<Interval>,
    /// As written.
    pub received: Received,
    /// The factor that was used.
    pub factor: Decimal,
    /// Why it is not used (test T1).
    pub unusable: Option<Reason>,
    /// Word, element, text.
    pub notes: Vec<(&'static str, &'static str, String)>,
}

/// A number that could not be converted.
#[derive(Debug)]
pub struct NotConverted {
    /// As written.
    pub received: Received,
    /// Why.
    pub reason: Reason,
}

/// Converts a quantity into the canonical unit of `analyte`.
pub fn convert(
    analyte: Analyte,
    terms: &[&Term],
    quantity: &Quantity<'_>,
    map: &CodeMap,
) -> Result<Converted, Box<NotConverted>> {
    let mut notes = Vec::new();
    let written = quantity.written();
    let received = |unit: &str| Received {
        value: written.clone(),
        unit: unit.to_owned(),
    };
    let sent_unit = quantity
        .unit
        .code
        .or(quantity.unit.unit)
        .unwrap_or_default()
        .trim();
    let fail = |reason| {
        Box::new(NotConverted {
            received: received(sent_unit),
            reason,
        })
    };
    let (interval, sent) = interval(&quantity.numbers).map_err(fail)?;
    if matches!(quantity.numbers, Numbers::One(Some(Comparator::Equal), _)) {
        notes.push((
            "comparator-ignored",
            "comparator",
            "the comparator = is none; the number is used".to_owned(),
        ));
    }
    let negative = sent
        .iter()
        .any(|number| number.is_sign_negative() && !number.is_zero());
    let understood = match units::read(analyte, terms, quantity.unit, map) {
        Ok(understood) => understood,
        // A negative number is impossible under any unit.
        Err(_) if negative && analyte != Analyte::Temperature => {
            return Err(fail(Reason {
                word: "value-implausible",
                text: "a negative number cannot be a result".to_owned(),
            }));
        }
        Err(reason) => return Err(fail(reason)),
    };
    notes.extend(understood.notes);
    let mut unusable = None;
    let to_canonical = |number: Decimal| {
        if understood.fahrenheit {
            // 5/9 is no finite decimal: the one factor that rounds (at the 28th digit).
            number
                .checked_sub(Decimal::from(32))?
                .checked_mul(Decimal::from(5))?
                .checked_div(Decimal::from(9))
        } else {
            exact_product(number, understood.factor)
        }
    };
    for number in sent {
        match to_canonical(number) {
            Some(canonical) => {
                unusable = unusable.or_else(|| {
                    units::implausible(understood.analyte, number, canonical, understood.factor)
                });
            }
            None => {
                return Err(fail(Reason {
                    word: "value",
                    text: "the number has more digits than can be kept exactly".to_owned(),
                }));
            }
        }
    }
    let map_end = |end: Option<crate::clinical::quantity::End>| {
        end.and_then(|end| {
            Some(crate::clinical::quantity::End {
                value: to_canonical(end.value)?,
                closed: end.closed,
            })
        })
    };
    let value = Interval {
        low: map_end(interval.low),
        high: map_end(interval.high),
    };
    if understood.analyte == Analyte::Platelets
        && value.as_exact().is_some_and(|exact| exact.is_zero())
    {
        notes.push((
            "zero-platelets",
            "value",
            "zero platelets: verify".to_owned(),
        ));
    }
    Ok(Converted {
        analyte: understood.analyte,
        value: Some(value),
        received: received(understood.unit),
        factor: understood.factor,
        unusable,
        notes,
    })
}

/// The interval in the unit sent, and the numbers that were written.
fn interval(numbers: &Numbers<'_>) -> Result<(Interval, Vec<Decimal>), Reason> {
    match *numbers {
        Numbers::One(comparator, number) => {
            let number = decimal(number)?;
            Ok((
                comparator.unwrap_or(Comparator::Equal).interval(number),
                vec![number],
            ))
        }
        Numbers::Range(None, None) | Numbers::None => Err(Reason {
            word: "required",
            text: "a quantity without a number".to_owned(),
        }),
        Numbers::Range(low, high) => {
            let (low, high) = (
                low.map(decimal).transpose()?,
                high.map(decimal).transpose()?,
            );
            let mut interval = match (low, high) {
                (Some(low), _) => Interval::at_least(low),
                (None, Some(high)) => Interval::at_most(high),
                (None, None) => Interval::at_least(Decimal::ZERO),
            };
            if let Some(high) = high {
                interval.high = Interval::at_most(high).high;
            }
            Ok((interval, low.into_iter().chain(high).collect()))
        }
    }
}

/// A text that is a number with its unit.
#[derive(Debug)]
pub struct NumberInText<'t> {
    /// Comparator.
    pub comparator: Option<Comparator>,
    /// The number with a decimal point.
    pub number: String,
    /// What follows it; may be empty.
    pub unit: &'t str,
}

/// Words that stand for a comparator.
const COMPARATORS: &[(&str, Comparator)] = &[
    ("<=", Comparator::LessOrEqual),
    ("≤", Comparator::LessOrEqual),
    (">=", Comparator::GreaterOrEqual),
    ("≥", Comparator::GreaterOrEqual),
    ("<", Comparator::Less),
    (">", Comparator::Greater),
    ("lt ", Comparator::Less),
    ("gt ", Comparator::Greater),
    ("less than ", Comparator::Less),
    ("greater than ", Comparator::Greater),
    ("more than ", Comparator::Greater),
    ("kleiner als ", Comparator::Less),
    ("kleiner ", Comparator::Less),
    ("größer als ", Comparator::Greater),
    ("größer ", Comparator::Greater),
    ("inférieur à ", Comparator::Less),
    ("supérieur à ", Comparator::Greater),
];

/// Splits `comparator? number unit`; `None`: the text is something else.
pub fn number_in(text: &str) -> Option<Result<NumberInText<'_>, Reason>> {
    let text = text.trim();
    let (comparator, rest) = COMPARATORS
        .iter()
        .find_map(|(word, comparator)| {
            let head = text.get(..word.len())?;
            (head.to_lowercase() == *word).then(|| {
                (
                    Some(*comparator),
                    text.get(word.len()..).unwrap_or_default(),
                )
            })
        })
        .unwrap_or((None, text));
    let rest = rest.trim_start();
    let end = rest
        .find(|letter: char| !(letter.is_ascii_digit() || letter == '.' || letter == ','))
        .unwrap_or(rest.len());
    let (number, unit) = rest.split_at_checked(end)?;
    if !number.starts_with(|letter: char| letter.is_ascii_digit()) {
        return None;
    }
    // `3-5`, `1:320`, `2+`, `12/05/2026` are no number with a unit.
    let unit = unit.trim();
    if unit.starts_with([':', '-', '+', '–']) {
        return None;
    }
    let ambiguous = || {
        Some(Err(Reason {
            word: "number-ambiguous",
            text: "a separator that may mean thousands or decimals; send a Quantity".to_owned(),
        }))
    };
    let separators = number.matches(['.', ',']).count();
    let number = match number.split_once(',') {
        _ if separators > 1 => return ambiguous(),
        Some((whole, decimals)) if decimals.len() == 3 && whole != "0" => return ambiguous(),
        Some((whole, decimals)) if !decimals.is_empty() => format!("{whole}.{decimals}"),
        Some(_) => return None,
        None => number.trim_end_matches('.').to_owned(),
    };
    Some(Ok(NumberInText {
        comparator,
        number,
        unit,
    }))
}

/// Meaning of a word of the bench that stands where a number should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// Says nothing by itself ("see note").
    SeeNote,
    /// Platelets clumped.
    Clumped,
    /// Clotted specimen.
    Clotted,
    /// Judged enough, no number.
    Adequate,
    /// Judged too few, no number.
    Decreased,
    /// Not measured, for the reason it names.
    NotMeasured,
    /// None.
    Absent,
    /// Some, with a grade.
    Grade(u8),
    /// Too many to count.
    TooManyToCount,
}

/// Whole texts, lower case, in the languages that feeds mix.
#[rustfmt::skip]
const WORDS: &[(Word, &[&str])] = &[
    (Word::SeeNote, &["see note", "see comment", "seenote", "see report", "siehe text", "siehe kommentar", "s. kommentar", "voir commentaire", "zie opmerking", "*", "**", "---", "."]),
    (Word::Clumped, &["clumped", "clumps", "clumps present", "plt clumped", "platelets clumped", "platelet clumps", "aggregates", "platelet aggregates", "thrombozytenaggregate", "agrégats", "agrégats plaquettaires", "trombocytenaggregaten", "agregados plaquetarios"]),
    (Word::Clotted, &["clotted", "geronnen", "coagulated", "gestold", "coagulé", "coágulo"]),
    (Word::Adequate, &["adequate", "normal", "appears normal", "appear normal", "appear adequate"]),
    (Word::Decreased, &["decreased", "markedly decreased", "low", "reduced", "appear decreased"]),
    (Word::NotMeasured, &["hemolyzed", "haemolysed", "hemolysed", "hämolytisch", "lipemic", "lipaemic", "icteric", "qns", "quantity not sufficient", "insufficient", "insufficient sample", "short sample", "wrong tube", "tnp", "test not performed", "not performed", "cancelled", "canceled", "dnr", "pending", "in progress", "volgt", "folgt", "nicht bestimmbar", "n.b.", "nb", "n/a", "na", "nd"]),
    (Word::Absent, &["0", "none", "none seen", "not seen", "absent", "negative", "neg", "keine", "nil", "no", "not present"]),
    (Word::Grade(1), &["rare", "occasional", "few", "slight", "1+", "+", "vereinzelt", "einzelne", "trace", "present", "positive", "pos", "seen"]),
    (Word::Grade(2), &["moderate", "2+", "++"]),
    (Word::Grade(3), &["many", "marked", "3+", "+++", "massenhaft"]),
    (Word::Grade(4), &["4+", "++++"]),
    (Word::TooManyToCount, &["tntc", "packed"]),
];

/// What a whole text means, if it is one of the known ones.
pub fn word(text: &str) -> Option<Word> {
    let text = text.trim().to_lowercase();
    let known = |text: &str| {
        WORDS
            .iter()
            .find(|(_, words)| words.contains(&text))
            .map(|(word, _)| *word)
    };
    known(&text).or_else(|| known(text.trim_end_matches([':', '.', '!']).trim_end()))
}

/// Whether a finding is there, and how much of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// Not there.
    Absent,
    /// There, amount not said.
    Present,
    /// There, by grade 1 to 4.
    Grade(u8),
    /// There, by share of the cells in per cent.
    Percent(Decimal),
    /// Asked and not decided.
    Unknown,
}

/// LOINC answers and SNOMED CT concepts of presence and grade.
#[rustfmt::skip]
const ANSWERS: &[(&str, Presence)] = &[
    ("LA9633-4", Presence::Present), ("LA6576-8", Presence::Present), ("LA11882-0", Presence::Present), ("LA15255-5", Presence::Present),
    ("LA9634-2", Presence::Absent), ("LA6577-6", Presence::Absent), ("LA11883-8", Presence::Absent), ("LA15256-3", Presence::Absent),
    ("LA11884-6", Presence::Unknown), ("LA4489-6", Presence::Unknown), ("LA13538-6", Presence::Unknown),
    ("LA11832-5", Presence::Grade(1)), ("LA6752-5", Presence::Grade(1)), ("LA6751-7", Presence::Grade(2)), ("LA6750-9", Presence::Grade(3)),
    ("52101004", Presence::Present), ("10828004", Presence::Present), ("260373001", Presence::Present), ("11214006", Presence::Present),
    ("2667000", Presence::Absent), ("260385009", Presence::Absent), ("260415000", Presence::Absent), ("131194007", Presence::Absent),
    ("82334004", Presence::Unknown),
    ("441614007", Presence::Grade(1)), ("441517005", Presence::Grade(2)), ("441521003", Presence::Grade(3)),
    ("260347006", Presence::Grade(1)), ("260348001", Presence::Grade(2)), ("260349009", Presence::Grade(3)), ("260350009", Presence::Grade(4)),
    ("255604002", Presence::Grade(1)), ("6736007", Presence::Grade(2)), ("24484000", Presence::Grade(3)),
];

/// Presence from a coded answer, with the system that the code needs.
pub fn answer(concept: &Tree<'_>) -> Option<Presence> {
    let by_code = concept.items("coding").iter().find_map(|coding| {
        let code = coding.text("code")?.trim();
        let system = coding.text("system")?;
        let right = if code.starts_with("LA") {
            system == super::codes::LOINC
        } else {
            system == "http://snomed.info/sct"
        };
        let (_, presence) = ANSWERS.iter().find(|(known, _)| right && *known == code)?;
        Some(*presence)
    });
    by_code.or_else(|| text_of(concept).and_then(presence_word))
}

/// The text a person sees: `text`, else the first display.
pub fn text_of<'t>(concept: &'t Tree<'_>) -> Option<&'t str> {
    concept.text("text").or_else(|| {
        concept
            .items("coding")
            .iter()
            .find_map(|coding| coding.text("display"))
    })
}

/// Presence from a text.
pub fn presence_word(text: &str) -> Option<Presence> {
    match word(text)? {
        Word::Absent => Some(Presence::Absent),
        Word::Grade(1)
            if matches!(
                text.trim().to_lowercase().as_str(),
                "present" | "positive" | "pos" | "seen"
            ) =>
        {
            Some(Presence::Present)
        }
        Word::Grade(grade) => Some(Presence::Grade(grade)),
        Word::TooManyToCount => Some(Presence::Grade(4)),
        _ => None,
    }
}

/// The sender's own flag: `Observation.interpretation`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flags {
    /// For the model.
    pub interpretation: Option<Interpretation>,
    /// For presence codes.
    pub presence: Option<Presence>,
    /// `<` or `>`: off the scale of the instrument.
    pub off_scale: bool,
    /// A code nobody knows.
    pub unknown: bool,
}

/// Reads `interpretation`; what is not a code of HL7 is no interpretation.
pub fn flags(holder: &Tree<'_>) -> Flags {
    let mut flags = Flags::default();
    for concept in holder.items("interpretation") {
        let mut known = false;
        for coding in concept.items("coding") {
            let hl7 = match coding.text("system") {
                None => true,
                Some(system) => {
                    system.ends_with("v3-ObservationInterpretation")
                        || system.ends_with("v3/ObservationInterpretation")
                        || system.ends_with("v2-0078")
                        || system.ends_with("v2/0078")
                        || system == "urn:oid:2.16.840.1.113883.5.83"
                }
            };
            if let Some(code) = coding.text("code").filter(|_| hl7) {
                known |= flags.add(code.trim());
            }
        }
        if concept.items("coding").is_empty()
            && let Some(text) = concept.text("text")
        {
            known |= flags.add(text.trim());
        }
        flags.unknown |= !known;
    }
    flags
}

impl Flags {
    fn add(&mut self, code: &str) -> bool {
        let (interpretation, presence) = match code {
            "LL" | "HH" | "AA" => (Some(Interpretation::Critical), None),
            "L" | "LU" | "<" | "LX" => (Some(Interpretation::Low), None),
            "H" | "HU" | ">" | "HX" => (Some(Interpretation::High), None),
            "N" => (Some(Interpretation::Normal), None),
            "A" => (Some(Interpretation::Abnormal), None),
            "POS" | "DET" | "RR" | "WR" => {
                (Some(Interpretation::Abnormal), Some(Presence::Present))
            }
            "NEG" | "ND" | "NR" => (None, Some(Presence::Absent)),
            "IND" | "E" => (None, Some(Presence::Unknown)),
            "D" | "U" | "B" | "W" => (None, None),
            _ => return false,
        };
        self.off_scale |= matches!(code, "<" | ">");
        // A critical flag is never hidden by a second, milder one.
        if self.interpretation != Some(Interpretation::Critical) {
            self.interpretation = interpretation.or(self.interpretation);
        }
        self.presence = self.presence.or(presence);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_kept_exactly_or_refused() {
        for (written, exact) in [
            ("6.40", "6.40"),
            ("0", "0"),
            ("-9", "-9"),
            ("1e2", "100"),
            ("1.5E-3", "0.0015"),
            ("12.345678901234567", "12.345678901234567"),
            ("0e999999", "0"),
        ] {
            assert_eq!(
                decimal(written).map(|number| number.to_string()).as_deref(),
                Ok(exact),
                "{written}"
            );
        }
        for written in [
            "1e99",
            "1e-99",
            "0.00000000000000000000000000001",
            "1e99999999999",
            "123456789012345678901234567890",
        ] {
            assert!(decimal(written).is_err(), "{written}");
        }
    }

    #[test]
    fn a_product_that_loses_a_digit_is_no_product() {
        let long = decimal("1.2345678901234567890123456789").expect("fits");
        assert_eq!(exact_product(long, Decimal::new(16114, 3)), None);
        assert_eq!(
            exact_product(Decimal::new(807, 2), Decimal::new(16114, 3)),
            Some(Decimal::new(13_003_998, 5))
        );
    }

    #[test]
    fn numbers_are_read_from_texts() {
        for (text, number, unit) in [
            ("9,4 g/dl", "9.4", "g/dl"),
            ("9.4", "9.4", ""),
            ("LT 0.1 10*9/L", "0.1", "10*9/L"),
            ("less than 0.1", "0.1", ""),
            ("≤ 5 %", "5", "%"),
            ("0,123 g/L", "0.123", "g/L"),
            ("12.500", "12.500", ""),
        ] {
            let read = number_in(text).expect(text).expect(text);
            assert_eq!((read.number.as_str(), read.unit), (number, unit), "{text}");
        }
        for text in ["1,234 10*3/uL", ">100,000", "1.234,5", "1,234,567"] {
            assert_eq!(
                number_in(text).expect(text).expect_err(text).word,
                "number-ambiguous",
                "{text}"
            );
        }
        for text in ["clumped", "", "<", "1:320", "2+", "3-5", "volgt", ".5", "ü"] {
            assert!(number_in(text).is_none(), "{text}");
        }
    }

    #[test]
    fn words_are_whole_texts() {
        assert_eq!(word(" See Note: "), Some(Word::SeeNote));
        assert_eq!(word("Clumped"), Some(Word::Clumped));
        assert_eq!(word("ND"), Some(Word::NotMeasured));
        assert_eq!(word("not clumped"), None);
        assert_eq!(presence_word("1+"), Some(Presence::Grade(1)));
        assert_eq!(presence_word("Positive"), Some(Presence::Present));
    }
}
