//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use expirer_core::event::Price;
use expirer_core::{OrderId, PaymentId, TicketId, Timestamp, UserId};

use crate::config::{self, Given, Key, Layer, Origin};

/// Holds orders until they expire, and says so on time.
///
/// Without a command, it serves.
#[derive(Debug, Parser)]
#[command(name = "expirer", version, args_conflicts_with_subcommands = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) serve: Settings,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the service (the default)
    Serve(Settings),
    /// Read the configuration, connect, and say what the backends can do and the roles miss
    Check(Settings),
    /// Create, read, complete or cancel an order of a running service
    #[command(subcommand)]
    Order(Order),
}

/// The settings of the service. Precedence: command line, environment, file, defaults.
#[derive(Args, Clone, Default)]
pub(crate) struct Settings {
    /// Where messages come from and go to [env: EXPIRER_BUS] [default: memory:]
    #[arg(long, value_name = "URL")]
    bus: Option<String>,
    /// What holds the timers [env: EXPIRER_QUEUE] [default: memory:]
    #[arg(long, value_name = "URL")]
    queue: Option<String>,
    /// What keeps the orders [env: EXPIRER_REPO] [default: memory:]
    #[arg(long, value_name = "URL")]
    repo: Option<String>,
    /// What this process does, of scheduler, expirer, recorder, canceller, reconciler, api
    /// [env: EXPIRER_ROLES] [default: all of them]
    #[arg(long, value_name = "LIST")]
    roles: Option<String>,
    /// Where to serve HTTP, or off [env: EXPIRER_HTTP] [default: 127.0.0.1:8080; off with stdio:]
    #[arg(long, value_name = "HOST:PORT")]
    http: Option<String>,
    /// The bearer token that writes over HTTP must bring; others can read a command line, so
    /// prefer the variable [env: EXPIRER_HTTP_TOKEN]
    #[arg(long, value_name = "TOKEN")]
    http_token: Option<String>,
    /// A TOML file with these settings, named as these flags [env: EXPIRER_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How long a repository in memory keeps orders that have ended [env: EXPIRER_KEEP_ENDED]
    /// [default: 1h]
    #[arg(long, value_name = "DURATION")]
    keep_ended: Option<String>,
    /// How long an order that is due waits for unread payments [env: EXPIRER_PAYMENT_WAIT]
    /// [default: 30s]
    #[arg(long, value_name = "DURATION")]
    payment_wait: Option<String>,
    /// How long work in flight may take at the end [env: EXPIRER_DRAIN_TIMEOUT] [default: 5s]
    #[arg(long, value_name = "DURATION")]
    drain_timeout: Option<String>,
    /// Items that a loop takes at a time [env: EXPIRER_BATCH] [default: 256]
    #[arg(long, value_name = "NUMBER")]
    batch: Option<String>,
    /// What to log, such as warn or info,expirer=debug [env: EXPIRER_LOG] [default: info]
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
    /// How to log: auto (human on a terminal, json elsewhere), human or json
    /// [env: EXPIRER_LOG_FORMAT] [default: auto]
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The values may hold secrets.
        f.write_str("Settings")
    }
}

impl Settings {
    /// What was given, and the file that was named.
    pub(crate) fn into_layer(self) -> (Layer, Option<PathBuf>) {
        let given = [
            (Key::Bus, self.bus),
            (Key::Queue, self.queue),
            (Key::Repo, self.repo),
            (Key::Roles, self.roles),
            (Key::Http, self.http),
            (Key::HttpToken, self.http_token),
            (Key::KeepEnded, self.keep_ended),
            (Key::PaymentWait, self.payment_wait),
            (Key::DrainTimeout, self.drain_timeout),
            (Key::Batch, self.batch),
            (Key::Log, self.log),
            (Key::LogFormat, self.log_format),
        ];
        let layer = given.into_iter().filter_map(|(key, text)| {
            Some((key, Given { text: text?, origin: Origin::Flag(key.name()) }))
        });
        (layer.collect(), self.config)
    }
}

/// What to do with an order.
#[derive(Debug, Subcommand)]
pub(crate) enum Order {
    /// Create an order
    Create(Create),
    /// Read an order
    Get {
        #[command(flatten)]
        order: OrderRef,
    },
    /// Complete an order: it is paid
    Complete {
        #[command(flatten)]
        order: OrderRef,
        /// The payment that pays it
        #[arg(long, value_name = "ID")]
        payment_id: Option<PaymentId>,
    },
    /// Cancel an order
    Cancel {
        #[command(flatten)]
        order: OrderRef,
    },
}

