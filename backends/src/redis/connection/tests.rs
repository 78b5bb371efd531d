//! Against a server that answers whatever a test wants.

use std::io::{BufRead, BufReader, Result as IoResult, Write};
use std::net::{TcpListener, TcpStream};
use std::pin::pin;
use std::thread;

use futures_lite::future::poll_once;

use super::*;
use crate::redis::url::Part;

const PATIENCE: Duration = Duration::from_millis(1500);
static SCRIPT: Script = Script::new("one", "return 1");

/// What a server answers to a command by its name, and to how manyeth connection it came; where
/// it answers nothing, it ends the connection.
trait Answer: Fn(usize, &str) -> Option<String> + Send + Sync + 'static {}
impl<T: Fn(usize, &str) -> Option<String> + Send + Sync + 'static> Answer for T {}

/// A handle that has not connected, on a server.
fn served(answer: impl Answer) -> Connection {
    let (connection, listener) = bound();
    let answer = Arc::new(answer);
    thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            serve_beside(number, stream?, &answer);
        }
        IoResult::Ok(())
    });
    connection
}

fn bound() -> (Connection, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    let options = Options::parse(&url, Part::Queue).unwrap();
    let patience = Patience { connect: PATIENCE, answer: PATIENCE };
    (Connection::lazy(&options, patience).unwrap(), listener)
}

fn serve_beside(number: usize, stream: TcpStream, answer: &Arc<impl Answer>) {
    let answer = Arc::clone(answer);
    // Its client may go at any time.
    thread::spawn(move || drop(serve(stream, |name| answer(number, name))));
}

fn serve(mut stream: TcpStream, answer: impl Fn(&str) -> Option<String>) -> IoResult<()> {
    let mut input = BufReader::new(stream.try_clone()?);
    loop {
        let name = command(&mut input)?;
        let text = if name == "CLIENT" { Some("+OK".to_owned()) } else { answer(&name) };
        let Some(text) = text else { return Ok(()) };
        stream.write_all(format!("{text}\r\n").as_bytes())?;
    }
}

/// Reads one command; its name.
fn command(input: &mut impl BufRead) -> IoResult<String> {
    let mut number = || -> IoResult<(usize, String)> {
        let mut line = String::new();
        input.read_line(&mut line)?;
        let count = line.trim_end().get(1..).and_then(|count| count.parse().ok());
        let count: usize = count.ok_or(io::ErrorKind::UnexpectedEof)?;
        if line.starts_with('*') {
            return Ok((count, String::new()));
        }
        let mut word = vec![0; count + 2];
        input.read_exact(&mut word)?;
        Ok((0, String::from_utf8_lossy(&word[..count]).into_owned()))
    };
    let (count, _) = number()?;
    let words = (0..count).map(|_| Ok(number()?.1)).collect::<IoResult<Vec<_>>>()?;
    Ok(words.into_iter().next().unwrap_or_default())
}

fn ping() -> Call {
    Call::command("PING", "")
}

#[tokio::test]
async fn who_is_no_master_any_more_is_asked_no_more() {
    for refusal in [
        "-READONLY You can't write against a read only replica.",
        "-ERR Error running script (call to f_1): @user_script:1: READONLY You can't write",
        "-MASTERDOWN Link with MASTER is down",
        "-LOADING Redis is loading the dataset in memory",
        "-CLUSTERDOWN The cluster is down",
    ] {
        let connection =
            served(move |number, _| Some(if number == 0 { refusal } else { "+PONG" }.to_owned()));
        let refused = connection.call::<String>("test", ping()).await.expect_err(refusal);
        assert_eq!(refused.kind(), ErrorKind::Unavailable, "{refused}");
        let pong: String = connection.call("test", ping()).await.expect(refusal);
        assert_eq!(pong, "PONG");
    }
}

#[tokio::test]
async fn a_node_of_a_cluster_says_how_to_write_its_url() {
    for redirect in ["-MOVED 7 10.0.0.1:6379", "-ASK 7 10.0.0.1:6379"] {
        let connection = served(move |_, _| Some(redirect.to_owned()));
        let error = connection.call::<String>("test", ping()).await.expect_err(redirect);
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.to_string().contains("redis+cluster://"), "{error}");
        assert!(error.to_string().contains("10.0.0.1:6379"), "{error}");
    }
}

#[tokio::test]
async fn a_repeat_that_fails_takes_no_other_answer_with_it() {
    let connection = served(|_, name| match name {
        "EVALSHA" => Some("-NOSCRIPT No matching script.".to_owned()),
        "EVAL" => None,
        _ => Some("+PONG".to_owned()),
    });
    let calls = vec![ping(), SCRIPT.on(&["k"]), ping()];
    let answers = connection.run("test", calls).await;
    assert!(matches!(&answers[..], [Ok(_), Err(_), Ok(_)]), "{answers:?}");
}

#[tokio::test]
async fn connecting_outlives_the_call_that_began_it() {
    let (connection, listener) = bound();
    listener.set_nonblocking(true).unwrap();
    let first = {
        let mut call = pin!(connection.call::<String>("test", ping()));
        loop {
            assert!(poll_once(&mut call).await.is_none(), "nobody answers yet");
            if let Ok((stream, _)) = listener.accept() {
                break stream;
            }
            tokio::task::yield_now().await;
        }
    };
    first.set_nonblocking(false).unwrap();
    serve_beside(0, first, &Arc::new(|_: usize, _: &str| Some("+PONG".to_owned())));
    let pong: String = connection.call("test", ping()).await.expect("the same connection");
    assert_eq!(pong, "PONG");
}

#[tokio::test]
async fn a_connection_serves_until_another_has_its_place() {
    let connection = served(|number, _| Some(format!("+{number}")));
    let first = connection.lend("test").await.unwrap();
    connection.renew(first.generation);
    assert!(lock(&connection.slot).link.is_some(), "it still serves");
    loop {
        let answered: u64 = connection.call("test", ping()).await.expect("nobody waits");
        if answered == 1 {
            break;
        }
        tokio::task::yield_now().await;
    }
    connection.renew(first.generation);
    assert!(lock(&connection.slot).opening.is_none(), "that one is gone already");
}
