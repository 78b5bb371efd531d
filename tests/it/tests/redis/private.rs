//! What the other tests rely on: the private servers and the proxy in front of them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};

use expirer_conformance::{Harness, QueueHarness};
use expirer_core::{OrderId, Timer};
use tempfile::TempDir;

use crate::place::Place;
use crate::servers::process::{Process, wait_until};
use crate::servers::redis::RedisServer;

/// Set for a process that starts a server and is then killed.
const HOLDS: &str = "EXPIRER_TEST_HOLDS_A_SERVER";

pub(crate) fn a_connection_moves_to_another_server() {
    let (place, other) = (Place::plain(), RedisServer::start());
    place.block_on(async {
        let queue = place.queue().await.expect("a queue");
        let timer = Timer::new(OrderId::new("o1").expect("an id"), place.time().clock().now());
        queue.schedule(&[timer]).await.expect("scheduled");
        for (port, pending) in [(other.port(), 0), (place.server.port(), 1)] {
            place.proxy.retarget(port);
            assert_eq!(queue.stats().await.expect("stats").pending, pending);
        }
    });
}

pub(crate) fn a_server_whose_port_another_one_has_is_not_ready() {
    let (server, dir) = (RedisServer::start(), TempDir::new().expect("a folder"));
    server.kill();
    let mut other = Command::new("redis-server");
    let port = server.port().to_string();
    other.args(["--port", &port, "--bind", "127.0.0.1", "--save", ""]);
    let mut other = Process::start(&other, &dir.path().join("log")).expect("it starts");
    assert!(other.wait_until(|| is_there(server.port())));
    assert!(!server.revive(), "the other one answers, and it has ended");
    other.kill();
    assert!(server.revive());
}

pub(crate) fn servers_end_with_the_process_that_started_them() {
    let this = std::env::current_exe().expect("the path of this program");
    let mut holder = Command::new(this);
    let holder = holder.env(HOLDS, "yes").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut holder = holder.spawn().expect("it starts");
    let said = BufReader::new(holder.stdout.take().expect("a pipe")).lines();
    let [port, dir] = &said.take(2).collect::<Result<Vec<_>, _>>().expect("lines")[..] else {
        panic!("no server")
    };
    let port = port.parse().expect("a port");
    assert!(is_there(port));
    holder.kill().expect("it is killed");
    holder.wait().expect("it has ended");
    assert!(wait_until(|| !is_there(port)), "the server outlives who started it");
    std::fs::remove_dir_all(dir).expect("its folder is there");
}

/// In a process that was asked to: starts a server, says where it is, and waits to be killed.
pub(crate) fn holds_a_server() -> bool {
    let is_asked = std::env::var_os(HOLDS).is_some();
    if is_asked {
        let server = RedisServer::start();
        let said = format!("{}\n{}\n", server.port(), server.dir().display());
        std::io::stdout().write_all(said.as_bytes()).expect("it is heard");
        drop(std::io::stdin().read(&mut [0]));
    }
    is_asked
}

fn is_there(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}
