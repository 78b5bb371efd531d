//! Standard input, read by a thread of its own: reading blocks, and cannot be taken back.

use std::io::{self, BufRead, BufReader, Read};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use event_listener::{Event, Listener};
use expirer_core::{ErrorKind, Message};

use super::output::Output;
use super::{LINE_BYTES_MAX, READ_AHEAD_BYTES_MAX, READ_AHEAD_MAX, line};
use crate::memory::{Backlog, MemoryBus};

/// Messages stored at a time, and bytes of payload.
const BATCH_MAX: usize = 256;
const BATCH_BYTES_MAX: usize = 1 << 20;

/// The end of the input.
#[derive(Debug, Default)]
pub(super) struct Input {
    is_ended: AtomicBool,
    end: Event,
    failure: OnceLock<String>,
    bad_lines: AtomicU64,
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

    /// Ends it before its end.
    pub(super) fn fail(&self, failure: String) {
        // The first failure is the one that counts.
        let _ = self.failure.set(failure);
        self.end();
    }

    pub(super) fn failure(&self) -> Option<String> {
        self.failure.get().cloned()
    }

    pub(super) fn bad_lines(&self) -> u64 {
        self.bad_lines.load(Ordering::Relaxed)
    }

    fn end(&self) {
        self.is_ended.store(true, Ordering::Release);
        self.end.notify(usize::MAX);
    }

    /// Stores every line of `source`, no more than [`READ_AHEAD_MAX`] ahead of the groups.
    pub(super) fn read<R: Read>(&self, source: BufReader<R>, bus: &MemoryBus, output: &Output) {
        let mut lines = Lines { source, number: 0, line: Vec::new(), over: 0 };
        let (mut batch, mut bytes) = (Vec::with_capacity(BATCH_MAX), 0);
        loop {
            let more = lines.read();
            if matches!(more, Ok(true)) {
                match lines.message() {
                    None => {}
                    Some(Ok(message)) => {
                        bytes += message.payload.len();
                        batch.push(message);
                    }
                    Some(Err(reason)) => self.dead(&lines, &reason, output, bus),
                }
            }
            let ended = !matches!(more, Ok(true));
            let is_full = batch.len() >= BATCH_MAX || bytes >= BATCH_BYTES_MAX;
            if ended || is_full || !lines.has_next() {
                store(&mut batch, bus, output);
                bytes = 0;
            }
            match more {
                Err(error) => {
                    let number = lines.number + 1;
                    return self.fail(format!("the input failed at line {number}: {error}"));
                }
                Ok(more) if !more || output.is_closed() => return self.end(),
                Ok(_) => {}
            }
        }
    }

    /// A line that is no message. If it cannot be written, the output is closed and so are we.
    fn dead<R>(&self, lines: &Lines<R>, reason: &str, output: &Output, bus: &MemoryBus) {
        self.bad_lines.fetch_add(1, Ordering::Relaxed);
        let dead = [line::dead(lines.number, reason, &lines.line)];
        if output.write_blocking(&line::encode_all(&dead)).is_ok() {
            // For those who follow the tail; the line itself is out.
            let _ = bus.publish_now(&dead);
        }
    }
}

/// Whether the groups are not too far behind.
const fn has_room(backlog: Backlog) -> bool {
    backlog.messages < READ_AHEAD_MAX && backlog.bytes < READ_AHEAD_BYTES_MAX
}

/// Stores a batch, once the groups have caught up.
fn store(batch: &mut Vec<Message>, bus: &MemoryBus, output: &Output) {
    while !batch.is_empty() && !output.is_closed() {
        let settled = bus.settled();
        if has_room(bus.backlog()) {
            match bus.publish_now(batch) {
                Err(error) if error.kind() == ErrorKind::Overloaded => {}
                _ => return batch.clear(),
            }
        }
        settled.wait();
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

    /// The message in the line, or what is wrong with it; a blank line is none.
    fn message(&self) -> Option<Result<Message, String>> {
        if self.over > 0 {
            let bytes = self.line.len() + self.over;
            let max = LINE_BYTES_MAX;
            let text = format!(
                "the line has {bytes} bytes; at most {max} are allowed, and raw holds those"
            );
            return Some(Err(text));
        }
        // Windows tools begin a file with a byte order mark.
        let line = match self.number {
            1 => self.line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&self.line),
            _ => &self.line,
        };
        let is_blank = line.iter().all(u8::is_ascii_whitespace);
        (!is_blank).then(|| line::decode(line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_below_both_bounds_only() {
        let room = |messages, bytes| has_room(Backlog { messages, bytes });
        assert!(room(READ_AHEAD_MAX - 1, READ_AHEAD_BYTES_MAX - 1));
        assert!(!room(READ_AHEAD_MAX, 0) && !room(0, READ_AHEAD_BYTES_MAX));
    }
}
