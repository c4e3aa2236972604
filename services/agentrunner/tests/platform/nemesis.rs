//! Faults at random, for as long as one likes: `scripts/torture --minutes 60`.
//!
//! An episode is a platform with a record of its own, two dozen tasks, and some faults at random moments. Its seed decides
//! about everything that is decided here; `scripts/torture --seed N` repeats an episode.

use std::time::Duration;

use rustix::process::Signal;
use tokio::time::Instant;

use crate::backends::OwnServers;
use crate::dice::{Dice, number};
use crate::run::Run;
use crate::service::Role;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "as long as one likes; scripts/torture runs it"]
async fn random_faults() {
    let first = number("TORTURE_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    let end = Instant::now() + Duration::from_secs(60 * number("TORTURE_MINUTES").unwrap_or(0));
    let mut seed = first;
    loop {
        println!("episode: scripts/torture --seed {seed}");
        episode(seed).await;
        seed += 1;
        if Instant::now() >= end {
            println!("{} episodes, nothing lost and nothing done twice", seed - first);
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_episode_of_random_faults() {
    episode(1).await;
}

async fn episode(seed: u64) {
    let mut dice = Dice::new(seed);
    let (servers, backends) = OwnServers::start().await;
    let mut run = Run::prepare(servers, backends).await;
    run.platform = run.house.start(1 + dice.roll(2) as usize).await;
    for _ in 0..3 + dice.roll(4) {
        run.for_a_while(dice.up_to(Duration::from_secs(2))).await;
        fault(&mut run, &mut dice).await;
    }
    run.finish().await;
}

async fn fault(run: &mut Run, dice: &mut Dice) {
    let names: Vec<_> = run.platform.services.keys().copied().collect();
    let name = names[dice.roll(names.len() as u64) as usize];
    let pause = dice.up_to(Duration::from_secs(4));
    let kind = dice.roll(9);
    println!("fault {kind} at {name:?} for {pause:?}");
    match kind {
        0..=2 => {
            let service = run.platform.services.get_mut(&name).expect("it runs");
            service.signal(if kind == 2 { Signal::TERM } else { Signal::KILL });
            service.wait_exit().await;
            if name.0 != Role::Orchestrator {
                run.for_a_while(pause / 4).await;
            }
            let again = run.house.spawn(name, &[]);
            run.platform.services.insert(name, again);
        }
        3 => {
            run.platform.services[&name].signal(Signal::STOP);
            tokio::time::sleep(pause).await;
            run.platform.services[&name].signal(Signal::CONT);
        }
        4 => {
            run.servers.postgres.kill();
            run.for_a_while(pause / 2).await;
            run.servers.postgres.start_again().await;
        }
        5 => {
            run.servers.rabbitmq.kill();
            run.for_a_while(pause / 2).await;
            run.servers.rabbitmq.start_again().await;
        }
        6 => {
            run.servers.nats.pause();
            run.for_a_while(pause).await;
            run.servers.nats.resume();
        }
        7 => run.servers.nats.wipe().await,
        _ => {
            tokio::join!(run.servers.rabbitmq.wipe(), run.servers.nats.wipe(), run.servers.redis.wipe());
        }
    }
}
