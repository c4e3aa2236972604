//! The rules of tools' settings that need each other: prices, and who is asked about an unknown outcome.

use super::ToolSettings;
use super::validate::Finding;
use crate::UnknownPolicy;

/// Finds what is wrong with the settings of an agent's tools.
pub(super) fn findings(tools: &[ToolSettings]) -> Vec<Finding> {
    let mut found = Vec::new();
    for (index, tool) in tools.iter().enumerate() {
        let mut add = |field: &str, reason: &str, hint: Option<&str>| {
            let path = format!("tools[{index}].{field}");
            found.push(Finding { path, reason: reason.to_owned(), hint: hint.map(str::to_owned), because_of: None });
        };
        if let Some(pointer) = &tool.cost_argument
            && !is_pointer(pointer)
        {
            add("cost_argument", "must be a JSON Pointer", Some("it begins with a slash, for example /amount"));
        }
        let probes = tool.on_unknown == Some(UnknownPolicy::Probe);
        match &tool.probe {
            None if probes => {
                let hint = "name the tool of this agent that can tell whether a call happened";
                add("probe", "is required by on_unknown: probe", Some(hint));
            }
            Some(_) if !probes => {
                add("probe", "has no effect without on_unknown: probe", Some("write on_unknown: probe"));
            }
            Some(name) if *name == tool.name => add("probe", "is the tool itself", Some("name another tool")),
            Some(name) if !tools.iter().any(|other| other.name == *name) => {
                add("probe", "is no tool of this agent", Some("add it to tools"));
            }
            _ => {}
        }
    }
    found
}

/// Tells whether a text is a JSON Pointer (RFC 6901) to something inside of a value.
fn is_pointer(text: &str) -> bool {
    let escapes = text.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
    text.starts_with('/') && escapes && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(tools: serde_json::Value) -> Vec<String> {
        let tools: Vec<ToolSettings> = serde_json::from_value(tools).unwrap();
        findings(&tools).into_iter().map(|finding| format!("{}: {}", finding.path, finding.reason)).collect()
    }

    #[test]
    fn a_price_is_read_from_a_pointer() {
        for pointer in ["/amount", "/a/0/b", "/a~1b", "/~0"] {
            assert!(places(serde_json::json!([{ "name": "now", "cost_argument": pointer }])).is_empty(), "{pointer}");
        }
        for pointer in ["amount", "$.amount", "/a~2", "/a~", "#/amount"] {
            let found = places(serde_json::json!([{ "name": "now", "cost_argument": pointer }]));
            assert_eq!(found, ["tools[0].cost_argument: must be a JSON Pointer"], "{pointer}");
        }
    }

    #[test]
    fn a_probe_is_another_tool_of_the_agent_and_is_there_when_it_is_asked() {
        let once = |settings: serde_json::Value| {
            let mut tool = serde_json::json!({ "name": "echo", "effect": "once" });
            tool.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
            places(serde_json::json!([tool, "now"]))
        };
        assert!(once(serde_json::json!({ "on_unknown": "probe", "probe": "now" })).is_empty());
        let wrong = [
            (serde_json::json!({ "on_unknown": "probe" }), "is required by on_unknown: probe"),
            (serde_json::json!({ "probe": "now" }), "has no effect without on_unknown: probe"),
            (serde_json::json!({ "on_unknown": "probe", "probe": "echo" }), "is the tool itself"),
            (serde_json::json!({ "on_unknown": "probe", "probe": "wait" }), "is no tool of this agent"),
        ];
        for (settings, reason) in wrong {
            assert_eq!(once(settings), [format!("tools[0].probe: {reason}")]);
        }
    }
}
