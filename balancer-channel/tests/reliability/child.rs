//! A backend in a process of its own, which can be killed and stopped as processes are.

use std::{net::SocketAddr, process::Stdio, time::Duration};

use balancer_testpeer::{Answer, Backend, Server};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

/// Says in a child process what to serve: a name and the milliseconds an answer takes.
const SERVE: &str = "BALANCER_RELIABILITY_SERVE";

/// What a child says before its address.
const LISTENING: &str = "listening on ";

/// A running child process. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    pub(crate) addr: SocketAddr,
}

// === impl Process ===

impl Process {
    /// Starts a backend of this name that takes `work` for each answer.
    pub(crate) async fn start(name: &str, work: Duration) -> Self {
        let program = std::env::current_exe().expect("the test's own program");
        let mut child = Command::new(program)
            .args(["--exact", "child::a_backend_in_a_process_of_its_own"])
            .args(["--ignored", "--nocapture"])
            .env(SERVE, format!("{name}:{}", work.as_millis()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the test's own program runs");
        let stdout = child.stdout.take().expect("a pipe");
        let mut lines = BufReader::new(stdout).lines();
        while let Some(line) = lines.next_line().await.expect("a pipe") {
            if let Some((_, addr)) = line.split_once(LISTENING) {
                let addr = addr.parse().expect("an address");
                return Self { child, addr };
            }
        }
        panic!("a child must say where it listens");
    }

    /// SIGKILL; the process is gone when this returns.
    pub(crate) async fn kill(&mut self) {
        self.child.kill().await.expect("it ran");
    }

    /// SIGSTOP: its sockets stay open, and nobody answers.
    pub(crate) async fn stop(&self) {
        self.signal("-STOP").await;
    }

    /// SIGCONT.
    pub(crate) async fn resume(&self) {
        self.signal("-CONT").await;
    }

    async fn signal(&self, signal: &str) {
        let pid = self.child.id().expect("it runs").to_string();
        let sent = Command::new("kill").args([signal, &pid]).status().await;
        assert!(sent.expect("there is a kill").success(), "{signal} {pid}");
    }
}

/// Not a test: what the child processes run. Ends when its parent does.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
#[ignore = "started by the rows that need a process"]
async fn a_backend_in_a_process_of_its_own() {
    let Ok(what) = std::env::var(SERVE) else {
        return;
    };
    let (name, work) = what.split_once(':').expect("a name and milliseconds");
    let work = Duration::from_millis(work.parse().expect("milliseconds"));
    let backend = Backend::new(name).answer(Answer::Echo.after(work));
    let server = Server::start(backend).await.expect("a free port");
    println!("{LISTENING}{}", server.addr());
    // The parent never writes; the end of the pipe is the end of the parent.
    let parent = || std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
    let _ = tokio::task::spawn_blocking(parent).await;
}
