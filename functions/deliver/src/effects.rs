//! What a batch leaves behind besides its records: counters, and the health of endpoints.
//!
//! Added up first, then written once per subscription (and hour). Written after the records: a
//! crash between the two writes leaves counters too low, never too high.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::future::{join_all, join3};
use webhooks_core::breaker::{Failures, Health, SLOW_SECONDS};
use webhooks_core::delivery::{Delivery, Status};
use webhooks_core::host_health::HostId;
use webhooks_core::ids::{SubscriptionId, UserId};
use webhooks_core::limits::{RECOVERIES_LISTED_MAX, RECOVERIES_RUNNING_MAX};
use webhooks_core::operational::{Audience, OperationalEvent};
use webhooks_core::outbound::Outcome;
use webhooks_core::ports::{Chain, Consistency, HostWrite, StoreError, SubscriptionWrite, Written};
use webhooks_core::recovery::{self, Recovery};
use webhooks_core::statistics::{Addition, Counts, RECOUNT_AFTER_SECONDS, add_or_recount};
use webhooks_core::subscription::{DisabledReason, Subscription};
use webhooks_core::time::Timestamp;

use crate::Deliver;
use crate::batch::Batch;

/// How often a change of a subscription is tried against changes of its user.
pub(crate) const TRIES: usize = 5;

/// What an attempt says of its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It answered 2xx.
    Healthy,
    /// It did not.
    Failing(Failures),
    /// It answered 410: it wants nothing more.
    Gone,
}

/// How quickly an endpoint answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Speed {
    is_slow: bool,
    has_quick_success: bool,
}

impl Speed {
    pub(crate) fn new(outcome: &Outcome, took: Duration) -> Self {
        let is_slow = took >= Duration::from_secs(SLOW_SECONDS);
        let is_success = matches!(outcome, Outcome::Response { status: 200..=299, .. });
        Self { is_slow, has_quick_success: is_success && !is_slow }
    }

    fn add(&mut self, other: Self) {
        self.is_slow |= other.is_slow;
        self.has_quick_success |= other.has_quick_success;
    }

    /// A slow attempt outweighs the quick successes beside it.
    fn after(self, health: Health, now: Timestamp) -> Health {
        match self {
            Self { is_slow: true, .. } => health.record_slow_attempt(now),
            Self { has_quick_success: true, .. } => health.record_quick_success(),
            Self { .. } => health,
        }
    }
}

/// What one handled task adds.
pub(crate) struct Effect {
    subscription_id: SubscriptionId,
    created_at: Timestamp,
    now: Timestamp,
    expires_at: Timestamp,
    counts: Counts,
    is_operational: bool,
    verdict: Option<(Subscription, Verdict)>,
    speed: Speed,
    exhausted: Option<OperationalEvent>,
    recounts: bool,
}

impl Effect {
    /// Adds nothing, but has the hour counted again: the invocation that wrote the record may have ended
    /// before it counted it.
    pub(crate) fn recount(delivery: &Delivery) -> Self {
        Self {
            counts: Counts::default(),
            recounts: true,
            ..Self::new(delivery, Some(delivery.status), delivery.updated_at)
        }
    }

    /// What the write of this record, whose status `was` another before, adds to the counters. When it ends or
    /// holds a record that was there before, the earlier writes may not have been counted, so the hour is counted
    /// again.
    pub(crate) fn new(delivery: &Delivery, was: Option<Status>, now: Timestamp) -> Self {
        let is_held = |status| i64::from(status == Some(Status::Held));
        let counts = Counts {
            total: u64::from(was.is_none()),
            held: is_held(Some(delivery.status)) - is_held(was),
            success: u64::from(delivery.status == Status::Success),
            failed: u64::from(delivery.status == Status::Failed),
            ..Counts::default()
        };
        Self {
            subscription_id: delivery.subscription_id.clone(),
            created_at: delivery.created_at(),
            now,
            expires_at: delivery.expires_at,
            counts,
            is_operational: delivery.event_type.is_operational(),
            verdict: None,
            speed: Speed::default(),
            exhausted: None,
            recounts: was.is_some() && delivery.status != Status::Retrying,
        }
    }

    /// Counts the attempt that the record was written for.
    pub(crate) fn with_attempt(mut self, delivery: &Delivery) -> Self {
        self.counts.add_last_attempt(delivery);
        self
    }

    pub(crate) fn with_verdict(self, subscription: &Subscription, verdict: Verdict) -> Self {
        Self { verdict: Some((subscription.clone(), verdict)), ..self }
    }

