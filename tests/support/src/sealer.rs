//! Secrets that are sealed for tests only.

use webhooks_core::ids::{SubscriptionId, UserId};
use webhooks_core::secret::{OpenError, SealedSecret, Secret, SecretOpener, SecretSealer};
use webhooks_core::subscription::Subscription;

/// Writes owner and subscription before the secret and encrypts nothing: a sealed secret opens
/// only in its own row, and the same secret is sealed the same each time.
#[derive(Clone, Copy, Debug, Default)]
pub struct TestSealer;

impl TestSealer {
    /// Every secret of a subscription, newest first.
    pub fn secrets_of(self, subscription: &Subscription) -> Vec<Secret> {
        let previous = subscription.secrets.previous.iter().map(|previous| &previous.sealed);
        std::iter::once(&subscription.secrets.current)
            .chain(previous)
            .map(|sealed| {
                let opened = self.open(sealed, &subscription.user_id, &subscription.id);
                opened.unwrap_or_else(|error| panic!("{}: {error}", subscription.id))
            })
            .collect()
    }
}

fn prefix(user_id: &UserId, id: &SubscriptionId) -> String {
    format!("{user_id}/{id}/")
}

impl SecretSealer for TestSealer {
    fn seal(&self, secret: &Secret, user_id: &UserId, id: &SubscriptionId) -> SealedSecret {
        SealedSecret::new((prefix(user_id, id) + secret.expose()).into_bytes())
    }

    fn reseal(
        &self,
        sealed: &SealedSecret,
        user_id: &UserId,
        id: &SubscriptionId,
    ) -> Result<Option<SealedSecret>, OpenError> {
        self.open(sealed, user_id, id).map(|_| None)
    }
}

impl SecretOpener for TestSealer {
    fn open(
        &self,
        sealed: &SealedSecret,
        user_id: &UserId,
        id: &SubscriptionId,
    ) -> Result<Secret, OpenError> {
        let text = std::str::from_utf8(sealed.as_bytes()).map_err(|_| OpenError::Form)?;
        let secret = text.strip_prefix(&prefix(user_id, id)).ok_or(OpenError::NotAuthentic)?;
        Secret::parse(secret).map_err(|_| OpenError::NotASecret)
    }
}
