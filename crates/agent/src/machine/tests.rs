//! The loop's rules on plain values, and the law that a crash after any step changes nothing.

mod people;

use std::collections::BTreeSet;

use domain::agent::LimitsSpec;
use domain::{
    AgentName, AgentSpec, Approval, Effect, FailureKind, FinishReason, Message, ModelStep, Resolution, Step, StepBody,
    TaskInput, ToolCall, ToolOutcome, ToolSpec, ToolStep, UnknownPolicy, Usage, Wait, WaitFor,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn agent() -> AgentSpec {
    serde_json::from_value(json!({ "name": "tester" })).expect("a name is all that an agent needs")
}

fn tool(name: &str, effect: Effect, on_unknown: UnknownPolicy) -> ToolSpec {
    ToolSpec {
        effect,
        on_unknown,
        ..ToolSpec::new(name, "", json!({ "type": "object" }), std::time::Duration::from_secs(1))
    }
}

fn rules_of(agent: &AgentSpec, policy: UnknownPolicy) -> Rules {
    let guarded = ToolSpec { approval: Approval::Always, ..tool("guarded", Effect::None, policy) };
    let probed = ToolSpec { probe: Some("look".to_owned()), ..tool("probed", Effect::Once, UnknownPolicy::Probe) };
    let plain = [tool("work", Effect::None, policy), tool("once", Effect::Once, policy)];
    let look = tool("look", Effect::None, policy);
    Rules::new(agent, &[&plain[..], &[guarded, probed, look]].concat())
}

fn rules() -> Rules {
    rules_of(&agent(), UnknownPolicy::Ask)
}

fn step(seq: u32, body: StepBody) -> Step {
    Step { seq, epoch: 1, at: chrono::DateTime::UNIX_EPOCH, body }
}

fn input() -> StepBody {
    StepBody::Input(TaskInput::new("do it".to_owned()))
}

fn call(id: &str, name: &str) -> ToolCall {
    ToolCall { id: id.to_owned(), name: name.to_owned(), arguments: json!({ "for": id }) }
}

fn says(text: &str, calls: Vec<ToolCall>) -> StepBody {
    StepBody::Model(ModelStep {
        model: "scripted/test".to_owned(),
        text: text.to_owned(),
        finish: if calls.is_empty() { FinishReason::Stop } else { FinishReason::ToolCalls },
        tool_calls: calls,
        usage: Usage::tokens(10, 1),
        structured: false,
        duration_ms: 0,
        reasoning: Vec::new(),
        tries: Vec::new(),
    })
}

fn did(id: &str, name: &str, outcome: ToolOutcome) -> StepBody {
    StepBody::Tool(ToolStep { call_id: id.to_owned(), tool: name.to_owned(), outcome, duration_ms: 0 })
}

fn answered(id: &str, text: &str) -> StepBody {
    did(id, "work", ToolOutcome::Ok(json!(text)))
}

fn fold(rules: &Rules, bodies: Vec<StepBody>) -> History {
    let mut steps = vec![step(0, input())];
    steps.extend(bodies.into_iter().zip(1..).map(|(body, seq)| step(seq, body)));
    History::replay(rules, Vec::new(), &steps).expect("it begins with an input")
}

fn failure_of(decision: Decision) -> FailureKind {
    match decision {
        Decision::Finish(Verdict::Failed(failure)) => failure.kind,
        other => panic!("expected a failure, not {other:?}"),
    }
}

#[test]
fn a_new_task_asks_the_model_and_its_answer_ends_it() {
    let rules = rules();
    let mut history = fold(&rules, vec![]);
    assert_eq!(history.decide(&rules, &[]), Decision::CallModel);
    assert_eq!(history.messages(), [Message::user("do it".to_owned())]);
    history.apply(&rules, 1, &says("done", vec![]));
    assert_eq!(history.decide(&rules, &[]), Decision::Finish(Verdict::Succeeded));
    assert_eq!(history.usage().total(), 11);
}

#[test]
fn the_model_sees_outcomes_in_the_order_of_its_calls() {
    let rules = rules();
    let calls = vec![call("a", "work"), call("b", "work")];
    let history = fold(&rules, vec![says("", calls), answered("b", "second"), answered("a", "first")]);
    let told: Vec<_> = history.messages()[2..].to_vec();
    assert_eq!(
        told,
        [
            Message::Tool { call_id: "a".to_owned(), text: "first".to_owned() },
            Message::Tool { call_id: "b".to_owned(), text: "second".to_owned() },
        ]
    );
    assert_eq!(history.decide(&rules, &[]), Decision::CallModel);
}

#[test]
fn only_calls_without_an_outcome_are_run_after_a_crash() {
    let rules = rules();
    let calls = vec![call("a", "work"), call("b", "work")];
    let history = fold(&rules, vec![says("", calls), answered("a", "first")]);
    let Decision::CallTools(run) = history.decide(&rules, &[]) else { panic!("a call is left") };
    assert_eq!(run.iter().map(|run| run.call.id.as_str()).collect::<Vec<_>>(), ["b"]);
    assert_eq!((run[0].answer_seq, run[0].index), (1, 1));
}

#[test]
fn a_task_parks_only_when_nothing_is_left_to_run() {
    let rules = rules();
    let calls = vec![call("a", "work"), call("b", "work")];
    let wait = Wait {
        call_id: "b".to_owned(),
        on: WaitFor::Timer { at: chrono::DateTime::UNIX_EPOCH },
        expires_at: None,
        default: None,
    };
    let mut history = fold(&rules, vec![says("", calls)]);
    assert!(matches!(history.decide(&rules, std::slice::from_ref(&wait)), Decision::CallTools(_)));
    history.apply(&rules, 2, &answered("a", "x"));
    assert_eq!(history.decide(&rules, std::slice::from_ref(&wait)), Decision::Park(vec![wait]));
}

#[test]
fn a_marked_call_without_an_outcome_is_unknown_and_follows_its_policy() {
    for (policy, expected) in
        [(UnknownPolicy::Ask, "park"), (UnknownPolicy::Retry, "run"), (UnknownPolicy::Fail, "fail")]
    {
        let rules = rules_of(&agent(), policy);
        let marked = StepBody::ToolStarted { call_id: "a".to_owned(), tool: "once".to_owned() };
        let mut history = fold(&rules, vec![says("", vec![call("a", "once")]), marked]);
        let Decision::Record(unknown) = history.decide(&rules, &[]) else { panic!("the outcome is recorded first") };
        assert_eq!(unknown, did("a", "once", ToolOutcome::Unknown));
        history.apply(&rules, 3, &unknown);
        match (history.decide(&rules, &[]), expected) {
            (Decision::Park(waits), "park") => assert!(
                matches!(&waits[0].on, WaitFor::Signal { name, .. } if name == OUTCOME_SIGNAL),
                "a person is asked"
            ),
            (Decision::CallTools(run), "run") => assert!(run[0].started, "no second mark"),
            (Decision::Finish(Verdict::Failed(failure)), "fail") => {
                assert_eq!(failure.kind, FailureKind::OutcomeUnknown);
            }
            (other, expected) => panic!("expected {expected}, not {other:?}"),
        }
    }
}

#[test]
fn a_person_may_have_an_unknown_call_made_again_or_say_what_came_of_it() {
    let rules = rules();
    let marked = StepBody::ToolStarted { call_id: "a".to_owned(), tool: "once".to_owned() };
    let unknown = did("a", "once", ToolOutcome::Unknown);
    let said =
        |value: Value| StepBody::Resolved { call_id: "a".to_owned(), by: Resolution::Signal { value, from: None } };
    let begin = vec![says("", vec![call("a", "once")]), marked, unknown];
    let again = fold(&rules, [begin.clone(), vec![said(json!(OUTCOME_RETRY))]].concat());
    let Decision::CallTools(run) = again.decide(&rules, &[]) else { panic!("it is called again") };
    assert!(!run[0].started, "with a new mark");
    let told = fold(&rules, [begin, vec![said(json!("it was paid"))]].concat());
    assert_eq!(told.decide(&rules, &[]), Decision::CallModel);
    assert!(matches!(told.messages().last(), Some(Message::Tool { text, .. }) if text == "it was paid"));
}

#[test]
fn an_answer_that_does_not_match_the_schema_is_sent_back_twice_and_no_more() {
    let mut agent = agent();
    agent.output_schema = Some(json!({ "type": "object", "required": ["total"] }));
    let rules = rules_of(&agent, UnknownPolicy::Ask);
    let mut history = fold(&rules, vec![]);
    let mut seq = 0;
    for _ in 0..MAX_REJECTIONS {
        history.apply(&rules, seq + 1, &says("{\"sum\": 1}", vec![]));
        let Decision::Record(rejected) = history.decide(&rules, &[]) else { panic!("it is sent back") };
        history.apply(&rules, seq + 2, &rejected);
        assert_eq!(history.decide(&rules, &[]), Decision::CallModel);
        assert!(
            matches!(history.messages().last(), Some(Message::User { text, .. }) if text.starts_with(llm::REPAIR_NOTE))
        );
        seq += 2;
    }
    history.apply(&rules, seq + 1, &says("no JSON at all", vec![]));
    assert_eq!(failure_of(history.decide(&rules, &[])), FailureKind::OutputInvalid);
    assert!(rules.problems("{\"total\": 3}").is_empty());
}

#[test]
fn an_empty_answer_is_no_answer() {
    let rules = rules();
    let history = fold(&rules, vec![says("  \n", vec![])]);
    assert!(matches!(history.decide(&rules, &[]), Decision::Record(StepBody::Rejected { .. })));
}

#[test]
fn the_same_call_with_the_same_result_three_times_is_a_loop() {
    let rules = rules();
    let mut bodies = Vec::new();
    for turn in 0..3 {
        let id = format!("c{turn}");
        let mut again = call(&id, "work");
        again.arguments = json!({ "url": "the same" });
        bodies.extend([says("", vec![again]), answered(&id, "nothing new")]);
    }
    let before = fold(&rules, bodies[..4].to_vec());
    assert_eq!(before.decide(&rules, &[]), Decision::CallModel);
    assert_eq!(failure_of(fold(&rules, bodies).decide(&rules, &[])), FailureKind::LoopDetected);
}

#[test]
fn the_same_call_many_times_in_one_answer_is_a_loop() {
    let rules = rules();
    let same = |n: usize| ToolCall { arguments: json!({}), ..call(&format!("c{n}"), "work") };
    let mut bodies = vec![says("", (0..16).map(same).collect())];
    bodies.extend((0..16).map(|n| answered(&format!("c{n}"), "nothing new")));
    assert_eq!(failure_of(fold(&rules, bodies).decide(&rules, &[])), FailureKind::LoopDetected);
}

#[test]
fn an_answer_with_too_many_calls_that_comes_again_and_again_is_a_loop() {
    let rules = rules();
    let answer = |turn: usize| {
        let same = |n: usize| ToolCall { arguments: json!({}), ..call(&format!("c{turn}.{n}"), "work") };
        says("", (0..50).map(same).collect())
    };
    let mut agent = agent();
    agent.limits = LimitsSpec { max_tool_calls: 100_000, ..LimitsSpec::default() };
    let rules_of_many = rules_of(&agent, UnknownPolicy::Ask);
    let decision = fold(&rules_of_many, (0..3).map(answer).collect()).decide(&rules_of_many, &[]);
    assert_eq!(failure_of(decision), FailureKind::LoopDetected);
    let history = fold(&rules, (0..2).map(answer).collect());
    assert_eq!(history.decide(&rules, &[]), Decision::CallModel, "none of them was made");
}

#[test]
fn two_calls_in_turn_are_a_loop_as_well() {
    let rules = rules();
    let mut bodies = Vec::new();
    for turn in 0..6 {
        let id = format!("c{turn}");
        let again = ToolCall { arguments: json!({ "side": turn % 2 }), ..call(&id, "work") };
        bodies.extend([says("", vec![again]), answered(&id, "your turn")]);
    }
    assert_eq!(failure_of(fold(&rules, bodies).decide(&rules, &[])), FailureKind::LoopDetected);
}

#[test]
fn polling_with_pauses_is_not_a_loop() {
    let rules = rules();
    let mut bodies = Vec::new();
    for turn in 0..6 {
        let (poll, pause) = (format!("p{turn}"), format!("w{turn}"));
        let mut again = call(&poll, "work");
        again.arguments = json!({ "url": "the same" });
        bodies.extend([says("", vec![again]), answered(&poll, "not yet")]);
        bodies.push(says("", vec![call(&pause, "wait")]));
        bodies.push(StepBody::Resolved { call_id: pause, by: Resolution::Timer });
    }
    assert_eq!(fold(&rules, bodies).decide(&rules, &[]), Decision::CallModel);
}

#[test]
fn limits_end_the_task_with_their_names() {
    let mut agent = agent();
    agent.limits = LimitsSpec { max_steps: 1, ..LimitsSpec::default() };
    let rules = rules_of(&agent, UnknownPolicy::Ask);
    let history = fold(&rules, vec![says("", vec![call("a", "work")]), answered("a", "x")]);
    assert_eq!(failure_of(history.decide(&rules, &[])), FailureKind::LimitExceeded);

    agent.limits = LimitsSpec { max_tokens: 11, ..LimitsSpec::default() };
    let rules = rules_of(&agent, UnknownPolicy::Ask);
    let history = fold(&rules, vec![says("", vec![call("a", "work")]), answered("a", "x")]);
    assert_eq!(failure_of(history.decide(&rules, &[])), FailureKind::LimitExceeded);

    agent.limits = LimitsSpec { max_tool_calls: 1, ..LimitsSpec::default() };
    let rules = rules_of(&agent, UnknownPolicy::Ask);
    let history = fold(&rules, vec![says("", vec![call("a", "work"), call("b", "work")])]);
    assert_eq!(failure_of(history.decide(&rules, &[])), FailureKind::LimitExceeded);
}

#[test]
fn too_many_parallel_calls_are_refused_as_a_whole() {
    let mut agent = agent();
    agent.limits = LimitsSpec { max_parallel_tool_calls: 2, ..LimitsSpec::default() };
    let rules = rules_of(&agent, UnknownPolicy::Ask);
    let calls = (0..3).map(|n| call(&format!("c{n}"), "work")).collect();
    let history = fold(&rules, vec![says("", calls)]);
    assert_eq!(history.decide(&rules, &[]), Decision::CallModel);
    assert_eq!(history.messages().iter().filter(|said| matches!(said, Message::Tool { .. })).count(), 3);
}

#[test]
fn a_retry_starts_anew_or_takes_the_last_answer_back() {
    let rules = rules();
    let before = vec![says("", vec![call("a", "work")]), answered("a", "x"), says(" ", vec![])];
    let anew = fold(&rules, [before.clone(), vec![StepBody::Retried { keep_journal: false }]].concat());
    assert_eq!(anew.messages().len(), 1);
    assert_eq!(anew.decide(&rules, &[]), Decision::CallModel);
    let kept = fold(&rules, [before, vec![StepBody::Retried { keep_journal: true }]].concat());
    assert_eq!(kept.messages().len(), 3, "request, calls, outcome");
    assert_eq!(kept.decide(&rules, &[]), Decision::CallModel);
}

/// What a model and the world would do, fixed before the run.
#[derive(Debug, Clone)]
struct Program {
    turns: Vec<Vec<Act>>,
    order: Vec<u8>,
    last: &'static str,
}

#[derive(Debug, Clone, Copy)]
enum Act {
    Answers(u8),
    Fails,
    Waits(u8),
    /// Marked before the call; a crash in between makes the outcome unknown.
    Once,
    /// As `Once`, with a tool that knows what happened.
    Probed,
    /// A person is asked first, and decides so.
    Guarded(Verdict3),
}

#[derive(Debug, Clone, Copy)]
enum Verdict3 {
    Approved,
    Edited,
    Refused,
}

struct World<'a> {
    rules: &'a Rules,
    program: &'a Program,
    crashes: &'a BTreeSet<u32>,
    journal: Vec<Step>,
    history: History,
    waiting: Vec<Wait>,
    deliveries: std::collections::BTreeMap<String, u32>,
}

