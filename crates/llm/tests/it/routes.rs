//! Which model a name stands for, which node is asked, and what is tried again.

use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::Duration;

use domain::{FailureKind, Usage, Usd};
use llm::{LlmError, ModelTerms, Models, NodeHealth, NodeSettings, Price, Target};
use tokio::time::Instant;

use crate::nodes::{Act, Node, ask, catalogue, limited, request, unavailable, until};

fn server() -> NodeSettings {
    NodeSettings::server()
}

#[test]
fn a_name_is_default_a_route_or_a_model() {
    let (a, b) = (Node::answers(), Node::answers());
    let mut all = catalogue(&[("a", &a, server()), ("b", &b, server())]);
    all.add_route("smart", vec![Target::one("b/m"), Target::one("gone/m"), Target::one("a/other")]);
    all.lack("gone", "GONE_API_KEY is not set");
    all.set_default("smart");
    let models = Models::new(all);
    let names = |name: &str| -> Vec<String> {
        let route = models.route(name).unwrap();
        route.candidates.into_iter().map(|candidate| candidate.name).collect()
    };
    assert_eq!(names("smart"), ["b/m", "a/other"], "what has no key is passed over");
    assert_eq!(models.route("default").unwrap().name, "smart");
    assert_eq!(names("pool"), ["pool/m"], "nodes are one candidate");
    assert_eq!(names("pool/m"), ["pool/m"], "which is found by the name that journals have");
    assert_eq!(names("a/anything"), ["a/anything"]);
    for (name, told) in [
        ("gone/m", "GONE_API_KEY is not set"),
        ("nowhere/m", "known providers are: a, b; known routes are: pool, smart"),
        ("samrt", "known routes"),
        ("a/", "known providers"),
        ("", "known providers"),
    ] {
        let error = models.route(name).err().unwrap().to_string();
        assert!(error.contains(told), "{name}: {error}");
    }
    assert!(Models::default().route("default").err().unwrap().to_string().contains("agentrunner doctor"));
}