    pub(crate) fn with_speed(self, speed: Speed) -> Self {
        Self { speed, ..self }
    }

    /// Tells the owner again what the invocation that wrote this record may not have told.
    pub(crate) fn with_exhausted_again(self, record: &Delivery) -> Self {
        let again = |event| OperationalEvent { audience: Audience::Owner, ..event };
        self.with_exhausted(OperationalEvent::exhausted(record).map(again))
    }

    /// Tells that the delivery has failed for the last time.
    pub(crate) fn with_exhausted(self, exhausted: Option<OperationalEvent>) -> Self {
        Self { exhausted, ..self }
    }
}

#[derive(Default)]
struct Sum {
    counts: Counts,
    last_attempt_at: Option<Timestamp>,
    expires_at: Option<Timestamp>,
    recounts: bool,
}

struct Verdicts {
    subscription: Subscription,
    healthy: bool,
    gone: bool,
    failures: Option<Failures>,
    speed: Speed,
    /// Whether all of the attempts were of operational events.
    is_operational: bool,
}

/// What a whole batch adds.
#[derive(Default)]
pub(crate) struct Effects {
    counters: BTreeMap<(SubscriptionId, Timestamp), Sum>,
    verdicts: BTreeMap<SubscriptionId, Verdicts>,
    exhausted: Vec<OperationalEvent>,
}

impl Effects {
    pub(crate) fn add(&mut self, effect: Option<Effect>) {
        let Some(effect) = effect else { return };
        if let Some((subscription, verdict)) = effect.verdict {
            self.add_verdict(subscription, verdict, (effect.speed, effect.is_operational));
        }
        self.exhausted.extend(effect.exhausted);
        // An attempt that changed no counter still moves the time of the last one.
        let key = (effect.subscription_id, effect.created_at.hour());
        let sum = self.counters.entry(key).or_default();
        sum.counts.add(effect.counts);
        sum.recounts |= effect.recounts;
        sum.last_attempt_at = sum.last_attempt_at.max(Some(effect.now));
        sum.expires_at = sum.expires_at.max(Some(effect.expires_at));
    }

    fn add_verdict(
        &mut self,
        subscription: Subscription,
        verdict: Verdict,
        (speed, is_operational): (Speed, bool),
    ) {
        let verdicts = self.verdicts.entry(subscription.id.clone()).or_insert(Verdicts {
            subscription,
            healthy: false,
            gone: false,
            failures: None,
            speed: Speed::default(),
            is_operational,
        });
        verdicts.speed.add(speed);
        verdicts.is_operational &= is_operational;
        match verdict {
            Verdict::Healthy => verdicts.healthy = true,
            Verdict::Gone => verdicts.gone = true,
            Verdict::Failing(more) => {
                let before = verdicts.failures;
                verdicts.failures = Some(before.map_or(more, |before| before.and(more)));
            }
        }
    }

    /// Writes everything concurrently, and tells what has changed then. A failed write is logged and
    /// not repeated.
    pub(crate) async fn write(self, deliver: &Deliver, batch: &Batch) {
        let counters = self.counters.into_iter().map(|((subscription_id, hour), sum)| async move {
            let now = deliver.clock.now();
            let addition = Addition {
                counts: sum.counts,
                last_attempt_at: sum.last_attempt_at.unwrap_or(hour),
                expires_at: sum.expires_at.unwrap_or(hour),
                recount_at: sum.recounts.then(|| now.plus_seconds(RECOUNT_AFTER_SECONDS)),
            };
            let statistics = deliver.statistics.as_ref();
            let counted =
                add_or_recount(statistics, &subscription_id, hour, addition, now).await;
            if let Err(error) = counted {
                tracing::warn!(%subscription_id, error = %Chain(&error), "deliveries were not counted");
            }
        });
        let hosts = HostSum::of_all(self.verdicts.values(), batch);
        let verdicts = self.verdicts.into_values().map(|verdicts| async move {
            let subscription_id = verdicts.subscription.id.clone();
            verdicts.write(deliver, batch).await.unwrap_or_else(|error| {
                tracing::warn!(%subscription_id, error = %Chain(&error), "the endpoint's health was not written");
                Vec::new()
            })
        });
        let hosts = hosts.into_iter().map(|((user_id, host), sum)| async move {
            if let Err(error) = sum.write(deliver, batch, &user_id, &host).await {
                tracing::warn!(%user_id, error = %Chain(&error), "the health of a host was not written");
            }
        });
        let (_, told, _) = join3(join_all(counters), join_all(verdicts), join_all(hosts)).await;
        deliver.tell(told.into_iter().flatten().chain(self.exhausted).collect()).await;
    }
}

