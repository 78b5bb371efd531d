//! The bus between two byte streams.

use std::io::{self, Cursor};
use std::time::Duration;

use expirer_core::{Timestamp, event::Headers};
use futures_lite::future::block_on;

use super::*;
use crate::memory::testing::VirtualClock;

/// A sink to look into.
#[derive(Clone, Debug, Default)]
struct Sink {
    bytes: Arc<Mutex<Vec<u8>>>,
    fails: Option<io::ErrorKind>,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(kind) = self.fails {
            return Err(kind.into());
        }
        self.bytes.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink {
    fn lines(&self) -> Vec<String> {
        let bytes = self.bytes.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
    }
}

fn open(input: impl Into<Vec<u8>>, sink: &Sink) -> StdioBus {
    let options = ConnectOptions::new(Arc::new(VirtualClock::new()), 1);
    StdioBus::new(&options, Cursor::new(input.into()), sink.clone()).unwrap()
}

fn payment(n: usize) -> String {
    format!("{{\"subject\":\"payment:created\",\"data\":{{\"id\":\"p{n}\",\"orderId\":\"o1\"}}}}\n")
}

async fn join(bus: &StdioBus) -> Box<dyn Consumer> {
    let options = SubscribeOptions::new(Group::ORDERS_SERVICE, [Subject::PaymentCreated]);
    bus.subscribe(options).await.unwrap()
}

#[test]
fn lines_are_delivered_and_not_echoed_and_what_is_published_is_a_line() {
    let sink = Sink::default();
    let bus = open(format!("{}\n  \n{}", payment(1), payment(2).trim_end()), &sink);
    block_on(async {
        let consumer = join(&bus).await;
        bus.read_to_end().await;
        let deliveries = consumer.receive(ReceiveOptions::new(9)).await.unwrap();
        assert_eq!(deliveries.len(), 2);
        assert_eq!(bus.settled(), None);
        let receipts: Vec<Receipt> = deliveries.iter().map(|delivery| delivery.receipt).collect();
        consumer.ack(&receipts).await.unwrap();
        assert_eq!(bus.settled(), Some(2));
        assert_eq!(sink.lines(), Vec::<String>::new());
        let late =
            Message::new(Subject::PaymentLate, *b"{}").with_header(Headers::TRACEPARENT, "x");
        bus.publish(&[late]).await.unwrap();
        let line = r#"{"subject":"payment:late","data":{},"headers":{"traceparent":"x"}}"#;
        assert_eq!(sink.lines(), [line]);
    });
}

#[test]
fn a_bad_line_comes_out_with_its_number_and_the_rest_goes_on() {
    let sink = Sink::default();
    let mut input = payment(1).into_bytes();
    input.extend_from_slice(b"{\"subject\": 5}\n\xff\xfe\n");
    input.extend_from_slice(payment(2).as_bytes());
    let bus = open(input, &sink);
    block_on(async {
        let consumer = join(&bus).await;
        bus.read_to_end().await;
        assert_eq!(consumer.receive(ReceiveOptions::new(9)).await.unwrap().len(), 2);
    });
    let lines: Vec<serde_json::Value> =
        sink.lines().iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    assert!(lines.iter().all(|line| line["subject"] == "dead:stdio"));
    assert_eq!(
        (&lines[0]["data"]["line"], &lines[0]["data"]["raw"]),
        (&2.into(), &"{\"subject\": 5}".into())
    );
    assert_eq!(
        (&lines[1]["data"]["line"], &lines[1]["data"]["raw"]),
        (&3.into(), &"\u{fffd}\u{fffd}".into())
    );
}

#[test]
fn a_line_over_the_limit_is_cut_and_reported_and_one_at_the_limit_is_read() {
    let sink = Sink::default();
    let padded = |bytes: usize| {
        let line = payment(1);
        format!("{}{line}", " ".repeat(bytes + 1 - line.len()))
    };
    let bus = open(padded(LINE_BYTES_MAX) + &padded(LINE_BYTES_MAX + 1), &sink);
    block_on(async {
        let consumer = join(&bus).await;
        bus.read_to_end().await;
        assert_eq!(consumer.receive(ReceiveOptions::new(9)).await.unwrap().len(), 1);
    });
    let line: serde_json::Value = serde_json::from_str(&sink.lines()[0]).unwrap();
    let reason = line["data"]["reason"].as_str().unwrap();
    assert!(reason.contains("the line has 1048577 bytes; at most 1048576"), "{reason}");
}

#[test]
fn dead_letters_are_lines_with_their_reason() {
    let sink = Sink::default();
    let bus = open(payment(1), &sink);
    block_on(async {
        let consumer = join(&bus).await;
        bus.read_to_end().await;
        let receipt = consumer.receive(ReceiveOptions::new(1)).await.unwrap()[0].receipt;
        let rejection = Rejection { receipt, reason: "no".to_owned() };
        consumer.reject(&[rejection.clone(), rejection]).await.unwrap();
    });
    let line: serde_json::Value = serde_json::from_str(&sink.lines()[0]).unwrap();
    assert_eq!(sink.lines().len(), 1, "once, though asked twice");
    assert_eq!(line["subject"], "dead:orders-service");
    assert_eq!(line["headers"][Headers::REASON], "no");
    assert_eq!(line["data"]["id"], "p1");
}

#[test]
fn no_more_is_read_ahead_than_the_bound() {
    let sink = Sink::default();
    let lines = usize::try_from(READ_AHEAD_MAX).unwrap() * 3;
    let bus = open((0..lines).map(payment).collect::<String>(), &sink);
    block_on(async {
        let consumer = join(&bus).await;
        let read = async {
            bus.read_to_end().await;
        };
        let consume = async {
            let (mut taken, mut most) = (0, 0);
            while taken < lines {
                let options = ReceiveOptions::new(256).with_wait(Duration::from_secs(60));
                let deliveries = consumer.receive(options).await.unwrap();
                let progress = bus.progress(&Group::ORDERS_SERVICE, &Subject::PaymentCreated).await;
                most = most.max(progress.unwrap().waiting);
                taken += deliveries.len();
                let receipts: Vec<_> = deliveries.iter().map(|delivery| delivery.receipt).collect();
                consumer.ack(&receipts).await.unwrap();
            }
            most
        };
        let ((), most) = futures_lite::future::zip(read, consume).await;
        assert!(most <= READ_AHEAD_MAX + 256, "{most}");
    });
}

#[test]
fn what_is_put_off_holds_no_other_up() {
    let sink = Sink::default();
    let lines = usize::try_from(READ_AHEAD_MAX).unwrap() + 1000;
    let bus = open((0..lines).map(payment).collect::<String>(), &sink);
    block_on(async {
        let consumer = join(&bus).await;
        let put_off = async {
            let mut taken = 0;
            while taken < lines {
                let options = ReceiveOptions::new(256).with_wait(Duration::from_secs(60));
                let deliveries = consumer.receive(options).await.unwrap();
                taken += deliveries.len();
                let at = Timestamp::MAX;
                let releases: Vec<_> =
                    deliveries.iter().map(|d| Release { receipt: d.receipt, at }).collect();
                consumer.release(&releases).await.unwrap();
            }
        };
        futures_lite::future::zip(bus.read_to_end(), put_off).await;
        assert_eq!(bus.settled(), None);
    });
}

#[test]
fn nothing_is_kept_for_groups_to_come_and_large_lines_are_bounded_by_their_bytes() {
    let sink = Sink::default();
    let padding = "x".repeat(1 << 19);
    let line =
        |n| payment(n).replace("\"orderId\"", &format!("\"more\":\"{padding}\",\"orderId\""));
    let lines: usize = 300;
    let bus = open((0..lines).map(line).collect::<String>(), &sink);
    block_on(async {
        let consumer = join(&bus).await;
        let consume = async {
            let (mut taken, mut most) = (0, 0);
            while taken < lines {
                let options = ReceiveOptions::new(16).with_wait(Duration::from_secs(60));
                let deliveries = consumer.receive(options).await.unwrap();
                most = most.max(bus.memory.backlog().bytes);
                taken += deliveries.len();
                let receipts: Vec<_> = deliveries.iter().map(|d| d.receipt).collect();
                consumer.ack(&receipts).await.unwrap();
            }
            most
        };
        let ((), most) = futures_lite::future::zip(bus.read_to_end(), consume).await;
        // One batch may come on top.
        assert!(most <= READ_AHEAD_BYTES_MAX + (1 << 21), "{most}");
        let late = SubscribeOptions::new(Group::STDIO, [Subject::PaymentCreated]);
        let late = bus.subscribe(late).await.unwrap();
        assert!(late.receive(ReceiveOptions::new(1)).await.unwrap().is_empty());
    });
}

#[test]
fn what_the_groups_have_no_room_for_is_not_written_either() {
    let sink = Sink::default();
    let bus = open("", &sink);
    block_on(async {
        let consumer = join(&bus).await;
        let full = usize::try_from(crate::memory::SUBJECT_MESSAGES_MAX).unwrap();
        let message = Message::new(Subject::PaymentCreated, *b"{}");
        bus.memory.publish_now(&vec![message.clone(); full]).unwrap();
        let one = [message];
        let mut publish = bus.publish(&one);
        assert!(futures_lite::future::poll_once(&mut publish).await.is_none());
        assert_eq!(sink.lines().len(), 0, "a retry would write it again");
        let taken = consumer.receive(ReceiveOptions::new(1)).await.unwrap();
        consumer.ack(&[taken[0].receipt]).await.unwrap();
        publish.await.unwrap();
        assert_eq!(sink.lines().len(), 1);
    });
}

#[test]
fn a_byte_order_mark_is_no_part_of_the_first_line() {
    let sink = Sink::default();
    let bus = open(format!("\u{feff}{}", payment(1)), &sink);
    block_on(async {
        let consumer = join(&bus).await;
        bus.read_to_end().await;
        assert_eq!(consumer.receive(ReceiveOptions::new(9)).await.unwrap().len(), 1);
        assert_eq!((bus.bad_lines(), bus.failure()), (0, None));
    });
}

/// A source that fails after its first line.
struct Broken(Cursor<String>);

impl Read for Broken {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 => Err(io::Error::other("the disk is gone")),
            bytes => Ok(bytes),
        }
    }
}

