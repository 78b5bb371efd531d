//! Live views: a bounded buffer each, written when messages are published.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use event_listener::Event;
use expirer_core::{Message, ReceiveOptions, Result, Subject, Tail, TailBatch, Timestamp};
use slab::Slab;

use super::wakes::Wakes;
use super::{Shared, TAIL_MESSAGES_MAX};
use crate::memory::heard_or_at;

/// The tails that are open.
#[derive(Default)]
pub(super) struct Tails(Slab<Buffer>);

/// What has come for one tail since it last looked.
struct Buffer {
    subjects: Vec<Subject>,
    messages: VecDeque<Message>,
    missed: u64,
    arrived: Arc<Event>,
}

impl Tails {
    fn open(&mut self, subjects: &[Subject], arrived: &Arc<Event>) -> usize {
        self.0.insert(Buffer {
            subjects: subjects.to_vec(),
            messages: VecDeque::new(),
            missed: 0,
            arrived: Arc::clone(arrived),
        })
    }

    /// Shows a message to the tails that follow its subject.
    pub(super) fn offer(&mut self, message: &Message, wakes: &mut Wakes) {
        for (_, buffer) in &mut self.0 {
            if buffer.subjects.contains(&message.subject) {
                buffer.add(message.clone());
                wakes.add(&buffer.arrived);
            }
        }
    }

    fn take(&mut self, key: usize, max: usize) -> TailBatch {
        self.0.get_mut(key).map_or_else(TailBatch::default, |buffer| buffer.take(max))
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

impl Buffer {
    fn add(&mut self, message: Message) {
        if self.messages.len() == TAIL_MESSAGES_MAX {
            self.messages.pop_front();
            self.missed += 1;
        }
        self.messages.push_back(message);
    }

    fn take(&mut self, max: usize) -> TailBatch {
        let count = self.messages.len().min(max.max(1));
        let messages = self.messages.drain(..count).collect();
        if self.messages.is_empty() {
            self.messages = VecDeque::new();
        }
        TailBatch::new(messages).with_missed(std::mem::take(&mut self.missed))
    }
}

pub(super) struct MemoryTail {
    shared: Arc<Shared>,
    key: usize,
    arrived: Arc<Event>,
}

impl MemoryTail {
    pub(super) fn open(shared: Arc<Shared>, subjects: &[Subject]) -> Self {
        let arrived = Arc::new(Event::new());
        let key = shared.hub().tails.open(subjects, &arrived);
        Self { shared, key, arrived }
    }

    fn take(&self, max: usize) -> (TailBatch, Timestamp) {
        self.shared.with(|hub, now| (hub.tails.take(self.key, max), now))
    }
}

#[async_trait]
impl Tail for MemoryTail {
    async fn receive(&self, options: ReceiveOptions) -> Result<TailBatch> {
        let (first, now) = self.take(options.max);
        let mut deadline = now + options.wait;
        if !first.messages.is_empty() || now >= deadline {
            return Ok(first);
        }
        loop {
            let heard = self.arrived.listen();
            let (batch, now) = self.take(options.max);
            if !batch.messages.is_empty() || now >= deadline {
                return Ok(batch);
            }
            deadline = deadline.min(now + options.wait);
            heard_or_at(&*self.shared.clock, heard, deadline).await;
        }
    }
}

impl Drop for MemoryTail {
    fn drop(&mut self) {
        let buffer = self.shared.hub().tails.0.try_remove(self.key);
        // The messages in it are dropped after the lock is.
        drop(buffer);
    }
}

impl fmt::Debug for MemoryTail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryTail").finish_non_exhaustive()
    }
}
