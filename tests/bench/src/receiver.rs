//! The arrivals at a [`FakeReceiver`], and endpoints that can be made to do their worst.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;
use test_support::FakeReceiver;
use test_support::receiver::{Received, Reply};

/// One webhook that was returned 200.
#[derive(Clone)]
pub(crate) struct Arrival {
    /// The event's id, from the body.
    pub(crate) event_id: String,
    /// When all of it had been read.
    pub(crate) at: Instant,
}

/// The receiver. It returns 200 on every path, until endpoints are made to fail.
pub(crate) struct Receiver {
    receiver: FakeReceiver,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    fails: AtomicBool,
    arrivals: Mutex<Vec<Arrival>>,
}

#[derive(Deserialize)]
struct Payload {
    event_id: String,
}

impl Receiver {
    pub(crate) async fn start() -> io::Result<Self> {
        let (started, receiver) = tokio::sync::oneshot::channel();
        // Receivers are elsewhere. These have a thread of their own until the process ends.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                if started.send(FakeReceiver::start().await).is_ok() {
                    std::future::pending::<()>().await;
                }
            });
            io::Result::Ok(())
        });
        let receiver = receiver.await.map_err(|_| io::Error::other("the thread has ended"))??;
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        receiver.by_rule(move |request| shared.reply(request));
        Ok(Self { receiver, state })
    }

    /// The URL of an endpoint that always returns 200.
    pub(crate) fn healthy(&self, name: &str) -> String {
        self.receiver.url(&format!("/healthy/{name}"))
    }

    /// The URL of an endpoint that answers 200 until [`Receiver::fail`], and then does its worst.
    pub(crate) fn worst(&self, how: &str, name: &str) -> String {
        self.receiver.url(&format!("/{how}/{name}"))
    }

    /// From now on the endpoints that are not healthy do their worst.
    pub(crate) fn fail(&self) {
        self.state.fails.store(true, Ordering::Relaxed);
    }

    /// Everything that came in and was returned 200, in order.
    pub(crate) fn arrivals(&self) -> Vec<Arrival> {
        self.state.arrivals().clone()
    }
}

impl State {
    fn reply(&self, request: &Received) -> Reply {
        if self.fails.load(Ordering::Relaxed) {
            match request.path.split('/').nth(1) {
                Some("hanging") => return Reply::hang(),
                Some("resetting") => return Reply::reset(),
                Some("slow") => return Reply::status(200).after(Duration::from_secs(40)),
                Some("lagging") => return Reply::status(200).after(Duration::from_secs(8)),
                Some("big") => return Reply::response(200, &[], &"x".repeat(1 << 20)),
                _ => {}
            }
        }
        let Ok(Payload { event_id }) = serde_json::from_slice(&request.body) else {
            return Reply::status(400);
        };
        self.arrivals().push(Arrival { event_id, at: request.at });
        Reply::status(200)
    }

    fn arrivals(&self) -> MutexGuard<'_, Vec<Arrival>> {
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
