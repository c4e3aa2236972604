-- Budgets and artifacts: a task's terms, all that its models used, and the accounts that tasks pay from.

-- limits and accounts as JSON; NULL when there are none
ALTER TABLE tasks ADD COLUMN terms               TEXT;
ALTER TABLE tasks ADD COLUMN cached_input_tokens INTEGER NOT NULL DEFAULT 0;
ALTER TABLE tasks ADD COLUMN cache_write_tokens  INTEGER NOT NULL DEFAULT 0;
ALTER TABLE tasks ADD COLUMN reasoning_tokens    INTEGER NOT NULL DEFAULT 0;
-- billionths of a US dollar
ALTER TABLE tasks ADD COLUMN cost                INTEGER NOT NULL DEFAULT 0;

-- One row an account and window that anything was ever reserved in. Reservations remember these keys, so none is given twice.
CREATE TABLE accounts (
    key                   INTEGER PRIMARY KEY AUTOINCREMENT,
    namespace             TEXT    NOT NULL,
    -- 0 task, 1 hour, 2 day
    span                  INTEGER NOT NULL,
    begin_at              INTEGER NOT NULL,
    name                  TEXT    NOT NULL,
    spent_usd             INTEGER NOT NULL,
    spent_tokens          INTEGER NOT NULL,
    spent_model_calls     INTEGER NOT NULL,
    spent_tool_calls      INTEGER NOT NULL,
    reserved_usd          INTEGER NOT NULL,
    reserved_tokens       INTEGER NOT NULL,
    reserved_model_calls  INTEGER NOT NULL,
    reserved_tool_calls   INTEGER NOT NULL,
    -- one bit for each thing counted whose warning was given
    warned                INTEGER NOT NULL,
    UNIQUE (namespace, span, begin_at, name)
) STRICT;

CREATE INDEX accounts_window ON accounts (begin_at) WHERE span > 0;

-- Model calls under way: a row goes when its call is settled, or when its lease ends, so there are as many as calls.
CREATE TABLE reservations (
    task_key     INTEGER NOT NULL,
    -- the number of the step that will be the answer
    seq          INTEGER NOT NULL,
    usd          INTEGER NOT NULL,
    tokens       INTEGER NOT NULL,
    model_calls  INTEGER NOT NULL,
    tool_calls   INTEGER NOT NULL,
    -- keys of accounts, 8 bytes each
    accounts     BLOB    NOT NULL,
    PRIMARY KEY (task_key, seq)
) STRICT, WITHOUT ROWID;

-- The model steps whose tool calls were paid: no lease pays for them again.
CREATE TABLE paid_tools (
    task_key  INTEGER NOT NULL,
    seq       INTEGER NOT NULL,
    PRIMARY KEY (task_key, seq)
) STRICT, WITHOUT ROWID;

-- Files kept with a task; their bytes are in the blob store.
CREATE TABLE artifacts (
    task_key    INTEGER NOT NULL,
    name        TEXT    NOT NULL,
    media_type  TEXT    NOT NULL,
    size        INTEGER NOT NULL,
    digest      BLOB    NOT NULL,
    at          INTEGER NOT NULL,
    PRIMARY KEY (task_key, name)
) STRICT, WITHOUT ROWID;

CREATE INDEX artifacts_digest ON artifacts (digest);
