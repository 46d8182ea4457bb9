//! Sealing the secrets of every subscription with the current key, on request of an operator who has
//! changed the keys.
//!
//! A run that is repeated changes nothing more. One that runs out of time says where the next has to
//! begin.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use webhooks_aws::Sealer;
use webhooks_core::ids::{SubscriptionId, UserId};
use webhooks_core::ports::{Clock, Consistency, StoreError, SubscriptionKey, Subscriptions};
use webhooks_core::reseal::reseal;
use webhooks_core::time::Timestamp;

/// Subscriptions that one request reads.
const SUBSCRIPTIONS: usize = 100;

/// Reads and changes the subscriptions.
pub struct Reseal {
    subscriptions: Arc<dyn Subscriptions>,
    sealer: Arc<Sealer>,
    clock: Arc<dyn Clock>,
}

/// What the operator asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ResealRequest {
    /// Only counts.
    pub dry_run: bool,
    /// Where the run before ended.
    pub after: Option<Position>,
}

/// A place in the Subscriptions table.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Position {
    /// The owner.
    pub user_id: UserId,
    /// The subscription.
    pub subscription_id: SubscriptionId,
}

/// What one run did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ResealReport {
    /// Subscriptions looked at.
    pub subscriptions: usize,
    /// Subscriptions whose secrets are now sealed with the current key, and were not.
    pub resealed: usize,
    /// Secrets and header values by the id of the key that they are sealed with, after the run.
    pub secrets_by_key: BTreeMap<String, usize>,
    /// Where the next run has to begin, if the time ran out.
    pub next: Option<Position>,
}

impl Reseal {
    /// A run over these subscriptions.
    pub fn new(
        subscriptions: Arc<dyn Subscriptions>,
        sealer: Arc<Sealer>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { subscriptions, sealer, clock }
    }

    /// Does one run, and stops soon after `deadline`.
    pub async fn handle(
        &self,
        request: ResealRequest,
        deadline: Timestamp,
    ) -> Result<ResealReport, StoreError> {
        let mut report = ResealReport::default();
        let mut position = request.after.map(SubscriptionKey::from);
        loop {
            let page = self.subscriptions.scan_keys(SUBSCRIPTIONS, position.as_ref()).await?;
            for row in page.items {
                if self.clock.now() >= deadline {
                    report.next = position.map(Position::from);
                    return Ok(ended(report));
                }
                if !row.deleted {
                    self.row(&row, request.dry_run, &mut report).await?;
                }
                position = Some(row);
            }
            position = page.next;
            if position.is_none() {
                return Ok(ended(report));
            }
        }
    }

    async fn row(
        &self,
        row: &SubscriptionKey,
        dry_run: bool,
        report: &mut ResealReport,
    ) -> Result<(), StoreError> {
        let (user_id, id) = (&row.user_id, &row.subscription_id);
        let store = self.subscriptions.as_ref();
        let found = if dry_run {
            store.get(user_id, id, Consistency::Strong).await?.map(|found| (found, false))
        } else {
            reseal(store, self.sealer.as_ref(), user_id, id).await?
        };
        if let Some((subscription, is_resealed)) = found {
            report.subscriptions += 1;
            report.resealed += usize::from(is_resealed);
            for sealed in subscription.sealed() {
                let key =
                    Sealer::key_id(sealed).map_err(|error| subscription.undecodable(error))?;
                *report.secrets_by_key.entry(key.to_owned()).or_default() += 1;
            }
        }
        Ok(())
    }
}

impl From<Position> for SubscriptionKey {
    fn from(Position { user_id, subscription_id }: Position) -> Self {
        Self { user_id, subscription_id, deleted: false }
    }
}

impl From<SubscriptionKey> for Position {
    fn from(SubscriptionKey { user_id, subscription_id, .. }: SubscriptionKey) -> Self {
        Self { user_id, subscription_id }
    }
}

fn ended(report: ResealReport) -> ResealReport {
    tracing::info!(
        subscriptions = report.subscriptions,
        resealed = report.resealed,
        finished = report.next.is_none(),
        "resealing ended"
    );
    report
}
