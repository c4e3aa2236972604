//! Which tools there are, and which of them an agent may use.

use std::collections::BTreeMap;
use std::sync::Arc;

use domain::{AgentSpec, ToolSpec, Usd};
use serde_json::Value;

use crate::{Tool, schema};

/// How many problems of one call a model is told at most.
const MAX_PROBLEMS: usize = 8;
/// How long the words for one problem are at most; a problem may quote names that the model made up.
const MAX_PROBLEM: usize = 200;

/// Tools that come and go while the process runs, such as those of other servers.
pub trait ToolSource: Send + Sync + 'static {
    /// The full names of its tools that may be used now.
    fn names(&self) -> Vec<String>;

    /// Finds a tool by its full name.
    fn find(&self, name: &str) -> Option<Arc<dyn Tool>>;

    /// Counts up whenever a name, a spec or what may be used changes.
    fn generation(&self) -> u64;
}

/// All tools of this process, by name.
#[derive(Clone, Default)]
pub struct Toolkit {
    tools: BTreeMap<String, Arc<dyn Tool>>,
    sources: Vec<Arc<dyn ToolSource>>,
}

/// One tool that an agent may use.
#[derive(Clone)]
pub struct AllowedTool {
    /// Its spec for this agent, with the agent's settings applied.
    pub spec: ToolSpec,
    /// The tool.
    pub tool: Arc<dyn Tool>,
    validator: Arc<jsonschema::Validator>,
}

/// The tools that one agent may use.
#[derive(Clone, Default)]
pub struct Toolbox {
    tools: BTreeMap<String, AllowedTool>,
}

/// Why a call is refused before it begins; the model is told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The agent has no such tool.
    #[error("there is no tool {name}; the tools are: {known}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// The arguments do not match the tool's schema.
    #[error("the arguments of {name} are not valid: {problems}")]
    Arguments {
        /// The tool.
        name: String,
        /// What is wrong with them.
        problems: String,
    },
}

impl Toolkit {
    /// Adds a tool under a name; one of the same name is replaced.
    pub fn add(&mut self, name: impl Into<String>, tool: Arc<dyn Tool>) {
        self.tools.insert(name.into(), tool);
    }

    /// Adds tools that come and go; a tool that was added by itself goes before one of the same name.
    pub fn add_source(&mut self, source: Arc<dyn ToolSource>) {
        self.sources.push(source);
    }

    /// The names of all tools that there are now.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.tools.keys().cloned().collect();
        names.extend(self.sources.iter().flat_map(|source| source.names()));
        names
    }

    /// Changes whenever a toolbox made before may no longer be right.
    pub fn generation(&self) -> u64 {
        self.sources.iter().fold(0, |sum, source| sum.wrapping_add(source.generation()))
    }

    fn find(&self, name: &str) -> Option<Arc<dyn Tool>> {
        let own = self.tools.get(name).cloned();
        own.or_else(|| self.sources.iter().find_map(|source| source.find(name)))
    }

    /// Gathers what an agent may use. Tools that this process does not have, or whose schema is refused, are left out.
    ///
    /// Compiles the schemas, so whoever runs many tasks keeps the toolbox of an agent's version.
    pub fn for_agent(&self, agent: &AgentSpec) -> Toolbox {
        let mut tools = BTreeMap::new();
        for settings in &agent.tools {
            let Some(tool) = self.find(&settings.name) else { continue };
            let Some(mut spec) = tool.spec(agent) else { continue };
            if let Some(effect) = settings.effect {
                spec.effect = effect;
            }
            if let Some(policy) = settings.on_unknown {
                spec.on_unknown = policy;
            }
            if let Some(timeout) = settings.timeout {
                spec.timeout = timeout.0;
            }
            if let Some(approval) = settings.approval {
                // What an operator demands cannot be given up by an agent's file.
                spec.approval = spec.approval.max(approval);
            }
            if let Some(above) = settings.approval_above_usd.map(Usd::from_dollars) {
                spec.price.approval_above = Some(spec.price.approval_above.map_or(above, |own| own.min(above)));
            }
            if let Some(usd) = settings.cost_usd {
                spec.price.usd = spec.price.usd.max(Usd::from_dollars(usd));
            }
            if let Some(argument) = &settings.cost_argument {
                spec.price.argument = Some(argument.clone());
            }
            if let Some(probe) = &settings.probe {
                spec.probe = Some(probe.clone());
            }
            let validator = match schema::compile(&spec.parameters) {
                Ok(validator) => validator,
                Err(error) => {
                    tracing::warn!(tool = %settings.name, %error, "tool left out: its schema is refused");
                    continue;
                }
            };
            let allowed = AllowedTool { spec, tool, validator: Arc::new(validator) };
            tools.insert(settings.name.clone(), allowed);
        }
        Toolbox { tools }
    }
}