/// A new order.
#[derive(Args, Debug)]
pub(crate) struct Create {
    #[command(flatten)]
    pub(crate) service: Service,
    /// Its id; one is made up where none is given
    #[arg(long, value_name = "ID")]
    pub(crate) id: Option<OrderId>,
    /// Who places it
    #[arg(long, value_name = "ID")]
    pub(crate) user_id: UserId,
    /// The ticket that it reserves
    #[arg(long, value_name = "ID")]
    pub(crate) ticket_id: TicketId,
    /// The ticket's price, 0 or more
    #[arg(long, value_name = "NUMBER", value_parser = price)]
    pub(crate) price: Price,
    #[command(flatten)]
    pub(crate) expiry: Expiry,
}

/// When an order expires.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub(crate) struct Expiry {
    /// When it expires, such as 2026-11-22T10:00:00Z
    #[arg(long, value_name = "TIME")]
    pub(crate) expires_at: Option<Timestamp>,
    /// After how long it expires, such as 15m
    #[arg(long, value_name = "DURATION", value_parser = config::duration)]
    pub(crate) expires_in: Option<Duration>,
}

/// An order of a running service.
#[derive(Args, Debug)]
pub(crate) struct OrderRef {
    #[command(flatten)]
    pub(crate) service: Service,
    /// The order's id
    pub(crate) id: OrderId,
}

/// A running service.
#[derive(Args, Clone)]
pub(crate) struct Service {
    /// Where it is [env: EXPIRER_URL] [default: http://127.0.0.1:8080]
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// Its bearer token; prefer the variable [env: EXPIRER_HTTP_TOKEN]
    #[arg(long, value_name = "TOKEN")]
    pub(crate) token: Option<String>,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Both may hold secrets.
        f.write_str("Service")
    }
}

fn price(text: &str) -> Result<Price, String> {
    let price = text.parse().ok().and_then(Price::new);
    price.ok_or_else(|| "write a number from 0 on".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn serve_is_the_default_and_takes_its_flags_directly() {
        let cli = Cli::try_parse_from(["expirer", "--bus", "stdio:"]).unwrap();
        assert!(cli.command.is_none());
        let (layer, file) = cli.serve.into_layer();
        assert_eq!((layer[&Key::Bus].text.as_str(), file), ("stdio:", None));
        let cli = Cli::try_parse_from(["expirer", "serve", "--batch=7", "--config", "f"]).unwrap();
        let Some(Command::Serve(settings)) = cli.command else { panic!("{cli:?}") };
        let (layer, file) = settings.into_layer();
        assert_eq!((layer[&Key::Batch].text.as_str(), file), ("7", Some(PathBuf::from("f"))));
    }

    #[test]
    fn every_setting_has_a_flag_whose_help_names_variable_and_default() {
        let command = Cli::command();
        for key in Key::ALL {
            let flag = command.get_arguments().find(|arg| arg.get_long() == Some(key.name()));
            let help = flag.and_then(clap::Arg::get_help).map(ToString::to_string);
            let help = help.unwrap_or_else(|| panic!("--{key} has no help"));
            assert!(help.contains(&format!("[env: {}]", key.variable())), "{help}");
            if !matches!(key, Key::Roles | Key::HttpToken) {
                assert!(help.contains(&format!("[default: {}", key.default_text())), "{help}");
            }
        }
    }

    #[test]
    fn a_new_order_needs_one_expiry() {
        let create = |more: &[&str]| {
            let start = ["expirer", "order", "create", "--user-id=u", "--ticket-id=t", "--price=0"];
            Cli::try_parse_from(start.iter().chain(more)).is_ok()
        };
        assert!(create(&["--expires-in", "15m"]));
        assert!(create(&["--expires-at", "2026-11-22T10:00:00Z"]));
        assert!(!create(&[]));
        assert!(!create(&["--expires-in", "15m", "--expires-at", "2026-11-22T10:00:00Z"]));
        assert!(!create(&["--expires-in", "15"]));
        assert!(!create(&["--expires-at", "2026-02-30T00:00:00Z"]));
        assert!(!create(&["--expires-in", "15m", "--price=-1"]));
        assert!(!create(&["--expires-in", "15m", "--price=NaN"]));
    }

    #[test]
    fn no_secret_is_in_debug() {
        let cli = Cli::try_parse_from(["expirer", "--http-token", "hunter2"]).unwrap();
        assert!(!format!("{cli:?}").contains("hunter2"));
        for flag in ["--token=hunter2", "--url=http://user:hunter2@h"] {
            let cli = Cli::try_parse_from(["expirer", "order", "get", flag, "o1"]).unwrap();
            assert!(!format!("{cli:?}").contains("hunter2"));
        }
    }
}
