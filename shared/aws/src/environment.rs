//! What a deployed function holds, as its environment says.
//!
//! A function asks for the ports it needs, and so reads just the variables it needs. It opens its
//! connections at init: Lambda gives a function a whole CPU until its first event, and the first
//! TLS handshake is most of a cold start when it has to share one.

use std::cell::OnceCell;
use std::sync::Arc;
use std::time::Duration;

use aws_types::SdkConfig;
use futures::FutureExt as _;
use futures::future::{join_all, try_join};
use webhooks_core::ports::{Chain, Clock, Random, Timer};
use webhooks_core::schedule::RetrySchedule;
use webhooks_core::target::TargetPolicy;
use webhooks_core::verification::EndpointVerification;

use crate::clients::{Connections, DYNAMODB, EVENTBRIDGE, SQS, SSM};
use crate::config::{self, ConfigError, SECRETS_KEYS, SecretsKeys, Settings};
use crate::seal::Sealer;
use crate::{
    DynamoDeliveries, DynamoSubscriptions, EventBridgeBus, SqsClient, SqsDeadLetterQueue,
    SqsTaskQueue, SystemClock, SystemRandom, clients,
};

const DAY_SECONDS: u64 = 24 * 60 * 60;

/// Makes the ports.
#[derive(Debug)]
pub struct Environment {
    settings: Settings,
    connections: Connections,
    sdk: SdkConfig,
    dynamodb: OnceCell<aws_sdk_dynamodb::Client>,
    sqs: SqsClient,
}

/// Why a port was not made.
#[derive(Debug, thiserror::Error)]
pub enum EnvironmentError {
    /// A variable is missing or cannot be read.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The parameter with the keys cannot be read.
    #[error("the environment variable {SECRETS_KEYS} names the parameter {name}: {reason}")]
    Parameter {
        /// Its name.
        name: String,
        /// What Parameter Store said.
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
        let connections = Connections::from_env(&settings);
        let sdk = clients::from_env(&settings, &connections);
        let of_queues = clients::for_service(&sdk, SQS, &settings);
        let sqs = SqsClient::lazy(move || clients::sqs(&of_queues));
        Self { settings, connections, sdk, dynamodb: OnceCell::new(), sqs }
    }

    /// Makes the function, and opens a connection to each of these services concurrently, which
    /// their first requests then use. A function that cannot be made does not wait for them.
    pub async fn opening<T, E>(
        &self,
        services: &[&str],
        make: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let open = services
            .iter()
            .map(|service| clients::open(&self.connections, service, &self.settings));
        if services.contains(&SQS) {
            // A function that opens a connection to SQS uses it with every event.
            self.sqs.make();
        }
        let ((), made) = try_join(join_all(open).map(|_| Ok(())), make).await?;
        Ok(made)
    }

    /// The Subscriptions table.
    pub fn subscriptions(&self) -> Result<Arc<DynamoSubscriptions>, ConfigError> {
        let name = self.settings.subscriptions_table()?;
        Ok(Arc::new(DynamoSubscriptions::new(self.dynamodb(), name)))
    }

    /// Seals and opens the signing secrets.
    pub async fn sealer(&self) -> Result<Arc<Sealer>, EnvironmentError> {
        let keys = match self.settings.secrets_keys()? {
            SecretsKeys::Inline(keys) => keys,
            SecretsKeys::Parameter(name) => self.parameter(name).await?,
        };
        let sealer = config::sealer(&keys, self.random())?;
        let version = self.settings.secrets_keys_version();
        tracing::info!(secrets_keys.version = version, "the keys of signing secrets were read");
        Ok(Arc::new(sealer))
    }

    /// The Deliveries table.
    pub fn deliveries(&self) -> Result<Arc<DynamoDeliveries>, ConfigError> {
        let name = self.settings.deliveries_table()?;
        Ok(Arc::new(DynamoDeliveries::new(self.dynamodb(), name, self.clock())))
    }

    /// The deliveries queue.
    pub fn deliveries_queue(&self) -> Result<Arc<SqsTaskQueue>, ConfigError> {
        let url = self.settings.deliveries_queue_url()?;
        Ok(Arc::new(SqsTaskQueue::new(self.sqs.clone(), url)))
    }

    /// The slow deliveries queue.
    pub fn deliveries_slow_queue(&self) -> Result<Arc<SqsTaskQueue>, ConfigError> {
        let url = self.settings.deliveries_slow_queue_url()?;
        Ok(Arc::new(SqsTaskQueue::new(self.sqs.clone(), url)))
    }

    /// The dead-letter queue of the events.
    pub fn events_dlq(&self) -> Result<Arc<SqsDeadLetterQueue>, ConfigError> {
        let url = self.settings.events_dlq_url()?;
        Ok(Arc::new(SqsDeadLetterQueue::new(self.sqs.clone(), url)))
    }

    /// The event bus that gets operational events, if there is one.
    pub fn operational_event_bus(&self) -> Option<Arc<EventBridgeBus>> {
        let name = self.settings.operational_event_bus()?;
        let client = clients::eventbridge(&self.service(EVENTBRIDGE));
        Some(Arc::new(EventBridgeBus::new(client, name)))
    }

