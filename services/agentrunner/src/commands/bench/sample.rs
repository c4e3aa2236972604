//! What is measured: times of single tasks, and what the process used for all of them.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

/// Times in milliseconds: exact, from all samples.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(super) struct Percentiles {
    /// Half of them took at most this.
    pub p50: f64,
    /// 99 of 100 took at most this.
    pub p99: f64,
    /// The longest.
    pub max: f64,
}

impl Percentiles {
    /// Sorts the samples and takes the nearest ranks.
    pub(super) fn of(mut samples: Vec<Duration>) -> Self {
        samples.sort_unstable();
        let rank = |percent: usize| {
            let rank = (samples.len() * percent).div_ceil(100).max(1);
            samples.get(rank - 1).map_or(0.0, |sample| millis(*sample))
        };
        Self { p50: rank(50), p99: rank(99), max: rank(100) }
    }
}

fn millis(length: Duration) -> f64 {
    round(length.as_secs_f64() * 1_000.0)
}

/// Rounds to three digits after the point: more than the clock is good for.
pub(super) fn round(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

/// The middle of some numbers; of an even count, the mean of the two in the middle.
pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[middle],
        _ => round(f64::midpoint(values[middle - 1], values[middle])),
    }
}

/// What this process has used so far.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Used {
    /// Processor time, in user and kernel mode.
    pub cpu: Duration,
    /// Bytes that were sent towards the disk.
    pub written: u64,
}

impl Used {
    /// Asks the system.
    pub(super) fn now() -> Self {
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        let cpu = Duration::new(u64::try_from(cpu.tv_sec).unwrap_or(0), u32::try_from(cpu.tv_nsec).unwrap_or(0));
        Self { cpu, written: proc_number("/proc/self/io", "write_bytes:") }
    }

    /// What was used since.
    pub(super) fn since(self, before: Self) -> Self {
        Self { cpu: self.cpu.saturating_sub(before.cpu), written: self.written.saturating_sub(before.written) }
    }
}

/// The memory that this process holds now, in bytes.
pub(super) fn resident() -> u64 {
    proc_number("/proc/self/status", "VmRSS:") * 1024
}

/// Tells whether a folder is kept in memory, where nothing is durable and everything is fast.
pub fn in_memory(dir: &std::path::Path) -> bool {
    const TMPFS: i64 = 0x0102_1994;
    const RAMFS: i64 = 0x8584_58f6;
    rustix::fs::statfs(dir).is_ok_and(|stat| [TMPFS, RAMFS].contains(&stat.f_type))
}

/// The number after a label; 0 where the system does not tell.
fn proc_number(file: &str, label: &str) -> u64 {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let number = text.lines().find_map(|line| line.strip_prefix(label)?.split_whitespace().next()?.parse().ok());
    number.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_samples() {
        let samples = (1..=200).rev().map(Duration::from_millis).collect();
        assert_eq!(Percentiles::of(samples), Percentiles { p50: 100.0, p99: 198.0, max: 200.0 });
        let one = Percentiles::of(vec![Duration::from_micros(1_500)]);
        assert_eq!(one, Percentiles { p50: 1.5, p99: 1.5, max: 1.5 });
        assert_eq!(Percentiles::of(Vec::new()), Percentiles::default());
    }

    #[test]
    fn the_median_is_in_the_middle() {
        for (samples, expected) in [(vec![3.0, 1.0, 2.0], 2.0), (vec![4.0, 1.0], 2.5), (Vec::new(), 0.0)] {
            assert!((median(samples) - expected).abs() < f64::EPSILON);
        }
    }

    #[test]
    fn the_process_has_used_something() {
        let before = Used::now();
        let sum: u64 = (0..2_000_000_u64).fold(0, |sum, n| sum.wrapping_mul(31).wrapping_add(n));
        assert_ne!(sum, 1);
        assert!(Used::now().since(before).cpu > Duration::ZERO);
        assert!(resident() > 0);
    }
}
