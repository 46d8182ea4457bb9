//! A sender without a network: it responds as scripted and records what was sent.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use webhooks_core::outbound::{Failure, HttpResult, OutboundRequest, Outcome, RetryAfter};
use webhooks_core::ports::Sender;

use crate::lock;

/// What becomes of one POST.
#[derive(Clone, Debug)]
pub enum Reply {
    /// The response comes immediately.
    Now(HttpResult),
    /// The response comes after this time on tokio's clock, which a test may pause.
    After(Duration, HttpResult),
    /// The sender panics, as a bug of the service would.
    Panic,
}

/// A response with this HTTP status and an empty body, after 5 ms.
pub fn status(status: u16) -> HttpResult {
    let outcome = Outcome::Response { status, retry_after: None, excerpt: String::new() };
    HttpResult { outcome, response_headers: None, duration_ms: 5 }
}

/// A response with this HTTP status that asks to wait this many seconds.
pub fn retry_after(status: u16, seconds: u64) -> HttpResult {
    let retry_after = Some(RetryAfter::Seconds(seconds));
    let outcome = Outcome::Response { status, retry_after, excerpt: String::new() };
    HttpResult { outcome, response_headers: None, duration_ms: 5 }
}

/// No response, for this reason.
pub fn no_response(failure: Failure) -> HttpResult {
    let detail = format!("scripted {}", failure.as_str());
    HttpResult {
        outcome: Outcome::NoResponse { failure, detail },
        response_headers: None,
        duration_ms: 5,
    }
}

type Rule = Box<dyn FnMut(&OutboundRequest) -> Reply + Send>;

/// A sender that responds as scripted and remembers what was sent; a clone is the same sender.
#[derive(Clone)]
pub struct ScriptedSender(Arc<Mutex<State>>);

struct State {
    by_url: HashMap<String, VecDeque<Reply>>,
    otherwise: Rule,
    requests: Vec<OutboundRequest>,
}

impl ScriptedSender {
    /// Responds by this rule where no script is left. The rule must not use the sender itself.
    pub fn by(rule: impl FnMut(&OutboundRequest) -> Reply + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(State {
            by_url: HashMap::new(),
            otherwise: Box::new(rule),
            requests: Vec::new(),
        })))
    }

    /// Responds to the next POSTs to this URL in this way, one reply each.
    pub fn script(&self, url: &str, replies: impl IntoIterator<Item = Reply>) {
        lock(&self.0).by_url.entry(url.to_owned()).or_default().extend(replies);
    }

    /// Responds to the next POSTs to this URL with these statuses.
    pub fn statuses(&self, url: &str, statuses: &[u16]) {
        self.script(url, statuses.iter().map(|code| Reply::Now(status(*code))));
    }

    /// What was sent and not taken yet, in order.
    pub fn requests(&self) -> Vec<OutboundRequest> {
        lock(&self.0).requests.clone()
    }

    /// Takes everything that was sent, in order.
    pub fn take(&self) -> Vec<OutboundRequest> {
        std::mem::take(&mut lock(&self.0).requests)
    }
}

impl Default for ScriptedSender {
    /// Returns 200 where no script is left.
    fn default() -> Self {
        Self::by(|_| Reply::Now(status(200)))
    }
}

#[async_trait]
impl Sender for ScriptedSender {
    async fn post(&self, request: OutboundRequest) -> HttpResult {
        let reply = {
            let mut state = lock(&self.0);
            state.requests.push(request.clone());
            match state.by_url.get_mut(request.url.as_str()).and_then(VecDeque::pop_front) {
                Some(reply) => reply,
                None => (state.otherwise)(&request),
            }
        };
        match reply {
            Reply::Now(response) => response,
            Reply::After(duration, response) => {
                tokio::time::sleep(duration).await;
                response
            }
            Reply::Panic => panic!("the script of {} says so", request.url),
        }
    }
}
