use std::ffi::OsString;
use std::io::Write;

use expirer_core::observe::Flow;

use super::*;

fn flags(pairs: &[(Key, &str)]) -> Layer {
    pairs
        .iter()
        .map(|(key, text)| {
            let origin = Origin::Flag(key.name());
            (*key, Given { text: (*text).to_owned(), origin })
        })
        .collect()
}

impl Config {
    /// What flags alone give, for tests elsewhere.
    pub(crate) fn flagged(given: &[(Key, &str)]) -> Self {
        Self::resolve(flags(given), None, &|_| None).unwrap()
    }
}

fn resolve(
    given: &[(Key, &str)],
    env: &[(&str, &str)],
    file: Option<&str>,
) -> Result<Config, ConfigError> {
    let lookup = |name: &str| {
        env.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
    };
    let mut written = tempfile::NamedTempFile::new().unwrap();
    written.write_all(file.unwrap_or_default().as_bytes()).unwrap();
    let path = file.map(|_| written.path().to_owned());
    Config::resolve(flags(given), path, &lookup)
}

fn error(given: &[(Key, &str)], env: &[(&str, &str)], file: Option<&str>) -> String {
    resolve(given, env, file).unwrap_err().to_string()
}

#[test]
fn defaults() {
    let config = resolve(&[], &[], None).unwrap();
    assert_eq!(config.bus.value.as_str(), "memory:");
    assert_eq!(config.queue.value.as_str(), "memory:");
    assert_eq!(config.repo.value.as_str(), "memory:");
    assert!(config.bus.is_default() && config.repo.is_default());
    assert_eq!(config.roles.value, Roles::all());
    assert_eq!(config.http.unwrap().value, "127.0.0.1:8080");
    assert!(config.http_token.is_none());
    assert_eq!(config.keep_ended, Duration::from_secs(3600));
    assert_eq!(config.payment_wait, Duration::from_secs(30));
    assert_eq!(config.drain_timeout, Duration::from_secs(5));
    assert_eq!((config.batch, config.log.as_str()), (256, "info"));
    assert_eq!(config.log_format, LogFormat::Auto);
}

#[test]
fn the_command_line_beats_the_environment_beats_the_file_beats_the_node_worker() {
    let file = "bus = \"file:\"";
    let env = [("EXPIRER_BUS", "env:"), ("NATS_URL", "nats://node:4222")];
    let bus = |given: &[(Key, &str)], env: &[(&str, &str)], file| {
        resolve(given, env, file).unwrap().bus.value.as_str().to_owned()
    };
    assert_eq!(bus(&[(Key::Bus, "flag:")], &env, Some(file)), "flag:");
    assert_eq!(bus(&[], &env, Some(file)), "env:");
    assert_eq!(bus(&[], &env[1..], Some(file)), "file:");
    assert_eq!(bus(&[], &env[1..], None), "nats://node:4222");
}

#[test]
fn every_setting_is_read_from_environment_and_file() {
    let env = [
        ("EXPIRER_QUEUE", "a:"),
        ("EXPIRER_REPO", "b:"),
        ("EXPIRER_ROLES", "canceller, api"),
        ("EXPIRER_HTTP", "[::1]:0"),
        ("EXPIRER_HTTP_TOKEN", "hunter2"),
        ("EXPIRER_KEEP_ENDED", "2h"),
        ("EXPIRER_PAYMENT_WAIT", "0s"),
        ("EXPIRER_DRAIN_TIMEOUT", "250ms"),
        ("EXPIRER_BATCH", "1"),
        ("EXPIRER_LOG", "warn,expirer=debug"),
        ("EXPIRER_LOG_FORMAT", "json"),
    ];
    let file = "queue = 'a:'\nrepo = 'b:'\nroles = ['canceller', 'api']\nhttp = '[::1]:0'\n\
        http-token = 'hunter2'\nkeep-ended = '2h'\npayment-wait = '0s'\ndrain-timeout = '250ms'\n\
        batch = 1\nlog = 'warn,expirer=debug'\nlog-format = 'json'\n";
    for config in [resolve(&[], &env, None), resolve(&[], &[], Some(file))] {
        let config = config.unwrap();
        assert_eq!((config.queue.value.as_str(), config.repo.value.as_str()), ("a:", "b:"));
        assert_eq!(config.roles.value.to_string(), "canceller,api");
        assert_eq!(config.http.as_ref().map(|http| http.value.as_str()), Some("[::1]:0"));
        assert!(config.http_token.as_ref().is_some_and(|token| token.is(b"hunter2")));
        assert_eq!(config.keep_ended, Duration::from_secs(7200));
        assert_eq!(config.payment_wait, Duration::ZERO);
        assert_eq!(config.drain_timeout, Duration::from_millis(250));
        assert_eq!((config.batch, config.log.as_str()), (1, "warn,expirer=debug"));
        assert_eq!(config.log_format, LogFormat::Json);
        assert!(!format!("{config:?}").contains("hunter2"), "{config:?}");
    }
}

