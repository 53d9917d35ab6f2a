//! The pick_first load-balancing policy for gRPC.
