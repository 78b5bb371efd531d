//! Six Redis servers as a cluster: three masters, a replica of each.

use std::process::Command;
use std::sync::OnceLock;

use super::process::{Process, wait_until};
use super::redis::{Access, PASSWORD, RedisServer};

const NODES: usize = 6;
/// A busy machine may hold one of its nodes up for too long: then all of it is tried again.
const TRIES: u32 = 5;
/// A replica takes over from a master that was not heard of for this long, in milliseconds: not
/// much more than tests of it may wait, and not so little that a busy machine is taken for a dead
/// one.
const TIMEOUT: [&str; 2] = ["--cluster-node-timeout", "5000"];
/// The same where none is to take over.
const STEADY: [[&str; 2]; 2] =
    [["cluster-node-timeout", "15000"], ["cluster-replica-no-failover", "yes"]];

/// A private cluster.
#[derive(Debug)]
pub(crate) struct RedisCluster {
    nodes: Vec<RedisServer>,
    steady: OnceLock<()>,
}

impl RedisCluster {
    /// A cluster that answers, whose replicas take over; about two seconds.
    ///
    /// # Panics
    /// If it cannot be started.
    pub(crate) fn start() -> Self {
        Self::launch(Access::Open)
    }

    /// One with TLS, between its nodes, too, with a password and a client's certificate.
    pub(crate) fn secured() -> Self {
        Self::launch(Access::Secured)
    }

    fn launch(access: Access<'_>) -> Self {
        let started = (0..TRIES).find_map(|_| Self::assemble(access));
        started.expect("a cluster of redis-servers starts: are redis-server and redis-cli there?")
    }

    fn assemble(access: Access<'_>) -> Option<Self> {
        let mut nodes = vec![node(access)];
        while nodes.len() < NODES {
            let next = match access {
                Access::Open => node(access),
                _ => node(Access::SecuredLike(&nodes[0])),
            };
            nodes.push(next);
        }
        let cluster = Self { nodes, steady: OnceLock::new() };
        (cluster.is_created() && cluster.wait_until_healthy()).then_some(cluster)
    }

    fn is_created(&self) -> bool {
        let mut create = Command::new("redis-cli");
        if let Some(certificates) = self.nodes[0].certificates() {
            create.args(["--no-auth-warning", "-a", PASSWORD]).args(certificates.cli_args());
        }
        create.args(["--cluster", "create"]).args(self.addresses());
        create.args(["--cluster-replicas", "1", "--cluster-yes"]);
        let log = self.nodes[0].dir().join("create");
        Process::start(&create, &log).expect("redis-cli runs").succeeds()
    }

    /// From now on none of its replicas takes over: where a test is not about that, a machine that
    /// is busy for a while must not look like a dead master.
    pub(crate) fn hold_steady(&self) {
        self.steady.get_or_init(|| {
            for node in &self.nodes {
                STEADY.iter().for_each(|[option, value]| node.set(option, value));
            }
            assert!(self.wait_until_healthy(), "the cluster is whole");
        });
    }

    /// The URL of all nodes; add options with `?` or, over TLS, `&`.
    pub(crate) fn url(&self) -> String {
        let nodes = self.addresses().join(",");
        match self.nodes[0].certificates() {
            Some(certificates) => {
                format!("rediss+cluster://:pass%2Fw:rd@{nodes}?{}", certificates.options())
            }
            None => format!("redis+cluster://{nodes}"),
        }
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
        self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.target())).collect()
    }
}

fn node(access: Access<'_>) -> RedisServer {
    let [timeout, period] = TIMEOUT;
    let mut args = vec!["--cluster-config-file", "nodes.conf", timeout, period];
    if !matches!(access, Access::Open) {
        let secured = ["--tls-cluster", "yes", "--tls-replication", "yes"];
        args.extend([&secured[..], &["--masterauth", PASSWORD]].concat());
    }
    RedisServer::node(&args, access)
}
