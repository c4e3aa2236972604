//! YAML that is hostile, odd, or read differently by different readers.

use std::fmt::Write;

use super::{bad, good};

#[test]
fn alias_bombs_are_refused() {
    let mut bomb = String::from("name: a\noutput_schema:\n  l0: &l0 [x, x, x, x, x, x, x, x, x]\n");
    for level in 1..=9 {
        let aliases = vec![format!("*l{}", level - 1); 9].join(", ");
        _ = writeln!(bomb, "  l{level}: &l{level} [{aliases}]");
    }
    assert!(bad(bomb).contains("yaml_budget_exceeded"));

    let items = "x, ".repeat(5_000);
    let aliases = "*a, ".repeat(90);
    assert!(bad(format!("a: &a [{items}]\nb: [{aliases}]\n")).contains("yaml_budget_exceeded"));
    let text = "x".repeat(100_000);
    assert!(bad(format!("a: &a {text}\nb: [{aliases}]\n")).contains("yaml_budget_exceeded"));
    assert!(bad(format!("a: &a x\nb: [{}]\n", "*a, ".repeat(101))).contains("more than 100 aliases"));
}

#[test]
fn aliases_that_hold_themselves_are_refused() {
    assert!(bad("name: &a [*a]\n").contains("the alias stands inside of what it names"));
    assert!(bad("name: a\nlimits: &a\n  <<: *a\n").contains("the alias stands inside"));
    assert!(bad("name: *nothing\n").contains("the alias names nothing"));
}

#[test]
fn a_modest_alias_is_followed() {
    let spec = good("name: a\nretry: {initial_backoff: &pause 2s, max_backoff: *pause}\n");
    assert_eq!(spec.retry.initial_backoff, spec.retry.max_backoff);
}

#[test]
fn depth_and_number_are_bounded() {
    assert!(bad(format!("name: a\noutput_schema: {}{}\n", "[".repeat(100), "]".repeat(100))).starts_with("a.yml:2:"));
    assert!(bad("- ".repeat(200)).starts_with("a.yml:1:"));
    assert!(bad(format!("name: a\noutput_schema: [{}]\n", "1,".repeat(100_001))).contains("more than 100000 values"));
    assert!(bad("x".repeat(1024 * 1024 + 1)).contains("larger than 1024 KiB"));
    assert_eq!(bad("x".repeat(1_000_000)).lines().count(), 1);
}

#[test]
fn a_field_that_is_there_twice_is_refused_with_both_lines() {
    assert_eq!(
        bad("name: a\nlimits:\n  max_steps: 1\n  max_steps: 2\n"),
        "a.yml:4:3: limits.max_steps: the field is there twice, first in line 3; keep one of them"
    );
}

#[test]
fn tags_merge_keys_directives_and_several_documents_are_refused() {
    for tag in ["!!python/object:os.system x", "!include b.yml", "!env HOME", "!!str 5", "! x"] {
        let report = bad(format!("name: a\ndescription: {tag}\n"));
        assert!(report.contains("a.yml:2:") && report.contains("is not supported"), "{report}");
    }
    assert!(bad("x: &x {max_steps: 1}\nname: a\nlimits: {<<: *x}\n").contains("merge keys (<<) are not supported"));
    assert!(bad("%YAML 1.1\n---\nname: a\n").contains("directives (%) are not supported"));
    assert!(bad("name: a\n---\nname: b\n").contains("a.yml:2:1: a second document begins here"));
    assert_eq!(good("---\nname: a\n").name.as_str(), "a");
}

#[test]
fn a_text_that_some_readers_take_for_something_else_needs_quotes() {
    for text in [
        "no", "on", "Yes", "OFF", "1:30", "010", "1_000", ".nan", "-.inf", "~", "null", "true", "5", "1.5", "0x1F",
        "1e3",
    ] {
        let report = bad(format!("name: a\ndescription: {text}\n"));
        assert!(report.starts_with("a.yml:2:14: description: must be a text, but "), "{text}: {report}");
        if !matches!(text, "~" | "null") {
            assert!(report.ends_with(&format!("write \"{text}\" with quotes")), "{text}: {report}");
        }
        assert_eq!(good(&format!("name: a\ndescription: \"{text}\"\n")).description, text);
    }
    for text in ["north", "1.2.3", "2024-01-01", "y", "a: b".replace(": ", ":").as_str(), "-", "+", "1 000", "e5", "_1"]
    {
        let spec = good(&format!("name: a\ndescription: {text}x\n"));
        assert_eq!(spec.description, format!("{text}x"));
    }
}

#[test]
fn a_number_that_some_readers_take_for_another_is_refused() {
    let report = bad("name: a\nlimits: {max_steps: 010}\n");
    assert!(report.ends_with("but 010 is octal to some readers of YAML and decimal to others; write 10"), "{report}");
    let report = bad("name: a\nlimits: {max_steps: 1_000}\n");
    assert!(report.ends_with("write 1000"), "{report}");
    assert!(bad("name: a\nlimits: {max_steps: 0x10}\n").contains("not decimal"));
}

#[test]
fn files_that_are_not_plain_utf8_get_one_clear_problem() {
    for (bytes, reason) in [
        (b"\xef\xbb\xbfname: a\n".to_vec(), "byte order mark"),
        ("name: a\n".encode_utf16().flat_map(u16::to_le_bytes).collect(), "UTF-16"),
        ("\u{feff}name: a\n".encode_utf16().flat_map(u16::to_be_bytes).collect(), "UTF-16"),
        (b"name: a\n# \xff\xfe\n".to_vec(), "a.yml:2:3: the file is not UTF-8 from here on"),
        (b"name: a\n\0\n".to_vec(), "a.yml:2:1: there is a NUL character"),
        (b"".to_vec(), "the file says nothing"),
        (b"# only words\n".to_vec(), "the file says nothing"),
        (b"name: a\nlimits:\n\tmax_steps: 1\n".to_vec(), "a tab is used to indent"),
        (b"name: a\ndescription: a: b\n".to_vec(), "put the text into quotes"),
        (b"name: a\nlimits: {max_steps: 1\n".to_vec(), "not valid YAML"),
        (b"name: a\n[x]: 1\n".to_vec(), "a.yml:2:1: "),
    ] {
        let report = bad(&bytes);
        assert_eq!(report.lines().count(), 1, "{report}");
        assert!(report.contains(reason), "{report}");
    }
    assert_eq!(good("name: a\r\ndescription: b\r\n").description, "b");
}
