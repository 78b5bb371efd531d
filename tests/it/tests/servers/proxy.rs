//! A TCP proxy that cuts connections, stalls them, and mends itself.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::{JoinHandle, block_in_place};

use super::process::wait_until;

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

/// Where connections go.
#[derive(Clone, Debug)]
struct Route {
    mode: Mode,
    target: u16,
    /// Held by each connection that passes something on by this route.
    held: Arc<()>,
}

/// A proxy on a free port; it ends when dropped.
#[derive(Debug)]
pub(crate) struct Proxy {
    port: u16,
    route: watch::Sender<Route>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// Passes connections on to `target` on this machine, on the tasks of `runtime`, which has
    /// several threads.
    ///
    /// # Panics
    /// If there is no free port.
    pub(crate) fn start(runtime: &Handle, target: u16) -> Self {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        listener.set_nonblocking(true).expect("a listener without blocking");
        let port = listener.local_addr().expect("a bound port").port();
        let route = Route { mode: Mode::Open, target, held: Arc::default() };
        let (route, routes) = watch::channel(route);
        let accepting = runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).expect("a listener on tokio");
            accept(&listener, &routes).await;
        });
        Self { port, route, accepting }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Holds for every connection once this returns.
    pub(crate) fn set(&self, mode: Mode) {
        self.change(|route| std::mem::replace(&mut route.mode, mode) != mode);
    }

    /// New connections go there; those of now stay, as where a name was given another address.
    pub(crate) fn point_at(&self, target: u16) {
        self.route.send_if_modified(|route| {
            route.target = target;
            false
        });
    }

    /// Passes connections on to another port; those of before end.
    pub(crate) fn retarget(&self, target: u16) {
        self.change(|route| std::mem::replace(&mut route.target, target) != target);
    }

    /// Waits until nothing is passed on by the route of before: else one more call might succeed.
    fn change(&self, change: impl FnOnce(&mut Route) -> bool) {
        let mut before = Arc::default();
        self.route.send_if_modified(|route| {
            let is_changed = change(route);
            if is_changed {
                std::mem::swap(&mut route.held, &mut before);
            }
            is_changed
        });
        let is_left = || Arc::strong_count(&before) == 1;
        assert!(block_in_place(|| wait_until(is_left)), "connections leave the route of before");
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: &TcpListener, routes: &watch::Receiver<Route>) {
    while let Ok((from, _)) = listener.accept().await {
        let routes = routes.clone();
        tokio::spawn(async move {
            // Whichever side fails: the connection is over.
            drop(pass(from, routes).await);
        });
    }
}

async fn pass(mut from: TcpStream, mut routes: watch::Receiver<Route>) -> io::Result<()> {
    let route = routes.borrow_and_update().clone();
    let mut to = None;
    if route.mode == Mode::Open {
        let target = SocketAddr::from((Ipv4Addr::LOCALHOST, route.target));
        let to = to.insert(TcpStream::connect(target).await?);
        // Otherwise, each round of calls waits 40 ms for its last piece.
        from.set_nodelay(true)?;
        to.set_nodelay(true)?;
        let changed = async { Ok(routes.changed().await.is_ok()) };
        let copied = async { tokio::io::copy_bidirectional(&mut from, to).await.map(|_| false) };
        let is_changed = futures_lite::future::or(changed, copied).await?;
        // Changed and open: the target is another one.
        if !is_changed || routes.borrow_and_update().mode == Mode::Open {
            return Ok(());
        }
    }
    drop(route);
    stall(&mut routes).await;
    Ok(())
}

/// Holds a connection that stalled until it is cut; at once, where that was it.
async fn stall(routes: &mut watch::Receiver<Route>) {
    while routes.borrow_and_update().mode != Mode::Cut && routes.changed().await.is_ok() {}
}
