//! A backend in a process of its own, which can be killed and stopped as processes are.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::Stdio,
    time::Duration,
};

use balancer_testpeer::{Answer, Backend, Server};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, Command},
};

/// Says in a child process what to serve: a name and the milliseconds an answer takes.
const SERVE: &str = "BALANCER_RELIABILITY_SERVE";

/// Says in a child process on which address to serve, if not on 127.0.0.1.
const SERVE_ON: &str = "BALANCER_RELIABILITY_SERVE_ON";

/// What a child says before its address.
const LISTENING: &str = "listening on ";

/// What a child says when it waits for its network.
const JOINING: &str = "in a network of its own";

/// A running child process. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    pub(crate) addr: SocketAddr,
}

fn this_program() -> PathBuf {
    std::env::current_exe().expect("the test's own program")
}

// === impl Process ===

impl Process {
    /// Starts a backend of this name that takes `work` for each answer.
    pub(crate) async fn start(name: &str, work: Duration) -> Self {
        let command = Command::new(this_program());
        Self::begin(command, name, work, async |_| {}).await
    }

    /// Starts a backend at `ip` in a network of its own. `join` is given the process's id and puts an
    /// interface into that network; then `script` sets it up.
    pub(crate) async fn start_beyond(
        name: &str,
        ip: IpAddr,
        script: &str,
        join: impl AsyncFnOnce(u32),
    ) -> Self {
        let mut command = Command::new("unshare");
        let script = format!("echo {JOINING} && read go && {script} && exec \"$0\" \"$@\"");
        command
            .args(["-n", "sh", "-c", &script])
            .arg(this_program());
        command.env(SERVE_ON, ip.to_string());
        let join = async |child: &mut Child| {
            join(child.id().expect("it runs")).await;
            let go = child.stdin.as_mut().expect("a pipe");
            go.write_all(b"\n").await.expect("it listens");
        };
        Self::begin(command, name, Duration::ZERO, join).await
    }

    /// `command` runs this program with the arguments that it is given.
    async fn begin(
        mut command: Command,
        name: &str,
        work: Duration,
        join: impl AsyncFnOnce(&mut Child),
    ) -> Self {
        let mut child = command
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
        let mut join = Some(join);
        while let Some(line) = lines.next_line().await.expect("a pipe") {
            if line == JOINING
                && let Some(join) = join.take()
            {
                join(&mut child).await;
            }
            if let Some((_, addr)) = line.split_once(LISTENING) {
                let addr = addr.parse().expect("an address");
                return Self { child, addr };
            }
        }
        panic!("a child must say where it listens");
    }

    /// The process's id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id().expect("it runs")
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
        let pid = self.id().to_string();
        let sent = Command::new("kill").args([signal, &pid]).status().await;
        assert!(sent.expect("there is a kill").success(), "{signal} {pid}");
    }
}

/// Not a test: what the child processes run. Ends when its parent does.
#[tokio::test(
    crate = "crate::support::harness",
    flavor = "multi_thread",
    worker_threads = 1
)]
#[ignore = "started by the rows that need a process"]
async fn a_backend_in_a_process_of_its_own() {
    let Ok(what) = std::env::var(SERVE) else {
        return;
    };
    let (name, work) = what.split_once(':').expect("a name and milliseconds");
    let work = Duration::from_millis(work.parse().expect("milliseconds"));
    let backend = Backend::new(name).answer(Answer::Echo.after(work));
    let ip = std::env::var(SERVE_ON).map(|ip| ip.parse().expect("an address"));
    let ip = ip.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let server = Server::start_on(ip, backend).await.expect("a free port");
    println!("{LISTENING}{}", server.addr());
    // The parent never writes; the end of the pipe is the end of the parent.
    let parent = || std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
    let _ = tokio::task::spawn_blocking(parent).await;
}
