//! Lists of deliveries: the history of one webhook, or those of all webhooks of a user, merged newest first.
//!
//! The histories are in different partitions, and an index over all deliveries of a user would cost a
//! second write for each. So a page reads every history as far as it needs it. The ids of deliveries sort by
//! time in every history, so one id is the position in all of them: the *cursor* of a page.
//!
//! A page reads no more than a bound, however little its filter leaves. A page that reaches the bound can have
//! fewer deliveries than asked for, and the next one continues where it stopped.

use std::cmp::Reverse;
use std::collections::VecDeque;

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use lambda_http::http::StatusCode;
use lambda_http::{Body, Response};
use webhooks_api::cursor::{self, CursorScope};
use webhooks_api::problem::Problem;
use webhooks_api::view::{DeliverySummary, Page};
use webhooks_api::{ApiError, AuthenticatedRequest, Query, json};
use webhooks_core::delivery::{Delivery, Status};
use webhooks_core::ids::{DeliveryId, IdError};
use webhooks_core::ports::{Consistency, DeliveryFilter};
use webhooks_core::subscription::Subscription;

use crate::DeliveryHistory;

/// The reads of a page besides the first of each webhook.
pub(crate) const FURTHER_READS_MAX: usize = 10;
/// The deliveries that the reads of a page look at, at most.
pub(crate) const ROWS_MAX: usize = 10_000;
/// The deliveries that one read looks at, at most.
const READ_ROWS_MAX: usize = 1_000;
/// The fewest deliveries that one read looks at.
const READ_ROWS_MIN: usize = 5;
/// The fewest that the first read of a filtered history looks at.
const FILTERED_ROWS_MIN: usize = 50;
/// Every further read of a history looks at this many times as many as the one before.
const READ_GROWTH: usize = 4;
/// The reads that are made concurrently.
const CONCURRENT_READS: usize = 20;

/// The history of a webhook, as far as it was read.
struct History {
    webhook: Subscription,
    /// What was read and is not on the page yet, newest first.
    found: VecDeque<Delivery>,
    /// It was read up to here; nothing when it was not read yet.
    position: Option<DeliveryId>,
    has_more: bool,
    /// The deliveries that the next read looks at.
    next_rows: usize,
}

impl History {
    /// Whether it must be read on before anybody knows which of its deliveries is the next.
    fn is_open(&self) -> bool {
        self.found.is_empty() && self.has_more
    }

    fn newest(&self) -> Option<&DeliveryId> {
        self.found.front().map(|delivery| &delivery.id)
    }
}

/// A page that is being read.
struct Reading {
    histories: Vec<History>,
    /// The deliveries of the page, each with the index of its history.
    items: Vec<(usize, Delivery)>,
    reads_left: usize,
    rows_left: usize,
}

impl Reading {
    /// Starts to read the deliveries that are older than `before`.
    fn new(
        webhooks: Vec<Subscription>,
        filter: &DeliveryFilter,
        limit: usize,
        before: Option<&DeliveryId>,
    ) -> Self {
        let next_rows = first_rows(filter, limit, webhooks.len());
        let history = |webhook| History {
            webhook,
            found: VecDeque::new(),
            position: before.cloned(),
            has_more: true,
            next_rows,
        };
        Self {
            reads_left: webhooks.len() + FURTHER_READS_MAX,
            histories: webhooks.into_iter().map(history).collect(),
            items: Vec::new(),
            rows_left: ROWS_MAX,
        }
    }

    /// The newest position of the open histories, each of which was read: what they have not shown yet is older.
    fn open_from(&self) -> Option<DeliveryId> {
        let open = self.histories.iter().filter(|history| history.is_open());
        open.filter_map(|history| history.position.clone()).max()
    }

