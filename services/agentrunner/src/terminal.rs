//! What a person's terminal gets to see: text that cannot act on it, and colours only where there is one.
//!
//! Models, tools and other users choose much of what is printed. A terminal obeys what it is sent (it can be made to
//! hide text, to rename its window, to paste), so on a terminal everything that acts or cannot be seen is shown as a
//! mark instead. What goes into a file or a pipe is left as it is.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::IsTerminal as _;

/// Where text goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stream {
    /// A person sees it.
    pub tty: bool,
    /// It may have colours.
    pub color: bool,
}

/// The three streams of this process.
#[derive(Debug, Clone, Copy, Default)]
pub struct Terminal {
    /// Results.
    pub stdout: Stream,
    /// Everything that is said beside the result.
    pub stderr: Stream,
    /// A person can be asked.
    pub can_ask: bool,
}

/// How a text stands out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paint {
    /// Less important.
    Dim,
    /// More important.
    Bold,
    /// Went well.
    Green,
    /// Went wrong.
    Red,
    /// Needs a look.
    Yellow,
    /// A name.
    Cyan,
}

impl Terminal {
    /// Looks at this process's streams and at `NO_COLOR` and `TERM`.
    pub fn of_process(no_color: bool) -> Self {
        let set = |name| std::env::var_os(name).is_some_and(|value: std::ffi::OsString| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let color = !no_color && !set("NO_COLOR") && !dumb;
        let stream = |tty: bool| Stream { tty, color: tty && color };
        let stderr = stream(std::io::stderr().is_terminal());
        Self {
            stdout: stream(std::io::stdout().is_terminal()),
            stderr,
            can_ask: stderr.tty && std::io::stdin().is_terminal(),
        }
    }
}

impl Stream {
    /// A text of several lines that somebody else wrote.
    pub fn text(self, text: &str) -> Cow<'_, str> {
        if self.tty { neutralise(text) } else { Cow::Borrowed(text) }
    }

    /// Colours a text of ours, or one that is already neutral.
    pub fn paint(self, paint: Paint, text: &str) -> String {
        if !self.color {
            return text.to_owned();
        }
        let code = match paint {
            Paint::Bold => "1",
            Paint::Dim => "2",
            Paint::Red => "31",
            Paint::Green => "32",
            Paint::Yellow => "33",
            Paint::Cyan => "36",
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }
}

/// Shows what would act on a terminal, or cannot be seen, as marks; line breaks and tabs stay.
///
/// Control characters become their pictures (`␛`), the others their numbers (`<U+202E>`): C1 controls, marks that turn
/// the direction of writing, the invisible tag letters and other code points that only hide something.
pub fn neutralise(text: &str) -> Cow<'_, str> {
    if text.chars().all(|c| matches!(c, '\n' | '\t') || !acts(c)) {
        return Cow::Borrowed(text);
    }
    let mut neutral = String::with_capacity(text.len() + 16);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\n' | '\t' => neutral.push(c),
            // The line break of another system.
            '\r' if chars.peek() == Some(&'\n') => {}
            c if acts(c) => mark(c, &mut neutral),
            c => neutral.push(c),
        }
    }
    Cow::Owned(neutral)
}

/// The same in one line of at most `max` characters, for tables and messages.
pub fn one_line(text: &str, max: usize) -> String {
    let mut line = String::new();
    for (length, c) in text.trim().chars().enumerate() {
        if length >= max {
            line.push('…');
            break;
        }
        match c {
            '\n' | '\r' | '\t' => line.push(' '),
            c if acts(c) => mark(c, &mut line),
            c => line.push(c),
        }
    }
    line
}

/// Writes what acts in a JSON text as escapes, which mean the same to whoever reads the JSON.
pub fn neutral_json(json: &str) -> Cow<'_, str> {
    if json.chars().all(|c| matches!(c, '\n' | '\t') || !acts(c)) {
        return Cow::Borrowed(json);
    }
    let mut neutral = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if acts(c) && !matches!(c, '\n' | '\t') {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                let _ = write!(neutral, "\\u{unit:04x}");
            }
        } else {
            neutral.push(c);
        }
    }
    Cow::Owned(neutral)
}

