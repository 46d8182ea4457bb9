//! The ports as one invocation sees them: memory ports with faults before them and the checker beside them.
//!
//! Every request is a step: it takes time, in which others continue; it may fail before it is carried
//! out, be carried out twice, or lose its response; and the invocation may die before and after it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt as _;
use webhooks_core::breaker::{Health, OPEN_AFTER_FAILURES};
use webhooks_core::delivery::{Delivery, DeliveryTask, Status, Trigger};
use webhooks_core::host_health::{HostHealth, HostId};
use webhooks_core::ids::{DeliveryId, RecoveryId, SubscriptionId, UserId};
use webhooks_core::latency::Histogram;
use webhooks_core::maybe_known::MaybeKnown;
use webhooks_core::outbound::{Failure, HttpResult, OutboundRequest, Outcome};
use webhooks_core::ports::{
    CleanupState, Consistency, Creation, DeadLetterQueue, Deliveries, DeliveryFilter,
    DeliveryWrite, Due, DueIndex, Expect, HostWrite, Lease, ListedSubscription, Outgoing, Page,
    QueueError, Recoveries, RejectedEvent, RowKey, Sender, Statistics, StoreError, SubscriptionKey,
    SubscriptionWrite, Subscriptions, TaskQueue, Timer, UserSubscriptions, Version, Written,
};
use webhooks_core::rate_limit::{SlotUpdate, Update};
use webhooks_core::recovery::{Outcomes, Recovery};
use webhooks_core::schedule::RetrySchedule;
use webhooks_core::statistics::{Addition, Counts, HourCounts};
use webhooks_core::subscription::{DisabledReason, Subscription, WhileInactive};
use webhooks_core::time::Timestamp;

use crate::executor::lock;
use crate::harness::Moment::After;
use crate::harness::{Fate, Function, Harness, Invocation, Unavailable};
use crate::milestones::Milestone;
use crate::model::{Posted, Put};
use crate::mutations::Mutation;
use crate::queue::Queue;

/// The ports of one invocation.
#[derive(Clone)]
pub(crate) struct Ports {
    pub(crate) harness: Arc<Harness>,
    pub(crate) invocation: Arc<Invocation>,
    /// The folder of the function that makes the calls.
    pub(crate) folder: &'static str,
    /// Whether its deliveries queue is the slow one.
    is_slow: bool,
}

/// The header that says which attempt it is.
const ATTEMPT_HEADER: &str = "x-webhook-attempt";

/// The memory ports never wait.
fn ready<T>(response: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    response
        .now_or_never()
        .unwrap_or_else(|| Err(StoreError::Rejected("a memory port waited".into())))
}

impl Ports {
    pub(crate) fn new(
        harness: &Arc<Harness>,
        invocation: &Arc<Invocation>,
        folder: &'static str,
    ) -> Arc<Self> {
        let (harness, invocation) = (Arc::clone(harness), Arc::clone(invocation));
        Arc::new(Self { harness, invocation, folder, is_slow: false })
    }

    /// The same with the slow deliveries queue.
    pub(crate) fn slow_queue(&self) -> Arc<Self> {
        let dispatches = self.invocation.function == Function::Dispatch;
        let is_slow = !(dispatches && self.is(Mutation::DispatchFast));
        Arc::new(Self { is_slow, ..self.clone() })
    }

    fn tasks(&self) -> &std::sync::Mutex<Queue> {
        if self.is_slow { &self.harness.slow_tasks } else { &self.harness.tasks }
    }

    /// Notes the call of a port, and has the harness decide what happens to it.
    async fn enter(&self, what: &'static str) -> Result<Fate, Unavailable> {
        self.harness.called(self.folder, what);
        self.harness.enter(&self.invocation, what).await
    }

    fn is(&self, mutation: Mutation) -> bool {
        self.harness.is(mutation)
    }

    /// One request: `effect` is what it does to the table.
    async fn request<T>(
        &self,
        what: &'static str,
        mut effect: impl FnMut() -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let fate = self.enter(what).await?;
        let mut response = effect();
        if fate.repeated {
            response = effect();
        }
        self.harness.leave(&self.invocation, what, fate).await?;
        response
    }

    /// One request that the client library never repeats by itself.
    async fn once<T>(
        &self,
        what: &'static str,
        effect: impl FnOnce() -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let fate = self.enter(what).await?;
        let response = effect();
        self.harness.leave(&self.invocation, what, fate).await?;
        response
    }

    /// The moment that an eventually consistent read sees: now, or up to a second ago.
    fn seen_moment(&self) -> Timestamp {
        let now = self.harness.now();
        if self.harness.random.chance(self.harness.faults().stale) {
            let millis = self.harness.random.below(crate::model::LAG_MS);
            return now.minus(Duration::from_millis(millis));
        }
        now
    }

