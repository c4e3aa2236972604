//! The work queue on RabbitMQ.
