//! What no schema can say of the operator's file.

use std::time::Duration;

use domain::HumanDuration;
use domain::file::Finding;
use tools::egress::{Destination, HostPort};

use super::{Grant, OAuthSpec, ServerSpec, Setting, ToolsFile, programs};
use crate::names;

/// Finds every rule that the file breaks.
pub(super) fn findings(file: &ToolsFile) -> Vec<Finding> {
    let mut found = Vec::new();
    for (name, server) in &file.servers {
        let mut rules = Rules { at: format!("servers.{name}"), found: &mut found };
        if !names::is_server(name) {
            let what =
                "a server's name has 1 to 32 lower-case letters, digits, - and _, and begins with a letter or digit";
            rules.add("", what);
        }
        rules.server(server);
    }
    found
}

struct Rules<'a> {
    at: String,
    found: &'a mut Vec<Finding>,
}

impl Rules<'_> {
    fn add(&mut self, field: &str, reason: impl Into<String>) {
        let path = if field.is_empty() { self.at.clone() } else { format!("{}.{field}", self.at) };
        self.found.push(Finding::new(path, reason));
    }

    fn server(&mut self, server: &ServerSpec) {
        match (&server.command, &server.url) {
            (Some(command), None) => self.program(command, server),
            (None, Some(url)) => self.url(url, server),
            (Some(_), Some(_)) => self.add("url", "a server has a command or a url, not both"),
            (None, None) => self.add("", "a server needs a command or a url"),
        }
        for (field, names) in [("allow", &server.allow), ("deny", &server.deny)] {
            for (index, name) in names.iter().enumerate() {
                if !names::is_tool(name) {
                    self.add(&format!("{field}[{index}]"), "this is no tool's name");
                }
            }
        }
        for (name, tool) in &server.tools {
            if !names::is_tool(name) {
                self.add(&format!("tools.{name}"), "this is no tool's name");
            }
            self.duration(&format!("tools.{name}.timeout"), tool.timeout, 3_600);
        }
        self.duration("timeout", server.timeout, 3_600);
        self.duration("startup_timeout", server.startup_timeout, 600);
    }

    fn program(&mut self, command: &str, server: &ServerSpec) {
        if command.contains('/') && !command.starts_with('/') {
            self.add("command", "must be an absolute path, or a bare name that is looked up in PATH");
        } else if command.is_empty() || command.contains([' ', '\t', '\n', '\0', '"', '\'', ';', '|', '&', '$', '`']) {
            self.add("command", "must be one program; its arguments belong in args");
        } else if let Some(reason) = programs::refusal(command, &server.args) {
            let finding = Finding::new(format!("{}.command", self.at), reason);
            self.found.push(finding.hint("name the program or the script itself"));
        }
        for (index, arg) in server.args.iter().enumerate() {
            if arg.contains('\0') || arg.len() > 16_384 {
                self.add(&format!("args[{index}]"), "must have no NUL and at most 16 KiB");
            }
        }
        for (name, value) in &server.env {
            if let Some(reason) = programs::refused_variable(name) {
                self.add(&format!("env.{name}"), reason);
            }
            self.setting(&format!("env.{name}"), name, value);
        }
        if server.cwd.as_ref().is_some_and(|cwd| !cwd.is_absolute()) {
            self.add("cwd", "must be an absolute path");
        }
        for (field, is_set) in [
            ("headers", !server.headers.is_empty()),
            ("oauth", server.oauth.is_some()),
            ("allow_private", server.allow_private),
            ("allow_private_hosts", !server.allow_private_hosts.is_empty()),
        ] {
            if is_set {
                self.add(field, "has no meaning for a command");
            }
        }
    }

    fn url(&mut self, url: &str, server: &ServerSpec) {
        match Destination::parse(url) {
            Err(blocked) => self.add("url", blocked.to_string()),
            Ok(to) if to.url().scheme() == "http" && !server.allow_private => {
                self.add("url", "must be https, unless allow_private says that it is in a private network");
            }
            Ok(_) => {}
        }
        for (name, value) in &server.headers {
            let lower = name.to_ascii_lowercase();
            if http::HeaderName::try_from(name.as_str()).is_err() {
                self.add(&format!("headers.{name}"), "is no header's name");
            } else if lower.starts_with("mcp-")
                || ["accept", "content-type", "content-length", "host", "connection", "last-event-id"]
                    .contains(&lower.as_str())
            {
                self.add(&format!("headers.{name}"), "is set by the platform");
            }
            self.setting(&format!("headers.{name}"), name, value);
        }
        for (index, host) in server.allow_private_hosts.iter().enumerate() {
            if let Err(error) = host.parse::<HostPort>() {
                self.add(&format!("allow_private_hosts[{index}]"), error.to_string());
            }
        }
        if let Some(oauth) = &server.oauth {
            self.oauth(oauth);
        }
        for (field, is_set) in
            [("args", !server.args.is_empty()), ("env", !server.env.is_empty()), ("cwd", server.cwd.is_some())]
        {
            if is_set {
                self.add(field, "has no meaning for a url");
            }
        }
    }

    fn oauth(&mut self, oauth: &OAuthSpec) {
        if let Some(secret) = &oauth.client_secret {
            self.setting("oauth.client_secret", "client_secret", secret);
            if oauth.client_id.is_none() {
                self.add("oauth.client_secret", "needs client_id");
            }
        }
        if oauth.grant == Grant::ClientCredentials && (oauth.client_id.is_none() || oauth.client_secret.is_none()) {
            self.add("oauth.grant", "client_credentials needs client_id and client_secret");
        }
    }

    fn setting(&mut self, path: &str, name: &str, value: &Setting) {
        match value {
            Setting::Text(_) if names::sounds_secret(name) => {
                let finding = Finding::new(format!("{}.{path}", self.at), "a secret must not stand in a file");
                self.found.push(finding.hint("write {env: NAME} or {file: PATH}"));
            }
            Setting::Text(text) if text.contains(['\0', '\r', '\n']) => self.add(path, "must be one line"),
            Setting::Ref(found) if found.env.is_some() == found.file.is_some() => {
                self.add(path, "must have env or file, and not both");
            }
            _ => {}
        }
    }

    fn duration(&mut self, field: &str, value: Option<HumanDuration>, most: u64) {
        let fits = |value: HumanDuration| (Duration::from_millis(100)..=Duration::from_secs(most)).contains(&value.0);
        if value.is_some_and(|value| !fits(value)) {
            self.add(field, format!("must be 100ms to {}", HumanDuration::from_secs(most)));
        }
    }
}
