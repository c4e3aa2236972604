//! A task as it happens: the model's words on standard output, everything else beside it.

use std::io::{self, Write};

use client::TaskEvent;
use domain::{Step, StepBody, WaitFor};
use wire::{BudgetEvent, ProgressEvent};

use super::describe::{Line, Mark, steps};
use crate::terminal::{Paint, Stream, one_line};

/// The longest line about a step.
const LINE_MAX: usize = 240;

/// How a task is told.
#[derive(Debug, Clone, Copy)]
pub struct Telling {
    /// Where the model's words go.
    pub stdout: Stream,
    /// Where everything else goes.
    pub stderr: Stream,
    /// The model's words are printed as they come.
    pub speak: bool,
    /// Calls, waits and troubles are told.
    pub tell: bool,
}

/// Tells a task and its sub-tasks.
pub struct Live<O, E> {
    telling: Telling,
    stdout: O,
    stderr: E,
    /// The step that is being spoken.
    speaking: Option<u32>,
    /// Standard output is in the middle of a line.
    open: bool,
    /// Steps of the journal so far.
    steps: u64,
    /// Who spoke last.
    model: Option<String>,
    /// How far the last call that said so was.
    progress: String,
}

impl<O: Write, E: Write> Live<O, E> {
    /// Begins to tell.
    pub fn new(telling: Telling, stdout: O, stderr: E) -> Self {
        Self { telling, stdout, stderr, speaking: None, open: false, steps: 0, model: None, progress: String::new() }
    }

    /// Steps of the journal so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// The model that spoke last.
    pub fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    /// Tells what happens in the task.
    pub fn event(&mut self, event: &TaskEvent) -> io::Result<()> {
        match event {
            TaskEvent::Delta(delta) => self.spoken(delta.seq, &delta.text),
            TaskEvent::Restart(restart) => self.restarted(restart.seq),
            TaskEvent::Step(step) => self.step(&step.0),
            TaskEvent::Progress(progress) => self.progress(progress, None),
            TaskEvent::Budget(warning) => self.tell(&nearly_used_up(warning), None),
            TaskEvent::Status(_) => Ok(()),
            TaskEvent::Finished(_) => self.end_line(),
        }
    }

    /// Tells what happens in a sub-task of an agent; its words are not spoken.
    pub fn child_event(&mut self, agent: &str, event: &TaskEvent) -> io::Result<()> {
        match event {
            TaskEvent::Step(step) => lines_of(&step.0).iter().try_for_each(|line| self.tell(line, Some(agent))),
            TaskEvent::Progress(progress) => self.progress(progress, Some(agent)),
            TaskEvent::Budget(warning) => self.tell(&nearly_used_up(warning), Some(agent)),
            _ => Ok(()),
        }
    }

    /// Says something beside the task.
    pub fn note(&mut self, text: &str) -> io::Result<()> {
        self.end_line()?;
        writeln!(self.stderr, "{}", self.telling.stderr.text(text))?;
        self.stderr.flush()
    }

    /// Says something beside the task without ending the line, as before an answer is typed.
    pub fn prompt(&mut self, text: &str) -> io::Result<()> {
        self.end_line()?;
        write!(self.stderr, "{}", self.telling.stderr.text(text))?;
        self.stderr.flush()
    }

    /// Prints the final answer, unless it was spoken.
    pub fn answer(&mut self, text: &str) -> io::Result<()> {
        self.end_line()?;
        if !self.telling.speak {
            writeln!(self.stdout, "{}", self.telling.stdout.text(text))?;
        }
        self.stdout.flush()
    }

    fn spoken(&mut self, seq: u32, text: &str) -> io::Result<()> {
        if !self.telling.speak {
            return Ok(());
        }
        if self.speaking != Some(seq) {
            self.end_line()?;
            self.speaking = Some(seq);
        }
        write!(self.stdout, "{}", self.telling.stdout.text(text))?;
        self.open = if text.is_empty() { self.open } else { !text.ends_with('\n') };
        self.stdout.flush()
    }

