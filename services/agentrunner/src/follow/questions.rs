//! Questions of a task for the person at the terminal.

use std::collections::{HashSet, VecDeque};

use domain::{TaskId, Wait, WaitFor};
use serde_json::Value;
use tokio::sync::mpsc;

/// One open question.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Question {
    pub(super) task: TaskId,
    pub(super) call_id: String,
    pub(super) signal: String,
    words: String,
    options: Vec<String>,
    default: Option<Value>,
}

impl Question {
    /// The question that a wait asks, if it asks one.
    pub(super) fn of(task: TaskId, wait: &Wait) -> Option<Self> {
        let WaitFor::Signal { name, question, options } = &wait.on else { return None };
        Some(Self {
            task,
            call_id: wait.call_id.clone(),
            signal: name.clone(),
            words: question.clone(),
            options: options.clone(),
            default: wait.default.clone(),
        })
    }

    /// The words that ask for an answer.
    pub(super) fn prompt(&self) -> String {
        let options: Vec<String> =
            self.options.iter().enumerate().map(|(n, option)| format!("\n  {}) {option}", n + 1)).collect();
        let default = match &self.default {
            Some(Value::String(text)) => format!(" (nothing: {text})"),
            Some(value) => format!(" (nothing: {value})"),
            None => String::new(),
        };
        format!("? {}{}\nyour answer{default}: ", self.words, options.concat())
    }

    /// How to answer from elsewhere.
    pub(super) fn how_to_answer(&self) -> String {
        let example = self.options.first().map_or("YOUR ANSWER", String::as_str).replace('\'', "'\\''");
        let name = if self.signal == "answer" { String::new() } else { format!(" --name {}", self.signal) };
        format!("? {}\n  answer it with: agentrunner tasks signal {} '{example}'{name}", self.words, self.task)
    }

    /// What a typed line answers; `Err` says what is expected.
    pub(super) fn answer(&self, line: &str) -> Result<Value, String> {
        let line = line.trim();
        if line.is_empty() {
            return self.default.clone().ok_or_else(|| "an answer is needed".to_owned());
        }
        if self.options.is_empty() {
            return Ok(Value::String(line.to_owned()));
        }
        let by_number = line.parse::<usize>().ok().and_then(|n| self.options.get(n.checked_sub(1)?));
        let by_name = self.options.iter().find(|option| option.eq_ignore_ascii_case(line));
        match by_name.or(by_number) {
            Some(option) => Ok(Value::String(option.clone())),
            None => Err(format!("the answer must be one of: {}", self.options.join(", "))),
        }
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

    #[test]
    fn options_are_chosen_by_name_or_number() {
        let question = question(&["approve", "reject"], None);
        assert_eq!(question.answer(" Reject "), Ok(json!("reject")));
        assert_eq!(question.answer("1"), Ok(json!("approve")));
        for wrong in ["", "0", "3", "maybe"] {
            assert!(question.answer(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn free_text_and_the_default_are_answers() {
        let question = question(&[], Some(json!("no")));
        assert_eq!(question.answer("42"), Ok(json!("42")));
        assert_eq!(question.answer(""), Ok(json!("no")));
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
}
