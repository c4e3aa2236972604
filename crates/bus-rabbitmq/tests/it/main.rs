//! The work queue on a real RabbitMQ.

mod contract;
mod outages;
mod rate;
mod sharing;
mod strange;
mod support;
mod topology;
