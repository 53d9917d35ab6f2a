//! Load-balancing policies by name, and the gRPC service config.
