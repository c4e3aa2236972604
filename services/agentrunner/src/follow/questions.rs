//! Questions of a task for the person at the terminal: answers, permissions, money.

use std::collections::{HashSet, VecDeque};

use domain::{TaskId, Wait, WaitFor};
use serde_json::Value;
use tokio::sync::mpsc;
use wire::{AmountView, Decision};

use crate::terminal::neutral_json;

/// One open question.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Question {
    pub(super) task: TaskId,
    pub(super) call_id: String,
    asks: Asks,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq)]
enum Asks {
    Words { signal: String, words: String, options: Vec<String>, default: Option<Value> },
    Permission { tool: String, arguments: Value, digest: String, reason: String },
    Money { account: String, what: domain::Dimension, limit: u64, used: u64, asked: u64 },
}

/// What a person answered.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Reply {
    /// The value of a signal.
    Signal { name: String, value: Value },
    /// A decision about a call.
    Decide { decision: Decision, digest: String, arguments: Option<Value>, reason: Option<String> },
    /// What is granted; nothing stops the task.
    Grant(Option<AmountView>),
}

impl Question {
    /// The question that a wait asks, if it asks one.
    pub(super) fn of(task: TaskId, wait: &Wait) -> Option<Self> {
        let asks = match &wait.on {
            WaitFor::Signal { name, question, options } => Asks::Words {
                signal: name.clone(),
                words: question.clone(),
                options: options.clone(),
                default: wait.default.clone(),
            },
            WaitFor::Approval { tool, arguments, digest, reason } => Asks::Permission {
                tool: tool.clone(),
                arguments: arguments.clone(),
                digest: digest.clone(),
                reason: reason.clone(),
            },
            WaitFor::Budget { account, what, limit, used, asked } => {
                Asks::Money { account: account.clone(), what: *what, limit: *limit, used: *used, asked: *asked }
            }
            WaitFor::Child { .. } | WaitFor::Timer { .. } => return None,
        };
        Some(Self { task, call_id: wait.call_id.clone(), asks })
    }

    /// The words that ask for an answer.
    pub(super) fn prompt(&self) -> String {
        match &self.asks {
            Asks::Words { words, options, default, .. } => {
                let options: Vec<String> =
                    options.iter().enumerate().map(|(n, option)| format!("\n  {}) {option}", n + 1)).collect();
                let default = match default {
                    Some(Value::String(text)) => format!(" (nothing: {text})"),
                    Some(value) => format!(" (nothing: {value})"),
                    None => String::new(),
                };
                format!("? {words}{}\nyour answer{default}: ", options.concat())
            }
            Asks::Permission { tool, arguments, reason, .. } => {
                let shown = permission(tool, arguments, reason);
                format!("{shown}\napprove, deny (with a reason), or other arguments as JSON: ")
            }
            Asks::Money { account, what, limit, used, asked } => format!(
                "? {account} allows {}, {} are used, and the next call may take {}\nhow much more may this task use \
                 (0 stops it): ",
                what.show(*limit),
                what.show(*used),
                what.show(*asked)
            ),
        }
    }

    /// How to answer from elsewhere.
    pub(super) fn how_to_answer(&self) -> String {
        let task = self.task;
        match &self.asks {
            Asks::Words { signal, words, options, .. } => {
                let example = quoted(options.first().map_or("YOUR ANSWER", String::as_str));
                let name = if signal == "answer" { String::new() } else { format!(" --name {signal}") };
                format!("? {words}\n  answer it with: agentrunner tasks signal {task} {example}{name}")
            }
            Asks::Permission { tool, arguments, reason, .. } => format!(
                "{}\n  decide with: agentrunner tasks approve {task} {call}\n           or: agentrunner tasks deny {task} \
                 {call} --reason WHY",
                permission(tool, arguments, reason),
                call = quoted(&self.call_id)
            ),
            Asks::Money { account, what, asked, .. } => {
                let example = match what {
                    domain::Dimension::Usd => format!("--usd {}", domain::Usd(*asked).dollars()),
                    other => format!("--{} {asked}", other.as_str().replace('_', "-")),
                };
                format!(
                    "? {account} does not allow the next call\n  raise it with: agentrunner tasks grant {task} {example}"
                )
            }
        }
    }

