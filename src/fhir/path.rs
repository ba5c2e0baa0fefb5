//! Where something stands in a document: JSON names and positions, from the root down.
//!
//! The FHIRPath form needs to know the types it walks through (`valueQuantity` is `value` there,
//! an entry's `resource` may be anything), so [`super::model::Model::expression`] makes it.

use std::fmt::{self, Write as _};

/// One step down.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Step {
    /// To a member of an object, named as in the JSON.
    Name(Box<str>),
    /// To an item of an array, from 0.
    Index(usize),
}

/// Steps from the root of a document.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Path(pub Vec<Step>);

impl Path {
    /// The path of a JSON pointer (RFC 6901). A number is taken as the position in an array.
    pub fn from_pointer(pointer: &str) -> Self {
        Self(
            pointer
                .split('/')
                .skip(1)
                .map(|part| match part.parse() {
                    Ok(index) => Step::Index(index),
                    Err(_) => Step::Name(part.replace("~1", "/").replace("~0", "~").into()),
                })
                .collect(),
        )
    }

    /// This path, with one more member.
    pub fn child(&self, name: &str) -> Self {
        let mut steps = self.0.clone();
        steps.push(Step::Name(name.into()));
        Self(steps)
    }

    /// Position of the entry of a Bundle that the path leads into.
    pub fn entry(&self) -> Option<usize> {
        match (self.0.first(), self.0.get(1)) {
            (Some(Step::Name(name)), Some(Step::Index(index))) if &**name == "entry" => {
                Some(*index)
            }
            _ => None,
        }
    }

    /// The path as it is written in an expression, `.entry[3].resource`: as far as its names are
    /// plain ones, so that nothing sent can stand in it.
    pub fn dotted(&self) -> String {
        let mut dotted = String::new();
        for step in &self.0 {
            match step {
                Step::Name(name) if super::model::is_plain_name(name) => {
                    let _ = write!(dotted, ".{name}");
                }
                Step::Name(_) => break,
                Step::Index(index) => {
                    let _ = write!(dotted, "[{index}]");
                }
            }
        }
        dotted
    }

    /// The path as a JSON pointer.
    pub fn pointer(&self) -> String {
        let mut pointer = String::new();
        for step in &self.0 {
            pointer.push('/');
            match step {
                Step::Name(name) => pointer.push_str(&name.replace('~', "~0").replace('/', "~1")),
                Step::Index(index) => {
                    let _ = write!(pointer, "{index}");
                }
            }
        }
        pointer
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.pointer())
    }
}

/// The way down while a document is walked: a list on the stack that costs nothing until
/// somebody asks for the path.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trail<'p> {
    above: Option<&'p Trail<'p>>,
    here: Here<'p>,
}

#[derive(Debug, Clone, Copy)]
enum Here<'p> {
    Root,
    Name(&'p str),
    Index(usize),
}

impl<'p> Trail<'p> {
    pub(crate) const ROOT: Self = Self {
        above: None,
        here: Here::Root,
    };

    pub(crate) fn name(&'p self, name: &'p str) -> Self {
        Self {
            above: Some(self),
            here: Here::Name(name),
        }
    }

    pub(crate) fn index(&'p self, index: usize) -> Self {
        Self {
            above: Some(self),
            here: Here::Index(index),
        }
    }

    /// The name of the last step, if it is a member.
    pub(crate) fn last_name(&self) -> Option<&'p str> {
        match self.here {
            Here::Name(name) => Some(name),
            Here::Root | Here::Index(_) => None,
        }
    }

    /// Whether the step is to `name` or to an item of it.
    pub(crate) fn leads_into(&self, name: &str) -> bool {
        match (self.here, self.above) {
            (Here::Name(last), _) => last == name,
            (Here::Index(_), Some(above)) => above.last_name() == Some(name),
            _ => false,
        }
    }

    pub(crate) fn path(&self) -> Path {
        let mut steps = Vec::new();
        let mut at = Some(self);
        while let Some(trail) = at {
            match trail.here {
                Here::Root => {}
                Here::Name(name) => steps.push(Step::Name(name.into())),
                Here::Index(index) => steps.push(Step::Index(index)),
            }
            at = trail.above;
        }
        steps.reverse();
        Path(steps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_survives_the_way_there_and_back() {
        for pointer in ["", "/entry/3/resource/code", "/a~1b/c~0d/0"] {
            assert_eq!(Path::from_pointer(pointer).pointer(), pointer);
        }
        assert_eq!(Path::from_pointer("/entry/3/x").entry(), Some(3));
        assert_eq!(Path::from_pointer("/contained/3/x").entry(), None);
    }

    #[test]
    fn a_trail_knows_its_path() {
        let root = Trail::ROOT;
        let (entry, name) = (root.name("entry"), "resource");
        let first = entry.index(7);
        assert_eq!(first.name(name).path().pointer(), "/entry/7/resource");
        assert_eq!(root.path(), Path::default());
    }
}