    /// Where deliveries may go.
    pub fn target_policy(&self) -> Result<TargetPolicy, ConfigError> {
        self.settings.target_policy()
    }

    /// The schedule of new webhooks whose owner does not say.
    pub fn default_retry_schedule(&self) -> Result<RetrySchedule, ConfigError> {
        self.settings.default_retry_schedule()
    }

    /// Whether endpoints have to prove that they want a webhook.
    pub fn endpoint_verification(&self) -> Result<EndpointVerification, ConfigError> {
        self.settings.endpoint_verification()
    }

    /// Whether the `data` of events is checked against the schema of its type.
    pub fn strict_event_data(&self) -> Result<bool, ConfigError> {
        self.settings.strict_event_data()
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

    /// The address of the documentation of problems.
    pub fn problem_base_url(&self) -> Result<Option<String>, ConfigError> {
        self.settings.problem_base_url()
    }

    /// The clock.
    pub fn clock(&self) -> Arc<dyn Clock> {
        Arc::new(SystemClock)
    }

    /// The timer.
    pub fn timer(&self) -> Arc<dyn Timer> {
        Arc::new(SystemClock)
    }

    /// Randomness.
    pub fn random(&self) -> Arc<dyn Random> {
        Arc::new(SystemRandom)
    }

    /// One client for both tables.
    fn dynamodb(&self) -> aws_sdk_dynamodb::Client {
        self.dynamodb.get_or_init(|| clients::dynamodb(&self.service(DYNAMODB))).clone()
    }

    fn service(&self, name: &str) -> SdkConfig {
        clients::for_service(&self.sdk, name, &self.settings)
    }

    /// Reads a SecureString of Parameter Store.
    async fn parameter(&self, name: String) -> Result<String, EnvironmentError> {
        let client = aws_sdk_ssm::Client::new(&self.service(SSM));
        let response = client.get_parameter().name(&name).with_decryption(true).send().await;
        let value = match response {
            Ok(found) => found.parameter.and_then(|parameter| parameter.value),
            Err(error) => {
                return Err(EnvironmentError::Parameter {
                    name,
                    reason: Chain(&error).to_string(),
                });
            }
        };
        value.ok_or_else(|| {
            let reason = "it has no value".to_owned();
            EnvironmentError::Parameter { name, reason }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Mutex;

    use axum::Router;
    use axum::extract::ConnectInfo;
    use axum::http::Method;
    use test_support::sample;
    use webhooks_core::ports::{Consistency, Deliveries as _};

    use super::*;

    type Seen = Arc<Mutex<Vec<(SocketAddr, Method)>>>;

    /// A service that responds to every request with an empty object, and where its requests came from.
    async fn service() -> (String, Seen) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Seen::default();
        let notes = seen.clone();
        let app = Router::new().fallback(
            async move |ConnectInfo(peer): ConnectInfo<SocketAddr>, method: Method| {
                notes.lock().unwrap().push((peer, method));
                "{}"
            },
        );
        let app = app.into_make_service_with_connect_info::<SocketAddr>();
        tokio::spawn(axum::serve(listener, app).into_future());
        (url, seen)
    }

    fn environment(url: &str) -> Environment {
        let url = url.to_owned();
        Environment::of(Settings::new(move |name| match name {
            "AWS_ENDPOINT_URL" => Some(url.clone()),
            "AWS_REGION" => Some("eu-central-1".to_owned()),
            "AWS_ACCESS_KEY_ID" | "AWS_SECRET_ACCESS_KEY" => Some("local".to_owned()),
            "DELIVERIES_TABLE" => Some("Deliveries".to_owned()),
            _ => None,
        }))
    }

    #[tokio::test]
    async fn first_request_uses_the_connection_opened_at_init() {
        let (url, seen) = service().await;
        let environment = environment(&url);
        let store =
            environment.opening(&[DYNAMODB], async { environment.deliveries() }).await.unwrap();
        let opened = seen.lock().unwrap().clone();
        let id = sample::subscription_id("u", 1);
        let found = store.get(&id, &sample::delivery_id(&id, 1), Consistency::Strong).await;
        assert_eq!(found.unwrap(), None);
        let all = seen.lock().unwrap().clone();
        let ((from, _), (again, _)) = (&all[0], &all[1]);
        assert_eq!((opened.len(), all.len(), from), (1, 2, again), "{all:?}");
        assert_eq!((&all[0].1, &all[1].1), (&Method::GET, &Method::POST));
    }

    #[tokio::test]
    async fn configuration_error_does_not_wait_for_a_connection() {
        // Nothing is ever accepted here.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let environment = environment(&format!("http://{}", listener.local_addr().unwrap()));
        let made = environment
            .opening(&[DYNAMODB, SQS], async { environment.deliveries_queue().map(drop) })
            .await;
        let error = made.unwrap_err().to_string();
        assert!(error.contains("DELIVERIES_QUEUE_URL"), "{error}");
    }

    #[tokio::test]
    async fn unreachable_service_does_not_fail_the_init() {
        let environment = environment("http://127.0.0.1:9");
        let made = environment.opening(&[DYNAMODB, SQS], async { environment.deliveries() }).await;
        assert!(made.is_ok());
    }
}
