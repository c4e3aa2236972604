//! PostgreSQL is away again and again, while tasks keep coming.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::client::Load;
use crate::dice::Dice;
use crate::run::Run;

const AWAY: Duration = Duration::from_secs(3);
/// Promised is an end within so long.
const DRAIN: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, Copy)]
enum Outage {
    /// Killed with all its processes.
    Killed,
    /// Stopped by its operator.
    Stopped,
    /// It neither answers nor ends.
    Silent,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f19_postgres_is_away_for_three_seconds_four_times() {
    let (mut dice, _) = Dice::of_this_test();
    let mut run = Run::start().await;
    let mut outages = [Outage::Killed, Outage::Stopped, Outage::Silent, Outage::Killed];
    dice.shuffle(&mut outages);
    for outage in outages {
        run.for_a_while(Duration::from_secs(1) + dice.up_to(Duration::from_secs(4))).await;
        run.client.add(Load { keyed: 2, once: 1, approved: 1, asker: 1 });
        run.for_a_while(dice.up_to(Duration::from_millis(300))).await;
        println!("PostgreSQL is {outage:?}");
        match outage {
            Outage::Killed => run.servers.postgres.kill(),
            Outage::Stopped => run.servers.postgres.stop(),
            Outage::Silent => run.servers.postgres.pause(),
        }
        run.client.add(Load { keyed: 1, once: 1, approved: 0, asker: 0 });
        // Whoever waits for an answer when it is over has given up.
        let _ = timeout(AWAY, run.for_a_while(AWAY)).await;
        match outage {
            Outage::Silent => run.servers.postgres.resume(),
            Outage::Killed | Outage::Stopped => run.servers.postgres.start_again().await,
        }
    }
    let healed = Instant::now();
    run.client.finish(&run.platform, DRAIN).await;
    let (drained, slowest) = (healed.elapsed(), run.client.slowest());
    println!("all ended {drained:.1?} after the last outage; the slowest answer took {slowest:.1?}");
    let failures = run.client.failures();
    assert_eq!(failures, ["503 with Retry-After"], "clients were told something else:\n{}", run.platform.logs());
    run.finish().await;
}
