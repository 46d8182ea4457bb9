//! Sealing the secrets of a subscription again, after the key that seals has changed.
//!
//! It happens only when an operator asks for it: [`reseal`] once for each key of
//! [`Subscriptions::scan_keys`]. The old key can be dropped when every subscription has been
//! resealed. An ordinary change of a subscription keeps its sealed secrets as they are.

use crate::ids::{SubscriptionId, UserId};
use crate::ports::{Consistency, StoreError, SubscriptionWrite, Subscriptions};
use crate::secret::SecretSealer;
use crate::subscription::Subscription;

/// How often a subscription is resealed when others change it at the same time.
const TRIES: usize = 5;

/// Seals the secrets of a subscription with the sealer's current key. Returns the subscription, and
/// whether any secret was sealed otherwise; nothing when it is gone.
pub async fn reseal(
    store: &dyn Subscriptions,
    sealer: &dyn SecretSealer,
    user_id: &UserId,
    id: &SubscriptionId,
) -> Result<Option<(Subscription, bool)>, StoreError> {
    let Some(mut subscription) = store.get(user_id, id, Consistency::Strong).await? else {
        return Ok(None);
    };
    for _ in 0..TRIES {
        let version = subscription.version;
        let resealed = subscription.reseal(sealer);
        if !resealed.map_err(|error| subscription.undecodable(error))? {
            return Ok(Some((subscription, false)));
        }
        match store.update(&subscription, version).await? {
            SubscriptionWrite::Applied => return Ok(Some((subscription, true))),
            SubscriptionWrite::Conflict(current) => subscription = *current,
            SubscriptionWrite::Missing => return Ok(None),
        }
    }
    Err(StoreError::Unavailable("the subscription changes all the time".into()))
}
