//! Recoveries of a webhook: ask for one, list them, show one, cancel one.

use std::time::Duration;

use lambda_http::http::StatusCode;
use lambda_http::{Body, Response};
use serde::Serialize;
use serde_json::Value;
use webhooks_api::problem::Problem;
use webhooks_api::view::RecoveryView;
use webhooks_api::{ApiError, AuthenticatedRequest, Fields, boolean, json, no_content, string};
use webhooks_core::catalogue::EventType;
use webhooks_core::delivery::Status;
use webhooks_core::ids::DeliveryId;
use webhooks_core::limits::{EVENT_TYPES_MAX, RECOVERIES_LISTED_MAX, RECOVERIES_RUNNING_MAX};
use webhooks_core::ports::{DeliveryFilter, Written};
use webhooks_core::recovery::{self, Outcomes, Recovery, RecoveryStatus, Selection};
use webhooks_core::subscription::Subscription;
use webhooks_core::time::Timestamp;

use crate::DeliveryHistory;

/// How often a cancellation is tried against pages that are sent meanwhile.
const CANCEL_TRIES: usize = 5;
/// How often a start is tried against others of the same webhook.
const START_TRIES: usize = 10;
/// The deliveries that one read of a count asks for.
const COUNT_PAGE: usize = 1_000;

/// What a request asks for.
struct Asked {
    selection: Selection,
    dry_run: bool,
}

#[derive(Serialize)]
struct Matched {
    matched: u64,
}

#[derive(Serialize)]
struct Items<'a> {
    items: Vec<RecoveryView<'a>>,
}

impl DeliveryHistory {
    pub(crate) async fn recover(
        &self,
        request: &AuthenticatedRequest<'_>,
    ) -> Result<Response<Body>, ApiError> {
        request.no_query()?;
        let now = self.clock.now();
        let Asked { selection, dry_run } = asked(request.body()?, now)?;
        let webhook = self.webhook(request).await?;
        if dry_run {
            let matched = self.count(&webhook, &selection, now).await?;
            return json(StatusCode::OK, &Matched { matched });
        }
        if !webhook.is_active {
            return Err(Problem::WebhookInactive.into());
        }
        // As one redelivery, however many it makes: its rate is bounded, but not its number.
        self.count_redelivery(request.caller(), now).await?;
        let recovery = self.start(&webhook, selection, now).await?;
        // When this is not sent, the retry function sends it later.
        self.send(recovery.page_task(0, Duration::ZERO)).await?;
        json(StatusCode::ACCEPTED, &RecoveryView::new(&recovery, Outcomes::default()))
    }

    /// Stores a new recovery, unless too many are running. It is stored only if no other was started since
    /// the running ones were counted; otherwise they are counted again.
    async fn start(
        &self,
        webhook: &Subscription,
        selection: Selection,
        now: Timestamp,
    ) -> Result<Recovery, ApiError> {
        let mut tried: Option<Recovery> = None;
        for _ in 0..START_TRIES {
            let started = self.recoveries.started_recoveries(&webhook.id).await?;
            let others = self.recoveries.recoveries(&webhook.id, RECOVERIES_LISTED_MAX).await?;
            // A repeated request of ours has written it.
            let written = tried.filter(|tried| others.iter().any(|other| other.id == tried.id));
            if let Some(written) = written {
                return Ok(written);
            }
            // Those that the service starts by itself do not count.
            let running = others.iter().filter(|other| other.is_running() && !other.is_automatic);
            if running.count() >= RECOVERIES_RUNNING_MAX {
                return Err(Problem::RecoveryLimitReached.into());
            }
            let id = recovery::next_id(&others, now, self.random.bytes());
            let recovery = Recovery::new(id, webhook, selection.clone(), self.retention);
            if self.recoveries.start_recovery(&recovery, started).await? == Written::Applied {
                return Ok(recovery);
            }
            tried = Some(recovery);
        }
        Err(Problem::EditConflict.into())
    }

    /// How many deliveries a recovery would send.
    async fn count(
        &self,
        webhook: &Subscription,
        selection: &Selection,
        now: Timestamp,
    ) -> Result<u64, ApiError> {
        let filter = DeliveryFilter {
            status: Some(selection.status),
            since: Some(selection.since),
            until: Some(selection.until),
            ..DeliveryFilter::default()
        };
        let mut matched = 0;
        let mut after: Option<DeliveryId> = None;
        loop {
            let page =
                self.recoveries.oldest(&webhook.id, &filter, COUNT_PAGE, after.as_ref(), now);
            let page = page.await?;
            let selected = page.items.iter().filter(|delivery| selection.selects(delivery));
            matched += u64::try_from(selected.count()).expect("a page is small");
            after = page.next;
            if after.is_none() {
                return Ok(matched);
            }
        }
    }

