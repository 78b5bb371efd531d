//! Ports that nobody else is given while they are held.

use std::io::Result;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::process;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below those that systems give to outgoing connections: one of these could take the port of a
/// server that is being restarted.
const FIRST: u16 = 10_000;
const COUNT: u16 = 20_000;

/// A TCP port of this machine that no other test takes, in this process or another, whether or
/// not a server is on it now.
#[derive(Debug)]
pub(crate) struct Port {
    number: u16,
    /// The UDP port of the same number: who has bound that one holds this one.
    _held: UdpSocket,
}

impl Port {
    /// One that is free; another one each time, so that no client of before comes to it.
    ///
    /// # Panics
    /// If there is none.
    pub(crate) fn reserve() -> Self {
        static TAKEN: AtomicU16 = AtomicU16::new(0);
        let begin = process::id().wrapping_mul(911);
        let next = |_| {
            let step = u32::from(TAKEN.fetch_add(1, Ordering::Relaxed));
            let offset = begin.wrapping_add(step) % u32::from(COUNT);
            Self::hold(FIRST + u16::try_from(offset).ok()?).ok()
        };
        (0..COUNT).find_map(next).expect("a free port from 10000 to 29999")
    }

    pub(crate) const fn number(&self) -> u16 {
        self.number
    }

    fn hold(number: u16) -> Result<Self> {
        let held = UdpSocket::bind((Ipv4Addr::LOCALHOST, number))?;
        TcpListener::bind((Ipv4Addr::LOCALHOST, number))?;
        Ok(Self { number, _held: held })
    }
}
