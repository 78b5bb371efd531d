//! Tasks, and an executor whose every choice comes from a seed.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Wake, Waker};

use fastrand::Rng;

use crate::lock;

/// Names a task; a later task of the same name takes its place.
pub(super) type Name = usize;

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A task that was polled.
#[derive(Clone, Copy, Debug)]
pub(super) struct Polled {
    pub(super) name: Name,
    pub(super) has_ended: bool,
}

/// One thread that polls what was woken, in an order by the seed. A task that is dropped has
/// crashed wherever it was.
#[derive(Default)]
pub(super) struct Executor {
    tasks: BTreeMap<Name, (Task, Arc<Flag>)>,
    woken: Arc<Mutex<Vec<Arc<Flag>>>>,
    frozen: BTreeMap<Name, Vec<Arc<Flag>>>,
}

/// One incarnation of a task, and whether it is in the list of woken ones.
struct Flag {
    name: Name,
    is_woken: AtomicBool,
    /// Not shared: the list holds flags itself.
    woken: Weak<Mutex<Vec<Arc<Self>>>>,
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        if !self.is_woken.swap(true, Ordering::SeqCst)
            && let Some(woken) = self.woken.upgrade()
        {
            lock(&woken).push(self);
        }
    }
}

impl fmt::Debug for Executor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Executor").field("tasks", &self.tasks.keys()).finish_non_exhaustive()
    }
}

impl Executor {
    /// Starts a task; one of the same name crashes.
    pub(super) fn spawn(&mut self, name: Name, task: impl Future<Output = ()> + Send + 'static) {
        let is_woken = AtomicBool::new(false);
        let flag = Arc::new(Flag { name, is_woken, woken: Arc::downgrade(&self.woken) });
        self.tasks.insert(name, (Box::pin(task), Arc::clone(&flag)));
        flag.wake();
    }

    /// Drops a task wherever it is; `false` if there was none.
    pub(super) fn crash(&mut self, name: Name) -> bool {
        self.tasks.remove(&name).is_some()
    }

    /// Stops polling whatever has this name: the machine stands still, also for a task that is
    /// started on it meanwhile.
    pub(super) fn freeze(&mut self, name: Name) {
        self.frozen.entry(name).or_default();
    }

    /// Goes on with a frozen task.
    pub(super) fn thaw(&mut self, name: Name) {
        let waiting = self.frozen.remove(&name).unwrap_or_default();
        lock(&self.woken).extend(waiting);
    }

    /// Polls one task that was woken, by the seed; `None` if there is none.
    pub(super) fn turn(&mut self, rng: &mut Rng) -> Option<Polled> {
        loop {
            let flag = self.pick(rng)?;
            let name = flag.name;
            if let Some(waiting) = self.frozen.get_mut(&name) {
                waiting.push(flag);
                continue;
            }
            flag.is_woken.store(false, Ordering::SeqCst);
            // A flag of an incarnation that has crashed wakes nobody.
            let Some((task, current)) = self.tasks.get_mut(&name) else { continue };
            if !Arc::ptr_eq(current, &flag) {
                continue;
            }
            let waker = Waker::from(flag);
            let has_ended = task.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
            if has_ended {
                self.tasks.remove(&name);
            }
            return Some(Polled { name, has_ended });
        }
    }

    fn pick(&self, rng: &mut Rng) -> Option<Arc<Flag>> {
        let mut woken = lock(&self.woken);
        if woken.is_empty() {
            return None;
        }
        let at = rng.usize(0..woken.len());
        Some(woken.swap_remove(at))
    }
}
