//! The operator's file.

use serde_json::{Value, json};
use tools_mcp::ToolsFile;

fn problems(server: &Value) -> String {
    let file = json!({ "servers": { "one": server } });
    let problems = ToolsFile::parse("tools.yml", file.to_string().as_bytes()).expect_err("refused");
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn an_empty_file_declares_nothing() {
    assert_eq!(ToolsFile::parse("tools.yml", b"# nothing\n").unwrap(), ToolsFile::default());
}

#[test]
fn a_full_file_is_read() {
    let text = "servers:\n  files:\n    command: /opt/server\n    args: [--root, /srv]\n    env:\n      TOKEN: {env: FILES_TOKEN}\n      LANG: C\n    allow: [read]\n    tools:\n      read: {effect: none, approval: once, timeout: 10s}\n    trust: always\n    resources: true\n  search:\n    url: https://example.com/mcp\n    headers:\n      Authorization: {file: /run/secrets/search}\n    oauth: {scopes: [read]}\n";
    let file = ToolsFile::parse("tools.yml", text.as_bytes()).unwrap();
    assert_eq!(file.servers.keys().collect::<Vec<_>>(), ["files", "search"]);
}

#[test]
fn inline_programs_are_refused_however_they_are_written() {
    for server in [
        json!({ "command": "sh", "args": ["-c", "x"] }),
        json!({ "command": "/bin/bash", "args": ["-lc", "x"] }),
        json!({ "command": "node", "args": ["-e", "1"] }),
        json!({ "command": "node", "args": ["--eval", "1"] }),
        json!({ "command": "python3", "args": ["-c", "1"] }),
        json!({ "command": "npx", "args": ["-c", "x"] }),
        json!({ "command": "npx", "args": ["--call", "x"] }),
        json!({ "command": "env", "args": ["sh"] }),
        json!({ "command": "sh -c x" }),
        json!({ "command": "./server" }),
        json!({ "command": "a;b" }),
    ] {
        assert!(problems(&server).contains("command"), "{server}");
    }
}

#[test]
fn variables_that_load_code_and_secrets_in_the_file_are_refused() {
    for name in ["LD_PRELOAD", "LD_LIBRARY_PATH", "NODE_OPTIONS", "PYTHONSTARTUP", "PYTHONPATH", "BASH_ENV"] {
        assert!(problems(&json!({ "command": "/opt/server", "env": { name: "x" } })).contains("load code"), "{name}");
    }
    assert!(problems(&json!({ "command": "/opt/server", "env": { "API_TOKEN": "abc" } })).contains("secret"));
    let header = json!({ "url": "https://example.com", "headers": { "Authorization": "Bearer abc" } });
    assert!(problems(&header).contains("secret"));
    let both = json!({ "command": "/opt/server", "env": { "A": { "env": "A", "file": "/a" } } });
    assert!(problems(&both).contains("env or file"));
}

#[test]
fn every_wrong_field_is_told_with_its_place() {
    for (server, what) in [
        (json!({}), "needs a command or a url"),
        (json!({ "command": "/a", "url": "https://a.example" }), "not both"),
        (json!({ "url": "http://example.com" }), "must be https"),
        (json!({ "url": "file:///etc/passwd" }), "only http and https"),
        (json!({ "url": "https://a@b.example" }), "no user name"),
        (json!({ "url": "https://b.example", "headers": { "Host": "x" } }), "set by the platform"),
        (json!({ "url": "https://b.example", "args": ["x"] }), "no meaning for a url"),
        (json!({ "command": "/a", "allow_private": true }), "no meaning for a command"),
        (json!({ "command": "/a", "cwd": "b" }), "absolute"),
        (json!({ "command": "/a", "timeout": "2h" }), "100ms to 1h"),
        (json!({ "command": "/a", "max_output_bytes": 100_000_000 }), "max_output_bytes"),
        (json!({ "command": "/a", "allow": ["a b"] }), "no tool's name"),
        (json!({ "command": "/a", "comand": "x" }), "unknown"),
        (json!({ "url": "https://b.example", "oauth": { "grant": "client_credentials" } }), "client_id"),
    ] {
        let told = problems(&server);
        assert!(told.contains(what), "{server}: {told}");
    }
    assert!(ToolsFile::parse("t", b"servers: {Bad.Name: {command: /a}}").is_err());
}
