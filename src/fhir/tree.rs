//! One parse: JSON bytes become one borrowed tree with decimals as written.

use std::borrow::Cow;

/// A JSON value that borrows from the bytes it was read from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Tree<'a> {
    /// `null`.
    #[default]
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number, as written: `6.40` stays `6.40`.
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
        match self {
            Self::Object(members) => members
                .iter()
                .find(|(key, _)| key == name)
                .map(|(_, value)| value),
            _ => None,
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
}
