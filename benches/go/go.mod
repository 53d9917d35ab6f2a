// The version of grpc-go is chosen by `cargo xtask bench --go`, for the toolchain that there is.
module bench

go 1.18
