//! What runs beside the requests.

pub(crate) mod watcher;
