//! Six Redis servers as a cluster: three masters, a replica of each.

use std::process::Command;

use super::process::{free_port, wait_until};
use super::redis::RedisServer;

const NODES: usize = 6;
/// Ports of a cluster's nodes may be taken in between: then all of it is tried again.
const TRIES: u32 = 5;

/// A private cluster.
#[derive(Debug)]
pub(crate) struct RedisCluster {
    nodes: Vec<RedisServer>,
}

impl RedisCluster {
    /// A cluster that answers; about two seconds.
    ///
    /// # Panics
    /// If it cannot be started.
    pub(crate) fn start() -> Self {
        let started = (0..TRIES).find_map(|_| Self::assemble());
        started.expect("a cluster of redis-servers starts: are redis-server and redis-cli there?")
    }

    fn assemble() -> Option<Self> {
        let nodes: Vec<_> = (0..NODES).map(|_| node()).collect();
        let cluster = Self { nodes };
        let mut create = Command::new("redis-cli");
        create.args(["--cluster", "create"]).args(cluster.addresses());
        create.args(["--cluster-replicas", "1", "--cluster-yes"]);
        let is_created = create.output().expect("redis-cli runs").status.success();
        (is_created && cluster.wait_until_healthy()).then_some(cluster)
    }

    /// The URL of all nodes.
    pub(crate) fn url(&self) -> String {
        format!("redis+cluster://{}", self.addresses().join(","))
    }

    pub(crate) fn nodes(&self) -> &[RedisServer] {
        &self.nodes
    }

    /// Waits until every slot is served and there are three replicas in step with their masters.
    pub(crate) fn wait_until_healthy(&self) -> bool {
        wait_until(|| self.is_healthy())
    }

    /// Whether it is whole now.
    pub(crate) fn is_healthy(&self) -> bool {
        let is_ok = |node: &RedisServer| node.cli(&["CLUSTER", "INFO"]).contains("state:ok");
        self.nodes.iter().all(is_ok) && self.replicas_in_step() == NODES / 2
    }

    /// The master that serves a key.
    ///
    /// # Panics
    /// If no node claims to.
    pub(crate) fn master_of(&self, key: &str) -> &RedisServer {
        let slot = self.nodes[0].cli(&["CLUSTER", "KEYSLOT", key]);
        let serves = |node: &&RedisServer| {
            let is_master = node.cli(&["ROLE"]).starts_with("master");
            is_master && node.cli(&["CLUSTER", "COUNTKEYSINSLOT", &slot]) != "0"
        };
        self.nodes.iter().find(serves).expect("a master has the key")
    }

    /// Ends every node without warning.
    pub(crate) fn kill(&self) {
        self.nodes.iter().for_each(RedisServer::kill);
    }

    /// Starts every node on the data that it left.
    ///
    /// # Panics
    /// If they are no whole cluster after a while.
    pub(crate) fn revive(&self) {
        for node in &self.nodes {
            assert!(node.revive(), "a node of the cluster starts again");
        }
        assert!(self.wait_until_healthy(), "the cluster is whole again");
    }

    /// By what the masters say: a replica thinks that it is connected before it can acknowledge.
    fn replicas_in_step(&self) -> usize {
        let in_step = |node: &&RedisServer| node.cli(&["WAIT", "1", "1"]) == "1";
        self.nodes.iter().filter(in_step).count()
    }

    fn addresses(&self) -> Vec<String> {
        self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port())).collect()
    }
}

fn node() -> RedisServer {
    let bus = free_port().to_string();
    RedisServer::with(&[
        "--cluster-enabled",
        "yes",
        "--cluster-port",
        &bus,
        "--cluster-config-file",
        "nodes.conf",
        "--cluster-node-timeout",
        "2000",
    ])
}
