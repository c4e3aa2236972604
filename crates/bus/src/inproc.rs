//! Messages within one process.
/// In-process bus.
#[derive(Default)]
pub struct InprocBus {}
