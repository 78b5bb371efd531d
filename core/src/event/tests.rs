//! Decoders against what is wrong, and what is written against what is read.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn order() -> Value {
    json!({
        "id": "o1", "version": 3, "status": "created", "userId": "u1",
        "expiresAt": "2026-11-22T10:00:00.000Z", "ticket": { "id": "t1", "price": 20 },
    })
}

fn decode(subject: &Subject, json: &Value) -> Result<Event, DecodeError> {
    Event::decode(subject, json.to_string().as_bytes()).expect("not a dead letter")
}

/// Replaces the field at a JSON pointer, or removes it.
fn with(mut json: Value, pointer: &str, value: Option<Value>) -> Value {
    let (parent, field) = pointer.rsplit_once('/').expect("a pointer");
    let parent = json.pointer_mut(parent).and_then(Value::as_object_mut).expect("an object");
    match value {
        Some(value) => parent.insert(field.to_owned(), value),
        None => parent.remove(field),
    };
    json
}

#[test]
fn every_field_wrong_in_turn_is_a_clear_error() {
    let payment = json!({ "id": "p1", "orderId": "o1", "stripeId": "s1" });
    let expiration = json!({ "orderId": "o1", "expiresAt": "2026-11-22T10:00:00.000Z" });
    let cancelled = json!({ "id": "o1", "version": 1, "ticket": { "id": "t1" } });
    let late = json!({ "id": "p1", "orderId": "o1", "reason": "order cancelled" });
    let cases: [(Subject, Value, &[&str], &[&str]); 5] = [
        (
            Subject::OrderCreated,
            order(),
            &["/id", "/expiresAt", "/ticket/id"],
            &["/version", "/status", "/userId", "/ticket", "/ticket/price"],
        ),
        (Subject::ExpirationComplete, expiration, &["/orderId"], &["/expiresAt"]),
        (Subject::OrderCancelled, cancelled, &["/id", "/ticket/id"], &["/version", "/ticket"]),
        (Subject::PaymentCreated, payment, &["/id", "/orderId"], &[]),
        (Subject::PaymentLate, late, &["/id", "/orderId", "/reason"], &[]),
    ];
    let id = "x".repeat(1 << 20);
    let wrong = [
        json!([]),
        json!(-1.5),
        json!(true),
        json!(""),
        json!(id),
        json!("a\u{0}"),
        json!("a\r\nX: y"),
        json!(["t1", 20]),
    ];
    for (subject, good, required, optional) in cases {
        decode(&subject, &good).expect("the example is good");
        for pointer in required {
            let error = decode(&subject, &with(good.clone(), pointer, None)).unwrap_err();
            let field = pointer.rsplit('/').next().expect("split yields one");
            let expected = format!("missing field `{field}`");
            assert!(error.to_string().contains(&expected), "{subject} {pointer}: {error}");
        }
        for pointer in optional {
            decode(&subject, &with(good.clone(), pointer, None)).expect(pointer);
        }
        for pointer in required.iter().chain(optional) {
            for value in &wrong {
                let error = decode(&subject, &with(good.clone(), pointer, Some(value.clone())))
                    .expect_err(pointer)
                    .to_string();
                let path = pointer[1..].replace('/', ".");
                assert!(error.contains(&path), "{subject} {pointer}: {error}");
                assert!(error.len() < 1000, "an error does not repeat a megabyte");
                assert!(!error.contains(char::is_control), "nor a control character: {error}");
            }
        }
    }
}

#[test]
fn a_field_that_we_do_not_need_does_not_lose_a_payment() {
    let payment = json!({ "id": "p1", "orderId": "o1", "stripeId": 5, "more": [[]] });
    decode(&Subject::PaymentCreated, &payment).expect("stripeId is not read");
}

