//! Text for `detail`, which is GitHub-flavoured Markdown in the spec and HTML in some clients.
//!
//! Own code because it is two small functions: what a renderer would take as markup is escaped in
//! our words, and words that were sent stand as code, where nothing is markup and no address
//! becomes a link.

use crate::fhir::write::words;

/// Our own words: markup characters escaped, one line.
pub fn text(words_of_ours: &str) -> String {
    let line = words::clean(words_of_ours, 1000);
    let mut escaped = String::with_capacity(line.len());
    for character in line.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '~' => {
                escaped.push('\\');
                escaped.push(character);
            }
            _ => escaped.push(character),
        }
    }
    escaped
}

/// Words as they were sent: shown as they are, without any effect.
pub fn code(sent: &str) -> String {
    let line = words::clean(sent, 200);
    let mut safe = String::with_capacity(line.len() + 2);
    safe.push('`');
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        safe.push(match character {
            // Ends the code.
            '`' => '\'',
            // Ends a cell of a table, even within code.
            '|' => '/',
            // Begins a tag for a client that does not know code; `<0.1` stays.
            '<' if characters
                .peek()
                .is_some_and(|next| !next.is_ascii_digit() && !matches!(next, '=' | '.' | ' ')) =>
            {
                '\u{2039}'
            }
            other => other,
        });
    }
    safe.push('`');
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_sent_is_markup() {
        assert_eq!(text("ANC <0.5 & a*b|c"), "ANC &lt;0.5 &amp; a\\*b\\|c");
        assert_eq!(code("<0.1 g/dL"), "`<0.1 g/dL`");
        assert_eq!(
            code("`<script>alert(1)</script>|\n# x"),
            "`'\u{2039}script>alert(1)\u{2039}/script>/ # x`"
        );
    }
}
