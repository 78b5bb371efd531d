//! The HTTP interface: orders, live events, health and metrics.

mod access;
mod body;
mod events;
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
use axum::routing::{get, post};
use expirer_core::flow::Orders;
use expirer_core::observe::Flow;
use expirer_core::{Clock, EventBus};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tracing::warn;

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
    clock: Arc<dyn Clock>,
    ears: Arc<Ears>,
    flows: Vec<Flow>,
    access: Access,
    stop: Stop,
    streams: Arc<Semaphore>,
}

impl App {
    pub(crate) fn new(
        orders: Orders,
        bus: Arc<dyn EventBus>,
        clock: Arc<dyn Clock>,
        ears: Arc<Ears>,
        flows: Vec<Flow>,
        access: Access,
        stop: Stop,
    ) -> Self {
        let streams = Arc::new(Semaphore::new(events::STREAMS_MAX));
        Self { orders, bus, clock, ears, flows, access, stop, streams }
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

impl Listener {
    /// Binds the address.
    ///
    /// # Errors
    /// A text that says what to change.
    pub(crate) async fn bind(http: &Chosen<String>) -> Result<Self, String> {
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
        let exposed = !self.address.ip().to_canonical().is_loopback();
        let access = Access::new(config.http_token.clone(), exposed);
        if config.roles.value.api && matches!(access, Access::Refused) {
            warn!(
                address = %self.address,
                "HTTP can be reached beyond loopback without --http-token: writes are refused"
            );
        }
        access
    }

    /// Serves until `stop`, and finishes what is in flight.
    pub(crate) async fn serve(self, router: Router, stop: Stop) -> io::Result<()> {
        axum::serve(self.tcp, router).with_graceful_shutdown(async move { stop.wait().await }).await
    }
}
