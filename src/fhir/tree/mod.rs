//! One parse: JSON bytes become one borrowed tree with decimals as written.
//!
//! Why not `serde_json::Value`: it keeps the last of two equal members without a word, accepts
//! any size, copies every string, and knows no place in the text once it is done. The grammar is
//! still `serde_json`'s; this module only collects what its deserializer hands over, and does so
//! in about half the time.
//!
//! Two kinds of damage are told apart. *Broken text* (not JSON, cut off, bad UTF-8, over a limit)
//! ends the parse: nobody can say what was meant. *Broken FHIR* (a member twice, `null`, `[]`,
//! `{}` or `""` where FHIR has no place for it) is noted with its path while the parse goes on, so
//! that it costs the entry it lies in and not its neighbours.

use std::{
    borrow::Cow,
    cell::{Cell, RefCell},
    collections::HashSet,
    fmt,
    ops::Range,
};

use serde::{
    Serialize, Serializer,
    de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor},
    ser::{SerializeMap, SerializeSeq},
};
use serde_json::Value;

use super::{
    outcome::{Issue, word},
    path::{Path, Trail},
};

/// A JSON value that borrows from the bytes it was read from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Tree<'a> {
    /// `null`.
    #[default]
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number, as written: `6.40` stays `6.40`. Only an exponent is spelled `e+5` or `e-5`.
    Number(Cow<'a, str>),
    /// A string, unescaped.
    String(Cow<'a, str>),
    /// An array.
    Array(Vec<Tree<'a>>),
    /// An object; members in the order sent.
    Object(Vec<(Cow<'a, str>, Tree<'a>)>),
}

impl<'a> Tree<'a> {
    /// The member `name` of an object.
    pub fn get(&self, name: &str) -> Option<&Tree<'a>> {
        self.members()
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value)
    }

    /// The members of an object; none of anything else.
    pub fn members(&self) -> &[(Cow<'a, str>, Tree<'a>)] {
        match self {
            Self::Object(members) => members,
            _ => &[],
        }
    }

    /// The string, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The string member `name` of an object.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(Tree::as_str)
    }

    /// The items of the array member `name`; none when it is absent or no array.
    pub fn items(&self, name: &str) -> &[Tree<'a>] {
        match self.get(name) {
            Some(Self::Array(items)) => items,
            _ => &[],
        }
    }

    /// The number as written, if it is one.
    pub fn as_number(&self) -> Option<&str> {
        match self {
            Self::Number(text) => Some(text),
            _ => None,
        }
    }

    /// The boolean, if it is one.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// `resourceType` of a resource.
    pub fn resource_type(&self) -> Option<&str> {
        self.text("resourceType")
    }

    /// A copy as `serde_json` has it, for code that builds resources.
    pub fn to_value(&self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(*value),
            Self::Number(text) => number(text).map_or(Value::Null, Value::Number),
            Self::String(text) => Value::String(text.to_string()),
            Self::Array(items) => Value::Array(items.iter().map(Tree::to_value).collect()),
            Self::Object(members) => Value::Object(
                members
                    .iter()
                    .map(|(name, value)| (name.to_string(), value.to_value()))
                    .collect(),
            ),
        }
    }
}

/// A number as `serde_json` keeps it, digits untouched.
pub(super) fn number(text: &str) -> Option<serde_json::Number> {
    serde_json::from_str(text).ok()
}

impl Serialize for Tree<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Number(text) => number(text).serialize(serializer),
            Self::String(text) => serializer.serialize_str(text),
            Self::Array(items) => {
                let mut list = serializer.serialize_seq(Some(items.len()))?;
                for item in items {
                    list.serialize_element(item)?;
                }
                list.end()
            }
            Self::Object(members) => {
                let mut map = serializer.serialize_map(Some(members.len()))?;
                for (name, value) in members {
                    map.serialize_entry(name, value)?;
                }
                map.end()
            }
        }
    }
}

/// The same document as a tree, to check what we made ourselves.
pub fn from_value(value: &Value) -> Tree<'_> {
    match value {
        Value::Null => Tree::Null,
        Value::Bool(value) => Tree::Bool(*value),
        Value::Number(number) => Tree::Number(Cow::Borrowed(number.as_str())),
        Value::String(text) => Tree::String(Cow::Borrowed(text)),
        Value::Array(items) => Tree::Array(items.iter().map(from_value).collect()),
        Value::Object(members) => Tree::Object(
            members
                .iter()
                .map(|(name, value)| (Cow::Borrowed(name.as_str()), from_value(value)))
                .collect(),
        ),
    }
}

