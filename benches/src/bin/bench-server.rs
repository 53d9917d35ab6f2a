//! Echo servers for the benchmarks, in a process of their own: prints their addresses, then serves
//! until its standard input ends.

#![forbid(unsafe_code)]

use std::path::PathBuf;

use benches::{caller::Error, contenders::SERVER_NAME, echo::Echo};
use clap::Parser;
use tokio::{io::AsyncReadExt, net::TcpListener};
use tokio_stream::{StreamExt, wrappers::TcpListenerStream};
use tonic::transport::{Identity, Server, ServerTlsConfig};

/// Serves echoes on ports of the loopback interface.
#[derive(Parser)]
struct Cli {
    /// How many servers.
    #[arg(default_value_t = 8)]
    count: usize,
    /// TLS; where to write the certificate to trust, as PEM.
    #[arg(long, value_name = "FILE")]
    tls: Option<PathBuf>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let cli = Cli::parse();
    let identity = match &cli.tls {
        None => None,
        Some(file) => {
            let made = rcgen::generate_simple_self_signed([SERVER_NAME.to_owned()])?;
            std::fs::write(file, made.cert.pem())?;
            let key = made.signing_key.serialize_pem();
            Some(Identity::from_pem(made.cert.pem(), key))
        }
    };
    let mut addresses = Vec::new();
    for _ in 0..cli.count {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        addresses.push(listener.local_addr()?.to_string());
        // tonic's own `tcp_nodelay` is for listeners of its own.
        let incoming = TcpListenerStream::new(listener).map(|stream| {
            let stream = stream?;
            stream.set_nodelay(true)?;
            Ok::<_, std::io::Error>(stream)
        });
        let mut server = Server::builder()
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size(1 << 21);
        if let Some(identity) = &identity {
            server = server.tls_config(ServerTlsConfig::new().identity(identity.clone()))?;
        }
        let server = server.add_service(Echo);
        tokio::spawn(server.serve_with_incoming(incoming));
    }
    println!("{}", addresses.join(","));
    // The bench that started it holds the other end.
    tokio::io::stdin().read_to_end(&mut Vec::new()).await?;
    Ok(())
}
