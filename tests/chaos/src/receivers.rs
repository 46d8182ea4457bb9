//! The endpoints of all webhooks, behind one receiver that notes every POST.

use std::io;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use test_support::FakeReceiver;
use test_support::receiver::{Received, Reply};

use crate::lock;
use crate::plan::Endpoint;

/// One POST that came in.
#[derive(Clone, Debug)]
pub struct Post {
    /// The number of the webhook that it came to.
    pub webhook: usize,
    /// `webhook-id`.
    pub delivery_id: String,
    /// `X-Webhook-Attempt`.
    pub attempt: u32,
    /// The event.
    pub event_id: String,
    /// Whose event it is, by its data.
    pub user: String,
    /// Whether it was returned 2xx.
    pub taken: bool,
}

/// The receiver.
pub(crate) struct Receivers {
    receiver: FakeReceiver,
    posts: Arc<Mutex<Vec<Post>>>,
}

impl Receivers {
    /// Starts one that treats the webhooks so, which are known by their numbers. `on_post` is
    /// called with the delivery's id of each POST before its response.
    pub(crate) async fn start(
        endpoints: Vec<Endpoint>,
        seed: u64,
        on_post: impl Fn(&str) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let receiver = FakeReceiver::start().await?;
        let posts = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&posts);
        receiver.by_rule(move |request| {
            let Some(mut post) = read(request) else { return Reply::status(400) };
            let Some(endpoint) = endpoints.get(post.webhook) else { return Reply::status(404) };
            let (reply, taken) = endpoint.reply(seed, &post.event_id, post.attempt);
            post.taken = taken;
            on_post(&post.delivery_id);
            lock(&noted).push(post);
            reply
        });
        Ok(Self { receiver, posts })
    }

    /// The URL of a webhook.
    pub(crate) fn url(&self, webhook: usize) -> String {
        self.receiver.url(&format!("/{webhook}"))
    }

    /// How many POSTs came in.
    pub(crate) fn count(&self) -> usize {
        lock(&self.posts).len()
    }

    /// Every POST, in order.
    pub(crate) fn posts(&self) -> Vec<Post> {
        // The receiver keeps whole requests, which nobody wants here.
        self.receiver.take();
        lock(&self.posts).clone()
    }
}

fn read(request: &Received) -> Option<Post> {
    let body: Value = serde_json::from_slice(&request.body).ok()?;
    Some(Post {
        webhook: request.path.strip_prefix('/')?.parse().ok()?,
        delivery_id: request.header("webhook-id")?.to_owned(),
        attempt: request.header("x-webhook-attempt")?.parse().ok()?,
        event_id: body["event_id"].as_str()?.to_owned(),
        user: body["data"]["user"].as_str()?.to_owned(),
        taken: false,
    })
}
