//! The ports as one invocation sees them: memory behind, faults in between, the checker beside.
//!
//! Every request is a step: it takes time, in which others go on; it may fail before it is carried
//! out, be carried out twice, or lose its answer; and the invocation may die before and after it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt as _;
use webhooks_core::breaker::{Health, OPEN_AFTER_FAILURES};
use webhooks_core::delivery::{Delivery, Status};
use webhooks_core::ids::{DeliveryId, SubscriptionId, UserId};
use webhooks_core::outbound::{Failure, HttpResult, OutboundRequest, Outcome};
use webhooks_core::ports::{
    CleanupState, Consistency, Creation, DeadLetterQueue, Deliveries, DeliveryFilter, Due,
    DueIndex, Expect, Lease, Outgoing, Page, QueueError, RejectedEvent, RowKey, Sender, Statistics,
    StoreError, SubscriptionKey, SubscriptionWrite, Subscriptions, TaskQueue, Written,
};
use webhooks_core::statistics::{Counts, HourCounts};
use webhooks_core::subscription::{DisabledReason, Subscription};
use webhooks_core::target::{TargetPolicy, TargetUrl};
use webhooks_core::time::Timestamp;

use crate::executor::lock;
use crate::milestones::Milestone;
use crate::model::{Posted, Put};
use crate::mutations::Mutation;
use crate::world::Moment::After;
use crate::world::{Function, Harness, Invocation};

/// The ports of one invocation.
#[derive(Clone)]
pub(crate) struct Ports {
    pub(crate) world: Arc<Harness>,
    pub(crate) invocation: Arc<Invocation>,
}

/// The header that says which attempt it is.
const ATTEMPT_HEADER: &str = "x-webhook-attempt";

/// The memory ports never wait.
fn at_once<T>(answer: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    answer
        .now_or_never()
        .unwrap_or_else(|| Err(StoreError::Rejected("a memory port waited".into())))
}

impl Ports {
    pub(crate) fn new(world: &Arc<Harness>, invocation: &Arc<Invocation>) -> Arc<Self> {
        Arc::new(Self { world: Arc::clone(world), invocation: Arc::clone(invocation) })
    }

    fn is(&self, broken: Mutation) -> bool {
        self.world.is(broken)
    }

    /// One request: `effect` is what it does to the table.
    async fn request<T>(
        &self,
        what: &'static str,
        mut effect: impl FnMut() -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let fate = self.world.enter(&self.invocation, what).await?;
        let mut answer = effect();
        if fate.repeated {
            answer = effect();
        }
        self.world.leave(&self.invocation, what, fate).await?;
        answer
    }

    /// One request that the client library never repeats by itself.
    async fn once<T>(
        &self,
        what: &'static str,
        effect: impl FnOnce() -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let fate = self.world.enter(&self.invocation, what).await?;
        let answer = effect();
        self.world.leave(&self.invocation, what, fate).await?;
        answer
    }

    /// The moment that an eventually consistent read sees: now, or up to a second ago.
    fn seen_moment(&self) -> Timestamp {
        let now = self.world.now();
        if self.world.random.chance(self.world.faults().stale) {
            let millis = self.world.random.below(crate::model::LAG_MS);
            return now.minus(Duration::from_millis(millis));
        }
        now
    }

    fn delivers(&self) -> bool {
        self.invocation.function == Function::Deliver
    }

