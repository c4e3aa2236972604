//! llm-openai
