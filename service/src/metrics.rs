//! What the loops report, counted for Prometheus.
//!
//! Every counter is resolved once, at the start: a signal costs one or two atomic additions and
//! allocates nothing.

use expirer_core::event::Event;
use expirer_core::observe::{Flow, Signal};
use expirer_core::order::Effect;
use expirer_core::{ErrorKind, QueueStats};
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// How late a timer may be, in seconds: 1 ms to 10 min.
const LATENESS_BUCKETS: [f64; 16] =
    [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 600.0];

type Label = (&'static str, &'static str);
type Counters<const N: usize> = Family<[Label; N], Counter>;

/// One counter per loop.
type PerFlow = [Counter; Flow::ALL.len()];

/// The metrics of a process.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    scheduled: Counter,
    fired: Counter,
    lateness: Histogram,
    changed: [Counter; EFFECTS.len()],
    announced: [Counter; ANNOUNCED.len()],
    batches: PerFlow,
    items: PerFlow,
    rejected: PerFlow,
    released: Counters<2>,
    faults: Counters<2>,
    payment_waits_over: Counter,
    ready: Vec<(Flow, Gauge)>,
}

/// The effects by name; the last one stands for those that a later core adds.
const EFFECTS: [&str; 10] = [
    "opened",
    "moved",
    "noted_ahead",
    "completed",
    "payment_named",
    "expired",
    "cancelled",
    "paid_late",
    "contradicted",
    "other",
];

const fn effect(effect: Effect) -> usize {
    match effect {
        Effect::Opened => 0,
        Effect::Moved => 1,
        Effect::NotedAhead => 2,
        Effect::Completed => 3,
        Effect::PaymentNamed => 4,
        Effect::Expired => 5,
        Effect::Cancelled => 6,
        Effect::PaidLate => 7,
        Effect::Contradicted => 8,
        _ => 9,
    }
}

/// The effect as logs and metrics name it.
pub(crate) const fn effect_name(of: Effect) -> &'static str {
    EFFECTS[effect(of)]
}

/// The subjects of what an order can owe.
const ANNOUNCED: [&str; 3] = ["order:created", "order:cancelled", "payment:late"];

const fn announced(event: &Event) -> Option<usize> {
    match event {
        Event::OrderCreated(_) => Some(0),
        Event::OrderCancelled(_) => Some(1),
        Event::PaymentLate(_) => Some(2),
        Event::ExpirationComplete(_) | Event::PaymentCreated(_) => None,
    }
}

fn per_flow(family: &Counters<1>) -> PerFlow {
    Flow::ALL.map(|flow| family.get_or_create_owned(&[("loop", flow.as_str())]))
}

impl Metrics {
    /// For the loops that run here.
    pub(crate) fn new(flows: &[Flow]) -> Self {
        let mut registry = Registry::with_prefix("expirer");
        let scheduled = Counter::default();
        registry.register("timers_scheduled", "Timers scheduled", scheduled.clone());
        let fired = Counter::default();
        let help = "Timers fired: expiration:complete published and confirmed";
        registry.register("timers_fired", help, fired.clone());
        let lateness = Histogram::new(LATENESS_BUCKETS);
        let help = "How long after its due time a timer was taken";
        registry.register("timer_lateness_seconds", help, lateness.clone());
        let family = Counters::<1>::default();
        registry.register("orders_changed", "Changes of orders, committed", family.clone());
        let changed = EFFECTS.map(|effect| family.get_or_create_owned(&[("effect", effect)]));
        let family = Counters::<1>::default();
        let help = "What orders owed: events published and confirmed";
        registry.register("events_announced", help, family.clone());
        let announced = ANNOUNCED.map(|name| family.get_or_create_owned(&[("subject", name)]));
        let family = Counters::<1>::default();
        registry.register("batches", "Batches taken", family.clone());
        let batches = per_flow(&family);
        let family = Counters::<1>::default();
        registry.register("batch_items", "Items of the batches taken", family.clone());
        let items = per_flow(&family);
        let family = Counters::<1>::default();
        registry.register("messages_rejected", "Messages to the dead letters", family.clone());
        let rejected = per_flow(&family);
        let released = Counters::<2>::default();
        registry.register("items_released", "Items given back to come again", released.clone());
        let faults = Counters::<2>::default();
        registry.register("faults", "Failed calls of backends", faults.clone());
        let payment_waits_over = Counter::default();
        let help = "Orders cancelled though payments were unread for too long";
        registry.register("payment_waits_over", help, payment_waits_over.clone());
        let family = Family::<[Label; 1], Gauge>::default();
        registry.register("loop_ready", "Whether a loop takes work", family.clone());
        let gauge = |flow: Flow| family.get_or_create_owned(&[("loop", flow.as_str())]);
        let ready = flows.iter().map(|flow| (*flow, gauge(*flow))).collect();
        Self {
            registry,
            scheduled,
            fired,
            lateness,
            changed,
            announced,
            batches,
            items,
            rejected,
            released,
            faults,
            payment_waits_over,
            ready,
        }
    }