/// What a document may ask of us. Nothing real comes near; a hostile one is refused before it
/// costs memory or time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Objects and arrays within each other.
    pub nesting: usize,
    /// Members of one object.
    pub members: usize,
    /// Items of one array.
    pub items: usize,
    /// Values in the whole document.
    pub values: usize,
    /// Bytes of a string.
    pub string: usize,
    /// Bytes of a member called `data`: Attachment and Binary carry whole PDF files there.
    pub data: usize,
    /// Bytes of a member's name.
    pub name: usize,
    /// Digits of a number, its exponent left out.
    pub digits: usize,
    /// Digits of an exponent.
    pub exponent: usize,
    /// Entries of a Bundle.
    pub entries: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            nesting: 64,
            members: 1_000,
            items: 20_000,
            // A Bundle of 10,000 laboratory results has 600,000.
            values: 1_000_000,
            string: 1024 * 1024,
            data: 8 * 1024 * 1024,
            name: 256,
            digits: 40,
            exponent: 2,
            entries: 1_000,
        }
    }
}

/// A document that was read to its end.
#[derive(Debug, Clone)]
pub struct Parsed<'a> {
    /// The document.
    pub root: Tree<'a>,
    /// What FHIR forbids in it, in the order found.
    pub broken: Vec<Broken>,
    /// A byte order mark stood before it and was left out.
    pub byte_order_mark: bool,
    /// The limit on entries that [`super::submission::Checker::decode`] applies.
    pub max_entries: usize,
}

/// JSON that FHIR forbids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// Where.
    pub path: Path,
    /// `duplicate-key` or `empty-value`.
    pub word: &'static str,
}

/// Why a body is no document at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text} (line {line}, column {column})")]
pub struct BrokenText {
    /// `broken-text`, `too-costly` or `too-long`.
    pub word: &'static str,
    /// One sentence, without anything from the body.
    pub text: &'static str,
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1, in bytes.
    pub column: usize,
}

impl BrokenText {
    /// The issue to answer with.
    pub fn issue(&self) -> Issue {
        Issue::fatal(self.word, self.text)
            .diagnosed(format!("line {}, column {}", self.line, self.column))
    }
}

/// Reads one JSON document from `bytes`, to the last of them.
pub fn parse<'a>(bytes: &'a [u8], limits: &Limits) -> Result<Parsed<'a>, BrokenText> {
    let (bytes, byte_order_mark) = match bytes.strip_prefix(b"\xEF\xBB\xBF") {
        Some(rest) => (rest, true),
        None => (bytes, false),
    };
    let text = str::from_utf8(bytes).map_err(|error| {
        let (line, column) = position(bytes, error.valid_up_to());
        BrokenText {
            word: word::BROKEN_TEXT,
            text: "The body is not UTF-8",
            line,
            column,
        }
    })?;
    let state = State::new(text, limits);
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let root = Seed {
        state: &state,
        trail: &Trail::ROOT,
        nesting: 0,
        item: false,
    }
    .deserialize(&mut deserializer)
    .and_then(|root| deserializer.end().map(|()| root))
    .map_err(|error| state.explain(&error))?;
    Ok(Parsed {
        root,
        broken: state.broken.into_inner(),
        byte_order_mark,
        max_entries: limits.entries,
    })
}

/// Line and column of a byte, both from 1.
fn position(bytes: &[u8], at: usize) -> (usize, usize) {
    let before = bytes.get(..at).unwrap_or(bytes);
    let (lines, last) = before
        .split(|byte| *byte == b'\n')
        .fold((0, 0), |(lines, _), line| (lines + 1, line.len()));
    (lines, last + 1)
}

/// Notes of [`Broken`] kept for one entry: one refuses it, a few help to mend it. The rest is
/// dropped, so that a body of nothing but `[]` cannot fill the memory with paths.
const BROKEN_PER_ENTRY: usize = 5;
/// The same for what lies outside of every entry.
const BROKEN_OUTSIDE: usize = 100;

/// What is common to all levels of one parse.
struct State<'l> {
    limits: &'l Limits,
    /// Addresses of the text, to tell a name that stands in it from `serde_json`'s own.
    addresses: Range<usize>,
    refusal: Cell<Option<(&'static str, &'static str)>>,
    values: Cell<usize>,
    /// `null`s met as items of arrays, in all.
    null_items: Cell<usize>,
    broken: RefCell<Vec<Broken>>,
    /// The entry the last note belongs to, and how many it has.
    broken_here: Cell<(Option<usize>, usize)>,
}

