//! The servers of the tests themselves, by the client alone: they start, die, and keep their data.

use std::path::Path;

use async_nats::ConnectOptions;
use async_nats::jetstream::{self, stream};
use expirer_conformance::{Server, Suite};

use crate::cluster::ClusterPlace;
use crate::place::Place;
use crate::programs;
use crate::servers::nats::{NatsServer, PASSWORD, TOKEN, USER};

const STREAM: &str = "kept";
/// Each takes a way to the server and back.
const TRIES: u32 = 10_000;
const SUBJECT: &str = "kept.a";

pub(crate) fn tests(mut suite: Suite) -> Suite {
    for (name, program) in programs() {
        let (one, three) = (program.clone(), program);
        suite = suite
            .test(&format!("stand::{name}_keeps_its_data"), move || keeps_its_data(&one))
            .test(&format!("stand::{name}_cluster_keeps_its_data"), move || cluster(&three));
    }
    suite.test("stand::who_may_not_come_in_does_not", who_may_not)
}

fn keeps_its_data(program: &Path) {
    let place = Place::plain(program);
    place.block_on(async {
        let client = async_nats::connect(place.url()).await.expect("connects");
        store(client, 1).await;
        place.restart().await;
        let client = async_nats::connect(place.url()).await.expect("connects");
        assert_eq!(stored(client).await, "b");
        place.cut().await;
        async_nats::connect(place.url()).await.expect_err("is cut");
        place.mend().await;
        async_nats::connect(place.url()).await.expect("connects again");
    });
}

fn cluster(program: &Path) {
    let place = ClusterPlace::new(program);
    place.block_on(async {
        let hosts: Vec<_> =
            place.cluster.nodes().iter().map(|node| node.url_by(node.port())).collect();
        let client = async_nats::connect(&hosts[..]).await.expect("connects");
        store(client, 3).await;
        let leader = place.cluster.leader_of(STREAM);
        leader.kill();
        let others: Vec<_> =
            place.cluster.nodes().iter().filter(|node| node.port() != leader.port()).collect();
        let next = place.cluster.leader_of(STREAM);
        assert!(others.iter().any(|node| node.port() == next.port()));
        leader.spawn();
        assert!(leader.is_up() && place.cluster.wait_until_healthy());
        place.restart().await;
        place.cluster.leader_of(STREAM);
        let client = async_nats::connect(&hosts[..]).await.expect("connects");
        assert_eq!(stored(client).await, "b");
    });
}

fn who_may_not() {
    for (_, program) in programs() {
        let token = Place::on(NatsServer::with_token(&program));
        let secured = Place::on(NatsServer::secured(&program));
        token.block_on(async {
            let address = format!("127.0.0.1:{}", token.server.port());
            async_nats::connect(&address).await.expect_err("without a token");
            let options = ConnectOptions::with_token(TOKEN.to_owned());
            options.connect(&address).await.expect("with it");
            let address = format!("127.0.0.1:{}", secured.server.port());
            let options =
                ConnectOptions::with_user_and_password(USER.to_owned(), PASSWORD.to_owned());
            options.connect(&address).await.expect_err("without a certificate");
        });
    }
}

/// By the stream's own calls: those of the client for a bucket, and for the account, do not
/// understand what 2.9 answers.
async fn store(client: async_nats::Client, num_replicas: usize) {
    let (name, subjects) = (STREAM.to_owned(), vec![SUBJECT.to_owned()]);
    let config = stream::Config { name, subjects, num_replicas, ..stream::Config::default() };
    let context = jetstream::new(client);
    context.create_stream(config).await.expect("is created");
    // The server that we are on may not know yet who leads the new stream.
    let mut last = None;
    for _ in 0..TRIES {
        last = context.publish(SUBJECT, "b".into()).await.expect("is sent").await.err();
        if last.is_none() {
            return;
        }
    }
    panic!("it is stored: {last:?}");
}

async fn stored(client: async_nats::Client) -> String {
    let stream = jetstream::new(client).get_stream(STREAM).await.expect("is there");
    let message = stream.get_last_raw_message_by_subject(SUBJECT).await.expect("is there");
    String::from_utf8(message.payload.to_vec()).expect("text")
}
