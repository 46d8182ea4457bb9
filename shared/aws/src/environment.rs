//! What a deployed function holds, as its environment says.
//!
//! A function asks for the ports it needs, and so reads just the variables it needs. Connections
//! can be opened while it is made: Lambda gives a function a whole CPU until its first event, and
//! the first TLS handshake is most of a cold start when it has to share one.

use std::sync::Arc;
use std::time::Duration;

use aws_types::SdkConfig;
use webhooks_core::ports::{Clock, Random};
use webhooks_core::target::TargetPolicy;

use crate::clients::{DYNAMODB, SECRETS_MANAGER, SQS};
use crate::config::{self, ConfigError, SECRETS_KEYS, SecretsKeys, Settings};
use crate::error::{Fault, fault};
use crate::seal::Sealer;
use crate::{
    DynamoDeliveries, DynamoSubscriptions, SqsDeadLetters, SqsTaskQueue, SystemClock, SystemRandom,
    clients,
};

const DAY_SECONDS: u64 = 24 * 60 * 60;

/// Makes the ports.
#[derive(Debug)]
pub struct Environment {
    settings: Settings,
    sdk: SdkConfig,
    dynamodb: aws_sdk_dynamodb::Client,
}

/// Why a port was not made.
#[derive(Debug, thiserror::Error)]
pub enum EnvironmentError {
    /// A variable is missing or cannot be read.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The secret with the keys cannot be fetched.
    #[error("the environment variable {SECRETS_KEYS} names the secret {name}: {reason}")]
    Secret {
        /// Its name.
        name: String,
        /// What Secrets Manager said.
        reason: String,
    },
}

impl Environment {
    /// Reads the environment of this process.
    pub fn read() -> Self {
        Self::of(Settings::from_env())
    }

    /// Reads these settings.
    pub fn of(settings: Settings) -> Self {
        let sdk = clients::from_env(&settings);
        let dynamodb = clients::dynamodb(&clients::for_service(&sdk, DYNAMODB, &settings));
        Self { settings, sdk, dynamodb }
    }

    /// The Subscriptions table, with the secrets.
    pub async fn subscriptions(&self) -> Result<Arc<DynamoSubscriptions>, EnvironmentError> {
        let keys = match self.settings.secrets_keys()? {
            SecretsKeys::Inline(keys) => keys,
            SecretsKeys::Secret(name) => self.secret(name).await?,
        };
        Ok(self.table(config::sealer(&keys, self.random())?)?)
    }

    /// The Subscriptions table; each subscription comes without its secrets.
    pub fn subscriptions_without_secrets(&self) -> Result<Arc<DynamoSubscriptions>, ConfigError> {
        self.table(Sealer::without_keys(self.random()))
    }

    /// The Deliveries table.
    pub fn deliveries(&self) -> Result<Arc<DynamoDeliveries>, ConfigError> {
        let name = self.settings.deliveries_table()?;
        Ok(Arc::new(DynamoDeliveries::new(self.dynamodb.clone(), name, self.clock())))
    }

    /// The deliveries queue.
    pub fn deliveries_queue(&self) -> Result<Arc<SqsTaskQueue>, ConfigError> {
        let url = self.settings.deliveries_queue_url()?;
        Ok(Arc::new(SqsTaskQueue::new(clients::sqs(&self.service(SQS)), url)))
    }

    /// The dead-letter queue of the events.
    pub fn events_dlq(&self) -> Result<Arc<SqsDeadLetters>, ConfigError> {
        let url = self.settings.events_dlq_url()?;
        Ok(Arc::new(SqsDeadLetters::new(clients::sqs(&self.service(SQS)), url)))
    }

    /// Where deliveries may go.
    pub fn target_policy(&self) -> Result<TargetPolicy, ConfigError> {
        self.settings.target_policy()
    }

    /// How long deliveries are kept.
    pub fn retention(&self) -> Result<Duration, ConfigError> {
        let days = self.retention_days()?;
        Ok(Duration::from_secs(u64::from(days) * DAY_SECONDS))
    }

    /// How long deliveries are kept, in days.
    pub fn retention_days(&self) -> Result<u32, ConfigError> {
        self.settings.retention_days()
    }

    /// The clock.
    pub fn clock(&self) -> Arc<dyn Clock> {
        Arc::new(SystemClock)
    }

    /// Randomness.
    pub fn random(&self) -> Arc<dyn Random> {
        Arc::new(SystemRandom)
    }

    fn service(&self, name: &str) -> SdkConfig {
        clients::for_service(&self.sdk, name, &self.settings)
    }

    fn table(&self, sealer: Sealer) -> Result<Arc<DynamoSubscriptions>, ConfigError> {
        let name = self.settings.subscriptions_table()?;
        let client = self.dynamodb.clone();
        Ok(Arc::new(DynamoSubscriptions::new(client, name, Arc::new(sealer))))
    }

    /// Fetches the text of a secret.
    async fn secret(&self, name: String) -> Result<String, EnvironmentError> {
        let client = aws_sdk_secretsmanager::Client::new(&self.service(SECRETS_MANAGER));
        let answer = client.get_secret_value().secret_id(&name).send().await;
        let found = answer.map_err(|error| match fault(&error) {
            Fault::Unavailable(reason) | Fault::Rejected(reason) => reason,
        });
        match found.map(|found| found.secret_string) {
            Ok(Some(keys)) => Ok(keys),
            Ok(None) => {
                let reason = "it has no text".to_owned();
                Err(EnvironmentError::Secret { name, reason })
            }
            Err(reason) => Err(EnvironmentError::Secret { name, reason }),
        }
    }
}