    /// What a typed line answers; `Err` says what is expected.
    pub(super) fn answer(&self, line: &str) -> Result<Reply, String> {
        let line = line.trim();
        match &self.asks {
            Asks::Words { signal, options, default, .. } => {
                let value = answer_in_words(line, options, default.as_ref())?;
                Ok(Reply::Signal { name: signal.clone(), value })
            }
            Asks::Permission { digest, .. } => decide(line, digest),
            Asks::Money { what, .. } => grant(line, *what),
        }
    }
}

/// A call as it is shown to whoever decides: all of it, and nothing in it can act on the terminal or hide.
pub(crate) fn permission(tool: &str, arguments: &Value, reason: &str) -> String {
    let arguments = serde_json::to_string_pretty(arguments).unwrap_or_default();
    let arguments = neutral_json(&arguments).replace('\n', "\n  ");
    format!("? may {tool} be called with these arguments?\n  {arguments}\n  why you are asked: {reason}")
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

fn answer_in_words(line: &str, options: &[String], default: Option<&Value>) -> Result<Value, String> {
    if line.is_empty() {
        return default.cloned().ok_or_else(|| "an answer is needed".to_owned());
    }
    if options.is_empty() {
        return Ok(Value::String(line.to_owned()));
    }
    let by_number = line.parse::<usize>().ok().and_then(|n| options.get(n.checked_sub(1)?));
    let by_name = options.iter().find(|option| option.eq_ignore_ascii_case(line));
    match by_name.or(by_number) {
        Some(option) => Ok(Value::String(option.clone())),
        None => Err(format!("the answer must be one of: {}", options.join(", "))),
    }
}

fn decide(line: &str, digest: &str) -> Result<Reply, String> {
    let reply = |decision, arguments, reason: Option<String>| {
        Ok(Reply::Decide { decision, digest: digest.to_owned(), arguments, reason })
    };
    if line.starts_with('{') {
        let arguments = serde_json::from_str(line).map_err(|error| format!("these are no JSON arguments: {error}"))?;
        return reply(Decision::Approve, Some(arguments), None);
    }
    let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let rest = Some(rest.trim().to_owned()).filter(|rest| !rest.is_empty());
    match (word.to_ascii_lowercase().as_str(), rest) {
        ("approve" | "yes" | "y", None) => reply(Decision::Approve, None, None),
        ("deny" | "no" | "n", reason) => reply(Decision::Deny, None, reason),
        _ => Err("type approve, deny, deny and a reason, or other arguments as JSON".to_owned()),
    }
}

fn grant(line: &str, what: domain::Dimension) -> Result<Reply, String> {
    let plain = line.strip_prefix('$').unwrap_or(line);
    let mut view = AmountView::default();
    let granted = match what {
        domain::Dimension::Usd => plain.parse::<f64>().ok().filter(|usd| usd.is_finite() && *usd >= 0.0).map(|usd| {
            view.usd = Some(usd);
            usd > 0.0
        }),
        other => plain.parse::<u64>().ok().map(|amount| {
            view.set(other, amount);
            amount > 0
        }),
    };
    match granted {
        Some(true) => Ok(Reply::Grant(Some(view))),
        Some(false) => Ok(Reply::Grant(None)),
        None => Err(format!(
            "type a number, such as {}, or 0",
            if what == domain::Dimension::Usd { "0.50" } else { "1000" }
        )),
    }
}

/// Open questions, the oldest first, and whether the first one was put.
#[derive(Debug, Default)]
pub(super) struct Questions {
    open: VecDeque<Question>,
    put: bool,
}

impl Questions {
    pub(super) fn add(&mut self, question: Question) {
        self.open.push_back(question);
    }

    /// Forgets a question that was answered elsewhere or has expired; true when it had been put.
    pub(super) fn resolved(&mut self, task: TaskId, call_id: &str) -> bool {
        let is_it = |question: &Question| question.task == task && question.call_id == call_id;
        let first = self.open.front().is_some_and(is_it);
        self.open.retain(|question| !is_it(question));
        first && std::mem::take(&mut self.put)
    }

    /// Forgets what an ended task asked.
    pub(super) fn ended(&mut self, task: TaskId) {
        self.put &= self.open.front().is_some_and(|question| question.task != task);
        self.open.retain(|question| question.task != task);
    }

    /// The question to put now, once: the oldest one of a task that waits.
    pub(super) fn put(&mut self, waiting: &HashSet<TaskId>) -> Option<&Question> {
        if self.put {
            return None;
        }
        let next = self.open.iter().position(|question| waiting.contains(&question.task))?;
        let question = self.open.remove(next)?;
        self.open.push_front(question);
        self.put = true;
        self.open.front()
    }

    /// The question that was put.
    pub(super) fn current(&self) -> Option<&Question> {
        self.open.front().filter(|_| self.put)
    }

    /// Takes the question that was put off the list.
    pub(super) fn answered(&mut self) -> Option<Question> {
        if std::mem::take(&mut self.put) { self.open.pop_front() } else { None }
    }

    /// Puts the same question again.
    pub(super) fn again(&mut self) {
        self.put = false;
    }
}

/// Reads the lines that a person types, on a thread of its own that dies with the process.
pub(super) fn typed_lines() -> mpsc::Receiver<String> {
    let (lines, receiver) = mpsc::channel(8);
    let read = move || {
        for line in std::io::stdin().lines() {
            let Ok(line) = line else { return };
            if lines.blocking_send(line).is_err() {
                return;
            }
        }
    };
    // Without the thread nobody can be asked, which is the same as an end of the input.
    let _ = std::thread::Builder::new().name("typed-lines".to_owned()).spawn(read);
    receiver
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn question(options: &[&str], default: Option<Value>) -> Question {
        let on = WaitFor::Signal {
            name: "answer".to_owned(),
            question: "May I?".to_owned(),
            options: options.iter().map(ToString::to_string).collect(),
        };
        let wait = Wait { call_id: "c".to_owned(), on, expires_at: None, default };
        Question::of("00000000-0000-7000-8000-000000000001".parse().unwrap(), &wait).unwrap()
    }

    fn words(value: &str) -> Reply {
        Reply::Signal { name: "answer".to_owned(), value: json!(value) }
    }

    fn asked(on: WaitFor) -> Question {
        let wait = Wait { call_id: "c'1".to_owned(), on, expires_at: None, default: None };
        Question::of("00000000-0000-7000-8000-000000000001".parse().unwrap(), &wait).unwrap()
    }

    fn permission(arguments: Value) -> Question {
        let (tool, digest, reason) = ("pay".to_owned(), "d1".to_owned(), "it costs $20.00".to_owned());
        asked(WaitFor::Approval { tool, arguments, digest, reason })
    }

    fn money(what: domain::Dimension, limit: u64) -> Question {
        let account = "agent/writer".to_owned();
        asked(WaitFor::Budget { account, what, limit, used: limit / 2, asked: limit })
    }

    #[test]
    fn options_are_chosen_by_name_or_number() {
        let question = question(&["approve", "reject"], None);
        assert_eq!(question.answer(" Reject "), Ok(words("reject")));
        assert_eq!(question.answer("1"), Ok(words("approve")));
        for wrong in ["", "0", "3", "maybe"] {
            assert!(question.answer(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn free_text_and_the_default_are_answers() {
        let question = question(&[], Some(json!("no")));
        assert_eq!(question.answer("42"), Ok(words("42")));
        assert_eq!(question.answer(""), Ok(words("no")));
        assert!(question.prompt().contains("(nothing: no)"));
    }

    #[test]
    fn whoever_cannot_be_asked_is_told_how_to_answer() {
        let text = question(&["it's fine"], None).how_to_answer();
        assert!(
            text.contains("agentrunner tasks signal 00000000-0000-7000-8000-000000000001 'it'\\''s fine'"),
            "{text}"
        );
    }

    #[test]
    fn one_question_is_put_at_a_time() {
        let mut questions = Questions::default();
        let waiting = HashSet::from([question(&[], None).task]);
        let (first, mut second) = (question(&[], None), question(&[], None));
        second.call_id = "d".to_owned();
        questions.add(first.clone());
        questions.add(second.clone());
        assert_eq!(questions.put(&HashSet::new()), None);
        assert_eq!(questions.put(&waiting), Some(&first));
        assert_eq!(questions.put(&waiting), None);
        assert_eq!(questions.answered(), Some(first));
        assert_eq!(questions.put(&waiting), Some(&second));
        assert!(questions.resolved(second.task, "d"));
        assert_eq!(questions.put(&waiting), None);
    }

    #[test]
    fn a_permission_shows_all_of_the_call_and_nothing_of_it_acts_or_hides() {
        let arguments = json!({ "to": "ACME", "text": format!("{}\u{1b}[2J\u{202e}\nend", "x".repeat(5_000)) });
        let prompt = permission(arguments).prompt();
        assert!(prompt.contains("may pay be called") && prompt.contains("it costs $20.00"), "{prompt}");
        assert!(prompt.contains(&"x".repeat(5_000)) && prompt.contains("\\u001b[2J\\u202e\\nend"), "{prompt}");
        assert!(!prompt.contains(['\u{1b}', '\u{202e}']));
    }

    #[test]
    fn a_permission_is_given_denied_or_given_for_other_arguments() {
        let question = permission(json!({}));
        let decide = |decision, arguments, reason: Option<&str>| {
            let reason = reason.map(str::to_owned);
            Ok(Reply::Decide { decision, digest: "d1".to_owned(), arguments, reason })
        };
        for yes in ["approve", " Yes ", "y"] {
            assert_eq!(question.answer(yes), decide(Decision::Approve, None, None), "{yes}");
        }
        assert_eq!(question.answer("n"), decide(Decision::Deny, None, None));
        assert_eq!(question.answer("deny too much"), decide(Decision::Deny, None, Some("too much")));
        assert_eq!(question.answer("{\"a\": 1}"), decide(Decision::Approve, Some(json!({ "a": 1 })), None));
        for unclear in ["", "ok", "yes please do", "{a}", "approve it", "1"] {
            assert!(question.answer(unclear).is_err(), "{unclear}");
        }
        let how = question.how_to_answer();
        assert!(how.contains("tasks approve 00000000-0000-7000-8000-000000000001 'c'\\''1'"), "{how}");
    }

    #[test]
    fn money_is_granted_as_a_number_and_nothing_stops_the_task() {
        let dollars = money(domain::Dimension::Usd, 2 * domain::Usd::DOLLAR);
        assert!(dollars.prompt().contains("allows $2.00, $1.00 are used"), "{}", dollars.prompt());
        assert!(dollars.how_to_answer().contains("grant 00000000-0000-7000-8000-000000000001 --usd 2"));
        let usd = |usd| Ok(Reply::Grant(Some(AmountView { usd: Some(usd), ..AmountView::default() })));
        assert_eq!(dollars.answer("1.5"), usd(1.5));
        assert_eq!(dollars.answer("$0.25"), usd(0.25));
        assert_eq!(dollars.answer("0"), Ok(Reply::Grant(None)));
        let calls = money(domain::Dimension::ToolCalls, 10);
        assert!(calls.how_to_answer().contains("--tool-calls 10"));
        assert_eq!(
            calls.answer("5"),
            Ok(Reply::Grant(Some(AmountView { tool_calls: Some(5), ..AmountView::default() })))
        );
        for unclear in ["", "yes", "-1", "nan", "inf", "1.5 euro"] {
            assert!(dollars.answer(unclear).is_err() && calls.answer(unclear).is_err(), "{unclear}");
        }
    }
}
