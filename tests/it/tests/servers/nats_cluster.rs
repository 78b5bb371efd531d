//! Three NATS servers as a cluster.

use std::path::Path;

use serde_json::Value;

use super::nats::NatsServer;
use super::ports::Port;
use super::process::wait_until;

const NODES: usize = 3;
/// Ports of a cluster's nodes may be taken in between: then all of it is tried again.
const TRIES: u32 = 5;

/// A private cluster. Its nodes do not tell clients of each other, so that proxies may stand in
/// between.
#[derive(Debug)]
pub(crate) struct NatsCluster {
    nodes: Vec<NatsServer>,
    /// On which they listen for each other.
    _routes: Vec<Port>,
}

impl NatsCluster {
    /// A cluster that answers; about a third of a second.
    ///
    /// # Panics
    /// If it cannot be started.
    pub(crate) fn start(program: &Path) -> Self {
        let started = (0..TRIES).find_map(|_| Self::assemble(program));
        started.unwrap_or_else(|| panic!("a cluster of {} starts", program.display()))
    }

    fn assemble(program: &Path) -> Option<Self> {
        let nodes: Vec<_> = (0..NODES).map(|_| NatsServer::prepare(program)).collect();
        let ports: Vec<_> = nodes.iter().map(|_| Port::reserve()).collect();
        let route = |port: &Port| format!("\"nats://127.0.0.1:{}\"", port.number());
        let routes: Vec<_> = ports.iter().map(route).collect();
        for ((number, node), port) in nodes.iter().enumerate().zip(ports.iter().map(Port::number)) {
            node.configure(&format!(
                "server_name: n{number}\n\
                 jetstream {{ store_dir: $STORE_DIR }}\n\
                 cluster {{ name: expirer, listen: \"127.0.0.1:{port}\", no_advertise: true, \
                 routes: [{}] }}",
                routes.join(", ")
            ));
        }
        let cluster = Self { nodes, _routes: ports };
        cluster.try_revive().then_some(cluster)
    }

    /// The nodes; each may be killed and revived by itself.
    pub(crate) fn nodes(&self) -> &[NatsServer] {
        &self.nodes
    }

    /// Their own ports.
    pub(crate) fn ports(&self) -> Vec<u16> {
        self.nodes.iter().map(NatsServer::port).collect()
    }

    /// The node that leads a stream (of the bucket `B`: `KV_B`), as those that answer say; waits
    /// until there is one.
    ///
    /// # Panics
    /// If there is none after a while.
    pub(crate) fn leader_of(&self, stream: &str) -> &NatsServer {
        let mut leader = None;
        wait_until(|| {
            leader = self.nodes.iter().find(|node| leads(node, stream));
            leader.is_some()
        });
        leader.unwrap_or_else(|| panic!("somebody leads {stream}"))
    }

    /// Waits until every node that runs is healthy and one leads the cluster.
    pub(crate) fn wait_until_healthy(&self) -> bool {
        wait_until(|| self.is_healthy())
    }

    /// Whether it is whole now: every node, stream and consumer knows a leader.
    pub(crate) fn is_healthy(&self) -> bool {
        self.nodes.iter().all(|node| node.is_healthy() && knows_leaders(node))
    }

    /// Ends every node without warning.
    pub(crate) fn kill(&self) {
        self.nodes.iter().for_each(NatsServer::kill);
    }

    /// Starts every node on the data that it left.
    ///
    /// # Panics
    /// If they are no whole cluster after a while.
    pub(crate) fn revive(&self) {
        assert!(self.try_revive(), "the cluster is whole again");
    }

    /// No node is healthy before it has found another: all are started before one is waited for.
    fn try_revive(&self) -> bool {
        self.nodes.iter().for_each(NatsServer::spawn);
        self.nodes.iter().all(NatsServer::is_up) && self.wait_until_healthy()
    }
}

fn knows_leaders(node: &NatsServer) -> bool {
    let Some(jsz) = node.monitor("/jsz?consumers=1") else { return false };
    let is_led = |group: &Value| group["leader"].as_str().is_some_and(|leader| !leader.is_empty());
    let is_whole = |stream: &Value| {
        let mut consumers = stream["consumer_detail"].as_array().into_iter().flatten();
        is_led(&stream["cluster"]) && consumers.all(|consumer| is_led(&consumer["cluster"]))
    };
    is_led(&jsz["meta_cluster"]) && streams(&jsz).all(is_whole)
}

/// Whether a node says that it leads a stream.
fn leads(node: &NatsServer, stream: &str) -> bool {
    let Some(jsz) = node.monitor("/jsz?streams=1") else { return false };
    let name = name_of(node).unwrap_or_default();
    streams(&jsz).any(|found| found["name"] == stream && found["cluster"]["leader"] == name)
}

fn streams(jsz: &Value) -> impl Iterator<Item = &Value> {
    let accounts = jsz["account_details"].as_array().into_iter().flatten();
    accounts.flat_map(|account| account["stream_detail"].as_array()).flatten()
}

fn name_of(node: &NatsServer) -> Option<Value> {
    Some(node.monitor("/varz")?["server_name"].clone())
}
