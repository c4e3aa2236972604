//! What a worker calls under its lease.

use domain::{Amount, Lease, WorkerId};
use state::{Artifact, AttemptFailed, NewStep, Renewed, ReserveId, Reserved, Transition};

crate::call::calls! {
    Append { lease: Lease, steps: Vec<NewStep> } -> (),
        APPEND => |state| state.append(lease, steps);
    Park { lease: Lease, park: state::Park } -> Transition,
        PARK => |state| state.park(lease, park);
    Reserve { lease: Lease, steps: Vec<NewStep>, reserve: state::Reserve } -> Reserved,
        RESERVE => |state| state.reserve(lease, steps, reserve);
    Settle { lease: Lease, id: ReserveId, spent: Amount } -> (),
        SETTLE => |state| state.settle(lease, id, spent);
    PutArtifact { lease: Lease, artifact: Artifact } -> (),
        PUT_ARTIFACT => |state| state.put_artifact(lease, artifact);
    Finish { lease: Lease, finish: state::Finish } -> Transition,
        FINISH => |state| state.finish(lease, finish);
    FailAttempt { lease: Lease, failed: AttemptFailed } -> Transition,
        FAIL_ATTEMPT => |state| state.fail_attempt(lease, failed);
    Release { lease: Lease } -> Transition,
        RELEASE => |state| state.release(lease);
    Renew { worker: WorkerId, leases: Vec<Lease> } -> Renewed,
        RENEW => |state| renewed(state, worker, leases);
}

async fn renewed(state: &dyn state::State, worker: WorkerId, leases: Vec<Lease>) -> Result<Renewed, state::StateError> {
    let renewed = state.renew(worker, leases).await;
    failpoint::hit("C20");
    renewed
}
