//! Models through their public door: the scripted one, and the choice among nodes.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod contract;
mod limits;
mod nodes;
mod observed;
mod prices;
mod routes;
mod scripted;
