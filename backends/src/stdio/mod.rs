//! Lines on standard input and output as a bus: `{"subject": "order:created", "data": {…}}`.
//!
//! Input lines are delivered to the groups in this process by a [`MemoryBus`]; what is published
//! is written out as a line, then delivered likewise. Inputs are not echoed. `headers`, an object
//! of strings, is written where a message has any and read where a line has it.
//!
//! *Delivery*: at least once within the process; nothing survives it. *Confirmed* means written
//! to standard output and flushed. *Bounded*: a line has at most 1 MiB, and no more than 8,192
//! messages or 64 MiB are read ahead of the slowest group. A line that is no message comes out on
//! `dead:stdio` with its number, the reason and the raw text, and the rest goes on.

mod input;
mod line;
mod output;

use std::collections::BTreeSet;
use std::io::{self, BufReader, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use expirer_core::bus::{Consumer, Delivery, Tail};
use expirer_core::{
    BusCapabilities, Error, ErrorKind, EventBus, Group, Message, Progress, Receipt, ReceiveOptions,
    Rejection, Release, Result, Subject, SubscribeOptions,
};

use crate::memory::{MemoryBus, MemoryConsumer};
use crate::options::{ConnectOptions, Finite};

use input::Input;
use output::Output;

/// The longest line, in bytes.
pub const LINE_BYTES_MAX: usize = 1 << 20;
/// How many messages are read ahead of the slowest group, not counting those that it has put off.
pub const READ_AHEAD_MAX: u64 = 8_192;
/// How many bytes of messages are read ahead, those that are put off included.
pub const READ_AHEAD_BYTES_MAX: u64 = 1 << 26;

/// A bus on two byte streams.
#[derive(Debug)]
pub struct StdioBus {
    memory: Arc<MemoryBus>,
    output: Arc<Output>,
    input: Arc<Input>,
    source: Mutex<Option<Source>>,
}

/// Where lines come from, until reading starts.
struct Source(Box<dyn Read + Send>);

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Source")
    }
}

impl StdioBus {
    /// A bus on standard input and output.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] if the thread that writes cannot be started.
    pub fn open(options: &ConnectOptions) -> Result<Self> {
        Self::new(options, io::stdin(), io::stdout())
    }

    /// A bus on any two streams; `source` is read by a thread of its own once
    /// [`read_to_end`](Finite::read_to_end) is called, `sink` is written by another.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] if the thread that writes cannot be started.
    pub fn new(
        options: &ConnectOptions,
        source: impl Read + Send + 'static,
        sink: impl Write + Send + 'static,
    ) -> Result<Self> {
        let output = Output::start(sink)
            .map_err(|error| Error::new(ErrorKind::Unavailable, "stdio", "open", error))?;
        Ok(Self {
            memory: Arc::new(MemoryBus::retaining_nothing(
                Arc::clone(&options.clock),
                options.seed,
            )),
            output,
            input: Arc::new(Input::default()),
            source: Mutex::new(Some(Source(Box::new(source)))),
        })
    }

    /// Starts the thread that reads, the first time.
    fn start_reading(&self) {
        let source = self.source.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Source(source)) = source else { return };
        let (memory, output) = (Arc::clone(&self.memory), Arc::clone(&self.output));
        let input = Arc::clone(&self.input);
        let read = move || input.read(BufReader::with_capacity(1 << 18, source), &memory, &output);
        if std::thread::Builder::new().name("stdin".to_owned()).spawn(read).is_err() {
            self.input.fail("no thread to read it".to_owned());
        }
    }
}

#[async_trait]
impl EventBus for StdioBus {
    async fn publish(&self, messages: &[Message]) -> Result<()> {
        if messages.is_empty() {
            return Ok(());
        }
        // Room first: a line that is out cannot be taken back.
        loop {
            let settled = self.memory.settled();
            if self.memory.has_room_for(messages) {
                break;
            }
            settled.await;
        }
        self.output.write(line::encode_all(messages)).await?;
        self.memory.publish_now(messages)
    }

    async fn subscribe(&self, options: SubscribeOptions) -> Result<Box<dyn Consumer>> {
        let group = options.group.clone();
        let (consumer, output) = (self.memory.join(options)?, Arc::clone(&self.output));
        Ok(Box::new(StdioConsumer { consumer, group, output }))
    }

    async fn tail(&self, subjects: &[Subject]) -> Result<Box<dyn Tail>> {
        self.memory.tail(subjects).await
    }

    async fn progress(&self, group: &Group, subject: &Subject) -> Result<Progress> {
        self.memory.progress(group, subject).await
    }

    fn capabilities(&self) -> BusCapabilities {
        let mut capabilities = self.memory.capabilities();
        capabilities.backend = "stdio";
        capabilities.retains = false;
        capabilities
    }
}

#[async_trait]
impl Finite for StdioBus {
    async fn read_to_end(&self) {
        self.start_reading();
        futures_lite::future::or(self.input.ended(), self.output.closed()).await;
    }

    async fn output_closed(&self) {
        self.output.closed().await;
    }

    fn failure(&self) -> Option<String> {
        self.input.failure().or_else(|| self.output.failure())
    }

    fn bad_lines(&self) -> u64 {
        self.input.bad_lines()
    }

    fn settled(&self) -> Option<u64> {
        self.memory.settled_count()
    }
}

/// A consumer whose dead letters are lines, too.
#[derive(Debug)]
struct StdioConsumer {
    consumer: MemoryConsumer,
    group: Group,
    output: Arc<Output>,
}

#[async_trait]
impl Consumer for StdioConsumer {
    async fn receive(&self, options: ReceiveOptions) -> Result<Vec<Delivery>> {
        self.consumer.receive(options).await
    }

    async fn ack(&self, receipts: &[Receipt]) -> Result<()> {
        self.consumer.ack(receipts).await
    }

    async fn release(&self, releases: &[Release]) -> Result<()> {
        self.consumer.release(releases).await
    }

    async fn reject(&self, rejections: &[Rejection]) -> Result<()> {
        let mut rejected = BTreeSet::new();
        let dead: Vec<Message> = rejections
            .iter()
            .filter(|rejection| rejected.insert(rejection.receipt))
            .filter_map(|Rejection { receipt, reason }| {
                let (message, now) = self.consumer.peek(*receipt)?;
                Some(message.into_dead_letter(self.group.clone(), reason, now))
            })
            .collect();
        if !dead.is_empty() {
            self.output.write(line::encode_all(&dead)).await?;
        }
        self.consumer.reject(rejections).await
    }
}

#[cfg(test)]
mod tests;
