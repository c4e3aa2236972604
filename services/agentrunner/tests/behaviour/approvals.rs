//! Calls that wait for a person: made once, as the person saw or edited them, or not at all.

use serde_json::{Value, json};
use testkit::effect_sink::EffectSink;

use crate::house::{House, Plan};

const PAYER: &str = "name: payer
model: scripted/payer
tools:
  - {name: http_request, allow: [\"SINK\"], effect: once, on_unknown: fail, approval: always}
";
const TWICE: &str = "name: twice
model: scripted/twice
tools:
  - {name: http_request, allow: [\"SINK\"], approval: always}
";
const PAYS: &str = "turns:
  - tool_calls:
      - {name: http_request, arguments: {method: POST, url: \"http://SINK/model\", body: \"100 dollars\"}}
  - text: \"I was told: {{last_tool_result}}\"
";
const PAYS_TWICE: &str = "turns:
  - tool_calls:
      - {name: http_request, arguments: {method: POST, url: \"http://SINK/one\"}}
      - {name: http_request, arguments: {method: POST, url: \"http://SINK/two\"}}
  - text: Done.
";

struct Office {
    house: House,
    sink: EffectSink,
}

/// A question as the task shows it.
struct Question {
    task: String,
    call: String,
    digest: String,
    arguments: Value,
}

impl Office {
    async fn open() -> Self {
        let sink = EffectSink::start(None).await.expect("the sink starts");
        let house = House::new(Plan {
            agents: &[("payer", PAYER), ("twice", TWICE)],
            dialogues: &[("payer", PAYS), ("twice", PAYS_TWICE)],
            sink: Some(sink.address().to_string()),
            ..Plan::default()
        })
        .await;
        Self { house, sink }
    }

    /// Has an agent work until a person must decide.
    async fn asked(&self, agent: &str) -> Vec<Question> {
        let id = self.house.ask(agent, "pay").await;
        self.questions(&id).await
    }

    async fn questions(&self, id: &str) -> Vec<Question> {
        let view = self.house.until_status(id, "waiting").await;
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let waits = view["waiting_for"].as_array().expect("waits");
        let question = |wait: &Value| {
            assert_eq!(wait["kind"], "approval", "{view}");
            let (call, digest) = (text(&wait["call_id"]), text(&wait["digest"]));
            Question { task: id.to_owned(), call, digest, arguments: wait["arguments"].clone() }
        };
        waits.iter().map(question).collect()
    }

    async fn decide(&self, question: &Question, body: Value) -> (u16, Value) {
        self.house.post(&format!("/tasks/{}/approvals/{}", question.task, question.call), &body).await
    }

    /// What the journal says that people decided: who, and what.
    async fn decisions(&self, id: &str) -> Vec<(Value, Value)> {
        let journal = self.house.journal(id).await;
        let resolved = journal.into_iter().filter(|step| step["type"] == "resolved" && step["by"]["kind"] == "signal");
        resolved.map(|step| (step["by"]["from"].clone(), step["by"]["value"].clone())).collect()
    }

    fn delivered(&self) -> Vec<String> {
        self.sink.deliveries().into_iter().map(|delivery| delivery.path).collect()
    }
}

fn approve(question: &Question, by: &str) -> Value {
    json!({ "decision": "approve", "digest": question.digest, "by": by })
}

fn deny(question: &Question, by: &str, reason: &str) -> Value {
    json!({ "decision": "deny", "digest": question.digest, "by": by, "reason": reason })
}

fn assert_refused(answer: &(u16, Value), status: u16, slug: &str) {
    assert_eq!((answer.0, &answer.1["type"]), (status, &json!(format!("/errors/{slug}"))), "{}", answer.1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_approved_call_is_made_once_also_over_a_crash_while_it_waits() {
    let mut office = Office::open().await;
    let asked = office.asked("payer").await.remove(0);
    assert_eq!(asked.arguments["body"], "100 dollars");
    let (_, open) = office.house.get("agent-orchestrator", "/approvals").await;
    assert_eq!((open["items"].as_array().map(Vec::len), &open["items"][0]["digest"]), (Some(1), &json!(asked.digest)));
    office.house.kill().await;
    office.house.start().await;
    let again = office.questions(&asked.task).await.remove(0);
    assert_eq!((&again.call, &again.digest), (&asked.call, &asked.digest), "the same question");
    assert!(office.delivered().is_empty(), "nothing is done before a person allows it");

    let (status, view) = office.decide(&again, approve(&again, "kim")).await;
    assert_eq!((status, &view["status"], &view["by"]), (200, &json!("approved"), &json!("kim")), "{view}");
    let task = office.house.ended(&asked.task).await;
    assert_eq!(task["status"], "succeeded", "{task}");
    assert_eq!(office.delivered(), ["/model"]);
    let decisions = office.decisions(&asked.task).await;
    assert_eq!((decisions.len(), &decisions[0].0, &decisions[0].1["approved"]), (1, &json!("kim"), &json!(true)));
    let (_, none) = office.house.get("agent-orchestrator", "/approvals").await;
    assert_eq!(none["items"], json!([]));
    office.house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_denied_call_is_not_made_and_the_model_is_told_why() {
    let office = Office::open().await;
    let asked = office.asked("payer").await.remove(0);
    let (status, view) = office.decide(&asked, deny(&asked, "alex", "too dear for us")).await;
    assert_eq!((status, &view["status"], &view["decision_reason"]), (200, &json!("denied"), &json!("too dear for us")));
    let task = office.house.ended(&asked.task).await;
    assert_eq!(task["status"], "succeeded", "{task}");
    assert!(task["output"].as_str().is_some_and(|said| said.contains("too dear for us")), "{task}");
    assert!(office.delivered().is_empty());
    office.house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edited_call_is_made_as_the_person_wrote_it() {
    let office = Office::open().await;
    let asked = office.asked("payer").await.remove(0);
    let url = asked.arguments["url"].as_str().expect("a URL").replace("/model", "/person");
    let edited = json!({ "method": "POST", "url": url, "body": "5 dollars" });
    let mut body = approve(&asked, "kim");
    body["arguments"] = edited.clone();
    let (status, view) = office.decide(&asked, body).await;
    assert_eq!((status, &view["edited_arguments"]), (200, &edited), "{view}");
    assert_eq!(office.house.ended(&asked.task).await["status"], "succeeded");
    let delivered = office.sink.deliveries();
    let [delivery] = &delivered[..] else { panic!("one delivery: {delivered:?}") };
    assert_eq!((delivery.path.as_str(), delivery.method.as_str()), ("/person", "POST"));
    assert_eq!(office.decisions(&asked.task).await[0].1["arguments"], edited, "the journal has what was allowed");

    // An edit goes no further than the agent may.
    let asked = office.asked("payer").await.remove(0);
    let mut body = approve(&asked, "kim");
    body["arguments"] = json!({ "method": "POST", "url": "http://169.254.169.254/latest", "body": "x" });
    assert_eq!(office.decide(&asked, body).await.0, 200);
    assert_eq!(office.house.ended(&asked.task).await["status"], "succeeded");
    assert_eq!(office.delivered().len(), 1, "the edited call was refused, and the model's was not made instead");
    office.house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_decision_about_something_else_than_what_waits_is_refused() {
    let office = Office::open().await;
    let asked = office.asked("twice").await;
    let [one, two] = &asked[..] else { panic!("two questions") };
    assert_ne!(one.digest, two.digest);
    let swapped = office.decide(one, approve(two, "kim")).await;
    assert_refused(&swapped, 409, "approval-mismatch");
    let stale = json!({ "decision": "approve", "digest": "00", "by": "kim" });
    assert_refused(&office.decide(two, stale).await, 409, "approval-mismatch");
    let nowhere =
        Question { task: one.task.clone(), call: "call-9-9".into(), digest: "0".into(), arguments: json!({}) };
    assert_refused(&office.decide(&nowhere, approve(one, "kim")).await, 404, "unknown-approval");
    assert!(office.decisions(&one.task).await.is_empty(), "nothing was decided");

    // Of two calls one may be allowed and the other not; none is made before both are decided.
    assert_eq!(office.decide(two, approve(two, "kim")).await.0, 200);
    assert_eq!(office.house.task(&one.task).await["status"], "waiting");
    assert!(office.delivered().is_empty());
    assert_eq!(office.decide(one, deny(one, "kim", "no")).await.0, 200);
    assert_eq!(office.house.ended(&one.task).await["status"], "succeeded");
    assert_eq!(office.delivered(), ["/two"]);
    office.house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_people_who_decide_at_once_one_is_heard_and_the_other_is_told_who_was_first() {
    let office = Office::open().await;
    for _ in 0..5 {
        let before = office.delivered().len();
        let asked = office.asked("payer").await.remove(0);
        let (yes, no) = tokio::join!(
            office.decide(&asked, approve(&asked, "kim")),
            office.decide(&asked, deny(&asked, "alex", "no")),
        );
        assert_eq!(office.house.ended(&asked.task).await["status"], "succeeded");
        let (winner, word, loser) = if yes.0 == 200 { ("kim", "approved", &no) } else { ("alex", "denied", &yes) };
        assert_eq!([yes.0, no.0].iter().filter(|status| **status == 200).count(), 1, "{yes:?} {no:?}");
        assert_refused(loser, 409, "already-decided");
        let decisions = office.decisions(&asked.task).await;
        assert_eq!((decisions.len(), &decisions[0].0), (1, &json!(winner)), "one decision is journaled");
        assert_eq!(office.delivered().len() - before, usize::from(winner == "kim"), "what was decided was done");

        // Who comes later is told who decided, and when; who says the same again is right.
        let late = office.decide(&asked, approve(&asked, "robin")).await;
        assert_refused(&late, 409, "already-decided");
        let detail = late.1["detail"].as_str().unwrap_or_default();
        assert!(detail.contains(&format!("{word} by {winner} at 20")), "{detail}");
        let same = if winner == "kim" { approve(&asked, "kim") } else { deny(&asked, "alex", "no") };
        assert_eq!(office.decide(&asked, same).await.0, 200);
        assert_eq!(office.decisions(&asked.task).await.len(), 1);
    }
    office.house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_decides_nothing() {
    let office = Office::open().await;
    let asked = office.asked("payer").await.remove(0);
    let yes = json!({ "approved": true, "digest": asked.digest });
    let path = format!("/tasks/{}/signal", asked.task);
    for name in [format!("approval/{}", asked.call), "approval/".to_owned(), format!("budget/{}", asked.call)] {
        let answer = office.house.post(&path, &json!({ "name": name, "value": yes, "from": "kim" })).await;
        assert_refused(&answer, 400, "reserved-signal");
    }
    let other = office.house.post(&path, &json!({ "name": asked.call, "value": yes })).await;
    assert_eq!(other.0, 202, "{}", other.1);
    assert_eq!(office.house.task(&asked.task).await["status"], "waiting");
    assert!(office.delivered().is_empty() && office.decisions(&asked.task).await.is_empty());
    office.house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_is_cancelled_while_it_waits_makes_no_call() {
    let office = Office::open().await;
    let asked = office.asked("payer").await.remove(0);
    let (status, answer) = office.house.post(&format!("/tasks/{}/cancel", asked.task), &Value::Null).await;
    assert_eq!(status, 202, "{answer}");
    assert_eq!(office.house.ended(&asked.task).await["status"], "cancelled");
    assert_refused(&office.decide(&asked, approve(&asked, "kim")).await, 409, "task-ended");
    let (_, shown) = office.house.get("agent-orchestrator", &format!("/tasks/{}/approvals", asked.task)).await;
    assert_eq!(shown[0]["status"], "void", "{shown}");
    assert!(office.delivered().is_empty());
    office.house.stop().await;
}
