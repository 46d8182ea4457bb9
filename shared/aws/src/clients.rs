//! The SDK clients.
//!
//! One [`SdkConfig`] is made at init, from the environment or for a server on this machine, and
//! each client from it. TLS is rustls with ring; the SDK's own default would bring a second stack.
//!
//! The timeouts are for short requests: a long poll needs a client of its own.

use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_dynamodb::config::{Credentials, SharedCredentialsProvider, SharedHttpClient};
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};

use crate::config::Settings;

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(1);
/// How long one attempt of a request may take.
const ATTEMPT: Duration = Duration::from_secs(3);
/// How long a request with all its retries may take.
const OPERATION: Duration = Duration::from_secs(10);
/// Attempts of one request.
const ATTEMPTS: u32 = 3;
/// The region of servers on this machine, which have none.
const LOCAL_REGION: &str = "us-east-1";

/// The environment's region, credentials and endpoints (`AWS_ENDPOINT_URL…`).
pub async fn from_env(settings: &Settings) -> SdkConfig {
    let http = if all_plain(settings) { plain_http() } else { https() };
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http)
        .timeout_config(timeouts())
        .retry_config(retries());
    // Lambda always says it; without it the SDK would ask profiles and the instance's metadata.
    if let Some(region) = settings.optional("AWS_REGION") {
        loader = loader.region(Region::new(region));
    }
    loader.load().await
}

/// A server on this machine, such as `http://127.0.0.1:8000`, with dummy credentials. Nothing of
/// the environment counts.
pub fn local(endpoint_url: &str) -> SdkConfig {
    let credentials = Credentials::new("local", "local", None, None, "local");
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static(LOCAL_REGION))
        .endpoint_url(endpoint_url)
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .http_client(plain_http())
        .timeout_config(timeouts())
        .retry_config(retries())
        .build()
}

/// A client of the tables.
pub fn dynamodb(config: &SdkConfig) -> aws_sdk_dynamodb::Client {
    aws_sdk_dynamodb::Client::new(config)
}

/// A client of the queues.
pub fn sqs(config: &SdkConfig) -> aws_sdk_sqs::Client {
    aws_sdk_sqs::Client::new(config)
}

/// Whether the environment sends both services to plain HTTP.
fn all_plain(settings: &Settings) -> bool {
    ["AWS_ENDPOINT_URL_DYNAMODB", "AWS_ENDPOINT_URL_SQS"].into_iter().all(|name| {
        settings
            .optional(name)
            .or_else(|| settings.optional("AWS_ENDPOINT_URL"))
            .is_some_and(|url| url.starts_with("http://"))
    })
}

#[expect(clippy::disallowed_methods, reason = "to AWS itself, not to where users say")]
fn https() -> SharedHttpClient {
    aws_smithy_http_client::Builder::new().tls_provider(ring()).build_https()
}

/// A client that trusts no certificate, so that none is loaded: for plain HTTP only.
#[expect(clippy::disallowed_methods, reason = "to AWS itself, not to where users say")]
fn plain_http() -> SharedHttpClient {
    let context = TlsContext::builder().with_trust_store(TrustStore::empty()).build();
    aws_smithy_http_client::Builder::new()
        .tls_provider(ring())
        .tls_context(context.unwrap_or_default())
        .build_https()
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
}
