//! Finds secrets that were written into a file, where every backup, log and pull request would carry them on.

use super::problem::Position;

/// A secret that was found; the secret itself is never repeated.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) at: Position,
    pub(crate) what: &'static str,
}

/// How a kind of secret begins, and how many characters of its own alphabet follow at least.
const KINDS: [(&str, usize, &str); 14] = [
    ("sk-", 20, "an API key (sk-…)"),
    ("sk_live_", 16, "a payment API key (sk_live_…)"),
    ("xoxb-", 10, "a Slack token (xoxb-…)"),
    ("xoxp-", 10, "a Slack token (xoxp-…)"),
    ("xoxa-", 10, "a Slack token (xoxa-…)"),
    ("xoxs-", 10, "a Slack token (xoxs-…)"),
    ("xapp-", 10, "a Slack token (xapp-…)"),
    ("AKIA", 16, "an AWS access key (AKIA…)"),
    ("ASIA", 16, "an AWS access key (ASIA…)"),
    ("ghp_", 30, "a GitHub token (ghp_…)"),
    ("gho_", 30, "a GitHub token (gho_…)"),
    ("github_pat_", 30, "a GitHub token (github_pat_…)"),
    ("glpat-", 16, "a GitLab token (glpat-…)"),
    ("AIza", 30, "a Google API key (AIza…)"),
];

/// Finds secrets anywhere in a file, its comments included.
pub(crate) fn find(text: &[u8]) -> Vec<Found> {
    let text = String::from_utf8_lossy(text);
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let at = |index: usize| Position {
            line: u32::try_from(number + 1).unwrap_or(u32::MAX),
            column: u32::try_from(line[..index].chars().count() + 1).unwrap_or(u32::MAX),
        };
        if let Some(index) = line.find("-----BEGIN ")
            && line[index..].contains("PRIVATE KEY")
        {
            found.push(Found { at: at(index), what: "a private key (PEM)" });
        }
        for (prefix, least, what) in KINDS {
            let hit =
                line.match_indices(prefix).map(|(index, _)| index).find(|index| is_secret(line, *index, prefix, least));
            if let Some(index) = hit {
                found.push(Found { at: at(index), what });
            }
        }
    }
    found
}

fn is_secret(line: &str, index: usize, prefix: &str, least: usize) -> bool {
    let before = line[..index].chars().next_back();
    if before.is_some_and(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')) {
        return false;
    }
    let body: Vec<u8> = line[index + prefix.len()..]
        .bytes()
        .take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        .take(256)
        .collect();
    // Words joined by dashes are prose; keys hold digits or capitals.
    let random = body.iter().any(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase());
    body.len() >= least && random
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_found_where_they_stand() {
        let key = format!("sk-{}", "a1B2".repeat(8));
        let text = format!("name: a\ninstructions: use {key} # and xoxb-{}\n", "1234567890-abc");
        let found = find(text.as_bytes());
        assert_eq!(found[0], Found { at: Position { line: 2, column: 19 }, what: "an API key (sk-…)" });
        assert_eq!(found[1].what, "a Slack token (xoxb-…)");
        assert_eq!(find(b"  -----BEGIN RSA PRIVATE KEY-----").len(), 1);
        assert_eq!(find(format!("AKIA{}", "ABCD1234".repeat(2)).as_bytes()).len(), 1);
    }

    #[test]
    fn prose_is_not_a_secret() {
        for text in ["ask-the-person-who-wrote-it-down", "sk-short", "a sk-learn-like-library-of-functions", "AKIA"] {
            assert_eq!(find(text.as_bytes()), [], "{text}");
        }
    }
}
