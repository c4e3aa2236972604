//! agent-pool
