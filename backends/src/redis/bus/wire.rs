//! A message as the fields of a stream's entry.
//!
//! `data` is the payload, `id` the message's id, and every other field a header. A header that is
//! itself named so is written with a dot before it (`.data`, and `.data` as `..data`). An entry
//! without `id` takes `SUBJECT@ENTRY-ID` for one, which no other message has.

use expirer_core::{Headers, Message, MessageId, Subject};

use super::entry::Entry;
use crate::redis::script::Call;

const DATA: &str = "data";
const ID: &str = "id";

/// Appends a message's fields.
pub(super) fn write(mut call: Call, message: &Message) -> Call {
    call.push(DATA);
    call.push(&*message.payload);
    if let Some(id) = &message.id {
        call.push(ID);
        call.push(id.as_str());
    }
    for (name, value) in message.headers.iter() {
        call.push(escaped(name));
        call.push(value);
    }
    call
}

/// Reads any entry: one without `data` has an empty payload.
pub(super) fn read(subject: &Subject, entry: &Entry) -> Message {
    let (mut payload, mut id, mut headers) = (None, None, Headers::new());
    for pair in entry.fields.chunks_exact(2) {
        let (name, value) = (String::from_utf8_lossy(&pair[0]), &pair[1]);
        match &*name {
            DATA => drop(payload.get_or_insert(value)),
            ID => drop(id.get_or_insert_with(|| String::from_utf8_lossy(value))),
            name => headers.insert(unescaped(name), String::from_utf8_lossy(value)),
        }
    }
    let payload = payload.map_or(&[][..], Vec::as_slice);
    let id = match id {
        Some(id) => MessageId::new(id),
        None => MessageId::new(format!("{subject}@{}", entry.id)),
    };
    let message = Message::new(subject.clone(), payload).with_id(id);
    Message { headers, ..message }
}

/// Whether a name without the dots before it is one of ours.
fn is_ours(name: &str) -> bool {
    [DATA, ID].contains(&name.trim_start_matches('.'))
}

fn escaped(name: &str) -> String {
    if is_ours(name) { format!(".{name}") } else { name.to_owned() }
}

fn unescaped(name: &str) -> &str {
    if is_ours(name) { name.strip_prefix('.').unwrap_or(name) } else { name }
}

#[cfg(test)]
mod tests {
    use redis::Arg;

    use super::*;
    use crate::redis::bus::entry::EntryId;

    fn entry(fields: &[&[u8]]) -> Entry {
        let fields = fields.iter().map(|field| field.to_vec()).collect();
        Entry { id: EntryId::parse(b"5-1").unwrap(), fields, count: 1 }
    }

    fn fields(message: &Message) -> Vec<Vec<u8>> {
        let bytes = |arg: Arg<&[u8]>| match arg {
            Arg::Simple(bytes) => bytes.to_vec(),
            _ => Vec::new(),
        };
        let cmd = write(Call::command("XADD", "k"), message).into_cmd();
        cmd.args_iter().skip(1).map(bytes).collect()
    }

    #[test]
    fn headers_clash_with_nothing() {
        let names = ["data", "id", ".data", "..id", "DATA", "data.", ".", "", "traceparent"];
        let mut message = Message::new(Subject::OrderCreated, *b"\xff").with_id(MessageId::new(""));
        for name in names {
            message = message.with_header(name, name.to_uppercase());
        }
        let entry = Entry { fields: fields(&message), ..entry(&[]) };
        assert_eq!(read(&Subject::OrderCreated, &entry), message);
    }

    #[test]
    fn what_others_wrote_is_taken() {
        let read = |fields: &[&[u8]]| read(&Subject::OrderCreated, &entry(fields));
        let plain = read(&[b"data", b"{}"]);
        assert_eq!((&*plain.payload, plain.headers.is_empty()), (&b"{}"[..], true));
        assert_eq!(plain.id, Some(MessageId::new("order:created@5-1")));
        let odd = read(&[b"\xffx", b"\xff", b"data", b"1", b"data", b"2", b"left over"]);
        assert_eq!(*odd.payload, *b"1");
        assert_eq!(odd.headers.get("\u{fffd}x"), Some("\u{fffd}"));
        assert_eq!(*read(&[b"body", b"{}"]).payload, *b"");
    }
}
