//! The use cases: the rules, without HTTP.

mod names;
mod values;

pub(crate) use names::{Key, Scope};
pub(crate) use values::{Expected, ValueError, Values};