#[test]
fn an_input_that_fails_is_a_failure_and_no_bad_line() {
    let (sink, source) = (Sink::default(), Broken(Cursor::new(payment(1))));
    let options = ConnectOptions::new(Arc::new(VirtualClock::new()), 1);
    let bus = StdioBus::new(&options, source, sink.clone()).unwrap();
    block_on(async {
        let consumer = join(&bus).await;
        bus.read_to_end().await;
        assert_eq!(consumer.receive(ReceiveOptions::new(9)).await.unwrap().len(), 1);
    });
    let failure = bus.failure().unwrap();
    assert!(failure.contains("line 2") && failure.contains("the disk is gone"), "{failure}");
    assert_eq!((bus.bad_lines(), sink.lines().len()), (0, 0));
}

#[test]
fn a_full_disk_is_a_failure_and_a_reader_that_leaves_is_none() {
    for (kind, is_failure) in
        [(io::ErrorKind::StorageFull, true), (io::ErrorKind::BrokenPipe, false)]
    {
        let sink = Sink { fails: Some(kind), ..Sink::default() };
        let bus = open(payment(1), &sink);
        let messages = [Message::new(Subject::PaymentLate, *b"{}")];
        let published = block_on(bus.publish(&messages));
        assert_eq!(published.unwrap_err().kind(), ErrorKind::Closed);
        assert_eq!(bus.failure().is_some(), is_failure);
    }
}

#[test]
fn a_closed_output_is_an_error_and_the_end_and_never_a_panic() {
    let sink = Sink { fails: Some(io::ErrorKind::BrokenPipe), ..Sink::default() };
    let bus = open(payment(1), &sink);
    block_on(async {
        let error = bus.publish(&[Message::new(Subject::PaymentLate, *b"{}")]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Closed);
        bus.output_closed().await;
        bus.read_to_end().await;
    });
}
