//! The gRPC load-balancing contract: balancers, pickers, SubConns, errors and the policy author's base.
