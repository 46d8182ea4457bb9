//! The SDK clients.
//!
//! One [`SdkConfig`] is made at init, from the environment or for a server on this machine, and
//! each client from it. TLS is rustls with ring; the SDK's own default would bring a second stack.
//!
//! The timeouts are for short requests: a long poll needs a client of its own.
//!
//! All clients that are made of one [`SdkConfig`] share their connections, so that one can be opened
//! before a client needs it.
//!
//! Deliberately absent: the SDK's own loading of its configuration. Lambda sets region and
//! credentials as variables, for as long as the process lives; what else there is to look through
//! (profiles, roles to assume, the metadata of instances and containers) would make each function
//! larger and each cold start longer.

use std::fmt;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::config::{
    BehaviorVersion, Credentials, Region, SharedCredentialsProvider, StalledStreamProtectionConfig,
};
use aws_smithy_http_client::Connector;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorSettings, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::ByteStream;
use aws_types::SdkConfig;

use crate::config::Settings;

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(1);
/// How long opening a connection ahead of time may take, with the response.
const OPEN: Duration = Duration::from_secs(2);
/// How long one attempt of a request may take.
const ATTEMPT: Duration = Duration::from_secs(3);
/// How long a request with all its retries may take.
const OPERATION: Duration = Duration::from_secs(10);
/// Attempts of one request.
const ATTEMPTS: u32 = 3;
/// What the services are called in the variables of their endpoints.
pub const DYNAMODB: &str = "DYNAMODB";
/// See [`DYNAMODB`].
pub const SQS: &str = "SQS";
/// See [`DYNAMODB`].
pub const SSM: &str = "SSM";
/// See [`DYNAMODB`].
pub const EVENTBRIDGE: &str = "EVENTBRIDGE";
/// The variable with the region, which Lambda sets.
const REGION: &str = "AWS_REGION";
/// The region of servers on this machine, which have none.
const LOCAL_REGION: &str = "us-east-1";

/// The connections of all clients of a process. Made when one is opened, because the certificates of
/// the authorities are read then.
#[derive(Clone)]
pub(crate) struct Connections(Arc<LazyLock<SharedHttpConnector, MakeConnector>>);

type MakeConnector = Box<dyn FnOnce() -> SharedHttpConnector + Send>;

impl Connections {
    /// To where the environment says that the services are.
    pub(crate) fn from_env(settings: &Settings) -> Self {
        if all_plain(settings) { Self::plain() } else { Self::new(TlsContext::default) }
    }

    /// For plain HTTP only: no certificate is trusted, so that none is read.
    fn plain() -> Self {
        Self::new(|| {
            let context = TlsContext::builder().with_trust_store(TrustStore::empty()).build();
            context.unwrap_or_default()
        })
    }

    fn new(tls: impl FnOnce() -> TlsContext + Send + 'static) -> Self {
        Self(Arc::new(LazyLock::new(Box::new(|| {
            let settings = HttpConnectorSettings::builder().connect_timeout(CONNECT).build();
            let connector = Connector::builder().tls_provider(ring()).tls_context(tls());
            SharedHttpConnector::new(connector.connector_settings(settings).build())
        }))))
    }
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections").finish_non_exhaustive()
    }
}

/// The environment's region and credentials, as Lambda sets them.
pub(crate) fn from_env(settings: &Settings, connections: &Connections) -> SdkConfig {
    let mut config = with(connections);
    config.set_region(settings.optional(REGION).map(Region::new));
    config.set_credentials_provider(credentials(settings).map(SharedCredentialsProvider::new));
    config.build()
}

/// Opens a connection to a service, which the first real request then finds open, by the least
/// request that gets a response: not signed, not billed, and it needs no permission. Where
/// that fails nothing is lost, because the first real request opens its own.
pub(crate) async fn open(connections: &Connections, service: &str, settings: &Settings) {
    let Some(url) = address(service, settings) else { return };
    let mut request = HttpRequest::new(SdkBody::empty());
    if request.set_uri(url).is_err() {
        return;
    }
    let opened = async {
        if let Ok(response) = connections.0.call(request).await {
            // Read to its end, because only then the connection is free for another request.
            let _ = ByteStream::new(response.into_body()).collect().await;
        }
    };
    let _ = tokio::time::timeout(OPEN, opened).await;
}

/// Where a service is
/// (<https://docs.aws.amazon.com/general/latest/gr/rande.html#regional-endpoints>).
fn address(service: &str, settings: &Settings) -> Option<String> {
    endpoint(service, settings).or_else(|| {
        let region = settings.optional(REGION)?;
        let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        Some(format!("https://{}.{region}.{domain}", service.to_ascii_lowercase()))
    })
}

/// The same for one service, which may have an endpoint of its own: `AWS_ENDPOINT_URL_SQS`, or
/// `AWS_ENDPOINT_URL` for all.
pub fn for_service(config: &SdkConfig, service: &str, settings: &Settings) -> SdkConfig {
    let mut config = config.to_builder();
    config.set_endpoint_url(endpoint(service, settings));
    config.build()
}

/// A server on this machine, such as `http://127.0.0.1:8000`, with dummy credentials. Nothing of
/// the environment counts.
pub fn local(endpoint_url: &str) -> SdkConfig {
    let credentials = Credentials::new("local", "local", None, None, "local");
    with(&Connections::plain())
        .region(Region::from_static(LOCAL_REGION))
        .endpoint_url(endpoint_url)
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .build()
}

