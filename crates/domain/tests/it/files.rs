//! Fields: their types, ranges and what they need of each other.

use super::{bad, good};

#[test]
fn the_shortest_agent_has_all_defaults() {
    let spec = good("name: a\n");
    assert_eq!(spec.model.name, "default");
    assert_eq!(spec.limits.max_steps, 32);
    assert_eq!(spec.retry.max_attempts, 4);
    assert!(spec.tools.is_empty());
}

#[test]
fn a_model_and_a_tool_may_be_a_name_or_a_mapping() {
    let spec = good("name: a\nmodel: openai/x\ntools: [now, {name: wait, timeout: 5s}]\n");
    assert_eq!(spec.model.name, "openai/x");
    assert_eq!(spec.tools[1].timeout.expect("a timeout").to_string(), "5s");
    let spec = good("name: a\nmodel: {name: openai/x, temperature: 1}\n");
    assert_eq!(spec.model.temperature, Some(1.0));
}

#[test]
fn an_unknown_field_is_named_with_its_place_and_what_was_meant() {
    assert_eq!(
        bad("name: a\nlimits:\n    max_stepz: 5\n"),
        "a.yml:3:5: limits.max_stepz: unknown field; did you mean max_steps?"
    );
    assert_eq!(bad("name: a\nmax_steps: 5\n"), "a.yml:2:1: max_steps: unknown field; did you mean limits.max_steps?");
    assert_eq!(
        bad("name: a\nmodel:\n  name: default\n  temprature: 1\n"),
        "a.yml:4:3: model.temprature: unknown field; did you mean temperature?"
    );
    assert!(
        bad("name: a\ntools:\n- name: now\n  zzz: 1\n").contains("tools[0].zzz: unknown field; the fields here are")
    );
    assert!(bad("name: a\ncommand: npx\nargs: [-c, x]\n").contains("command: unknown field"));
}

