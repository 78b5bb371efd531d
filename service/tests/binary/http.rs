//! Orders over HTTP, and the events that they cause.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::Output;

use serde_json::{Value, json};

use crate::probe::{agent, get};
use crate::process::{Expirer, now_ms, run};

fn post(address: &str, path: &str, body: &str) -> (u16, Value) {
    let request = agent().post(format!("http://{address}{path}"));
    let mut answer = request.header("content-type", "application/json").send(body).unwrap();
    (answer.status().as_u16(), answer.body_mut().read_json().unwrap())
}

fn order(id: &str, millis: u64) -> String {
    let ticket = json!({ "id": "t1", "price": 20 });
    json!({ "id": id, "userId": "u1", "ticket": ticket, "expiresInMs": millis }).to_string()
}

/// The live tail: event, id and data of each.
pub(crate) struct Events(BufReader<TcpStream>);

impl Events {
    pub(crate) fn open(address: &str) -> Self {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET /events HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
        let mut events = Self(BufReader::new(stream));
        while !events.line().is_empty() {}
        events
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        assert_ne!(self.0.read_line(&mut line).unwrap(), 0, "the stream has ended");
        line.trim_end().to_owned()
    }

    fn next(&mut self) -> (String, String, Value) {
        let mut fields = BTreeMap::new();
        loop {
            let line = self.line();
            if let Some((name, text)) = line.split_once(": ") {
                fields.insert(name.to_owned(), text.to_owned());
            }
            // A blank line ends an event; one without data was a comment.
            if line.is_empty() && fields.contains_key("data") {
                let data = serde_json::from_str(&fields["data"]).unwrap();
                return (fields["event"].clone(), fields["id"].clone(), data);
            }
        }
    }
}

#[test]
fn an_unpaid_order_is_seen_to_expire_and_a_paid_one_is_not() {
    let (expirer, address) = Expirer::serve(&[]);
    let mut events = Events::open(&address);
    let begun = now_ms();
    let (status, created) = post(&address, "/orders", &order("unpaid", 400));
    assert_eq!((status, &created["status"]), (201, &json!("created")));
    let (status, again) = post(&address, "/orders", &order("unpaid", 400));
    assert_eq!((status, &again["id"]), (200, &json!("unpaid")));
    assert_eq!(post(&address, "/orders", &order("paid", 60_000)).0, 201);
    let payment = json!({ "paymentId": "p1" }).to_string();
    let (status, paid) = post(&address, "/orders/paid/complete", &payment);
    assert_eq!((status, &paid["status"], &paid["version"]), (200, &json!("complete"), &json!(1)));
    assert_eq!(post(&address, "/orders/paid/complete", &payment).0, 200, "a repeat");
    let (status, problem) = post(&address, "/orders/paid/cancel", "");
    assert_eq!((status, &problem["detail"]), (409, &json!("the order is complete")));

    let mut heard = Vec::new();
    let cancelled = loop {
        let (event, id, data) = events.next();
        if event == "order:cancelled" {
            assert!(now_ms() >= begun + 400, "early");
            break (id, data);
        }
        heard.push((
            event,
            data["orderId"].as_str().or_else(|| data["id"].as_str()).unwrap().to_owned(),
        ));
    };
    assert_eq!(cancelled.0, "order:cancelled:unpaid:1");
    assert_eq!(cancelled.1, json!({ "id": "unpaid", "version": 1, "ticket": { "id": "t1" } }));
    assert!(heard.contains(&("order:created".to_owned(), "unpaid".to_owned())), "{heard:?}");
    assert!(heard.contains(&("expiration:complete".to_owned(), "unpaid".to_owned())), "{heard:?}");
    let (_, unpaid) = get(&address, "/orders/unpaid");
    assert_eq!(serde_json::from_str::<Value>(&unpaid).unwrap()["status"], "cancelled");
    assert_eq!(post(&address, "/orders/unpaid/complete", "").0, 409);

    assert_eq!((get(&address, "/healthz").0, get(&address, "/readyz").0), (200, 200));
    let (_, metrics) = get(&address, "/metrics");
    assert!(metrics.lines().any(|line| line == "expirer_timers_fired_total 1"), "{metrics}");
    drop(expirer);
}

#[test]
fn the_command_line_talks_to_a_running_service() {
    let (expirer, address) = Expirer::serve(&[]);
    let url = format!("http://{address}");
    let order = |arguments: &[&str]| -> (Option<i32>, Output) {
        let output = run(&[&["order"], arguments, &["--url", &url]].concat());
        (output.status.code(), output)
    };
    let create = ["create", "--id", "o1", "--user-id", "u1", "--ticket-id", "t1", "--price", "20"];
    let (code, output) = order(&[&create[..], &["--expires-in", "15m"]].concat());
    let created: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((code, &created["status"]), (Some(0), &json!("created")));
    assert_eq!(order(&["get", "o1"]).0, Some(0));
    assert_eq!(order(&["complete", "o1", "--payment-id", "p1"]).0, Some(0));
    let (code, output) = order(&["cancel", "o1"]);
    let reason = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(code, Some(1));
    assert!(reason.contains("the order is complete"), "{reason}");
    assert_eq!(order(&["get", "o2"]).0, Some(1));
    drop(expirer);
}

#[test]
fn a_wrong_body_is_a_problem_that_names_the_field() {
    let (expirer, address) = Expirer::serve(&[]);
    for (body, detail) in [
        ("", "EOF"),
        ("{", "EOF"),
        (r#"{"userId":5}"#, "userId"),
        (r#"{"userId":"u1","ticket":{"id":"","price":1},"expiresInMs":1}"#, "ticket.id"),
        (r#"{"userId":"u1","ticket":{"id":"t1","price":-1},"expiresInMs":1}"#, "ticket.price"),
        (r#"{"userId":"u1","ticket":{"id":"t1","price":1}}"#, "expiresAt"),
        (r#"{"userId":"u1","ticket":{"id":"t1","price":1},"expiresInMs":1.5}"#, "expiresInMs"),
        (
            r#"{"userId":"u1","ticket":{"id":"t1","price":1},"expiresAt":"2026-02-30T00:00:00Z"}"#,
            "expiresAt",
        ),
    ] {
        let (status, problem) = post(&address, "/orders", body);
        assert_eq!((status, &problem["status"]), (400, &json!(400)), "{body}");
        assert!(problem["detail"].as_str().unwrap().contains(detail), "{body}: {problem}");
    }
    let large = format!("{{\"id\":\"{}\"}}", "x".repeat(100_000));
    assert_eq!(post(&address, "/orders", &large).0, 413);
    drop(expirer);
}
