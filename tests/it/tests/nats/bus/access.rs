//! Who is not let in, and servers that cannot do it.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use async_nats::ConnectOptions;
use expirer_core::{
    Error, ErrorKind, Message, ReceiveOptions, Rejection, Release, Subject, Timestamp,
};

use super::{LIMIT, SUBJECT, join, open, publish, stranger, try_open};
use crate::place::Place;
use crate::servers::nats::{NatsServer, TOKEN};

async fn refused(url: &str) -> Error {
    match try_open(url).await {
        Ok(bus) => panic!("expected a refusal of {url}, came {bus:?}"),
        Err(error) => error,
    }
}

fn assert_told(error: &Error, kind: ErrorKind, text: &str) {
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(text), "expected {text:?} in: {error}");
}

pub(super) fn a_login_that_is_not_taken_is_told(program: &Path) {
    let place = Place::on(NatsServer::with_token(program));
    place.block_on(async {
        let port = place.server.port();
        open(&format!("nats://{TOKEN}@127.0.0.1:{port}")).await;
        for login in ["", "wr0ng@", "user:wr0ng@"] {
            let error = refused(&format!("nats://{login}127.0.0.1:{port}")).await;
            assert_told(&error, ErrorKind::Denied, "does not take our login");
            assert!(!error.to_string().contains("wr0ng"), "{error}");
        }
    });
}

/// We may do everything else.
const FORBIDDEN: &str = "authorization { users = [ { user: a, password: b, permissions: { \
    publish: { deny: [ \"order:created\", \
    \"$JS.API.CONSUMER.MSG.NEXT.>\" ] } } } ] }\njetstream { store_dir: $STORE_DIR }";

pub(super) fn a_missing_permission_is_told(program: &Path) {
    let place = Place::on(NatsServer::with(program, FORBIDDEN));
    let deaf = Place::on(NatsServer::with(
        program,
        &FORBIDDEN.replace("publish", "subscribe").replace("order:created", "_INBOX.>"),
    ));
    place.block_on(async {
        let bus = open(&format!("nats://a:b@127.0.0.1:{}", place.server.port())).await;
        let error = bus.publish(&[Message::new(SUBJECT, *b"{}")]).await.expect_err("forbidden");
        assert_told(&error, ErrorKind::Denied, "order:created");
        let consumer = join(&bus, LIMIT).await;
        let options = ReceiveOptions::new(1).with_wait(LIMIT);
        let error = consumer.receive(options).await.expect_err("forbidden");
        assert_told(&error, ErrorKind::Denied, "CONSUMER.MSG.NEXT");
        let url = format!("nats://a:b@127.0.0.1:{}", deaf.server.port());
        assert_told(&refused(&url).await, ErrorKind::Denied, "_INBOX");
    });
}

/// What the page of the backend says, for the group of these tests.
const ENOUGH: &str = r#"authorization { users = [ { user: a, password: b, permissions: {
    publish: ["$JS.API.INFO", "$JS.API.STREAM.NAMES",
          "$JS.API.STREAM.*.ticketing", "$JS.API.STREAM.*.ticketing-dead",
          "$JS.API.STREAM.MSG.*.ticketing", "$JS.API.STREAM.MSG.*.ticketing-dead",
          "$JS.API.CONSUMER.*.ticketing", "$JS.API.CONSUMER.*.ticketing-dead",
          "$JS.API.CONSUMER.*.ticketing.>", "$JS.API.CONSUMER.*.ticketing-dead.>",
          "$JS.API.CONSUMER.DURABLE.CREATE.>", "$JS.API.CONSUMER.MSG.NEXT.>", "$JS.ACK.>",
          "order:created", "order:cancelled", "expiration:complete", "payment:created",
          "payment:late", "dead:a", "expirer:clock:ticketing"]
    subscribe: ["_INBOX.>"] } } ] }
jetstream { store_dir: $STORE_DIR }"#;

pub(super) fn the_permissions_in_the_docs_are_enough(program: &Path) {
    let place = Place::on(NatsServer::with(program, ENOUGH));
    place.block_on(async {
        let bus = open(&format!("nats://a:b@127.0.0.1:{}", place.server.port())).await;
        let (consumer, tail) = (join(&bus, LIMIT).await, bus.tail(&[SUBJECT]).await.expect("it"));
        publish(&bus, 3).await;
        let came = super::receive(&*consumer, 3).await;
        let [first, second, third] = [0, 1, 2].map(|at: usize| came[at].receipt);
        consumer.ack(&[first]).await.expect("it acks");
        let release = Release { receipt: second, at: Timestamp::MIN };
        consumer.release(&[release]).await.expect("it releases");
        let rejection = Rejection { receipt: third, reason: "poison".to_owned() };
        consumer.reject(&[rejection]).await.expect("it rejects");
        super::ack(&*consumer, &super::receive(&*consumer, 1).await).await;
        for _ in 0..2 {
            let progress = bus.progress(&super::group(), &SUBJECT).await.expect("it tells");
            assert!(progress.worked_off >= Some(came[2].published), "{progress:?}");
            place.pause(Duration::from_millis(600)).await;
        }
        let options = ReceiveOptions::new(3).with_wait(LIMIT);
        assert!(!tail.receive(options).await.expect("it sees").messages.is_empty());
        let letters = bus.tail(&[Subject::Dead(super::group())]).await;
        letters.expect("dead letters can be followed");
    });
}

