//! One line: decoded from the input, encoded for the output.

use std::borrow::Cow;
use std::collections::BTreeMap;

use expirer_core::event::{Event, Headers};
use expirer_core::{Group, Message, Subject};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// An input line.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    subject: Cow<'a, str>,
    #[serde(borrow)]
    data: &'a RawValue,
    #[serde(default)]
    headers: BTreeMap<String, String>,
}

/// What the dead letter of a line says.
#[derive(Serialize)]
struct Dead<'a> {
    line: u64,
    reason: &'a str,
    raw: Cow<'a, str>,
}

/// Reads a line; the payload is checked here, so that an error can name the line.
pub(super) fn decode(line: &[u8]) -> Result<Message, String> {
    let text = std::str::from_utf8(line)
        .map_err(|error| format!("not UTF-8 from byte {} on", error.valid_up_to()))?;
    if !text.trim_start().starts_with('{') {
        return Err(not_a_line(&"it does not begin with {"));
    }
    let line: Line<'_> = serde_json::from_str(text).map_err(|error| not_a_line(&error))?;
    let subject: Subject = line.subject.parse().map_err(|error| format!("subject: {error}"))?;
    let payload = line.data.get().as_bytes();
    match Event::decode(&subject, payload) {
        None => return Err("subject: dead letters are not taken as input".to_owned()),
        Some(Err(error)) => return Err(without_position(&error.to_string())),
        Some(Ok(_)) => {}
    }
    let mut message = Message::new(subject, payload);
    message.headers = line.headers.into_iter().collect();
    Ok(message)
}

fn not_a_line(why: &dyn std::fmt::Display) -> String {
    let why = without_position(&why.to_string());
    format!("not a line {{\"subject\": …, \"data\": {{…}}}}: {why}")
}

/// An error tells its place within the piece that was read, as line 1 of it: not of the input.
fn without_position(reason: &str) -> String {
    reason.rsplit_once(" at line ").map_or(reason, |(reason, _)| reason).to_owned()
}

/// The dead letter of a line, by its number from 1 on.
pub(super) fn dead(number: u64, reason: &str, raw: &[u8]) -> Message {
    let dead = Dead { line: number, reason, raw: String::from_utf8_lossy(raw) };
    // A struct of strings and numbers always serialises.
    let payload = serde_json::to_vec(&dead).unwrap_or_default();
    Message::new(Subject::Dead(Group::STDIO), payload)
}

/// Messages as lines, each with its end.
pub(super) fn encode_all(messages: &[Message]) -> Vec<u8> {
    let bytes = messages.iter().map(|message| message.payload.len() + 64).sum();
    let mut lines = Vec::with_capacity(bytes);
    messages.iter().for_each(|message| encode(message, &mut lines));
    lines
}

fn encode(message: &Message, lines: &mut Vec<u8>) {
    // No subject has a character that JSON escapes.
    lines.extend_from_slice(b"{\"subject\":\"");
    lines.extend_from_slice(message.subject.as_str().as_bytes());
    lines.extend_from_slice(b"\",\"data\":");
    push_data(&message.payload, lines);
    if !message.headers.is_empty() {
        lines.extend_from_slice(b",\"headers\":");
        push_headers(&message.headers, lines);
    }
    lines.extend_from_slice(b"}\n");
}

/// The payload as it is, unless it is no JSON (then as a string) or has line ends (then as spaces,
/// since JSON has them between its tokens only).
fn push_data(payload: &[u8], lines: &mut Vec<u8>) {
    if serde_json::from_slice::<&RawValue>(payload).is_err() {
        let text = String::from_utf8_lossy(payload);
        lines.extend(serde_json::to_vec(&text).unwrap_or_default());
        return;
    }
    let start = lines.len();
    lines.extend_from_slice(payload);
    for byte in &mut lines[start..] {
        if matches!(byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
}

fn push_headers(headers: &Headers, lines: &mut Vec<u8>) {
    let headers: BTreeMap<&str, &str> = headers.iter().collect();
    lines.extend(serde_json::to_vec(&headers).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_line_is_a_subject_its_data_and_perhaps_headers() {
        let line = br#"{"data": {"id":"p1", "orderId":"o1"}, "subject": "payment:created",
            "headers": {"traceparent": "x"}, "more": 1}"#;
        let message = decode(line).expect("valid");
        assert_eq!(message.subject, Subject::PaymentCreated);
        assert_eq!(&*message.payload, br#"{"id":"p1", "orderId":"o1"}"#);
        assert_eq!(message.headers.get("traceparent"), Some("x"));
    }

    #[test]
    fn what_is_wrong_with_a_line_is_said() {
        for (line, expected) in [
            (&b""[..], "not a line"),
            (b"\xff", "not UTF-8 from byte 0 on"),
            (b"[]", "it does not begin with {"),
            (br#"["order:created", {"id": "o1"}]"#, "it does not begin with {"),
            (br#"{"subject": "order:created", "data": ["o1"]}"#, "expected an object"),
            (b"{}", "missing field `subject`"),
            (br#"{"subject": "order:created"}"#, "missing field `data`"),
            (br#"{"subject": "order:paid", "data": {}}"#, "unknown name \"order:paid\""),
            (br#"{"subject": "dead:stdio", "data": {}}"#, "dead letters are not taken"),
            (br#"{"subject": "order:created", "data": {}}"#, "order:created: missing field `id`"),
            (br#"{"subject": "order:created", "data": {"id": 5}}"#, "order:created: id: "),
            (br#"{"subject": "order:created", "data": {}, "headers": {"a": 1}}"#, "invalid type"),
            (br#"{"subject": "order:created", "data": {}} {}"#, "trailing characters"),
        ] {
            let reason = decode(line).expect_err("invalid");
            assert!(reason.contains(expected), "{reason}");
        }
    }

    #[test]
    fn every_payload_becomes_one_line_of_json() {
        for (payload, expected) in [
            (&b"{\"a\":\n1}"[..], "{\"subject\":\"order:created\",\"data\":{\"a\": 1}}\n"),
            (b"no json\n", "{\"subject\":\"order:created\",\"data\":\"no json\\n\"}\n"),
        ] {
            let lines = encode_all(&[Message::new(Subject::OrderCreated, payload)]);
            assert_eq!(String::from_utf8(lines).expect("UTF-8"), expected);
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_decoded_or_refused(bytes: Vec<u8>) {
            let _ = decode(&bytes);
        }

        #[test]
        fn a_dead_letter_is_one_line_whatever_was_in_it(number: u64, raw: Vec<u8>) {
            let lines = encode_all(&[dead(number, "reason", &raw)]);
            prop_assert_eq!(lines.iter().filter(|byte| **byte == b'\n').count(), 1);
            let line: serde_json::Value = serde_json::from_slice(&lines).expect("JSON");
            prop_assert_eq!(line["data"]["line"].as_u64(), Some(number));
        }
    }
}
