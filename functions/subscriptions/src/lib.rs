//! The webhooks of a user: create, list, get, change, delete, delete all, and a new secret.
//!
//! Every request reads and writes in the caller's own partition of the table, so another user's
//! webhook is not found. A change is a conditional write on the version that was
//! read. On a conflict it is made again on what the table has then.

#[cfg(test)]
mod tests;

mod stats;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lambda_http::http::StatusCode;
use lambda_http::{Body, Request, Response};
use serde_json::Value;
use webhooks_api::cursor::{self, CursorScope};
use webhooks_api::problem::{FieldError, Problem};
use webhooks_api::view::{Page, Webhook, WebhookWithSecret, WebhookWithStatistics};
use webhooks_api::webhook::{PatchBody, new_subscription};
use webhooks_api::{
    AccessControl, ApiError, AuthenticatedRequest, Fields, created, json, no_content, respond,
    whole_number,
};
use webhooks_core::block_list::BlockedHosts;
use webhooks_core::ids::{RecoveryId, SubscriptionId, UserId};
use webhooks_core::ports::{
    Clock, Consistency, Creation, ListedSubscription, Random, Recoveries, Statistics,
    SubscriptionWrite, Subscriptions, TaskQueue,
};
use webhooks_core::recovery::Recovery;
use webhooks_core::request_headers::{HeaderName, HeaderValue};
use webhooks_core::schedule::RetrySchedule;
use webhooks_core::secret::SecretSealer;
use webhooks_core::signing_key::SigningKey;
use webhooks_core::statistics::Totals;
use webhooks_core::subscription::{
    SignatureChange, SignatureScheme, Subscription, UnreadableSubscription,
};
use webhooks_core::target::TargetPolicy;
use webhooks_core::task_batch::send_tasks;
use webhooks_core::time::Timestamp;
use webhooks_core::verification::{EndpointVerification, VerificationToken};

/// How often a change is tried when others change the same webhook.
const CHANGE_TRIES: usize = 5;
/// How long the old secret still signs after a rotation when the user does not say, in seconds.
const OVERLAP_SECONDS_DEFAULT: u32 = 86_400;
/// How long the old secret may still sign after a rotation, in seconds: a week.
const OVERLAP_SECONDS_MAX: u32 = 604_800;

/// The function and its ports.
pub struct SubscriptionsApi {
    access: AccessControl,
    blocked_hosts: BlockedHosts,
    subscriptions: Arc<dyn Subscriptions>,
    /// Nothing here can open a secret.
    sealer: Arc<dyn SecretSealer>,
    statistics: Arc<dyn Statistics>,
    recoveries: Arc<dyn Recoveries>,
    slow_queue: Arc<dyn TaskQueue>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    policy: TargetPolicy,
    retention: Duration,
    default_schedule: RetrySchedule,
    verification: EndpointVerification,
}

impl SubscriptionsApi {
    /// The function over these ports. `policy` says which URLs are accepted, `retention` how far
    /// back the statistics reach.
    #[expect(clippy::too_many_arguments, reason = "each is another port or setting")]
    pub fn new(
        subscriptions: Arc<dyn Subscriptions>,
        sealer: Arc<dyn SecretSealer>,
        statistics: Arc<dyn Statistics>,
        recoveries: Arc<dyn Recoveries>,
        slow_queue: Arc<dyn TaskQueue>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        policy: TargetPolicy,
        retention: Duration,
    ) -> Self {
        let default_schedule = RetrySchedule::default();
        Self {
            access: AccessControl::new(subscriptions.clone()),
            blocked_hosts: BlockedHosts::new(subscriptions.clone(), clock.clone()),
            subscriptions,
            sealer,
            statistics,
            recoveries,
            slow_queue,
            clock,
            random,
            policy,
            retention,
            default_schedule,
            verification: EndpointVerification::Off,
        }
    }

    /// The same, with another schedule for new webhooks whose owner does not say.
    #[must_use]
    pub fn with_default_schedule(self, default_schedule: RetrySchedule) -> Self {
        Self { default_schedule, ..self }
    }