    fn restarted(&mut self, seq: u32) -> io::Result<()> {
        if self.speaking.take() != Some(seq) {
            return Ok(());
        }
        self.tell(&Line { mark: Mark::Trouble, text: "the answer broke off and starts anew".to_owned() }, None)
    }

    fn step(&mut self, step: &Step) -> io::Result<()> {
        self.steps = self.steps.max(u64::from(step.seq) + 1);
        if let StepBody::Model(model) = &step.body {
            self.model = Some(model.model.clone());
            if self.speaking.take() != Some(step.seq) && !model.text.is_empty() {
                self.spoken(step.seq, &model.text)?;
                self.speaking = None;
            }
            self.end_line()?;
        }
        for line in lines_of(step) {
            self.tell(&line, None)?;
        }
        Ok(())
    }

    /// Tells how far a call is, in tenths: a tool may say more than anybody wants to read.
    fn progress(&mut self, progress: &ProgressEvent, agent: Option<&str>) -> io::Result<()> {
        let tenths = progress.fraction.map(|fraction| (fraction.clamp(0.0, 1.0) * 10.0) as u32 * 10);
        let text = match (tenths, progress.message.is_empty()) {
            (Some(tenths), true) => format!("{tenths} %"),
            (Some(tenths), false) => format!("{tenths} % · {}", progress.message),
            (None, _) => progress.message.clone(),
        };
        let told = format!("{}: {text}", progress.call_id);
        if text.is_empty() || self.progress == told {
            return Ok(());
        }
        self.progress = told;
        self.tell(&Line { mark: Mark::Wait, text }, agent)
    }

    fn tell(&mut self, line: &Line, agent: Option<&str>) -> io::Result<()> {
        self.end_line()?;
        if !self.telling.tell {
            return Ok(());
        }
        let stderr = self.telling.stderr;
        let text = one_line(&line.text, LINE_MAX);
        let who = agent.map_or_else(String::new, |agent| format!("  {} ", stderr.paint(Paint::Cyan, agent)));
        let paint = match line.mark {
            Mark::Trouble => Paint::Yellow,
            Mark::Call | Mark::Answer | Mark::Wait | Mark::Asked | Mark::Said => Paint::Dim,
        };
        writeln!(self.stderr, "{who}{}", stderr.paint(paint, &format!("{} {text}", line.mark.sign())))?;
        self.stderr.flush()
    }

    fn end_line(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.open) {
            writeln!(self.stdout)?;
            self.stdout.flush()?;
        }
        Ok(())
    }
}

/// The lines about a step that are neither its words (they were spoken) nor a question (it is asked).
fn lines_of(step: &Step) -> Vec<Line> {
    let mut told = step.clone();
    match &mut told.body {
        // The model's own step has told of a call that begins.
        StepBody::Input(_) | StepBody::ToolStarted { .. } => return Vec::new(),
        StepBody::Model(model) => model.text.clear(),
        StepBody::Parked { waits } => waits.retain(|wait| {
            !matches!(wait.on, WaitFor::Signal { .. } | WaitFor::Approval { .. } | WaitFor::Budget { .. })
        }),
        _ => {}
    }
    steps(&told)
}

fn nearly_used_up(warning: &BudgetEvent) -> Line {
    let BudgetEvent { account, used, limit, .. } = warning;
    Line {
        mark: Mark::Trouble,
        text: format!("the budget {account} is nearly used up: {used} of {limit} are used or reserved"),
    }
}

#[cfg(test)]
mod tests {
    use domain::{FinishReason, ModelStep, Timestamp, ToolCall, Usage};
    use wire::{DeltaEvent, JournalStep, RestartEvent};

    use super::*;

    fn delta(n: u32, text: &str) -> TaskEvent {
        TaskEvent::Delta(DeltaEvent { seq: 1, epoch: 1, call: 1, n, text: text.to_owned() })
    }

