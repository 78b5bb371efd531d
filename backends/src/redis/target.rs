//! The clients that a URL stands for, and opening connections with them.

use std::path::Path;
use std::time::Duration;

use expirer_core::{Error, ErrorKind, Result};
use redis::aio::{ConnectionLike, MultiplexedConnection, PubSub};
use redis::cluster::{ClusterClient, ClusterClientBuilder, TlsMode};
use redis::cluster_async::ClusterConnection;
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo,
    IntoConnectionInfo, Pipeline, RedisConnectionInfo, RedisResult, TlsCertificates, Value,
};

use super::BACKEND;
use super::url::Options;
use crate::url::{Node, Tls};

/// How often a cluster's client looks for a key that has moved before it gives up.
const REDIRECTS_MAX: u32 = 3;

/// How long a server may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    pub(crate) connect: Duration,
    pub(crate) answer: Duration,
}

/// Where to connect.
#[derive(Clone)]
pub(crate) struct Target {
    patience: Patience,
    nodes: Vec<Client>,
    cluster: Option<ClusterClient>,
}

/// An open connection; clones share it.
#[derive(Clone)]
pub(crate) enum Link {
    Node(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Link {
    pub(crate) async fn send(
        &mut self,
        pipeline: &Pipeline,
        count: usize,
    ) -> RedisResult<Vec<Value>> {
        match self {
            Self::Node(node) => node.req_packed_commands(pipeline, 0, count).await,
            Self::Cluster(cluster) => cluster.req_packed_commands(pipeline, 0, count).await,
        }
    }
}

impl Target {
    /// Reads the certificates and makes the clients; connects to nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for certificates that cannot be read.
    pub(crate) fn new(options: &Options, patience: Patience) -> Result<Self> {
        let certificates = options.tls.as_ref().map(certificates).transpose()?;
        let infos: Vec<_> = options.nodes.iter().map(|node| info(options, node)).collect();
        let infos = infos.into_iter().collect::<Result<Vec<_>>>()?;
        let client = |info: &ConnectionInfo| match &certificates {
            Some(certificates) => Client::build_with_tls(info.clone(), certificates.clone()),
            None => Client::open(info.clone()),
        };
        let nodes = infos.iter().map(client).collect::<RedisResult<_>>().map_err(refused)?;
        let cluster = match options.cluster {
            true => Some(cluster(infos, certificates, patience).map_err(refused)?),
            false => None,
        };
        Ok(Self { patience, nodes, cluster })
    }

    pub(crate) const fn patience(&self) -> Patience {
        self.patience
    }

    pub(crate) const fn is_cluster(&self) -> bool {
        self.cluster.is_some()
    }

    pub(crate) async fn open(&self) -> RedisResult<Link> {
        if let Some(cluster) = &self.cluster {
            return cluster.get_async_connection().await.map(Link::Cluster);
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.patience.connect))
            .set_response_timeout(Some(self.patience.answer));
        let [node, ..] = &self.nodes[..] else { return Err(nowhere()) };
        node.get_multiplexed_async_connection_with_config(&config).await.map(Link::Node)
    }

    /// A connection for subscriptions, to one of the nodes that the URL names; `turn` picks it.
    pub(crate) async fn subscriber(&self, turn: usize) -> RedisResult<PubSub> {
        let node = turn.checked_rem(self.nodes.len()).and_then(|turn| self.nodes.get(turn));
        node.ok_or_else(nowhere)?.get_async_pubsub().await
    }
}

fn nowhere() -> redis::RedisError {
    (redis::ErrorKind::InvalidClientConfig, "no address").into()
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn refused(error: redis::RedisError) -> Error {
    Error::new(ErrorKind::Invalid, BACKEND, "connect", error.to_string())
}

fn info(options: &Options, node: &Node) -> Result<ConnectionInfo> {
    let (host, port) = (node.host.clone(), node.port);
    let addr = match options.tls {
        Some(_) => ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None },
        None => ConnectionAddr::Tcp(host, port),
    };
    let mut login = RedisConnectionInfo::default().set_db(i64::from(options.database));
    if let Some(user) = &options.user {
        login = login.set_username(user);
    }
    if let Some(password) = &options.password {
        login = login.set_password(&password.0);
    }
    let info = addr.into_connection_info().map_err(refused)?;
    Ok(info.set_redis_settings(login))
}

fn cluster(
    nodes: Vec<ConnectionInfo>,
    certificates: Option<TlsCertificates>,
    patience: Patience,
) -> RedisResult<ClusterClient> {
    let mut builder = ClusterClientBuilder::new(nodes)
        .connection_timeout(patience.connect)
        .response_timeout(patience.answer)
        .retries(REDIRECTS_MAX)
        .max_retry_wait(200);
    if let Some(certificates) = certificates {
        builder = builder.certs(certificates).tls(TlsMode::Secure);
    }
    builder.build()
}

fn certificates(tls: &Tls) -> Result<TlsCertificates> {
    // Another crate may have chosen a provider for the process; then that one serves us, too.
    drop(rustls::crypto::ring::default_provider().install_default());
    let client_tls = match (&tls.cert, &tls.key) {
        (Some(cert), Some(key)) => {
            Some(ClientTlsConfig { client_cert: read(cert)?, client_key: read(key)? })
        }
        _ => None,
    };
    let root_cert = tls.ca.as_deref().map(read).transpose()?;
    Ok(TlsCertificates { client_tls, root_cert })
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| {
        let text = format!("cannot read {}: {error}", path.display());
        Error::new(ErrorKind::Invalid, BACKEND, "connect", text)
    })
}
