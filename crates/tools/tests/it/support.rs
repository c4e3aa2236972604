//! A caller, a name service that says what a test wants, and a server whose every byte a test chooses.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use domain::{AgentSpec, ExecutionMode, Namespace, Task, TaskId, TaskStatus, Timestamp, Usage};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tools::egress::{EgressOptions, HostPort, Resolver};
use tools::{BuiltinOptions, CallContext, ToolError, ToolReply, Toolkit, builtin};
use uuid::Uuid;

/// Calls tools as the agent loop does: through the toolbox, with the arguments checked.
pub(crate) struct Caller {
    pub(crate) agent: AgentSpec,
    toolkit: Toolkit,
    task: Task,
}

impl Caller {
    pub(crate) fn new(agent: Value, egress: EgressOptions) -> Self {
        let agent: AgentSpec = serde_json::from_value(agent).expect("an agent");
        let task = task(&agent);
        Self { agent, toolkit: builtin(BuiltinOptions { egress }), task }
    }

    /// An agent that may use `http_request`, with these settings of the tool.
    pub(crate) fn http(settings: &Value, egress: EgressOptions) -> Self {
        let mut tool = json!({ "name": "http_request" });
        tool.as_object_mut().expect("an object").extend(settings.as_object().expect("an object").clone());
        Self::new(json!({ "name": "tester", "tools": [tool] }), egress)
    }

    pub(crate) async fn call(&self, tool: &str, arguments: Value) -> Result<ToolReply, ToolError> {
        self.call_with_key(tool, arguments, "key-1").await
    }

    pub(crate) async fn call_with_key(&self, tool: &str, arguments: Value, key: &str) -> Result<ToolReply, ToolError> {
        let toolbox = self.toolkit.for_agent(&self.agent);
        let allowed = toolbox.check(tool, &arguments).expect("the arguments match the schema");
        let context = CallContext {
            task: &self.task,
            agent: &self.agent,
            call_id: "call-1",
            idempotency_key: key.to_owned(),
            now: now(),
            workspace: &tools::NoWorkspace,
        };
        allowed.tool.call(&context, arguments).await
    }

    /// Calls `http_request` and expects an answer.
    pub(crate) async fn fetch(&self, arguments: Value) -> Value {
        match self.call("http_request", arguments).await {
            Ok(ToolReply::Done(answer)) => answer,
            other => panic!("no answer: {other:?}"),
        }
    }

    pub(crate) async fn refused(&self, arguments: Value) -> ToolError {
        self.call("http_request", arguments.clone()).await.err().unwrap_or_else(|| panic!("accepted: {arguments}"))
    }
}

pub(crate) fn now() -> Timestamp {
    "2030-01-31T09:00:00Z".parse().expect("a moment")
}

pub(crate) fn task(agent: &AgentSpec) -> Task {
    Task {
        id: TaskId(Uuid::from_u128(1)),
        namespace: Namespace::default(),
        idempotency_key: None,
        agent: agent.name.clone(),
        agent_version: 1,
        mode: ExecutionMode::Autonomous,
        status: TaskStatus::Running,
        priority: 5,
        attempt: 0,
        epoch: 1,
        worker: None,
        created_at: now(),
        run_at: None,
        expires_at: None,
        deadline: None,
        started_at: Some(now()),
        finished_at: None,
        thread: None,
        user: None,
        parent: None,
        depth: 0,
        metadata: BTreeMap::new(),
        cancel_requested: false,
        failure: None,
        usage: Usage::default(),
        trace: None,
        terms: domain::Terms::default(),
    }
}

/// The operator's settings that open these local servers, by address.
pub(crate) fn opened(addresses: &[SocketAddr]) -> EgressOptions {
    let allow_private = addresses.iter().map(|address| host_port(&address.to_string())).collect();
    EgressOptions { allow_private, ..EgressOptions::default() }
}

