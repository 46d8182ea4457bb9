//! Secrets that are sealed for tests only.

use webhooks_core::secret::{
    OpenError, SealedFor, SealedSecret, Secret, SecretOpener, SecretSealer,
};
use webhooks_core::signing_key::SigningKey;
use webhooks_core::subscription::Subscription;
use zeroize::Zeroizing;

/// Writes owner and subscription before the secret and encrypts nothing: a sealed secret opens
/// only in its own row, and the same secret is sealed the same each time.
#[derive(Clone, Copy, Debug, Default)]
pub struct TestSealer;

impl TestSealer {
    /// Every secret of a subscription, newest first. A key pair is none.
    pub fn secrets_of(self, subscription: &Subscription) -> Vec<Secret> {
        let keys = self.keys_of(subscription);
        keys.iter().filter_map(SigningKey::secret).cloned().collect()
    }

    /// Every signing key of a subscription, newest first.
    pub fn keys_of(self, subscription: &Subscription) -> Vec<SigningKey> {
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

fn prefix(SealedFor { user_id, id, header }: SealedFor<'_>) -> String {
    let header = header.map(|name| format!("{name}/")).unwrap_or_default();
    format!("{user_id}/{id}/{header}")
}

impl SecretSealer for TestSealer {
    fn seal_text(&self, text: &str, of: SealedFor<'_>) -> SealedSecret {
        SealedSecret::new((prefix(of) + text).into_bytes())
    }

    fn reseal_text(
        &self,
        sealed: &SealedSecret,
        of: SealedFor<'_>,
    ) -> Result<Option<SealedSecret>, OpenError> {
        self.open_text(sealed, of).map(|_| None)
    }
}

impl SecretOpener for TestSealer {
    fn open_text(
        &self,
        sealed: &SealedSecret,
        of: SealedFor<'_>,
    ) -> Result<Zeroizing<String>, OpenError> {
        let text = std::str::from_utf8(sealed.as_bytes()).map_err(|_| OpenError::Form)?;
        let text = text.strip_prefix(&prefix(of)).ok_or(OpenError::NotAuthentic)?;
        Ok(Zeroizing::new(text.to_owned()))
    }
}
