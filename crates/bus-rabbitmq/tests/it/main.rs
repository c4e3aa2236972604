//! The work queue on a real RabbitMQ.

mod contract;
mod outages;
mod sharing;
mod strange;
mod support;
mod topology;
