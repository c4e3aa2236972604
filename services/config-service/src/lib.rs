//! config-service
