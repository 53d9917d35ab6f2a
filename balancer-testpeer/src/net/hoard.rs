//! Running a process out of file descriptors.

use std::{
    io,
    net::{Ipv4Addr, UdpSocket},
};

/// Every file descriptor the process had left; dropping it gives them back.
///
/// The whole process is starved, not one test: use it only in a process of its own, started with
/// a low `ulimit -n`.
#[derive(Debug)]
pub struct FdHoard(Vec<UdpSocket>);

// === impl FdHoard ===

impl FdHoard {
    /// Opens descriptors until the system refuses, then gives `leave` of them back.
    ///
    /// # Errors
    /// The system refused for a reason that has nothing to do with descriptors.
    pub fn take_all_but(leave: usize) -> io::Result<Self> {
        let seed = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        let mut hoard = Self(Vec::new());
        // EMFILE and ENFILE have no stable ErrorKind: the first refusal is taken as one of them,
        // unless nothing at all could be opened.
        let refusal = loop {
            match seed.try_clone() {
                Ok(socket) => hoard.0.push(socket),
                Err(refusal) => break refusal,
            }
        };
        if hoard.0.is_empty() {
            return Err(refusal);
        }
        // Dropped, the seed would be one descriptor for somebody to use.
        hoard.0.push(seed);
        hoard.release(leave);
        Ok(hoard)
    }

    /// Gives `count` descriptors back.
    pub fn release(&mut self, count: usize) {
        self.0.truncate(self.0.len().saturating_sub(count));
    }
}
