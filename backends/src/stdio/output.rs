//! Standard output, written by a thread of its own: a slow reader holds up those who publish, and
//! nobody else.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use event_listener::Event;
use expirer_core::{Error, ErrorKind, Result};

/// Bytes on their way out.
#[derive(Debug, Default)]
pub(super) struct Output {
    state: Mutex<State>,
    appended: Event,
    written: Event,
}

/// More than this is not taken in: who publishes waits, and leaves nothing behind if it goes.
const PENDING_BYTES_MAX: usize = 1 << 22;

/// What was published and is not written.
#[derive(Debug, Default)]
struct State {
    pending: Vec<u8>,
    /// Bytes ever appended, and ever written and flushed.
    bytes_appended: u64,
    bytes_written: u64,
    /// Why nothing more will be written.
    closed: Option<Closed>,
}

/// Why nothing more will be written.
#[derive(Clone, Debug)]
struct Closed {
    reason: String,
    /// Its reader has left, which is no failure.
    by_reader: bool,
}

impl Output {
    /// Starts the thread that writes to `sink`; it lives as long as the process, or until the
    /// output is closed.
    pub(super) fn start(sink: impl Write + Send + 'static) -> io::Result<Arc<Self>> {
        let output = Arc::new(Self::default());
        let writer = Arc::clone(&output);
        let write = move || writer.write_out(sink);
        std::thread::Builder::new().name("stdout".to_owned()).spawn(write)?;
        Ok(output)
    }

    /// Writes and flushes; returns when it is done, or fails with [`ErrorKind::Closed`].
    pub(super) async fn write(&self, bytes: Vec<u8>) -> Result<()> {
        let mut mark = None;
        loop {
            let written = self.written.listen();
            if let Some(done) = self.step(&bytes, &mut mark) {
                return done;
            }
            written.await;
        }
    }

    /// As [`write`](Self::write), for a thread.
    pub(super) fn write_blocking(&self, bytes: &[u8]) -> Result<()> {
        let mut mark = None;
        loop {
            let written = self.written.listen();
            if let Some(done) = self.step(bytes, &mut mark) {
                return done;
            }
            event_listener::Listener::wait(written);
        }
    }

    /// Appends the bytes when there is room, then looks whether they are written.
    fn step(&self, bytes: &[u8], mark: &mut Option<u64>) -> Option<Result<()>> {
        if mark.is_none() {
            *mark = self.append(bytes);
        }
        let state = self.lock();
        if mark.is_some_and(|mark| state.bytes_written >= mark) {
            return Some(Ok(()));
        }
        let Closed { reason, .. } = state.closed.clone()?;
        Some(Err(Error::new(ErrorKind::Closed, "stdio", "publish", reason)))
    }

    /// Why the output failed, unless its reader has left.
    pub(super) fn failure(&self) -> Option<String> {
        let closed = self.lock().closed.clone()?;
        (!closed.by_reader).then_some(closed.reason)
    }

    /// Returns once nobody reads the output any more.
    pub(super) async fn closed(&self) {
        loop {
            let written = self.written.listen();
            if self.lock().closed.is_some() {
                return;
            }
            written.await;
        }
    }

    /// Whether the output is closed.
    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed.is_some()
    }

    /// Takes the bytes in and says up to where everything has to be written then.
    fn append(&self, bytes: &[u8]) -> Option<u64> {
        let mut state = self.lock();
        if state.pending.len() >= PENDING_BYTES_MAX || state.closed.is_some() {
            return None;
        }
        state.pending.extend_from_slice(bytes);
        state.bytes_appended += bytes.len() as u64;
        let mark = state.bytes_appended;
        drop(state);
        self.appended.notify(usize::MAX);
        Some(mark)
    }

    fn write_out(&self, mut sink: impl Write) {
        let mut bytes = Vec::new();
        loop {
            self.take_pending(&mut bytes);
            let result = sink.write_all(&bytes).and_then(|()| sink.flush());
            let mut state = self.lock();
            match result {
                Ok(()) => state.bytes_written += bytes.len() as u64,
                Err(error) => state.closed = Some(closed(&error)),
            }
            let closed = state.closed.is_some();
            drop(state);
            self.written.notify(usize::MAX);
            if closed {
                return;
            }
        }
    }

    /// Waits for bytes and takes all there are.
    fn take_pending(&self, bytes: &mut Vec<u8>) {
        bytes.clear();
        loop {
            let appended = self.appended.listen();
            std::mem::swap(bytes, &mut self.lock().pending);
            if !bytes.is_empty() {
                return;
            }
            event_listener::Listener::wait(appended);
        }
    }

    /// Counters and bytes: sound even if a thread panicked while holding them.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn closed(error: &io::Error) -> Closed {
    let by_reader = error.kind() == io::ErrorKind::BrokenPipe;
    Closed { reason: format!("the output is closed: {error}"), by_reader }
}
