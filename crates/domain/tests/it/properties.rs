//! What holds for every file.

use domain::agent::{
    AgentSpec, BudgetSpec, ContinuousSpec, LimitsSpec, MemorySpec, ModelSpec, RetrySpec, ScheduleSpec, TeamPattern,
    TeamSpec, ToolSettings, parse,
};
use domain::{AgentName, Effect, ExecutionMode, HumanDuration, UnknownPolicy};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use serde_json::json;

fn duration(most: u64) -> impl Strategy<Value = HumanDuration> {
    (1..=most).prop_map(HumanDuration::from_secs)
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        "[ -~äß€]{0,60}",
        "[a-z:#\"'{}\\[\\]|>&*!%@` \n-]{0,60}",
        prop::sample::select(vec![
            "no", "010", "1_000", "~", "true", "null", " lead", "trail ", "a\n\nb\n", "- x", "? y"
        ])
        .prop_map(str::to_owned),
    ]
}

fn name() -> impl Strategy<Value = AgentName> {
    "x[a-z0-9._-]{0,20}".prop_map(|name| AgentName::new(name).expect("a name"))
}

fn model() -> impl Strategy<Value = ModelSpec> {
    (
        prop_oneof![Just("default".to_owned()), "[a-z]{1,8}/[a-z0-9:./-]{1,20}"],
        prop::bool::ANY,
        option::of((0..=8u8).prop_map(|quarters| f64::from(quarters) / 4.0)),
        option::of(1..=1_000_000u32),
        duration(3_600),
        duration(3_600),
    )
        .prop_map(|(name, fallback, temperature, max_output_tokens, timeout, idle_timeout)| ModelSpec {
            name,
            fallbacks: if fallback { vec!["other/one".to_owned()] } else { Vec::new() },
            temperature,
            max_output_tokens,
            effort: max_output_tokens.map(|_| domain::agent::Effort::Low),
            timeout,
            idle_timeout,
        })
}

fn tools() -> impl Strategy<Value = Vec<ToolSettings>> {
    let settings = (
        option::of(prop::sample::select(vec![Effect::None, Effect::Keyed, Effect::Once])),
        option::of(prop::sample::select(vec![UnknownPolicy::Ask, UnknownPolicy::Fail, UnknownPolicy::Retry])),
        vec("[a-z]{1,9}\\.[a-z]{2,4}", 0..3),
        option::of(duration(3_600)),
    );
    let http = settings.prop_map(|(effect, on_unknown, allow, timeout)| ToolSettings {
        name: "http_request".to_owned(),
        effect,
        on_unknown,
        allow,
        timeout,
        approval: effect.map(|_| domain::Approval::Once),
        cost_usd: effect.map(|_| 0.25),
        ..ToolSettings::named("http_request")
    });
    (option::of(http), prop::bool::ANY)
        .prop_map(|(http, now)| http.into_iter().chain(now.then(|| ToolSettings::named("now"))).collect())
}

fn limits() -> impl Strategy<Value = LimitsSpec> {
    (
        1..=10_000u32,
        0..=100_000u32,
        1..=128u32,
        1..=1_000_000_000u64,
        duration(366 * 86_400),
        0..=16u32,
        0..=1_000u32,
        1..=100u32,
    )
        .prop_map(
            |(max_steps, max_tool_calls, parallel, max_tokens, wall_time, max_depth, max_children, max_repeats)| {
                LimitsSpec {
                    max_steps,
                    max_tool_calls,
                    max_parallel_tool_calls: parallel,
                    max_tokens,
                    wall_time,
                    max_depth,
                    max_children,
                    max_repeats,
                }
            },
        )
}

fn spec() -> impl Strategy<Value = AgentSpec> {
    let schedule =
        ("[0-5]?[0-9] [0-9] \\*/[1-9] \\* [0-6]", prop::sample::select(vec!["UTC", "Asia/Tokyo"]), "[a-z ]{0,20}x")
            .prop_map(|(cron, zone, prompt)| ScheduleSpec { cron, timezone: zone.to_owned(), prompt });
    let schema = prop::sample::select(vec![
        json!(true),
        json!({ "type": "object", "properties": { "no": { "const": "010" } }, "required": ["no"] }),
        json!({ "enum": [1, 1.5, -3, null, "null", "~", true, ""] }),
    ]);
    (
        (name(), text(), model(), text(), tools(), vec(name(), 0..3)),
        (limits(), option::of(1..1_000u32), 0..=1_000u32, duration(3_600), option::of(schema), option::of(schedule)),
        prop::sample::select(ExecutionMode::ALL.to_vec()),
    )
        .prop_map(|((name, description, model, instructions, mut tools, mut names), rest, execution_mode)| {
            let (limits, usd, thread_messages, backoff, output_schema, schedule) = rest;
            names.sort();
            names.dedup();
            names.retain(|other| *other != name);
            if !names.is_empty() {
                tools.push(ToolSettings::named("delegate"));
            }
            let member = AgentName::new("member").expect("a name");
            let team = TeamSpec { pattern: TeamPattern::RoundRobin, members: vec![member], max_rounds: 7 };
            let continuous = ContinuousSpec { tick: Some(backoff), ..ContinuousSpec::default() };
            AgentSpec {
                name,
                description,
                execution_mode,
                model,
                instructions,
                tools,
                delegates: names,
                limits,
                budget: usd.map(|usd| BudgetSpec { usd: Some(f64::from(usd) / 8.0), ..BudgetSpec::default() }),
                queue: domain::agent::QueueSpec { concurrency: usd, ..domain::agent::QueueSpec::default() },
                retry: RetrySpec {
                    max_attempts: 3,
                    initial_backoff: backoff,
                    max_backoff: HumanDuration::from_secs(7_200),
                },
                memory: MemorySpec { thread_messages },
                output_schema,
                schedule,
                team: (execution_mode == ExecutionMode::Collaborative).then_some(team),
                continuous: (execution_mode == ExecutionMode::Continuous).then_some(continuous),
            }
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_answered(bytes in vec(any::<u8>(), 0..400)) {
        _ = parse("a.yml", &bytes);
    }

    #[test]
    fn anything_like_yaml_is_answered(text in "([a-z_]{1,8}: |- |\\[|\\]|\\{|\\}|&a |\\*a |<<: |!t |\"|'|\n|  |,|#|---\n|1|~|\\||>){0,60}") {
        if let Err(problems) = parse("a.yml", text.as_bytes()) {
            prop_assert!(!problems.is_empty());
        }
    }

    #[test]
    fn a_file_with_changed_bytes_is_answered(at in 0usize..1_000, byte in any::<u8>()) {
        let mut text = include_bytes!("../../src/agent/reference/example.yml").to_vec();
        let at = at % text.len();
        text[at] = byte;
        _ = parse("a.yml", &text);
    }

    #[test]
    fn an_agent_that_is_written_is_read_back(spec in spec()) {
        let yaml = serde_saphyr::to_string(&spec).expect("YAML");
        let read = parse("a.yml", yaml.as_bytes());
        prop_assert_eq!(read.as_ref().map_err(|problems| super::shown(problems)), Ok(&spec), "{}", yaml);
    }

    #[test]
    fn an_agent_goes_through_json_unchanged(spec in spec()) {
        let json = serde_json::to_string(&spec).expect("JSON");
        prop_assert_eq!(serde_json::from_str::<AgentSpec>(&json).expect("an agent"), spec);
    }
}
