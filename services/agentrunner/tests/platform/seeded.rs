//! Bugs on purpose, which the harness must find: a harness that finds nothing proves nothing.
//!
//! Each bug is a trigger in the database of its run, so that the record does what a wrong statement would do while the
//! services are the real ones. It must be found for its own reason, which the verdict names.

use std::time::Duration;

use testkit::effect_sink::EffectSink;
use testkit::servers::query;
use tokio::time::Instant;

use crate::backends::Backends;
use crate::client::{Client, Load};
use crate::house::House;
use crate::matrix::DRAIN;
use crate::service::Role;
use crate::verdict::{Allowed, check};

/// A trigger `when` (`BEFORE UPDATE ON tasks`), what it does, and what the verdict must say.
struct Bug {
    when: &'static str,
    does: &'static str,
    found: &'static str,
    /// Whether it shows only after a crash.
    crash: bool,
}

async fn must_be_found(bug: Bug) {
    let found = bug.found;
    let run = tokio::spawn(with_bug(bug));
    let Err(ended) = run.await else { panic!("nobody noticed: {found}") };
    let panic = ended.into_panic();
    let said = panic
        .downcast_ref::<String>()
        .map_or_else(|| panic.downcast_ref::<&str>().copied().unwrap_or_default().to_owned(), Clone::clone);
    assert!(said.contains(found), "{found:?} is not what was found: {said}");
}

async fn with_bug(bug: Bug) {
    let sink = EffectSink::start(None).await.expect("the sink starts");
    let backends = Backends::shared().await;
    let record = backends.postgres;
    let mut house = House::new(backends, &sink.address().to_string());
    let mut platform = house.spawn_all(1, |role| {
        // Certainly in the middle of a task.
        if bug.crash && role == Role::Pool { vec![("FAILPOINT", "C12:kill:1")] } else { Vec::new() }
    });
    for service in platform.services.values_mut() {
        assert!(service.wait_ready(&house.http).await, "a service ended: {}", service.log());
    }
    let sql = format!(
        "CREATE FUNCTION bug() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN {} END$$; \
         CREATE TRIGGER bug {} FOR EACH ROW EXECUTE FUNCTION bug()",
        bug.does, bug.when
    );
    query(&house.backends.record_url(record), &sql).expect("the bug is installed");
    let mut client = Client::new(&house.http, Load { keyed: 2, once: 1, approved: 1, asker: 1 });
    if bug.crash {
        let urls = platform.urls();
        let deadline = Instant::now() + DRAIN;
        while platform.get(Role::Pool).exited().is_none() {
            client.round(&urls).await;
            assert!(Instant::now() < deadline, "the pool does not die:\n{}", platform.logs());
        }
        let again = house.spawn((Role::Pool, 0), &[]);
        platform.services.insert((Role::Pool, 0), again);
    }
    client.finish(&platform, Duration::from_secs(20)).await;
    check(&mut client, &house, &platform, &sink, record, Allowed::Unknowns).await;
}

macro_rules! bugs {
    ($($name:ident: $when:literal does $does:literal, crash $crash:literal, found $found:literal;)*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            must_be_found(Bug { when: $when, does: $does, found: $found, crash: $crash }).await;
        })*
    };
}

bugs! {
    a_claim_does_not_count_up_the_epoch: "BEFORE UPDATE ON tasks"
        does "IF OLD.epoch > 0 THEN NEW.epoch := OLD.epoch; END IF; RETURN NEW;", crash true,
        found "fell silent";
    a_step_is_written_under_an_old_epoch: "BEFORE INSERT ON steps"
        does "IF NEW.place & 1 = 0 AND NEW.epoch > 1 THEN NEW.epoch := NEW.epoch - 1; END IF; RETURN NEW;", crash false,
        found "after a later epoch had written";
    a_task_takes_an_epoch_that_it_never_had: "BEFORE INSERT ON steps"
        does "IF NEW.place & 1048575 = 3 THEN NEW.epoch := NEW.epoch + 7; END IF; RETURN NEW;", crash false,
        found "of a higher epoch than their task ever had";
    an_idempotency_key_is_forgotten: "AFTER INSERT ON idempotency"
        does "DELETE FROM idempotency WHERE namespace = NEW.namespace AND key = NEW.key; RETURN NULL;", crash false,
        found "when asked again";
    an_accepted_task_is_lost: "AFTER INSERT ON tasks"
        does "IF NEW.agent = 'asker' THEN DELETE FROM tasks WHERE key = NEW.key; END IF; RETURN NULL;", crash false,
        found "not everything ended";
    a_success_is_overwritten: "BEFORE UPDATE ON tasks"
        does "IF NEW.status = 3 AND NEW.agent = 'keyed' THEN NEW.status := 5; END IF; RETURN NEW;", crash false,
        found "\"cancelled\"";
    an_end_is_not_kept: "BEFORE UPDATE ON tasks"
        does "IF NEW.status = 3 AND NEW.agent = 'asker' THEN NEW.status := 1; END IF; RETURN NEW;", crash false,
        found "not everything ended";
    a_call_is_not_paid: "BEFORE UPDATE ON accounts"
        does "NEW.spent_tool_calls := OLD.spent_tool_calls; RETURN NEW;", crash false,
        found "calls were begun, but";
    a_reservation_is_never_settled: "BEFORE UPDATE ON accounts"
        does "NEW.reserved_tokens := greatest(NEW.reserved_tokens, OLD.reserved_tokens); RETURN NEW;", crash false,
        found "something is still reserved";
    a_lease_is_never_given_back: "BEFORE UPDATE ON tasks"
        does "IF OLD.status = 1 AND NEW.status = 0 THEN RETURN NULL; END IF; RETURN NEW;", crash true,
        found "not everything ended";
}
