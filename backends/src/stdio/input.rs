//! Standard input, read by a thread of its own: reading blocks, and cannot be taken back.

use std::io::{self, BufRead, BufReader, Read};
use std::sync::atomic::{AtomicBool, Ordering};

use event_listener::{Event, Listener};
use expirer_core::{ErrorKind, Message};

use super::output::Output;
use super::{LINE_BYTES_MAX, READ_AHEAD_MAX, line};
use crate::memory::MemoryBus;

/// Messages stored at a time.
const BATCH_MAX: usize = 256;

/// The end of the input.
#[derive(Debug, Default)]
pub(super) struct Input {
    is_ended: AtomicBool,
    end: Event,
}

impl Input {
    /// Returns once the input has ended and every line is stored.
    pub(super) async fn ended(&self) {
        loop {
            let end = self.end.listen();
            if self.is_ended.load(Ordering::Acquire) {
                return;
            }
            end.await;
        }
    }

    pub(super) fn end(&self) {
        self.is_ended.store(true, Ordering::Release);
        self.end.notify(usize::MAX);
    }

    /// Stores every line of `source`, no more than [`READ_AHEAD_MAX`] ahead of the groups.
    pub(super) fn read<R: Read>(&self, source: BufReader<R>, bus: &MemoryBus, output: &Output) {
        let mut lines = Lines { source, number: 0, line: Vec::new(), over: 0 };
        let mut batch = Vec::with_capacity(BATCH_MAX);
        loop {
            let more = lines.read();
            match &more {
                Ok(true) => batch.extend(lines.message(output, bus)),
                Ok(false) => {}
                Err(error) => dead(lines.number + 1, &format!("input: {error}"), b"", output, bus),
            }
            let ended = !matches!(more, Ok(true));
            if ended || batch.len() >= BATCH_MAX || !lines.has_next() {
                store(&mut batch, bus, output);
            }
            if ended || output.is_closed() {
                return self.end();
            }
        }
    }
}

/// Stores a batch, once the groups have caught up.
fn store(batch: &mut Vec<Message>, bus: &MemoryBus, output: &Output) {
    while !batch.is_empty() && !output.is_closed() {
        let settled = bus.settled();
        if bus.outstanding() < READ_AHEAD_MAX {
            match bus.publish_now(batch) {
                Err(error) if error.kind() == ErrorKind::Overloaded => {}
                _ => return batch.clear(),
            }
        }
        settled.wait();
    }
}

/// A line that is no message. If it cannot be written, the output is closed and so are we.
fn dead(number: u64, reason: &str, raw: &[u8], output: &Output, bus: &MemoryBus) {
    let dead = [line::dead(number, reason, raw)];
    if output.write_blocking(&line::encode_all(&dead)).is_ok() {
        // For those who follow the tail; the line itself is out.
        let _ = bus.publish_now(&dead);
    }
}

/// Lines with a bound.
struct Lines<R> {
    source: BufReader<R>,
    /// The number of the line in hand, from 1 on.
    number: u64,
    line: Vec<u8>,
    /// How many bytes of it were over the bound, and dropped.
    over: usize,
}

impl<R: Read> Lines<R> {
    /// Reads one line; `false` at the end.
    fn read(&mut self) -> io::Result<bool> {
        self.line.clear();
        self.over = 0;
        let mut any = false;
        loop {
            let buffer = match self.source.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                buffer => buffer?,
            };
            if buffer.is_empty() {
                self.number += u64::from(any);
                return Ok(any);
            }
            any = true;
            let end = buffer.iter().position(|byte| *byte == b'\n');
            let part = &buffer[..end.unwrap_or(buffer.len())];
            let room = LINE_BYTES_MAX - self.line.len();
            self.line.extend_from_slice(&part[..part.len().min(room)]);
            self.over += part.len().saturating_sub(room);
            let used = part.len() + usize::from(end.is_some());
            self.source.consume(used);
            if end.is_some() {
                self.number += 1;
                return Ok(true);
            }
        }
    }

    /// Whether the next line can be read without waiting.
    fn has_next(&self) -> bool {
        self.source.buffer().contains(&b'\n')
    }

    /// The message in the line; a blank line is none, a bad one comes out as a dead letter.
    fn message(&self, output: &Output, bus: &MemoryBus) -> Option<Message> {
        if self.over == 0 && self.line.iter().all(u8::is_ascii_whitespace) {
            return None;
        }
        let decoded = match self.over {
            0 => line::decode(&self.line),
            over => Err(format!(
                "the line has {} bytes; at most {LINE_BYTES_MAX} are allowed, and raw holds those",
                self.line.len() + over
            )),
        };
        decoded.map_err(|reason| dead(self.number, &reason, &self.line, output, bus)).ok()
    }
}
