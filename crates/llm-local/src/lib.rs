//! llm-local
