//! Sealing the secrets of a subscription again, after the key that seals has changed.
//!
//! It happens only when an operator asks for it: [`reseal`] once for each key of
//! [`Subscriptions::scan_keys`]. The old key can be dropped when every subscription has been
//! resealed. An ordinary change of a subscription keeps its sealed secrets as they are.

use crate::ids::{SubscriptionId, UserId};
use crate::ports::{Consistency, StoreError, SubscriptionWrite, Subscriptions};
use crate::secret::SecretSealer;

/// How often a subscription is resealed when others change it at the same time.
const TRIES: usize = 5;

/// Seals the secrets of a subscription with the sealer's current key. The result tells whether any
/// was sealed otherwise; a subscription that is gone has none.
pub async fn reseal(
    store: &dyn Subscriptions,
    sealer: &dyn SecretSealer,
    user_id: &UserId,
    id: &SubscriptionId,
) -> Result<bool, StoreError> {
    let Some(mut subscription) = store.get(user_id, id, Consistency::Strong).await? else {
        return Ok(false);
    };
    for _ in 0..TRIES {
        let version = subscription.version;
        let resealed = subscription.reseal(sealer);
        if !resealed.map_err(|error| subscription.undecodable(error))? {
            return Ok(false);
        }
        match store.update(&subscription, version).await? {
            SubscriptionWrite::Applied => return Ok(true),
            SubscriptionWrite::Conflict(current) => subscription = *current,
            SubscriptionWrite::Missing => return Ok(false),
        }
    }
    Err(StoreError::Unavailable("the subscription changes all the time".into()))
}
