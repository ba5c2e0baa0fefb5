//! Narrative: XHTML that a browser of an EHR will render, so every inserted string is escaped.
//!
//! Own code: five characters and a table need no template engine. Holds no name, birth date,
//! address or record number.

use serde_json::{Value, json};

use super::words;
use crate::clinical::assessment::{Assessment, Value as Used};

/// A narrative under construction.
#[derive(Debug, Default)]
pub struct Narrative {
    inner: String,
}

/// Rows a table may have.
const ROWS: usize = 10;

impl Narrative {
    /// A paragraph; nothing for an empty text.
    pub fn paragraph(mut self, text: &str) -> Self {
        let line = words::clean(text, 600);
        if !line.is_empty() {
            self.inner.push_str("<p>");
            self.push_escaped(&line);
            self.inner.push_str("</p>");
        }
        self
    }

    /// A paragraph in bold.
    pub fn headline(mut self, text: &str) -> Self {
        self.inner.push_str("<p><b>");
        self.push_escaped(&words::clean(text, 200));
        self.inner.push_str("</b></p>");
        self
    }

    /// The values of the index specimen, the blood lines first.
    pub fn values(mut self, assessment: &Assessment) -> Self {
        let lines = assessment
            .lineages
            .iter()
            .filter_map(|result| result.value.as_ref().map(|value| (value, result.limit)));
        let in_lines = |value: &Used| {
            assessment.lineages.iter().any(|result| {
                result
                    .value
                    .as_ref()
                    .is_some_and(|line| line.analyte == value.analyte && line.at == value.at)
            })
        };
        let others = assessment
            .used
            .iter()
            .filter(|value| !in_lines(value))
            .map(|value| (value, None));
        let rows: Vec<_> = lines.chain(others).collect();
        if rows.is_empty() {
            return self;
        }
        self.inner.push_str(
            "<table><thead><tr><th>Test</th><th>Value</th><th>Limit</th><th>As received</th><th>Sampled</th></tr></thead><tbody>",
        );
        for (value, limit) in rows.iter().take(ROWS) {
            self.inner.push_str("<tr>");
            let received = format!("{} {}", value.received.value, value.received.unit);
            for cell in [
                value.analyte.name().to_owned(),
                format!(
                    "{} {}",
                    words::number(value, *limit),
                    words::unit(value.analyte)
                ),
                limit
                    .map(|limit| limit.normalize().to_string())
                    .unwrap_or_default(),
                words::clean(&received, 60),
                words::readable_time(&value.at),
            ] {
                self.inner.push_str("<td>");
                self.push_escaped(&cell);
                self.inner.push_str("</td>");
            }
            self.inner.push_str("</tr>");
        }
        self.inner.push_str("</tbody></table>");
        match rows.len().checked_sub(ROWS) {
            None | Some(0) => self,
            Some(more) => self.paragraph(&format!("{more} more in the text of the report.")),
        }
    }

    /// `Narrative` of the resource.
    pub fn finish(self) -> Value {
        json!({
            "status": "generated",
            "div": format!(
                "<div xmlns=\"http://www.w3.org/1999/xhtml\">{}</div>",
                self.inner
            )
        })
    }

    fn push_escaped(&mut self, text: &str) {
        for character in text.chars() {
            match character {
                '&' => self.inner.push_str("&amp;"),
                '<' => self.inner.push_str("&lt;"),
                '>' => self.inner.push_str("&gt;"),
                '"' => self.inner.push_str("&quot;"),
                '\'' => self.inner.push_str("&#39;"),
                other => self.inner.push(other),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_in_a_text_stays_text() {
        let div = Narrative::default()
            .headline("<script>alert('1')</script>")
            .paragraph("a & b \u{0}\u{202E}\" onload=x")
            .finish()["div"]
            .to_string();
        assert!(!div.contains("<script"));
        assert!(div.contains("&lt;script&gt;"));
        assert!(div.contains("a &amp; b &quot; onload=x"), "{div}");
    }
}
