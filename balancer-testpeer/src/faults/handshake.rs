//! Connections that never become HTTP/2, or only just.

use crate::{
    Backend, Behaviour, Manners,
    frame::{Frame, kind, setting},
};
use bytes::Bytes;
use std::fmt::Write as _;

/// Accepts, then closes with FIN.
pub fn close_at_once() -> Behaviour {
    Behaviour::new(|conn| async {
        conn.close().await;
        Ok(())
    })
}

/// Accepts, then sends RST.
pub fn reset_at_once() -> Behaviour {
    Behaviour::new(|conn| async {
        conn.reset();
        Ok(())
    })
}

/// Accepts and says nothing: no SETTINGS, ever. Reads what the client sends.
pub fn silence() -> Behaviour {
    Behaviour::new(|mut conn| async move {
        conn.drain().await;
        Ok(())
    })
}

/// Says these octets, then nothing more; reads until the client closes.
pub fn say(octets: impl Into<Bytes>) -> Behaviour {
    let octets = octets.into();
    Behaviour::new(move |mut conn| {
        let octets = octets.clone();
        async move {
            conn.send_bytes(octets).await?;
            conn.drain().await;
            Ok(())
        }
    })
}

/// Answers in HTTP/1.1, as a web server does that was sent an HTTP/2 preface.
pub fn http1() -> Behaviour {
    let body = "this server speaks HTTP/1.1\n";
    let mut text = String::from("HTTP/1.1 400 Bad Request\r\nconnection: close\r\n");
    // Writing to a String cannot fail.
    let _ = write!(text, "content-length: {}\r\n\r\n{body}", body.len());
    say(text)
}

/// Answers with octets that are nothing: `len` of them, the same for the same seed.
pub fn garbage(seed: u64, len: usize) -> Behaviour {
    let mut state = seed;
    let octets: Vec<u8> = (0..len)
        .map(|_| {
            // SplitMix64: any spread will do, as long as a seed repeats it.
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            (z ^ z >> 31).to_le_bytes()[0]
        })
        .collect();
    say(octets)
}

/// Opens with `frame` where SETTINGS must come first, and leaves it at that.
pub fn first_frame(frame: Frame) -> Behaviour {
    say(frame.encode())
}

/// SETTINGS that RFC 9113, section 6.5, forbids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum IllegalSettings {
    /// ENABLE_PUSH neither 0 nor 1.
    EnablePush,
    /// A server that says ENABLE_PUSH 1.
    ServerPush,
    /// INITIAL_WINDOW_SIZE of 2³¹.
    InitialWindow,
    /// MAX_FRAME_SIZE below 2¹⁴.
    FrameTooSmall,
    /// MAX_FRAME_SIZE of 2²⁴.
    FrameTooLarge,
    /// A payload that is no multiple of six octets.
    OddLength,
    /// An acknowledgement that carries values.
    AckWithValues,
    /// On stream 1 and not on the connection.
    OnStream,
}

impl IllegalSettings {
    /// Every kind there is: the rows of a test.
    pub const ALL: [Self; 8] = [
        Self::EnablePush,
        Self::ServerPush,
        Self::InitialWindow,
        Self::FrameTooSmall,
        Self::FrameTooLarge,
        Self::OddLength,
        Self::AckWithValues,
        Self::OnStream,
    ];

    /// The frame.
    pub fn frame(self) -> Frame {
        match self {
            Self::EnablePush => Frame::settings(&[(setting::ENABLE_PUSH, 2)]),
            Self::ServerPush => Frame::settings(&[(setting::ENABLE_PUSH, 1)]),
            Self::InitialWindow => Frame::settings(&[(setting::INITIAL_WINDOW_SIZE, 1 << 31)]),
            Self::FrameTooSmall => Frame::settings(&[(setting::MAX_FRAME_SIZE, 16_383)]),
            Self::FrameTooLarge => Frame::settings(&[(setting::MAX_FRAME_SIZE, 1 << 24)]),
            Self::OddLength => Frame::new(kind::SETTINGS, 0, 0, [0; 7]),
            Self::AckWithValues => Frame::new(kind::SETTINGS, crate::frame::flag::ACK, 0, [0; 6]),
            Self::OnStream => Frame::new(kind::SETTINGS, 0, 1, []),
        }
    }
}

/// Opens with SETTINGS that are illegal.
pub fn illegal_settings(which: IllegalSettings) -> Behaviour {
    say(which.frame().encode())
}

/// Sends good SETTINGS and closes at once.
pub fn settings_then_close() -> Behaviour {
    Behaviour::new(|mut conn| async move {
        conn.send_settings(&[]).await?;
        conn.close().await;
        Ok(())
    })
}

/// A good backend that never acknowledges the client's SETTINGS.
pub fn no_settings_ack() -> Behaviour {
    let manners = Manners {
        ack_settings: false,
        ..Manners::default()
    };
    Backend::new("no-ack").manners(manners).into()
}

/// Shakes hands, then neither reads nor writes: the client's octets pile up in the socket.
pub fn stalled_reads() -> Behaviour {
    Behaviour::new(|mut conn| async move {
        conn.handshake().await?;
        conn.stall().await;
        Ok(())
    })
}
