//! Event streams: readers that come late, leave after every word, or survive the platform.

use std::collections::{BTreeMap, BTreeSet};

use futures::StreamExt;
use futures::future::join_all;
use serde_json::{Value, json};
use testkit::fake_openai::{FakeOpenAi, Reply};

use crate::gate::Gate;
use crate::house::{House, PATIENCE, Plan};

const TEXT: &str =
    "Alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho sigma tau upsilon";

async fn house(model: &Gate) -> House {
    House::new(Plan {
        agents: &[("speaker", "name: speaker\nmodel: {name: openai/held, idle_timeout: 5m}\n")],
        openai: Some(model.base_url()),
        settings: &[("AGENT_LEASE", "1s"), ("AGENT_RENEW_INTERVAL", "200ms")],
        ..Plan::default()
    })
    .await
}

/// One server-sent event.
#[derive(Debug, Clone)]
struct Event {
    name: String,
    id: Option<String>,
    data: Value,
}

fn parse(block: &str) -> Option<Event> {
    let field =
        |name: &str| block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ").map(str::to_owned));
    let data = serde_json::from_str(&field("data")?).expect("JSON");
    Some(Event { name: field("event")?, id: field("id"), data })
}

/// A reader of one task, which remembers where it was.
#[derive(Default)]
struct Reader {
    last: Option<String>,
    seen: Vec<Event>,
}

impl Reader {
    /// Connects and reads until `enough`, or to the end.
    async fn read(&mut self, house: &House, task: &str, enough: impl Fn(&Event) -> bool) {
        let mut request = house.http.get(house.tasks_url(&format!("/tasks/{task}/events"))).timeout(PATIENCE * 2);
        if let Some(last) = &self.last {
            request = request.header("last-event-id", last);
        }
        let response = request.send().await.expect("a stream");
        assert_eq!(response.status(), 200);
        let mut bytes = response.bytes_stream();
        let mut buffer = String::new();
        let read = async {
            while let Some(Ok(piece)) = bytes.next().await {
                buffer += std::str::from_utf8(&piece).expect("text");
                while let Some(end) = buffer.find("\n\n") {
                    let block: String = buffer.drain(..end + 2).collect();
                    let Some(event) = parse(&block) else { continue };
                    self.last = event.id.clone().or(self.last.take());
                    self.seen.push(event.clone());
                    if enough(&event) {
                        return;
                    }
                }
            }
        };
        tokio::time::timeout(PATIENCE, read).await.expect("the stream goes on");
    }

    fn is_at_the_end(&self) -> bool {
        self.seen.last().is_some_and(|event| event.name == "task.finished")
    }

    fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Event> + 'a {
        self.seen.iter().filter(move |event| event.name == name)
    }

    fn deltas(&self) -> usize {
        self.named("task.delta").count()
    }

    /// What the reader was told obeys the rules, and agrees with the journal.
    fn check(&self, journal: &[Value]) {
        let ids: Vec<_> = self.seen.iter().filter_map(|event| event.id.as_deref()).collect();
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "an event came twice: {ids:?}");
        let steps: Vec<_> = self.named("task.step").map(|event| event.data.clone()).collect();
        assert_eq!(steps, journal, "every step once, in order, as in the journal");
        let mut spoken: BTreeMap<u64, String> = BTreeMap::new();
        let mut heard: BTreeMap<u64, (u64, u64, u64)> = BTreeMap::new();
        for event in &self.seen {
            let number = |field: &str| event.data[field].as_u64().expect("a number");
            match event.name.as_str() {
                "task.delta" => {
                    let (seq, call) = (number("seq"), (number("epoch"), number("call")));
                    let (epoch, call_number, n) = heard.get(&seq).copied().unwrap_or((call.0, call.1, 0));
                    assert_eq!((epoch, call_number), call, "another call is announced by a restart");
                    assert_eq!(number("n"), n + 1, "no gap and no double");
                    heard.insert(seq, (call.0, call.1, n + 1));
                    *spoken.entry(seq).or_default() += event.data["text"].as_str().expect("a text");
                }
                "task.restart" => {
                    spoken.remove(&number("seq"));
                    heard.insert(number("seq"), (number("epoch"), number("call"), 0));
                }
                "task.step" => {
                    // A step that is no answer makes void what was spoken under its number.
                    let Some(text) = event.data["text"].as_str() else { continue };
                    let spoken = spoken.get(&number("seq")).map_or("", String::as_str);
                    assert!(text.starts_with(spoken), "{spoken:?} is not how {text:?} begins");
                }
                _ => {}
            }
        }
    }
}