    fn delivers(&self) -> bool {
        self.invocation.function == Function::Deliver
    }

    /// What a mutation makes of a subscription that was found.
    fn mutated_subscription(
        &self,
        user: &UserId,
        id: &SubscriptionId,
        mut found: Option<Subscription>,
    ) -> Option<Subscription> {
        let Some(mutation) = self.harness.options.mutation else { return found };
        let anywhere = || self.harness.subscriptions.snapshot().into_iter().find(|s| s.id == *id);
        if mutation == Mutation::ShowStrangers && self.invocation.function == Function::Api {
            return anywhere();
        }
        if !self.delivers() {
            return found;
        }
        if mutation == Mutation::ForgetOwner {
            return anywhere();
        }
        if mutation == Mutation::ReadDeleted {
            found = found.or_else(|| lock(&self.harness.model).last_subscription(user, id));
        }
        let mut found = found?;
        match mutation {
            Mutation::ReadPaused => found.is_active = true,
            Mutation::EndHeld => found.while_inactive = WhileInactive::Drop,
            Mutation::HoldAlways => found.while_inactive = WhileInactive::Hold,
            Mutation::ForgetBreaker => found.health.open_until = None,
            Mutation::IgnoreSlow => found.health.slow_until = None,
            Mutation::OneRetryMore => {
                if let RetrySchedule::Exponential { retry_count } = &mut found.retry_schedule {
                    *retry_count += 1;
                }
            }
            Mutation::DoubleTimeout => found.timeout_seconds *= 2,
            Mutation::IgnoreRateLimit => found.rate_limit = None,
            Mutation::NoOverlap => found.secrets.previous.clear(),
            Mutation::OldUrl => {
                if let Some(url) = lock(&self.harness.model).first_url(id) {
                    found.url = url;
                }
            }
            _ => {}
        }
        Some(found)
    }

    /// What a mutation makes of a POST.
    fn mutate_request(&self, request: &mut OutboundRequest) {
        let random = &self.harness.random;
        let again = request.headers.iter().any(|(name, n)| *name == ATTEMPT_HEADER && n != "1");
        let mut change = |header: &str, change: &dyn Fn(&mut String)| {
            let mut headers = request.headers.iter_mut();
            if let Some((_, value)) = headers.find(|(name, _)| *name == header) {
                change(value);
            }
        };
        match self.harness.options.mutation {
            Some(Mutation::NewIdPerAttempt) if again => change("webhook-id", &|id| {
                id.pop();
                id.push_str(&random.below(10).to_string());
            }),
            Some(Mutation::SignSomethingElse) => request.body.insert(1, ' '),
            Some(Mutation::ChangeData) => request.body = request.body.replace("\"n\":", "\"m\":"),
            _ => {}
        }
    }

    /// What a mutation makes of a receiver's response.
    fn mutate_response(&self, response: &mut HttpResult) {
        match (self.harness.options.mutation, &mut response.outcome) {
            (Some(Mutation::ForgetRetryAfter), Outcome::Response { retry_after, .. }) => {
                *retry_after = None;
            }
            (Some(Mutation::TrustRedirects), Outcome::Response { status, .. })
                if *status == 302 =>
            {
                *status = 200;
            }
            (Some(Mutation::RetryBlocked), Outcome::NoResponse { failure, .. })
                if *failure == Failure::Blocked =>
            {
                *failure = Failure::Connect;
            }
            _ => {}
        }
    }

    /// Tells the checker how a subscription stands now.
    fn note_subscription(&self, user: &UserId, id: &SubscriptionId) -> Result<(), StoreError> {
        let read = self.harness.subscriptions.get(user, id, Consistency::Strong);
        let now = ready(read)?;
        self.harness.note(&self.invocation, || match &now {
            Some(s) => format!(
                "subscription {id}: active={} reason={:?} health={:?}",
                s.is_active, s.disabled_reason, s.health
            ),
            None => format!("subscription {id}: deleted"),
        });
        let (moment, by) = (self.harness.now(), (self.invocation.number, self.invocation.function));
        lock(&self.harness.model).subscription_stands(moment, by, (user, id), now);
        Ok(())
    }

