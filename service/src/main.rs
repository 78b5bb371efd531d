//! The binary `expirer`: the service around `expirer-core`, and a command line for it.

mod capability;
mod check;
mod cli;
mod client;
mod config;
mod http;
mod log;
mod metrics;
mod observer;
mod random;
mod readiness;
mod serve;
mod shutdown;
mod wire;

use std::env;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command, Settings};
use config::Config;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let ended = match cli.command {
        None => serve(cli.serve),
        Some(Command::Serve(settings)) => serve(settings),
        Some(Command::Check(settings)) => check(settings),
        Some(Command::Order(order)) => client::run(order).map(|()| ExitCode::SUCCESS),
    };
    ended.unwrap_or_else(|error| {
        // A closed standard error has nobody to tell.
        drop(writeln!(io::stderr().lock(), "expirer: {error}"));
        ExitCode::FAILURE
    })
}

fn serve(settings: Settings) -> Result<ExitCode, String> {
    let config = resolve(settings)?;
    log::start(&config.log, config.log_format);
    block_on(serve::run(&config))
}

fn check(settings: Settings) -> Result<ExitCode, String> {
    let config = resolve(settings)?;
    block_on(check::run(&config))
}

fn resolve(settings: Settings) -> Result<Config, String> {
    let (flags, file) = settings.into_layer();
    Config::resolve(flags, file, &|name| env::var_os(name)).map_err(|error| error.to_string())
}

fn block_on<T>(work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot start: {error}"))?;
    let ended = runtime.block_on(work);
    // A read of standard input may still be blocked; the end of the process is its end.
    runtime.shutdown_background();
    ended
}
