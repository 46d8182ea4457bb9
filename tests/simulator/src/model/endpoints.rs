//! What the checker holds the circuit breaker to, and the service that disables webhooks.
//!
//! A missed count of failures is no fault by itself, because concurrent writes of an endpoint's
//! health overwrite each other's by design. So the rules that ask for something to happen hold in
//! fault-free runs only, and leave room.

use std::time::Duration;

use webhooks_core::breaker::{
    DISABLE_AFTER_SECONDS, Health, OPEN_AFTER_SECONDS, OPEN_AFTER_SLOW_FAILURES,
};
use webhooks_core::ids::{DeliveryId, SubscriptionId, UserId};

use webhooks_core::subscription::{DisabledReason, Subscription};
use webhooks_core::time::Timestamp;

use crate::harness::Function;
use crate::milestones::Milestone;
use crate::model::{Model, Said, Versions, lagging};
use crate::rules::Rule;

/// So many attempts may fail, after the breaker could have opened first, before it must be open:
/// what four batches of ten have being handled.
const FAILURES_MOST: u32 = 40;
/// How late an endpoint may be disabled.
const DISABLED_LATE: Duration = Duration::from_hours(1);

/// How an endpoint did, as receivers know it.
#[derive(Default)]
pub(super) struct Endpoint {
    /// Probes under way: the call that makes each, and its delivery.
    pub(super) probes: Vec<(u64, DeliveryId)>,
    responded_410: bool,
    last_success: Option<Timestamp>,
    /// When the first attempt began that failed since the last success.
    failing_since: Option<Timestamp>,
    /// Attempts that failed since, after the breaker could have opened first.
    failures: u32,
}

/// What a change of health means for the breaker.
fn breaker_moved((old, new): (Health, Health), by: Function) -> Option<Milestone> {
    match (old.open_until, new.open_until) {
        (None, Some(_)) => Some(Milestone::BreakerOpened),
        (Some(_), None) if by == Function::Deliver => Some(Milestone::BreakerClosed),
        (Some(_), Some(_)) if new.consecutive_failures > old.consecutive_failures => {
            Some(Milestone::BreakerReopened)
        }
        _ => None,
    }
}

/// Whether the service disabled a webhook, or its user enabled it again.
fn switched(old: Option<&Subscription>, new: &Subscription) -> Option<Milestone> {
    let reason = |of: &Subscription| of.disabled_reason.as_ref()?.known().copied();
    match (reason(old?), reason(new)) {
        (None, Some(DisabledReason::EndpointGone)) => Some(Milestone::DisabledGone),
        (None, Some(DisabledReason::EndpointFailing)) => Some(Milestone::DisabledFailing),
        (Some(_), None) if new.is_active => Some(Milestone::EnabledAgain),
        _ => None,
    }
}

