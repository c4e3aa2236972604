//! agent-orchestrator