#[test]
fn all_problems_are_told_at_once_in_the_order_of_the_file() {
    let report = bad("\
name: Not A Name
execution_mode: autonomos
model: gpt 5
tools: [http_requst, delegate]
limits:
  max_steps: -1
  wall_time: 1000d
retry: {max_attempts: many}
");
    assert_eq!(
        report,
        "\
a.yml:1:7: name: must match ^[a-z0-9][a-z0-9._-]{0,62}$ (lower-case letters, digits, dot, underscore and dash); write not-a-name
a.yml:2:17: execution_mode: must be one of autonomous, collaborative, continuous; did you mean autonomous?
a.yml:3:8: model.name: must be `default`, `provider/name` or a route; for example openai/gpt-5-mini
a.yml:4:8: delegates: is required by the tool delegate; name the agents that may be given work
a.yml:4:9: tools[0].name: there is no such tool; did you mean http_request?
a.yml:6:14: limits.max_steps: must be a whole number from 1 to 10000
a.yml:7:14: limits.wall_time: must be from 1s to 366d
a.yml:8:23: retry.max_attempts: must be a whole number from 1 to 100"
    );
}

#[test]
fn a_value_of_another_type_is_refused() {
    assert_eq!(bad("name: [a]\n"), "a.yml:1:7: name: must be a text, not a list");
    assert_eq!(bad("name: a\nlimits: 5\n"), "a.yml:2:9: limits: must be a mapping of fields");
    assert_eq!(bad("name: a\ntools: now\n"), "a.yml:2:8: tools: must be a list; write [now]");
    assert_eq!(bad("name: a\ntools:\n"), "a.yml:2:6: tools: must be a list; there is nothing: leave the field out");
    assert_eq!(bad("just words\n"), "a.yml:1:1: must be a mapping of fields");
    assert_eq!(bad("description: x\n"), "a.yml:1:1: name: is required");
    assert!(bad("name: a\nlimits: {max_steps: \"5\"}\n").ends_with("from 1 to 10000; write it without quotes"));
    assert!(bad("name: a\nmodel: [x]\n").contains("model: must be a text, not a list"));
    assert!(bad("name: a\ntools: [{timeout: 5s}]\n").contains("tools[0].name: is required"));
}

#[test]
fn numbers_out_of_range_are_refused() {
    for (field, value) in [
        ("limits", "{max_steps: -1}"),
        ("limits", "{max_steps: 0}"),
        ("limits", "{max_steps: 10001}"),
        ("limits", "{max_steps: 1.5}"),
        ("limits", "{max_steps: 1e99}"),
        ("limits", "{max_tokens: 99999999999999999999999}"),
        ("limits", "{wall_time: 1000d}"),
        ("limits", "{wall_time: 0s}"),
        ("limits", "{max_depth: 17}"),
        ("budget", "{usd: 1e99}"),
        ("budget", "{usd: 0}"),
        ("budget", "{usd: .nan}"),
        ("budget", "{}"),
        ("budget", "{on_limit: ask}"),
        ("budget", "{per_day: {}}"),
        ("budget", "{per_hour: {usd: 0}}"),
        ("queue", "{concurrency: 0}"),
        ("queue", "{concurrency_per_key: 1000001}"),
        ("queue", "{rate: {starts: 1}}"),
        ("queue", "{rate: {starts: 0, per: 1m}}"),
        ("queue", "{rate: {starts: 1, per: 999ms}}"),
        ("queue", "{rate_per_key: {starts: 1, per: 8d}}"),
        ("retry", "{max_attempts: 0}"),
        ("retry", "{initial_backoff: 10m, max_backoff: 1m}"),
        ("model", "{name: default, temperature: 2.1}"),
        ("model", "{name: default, timeout: 2h}"),
        ("memory", "{thread_messages: 1001}"),
    ] {
        assert_eq!(bad(format!("name: a\n{field}: {value}\n")).lines().count(), 1, "{field}: {value}");
    }
    assert!(bad("name: a\nlimits: {wall_time: 5 minutes}\n").ends_with("did you mean 5m?"));
    let long = "x".repeat(300_000);
    assert!(bad(format!("name: a\ninstructions: {long}\n")).contains("at most 262144 are allowed"));
}

#[test]
fn fields_that_need_each_other_are_checked() {
    assert!(bad("name: a\nexecution_mode: collaborative\n").contains("team: is required by"));
    assert!(bad("name: a\nteam: {pattern: debate, members: [b]}\n").contains("team: has no effect with"));
    assert!(bad("name: a\ncontinuous: {}\n").contains("continuous: has no effect with"));
    assert!(bad("name: a\ntools: [delegate]\n").contains("delegates: is required by the tool delegate"));
    assert!(bad("name: a\ndelegates: [b]\n").contains("delegates: has no effect without"));
    assert!(bad("name: a\ntools: [delegate]\ndelegates: [a]\n").contains("cannot delegate to itself"));
    assert!(bad("name: a\ntools: [now, now]\n").contains("tools[1]: now is there twice"));
    assert!(bad("name: a\ntools: [{name: now, allow: [b.com]}]\n").contains("is only for http_request"));
    let report = bad("name: a\ntools: [{name: http_request, allow: ['https://b.com/x']}]\n");
    assert!(report.ends_with("did you mean b.com?"), "{report}");
    // A field that is wrong in itself is not blamed a second time.
    assert_eq!(bad("name: a\ntools: [delegate]\ndelegates: [B]\n").lines().count(), 1);
    good("name: a\nexecution_mode: collaborative\nteam: {pattern: debate, members: [b]}\n");
}

#[test]
fn an_output_schema_is_checked_where_it_stands() {
    let report =
        bad("name: a\noutput_schema:\n  properties:\n    total: {type: nmber}\n    page: {$ref: 'http://b/c'}\n");
    assert!(report.contains("a.yml:5:18: output_schema.properties.page.$ref: remote_ref_forbidden"), "{report}");
    let report = bad("name: a\noutput_schema:\n  properties:\n    total: {type: nmber}\n");
    assert!(
        report.starts_with("a.yml:4:19: output_schema.properties.total.type: is not a valid JSON Schema"),
        "{report}"
    );
    assert!(bad("name: a\noutput_schema: {enum: [yes, no]}\n").contains("true or false to some readers"));
    good("name: a\noutput_schema: {type: object, properties: {on: {enum: [\"yes\", 1, 1.5, null, true]}}}\n");
    good("name: a\noutput_schema: true\n");
}

#[test]
fn a_schedule_is_checked() {
    let report = bad("name: a\nschedule: {cron: '60 * * * *', timezone: Europe/Berln, prompt: ' '}\n");
    assert!(report.contains("schedule.cron: field 1 (minute) is not valid: 60"), "{report}");
    assert!(report.contains("schedule.timezone: is not an IANA time zone; did you mean Europe/Berlin?"), "{report}");
    assert!(report.contains("schedule.prompt: must not be empty"), "{report}");
}

#[test]
fn a_secret_is_refused_and_not_repeated() {
    let secret = format!("sk-{}", "aB3".repeat(10));
    let report = bad(format!("name: a\ninstructions: |\n  Use the key\n  {secret}\n"));
    assert!(report.starts_with("a.yml:4:3: instructions: this looks like an API key (sk-…)"), "{report}");
    assert!(report.contains("environment"), "{report}");
    assert!(!report.contains(&secret));
    assert!(bad(format!("name: a # xoxb-{}\n", "1234567890-abc")).contains("Slack token"));
}

#[test]
fn nothing_in_a_text_is_expanded() {
    let text = "{{7*7}} {% raw %} ${HOME} $(id)";
    assert_eq!(good(&format!("name: a\ninstructions: '{text}'\n")).instructions, text);
}
