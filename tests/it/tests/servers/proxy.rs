//! A TCP proxy that cuts connections, stalls them, and mends itself.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What the proxy does with connections, old and new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Passes everything on.
    Open,
    /// Ends them.
    Cut,
    /// Keeps them and passes nothing on: the peer no longer answers. Those of now stay so until
    /// they are cut, as where a router has forgotten them; new ones are as the mode of then is.
    Stalled,
}

/// A proxy on a free port; it ends when dropped.
#[derive(Debug)]
pub(crate) struct Proxy {
    port: u16,
    mode: watch::Sender<Mode>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// Passes connections on to `target` on this machine, on the tasks of `runtime`.
    ///
    /// # Panics
    /// If there is no free port.
    pub(crate) fn start(runtime: &Handle, target: u16) -> Self {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        listener.set_nonblocking(true).expect("a listener without blocking");
        let port = listener.local_addr().expect("a bound port").port();
        let (mode, modes) = watch::channel(Mode::Open);
        let accepting = runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).expect("a listener on tokio");
            accept(&listener, target, &modes).await;
        });
        Self { port, mode, accepting }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Holds for every connection from now on.
    pub(crate) fn set(&self, mode: Mode) {
        self.mode.send_if_modified(|now| std::mem::replace(now, mode) != mode);
    }
}

impl Proxy {
    /// Ends every connection; returns once they are over, so that nothing passes any more.
    pub(crate) async fn cut(&self) {
        self.set(Mode::Cut);
        // Who accepts has one, and each connection.
        while self.mode.receiver_count() > 1 {
            tokio::task::yield_now().await;
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: &TcpListener, target: u16, modes: &watch::Receiver<Mode>) {
    while let Ok((from, _)) = listener.accept().await {
        let modes = modes.clone();
        tokio::spawn(async move {
            // Whichever side fails: the connection is over.
            drop(pass(from, target, modes).await);
        });
    }
}

async fn pass(
    mut from: TcpStream,
    target: u16,
    mut modes: watch::Receiver<Mode>,
) -> io::Result<()> {
    let first = *modes.borrow_and_update();
    if first == Mode::Open {
        let mut to = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, target))).await?;
        // Otherwise, each round of calls waits 40 ms for its last piece.
        from.set_nodelay(true)?;
        to.set_nodelay(true)?;
        let copied =
            async { tokio::io::copy_bidirectional(&mut from, &mut to).await.map(|_| false) };
        let changed = async { Ok(modes.changed().await.is_ok()) };
        // The change first: nothing may slip through once it was cut.
        if !futures_lite::future::or(changed, copied).await? {
            return Ok(());
        }
        stall(&mut modes).await;
        drop(to);
    } else {
        stall(&mut modes).await;
    }
    Ok(())
}

/// Holds a connection that stalled until it is cut; at once, where that was it.
async fn stall(modes: &mut watch::Receiver<Mode>) {
    while *modes.borrow_and_update() != Mode::Cut && modes.changed().await.is_ok() {}
}
