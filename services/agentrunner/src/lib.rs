//! agentrunner