impl Toolbox {
    /// What a model is told of the tools, by name.
    pub fn specs(&self) -> Vec<ToolSpec> {
        self.tools.values().map(|tool| tool.spec.clone()).collect()
    }

    /// Finds a tool without looking at any arguments.
    pub fn get(&self, name: &str) -> Option<&AllowedTool> {
        self.tools.get(name)
    }

    /// Finds the tool of a call and checks the call's arguments.
    pub fn check(&self, name: &str, arguments: &Value) -> Result<&AllowedTool, Refusal> {
        let tool = self.tools.get(name).ok_or_else(|| Refusal::Unknown {
            name: name.chars().take(80).collect(),
            known: self.tools.keys().cloned().collect::<Vec<_>>().join(", "),
        })?;
        let problems: Vec<String> =
            tool.validator.iter_errors(arguments).take(MAX_PROBLEMS).map(|error| describe(&error)).collect();
        if problems.is_empty() && !tool.spec.price.is_named(arguments) {
            // A call that hides its price would pass both the budget and the person who is asked above a price.
            let place = tool.spec.price.argument.as_deref().unwrap_or_default();
            let problems = format!("{place}: must say what the call costs in US dollars, as a number of 0 or more");
            Err(Refusal::Arguments { name: name.to_owned(), problems })
        } else if problems.is_empty() {
            Ok(tool)
        } else {
            Err(Refusal::Arguments { name: name.to_owned(), problems: problems.join("; ") })
        }
    }
}