    /// What a break makes of a subscription that was found.
    fn broken_subscription(
        &self,
        user: &UserId,
        id: &SubscriptionId,
        mut found: Option<Subscription>,
    ) -> Option<Subscription> {
        let Some(broken) = self.world.options.broken else { return found };
        let anywhere = || self.world.subscriptions.snapshot().into_iter().find(|s| s.id == *id);
        if broken == Mutation::ShowStrangers && self.invocation.function == Function::Api {
            return anywhere();
        }
        if !self.delivers() {
            return found;
        }
        if broken == Mutation::ForgetOwner {
            return anywhere();
        }
        if broken == Mutation::ReadDeleted {
            found = found.or_else(|| lock(&self.world.model).last_subscription(user, id));
        }
        if broken == Mutation::DropPaused {
            found = found.filter(|found| found.is_active);
        }
        let mut found = found?;
        let now = self.world.now();
        match broken {
            Mutation::ReadPaused => found.is_active = true,
            Mutation::ForgetBreaker => found.health.open_until = None,
            Mutation::ParkAlways => found.health.open_until = Some(now.plus_seconds(300)),
            Mutation::OneRetryMore => found.retry_count += 1,
            Mutation::OneRetryLess => found.retry_count = found.retry_count.saturating_sub(1),
            Mutation::DoubleTimeout => found.timeout_seconds *= 2,
            Mutation::NoOverlap => found.secrets.truncate(1),
            Mutation::OldSecret => {
                found.secrets.drain(..found.secrets.len() - 1);
                found.secrets.iter_mut().for_each(|secret| secret.expires_at = None);
            }
            Mutation::OldUrl => {
                if let Some(url) = lock(&self.world.model).first_url(id) {
                    found.url = url;
                }
            }
            _ => {}
        }
        Some(found)
    }

    /// What a break makes of a POST.
    fn break_request(&self, request: &mut OutboundRequest) {
        let random = &self.world.random;
        let again = request.headers.iter().any(|(name, n)| *name == ATTEMPT_HEADER && n != "1");
        let mut change = |header: &str, change: &dyn Fn(&mut String)| {
            let mut headers = request.headers.iter_mut();
            if let Some((_, value)) = headers.find(|(name, _)| *name == header) {
                change(value);
            }
        };
        match self.world.options.broken {
            Some(Mutation::NewIdPerAttempt) if again => change("webhook-id", &|id| {
                id.pop();
                id.push_str(&random.below(10).to_string());
            }),
            Some(Mutation::AlwaysFirst) => change(ATTEMPT_HEADER, &|n| "1".clone_into(n)),
            Some(Mutation::SignSomethingElse) => request.body.insert(1, ' '),
            Some(Mutation::ChangeData) => request.body = request.body.replace("\"n\":", "\"m\":"),
            Some(Mutation::RenameEvent) => request.body = request.body.replace("event-", "other-"),
            Some(Mutation::NoSignature) => {
                request.headers.retain(|(name, _)| *name != "webhook-signature");
            }
            Some(Mutation::WrongUrl) => {
                let elsewhere = "https://elsewhere.example/";
                if let Ok(url) = TargetUrl::parse(elsewhere, TargetPolicy::Strict) {
                    request.url = url;
                }
            }
            _ => {}
        }
    }

