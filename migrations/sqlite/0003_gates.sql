-- When tasks of a limit on starts were claimed for the first time. What is held back by a gate is a queued task whose
-- `announced_at` is the largest integer but one; who holds a place is known from the running tasks' terms.
CREATE TABLE gate_starts (
    key        INTEGER PRIMARY KEY,
    namespace  TEXT    NOT NULL,
    gate       TEXT    NOT NULL,
    at         INTEGER NOT NULL,
    -- when it leaves the longest window that counts it
    forget_at  INTEGER NOT NULL
) STRICT;

CREATE INDEX gate_starts_forget ON gate_starts (forget_at);
