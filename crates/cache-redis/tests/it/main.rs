//! What may be forgotten, in a real Redis.

mod contract;
mod outages;
mod strange;
mod support;
