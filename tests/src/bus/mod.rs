//! What an event bus promises, case by case.

mod content;
mod dead_letters;
mod groups;
mod halving;
mod member;
mod outages;
mod progress;
mod receiving;
mod redelivery;
mod releasing;
mod stage;
mod stale;
mod tails;
mod watermark;

use crate::harness::BusHarness;
use crate::suite::{Case, cases};

pub(crate) const CASES: &[Case<dyn BusHarness>] = cases![
    groups::a_confirmed_message_reaches_a_group_that_exists,
    groups::a_message_of_one_handle_reaches_a_member_on_another,
    groups::the_first_group_sees_what_was_there_before_it [Retains],
    groups::a_late_group_sees_what_others_have_settled [Retains],
    groups::members_of_a_group_compete,
    groups::every_group_sees_every_message,
    groups::a_group_goes_on_where_it_was,
    groups::subjects_are_kept_apart,
    groups::a_member_follows_several_subjects,
    groups::one_batch_may_hold_several_subjects,
    content::a_payload_comes_back_to_the_byte,
    content::headers_come_back [Headers],
    content::a_stable_id_comes_back,
    content::a_fresh_id_differs_from_every_other,
    content::a_repeat_of_a_stable_id_is_stored_at_least_once,
    content::a_message_bears_the_time_at_which_it_was_stored,
    content::a_message_is_the_same_when_it_comes_again,
    receiving::max_is_kept_and_zero_is_one,
    receiving::it_waits_until_the_end_when_nothing_comes,
    receiving::a_message_wakes_a_call_that_waits,
    receiving::a_message_wakes_every_group_that_waits,
    receiving::messages_wake_every_member_that_waits,
    receiving::a_large_batch_is_complete,
    receiving::a_receive_that_is_dropped_loses_nothing,
    receiving::a_publish_that_is_dropped_is_finished_by_a_repeat,
    receiving::an_empty_batch_does_nothing,
    receiving::unknown_receipts_are_passed_over,
    redelivery::it_comes_again_after_its_deadline_and_not_before,
    redelivery::it_comes_to_another_member,
    redelivery::a_dead_member_is_replaced,
    redelivery::attempts_are_counted,
    redelivery::attempts_are_counted_for_each_group,
    redelivery::an_ack_is_for_good,
    redelivery::an_ack_settles_what_it_names_alone,
    redelivery::an_ack_of_one_group_settles_nothing_for_another,
    releasing::it_comes_at_its_time_and_not_before,
    releasing::a_time_beyond_the_ack_deadline_holds,
    releasing::a_time_in_the_past_is_at_once,
    releasing::a_time_beyond_all_horizons_is_accepted,
    releasing::each_of_many_comes_at_its_own_time,
    releasing::it_comes_to_any_member,
    releasing::it_wakes_a_member_that_waits,
    releasing::many_that_are_put_off_hold_nothing_up,
    stale::it_is_accepted_for_everything,
    stale::an_ack_with_it_settles_nothing [Fenced],
    stale::a_release_with_it_changes_nothing [Fenced],
    stale::a_rejection_with_it_makes_no_dead_letter [Fenced],
    stale::a_settled_delivery_stays_settled [Fenced],
    stale::a_released_delivery_is_no_longer_held [Fenced],
    dead_letters::a_rejected_message_becomes_one,
    dead_letters::it_says_why_whence_and_when [Headers],
    dead_letters::each_of_many_has_its_own_reason_and_subject [Headers],
    dead_letters::each_group_has_its_own,
    dead_letters::a_rejection_is_for_its_group_alone,
    dead_letters::it_can_be_published_back_and_worked_off,
    dead_letters::one_message_can_be_rejected_time_and_again,
    halving::one_invalid_item_of_a_batch_rejects_only_itself,
    progress::all_that_is_not_settled_counts,
    progress::what_is_held_or_put_off_counts_as_unacked [Watermark],
    progress::each_group_and_subject_counts_for_itself,
    progress::what_is_settled_until_is_never_ahead,
    watermark::it_never_passes_an_unread_message [Watermark],
    watermark::it_never_passes_a_message_that_is_held [Watermark],
    watermark::it_never_passes_a_message_that_younger_ones_overtook [Watermark],
    watermark::it_follows_while_later_messages_wait [Watermark],
    watermark::it_passes_what_was_rejected [Watermark],
    watermark::it_goes_on_when_nothing_comes [Watermark],
    watermark::it_goes_on_where_no_message_ever_was [Watermark],
    watermark::nothing_is_stored_before_it_any_more [Watermark],
    watermark::it_never_goes_back [Watermark],
    watermark::each_group_has_its_own [Watermark],
    watermark::each_subject_has_its_own [Watermark],
    watermark::it_is_no_further_than_a_group_to_come_will_read [Watermark],
    tails::it_sees_what_comes_after_it_began,
    tails::it_follows_its_subjects_alone,
    tails::it_sees_dead_letters,
    tails::it_shows_messages_whole [Headers],
    tails::every_tail_sees_every_message,
    tails::a_message_wakes_every_tail_that_waits,
    tails::it_keeps_max_and_waits_until_the_end,
    tails::it_leaves_nothing_behind,
    tails::a_slow_one_says_what_it_missed,
    tails::a_receive_that_is_dropped_loses_nothing,
    outages::a_restart_loses_no_message [Durable, Server],
    outages::a_restart_keeps_what_is_held_and_what_is_put_off [Durable, Server],
    outages::a_restart_keeps_what_a_group_has_settled [Durable, Server],
    outages::a_restart_loses_no_dead_letter [Durable, Server],
    outages::a_restart_does_not_move_the_watermark_past_a_message [Durable, Server, Watermark],
    outages::a_cut_shows_as_an_error_and_passes [Server],
    outages::a_call_that_waits_outlives_a_cut [Server],
    outages::settling_through_a_cut_loses_nothing [Server],
    outages::a_tail_sees_again_after_a_cut [Server],
];