/// What a batch says of one owner's webhooks at one host.
#[derive(Default)]
struct HostSum {
    healthy: bool,
    failing: BTreeSet<SubscriptionId>,
    failures: Option<Failures>,
}

impl HostSum {
    fn of_all<'a>(
        all: impl Iterator<Item = &'a Verdicts>,
        batch: &Batch,
    ) -> BTreeMap<(UserId, HostId), Self> {
        let mut sums = BTreeMap::<_, Self>::new();
        for verdicts in all {
            let Subscription { user_id, id, url, .. } = &verdicts.subscription;
            let sum = sums.entry((user_id.clone(), batch.host(url))).or_default();
            sum.healthy |= verdicts.healthy;
            if let Some(failures) = verdicts.failures.filter(|_| !verdicts.healthy) {
                sum.failing.insert(id.clone());
                sum.failures = Some(sum.failures.map_or(failures, |before| before.and(failures)));
            }
        }
        sums
    }

    /// Writes failures, and a success if the host is known to have failed before. A success outweighs
    /// the failures beside it.
    async fn write(
        self,
        deliver: &Deliver,
        batch: &Batch,
        user_id: &UserId,
        host: &HostId,
    ) -> Result<(), StoreError> {
        let store = &deliver.subscriptions;
        let mut before = batch.known_host(user_id, host).unwrap_or_default();
        for _ in 0..TRIES {
            let now = deliver.clock.now();
            let after = match self.failures {
                _ if self.healthy => before.record_success(),
                Some(failures) => Some(before.record_failures(&self.failing, failures, now)),
                None => None,
            };
            let Some(after) = after else { return Ok(()) };
            match store.set_host_health(user_id, host, &after).await? {
                HostWrite::Applied => {
                    if before.health.open_until.is_none() && after.health.open_until.is_some() {
                        tracing::warn!(%user_id, webhooks = after.failing.len(), "the circuit breaker of a host opens");
                    }
                    return Ok(());
                }
                HostWrite::Conflict(current) => before = current,
            }
            if !self.healthy && before.health.open_until.is_some() {
                return Ok(());
            }
        }
        Ok(())
    }
}

impl Verdicts {
    /// Writes the new health in place of the one that was read, and returns what there is to tell of
    /// that. On a conflict a failure is counted on top of those that others have written, unless they
    /// have opened the breaker.
    async fn write(
        self,
        deliver: &Deliver,
        batch: &Batch,
    ) -> Result<Vec<OperationalEvent>, StoreError> {
        if self.gone {
            self.disable(deliver, DisabledReason::EndpointGone).await?;
            return Ok(Vec::new());
        }
        let Subscription { user_id, id, health, url, .. } = &self.subscription;
        let store = &deliver.subscriptions;
        let mut before = batch.mark_of(id).unwrap_or(*health);
        let mut is_told = false;
        for _ in 0..TRIES {
            let now = deliver.clock.now();
            let after = self.after(before, now);
            if after.should_disable(now) {
                self.disable(deliver, DisabledReason::EndpointFailing).await?;
                return Ok(Vec::new());
            }
            if after == before {
                return Ok(Vec::new());
            }
            let recovery = self.store_recovery(deliver, (&before, &after), now).await?;
            let recovered = OperationalEvent::recovered(&self.subscription, (&before, &after), now);
            if let Some(event) = recovered.filter(|_| !is_told) {
                is_told = deliver.tell(vec![self.unless_loop(event)]).await;
            }
            match store.set_health(user_id, id, &before, &after).await? {
                SubscriptionWrite::Applied => {
                    log(id, &before, &after);
                    if let Some(recovery) = recovery {
                        deliver.begin_recovery(&recovery).await;
                    }
                    let told =
                        OperationalEvent::of_health(&self.subscription, &before, &after, now);
                    return Ok(told.into_iter().map(|event| self.unless_loop(event)).collect());
                }
                // What the attempt says is about the old URL.
                SubscriptionWrite::Conflict(current) if current.url != *url => break,
                SubscriptionWrite::Conflict(current) => before = current.health,
                SubscriptionWrite::Missing => break,
            }
            if !self.healthy && before.open_until.is_some() {
                break;
            }
        }
        Ok(Vec::new())
    }