    /// What a break makes of a receiver's answer.
    fn break_answer(&self, answer: &mut HttpResult) {
        match (self.world.options.broken, &mut answer.outcome) {
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
        let read = self.world.subscriptions.get(user, id, Consistency::Strong);
        let now = at_once(read)?;
        self.world.note(&self.invocation, || match &now {
            Some(s) => format!(
                "subscription {id}: active={} reason={:?} health={:?}",
                s.is_active, s.disabled_reason, s.health
            ),
            None => format!("subscription {id}: deleted"),
        });
        let (moment, by) = (self.world.now(), (self.invocation.number, self.invocation.function));
        lock(&self.world.model).subscription_stands(moment, by, (user, id), now);
        Ok(())
    }

    fn put_now(&self, delivery: &Delivery, expect: Expect) -> Result<Written, StoreError> {
        let (store, now) = (&self.world.deliveries, self.world.now());
        let key = (&delivery.subscription_id, &delivery.id);
        let before = at_once(store.get(key.0, key.1, Consistency::Strong))?;
        let mut delivery = delivery.clone();
        if self.is(Mutation::RefuseWrites) && self.world.random.chance(50) {
            lock(&self.world.model).put(
                now,
                self.invocation.number,
                before.as_ref(),
                (&delivery, expect),
                Put::Conflict,
            );
            return Ok(Written::ConditionFailed);
        }
        if self.is(Mutation::ForeignRecord)
            && let Ok(stranger) = "stranger".parse()
        {
            delivery.user_id = stranger;
        }
        if self.is(Mutation::ForgetDueRow) {
            delivery.due_at = None;
        }
        let drops = match () {
            () if self.is(Mutation::DropWrite) => true,
            () if self.is(Mutation::DropLaterWrite) => delivery.attempts.len() > 1,
            () => false,
        };
        if drops && delivery.status == Status::Retrying {
            return Ok(Written::Applied);
        }
        if self.is(Mutation::ForgetAttempts) && delivery.attempts.len() > 2 {
            delivery.attempts.drain(..delivery.attempts.len() - 1);
        }
        let told = expect;
        let mut expect = expect;
        if let (true, Expect::Free { attempts, .. }) = (self.is(Mutation::BreakLease), expect) {
            expect = Expect::Retrying { attempts };
        }
        let overwrites = self.is(Mutation::OverwriteFirst) && expect == Expect::Absent;
        if overwrites || self.is(Mutation::WriteUnconditionally) {
            expect = Expect::Absent;
            let row = RowKey::Delivery(key.1.clone());
            at_once(store.delete(key.0, &[row]))?;
        }
        let written = at_once(store.put(&delivery, expect))?;
        self.world.note(&self.invocation, || {
            format!(
                "put {}: {} attempts={} next={:?} -> {written:?}",
                delivery.id,
                delivery.status,
                delivery.attempt_count(),
                delivery.next_retry_at.map(|at| at.to_string()),
            )
        });
        let put = match written {
            Written::Applied => Put::Written,
            Written::ConditionFailed => Put::Conflict,
        };
        let after = (&delivery, told);
        lock(&self.world.model).put(now, self.invocation.number, before.as_ref(), after, put);
        Ok(written)
    }
}

#[async_trait]
impl Subscriptions for Ports {
    async fn create(&self, subscription: &Subscription) -> Result<Creation, StoreError> {
        self.once("subscriptions.create", || {
            let created = at_once(self.world.subscriptions.create(subscription))?;
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
            let consistency = if self.is(Mutation::StaleDeliver) && self.delivers() {
                Consistency::Eventual
            } else {
                consistency
            };
            let found = match consistency {
                Consistency::Strong => {
                    at_once(self.world.subscriptions.get(user_id, id, consistency))?
                }
                Consistency::Eventual => {
                    let moment = self.seen_moment();
                    lock(&self.world.model).subscription_at(user_id, id, moment)
                }
            };
            let stale = self.is(Mutation::StalePause) && self.delivers();
            let paused = Some(self.seen_moment())
                .filter(|_| stale)
                .and_then(|moment| lock(&self.world.model).subscription_at(user_id, id, moment))
                .filter(|subscription| !subscription.is_active);
            Ok(self.broken_subscription(user_id, id, paused.or(found)))
        })
        .await
    }

    async fn page(
        &self,
        user_id: &UserId,
        limit: usize,
        before: Option<&SubscriptionId>,
    ) -> Result<Page<Subscription, SubscriptionId>, StoreError> {
        self.request("subscriptions.page", || {
            at_once(self.world.subscriptions.page(user_id, limit, before))
        })
        .await
    }