    /// Moves what was found to the page, as long as it is certain what is the newest.
    fn merge(&mut self, limit: usize) {
        let mut open_from = self.open_from();
        while self.items.len() < limit {
            let newest = self.histories.iter().enumerate();
            let newest = newest.filter_map(|(index, history)| Some((history.newest()?, index)));
            let Some((id, index)) = newest.max() else { return };
            if open_from.as_ref().is_some_and(|position| id < position) {
                return;
            }
            let history = &mut self.histories[index];
            self.items.extend(history.found.pop_front().map(|delivery| (index, delivery)));
            if history.is_open() {
                open_from = self.open_from();
            }
        }
    }

    /// The open histories that are to be read next, those with the newest positions first, with the
    /// number of deliveries to look at. None when the page has read as much as it may.
    fn next_reads(&mut self) -> Vec<(usize, usize)> {
        let mut open: Vec<usize> =
            (0..self.histories.len()).filter(|index| self.histories[*index].is_open()).collect();
        open.sort_by_key(|index| Reverse(self.histories[*index].position.clone()));
        open.truncate(self.reads_left);
        let mut reads = Vec::new();
        for index in open {
            let history = &mut self.histories[index];
            let rows = history.next_rows.min(self.rows_left);
            if rows == 0 {
                break;
            }
            history.next_rows = (rows * READ_GROWTH).min(READ_ROWS_MAX);
            self.rows_left -= rows;
            self.reads_left -= 1;
            reads.push((index, rows));
        }
        reads
    }

    /// The position after which the next page begins; none when there is no next page.
    fn next(&self, limit: usize) -> Option<DeliveryId> {
        if self.items.len() < limit {
            return self.open_from();
        }
        let has_more =
            self.histories.iter().any(|history| history.is_open() || history.newest().is_some());
        self.items.last().map(|(_, delivery)| delivery.id.clone()).filter(|_| has_more)
    }
}

/// The deliveries that the first read of each history looks at.
fn first_rows(filter: &DeliveryFilter, limit: usize, webhooks: usize) -> usize {
    // Twice its share of the page: not all webhooks get the same.
    let share = (2 * limit).div_ceil(webhooks.max(1)).min(limit).max(READ_ROWS_MIN);
    // Half of all that the page may look at.
    let most = (ROWS_MAX / 2 / webhooks.max(1)).clamp(share, READ_ROWS_MAX);
    if filter.event_id.is_some() {
        // An event is in few deliveries.
        return most;
    }
    // The further reads of one history grow with what the filter leaves out. Many histories share those reads.
    let is_filtered = filter.event_type.is_some() || filter.status == Some(Status::Success);
    let shares_reads = webhooks > 1;
    if is_filtered && shares_reads {
        (share * READ_GROWTH).max(FILTERED_ROWS_MIN).min(most)
    } else {
        share
    }
}

impl DeliveryHistory {
    /// Lists the deliveries of a webhook.
    pub(crate) async fn list(
        &self,
        request: &AuthenticatedRequest<'_>,
    ) -> Result<Response<Body>, ApiError> {
        let mut query = request.query();
        let limit = query.limit();
        let filter = filter(&mut query);
        let id = request.parameter("id");
        let list = ["deliveries".to_owned(), id.to_owned()];
        self.listing(request, (query, limit), filter, &list, Some(id)).await
    }

    /// Lists the deliveries of all webhooks of the caller, or of one.
    pub(crate) async fn list_all(
        &self,
        request: &AuthenticatedRequest<'_>,
    ) -> Result<Response<Body>, ApiError> {
        let mut query = request.query();
        let limit = query.limit();
        let webhook_id = query.optional("webhook_id", |text| Ok(text.clone()));
        let event_id = query
            .optional("event_id", |text| text.parse().map_err(|error: IdError| error.to_string()));
        let filter = DeliveryFilter { event_id, ..filter(&mut query) };
        let list = [
            "all deliveries".to_owned(),
            text(webhook_id.as_ref()),
            text(filter.event_id.as_ref()),
        ];
        self.listing(request, (query, limit), filter, &list, webhook_id.as_deref()).await
    }

