//! Lines in, lines out.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};

use serde_json::{Value, json};

use crate::process::{Expirer, command, now_ms};

const SERVE: [&str; 3] = ["serve", "--bus", "stdio:"];

fn line(subject: &str, data: &Value) -> String {
    format!("{}\n", json!({ "subject": subject, "data": data }))
}

fn created(id: &str, expires_at: &str) -> String {
    line("order:created", &json!({ "id": id, "expiresAt": expires_at, "ticket": { "id": "t1" } }))
}

/// A time of day in a while, as RFC 3339.
fn in_ms(millis: u128) -> (u128, String) {
    let at = now_ms() + millis;
    let timestamp = expirer_core::Timestamp::from_millis(i64::try_from(at).unwrap());
    (at, timestamp.to_string())
}

/// The payloads by subject and order.
fn by_order(output: &[Value]) -> BTreeMap<(String, String), Vec<Value>> {
    let mut by_order: BTreeMap<_, Vec<Value>> = BTreeMap::new();
    for line in output {
        let data = &line["data"];
        let id = data["orderId"].as_str().or_else(|| data["id"].as_str()).unwrap_or_default();
        let key = (line["subject"].as_str().unwrap().to_owned(), id.to_owned());
        by_order.entry(key).or_default().push(data.clone());
    }
    by_order
}

#[test]
fn a_file_of_orders_becomes_a_file_of_expirations_on_time() {
    let mut expirer = Expirer::start(&SERVE);
    let (due, expires_at) = in_ms(1500);
    let past = "1969-07-20T20:17:40Z";
    expirer.write(&created("past", past));
    expirer.write(&created("past", past));
    expirer.write(&created("later", &expires_at));
    expirer.write(&created("paid", &expires_at));
    expirer.write(&line("payment:created", &json!({ "id": "p1", "orderId": "paid" })));
    expirer.write(&line("payment:created", &json!({ "id": "p2", "orderId": "paid-ahead" })));
    expirer.write(&created("paid-ahead", &expires_at));
    expirer.write(&line("order:cancelled", &json!({ "id": "gone", "version": 1 })));
    expirer.write(&created("gone", &expires_at));
    expirer.close_stdin();

    let mut output = Vec::new();
    loop {
        let line = expirer.line();
        let is_later = line["data"]["id"] == "later" || line["data"]["orderId"] == "later";
        assert!(!is_later || now_ms() >= due, "early: {line}");
        let is_last = line["subject"] == "order:cancelled" && line["data"]["id"] == "later";
        output.push(line);
        if is_last {
            break;
        }
    }
    let (code, rest, log) = expirer.end();
    assert_eq!(code, Some(0), "{log}");
    output.extend(rest);
    let by_order = by_order(&output);
    let count = |subject: &str, id: &str| {
        by_order.get(&(subject.to_owned(), id.to_owned())).map_or(0, Vec::len)
    };
    for id in ["past", "later"] {
        assert!(count("expiration:complete", id) >= 1, "{output:?}");
        assert_eq!(count("order:cancelled", id), 1, "{output:?}");
    }
    for id in ["paid", "paid-ahead", "gone"] {
        assert_eq!(count("order:cancelled", id), 0, "{output:?}");
    }
    assert_eq!(count("order:created", "past"), 0, "inputs are not echoed");
    let cancelled = &by_order[&("order:cancelled".to_owned(), "past".to_owned())][0];
    assert_eq!(*cancelled, json!({ "id": "past", "version": 1, "ticket": { "id": "t1" } }));
}

#[test]
fn a_payment_for_a_cancelled_order_comes_out_as_payment_late() {
    let mut expirer = Expirer::start(&SERVE);
    expirer.write(&created("o1", "2026-01-01T00:00:00Z"));
    while expirer.line()["subject"] != "order:cancelled" {}
    let payment = line("payment:created", &json!({ "id": "p1", "orderId": "o1", "stripeId": "s" }));
    expirer.write(&payment);
    expirer.write(&payment);
    expirer.close_stdin();
    let late = json!({ "id": "p1", "orderId": "o1", "reason": "order cancelled" });
    let (code, output, log) = expirer.end();
    assert_eq!(
        (code, output),
        (Some(0), vec![json!({ "subject": "payment:late", "data": late })]),
        "{log}"
    );
}

