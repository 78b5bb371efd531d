//! What the backends can do, and what the chosen roles miss.

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use expirer_core::observe::Flow;
use expirer_core::{BusCapabilities, QueueCapabilities, RepoCapabilities};

use crate::config::Config;
use crate::http::is_exposed;

/// What the three backends say of themselves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Capabilities {
    pub(crate) bus: BusCapabilities,
    pub(crate) queue: QueueCapabilities,
    pub(crate) repo: RepoCapabilities,
}

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// It does not start.
    Error,
    /// It starts, and may lose or miss something.
    Warning,
    /// It works; one should know.
    Note,
}

/// Something that the roles miss.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) level: Level,
    pub(crate) text: Cow<'static, str>,
}

impl Finding {
    /// What a backend warns of.
    pub(crate) const fn warning(text: String) -> Self {
        Self { level: Level::Warning, text: Cow::Owned(text) }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Error => "error",
            Level::Warning => "warning",
            Level::Note => "note",
        };
        write!(f, "{level}: {}", self.text)
    }
}

const fn finding(missing: bool, level: Level, text: &'static str) -> Option<Finding> {
    if missing { Some(Finding { level, text: Cow::Borrowed(text) }) } else { None }
}

impl Capabilities {
    /// What the roles miss, the worst first; `address` is where HTTP listens.
    pub(crate) fn findings(&self, config: &Config, address: Option<SocketAddr>) -> Vec<Finding> {
        let orders = self.orders(config).into_iter();
        let all = orders.chain(self.timers(config)).chain(self.payments(config));
        let all = all.chain(http(config, address));
        let mut findings: Vec<Finding> = all.flatten().collect();
        findings.sort_by_key(|finding| finding.level as u8);
        findings
    }

    fn orders(&self, config: &Config) -> [Option<Finding>; 3] {
        let volatile = config.roles.value.need_repo() && !self.repo.durable && self.bus.durable;
        let unwritten = volatile && config.repo.is_default();
        [
            finding(
                unwritten,
                Level::Error,
                "the bus is durable and the repository is not, and nobody chose it: a restart \
                 forgets every order; choose a durable one with --repo, write --repo memory: if \
                 that is meant, or leave orders to others with --roles scheduler,expirer",
            ),
            finding(
                volatile && !unwritten,
                Level::Warning,
                "the bus is durable and the repository is not: a restart forgets every order",
            ),
            finding(
                !self.bus.durable && !self.queue.durable && !self.repo.durable,
                Level::Note,
                "everything is kept in this process: nothing survives a restart",
            ),
        ]
    }

    fn timers(&self, config: &Config) -> [Option<Finding>; 4] {
        let roles = &config.roles.value;
        let heals = roles.has(Flow::Reconciler) && self.repo.durable;
        [
            finding(
                roles.has(Flow::Scheduler) && self.bus.durable && !self.queue.durable && !heals,
                Level::Warning,
                "the bus is durable and the queue is not: a restart loses the timers, and nobody \
                 here schedules them again; choose a durable one with --queue",
            ),
            finding(
                !self.queue.durable && roles.has(Flow::Scheduler) != roles.has(Flow::Expirer),
                Level::Warning,
                "only this process sees the queue, and it does not run both scheduler and \
                 expirer: no timer fires",
            ),
            finding(
                roles.has(Flow::Expirer) && !self.queue.fenced,
                Level::Note,
                "the queue does not fence: an ack after its lease may remove the timer of its new \
                 holder; the Reconciler heals that",
            ),
            finding(
                roles.has(Flow::Expirer) && !self.queue.exact_cancel,
                Level::Note,
                "the queue may fire a cancelled timer: the order decides, so that nothing is wrong",
            ),
        ]
    }

    fn payments(&self, config: &Config) -> [Option<Finding>; 2] {
        let roles = &config.roles.value;
        [
            finding(
                roles.has(Flow::Canceller) && !self.bus.watermark,
                Level::Warning,
                "the bus has no watermark: a payment that is there in time and not yet read may \
                 come too late, and is then answered with payment:late",
            ),
            finding(!self.bus.headers, Level::Note, "the bus carries no headers: traces end there"),
        ]
    }
}

fn http(config: &Config, address: Option<SocketAddr>) -> [Option<Finding>; 2] {
    let roles = &config.roles.value;
    let exposed = address.is_some_and(|address| is_exposed(&address));
    [
        finding(
            roles.flows.is_empty() && config.http.is_none(),
            Level::Error,
            "api is the only role and HTTP is off: there is nothing to do; choose --http HOST:PORT \
             or more --roles",
        ),
        finding(
            roles.api && exposed && config.http_token.is_none(),
            Level::Warning,
            "HTTP can be reached beyond loopback and has no token: writes are refused; set one \
             with EXPIRER_HTTP_TOKEN or --http-token",
        ),
    ]
}

impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bus, queue, repo } = self;
        writeln!(
            f,
            "bus    {}: durable {}, watermark {}, fenced {}, headers {}",
            bus.backend,
            yes(bus.durable),
            yes(bus.watermark),
            yes(bus.fenced),
            yes(bus.headers),
        )?;
        writeln!(
            f,
            "queue  {}: durable {}, exact cancel {}, fenced {}, precision {}, horizon {}",
            queue.backend,
            yes(queue.durable),
            yes(queue.exact_cancel),
            yes(queue.fenced),
            humantime::format_duration(queue.precision),
            queue.horizon.map_or_else(|| "none".to_owned(), in_words),
        )?;
        writeln!(f, "repo   {}: durable {}", repo.backend, yes(repo.durable))
    }
}

fn in_words(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

const fn yes(can: bool) -> &'static str {
    if can { "yes" } else { "no" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Key;

    fn all(durable: bool) -> Capabilities {
        let mut bus = BusCapabilities::new("test");
        (bus.durable, bus.watermark, bus.fenced, bus.headers) = (durable, true, true, true);
        let mut queue = QueueCapabilities::new("test");
        (queue.durable, queue.exact_cancel, queue.fenced) = (durable, true, true);
        let mut repo = RepoCapabilities::new("test");
        repo.durable = durable;
        Capabilities { bus, queue, repo }
    }

    fn levels(capabilities: &Capabilities, given: &[(Key, &str)]) -> Vec<Level> {
        capabilities
            .findings(&Config::flagged(given), None)
            .iter()
            .map(|finding| finding.level)
            .collect()
    }

    #[test]
    fn a_repository_that_forgets_behind_a_durable_bus_is_written_out_or_refused() {
        let mut some = all(true);
        some.repo.durable = false;
        assert_eq!(levels(&some, &[]), [Level::Error]);
        assert_eq!(levels(&some, &[(Key::Repo, "memory:")]), [Level::Warning]);
        assert_eq!(levels(&some, &[(Key::Roles, "scheduler,expirer")]), []);
        assert_eq!(levels(&all(true), &[]), []);
        assert_eq!(levels(&all(false), &[]), [Level::Note]);
    }

    #[test]
    fn a_queue_that_forgets_needs_somebody_to_heal_it() {
        let mut some = all(true);
        some.queue.durable = false;
        assert_eq!(levels(&some, &[]), []);
        assert_eq!(levels(&some, &[(Key::Roles, "scheduler,expirer")]), [Level::Warning]);
        let both = [Level::Warning, Level::Warning];
        assert_eq!(levels(&some, &[(Key::Roles, "scheduler")]), both);
    }

    #[test]
    fn a_canceller_needs_a_watermark() {
        let mut some = all(true);
        some.bus.watermark = false;
        assert_eq!(levels(&some, &[]), [Level::Warning]);
        assert_eq!(levels(&some, &[(Key::Roles, "expirer,scheduler")]), []);
    }

    #[test]
    fn a_service_of_orders_without_http_has_nothing_to_do() {
        let (api, off) = ((Key::Roles, "api"), (Key::Http, "off"));
        assert_eq!(levels(&all(true), &[api, off]), [Level::Error]);
        assert_eq!(levels(&all(true), &[api]), []);
        assert_eq!(levels(&all(true), &[off]), []);
    }

    #[test]
    fn beyond_loopback_writes_need_a_token() {
        let texts = |given: &[(Key, &str)], address: &str| -> Vec<Finding> {
            all(true).findings(&Config::flagged(given), Some(address.parse().unwrap()))
        };
        let found = texts(&[], "0.0.0.0:80");
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].level, Level::Warning);
        assert!(found[0].text.contains("writes are refused"), "{found:?}");
        assert_eq!(texts(&[(Key::HttpToken, "t")], "0.0.0.0:80"), []);
        assert_eq!(texts(&[(Key::Roles, "expirer,scheduler")], "[::]:80"), []);
        assert_eq!(texts(&[], "127.0.0.1:80"), []);
        assert_eq!(texts(&[], "[::1]:80"), []);
    }

    #[test]
    fn capabilities_are_shown() {
        let shown = all(true).to_string();
        assert!(shown.contains("bus    test: durable yes, watermark yes"), "{shown}");
        assert!(shown.contains("precision 1s, horizon none"), "{shown}");
    }
}