    pub(crate) async fn list_recoveries(
        &self,
        request: &AuthenticatedRequest<'_>,
    ) -> Result<Response<Body>, ApiError> {
        request.no_query()?;
        let webhook = self.webhook(request).await?;
        let recoveries = self.recoveries.recoveries(&webhook.id, RECOVERIES_LISTED_MAX).await?;
        let items = recoveries.iter().map(RecoveryView::without_outcomes).collect();
        json(StatusCode::OK, &Items { items })
    }

    pub(crate) async fn get_recovery(
        &self,
        request: &AuthenticatedRequest<'_>,
    ) -> Result<Response<Body>, ApiError> {
        request.no_query()?;
        let (webhook, recovery) = self.recovery(request).await?;
        if recovery.selection.is_of_held() {
            // It makes no redeliveries that could be counted.
            return json(StatusCode::OK, &RecoveryView::without_outcomes(&recovery));
        }
        let outcomes = self.recoveries.outcomes(&webhook.id, recovery.created_at()).await?;
        json(StatusCode::OK, &RecoveryView::new(&recovery, outcomes))
    }

    pub(crate) async fn cancel_recovery(
        &self,
        request: &AuthenticatedRequest<'_>,
    ) -> Result<Response<Body>, ApiError> {
        request.no_query()?;
        for _ in 0..CANCEL_TRIES {
            let (_, mut recovery) = self.recovery(request).await?;
            if !recovery.is_running() {
                return Ok(no_content());
            }
            recovery.end(RecoveryStatus::Cancelled, self.clock.now());
            let page = recovery.page;
            if self.recoveries.put_recovery(&recovery, page).await? == Written::Applied {
                return Ok(no_content());
            }
        }
        Err(Problem::EditConflict.into())
    }

    /// The recovery of the request and its webhook, if the caller owns them.
    async fn recovery(
        &self,
        request: &AuthenticatedRequest<'_>,
    ) -> Result<(Subscription, Recovery), ApiError> {
        let webhook = self.webhook(request).await?;
        let id = request.id("recovery_id")?;
        let found = self.recoveries.recovery(&webhook.id, &id).await?;
        Ok((webhook, found.ok_or(ApiError::Problem(Problem::NotFound))?))
    }
}

fn asked(mut fields: Fields<Value>, now: Timestamp) -> Result<Asked, Problem> {
    let since = fields.required("since", time);
    let until = fields.nullable("until", time).flatten();
    let status = fields.optional("status", status);
    let event_types = fields.optional("event_types", event_types);
    let dry_run = fields.optional("dry_run", boolean);
    // What happens from now on is no part of it, nor are its own redeliveries.
    let until = until.map_or(now, |until| until.min(now));
    if since.is_some_and(|since| since >= until) {
        fields.refuse("since", "must be earlier than `until` and than the present");
    }
    fields.finish()?;
    Ok(Asked {
        selection: Selection {
            since: since.expect("it is required"),
            until,
            status: status.unwrap_or(Status::Failed),
            event_types: event_types.unwrap_or_default(),
            ended_since: None,
        },
        dry_run: dry_run.unwrap_or(false),
    })
}

fn time(value: &Value) -> Result<Timestamp, String> {
    let example = "must be an RFC 3339 date and time, such as 2026-01-31T09:30:00Z";
    string(value).ok().and_then(|text| Timestamp::parse(&text)).ok_or_else(|| example.to_owned())
}

fn status(value: &Value) -> Result<Status, String> {
    match string(value)?.parse() {
        Ok(status @ (Status::Failed | Status::Success | Status::Held)) => Ok(status),
        _ => Err("must be failed, success or held".to_owned()),
    }
}

fn event_types(value: &Value) -> Result<Vec<EventType>, String> {
    let refused =
        || format!("must be a list of 1 to {EVENT_TYPES_MAX} event types of the catalogue");
    let items = value.as_array().ok_or_else(refused)?;
    if !(1..=EVENT_TYPES_MAX).contains(&items.len()) {
        return Err(refused());
    }
    let read = |item: &Value| item.as_str().and_then(|name| name.parse().ok());
    items.iter().map(read).collect::<Option<_>>().ok_or_else(refused)
}
