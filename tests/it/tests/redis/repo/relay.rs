//! A way to a server on which a test can stop a fence, and lead it elsewhere.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// What is in the pipeline of a fence alone.
const FENCE: &[u8] = b":fence";

/// Passes connections on; it ends when dropped.
#[derive(Debug)]
pub(super) struct Relay {
    port: u16,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    target: AtomicU16,
    trap: Mutex<Option<Trap>>,
}

/// The relay's ends of a [`Stop`].
#[derive(Debug)]
struct Trap {
    reached: oneshot::Sender<()>,
    passes: oneshot::Receiver<bool>,
}

/// The next fence: it waits before the server.
#[derive(Debug)]
pub(super) struct Stop {
    reached: oneshot::Receiver<()>,
    passes: oneshot::Sender<bool>,
}

impl Relay {
    /// To `target` on this machine.
    ///
    /// # Panics
    /// If there is no free port.
    pub(super) async fn start(target: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let port = listener.local_addr().expect("a bound port").port();
        let shared = Arc::new(Shared { target: AtomicU16::new(target), trap: Mutex::default() });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Self { port, shared, accepting }
    }

    pub(super) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Stops the next fence.
    pub(super) fn stop(&self) -> Stop {
        let ((reached, is_reached), (passes, may_pass)) = (oneshot::channel(), oneshot::channel());
        *self.shared.lock() = Some(Trap { reached, passes: may_pass });
        Stop { reached: is_reached, passes }
    }

    /// New connections go there.
    pub(super) fn lead_to(&self, target: u16) {
        self.shared.target.store(target, Ordering::SeqCst);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Stop {
    /// Waits until a fence is there, does something, and lets it pass or cuts its connection.
    pub(super) async fn then(self, act: impl Future<Output = ()>, passes: bool) {
        self.reached.await.expect("a fence comes");
        act.await;
        self.passes.send(passes).expect("it waits");
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Trap>> {
        self.trap.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((from, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            // Whichever side fails: the connection is over.
            drop(pass(from, &shared).await);
        });
    }
}

async fn pass(from: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let target = (Ipv4Addr::LOCALHOST, shared.target.load(Ordering::SeqCst));
    let to = TcpStream::connect(target).await?;
    let ((mut asked, mut answered), (mut answers, mut asks)) = (from.into_split(), to.into_split());
    let back = async { copy(&mut answers, &mut answered).await.map(drop) };
    let forth = async {
        let mut bytes = [0; 16 * 1024];
        loop {
            let read = asked.read(&mut bytes).await?;
            if read == 0 || is_cut(&bytes[..read], shared).await {
                return Ok(());
            }
            asks.write_all(&bytes[..read]).await?;
        }
    };
    futures_lite::future::or(back, forth).await
}

/// Holds a fence that is to be stopped; whether it is to be cut.
async fn is_cut(bytes: &[u8], shared: &Shared) -> bool {
    let is_fence = bytes.windows(FENCE.len()).any(|part| part == FENCE);
    let trap = if is_fence { shared.lock().take() } else { None };
    let Some(Trap { reached, passes }) = trap else { return false };
    reached.send(()).is_err() || !passes.await.unwrap_or(false)
}