    fn put_now(&self, delivery: &Delivery, expect: Expect) -> Result<DeliveryWrite, StoreError> {
        let (store, now) = (&self.harness.deliveries, self.harness.now());
        let key = (&delivery.subscription_id, &delivery.id);
        let before = ready(store.get(key.0, key.1, Consistency::Strong))?;
        let mut delivery = delivery.clone();
        if self.is(Mutation::ForgetDueRow) {
            delivery.due_at = None;
        }
        let attempts = before.as_ref().map_or(0, Delivery::attempt_count);
        let is_parked = delivery.status == Status::Retrying && !delivery.has_slot;
        if self.is(Mutation::ParkLong) && is_parked && delivery.attempt_count() == attempts {
            let later = |at: Timestamp| at.plus(Duration::from_hours(24));
            delivery.next_retry_at = delivery.next_retry_at.map(later);
            delivery.due_at = delivery.due_at.map(later);
        }
        if self.is(Mutation::DropWrite) && delivery.status == Status::Retrying {
            return Ok(DeliveryWrite::Applied);
        }
        if self.is(Mutation::ForgetAttempts) && delivery.attempts.len() > 2 {
            delivery.attempts.drain(..delivery.attempts.len() - 1);
        }
        let requested = expect;
        let mut expect = expect;
        if let (true, Expect::Free { version, .. }) = (self.is(Mutation::BreakLease), expect) {
            expect = Expect::Unchanged(version);
        }
        let written = ready(store.put(&delivery, expect))?;
        self.harness.note(&self.invocation, || {
            format!(
                "put {}: {} attempts={} next={:?} -> {written:?}",
                delivery.id,
                delivery.status,
                delivery.attempt_count(),
                delivery.next_retry_at.map(|at| at.to_string()),
            )
        });
        let put = match written {
            DeliveryWrite::Applied => Put::Written,
            DeliveryWrite::Refused(_) => Put::Conflict,
        };
        let after = (&delivery, requested);
        lock(&self.harness.model).put(now, self.invocation.number, before.as_ref(), after, put);
        Ok(written)
    }
}

#[async_trait]
impl Subscriptions for Ports {
    async fn create(&self, subscription: &Subscription) -> Result<Creation, StoreError> {
        self.once("subscriptions.create", || {
            let created = ready(self.harness.subscriptions.create(subscription))?;
            self.note_subscription(&subscription.user_id, &subscription.id)?;
            Ok(created)
        })
        .await
    }

    async fn get(
        &self,
        user_id: &UserId,
        id: &SubscriptionId,
        consistency: Consistency,
    ) -> Result<Option<Subscription>, StoreError> {
        self.request("subscriptions.get", || {
            let found = match consistency {
                Consistency::Strong => {
                    ready(self.harness.subscriptions.get(user_id, id, consistency))?
                }
                Consistency::Eventual => {
                    let moment = self.seen_moment();
                    lock(&self.harness.model).subscription_at(user_id, id, moment)
                }
            };
            Ok(self.mutated_subscription(user_id, id, found))
        })
        .await
    }

    async fn get_several(
        &self,
        names: &[(&UserId, &SubscriptionId)],
    ) -> Result<Vec<Subscription>, StoreError> {
        self.request("subscriptions.get_several", || {
            let moment = self.seen_moment();
            let found = names.iter().filter_map(|(user_id, id)| {
                let found = lock(&self.harness.model).subscription_at(user_id, id, moment);
                self.mutated_subscription(user_id, id, found)
            });
            Ok(found.collect())
        })
        .await
    }

    async fn page(
        &self,
        user_id: &UserId,
        limit: usize,
        before: Option<&SubscriptionId>,
    ) -> Result<Page<ListedSubscription, SubscriptionId>, StoreError> {
        self.request("subscriptions.page", || {
            ready(self.harness.subscriptions.page(user_id, limit, before))
        })
        .await
    }

    async fn list_by_user(&self, user_id: &UserId) -> Result<UserSubscriptions, StoreError> {
        self.request("subscriptions.list_by_user", || {
            let list = |all: Vec<Subscription>| UserSubscriptions {
                is_blocked: false,
                items: all.into_iter().map(Ok).collect(),
            };
            if self.is(Mutation::ForgetTold) && self.delivers() {
                return Ok(list(Vec::new()));
            }
            if self.is(Mutation::ForgetOwner) {
                return Ok(list(self.harness.subscriptions.snapshot()));
            }
            if self.is(Mutation::StaleDispatch) {
                let moment = self.harness.now().minus(Duration::from_secs(1));
                return Ok(list(lock(&self.harness.model).subscriptions_at(user_id, moment)));
            }
            let mut all = ready(self.harness.subscriptions.list_by_user(user_id))?;
            if self.is(Mutation::DropHeld) {
                all.items.retain(|listed| !listed.as_ref().is_ok_and(Subscription::is_holding));
            }
            if self.is(Mutation::DropDisabled) {
                all.items.retain(|listed| listed.as_ref().is_ok_and(|listed| listed.is_active));
            }
            Ok(all)
        })
        .await
    }