    /// Whether the endpoints of webhooks have to prove that they want them; they need not by default.
    #[must_use]
    pub fn with_endpoint_verification(self, verification: EndpointVerification) -> Self {
        Self { verification, ..self }
    }

    /// Handles a request.
    pub async fn handle(&self, request: Request) -> Response<Body> {
        respond(&request, self.route(&request).await)
    }

    async fn route(&self, request: &Request) -> Result<Response<Body>, ApiError> {
        let request = self.access.admit(request).await?;
        match request.route() {
            "POST /api/webhooks" => self.create(&request).await,
            "GET /api/webhooks" => self.list(&request).await,
            "DELETE /api/webhooks" => self.delete_all(&request).await,
            "GET /api/webhooks/{id}" => self.get(&request).await,
            "PATCH /api/webhooks/{id}" => self.patch(&request).await,
            "DELETE /api/webhooks/{id}" => self.delete(&request).await,
            "POST /api/webhooks/{id}/rotate-secret" => self.rotate_secret(&request).await,
            "GET /api/webhooks/{id}/stats" => self.stats(&request).await,
            _ => Err(Problem::NotFound.into()),
        }
    }

    async fn create(&self, request: &AuthenticatedRequest<'_>) -> Result<Response<Body>, ApiError> {
        request.no_query()?;
        let new = new_subscription(request.body()?, self.policy, &self.default_schedule)?;
        self.check_host(&new.url).await?;
        let now = self.clock.now();
        let id = SubscriptionId::new(now, self.random.bytes());
        let caller = request.caller().clone();
        let key = self.new_key(new.signature);
        let sealed = self.sealer.seal(&key, &caller, &id);
        let seal = |header: (&HeaderName, &HeaderValue)| {
            (header.0.clone(), self.sealer.seal_header(header, &caller, &id))
        };
        let headers = new.headers.iter().map(seal).collect();
        let mut subscription = Subscription::new(caller, id, new, sealed, headers, now);
        if self.verification == EndpointVerification::Required {
            subscription.require_verification(self.new_token());
        }
        match self.subscriptions.create(&subscription).await? {
            Creation::LimitReached => Err(Problem::WebhookLimitReached.into()),
            Creation::DailyLimitReached => {
                Err(Problem::CreationLimitReached { retry_after: now.until_next_day() }.into())
            }
            Creation::Created => created(
                &format!("/api/webhooks/{}", subscription.id),
                &WebhookWithSecret::new(&subscription, &key, now),
            ),
        }
    }

    async fn list(&self, request: &AuthenticatedRequest<'_>) -> Result<Response<Body>, ApiError> {
        let caller = request.caller();
        let scope_parts = [caller.as_str(), "webhooks"];
        let scope = CursorScope(&scope_parts);
        let mut query = request.query();
        let limit = query.limit();
        let before: Option<SubscriptionId> = query.cursor(scope);
        query.finish()?;
        let page = self.subscriptions.page(caller, limit, before.as_ref()).await?;
        let now = self.clock.now();
        let webhooks = page.items.iter().filter_map(readable);
        json(
            StatusCode::OK,
            &Page {
                items: webhooks.map(|webhook| Webhook::new(webhook, now)).collect(),
                next_cursor: page.next.map(|position| cursor::encode(scope, position.as_str())),
            },
        )
    }

    async fn get(&self, request: &AuthenticatedRequest<'_>) -> Result<Response<Body>, ApiError> {
        request.no_query()?;
        let subscription = self.read(request.caller(), &request.id("id")?).await?;
        let now = self.clock.now();
        let since = now.minus(self.retention);
        let hours = self.statistics.counters(&subscription.id, since).await?;
        json(StatusCode::OK, &WebhookWithStatistics::new(&subscription, &Totals::of(&hours), now))
    }

