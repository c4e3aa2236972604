//! What only the SQLite store promises: its files, its lock, its recovery. The contract runs in `tests/contract.rs`.

mod budgets;
mod files;
mod gates;
mod recovery;
mod support;
