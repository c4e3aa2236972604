//! The command line of AgentRunner, and the whole platform in one process.
//!
//! | room | what is in it |
//! |---|---|
//! | [`cli`], [`commands`] | what there is to type; one command a file |
//! | [`platform`] | the composition: settings, order of start and stop, where it is found |
//! | [`session`] | a command's way to a platform: a running one, or one in this process |
//! | [`follow`] | a task to its end: what happens, what it asks |
//! | [`output`] | results and a task's life as a person reads them |
//! | [`terminal`], [`exit`] | what a terminal may see; how a command ends |

pub mod cli;
pub mod commands;
pub mod context;
pub mod exit;
pub mod follow;
pub mod models;
pub mod output;
pub mod platform;
pub mod session;
pub mod terminal;