#[test]
fn every_bad_line_comes_out_with_its_number_and_reason_and_the_rest_goes_on() {
    let good = "2026-01-01T00:00:00Z";
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let order = |field: &str, value: Value| {
        let mut data =
            json!({ "id": "bad", "expiresAt": good, "ticket": { "id": "t1", "price": 1 } });
        *data.pointer_mut(field).unwrap() = value;
        line("order:created", &data).trim_end().to_owned()
    };
    let bad: Vec<(String, &str)> = vec![
        ("not json".to_owned(), "not a line"),
        ("{}".to_owned(), "missing field `subject`"),
        (deep, "not a line"),
        (json!({ "subject": "order:lost", "data": {} }).to_string(), "unknown name"),
        (json!({ "subject": "dead:stdio", "data": {} }).to_string(), "dead letters are not taken"),
        (json!({ "subject": "payment:created", "data": { "id": "p" } }).to_string(), "orderId"),
        (order("/id", json!("")), "id: the id is empty"),
        (order("/id", json!(5)), "id: invalid type"),
        (order("/id", json!("x".repeat(1_000_000))), "id: the id has 1000000 bytes"),
        (order("/ticket/id", json!(null)), "ticket.id: invalid type"),
        (order("/ticket/price", json!(-1)), "ticket.price: a price is 0 or more"),
        (order("/expiresAt", json!("+010000-01-01T00:00:00Z")), "expiresAt: not an RFC 3339"),
        (order("/expiresAt", json!("2026-01-01T00:00:00")), "expiresAt: not an RFC 3339"),
        (order("/expiresAt", json!("2026-02-30T00:00:00Z")), "expiresAt: not an RFC 3339"),
        (order("/expiresAt", json!("NaN")), "expiresAt: not an RFC 3339"),
        (order("/expiresAt", json!(1_763_805_600_000_u64)), "expiresAt: invalid type"),
        (format!("{}x", " ".repeat(1 << 20)), "at most 1048576"),
    ];
    let mut expirer = Expirer::start(&SERVE);
    for (line, _) in &bad {
        expirer.write(&format!("{line}\n"));
    }
    expirer.write(&created("good", good));
    expirer.close_stdin();
    let (code, output, log) = expirer.end();
    assert_eq!(code, Some(0), "{log}");
    let dead: Vec<&Value> = output.iter().filter(|line| line["subject"] == "dead:stdio").collect();
    assert_eq!(dead.len(), bad.len());
    for (at, ((line, reason), dead)) in bad.iter().zip(dead).enumerate() {
        let data = &dead["data"];
        assert_eq!(data["line"], at + 1);
        assert!(data["reason"].as_str().unwrap().contains(reason), "{reason}: {}", data["reason"]);
        assert_eq!(data["raw"].as_str().unwrap(), &line[..line.len().min(1 << 20)]);
    }
    assert!(output.iter().any(|line| line["subject"] == "order:cancelled"));
    assert!(!log.contains("panicked"), "{log}");
}

#[test]
fn an_expiry_of_an_unknown_order_is_retried_and_then_a_dead_letter() {
    let mut expirer = Expirer::start(&SERVE);
    expirer
        .write(&line("order:created", &json!({ "id": "o1", "expiresAt": "2026-01-01T00:00:00Z" })));
    expirer.close_stdin();
    let (code, output, log) = expirer.end();
    assert_eq!(code, Some(0), "{log}");
    let reasons: Vec<(&str, &str)> = output
        .iter()
        .filter(|line| line["subject"] == "dead:orders-service")
        .map(|line| &line["headers"])
        .map(|headers| {
            (
                headers["expirer-subject"].as_str().unwrap(),
                headers["expirer-reason"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        reasons,
        [
            ("order:created", "not a valid order:created: missing field `ticket`"),
            ("expiration:complete", "the repository did not know order o1, 10 times"),
        ]
    );
}

#[test]
fn a_reader_that_leaves_ends_the_service_without_a_panic() {
    let mut child = command(&SERVE).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let writer = std::thread::spawn(move || {
        let past = created("o1", "2026-01-01T00:00:00Z").replace("o1", "o");
        // It ends when nobody reads any more.
        while std::io::Write::write_all(&mut stdin, past.as_bytes()).is_ok() {}
    });
    let mut first = String::new();
    out.read_line(&mut first).unwrap();
    drop(out);
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(!String::from_utf8_lossy(&output.stderr).contains("panicked"));
}

#[test]
fn an_output_that_cannot_be_written_and_an_input_that_cannot_be_read_are_failures() {
    let order = created("o1", "2026-01-01T00:00:00Z");
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut child = command(&SERVE).stdout(full).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), order.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && log.contains("No space left"), "{log}");

    let folder = std::fs::File::open("/").unwrap();
    let output = command(&SERVE).stdin(folder).output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && log.contains("the input failed at line 1"), "{log}");
}

#[test]
fn the_run_does_not_wait_for_the_timer_of_an_order_that_is_paid_or_cancelled() {
    let (_, expires_at) = in_ms(3_600_000);
    let mut expirer = Expirer::start(&SERVE);
    expirer.write(&line("payment:created", &json!({ "id": "p1", "orderId": "o1" })));
    expirer.write(&line("order:cancelled", &json!({ "id": "o2", "version": 1 })));
    for n in 1..2000 {
        expirer.write(&created(&format!("o{n}"), &expires_at));
    }
    for n in 3..2000 {
        let payment = json!({ "id": format!("p{n}"), "orderId": format!("o{n}") });
        expirer.write(&line("payment:created", &payment));
    }
    expirer.close_stdin();
    let (code, output, log) = expirer.end();
    assert_eq!((code, output), (Some(0), vec![]), "{log}");
}