#[test]
fn the_node_workers_variables_work_alone() {
    let env = [
        ("NATS_URL", "http://nats-srv:4222"),
        ("NATS_CLIENT_ID", "expiration 1&2"),
        ("NATS_CLUSTER_ID", "ticketing"),
        ("REDIS_HOST", "expiration-redis-srv"),
    ];
    let config = resolve(&[], &env, None).unwrap();
    let bus = "nats://nats-srv:4222?name=expiration%201%262&stream=ticketing";
    assert_eq!(config.bus.value.as_str(), bus);
    assert_eq!(config.queue.value.as_str(), "redis://expiration-redis-srv:6379");
    assert_eq!(config.roles.value, Roles::worker());
    assert_eq!(config.bus.origin.to_string(), "NATS_URL");

    let redis = |host: &str| {
        let config = resolve(&[], &[("REDIS_HOST", host)], None).unwrap();
        (config.queue.value.as_str().to_owned(), config.roles.value)
    };
    assert_eq!(redis("r:7000"), ("redis://r:7000".to_owned(), Roles::worker()));
    assert_eq!(redis("[::1]").0, "redis://[::1]:6379");
    assert_eq!(redis("[::1]:7000").0, "redis://[::1]:7000");

    let nats =
        |url: &str| resolve(&[], &[("NATS_URL", url)], None).unwrap().bus.value.as_str().to_owned();
    assert_eq!(nats("host:4222"), "nats://host:4222");
    assert_eq!(nats("http://host:4222/"), "nats://host:4222");
    assert_eq!(nats("tls://host:4222"), "tls://host:4222");
}

#[test]
fn roles_that_were_given_stay() {
    let env = [("NATS_URL", "nats://n:4222"), ("EXPIRER_ROLES", "expirer")];
    let roles = resolve(&[], &env, None).unwrap().roles.value;
    assert_eq!(roles.flows, [Flow::Expirer]);
    // Both given otherwise: nothing comes from the worker's variables.
    let env = [("NATS_URL", "n:1"), ("EXPIRER_BUS", "memory:")];
    assert_eq!(resolve(&[], &env, None).unwrap().roles.value, Roles::all());
}

#[test]
fn http_is_off_with_stdio_unless_it_is_given() {
    let stdio = (Key::Bus, "stdio:");
    assert!(resolve(&[stdio], &[], None).unwrap().http.is_none());
    let on = resolve(&[stdio], &[("EXPIRER_HTTP", "127.0.0.1:1")], None).unwrap();
    assert_eq!(on.http.unwrap().value, "127.0.0.1:1");
    assert!(resolve(&[(Key::Http, "off")], &[], None).unwrap().http.is_none());
}

#[test]
fn every_bad_value_is_refused_with_place_and_remedy() {
    let bad = [
        (Key::Bus, "memory", "no URL"),
        (Key::Queue, "", "no URL"),
        (Key::Repo, ":x", "no URL"),
        (Key::Repo, "secretpw@h:1", "no URL"),
        (Key::Roles, "scheduler,boss", "\"boss\"; roles are scheduler,expirer"),
        (Key::Roles, "", "has no role"),
        (Key::Http, "8080", "HOST:PORT"),
        (Key::Http, "localhost:99999", "HOST:PORT"),
        (Key::Http, "::1:80", "HOST:PORT"),
        (Key::Http, "http://h:80", "HOST:PORT"),
        (Key::HttpToken, "a b", "visible ASCII"),
        (Key::HttpToken, "", "visible ASCII"),
        (Key::KeepEnded, "1", "with its unit"),
        (Key::PaymentWait, "-5s", "with its unit"),
        (Key::DrainTimeout, "2y", "at most 365 days"),
        (Key::Batch, "0", "from 1 to"),
        (Key::Batch, "9999999", "from 1 to"),
        (Key::Batch, "1.5", "from 1 to"),
        (Key::Log, "expirer=loud", "write a level"),
        (Key::LogFormat, "xml", "auto, human or json"),
    ];
    for (key, text, remedy) in bad {
        let flag = error(&[(key, text)], &[], None);
        assert!(flag.starts_with(&format!("--{key} ")) && flag.contains(remedy), "{flag}");
        if !text.is_empty() {
            let variable = error(&[], &[(&key.variable(), text)], None);
            let start = format!("{} ", key.variable());
            assert!(variable.starts_with(&start) && variable.contains(remedy), "{variable}");
        }
    }
}

