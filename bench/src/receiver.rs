//! A receiver that is quick and notes when each webhook came in.
//!
//! [`webhooks_testing::FakeReceiver`] keeps whole requests, for tests; ten thousand of them would be
//! measured here too.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

/// What the paths of endpoints begin with that can be made to hang.
const HANGING: &str = "/hanging/";
/// Longer than any attempt may take.
const FOR_EVER: Duration = Duration::from_hours(1);

/// One webhook that came in.
#[derive(Clone)]
pub(crate) struct Arrival {
    /// The event's id, of the body.
    pub(crate) event_id: String,
    /// The delivery's id, of the header.
    pub(crate) webhook_id: String,
    /// When all of it had been read.
    pub(crate) at: Instant,
}

/// The receiver; it stops when it is dropped.
pub(crate) struct Receiver {
    address: SocketAddr,
    state: Arc<Shared>,
    _server: AbortOnDropHandle<()>,
}

#[derive(Default)]
struct Shared {
    arrivals: Mutex<Vec<Arrival>>,
    arrived: Notify,
    hangs: AtomicBool,
}

#[derive(Deserialize)]
struct Payload {
    event_id: String,
}

impl Receiver {
    pub(crate) async fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let state = Arc::new(Shared::default());
        let router = Router::new().fallback(receive).with_state(state.clone());
        let server = tokio::spawn(async move {
            // It ends only when it is aborted.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { address, state, _server: AbortOnDropHandle::new(server) })
    }

    /// The URL of an endpoint that always answers 200.
    pub(crate) fn healthy(&self, name: &str) -> String {
        format!("http://{}/healthy/{name}", self.address)
    }

    /// The URL of an endpoint that answers 200 until [`Receiver::hang`].
    pub(crate) fn hanging(&self, name: &str) -> String {
        format!("http://{}{HANGING}{name}", self.address)
    }

    /// From now on the hanging endpoints do not answer.
    pub(crate) fn hang(&self) {
        self.state.hangs.store(true, Ordering::Relaxed);
    }

    /// Everything that came in and was answered with 200, in order.
    pub(crate) fn arrivals(&self) -> Vec<Arrival> {
        self.state.arrivals().clone()
    }

    /// How many came in and were answered with 200.
    pub(crate) fn count(&self) -> usize {
        self.state.arrivals().len()
    }

    /// Waits until so many came in; `false` when nothing comes in for `patience`.
    pub(crate) async fn wait_for(&self, count: usize, patience: Duration) -> bool {
        loop {
            // The wait begins before the look, so that nothing arrives between them unseen.
            let mut arrived = std::pin::pin!(self.state.arrived.notified());
            arrived.as_mut().enable();
            if self.count() >= count {
                return true;
            }
            if tokio::time::timeout(patience, arrived).await.is_err() {
                return false;
            }
        }
    }
}

impl Shared {
    fn arrivals(&self) -> MutexGuard<'_, Vec<Arrival>> {
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn receive(
    State(state): State<Arc<Shared>>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    let at = Instant::now();
    if state.hangs.load(Ordering::Relaxed) && uri.path().starts_with(HANGING) {
        // The sender gives up first, which drops this.
        tokio::time::sleep(FOR_EVER).await;
    }
    let webhook_id = headers.get("webhook-id").and_then(|id| id.to_str().ok());
    let (Some(webhook_id), Ok(Payload { event_id })) = (webhook_id, serde_json::from_slice(&body))
    else {
        return StatusCode::BAD_REQUEST;
    };
    let webhook_id = webhook_id.to_owned();
    state.arrivals().push(Arrival { event_id, webhook_id, at });
    state.arrived.notify_waiters();
    StatusCode::OK
}
