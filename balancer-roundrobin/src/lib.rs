//! The round_robin load-balancing policy for gRPC.