    /// Stores the recovery of an outage that ends, if the owner wants one. It is stored before the
    /// breaker closes: after a crash between both the breaker is still open, and the next success finds
    /// the recovery. A recovery that has no message yet gets one from the retry function.
    async fn store_recovery(
        &self,
        deliver: &Deliver,
        (before, after): (&Health, &Health),
        now: Timestamp,
    ) -> Result<Option<Recovery>, StoreError> {
        let webhook = &self.subscription;
        let is_back = before.open_until.is_some() && after.open_until.is_none();
        if !webhook.auto_recover || !is_back {
            return Ok(None);
        }
        let known = deliver.recoveries.recoveries(&webhook.id, RECOVERIES_LISTED_MAX).await?;
        let id = recovery::next_id(&known, now, deliver.random.bytes());
        let Some(recovery) = Recovery::of_outage(id, webhook, before, deliver.retention) else {
            return Ok(None);
        };
        if let Some(same) = known.iter().find(|known| known.outage() == recovery.outage()) {
            return Ok(Some(same.clone()));
        }
        let running = known.iter().filter(|known| known.is_running() && known.is_automatic);
        if running.count() >= RECOVERIES_RUNNING_MAX {
            tracing::warn!(subscription_id = %webhook.id, "an outage is not recovered: too many are running");
            return Ok(None);
        }
        let written = deliver.recoveries.create_recovery(&recovery).await?;
        Ok((written == Written::Applied).then_some(recovery))
    }

    /// Attempts of operational events alone tell the operator, and no webhook that might tell them
    /// about itself in turn. Every webhook may be told of what ends, which needs its owner to begin again.
    fn unless_loop(&self, event: OperationalEvent) -> OperationalEvent {
        let ends = event.event.event_type.name() == "webhook.disabling_soon";
        if self.is_operational && !ends {
            return OperationalEvent { audience: Audience::Operator, ..event };
        }
        event
    }

    /// A success outweighs the failures beside it.
    fn after(&self, before: Health, now: Timestamp) -> Health {
        let health = match self.failures {
            Some(failures) if !self.healthy => before.record_failures(failures, now),
            _ => before.record_success(),
        };
        self.speed.after(health, now)
    }

    /// Makes the subscription inactive, unless its user changed the URL meanwhile, or its endpoint, which is
    /// disabled because it fails, has succeeded. `webhook.disabled` is sent first. If the queue does not take
    /// it, the webhook stays active until the next attempt that fails.
    async fn disable(self, deliver: &Deliver, reason: DisabledReason) -> Result<(), StoreError> {
        let Subscription { user_id, id, url, .. } = &self.subscription;
        let found = deliver.subscriptions.get(user_id, id, Consistency::Strong).await?;
        let Some(mut subscription) = found else { return Ok(()) };
        let mut is_told = false;
        for _ in 0..TRIES {
            if !subscription.is_active || subscription.url != *url {
                break;
            }
            let version = subscription.version;
            let now = deliver.clock.now();
            let mut health = subscription.health;
            if reason == DisabledReason::EndpointFailing {
                health = self.after(health, now);
                if !health.should_disable(now) {
                    break;
                }
            }
            subscription.disable(reason, now);
            if !is_told {
                let event = OperationalEvent::disabled(&subscription, reason, &health, now);
                is_told = deliver.tell(vec![event]).await;
                if !is_told {
                    tracing::error!(subscription_id = %id, "the webhook is not disabled, because its owner could not be told");
                    break;
                }
            }
            match deliver.subscriptions.update(&subscription, version).await? {
                SubscriptionWrite::Applied => {
                    tracing::warn!(
                        metric.webhooks_disabled = 1,
                        operational_event = "webhook.disabled",
                        subscription_id = %id,
                        reason = reason.as_str(),
                        "webhook disabled"
                    );
                    break;
                }
                SubscriptionWrite::Conflict(current) => subscription = *current,
                SubscriptionWrite::Missing => break,
            }
        }
        Ok(())
    }
}

fn log(subscription_id: &SubscriptionId, before: &Health, after: &Health) {
    match (before.open_until, after.open_until) {
        (None, Some(until)) => tracing::warn!(
            metric.breakers_opened = 1,
            operational_event = "breaker.opened",
            %subscription_id,
            %until,
            failures = after.consecutive_failures,
            "the circuit breaker opens"
        ),
        (Some(_), None) => tracing::info!(
            metric.breakers_closed = 1,
            operational_event = "breaker.closed",
            %subscription_id,
            "the circuit breaker closes"
        ),
        _ => {}
    }
}
