//! Hearing of new entries without taking them.
//!
//! One task for each stream reads it by a blocking `XREAD`, on a connection of its own, while
//! somebody waits. It takes nothing from any group, so that whoever waits may leave at any time;
//! and it reads from the last entry that somebody saw, so that none falls between two reads.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use event_listener::Event;
use expirer_core::{Clock, Result};
use redis::Value;
use tokio::task::AbortHandle;

use super::entry::{EntryId, first_id};
use super::seat::watch;
use crate::redis::connection::Connection;
use crate::redis::url::Options;

/// How long one read blocks.
const BLOCK: Duration = Duration::from_secs(3);
/// How long a waiter believes what it saw: a release by another process is no new entry.
const POLL: Duration = Duration::from_secs(1);
/// The same while a stream cannot be read.
const POLL_DEAF: Duration = Duration::from_millis(250);
/// Pause before reading again after a failure.
const PAUSE: Duration = Duration::from_millis(250);

/// What the waiters of one handle hear.
pub(super) struct Watch {
    /// Each reader has another one like it.
    blocking: Connection,
    clock: Arc<dyn Clock>,
    streams: Mutex<BTreeMap<String, Watched>>,
    heard: Event,
    wanted: Arc<Event>,
}

#[derive(Default)]
struct Watched {
    /// The last entry that is known to be there.
    last: EntryId,
    /// How often somebody here said that there is something to look for.
    nudges: u64,
    waiters: usize,
    is_deaf: bool,
    task: Option<AbortHandle>,
}

/// What was known of a stream before a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    last: EntryId,
    nudges: u64,
}

/// A stream that was looked at in vain: what was known before, and its last entry by that look.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen<'a> {
    pub(super) stream: &'a str,
    pub(super) known: Known,
    pub(super) last: EntryId,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}

impl Watch {
    /// # Errors
    /// [`Invalid`](expirer_core::ErrorKind::Invalid) for certificates that cannot be read.
    pub(super) fn new(
        connection: &Connection,
        options: &Options,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let blocking = connection.blocking(options, BLOCK)?;
        let (streams, heard, wanted) = (Mutex::default(), Event::new(), Arc::default());
        Ok(Self { blocking, clock, streams, heard, wanted })
    }

    /// What is known of a stream; ask before looking at it.
    pub(super) fn known(&self, stream: &str) -> Known {
        let mut streams = self.lock();
        let watched = streams.entry(stream.to_owned()).or_default();
        Known { last: watched.last, nudges: watched.nudges }
    }

    /// Makes those who wait for a stream look again.
    pub(super) fn nudge(&self, stream: &str) {
        if let Some(watched) = self.lock().get_mut(stream) {
            watched.nudges += 1;
        }
        self.heard.notify(usize::MAX);
    }