    async fn update(
        &self,
        subscription: &Subscription,
        expected_version: u64,
    ) -> Result<SubscriptionWrite, StoreError> {
        self.request("subscriptions.update", || {
            let reason = subscription.disabled_reason.as_ref().and_then(MaybeKnown::known);
            let drops = match reason.filter(|_| self.delivers()) {
                Some(DisabledReason::EndpointGone) => self.is(Mutation::KeepGone),
                Some(DisabledReason::EndpointFailing) => self.is(Mutation::KeepFailing),
                Some(DisabledReason::EndpointUnverified | DisabledReason::UserBlocked) | None => {
                    self.is(Mutation::DropChange)
                }
            };
            if drops {
                return Ok(SubscriptionWrite::Applied);
            }
            let store = &self.harness.subscriptions;
            let mut subscription = subscription.clone();
            if self.is(Mutation::UndoHealth) && self.invocation.function == Function::Api {
                subscription.health.consecutive_failures += 1;
            }
            if self.is(Mutation::ResetHealth) && self.invocation.function == Function::Api {
                subscription.health = Health::default();
            }
            let written = ready(store.update(&subscription, expected_version))?;
            self.note_subscription(&subscription.user_id, &subscription.id)?;
            Ok(written)
        })
        .await
    }

    async fn set_health(
        &self,
        user_id: &UserId,
        id: &SubscriptionId,
        expected: &Health,
        health: &Health,
    ) -> Result<SubscriptionWrite, StoreError> {
        self.request("subscriptions.set_health", || {
            if self.is(Mutation::ForgetHealth) && self.delivers() {
                return Ok(SubscriptionWrite::Applied);
            }
            let store = &self.harness.subscriptions;
            let opens = expected.open_until.is_none() && health.open_until.is_some();
            let early = opens && health.consecutive_failures < OPEN_AFTER_FAILURES;
            let open_until = health.open_until.filter(|_| !(early && self.is(Mutation::OpenLate)));
            let forgets = self.is(Mutation::ForgetSlow);
            let slow_until = if forgets { expected.slow_until } else { health.slow_until };
            let health = &Health { open_until, slow_until, ..*health };
            let written = ready(store.set_health(user_id, id, expected, health))?;
            self.note_subscription(user_id, id)?;
            let claims = expected.open_until.is_some() && health.open_until.is_some();
            if self.is(Mutation::SkipProbeClaim) && claims {
                return Ok(SubscriptionWrite::Applied);
            }
            Ok(written)
        })
        .await
    }

    async fn host_health(&self, user_id: &UserId, host: &HostId) -> Result<HostHealth, StoreError> {
        self.request("subscriptions.host_health", || {
            let moment = self.seen_moment();
            Ok(lock(&self.harness.model).host_at((user_id, host), moment))
        })
        .await
    }

    async fn set_host_health(
        &self,
        user_id: &UserId,
        host: &HostId,
        health: &HostHealth,
    ) -> Result<HostWrite, StoreError> {
        self.request("subscriptions.set_host_health", || {
            if self.is(Mutation::ForgetHost) {
                return Ok(HostWrite::Applied);
            }
            let set = self.harness.subscriptions.set_host_health(user_id, host, health);
            let written = ready(set)?;
            if written == HostWrite::Applied {
                let now = self.harness.now();
                lock(&self.harness.model).host_stands(now, (user_id, host), health.clone());
            }
            Ok(written)
        })
        .await
    }

    async fn delete_unused_hosts(&self, user_id: &UserId) -> Result<(), StoreError> {
        self.request("subscriptions.delete_unused_hosts", || {
            ready(self.harness.subscriptions.delete_unused_hosts(user_id))?;
            let has_webhooks =
                self.harness.subscriptions.snapshot().iter().any(|s| s.user_id == *user_id);
            if !has_webhooks {
                let now = self.harness.now();
                lock(&self.harness.model).hosts_are_deleted(now, user_id);
            }
            Ok(())
        })
        .await
    }

    async fn delete(&self, user_id: &UserId, id: &SubscriptionId) -> Result<bool, StoreError> {
        self.request("subscriptions.delete", || {
            let deleted = ready(self.harness.subscriptions.delete(user_id, id))?;
            if self.is(Mutation::ForgetTombstone) {
                ready(self.harness.subscriptions.delete_tombstone(user_id, id))?;
            }
            self.note_subscription(user_id, id)?;
            Ok(deleted)
        })
        .await
    }

    async fn scan_keys(
        &self,
        limit: usize,
        after: Option<&SubscriptionKey>,
    ) -> Result<Page<SubscriptionKey, SubscriptionKey>, StoreError> {
        self.request("subscriptions.scan_keys", || {
            ready(self.harness.subscriptions.scan_keys(limit, after))
        })
        .await
    }

