//! Transactions that meet others: PostgreSQL takes one back with 40001 or 40P01, and somebody must try again.
//!
//! Real conflicts are rare here, because lanes wait for locks in one order. So a trigger makes them up: one draw decides
//! about each transaction that writes tasks or journals, whether it is taken back at its first write or at its commit.

use std::time::Duration;

use serde_json::json;
use testkit::servers::query;
use tokio::time::Instant;

use crate::client::Load;
use crate::deliveries::UNDISTURBED;
use crate::dice::Dice;
use crate::matrix::DRAIN;
use crate::run::Run;
use crate::service::Role;

/// Three times as much as usual, so that some conflicts are certain.
const MORE: Load = Load { keyed: 10, once: 10, approved: 6, asker: 2 };
/// The tries of one operation when every one meets another: in a fast lane, and five times in the full lane.
const TRIES: u64 = 6;

/// A run that is given up may wait for its lease to run out: so short, and long enough for a busy machine.
const LEASE: (&str, &str) = ("AGENT_LEASE", "6s");

/// `fault` has how many of a hundred transactions are taken back. What sequences count is never taken back. Renewals have
/// a connection of their own, and tries that are not counted.
const CONFLICTS: &str = "
CREATE TABLE fault (rate bigint NOT NULL, seed bigint NOT NULL);
CREATE SEQUENCE draws;
CREATE SEQUENCE conflicts;
CREATE SEQUENCE renewals;
CREATE FUNCTION conflict() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    drawn text := coalesce(current_setting('fault.drawn', true), '');
    drop_at bigint;
    counted text := 'conflicts';
BEGIN
    IF drawn = '' THEN
        SELECT CASE WHEN lot % 100 >= rate THEN 'none'
            ELSE (ARRAY['40001', '40P01', 'commit'])[1 + lot / 100 % 3] END INTO drawn
            FROM (SELECT rate, hashint8extended(nextval('draws'), seed) & 1048575 AS lot FROM fault) AS lots;
        PERFORM set_config('fault.drawn', drawn, true);
    END IF;
    IF drawn <> 'none' AND (drawn = 'commit') = (TG_ARGV[0] = 'commit') THEN
        IF TG_TABLE_NAME = 'tasks' AND TG_OP = 'UPDATE' THEN
            IF NEW.beat > OLD.beat THEN
                counted := 'renewals';
            END IF;
        END IF;
        PERFORM nextval(counted);
        RAISE EXCEPTION 'another transaction was in the way'
            USING ERRCODE = CASE drawn WHEN 'commit' THEN '40001' ELSE drawn END;
    END IF;
    RETURN NEW;
END$$;
CREATE TRIGGER conflict_at_once BEFORE INSERT OR UPDATE ON tasks FOR EACH ROW EXECUTE FUNCTION conflict('at once');
CREATE TRIGGER conflict_at_once BEFORE INSERT ON steps FOR EACH ROW EXECUTE FUNCTION conflict('at once');
CREATE CONSTRAINT TRIGGER conflict_at_commit AFTER INSERT OR UPDATE ON tasks DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION conflict('commit');
CREATE CONSTRAINT TRIGGER conflict_at_commit AFTER INSERT ON steps DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION conflict('commit');
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f23_five_of_a_hundred_transactions_meet_another() {
    let mut run = Run::with_conflicts(UNDISTURBED).await;
    run.client.add(MORE);
    run.meet(5);
    let figures = run.verdict().await;
    run.check_counts().await;
    let calls = 2 * run.client.load.keyed + run.client.load.once + run.client.load.approved;
    assert_eq!(
        (figures.unknown, figures.forfeited, figures.deliveries),
        (0, 0, calls),
        "conflicts were noticed:\n{}",
        run.platform.logs()
    );
    run.platform.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f23_thirty_of_a_hundred_transactions_meet_another() {
    let mut run = Run::with_conflicts(LEASE).await;
    run.client.add(MORE);
    run.meet(30);
    run.verdict().await;
    run.check_counts().await;
    run.platform.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f23_a_conflict_without_an_end_is_given_up_after_six_tries_and_told() {
    let mut run = Run::with_conflicts(LEASE).await;
    run.meet(100);
    let answer = run.submit_alone().await;
    let told = (answer.status().as_u16(), answer.headers().contains_key("retry-after"));
    assert_eq!(told, (503, true), "{}", answer.text().await.unwrap_or_default());
    assert_eq!(run.count("conflicts"), TRIES, "one layer tries again, and no other does");

    run.meet(0);
    run.until_busy().await;
    run.meet(100);
    run.client.add(MORE);
    run.for_a_while(Duration::from_secs(3)).await;
    run.meet(0);
    let healed = Instant::now();
    run.client.finish(&run.platform, Duration::from_secs(20)).await;
    println!("all ended {:?} after the last conflict", healed.elapsed());
    assert_eq!(run.client.failures(), ["503 with Retry-After"], "clients were told something else");
    run.verdict().await;
    run.check_counts().await;
    run.platform.stop().await;
}

impl Run<()> {
    /// A platform on whose record conflicts can happen; none do yet.
    async fn with_conflicts(lease: (&str, &str)) -> Self {
        let (_, seed) = Dice::of_this_test();
        let mut run = Self::prepare_shared(|_| ()).await;
        run.platform = run.house.spawn_all(1, |_| vec![lease]);
        run.until_ready().await;
        query(&run.record_url(), &format!("{CONFLICTS} INSERT INTO fault VALUES (0, {seed})"))
            .expect("it is installed");
        run
    }

    /// From now on so many of a hundred transactions are taken back.
    fn meet(&self, rate: u32) {
        query(&self.record_url(), &format!("UPDATE fault SET rate = {rate}")).expect("the record answers");
    }

    /// Submits one task, once.
    async fn submit_alone(&self) -> reqwest::Response {
        let deadline = Instant::now() + DRAIN;
        let url = format!("{}/tasks", self.platform.urls()[0]);
        let body = json!({ "agent": "slow", "prompt": "alone" });
        loop {
            let submit = self.client.http.post(&url).header("idempotency-key", "alone").json(&body);
            let answer = submit.send().await.expect("an answer");
            // Agents are read while the platform starts.
            if answer.status() != reqwest::StatusCode::NOT_FOUND || Instant::now() > deadline {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// How many of something happened.
    fn count(&self, sequence: &str) -> u64 {
        let sql = format!("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM {sequence}");
        query(&self.record_url(), &sql).expect("the record answers").parse().expect("a number")
    }

    /// There were conflicts, and each was followed by one try, or given up.
    async fn check_counts(&mut self) {
        self.meet(0);
        let metrics = self.platform.get(Role::States).metrics(&self.house.http).await;
        let retries: u64 = metrics
            .lines()
            .filter(|line| line.starts_with("state_retries_total{"))
            .filter(|line| line.contains("serialization") || line.contains("deadlock"))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
            .sum();
        let (draws, conflicts, renewals) = (self.count("draws"), self.count("conflicts"), self.count("renewals"));
        println!("{draws} transactions, {conflicts} conflicts and {renewals} of renewals, {retries} retries");
        assert!(conflicts > 0, "no transaction met another");
        assert_eq!(retries, conflicts, "conflicts and retries differ");
    }
}