    fn model(text: &str, tools: &[&str]) -> TaskEvent {
        let call = |name: &&str| ToolCall {
            id: (*name).to_owned(),
            name: (*name).to_owned(),
            arguments: serde_json::json!({}),
        };
        let body = StepBody::Model(ModelStep {
            model: "scripted/x".to_owned(),
            text: text.to_owned(),
            tool_calls: tools.iter().map(call).collect(),
            finish: FinishReason::Stop,
            usage: Usage::default(),
            structured: false,
            duration_ms: 1,
            reasoning: Vec::new(),
            tries: Vec::new(),
        });
        TaskEvent::Step(Box::new(JournalStep(Step { seq: 1, epoch: 1, at: Timestamp::UNIX_EPOCH, body })))
    }

    fn told(speak: bool, events: &[TaskEvent]) -> (String, String) {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let telling = Telling { stdout: Stream::default(), stderr: Stream::default(), speak, tell: true };
        let mut live = Live::new(telling, &mut stdout, &mut stderr);
        for event in events {
            live.event(event).unwrap();
        }
        live.answer("Hello there").unwrap();
        drop(live);
        (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
    }

    #[test]
    fn words_come_as_they_are_spoken_and_once() {
        let events = [delta(1, "Hello "), delta(2, "there"), model("Hello there", &["now"])];
        assert_eq!(told(true, &events), ("Hello there\n".to_owned(), "→ now\n".to_owned()));
    }

    #[test]
    fn words_that_were_missed_come_with_their_step() {
        assert_eq!(told(true, &[model("Hello there", &[])]).0, "Hello there\n");
    }

    #[test]
    fn a_pipe_gets_the_answer_alone() {
        let events = [delta(1, "Hel"), model("Hello there", &["now"])];
        assert_eq!(told(false, &events), ("Hello there\n".to_owned(), "→ now\n".to_owned()));
    }

    #[test]
    fn an_answer_that_starts_anew_says_so() {
        let events = [
            delta(1, "Hel"),
            TaskEvent::Restart(RestartEvent { seq: 1, epoch: 2, call: 1 }),
            delta(1, "Hello there"),
            model("Hello there", &[]),
        ];
        let (stdout, stderr) = told(true, &events);
        assert_eq!(stdout, "Hel\nHello there\n");
        assert_eq!(stderr, "! the answer broke off and starts anew\n");
    }

    #[test]
    fn what_a_model_says_cannot_act_on_a_terminal() {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let screen = Stream { tty: true, color: false };
        let telling = Telling { stdout: screen, stderr: screen, speak: true, tell: true };
        let mut live = Live::new(telling, &mut stdout, &mut stderr);
        live.event(&delta(1, "\u{1b}]0;x\u{7}")).unwrap();
        live.event(&model("\u{1b}]0;x\u{7}", &["\u{1b}[2J"])).unwrap();
        live.child_event("\u{1b}agent", &model("", &["\u{9b}2J"])).unwrap();
        drop(live);
        assert!(!String::from_utf8(stdout).unwrap().contains('\u{1b}'));
        let stderr = String::from_utf8(stderr).unwrap();
        assert!(!stderr.contains('\u{9b}') && stderr.contains("<U+009B>2J"), "{stderr:?}");
    }

    #[test]
    fn progress_is_told_in_tenths_and_a_budget_that_is_nearly_used_up() {
        let progress = |fraction, message: &str| {
            TaskEvent::Progress(ProgressEvent { call_id: "c".to_owned(), message: message.to_owned(), fraction })
        };
        let warning = TaskEvent::Budget(BudgetEvent {
            id: "00000000-0000-7000-8000-000000000001".parse().unwrap(),
            account: "agent/writer".to_owned(),
            window: domain::BudgetWindow::Day,
            what: "usd".to_owned(),
            limit: "$5.00".to_owned(),
            used: "$4.10".to_owned(),
        });
        let events = [
            progress(Some(0.11), "page 1"),
            progress(Some(0.12), "page 1"),
            progress(Some(0.25), ""),
            progress(None, ""),
            warning,
        ];
        assert_eq!(
            told(true, &events).1,
            "… 10 % · page 1\n… 20 %\n! the budget agent/writer is nearly used up: $4.10 of $5.00 are used or reserved\n"
        );
    }
}
