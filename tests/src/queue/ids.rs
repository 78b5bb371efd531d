//! Any id there can be comes back as it was, and none is taken for another.

use std::slice::from_ref;

use expirer_core::{ID_BYTES_MAX, Timer};

use super::stage::{Stage, id, millis, timer};
use crate::harness::QueueHarness;

/// What a broker, a key or an encoding might take for the same.
const LOOK_ALIKES: [&str; 42] = [
    "a", "A", " a", "a ", "a  b", "a b", "a+b", "a%20b", "a%2520b", "a_b", "a-b", "a\\b", "a/b",
    "a:b", "a%3Ab", "a%3ab", "a=3Ab", "a.b", "a..b", ".a", "a.", "a,b", "a;b", "{a}", "{a}b",
    "a{b}", "a*", "*", "a.*", ">", "a.>", "#", "a#b", "a?b", "a[b]", "\"a\"", "'a'", "$a", "@a",
    "1", "01", "1.0",
];

/// Each with a due time of its own: so one that is taken for another shows.
async fn come_back(harness: &dyn QueueHarness, ids: impl IntoIterator<Item = String>) {
    let stage = Stage::new(harness).await;
    let timers = timers(&stage, ids);
    stage.schedule(&timers).await;
    stage.all_come(&timers).await;
}

fn timers(stage: &Stage<'_>, ids: impl IntoIterator<Item = String>) -> Vec<Timer> {
    let begun = stage.after(300);
    let due = |number| begun + millis(number);
    ids.into_iter().zip(0..).map(|(id, number)| timer(&id, due(number))).collect()
}

pub(super) async fn every_printable_character_comes_back(harness: &dyn QueueHarness) {
    let printable = (' '..='~').flat_map(|c| [format!("{c}"), format!("x{c}"), format!("{c}{c}y")]);
    come_back(harness, printable).await;
}

pub(super) async fn every_script_comes_back(harness: &dyn QueueHarness) {
    let composed =
        ["\u{e9}", "e\u{301}", "\u{fc}", "\u{df}", "ss", "\u{130}", "i\u{307}", "i", "I"];
    let others = [
        "日本語",
        "заказ",
        "Заказ",
        "הזמנה",
        "🎫",
        "👩‍🚀",
        "\u{a0}",
        "\u{2028}",
        "\u{feff}a",
        "\u{fffd}",
        "\u{10ffff}",
        "\u{200b}",
    ];
    come_back(harness, composed.into_iter().chain(others).map(str::to_owned)).await;
}

pub(super) async fn the_longest_id_comes_back(harness: &dyn QueueHarness) {
    let long = |text: &str| text.repeat(ID_BYTES_MAX / text.len());
    let ids = ["x", ">", ":", "%", " ", "\u{e9}", "🎫"].map(long);
    let differ_last = ["y", "z"].map(|last| format!("{}{last}", "x".repeat(ID_BYTES_MAX - 1)));
    come_back(harness, ids.into_iter().chain(differ_last)).await;
}

pub(super) async fn ids_that_look_alike_are_different_timers(harness: &dyn QueueHarness) {
    come_back(harness, LOOK_ALIKES.map(str::to_owned)).await;
}

pub(super) async fn cancelling_an_id_leaves_what_looks_like_it(harness: &dyn QueueHarness) {
    let stage = Stage::new(harness).await;
    let all = timers(&stage, LOOK_ALIKES.map(str::to_owned));
    stage.schedule(&all).await;
    let cancelled = ["a", "*", ">", "a.*", "a b", "a:b", "#", "1"].map(id);
    stage.cancel(&cancelled).await;
    let is_kept = |timer: &Timer| !cancelled.contains(&timer.id);
    let kept: Vec<_> = all.into_iter().filter(is_kept).collect();
    stage.all_come(&kept).await;
    stage.nothing_until(stage.now()).await;
}

pub(super) async fn moving_an_id_leaves_what_looks_like_it(harness: &dyn QueueHarness) {
    let stage = Stage::new(harness).await;
    let mut all = timers(&stage, LOOK_ALIKES.map(str::to_owned));
    stage.schedule(&all).await;
    for moved in all.iter_mut().step_by(3) {
        moved.due = moved.due + millis(400);
        stage.schedule(from_ref(moved)).await;
    }
    stage.all_come(&all).await;
}
