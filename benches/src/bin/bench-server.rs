//! Echo servers for the benchmarks, in a process of their own: prints their addresses, then serves
//! until its standard input ends.

#![forbid(unsafe_code)]

use benches::echo::Echo;
use tokio::{io::AsyncReadExt, net::TcpListener};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let count: usize = std::env::args().nth(1).as_deref().unwrap_or("8").parse()?;
    let mut addresses = Vec::new();
    for _ in 0..count {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        addresses.push(listener.local_addr()?.to_string());
        let server = Server::builder()
            .tcp_nodelay(true)
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size(1 << 21)
            .add_service(Echo);
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    }
    println!("{}", addresses.join(","));
    // The bench that started it holds the other end.
    tokio::io::stdin().read_to_end(&mut Vec::new()).await?;
    Ok(())
}