fn pieces() -> usize {
    TEXT.split_inclusive(' ').count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_leaves_after_every_event_sees_everything_once() {
    let model = Gate::model(TEXT).await;
    let house = house(&model).await;
    let task = house.ask("speaker", "speak").await;
    let mut reader = Reader::default();
    while reader.deltas() < pieces() {
        reader.read(&house, &task, |event| event.id.is_some()).await;
    }
    let spoken: String = reader.named("task.delta").filter_map(|event| event.data["text"].as_str()).collect();
    assert_eq!(spoken, TEXT);
    model.open();
    while !reader.is_at_the_end() {
        reader.read(&house, &task, |event| event.id.is_some()).await;
    }
    reader.check(&house.journal(&task).await);
    assert_eq!(house.task(&task).await["output"], TEXT);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_reader_begins_with_the_first_word() {
    let model = Gate::model(TEXT).await;
    let house = house(&model).await;
    let task = house.ask("speaker", "speak").await;
    let mut first = Reader::default();
    let all = pieces();
    first.read(&house, &task, |event| event.data["n"].as_u64() == Some(all as u64)).await;
    // Everything was said before this one came.
    let mut late = Reader::default();
    late.read(&house, &task, |event| event.data["n"].as_u64() == Some(all as u64)).await;
    assert_eq!(late.deltas(), all);
    model.open();
    for reader in [&mut first, &mut late] {
        reader.read(&house, &task, |_| false).await;
        assert!(reader.is_at_the_end());
        reader.check(&house.journal(&task).await);
    }
    let mut last = Reader::default();
    last.read(&house, &task, |_| false).await;
    assert_eq!(last.deltas(), 0, "the journal replaces the pieces");
    last.check(&house.journal(&task).await);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_survives_a_killed_platform_is_told_that_the_step_begins_anew() {
    let model = Gate::model(TEXT).await;
    let mut house = house(&model).await;
    let task = house.ask("speaker", "speak").await;
    let mut reader = Reader::default();
    reader.read(&house, &task, |event| event.data["n"].as_u64() == Some(5)).await;
    // A claim is durable a few milliseconds after it is answered (docs/adr/0003); the model may be faster.
    house.until_status(&task, "running").await;
    let mut other = Reader { last: reader.last.clone(), seen: reader.seen.clone() };
    house.kill().await;
    house.start().await;
    let all = pieces() as u64;
    reader.read(&house, &task, |event| event.data["n"].as_u64() == Some(all)).await;
    // What was spoken before is void: either the step is announced anew, or another one has taken its number.
    let void = |event: &Event| event.name == "task.restart" || event.name == "task.step" && event.data["seq"] == 1;
    assert!(reader.seen.iter().any(void), "{:?}", reader.seen);
    model.open();
    reader.read(&house, &task, |_| false).await;
    assert!(reader.is_at_the_end());
    let journal = house.journal(&task).await;
    reader.check(&journal);
    // One that comes back only now gets the finished step.
    other.read(&house, &task, |_| false).await;
    assert!(other.is_at_the_end() && other.deltas() == 5, "{:?}", other.seen);
    other.check(&journal);
    assert_eq!(house.task(&task).await["output"], TEXT);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_breaks_off_and_begins_anew_is_announced() {
    let model = FakeOpenAi::start().await;
    model.push(Reply::text(TEXT).broken_at(1_500));
    model.push(Reply::text(TEXT));
    let house = House::new(Plan {
        agents: &[("speaker", "name: speaker\nmodel: openai/fake-large\n")],
        openai: Some(model.base_url()),
        ..Plan::default()
    })
    .await;
    // The reader is there before the first word.
    let task = house.submit(&json!({ "agent": "speaker", "prompt": "speak", "delay": "2s" })).await;
    let mut reader = Reader::default();
    reader.read(&house, &task, |_| false).await;
    assert_eq!(reader.named("task.restart").count(), 1, "{:?}", reader.seen);
    assert!(reader.is_at_the_end());
    reader.check(&house.journal(&task).await);
    let last: String = reader
        .named("task.delta")
        .skip_while(|event| event.data["call"] == 1)
        .filter_map(|event| event.data["text"].as_str())
        .collect();
    assert_eq!(last, TEXT);
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_readers_at_once_all_see_the_same() {
    let model = Gate::model(TEXT).await;
    let house = house(&model).await;
    let mut tasks = Vec::new();
    for n in 0..20 {
        tasks.push(house.ask("speaker", &format!("speak {n}")).await);
    }
    let all = pieces() as u64;
    let read = tasks.iter().cycle().take(200).map(|task| {
        let house = &house;
        async move {
            let mut reader = Reader::default();
            reader.read(house, task, |event| event.data["n"].as_u64() == Some(all)).await;
            (task, reader)
        }
    });
    let mut readers = join_all(read).await;
    assert!(readers.iter().all(|(_, reader)| reader.deltas() == all as usize));
    model.open();
    join_all(readers.iter_mut().map(|(task, reader)| reader.read(&house, task, |_| false))).await;
    for (task, reader) in &readers {
        assert!(reader.is_at_the_end(), "{:?}", reader.seen.last());
        reader.check(&house.journal(task).await);
    }
    house.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_streams_than_allowed_are_refused_with_the_time_to_come_back() {
    let model = Gate::model(TEXT).await;
    let house = House::new(Plan {
        agents: &[("speaker", "name: speaker\nmodel: openai/held\n")],
        openai: Some(model.base_url()),
        settings: &[("ORCHESTRATOR_MAX_STREAMS", "2")],
        ..Plan::default()
    })
    .await;
    let task = house.ask("speaker", "speak").await;
    let url = house.tasks_url(&format!("/tasks/{task}/events"));
    let open = [house.http.get(&url).send().await.expect("one"), house.http.get(&url).send().await.expect("two")];
    let refused = house.http.get(&url).send().await.expect("three");
    assert!(refused.headers().contains_key("retry-after"));
    assert_eq!(refused.status(), 429);
    drop(open);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while house.http.get(&url).send().await.expect("again").status() != 200 {
        assert!(tokio::time::Instant::now() < deadline, "the places of readers who left are free again");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    model.open();
    assert_eq!(house.ended(&task).await["status"], "succeeded");
    house.stop().await;
}