    async fn delete_tombstone(
        &self,
        user_id: &UserId,
        id: &SubscriptionId,
    ) -> Result<(), StoreError> {
        self.request("subscriptions.delete_tombstone", || {
            ready(self.harness.subscriptions.delete_tombstone(user_id, id))
        })
        .await
    }

    async fn count_redelivery(
        &self,
        user_id: &UserId,
        now: Timestamp,
    ) -> Result<Written, StoreError> {
        self.request("subscriptions.count_redelivery", || {
            ready(self.harness.subscriptions.count_redelivery(user_id, now))
        })
        .await
    }

    async fn is_user_blocked(&self, user_id: &UserId) -> Result<bool, StoreError> {
        self.request("subscriptions.is_user_blocked", || {
            ready(self.harness.subscriptions.is_user_blocked(user_id))
        })
        .await
    }

    async fn blocked_hosts(&self) -> Result<Vec<String>, StoreError> {
        self.request("subscriptions.blocked_hosts", || {
            ready(self.harness.subscriptions.blocked_hosts())
        })
        .await
    }
}

#[async_trait]
impl Deliveries for Ports {
    async fn get(
        &self,
        subscription_id: &SubscriptionId,
        id: &DeliveryId,
        consistency: Consistency,
    ) -> Result<Option<Delivery>, StoreError> {
        self.request("deliveries.get", || {
            let mut found = match consistency {
                Consistency::Strong => {
                    ready(self.harness.deliveries.get(subscription_id, id, consistency))?
                }
                Consistency::Eventual => {
                    let moment = self.seen_moment();
                    lock(&self.harness.model).delivery_at(id, moment)
                }
            };
            if let Some(found) = found.as_mut().filter(|_| self.delivers()) {
                if self.is(Mutation::NewBodyPerAttempt) {
                    found.event_time = self.harness.now();
                }
                if self.is(Mutation::RetryImmediately) && found.next_retry_at.is_some() {
                    found.next_retry_at = Some(self.harness.now());
                }
            }
            Ok(found)
        })
        .await
    }

    async fn without_record(
        &self,
        deliveries: &[(&SubscriptionId, &DeliveryId)],
    ) -> Result<BTreeSet<DeliveryId>, StoreError> {
        self.request("deliveries.without_record", || {
            let moment = self.seen_moment();
            let model = lock(&self.harness.model);
            let absent = deliveries.iter().map(|(_, id)| *id);
            Ok(absent.filter(|id| model.delivery_at(id, moment).is_none()).cloned().collect())
        })
        .await
    }

    async fn put(&self, delivery: &Delivery, expect: Expect) -> Result<DeliveryWrite, StoreError> {
        const WHAT: &str = "deliveries.put";
        let (harness, number) = (&self.harness, self.invocation.number);
        let fate = match self.enter(WHAT).await {
            Ok(fate) => fate,
            Err(error) => {
                lock(&harness.model).put(
                    harness.now(),
                    number,
                    None,
                    (delivery, expect),
                    Put::Failed,
                );
                return Err(error.into());
            }
        };
        let mut written = self.put_now(delivery, expect)?;
        // A test has an id of its own, so that it need not ask whether its write was refused.
        let refused = fate.repeated && self.invocation.function != Function::Test;
        if written.is_applied() && (refused || fate.lost) {
            lock(&harness.model).response_lost(number, delivery);
        }
        if fate.repeated {
            written = self.put_now(delivery, expect)?;
        }
        harness.leave(&self.invocation, WHAT, fate).await?;
        Ok(written)
    }

    async fn update_next_slot(
        &self,
        subscription_id: &SubscriptionId,
        update: Update,
        now: Timestamp,
    ) -> Result<SlotUpdate, StoreError> {
        self.request("deliveries.update_next_slot", || {
            ready(self.harness.deliveries.update_next_slot(subscription_id, update, now))
        })
        .await
    }

    async fn lease(
        &self,
        subscription_id: &SubscriptionId,
        id: &DeliveryId,
        version: Version,
        lease: &Lease,
    ) -> Result<DeliveryWrite, StoreError> {
        self.request("deliveries.lease", || {
            if self.is(Mutation::SkipLease) {
                return Ok(DeliveryWrite::Applied);
            }
            let taken = ready(self.harness.deliveries.lease(subscription_id, id, version, lease));
            let mut model = lock(&self.harness.model);
            match taken {
                Ok(DeliveryWrite::Applied) => model.leased(id, lease.until),
                _ => model.reach(Milestone::LeaseRefused),
            }
            taken
        })
        .await
    }