impl World<'_> {
    /// Journals a step; true when the process dies right after it.
    fn push(&mut self, body: StepBody) -> bool {
        let seq = self.history.next_seq();
        self.history.apply(self.rules, seq, &body);
        self.journal.push(step(seq, body));
        if !self.crashes.contains(&seq) {
            return false;
        }
        self.history = History::replay(self.rules, Vec::new(), &self.journal).expect("it begins with an input");
        self.waiting.clear();
        true
    }

    fn shuffled<T>(&self, mut items: Vec<T>) -> Vec<T> {
        let mut out = Vec::new();
        for turn in self.program.order.iter().cycle().map(|n| usize::from(*n)) {
            if items.is_empty() {
                break;
            }
            out.push(items.remove(turn % items.len()));
        }
        out
    }

    fn act(&self, id: &str) -> Act {
        let (turn, index) = id[1..].split_once('.').expect("ids are cTURN.INDEX");
        self.program.turns[turn.parse::<usize>().expect("number")][index.parse::<usize>().expect("number")]
    }

    fn answer(&mut self) {
        let turn = self.journal.iter().filter(|step| matches!(step.body, StepBody::Model(_))).count();
        let body = match self.program.turns.get(turn) {
            Some(acts) if !acts.is_empty() => {
                let name = |act: &Act| match act {
                    Act::Once => "once",
                    Act::Probed => "probed",
                    Act::Guarded(_) => "guarded",
                    _ => "work",
                };
                let calls = acts.iter().enumerate().map(|(n, act)| call(&format!("c{turn}.{n}"), name(act))).collect();
                says("thinking", calls)
            }
            Some(_) => says("", vec![]),
            None => says(self.program.last, vec![]),
        };
        self.push(body);
    }

    fn run_calls(&mut self, calls: Vec<PendingCall>) {
        for pending in self.shuffled(calls) {
            let id = pending.call.id.clone();
            let outcome = match self.act(&id) {
                Act::Answers(n) => ToolOutcome::Ok(json!({ "n": n, "id": id })),
                Act::Fails => ToolOutcome::Error("no".to_owned()),
                Act::Waits(kind) => {
                    let on = match kind % 2 {
                        0 => WaitFor::Timer { at: chrono::DateTime::UNIX_EPOCH },
                        _ => WaitFor::Child {
                            task: domain::TaskId(uuid::Uuid::nil()),
                            agent: AgentName::new("child").expect("a name"),
                        },
                    };
                    self.waiting.push(Wait { call_id: id, on, expires_at: None, default: None });
                    continue;
                }
                Act::Guarded(_) => {
                    if let Some(reason) =
                        self.history.needs_approval(self.rules.tool("guarded").expect("it is known"), &pending)
                    {
                        let digest = approval_digest(domain::TaskId(uuid::Uuid::nil()), 1, &pending.call);
                        let (tool, arguments) = (pending.call.name, pending.call.arguments);
                        let on = WaitFor::Approval { tool, arguments, digest, reason };
                        self.waiting.push(Wait { call_id: id, on, expires_at: None, default: None });
                        continue;
                    }
                    *self.deliveries.entry(id.clone()).or_default() += 1;
                    ToolOutcome::Ok(pending.call.arguments.clone())
                }
                Act::Once | Act::Probed => {
                    let tool = pending.call.name.clone();
                    if !pending.started && self.push(StepBody::ToolStarted { call_id: id.clone(), tool }) {
                        return;
                    }
                    *self.deliveries.entry(id.clone()).or_default() += 1;
                    ToolOutcome::Ok(json!("sent"))
                }
            };
            if self.push(did(&id, &pending.call.name, outcome)) {
                return;
            }
        }
    }

    fn park(&mut self, waits: Vec<Wait>) {
        self.push(StepBody::Parked { waits: waits.clone() });
        self.waiting.clear();
        for wait in self.shuffled(waits) {
            let by = match &wait.on {
                WaitFor::Timer { .. } => Resolution::Timer,
                WaitFor::Approval { digest, .. } => {
                    let Act::Guarded(decision) = self.act(&wait.call_id) else { panic!("only guarded calls ask") };
                    let mut value = json!({ "approved": true, "digest": digest });
                    match decision {
                        Verdict3::Approved => {}
                        Verdict3::Edited => value["arguments"] = json!({ "for": "edited" }),
                        Verdict3::Refused => value["approved"] = json!(false),
                    }
                    Resolution::Signal { value, from: Some("ann".to_owned()) }
                }
                _ => Resolution::Signal { value: json!("so be it"), from: None },
            };
            self.push(StepBody::Resolved { call_id: wait.call_id, by });
        }
    }
}

