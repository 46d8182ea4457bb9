//! Test: one real signed attempt, whose result is in the response. And the challenge, with which an
//! endpoint proves that it wants a webhook.
//!
//! It is an ordinary delivery of a sample event, recorded in the history as a test and counted,
//! but it never waits and is never retried. The webhook need not be active: with a test, its
//! owner finds out whether to activate it.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use lambda_http::http::StatusCode;
use lambda_http::{Body, Request, Response};
use serde_json::{Value, json};
use webhooks_api::problem::{FieldError, Problem};
use webhooks_api::{AccessControl, ApiError, AuthenticatedRequest, Fields, json, respond};
use webhooks_core::attempt;
use webhooks_core::block_list::BlockListSender;
use webhooks_core::catalogue::EventType;
use webhooks_core::delivery::{Attempt, Delivery, NewDelivery, Status, Trigger};
use webhooks_core::ids::{DeliveryId, EventId, RecoveryId, SubscriptionId};
use webhooks_core::json::Data;
use webhooks_core::kept_headers::KeptHeaders;
use webhooks_core::limits::TEST_TIMEOUT_SECONDS;
use webhooks_core::maybe_known::MaybeKnown;
use webhooks_core::outbound::Outcome;
use webhooks_core::ports::{
    Chain, Clock, Consistency, Deliveries, Expect, Random, Recoveries, Sender, Statistics,
    StoreError, SubscriptionWrite, Subscriptions,
};
use webhooks_core::recovery::Recovery;
use webhooks_core::secret::SecretOpener;
use webhooks_core::statistics::{Addition, Counts, add_or_recount};
use webhooks_core::subscription::Subscription;
use webhooks_core::time::Timestamp;
use webhooks_core::verification::VerificationToken;

/// How often an activation is tried when others change the same webhook.
const CHANGE_TRIES: usize = 5;

/// How long the attempt of a request may take.
fn timeout(subscription: &Subscription) -> Duration {
    subscription.timeout().min(Duration::from_secs(TEST_TIMEOUT_SECONDS.into()))
}

/// What the body of a request asks for.
#[derive(Default)]
struct Wanted {
    event_type: Option<EventType>,
    data: Option<Data>,
}

impl Wanted {
    fn read(mut fields: Fields<Value>) -> Result<Self, Problem> {
        let event_type = fields.optional("event_type", |value| {
            let name = value.as_str().and_then(|name| name.parse().ok());
            name.ok_or_else(|| "must be an event type of the catalogue".to_owned())
        });
        let text = fields.text_of("data").unwrap_or_default();
        let data =
            fields.optional("data", |_| Data::parse(&text).map_err(|error| error.to_string()));
        fields.finish()?;
        Ok(Self { event_type, data })
    }
}

/// The function and its ports.
pub struct TestWebhook {
    access: AccessControl,
    subscriptions: Arc<dyn Subscriptions>,
    opener: Arc<dyn SecretOpener>,
    deliveries: Arc<dyn Deliveries>,
    statistics: Arc<dyn Statistics>,
    recoveries: Arc<dyn Recoveries>,
    sender: Arc<dyn Sender>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    retention: Duration,
}

impl TestWebhook {
    /// The function over these ports. `retention` says how long the history is kept.
    #[expect(clippy::too_many_arguments, reason = "each is another port or setting")]
    pub fn new(
        subscriptions: Arc<dyn Subscriptions>,
        opener: Arc<dyn SecretOpener>,
        deliveries: Arc<dyn Deliveries>,
        statistics: Arc<dyn Statistics>,
        recoveries: Arc<dyn Recoveries>,
        sender: Arc<dyn Sender>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        retention: Duration,
    ) -> Self {
        let access = AccessControl::new(subscriptions.clone());
        let sender = BlockListSender::new(sender, subscriptions.clone(), clock.clone());
        let sender = Arc::new(sender);
        Self {
            access,
            subscriptions,
            opener,
            deliveries,
            statistics,
            recoveries,
            sender,
            clock,
            random,
            retention,
        }
    }

