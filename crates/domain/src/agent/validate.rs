//! The rules of an agent's file that a schema cannot say: ranges of durations, and fields that need each other.

use std::collections::BTreeSet;
use std::time::Duration;

use super::parse::DELEGATING_TOOLS;
use super::{AgentSpec, ExecutionMode, ModelSpec, ToolSettings, cron, limits, output_schema, tool_rules};
use crate::file::{self, problem::closest};
use crate::{AgentName, HumanDuration};

/// A rule that a file breaks.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) path: String,
    pub(super) reason: String,
    pub(super) hint: Option<String>,
    /// Another field that the rule is about: when that one is wrong in itself, the rule says nothing, and when the field
    /// at `path` is missing, the problem stands at this one.
    pub(super) because_of: Option<&'static str>,
}

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

/// Finds every rule that `spec` breaks; `tools` are the names of the tools that there are.
pub(super) fn findings(spec: &AgentSpec, tools: &[&str]) -> Vec<Finding> {
    let mut rules = Rules { findings: Vec::new() };
    rules.model(&spec.model);
    rules.tools(&spec.tools, tools);
    rules.delegation(spec);
    rules.limits(spec);
    rules.mode(spec);
    if let Some(schema) = &spec.output_schema {
        rules.findings.extend(output_schema::problems(schema).into_iter().map(|problem| Finding {
            path: problem.path("output_schema"),
            reason: problem.reason,
            hint: problem.hint,
            because_of: None,
        }));
    }
    if let Some(schedule) = &spec.schedule {
        rules.findings.extend(cron::findings(schedule));
    }
    rules.findings
}

struct Rules {
    findings: Vec<Finding>,
}

impl Rules {
    fn add(&mut self, path: impl Into<String>, reason: impl Into<String>, hint: Option<String>) {
        self.findings.push(Finding { path: path.into(), reason: reason.into(), hint, because_of: None });
    }

    fn duration(&mut self, path: &str, value: HumanDuration, least: Duration, most: Duration) {
        if value.0 < least || value.0 > most {
            self.add(path, format!("must be from {} to {}", HumanDuration(least), HumanDuration(most)), None);
        }
    }

