//! What RPCs end with that were never sent.

use balancer_api::PickError;

use crate::transport::to_tonic;

/// What an RPC ends with that a picker failed.
pub(crate) fn of_pick(error: &PickError) -> tonic::Status {
    match error {
        PickError::Drop(status) => to_tonic(&status.restricted_to_control_plane()),
        other => tonic::Status::unavailable(other.to_string()),
    }
}
