//! The delivery history: list that of a webhook or of all webhooks of a user, get one delivery, redeliver
//! one, recover what failed.
//!
//! The Deliveries table has no owners. So every request first reads the webhook from the caller's
//! own partition of the Subscriptions table, and reads only the history of a webhook found there.

mod listing;
mod recoveries;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use lambda_http::http::StatusCode;
use lambda_http::{Body, Request, Response};
use webhooks_api::problem::Problem;
use webhooks_api::view::{DeliveryDetail, DeliverySummary};
use webhooks_api::{AccessControl, ApiError, AuthenticatedRequest, json, respond};
use webhooks_core::delivery::{Delivery, NewDelivery};
use webhooks_core::ids::{DeliveryId, UserId};
use webhooks_core::ports::{
    Clock, Consistency, Deliveries, Outgoing, QueueError, Random, Recoveries, Subscriptions,
    TaskQueue, Written,
};
use webhooks_core::subscription::Subscription;
use webhooks_core::time::Timestamp;

/// The function and its ports.
pub struct DeliveryHistory {
    access: AccessControl,
    subscriptions: Arc<dyn Subscriptions>,
    deliveries: Arc<dyn Deliveries>,
    recoveries: Arc<dyn Recoveries>,
    queue: Arc<dyn TaskQueue>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    retention: Duration,
}

impl DeliveryHistory {
    /// The function over these ports. `subscriptions` is read to check the owner, and `queue` takes
    /// redeliveries and recoveries, whose rows are kept for `retention`.
    pub fn new(
        subscriptions: Arc<dyn Subscriptions>,
        deliveries: Arc<dyn Deliveries>,
        recoveries: Arc<dyn Recoveries>,
        queue: Arc<dyn TaskQueue>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        retention: Duration,
    ) -> Self {
        let access = AccessControl::new(subscriptions.clone());
        Self { access, subscriptions, deliveries, recoveries, queue, clock, random, retention }
    }

    /// Handles a request.
    pub async fn handle(&self, request: Request) -> Response<Body> {
        respond(&request, self.route(&request).await)
    }

    async fn route(&self, request: &Request) -> Result<Response<Body>, ApiError> {
        let request = self.access.admit(request).await?;
        match request.route() {
            "GET /api/deliveries" => self.list_all(&request).await,
            "GET /api/webhooks/{id}/deliveries" => self.list(&request).await,
            "GET /api/webhooks/{id}/deliveries/{delivery_id}" => self.get(&request).await,
            "POST /api/webhooks/{id}/deliveries/{delivery_id}/redeliver" => {
                self.redeliver(&request).await
            }
            "POST /api/webhooks/{id}/recoveries" => self.recover(&request).await,
            "GET /api/webhooks/{id}/recoveries" => self.list_recoveries(&request).await,
            "GET /api/webhooks/{id}/recoveries/{recovery_id}" => self.get_recovery(&request).await,
            "DELETE /api/webhooks/{id}/recoveries/{recovery_id}" => {
                self.cancel_recovery(&request).await
            }
            _ => Err(Problem::NotFound.into()),
        }
    }

    async fn get(&self, request: &AuthenticatedRequest<'_>) -> Result<Response<Body>, ApiError> {
        request.no_query()?;
        let (webhook, delivery) = self.delivery(request).await?;
        json(StatusCode::OK, &DeliveryDetail::new(&delivery, &webhook)?)
    }

    async fn redeliver(
        &self,
        request: &AuthenticatedRequest<'_>,
    ) -> Result<Response<Body>, ApiError> {
        request.no_query()?;
        request.optional_body()?.finish()?;
        let (webhook, delivery) = self.delivery(request).await?;
        if !webhook.is_active {
            return Err(Problem::WebhookInactive.into());
        }
        if !delivery.has_ended() {
            return Err(Problem::DeliveryRetrying.into());
        }
        if delivery.is_payload_erased {
            return Err(Problem::PayloadNotKept.into());
        }
        let now = self.clock.now();
        // Counted last, so that a refused redelivery is not counted. One that the queue then refuses is.
        self.count_redelivery(request.caller(), now).await?;
        let delivery_id = DeliveryId::new(now, self.random.bytes());
        let again = NewDelivery::redelivery_of(&delivery, delivery_id);
        // The first attempt writes the record. The response shows the record as it will be then; it
        // does not show when it expires, so any time does here.
        let shown = Delivery::new(&again, now, now);
        self.send(Outgoing::first_attempt(again)).await?;
        json(StatusCode::ACCEPTED, &DeliverySummary::new(&shown, &webhook))
    }

    /// Counts one redelivery of the user, unless the day has none left.
    async fn count_redelivery(&self, user_id: &UserId, now: Timestamp) -> Result<(), ApiError> {
        if self.subscriptions.count_redelivery(user_id, now).await? == Written::Applied {
            return Ok(());
        }
        let retry_after = now.until_next_day();
        Err(Problem::RedeliveryLimitReached { retry_after }.into())
    }

    async fn send(&self, task: Outgoing) -> Result<(), ApiError> {
        let refused = self.queue.send(&[task]).await?;
        if refused.is_empty() {
            return Ok(());
        }
        Err(QueueError::Unavailable("it refused the task".into()).into())
    }

    /// The webhook of the request, if the caller owns it. Strongly consistent, so that the history
    /// of a new webhook is found immediately.
    async fn webhook(&self, request: &AuthenticatedRequest<'_>) -> Result<Subscription, ApiError> {
        let id = request.id("id")?;
        let found = self.subscriptions.get(request.caller(), &id, Consistency::Strong).await?;
        found.ok_or(ApiError::Problem(Problem::NotFound))
    }

    /// The delivery of the request and its webhook, if the caller owns them.
    async fn delivery(
        &self,
        request: &AuthenticatedRequest<'_>,
    ) -> Result<(Subscription, Delivery), ApiError> {
        let webhook = self.webhook(request).await?;
        let id = request.id("delivery_id")?;
        let found = self.deliveries.get(&webhook.id, &id, Consistency::Strong).await?;
        Ok((webhook, found.ok_or(ApiError::Problem(Problem::NotFound))?))
    }
}