    /// Waits until one of the streams has something new. Cancel safe.
    pub(super) async fn news(self: &Arc<Self>, seen: &[Seen<'_>]) {
        let _waiting = Waiting::begin(self, seen);
        loop {
            let listener = self.heard.listen();
            if self.has_news(seen) {
                return;
            }
            listener.await;
        }
    }

    /// How long to believe what was seen.
    pub(super) fn poll(&self, seen: &[Seen<'_>]) -> Duration {
        let streams = self.lock();
        let is_deaf = |seen: &Seen<'_>| streams.get(seen.stream).is_some_and(|w| w.is_deaf);
        if seen.iter().any(is_deaf) { POLL_DEAF } else { POLL }
    }

    fn has_news(&self, seen: &[Seen<'_>]) -> bool {
        let streams = self.lock();
        let is_new = |seen: &Seen<'_>| {
            let watched = streams.get(seen.stream);
            watched.is_some_and(|w| w.last > seen.last || w.nudges != seen.known.nudges)
        };
        seen.iter().any(is_new)
    }

    /// The last entry known of a stream for which somebody waits.
    fn wanted(&self, stream: &str) -> Option<EntryId> {
        self.lock().get(stream).filter(|watched| watched.waiters > 0).map(|watched| watched.last)
    }

    /// Takes in what was read; `false` if that failed.
    fn hear(&self, stream: &str, read: &Result<Option<EntryId>>) -> bool {
        let mut streams = self.lock();
        let Some(watched) = streams.get_mut(stream) else { return false };
        watched.is_deaf = read.is_err();
        let is_heard = read.is_ok();
        if let Ok(Some(last)) = read {
            watched.last = watched.last.max(*last);
            drop(streams);
            self.heard.notify(usize::MAX);
        }
        is_heard
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Watched>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.lock().values().filter_map(|watched| watched.task.as_ref()).for_each(|t| t.abort());
    }
}

impl Watched {
    /// A look is newer than what was known before it, even where it saw less: the stream was made
    /// anew. What was heard during the look stays.
    fn believe(&mut self, seen: &Seen<'_>) {
        if seen.last > self.last || self.last == seen.known.last {
            self.last = seen.last;
        }
    }
}

/// Counts a waiter in, until it is dropped.
struct Waiting<'a> {
    watch: &'a Watch,
    streams: Vec<&'a str>,
}

impl<'a> Waiting<'a> {
    fn begin(watch: &'a Arc<Watch>, seen: &[Seen<'a>]) -> Self {
        let mut streams = watch.lock();
        for seen in seen {
            let watched = streams.entry(seen.stream.to_owned()).or_default();
            watched.believe(seen);
            watched.waiters += 1;
            watched.task.get_or_insert_with(|| Reader::start(watch, seen.stream));
        }
        drop(streams);
        watch.wanted.notify(usize::MAX);
        Self { watch, streams: seen.iter().map(|seen| seen.stream).collect() }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut streams = self.watch.lock();
        for stream in &self.streams {
            if let Some(watched) = streams.get_mut(*stream) {
                watched.waiters -= 1;
            }
        }
    }
}

/// The task that reads one stream. It ends with the handle.
struct Reader {
    watch: Weak<Watch>,
    wanted: Arc<Event>,
    stream: String,
}

impl Reader {
    fn start(watch: &Arc<Watch>, stream: &str) -> AbortHandle {
        let wanted = Arc::clone(&watch.wanted);
        let reader = Self { watch: Arc::downgrade(watch), wanted, stream: stream.to_owned() };
        let (connection, clock) = (watch.blocking.another(), Arc::clone(&watch.clock));
        tokio::spawn(async move { reader.run(&connection, &*clock).await }).abort_handle()
    }

    async fn run(self, connection: &Connection, clock: &dyn Clock) {
        while let Some(last) = self.until_wanted().await {
            let call = watch(&self.stream, last, BLOCK);
            let read = connection.call::<Value>("receive", call).await.and_then(first_id);
            let Some(watch) = self.watch.upgrade() else { return };
            let is_heard = watch.hear(&self.stream, &read);
            drop(watch);
            if !is_heard {
                clock.sleep_until(clock.now() + PAUSE).await;
            }
        }
    }

    /// Waits until somebody waits; `None` at the end of the handle.
    async fn until_wanted(&self) -> Option<EntryId> {
        loop {
            let listener = self.wanted.listen();
            if let Some(last) = self.watch.upgrade()?.wanted(&self.stream) {
                return Some(last);
            }
            listener.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> EntryId {
        EntryId::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_look_is_believed_over_what_was_known_before_it_alone() {
        let mut watched = Watched { last: id("9-0"), ..Watched::default() };
        let seen = |known: &str, last: &str| Seen {
            stream: "s",
            known: Known { last: id(known), nudges: 0 },
            last: id(last),
        };
        watched.believe(&seen("5-0", "7-0"));
        assert_eq!(watched.last, id("9-0"), "heard during the look");
        watched.believe(&seen("9-0", "7-0"));
        assert_eq!(watched.last, id("7-0"), "the stream was made anew");
        watched.believe(&seen("5-0", "8-0"));
        assert_eq!(watched.last, id("8-0"));
    }
}