    async fn list_by_user(&self, user_id: &UserId) -> Result<Vec<Subscription>, StoreError> {
        self.request("subscriptions.list_by_user", || {
            if self.is(Mutation::ForgetOwner) {
                return Ok(self.world.subscriptions.snapshot());
            }
            if self.is(Mutation::StaleDispatch) {
                let moment = self.world.now().minus(Duration::from_secs(1));
                return Ok(lock(&self.world.model).subscriptions_at(user_id, moment));
            }
            let mut all = at_once(self.world.subscriptions.list_by_user(user_id))?;
            if self.is(Mutation::DropDisabled) {
                all.retain(|subscription| subscription.is_active);
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
            let drops = match subscription.disabled_reason.filter(|_| self.delivers()) {
                Some(DisabledReason::EndpointGone) => self.is(Mutation::KeepGone),
                Some(DisabledReason::EndpointFailing) => self.is(Mutation::KeepFailing),
                None => self.is(Mutation::DropChange),
            };
            if drops {
                return Ok(SubscriptionWrite::Applied);
            }
            let store = &self.world.subscriptions;
            let mut subscription = subscription.clone();
            if self.is(Mutation::UndoHealth) && self.invocation.function == Function::Api {
                subscription.health.consecutive_failures += 1;
            }
            let written = at_once(store.update(&subscription, expected_version))?;
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
            let store = &self.world.subscriptions;
            let opens = expected.open_until.is_none() && health.open_until.is_some();
            let early = opens && health.consecutive_failures < OPEN_AFTER_FAILURES;
            let open_until = health.open_until.filter(|_| !(early && self.is(Mutation::OpenLate)));
            let health = &Health { open_until, ..*health };
            let written = at_once(store.set_health(user_id, id, expected, health))?;
            if self.is(Mutation::DisableSoon) && health.consecutive_failures > 0 {
                let read = at_once(store.get(user_id, id, Consistency::Strong))?;
                if let Some(mut subscription) = read {
                    let version = subscription.version;
                    subscription.disable(DisabledReason::EndpointFailing, self.world.now());
                    at_once(store.update(&subscription, version))?;
                }
            }
            self.note_subscription(user_id, id)?;
            let claims = expected.open_until.is_some() && health.open_until.is_some();
            if self.is(Mutation::SkipProbeClaim) && claims {
                return Ok(SubscriptionWrite::Applied);
            }
            Ok(written)
        })
        .await
    }

    async fn delete(&self, user_id: &UserId, id: &SubscriptionId) -> Result<bool, StoreError> {
        self.request("subscriptions.delete", || {
            let deleted = at_once(self.world.subscriptions.delete(user_id, id))?;
            if self.is(Mutation::ForgetTombstone) {
                at_once(self.world.subscriptions.delete_tombstone(user_id, id))?;
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
            at_once(self.world.subscriptions.scan_keys(limit, after))
        })
        .await
    }

    async fn delete_tombstone(
        &self,
        user_id: &UserId,
        id: &SubscriptionId,
    ) -> Result<(), StoreError> {
        self.request("subscriptions.delete_tombstone", || {
            at_once(self.world.subscriptions.delete_tombstone(user_id, id))
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
                    at_once(self.world.deliveries.get(subscription_id, id, consistency))?
                }
                Consistency::Eventual => {
                    let moment = self.seen_moment();
                    lock(&self.world.model).delivery_at(id, moment)
                }
            };
            if let Some(found) = found.as_mut().filter(|_| self.delivers()) {
                if self.is(Mutation::NewBodyPerAttempt) {
                    found.event_time = self.world.now();
                }
                if self.is(Mutation::ReadEnded) && found.has_ended() {
                    found.status = Status::Retrying;
                    found.attempts.clear();
                }
                if self.is(Mutation::RetryAtOnce) && found.next_retry_at.is_some() {
                    found.next_retry_at = Some(self.world.now());
                }
            }
            Ok(found)
        })
        .await
    }

    async fn put(&self, delivery: &Delivery, expect: Expect) -> Result<Written, StoreError> {
        const WHAT: &str = "deliveries.put";
        let (world, number) = (&self.world, self.invocation.number);
        let fate = match world.enter(&self.invocation, WHAT).await {
            Ok(fate) => fate,
            Err(error) => {
                lock(&world.model).put(world.now(), number, None, (delivery, expect), Put::Failed);
                return Err(error.into());
            }
        };
        let mut written = self.put_now(delivery, expect)?;
        // A test has an id of its own, so that it need not ask whether its write was refused.
        let refused = fate.repeated && self.invocation.function != Function::Test;
        if written == Written::Applied && (refused || fate.lost) {
            lock(&world.model).answer_lost(number, delivery);
        }
        if fate.repeated {
            written = self.put_now(delivery, expect)?;
        }
        world.leave(&self.invocation, WHAT, fate).await?;
        Ok(written)
    }

