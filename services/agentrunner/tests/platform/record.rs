//! The record as PostgreSQL has it, read around all services.

use testkit::servers::query;

/// What must be nowhere in a record in which all tasks have ended: each question counts what breaks a law.
const LAWS: &[(&str, &str)] = &[
    ("tasks that have not ended", "SELECT count(*) FROM tasks WHERE status < 3"),
    (
        "tasks beyond one for each idempotency key",
        "SELECT count(*) - count(DISTINCT (namespace, idempotency_key)) FROM tasks WHERE idempotency_key IS NOT NULL",
    ),
    (
        "idempotency keys that name another task than the task that has them",
        "SELECT count(*) FROM idempotency i JOIN tasks t ON t.namespace = i.namespace AND t.idempotency_key = i.key \
         WHERE t.id <> i.task",
    ),
    (
        "journals with a gap",
        "SELECT count(*) FROM (SELECT place >> 20 FROM steps GROUP BY 1 \
         HAVING max(place & 1048575) + 1 <> count(*)) AS broken",
    ),
    (
        "steps written under an epoch after a later epoch had written",
        "SELECT count(*) FROM (SELECT epoch, max(epoch) OVER (PARTITION BY place >> 20 ORDER BY place \
         ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before FROM steps WHERE epoch > 0) AS s \
         WHERE epoch < before",
    ),
    (
        "steps of a higher epoch than their task ever had",
        "SELECT count(*) FROM steps s JOIN tasks t ON t.key = s.place >> 20 WHERE s.epoch > t.epoch",
    ),
    (
        "sub-tasks without a parent",
        "SELECT count(*) FROM tasks c WHERE parent IS NOT NULL AND NOT EXISTS \
      (SELECT FROM tasks p WHERE p.id = c.parent)",
    ),
    (
        "sub-tasks beyond one for each call of their parent",
        "SELECT count(*) - count(DISTINCT (parent, parent_call)) FROM tasks WHERE parent IS NOT NULL",
    ),
    (
        "waits of tasks that have ended",
        "SELECT count(*) FROM waits w JOIN tasks t ON t.key = w.task_key WHERE t.status > 2",
    ),
];

/// Asks all questions, and tells which laws are broken.
pub(crate) fn check_record(url: &str, problems: &mut Vec<String>) {
    for (what, sql) in LAWS {
        match query(url, sql) {
            Ok(count) if count == "0" => {}
            Ok(count) => problems.push(format!("the record has {count} {what}")),
            Err(error) => problems.push(format!("the record cannot be asked for {what}: {error}")),
        }
    }
}
