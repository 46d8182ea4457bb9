//! The delivery history of a webhook: list it, look into one delivery, repeat one.
//!
//! The Deliveries table knows no owners. So every request first reads the webhook from the caller's
//! own partition of the Subscriptions table, and goes on only with what stands there.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use webhooks_api::view::{DeliveryDetail, DeliverySummary, List};
use webhooks_api::{
    ApiGatewayV2httpRequest, ApiGatewayV2httpResponse, Failure, Query, Request, json,
    refuse_fields, respond,
};
use webhooks_core::cursor;
use webhooks_core::delivery::{Delivery, DeliveryTask, NewDelivery, Status};
use webhooks_core::ids::{DeliveryId, SubscriptionId};
use webhooks_core::ports::{
    Clock, Consistency, Deliveries, DeliveryFilter, Outgoing, Page, QueueError, Random,
    Subscriptions, TaskQueue,
};
use webhooks_core::problem::Problem;
use webhooks_core::subscription::Subscription;

type Answer = Result<ApiGatewayV2httpResponse, Failure>;

/// Reads of the table for one page, at most. A filter may leave little of what a read finds, and a
/// page that is not full is followed by others all the same.
const PAGE_READS_MAX: usize = 10;

/// The function and what it needs.
pub struct DeliveryHistory {
    /// Read for whose webhook it is.
    pub subscriptions: Arc<dyn Subscriptions>,
    /// The history.
    pub deliveries: Arc<dyn Deliveries>,
    /// Takes what is to be delivered again.
    pub queue: Arc<dyn TaskQueue>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// For ids.
    pub random: Arc<dyn Random>,
}

impl DeliveryHistory {
    /// Answers a request; what goes wrong is an answer too.
    pub async fn handle(&self, request: ApiGatewayV2httpRequest) -> ApiGatewayV2httpResponse {
        respond(&request, self.answer(&request).await)
    }

    async fn answer(&self, request: &ApiGatewayV2httpRequest) -> Answer {
        let request = Request::read(request)?;
        match request.route() {
            "GET /api/webhooks/{id}/deliveries" => self.list(&request).await,
            "GET /api/webhooks/{id}/deliveries/{delivery_id}" => self.get(&request).await,
            "POST /api/webhooks/{id}/deliveries/{delivery_id}/redeliver" => {
                self.redeliver(&request).await
            }
            _ => Err(Problem::NotFound.into()),
        }
    }

    async fn list(&self, request: &Request<'_>) -> Answer {
        let mut query = request.query();
        let limit = query.limit();
        let filter = filter(&mut query);
        let list_parts = list_parts(request, &filter);
        let list_parts = list_parts.each_ref().map(String::as_str);
        let list = cursor::List(&list_parts);
        let before: Option<DeliveryId> = query.cursor(list);
        query.finish()?;
        let webhook = self.webhook(request).await?;
        let page = self.page(&webhook.id, &filter, limit, before).await?;
        json(
            200,
            &List {
                items: page.items.iter().map(DeliverySummary::from).collect(),
                next_cursor: page.next.map(|position| cursor::encode(list, position.as_str())),
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
    ) -> Result<Page<Delivery, DeliveryId>, Failure> {
        let now = self.clock.now();
        let mut page = Page { items: Vec::new(), next: before };
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

    async fn get(&self, request: &Request<'_>) -> Answer {
        request.no_query()?;
        let (_, delivery) = self.delivery(request).await?;
        json(200, &DeliveryDetail::new(&delivery)?)
    }

    async fn redeliver(&self, request: &Request<'_>) -> Answer {
        request.no_query()?;
        let unknown = refuse_fields(&request.optional_body()?);
        if !unknown.is_empty() {
            return Err(unknown.into());
        }
        let (webhook, delivery) = self.delivery(request).await?;
        if !webhook.is_active {
            return Err(Problem::WebhookInactive.into());
        }
        let now = self.clock.now();
        let delivery_id = DeliveryId::new(now, self.random.bytes());
        let again = NewDelivery::redelivery_of(&delivery, delivery_id);
        // Its record is written at the first attempt. What is shown until then is what will stand
        // there first; when that expires is not shown.
        let shown = Delivery::new(&again, now, now);
        self.send(DeliveryTask::FirstAttempt(again)).await?;
        json(202, &DeliverySummary::from(&shown))
    }

    async fn send(&self, task: DeliveryTask) -> Result<(), Failure> {
        let refused = self.queue.send(&[Outgoing { task, delay: Duration::ZERO }]).await?;
        if refused.is_empty() {
            return Ok(());
        }
        Err(QueueError::Unavailable("it did not take the task".into()).into())
    }

    /// The webhook of the request, where it is the caller's. Strongly consistent: who has just made
    /// a webhook can ask for its history.
    async fn webhook(&self, request: &Request<'_>) -> Result<Subscription, Failure> {
        let id = request.id("id")?;
        let found = self.subscriptions.get(request.caller(), &id, Consistency::Strong).await?;
        found.ok_or(Failure::Problem(Problem::NotFound))
    }

    /// The delivery of the request and its webhook, where they are the caller's.
    async fn delivery(&self, request: &Request<'_>) -> Result<(Subscription, Delivery), Failure> {
        let webhook = self.webhook(request).await?;
        let id = request.id("delivery_id")?;
        let found = self.deliveries.get(&webhook.id, &id, Consistency::Strong).await?;
        Ok((webhook, found.ok_or(Failure::Problem(Problem::NotFound))?))
    }
}

fn filter(query: &mut Query) -> DeliveryFilter {
    let filter = DeliveryFilter {
        status: query.take("status", |text| text.parse().map_err(|_| statuses())),
        event_type: query.take("event_type", |text| {
            text.parse().map_err(|_| "must be an event type of the catalogue".to_owned())
        }),
        since: query.moment("since"),
        until: query.moment("until"),
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

/// What a cursor is bound to: the owner, the webhook, and every filter as it was understood, so that
/// another spelling of the same moment is the same list.
fn list_parts(request: &Request<'_>, filter: &DeliveryFilter) -> [String; 7] {
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

/// Nothing is the empty text, which no filter is.
fn text(value: Option<impl ToString>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}
