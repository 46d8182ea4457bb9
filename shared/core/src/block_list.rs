//! The operator's list of hosts to which nothing is sent.
//!
//! [`BlockedHosts`] keeps the list in memory for [`BLOCKED_HOSTS_SECONDS`], so that attempts do not
//! read it. [`BlockListSender`] is a [`Sender`] that does not send to them. A host on the list stands
//! for its subdomains, too.
//!
//! Blocked users are not here: dispatch reads them with the user's subscriptions.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::lock::{Mutex, MutexGuard};
use url::Url;

use crate::limits::BLOCKED_HOSTS_SECONDS;
use crate::outbound::{Failure, HttpResult, OutboundRequest, Outcome};
use crate::ports::{Chain, Clock, Sender, StoreError, Subscriptions};
use crate::time::Timestamp;

/// The list in memory, read again when it is old.
pub struct BlockedHosts {
    subscriptions: Arc<dyn Subscriptions>,
    clock: Arc<dyn Clock>,
    known: Mutex<Option<Known>>,
}

struct Known {
    read_at: Timestamp,
    hosts: HashSet<String>,
}

impl BlockedHosts {
    /// The list in this table.
    pub fn new(subscriptions: Arc<dyn Subscriptions>, clock: Arc<dyn Clock>) -> Self {
        Self { subscriptions, clock, known: Mutex::new(None) }
    }

    /// Whether the host of a URL is on the list. When the list cannot be read, the last one holds.
    pub async fn contains(&self, url: &str) -> Result<bool, StoreError> {
        let known = self.known().await?;
        Ok(known.as_ref().is_some_and(|known| lists(&known.hosts, url)))
    }

    /// Whether the host of a URL is on the list as it was read last.
    async fn are_known_to_contain(&self, url: &str) -> bool {
        self.known.lock().await.as_ref().is_some_and(|known| lists(&known.hosts, url))
    }

    /// The list, read again if it is old.
    async fn known(&self) -> Result<MutexGuard<'_, Option<Known>>, StoreError> {
        // The lock is held over the read, so that concurrent attempts read the list once.
        let mut known = self.known.lock().await;
        let now = self.clock.now();
        let fresh = Duration::from_secs(BLOCKED_HOSTS_SECONDS);
        if known.as_ref().is_none_or(|known| known.read_at.until(now) >= fresh) {
            match self.subscriptions.blocked_hosts().await {
                Ok(hosts) => {
                    *known = Some(Known { read_at: now, hosts: hosts.into_iter().collect() });
                }
                Err(error) if known.is_none() => return Err(error),
                Err(error) => {
                    tracing::warn!(error = %Chain(&error), "the list of blocked hosts cannot be read again");
                }
            }
        }
        Ok(known)
    }
}

fn lists(hosts: &HashSet<String>, url: &str) -> bool {
    if hosts.is_empty() {
        return false;
    }
    let url = Url::parse(url).ok();
    let Some(host) = url.as_ref().and_then(Url::host_str) else { return false };
    let host = host.trim_end_matches('.');
    let parents = host.match_indices('.').map(|(dot, _)| &host[dot + 1..]);
    std::iter::once(host).chain(parents).any(|name| hosts.contains(name))
}

/// Sends nothing to a blocked host: such an attempt fails and is not retried.
pub struct BlockListSender {
    inner: Arc<dyn Sender>,
    hosts: BlockedHosts,
}

impl BlockListSender {
    /// Sends with `inner` what may be sent.
    pub fn new(
        inner: Arc<dyn Sender>,
        subscriptions: Arc<dyn Subscriptions>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { inner, hosts: BlockedHosts::new(subscriptions, clock) }
    }
}

#[async_trait]
impl Sender for BlockListSender {
    /// Reads the list if it is old: before the request is signed, because that may take a while.
    async fn prepare(&self) {
        if let Err(error) = self.hosts.known().await {
            // Deliveries do not stop because a list that is nearly always empty cannot be read.
            tracing::error!(error = %Chain(&error), "the list of blocked hosts cannot be read");
        }
        self.inner.prepare().await;
    }

    async fn post(&self, request: OutboundRequest) -> HttpResult {
        if self.hosts.are_known_to_contain(&request.url).await {
            return HttpResult {
                outcome: Outcome::NoResponse {
                    failure: Failure::Blocked,
                    detail: "The operator of this service has blocked this host.".to_owned(),
                },
                response_headers: None,
                duration_ms: 0,
            };
        }
        self.inner.post(request).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listed_host_stands_for_its_subdomains_and_no_other_host() {
        let hosts = ["victim.example", "203.0.113.7", "[2001:db8::1]"].map(str::to_owned).into();
        for url in [
            "https://victim.example/x",
            "https://VICTIM.example:8443/",
            "https://a.b.victim.example/",
            "https://203.0.113.7/",
            "https://[2001:db8::1]/",
        ] {
            assert!(lists(&hosts, url), "{url}");
        }
        for url in [
            "https://notvictim.example/",
            "https://example/",
            "https://victim.example.org/",
            "https://203.0.113.70/",
            "https://other.example/victim.example",
            "no URL",
        ] {
            assert!(!lists(&hosts, url), "{url}");
        }
    }
}