fn live(program: &Program, crashes: &BTreeSet<u32>) -> (Vec<Step>, Vec<Message>, Verdict, Vec<u32>) {
    let rules = rules();
    let journal = vec![step(0, input())];
    let history = History::replay(&rules, Vec::new(), &journal).expect("it begins with an input");
    let mut world = World {
        rules: &rules,
        program,
        crashes,
        journal,
        history,
        waiting: Vec::new(),
        deliveries: std::collections::BTreeMap::new(),
    };
    for _ in 0..10_000 {
        match world.history.decide(&rules, &world.waiting) {
            Decision::CallModel => world.answer(),
            Decision::CallTools(calls) => world.run_calls(calls),
            Decision::Record(body) => {
                world.push(body);
            }
            Decision::Probe { call, probe } => {
                let happened = Some(world.deliveries.contains_key(&call.call.id));
                let value = json!({ "happened": happened });
                world.push(StepBody::Probed { call_id: call.call.id, tool: probe, happened, value });
            }
            Decision::Park(waits) => world.park(waits),
            Decision::Finish(verdict) => {
                let messages = world.history.messages().to_vec();
                return (world.journal, messages, verdict, world.deliveries.into_values().collect());
            }
        }
    }
    panic!("the run does not end: {:?}", world.journal);
}

