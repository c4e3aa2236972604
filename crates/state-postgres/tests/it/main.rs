//! What only the PostgreSQL store promises: several processes on one database, outages, a pooler in
//! between, migrations. The contract runs in
//! `tests/contract.rs`.

mod cut;
mod limits;
mod migrations;
mod opening;
mod outages;
mod pooler;
mod sharing;
mod support;