    /// Handles a request.
    pub async fn handle(&self, request: Request) -> Response<Body> {
        respond(&request, self.route(&request).await)
    }

    async fn route(&self, request: &Request) -> Result<Response<Body>, ApiError> {
        let request = self.access.admit(request).await?;
        request.no_query()?;
        match request.route() {
            "POST /api/webhooks/{id}/test" => self.test(&request).await,
            "POST /api/webhooks/{id}/verify" => self.verify(&request).await,
            _ => Err(Problem::NotFound.into()),
        }
    }

    /// The webhook of the request, if the caller owns it.
    async fn webhook(&self, request: &AuthenticatedRequest<'_>) -> Result<Subscription, ApiError> {
        let id: SubscriptionId = request.id("id")?;
        let found = self.subscriptions.get(request.caller(), &id, Consistency::Strong).await?;
        Ok(found.ok_or(Problem::NotFound)?)
    }

    /// Sends the challenge, or takes the token that the owner read at the endpoint.
    async fn verify(&self, request: &AuthenticatedRequest<'_>) -> Result<Response<Body>, ApiError> {
        let mut fields = request.optional_body()?;
        let given = fields.optional("token", |value| {
            value.as_str().map(str::to_owned).ok_or_else(|| "must be a string".to_owned())
        });
        fields.finish()?;
        let subscription = self.webhook(request).await?;
        let answer = |verified, result: Option<Attempt>| {
            json(
                StatusCode::OK,
                &json!({
                    "verified": verified,
                    "status_code": result.as_ref().and_then(|attempt| attempt.response_status),
                    "duration_ms": result.as_ref().map(|attempt| attempt.duration_ms),
                    "error": result.as_ref().and_then(Attempt::error),
                }),
            )
        };
        let Some(token) = subscription.verification.clone() else { return answer(true, None) };
        if let Some(given) = given {
            if !token.is(&given) {
                let wrong = FieldError::new("token", "is not the token of the challenge");
                return Err(Problem::InvalidFields(vec![wrong]).into());
            }
            self.activate(subscription, &token).await?;
            return answer(true, None);
        }
        let started_at = self.clock.now();
        let result = attempt::challenge(
            &format!("challenge_{}", DeliveryId::new(started_at, self.random.bytes())),
            &token,
            &subscription,
            timeout(&subscription),
            self.opener.as_ref(),
            self.sender.as_ref(),
            self.clock.as_ref(),
        )
        .await
        .map_err(|error| subscription.undecodable(error))?;
        let is_returned = token.is_returned_by(&result.outcome);
        if is_returned {
            self.activate(subscription, &token).await?;
        }
        // The challenge is not recorded, so nothing of its headers is kept.
        let headers = KeptHeaders::default();
        answer(is_returned, Some(Attempt::new(started_at, Trigger::Test, headers, &result)))
    }

    /// Activates a webhook whose token came back, unless its URL was changed meanwhile.
    async fn activate(
        &self,
        mut subscription: Subscription,
        token: &VerificationToken,
    ) -> Result<(), ApiError> {
        if subscription.may_have_held {
            // The retry function asks for its first page.
            let id = RecoveryId::new(self.clock.now(), self.random.bytes());
            let recovery = Recovery::of_held(id, &subscription, self.retention);
            self.recoveries.create_recovery(&recovery).await?;
        }
        for _ in 0..CHANGE_TRIES {
            match &subscription.verification {
                None => return Ok(()),
                Some(current) if current == token => {}
                Some(_) => return Err(Problem::EditConflict.into()),
            }
            let version = subscription.version;
            subscription.verify(self.clock.now());
            match self.subscriptions.update(&subscription, version).await? {
                SubscriptionWrite::Applied => return Ok(()),
                SubscriptionWrite::Conflict(current) => subscription = *current,
                SubscriptionWrite::Missing => return Err(Problem::NotFound.into()),
            }
        }
        Err(Problem::EditConflict.into())
    }

