//! The methods of the record and how each may be called: the one table that says which calls are repeated, and why.

use std::time::Duration;

/// A method of the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Method {
    /// Its name, as in the trait; `state.NAME` is its subject.
    pub(crate) name: &'static str,
    /// What kind of call it is.
    pub(crate) class: Class,
    /// Whether a call may be repeated when nobody knows what became of it.
    pub(crate) again: Again,
}

impl Method {
    /// Whether it is one of the calls that every task needs: those that are under way at once are sent together.
    pub(crate) fn is_gathered(self) -> bool {
        let often =
            [Self::SUBMIT, Self::CLAIM, Self::APPEND, Self::RESERVE, Self::FINISH, Self::TASK, Self::TASK_WITH_ANSWER];
        often.contains(&self)
    }

    /// Where it is served.
    pub(crate) fn subject(self) -> String {
        format!("state.{}", self.name)
    }
}

/// What kind of call a method is; how long it is waited for follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// Changes nothing.
    Read,
    /// Changes something.
    Write,
    /// Keeps leases alive: as short as a read, and never refused because other calls are too many.
    Beat,
    /// Asks whether the store answers: the shortest, never repeated, and never refused because other calls are too many.
    Ping,
}

/// Whether a call may be repeated whose answer was lost: it may have been done, and a copy of it may still come late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Again {
    /// Harmless, for this reason.
    Harmless(&'static str),
    /// Not harmless, for this reason: the caller hears `Unavailable`.
    Never(&'static str),
}

impl Again {
    /// Tells whether it is harmless.
    pub(crate) fn is_harmless(self) -> bool {
        matches!(self, Self::Harmless(_))
    }
}

macro_rules! methods {
    ($($constant:ident = $name:literal, $class:ident, $again:ident($why:expr);)*) => {
        impl Method {
            $(pub(crate) const $constant: Self = Self { name: $name, class: Class::$class, again: Again::$again($why) };)*

            /// All of them.
            #[cfg(test)]
            pub(crate) const ALL: &[Self] = &[$(Self::$constant),*];
        }
    };
}

const READ: &str = "changes nothing";
const LEASE_ENDS: &str = "what was done ended the lease, so a repetition is refused as `LeaseLost`, which is true: the worker \
     holds nothing any more; what the lost answer would have announced is found by the sweeper";
const ROUND: &str = "the next round of its loop is the repetition";

methods! {
    SUBMIT = "submit", Write, Harmless("the task's id, or its key, names what was recorded");
    CLAIM = "claim", Write, Never("what was done made a lease that nobody knows; it runs out, or the server gives it back");
    RENEW = "renew", Beat, Harmless("a lease that is renewed twice is held as long as one that is renewed once");
    APPEND = "append", Write, Harmless("(task, seq) is unique, and the same step again changes nothing");
    PARK = "park", Write, Harmless(LEASE_ENDS);
    RESERVE = "reserve", Write, Harmless("the same id under one lease is reserved once; a copy that comes after its \
        settlement is counted as spent when the lease ends, which errs on the safe side");
    SETTLE = "settle", Write, Never("the id may be reserved anew by then, and a late copy would free that reservation");
    FINISH = "finish", Write, Harmless("the same outcome under the lease that ended the task is accepted, and changes nothing");
    FAIL_ATTEMPT = "fail_attempt", Write, Harmless(LEASE_ENDS);
    RELEASE = "release", Write, Harmless(LEASE_ENDS);
    PUT_ARTIFACT = "put_artifact", Write, Never("a late copy would replace a newer file of the same name");
    RETRY = "retry", Write, Never("a task that was retried and failed again would be retried twice");
    CANCEL = "cancel", Write, Never("a task that was ended by it answers `Ended`, as if somebody else had done it");
    SIGNAL_WITH_KEY = "signal", Write, Harmless("the same key again changes nothing");
    SIGNAL = "signal", Write, Never("without a key it would be delivered twice");
    DUE = "due", Write, Never(ROUND);
    REAP = "reap", Write, Never(ROUND);
    EXPIRE = "expire", Write, Never(ROUND);
    PURGE = "purge", Write, Never(ROUND);
    PUT_VALUE = "put_value", Write, Never("it makes another version, and its condition no longer holds once it was done");
    DELETE_VALUE = "delete_value", Write, Never("a late copy would delete what was put after it");
    LEASES = "leases", Read, Harmless(READ);
    BUDGET = "budget", Read, Harmless(READ);
    ACCOUNTS = "accounts", Read, Harmless(READ);
    GATE = "gate", Read, Harmless(READ);
    ARTIFACTS = "artifacts", Read, Harmless(READ);
    REFERENCED = "referenced", Read, Harmless(READ);
    TASK = "task", Read, Harmless(READ);
    ANSWER = "answer", Read, Harmless(READ);
    TASK_WITH_ANSWER = "task_with_answer", Read, Harmless(READ);
    TASKS = "tasks", Read, Harmless(READ);
    JOURNAL = "journal", Read, Harmless(READ);
    THREADS = "threads", Read, Harmless(READ);
    THREAD_MESSAGES = "thread_messages", Read, Harmless(READ);
    VALUE = "value", Read, Harmless(READ);
    VALUES = "values", Read, Harmless(READ);
    STATS = "stats", Read, Harmless(READ);
    PING = "ping", Ping, Never("whoever asks wants to know how it is now");
}

/// Counts a call that ended: `side` is `client` or `server`, `outcome` is `ok` or why not.
pub(crate) fn observe(side: &'static str, method: Method, outcome: &'static str, took: Duration) {
    let labels = [("side", side), ("method", method.name), ("outcome", outcome)];
    metrics::counter!("state_requests_total", &labels).increment(1);
    metrics::histogram!("state_request_seconds", &labels[..2]).record(took.as_secs_f64());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_has_one_class_whatever_its_arguments() {
        for method in Method::ALL {
            assert!(Method::ALL.iter().all(|other| other.name != method.name || other.class == method.class));
        }
    }

    #[test]
    fn every_read_is_harmless_and_every_reason_is_given() {
        for method in Method::ALL {
            let (Again::Harmless(why) | Again::Never(why)) = method.again;
            assert!(!why.is_empty(), "{}", method.name);
            assert!(method.class != Class::Read || method.again.is_harmless(), "{}", method.name);
        }
    }
}
