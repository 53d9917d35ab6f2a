//! What is set on a socket that was dialled.

use std::time::Duration;

use socket2::SockRef;

use super::support::listen;
use crate::transport::dial::{USER_TIMEOUT, dial, dial_tcp};

/// Without delay for small frames, and found dead when nothing is acknowledged for so long.
#[tokio::test]
async fn a_socket_has_a_user_timeout_unless_nobody_wants_it() {
    let (_listener, address) = listen().await;
    let seconds = Duration::from_secs;
    assert_eq!(USER_TIMEOUT, seconds(20));
    for (wanted, set) in [
        (Some(USER_TIMEOUT), Some(seconds(20))),
        (
            Some(Duration::from_millis(1_500)),
            Some(Duration::from_millis(1_500)),
        ),
        (None, None),
    ] {
        let direct = dial(&address, None, wanted).await.expect("dialled");
        let direct = direct.into_tcp().expect("a TCP address");
        // As a proxy's socket is made.
        let other = dial_tcp(&address, wanted).await.expect("dialled");
        for stream in [direct, other] {
            let socket = SockRef::from(&stream);
            assert_eq!(socket.tcp_user_timeout().expect("Linux"), set);
            assert!(socket.tcp_nodelay().expect("TCP"));
        }
    }
}
