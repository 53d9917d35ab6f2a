//! The generated code of the examples is what the generator makes of their proto file.
//!
//! `cargo xtask codegen` writes it anew. No protoc: the proto file is read by protox.

use std::{fs, path::Path};

/// Says that the committed file is to be written, not compared.
const BLESS: &str = "BALANCER_BLESS_CODEGEN";

const HEADER: &str = "\
//! Messages, client and server of `proto/helloworld.proto`. Written by `cargo xtask codegen`.

";

#[test]
fn the_committed_code_is_what_the_generator_makes() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let protos = protox::compile(["helloworld.proto"], [examples.join("proto")]);
    let protos = protos.expect("the proto file is valid");
    let out = tempfile::tempdir().expect("a temporary directory");
    tonic_prost_build::configure()
        .out_dir(out.path())
        .compile_fds(protos)
        .expect("the generator takes the proto file");
    let made = fs::read_to_string(out.path().join("helloworld.rs")).expect("generated code");
    let made = format!("{HEADER}{made}");

    let path = examples.join("pb/helloworld.rs");
    if std::env::var_os(BLESS).is_some() {
        fs::write(&path, made).expect("the file can be written");
        return;
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    // A checkout may have changed the line ends.
    let committed = committed.replace("\r\n", "\n");
    assert!(
        committed == made,
        "examples/pb/helloworld.rs must be what the generator makes: run `cargo xtask codegen`"
    );
}
