//! What the checker knows of the breakers that one owner's webhooks at one host share.

use webhooks_core::host_health::{HostHealth, HostId};
use webhooks_core::ids::{SubscriptionId, UserId};
use webhooks_core::time::Timestamp;

use crate::model::{Model, at};

impl Model {
    /// The health of a host that stood there at a moment.
    pub(crate) fn host_at(
        &self,
        (user, host): (&UserId, &HostId),
        moment: Timestamp,
    ) -> HostHealth {
        let versions = self.hosts.get(&(user.clone(), host.clone()));
        versions.and_then(|versions| at(versions, moment)).cloned().unwrap_or_default()
    }

    /// The health of a host was written.
    pub(crate) fn host_stands(
        &mut self,
        now: Timestamp,
        (user, host): (&UserId, &HostId),
        health: HostHealth,
    ) {
        self.hosts.entry((user.clone(), host.clone())).or_default().push((now, health));
    }

    /// What was known of an owner's hosts was deleted.
    pub(crate) fn hosts_are_deleted(&mut self, now: Timestamp, user: &UserId) {
        for versions in self.hosts.iter_mut().filter(|((owner, _), _)| owner == user) {
            versions.1.push((now, HostHealth::default()));
        }
    }

    /// Whether the breaker of a webhook's host was open from one moment to another, and no longer
    /// than until `at`.
    pub(super) fn host_was_open(
        &self,
        id: &SubscriptionId,
        (from, now): (Timestamp, Timestamp),
        until: Timestamp,
    ) -> bool {
        let Some(webhook) = self.subscriptions.get(id) else { return false };
        let urls = webhook.all.iter().filter_map(|(_, version)| version.as_ref());
        let keys = urls.map(|version| (webhook.user.clone(), HostId::of(&version.url)));
        keys.filter_map(|key| self.hosts.get(&key)).any(|versions| {
            let first = versions.partition_point(|(since, _)| *since <= from).saturating_sub(1);
            let seen = versions[first..].iter().take_while(|(since, _)| *since <= now);
            seen.into_iter().any(|(_, host)| host.health.open_until.is_some_and(|at| at <= until))
        })
    }
}
