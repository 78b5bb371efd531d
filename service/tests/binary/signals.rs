//! The end, as an operator asks for it.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::http::Events;
use crate::process::Expirer;

#[test]
fn sigterm_and_ctrl_c_end_a_busy_service_with_code_0() {
    for signal in ["TERM", "INT"] {
        let (expirer, address) = Expirer::serve(&[]);
        let _events = Events::open(&address);
        expirer.signal(signal);
        let (code, _, log) = expirer.end();
        assert_eq!(code, Some(0), "{log}");
        assert!(log.contains("\"ended\"") && !log.contains("panicked"), "{log}");
    }
}

#[cfg(feature = "stdio")]
#[test]
fn sigterm_in_mid_flow_loses_no_line_that_was_begun() {
    let mut expirer = Expirer::start(&["serve", "--bus", "stdio:"]);
    let order = |n: u32, year: u32| {
        format!(
            "{{\"subject\":\"order:created\",\"data\":{{\"id\":\"o{n}\",\
             \"expiresAt\":\"{year}-01-01T00:00:00Z\",\"ticket\":{{\"id\":\"t\"}}}}}}\n"
        )
    };
    expirer.write(&order(0, 9999));
    expirer.write(&(1..2000).map(|n| order(n, 2020)).collect::<String>());
    expirer.line();
    expirer.signal("TERM");
    // Every line is whole, and the timer of the year 9999 holds nothing up.
    let (code, _, log) = expirer.end();
    assert_eq!(code, Some(0), "{log}");
}

#[test]
fn a_request_that_never_ends_is_cut_at_the_drain_timeout() {
    let (expirer, address) = Expirer::serve(&["--drain-timeout", "200ms"]);
    let _stuck = half_a_request(&address);
    expirer.signal("TERM");
    let (code, _, log) = expirer.end();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("not all was finished"), "{log}");
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let (expirer, address) = Expirer::serve(&["--drain-timeout", "1h"]);
    let _stuck = half_a_request(&address);
    expirer.signal("TERM");
    expirer.wait_for_log("told to end");
    expirer.signal("TERM");
    let (code, _, log) = expirer.end();
    assert_eq!(code, Some(130), "{log}");
}

/// A request whose body does not come; the service is known to have begun it.
fn half_a_request(address: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    let head = "POST /orders HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
                content-length: 100\r\nexpect: 100-continue\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 100");
    stream
}
