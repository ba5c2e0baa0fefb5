//! Three-valued logic (Kleene): what nobody measured is unknown, never false.

/// Answer to a clinical question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Truth {
    /// The data decide: no.
    False,
    /// The data do not decide.
    Unknown,
    /// The data decide: yes.
    True,
}

impl Truth {
    /// `true` only for [`Truth::True`].
    pub fn is_true(self) -> bool {
        self == Self::True
    }

    /// `true` only for [`Truth::False`].
    pub fn is_false(self) -> bool {
        self == Self::False
    }

    /// `true` only for [`Truth::Unknown`].
    pub fn is_unknown(self) -> bool {
        self == Self::Unknown
    }

    /// Any false decides for false, else any unknown for unknown.
    pub fn and(self, other: Self) -> Self {
        self.min(other)
    }

    /// Any true decides for true, else any unknown for unknown.
    pub fn or(self, other: Self) -> Self {
        self.max(other)
    }

    /// All of them; of nothing: true.
    pub fn all(of: impl IntoIterator<Item = Self>) -> Self {
        of.into_iter().fold(Self::True, Self::and)
    }

    /// Any of them; of nothing: false.
    pub fn any(of: impl IntoIterator<Item = Self>) -> Self {
        of.into_iter().fold(Self::False, Self::or)
    }

    /// At least `k` of them: true if that many are true, unknown if the unknown ones could make it.
    pub fn at_least(k: usize, of: impl IntoIterator<Item = Self>) -> Self {
        let (mut yes, mut maybe) = (0, 0);
        for truth in of {
            match truth {
                Self::True => yes += 1,
                Self::Unknown => maybe += 1,
                Self::False => {}
            }
        }
        if yes >= k {
            Self::True
        } else if yes + maybe >= k {
            Self::Unknown
        } else {
            Self::False
        }
    }
}

impl From<bool> for Truth {
    fn from(known: bool) -> Self {
        if known { Self::True } else { Self::False }
    }
}

impl std::ops::Not for Truth {
    type Output = Self;

    fn not(self) -> Self {
        match self {
            Self::True => Self::False,
            Self::Unknown => Self::Unknown,
            Self::False => Self::True,
        }
    }
}