    async fn page(
        &self,
        subscription_id: &SubscriptionId,
        filter: &DeliveryFilter,
        limit: usize,
        before: Option<&DeliveryId>,
        now: Timestamp,
    ) -> Result<Page<Delivery, DeliveryId>, StoreError> {
        self.request("deliveries.page", || {
            let mut page =
                ready(self.harness.deliveries.page(subscription_id, filter, limit, before, now))?;
            if self.is(Mutation::HideHistory) {
                page.items.pop();
            }
            Ok(page)
        })
        .await
    }
}

#[async_trait]
impl DueIndex for Ports {
    async fn due(
        &self,
        shard: u8,
        until: Timestamp,
        limit: usize,
        after: Option<&Due>,
    ) -> Result<Page<Due, Due>, StoreError> {
        self.request("deliveries.due", || {
            ready(self.harness.deliveries.due(shard, until, limit, after))
        })
        .await
    }

    async fn postpone(&self, due: &Due, due_at: Timestamp) -> Result<Written, StoreError> {
        self.request("deliveries.postpone", || {
            let written = ready(self.harness.deliveries.postpone(due, due_at))?;
            if written == Written::Applied
                && let Some(id) = due.row.delivery_id()
            {
                lock(&self.harness.model).postponed(self.invocation.number, id, due_at);
            }
            Ok(written)
        })
        .await
    }
}

#[async_trait]
impl Statistics for Ports {
    async fn count(
        &self,
        subscription_id: &SubscriptionId,
        hour: Timestamp,
        addition: &Addition,
    ) -> Result<(), StoreError> {
        const WHAT: &str = "deliveries.count";
        let (harness, number) = (&self.harness, self.invocation.number);
        // The model does not predict how long receivers take.
        let counts = Counts { latency: Histogram::default(), ..addition.counts };
        let fate = match self.enter(WHAT).await {
            Ok(fate) => fate,
            Err(error) => {
                let mut model = lock(&harness.model);
                model.not_counted(number, subscription_id, counts);
                if addition.recount_at.is_some() {
                    model.not_recounted(subscription_id);
                }
                return Err(error.into());
            }
        };
        let recount_at = addition.recount_at.filter(|_| !self.is(Mutation::ForgetRecount));
        let addition = Addition { recount_at, ..addition.clone() };
        let times = if self.is(Mutation::CountTwice) { 2 } else { 1 };
        if self.is(Mutation::ForgetCount) {
            return Ok(());
        }
        for _ in 0..times {
            ready(self.harness.deliveries.count(subscription_id, hour, &addition))?;
        }
        lock(&harness.model).counted(number, subscription_id, counts);
        harness.leave(&self.invocation, WHAT, fate).await?;
        Ok(())
    }

    async fn counters(
        &self,
        subscription_id: &SubscriptionId,
        since: Timestamp,
    ) -> Result<Vec<HourCounts>, StoreError> {
        self.request("deliveries.counters", || {
            ready(self.harness.deliveries.counters(subscription_id, since))
        })
        .await
    }

    async fn hour(
        &self,
        subscription_id: &SubscriptionId,
        hour: Timestamp,
    ) -> Result<Option<HourCounts>, StoreError> {
        self.request("deliveries.hour", || {
            ready(self.harness.deliveries.hour(subscription_id, hour))
        })
        .await
    }

    async fn replace(
        &self,
        subscription_id: &SubscriptionId,
        before: &HourCounts,
        counts: &Counts,
    ) -> Result<Written, StoreError> {
        self.request("deliveries.replace", || {
            ready(self.harness.deliveries.replace(subscription_id, before, counts))
        })
        .await
    }
}

#[async_trait]
impl Recoveries for Ports {
    async fn create_recovery(&self, recovery: &Recovery) -> Result<Written, StoreError> {
        let mut recovery = recovery.clone();
        if self.is(Mutation::ForgetRecovery) {
            recovery.due_at = None;
        }
        if self.is(Mutation::ForgetHeld) && recovery.selection.is_of_held() {
            return Ok(Written::Applied);
        }
        let is_of_outage = recovery.is_automatic && !recovery.selection.is_of_held();
        if self.is(Mutation::ForgetOutage) && is_of_outage {
            return Ok(Written::Applied);
        }
        self.request("recoveries.create_recovery", || {
            let written = ready(self.harness.deliveries.create_recovery(&recovery))?;
            if is_of_outage && written == Written::Applied {
                let mut model = lock(&self.harness.model);
                *model.recoveries.entry(recovery.subscription_id.clone()).or_default() += 1;
            }
            Ok(written)
        })
        .await
    }

    async fn started_recoveries(
        &self,
        subscription_id: &SubscriptionId,
    ) -> Result<u64, StoreError> {
        self.request("recoveries.started_recoveries", || {
            ready(self.harness.deliveries.started_recoveries(subscription_id))
        })
        .await
    }

