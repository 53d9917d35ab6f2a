//! GOAWAY at awkward moments. On a live [`Server`](crate::Server), see also
//! [`Server::goaway`](crate::Server::goaway).

use crate::{Behaviour, MAX_STREAM, frame::code};

/// Shakes hands and says GOAWAY right after, as a server does that is overloaded for ever.
pub fn goaway_at_once(code: u32, debug: &'static str) -> Behaviour {
    Behaviour::new(move |mut conn| async move {
        conn.send_settings(&[]).await?;
        conn.send_goaway(0, code, debug).await?;
        conn.expect_settings().await?;
        conn.close().await;
        Ok(())
    })
}

/// Waits for `count` requests, says GOAWAY with `last`, answers the streams up to it and ignores
/// the others, then reads until the client closes.
pub fn goaway_on_request(count: usize, last: u32, code: u32, debug: &'static str) -> Behaviour {
    Behaviour::new(move |mut conn| async move {
        conn.handshake().await?;
        let mut streams = Vec::new();
        while streams.len() < count {
            streams.push(conn.next_call().await?.stream);
        }
        conn.send_goaway(last, code, debug).await?;
        for stream in streams.into_iter().filter(|stream| *stream <= last) {
            conn.reply_ok(stream, b"before the end").await?;
        }
        conn.drain().await;
        Ok(())
    })
}

/// Says GOAWAY twice on the first request: gracefully, then with a lower last stream. What was
/// open is answered if it is at or below `last`.
pub fn two_goaways(last: u32) -> Behaviour {
    Behaviour::new(move |mut conn| async move {
        conn.handshake().await?;
        let stream = conn.next_call().await?.stream;
        conn.send_goaway(MAX_STREAM, code::NO_ERROR, "soon").await?;
        conn.send_goaway(last, code::NO_ERROR, "now").await?;
        if stream <= last {
            conn.reply_ok(stream, b"before the end").await?;
        }
        conn.drain().await;
        Ok(())
    })
}

/// On the first request, says GOAWAY with `last` and closes without an answer.
pub fn goaway_then_close(last: u32, code: u32) -> Behaviour {
    Behaviour::new(move |mut conn| async move {
        conn.handshake().await?;
        conn.next_call().await?;
        conn.send_goaway(last, code, "").await?;
        conn.close().await;
        Ok(())
    })
}
