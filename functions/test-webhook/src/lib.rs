//! Test: one real signed attempt at a webhook, answered at once.
//!
//! It is an ordinary delivery of a sample event, recorded in the history as a test and counted,
//! but it never waits and is never tried again. The webhook need not be active: a test is how its
//! owner finds out whether to activate it.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use webhooks_api::{
    ApiGatewayV2httpRequest, ApiGatewayV2httpResponse, Failure, Request, json, refuse_fields,
    respond,
};
use webhooks_core::attempt;
use webhooks_core::breaker::Health;
use webhooks_core::catalogue::EventType;
use webhooks_core::delivery::{Delivery, NewDelivery, Status, Trigger};
use webhooks_core::ids::{DeliveryId, EventId, SubscriptionId};
use webhooks_core::json::Data;
use webhooks_core::limits::TEST_TIMEOUT_SECONDS;
use webhooks_core::outbound::Outcome;
use webhooks_core::ports::{
    Chain, Clock, Consistency, Deliveries, Expect, Random, Sender, Statistics, StoreError,
    Subscriptions,
};
use webhooks_core::problem::Problem;
use webhooks_core::statistics::Counts;
use webhooks_core::subscription::Subscription;
use webhooks_core::target::TargetPolicy;
use webhooks_core::time::Timestamp;

/// The function and what it may touch.
pub struct TestWebhook {
    /// Where to, how, signed with what.
    pub subscriptions: Arc<dyn Subscriptions>,
    /// The history.
    pub deliveries: Arc<dyn Deliveries>,
    /// The counters.
    pub statistics: Arc<dyn Statistics>,
    /// The way out.
    pub sender: Arc<dyn Sender>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// What names the test.
    pub random: Arc<dyn Random>,
    /// Where deliveries may go.
    pub policy: TargetPolicy,
    /// How long the history is kept.
    pub retention: Duration,
}

impl TestWebhook {
    /// Answers one request.
    pub async fn handle(&self, request: ApiGatewayV2httpRequest) -> ApiGatewayV2httpResponse {
        let answer = self.test(&request).await;
        respond(&request, answer)
    }

    async fn test(
        &self,
        request: &ApiGatewayV2httpRequest,
    ) -> Result<ApiGatewayV2httpResponse, Failure> {
        let request = Request::read(request)?;
        request.no_query()?;
        let unknown = refuse_fields(&request.optional_body()?);
        if !unknown.is_empty() {
            return Err(unknown.into());
        }
        let id: SubscriptionId = request.id("id")?;
        let found = self.subscriptions.get(request.caller(), &id, Consistency::Strong).await?;
        let subscription = found.ok_or(Problem::NotFound)?;

        let mut delivery = self.delivery(&subscription)?;
        let timeout = subscription.timeout().min(Duration::from_secs(TEST_TIMEOUT_SECONDS.into()));
        let outcome = attempt::send(
            &mut delivery,
            &subscription,
            timeout,
            self.policy,
            self.sender.as_ref(),
            self.clock.as_ref(),
        )
        .await;
        let success = matches!(outcome, Outcome::Response { status: 200..=299, .. });
        let now = self.clock.now();
        delivery.end(if success { Status::Success } else { Status::Failed }, now);
        self.record(&delivery, &subscription, now).await?;

        let last = delivery.attempts.last();
        let answer = json!({
            "success": success,
            "status_code": last.and_then(|attempt| attempt.response_status),
            "duration_ms": last.map(|attempt| attempt.duration_ms),
            "error": delivery.error(),
            "delivery_id": delivery.id,
        });
        json(200, &answer)
    }

    /// A delivery of the sample of the first event type the webhook wants.
    fn delivery(&self, subscription: &Subscription) -> Result<Delivery, Failure> {
        let now = self.clock.now();
        let delivery_id = DeliveryId::new(now, self.random.bytes());
        // A subscription names at least one event type; the catalogue has some in any case.
        let event_type = subscription.event_types.first().copied().or(EventType::all().next());
        let event_type = event_type.ok_or(Problem::Internal)?;
        let data = Data::parse(event_type.entry().example).map_err(|_| Problem::Internal)?;
        let event_id: EventId =
            format!("test_{delivery_id}").parse().map_err(|_| Problem::Internal)?;
        let new = NewDelivery {
            user_id: subscription.user_id.clone(),
            subscription_id: subscription.id.clone(),
            delivery_id,
            event_id,
            event_type,
            event_time: now,
            data,
            trigger: Trigger::Test,
        };
        Ok(Delivery::new(&new, now, now.plus(self.retention)))
    }

    /// Writes the history, the counters, and that the endpoint works again if it does. Only the
    /// history is owed: without it the test did not happen.
    async fn record(
        &self,
        delivery: &Delivery,
        subscription: &Subscription,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.deliveries.put(delivery, Expect::Absent).await?;
        let success = delivery.status == Status::Success;
        let counts = Counts { total: 1, success: success.into(), failed: (!success).into() };
        let hour = delivery.created_at().hour();
        let counted = self
            .statistics
            .count(&delivery.subscription_id, hour, counts, now, delivery.expires_at)
            .await;
        if let Err(error) = counted {
            tracing::warn!(delivery_id = %delivery.id, error = %Chain(&error), "the test was not counted");
        }
        if success && subscription.health != Health::default() {
            let Subscription { user_id, id, health, .. } = subscription;
            let healthy = Health::default();
            let closed = self.subscriptions.set_health(user_id, id, health, &healthy).await;
            if let Err(error) = closed {
                tracing::warn!(subscription_id = %id, error = %Chain(&error), "the circuit breaker stays open");
            }
        }
        Ok(())
    }
}