    async fn start_recovery(
        &self,
        recovery: &Recovery,
        started: u64,
    ) -> Result<Written, StoreError> {
        let mut recovery = recovery.clone();
        if self.is(Mutation::ForgetRecovery) {
            recovery.due_at = None;
        }
        self.request("recoveries.start_recovery", || {
            ready(self.harness.deliveries.start_recovery(&recovery, started))
        })
        .await
    }

    async fn recovery(
        &self,
        subscription_id: &SubscriptionId,
        id: &RecoveryId,
    ) -> Result<Option<Recovery>, StoreError> {
        self.request("recoveries.recovery", || {
            ready(self.harness.deliveries.recovery(subscription_id, id))
        })
        .await
    }

    async fn recoveries(
        &self,
        subscription_id: &SubscriptionId,
        limit: usize,
    ) -> Result<Vec<Recovery>, StoreError> {
        self.request("recoveries.recoveries", || {
            ready(self.harness.deliveries.recoveries(subscription_id, limit))
        })
        .await
    }

    async fn put_recovery(
        &self,
        recovery: &Recovery,
        expected_page: u32,
    ) -> Result<Written, StoreError> {
        self.request("recoveries.put_recovery", || {
            ready(self.harness.deliveries.put_recovery(recovery, expected_page))
        })
        .await
    }

    async fn oldest(
        &self,
        subscription_id: &SubscriptionId,
        filter: &DeliveryFilter,
        limit: usize,
        after: Option<&DeliveryId>,
        now: Timestamp,
    ) -> Result<Page<Delivery, DeliveryId>, StoreError> {
        self.request("recoveries.oldest", || {
            let store = &self.harness.deliveries;
            let mut page = ready(store.oldest(subscription_id, filter, limit, after, now))?;
            if self.is(Mutation::HideRecoverable) {
                page.items.pop();
            }
            Ok(page)
        })
        .await
    }

    async fn outcomes(
        &self,
        subscription_id: &SubscriptionId,
        created_at: Timestamp,
    ) -> Result<Outcomes, StoreError> {
        self.request("recoveries.outcomes", || {
            ready(self.harness.deliveries.outcomes(subscription_id, created_at))
        })
        .await
    }
}

#[async_trait]
impl CleanupState for Ports {
    async fn expired_keys(
        &self,
        subscription_id: &SubscriptionId,
        before: Timestamp,
        limit: usize,
    ) -> Result<Vec<RowKey>, StoreError> {
        if self.is(Mutation::CleanTooMuch) {
            return self.all_keys(subscription_id, limit).await;
        }
        self.request("deliveries.expired_keys", || {
            ready(self.harness.deliveries.expired_keys(subscription_id, before, limit))
        })
        .await
    }

    async fn all_keys(
        &self,
        subscription_id: &SubscriptionId,
        limit: usize,
    ) -> Result<Vec<RowKey>, StoreError> {
        self.request("deliveries.all_keys", || {
            ready(self.harness.deliveries.all_keys(subscription_id, limit))
        })
        .await
    }

    async fn delete(
        &self,
        subscription_id: &SubscriptionId,
        keys: &[RowKey],
    ) -> Result<Vec<RowKey>, StoreError> {
        self.request("deliveries.delete", || {
            let refuse = self.harness.faults().refuse;
            let (left, gone): (Vec<RowKey>, Vec<RowKey>) =
                keys.iter().cloned().partition(|_| self.harness.random.chance(refuse));
            ready(self.harness.deliveries.delete(subscription_id, &gone))?;
            let now = self.harness.now();
            let mut model = lock(&self.harness.model);
            for key in &gone {
                model.row_deleted(now, self.invocation.number, subscription_id, key);
            }
            Ok(left)
        })
        .await
    }

    async fn position(&self) -> Result<Option<SubscriptionKey>, StoreError> {
        self.request("deliveries.position", || ready(self.harness.deliveries.position())).await
    }

    async fn set_position(&self, position: Option<&SubscriptionKey>) -> Result<(), StoreError> {
        self.request("deliveries.set_position", || {
            ready(self.harness.deliveries.set_position(position))
        })
        .await
    }
}

#[async_trait]
impl Timer for Ports {
    async fn sleep(&self, duration: Duration) {
        self.harness.sleep(duration).await;
    }
}

