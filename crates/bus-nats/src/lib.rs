//! Events and requests over NATS.