#[test]
fn json_bombs_and_broken_text_are_refused() {
    let bomb = format!("{}{}", "[".repeat(1 << 20), "]".repeat(1 << 20));
    for json in [
        bomb.as_bytes(),
        format!("{{\"id\":{bomb}}}").as_bytes(),
        b"",
        b" [\"o1\",0,\"created\",\"u1\",\"2026-11-22T10:00:00Z\",{\"id\":\"t1\"}]",
        b"null",
        b"{\"id\":\"\xff\"}",
        b"{\"id\":\"o1\",\"id\":\"o2\",\"expiresAt\":\"2026-11-22T10:00:00Z\"}",
        b"{\"id\":\"o1\",\"expiresAt\":NaN}",
        b"{\"id\":\"o1\",\"expiresAt\":\"2026-11-22T10:00:00Z\"} {}",
    ] {
        assert!(OrderCreated::decode(json).is_err());
    }
    let ignored =
        format!("{{\"id\":\"o1\",\"expiresAt\":\"2026-11-22T10:00:00Z\",\"more\":{bomb}}}");
    let _ = OrderCreated::decode(ignored.as_bytes());
}

#[test]
fn versions_and_prices_stay_within_what_javascript_holds() {
    let version = |version: u64| {
        decode(&Subject::OrderCreated, &with(order(), "/version", Some(json!(version))))
    };
    assert!(version(VERSION_MAX).is_ok());
    assert!(version(VERSION_MAX + 1).is_err());
    let exact: Price = serde_json::from_str("61.803398874989476").expect("a price");
    assert!((exact.get() - 61.803_398_874_989_476).abs() == 0.0, "read to the last digit");
    let price = |price: f64| serde_json::to_string(&Price::new(price)).expect("serialises");
    assert_eq!([price(20.0), price(0.5), price(-0.0), price(1e300)], ["20", "0.5", "0", "1e+300"]);
    assert_eq!([price(-1.0), price(f64::NAN), price(f64::INFINITY)], ["null"; 3]);
}

#[test]
fn only_repeats_that_must_be_the_same_have_a_stable_id() {
    let id = |subject: &Subject, json: &Value| decode(subject, json).expect("valid").message().id;
    let created = id(&Subject::OrderCreated, &order());
    assert_eq!(created, Some(MessageId::new("order:created:o1:3")));
    let cancelled = id(&Subject::OrderCancelled, &json!({ "id": "o1", "version": 4 }));
    assert_eq!(cancelled, Some(MessageId::new("order:cancelled:o1:4")));
    let late = json!({ "id": "p1", "orderId": "o1", "reason": "order already paid" });
    assert_eq!(id(&Subject::PaymentLate, &late), Some(MessageId::new("payment:late:p1")));
    assert_eq!(id(&Subject::ExpirationComplete, &json!({ "orderId": "o1" })), None);
}

#[test]
fn a_dead_letter_says_what_why_and_when() {
    let dead = Message::new(Subject::OrderCreated, *b"{").with_id(MessageId::new("x"));
    let dead = dead.into_dead_letter(Group::ORDERS_SERVICE, "broken", Timestamp::EPOCH);
    assert_eq!(dead.subject.to_string(), "dead:orders-service");
    assert_eq!(dead.id, None, "a stable id would make a broker forget the second one");
    assert_eq!(dead.headers.get(Headers::REASON), Some("broken"));
    assert_eq!(dead.headers.get(Headers::SUBJECT), Some("order:created"));
    assert_eq!(dead.headers.get(Headers::TIME), Some("1970-01-01T00:00:00.000Z"));
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_decoded_or_refused(bytes: Vec<u8>) {
        for subject in &Subject::EVENTS {
            let _ = Event::decode(subject, &bytes);
        }
    }

    #[test]
    fn almost_json_is_decoded_or_refused(at in 0..200_usize, byte: u8) {
        let mut json = order().to_string().into_bytes();
        let at = at % json.len();
        json[at] = byte;
        if let Ok(event) = OrderCreated::decode(&json) {
            prop_assert_eq!(OrderCreated::decode(&event.encode()), Ok(event));
        }
    }

    #[test]
    fn subjects_are_read_back(text in "(dead:)?\\PC{0,70}") {
        if let Ok(subject) = text.parse::<Subject>() {
            prop_assert_eq!(subject.to_string(), text);
        }
    }
}
