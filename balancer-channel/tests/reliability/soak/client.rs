//! The client's process, as its parent sees it.

use std::{collections::BTreeMap, process::Stdio, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use super::{
    wire::{Failed, News, Order, Sample, Summary},
    world::World,
};
use crate::load::within;

/// Says in the client's process what it starts its chances from.
pub(super) const CLIENT: &str = "BALANCER_RELIABILITY_SOAK";

/// What is before each line of news.
pub(super) const SAYS: &str = "soak: ";

/// The running process. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Client {
    child: Child,
    orders: ChildStdin,
    news: Lines<BufReader<ChildStdout>>,
    heard: Heard,
    summary: Option<Summary>,
}

/// All that it said.
#[derive(Debug, Default)]
pub(super) struct Heard {
    pub(super) samples: Vec<Sample>,
    /// RPCs of the steady load that were answered, by backend.
    pub(super) answered: BTreeMap<String, usize>,
    pub(super) failed: Vec<Failed>,
    pub(super) begun: usize,
    pub(super) tail: Duration,
}

// === impl Client ===

impl Client {
    /// Starts it, and waits until it has been answered.
    pub(super) async fn start(seed: u64, world: &World) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("the test's own program"))
            .args(["--exact", "soak::load::a_client_in_a_process_of_its_own"])
            .args(["--ignored", "--nocapture"])
            .env(CLIENT, seed.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the test's own program runs");
        let orders = child.stdin.take().expect("a pipe");
        let news = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let mut client = Self {
            child,
            orders,
            news,
            heard: Heard::default(),
            summary: None,
        };
        client.tell(&world.resolution(None)).await;
        let first = async {
            while client.heard.answered.is_empty() {
                client.hear().await;
            }
        };
        within("the first RPCs must be answered", first).await;
        client
    }

    /// Gives it an order.
    pub(super) async fn tell(&mut self, order: &Order) {
        let mut line = serde_json::to_string(order).expect("JSON");
        line.push('\n');
        let told = self.orders.write_all(line.as_bytes()).await;
        told.expect("it listens");
    }

    /// Listens for so long.
    pub(super) async fn listen(&mut self, time: Duration) {
        self.while_listening(tokio::time::sleep(time)).await;
    }

    /// Listens while something else happens.
    pub(super) async fn while_listening<T>(&mut self, other: impl Future<Output = T>) -> T {
        tokio::pin!(other);
        loop {
            tokio::select! {
                value = &mut other => return value,
                () = self.hear() => {}
            }
        }
    }

    /// Ends the load and the process, which must have nothing left by then.
    pub(super) async fn end(mut self) -> Heard {
        self.tell(&Order::End).await;
        let last = async {
            while self.summary.is_none() {
                self.hear().await;
            }
        };
        within("the load must end", last).await;
        let status = within("the client must end", async {
            while let Ok(Some(line)) = self.news.next_line().await {
                println!("client: {line}");
            }
            self.child.wait().await.expect("it ran")
        });
        assert!(status.await.success(), "something is left of the client");
        let summary = self.summary.take().unwrap_or_default();
        println!("{summary:?}");
        self.heard.begun = summary.begun;
        self.heard.tail = summary.tail;
        self.heard
    }

    /// The next news. Nothing is lost if this is dropped.
    async fn hear(&mut self) {
        let line = self.news.next_line().await.expect("a pipe");
        let line = line.expect("the client must not end by itself");
        let Some((_, news)) = line.split_once(SAYS) else {
            return println!("client: {line}");
        };
        match serde_json::from_str(news).expect("news") {
            News::Sample(sample) => self.heard.samples.push(sample),
            News::Answered(by) => {
                for (backend, count) in by {
                    *self.heard.answered.entry(backend).or_default() += count;
                }
            }
            News::Failed(failed) => self.heard.failed.push(failed),
            News::End(summary) => self.summary = Some(summary),
        }
    }
}
