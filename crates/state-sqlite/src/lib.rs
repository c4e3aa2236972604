//! state-sqlite
