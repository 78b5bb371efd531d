use std::future::pending;
use std::sync::Arc;

use super::*;
use crate::flow::{Canceller, Expirer, Reconciler, Recorder, Scheduler};

/// What an executor asks of a task.
fn spawnable<T: Send + 'static>(_: T) {}

#[test]
fn every_run_can_be_spawned_as_often_as_wanted() {
    let world = World::default();
    let (bus, repo, queue) = (world.bus(), world.repo(), world.queue());
    let scheduler = Arc::new(Scheduler::new(bus.clone(), queue.clone(), world.env()));
    let expirer = Arc::new(Expirer::new(bus.clone(), queue.clone(), world.env()));
    let recorder = Recorder::new(bus.clone(), repo.clone(), queue.clone(), world.env());
    let canceller = Canceller::new(bus.clone(), repo.clone(), queue.clone(), world.env());
    let reconciler = Reconciler::new(bus, repo, queue, world.env());
    let (recorder, canceller) = (Arc::new(recorder), Arc::new(canceller));
    let reconciler = Arc::new(reconciler);
    for _ in 0..2 {
        let (one, two) = (Arc::clone(&scheduler), Arc::clone(&expirer));
        spawnable(async move { one.run(pending()).await });
        spawnable(async move { two.run(pending()).await });
        let (one, two) = (Arc::clone(&recorder), Arc::clone(&canceller));
        spawnable(async move { one.run(pending()).await });
        spawnable(async move { two.run(pending()).await });
        let one = Arc::clone(&reconciler);
        spawnable(async move { one.run(pending()).await });
    }
}
