//! Texts of servers, made harmless: for models, for terminals and for logs.
//!
//! What a person cannot see, a model still reads. So what is invisible, reorders what is seen, or steers a terminal is
//! taken out of everything that comes from a server.

use std::fmt::Write as _;

/// How much of a description is kept, in characters.
pub(crate) const MAX_DESCRIPTION: usize = 4_096;

/// Takes out what is invisible from a description and cuts it.
pub(crate) fn description(text: &str) -> String {
    let cleaned: String = plain(text).chars().filter(|c| !is_hidden(*c)).collect();
    if cleaned.chars().count() <= MAX_DESCRIPTION {
        return cleaned;
    }
    let mut cut: String = cleaned.chars().take(MAX_DESCRIPTION).collect();
    cut.push('…');
    cut
}

/// Writes a description for a person's review: what cannot be seen is written out.
pub(crate) fn for_review(text: &str) -> String {
    let mut shown = String::new();
    for c in text.chars().take(4 * MAX_DESCRIPTION) {
        if is_hidden(c) || (c.is_control() && c != '\n' && c != '\t') {
            let _ = write!(shown, "\\u{{{:x}}}", u32::from(c));
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Takes out what steers a terminal, and characters that hide or reorder others, from a result.
///
/// Joiners stay: they are part of ordinary writing and of emoji.
pub(crate) fn result(text: &str) -> String {
    let joins = |c: char| matches!(c, '\u{200c}' | '\u{200d}' | '\u{fe0f}' | '\u{ad}');
    plain(text).chars().filter(|c| joins(*c) || !is_hidden(*c)).collect()
}

/// One line for a log or a reason: short, and without anything that steers.
pub(crate) fn line(text: &str, most: usize) -> String {
    let text: String = plain(text).chars().filter(|c| !is_hidden(*c)).take(most).collect();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Takes out escape sequences and control characters other than line breaks and tabs.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => match chars.next() {
                Some('[') => skip(&mut chars, |c| ('\u{40}'..='\u{7e}').contains(&c)),
                // Strings for the terminal: titles, links, clipboards.
                Some(']' | 'P' | 'X' | '^' | '_') => skip_string(&mut chars),
                _ => {}
            },
            '\u{9b}' => skip(&mut chars, |c| ('\u{40}'..='\u{7e}').contains(&c)),
            '\r' if chars.peek() == Some(&'\n') => {}
            '\r' => out.push('\n'),
            '\n' | '\t' => out.push(c),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

fn skip(chars: &mut std::iter::Peekable<std::str::Chars<'_>>, is_end: impl Fn(char) -> bool) {
    for c in chars.by_ref() {
        if is_end(c) {
            break;
        }
    }
}

fn skip_string(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    while let Some(c) = chars.next() {
        if matches!(c, '\u{7}' | '\u{9c}') {
            break;
        }
        if c == '\u{1b}' {
            chars.next_if_eq(&'\\');
            break;
        }
    }
}

/// Tells whether a character is invisible, reorders others, or has no meaning that is agreed on.
fn is_hidden(c: char) -> bool {
    matches!(c,
        // Format characters: soft hyphen, Arabic and other marks, zero-width, bidirectional, invisible operators.
        '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{8e2}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
        | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
        // Fillers and selectors that are drawn as nothing.
        | '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{3164}' | '\u{ffa0}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{e0000}'..='\u{e0fff}'
        // Private use and what is no character.
        | '\u{e000}'..='\u{f8ff}' | '\u{fdd0}'..='\u{fdef}' | '\u{f0000}'..='\u{10ffff}')
        || (c as u32) & 0xfffe == 0xfffe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_characters_leave_descriptions_and_show_in_reviews() {
        let hidden = "Adds\u{200b} two\u{202e} numbers\u{e0049}\u{e0067}\u{feff}.\u{e001}";
        assert_eq!(description(hidden), "Adds two numbers.");
        assert_eq!(for_review("a\u{e0049}b\u{1b}"), "a\\u{e0049}b\\u{1b}");
    }

    #[test]
    fn a_long_description_is_cut() {
        assert_eq!(description(&"é".repeat(10_000)).chars().count(), MAX_DESCRIPTION + 1);
    }

    #[test]
    fn escape_sequences_leave_results_and_ordinary_writing_stays() {
        let text =
            "\u{1b}[31mred\u{1b}[0m \u{1b}]8;;http://x\u{7}link\u{1b}]8;;\u{1b}\\ a\r\nb\tc\u{8}\u{0} 👩‍🔬 می‌خواهم";
        assert_eq!(result(text), "red link a\nb\tc 👩‍🔬 می‌خواهم");
    }

    #[test]
    fn a_line_for_a_log_is_one_short_line() {
        assert_eq!(line("a\n\u{1b}[2Jb\tc", 100), "a b c");
        assert_eq!(line(&"x".repeat(100), 10).len(), 10);
    }
}