impl Model {
    /// A subscription was written.
    pub(crate) fn subscription_stands(
        &mut self,
        now: Timestamp,
        (number, by): (u64, Function),
        (user, id): (&UserId, &SubscriptionId),
        version: Option<Subscription>,
    ) {
        let versions = self.subscriptions.entry(id.clone()).or_insert_with(|| Versions {
            user: user.clone(),
            all: Vec::new(),
            may_miss_counts: false,
            cleaned: false,
            endpoint: Endpoint::default(),
        });
        let before = versions.all.last().and_then(|(_, before)| before.as_ref());
        let was_active = before.is_some_and(|before| before.is_active);
        let old = before.map(|before| before.health).unwrap_or_default();
        let reason =
            version.as_ref().and_then(|version| version.disabled_reason.as_ref()?.known().copied());
        let unjust = match reason.filter(|_| was_active) {
            Some(DisabledReason::EndpointGone) => !versions.endpoint.responded_410,
            Some(DisabledReason::EndpointFailing) => {
                let span = Duration::from_secs(DISABLE_AFTER_SECONDS - 1);
                let healthy = versions.endpoint.last_success;
                self.is_fault_free && healthy.is_some_and(|at| at > now.minus(span))
            }
            Some(DisabledReason::EndpointUnverified | DisabledReason::UserBlocked) => true,
            None => false,
        };
        // A new URL, or the activation of a disabled webhook.
        let mut starts_anew = false;
        if let Some(version) = &version {
            let owners = self.urls.entry(version.url.clone()).or_default();
            if !owners.contains(id) {
                owners.push(id.clone());
            }
            starts_anew = before.is_some_and(|before| {
                before.url != version.url || (before.disabled_reason.is_some() && version.is_active)
            });
            if by == Function::Api && starts_anew {
                versions.endpoint.failing_since = None;
                versions.endpoint.failures = 0;
            }
            if version.health.open_until.is_some() {
                versions.endpoint.failures = 0;
            }
            let health = (old, version.health);
            self.milestones.extend(breaker_moved(health, by));
            let is_back = by == Function::Deliver && old.open_until.is_some();
            if is_back && version.health.open_until.is_none() && version.auto_recover {
                self.outages.extend(old.failing_since.map(|since| (id.clone(), since, now)));
            }
            let switched = switched(before, version);
            self.milestones.extend(switched);
            if matches!(switched, Some(Milestone::DisabledGone | Milestone::DisabledFailing)) {
                self.disabled.push((id.clone(), now));
            }
        }
        let health = version.as_ref().map(|version| version.health).unwrap_or_default();
        let slow = self.calls.get(&number).is_some_and(|call| call.slow.contains(id));
        let late = slow
            && by == Function::Deliver
            && health.consecutive_failures > old.consecutive_failures
            && health.consecutive_failures >= OPEN_AFTER_SLOW_FAILURES
            && health.open_until.is_none();
        let undone = by == Function::Api
            && version.is_some()
            && health != old
            && !(starts_anew && health == old.started_anew())
            && health != old.half_opened(health.open_until.unwrap_or(now));
        // A successful test and an activation let another probe through.
        let is_half_opened = by != Function::Deliver
            && old.open_until.is_some_and(|until| until > now)
            && health.open_until.is_some_and(|until| until <= now);
        if is_half_opened {
            versions.endpoint.probes.clear();
        }
        versions.all.push((now, version));
        if undone {
            self.violate(Rule::HealthKept, || format!("{id}: {old:?} became {health:?}"));
        }
        if late {
            self.violate(Rule::SlowOpens, || format!("{id}: {old:?} became {health:?}"));
        }
        if unjust {
            self.violate(Rule::DisabledRightly, || format!("{id}: {reason:?}"));
        }
    }

    /// Notes a POST that is let through although the breaker is not closed, as far as anybody can
    /// have known: a probe.
    pub(super) fn probe(
        &mut self,
        subscription: &SubscriptionId,
        id: &DeliveryId,
        invocation: u64,
        (from, now): (Timestamp, Timestamp),
    ) {
        let closed =
            self.was(subscription, from, now, |s| s.is_none_or(|s| s.health.open_until.is_none()));
        if closed {
            return;
        }
        self.reach(Milestone::Probed);
        let Some(versions) = self.subscriptions.get_mut(subscription) else { return };
        versions.endpoint.probes.push((invocation, id.clone()));
        let probes = versions.endpoint.probes.len();
        if probes > 1 {
            self.violate(Rule::OneProbe, || format!("{id} to {subscription}: {probes} probes"));
        }
    }

    /// A receiver has responded.
    pub(super) fn endpoint_responded(
        &mut self,
        subscription: &SubscriptionId,
        said: Said,
        now: Timestamp,
    ) {
        let Some(versions) = self.subscriptions.get_mut(subscription) else { return };
        let endpoint = &mut versions.endpoint;
        endpoint.responded_410 |= said.is_410();
        if said.is_2xx() {
            endpoint.last_success = Some(now);
            endpoint.failing_since = None;
            endpoint.failures = 0;
        }
    }

    /// A call has ended in which these attempts had failed: the table has its result.
    pub(super) fn check_endpoints(
        &mut self,
        failed: &[(SubscriptionId, Timestamp)],
        began: Timestamp,
        now: Timestamp,
    ) {
        if !self.is_fault_free {
            return;
        }
        for (id, at) in failed {
            let Some(versions) = self.subscriptions.get_mut(id) else { continue };
            let endpoint = &mut versions.endpoint;
            if endpoint.last_success.is_some_and(|success| success >= *at) {
                continue;
            }
            let since = *endpoint.failing_since.get_or_insert(*at);
            if since.until(*at) > Duration::from_secs(OPEN_AFTER_SECONDS) {
                endpoint.failures += 1;
            }
            let failures = endpoint.failures;
            let disabled_after = Duration::from_secs(DISABLE_AFTER_SECONDS) + DISABLED_LATE;
            let days = since.until(*at) > disabled_after;
            let from = lagging(began);
            let active = |s: Option<&Subscription>| s.is_none_or(|s| !s.is_active);
            if failures > FAILURES_MOST {
                self.violate(Rule::BreakerOpens, || format!("{id}: {failures} failures"));
            }
            if days && !self.was(id, from, now, active) {
                self.violate(Rule::FailingDisabled, || format!("{id} fails since {since}"));
            }
        }
    }
}
