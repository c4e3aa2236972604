//! Messages as lines: JSON-RPC over a program's standard input and output.

use std::sync::Arc;

use rmcp::RoleClient;
use rmcp::model::{ClientJsonRpcMessage, ServerJsonRpcMessage};
use rmcp::transport::Transport;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::ChildStdin;
use tokio::sync::{Mutex, mpsc};

use super::child::{Remains, Running, reap};
use crate::fate::Fate;

/// The longest line that is read; whoever sends a longer one is not listened to any more.
pub(crate) const MAX_LINE: usize = 16 * 1024 * 1024;
/// How many parts a message may have: each takes many times its length in memory.
pub(crate) const MAX_PARTS: usize = 1_000_000;
/// How many lines that are no messages are passed over: many programs greet on standard output.
const MAX_STRAY_LINES: u32 = 100;

/// The two pipes of a program.
pub(crate) struct Pipes {
    stdin: Arc<Mutex<Option<ChildStdin>>>,
    messages: mpsc::Receiver<ServerJsonRpcMessage>,
    remains: Option<Remains>,
    fate: Arc<Fate>,
}

impl Pipes {
    /// Begins to read.
    pub(crate) fn new(running: Running, fate: &Arc<Fate>) -> Self {
        let (sender, messages) = mpsc::channel(64);
        tokio::spawn(read(running.stdout, sender, Arc::clone(fate)));
        Self {
            stdin: Arc::new(Mutex::new(Some(running.stdin))),
            messages,
            remains: Some(running.remains),
            fate: Arc::clone(fate),
        }
    }
}

impl Transport<RoleClient> for Pipes {
    type Error = std::io::Error;

    fn send(&mut self, item: ClientJsonRpcMessage) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        let stdin = Arc::clone(&self.stdin);
        let over = self.fate.over.clone();
        async move {
            let mut line = serde_json::to_vec(&item)?;
            line.push(b'\n');
            let write = async {
                let mut stdin = stdin.lock().await;
                let pipe = stdin.as_mut().ok_or(std::io::ErrorKind::BrokenPipe)?;
                pipe.write_all(&line).await?;
                pipe.flush().await
            };
            tokio::select! {
                written = write => written,
                () = over.cancelled() => Err(std::io::ErrorKind::BrokenPipe.into()),
            }
        }
    }

    async fn receive(&mut self) -> Option<ServerJsonRpcMessage> {
        tokio::select! {
            biased;
            () = self.fate.over.cancelled() => None,
            message = self.messages.recv() => message,
        }
    }

    async fn close(&mut self) -> Result<(), Self::Error> {
        self.fate.over.cancel();
        // The supervisor takes this as our end.
        self.stdin.lock().await.take();
        self.messages.close();
        if let Some(remains) = self.remains.take() {
            reap(remains, &self.fate).await;
        }
        Ok(())
    }
}

impl Drop for Pipes {
    /// Whoever gives up in the middle of a start has not closed.
    fn drop(&mut self) {
        self.fate.over.cancel();
        if let (Some(remains), Ok(runtime)) = (self.remains.take(), tokio::runtime::Handle::try_current()) {
            let (stdin, fate) = (Arc::clone(&self.stdin), Arc::clone(&self.fate));
            runtime.spawn(async move {
                stdin.lock().await.take();
                reap(remains, &fate).await;
            });
        }
    }
}

/// Reads lines until the pipe closes or the rules are broken.
async fn read(mut stdout: impl AsyncRead + Unpin, messages: mpsc::Sender<ServerJsonRpcMessage>, fate: Arc<Fate>) {
    let mut line = Vec::new();
    let mut chunk = vec![0; 64 * 1024];
    let mut stray = 0;
    loop {
        let read = tokio::select! {
            read = stdout.read(&mut chunk) => read,
            () = fate.over.cancelled() => return,
        };
        let Ok(read @ 1..) = read else {
            return fate.broken("the server closed its output");
        };
        let mut rest = &chunk[..read];
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            line.extend_from_slice(&rest[..end]);
            rest = &rest[end + 1..];
            match understand(&line) {
                Line::Message(message) => {
                    if messages.send(*message).await.is_err() {
                        return;
                    }
                }
                Line::Empty => {}
                Line::Stray => stray += 1,
                Line::Monster => return fate.broken("the server sent a message of more than a million parts"),
            }
            if stray > MAX_STRAY_LINES {
                return fate.broken("the server prints what is no message");
            }
            line.clear();
            line.shrink_to(1024 * 1024);
        }
        line.extend_from_slice(rest);
        if line.len() > MAX_LINE {
            return fate.broken("the server sent a line of more than 16 MiB");
        }
    }
}

enum Line {
    Message(Box<ServerJsonRpcMessage>),
    Empty,
    Stray,
    Monster,
}

fn understand(line: &[u8]) -> Line {
    let line = line.trim_ascii();
    if line.is_empty() {
        return Line::Empty;
    }
    if parts(line) > MAX_PARTS {
        return Line::Monster;
    }
    serde_json::from_slice(line).map_or(Line::Stray, |message| Line::Message(Box::new(message)))
}

/// Counts the parts of a JSON text without building them.
pub(crate) fn parts(text: &[u8]) -> usize {
    let (mut parts, mut quoted, mut escaped) = (0, false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' | b'[' | b'{' if !quoted => parts += 1,
            _ => {}
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_counted_outside_of_texts_only() {
        assert_eq!(parts(br#"{"a":[1,2,{"b":"x,y,\"[[[,"}],"c":3}"#), 6);
        assert_eq!(parts(br#""a,b,c""#), 0);
    }
}
