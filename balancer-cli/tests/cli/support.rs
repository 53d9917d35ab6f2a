//! Runs the binary.

use std::process::{Output, Stdio};

use serde_json::Value;
use tokio::{io::AsyncWriteExt, process::Command};

pub(crate) const ROUND_ROBIN: &str = r#"{"loadBalancingConfig":[{"round_robin":{}}]}"#;

/// What the binary said and how it ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// The binary, about to be run.
pub(crate) fn balancer<A: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_balancer"));
    command
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Runs the binary to its end.
pub(crate) async fn run<A: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = A>) -> Ran {
    let output = balancer(args).output().await;
    Ran::new(output.expect("the binary must run"))
}

/// Runs the binary with something on its stdin.
pub(crate) async fn run_with_stdin(args: &[&str], stdin: &[u8]) -> Ran {
    let mut child = balancer(args)
        .stdin(Stdio::piped())
        .spawn()
        .expect("the binary must run");
    let mut pipe = child.stdin.take().expect("stdin is a pipe");
    let stdin = stdin.to_owned();
    let writing = tokio::spawn(async move {
        // The binary need not read all of it.
        let _ = pipe.write_all(&stdin).await;
    });
    let output = child.wait_with_output().await;
    writing.await.expect("writing must not panic");
    Ran::new(output.expect("the binary must end"))
}

// === impl Ran ===

impl Ran {
    pub(crate) fn new(output: Output) -> Self {
        Self {
            code: output.status.code().expect("must exit, not be killed"),
            stdout: String::from_utf8(output.stdout).expect("stdout must be UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("stderr must be UTF-8"),
        }
    }

    /// The one JSON object on stdout.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        let json: Value = match serde_json::from_str(&self.stdout) {
            Ok(json) => json,
            Err(error) => panic!("stdout must be one JSON value: {error}: {self:?}"),
        };
        assert!(json.is_object(), "stdout must be an object: {self:?}");
        json
    }
}

/// The names of an object's fields, sorted.
#[track_caller]
pub(crate) fn keys(object: &Value) -> Vec<&str> {
    let object = object.as_object().expect("must be an object");
    let mut keys: Vec<&str> = object.keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}
