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

/// Each publisher waits for its own bytes, so that no more is pending than one batch each.
#[derive(Debug, Default)]
struct State {
    pending: Vec<u8>,
    /// Bytes ever appended, and ever written and flushed.
    bytes_appended: u64,
    bytes_written: u64,
    /// Why nothing more will be written.
    closed: Option<String>,
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
        let mark = self.append(&bytes);
        loop {
            let written = self.written.listen();
            if let Some(done) = self.is_written(mark) {
                return done;
            }
            written.await;
        }
    }

    /// As [`write`](Self::write), for a thread.
    pub(super) fn write_blocking(&self, bytes: &[u8]) -> Result<()> {
        let mark = self.append(bytes);
        loop {
            let written = self.written.listen();
            if let Some(done) = self.is_written(mark) {
                return done;
            }
            event_listener::Listener::wait(written);
        }
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

    fn append(&self, bytes: &[u8]) -> u64 {
        let mut state = self.lock();
        state.pending.extend_from_slice(bytes);
        state.bytes_appended += bytes.len() as u64;
        let mark = state.bytes_appended;
        drop(state);
        self.appended.notify(usize::MAX);
        mark
    }

    fn is_written(&self, mark: u64) -> Option<Result<()>> {
        let state = self.lock();
        if state.bytes_written >= mark {
            return Some(Ok(()));
        }
        let reason = state.closed.clone()?;
        Some(Err(Error::new(ErrorKind::Closed, "stdio", "publish", reason)))
    }

    fn write_out(&self, mut sink: impl Write) {
        let mut bytes = Vec::new();
        loop {
            self.take_pending(&mut bytes);
            let result = sink.write_all(&bytes).and_then(|()| sink.flush());
            let mut state = self.lock();
            match result {
                Ok(()) => state.bytes_written += bytes.len() as u64,
                Err(error) => state.closed = Some(format!("the output is closed: {error}")),
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
