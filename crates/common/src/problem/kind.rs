//! The list of all errors that leave a service: one stable name, title and status each.

/// What went wrong, in the way that a caller's program tells errors apart.
///
/// A variant's page under `docs/errors/` is [`Kind::page`]; a test compares them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// The request is not what the operation takes.
    InvalidRequest,
    /// The cursor does not belong to this list.
    InvalidCursor,
    /// The body is larger than accepted.
    BodyTooLarge,
    /// The body is not JSON by its content type.
    UnsupportedMediaType,
    /// The body came too slowly.
    RequestTimeout,
    /// No such path.
    NotFound,
    /// The path does not have this method.
    MethodNotAllowed,
    /// The host is not one of this server's names.
    MisdirectedRequest,
    /// A page of another origin tried to change something.
    ForeignOrigin,
    /// The caller may not do this.
    Forbidden,
    /// The task does not exist.
    UnknownTask,
    /// The task has ended.
    TaskEnded,
    /// The task's status does not allow this.
    TaskConflict,
    /// No call of the task waits for this decision.
    UnknownApproval,
    /// The decision is about another call than the one that waits.
    ApprovalMismatch,
    /// Somebody has decided already.
    AlreadyDecided,
    /// The signal's name belongs to the platform.
    ReservedSignal,
    /// The task has no such file.
    UnknownArtifact,
    /// No such server of tools, or it has no such tool.
    UnknownTool,
    /// The thread does not exist.
    UnknownThread,
    /// The agent does not exist.
    UnknownAgent,
    /// The agent's version does not exist.
    UnknownVersion,
    /// The agent's definition has faults.
    InvalidAgent,
    /// The stored value does not exist.
    UnknownValue,
    /// The idempotency key was used for another request.
    IdempotencyMismatch,
    /// The value is not at the version that was expected.
    VersionMismatch,
    /// The write must say which version it replaces.
    PreconditionRequired,
    /// The scope belongs to the platform.
    ReservedScope,
    /// A value is larger than what is stored.
    TooLarge,
    /// The operation did not end in time.
    Timeout,
    /// There is more work than can be done.
    Overloaded,
    /// Something that the operation needs is not available.
    Unavailable,
    /// A defect.
    Internal,
}

struct Entry {
    slug: &'static str,
    status: u16,
    title: &'static str,
    meaning: &'static str,
    remedy: &'static str,
}

