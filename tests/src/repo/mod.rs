//! The cases for an order repository.

mod again;
mod basics;
mod commits;
mod content;
mod outages;
mod overdue;
mod stage;

use crate::harness::RepoHarness;
use crate::suite::{Case, cases};

pub(crate) const CASES: &[Case<dyn RepoHarness>] = cases![
    basics::an_empty_batch_does_nothing,
    basics::an_unknown_id_loads_as_none,
    basics::a_load_answers_in_order_and_ids_may_repeat,
    basics::a_large_load_answers_every_id,
    basics::every_handle_sees_what_is_confirmed,
    commits::what_is_absent_is_created_once,
    commits::an_old_revision_conflicts_and_writes_nothing,
    commits::a_revision_that_never_was_conflicts,
    commits::a_revision_grows_and_does_for_the_next_commit,
    commits::a_commit_that_changes_nothing_gives_a_new_revision,
    commits::repeats_in_a_batch_are_applied_in_order,
    commits::a_conflict_hinders_no_others,
    commits::of_racing_commits_exactly_one_wins,
    commits::of_racing_batches_each_record_has_one_winner,
    commits::no_racing_update_is_lost,
    content::every_state_comes_back,
    content::every_state_replaces_every_other,
    content::what_is_owed_comes_back_in_order_and_to_the_byte,
    content::clearing_what_is_owed_leaves_the_state,
    content::a_price_comes_back_to_the_last_digit,
    content::odd_ids_do_not_clash,
    content::odd_ids_are_overdue_as_any_other,
    overdue::an_open_order_is_overdue_once_its_time_is_past,
    overdue::nothing_is_overdue_where_nothing_is,
    overdue::what_can_no_longer_expire_is_not_overdue,
    overdue::an_order_that_ends_is_not_overdue,
    overdue::an_order_that_moves_is_overdue_at_its_new_time,
    overdue::the_first_and_the_last_year_are_times_like_others,
    overdue::every_record_that_owes_is_overdue_in_time,
    overdue::the_earlier_of_expiry_and_debt_counts,
    overdue::a_debt_is_as_old_as_its_first_event,
    overdue::what_owes_nothing_any_more_is_not_overdue,
    overdue::what_is_overdue_is_as_it_was_committed,
    again::what_was_returned_stays_away_until_its_time,
    again::what_owes_stays_away_and_comes_again_too,
    again::again_at_may_be_past,
    again::a_change_brings_it_back_at_its_own_time,
    again::only_a_change_brings_it_back,
    again::a_conflict_hides_nothing,
    again::what_has_ended_in_between_does_not_come_again,
    again::the_stuck_hide_no_others,
    again::two_handles_do_not_get_the_same,
    again::ten_thousand_come_in_bounded_batches,
    outages::a_restart_loses_nothing [Durable, Server],
    outages::a_handle_outlives_a_restart [Durable, Server],
    outages::what_is_cut_off_fails_and_recovers [Server],
    outages::a_commit_that_is_given_up_is_done_or_not,
    outages::a_look_that_is_given_up_loses_nothing,
];
