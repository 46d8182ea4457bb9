//! `GET /api/webhooks/{id}/stats`: the counters of a webhook over time.

use std::time::Duration;

use lambda_http::http::StatusCode;
use lambda_http::{Body, Response};
use webhooks_api::view::{StatsBucket, StatsSeries};
use webhooks_api::{ApiError, AuthenticatedRequest, Query, json};
use webhooks_core::limits::{STATS_DAYS_DEFAULT, STATS_HOURS_DEFAULT};
use webhooks_core::statistics::{Bucket, series};
use webhooks_core::time::Timestamp;

use crate::SubscriptionsApi;

const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

/// The hours that are asked for: from `since` on, before `until`.
struct Range {
    bucket: Bucket,
    since: Timestamp,
    until: Timestamp,
}

impl Range {
    /// Reads `bucket`, `since` and `until`. Without `since`, a day of hours or 30 days.
    fn read(mut query: Query, now: Timestamp) -> Result<Self, ApiError> {
        let bucket = query.optional("bucket", |text| match text.as_str() {
            "hour" => Ok(Bucket::Hour),
            "day" => Ok(Bucket::Day),
            _ => Err("must be `hour` or `day`".to_owned()),
        });
        let bucket = bucket.unwrap_or(Bucket::Hour);
        let given = query.time("until");
        let until = given.unwrap_or(now.plus(HOUR));
        let default = match bucket {
            Bucket::Hour => HOUR * STATS_HOURS_DEFAULT,
            Bucket::Day => DAY * STATS_DAYS_DEFAULT,
        };
        let asked = query.time("since");
        let since = asked.unwrap_or(until.minus(default));
        if given.is_some() && asked.is_some_and(|since| since >= until) {
            query.refuse("until", "must be later than `since`");
        }
        query.finish()?;
        Ok(Self { bucket, since: bucket.start(since), until })
    }
}

impl SubscriptionsApi {
    /// The buckets with counters, oldest first.
    pub(crate) async fn stats(
        &self,
        request: &AuthenticatedRequest<'_>,
    ) -> Result<Response<Body>, ApiError> {
        let Range { bucket, since, until } = Range::read(request.query(), self.clock.now())?;
        let webhook = self.read(request.caller(), &request.id("id")?).await?;
        let mut hours = self.statistics.counters(&webhook.id, since).await?;
        hours.retain(|hour| hour.hour < until);
        let items = series(&hours, bucket).into_iter().map(StatsBucket::from).collect();
        json(StatusCode::OK, &StatsSeries { items })
    }
}