fn programs(with_once: bool) -> impl Strategy<Value = Program> {
    let act = prop_oneof![
        4 => any::<u8>().prop_map(Act::Answers),
        1 => Just(Act::Fails),
        2 => any::<u8>().prop_map(Act::Waits),
        1 => prop_oneof![Just(Verdict3::Approved), Just(Verdict3::Edited), Just(Verdict3::Refused)].prop_map(Act::Guarded),
        if with_once { 4 } else { 0 } => Just(Act::Once),
        if with_once { 4 } else { 0 } => Just(Act::Probed),
    ];
    let turns = prop::collection::vec(prop::collection::vec(act, 0..4), 0..6);
    let last = prop_oneof![4 => Just("the answer"), 1 => Just("")];
    (turns, prop::collection::vec(any::<u8>(), 1..8), last).prop_map(|(turns, order, last)| Program {
        turns,
        order,
        last,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_crash_after_any_steps_changes_nothing(
        program in programs(false),
        crashes in prop::collection::btree_set(0_u32..40, 0..12),
    ) {
        let (journal, messages, verdict, _) = live(&program, &BTreeSet::new());
        let (crashed_journal, crashed_messages, crashed_verdict, _) = live(&program, &crashes);
        prop_assert_eq!(messages, crashed_messages);
        prop_assert_eq!(verdict, crashed_verdict);
        // Parallel calls may finish in another order after a crash; each has the same one outcome.
        let sorted = |journal: &[Step]| {
            let mut bodies: Vec<String> = journal.iter()
                .filter(|step| matches!(step.body, StepBody::Tool(_) | StepBody::Model(_) | StepBody::Resolved { .. }))
                .map(|step| serde_json::to_string(&step.body).expect("steps are JSON"))
                .collect();
            bodies.sort();
            bodies
        };
        prop_assert_eq!(sorted(&journal), sorted(&crashed_journal));
    }

    #[test]
    fn a_once_call_is_never_delivered_twice(
        program in programs(true),
        crashes in prop::collection::btree_set(0_u32..60, 0..20),
    ) {
        let (journal, _, _, deliveries) = live(&program, &crashes);
        prop_assert!(deliveries.iter().all(|count| *count <= 1));
        let seqs: Vec<u32> = journal.iter().map(|step| step.seq).collect();
        prop_assert_eq!(seqs, (0..journal.len() as u32).collect::<Vec<_>>());
    }

    #[test]
    fn a_call_that_a_person_must_allow_is_never_made_without(
        program in programs(true),
        crashes in prop::collection::btree_set(0_u32..60, 0..20),
    ) {
        let (journal, ..) = live(&program, &crashes);
        let mut allowed = BTreeSet::new();
        for step in &journal {
            match &step.body {
                StepBody::Resolved { call_id, by: Resolution::Signal { value, .. } } if value["approved"] == true => {
                    allowed.insert(call_id.clone());
                }
                StepBody::Tool(done) if done.tool == "guarded" => prop_assert!(allowed.contains(&done.call_id)),
                _ => {}
            }
        }
    }

    #[test]
    fn any_beginning_of_a_journal_leads_to_a_decision(program in programs(true), crashes in prop::collection::btree_set(0_u32..60, 0..8)) {
        let rules = rules();
        let (journal, ..) = live(&program, &crashes);
        for length in 1..=journal.len() {
            let begun = History::replay(&rules, Vec::new(), &journal[..length]).expect("it begins with an input");
            let again = History::replay(&rules, Vec::new(), &journal[..length]).expect("it begins with an input");
            prop_assert_eq!(begun.decide(&rules, &[]), again.decide(&rules, &[]));
            prop_assert_eq!(begun.messages(), again.messages());
        }
    }

    #[test]
    fn folding_step_by_step_equals_folding_at_once(program in programs(true)) {
        let rules = rules();
        let (journal, messages, ..) = live(&program, &BTreeSet::new());
        let whole = History::replay(&rules, Vec::new(), &journal).expect("it begins with an input");
        prop_assert_eq!(whole.messages(), &messages[..]);
        prop_assert_eq!(whole.next_seq() as usize, journal.len());
    }
}
