//! From a folder to agents: [`folder`] looks, [`settling`] waits until a change is complete, [`plan`] decides,
//! [`reconciler`] records, and [`catalogue`] shows.

pub(crate) mod catalogue;
pub(crate) mod folder;
mod owners;
mod plan;
pub(crate) mod reconciler;
mod settling;