    async fn test(&self, request: &AuthenticatedRequest<'_>) -> Result<Response<Body>, ApiError> {
        let wanted = Wanted::read(request.optional_body()?)?;
        let subscription = self.webhook(request).await?;
        if subscription.verification.is_some() {
            return Err(Problem::EndpointUnverified.into());
        }

        let mut delivery = self.delivery(&subscription, wanted)?;
        let outcome = attempt::send(
            &mut delivery,
            &subscription,
            timeout(&subscription),
            None,
            self.opener.as_ref(),
            self.sender.as_ref(),
            self.clock.as_ref(),
        )
        .await
        .map_err(|error| subscription.undecodable(error))?;
        let success = matches!(outcome, Outcome::Response { status: 200..=299, .. });
        let now = self.clock.now();
        let matched = subscription.matches(delivery.event_type, &delivery.data);
        if success {
            delivery.succeed(subscription.keep_payload, now);
        } else {
            delivery.end(Status::Failed, now);
        }
        self.record(&delivery, &subscription, now).await?;

        let last = delivery.attempts.last();
        let body = json!({
            "success": success,
            "status_code": last.and_then(|attempt| attempt.response_status),
            "duration_ms": last.map(|attempt| attempt.duration_ms),
            "error": delivery.error(),
            "delivery_id": delivery.id,
            "matched": matched,
        });
        json(StatusCode::OK, &body)
    }

    /// A delivery of the event that was asked for: without a type the first one that the webhook
    /// wants, and without data the example of the type.
    fn delivery(&self, subscription: &Subscription, wanted: Wanted) -> Result<Delivery, ApiError> {
        let now = self.clock.now();
        // A subscription may name only event types that this version does not know.
        let mut selectors = subscription.event_types.iter().filter_map(MaybeKnown::known);
        let first = selectors.find_map(|selector| selector.selected().next());
        let event_type = wanted.event_type.or(first).or(EventType::all().next());
        let event_type = event_type.ok_or(Problem::Internal)?;
        let example = || Data::parse(event_type.entry().example).map_err(|_| Problem::Internal);
        let data = wanted.data.map_or_else(example, Ok)?;
        let event_id = format!("test_{}", DeliveryId::new(now, self.random.bytes()));
        let event_id: EventId = event_id.parse().map_err(|_| Problem::Internal)?;
        let delivery_id = DeliveryId::of(&event_id, &subscription.id, now);
        let new = NewDelivery {
            user_id: subscription.user_id.clone(),
            subscription_id: subscription.id.clone(),
            delivery_id,
            event_id,
            event_type,
            event_time: now,
            data,
            traceparent: None,
            trigger: Trigger::Test,
            redelivery_of: None,
            start_at: None,
        };
        Ok(Delivery::new(&new, now, now.plus(self.retention)))
    }

    /// Writes the history and the counters, and lets a delivery probe the endpoint after a success.
    /// Only the history must be written: a test without a record is an error.
    async fn record(
        &self,
        delivery: &Delivery,
        subscription: &Subscription,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.deliveries.put(delivery, Expect::Absent).await?;
        let success = delivery.status == Status::Success;
        let addition = Addition {
            counts: Counts::of(delivery),
            last_attempt_at: now,
            expires_at: delivery.expires_at,
            recount_at: None,
        };
        let hour = delivery.created_at().hour();
        let (statistics, id) = (self.statistics.as_ref(), &delivery.subscription_id);
        if let Err(error) = add_or_recount(statistics, id, hour, addition, now).await {
            tracing::warn!(delivery_id = %delivery.id, error = %Chain(&error), "the test was not counted");
        }
        let Subscription { user_id, id, health, .. } = subscription;
        let tested = health.after_successful_test(now);
        if success && tested != *health {
            let set = self.subscriptions.set_health(user_id, id, health, &tested).await;
            if let Err(error) = set {
                tracing::warn!(subscription_id = %id, error = %Chain(&error), "the circuit breaker stays open");
            }
        }
        Ok(())
    }
}
