//! The bound on the attempts that are made concurrently at one host for one owner, however many webhooks the
//! owner has there.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, Weak};

use futures::future::{Either, select};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use webhooks_core::host_health::HostId;
use webhooks_core::ids::UserId;
use webhooks_core::limits::HOST_CONCURRENCY;
use webhooks_core::ports::Timer;
use webhooks_core::rate_limit::NEAR;

use crate::batch::lock;

/// The hosts at which an instance of the function makes attempts.
pub(crate) struct HostConcurrency {
    most: usize,
    hosts: Mutex<HashMap<(UserId, HostId), Weak<Semaphore>>>,
}

impl Default for HostConcurrency {
    fn default() -> Self {
        Self::new(HOST_CONCURRENCY)
    }
}

impl HostConcurrency {
    /// With so many attempts at each host for each owner.
    pub(crate) fn new(most: usize) -> Self {
        Self { most, hosts: Mutex::default() }
    }

    /// Waits until another attempt may be made at a host for an owner; nothing when none ends in time.
    ///
    /// The wait is as short as that for a slot, because what was read of the webhook is not read again.
    pub(crate) async fn permit(
        &self,
        owner: &UserId,
        host: HostId,
        timer: &dyn Timer,
    ) -> Option<OwnedSemaphorePermit> {
        let host = self.semaphore((owner.clone(), host));
        if let Ok(permit) = Arc::clone(&host).try_acquire_owned() {
            return Some(permit);
        }
        match select(pin!(host.acquire_owned()), timer.sleep(NEAR)).await {
            Either::Left((permit, _)) => Some(permit.expect("nobody closes the semaphore")),
            Either::Right(_) => None,
        }
    }

    fn semaphore(&self, key: (UserId, HostId)) -> Arc<Semaphore> {
        let mut hosts = lock(&self.hosts);
        if let Some(host) = hosts.get(&key).and_then(Weak::upgrade) {
            return host;
        }
        hosts.retain(|_, host| host.strong_count() > 0);
        let host = Arc::new(Semaphore::new(self.most));
        hosts.insert(key, Arc::downgrade(&host));
        host
    }
}
