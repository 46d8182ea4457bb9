//! The webhooks of a user: create, list, get, change, delete, and a new secret.
//!
//! Every request reads and writes inside the caller's own partition of the table, so somebody else's
//! webhook is not refused but not there. A change is a conditional write on the version that was
//! read. On a conflict it is made again on what the table has then.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};
use webhooks_api::view::{List, Webhook, WebhookWithSecret, WebhookWithStatistics};
use webhooks_api::{
    ApiGatewayV2httpRequest, ApiGatewayV2httpResponse, Failure, Request, created, json, no_content,
    refuse_fields, respond,
};
use webhooks_core::cursor;
use webhooks_core::ids::{SubscriptionId, UserId};
use webhooks_core::ports::{
    Clock, Consistency, Creation, Random, Statistics, SubscriptionWrite, Subscriptions,
};
use webhooks_core::problem::{FieldError, Problem};
use webhooks_core::secret::Secret;
use webhooks_core::statistics::Totals;
use webhooks_core::subscription::{NewSubscription, Patch, Subscription};
use webhooks_core::target::TargetPolicy;

type Answer = Result<ApiGatewayV2httpResponse, Failure>;

/// How often a change is tried when others change the same webhook.
const CHANGE_TRIES: usize = 5;
/// How long the old secret still signs after a rotation when the user does not say, in seconds.
const OVERLAP_SECONDS_DEFAULT: u64 = 86_400;
/// How long the old secret may still sign after a rotation, in seconds: a week.
const OVERLAP_SECONDS_MAX: u64 = 604_800;

/// The function and what it needs.
pub struct SubscriptionsApi {
    /// The webhooks.
    pub subscriptions: Arc<dyn Subscriptions>,
    /// Read for the statistics.
    pub statistics: Arc<dyn Statistics>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// For ids and secrets.
    pub random: Arc<dyn Random>,
    /// Which URLs are taken.
    pub policy: TargetPolicy,
    /// How far the statistics reach back.
    pub retention: Duration,
}

impl SubscriptionsApi {
    /// Answers a request; what goes wrong is an answer too.
    pub async fn handle(&self, request: ApiGatewayV2httpRequest) -> ApiGatewayV2httpResponse {
        respond(&request, self.answer(&request).await)
    }

    async fn answer(&self, request: &ApiGatewayV2httpRequest) -> Answer {
        let request = Request::read(request)?;
        match request.route() {
            "POST /api/webhooks" => self.create(&request).await,
            "GET /api/webhooks" => self.list(&request).await,
            "GET /api/webhooks/{id}" => self.get(&request).await,
            "PATCH /api/webhooks/{id}" => self.patch(&request).await,
            "DELETE /api/webhooks/{id}" => self.delete(&request).await,
            "POST /api/webhooks/{id}/rotate-secret" => self.rotate_secret(&request).await,
            _ => Err(Problem::NotFound.into()),
        }
    }

    async fn create(&self, request: &Request<'_>) -> Answer {
        request.no_query()?;
        let wish = NewSubscription::parse(request.body()?, self.policy)?;
        let now = self.clock.now();
        let id = SubscriptionId::new(now, self.random.bytes());
        let caller = request.caller().clone();
        let subscription = Subscription::new(caller, id, wish, self.new_secret(), now);
        match self.subscriptions.create(&subscription).await? {
            Creation::LimitReached => Err(Problem::WebhookLimitReached.into()),
            Creation::DailyLimitReached => Err(Problem::CreationLimitReached.into()),
            Creation::Created => created(
                &format!("/api/webhooks/{}", subscription.id),
                &WebhookWithSecret::from(&subscription),
            ),
        }
    }

    async fn list(&self, request: &Request<'_>) -> Answer {
        let caller = request.caller();
        let list_parts = [caller.as_str(), "webhooks"];
        let list = cursor::List(&list_parts);
        let mut query = request.query();
        let limit = query.limit();
        let before: Option<SubscriptionId> = query.cursor(list);
        query.finish()?;
        let page = self.subscriptions.page(caller, limit, before.as_ref()).await?;
        json(
            200,
            &List {
                items: page.items.iter().map(Webhook::from).collect(),
                next_cursor: page.next.map(|position| cursor::encode(list, position.as_str())),
            },
        )
    }

    async fn get(&self, request: &Request<'_>) -> Answer {
        request.no_query()?;
        let subscription = self.read(request.caller(), &request.id("id")?).await?;
        let since = self.clock.now().minus(self.retention);
        let hours = self.statistics.counters(&subscription.id, since).await?;
        json(200, &WebhookWithStatistics::new(&subscription, &Totals::of(&hours)))
    }

    async fn patch(&self, request: &Request<'_>) -> Answer {
        request.no_query()?;
        let patch = Patch::parse(request.body()?, self.policy)?;
        let now = self.clock.now();
        let changed = self.change(request, |webhook| webhook.apply(patch.clone(), now)).await?;
        json(200, &Webhook::from(&changed))
    }

    async fn delete(&self, request: &Request<'_>) -> Answer {
        request.no_query()?;
        if self.subscriptions.delete(request.caller(), &request.id("id")?).await? {
            Ok(no_content())
        } else {
            Err(Problem::NotFound.into())
        }
    }

    async fn rotate_secret(&self, request: &Request<'_>) -> Answer {
        request.no_query()?;
        let overlap = overlap_seconds(request.optional_body()?)?;
        let secret = self.new_secret();
        let now = self.clock.now();
        let overlap_end = now.plus_seconds(overlap);
        let rotate = |webhook: &mut Subscription| webhook.rotate(secret.clone(), overlap_end, now);
        let changed = self.change(request, rotate).await?;
        json(200, &WebhookWithSecret::from(&changed))
    }

    /// Changes the webhook of the request, also while others change it.
    async fn change(
        &self,
        request: &Request<'_>,
        change: impl Fn(&mut Subscription),
    ) -> Result<Subscription, Failure> {
        let mut subscription = self.read(request.caller(), &request.id("id")?).await?;
        for _ in 0..CHANGE_TRIES {
            let version = subscription.version;
            change(&mut subscription);
            match self.subscriptions.update(&subscription, version).await? {
                SubscriptionWrite::Applied => return Ok(subscription),
                SubscriptionWrite::Conflict(current) => subscription = *current,
                SubscriptionWrite::Missing => return Err(Problem::NotFound.into()),
            }
        }
        Err(Problem::EditConflict.into())
    }

    /// Strongly consistent: who has just written a webhook finds it as it was written.
    async fn read(&self, caller: &UserId, id: &SubscriptionId) -> Result<Subscription, Failure> {
        let found = self.subscriptions.get(caller, id, Consistency::Strong).await?;
        found.ok_or(Failure::Problem(Problem::NotFound))
    }

    fn new_secret(&self) -> Secret {
        Secret::from_random(&self.random.bytes())
    }
}

/// Reads the body of a request for a new secret.
fn overlap_seconds(mut body: Map<String, Value>) -> Result<u64, Vec<FieldError>> {
    const FIELD: &str = "overlap_seconds";
    let given = body.remove(FIELD);
    let mut errors = refuse_fields(&body);
    let seconds = given.map_or(Some(OVERLAP_SECONDS_DEFAULT), |value| value.as_u64());
    match seconds.filter(|seconds| *seconds <= OVERLAP_SECONDS_MAX) {
        Some(seconds) if errors.is_empty() => return Ok(seconds),
        Some(_) => {}
        None => {
            let message = format!("must be a whole number from 0 to {OVERLAP_SECONDS_MAX}");
            errors.insert(0, FieldError::new(FIELD, message));
        }
    }
    Err(errors)
}
