//! Agents' files and their versions.

pub(super) mod errors;
pub(super) mod get;
pub(super) mod list;
pub(super) mod validate;
pub(super) mod version;
pub(super) mod versions;

use common::problem::{Kind, Problem};
use domain::AgentName;

use super::App;
use crate::CatalogueEntry;

/// Finds an agent of the folder.
fn find(app: &App, name: &AgentName) -> Result<CatalogueEntry, Problem> {
    app.catalogue.view().agents.get(name).cloned().ok_or_else(|| {
        Problem::new(Kind::UnknownAgent).detail(format!(
            "no file in the agents' folder makes an agent {name}; /configs/errors lists files that are wrong"
        ))
    })
}
