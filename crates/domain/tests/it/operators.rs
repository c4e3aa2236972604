//! Files of the operator, read by the schema of any type.

use std::collections::BTreeMap;

use domain::file::{self, Finding};
use domain::{HumanDuration, Namespace, OnLimit, PlatformLimits};

#[derive(Debug, PartialEq, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
struct Cluster {
    on: bool,
    nodes: BTreeMap<Namespace, Node>,
    labels: BTreeMap<String, String>,
}

#[derive(Debug, PartialEq, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Node {
    #[schemars(range(min = 1, max = 9))]
    weight: u32,
    #[serde(default)]
    pause: Option<HumanDuration>,
}

fn read(text: &str) -> Result<Cluster, String> {
    let schema = file::schema::<Cluster>("Cluster");
    let check = |cluster: &Cluster| {
        let heavy = cluster.nodes.iter().filter(|(_, node)| node.weight > 5);
        heavy.map(|(name, _)| Finding::new(format!("nodes.{name}.weight"), "is heavy").hint("take less")).collect()
    };
    file::parse_with(&schema, "n.yml", text.as_bytes(), check).map_err(|problems| super::shown(&problems))
}

#[test]
fn a_mapping_from_names_to_values_is_read_by_the_schema_of_its_values() {
    let nodes = read("on: true\nnodes:\n  a: {weight: 1, pause: 5s}\nlabels: {Any Name: x}\n").expect("sound");
    assert_eq!(nodes.nodes.values().next().expect("a node").pause, Some(HumanDuration::from_secs(5)));
    assert_eq!(nodes.labels["Any Name"], "x");
}

#[test]
fn a_file_that_says_nothing_is_empty() {
    assert_eq!(read("").expect("sound"), Cluster::default());
    assert_eq!(read("# all of it is a comment\n").expect("sound"), Cluster::default());
}

#[test]
fn problems_in_a_mapping_are_told_with_their_places() {
    let report = read("on: maybe\nnodes:\n  a: {weight: 11}\n  Not A Name: {weight: 1}\n  b: {wieght: 1, pause: 5}\n");
    assert_eq!(
        report.expect_err("problems"),
        "\
n.yml:1:5: on: must be true or false
n.yml:3:15: nodes.a.weight: must be a whole number from 1 to 9
n.yml:4:3: nodes.Not A Name: must match ^[a-z0-9][a-z0-9._-]{0,62}$ (lower-case letters, digits, dot, underscore and dash); write not-a-name
n.yml:5:6: nodes.b.weight: is required
n.yml:5:7: nodes.b.wieght: unknown field; did you mean weight?
n.yml:5:25: nodes.b.pause: must be a text, but 5 is a number; write \"5\" with quotes"
    );
}

#[test]
fn a_broken_rule_stands_where_its_field_does() {
    let report = read("nodes:\n  a:\n    weight: 6\n").expect_err("a problem");
    assert_eq!(report, "n.yml:3:13: nodes.a.weight: is heavy; take less");
}

#[test]
fn a_secret_is_refused() {
    let report = read(&format!("labels:\n  key: sk-{}\n", "a1B2".repeat(8))).expect_err("a problem");
    assert_eq!(
        report,
        "n.yml:2:8: labels.key: this looks like an API key (sk-…); keep secrets out of files: set them in the environment of the platform"
    );
}

#[test]
fn the_limits_of_namespaces_are_read_and_checked() {
    let text = "namespaces:\n  default:\n    per_day: {usd: 5}\n    on_limit: ask\n    queue: {concurrency: 2, rate: {starts: 9, per: 1m}}\n";
    let limits = PlatformLimits::parse("limits.yml", text.as_bytes()).expect("sound");
    let mine = limits.of(&Namespace::default());
    assert_eq!((mine.queue.concurrency, mine.on_limit), (Some(2), OnLimit::Ask));
    assert!(PlatformLimits::parse("limits.yml", b"").expect("sound").namespaces.is_empty());
    let text = "namespaces:\n  default:\n    per_day: {usd: 0}\n    per_hour: {}\n    queue: {rate: {starts: 9, per: 8d}}\n    queu: 1\n";
    let report = PlatformLimits::parse("limits.yml", text.as_bytes()).expect_err("problems");
    assert_eq!(
        super::shown(&report),
        "\
limits.yml:3:20: namespaces.default.per_day.usd: must be more than 0
limits.yml:4:15: namespaces.default.per_hour: limits nothing; write for example usd: 5, or leave it out
limits.yml:5:36: namespaces.default.queue.rate.per: must be from 1s to 7d
limits.yml:6:5: namespaces.default.queu: unknown field; did you mean queue?"
    );
}
