//! Writes log lines from a thread of its own: a terminal that is stopped, or a full pipe, must not stop the service.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// How many lines may wait; further ones are dropped and counted.
const LINES: usize = 16_384;

enum Entry {
    Line(Vec<u8>),
    Flush(SyncSender<()>),
}

/// Hands lines to the thread. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct LogWriter {
    lines: SyncSender<Entry>,
    dropped: Arc<AtomicU64>,
}

impl LogWriter {
    /// Starts the thread, which ends when all clones are gone.
    pub(super) fn start(target: impl Write + Send + 'static) -> io::Result<Self> {
        let (lines, waiting) = sync_channel(LINES);
        let dropped = Arc::new(AtomicU64::new(0));
        let seen = dropped.clone();
        std::thread::Builder::new().name("log-writer".to_owned()).spawn(move || run(&waiting, target, &seen))?;
        Ok(Self { lines, dropped })
    }

    /// Waits until everything logged before is written, or gives up.
    pub(super) fn flush(&self, patience: Duration) {
        let (done, wait) = sync_channel(1);
        // A full queue means that nothing drains it: there is no point in waiting.
        if self.lines.try_send(Entry::Flush(done)).is_ok() {
            let _ = wait.recv_timeout(patience);
        }
    }
}

fn run(waiting: &Receiver<Entry>, target: impl Write, dropped: &AtomicU64) {
    let mut target = io::BufWriter::new(target);
    while let Ok(first) = waiting.recv() {
        let mut next = Some(first);
        let mut flushed = Vec::new();
        while let Some(entry) = next {
            match entry {
                // Nobody can be told that the log cannot be written.
                Entry::Line(line) => drop(target.write_all(&line)),
                Entry::Flush(done) => flushed.push(done),
            }
            next = waiting.try_recv().ok();
        }
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            metrics::counter!("log_lines_dropped_total").increment(lost);
            let _ = writeln!(target, "{{\"level\":\"WARN\",\"message\":\"log lines were dropped\",\"lines\":{lost}}}");
        }
        let _ = target.flush();
        for done in flushed {
            let _ = done.try_send(());
        }
    }
}

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Write for LogWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if let Err(TrySendError::Full(_)) = self.lines.try_send(Entry::Line(line.to_vec())) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    struct Stuck(mpsc::Receiver<()>);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stuck_terminal_never_blocks_who_logs() {
        let (release, stuck) = mpsc::channel();
        let mut writer = LogWriter::start(Stuck(stuck)).unwrap();
        for _ in 0..3 * LINES {
            assert_eq!(writer.write(&[b'x'; 64]).unwrap(), 64);
        }
        assert!(writer.dropped.load(Ordering::Relaxed) > 0);
        writer.flush(Duration::from_millis(1));
        drop(release);
    }

    struct Channel(mpsc::Sender<Vec<u8>>);

    impl Write for Channel {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.send(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn flushing_writes_everything_that_was_logged() {
        let (sender, written) = mpsc::channel();
        let mut writer = LogWriter::start(Channel(sender)).unwrap();
        writer.write_all(b"one\n").unwrap();
        writer.write_all(b"two\n").unwrap();
        writer.flush(Duration::from_secs(10));
        assert_eq!(written.try_iter().flatten().collect::<Vec<u8>>(), b"one\ntwo\n");
    }
}