const fn entry(
    slug: &'static str,
    status: u16,
    title: &'static str,
    meaning: &'static str,
    remedy: &'static str,
) -> Entry {
    Entry { slug, status, title, meaning, remedy }
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 33] = [
        Self::InvalidRequest,
        Self::InvalidCursor,
        Self::BodyTooLarge,
        Self::UnsupportedMediaType,
        Self::RequestTimeout,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::MisdirectedRequest,
        Self::ForeignOrigin,
        Self::Forbidden,
        Self::UnknownTask,
        Self::TaskEnded,
        Self::TaskConflict,
        Self::UnknownApproval,
        Self::ApprovalMismatch,
        Self::AlreadyDecided,
        Self::ReservedSignal,
        Self::UnknownArtifact,
        Self::UnknownTool,
        Self::UnknownThread,
        Self::UnknownAgent,
        Self::UnknownVersion,
        Self::InvalidAgent,
        Self::UnknownValue,
        Self::IdempotencyMismatch,
        Self::VersionMismatch,
        Self::PreconditionRequired,
        Self::ReservedScope,
        Self::TooLarge,
        Self::Timeout,
        Self::Overloaded,
        Self::Unavailable,
        Self::Internal,
    ];

    const fn entry(self) -> Entry {
        match self {
            Self::InvalidRequest => entry(
                "invalid-request",
                400,
                "The request is invalid",
                "The path, the query, a header or the body is not what the operation takes. Nothing was done.",
                "Each entry of `errors` names a place and a reason. A `pointer` that begins with `/` is a JSON pointer \
                 (RFC 6901) into the body; `path.NAME`, `query.NAME` and `header.NAME` name a parameter; an empty one is \
                 the body as a whole. `hint`, where present, is what was probably meant. The body must be one JSON value \
                 in UTF-8 with no unknown and no repeated fields, at most 64 levels deep, without NUL characters, lone \
                 surrogates, or numbers that would have to be rounded.",
            ),
            Self::InvalidCursor => entry(
                "invalid-cursor",
                400,
                "The cursor does not belong to this list",
                "The `cursor` was changed, cut off, or comes from a list with other filters.",
                "Pass `next_cursor` of the page before unchanged and keep the filters, or begin again without a cursor.",
            ),
            Self::BodyTooLarge => entry(
                "body-too-large",
                413,
                "The body is too large",
                "The body is larger than this operation accepts. It was not read to its end, and nothing was done.",
                "Send less; `detail` names the limit. Large inputs belong into an object store, with a reference in the \
                 request.",
            ),
            Self::UnsupportedMediaType => entry(
                "unsupported-media-type",
                415,
                "The body's type is not supported",
                "The body is not declared as JSON, or is compressed or encoded in a way that is not accepted.",
                "Send `Content-Type: application/json` and the body in UTF-8 without `Content-Encoding`.",
            ),
            Self::RequestTimeout => entry(
                "request-timeout",
                408,
                "The body came too slowly",
                "The whole body did not arrive in time. Nothing was done.",
                "Repeat the request, over a better connection.",
            ),
            Self::NotFound => entry(
                "not-found",
                404,
                "There is nothing at this path",
                "No operation has this path.",
                "Look at `/docs` of the service for its operations.",
            ),
            Self::MethodNotAllowed => entry(
                "method-not-allowed",
                405,
                "The path does not have this method",
                "The path exists, but not with this HTTP method.",
                "The header `Allow` names the methods; `/docs` says what each does.",
            ),
            Self::MisdirectedRequest => entry(
                "misdirected-request",
                421,
                "The host is not one of this server's names",
                "The server listens on the local machine only, and the request names a host that is neither an IP address \
                 nor `localhost`. This keeps web pages from reaching it by DNS rebinding.",
                "Use `localhost` or `127.0.0.1`, or add the name to the service's allowed hosts.",
            ),
            Self::ForeignOrigin => entry(
                "foreign-origin",
                403,
                "Pages of other origins may not change anything",
                "The request would change something and was sent by a web page of another origin.",
                "Send it from a program, or from a page that this server serves.",
            ),
            Self::Forbidden => entry(
                "forbidden",
                403,
                "This is not allowed",
                "The caller may not do this.",
                "`detail` says what would be needed.",
            ),
            Self::UnknownTask => entry(
                "unknown-task",
                404,
                "The task does not exist",
                "No task has this id in the namespace: it never existed, or retention deleted it after its end.",
                "List the tasks to find its id.",
            ),
            Self::TaskEnded => entry(
                "task-ended",
                409,
                "The task has ended",
                "The operation needs a task that has not ended; this one succeeded, failed or was cancelled.",
                "Read its status and result. A failed or cancelled task can be retried.",
            ),
            Self::TaskConflict => entry(
                "task-conflict",
                409,
                "The task's status does not allow this",
                "The operation does not fit what the task is doing now.",
                "`detail` names the status and what would be needed; read the task and decide again.",
            ),
            Self::UnknownApproval => entry(
                "unknown-approval",
                404,
                "Nothing waits for this decision",
                "No call with this id waits for a decision in this task: it never did, nobody decided in time, or the task \
                 began anew since.",
                "Read `waiting_for` of the task, or list its approvals, and decide about what is open.",
            ),
            Self::ApprovalMismatch => entry(
                "approval-mismatch",
                409,
                "The decision is about another call",
                "The `digest` is not that of the call that waits now. Nothing was decided: whoever decides must have seen the \
                 very tool and arguments.",
                "Read the approval again, look at its tool and arguments, and send its `digest` with the decision.",
            ),
            Self::AlreadyDecided => entry(
                "already-decided",
                409,
                "Somebody has decided already",
                "The first decision counts, and this is another one. It changed nothing.",
                "`detail` says who decided what and when; the journal of the task keeps it. To stop what was allowed, cancel \
                 the task.",
            ),
            Self::ReservedSignal => entry(
                "reserved-signal",
                400,
                "Signals of this name belong to the platform",
                "Names that begin with `approval/` or `budget/` carry decisions of people about calls and money. They are not \
                 taken as plain signals, so that nobody decides by accident. Nothing was done.",
                "Use `POST /tasks/{task_id}/approvals/{call_id}` or `POST /tasks/{task_id}/budget`, or another name for your \
                 own signal.",
            ),
            Self::UnknownArtifact => entry(
                "unknown-artifact",
                404,
                "The task has no such file",
                "No file of this name is kept with the task: it was never written, or has another name.",
                "List the task's files; names are compared letter by letter.",
            ),
            Self::UnknownTool => entry(
                "unknown-tool",
                404,
                "The server has no such tool",
                "No server of tools is declared under this name, or it has no tool of this name that could be approved.",
                "List the servers and their tools with `agentrunner tools list`; servers are declared in `config/tools.yml`.",
            ),
            Self::UnknownThread => entry(
                "unknown-thread",
                404,
                "The thread does not exist",
                "No thread has this id in the namespace.",
                "List the threads to find its id; a task that names a new thread makes it.",
            ),
            Self::UnknownAgent => entry(
                "unknown-agent",
                404,
                "The agent does not exist",
                "No agent has this name, or its file has never been valid.",
                "List the agents for their names, and look at `/configs/errors` of the config service for broken files.",
            ),
            Self::UnknownVersion => entry(
                "unknown-version",
                404,
                "The version does not exist",
                "The agent exists, but never had this version.",
                "List its versions.",
            ),
            Self::InvalidAgent => entry(
                "invalid-agent",
                422,
                "The agent's definition has faults",
                "The YAML of the agent cannot be used; the last good version, if any, stays in use.",
                "Each entry of `errors` names a place and a reason; `agentrunner agents validate FILE` shows the same with \
                 the lines.",
            ),
            Self::UnknownValue => entry(
                "unknown-value",
                404,
                "The value does not exist",
                "Nothing is stored under this key: it was never put, was deleted, or its time to live has passed.",
                "List the scope's keys.",
            ),
            Self::IdempotencyMismatch => entry(
                "idempotency-mismatch",
                409,
                "The idempotency key was used for another request",
                "The same `Idempotency-Key` came before with another body. Nothing was done now.",
                "Use one new key for each piece of work, and the same key only to repeat the very same request. `detail` \
                 names the task of the first one.",
            ),
            Self::VersionMismatch => entry(
                "version-mismatch",
                412,
                "The value is not at the expected version",
                "Somebody else wrote in between: the condition in `If-Match` or `If-None-Match` does not hold. Nothing was \
                 written.",
                "Read the value with its new `ETag`, apply the change to it, and write again with that tag.",
            ),
            Self::PreconditionRequired => entry(
                "precondition-required",
                428,
                "The write must name the version that it replaces",
                "This write would replace something without knowing what.",
                "Read first, and send the `ETag` as `If-Match`.",
            ),
            Self::ReservedScope => entry(
                "reserved-scope",
                403,
                "The scope belongs to the platform",
                "Values in this scope are the platform's own. They can be read, not written.",
                "Choose another scope for your own values.",
            ),
            Self::TooLarge => entry(
                "too-large",
                413,
                "Something is larger than what is stored",
                "A value, a name or a text is above a limit of the record.",
                "`detail` names the limit.",
            ),
            Self::Timeout => entry(
                "timeout",
                504,
                "The operation did not end in time",
                "The service gave up waiting. Whether the operation took effect is not known.",
                "Repeat it if it can be repeated (reads, and whatever carries an `Idempotency-Key`), else read first.",
            ),
            Self::Overloaded => entry(
                "overloaded",
                429,
                "There is more work than can be done",
                "A limit on the amount of work was reached. Nothing was done.",
                "Wait as long as `Retry-After` says and repeat the request.",
            ),
            Self::Unavailable => entry(
                "unavailable",
                503,
                "Something that the operation needs is not available",
                "The record or another service cannot be reached, or this one is stopping.",
                "Repeat the request after `Retry-After`; `/health/ready` of the service says what is down.",
            ),
            Self::Internal => entry(
                "internal",
                500,
                "The service failed",
                "A defect of the platform, or data that it does not understand.",
                "Look for the `trace_id` in the service's log, and report it with the lines found.",
            ),
        }
    }

    /// The stable name.
    pub const fn slug(self) -> &'static str {
        self.entry().slug
    }

    /// The HTTP status.
    pub const fn status(self) -> u16 {
        self.entry().status
    }

    /// The summary for a person; the same for every occurrence.
    pub const fn title(self) -> &'static str {
        self.entry().title
    }

    /// Finds a kind by its slug, or by the path that ends with it.
    pub fn from_slug(text: &str) -> Option<Self> {
        let slug = text.rsplit('/').next().unwrap_or(text);
        Self::ALL.into_iter().find(|kind| kind.slug() == slug)
    }

    /// Its page under `docs/errors/`, which the server also shows at the path that `type` names.
    pub fn page(self) -> String {
        let Entry { slug, status, title, meaning, remedy } = self.entry();
        format!(
            "# {title}\n\n`/errors/{slug}` · HTTP {status}\n\n## What it means\n\n{meaning}\n\n## What to do\n\n{remedy}\n"
        )
    }
}
