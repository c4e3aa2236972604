//! What a benchmark found.

use serde::Serialize;

use super::flight::Flown;
use super::sample::{Percentiles, Used, median, resident, round};
use crate::output::{Grid, words};
use crate::terminal::Stream;

/// What was done.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Load {
    /// How tasks came in.
    pub(super) door: &'static str,
    /// Tasks a round.
    pub(super) tasks: u32,
    /// Steps a task, its input not counted.
    pub(super) steps: u32,
    /// Bytes of the prompt and of each step.
    pub(super) bytes: u32,
    /// Tasks in flight.
    pub(super) concurrency: u32,
    /// Rounds.
    pub(super) repeat: u32,
    /// Tasks before the first round.
    pub(super) warm_up: usize,
    /// Whether budgets and limits on what runs at once were on.
    pub(super) limits: bool,
    /// False for a build without optimizations, whose numbers mean nothing.
    pub(super) release: bool,
}

/// One round.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Round {
    pub(super) seconds: f64,
    pub(super) tasks_per_second: f64,
    pub(super) steps_per_second: f64,
    pub(super) submit_ms: Percentiles,
    pub(super) end_to_end_ms: Percentiles,
    /// Of the whole process, the benchmark itself included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cpu_ms_per_task: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) written_bytes_per_task: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) resident_bytes: Option<u64>,
}

impl Round {
    /// Sums a round up.
    pub(super) fn of(flown: Flown, steps: u32, used: Option<Used>) -> Self {
        let tasks = flown.end_to_end.len() as f64;
        let seconds = flown.elapsed.as_secs_f64().max(1e-9);
        Self {
            seconds: round(seconds),
            tasks_per_second: round(tasks / seconds),
            steps_per_second: round(tasks * f64::from(steps) / seconds),
            submit_ms: Percentiles::of(flown.submit),
            end_to_end_ms: Percentiles::of(flown.end_to_end),
            cpu_ms_per_task: used.map(|used| round(used.cpu.as_secs_f64() * 1_000.0 / tasks)),
            written_bytes_per_task: used.map(|used| round(used.written as f64 / tasks)),
            resident_bytes: used.map(|_| resident()),
        }
    }
}

/// Everything: what was done, the medians, and each round.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    load: Load,
    /// True: the disk is memory, and nothing was durable. Unknown for another process.
    #[serde(skip_serializing_if = "Option::is_none")]
    in_memory: Option<bool>,
    median: Round,
    rounds: Vec<Round>,
}

impl Report {
    pub(super) fn new(load: Load, in_memory: Option<bool>, rounds: Vec<Round>) -> Self {
        Self { load, in_memory, median: middle(&rounds), rounds }
    }

    /// For people.
    pub(super) fn table(&self, stream: Stream) -> String {
        let Load { door, tasks, steps, bytes, concurrency, repeat, warm_up, limits, release } = &self.load;
        let mut text = format!(
            "{tasks} tasks of {steps} steps of {bytes} bytes, {concurrency} in flight, {repeat} rounds after a warm-up of \
             {warm_up} ({door}{})\n",
            if *limits { ", with every limit on" } else { "" }
        );
        if !release {
            text.push_str("this build is not optimized: build with --release for numbers that mean something\n");
        }
        if self.in_memory == Some(true) {
            text.push_str("the folder is kept in memory: nothing was durable, choose a disk with --data\n");
        }
        let mut grid = Grid::new(stream, &["", "MEDIAN", "P50", "P99", "MAX"]);
        let median = &self.median;
        let number = |value: f64| format!("{value:.0}");
        let ms = |value: f64| format!("{value:.2} ms");
        for (name, value) in [("tasks/s", median.tasks_per_second), ("steps/s", median.steps_per_second)] {
            grid.plain([name, &number(value), "", "", ""]);
        }
        for (name, times) in [("submit", median.submit_ms), ("end to end", median.end_to_end_ms)] {
            grid.plain([name, "", &ms(times.p50), &ms(times.p99), &ms(times.max)]);
        }
        if let Some(cpu) = median.cpu_ms_per_task {
            grid.plain(["CPU a task", &format!("{cpu:.3} ms"), "", "", ""]);
        }
        if let Some(written) = median.written_bytes_per_task {
            grid.plain(["written a task", &words::bytes(written as u64), "", "", ""]);
        }
        if let Some(resident) = median.resident_bytes {
            grid.plain(["memory", &words::bytes(resident), "", "", ""]);
        }
        text.push('\n');
        text.push_str(&grid.finish());
        text
    }
}

/// The median of every number.
fn middle(rounds: &[Round]) -> Round {
    let of = |number: &dyn Fn(&Round) -> f64| median(rounds.iter().map(number).collect());
    let perhaps = |number: &dyn Fn(&Round) -> Option<f64>| {
        let known: Vec<f64> = rounds.iter().filter_map(number).collect();
        (!known.is_empty()).then(|| median(known))
    };
    let times = |times: &dyn Fn(&Round) -> Percentiles| Percentiles {
        p50: of(&|round| times(round).p50),
        p99: of(&|round| times(round).p99),
        max: of(&|round| times(round).max),
    };
    Round {
        seconds: of(&|round| round.seconds),
        tasks_per_second: of(&|round| round.tasks_per_second),
        steps_per_second: of(&|round| round.steps_per_second),
        submit_ms: times(&|round| round.submit_ms),
        end_to_end_ms: times(&|round| round.end_to_end_ms),
        cpu_ms_per_task: perhaps(&|round| round.cpu_ms_per_task),
        written_bytes_per_task: perhaps(&|round| round.written_bytes_per_task),
        resident_bytes: perhaps(&|round| round.resident_bytes.map(|bytes| bytes as f64)).map(|bytes| bytes as u64),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn round_of(tasks: usize, millis: u64, used: Option<Used>) -> Round {
        let times = vec![Duration::from_millis(2); tasks];
        let flown = Flown { elapsed: Duration::from_millis(millis), submit: times.clone(), end_to_end: times };
        Round::of(flown, 3, used)
    }

    #[test]
    fn a_round_is_summed_up_by_task() {
        let used = Used { cpu: Duration::from_millis(50), written: 1_000_000 };
        let round = round_of(100, 500, Some(used));
        assert_eq!((round.tasks_per_second, round.steps_per_second), (200.0, 600.0));
        assert_eq!((round.cpu_ms_per_task, round.written_bytes_per_task), (Some(0.5), Some(10_000.0)));
    }

    #[test]
    fn the_report_shows_the_middle_round() {
        let rounds = vec![round_of(10, 100, None), round_of(10, 10, None), round_of(10, 1_000, None)];
        let middle = middle(&rounds);
        assert_eq!((middle.tasks_per_second, middle.cpu_ms_per_task), (100.0, None));
    }
}
