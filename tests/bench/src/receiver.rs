//! A receiver that is quick and notes when each webhook came in. The tests' `FakeReceiver` keeps
//! whole requests and no times.

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

/// The receiver. It runs as long as the process; a clone is the same receiver.
#[derive(Clone, Default)]
pub(crate) struct Receiver {
    url: String,
    arrivals: Arc<Mutex<Vec<Arrival>>>,
    hangs: Arc<AtomicBool>,
}

#[derive(Deserialize)]
struct Payload {
    event_id: String,
}

impl Receiver {
    pub(crate) async fn start() -> std::io::Result<Self> {
        let receiver = Self::default();
        let router = Router::new().fallback(receive).with_state(receiver.clone());
        Ok(Self { url: format!("http://{}", serve(router).await?), ..receiver })
    }

    /// The URL of an endpoint that always answers 200.
    pub(crate) fn healthy(&self, name: &str) -> String {
        format!("{}/healthy/{name}", self.url)
    }

    /// The URL of an endpoint that answers 200 until [`Receiver::hang`].
    pub(crate) fn hanging(&self, name: &str) -> String {
        format!("{}{HANGING}{name}", self.url)
    }

    /// From now on the hanging endpoints do not answer.
    pub(crate) fn hang(&self) {
        self.hangs.store(true, Ordering::Relaxed);
    }

    /// Everything that came in and was answered with 200, in order.
    pub(crate) fn arrivals(&self) -> Vec<Arrival> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arrival>> {
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn receive(
    State(receiver): State<Receiver>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    let at = Instant::now();
    if receiver.hangs.load(Ordering::Relaxed) && uri.path().starts_with(HANGING) {
        // The sender gives up first, which drops this.
        tokio::time::sleep(FOR_EVER).await;
    }
    let webhook_id = headers.get("webhook-id").and_then(|id| id.to_str().ok());
    let (Some(webhook_id), Ok(Payload { event_id })) = (webhook_id, serde_json::from_slice(&body))
    else {
        return StatusCode::BAD_REQUEST;
    };
    let webhook_id = webhook_id.to_owned();
    receiver.lock().push(Arrival { event_id, webhook_id, at });
    StatusCode::OK
}

/// Serves on a free port as long as the process runs, and says where.
pub(crate) async fn serve(router: Router) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(address)
}
