//! Words instead of codes: English phrases, whole words, and the cues that take a finding back.

/// Longest text that is looked at, in characters: beyond it there are sentences.
const LONGEST: usize = 80;

/// How a phrase stands in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// Said of this patient, now.
    Said,
    /// Denied, doubted, of somebody else or of another time.
    Cancelled,
}

/// Cues in any place of the text: a short text speaks of one thing.
const CUES: &[&str] = &[
    // negation
    "no",
    "not",
    "without",
    "denies",
    "negative",
    "absent",
    "ruled out",
    "rule out",
    "r/o",
    "excluded",
    "no evidence of",
    // doubt
    "?",
    "possible",
    "probable",
    "suspected",
    "query",
    "likely",
    "consider",
    "differential",
    "vs",
    // other person or time
    "family",
    "mother",
    "father",
    "sibling",
    "maternal",
    "fh",
    "history of",
    "h/o",
    "s/p",
    "past",
    "resolved",
    "risk",
    "screening",
    "carrier",
    "vaccine",
    "prophylaxis",
];

/// Whether `phrase` (lower case) stands in `text` as whole words, and how.
///
/// A cue that is part of the phrase itself (`absent radii`, `blast?`) does not cancel it.
pub(super) fn find(text: &str, phrase: &str) -> Option<Found> {
    if text.chars().count() > LONGEST {
        return None;
    }
    let text = text.trim().to_lowercase();
    let place = whole_word(&text, phrase)?;
    let mut rest = text.clone();
    rest.replace_range(place.clone(), " ");
    if CUES.iter().any(|cue| whole_word(&rest, cue).is_some()) {
        Some(Found::Cancelled)
    } else {
        Some(Found::Said)
    }
}

/// Texts that say a finding is absent when they are the value of an Observation that names it.
pub(super) fn says_absent(text: &str) -> bool {
    matches!(
        text.trim().to_lowercase().as_str(),
        "absent" | "none" | "not palpable" | "no splenomegaly" | "no lymphadenopathy"
    )
}

fn whole_word(text: &str, word: &str) -> Option<std::ops::Range<usize>> {
    if word.is_empty() {
        return None;
    }
    let mut from = 0;
    while let Some(offset) = text.get(from..).and_then(|rest| rest.find(word)) {
        let start = from + offset;
        let end = start + word.len();
        // Only a letter or digit next to a letter or digit makes it part of a longer word.
        let glued = |inside: Option<char>, outside: Option<char>| {
            inside.is_some_and(char::is_alphanumeric) && outside.is_some_and(char::is_alphanumeric)
        };
        let before = text.get(..start).and_then(|head| head.chars().next_back());
        let after = text.get(end..).and_then(|tail| tail.chars().next());
        if !glued(word.chars().next(), before) && !glued(word.chars().next_back(), after) {
            return Some(start..end);
        }
        from = end;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_words_only() {
        assert_eq!(find("Splenomegaly", "splenomegaly"), Some(Found::Said));
        assert_eq!(find("hepatosplenomegaly", "splenomegaly"), None);
        assert_eq!(find("vegans", "vegan"), None);
        assert_eq!(find("-7, +8", "-7"), Some(Found::Said));
        assert_eq!(find("t(3;-77)", "-7"), None);
    }

    #[test]
    fn cues_cancel() {
        for text in [
            "no splenomegaly",
            "splenomegaly?",
            "Family history of splenomegaly",
            "splenomegaly ruled out",
            "r/o splenomegaly",
            "past splenomegaly",
            "splenomegaly, not palpable",
        ] {
            assert_eq!(find(text, "splenomegaly"), Some(Found::Cancelled), "{text}");
        }
        assert_eq!(
            find("notable splenomegaly", "splenomegaly"),
            Some(Found::Said)
        );
        assert_eq!(find("absent radii", "absent radii"), Some(Found::Said));
        assert_eq!(
            find("no absent radii", "absent radii"),
            Some(Found::Cancelled)
        );
    }

    #[test]
    fn sentences_are_not_read() {
        let long = format!("splenomegaly {}", "x".repeat(80));
        assert_eq!(find(&long, "splenomegaly"), None);
        assert_eq!(find("ẞplenomegaly İ", "splenomegaly"), None);
    }
}
