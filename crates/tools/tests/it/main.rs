//! The built-in tools through their public door, against servers of this process.

mod answers;
mod destinations;
mod local_tools;
mod redirects;
mod requests;
mod support;
mod workspace_tools;