    async fn patch(&self, request: &AuthenticatedRequest<'_>) -> Result<Response<Body>, ApiError> {
        request.no_query()?;
        let mut body = PatchBody::read(request.body()?, self.policy)?;
        if let Some(url) = &body.patch.url {
            self.check_host(url).await?;
        }
        let now = self.clock.now();
        let webhook = self.read(request.caller(), &request.id("id")?).await?;
        body.check_read_only(&webhook)?;
        let key = body.seal(&*self.sealer, &webhook, |scheme| self.new_key(scheme));
        let token = self.new_token();
        let resumes = body.patch.is_active == Some(true);
        let mut held = None;
        if resumes && !webhook.is_active && webhook.may_have_held {
            held = Some(self.recover_held(&webhook, now).await?);
        }
        let was_active = AtomicBool::new(true);
        let apply = |webhook: &mut Subscription| {
            was_active.store(webhook.is_active, Ordering::Relaxed);
            self.apply(&body, webhook, &token, now)
        };
        let changed = self.change(webhook, apply).await?;
        // Another request has paused it meanwhile.
        if held.is_none() && resumes && !was_active.into_inner() && changed.may_have_held {
            held = Some(self.recover_held(&changed, now).await?);
        }
        if let Some(recovery) = held {
            self.send_first_page(&recovery).await;
        }
        let signs = |change: &SignatureChange| change.key == changed.secrets.current;
        let new_key = key.filter(|_| body.patch.signature.as_ref().is_some_and(signs));
        match new_key.filter(|key| key.secret().is_some()) {
            Some(key) => json(StatusCode::OK, &WebhookWithSecret::new(&changed, &key, now)),
            None => json(StatusCode::OK, &Webhook::new(&changed, now)),
        }
    }

    /// Stores the recovery that delivers what is held, before the webhook becomes active: a request that
    /// is cut off between the two leaves nothing held for good.
    async fn recover_held(
        &self,
        webhook: &Subscription,
        now: Timestamp,
    ) -> Result<Recovery, ApiError> {
        let id = RecoveryId::new(now, self.random.bytes());
        let recovery = Recovery::of_held(id, webhook, self.retention);
        // The id is random, so what is there already is what a repeated request of ours has written.
        self.recoveries.create_recovery(&recovery).await?;
        Ok(recovery)
    }

    /// Asks for the first page of a recovery. If that fails, the retry function does it later.
    async fn send_first_page(&self, recovery: &Recovery) {
        let page = recovery.page_task(0, Duration::ZERO);
        if !send_tasks(self.slow_queue.as_ref(), &[page]).await.is_empty() {
            tracing::warn!(recovery_id = %recovery.id, "what is held is delivered later");
        }
    }

    /// Changes a webhook. A new URL needs a new proof, and only a proof activates the webhook.
    fn apply(
        &self,
        body: &PatchBody,
        webhook: &mut Subscription,
        token: &VerificationToken,
        now: Timestamp,
    ) -> Result<(), Problem> {
        let (url, was_pending) = (webhook.url.clone(), webhook.verification.is_some());
        body.apply(webhook, now)?;
        let is_required = self.verification == EndpointVerification::Required;
        if webhook.url != url && (is_required || webhook.verification.is_some()) {
            webhook.require_verification(token.clone());
        } else if is_required && was_pending && webhook.is_active {
            return Err(Problem::EndpointUnverified);
        }
        Ok(())
    }

    async fn delete(&self, request: &AuthenticatedRequest<'_>) -> Result<Response<Body>, ApiError> {
        request.no_query()?;
        if self.subscriptions.delete(request.caller(), &request.id("id")?).await? {
            Ok(no_content())
        } else {
            Err(Problem::NotFound.into())
        }
    }

    /// Deletes every webhook that the caller has. The next cleanup erases what belonged to them.
    async fn delete_all(
        &self,
        request: &AuthenticatedRequest<'_>,
    ) -> Result<Response<Body>, ApiError> {
        let mut query = request.query();
        query.required("confirm", |text| {
            if text == "all" { Ok(()) } else { Err("must be `all`".to_owned()) }
        });
        query.finish()?;
        let caller = request.caller();
        let mut deleted = 0;
        for listed in self.subscriptions.list_by_user(caller).await?.items {
            let id = listed.map_or_else(|unreadable| unreadable.id, |readable| readable.id);
            deleted += usize::from(self.subscriptions.delete(caller, &id).await?);
        }
        json(StatusCode::ACCEPTED, &serde_json::json!({ "deleted": deleted }))
    }