fn mark(c: char, to: &mut String) {
    match c {
        '\u{0}'..='\u{1f}' => to.extend(char::from_u32(0x2400 + u32::from(c))),
        '\u{7f}' => to.push('␡'),
        c => {
            let _ = write!(to, "<U+{:04X}>", u32::from(c));
        }
    }
}

/// Tells whether a terminal would obey the character, or hide something behind it.
///
/// The joiners U+200C and U+200D are left alone: scripts and emoji need them.
fn acts(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{061c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_text_of_any_script_is_left_alone() {
        for text in ["plain\n\ttext", "Zażółć gęślą", "日本語", "👩‍👩‍👧", "می‌خواهم", "שלום", "☐ done"]
        {
            assert!(matches!(neutralise(text), Cow::Borrowed(_)), "{text}");
            assert!(matches!(neutral_json(text), Cow::Borrowed(_)), "{text}");
        }
    }

    #[test]
    fn nothing_that_acts_reaches_a_terminal() {
        let hostile = [
            "\u{1b}[2J\u{1b}[H",
            "\u{1b}]0;owned\u{7}",
            "\u{1b}]8;;http://evil.example\u{1b}\\click\u{1b}]8;;\u{1b}\\",
            "\u{1b}]52;c;cm0gLXJm\u{7}",
            "\u{1b}P+q\u{1b}\\",
            "\u{9b}31m",
            "\u{9d}0;owned\u{9c}",
            "safe\rrm -rf",
            "a\u{8}\u{8}b",
            "\u{202e}gnp.exe",
            "\u{2066}isolate\u{2069}",
            "\u{e0041}\u{e0042}\u{e007f}",
            "zero\u{200b}width\u{feff}",
            "line\u{2028}separator",
            "\u{e0100}",
        ];
        for text in hostile {
            for shown in [neutralise(text).into_owned(), one_line(text, 200), neutral_json(text).into_owned()] {
                assert!(shown.chars().all(|c| !acts(c)), "{text:?} became {shown:?}");
                assert!(!shown.is_empty());
            }
        }
    }

    #[test]
    fn what_is_hidden_can_be_read() {
        assert_eq!(neutralise("a\u{1b}[31mb"), "a␛[31mb");
        assert_eq!(neutralise("\u{202e}x\u{e0041}"), "<U+202E>x<U+E0041>");
        assert_eq!(neutralise("one\r\ntwo\r"), "one\ntwo␍");
    }

    #[test]
    fn neutral_json_means_the_same() {
        let value = serde_json::json!({ "k": "\u{1b}\u{9b}\u{202e}\u{e0041}é" });
        let text = serde_json::to_string(&value).unwrap();
        let neutral = neutral_json(&text);
        assert!(neutral.contains("\\u202e") && neutral.contains("\\udb40\\udc41"));
        assert_eq!(serde_json::from_str::<serde_json::Value>(&neutral).unwrap(), value);
    }

    #[test]
    fn one_line_is_one_line_and_not_too_long() {
        assert_eq!(one_line(" a\nb\tc ", 10), "a b c");
        assert_eq!(one_line("abcdef", 3), "abc…");
    }

    #[test]
    fn only_a_terminal_is_protected_and_coloured() {
        let pipe = Stream::default();
        assert_eq!(pipe.text("\u{1b}[1m"), "\u{1b}[1m");
        assert_eq!(pipe.paint(Paint::Red, "x"), "x");
        let screen = Stream { tty: true, color: true };
        assert_eq!(screen.text("\u{1b}[1m"), "␛[1m");
        assert_eq!(screen.paint(Paint::Red, "x"), "\u{1b}[31mx\u{1b}[0m");
    }
}
