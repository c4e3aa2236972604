//! state-manager