    /// A page of the deliveries of all webhooks of the caller, or of one. `list` tells this list from others
    /// in its cursors.
    async fn listing(
        &self,
        request: &AuthenticatedRequest<'_>,
        (mut query, limit): (Query, usize),
        filter: DeliveryFilter,
        list: &[String],
        webhook_id: Option<&str>,
    ) -> Result<Response<Body>, ApiError> {
        let filters =
            [text(filter.status), text(filter.event_type), text(filter.since), text(filter.until)];
        let caller = request.caller().to_string();
        let scope = [&caller].into_iter().chain(list).chain(&filters);
        let scope: Vec<&str> = scope.map(String::as_str).collect();
        let scope = CursorScope(&scope);
        let before: Option<DeliveryId> = query.cursor(scope);
        query.finish()?;
        let webhooks = self.webhooks(request, webhook_id).await?;
        self.page(Reading::new(webhooks, &filter, limit, before.as_ref()), &filter, limit, scope)
            .await
    }

    /// The webhooks of the caller, or the one of this id. Strongly consistent.
    async fn webhooks(
        &self,
        request: &AuthenticatedRequest<'_>,
        id: Option<&str>,
    ) -> Result<Vec<Subscription>, ApiError> {
        let caller = request.caller();
        if let Some(id) = id {
            let id = id.parse().map_err(|_| Problem::NotFound)?;
            let found = self.subscriptions.get(caller, &id, Consistency::Strong).await?;
            return Ok(vec![found.ok_or(Problem::NotFound)?]);
        }
        let found = self.subscriptions.list_by_user(caller).await?.items;
        let readable = found.into_iter().filter_map(|webhook| {
            webhook
                .inspect_err(|unreadable| {
                    tracing::error!(
                        subscription_id = %unreadable.id,
                        reason = unreadable.reason,
                        "a webhook cannot be read, its deliveries are not listed"
                    );
                })
                .ok()
        });
        Ok(readable.collect())
    }

    /// Reads until the page is full, every history ends, or as much was read as one page may read.
    async fn page(
        &self,
        mut reading: Reading,
        filter: &DeliveryFilter,
        limit: usize,
        scope: CursorScope<'_>,
    ) -> Result<Response<Body>, ApiError> {
        while reading.items.len() < limit {
            let reads = reading.next_reads();
            if reads.is_empty() {
                break;
            }
            self.read(&mut reading.histories, &reads, filter).await?;
            reading.merge(limit);
        }
        let items = reading.items.iter().map(|(index, delivery)| {
            DeliverySummary::new(delivery, &reading.histories[*index].webhook)
        });
        let next = reading.next(limit);
        let next_cursor = next.map(|position| cursor::encode(scope, position.as_str()));
        json(StatusCode::OK, &Page { items: items.collect(), next_cursor })
    }

    async fn read(
        &self,
        histories: &mut [History],
        reads: &[(usize, usize)],
        filter: &DeliveryFilter,
    ) -> Result<(), ApiError> {
        let now = self.clock.now();
        let read = |(index, rows): (usize, usize)| {
            let history = &histories[index];
            async move {
                let before = history.position.as_ref();
                let id = &history.webhook.id;
                let page = self.deliveries.page(id, filter, rows, before, now).await?;
                Ok::<_, ApiError>((index, page))
            }
        };
        let pages: Vec<_> = stream::iter(reads.iter().copied().map(read))
            .buffered(CONCURRENT_READS)
            .try_collect()
            .await?;
        for (index, page) in pages {
            let history = &mut histories[index];
            history.found = page.items.into();
            history.has_more = page.next.is_some();
            history.position = page.next.or(history.position.take());
        }
        Ok(())
    }
}

fn filter(query: &mut Query) -> DeliveryFilter {
    let filter = DeliveryFilter {
        status: query.optional("status", |text| text.parse().map_err(|_| statuses())),
        event_type: query.optional("event_type", |text| {
            text.parse().map_err(|_| "must be an event type of the catalogue".to_owned())
        }),
        event_id: None,
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

/// A part of what a cursor is bound to: the owner, the webhook, and every filter as it was parsed, so
/// that another spelling of the same time is the same list. An absent filter is the empty text, which no
/// given one is.
fn text(value: Option<impl ToString>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}
