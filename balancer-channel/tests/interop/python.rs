//! Python programs as children: grpcio's server and grpcio's client.

use std::{ffi::OsStr, path::PathBuf, process::Stdio, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

/// How long a program may take to answer a line.
const PATIENCE: Duration = Duration::from_secs(60);

/// An interpreter with grpcio, and our scripts.
#[derive(Debug)]
pub(crate) struct Python {
    interpreter: PathBuf,
    scripts: PathBuf,
}

/// A script that runs; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Script {
    stdin: ChildStdin,
    stdout: Lines<BufReader<ChildStdout>>,
    child: Child,
}

// === impl Python ===

impl Python {
    /// What `cargo xtask interop` has prepared, if it has.
    pub(crate) fn from_env() -> Option<Self> {
        let path = |name| std::env::var_os(name).map(PathBuf::from);
        Some(Self {
            interpreter: path("BALANCER_INTEROP_PYTHON")?,
            scripts: path("BALANCER_INTEROP_SCRIPTS")?,
        })
    }

    /// Starts grpcio's server; answers with it and its port (1 for a unix socket).
    pub(crate) async fn server(&self, name: &str, address: &str, tls: &[PathBuf]) -> (Script, u16) {
        let mut args = vec![OsStr::new(name), OsStr::new(address)];
        args.extend(tls.iter().map(|path| path.as_os_str()));
        let mut script = self.start("server.py", &args);
        let ready = script.line().await;
        let port = ready
            .strip_prefix("ready ")
            .and_then(|port| port.parse().ok());
        let port = port.unwrap_or_else(|| panic!("server.py must say its port, not {ready:?}"));
        (script, port)
    }

    /// Starts grpcio's client.
    pub(crate) fn client(&self, target: &str) -> Script {
        self.start("client.py", &[OsStr::new(target)])
    }

    fn start(&self, script: &str, args: &[&OsStr]) -> Script {
        let mut child = Command::new(&self.interpreter)
            .arg(self.scripts.join(script))
            .args(args)
            // Loopback needs no proxy.
            .env("no_proxy", "*")
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the interpreter must start");
        let stdout = child.stdout.take().expect("it is piped");
        Script {
            stdin: child.stdin.take().expect("it is piped"),
            stdout: BufReader::new(stdout).lines(),
            child,
        }
    }
}

// === impl Script ===

impl Script {
    /// Sends a line.
    pub(crate) async fn say(&mut self, line: &str) {
        let line = format!("{line}\n");
        let sent = self.stdin.write_all(line.as_bytes()).await;
        sent.expect("the script must still read");
    }

    /// The next line it says.
    pub(crate) async fn line(&mut self) -> String {
        let line = timeout(PATIENCE, self.stdout.next_line()).await;
        let line = line.expect("the script must answer").expect("UTF-8");
        line.expect("the script must not end before it answers")
    }

    /// Kills it, and waits until it is gone.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.expect("a child can be killed");
    }
}
