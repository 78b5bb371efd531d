//! The HTTP interface: orders, live events, health and metrics.

mod access;
mod body;
mod events;
mod local;
mod orders;
mod problem;
mod status;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use expirer_core::flow::Orders;
use expirer_core::{Clock, DelayQueue, EventBus};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

pub(crate) use access::Access;
pub(crate) use problem::Problem;

use crate::config::{Chosen, Config};
use crate::observer::Ears;
use crate::shutdown::Stop;

/// The largest body.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// What the handlers share.
#[derive(Debug)]
pub(crate) struct App {
    orders: Orders,
    bus: Arc<dyn EventBus>,
    queue: Arc<dyn DelayQueue>,
    clock: Arc<dyn Clock>,
    ears: Arc<Ears>,
    access: Access,
    stop: Stop,
    streams: Arc<Semaphore>,
}

impl App {
    pub(crate) fn new(
        orders: Orders,
        bus: Arc<dyn EventBus>,
        queue: Arc<dyn DelayQueue>,
        clock: Arc<dyn Clock>,
        ears: Arc<Ears>,
        access: Access,
        stop: Stop,
    ) -> Self {
        let streams = Arc::new(Semaphore::new(events::STREAMS_MAX));
        Self { orders, bus, queue, clock, ears, access, stop, streams }
    }
}

/// The routes: those of orders and events only where the role `api` is chosen.
pub(crate) fn router(app: Arc<App>, api: bool) -> Router {
    let mut router = Router::new()
        .route("/healthz", get(status::health))
        .route("/readyz", get(status::ready))
        .route("/metrics", get(status::metrics));
    if api {
        router = router
            .route("/orders", post(orders::create))
            .route("/orders/{id}", get(orders::read))
            .route("/orders/{id}/complete", post(orders::complete))
            .route("/orders/{id}/cancel", post(orders::cancel))
            .route("/events", get(events::events));
    }
    router
        .fallback(not_found)
        .method_not_allowed_fallback(not_allowed)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(from_fn_with_state(Arc::clone(&app), local::guard))
        .with_state(app)
}

async fn not_found(uri: Uri) -> Problem {
    let path: String = uri.path().chars().take(200).collect();
    Problem::new(StatusCode::NOT_FOUND, format!("there is nothing at {path}"))
}

async fn not_allowed(method: Method, uri: Uri) -> Problem {
    let path: String = uri.path().chars().take(200).collect();
    let detail =
        format!("{path} does not take {}", method.as_str().get(..20).unwrap_or(method.as_str()));
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail)
}

/// A bound address.
#[derive(Debug)]
pub(crate) struct Listener {
    pub(crate) tcp: TcpListener,
    pub(crate) address: SocketAddr,
}

/// Whether others than this machine can reach an address.
pub(crate) fn is_exposed(address: &SocketAddr) -> bool {
    !address.ip().to_canonical().is_loopback()
}

impl Listener {
    /// Binds the address of the configuration, unless HTTP is off.
    ///
    /// # Errors
    /// A text that says what to change.
    pub(crate) async fn open(config: &Config) -> Result<Option<Self>, String> {
        match &config.http {
            Some(http) => Self::bind(http).await.map(Some),
            None => Ok(None),
        }
    }

    async fn bind(http: &Chosen<String>) -> Result<Self, String> {
        let Chosen { value, origin } = http;
        let failed = |error: io::Error| {
            format!("{origin} {value}: cannot listen there: {error}; choose another address or off")
        };
        let tcp = TcpListener::bind(value).await.map_err(failed)?;
        let address = tcp.local_addr().map_err(failed)?;
        Ok(Self { tcp, address })
    }

    /// Who may write, here.
    pub(crate) fn access(&self, config: &Config) -> Access {
        Access::new(config.http_token.clone(), is_exposed(&self.address))
    }

    /// Serves until `stop`, and finishes what is in flight.
    pub(crate) async fn serve(self, router: Router, stop: Stop) -> io::Result<()> {
        axum::serve(self.tcp, router).with_graceful_shutdown(async move { stop.wait().await }).await
    }
}