impl<'l> State<'l> {
    fn new(text: &str, limits: &'l Limits) -> Self {
        let start = text.as_ptr().addr();
        Self {
            limits,
            addresses: start..start + text.len(),
            refusal: Cell::new(None),
            values: Cell::new(0),
            null_items: Cell::new(0),
            broken: RefCell::new(Vec::new()),
            broken_here: Cell::new((None, 0)),
        }
    }

    fn refuse<E: de::Error>(&self, word: &'static str, text: &'static str) -> E {
        self.refusal.set(Some((word, text)));
        E::custom(text)
    }

    fn note(&self, word: &'static str, trail: &Trail<'_>) {
        let path = trail.path();
        let (entry, count) = self.broken_here.get();
        let count = if entry == path.entry() { count + 1 } else { 1 };
        self.broken_here.set((path.entry(), count));
        let most = match path.entry() {
            Some(_) => BROKEN_PER_ENTRY,
            None => BROKEN_OUTSIDE,
        };
        if count <= most {
            self.broken.borrow_mut().push(Broken { path, word });
        }
    }

    fn count<E: de::Error>(&self) -> Result<(), E> {
        let values = self.values.get() + 1;
        self.values.set(values);
        if values > self.limits.values {
            return Err(self.refuse(word::TOO_COSTLY, "The document holds too many values"));
        }
        Ok(())
    }

    fn explain(&self, error: &serde_json::Error) -> BrokenText {
        let (word, text) = self.refusal.take().unwrap_or_else(|| {
            let text = match error.classify() {
                serde_json::error::Category::Eof => "The body ends before the JSON does",
                _ => "The body is not JSON",
            };
            (word::BROKEN_TEXT, text)
        });
        BrokenText {
            word,
            text,
            line: error.line(),
            column: error.column(),
        }
    }
}

/// Reads one value, knowing where it stands.
struct Seed<'s, 'p> {
    state: &'s State<'s>,
    trail: &'p Trail<'p>,
    nesting: usize,
    /// An item of an array that is itself a member: `null` may be right, the object decides.
    item: bool,
}

