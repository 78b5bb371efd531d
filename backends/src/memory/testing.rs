//! A clock that stands still until a test moves it, and polling by hand.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use async_trait::async_trait;
use event_listener::Event;
use expirer_core::{Clock, Timestamp};

use super::lock;

/// Where every test begins.
pub(crate) const START: Timestamp = Timestamp::from_millis(1_000_000);

#[derive(Debug)]
pub(crate) struct VirtualClock {
    now: Mutex<Timestamp>,
    moved: Event,
}

impl VirtualClock {
    pub(crate) const fn new() -> Self {
        Self { now: Mutex::new(START), moved: Event::new() }
    }

    pub(crate) fn set(&self, now: Timestamp) {
        *lock(&self.now) = now;
        self.moved.notify(usize::MAX);
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.set(self.now() + by);
    }
}

#[async_trait]
impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        *lock(&self.now)
    }

    async fn sleep_until(&self, at: Timestamp) {
        let begun = self.now();
        loop {
            let moved = self.moved.listen();
            if self.now() >= at || self.now() < begun {
                return;
            }
            moved.await;
        }
    }
}

/// Runs a future that has everything it needs.
pub(crate) fn now_or_never<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    poll(future.as_mut()).expect("the future waits")
}

/// Polls a future once.
pub(crate) fn poll<F: Future + ?Sized>(future: Pin<&mut F>) -> Option<F::Output> {
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

/// Runs a future that yields now and then, but never has to wait.
pub(crate) fn without_waiting<F: Future + ?Sized>(mut future: Pin<Box<F>>) -> F::Output {
    let output = (0..100_000).find_map(|_| poll(future.as_mut()));
    output.expect("the future waits")
}

/// Counts how often it was woken.
#[derive(Default)]
pub(crate) struct WakeCount(AtomicUsize);

impl WakeCount {
    pub(crate) fn get(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for WakeCount {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}