pub(super) fn a_server_without_jetstream_is_told(program: &Path) {
    let off = Place::on(NatsServer::with(program, ""));
    let account = "accounts { a { users: [ { user: a, password: b } ] } }\n\
        jetstream { store_dir: $STORE_DIR }";
    let without = Place::on(NatsServer::with(program, account));
    off.block_on(async {
        let error = refused(&off.url()).await;
        assert_told(&error, ErrorKind::Unsupported, "JetStream is off");
        let url = format!("nats://a:b@127.0.0.1:{}", without.server.port());
        assert_told(&refused(&url).await, ErrorKind::Unsupported, "jetstream: enabled");
    });
}

pub(super) fn a_server_of_nats_streaming_is_told(program: &Path) {
    let place = Place::on(NatsServer::with(program, ""));
    place.block_on(async {
        let streaming = stranger(&place).await;
        let found = streaming.client().subscribe("_STAN.discover.ticketing").await;
        streaming.client().flush().await.expect("it is known");
        let error = refused(&place.url()).await;
        assert_told(&error, ErrorKind::Unsupported, "this is NATS Streaming");
        let error = refused(&format!("{}?stream=other", place.url())).await;
        assert_told(&error, ErrorKind::Unsupported, "JetStream is off");
        drop(found);
    });
}

/// Room for little, and for few consumers.
const SMALL: &str = "jetstream { store_dir: $STORE_DIR }\naccounts { a { jetstream: { max_file: \
    2MB, max_mem: 1MB, max_streams: 2, max_consumers: 1 }, users: [ { user: a, password: b } ] } }";

pub(super) fn an_account_without_room_refuses_and_takes_more_once_there_is_some(program: &Path) {
    let place = Place::on(NatsServer::with(program, SMALL));
    place.block_on(async {
        let port = place.server.port();
        let bus = open(&format!("nats://a:b@127.0.0.1:{port}")).await;
        let consumer = join(&bus, LIMIT).await;
        let options = expirer_core::SubscribeOptions::new(expirer_core::Group::STDIO, [SUBJECT]);
        let error = bus.subscribe(options).await.expect_err("one consumer too many");
        assert_eq!(error.kind(), ErrorKind::Overloaded, "{error}");
        let large = Message::new(SUBJECT, vec![b'x'; 500_000]);
        let mut stored = 0;
        let error = loop {
            match bus.publish(std::slice::from_ref(&large)).await {
                Ok(()) => stored += 1,
                Err(error) => break error,
            }
            assert!(stored < 10, "expected the account to be full");
        };
        assert_eq!(error.kind(), ErrorKind::Overloaded, "{error}");
        assert_eq!(super::receive(&*consumer, stored).await.len(), stored, "they are there");
        let login = ConnectOptions::with_user_and_password("a".to_owned(), "b".to_owned());
        let client = login.connect(format!("127.0.0.1:{port}")).await.expect("it connects");
        let stream = async_nats::jetstream::new(client).get_stream(super::STREAM).await;
        stream.expect("is there").purge().await.expect("is purged");
        publish(&bus, 1).await;
    });
}

const OLD: &str = "INFO {\"server_id\":\"x\",\"version\":\"2.2.0\",\"headers\":true,\
    \"max_payload\":1024}\r\n";

/// A server that says hello like this, and takes no notice of what comes.
fn impostor(hello: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("a bound port").port();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            // Whoever connects may leave at any time.
            drop(stream.write_all(hello.as_bytes()));
            std::thread::spawn(move || answer(stream));
        }
    });
    port
}

/// As a server that takes every call for one of `$JS.API.INFO`.
fn answer(mut stream: std::net::TcpStream) {
    let Ok(read) = stream.try_clone() else { return };
    for line in BufReader::new(read).lines().map_while(Result::ok) {
        let words: Vec<&str> = line.split(' ').collect();
        let answer = match words[..] {
            ["PING"] => "PONG\r\n".to_owned(),
            ["PUB", _, reply, _] => format!("MSG {reply} 1 2\r\n{{}}\r\n"),
            _ => continue,
        };
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

pub(super) fn who_is_there_instead_is_told(program: &Path) {
    let place = Place::plain(program);
    place.block_on(async {
        for (hello, kind, text) in [
            ("HTTP/1.1 400 Bad Request\r\n\r\n", ErrorKind::Unsupported, "NATS protocol"),
            ("", ErrorKind::TimedOut, "is a NATS server there?"),
            (OLD, ErrorKind::Unsupported, "needs 2.9.0 or later"),
        ] {
            let error = refused(&format!("nats://127.0.0.1:{}", impostor(hello))).await;
            assert_told(&error, kind, text);
        }
        let error = refused("nats://127.0.0.1:1").await;
        assert_told(&error, ErrorKind::Unavailable, "127.0.0.1:1");
        let error = refused(&format!("tls://127.0.0.1:{}", place.server.port())).await;
        assert_told(&error, ErrorKind::Unsupported, "does not speak TLS");
    });
}

pub(super) fn a_certificate_that_is_not_known_is_told(program: &Path) {
    let (place, other) = (Place::secured(program), Place::secured(program));
    place.block_on(async {
        let (right, wrong) = (place.url(), other.url());
        open(&right).await;
        let (_, certificates) = wrong.split_once('?').expect("options");
        let (address, _) = right.split_once('?').expect("options");
        let error = refused(&format!("{address}?{certificates}")).await;
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
        let error = refused(&right.replace("pass%2Fw", "wrong")).await;
        assert_told(&error, ErrorKind::Denied, "does not take our login");
        let none = refused(address).await;
        assert_eq!(none.kind(), ErrorKind::Denied, "{none}");
    });
}
