//! A configuration that cannot work: one clear error, at once.

use std::io::Write;
use std::process::Stdio;

use crate::process::{command, run};

fn refused(arguments: &[&str], code: i32, expected: &[&str]) {
    let output = run(arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {error}");
    for text in expected {
        assert!(error.contains(text), "{arguments:?} does not say {text:?}: {error}");
    }
    assert!(!error.contains("panicked"), "{error}");
}

#[test]
fn each_wrong_flag_is_refused_with_what_is_wrong_and_where() {
    let cases: [(&[&str], i32, &[&str]); 14] = [
        (&["--bus", "kafka://h"], 1, &["--bus", "unknown scheme", "memory:, stdio:"]),
        (&["--bus", "memory"], 1, &["--bus", "scheme"]),
        (&["--queue", "stdio:"], 1, &["--queue", "no delay queue"]),
        (&["--repo", "stdio:"], 1, &["--repo", "no order repository"]),
        (&["--bus", "memory:?prefix=x"], 1, &["--bus", "takes nothing after the colon"]),
        (&["--roles", "scheduler,barber"], 1, &["--roles", "barber", "canceller"]),
        (&["--http", "nowhere"], 1, &["--http", "nowhere"]),
        (&["--batch", "0"], 1, &["--batch"]),
        (&["--keep-ended", "soon"], 1, &["--keep-ended", "soon"]),
        (&["--log-format", "xml"], 1, &["--log-format", "xml"]),
        (&["--config", "/nonexistent.toml"], 1, &["/nonexistent.toml"]),
        (&["--roles", "api", "--http", "off"], 1, &["nothing to do"]),
        (&["--colour"], 2, &["--colour"]),
        (&["order", "create", "--id", ""], 2, &["--id", "empty"]),
    ];
    for (arguments, code, expected) in cases {
        refused(arguments, code, expected);
    }
}

#[test]
fn a_wrong_file_is_refused_with_its_name_and_key_and_no_secret() {
    for (toml, expected) in [
        ("bus = 5", "bus"),
        ("bsu = \"memory:\"", "bsu"),
        ("bus = ", "line 1"),
        ("http-token = [\"secret\"]", "http-token"),
    ] {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(toml.as_bytes()).unwrap();
        let path = file.path().to_str().unwrap();
        refused(&["--config", path], 1, &[path, expected]);
        let output = run(&["--config", path]);
        assert!(!String::from_utf8_lossy(&output.stderr).contains("secret"));
    }
}

#[test]
fn a_wrong_variable_is_refused_by_its_name() {
    for (name, value) in
        [("EXPIRER_BUS", "kafka:"), ("EXPIRER_BATCH", "x"), ("NATS_URL", "nats://h")]
    {
        let output = command(&[]).env(name, value).stdin(Stdio::null()).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.contains(name), "{error}");
    }
}

#[test]
fn check_says_what_the_backends_can_do_and_refuses_what_serve_would() {
    let output = run(&["check", "--http", "127.0.0.1:0"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0));
    for expected in ["bus    memory:", "watermark yes", "nothing survives a restart", "ok"] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    refused(&["check", "--queue", "kafka://h"], 1, &["--queue", "unknown scheme \"kafka\""]);
    let output = run(&["check", "--roles", "api", "--http", "off"]);
    assert_eq!(output.status.code(), Some(1), "as serve does");
}