    /// Counts a signal.
    pub(crate) fn on(&self, signal: &Signal<'_>) {
        match signal {
            Signal::Batch { flow, items } => {
                self.batches[*flow as usize].inc();
                self.items[*flow as usize].inc_by(*items as u64);
            }
            Signal::Scheduled { timers } => _ = self.scheduled.inc_by(*timers as u64),
            Signal::Fired { late, .. } => {
                self.fired.inc();
                self.lateness.observe(late.as_secs_f64());
            }
            Signal::Changed { effect: done, .. } => _ = self.changed[effect(*done)].inc(),
            Signal::Announced { event } => {
                announced(event).map(|subject| self.announced[subject].inc());
            }
            Signal::Rejected { flow, .. } => _ = self.rejected[*flow as usize].inc(),
            Signal::Released { flow, why, .. } => {
                self.released.get_or_create(&[("loop", flow.as_str()), ("why", why)]).inc();
            }
            Signal::Failed { flow, error, .. } => self.fault(*flow, error.kind()),
            Signal::PaymentWaitOver { .. } => _ = self.payment_waits_over.inc(),
            _ => {}
        }
    }

    fn fault(&self, flow: Flow, kind: ErrorKind) {
        self.faults.get_or_create(&[("loop", flow.as_str()), ("kind", kind.as_str())]).inc();
    }

    /// All metrics in the text format, with the loops that are ready by now, and what the queue
    /// holds, if it could tell.
    pub(crate) fn text(
        &self,
        is_ready: impl Fn(Flow) -> bool,
        timers: Option<QueueStats>,
    ) -> String {
        for (flow, ready) in &self.ready {
            ready.set(i64::from(is_ready(*flow)));
        }
        let mut text = String::new();
        // A `String` takes everything that is written to it.
        let _ = encode_registry(&mut text, &self.registry);
        let _ = timers.map(|timers| encode_registry(&mut text, &of_queue(timers)));
        let _ = encode_eof(&mut text);
        text
    }
}

