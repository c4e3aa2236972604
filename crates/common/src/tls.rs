//! The one TLS provider of the process: two providers in one tree make every client panic at its first connection.

/// Installs the TLS provider for the whole process; calling it again does nothing.
pub fn install() {
    // An error only says that a provider is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