    async fn lease(
        &self,
        subscription_id: &SubscriptionId,
        id: &DeliveryId,
        attempts: u32,
        lease: &Lease,
    ) -> Result<Written, StoreError> {
        self.request("deliveries.lease", || {
            if self.is(Mutation::SkipLease) {
                return Ok(Written::Applied);
            }
            let mut lease = lease.clone();
            if self.is(Mutation::EndlessLease) {
                lease.until = lease.now.plus_seconds(365 * 24 * 3600);
            }
            let taken = at_once(self.world.deliveries.lease(subscription_id, id, attempts, &lease));
            let mut model = lock(&self.world.model);
            match taken {
                Ok(Written::Applied) => model.leased(id, lease.until),
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
                at_once(self.world.deliveries.page(subscription_id, filter, limit, before, now))?;
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
            if self.is(Mutation::ForgetShard) && shard == 3 {
                return Ok(Page { items: Vec::new(), next: None });
            }
            at_once(self.world.deliveries.due(shard, until, limit, after))
        })
        .await
    }

    async fn postpone(&self, due: &Due, due_at: Timestamp) -> Result<Written, StoreError> {
        self.request("deliveries.postpone", || {
            let id = &due.delivery_id;
            if self.is(Mutation::ForgetPostpone) {
                lock(&self.world.model).postponed(self.invocation.number, id, due_at);
                return Ok(Written::Applied);
            }
            let written = at_once(self.world.deliveries.postpone(due, due_at))?;
            if written == Written::Applied {
                lock(&self.world.model).postponed(self.invocation.number, id, due_at);
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
        counts: Counts,
        last_attempt_at: Timestamp,
        expires_at: Timestamp,
    ) -> Result<(), StoreError> {
        const WHAT: &str = "deliveries.count";
        let (world, number) = (&self.world, self.invocation.number);
        let fate = match world.enter(&self.invocation, WHAT).await {
            Ok(fate) => fate,
            Err(error) => {
                lock(&world.model).not_counted(number, subscription_id, counts);
                return Err(error.into());
            }
        };
        let times = match () {
            () if self.is(Mutation::CountTwice) => 2,
            () if self.is(Mutation::CountNever) => 0,
            () => 1,
        };
        if self.is(Mutation::ForgetCount) {
            return Ok(());
        }
        for _ in 0..times {
            let store = &self.world.deliveries;
            at_once(store.count(subscription_id, hour, counts, last_attempt_at, expires_at))?;
        }
        lock(&world.model).counted(number, subscription_id, counts);
        // The client never repeats this request.
        world.leave(&self.invocation, WHAT, fate).await?;
        Ok(())
    }

    async fn counters(
        &self,
        subscription_id: &SubscriptionId,
        since: Timestamp,
    ) -> Result<Vec<HourCounts>, StoreError> {
        self.request("deliveries.counters", || {
            at_once(self.world.deliveries.counters(subscription_id, since))
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
            if self.is(Mutation::CleanWaiting) {
                let rows = self.world.deliveries.snapshot().into_iter().map(|row| row.delivery);
                let waiting = rows
                    .filter(|row| row.subscription_id == *subscription_id && !row.has_ended())
                    .filter(|row| row.id.moment() < before)
                    .map(|row| RowKey::Delivery(row.id));
                let waiting: Vec<RowKey> = waiting.take(limit).collect();
                if !waiting.is_empty() {
                    return Ok(waiting);
                }
            }
            at_once(self.world.deliveries.expired_keys(subscription_id, before, limit))
        })
        .await
    }

    async fn all_keys(
        &self,
        subscription_id: &SubscriptionId,
        limit: usize,
    ) -> Result<Vec<RowKey>, StoreError> {
        self.request("deliveries.all_keys", || {
            at_once(self.world.deliveries.all_keys(subscription_id, limit))
        })
        .await
    }

    async fn delete(
        &self,
        subscription_id: &SubscriptionId,
        keys: &[RowKey],
    ) -> Result<Vec<RowKey>, StoreError> {
        self.request("deliveries.delete", || {
            let refuse = self.world.faults().refuse;
            let (left, gone): (Vec<RowKey>, Vec<RowKey>) =
                keys.iter().cloned().partition(|_| self.world.random.chance(refuse));
            at_once(self.world.deliveries.delete(subscription_id, &gone))?;
            let now = self.world.now();
            let mut model = lock(&self.world.model);
            for key in &gone {
                model.row_deleted(now, self.invocation.number, subscription_id, key);
            }
            Ok(left)
        })
        .await
    }

    async fn position(&self) -> Result<Option<SubscriptionKey>, StoreError> {
        self.request("deliveries.position", || at_once(self.world.deliveries.position())).await
    }

    async fn set_position(&self, position: Option<&SubscriptionKey>) -> Result<(), StoreError> {
        self.request("deliveries.set_position", || {
            at_once(self.world.deliveries.set_position(position))
        })
        .await
    }
}

#[async_trait]
impl TaskQueue for Ports {
    async fn send(&self, tasks: &[Outgoing]) -> Result<Vec<usize>, QueueError> {
        const WHAT: &str = "queue.send";
        let (world, invocation) = (&self.world, &self.invocation);
        let fate = world.enter(invocation, WHAT).await?;
        let faults = world.faults();
        let mut refused = Vec::new();
        for _ in 0..=u32::from(fate.repeated) {
            refused.clear();
            for (index, outgoing) in tasks.iter().enumerate() {
                if world.random.chance(faults.refuse) {
                    refused.push(index);
                    continue;
                }
                let last = tasks.len() > 1 && index + 1 == tasks.len();
                let again = self.invocation.function == Function::Retry;
                let drops = (self.is(Mutation::LoseEntry) && last)
                    || (self.is(Mutation::NeverSendAgain) && again && outgoing.delay.is_zero())
                    || (self.is(Mutation::DropRedelivery)
                        && self.invocation.function == Function::Api);
                if drops {
                    continue;
                }
                if again {
                    let (now, number) = (world.now(), self.invocation.number);
                    lock(&world.model).sent_by_retry(now, number, outgoing.task.key().1);
                }
                let (body, delay) = (outgoing.task.to_json()?, outgoing.delay.as_secs());
                let (whims, now) = (faults.queue(), world.now());
                let id = lock(&world.tasks).send(body, delay, now, whims, &world.random);
                world.note(invocation, || {
                    format!("send {id}: {} in {delay} s", outgoing.task.key().1)
                });
            }
        }
        world.leave(invocation, WHAT, fate).await?;
        if self.is(Mutation::IgnoreRefused) {
            refused.clear();
        }
        Ok(refused)
    }

    async fn change_visibility(&self, messages: &[(String, Duration)]) -> Result<(), QueueError> {
        const WHAT: &str = "queue.change_visibility";
        let (world, invocation) = (&self.world, &self.invocation);
        let fate = world.enter(invocation, WHAT).await?;
        let refuse = world.faults().refuse;
        let mut failed = false;
        for (receipt, timeout) in messages {
            let seconds = if self.is(Mutation::RetryAtOnce) { 0 } else { timeout.as_secs() };
            if world.random.chance(refuse) {
                failed = true;
            } else if !self.is(Mutation::SwallowHide) {
                lock(&world.tasks).change_visibility(receipt, seconds, world.now());
            }
        }
        world.leave(invocation, WHAT, fate).await?;
        if failed {
            return Err(QueueError::Unavailable("some timeouts were not changed".into()));
        }
        Ok(())
    }
}

#[async_trait]
impl DeadLetterQueue for Ports {
    async fn send(&self, event: &RejectedEvent) -> Result<(), QueueError> {
        const WHAT: &str = "queue.bury";
        let (world, invocation) = (&self.world, &self.invocation);
        let fate = world.enter(invocation, WHAT).await?;
        if !self.is(Mutation::DropBadEvent) {
            world.dead_letter_queue.send(event).await?;
            lock(&world.model).reach(Milestone::Buried);
        }
        world.leave(invocation, WHAT, fate).await?;
        Ok(())
    }
}

#[async_trait]
impl Sender for Ports {
    async fn post(&self, mut request: OutboundRequest) -> HttpResult {
        const WHAT: &str = "sender.post";
        let (world, invocation) = (&self.world, &self.invocation);
        // The way out has no faults of its own: whatever happens there is an answer. But the
        // caller may die before, meanwhile and after.
        world.arrive(invocation, WHAT).await;
        self.break_request(&mut request);
        let now = world.now();
        let url = request.url.as_str();
        let (mut answer, took) =
            lock(&world.receivers).answer(url, now, request.timeout, world.plan.temper);
        world.note(invocation, || {
            let id = request.headers.iter().find(|(name, _)| *name == "webhook-id");
            format!("POST {url} {id:?}: {:?}", answer.outcome)
        });
        let number = invocation.number;
        let posted = Posted { invocation: number, request: &request, answer: &answer, took };
        let delivery = lock(&world.model).posted(now, &posted);
        world.sleep(took).await;
        if let Some(delivery) = delivery {
            lock(&world.model).answered(number, &delivery, world.now());
        }
        world.may_die(invocation, WHAT, After).await;
        self.break_answer(&mut answer);
        answer
    }
}