    fn unique<'a>(&mut self, path: &str, names: impl Iterator<Item = &'a str>) {
        let mut seen = BTreeSet::new();
        for (index, name) in names.enumerate() {
            if !seen.insert(name) {
                self.add(format!("{path}[{index}]"), format!("{name} is there twice"), None);
            }
        }
    }

    fn model(&mut self, model: &ModelSpec) {
        self.model_name("model.name", &model.name);
        for (index, name) in model.fallbacks.iter().enumerate() {
            let path = format!("model.fallbacks[{index}]");
            self.model_name(&path, name);
            if *name == model.name {
                self.add(path, "is the model itself", None);
            }
        }
        self.unique("model.fallbacks", model.fallbacks.iter().map(String::as_str));
        self.duration("model.timeout", model.timeout, SECOND, HOUR);
        self.duration("model.idle_timeout", model.idle_timeout, SECOND, HOUR);
    }

    fn model_name(&mut self, path: &str, name: &str) {
        let parts = name.split_once('/');
        let sound = parts.is_some_and(|(provider, model)| !provider.is_empty() && !model.is_empty())
            && name.len() <= 200
            && name.chars().all(|c| c.is_ascii_graphic());
        let meant = closest(name, ["default"]);
        // A route is named as agents are; whether there is one is known only where models are asked.
        let route = meant.is_none() && AgentName::new(name).is_ok();
        if name == "default" || sound || route {
            return;
        }
        let hint = match meant {
            Some(meant) => format!("did you mean {meant}?"),
            None => "for example openai/gpt-5-mini".to_owned(),
        };
        self.add(path, "must be `default`, `provider/name` or a route", Some(hint));
    }

    fn tools(&mut self, tools: &[ToolSettings], known: &[&str]) {
        for (index, tool) in tools.iter().enumerate() {
            let path = format!("tools[{index}]");
            let of_server = tool.name.split_once('.').filter(|(_, name)| !name.is_empty() && *name != "*");
            let of_server = of_server.is_some_and(|(server, _)| known.contains(&format!("{server}.*").as_str()));
            if !of_server && (!known.contains(&tool.name.as_str()) || tool.name.ends_with(".*")) {
                let hint = match closest(&tool.name, known.iter().copied()) {
                    Some(meant) => format!("did you mean {meant}?"),
                    None => format!("the tools are {}", known.join(", ")),
                };
                self.add(format!("{path}.name"), "there is no such tool", Some(hint));
            }
            if let Some(timeout) = tool.timeout {
                self.duration(&format!("{path}.timeout"), timeout, Duration::from_millis(100), HOUR);
            }
            if !tool.allow.is_empty() && tool.name != "http_request" {
                self.add(format!("{path}.allow"), "is only for http_request", None);
            }
            for (at, host) in tool.allow.iter().enumerate() {
                if !is_host_pattern(host) {
                    let hint = host_hint(host).map(|host| format!("did you mean {host}?"));
                    self.add(format!("{path}.allow[{at}]"), "must be `host`, `host:port` or `*.domain`", hint);
                }
            }
        }
        self.findings.extend(tool_rules::findings(tools));
        self.unique("tools", tools.iter().map(|tool| tool.name.as_str()));
    }

    fn delegation(&mut self, spec: &AgentSpec) {
        let named = |name: &&&str| spec.tools.iter().any(|tool| tool.name == **name);
        if let Some(tool) = DELEGATING_TOOLS.iter().find(named)
            && spec.delegates.is_empty()
        {
            let hint = Some("name the agents that may be given work".to_owned());
            self.add("delegates", format!("is required by the tool {tool}"), hint);
            self.because_of("tools");
        }
        if !["delegate", "send_message"].iter().any(|name| named(&name)) && !spec.delegates.is_empty() {
            let hint = Some("add delegate or send_message to tools".to_owned());
            self.add("delegates", "has no effect without the tool delegate or send_message", hint);
            self.because_of("tools");
        }
        for (index, name) in spec.delegates.iter().enumerate() {
            if *name == spec.name {
                self.add(format!("delegates[{index}]"), "an agent cannot delegate to itself", None);
            }
        }
        self.unique("delegates", spec.delegates.iter().map(AgentName::as_str));
    }

    fn limits(&mut self, spec: &AgentSpec) {
        self.duration("limits.wall_time", spec.limits.wall_time, SECOND, 366 * DAY);
        let mut findings = spec.budget.as_ref().map(|budget| limits::budget("budget", budget)).unwrap_or_default();
        limits::queue("queue", &spec.queue, &mut findings);
        for file::Finding { path, reason, hint } in findings {
            self.add(path, reason, hint);
        }
        let retry = &spec.retry;
        self.duration("retry.initial_backoff", retry.initial_backoff, Duration::from_millis(1), HOUR);
        self.duration("retry.max_backoff", retry.max_backoff, Duration::from_millis(1), DAY);
        if retry.max_backoff < retry.initial_backoff {
            let reason = format!("must be at least retry.initial_backoff, {}", retry.initial_backoff);
            self.add("retry.max_backoff", reason, None);
            self.because_of("retry.initial_backoff");
        }
    }

    fn mode(&mut self, spec: &AgentSpec) {
        let mode = spec.execution_mode;
        match &spec.team {
            None if mode == ExecutionMode::Collaborative => {
                let hint = Some("say who works together, or leave execution_mode out".to_owned());
                self.add("team", "is required by execution_mode collaborative", hint);
                self.because_of("execution_mode");
            }
            Some(_) if mode != ExecutionMode::Collaborative => {
                let hint = Some("write execution_mode: collaborative".to_owned());
                self.add("team", format!("has no effect with execution_mode {mode}"), hint);
                self.because_of("execution_mode");
            }
            _ => {}
        }
        if let Some(team) = &spec.team {
            for (index, name) in team.members.iter().enumerate() {
                if *name == spec.name {
                    self.add(format!("team.members[{index}]"), "a team's leader cannot be its member", None);
                }
            }
            self.unique("team.members", team.members.iter().map(AgentName::as_str));
        }
        if let Some(continuous) = &spec.continuous {
            if mode != ExecutionMode::Continuous {
                let hint = Some("write execution_mode: continuous".to_owned());
                self.add("continuous", format!("has no effect with execution_mode {mode}"), hint);
                self.because_of("execution_mode");
            }
            self.duration("continuous.idle_timeout", continuous.idle_timeout, SECOND, 7 * DAY);
            if let Some(tick) = continuous.tick {
                self.duration("continuous.tick", tick, SECOND, 7 * DAY);
            }
        }
    }

    /// Says what other field the last finding is about.
    fn because_of(&mut self, field: &'static str) {
        if let Some(finding) = self.findings.last_mut() {
            finding.because_of = Some(field);
        }
    }
}

fn is_host_pattern(text: &str) -> bool {
    let host = match text.rsplit_once(':') {
        Some((host, port)) => match port.parse::<u16>() {
            Ok(port) if port > 0 => host,
            _ => return false,
        },
        None => text,
    };
    let host = host.strip_prefix("*.").unwrap_or(host);
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.len() <= 253 && host.split('.').all(label)
}

/// Takes the host out of an address that was given instead of it.
fn host_hint(text: &str) -> Option<String> {
    let address = url::Url::parse(text).ok()?;
    let host = address.host_str().filter(|host| is_host_pattern(host))?;
    Some(address.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_told_from_addresses() {
        for text in ["example.com", "*.example.com", "localhost:8080", "127.0.0.1:9", "a-b.example"] {
            assert!(is_host_pattern(text), "{text}");
        }
        for text in ["", "*", "*.", "https://example.com", "example.com/path", "a:b", "a:0", "-a.com", "a..b", "a b"] {
            assert!(!is_host_pattern(text), "{text}");
        }
        assert_eq!(host_hint("https://example.com/a").as_deref(), Some("example.com"));
    }
}