/// The same, whose requests go to this connector. It neither takes long nor fails for a moment, so
/// there are no timeouts and no retries.
pub fn with_connector(endpoint_url: &str, connector: impl HttpConnector + 'static) -> SdkConfig {
    let connector = SharedHttpConnector::new(connector);
    let config = local(endpoint_url).into_builder();
    config
        .http_client(http_client_fn(move |_, _| connector.clone()))
        .timeout_config(TimeoutConfig::disabled())
        .retry_config(RetryConfig::disabled())
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .build()
}

fn with(connections: &Connections) -> aws_types::sdk_config::Builder {
    let connections = connections.clone();
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(http_client_fn(move |_, _| (**connections.0).clone()))
        .timeout_config(timeouts())
        .retry_config(retries())
}

/// A client of the tables.
pub fn dynamodb(config: &SdkConfig) -> aws_sdk_dynamodb::Client {
    aws_sdk_dynamodb::Client::new(config)
}

/// A client of the queues.
pub fn sqs(config: &SdkConfig) -> aws_sdk_sqs::Client {
    aws_sdk_sqs::Client::new(config)
}

/// A client of event buses.
pub fn eventbridge(config: &SdkConfig) -> aws_sdk_eventbridge::Client {
    aws_sdk_eventbridge::Client::new(config)
}

fn credentials(settings: &Settings) -> Option<Credentials> {
    Some(Credentials::new(
        settings.optional("AWS_ACCESS_KEY_ID")?,
        settings.optional("AWS_SECRET_ACCESS_KEY")?,
        settings.optional("AWS_SESSION_TOKEN"),
        None,
        "environment",
    ))
}

fn endpoint(service: &str, settings: &Settings) -> Option<String> {
    settings
        .optional(&format!("AWS_ENDPOINT_URL_{service}"))
        .or_else(|| settings.optional("AWS_ENDPOINT_URL"))
}

/// Whether the environment sends both services to plain HTTP.
fn all_plain(settings: &Settings) -> bool {
    [DYNAMODB, SQS]
        .into_iter()
        .all(|service| endpoint(service, settings).is_some_and(|url| url.starts_with("http://")))
}

fn ring() -> Provider {
    Provider::Rustls(CryptoMode::Ring)
}

fn timeouts() -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(CONNECT)
        .operation_attempt_timeout(ATTEMPT)
        .operation_timeout(OPERATION)
        .build()
}

fn retries() -> RetryConfig {
    RetryConfig::standard().with_max_attempts(ATTEMPTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_loaded_unless_both_services_are_plain_http() {
        let plain = |urls: &'static [(&str, &str)]| {
            all_plain(&Settings::new(move |name| {
                urls.iter().find(|(known, _)| *known == name).map(|(_, url)| (*url).to_owned())
            }))
        };
        assert!(plain(&[("AWS_ENDPOINT_URL", "http://127.0.0.1:4566")]));
        assert!(!plain(&[]));
        assert!(!plain(&[("AWS_ENDPOINT_URL_SQS", "http://127.0.0.1:9324")]));
        assert!(!plain(&[
            ("AWS_ENDPOINT_URL", "http://127.0.0.1:4566"),
            ("AWS_ENDPOINT_URL_DYNAMODB", "https://dynamodb.eu-central-1.amazonaws.com"),
        ]));
    }

    #[test]
    fn environment_is_read() {
        let settings = Settings::new(|name| {
            let value = match name {
                "AWS_REGION" => "eu-central-1",
                "AWS_ACCESS_KEY_ID" => "AKID",
                "AWS_SECRET_ACCESS_KEY" => "key",
                "AWS_SESSION_TOKEN" => "token",
                "AWS_ENDPOINT_URL" => "http://127.0.0.1:1",
                "AWS_ENDPOINT_URL_SQS" => "http://127.0.0.1:2",
                _ => return None,
            };
            Some(value.to_owned())
        });
        let config = from_env(&settings, &Connections::from_env(&settings));
        assert_eq!(config.region(), Some(&Region::from_static("eu-central-1")));
        assert_eq!(config.endpoint_url(), None);
        let found = credentials(&settings).unwrap();
        assert_eq!(
            (found.access_key_id(), found.secret_access_key(), found.session_token()),
            ("AKID", "key", Some("token"))
        );
        let endpoint = |service| for_service(&config, service, &settings);
        assert_eq!(endpoint(SQS).endpoint_url(), Some("http://127.0.0.1:2"));
        assert_eq!(endpoint(DYNAMODB).endpoint_url(), Some("http://127.0.0.1:1"));
        let none = Settings::new(|_| None);
        let unknown = from_env(&none, &Connections::plain());
        assert!(credentials(&none).is_none() && unknown.credentials_provider().is_none());
        assert_eq!(for_service(&config, SQS, &none).endpoint_url(), None);
    }

    #[test]
    fn endpoint_variable_overrides_the_region() {
        let at = |region: &'static str| {
            let settings = Settings::new(move |name| match name {
                "AWS_REGION" => Some(region.to_owned()),
                "AWS_ENDPOINT_URL_SQS" => Some("http://127.0.0.1:2".to_owned()),
                _ => None,
            });
            (address(DYNAMODB, &settings).unwrap(), address(SQS, &settings).unwrap())
        };
        let sqs = "http://127.0.0.1:2".to_owned();
        let dynamodb = "https://dynamodb.eu-central-1.amazonaws.com".to_owned();
        assert_eq!(at("eu-central-1"), (dynamodb, sqs.clone()));
        let dynamodb = "https://dynamodb.cn-north-1.amazonaws.com.cn".to_owned();
        assert_eq!(at("cn-north-1"), (dynamodb, sqs));
        assert_eq!(address(DYNAMODB, &Settings::new(|_| None)), None);
    }
}