#[async_trait]
impl TaskQueue for Ports {
    async fn send(&self, tasks: &[Outgoing]) -> Result<Vec<usize>, QueueError> {
        let what = if self.is_slow { "slow_queue.send" } else { "queue.send" };
        let (harness, invocation) = (&self.harness, &self.invocation);
        let fate = self.enter(what).await?;
        let faults = harness.faults();
        let mut refused = Vec::new();
        for _ in 0..=u32::from(fate.repeated) {
            refused.clear();
            for (index, outgoing) in tasks.iter().enumerate() {
                if harness.random.chance(faults.refuse) {
                    refused.push(index);
                    continue;
                }
                let last = tasks.len() > 1 && index + 1 == tasks.len();
                let again = self.invocation.function == Function::Retry;
                let drops = (self.is(Mutation::LoseEntry) && last)
                    || (self.is(Mutation::DropRedelivery)
                        && self.invocation.function == Function::Api);
                if drops {
                    continue;
                }
                if again {
                    let (now, number) = (harness.now(), self.invocation.number);
                    if let Some(id) = outgoing.task.delivery_id() {
                        lock(&harness.model).sent_by_retry(now, number, id);
                    }
                }
                let mut task = outgoing.task.clone();
                if let DeliveryTask::FirstAttempt(new) = &mut task
                    && new.trigger == Trigger::Recovery
                    && self.is(Mutation::NewRecoveryIds)
                {
                    let random = harness.random.bits().to_be_bytes();
                    let random = std::array::from_fn(|at| random[at % random.len()]);
                    new.delivery_id = DeliveryId::new(new.delivery_id.moment(), random);
                }
                let (body, delay) = (task.to_json()?, outgoing.delay.as_secs());
                let (queue_faults, now) = (faults.queue(), harness.now());
                let id = lock(self.tasks()).send(body, delay, now, queue_faults, &harness.random);
                harness.note(invocation, || {
                    format!("send {id}: {:?} in {delay} s", outgoing.task.delivery_id())
                });
            }
        }
        harness.leave(invocation, what, fate).await?;
        if self.is(Mutation::IgnoreRefused) {
            refused.clear();
        }
        Ok(refused)
    }

    async fn change_visibility(&self, messages: &[(String, Duration)]) -> Result<(), QueueError> {
        let what =
            if self.is_slow { "slow_queue.change_visibility" } else { "queue.change_visibility" };
        let (harness, invocation) = (&self.harness, &self.invocation);
        let fate = self.enter(what).await?;
        let refuse = harness.faults().refuse;
        let mut failed = false;
        for (receipt, timeout) in messages {
            let seconds = if self.is(Mutation::RetryImmediately) { 0 } else { timeout.as_secs() };
            if harness.random.chance(refuse) {
                failed = true;
            } else {
                lock(self.tasks()).change_visibility(receipt, seconds, harness.now());
            }
        }
        harness.leave(invocation, what, fate).await?;
        if failed {
            return Err(QueueError::Unavailable("some timeouts were not changed".into()));
        }
        Ok(())
    }
}

#[async_trait]
impl DeadLetterQueue for Ports {
    async fn send(&self, event: &RejectedEvent) -> Result<(), QueueError> {
        const WHAT: &str = "queue.dead_letter";
        let (harness, invocation) = (&self.harness, &self.invocation);
        let fate = self.enter(WHAT).await?;
        if !self.is(Mutation::DropBadEvent) {
            harness.dead_letter_queue.send(event).await?;
            lock(&harness.model).reach(Milestone::DeadLettered);
        }
        harness.leave(invocation, WHAT, fate).await?;
        Ok(())
    }
}

#[async_trait]
impl Sender for Ports {
    async fn post(&self, mut request: OutboundRequest) -> HttpResult {
        const WHAT: &str = "sender.post";
        let (harness, invocation) = (&self.harness, &self.invocation);
        // The sender has no faults of its own: each result is a response. But the
        // caller may die before, meanwhile and after.
        if !request.wait.is_zero() {
            harness.sleep(request.wait).await;
        }
        harness.arrive(invocation, WHAT).await;
        self.mutate_request(&mut request);
        let now = harness.now();
        let url = request.url.as_str();
        let (mut response, took) = lock(&harness.receivers).respond(
            url,
            now,
            request.timeout,
            harness.plan.receiver_settings,
        );
        harness.note(invocation, || {
            let id = request.headers.iter().find(|(name, _)| *name == "webhook-id");
            format!("POST {url} {id:?}: {:?}", response.outcome)
        });
        let number = invocation.number;
        let posted = Posted { invocation: number, request: &request, response: &response, took };
        let delivery = lock(&harness.model).posted(now, &posted);
        harness.sleep(took).await;
        if let Some(delivery) = delivery {
            lock(&harness.model).responded(number, &delivery, harness.now());
        }
        harness.may_die(invocation, WHAT, After).await;
        self.mutate_response(&mut response);
        response
    }
}