    async fn check_host(&self, url: &str) -> Result<(), ApiError> {
        if self.blocked_hosts.contains(url).await? {
            let message = "must not have a host that the operator of this service has blocked";
            return Err(Problem::InvalidFields(vec![FieldError::new("url", message)]).into());
        }
        Ok(())
    }

    async fn rotate_secret(
        &self,
        request: &AuthenticatedRequest<'_>,
    ) -> Result<Response<Body>, ApiError> {
        request.no_query()?;
        let overlap = overlap_seconds(request.optional_body()?)?;
        let now = self.clock.now();
        let overlap_end = now.plus_seconds(overlap.into());
        let webhook = self.read(request.caller(), &request.id("id")?).await?;
        let key = self.new_key(webhook.signature);
        let sealed = self.sealer.seal(&key, &webhook.user_id, &webhook.id);
        let rotate = |webhook: &mut Subscription| {
            if webhook.signature != key.scheme() {
                return Err(Problem::EditConflict);
            }
            webhook.rotate(sealed.clone(), overlap_end, now);
            Ok(())
        };
        let changed = self.change(webhook, rotate).await?;
        json(StatusCode::OK, &WebhookWithSecret::new(&changed, &key, now))
    }

    /// Changes a webhook. On a conflict, the change is made to what the table has then. That may be
    /// the change itself, when a write succeeded whose response was lost, so a change that is there
    /// already must not change the version.
    async fn change(
        &self,
        mut webhook: Subscription,
        change: impl Fn(&mut Subscription) -> Result<(), Problem>,
    ) -> Result<Subscription, ApiError> {
        for _ in 0..CHANGE_TRIES {
            let version = webhook.version;
            change(&mut webhook)?;
            if webhook.version == version {
                return Ok(webhook);
            }
            match self.subscriptions.update(&webhook, version).await? {
                SubscriptionWrite::Applied => return Ok(webhook),
                SubscriptionWrite::Conflict(current) => webhook = *current,
                SubscriptionWrite::Missing => return Err(Problem::NotFound.into()),
            }
        }
        Err(Problem::EditConflict.into())
    }

    /// Strongly consistent: who has just written a webhook finds it as it was written.
    async fn read(&self, caller: &UserId, id: &SubscriptionId) -> Result<Subscription, ApiError> {
        let found = self.subscriptions.get(caller, id, Consistency::Strong).await?;
        found.ok_or(ApiError::Problem(Problem::NotFound))
    }

    fn new_token(&self) -> VerificationToken {
        VerificationToken::from_random(&self.random.bytes())
    }

    fn new_key(&self, scheme: SignatureScheme) -> SigningKey {
        SigningKey::from_random(scheme, &self.random.bytes())
    }
}

/// A webhook whose row cannot be read does not fail the list of the others.
fn readable(listed: &ListedSubscription) -> Option<&Subscription> {
    let log = |unreadable: &UnreadableSubscription| {
        let UnreadableSubscription { user_id, id, reason, .. } = unreadable;
        tracing::error!(%user_id, subscription_id = %id, reason, "a webhook cannot be read");
    };
    listed.as_ref().inspect_err(|unreadable| log(unreadable)).ok()
}

/// Reads the body of a request for a new secret.
fn overlap_seconds(mut fields: Fields<Value>) -> Result<u32, Problem> {
    let read = |value: &Value| whole_number(value, 0..=OVERLAP_SECONDS_MAX);
    let seconds = fields.optional("overlap_seconds", read);
    fields.finish()?;
    Ok(seconds.unwrap_or(OVERLAP_SECONDS_DEFAULT))
}
