//! The conformance suite and faults on private Redis servers.

mod bus;
mod clocks;
mod cluster;
mod faults;
mod idle;
mod links;
mod loops;
mod place;
mod private;
#[path = "../replicas/mod.rs"]
mod replicas;
mod repo;
mod secured_cluster;
#[expect(dead_code, reason = "other tests need more of them")]
#[path = "../servers"]
mod servers {
    pub(crate) mod certificates;
    pub(crate) mod orders;
    pub(crate) mod ports;
    pub(crate) mod process;
    pub(crate) mod proxy;
    pub(crate) mod real;
    pub(crate) mod redis;
    pub(crate) mod redis_cluster;
}

use std::process::ExitCode;

use expirer_conformance::Suite;

use cluster::{ClusterPlace, Clusters};
use place::Place;
use servers::redis::{RedisServer, valkey};

/// How many cases run beside each other: they mostly wait, for the ends of leases and for servers.
const THREADS: usize = 8;

fn main() -> ExitCode {
    if private::holds_a_server() {
        return ExitCode::SUCCESS;
    }
    let clusters = Clusters::default();
    let cluster = move || {
        let place = ClusterPlace::new(&clusters);
        place.cluster().hold_steady();
        place
    };
    let suite = Suite::default()
        .queue("redis", Place::plain)
        .queue("redis-tls", Place::secured)
        .queue("redis-cluster", cluster.clone())
        .bus("redis", Place::plain)
        .bus("redis-tls", Place::secured)
        .bus("redis-cluster", cluster.clone())
        .repo("redis", Place::plain)
        .repo("redis-tls", Place::secured)
        .repo("redis-cluster", cluster);
    bus::tests(repo::tests(faults(on_valkey(suite)))).with_threads(THREADS).run()
}

/// The same on Valkey; where there is none, says so instead.
fn on_valkey(suite: Suite) -> Suite {
    let Some(program) = valkey() else {
        return suite.ignored("valkey", "scripts/brokers did not find it");
    };
    let place = move || Place::on(RedisServer::by(&program));
    suite.queue("valkey", place.clone()).bus("valkey", place.clone()).repo("valkey", place)
}

fn faults(suite: Suite) -> Suite {
    macro_rules! tests {
        ($($module:ident::$test:ident,)+) => {
            suite$(.test(concat!(stringify!($module), "::", stringify!($test)), $module::$test))+
        };
    }
    tests![
        faults::scripts_are_loaded_again_after_a_flush,
        faults::a_full_server_refuses_and_takes_more_once_there_is_room,
        faults::a_timer_whose_key_was_lost_is_stored_again,
        faults::a_key_of_another_type_is_named_and_nothing_panics,
        faults::a_foreign_member_stands_in_nobodys_way,
        faults::another_layout_is_refused_with_each_call,
        faults::another_number_of_shards_is_refused,
        faults::several_shards_are_one_queue,
        faults::a_connection_that_stops_answering_is_replaced,
        faults::a_replica_is_waited_for_until_it_is_a_master,
        faults::wrong_credentials_and_missing_permissions_are_told,
        faults::the_permissions_in_the_docs_are_enough,
        faults::a_server_of_another_kind_is_told_in_one_line,
        faults::nobody_and_somebody_else_at_the_address_are_told,
        faults::settings_that_can_lose_orders_are_warned_of,
        faults::a_pending_timer_costs_its_entry_alone,
        faults::what_was_in_flight_leaves_nothing_behind,
        faults::a_full_server_fires_what_it_has,
        faults::two_handles_of_one_seed_tell_their_receipts_apart,
        faults::the_layout_survives_a_flush,
        idle::waiting_costs_a_few_commands_a_second_and_an_earlier_timer_is_in_time,
        idle::a_waiter_hears_of_an_earlier_timer_and_sleeps_until_it_is_due,
        idle::many_shards_cost_a_waiter_few_calls,
        idle::a_wake_up_that_was_lost_with_its_connection_costs_a_moment,
        links::a_demoted_server_is_left_for_who_has_its_name_now,
        links::a_bus_reads_its_certificates_once,
        links::a_node_of_a_cluster_is_told_how_to_write_its_url,
        links::every_master_is_looked_at,
        links::a_master_that_hangs_is_left_for_its_successor,
        clocks::a_wrong_clock_puts_off_by_as_much_as_a_right_one,
        clocks::a_lease_ends_although_the_servers_clock_was_set_back,
        clocks::what_is_given_back_after_the_servers_clock_was_set_back_waits_for_its_due_time,
        cluster::a_master_that_is_killed_is_replaced,
        private::a_connection_moves_to_another_server,
        private::a_server_whose_port_another_one_has_is_not_ready,
        private::servers_end_with_the_process_that_started_them,
        secured_cluster::queue_bus_and_repository_work_over_tls,
        loops::unpaid_orders_are_cancelled_once_and_paid_ones_complete,
        loops::a_server_killed_in_mid_load_loses_nothing,
        loops::what_queue_and_bus_lose_is_healed_from_the_repository,
        loops::a_flush_while_orders_expire_leaves_none_open,
    ]
}