#[test]
fn a_route_without_any_usable_model_says_what_each_lacks() {
    let mut all = catalogue(&[]);
    all.add_route("smart", vec![Target::one("x/m"), Target::one("y/m")]);
    all.lack("x", "X_KEY is not set");
    assert!(!all.is_usable("smart"));
    let error = Models::new(all).route("smart").err().unwrap().to_string();
    assert!(error.contains("X_KEY is not set") && error.contains("there is no provider y"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn the_least_busy_node_is_asked() {
    let (a, b, c) = (Node::new(|_| Act::Waits), Node::new(|_| Act::Waits), Node::new(|_| Act::Waits));
    let models = Models::new(catalogue(&[("a", &a, server()), ("b", &b, server()), ("c", &c, server())]));
    let spread = |sum: u32| move |nodes: [u32; 3]| nodes.iter().sum::<u32>() == sum;
    let active = || [&a, &b, &c].map(|node| node.active.load(Ordering::SeqCst));
    let mut calls = Vec::new();
    for n in 1..=9 {
        let models = models.clone();
        calls.push(tokio::spawn(async move { ask(&models, "pool").await }));
        until("the call is under way", || spread(n)(active())).await;
        let busy = active();
        assert!(busy.iter().max().unwrap() - busy.iter().min().unwrap() <= 1, "uneven: {busy:?}");
    }
    assert_eq!(active(), [3, 3, 3]);
    // One that is done sooner gets more.
    b.go.add_permits(3);
    until("b is done", || b.active.load(Ordering::SeqCst) == 0).await;
    for _ in 0..3 {
        let models = models.clone();
        calls.push(tokio::spawn(async move { ask(&models, "pool").await }));
    }
    until("three more are under way", || spread(9)(active())).await;
    assert_eq!(active(), [3, 3, 3]);
    for node in [&a, &b, &c] {
        node.go.add_permits(9);
    }
    for call in calls {
        call.await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn another_node_is_tried_at_once_when_one_fails() {
    let (a, b) = (Node::new(|_| Act::Fails(unavailable())), Node::answers());
    let models = Models::new(catalogue(&[("a", &a, server()), ("b", &b, server())]));
    let begun = Instant::now();
    for _ in 0..20 {
        ask(&models, "pool").await.unwrap();
    }
    assert_eq!(b.count(), 20);
    assert!(a.count() <= 5, "it is left alone after five failures: {}", a.count());
    assert_eq!(begun.elapsed(), Duration::ZERO, "nobody waits when there is another node");
}

#[tokio::test(start_paused = true)]
async fn a_single_server_is_asked_again_after_a_growing_pause() {
    let a = Node::new(|call| if call < 3 { Act::Fails(unavailable()) } else { Act::Answers(Usage::tokens(1, 1)) });
    let models = Models::new(catalogue(&[("a", &a, server())]));
    ask(&models, "a/m").await.unwrap();
    assert_eq!(a.count(), 4);

    let a = Node::new(|_| Act::Fails(unavailable()));
    let models = Models::new(catalogue(&[("a", &a, server())]));
    let error = ask(&models, "a/m").await.unwrap_err();
    assert_eq!(error.kind(), FailureKind::ModelUnavailable);
    assert_eq!(a.count(), 4, "once, and three times more");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_repeated_after_a_word_or_when_it_may_have_been_billed() {
    let timeout = LlmError::Timeout { model: "a/m".to_owned(), millis: 5 };
    let invalid = LlmError::Invalid { model: "a/m".to_owned(), reason: "it is a web page".to_owned() };
    let refused = LlmError::Refused { model: "a/m".to_owned(), reason: "HTTP 401".to_owned() };
    let long = LlmError::ContextTooLong { model: "a/m".to_owned() };
    let mut acts: Vec<Act> = [timeout, invalid, refused, long].into_iter().map(Act::Fails).collect();
    acts.push(Act::SpeaksAndFails(unavailable()));
    for act in acts {
        let a = Node::new(move |_| act.clone());
        let b = Node::answers();
        let models = Models::new(catalogue(&[("a", &a, server()), ("b", &b, server())]));
        let outcome = ask(&models, "a/m").await;
        assert!(outcome.is_err());
        assert_eq!((a.count(), b.count()), (1, 0), "{outcome:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn silence_of_a_free_node_is_no_reason_not_to_ask_another() {
    let timeout = LlmError::Timeout { model: "a/m".to_owned(), millis: 5 };
    let (a, b) = (Node::new(move |_| Act::Fails(timeout.clone())), Node::answers());
    let mut all = catalogue(&[("a", &a, server()), ("b", &b, server())]);
    for name in ["a/*", "b/*"] {
        all.describe(name, ModelTerms { price: Some(Price::FREE), ..ModelTerms::default() });
    }
    let models = Models::new(all);
    for _ in 0..10 {
        ask(&models, "pool").await.unwrap();
    }
    assert_eq!(b.count(), 10);
}

#[tokio::test(start_paused = true)]
async fn what_one_node_refuses_another_may_allow_and_what_all_refuse_is_refused_once_by_each() {
    let refused = LlmError::Refused { model: "a/m".to_owned(), reason: "HTTP 401".to_owned() };
    let script = move |_| Act::Fails(refused.clone());
    let (a, b) = (Node::new(script.clone()), Node::answers());
    let models = Models::new(catalogue(&[("a", &a, server()), ("b", &b, server())]));
    for _ in 0..20 {
        ask(&models, "pool").await.unwrap();
    }
    b.now(script);
    let before = (a.count(), b.count());
    assert_eq!(ask(&models, "pool").await.unwrap_err().kind(), FailureKind::ModelRefused);
    assert_eq!((a.count(), b.count()), (before.0 + 1, before.1 + 1));
}

#[tokio::test(start_paused = true)]
async fn no_reader_gets_a_word_twice() {
    let a = Node::new(|_| Act::SpeaksAndFails(limited(None)));
    let models = Models::new(catalogue(&[("a", &a, server())]));
    let heard = Mutex::new(Vec::new());
    let route = models.route("a/m").unwrap();
    let on_delta = |text: &str| heard.lock().unwrap().push(text.to_owned());
    route.candidates[0].chat(&request(), &on_delta).await.unwrap_err();
    assert_eq!(*heard.lock().unwrap(), ["I beg"]);
}

#[tokio::test(start_paused = true)]
async fn the_whole_stays_within_the_time_of_the_request() {
    let a = Node::new(|_| Act::Hangs);
    let models = Models::new(catalogue(&[("a", &a, server())]));
    let route = models.route("a/m").unwrap();
    let begun = Instant::now();
    let short = llm::ChatRequest { timeout: Duration::from_secs(3), ..request() };
    let error = route.candidates[0].chat(&short, &|_| {}).await.unwrap_err();
    assert_eq!(error, LlmError::Timeout { model: "a/m".to_owned(), millis: 3_000 });
    assert_eq!(begun.elapsed(), Duration::from_secs(3));

    let a = Node::new(|_| Act::Fails(unavailable()));
    let models = Models::new(catalogue(&[("a", &a, server())]));
    let route = models.route("a/m").unwrap();
    let begun = Instant::now();
    let short = llm::ChatRequest { timeout: Duration::from_millis(200), ..request() };
    route.candidates[0].chat(&short, &|_| {}).await.unwrap_err();
    assert!(begun.elapsed() <= Duration::from_millis(200), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_plain_provider_is_asked_once_and_left_as_it_is() {
    let a = Node::new(|_| Act::Fails(unavailable()));
    let models = Models::new(catalogue(&[("a", &a, NodeSettings::default())]));
    for call in 1..=20 {
        assert_eq!(ask(&models, "a/m").await.unwrap_err(), unavailable());
        assert_eq!(a.count(), call);
    }
}

#[tokio::test(start_paused = true)]
async fn models_are_replaced_while_calls_run() {
    let (old, new) = (Node::new(|_| Act::Waits), Node::answers());
    let models = Models::new(catalogue(&[("a", &old, server())]));
    let running = {
        let models = models.clone();
        tokio::spawn(async move { ask(&models, "a/m").await })
    };
    until("the old one is asked", || old.count() == 1).await;
    let mut all = catalogue(&[("a", &new, server())]);
    all.set_default("pool");
    models.set_problem(Some("was wrong".to_owned()));
    models.replace(all);
    assert_eq!(models.problem(), None, "what replaces them is right");
    ask(&models, "default").await.unwrap();
    assert_eq!((old.count(), new.count()), (1, 1), "the next call goes to the new one");
    old.go.add_permits(1);
    running.await.unwrap().unwrap();
    let status = models.status();
    let a = status.iter().find(|status| status.name == "a/m").unwrap();
    assert_eq!((a.calls, a.outstanding), (2, 0), "the figures go on");
}

#[tokio::test(start_paused = true)]
async fn nodes_that_do_not_answer_when_looked_at_are_asked_last() {
    let (a, b) = (Node::answers(), Node::answers());
    let models = Models::new(catalogue(&[("a", &a, server()), ("b", &b, server())]));
    a.lists(Some(unavailable()));
    // Who refuses to list is there.
    b.lists(Some(LlmError::Refused { model: "b/*".to_owned(), reason: "HTTP 404".to_owned() }));
    models.look().await;
    for _ in 0..10 {
        ask(&models, "pool").await.unwrap();
    }
    assert_eq!((a.count(), b.count()), (0, 10));
    let health = |name: &str| models.status().into_iter().find(|status| status.name == name).unwrap().health;
    assert_eq!((health("a/m"), health("b/m"), health("pool")), (NodeHealth::Down, NodeHealth::Up, NodeHealth::Up));
    a.lists(None);
    models.look().await;
    assert_eq!(health("a/m"), NodeHealth::Down, "nobody is looked at sooner than asked for");
    tokio::time::advance(Duration::from_secs(10)).await;
    models.look().await;
    assert_eq!(health("a/m"), NodeHealth::Up);
}

#[tokio::test(start_paused = true)]
async fn the_status_tells_figures_and_the_last_error() {
    let usage = Usage { cached_input_tokens: 400, ..Usage::tokens(1_000, 100) };
    let a = Node::new(move |call| match call {
        0 => Act::Fails(LlmError::Refused { model: "a/m".to_owned(), reason: "HTTP 401".to_owned() }),
        1 => Act::AnswersAfter(Duration::from_millis(40)),
        _ => Act::Answers(usage),
    });
    let mut all = catalogue(&[("a", &a, server())]);
    let price = Price {
        input: Usd::from_dollars(2.0),
        output: Usd::from_dollars(10.0),
        cached_input: Some(Usd::from_dollars(0.5)),
        cache_write: None,
    };
    let terms =
        ModelTerms { price: Some(price), context_window: Some(1_000), max_output_tokens: Some(100), embeddings: false };
    all.describe("a/m", terms);
    all.set_default("a/m");
    let models = Models::new(all);
    let candidate = models.route("a/m").unwrap().candidates.remove(0);
    assert_eq!(
        (candidate.price, candidate.context_window, candidate.max_output_tokens),
        (Some(price), Some(1_000), Some(100))
    );
    ask(&models, "a/m").await.unwrap_err();
    tokio::time::advance(Duration::from_secs(7)).await;
    ask(&models, "a/m").await.unwrap();
    let answer = ask(&models, "a/m").await.unwrap();
    // 600 tokens at $2, 400 at $0.50, 100 at $10 per million.
    assert_eq!(answer.usage.cost, Usd(1_200_000 + 200_000 + 1_000_000));
    let status = models.status().into_iter().find(|status| status.name == "a/m").unwrap();
    assert!(status.default);
    assert_eq!((status.calls, status.errors), (3, 1));
    assert_eq!((status.input_tokens, status.output_tokens), (1_010, 105));
    assert_eq!(status.spend, Usd(2_400_000 + 10 * 2_000 + 5 * 10_000));
    let last = status.last_error.unwrap();
    assert_eq!(last.kind, FailureKind::ModelRefused);
    assert!(last.ago >= Duration::from_secs(7));
    assert_eq!(status.health, NodeHealth::Up, "who refuses is there");
    assert!(status.latency_p95.unwrap() >= Duration::from_millis(40));
    // One that nobody knew and somebody asked is told, too.
    ask(&models, "a/surprise").await.unwrap();
    assert!(models.status().iter().any(|status| status.name == "a/surprise" && status.calls == 1));
}

#[test]
fn several_nodes_have_the_dearest_price_and_the_smallest_window() {
    let (a, b) = (Node::answers(), Node::answers());
    let mut all = catalogue(&[("a", &a, server()), ("b", &b, server())]);
    let terms = |input: f64, output: f64, cached: Option<f64>, window: u64| ModelTerms {
        price: Some(Price {
            input: Usd::from_dollars(input),
            output: Usd::from_dollars(output),
            cached_input: cached.map(Usd::from_dollars),
            cache_write: None,
        }),
        context_window: Some(window),
        ..ModelTerms::default()
    };
    all.describe("a/m", terms(1.0, 5.0, Some(0.1), 8_000));
    all.describe("b/m", terms(2.0, 4.0, None, 4_000));
    let candidate = Models::new(all.clone()).route("pool").unwrap().candidates.remove(0);
    let price = candidate.price.unwrap();
    assert_eq!((price.input, price.output), (Usd::from_dollars(2.0), Usd::from_dollars(5.0)));
    assert_eq!((price.cached_input, candidate.context_window), (None, Some(4_000)));
    all.describe("b/m", ModelTerms::default());
    let candidate = Models::new(all).route("pool").unwrap().candidates.remove(0);
    assert_eq!(candidate.price, None, "a price that is not known may be any");
}

#[tokio::test(start_paused = true)]
async fn a_provider_remembers_a_bounded_number_of_names() {
    let a = Node::answers();
    let models = Models::new(catalogue(&[("a", &a, NodeSettings::default())]));
    for number in 0..1_000 {
        ask(&models, &format!("a/model-{number}")).await.unwrap();
    }
    assert!(models.status().len() < 300, "{}", models.status().len());
    let counted: u64 = models.status().iter().map(|status| status.calls).sum();
    assert_eq!(counted, 1_000, "and counts the rest together");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_given_up_leaves_no_trace() {
    let a = Node::new(|_| Act::Hangs);
    let models = Models::new(catalogue(&[("a", &a, server())]));
    for _ in 0..50 {
        let call = ask(&models, "a/m");
        assert!(tokio::time::timeout(Duration::from_millis(10), call).await.is_err());
    }
    let status = models.status().into_iter().find(|status| status.name == "a/m").unwrap();
    assert_eq!((status.outstanding, status.calls, status.health), (0, 0, NodeHealth::Up));
    assert_eq!(a.active.load(Ordering::SeqCst), 0);
}
