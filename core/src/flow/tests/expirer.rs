use super::*;
use crate::flow::Expirer;
use crate::{ErrorKind, Timer};

fn run(world: &World) -> Vec<String> {
    let expirer = Expirer::new(world.bus(), world.queue(), world.env());
    world.run(async |stop| expirer.run(stop).await)
}

fn timer(order_id: &str) -> Timer {
    Timer::new(id(order_id), NOW)
}

#[test]
fn a_due_timer_is_published_and_then_acked() {
    let world = World::default().with_leases([timer("o1"), timer("o2")]);
    let journal = run(&world);
    assert_eq!(
        journal,
        ["publish expiration:complete", "publish expiration:complete", "ack 1", "ack 2",]
    );
    let published = &world.lock().published;
    let payload = br#"{"orderId":"o1","expiresAt":"1970-01-01T00:00:00.000Z"}"#;
    assert_eq!((&*published[0].payload, &published[0].id), (&payload[..], &None));
}

#[test]
fn a_timer_whose_event_is_not_confirmed_is_given_back() {
    let world = World::default()
        .with_leases([timer("o1")])
        .with_leases([timer("o1")])
        .with_fault("publish", ErrorKind::TimedOut);
    assert_eq!(
        run(&world),
        [
            "publish fails: timed out",
            "release 1 for 100 ms",
            "expirer reports: timed out",
            "publish expiration:complete",
            "ack 2",
        ]
    );
}

#[test]
fn a_timer_that_the_bus_never_takes_holds_no_other_up_and_is_not_given_up() {
    let world = World::default()
        .with_leases((0..4).map(|n| timer(&format!("o{n}"))))
        .with(|world| world.poison = Some("o2"));
    let journal = run(&world);
    assert_eq!(
        journal[3..],
        ["ack 1", "ack 2", "ack 4", "release 3 for 100 ms", "expirer reports: invalid",]
    );
}

#[test]
fn no_fault_ends_the_loop() {
    let world = World::default()
        .with_fault("stats", ErrorKind::Unavailable)
        .with_fault("lease", ErrorKind::Corrupt)
        .with_fault("ack", ErrorKind::Unavailable)
        .with_leases([timer("o1")])
        .with_leases([timer("o1")]);
    let journal = run(&world);
    assert_eq!(
        journal,
        [
            "stats fails: unavailable",
            "expirer reports: unavailable",
            "lease fails: corrupt",
            "expirer reports: corrupt",
            "publish expiration:complete",
            "ack fails: unavailable",
            "expirer reports: unavailable",
            "publish expiration:complete",
            "ack 2",
        ]
    );
}

#[test]
fn what_cannot_be_published_within_the_lease_is_given_back_and_the_rest_acked() {
    let world = World::default()
        .with_leases((0..16).map(|n| timer(&format!("o{n}"))))
        .with(|world| (world.poison, world.publish_takes) = (Some("o9\""), 1000));
    let journal = run(&world);
    let count = |prefix: &str| journal.iter().filter(|line| line.starts_with(prefix)).count();
    assert_eq!((count("publish"), count("ack")), (8, 8), "{journal:?}");
    assert_eq!(count("release"), 8, "{journal:?}");
    let Some(acked) = journal.iter().position(|line| line.starts_with("ack")) else { panic!() };
    assert!(journal[acked..].iter().all(|line| !line.starts_with("publish")));
    assert!(world.lock().now < NOW + std::time::Duration::from_secs(10), "within the lease");
}