impl Seed<'_, '_> {
    fn string<'de, E: de::Error>(&self, text: Cow<'de, str>) -> Result<Tree<'de>, E> {
        let most = match self.trail.last_name() {
            Some("data") => self.state.limits.data,
            _ => self.state.limits.string,
        };
        if text.len() > most {
            return Err(self.state.refuse(word::TOO_LONG, "A string is too long"));
        }
        if text.is_empty() {
            self.state.note(word::EMPTY_VALUE, self.trail);
        }
        Ok(Tree::String(text))
    }

    fn number<'de, E: de::Error>(&self, text: String) -> Result<Tree<'de>, E> {
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((&text, ""));
        let digits = |text: &str| text.bytes().filter(u8::is_ascii_digit).count();
        if digits(mantissa) > self.state.limits.digits
            || digits(exponent) > self.state.limits.exponent
        {
            return Err(self
                .state
                .refuse(word::TOO_LONG, "A number has too many digits"));
        }
        Ok(Tree::Number(Cow::Owned(text)))
    }

    fn enter<E: de::Error>(&self) -> Result<usize, E> {
        let nesting = self.nesting + 1;
        if nesting > self.state.limits.nesting {
            return Err(self
                .state
                .refuse(word::TOO_COSTLY, "The document is nested too deep"));
        }
        Ok(nesting)
    }

    /// `null` in an array of primitives stands for "see the item of the sibling `_name`", and in
    /// that for "nothing to add"; where both have nothing, there is nothing.
    fn check_null_items(&self, members: &[(Cow<'_, str>, Tree<'_>)]) {
        for (name, value) in members {
            let Tree::Array(items) = value else { continue };
            if !items.contains(&Tree::Null) {
                continue;
            }
            let sibling = match name.strip_prefix('_') {
                Some(primitive) => primitive.to_owned(),
                None => format!("_{name}"),
            };
            let sibling = members.iter().find_map(|(other, value)| match value {
                Tree::Array(items) if *other == sibling => Some(items.as_slice()),
                _ => None,
            });
            for (index, _) in items
                .iter()
                .enumerate()
                .filter(|(_, item)| **item == Tree::Null)
            {
                let other = sibling.and_then(|items| items.get(index));
                if matches!(other, None | Some(Tree::Null)) {
                    let list = self.trail.name(name);
                    self.state.note(word::EMPTY_VALUE, &list.index(index));
                }
            }
        }
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_, '_> {
    type Value = Tree<'de>;

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<Tree<'de>, D::Error> {
        self.state.count()?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_, '_> {
    type Value = Tree<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Tree<'de>, E> {
        Ok(Tree::Bool(value))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Tree<'de>, E> {
        if self.item {
            self.state.null_items.set(self.state.null_items.get() + 1);
        } else {
            self.state.note(word::EMPTY_VALUE, self.trail);
        }
        Ok(Tree::Null)
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Tree<'de>, E> {
        self.number(value.to_string())
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Tree<'de>, E> {
        self.number(value.to_string())
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Tree<'de>, E> {
        self.string(Cow::Borrowed(text))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Tree<'de>, E> {
        self.string(Cow::Owned(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Tree<'de>, A::Error> {
        let nesting = self.enter()?;
        let mut items = Vec::new();
        loop {
            let trail = self.trail.index(items.len());
            let seed = Seed {
                state: self.state,
                trail: &trail,
                nesting,
                item: self.trail.last_name().is_some(),
            };
            let Some(item) = list.next_element_seed(seed)? else {
                break;
            };
            if items.len() >= self.state.limits.items {
                return Err(self
                    .state
                    .refuse(word::TOO_COSTLY, "An array has too many items"));
            }
            items.push(item);
        }
        if items.is_empty() {
            self.state.note(word::EMPTY_VALUE, self.trail);
        }
        Ok(Tree::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree<'de>, A::Error> {
        let null_items = self.state.null_items.get();
        let mut members = Vec::new();
        let mut names = Names::default();
        // A number comes as an object too, but is no level.
        let mut nesting = None;
        while let Some(name) = map.next_key_seed(Name(self.state))? {
            let name = match name {
                Key::Member(name) => name,
                Key::Number => return self.number(map.next_value()?),
            };
            let nesting = match nesting {
                Some(nesting) => nesting,
                None => *nesting.insert(self.enter()?),
            };
            let trail = self.trail.name(&name);
            let value = map.next_value_seed(Seed {
                state: self.state,
                trail: &trail,
                nesting,
                item: false,
            })?;
            if !names.add(&name, &members) {
                self.state.note(word::DUPLICATE_KEY, &trail);
            } else if members.len() >= self.state.limits.members {
                return Err(self
                    .state
                    .refuse(word::TOO_COSTLY, "An object has too many members"));
            } else {
                members.push((name, value));
            }
        }
        if members.is_empty() {
            self.enter()?;
            self.state.note(word::EMPTY_VALUE, self.trail);
        }
        if self.state.null_items.get() != null_items {
            self.check_null_items(&members);
        }
        Ok(Tree::Object(members))
    }
}

/// Reads the name of a member.
struct Name<'s>(&'s State<'s>);

enum Key<'de> {
    Member(Cow<'de, str>),
    /// Not a name at all: what follows are the digits of a number.
    Number,
}

/// The name under which `serde_json`, built to keep decimals as written, hands over a number that
/// is no 64-bit integer.
const NUMBER: &str = "$serde_json::private::Number";

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = Key<'de>;

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<Key<'de>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Name<'_> {
    type Value = Key<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_borrowed_str<E: de::Error>(self, name: &'de str) -> Result<Key<'de>, E> {
        // A sender may call a member like that; then the name stands in the text we parse.
        if name == NUMBER && !self.0.addresses.contains(&name.as_ptr().addr()) {
            return Ok(Key::Number);
        }
        self.member(Cow::Borrowed(name))
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<Key<'de>, E> {
        self.member(Cow::Owned(name.to_owned()))
    }
}

impl Name<'_> {
    fn member<'de, E: de::Error>(&self, name: Cow<'de, str>) -> Result<Key<'de>, E> {
        if name.len() > self.0.limits.name {
            return Err(self.0.refuse(word::TOO_LONG, "A name is too long"));
        }
        Ok(Key::Member(name))
    }
}

/// The names an object has so far. Looking through them is fastest while they are few.
#[derive(Default)]
struct Names<'de> {
    many: HashSet<Cow<'de, str>>,
}

impl<'de> Names<'de> {
    const FEW: usize = 24;

    /// False when the name is there already.
    fn add(&mut self, name: &str, members: &[(Cow<'de, str>, Tree<'de>)]) -> bool {
        if members.len() < Self::FEW {
            return !members.iter().any(|(other, _)| other == name);
        }
        if self.many.len() < members.len() {
            let seen = self.many.len();
            let new = members.iter().skip(seen).map(|(name, _)| name.clone());
            self.many.extend(new);
        }
        !self.many.contains(name)
    }
}

mod schema_view;
pub use schema_view::TreeJson;

#[cfg(test)]
mod tests;
