//! The suite that every adapter of the system of record must pass.
//!
//! An adapter's test program calls every one of `cases` with a `World` around a fresh, empty store:
//!
//! ```ignore
//! for case in state::contract::cases() {
//!     let world = World::new(make_store(clock.clone()).await, clock);
//!     case.run(world).await;
//! }
//! ```
//!
//! A case panics when the adapter breaks the contract. Nothing here knows an adapter.

mod accounts;
mod artifacts;
mod budget_program;
mod budgets;
mod claiming;
mod ending;
mod gate_program;
mod gates;
mod journal;
mod lists;
mod parking;
mod program;
mod purging;
mod stopping;
mod submitting;
mod threads;
mod time;
mod values;
mod world;

use std::future::Future;
use std::pin::Pin;

pub use world::World;

/// One rule of the contract.
pub struct Case {
    /// A sentence about behaviour, as an identifier.
    pub name: &'static str,
    run: Run,
}

type Run = fn(World) -> Pin<Box<dyn Future<Output = ()>>>;

impl Case {
    /// Tries the rule on a fresh store; panics when it does not hold.
    pub async fn run(&self, world: World) {
        (self.run)(world).await;
    }
}

impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// All rules.
pub fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for group in [
        submitting::CASES,
        claiming::CASES,
        journal::CASES,
        ending::CASES,
        parking::CASES,
        stopping::CASES,
        threads::CASES,
        time::CASES,
        lists::CASES,
        values::CASES,
        purging::CASES,
        budgets::CASES,
        accounts::CASES,
        artifacts::CASES,
        gates::CASES,
        program::CASES,
        budget_program::CASES,
        gate_program::CASES,
    ] {
        all.extend(group.iter().map(|(name, run)| Case { name, run: *run }));
    }
    all
}