pub(crate) fn host_port(text: &str) -> HostPort {
    text.parse().expect("a host and a port")
}

/// Answers each name with the next of its answers, and with the last one for ever; counts.
#[derive(Default)]
pub(crate) struct Names {
    answers: Mutex<HashMap<String, VecDeque<Vec<IpAddr>>>>,
    lookups: AtomicUsize,
}

impl Names {
    pub(crate) fn with(names: &[(&str, &[&[&str]])]) -> Arc<Self> {
        let answers = names.iter().map(|(name, answers)| {
            let parse = |list: &&[&str]| list.iter().map(|text| text.parse().expect("an address")).collect();
            ((*name).to_owned(), answers.iter().map(parse).collect())
        });
        Arc::new(Self { answers: Mutex::new(answers.collect()), lookups: AtomicUsize::new(0) })
    }

    pub(crate) fn lookups(&self) -> usize {
        self.lookups.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Resolver for Names {
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        self.lookups.fetch_add(1, Ordering::SeqCst);
        let mut answers = self.answers.lock().expect("not poisoned");
        let answers = answers.get_mut(name).ok_or_else(|| io::Error::other("no such name"))?;
        let answer = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
        answer.ok_or_else(|| io::Error::other("no such name"))
    }
}

/// A request as a server saw it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) line: String,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    pub(crate) fn path(&self) -> &str {
        self.line.split(' ').nth(1).unwrap_or_default()
    }
}

/// A server on loopback that counts connections and keeps requests.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
    requests: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    /// Answers every request with the bytes that `answer` makes of it, then closes.
    pub(crate) async fn answering(answer: impl Fn(&Seen) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::with("127.0.0.1:0", move |mut stream, seen| {
            let bytes = answer(&seen);
            async move {
                // A client that has read enough may be gone already.
                let _ = stream.write_all(&bytes).await;
                let _ = stream.shutdown().await;
            }
        })
        .await
    }

    /// Hands every connection to `serve`, after its first request was read.
    pub(crate) async fn with<F, S>(at: &str, serve: S) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
        S: Fn(TcpStream, Seen) -> F + Send + Sync + 'static,
    {
        let listener = TcpListener::bind(at).await.expect("a free port");
        let server = Self {
            address: listener.local_addr().expect("bound"),
            connections: Arc::default(),
            requests: Arc::default(),
        };
        let (own, serve) = (server.clone(), Arc::new(serve));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                own.connections.fetch_add(1, Ordering::SeqCst);
                let (own, serve) = (own.clone(), Arc::clone(&serve));
                tokio::spawn(async move {
                    if let Some(seen) = read_request(&mut stream).await {
                        own.requests.lock().expect("not poisoned").push(seen.clone());
                        serve(stream, seen).await;
                    }
                });
            }
        });
        server
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub(crate) fn requests(&self) -> Vec<Seen> {
        self.requests.lock().expect("not poisoned").clone()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

async fn read_request(stream: &mut TcpStream) -> Option<Seen> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).ok()?;
    let mut lines = head.split("\r\n");
    let line = lines.next()?.to_owned();
    let headers: HashMap<String, String> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length = headers.get("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut body = bytes[end..].to_vec();
    while body.len() < length {
        if stream.read_buf(&mut body).await.ok()? == 0 {
            return None;
        }
    }
    Some(Seen { line, headers, body })
}

pub(crate) fn response(status: &str, headers: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let mut bytes =
        format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n{headers}\r\n", body.len())
            .into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

pub(crate) fn ok(body: impl AsRef<[u8]>) -> Vec<u8> {
    response("200 OK", "content-type: text/plain\r\n", body)
}

pub(crate) fn redirect(status: u16, location: &str) -> Vec<u8> {
    response(&format!("{status} Moved"), &format!("location: {location}\r\n"), "")
}

/// Waits for something that another task does, and gives up loudly.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.unwrap_or_else(|_| panic!("{what} did not happen"))
}