/// Made anew for each scrape: where the queue does not answer, nothing old is shown.
fn of_queue(stats: QueueStats) -> Registry {
    let mut registry = Registry::with_prefix("expirer");
    let pending = ConstGauge::new(stats.pending);
    registry.register("timers_pending", "Timers that wait, due ones included", pending);
    let leased = ConstGauge::new(stats.leased);
    registry.register("timers_leased", "Timers that are taken and not yet settled", leased);
    registry
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use expirer_core::event::ExpirationComplete;
    use expirer_core::{Error, OrderId, Subject};

    use super::*;

    #[test]
    fn counts_what_it_is_told() {
        let flow = Flow::Canceller;
        let metrics = Metrics::new(&[flow, Flow::Expirer]);
        let id = OrderId::new("o1").unwrap();
        let error = Error::new(ErrorKind::TimedOut, "test", "test", "slow");
        metrics.on(&Signal::Batch { flow, items: 7 });
        metrics.on(&Signal::Scheduled { timers: 3 });
        metrics.on(&Signal::Fired { id: &id, late: Duration::from_millis(3) });
        metrics.on(&Signal::Changed { id: &id, effect: Effect::Expired });
        metrics.on(&Signal::Released { flow, why: "not yet", after: Duration::ZERO });
        metrics.on(&Signal::Rejected { flow, reason: "poison" });
        metrics.on(&Signal::Failed {
            flow,
            error: &error,
            retry_in: Duration::ZERO,
            whole_loop: true,
        });
        metrics.on(&Signal::PaymentWaitOver { id: &id });
        let text = metrics.text(|flow| flow == Flow::Canceller, None);
        for line in [
            "expirer_batches_total{loop=\"canceller\"} 1",
            "expirer_batch_items_total{loop=\"canceller\"} 7",
            "expirer_timers_scheduled_total 3",
            "expirer_timers_fired_total 1",
            "expirer_timer_lateness_seconds_bucket{le=\"0.002\"} 0",
            "expirer_timer_lateness_seconds_bucket{le=\"0.005\"} 1",
            "expirer_timer_lateness_seconds_bucket{le=\"600.0\"} 1",
            "expirer_orders_changed_total{effect=\"expired\"} 1",
            "expirer_events_announced_total{subject=\"order:cancelled\"} 0",
            "expirer_items_released_total{loop=\"canceller\",why=\"not yet\"} 1",
            "expirer_messages_rejected_total{loop=\"canceller\"} 1",
            "expirer_faults_total{loop=\"canceller\",kind=\"timed out\"} 1",
            "expirer_payment_waits_over_total 1",
            "expirer_loop_ready{loop=\"canceller\"} 1",
            "expirer_loop_ready{loop=\"expirer\"} 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
    }

    #[test]
    fn only_what_can_happen_here_has_a_series() {
        let metrics = Metrics::new(&[Flow::Scheduler]);
        let (id, at) = (OrderId::new("o1").unwrap(), None);
        let never = ExpirationComplete { order_id: id, expires_at: at };
        metrics.on(&Signal::Announced { event: &Event::ExpirationComplete(never) });
        let text = metrics.text(|_| true, None);
        let series = |name: &str| text.lines().filter(|line| line.starts_with(name)).count();
        assert_eq!(series("expirer_loop_ready{"), 1, "{text}");
        assert_eq!(series("expirer_loop_ready{loop=\"scheduler\"} 1"), 1, "{text}");
        assert_eq!(series("expirer_events_announced_total{"), 3, "{text}");
        for name in ANNOUNCED {
            let line = format!("expirer_events_announced_total{{subject=\"{name}\"}} 0");
            assert_eq!(series(&line), 1, "{line} in\n{text}");
        }
    }

    #[test]
    fn timers_are_shown_where_the_queue_tells() {
        let mut stats = QueueStats::default();
        (stats.pending, stats.leased) = (5, 2);
        let told = Metrics::new(&[]).text(|_| true, Some(stats));
        assert!(told.contains("\nexpirer_timers_pending 5\n"), "{told}");
        assert!(told.contains("\nexpirer_timers_leased 2\n"), "{told}");
        let silent = Metrics::new(&[]).text(|_| true, None);
        assert!(!silent.contains("timers_pending") && !silent.contains("timers_leased"));
        for text in [told, silent] {
            assert_eq!(text.matches("# EOF").count(), 1, "{text}");
            assert!(text.ends_with("# EOF\n"), "{text}");
        }
    }

    #[test]
    fn the_names_are_the_cores() {
        for name in ANNOUNCED {
            assert!(Subject::EVENTS.iter().any(|subject| subject.as_str() == name), "{name}");
        }
        Flow::ALL.iter().enumerate().for_each(|(at, flow)| assert_eq!(*flow as usize, at));
    }
}
