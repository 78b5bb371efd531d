//! A message as NATS carries it: the payload as it is, the id as `Nats-Msg-Id`, headers as headers.
//!
//! A message without that header takes `SUBJECT@SEQUENCE-NANOSECONDS` for an id, of where and when
//! its stream has stored it. Other headers that begin with `Nats-` speak to the server: they are left
//! out of what is read, and refused in what is written.

use std::str::FromStr;

use async_nats::Message as Raw;
use async_nats::header::{HeaderMap, HeaderName, HeaderValue, NATS_MESSAGE_ID};
use expirer_core::{Error, ErrorKind, Message, MessageId, Result, Subject, Timestamp};

use crate::nats::BACKEND;
use crate::nats::connection::Outgoing;

const OF_THE_SERVER: &str = "nats-";
const ACK: &str = "$JS.ACK.";

/// Where and when a message was stored, and for the how manyeth time it is delivered: what the
/// subject for its ack says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) attempt: u32,
    pub(super) sequence: u64,
    nanos: i64,
}

impl Origin {
    /// Reads `$JS.ACK.STREAM.CONSUMER.ATTEMPT.SEQUENCE.DELIVERY.NANOSECONDS.PENDING`, also with
    /// a domain and the hash of an account before the stream; `None` for anything else.
    pub(super) fn parse(subject: &str) -> Option<Self> {
        let tokens: Vec<&str> = subject.strip_prefix(ACK)?.split('.').collect();
        let from = match tokens.len() {
            7 => 2,
            9.. => 4,
            _ => return None,
        };
        Some(Self {
            attempt: tokens[from].parse().ok()?,
            sequence: tokens[from + 1].parse().ok()?,
            nanos: tokens[from + 3].parse().ok()?,
        })
    }

    /// When it was stored.
    pub(super) const fn published(&self) -> Timestamp {
        Timestamp::from_millis(self.nanos.div_euclid(1_000_000))
    }
}

/// Writes a message to be stored.
///
/// # Errors
/// [`ErrorKind::Invalid`] for an id or a header that no header of NATS can hold.
pub(super) fn write(op: &'static str, subject: String, message: &Message) -> Result<Outgoing> {
    let mut headers = HeaderMap::new();
    if let Some(id) = &message.id {
        headers.insert(NATS_MESSAGE_ID, value(op, "its id", id.as_str())?);
    }
    for (name, text) in message.headers.iter() {
        let is_ours = !is_of_the_server(name) && !name.is_empty();
        let parsed = HeaderName::from_str(name).ok().filter(|_| is_ours);
        let parsed = parsed.ok_or_else(|| invalid(op, &format!("a header named {name:?}")))?;
        headers.append(parsed, value(op, name, text)?);
    }
    let headers = (!headers.is_empty()).then_some(headers);
    Ok(Outgoing { subject, headers, payload: message.payload.to_vec() })
}

/// Reads a message that was stored. Its headers are sorted: the client has them in no order.
pub(super) fn read(subject: &Subject, origin: &Origin, raw: &Raw) -> Message {
    let (mut id, mut headers) = (None, Vec::new());
    for (name, values) in raw.headers.iter().flat_map(HeaderMap::iter) {
        let (name, Some(value)) = (name.as_ref() as &str, values.last()) else { continue };
        if name.eq_ignore_ascii_case("Nats-Msg-Id") {
            id = Some(MessageId::new(value.as_str()));
        } else if !is_of_the_server(name) {
            headers.push((name, value.as_str()));
        }
    }
    headers.sort_unstable();
    let unnamed = || MessageId::new(format!("{subject}@{}-{}", origin.sequence, origin.nanos));
    let message = Message::new(subject.clone(), &*raw.payload);
    let message = message.with_id(id.unwrap_or_else(unnamed));
    Message { headers: headers.into_iter().collect(), ..message }
}

fn is_of_the_server(name: &str) -> bool {
    name.get(..OF_THE_SERVER.len()).is_some_and(|start| start.eq_ignore_ascii_case(OF_THE_SERVER))
}

fn value(op: &'static str, name: &str, text: &str) -> Result<HeaderValue> {
    HeaderValue::from_str(text).map_err(|_| invalid(op, &format!("{name} with a line break")))
}

fn invalid(op: &'static str, what: &str) -> Error {
    Error::new(ErrorKind::Invalid, BACKEND, op, format!("NATS cannot carry {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUBJECT: Subject = Subject::OrderCreated;
    const ORIGIN: Origin = Origin { attempt: 2, sequence: 7, nanos: 1_999_999 };

    fn raw(outgoing: Outgoing) -> Raw {
        Raw {
            subject: outgoing.subject.into(),
            reply: None,
            headers: outgoing.headers,
            payload: outgoing.payload.into(),
            status: None,
            description: None,
            length: 0,
        }
    }

    fn written(message: &Message) -> Result<Outgoing> {
        write("publish", "order:created".to_owned(), message)
    }

    #[test]
    fn what_was_written_is_read() {
        let message = Message::new(SUBJECT, *b"\xff").with_id(MessageId::new("a:b.*> ü"));
        let message = message.with_header("X", "").with_header("traceparent", "00-ü");
        assert_eq!(read(&SUBJECT, &ORIGIN, &raw(written(&message).unwrap())), message);
        let plain = read(&SUBJECT, &ORIGIN, &raw(written(&Message::new(SUBJECT, [])).unwrap()));
        assert_eq!(plain.id, Some(MessageId::new("order:created@7-1999999")));
    }

    #[test]
    fn what_speaks_to_the_server_stays_with_it() {
        let mut outgoing = written(&Message::new(SUBJECT, [])).unwrap();
        let mut headers = HeaderMap::new();
        headers.append("Nats-Rollup", "all");
        headers.append("nats-msg-id", "x");
        headers.append("Nats", "kept");
        outgoing.headers = Some(headers);
        let message = read(&SUBJECT, &ORIGIN, &raw(outgoing));
        assert_eq!(message.headers.iter().collect::<Vec<_>>(), [("Nats", "kept")]);
        assert_eq!(message.id, Some(MessageId::new("x")));
    }

    #[test]
    fn what_no_header_holds_is_invalid() {
        let plain = || Message::new(SUBJECT, []);
        for message in [
            plain().with_id(MessageId::new("a\nb")),
            plain().with_header("a", "b\r\nNats-Rollup: all"),
            plain().with_header("a:b", "c"),
            plain().with_header("", "c"),
            plain().with_header("nats-Rollup", "all"),
        ] {
            let error = written(&message).expect_err("cannot be carried");
            assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        }
    }

    #[test]
    fn an_ack_subject_says_where_its_message_is_from() {
        let short = "$JS.ACK.ticketing.a:order:created.2.7.9.1999999.0";
        assert_eq!(Origin::parse(short), Some(ORIGIN));
        let long = "$JS.ACK._.hash.ticketing.a:order:created.2.7.9.1999999.0.token";
        assert_eq!(Origin::parse(long), Some(ORIGIN));
        assert_eq!(ORIGIN.published(), Timestamp::from_millis(1));
        for wrong in ["", "_INBOX.a.1", "$JS.ACK.a.b.c", "$JS.ACK.a.b.x.7.9.1.0"] {
            assert_eq!(Origin::parse(wrong), None, "{wrong}");
        }
    }
}
