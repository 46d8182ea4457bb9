//! The delivery history of a webhook: list it, get one delivery, redeliver one, recover what failed.
//!
//! The Deliveries table has no owners. So every request first reads the webhook from the caller's
//! own partition of the Subscriptions table, and reads only the history of a webhook found there.

mod recoveries;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use lambda_http::http::StatusCode;
use lambda_http::{Body, Request, Response};
use webhooks_api::cursor::{self, CursorScope};
use webhooks_api::problem::Problem;
use webhooks_api::view::{DeliveryDetail, DeliverySummary, Page};
use webhooks_api::{AccessControl, ApiError, AuthenticatedRequest, Query, json, respond};
use webhooks_core::delivery::{Delivery, NewDelivery, Status};
use webhooks_core::ids::{DeliveryId, SubscriptionId};
use webhooks_core::ports::{
    self, Clock, Consistency, Deliveries, DeliveryFilter, Outgoing, QueueError, Random, Recoveries,
    Subscriptions, TaskQueue, Written,
};
use webhooks_core::subscription::Subscription;

/// The most reads of the table for one page. A filter may drop most of what a read finds; then the
/// page is not full, and more pages follow.
const PAGE_READS_MAX: usize = 10;

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

    async fn list(&self, request: &AuthenticatedRequest<'_>) -> Result<Response<Body>, ApiError> {
        let mut query = request.query();
        let limit = query.limit();
        let filter = filter(&mut query);
        let scope_parts = scope_parts(request, &filter);
        let scope_parts = scope_parts.each_ref().map(String::as_str);
        let scope = CursorScope(&scope_parts);
        let before: Option<DeliveryId> = query.cursor(scope);
        query.finish()?;
        let webhook = self.webhook(request).await?;
        let page = self.page(&webhook.id, &filter, limit, before).await?;
        let summary = |delivery| DeliverySummary::new(delivery, &webhook);
        json(
            StatusCode::OK,
            &Page {
                items: page.items.iter().map(summary).collect(),
                next_cursor: page.next.map(|position| cursor::encode(scope, position.as_str())),
            },
        )
    }

    /// Reads until the page is full, the history ends or enough has been read.
    async fn page(
        &self,
        webhook: &SubscriptionId,
        filter: &DeliveryFilter,
        limit: usize,
        before: Option<DeliveryId>,
    ) -> Result<ports::Page<Delivery, DeliveryId>, ApiError> {
        let now = self.clock.now();
        let mut page = ports::Page { items: Vec::new(), next: before };
        for _ in 0..PAGE_READS_MAX {
            let wanted = limit - page.items.len();
            let before = page.next.as_ref();
            let read = self.deliveries.page(webhook, filter, wanted, before, now).await?;
            page.items.extend(read.items);
            page.next = read.next;
            if page.next.is_none() || page.items.len() >= limit {
                break;
            }
        }
        Ok(page)
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
        if self.subscriptions.count_redelivery(request.caller(), now).await?
            == Written::ConditionFailed
        {
            let retry_after = now.until_next_day();
            return Err(Problem::RedeliveryLimitReached { retry_after }.into());
        }
        let delivery_id = DeliveryId::new(now, self.random.bytes());
        let again = NewDelivery::redelivery_of(&delivery, delivery_id);
        // The first attempt writes the record. The response shows the record as it will be then; it
        // does not show when it expires, so any time does here.
        let shown = Delivery::new(&again, now, now);
        self.send(Outgoing::first_attempt(again)).await?;
        json(StatusCode::ACCEPTED, &DeliverySummary::new(&shown, &webhook))
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

fn filter(query: &mut Query) -> DeliveryFilter {
    let filter = DeliveryFilter {
        status: query.optional("status", |text| text.parse().map_err(|_| statuses())),
        event_type: query.optional("event_type", |text| {
            text.parse().map_err(|_| "must be an event type of the catalogue".to_owned())
        }),
        since: query.time("since"),
        until: query.time("until"),
    };
    if let (Some(since), Some(until)) = (filter.since, filter.until)
        && since >= until
    {
        query.refuse("until", "must be later than `since`");
    }
    filter
}

fn statuses() -> String {
    let names: Vec<&str> = Status::ALL.iter().map(|status| status.as_str()).collect();
    format!("must be one of {}", names.join(", "))
}

/// What a cursor is bound to: the owner, the webhook, and every filter as it was parsed, so that
/// another spelling of the same time is the same list.
fn scope_parts(request: &AuthenticatedRequest<'_>, filter: &DeliveryFilter) -> [String; 7] {
    [
        request.caller().to_string(),
        "deliveries".to_owned(),
        request.parameter("id").to_owned(),
        text(filter.status),
        text(filter.event_type),
        text(filter.since),
        text(filter.until),
    ]
}

/// An absent filter is the empty text, which no given one is.
fn text(value: Option<impl ToString>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}
