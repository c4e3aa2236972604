//! The real platform: every service as a process of its own, on real PostgreSQL, RabbitMQ, NATS and Redis.
//!
//! Services are killed at named points, held, doubled; backends are killed, wiped, locked and cut off. A client that keeps
//! its promises, an effect sink outside of everything that dies, and the record itself decide whether docs/guarantees.md is
//! kept. `scripts/torture --test NAME` repeats one test.

mod backend_faults;
mod backends;
mod binaries;
mod broker_faults;
mod client;
mod conflicts;
mod deliveries;
mod dice;
#[path = "../crash/history.rs"]
mod history;
mod history_tests;
mod house;
mod matrix;
mod meddler;
mod nemesis;
mod outages;
mod record;
mod replicas;
mod run;
mod seeded;
mod service;
mod verdict;