/// Says what is wrong without repeating the value: it may be long, and it may be a secret.
fn describe(error: &jsonschema::ValidationError<'_>) -> String {
    let path = error.instance_path().to_string();
    let place = if path.is_empty() { "arguments" } else { path.as_str() };
    format!("{place}: {}", error.masked()).chars().take(MAX_PROBLEM).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use async_trait::async_trait;
    use domain::{Effect, UnknownPolicy};
    use serde_json::json;

    use super::*;
    use crate::{BuiltinOptions, CallContext, ToolError, ToolReply, builtin};

    struct Shaped(Value);

    #[async_trait]
    impl Tool for Shaped {
        fn spec(&self, _: &AgentSpec) -> Option<ToolSpec> {
            Some(ToolSpec::new("shaped", "", self.0.clone(), std::time::Duration::from_secs(1)))
        }

        async fn call(&self, _: &CallContext<'_>, _: Value) -> Result<ToolReply, ToolError> {
            Ok(ToolReply::Done(Value::Null))
        }
    }

    fn agent(value: Value) -> AgentSpec {
        serde_json::from_value(value).expect("an agent")
    }

    fn toolbox(tools: &Value) -> Toolbox {
        builtin(BuiltinOptions::default()).for_agent(&agent(json!({ "name": "tester", "tools": tools })))
    }

    #[test]
    fn an_agent_has_the_tools_of_its_file_and_no_others() {
        let toolbox = toolbox(&json!(["echo", "wait", "no-such-tool"]));
        let names: Vec<String> = toolbox.specs().into_iter().map(|spec| spec.name).collect();
        assert_eq!(names, ["echo", "wait"]);
        let refusal = toolbox.check("http_request", &json!({})).err().expect("refused");
        assert_eq!(refusal.to_string(), "there is no tool http_request; the tools are: echo, wait");
    }

    #[test]
    fn a_name_that_is_no_tool_is_refused_in_few_words() {
        let toolbox = toolbox(&json!(["echo"]));
        for name in ["", "Echo", "echo ", " echo", "ｅcho", "echo\n", &"x".repeat(100_000)] {
            let refusal = toolbox.check(name, &json!({ "text": "a" })).err().expect("refused");
            assert!(matches!(refusal, Refusal::Unknown { .. }));
            assert!(refusal.to_string().chars().count() < 200);
        }
    }

    #[test]
    fn wrong_arguments_are_refused_with_reasons_that_repeat_no_values() {
        let toolbox = toolbox(&json!(["http_request"]));
        let secret = "hunter2".repeat(1_000);
        for arguments in [
            json!({ "method": secret, "url": "http://example.com" }),
            json!({ "method": "GET", "url": { "secret": secret } }),
            json!({ "method": "GET", "url": "http://example.com", "headers": { "a": [secret] } }),
            json!({ "method": "GET" }),
            json!([secret]),
            json!(secret),
            json!(null),
        ] {
            let refusal = toolbox.check("http_request", &arguments).err().expect("refused");
            let text = refusal.to_string();
            assert!(matches!(refusal, Refusal::Arguments { .. }));
            assert!(!text.contains("hunter2"), "{text}");
            assert!(text.len() < 500, "{text}");
        }
    }

    #[test]
    fn unknown_arguments_are_refused_however_many_and_long_their_names() {
        let toolbox = toolbox(&json!(["echo"]));
        let many: serde_json::Map<String, Value> =
            (0..1_000).map(|n| (format!("{}{n}", "x".repeat(1_000)), json!(n))).collect();
        let refusal = toolbox.check("echo", &Value::Object(many)).err().expect("refused");
        assert!(refusal.to_string().chars().count() < MAX_PROBLEMS * (MAX_PROBLEM + 2) + 100);
    }

    #[test]
    fn the_agents_settings_override_the_tools_own() {
        let toolbox = toolbox(
            &json!([{ "name": "http_request", "effect": "once", "on_unknown": "fail", "timeout": "5s" }, "echo"]),
        );
        let spec = &toolbox.get("http_request").expect("known").spec;
        assert_eq!((spec.effect, spec.on_unknown), (Effect::Once, UnknownPolicy::Fail));
        assert_eq!(spec.timeout, std::time::Duration::from_secs(5));
        assert_eq!(toolbox.get("echo").expect("known").spec.effect, Effect::None);
    }

    #[test]
    fn a_call_that_hides_what_it_costs_is_refused() {
        let toolbox = toolbox(&json!([{ "name": "echo", "cost_argument": "/text", "approval_above_usd": 5 }]));
        for text in [json!("1000"), json!(null), json!([1])] {
            assert!(toolbox.check("echo", &json!({ "text": text })).is_err(), "{text}");
        }
        let mut toolkit = Toolkit::default();
        toolkit.add("shaped", Arc::new(Shaped(json!({ "type": "object" }))));
        let toolbox = toolkit
            .for_agent(&agent(json!({ "name": "a", "tools": [{ "name": "shaped", "cost_argument": "/amount" }] })));
        for amount in [json!("7"), json!(-1), json!(null), json!({ "usd": 7 })] {
            let refusal = toolbox.check("shaped", &json!({ "amount": amount })).err().expect("refused").to_string();
            assert!(refusal.contains("/amount: must say what the call costs"), "{refusal}");
        }
        assert!(toolbox.check("shaped", &json!({})).is_err(), "a price that is left out");
        assert!(toolbox.check("shaped", &json!({ "amount": 7.5 })).is_ok());
        assert!(toolbox.check("shaped", &json!({ "amount": 0 })).is_ok());
    }

    #[test]
    fn a_tool_whose_schema_names_a_document_elsewhere_is_left_out() {
        for reference in ["http://127.0.0.1:9/schema.json", "file:///etc/hostname"] {
            let mut toolkit = Toolkit::default();
            toolkit.add("shaped", Arc::new(Shaped(json!({ "$ref": reference }))));
            toolkit.add("other", Arc::new(Shaped(json!({ "type": "object" }))));
            let toolbox = toolkit.for_agent(&agent(json!({ "name": "tester", "tools": ["shaped", "other"] })));
            assert!(toolbox.get("shaped").is_none());
            assert!(toolbox.get("other").is_some());
        }
    }

    #[test]
    fn every_built_in_tool_refuses_arguments_that_it_does_not_know() {
        let spec = agent(json!({
            "name": "tester",
            "tools": domain::agent::BUILT_IN_TOOLS,
            "delegates": ["helper"]
        }));
        let toolbox = builtin(BuiltinOptions::default()).for_agent(&spec);
        assert_eq!(toolbox.specs().len(), domain::agent::BUILT_IN_TOOLS.len());
        for spec in toolbox.specs() {
            assert_eq!(spec.parameters["type"], "object", "{}", spec.name);
            assert_eq!(spec.parameters["additionalProperties"], false, "{}", spec.name);
            assert!(!spec.description.is_empty());
        }
    }
}
