//! Tools of MCP servers: programs that we start, and servers elsewhere, all of them declared by the operator.
//!
//! The protocol itself is `rmcp`'s; what is here are the rules under which a server is believed, kept alive, cut off:
//!
//! | room | what is in it |
//! |---|---|
//! | `config` | the operator's file, and which programs may be started |
//! | `process` | a program, its supervisor, its pipes |
//! | `http` | a server elsewhere, through the guard of outgoing requests |
//! | `connection`, `police`, `handler` | one conversation: what may be asked and answered |
//! | `instance`, `server`, `source` | starting and stopping; what was accepted of a server |
//! | `definition`, `text`, `result` | what a server says, made harmless |
//! | `tool`, `resources` | what agents call |

mod config;
mod connection;
mod definition;
mod fate;
mod handler;
mod http;
mod instance;
mod names;
mod police;
mod process;
mod resources;
mod result;
mod server;
mod source;
mod text;
mod tool;
mod trial;

pub use config::{
    Grant, OAuthSpec, SecretError, ServerSpec, Setting, SettingRef, ToolRules, ToolsFile, ToolsFileError, Trust,
};
pub use http::{Login, LoginError};
pub use process::child::Launcher;
pub use process::supervisor;
pub use source::{McpTools, Options};
pub use tool::IDEMPOTENCY_KEY;