#[test]
fn an_empty_variable_and_one_that_is_not_utf8_are_refused() {
    let refused = error(&[], &[("EXPIRER_BUS", "")], None);
    assert_eq!(refused, "EXPIRER_BUS is empty; give it a value or unset it");
    let refused = error(&[], &[("REDIS_HOST", "redis://h")], None);
    assert!(refused.starts_with("REDIS_HOST is host[:port]"), "{refused}");
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStringExt;
        let lookup = |name: &str| (name == "NATS_URL").then(|| OsString::from_vec(vec![0xff]));
        let refused = Config::resolve(Layer::new(), None, &lookup).unwrap_err().to_string();
        assert!(refused.starts_with("NATS_URL is not valid UTF-8"), "{refused}");
    }
}

#[test]
fn a_file_with_unknown_keys_wrong_types_or_broken_syntax_is_refused() {
    for (file, expected) in [
        ("buss = 'memory:'", "unknown key `buss`; known are bus, queue"),
        ("[server]\nbus = 'x:'", "unknown key `server`"),
        ("bus = 5", "key `bus` is an integer; write a string"),
        ("batch = '5'", "key `batch` is a string; write a whole number"),
        ("batch = 0", "key `batch` is \"0\"; write a whole number from 1"),
        (
            "roles = ['api', 5]",
            "key `roles` is an array with an integer; write an array of strings",
        ),
        ("keep-ended = 10", "key `keep-ended` is an integer"),
        ("http = true", "key `http` is a boolean"),
        ("bus = ", "line 1: not valid TOML"),
        ("bus = 'a:'\nbus = 'b:'", "line 2: not valid TOML"),
    ] {
        let refused = error(&[], &[], Some(file));
        assert!(refused.contains(expected) && refused.starts_with('/'), "{file}: {refused}");
    }
    let secret = error(&[], &[], Some("http-token = 'hunter2"));
    assert!(!secret.contains("hunter2"), "{secret}");
}

#[test]
fn a_file_that_is_not_there_is_refused_by_whoever_named_it() {
    let missing = Some(PathBuf::from("/nonexistent/expirer.toml"));
    let refused = Config::resolve(Layer::new(), missing, &|_| None).unwrap_err().to_string();
    assert!(refused.starts_with("--config cannot read /nonexistent/expirer.toml"), "{refused}");
    let refused = error(&[], &[("EXPIRER_CONFIG", "/nonexistent")], None);
    assert!(refused.starts_with("EXPIRER_CONFIG cannot read /nonexistent"), "{refused}");
}

#[test]
fn credentials_are_not_shown() {
    let url = BackendUrl::parse("redis://user:p@ss/w@host:6379/0").unwrap();
    assert_eq!(url.to_string(), "redis://***@host:6379");
    assert_eq!(format!("{url:?}"), "redis://***@host:6379");
    assert_eq!(BackendUrl::parse("memory:").unwrap().to_string(), "memory:");
}

#[test]
fn spaces_around_a_log_directive_are_not_part_of_it() {
    for spaced in [" info, expirer=debug ", "\u{2007}info,\u{3000}expirer=debug\u{2007}"] {
        let settings = resolve(&[(Key::Log, spaced)], &[], None).unwrap();
        assert_eq!(settings.log, "info,expirer=debug");
    }
}

proptest::proptest! {
    #[test]
    fn any_file_and_any_value_is_read_or_refused(text in "\\PC{0,80}", key in 0..Key::ALL.len()) {
        let key = Key::ALL[key];
        let _ = resolve(&[], &[], Some(&text));
        let _ = resolve(&[], &[], Some(&format!("{} = {text}", key.name())));
        let _ = resolve(&[(key, &text)], &[], None);
        let _ = resolve(&[], &[("NATS_URL", &text), ("REDIS_HOST", &text)], None);
    }
}
