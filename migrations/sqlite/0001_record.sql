-- The system of record. Times are microseconds since 1970, ids are the 16 bytes of their UUID, statuses and modes are
-- positions in the domain's `ALL`. Rows are reached by integer keys; a body is stored once, in its step.

-- One row a task, without its payload: it is rewritten at every change of status, so it stays small.
CREATE TABLE tasks (
    key               INTEGER PRIMARY KEY,
    id                BLOB    NOT NULL UNIQUE,
    namespace         TEXT    NOT NULL,
    idempotency_key   TEXT,
    digest            BLOB    NOT NULL,
    agent             TEXT    NOT NULL,
    agent_version     INTEGER NOT NULL,
    mode              INTEGER NOT NULL,
    -- 0 queued, 1 running, 2 waiting, 3 succeeded, 4 failed, 5 cancelled
    status            INTEGER NOT NULL,
    priority          INTEGER NOT NULL,
    attempt           INTEGER NOT NULL DEFAULT 0,
    epoch             INTEGER NOT NULL DEFAULT 0,
    worker            BLOB,
    -- leases lost without a step in between
    losses            INTEGER NOT NULL DEFAULT 0,
    cancel_requested  INTEGER NOT NULL DEFAULT 0,
    created_at        INTEGER NOT NULL,
    run_at            INTEGER,
    expires_at        INTEGER,
    deadline          INTEGER,
    started_at        INTEGER,
    finished_at       INTEGER,
    -- when a queued task was last handed out for announcing; NULL: not yet; the largest integer: an earlier task of its
    -- thread has not ended
    announced_at      INTEGER,
    thread_key        INTEGER,
    thread            BLOB,
    -- the thread's last message at the first claim, so that every claim sees the same conversation
    thread_seen       INTEGER,
    for_user          TEXT,
    parent            BLOB,
    parent_call       TEXT,
    -- its parent's journal has its outcome
    told              INTEGER NOT NULL DEFAULT 0,
    depth             INTEGER NOT NULL,
    metadata          TEXT,
    failure           TEXT,
    input_tokens      INTEGER NOT NULL DEFAULT 0,
    output_tokens     INTEGER NOT NULL DEFAULT 0,
    usage_estimated   INTEGER NOT NULL DEFAULT 0,
    trace             TEXT
) STRICT;

CREATE INDEX tasks_live ON tasks (status, announced_at, run_at) WHERE status < 3;
CREATE INDEX tasks_ended ON tasks (finished_at, status, namespace) WHERE status > 2;
CREATE INDEX tasks_dead ON tasks (namespace) WHERE status > 3;
CREATE INDEX tasks_agent ON tasks (namespace, agent);
CREATE INDEX tasks_parent ON tasks (parent) WHERE parent IS NOT NULL;
CREATE INDEX tasks_thread ON tasks (thread_key) WHERE thread_key IS NOT NULL;
CREATE INDEX tasks_thread_live ON tasks (thread_key) WHERE thread_key IS NOT NULL AND status < 3;
CREATE INDEX tasks_expiry ON tasks (expires_at) WHERE expires_at IS NOT NULL AND started_at IS NULL AND status = 0;
CREATE INDEX tasks_deadline ON tasks (deadline) WHERE deadline IS NOT NULL AND status IN (0, 2);

-- The journals. place = tasks.key << 20 | seq, so a journal is one range of its index. Steps are stored in the order of
-- their arrival: a commit of many tasks' steps fills whole pages instead of touching a page for every task.
CREATE TABLE steps (
    key    INTEGER PRIMARY KEY,
    place  INTEGER NOT NULL,
    epoch  INTEGER NOT NULL,
    at     INTEGER NOT NULL,
    -- 0 JSON, 1 JSON compressed with zstd
    enc    INTEGER NOT NULL,
    body   BLOB    NOT NULL
) STRICT;

CREATE UNIQUE INDEX steps_place ON steps (place);

-- What waiting tasks wait for; a row goes when its wait is resolved.
CREATE TABLE waits (
    key         INTEGER PRIMARY KEY,
    task_key    INTEGER NOT NULL,
    call_id     TEXT    NOT NULL,
    child       BLOB,
    signal      TEXT,
    timer_at    INTEGER,
    expires_at  INTEGER,
    -- the earlier of the two
    due_at      INTEGER,
    fallback    TEXT
) STRICT;

CREATE INDEX waits_task ON waits (task_key);
CREATE INDEX waits_child ON waits (child) WHERE child IS NOT NULL;
CREATE INDEX waits_due ON waits (due_at) WHERE due_at IS NOT NULL;

-- Signals that came before their wait, and the keys of those that were delivered.
CREATE TABLE signals (
    key       INTEGER PRIMARY KEY,
    task_key  INTEGER NOT NULL,
    name      TEXT    NOT NULL,
    dedupe    TEXT,
    used      INTEGER NOT NULL,
    sender    TEXT,
    enc       INTEGER NOT NULL,
    value     BLOB    NOT NULL
) STRICT;

CREATE INDEX signals_task ON signals (task_key, name);
CREATE UNIQUE INDEX signals_dedupe ON signals (task_key, dedupe) WHERE dedupe IS NOT NULL;

-- Outlives its task, for as long as keys are kept; `status` is how the task had ended when it was deleted.
CREATE TABLE idempotency (
    namespace   TEXT    NOT NULL,
    key         TEXT    NOT NULL,
    task        BLOB    NOT NULL,
    digest      BLOB    NOT NULL,
    created_at  INTEGER NOT NULL,
    status      INTEGER,
    PRIMARY KEY (namespace, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX idempotency_gone ON idempotency (created_at) WHERE status IS NOT NULL;

CREATE TABLE threads (
    key         INTEGER PRIMARY KEY,
    namespace   TEXT    NOT NULL,
    id          BLOB    NOT NULL,
    created_at  INTEGER NOT NULL,
    messages    INTEGER NOT NULL DEFAULT 0,
    UNIQUE (namespace, id)
) STRICT;

-- key = threads.key << 32 | seq
CREATE TABLE thread_messages (
    key   INTEGER PRIMARY KEY,
    task  BLOB    NOT NULL,
    role  TEXT    NOT NULL,
    at    INTEGER NOT NULL,
    enc   INTEGER NOT NULL,
    body  BLOB    NOT NULL
) STRICT;

CREATE TABLE state_values (
    row_key     INTEGER PRIMARY KEY,
    namespace   TEXT    NOT NULL,
    scope       TEXT    NOT NULL,
    key         TEXT    NOT NULL,
    version     INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL,
    expires_at  INTEGER,
    enc         INTEGER NOT NULL,
    body        BLOB    NOT NULL,
    UNIQUE (namespace, scope, key)
) STRICT;

CREATE INDEX state_values_expiry ON state_values (expires_at) WHERE expires_at IS NOT NULL;
